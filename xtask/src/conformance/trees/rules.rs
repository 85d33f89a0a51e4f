//! The differences that are allowed, each with its reason. What no rule allows is a failure; so is a rule that nothing needs.

use super::compare::{Aspect, Difference};

/// One allowed difference.
pub(super) struct Rule {
    /// Where, as patterns: `*` is anything but a slash, `**` is anything.
    pub(super) paths: &'static [&'static str],
    pub(super) allows: Allows,
    /// Whose doing it is.
    pub(super) cause: Cause,
    pub(super) reason: &'static str,
}

/// What may differ.
#[derive(Clone, Copy)]
pub(super) enum Allows {
    /// This aspect, in whatever way.
    Any(Aspect),
    /// This part of the content, which the function removes.
    ContentUpTo(&'static str, fn(&str) -> String),
}

/// Whose doing a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// mmdebstrap adds or keeps something.
    Peer,
    /// Kiln decided so.
    Kiln,
    /// Two runs of mmdebstrap differ in it as well.
    Chance,
}

impl Rule {
    /// What it allows, in words.
    pub(super) fn what(&self) -> String {
        let cause = match self.cause {
            Cause::Peer => "mmdebstrap's",
            Cause::Kiln => "Kiln's",
            Cause::Chance => "chance",
        };
        let what = match self.allows {
            Allows::Any(Aspect::OnlyKiln) => "only in Kiln's tree",
            Allows::Any(Aspect::OnlyPeer) => "only in mmdebstrap's tree",
            Allows::Any(Aspect::Number) => "numeric ids",
            Allows::Any(Aspect::Content) => "content",
            Allows::Any(Aspect::Kind) => "kind of file",
            Allows::Any(Aspect::Mode) => "mode",
            Allows::Any(Aspect::Owner) => "owner",
            Allows::Any(Aspect::Links) => "further names",
            Allows::Any(Aspect::Target) => "target",
            Allows::Any(Aspect::Attributes) => "attributes",
            Allows::ContentUpTo(what, _) => what,
        };
        format!("{what} ({cause})")
    }

    /// Whether the rule allows this difference.
    pub(super) fn allows(&self, difference: &Difference) -> bool {
        self.paths.iter().any(|pattern| matches(pattern, &difference.path)) && self.allows_aspect(difference)
    }

    fn allows_aspect(&self, difference: &Difference) -> bool {
        match self.allows {
            Allows::Any(aspect) => aspect == difference.aspect,
            Allows::ContentUpTo(_, reduce) => {
                let is_equal = |(kiln, peer): &(String, String)| reduce(kiln) == reduce(peer);
                difference.aspect == Aspect::Content && difference.texts.as_ref().is_some_and(is_equal)
            }
        }
    }
}

/// Whether a path fits a pattern as a whole.
fn matches(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**") {
        return path.char_indices().map(|(at, _)| at).chain([path.len()]).any(|at| matches(rest, &path[at..]));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let end = path.find('/').unwrap_or(path.len());
        let places = path[..end].char_indices().map(|(at, _)| at).chain([end]);
        return places.into_iter().any(|at| matches(rest, &path[at..]));
    }
    match (pattern.chars().next(), path.chars().next()) {
        (None, None) => true,
        (Some(expected), Some(found)) if expected == found => {
            matches(&pattern[expected.len_utf8()..], &path[found.len_utf8()..])
        }
        _ => false,
    }
}

/// All rules.
pub(super) const RULES: &[Rule] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    fn check_pattern(pattern: &str, fits: &[&str], does_not: &[&str]) {
        for path in fits {
            assert!(matches(pattern, path), "{pattern} fits {path}");
        }
        for path in does_not {
            assert!(!matches(pattern, path), "{pattern} does not fit {path}");
        }
    }

    #[test]
    fn patterns() {
        check_pattern("a/b", &["a/b"], &["a", "a/b/c", "a/bb"]);
        check_pattern("a/*", &["a/b", "a/"], &["a", "a/b/c"]);
        check_pattern("a/**", &["a/b", "a/b/c"], &["a", "b/a/c"]);
        check_pattern("**/x*.pyc", &["a/b/x1.pyc", "a/x.pyc"], &["x.pyc", "a/y.pyc"]);
    }
}
