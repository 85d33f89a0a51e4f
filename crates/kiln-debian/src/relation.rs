//! Relations between packages: the texts of `Depends`, `Conflicts`, `Provides` and their kin.
//!
//! A field is a list of or-groups separated by commas ([`groups`]); a group is a list of alternatives separated by `|`
//! ([`Group::alternatives`]); an alternative is a [`Relation`]: `name:qualifier (operator version)`.
//!
//! Nothing is copied: groups and relations are slices of the field. The rules are those of deb-control(5) for binary
//! packages. The old operators `<` and `>` mean `<=` and `>=`, as dpkg reads them. Restrictions (`[amd64]`, `<!nocheck>`)
//! belong to source packages; dpkg and apt refuse them in a binary package, and so does this parser.

use std::fmt;

pub use kiln_model::spec::Operator;

use crate::version;

/// One alternative: a package name and what is demanded of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Of a package, or of something that packages provide.
    pub name: &'a str,
    /// What follows the colon: `any`, `native` or an architecture.
    pub qualifier: Option<&'a str>,
    /// The versions that fit; all, where there is none.
    pub constraint: Option<(Operator, &'a str)>,
}

/// Alternatives separated by `|`, of which one is enough; every one of them is known to be well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    text: &'a str,
}

/// Walks the groups of a field; see [`groups`].
#[derive(Debug, Clone)]
pub struct Groups<'a> {
    rest: &'a str,
}

/// The text is not a relation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelationError {
    /// A name with other characters than dpkg allows, or none.
    #[error("`{relation}` does not begin with a package name")]
    Name {
        /// The alternative as written.
        relation: String,
    },
    /// Neither a version in parentheses nor the end follows the name.
    #[error("`{relation}`: expected `(operator version)` after the name")]
    Constraint {
        /// The alternative as written.
        relation: String,
    },
    /// An operator that Debian does not have.
    #[error("`{relation}`: unknown operator; there are <<, <=, =, >= and >>")]
    Operator {
        /// The alternative as written.
        relation: String,
    },
    /// A restriction, which only source packages have.
    #[error("`{relation}`: restrictions by architecture or profile are for source packages")]
    Restriction {
        /// The alternative as written.
        relation: String,
    },
}

/// Also the old spellings that a binary package may still have.
fn parse_operator(text: &str) -> Option<Operator> {
    Some(match text {
        "<<" => Operator::Earlier,
        "<=" | "<" => Operator::EarlierOrEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => return None,
    })
}

impl<'a> Relation<'a> {
    /// Reads one alternative: `libc6`, `python3:any (>= 3.11)`.
    ///
    /// # Errors
    /// When it is not well formed.
    pub fn parse(text: &'a str) -> Result<Self, RelationError> {
        let text = text.trim_ascii();
        let name_length = text.find(|character| !is_name_character(character)).unwrap_or(text.len());
        let (name, rest) = text.split_at(name_length);
        if !is_package_name(name) {
            return Err(RelationError::Name { relation: text.to_owned() });
        }
        let (qualifier, rest) = split_qualifier(rest);
        if qualifier == Some("") {
            return Err(RelationError::Name { relation: text.to_owned() });
        }
        let constraint = parse_constraint(rest.trim_ascii(), text)?;
        Ok(Self { name, qualifier, constraint })
    }

    /// Whether `version` fits the constraint.
    #[must_use]
    pub fn accepts(&self, version: &str) -> bool {
        self.constraint.is_none_or(|(operator, wanted)| operator.accepts(version::compare(version, wanted)))
    }

    /// Whether something that is provided in `version` (or in no version) fits: only an unversioned relation is answered
    /// by an unversioned `Provides`.
    #[must_use]
    pub fn accepts_provided(&self, version: Option<&str>) -> bool {
        match version {
            Some(version) => self.accepts(version),
            None => self.constraint.is_none(),
        }
    }
}

impl<'a> Group<'a> {
    /// As written, without surrounding white space.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The alternatives in the order written, which is the order of preference.
    pub fn alternatives(&self) -> impl Iterator<Item = Relation<'a>> + use<'a> {
        self.text.split('|').filter_map(|alternative| Relation::parse(alternative).ok())
    }
}

/// The or-groups of a field, in the order written. Empty entries (a trailing comma) are skipped, as dpkg does.
///
/// A group that is not well formed is an error; the next call goes on behind it.
#[must_use]
pub fn groups(field: &str) -> Groups<'_> {
    Groups { rest: field }
}

impl<'a> Iterator for Groups<'a> {
    type Item = Result<Group<'a>, RelationError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (text, rest) = self.rest.split_once(',').unwrap_or((self.rest, ""));
            self.rest = rest;
            let text = text.trim_ascii();
            if !text.is_empty() {
                let malformed = text.split('|').find_map(|alternative| Relation::parse(alternative).err());
                return Some(malformed.map_or(Ok(Group { text }), Err));
            }
        }
        None
    }
}

/// Whether dpkg accepts it as a package's name: a letter or digit, then letters, digits and `-+._`.
#[must_use]
pub fn is_package_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.chars().all(is_name_character)
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '+' | '.' | '_')
}

fn split_qualifier(text: &str) -> (Option<&str>, &str) {
    let Some(qualified) = text.strip_prefix(':') else { return (None, text) };
    let end = qualified.find(|character: char| !is_name_character(character)).unwrap_or(qualified.len());
    let (qualifier, rest) = qualified.split_at(end);
    (Some(qualifier), rest)
}

