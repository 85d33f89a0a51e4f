//! `kiln.toml`: what a team asks for. Text in; typed, validated nouns out, or every mistake with its place.
//!
//! 1. `syntax` parses TOML, with all syntax errors of a text.
//! 2. `decode` checks each table against its shape (`shape`): keys, types, words, files that must be there.
//! 3. `distribution`, `class`, `step`, `fleet` take their nouns out, and check what only shows with all in view.
//! 4. [`schema()`] makes the JSON schema from the same shapes.
//!
//! Nothing is guessed, nothing is opened: [`Files`] says which files the factory has.

mod check;
mod class;
mod decode;
mod distribution;
mod files;
mod fleet;
mod format;
mod name;
mod package;
mod path;
mod place;
mod reference;
mod schema;
mod shape;
mod step;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};

pub use class::{Base, Class};
pub use distribution::{Architecture, Distribution, Factory, Family, Repository, Toolbox, WordError};
pub use files::{FileKind, Files, Listing};
pub use fleet::{Balancer, Environment, Group, Health, Placement, Probe, Provider, Update};
pub use format::{Mode, Refusal, Uri};
pub use name::{Name, NameError};
pub use package::{Constraint, Exclusion, Operator, PackageRequest, RequestKind};
pub use path::{FactoryPath, FactoryPaths};
pub use place::Place;
pub use reference::Reference;
pub use schema::schema;
pub use step::{
    Action, AddGroup, AddUser, CopyFiles, PlaceDownload, RenderTemplate, RenderTime, RunAnsible, RunPuppet, RunScript,
    RunShell, Step, Surroundings, Target,
};

use crate::diagnostic::{Diagnostics, Source};
use decode::{Context, Entry, Scope, Table};
use place::Text;
use shape::{FRAGMENT, ROOT};
use syntax::Document;

/// All that a factory asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The factory itself.
    pub factory: Factory,
    /// Where packages come from.
    pub distributions: BTreeMap<Name, Distribution>,
    /// Where Kiln's own tools come from, if the spec says so.
    pub toolbox: Option<Toolbox>,
    /// What images are made of. Each class ends, parent by parent, at one that names a distribution of this spec.
    pub classes: BTreeMap<Name, Class>,
    /// Where machines run, as written.
    pub environments: Vec<Environment>,
    /// Which machines there are.
    pub groups: BTreeMap<Name, Group>,
}

/// Reads a factory's spec: first the text of `kiln.toml`, then those of `kiln.d/*.toml` in order of their names.
///
/// # Errors
///
/// Every mistake in all of the texts, in their order.
pub fn parse(sources: &[Source], files: &dyn Files) -> Result<Spec, Diagnostics> {
    let texts: Vec<Text<'_>> = sources.iter().enumerate().map(|(index, source)| Text::new(index, source)).collect();
    let context = Context::new(files);
    let documents: Vec<Document<'_>> = texts.iter().map(|text| Document::read(text, &context)).collect();
    let spec = read(&documents, &context);
    context.finish(&texts)?;
    spec.ok_or_else(no_source)
}

/// Only a call without any text comes here: all else that keeps a spec from being read is a mistake in a text.
fn no_source() -> Diagnostics {
    let source = Source { name: "kiln.toml".to_owned(), text: String::new() };
    Diagnostics(vec![crate::diagnostic::Diagnostic::at(&source, 0..0, "there is no kiln.toml")])
}

fn read<'a>(documents: &'a [Document<'a>], context: &'a Context<'a>) -> Option<Spec> {
    let shapes = std::iter::once((&ROOT, "kiln.toml")).chain(std::iter::repeat((&FRAGMENT, "a file of kiln.d")));
    let tables = documents.iter().zip(shapes);
    let tables = tables.filter_map(|(document, (shape, heading))| Table::open(document.root(context), shape, heading));
    let tables: Vec<Table<'_>> = tables.collect();
    let root = tables.first()?;
    let distributions = Sections::of("distribution", &tables[..1], context);
    let environments = Sections::of("environment", &tables[..1], context);
    let classes = Sections::of("class", &tables, context);
    let groups = Sections::of("group", &tables, context);
    // Everything is read before anything is given up, so that all mistakes are found at once.
    let factory = Factory::read(root);
    let toolbox = Toolbox::read(root);
    let read_distributions = distributions.read(Distribution::read);
    let read_classes = classes.read(Class::read);
    let read_environments: Vec<_> = environments.entries.iter().filter_map(Environment::read).collect();
    let read_groups = groups.read(Group::read);
    if let Some(toolbox) = &toolbox {
        toolbox.distribution.check(context, "distribution", distributions.names.iter());
    }
    class::check_all(&read_classes, &classes.names, &distributions.names, context);
    fleet::check_all(&read_environments, &read_groups, &classes.names, &environments.names, context);
    Some(Spec {
        factory: factory?,
        distributions: read_distributions,
        toolbox,
        classes: read_classes,
        environments: read_environments,
        groups: read_groups,
    })
}

/// All tables `[NOUN.NAME]` of the texts, in the order in which they are written, each name once.
struct Sections<'a> {
    entries: Vec<Entry<'a>>,
    names: BTreeSet<Name>,
}

impl<'a> Sections<'a> {
    fn of(noun: &str, tables: &[Table<'a>], context: &Context<'_>) -> Self {
        let mut firsts: BTreeMap<&str, Entry<'a>> = BTreeMap::new();
        let mut entries = Vec::new();
        for entry in tables.iter().flat_map(|table| table.named(noun)) {
            if let Some(first) = firsts.get(entry.name) {
                let refusal = Refusal::new(format!("{noun} `{}` is defined twice", entry.name));
                context.add(Scope::Here, &entry.place(), refusal.hint(format!("it is also at {}", first.place())));
            } else {
                firsts.insert(entry.name, entry);
                entries.push(entry);
            }
        }
        let names = firsts.keys().filter_map(|name| name.parse().ok()).collect();
        Self { entries, names }
    }

    fn read<T>(&self, read: fn(&Entry<'_>) -> Option<T>) -> BTreeMap<Name, T> {
        self.entries.iter().filter_map(|entry| Some((entry.name.parse().ok()?, read(entry)?))).collect()
    }
}

impl Spec {
    /// The class and all it descends from, root first.
    #[must_use]
    pub fn lineage<'a>(&'a self, class: &'a Class) -> Vec<&'a Class> {
        let mut lineage: Vec<_> = class::ancestors(class, &self.classes).collect();
        lineage.reverse();
        lineage
    }

    /// The distribution that the class is made from, itself or through its parents; nothing for a class that is not of
    /// this spec.
    #[must_use]
    pub fn distribution_of(&self, class: &Class) -> Option<&Distribution> {
        let base = self.lineage(class).into_iter().find_map(|class| match &class.base {
            Base::Distribution(reference) => Some(reference),
            Base::Parent(_) => None,
        });
        self.distributions.get(&base?.name)
    }

    /// Whether recommended packages come along: as the class or its nearest ancestor that says so, else not.
    #[must_use]
    pub fn recommends(&self, class: &Class) -> bool {
        class::ancestors(class, &self.classes).find_map(|class| class.recommends).unwrap_or(false)
    }

    /// The kernel package of the class, its own or of its nearest ancestor that has one.
    #[must_use]
    pub fn kernel<'a>(&'a self, class: &'a Class) -> Option<&'a PackageRequest> {
        class::ancestors(class, &self.classes).find_map(|class| class.kernel.as_ref())
    }
}
