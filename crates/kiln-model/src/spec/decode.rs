//! TOML values that know their place, and tables checked against their [`Shape`].
//!
//! 1. [`Table::open`] checks one table against its shape: unknown and missing keys, wrong types, wrong words, files
//!    that are not there. What is wrong goes to the [`Context`], all of it.
//! 2. The nouns' modules take the values out. A value that was found wrong reads as absent there, so that they need
//!    not say it again.
//!
//! Nothing here stops at the first mistake.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::check::check;
use super::files::Files;
use super::format::Refusal;
use super::package::{Exclusion, PackageRequest};
use super::path::{self, FactoryPath, FactoryPaths, Wanted};
use super::place::{Place, Text};
use super::reference::Reference;
use super::shape::{self, Kind, Shape};
use super::syntax::section_start;
use crate::diagnostic::{Diagnostic, Diagnostics, nearest};

/// What all parts of the decoding share: the factory's files, and the mistakes so far.
pub(crate) struct Context<'a> {
    pub(crate) files: &'a dyn Files,
    mistakes: RefCell<Vec<Mistake>>,
    /// Sections in which syntax is broken: index of the text and line of the header.
    broken: RefCell<BTreeSet<(usize, usize)>>,
}

#[derive(Debug)]
struct Mistake {
    scope: Scope,
    diagnostic: Diagnostic,
}

/// How much of the texts a mistake was found by reading: where syntax is broken, less can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The text is not TOML here.
    Syntax,
    /// The value itself is wrong, whatever else is written.
    Here,
    /// Something is missing, or does not fit what is written elsewhere.
    Elsewhere,
}

/// A value and where it is written.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) text: &'a Text<'a>,
    pub(crate) spanned: &'a Spanned<DeValue<'a>>,
}

type Key<'a> = Spanned<Cow<'a, str>>;

/// A key of a table, with its value.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    key: &'a Key<'a>,
    pub(crate) value: Value<'a>,
}

/// A table that was checked against its shape.
pub(crate) struct Table<'a> {
    pub(crate) value: Value<'a>,
    entries: &'a DeTable<'a>,
    shape: &'static Shape,
}

impl<'a> Context<'a> {
    pub(crate) fn new(files: &'a dyn Files) -> Self {
        Self { files, mistakes: RefCell::default(), broken: RefCell::default() }
    }

    pub(crate) fn add(&self, scope: Scope, place: &Place, refusal: Refusal) {
        let hint = refusal.hint.map(|hint| one_short_line(&hint));
        let diagnostic = Diagnostic { hint, ..place.diagnostic(one_short_line(&refusal.message)) };
        self.mistakes.borrow_mut().push(Mistake { scope, diagnostic });
    }

    /// Remembers that the section whose header is on that line is not to be trusted.
    pub(crate) fn add_broken(&self, text: &Text<'_>, header_line: usize) {
        self.broken.borrow_mut().insert((text.index, header_line));
    }

    /// All mistakes in the order of the texts, or nothing if there are none.
    pub(crate) fn finish(self, texts: &[Text<'_>]) -> Result<(), Diagnostics> {
        let mut mistakes = self.mistakes.into_inner();
        leave_out_doubtful(&mut mistakes, &self.broken.into_inner(), texts);
        let position = |file: &str| texts.iter().position(|text| text.source.name == file);
        mistakes.sort_by_cached_key(|Mistake { diagnostic, .. }| {
            (position(&diagnostic.file), diagnostic.line, diagnostic.column, diagnostic.message.clone())
        });
        let mut diagnostics: Vec<_> = mistakes.into_iter().map(|mistake| mistake.diagnostic).collect();
        diagnostics.dedup();
        if diagnostics.is_empty() { Ok(()) } else { Err(Diagnostics(diagnostics)) }
    }
}

/// Messages quote what is written, which may be many lines of anything.
fn one_short_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars().take(CHARACTERS_SHOWN_MAX) {
        if character.is_control() { line.extend(character.escape_debug()) } else { line.push(character) }
    }
    if text.chars().nth(CHARACTERS_SHOWN_MAX).is_some() {
        line.push('…');
    }
    line
}

/// Longer than any sentence of ours; only what it quotes can be longer.
const CHARACTERS_SHOWN_MAX: usize = 300;

