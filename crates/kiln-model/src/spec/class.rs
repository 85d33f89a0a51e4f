//! `[class.NAME]`: what an image is made of, and how classes descend from one another.

use std::collections::{BTreeMap, BTreeSet};

use super::decode::{Context, Entry, Scope, Table};
use super::format::{NAME, NAMED_REQUEST, PACKAGE_NAME, Refusal};
use super::name::Name;
use super::package::{Exclusion, PackageRequest};
use super::path::{FactoryPaths, Wanted};
use super::place::Place;
use super::reference::Reference;
use super::shape::{Kind, PLAIN, Shape, list, optional};
use super::step::{STEPS, Step};

/// A class of work: the definition of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Its name.
    pub name: Name,
    /// What it adds to.
    pub base: Base,
    /// Packages it asks for, as written.
    pub packages: Vec<PackageRequest>,
    /// Packages it must not get.
    pub exclude: Vec<Exclusion>,
    /// Whether recommended packages come along, if this class says so itself; see [`super::Spec::recommends`].
    pub recommends: Option<bool>,
    /// The kernel package, if this class says so itself; see [`super::Spec::kernel`]. Always asked for by name.
    pub kernel: Option<PackageRequest>,
    /// Files of checks that its images must pass.
    pub checks: Vec<FactoryPaths>,
    /// What is done after its packages, in order.
    pub steps: Vec<Step>,
    /// Its heading.
    pub place: Place,
}

/// What a class adds to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A distribution's essential packages.
    Distribution(Reference),
    /// The finished tree of another class, and so its distribution.
    Parent(Reference),
}

const CHECK_FILES: Kind = Kind::Source(Wanted { file: true, directory: false, pattern: true });

pub(crate) const CLASS: Shape = Shape {
    name: "class",
    doc: "A class of work: the definition of an image.",
    keys: &[
        optional("distribution", Kind::Text(&NAME), "The [distribution.NAME] it is made from."),
        optional("from", Kind::Text(&NAME), "The class to whose finished tree it adds."),
        optional(
            "packages",
            list(&Kind::Package),
            "Packages: a name, `name (>= version)`, `name=version`, a .deb file of the factory or the URL of one.",
        ),
        optional("exclude", list(&Kind::Text(&PACKAGE_NAME)), "Packages that must not be installed."),
        optional(
            "recommends",
            Kind::Boolean,
            "Whether recommended packages come along. Default: as the parent, else false.",
        ),
        optional("kernel", Kind::Text(&NAMED_REQUEST), "The kernel package. Default: the parent's."),
        optional("checks", list(&CHECK_FILES), "Files of checks (goss) that every image must pass; patterns are fine."),
        optional("step", Kind::Variants(&STEPS), "What is done after the packages, in order."),
    ],
    one_of: &["distribution", "from"],
    ..PLAIN
};

impl Class {
    pub(crate) fn read(entry: &Entry<'_>) -> Option<Self> {
        let table = Table::open(entry.value, &CLASS, &format!("[class.{}]", entry.name))?;
        // Every step is read, whatever else is wrong, so that all mistakes are found at once.
        let steps = table.tables("step").into_iter().filter_map(Step::read).collect();
        let distribution = table.reference("distribution").map(Base::Distribution);
        let class = Self {
            name: entry.name.parse().ok()?,
            base: distribution.or_else(|| table.reference("from").map(Base::Parent))?,
            packages: table.requests("packages"),
            exclude: table.exclusions("exclude"),
            recommends: table.boolean("recommends"),
            kernel: table.request("kernel"),
            checks: table.factory_paths_list("checks"),
            steps,
            place: entry.value.place(),
        };
        class.check_packages(entry.value.context);
        Some(class)
    }

    /// The class it adds to, if it adds to one.
    #[must_use]
    pub fn parent(&self) -> Option<&Reference> {
        match &self.base {
            Base::Parent(reference) => Some(reference),
            Base::Distribution(_) => None,
        }
    }

    fn check_packages(&self, context: &Context<'_>) {
        for (index, request) in self.packages.iter().enumerate() {
            if let Some(first) = self.packages.iter().take(index).find(|first| first.kind.repeats(&request.kind)) {
                let refusal = Refusal::new(format!("`{request}` is asked for twice"));
                context.add(Scope::Here, &request.place, refusal.hint(format!("it is also at {}", first.place)));
            }
        }
        for (index, exclusion) in self.exclude.iter().enumerate() {
            if self.exclude.iter().take(index).any(|first| first.name == exclusion.name) {
                context.add(
                    Scope::Here,
                    &exclusion.place,
                    Refusal::new(format!("`{}` is excluded twice", exclusion.name)),
                );
            }
        }
        self.check_exclusions(self, context);
    }

    /// Complains about packages that this class excludes and `asking`, itself or an ancestor, asks for.
    fn check_exclusions(&self, asking: &Self, context: &Context<'_>) {
        let requests: Vec<_> = asking.packages.iter().chain(&asking.kernel).collect();
        for exclusion in &self.exclude {
            let Some(request) = requests.iter().find(|request| request.kind.name() == Some(&exclusion.name)) else {
                continue;
            };
            let whose = if asking.name == self.name { String::new() } else { format!(" by class `{}`", asking.name) };
            let refusal = Refusal::new(format!("`{}` is excluded here and asked for{whose}", exclusion.name));
            context.add(
                Scope::Elsewhere,
                &exclusion.place,
                refusal.hint(format!("it is asked for at {}", request.place)),
            );
        }
    }
}

/// What can only be seen with all classes in view: distributions and parents that are not there, circles, packages
/// that a child excludes after its parent installed them.
pub(crate) fn check_all(
    classes: &BTreeMap<Name, Class>,
    declared_classes: &BTreeSet<Name>,
    distributions: &BTreeSet<Name>,
    context: &Context<'_>,
) {
    for class in classes.values() {
        match &class.base {
            Base::Distribution(reference) => reference.check(context, "distribution", distributions.iter()),
            Base::Parent(reference) => reference.check(context, "class", declared_classes.iter()),
        }
        ancestors(class, classes).skip(1).for_each(|ancestor| class.check_exclusions(ancestor, context));
    }
    let parents = classes.values().filter_map(|class| Some((&class.name, class.parent()?)));
    check_circles("class", "descends from", &parents.collect(), context);
}

/// The class, its parent, and so on; stops where a parent is missing or comes a second time.
pub(crate) fn ancestors<'a>(class: &'a Class, classes: &'a BTreeMap<Name, Class>) -> impl Iterator<Item = &'a Class> {
    let parent = |class: &&'a Class| classes.get(&class.parent()?.name);
    std::iter::successors(Some(class), parent).take(classes.len())
}

/// Complains once about each circle in `next`, at its name that sorts first, and shows the way round.
pub(crate) fn check_circles<'a>(
    noun: &str,
    relation: &str,
    next: &BTreeMap<&'a Name, &'a Reference>,
    context: &Context<'_>,
) {
    for (start, reference) in next {
        let following = |name: &&'a Name| next.get(*name).map(|reference| &reference.name).filter(|_| *name != *start);
        let way = std::iter::successors(Some(&reference.name), following).take(next.len());
        let way: Vec<&Name> = std::iter::once(*start).chain(way).collect();
        if way.last() == Some(start) && way.iter().min() == Some(start) {
            let shown = way.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" -> ");
            let refusal = Refusal::new(format!("{noun} `{start}` {relation} itself: {shown}"));
            context.add(Scope::Elsewhere, &reference.place, refusal.hint("one of them must begin without the other"));
        }
    }
}
