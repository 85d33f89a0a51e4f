//! What a table of the spec may hold: one description, from which the parser checks and the JSON schema is made.
//!
//! Each noun's module has the shape of its own table beside the code that reads it; [`ROOT`] is the whole file.

use super::class::CLASS;
use super::distribution::{DISTRIBUTION, FACTORY, TOOLBOX};
use super::fleet::{ENVIRONMENT, GROUP};
use super::format::{Format, NAME, Refusal};
use super::path::Wanted;

/// A table of a certain kind.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its name in the JSON schema: `class`.
    pub(crate) name: &'static str,
    /// One sentence for people, without the keys.
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
    /// Of these keys there must be exactly one; no keys, no rule.
    pub(crate) one_of: &'static [&'static str],
    /// What to say of a key, in the table of that heading, that is known only in other places.
    pub(crate) elsewhere: fn(&str, &str) -> Option<Refusal>,
}

/// One key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// What it means, for people: sentences.
    pub(crate) doc: &'static str,
}

/// What a key's value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    Text(&'static Format),
    Boolean,
    Integer {
        minimum: i64,
        maximum: i64,
    },
    Choice(&'static [&'static str]),
    /// The path of something that is in the factory.
    Source(Wanted),
    /// A package request; a `.deb` path must be in the factory.
    Package,
    List {
        of: &'static Self,
        minimum: usize,
    },
    Table(&'static Shape),
    /// A list of tables, each of the shape whose first key it has.
    Variants(&'static [&'static Shape]),
    Tables(&'static Shape),
    /// A table whose keys people choose; at least `minimum` of them.
    Map {
        key: &'static Format,
        value: &'static Self,
        minimum: usize,
    },
    /// Any value that JSON can hold.
    Anything,
}

/// A shape with nothing in it, to be completed.
pub(crate) const PLAIN: Shape = Shape { name: "", doc: "", keys: &[], one_of: &[], elsewhere: |_, _| None };

/// `kiln.toml`.
pub(crate) const ROOT: Shape = Shape {
    name: "factory-file",
    doc: "A factory: the classes, environments and groups of one team.",
    keys: &[
        required("factory", Kind::Table(&FACTORY), "The factory itself."),
        optional(
            "distribution",
            named(&Kind::Table(&DISTRIBUTION)),
            "Where packages come from, by a name of your choice.",
        ),
        optional("toolbox", Kind::Table(&TOOLBOX), "Where Kiln's own tools come from."),
        CLASSES,
        optional("environment", named(&Kind::Table(&ENVIRONMENT)), "Where machines run: dev, staging, production."),
        GROUPS,
    ],
    ..PLAIN
};

/// A file of `kiln.d`.
pub(crate) const FRAGMENT: Shape = Shape {
    name: "fragment",
    doc: "Further classes and groups of a factory.",
    keys: &[CLASSES, GROUPS],
    elsewhere: |key, _| {
        ROOT.key(key).map(|_| {
            Refusal::new(format!("`{key}` belongs in kiln.toml")).hint("files in kiln.d hold classes and groups only")
        })
    },
    ..PLAIN
};

const CLASSES: Key = optional("class", named(&Kind::Table(&CLASS)), "Classes of work: each becomes an image.");
const GROUPS: Key = optional("group", named(&Kind::Table(&GROUP)), "The machines that run one class.");

pub(crate) const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: true, doc }
}

pub(crate) const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: false, doc }
}

/// A list that may be empty.
pub(crate) const fn list(of: &'static Kind) -> Kind {
    Kind::List { of, minimum: 0 }
}

/// Tables or values under names of people's choice, maybe none.
pub(crate) const fn named(value: &'static Kind) -> Kind {
    Kind::Map { key: &NAME, value, minimum: 0 }
}

impl Shape {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub(crate) fn key_names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

impl Kind {
    /// With its article, as in "must be a list such as ["main"]".
    pub(crate) fn noun(&self) -> String {
        match self {
            Self::Text(format) => format!("{} such as \"{}\"", format.noun, format.example),
            Self::Boolean => "true or false".to_owned(),
            Self::Integer { minimum, maximum } => format!("an integer from {minimum} to {maximum}"),
            Self::Choice(words) => format!("one of {}", quoted(words)),
            Self::Source(_) => "a path in the factory".to_owned(),
            Self::Package => "a package request such as \"nginx-light\"".to_owned(),
            Self::List { of, .. } => match of.example() {
                Some(example) => format!("a list such as [{example}]"),
                None => "a list".to_owned(),
            },
            Self::Table(_) => "a table".to_owned(),
            Self::Tables(_) | Self::Variants(_) => "a list of tables".to_owned(),
            Self::Map { value: Self::Table(_), .. } => "a table of named tables".to_owned(),
            Self::Map { .. } => "a table of names and values".to_owned(),
            Self::Anything => "a value".to_owned(),
        }
    }

    /// A value that is right, in TOML, for kinds that have a typical one.
    pub(crate) fn example(&self) -> Option<String> {
        match self {
            Self::Text(format) => Some(format!("\"{}\"", format.example)),
            Self::Package => Some("\"nginx-light\"".to_owned()),
            Self::Choice(words) => words.first().map(|word| format!("\"{word}\"")),
            Self::List { of, .. } => of.example().map(|example| format!("[{example}]")),
            _ => None,
        }
    }
}

pub(crate) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