/// A syntax error makes the parser skip or misplace what is around it. What is then said to be missing is probably
/// there, and what seems wrong in the same section was probably written right.
fn leave_out_doubtful(mistakes: &mut Vec<Mistake>, broken: &BTreeSet<(usize, usize)>, texts: &[Text<'_>]) {
    let section = |diagnostic: &Diagnostic| {
        let text = texts.iter().find(|text| text.source.name == diagnostic.file)?;
        Some((text.index, section_start(text, diagnostic.line - 1)))
    };
    mistakes.retain(|Mistake { scope, diagnostic }| match scope {
        Scope::Syntax => true,
        Scope::Here => broken.is_empty() || section(diagnostic).is_none_or(|section| !broken.contains(&section)),
        Scope::Elsewhere => broken.is_empty(),
    });
}

impl<'a> Value<'a> {
    pub(crate) fn place(&self) -> Place {
        self.text.place(self.spanned.span())
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.context.add(Scope::Here, &self.place(), refusal);
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        self.spanned.get_ref().as_str()
    }

    pub(crate) fn entries(&self) -> Vec<Entry<'a>> {
        self.spanned.get_ref().as_table().map(|table| entries(*self, table)).unwrap_or_default()
    }

    pub(crate) fn items(&self) -> Vec<Self> {
        let items = self.spanned.get_ref().as_array().into_iter().flat_map(|array| array.iter());
        items.map(|spanned| Self { spanned, ..*self }).collect()
    }

    /// The value as JSON has it; nothing for what JSON cannot hold.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        match self.spanned.get_ref() {
            DeValue::String(text) => Some(text.as_ref().into()),
            DeValue::Integer(number) => integer(number).map(Into::into),
            DeValue::Float(number) => serde_json::Number::from_f64(number.as_str().parse().ok()?).map(Into::into),
            DeValue::Boolean(value) => Some((*value).into()),
            DeValue::Datetime(_) => None,
            DeValue::Array(_) => self.items().iter().map(Self::json).collect(),
            DeValue::Table(_) => {
                self.entries().iter().map(|entry| Some((entry.name.to_owned(), entry.value.json()?))).collect()
            }
        }
    }

    fn request(&self) -> Option<PackageRequest> {
        Some(PackageRequest { kind: self.text()?.parse().ok()?, place: self.place() })
    }
}

impl<'a> Entry<'a> {
    pub(crate) fn place(&self) -> Place {
        self.value.text.place(self.key.span())
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.value.context.add(Scope::Here, &self.place(), refusal);
    }
}

/// In the order in which they are written.
fn entries<'a>(value: Value<'a>, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let entry =
        |(key, spanned): (&'a Key<'a>, _)| Entry { name: key.get_ref(), key, value: Value { spanned, ..value } };
    let mut entries: Vec<Entry<'a>> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.key.span().start);
    entries
}

pub(crate) fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

impl<'a> Table<'a> {
    /// The table `value`, checked; nothing where it is no table, which its own table has noticed. `heading` is what
    /// people call it: `[class.web]`.
    pub(crate) fn open(value: Value<'a>, shape: &'static Shape, heading: &str) -> Option<Self> {
        let entries = value.spanned.get_ref().as_table()?;
        let table = Self { value, entries, shape };
        table.check_known(heading);
        table.check_required(heading);
        table.check_one_of(heading);
        Some(table)
    }

    fn check_known(&self, heading: &str) {
        for entry in self.entries() {
            match self.shape.key(entry.name) {
                Some(key) => check(&entry.value, &key.kind, &format!("`{}`", key.name)),
                None => entry.refuse(self.unknown(entry.name, heading)),
            }
        }
    }

    fn unknown(&self, name: &str, heading: &str) -> Refusal {
        if let Some(refusal) = (self.shape.elsewhere)(name, heading) {
            return refusal;
        }
        let hint = match nearest(name, self.shape.key_names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys are {}", self.shape.key_names().collect::<Vec<_>>().join(", ")),
        };
        Refusal::new(format!("unknown key `{name}` in {heading}")).hint(hint)
    }

    fn check_required(&self, heading: &str) {
        let missing = self.shape.keys.iter().filter(|key| key.required && !self.entries.contains_key(key.name));
        for key in missing {
            let refusal = Refusal::new(format!("{heading} lacks the key `{}`", key.name));
            self.value.context.add(Scope::Elsewhere, &self.value.place(), refusal.hint(how_to_add(key, heading)));
        }
    }

    fn check_one_of(&self, heading: &str) {
        let choices = self.shape.one_of;
        let mut present = self.entries().into_iter().filter(|entry| choices.contains(&entry.name));
        match (present.next(), present.next()) {
            (None, _) if !choices.is_empty() => {
                let refusal = Refusal::new(format!("{heading} has neither `{}`", choices.join("` nor `")));
                self.value.context.add(Scope::Elsewhere, &self.value.place(), refusal.hint("write one of them"));
            }
            (Some(first), Some(second)) => {
                let refusal = Refusal::new(format!("{heading} has both `{}` and `{}`", first.name, second.name));
                second.refuse(refusal.hint("keep one of them"));
            }
            _ => {}
        }
    }

