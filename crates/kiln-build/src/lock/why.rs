//! Why a package is in an image: the shortest way to it from something that the spec asks for.
//!
//! The lock does not record it. It is found again by solving the class with every version held where the lock has it.

use kiln_debian::index::RelationField;
use kiln_debian::solve::{Request, Selection, Unsolvable, Why, solve};
use kiln_debian::universe::{PackageId, Universe};
use kiln_model::lock::{Lock, LockedClass, LockedPackage};
use kiln_model::spec::Spec;
use serde::Serialize;

use super::request;
use super::reread::{Reread, RereadError};
use crate::Environment;
use crate::factory::Factory;

/// Why one class has a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The class that holds the package itself.
    pub class: String,
    /// Sentences, from the package back to the spec.
    pub chain: Vec<String>,
}

/// It cannot be said why.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// Nothing of that name is locked.
    #[error("no class has a package called `{name}`")]
    NotLocked {
        /// As given.
        name: String,
    },
    /// The lock's indexes.
    #[error(transparent)]
    Reread(#[from] RereadError),
    /// The lock is no answer to its own request: it was made otherwise.
    #[error("class {class} cannot be solved again as it is locked: {unsolvable}")]
    Unsolvable {
        /// The class.
        class: String,
        /// Why not.
        unsolvable: Box<Unsolvable>,
    },
}

/// Why each class that holds the package itself, and not through a parent, has it.
///
/// # Errors
/// If no class has it, or the indexes the lock was made from are no longer to be had.
pub fn why(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    package: &str,
    environment: &Environment<'_>,
) -> Result<Vec<Explanation>, WhyError> {
    let mut found = Vec::new();
    let holds = |class: &LockedClass| class.packages().any(|locked| locked.name == package);
    for (name, class) in lock.classes.iter().filter(|(_, class)| holds(class)) {
        let Some(locked) = lock.distributions.get(&class.distribution) else { continue };
        let again = Reread::load(&class.distribution, locked, factory, spec, environment)?;
        found.push(explain(&again, lock, name, class, package)?);
    }
    if found.is_empty() {
        return Err(WhyError::NotLocked { name: package.to_owned() });
    }
    Ok(found)
}

fn explain(
    again: &Reread<'_>,
    lock: &Lock,
    name: &str,
    class: &LockedClass,
    package: &str,
) -> Result<Explanation, WhyError> {
    let all = lock.packages_of(name);
    let universe = again.universe(&all)?;
    let parent = class.request.from.as_deref();
    let inherited = parent.map(|parent| lock.packages_of(parent)).unwrap_or_default();
    let find = |package: &&LockedPackage| universe.find(&package.name, &package.version);
    let request = Request {
        essential: parent.is_none(),
        wanted: request::wanted_again(class),
        base: inherited.iter().filter_map(find).collect(),
        exclude: request::exclusions_again(lock, name),
        recommends: class.request.recommends,
        locked: all.iter().map(|package| (package.name.clone(), package.version.clone())).collect(),
    };
    let selection = solve(&universe, &request)
        .map_err(|unsolvable| WhyError::Unsolvable { class: name.to_owned(), unsolvable: Box::new(unsolvable) })?;
    let start = all.iter().find(|locked| locked.name == package).and_then(find);
    Ok(Explanation { class: name.to_owned(), chain: chain(&universe, &selection, name, &class.request, start) })
}

/// One sentence a step. The ways lead from requests to packages without a circle, so that each ends.
fn chain(
    universe: &Universe,
    selection: &Selection,
    class: &str,
    request: &kiln_model::lock::LockedRequest,
    start: Option<PackageId>,
) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut next = start;
    while let Some(package) = next.take() {
        let shown = universe.display(package);
        sentences.push(match selection.why.get(&package) {
            Some(Why::Dependency { dependent, field, relation }) => {
                next = Some(*dependent);
                format!("{} {} {relation}", universe.display(*dependent), verb(*field))
            }
            Some(Why::Wanted { label }) => {
                format!("{shown} is asked for: class {class} has `{}`", request::wanted_text(request, *label))
            }
            Some(Why::Essential) => format!("{shown} is essential"),
            Some(Why::Base) => format!("{shown} comes from the parent of class {class}"),
            None => format!("{shown} is not needed by anything"),
        });
    }
    sentences
}

fn verb(field: RelationField) -> &'static str {
    match field {
        RelationField::PreDepends => "pre-depends on",
        RelationField::Recommends => "recommends",
        RelationField::Suggests => "suggests",
        _ => "depends on",
    }
}