fn parse_constraint<'a>(text: &'a str, relation: &str) -> Result<Option<(Operator, &'a str)>, RelationError> {
    let relation = || relation.to_owned();
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with(['[', '<']) {
        return Err(RelationError::Restriction { relation: relation() });
    }
    let inner = text.strip_prefix('(').ok_or_else(|| RelationError::Constraint { relation: relation() })?;
    let (inner, rest) = inner.split_once(')').ok_or_else(|| RelationError::Constraint { relation: relation() })?;
    match rest.trim_ascii() {
        "" => {}
        rest if rest.starts_with(['[', '<']) => return Err(RelationError::Restriction { relation: relation() }),
        _ => return Err(RelationError::Constraint { relation: relation() }),
    }
    let inner = inner.trim_ascii();
    let operator_length = inner.find(|character| !matches!(character, '<' | '=' | '>')).unwrap_or(inner.len());
    let (operator, version) = inner.split_at(operator_length);
    let operator = match operator {
        // dpkg takes a bare version for an exact one.
        "" => Operator::Equal,
        operator => parse_operator(operator).ok_or_else(|| RelationError::Operator { relation: relation() })?,
    };
    let version = version.trim_ascii_start();
    if version.is_empty() || version.contains(char::is_whitespace) {
        return Err(RelationError::Constraint { relation: relation() });
    }
    Ok(Some((operator, version)))
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        match self.constraint {
            Some((operator, version)) => write!(f, " ({operator} {version})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, relation) in self.alternatives().enumerate() {
            if position > 0 {
                f.write_str(" | ")?;
            }
            relation.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The field as Debian would write it, one group a line; errors as they read.
    fn check(field: &str, expected: &[&str]) {
        let shown: Vec<String> = groups(field)
            .map(|group| group.map_or_else(|error| format!("error: {error}"), |group| group.to_string()))
            .collect();
        assert_eq!(shown, expected, "{field:?}");
    }

    #[test]
    fn groups_and_alternatives() {
        check("", &[]);
        check("a", &["a"]);
        check("a, b|c , d", &["a", "b | c", "d"]);
        check("a,\n b,\n\tc,", &["a", "b", "c"]);
        check(" , ,a", &["a"]);
        check("a || b", &["error: `` does not begin with a package name"]);
    }

    #[test]
    fn constraints() {
        check("a(>=1)", &["a (>= 1)"]);
        check("a ( << 1:2~rc1-3+b1 )", &["a (<< 1:2~rc1-3+b1)"]);
        check(
            "a (< 1), a (> 1), a (<= 1), a (= 1), a (>> 1)",
            &["a (<= 1)", "a (>= 1)", "a (<= 1)", "a (= 1)", "a (>> 1)"],
        );
        check("a (1)", &["a (= 1)"]);
        check("python3:any (>= 3.11~)", &["python3:any (>= 3.11~)"]);
    }

    #[test]
    fn errors_show_the_alternative() {
        check("a (== 1), b", &["error: `a (== 1)`: unknown operator; there are <<, <=, =, >= and >>", "b"]);
        check("a (>= )", &["error: `a (>= )`: expected `(operator version)` after the name"]);
        check("a (>= 1", &["error: `a (>= 1`: expected `(operator version)` after the name"]);
        check("a b", &["error: `a b`: expected `(operator version)` after the name"]);
        check("a (= 1) b", &["error: `a (= 1) b`: expected `(operator version)` after the name"]);
        check("-a", &["error: `-a` does not begin with a package name"]);
        check("a:", &["error: `a:` does not begin with a package name"]);
        let restriction = "restrictions by architecture or profile are for source packages";
        check("a [amd64]", &[&format!("error: `a [amd64]`: {restriction}")]);
        check("a (= 1) <!nocheck>", &[&format!("error: `a (= 1) <!nocheck>`: {restriction}")]);
    }

    #[test]
    fn provided_versions() {
        let check = |relation: &str, provided: Option<&str>, expected: bool| {
            assert_eq!(
                Relation::parse(relation).unwrap().accepts_provided(provided),
                expected,
                "{relation} {provided:?}"
            );
        };
        check("a", None, true);
        check("a", Some("1"), true);
        check("a (>= 1)", None, false);
        check("a (>= 1)", Some("1"), true);
        check("a (>> 1)", Some("1"), false);
    }

    proptest! {
        #[test]
        fn any_text_is_walked_to_the_end(text in "[a-z0-9:(),|<=>\\[\\] é-]{0,60}") {
            for group in groups(&text).flatten() {
                prop_assert!(group.alternatives().count() > 0);
            }
        }

        #[test]
        fn printed_relations_are_read_back(name in "[a-z0-9][a-z0-9+.-]{0,9}", any in any::<bool>(),
                                           constraint in proptest::option::of((0..5_usize, "[0-9][a-z0-9.~+:-]{0,8}"))) {
            let operators = [Operator::Earlier, Operator::EarlierOrEqual, Operator::Equal, Operator::LaterOrEqual, Operator::Later];
            let constraint = constraint.as_ref().map(|(operator, version)| (operators[*operator], version.as_str()));
            let relation = Relation { name: &name, qualifier: any.then_some("any"), constraint };
            let text = relation.to_string();
            prop_assert_eq!(Relation::parse(&text).unwrap(), relation);
        }
    }
}