    /// All its keys, in the order in which they are written.
    pub(crate) fn entries(&self) -> Vec<Entry<'a>> {
        entries(self.value, self.entries)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Value<'a>> {
        debug_assert!(self.shape.key(name).is_some(), "the shape of {} has no key {name}", self.shape.name);
        self.entries.get(name).map(|spanned| Value { spanned, ..self.value })
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.text().map(str::to_owned)
    }

    /// The text under `name` as what it means.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.text()?.parse().ok()
    }

    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name)?.spanned.get_ref().as_bool()
    }

    pub(crate) fn integer<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        T::try_from(integer(self.get(name)?.spanned.get_ref().as_integer()?)?).ok()
    }

    pub(crate) fn reference(&self, name: &str) -> Option<Reference> {
        let value = self.get(name)?;
        Some(Reference { name: value.text()?.parse().ok()?, place: value.place() })
    }

    fn items(&self, name: &str) -> Vec<Value<'a>> {
        self.get(name).map(|value| value.items()).unwrap_or_default()
    }

    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        self.get(name)?.items().iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// The entries of the table under `name`, in the order in which they are written.
    pub(crate) fn named(&self, name: &str) -> Vec<Entry<'a>> {
        self.get(name).map(|value| value.entries()).unwrap_or_default()
    }

    pub(crate) fn text_map(&self, name: &str) -> BTreeMap<String, String> {
        let text = |entry: Entry<'_>| Some((entry.name.to_owned(), entry.value.text()?.to_owned()));
        self.named(name).into_iter().filter_map(text).collect()
    }

    pub(crate) fn json_map(&self, name: &str) -> BTreeMap<String, serde_json::Value> {
        let json = |entry: Entry<'_>| Some((entry.name.to_owned(), entry.value.json()?));
        self.named(name).into_iter().filter_map(json).collect()
    }

    pub(crate) fn table(&self, name: &str, shape: &'static Shape, heading: &str) -> Option<Self> {
        Self::open(self.get(name)?, shape, heading)
    }

    /// The tables of the list under `name`, not yet opened.
    pub(crate) fn tables(&self, name: &str) -> Vec<Value<'a>> {
        self.items(name)
    }

    pub(crate) fn requests(&self, name: &str) -> Vec<PackageRequest> {
        self.items(name).iter().filter_map(Value::request).collect()
    }

    pub(crate) fn request(&self, name: &str) -> Option<PackageRequest> {
        self.get(name)?.request()
    }

    pub(crate) fn exclusions(&self, name: &str) -> Vec<Exclusion> {
        let exclusion = |item: &Value<'_>| Some(Exclusion { name: item.text()?.to_owned(), place: item.place() });
        self.items(name).iter().filter_map(exclusion).collect()
    }

    pub(crate) fn factory_path(&self, name: &str) -> Option<FactoryPath> {
        let value = self.get(name)?;
        Some(FactoryPath { path: path::inside(value.text()?).ok()?, place: value.place() })
    }

    pub(crate) fn factory_paths(&self, name: &str) -> Option<FactoryPaths> {
        factory_paths(&self.get(name)?)
    }

    pub(crate) fn factory_paths_list(&self, name: &str) -> Vec<FactoryPaths> {
        self.items(name).iter().filter_map(factory_paths).collect()
    }
}

fn how_to_add(key: &shape::Key, heading: &str) -> String {
    let parent = heading.strip_prefix('[').and_then(|heading| heading.strip_suffix(']'));
    let path = parent.map_or(key.name.to_owned(), |parent| format!("{parent}.{}", key.name));
    match (key.kind.example(), &key.kind) {
        (Some(example), _) => format!("write for instance {} = {example}", key.name),
        (None, Kind::Table(_)) => format!("add [{path}]"),
        (None, Kind::Map { .. }) => format!("add [{path}.NAME]"),
        (None, kind) => format!("it must be {}", kind.noun()),
    }
}

fn factory_paths(value: &Value<'_>) -> Option<FactoryPaths> {
    let text = value.text()?;
    let anything = Wanted { file: true, directory: true, pattern: true };
    let paths = path::find(value.context.files, text, anything).ok()?;
    Some(FactoryPaths { pattern: path::inside(text).ok()?, paths, place: value.place() })
}
