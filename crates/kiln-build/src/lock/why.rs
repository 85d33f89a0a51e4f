//! Why a package is in an image: the shortest way to it from something that the spec asks for.
//!
//! The lock does not record it. It is found again by solving the class with every version held where the lock has it.

use kiln_debian::index::RelationField;
use kiln_debian::solve::{Request, Selection, Unsolvable, Why, solve};
use kiln_debian::universe::{PackageId, Universe};
use kiln_model::lock::{Lock, LockedClass, LockedPackage, LockedTools};
use kiln_model::spec::Spec;
use serde::Serialize;

use super::request;
use super::reread::{Reread, RereadError};
use crate::Environment;
use crate::change::tools_label;
use crate::factory::Factory;
use crate::mirror::public_request;

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
    let holds = |class: &LockedClass| class.packages_and_tools().any(|locked| locked.name == package);
    for (name, class) in lock.classes.iter().filter(|(_, class)| holds(class)) {
        let Some(locked) = lock.distributions.get(&class.distribution) else { continue };
        let again = Reread::load(&class.distribution, locked, factory, spec, environment)?;
        if class.packages().any(|locked| locked.name == package) {
            found.push(of_class(&again, lock, name, class, package)?);
        }
        for tools in
            class.tools.iter().filter(|tools| tools.waves.iter().flatten().any(|locked| locked.name == package))
        {
            found.push(of_tools(&again, lock, name, tools, package)?);
        }
    }
    if found.is_empty() {
        return Err(WhyError::NotLocked { name: package.to_owned() });
    }
    Ok(found)
}

fn of_class(
    again: &Reread<'_>,
    lock: &Lock,
    name: &str,
    class: &LockedClass,
    package: &str,
) -> Result<Explanation, WhyError> {
    let all = lock.packages_of(name);
    let parent = class.request.from.as_deref();
    let question = Question {
        owner: name.to_owned(),
        words: class.request.packages.iter().chain(&class.request.kernel).cloned().collect(),
        base: parent.map(|parent| lock.packages_of(parent)).unwrap_or_default(),
        request: Request {
            essential: parent.is_none(),
            wanted: request::wanted_again(class),
            exclude: request::exclusions_again(lock, name),
            recommends: class.request.recommends,
            ..Request::default()
        },
    };
    question.answer(again, &all, package)
}

fn of_tools(
    again: &Reread<'_>,
    lock: &Lock,
    class: &str,
    tools: &LockedTools,
    package: &str,
) -> Result<Explanation, WhyError> {
    let base = lock.packages_of(class);
    let all: Vec<&LockedPackage> = base.iter().copied().chain(tools.waves.iter().flatten()).collect();
    let question = Question {
        owner: tools_label(class),
        words: tools.request.clone(),
        base,
        request: Request { wanted: request::wanted_texts(&tools.request), ..Request::default() },
    };
    question.answer(again, &all, package)
}

/// What is solved again, with every version held where the lock has it.
struct Question<'a> {
    owner: String,
    /// The spec's words, by label.
    words: Vec<String>,
    base: Vec<&'a LockedPackage>,
    request: Request,
}

impl Question<'_> {
    fn answer(self, again: &Reread<'_>, all: &[&LockedPackage], package: &str) -> Result<Explanation, WhyError> {
        let universe = again.universe(all)?;
        let find = |package: &&LockedPackage| universe.find(&package.name, &package.version);
        let request = Request {
            base: self.base.iter().filter_map(find).collect(),
            locked: all.iter().map(|package| (package.name.clone(), package.version.clone())).collect(),
            ..self.request
        };
        let selection = solve(&universe, &request).map_err(|unsolvable| WhyError::Unsolvable {
            class: self.owner.clone(),
            unsolvable: Box::new(unsolvable),
        })?;
        let start = all.iter().find(|locked| locked.name == package).and_then(find);
        let chain = chain(&universe, &selection, &self.owner, &self.words, start);
        Ok(Explanation { class: self.owner, chain })
    }
}

/// One sentence a step. The ways lead from requests to packages without a circle, so that each ends.
fn chain(
    universe: &Universe,
    selection: &Selection,
    class: &str,
    words: &[String],
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
                let word = words.get(*label).map(|word| public_request(word)).unwrap_or_default();
                format!("{shown} is asked for: class {class} has `{word}`")
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
