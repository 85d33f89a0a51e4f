//! Names that stand for something written elsewhere in the spec.

use std::fmt;

use super::decode::{Context, Scope};
use super::format::Refusal;
use super::name::Name;
use super::place::Place;
use crate::diagnostic::nearest;

/// The name of a class, distribution or environment, where it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Whose name it is.
    pub name: Name,
    /// Where it is used.
    pub place: Place,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl Reference {
    /// Complains if `declared` has no such name. `section` is the first part of the heading that would declare it.
    pub(crate) fn check<'n>(&self, context: &Context<'_>, section: &str, declared: impl Iterator<Item = &'n Name>) {
        let names: Vec<&str> = declared.map(Name::as_str).collect();
        if names.contains(&self.name.as_str()) {
            return;
        }
        let hint = match nearest(self.name.as_str(), names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it with [{section}.{}]", self.name),
        };
        context.add(Scope::Elsewhere, &self.place, Refusal::new(format!("there is no {section} `{self}`")).hint(hint));
    }
}
