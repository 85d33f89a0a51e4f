//! What a class asks to have installed: a package by name, a `.deb` of the factory, a `.deb` to download.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use camino::Utf8PathBuf;

use super::format::{self, Refusal};
use super::path;
use super::place::Place;

/// One entry of `packages`, `kernel` or `tools`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRequest {
    /// What is asked for.
    pub kind: RequestKind,
    /// Where: explanations of why something was installed, or could not be, show this line.
    pub place: Place,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// A package of the distribution.
    Named {
        /// A package's name, or a virtual package's.
        name: String,
        /// Which versions will do; any, if nothing is said.
        constraint: Option<Constraint>,
    },
    /// A `.deb` file, relative to the factory, without `.` and `..`.
    File(Utf8PathBuf),
    /// A `.deb` at an `http` or `https` URL.
    Url(String),
}

/// Which versions of a package will do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    /// How versions compare to `version`.
    pub operator: Operator,
    /// A version as Debian writes it: made of the right characters, not yet understood.
    pub version: String,
}

/// Debian's relations between versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// A package that must not be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// The package's name.
    pub name: String,
    /// Where the class says so.
    pub place: Place,
}

impl Operator {
    /// Every operator, in the order of the versions they accept.
    pub const ALL: [Self; 5] = [Self::Earlier, Self::EarlierOrEqual, Self::Equal, Self::LaterOrEqual, Self::Later];

    /// Whether a version that compares so with the named one fits.
    #[must_use]
    pub fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Earlier => ordering.is_lt(),
            Self::EarlierOrEqual => ordering.is_le(),
            Self::Equal => ordering.is_eq(),
            Self::LaterOrEqual => ordering.is_ge(),
            Self::Later => ordering.is_gt(),
        }
    }

    /// As Debian writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }
}

impl RequestKind {
    /// The package's name, if it is asked for by name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named { name, .. } => Some(name),
            Self::File(_) | Self::Url(_) => None,
        }
    }

    /// Whether asking for `self` and `other` in one class is surely a mistake. Two limits to one package are a range.
    pub(crate) fn repeats(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Named { name, constraint }, Self::Named { name: other_name, constraint: other_constraint }) => {
                name == other_name
                    && (constraint.is_none() || other_constraint.is_none() || constraint == other_constraint)
            }
            _ => self == other,
        }
    }
}

fn url(text: &str) -> Result<String, Refusal> {
    format::check_download(text)?;
    match text.ends_with(".deb") {
        true => Ok(text.to_owned()),
        false => {
            Err(Refusal::new(format!("`{text}` does not end in .deb")).hint("other files come with a `download` step"))
        }
    }
}

/// `name`, `name=version` or `name (operator version)`.
fn named(text: &str) -> Result<RequestKind, Refusal> {
    let (name, constraint) = match text.split_once('=') {
        Some((name, version)) if !name.contains(['(', '<', '>', ' ']) => {
            (name, Some(Constraint { operator: Operator::Equal, version: checked_version(version)? }))
        }
        _ => match text.split_once('(') {
            Some((name, rest)) => (name.trim_end_matches(' '), Some(parenthesised(text, rest)?)),
            None => (text, None),
        },
    };
    check_name(name).map_err(|refusal| with_parentheses(text).unwrap_or(refusal))?;
    Ok(RequestKind::Named { name: name.to_owned(), constraint })
}

/// What stands after the opening parenthesis of `text`.
fn parenthesised(text: &str, rest: &str) -> Result<Constraint, Refusal> {
    let Some(relation) = rest.strip_suffix(')') else {
        return Err(Refusal::new(format!("`{text}` does not end with `)`")).hint("write name (>= version)"));
    };
    let relation = relation.trim_matches(' ');
    let version = relation.trim_start_matches(['<', '=', '>']);
    let written = &relation[..relation.len() - version.len()];
    match Operator::ALL.into_iter().find(|operator| operator.as_str() == written) {
        Some(operator) => Ok(Constraint { operator, version: checked_version(version.trim_start_matches(' '))? }),
        None => Err(unknown_operator(text, written)),
    }
}

fn unknown_operator(text: &str, written: &str) -> Refusal {
    let hint = match written {
        "<" => "write << for earlier, <= for earlier or equal",
        ">" => "write >> for later, >= for later or equal",
        _ => "write one of <<, <=, =, >=, >> and then a version",
    };
    Refusal::new(format!("`{text}` compares versions with `{written}`")).hint(hint)
}

/// The mistake of leaving the parentheses out, if it is that.
fn with_parentheses(text: &str) -> Option<Refusal> {
    let at = text.find(['<', '=', '>'])?;
    let (name, relation) = text.split_at(at);
    let name = name.trim_end();
    check_name(name).ok()?;
    let refusal = Refusal::new(format!("`{text}` is not a package request"));
    Some(refusal.hint(format!("write {name} ({})", relation.trim())))
}

pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let starts = name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
    let goes_on = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
    match starts && goes_on && name.len() >= 2 {
        true => Ok(()),
        false => Err(Refusal::new(format!("`{name}` is not a package name"))
            .hint("names are lower-case letters, digits, `+`, `-` and `.`, as in Debian")),
    }
}

/// Only the characters of a version (Debian Policy, section 5.6.12); its order is the solver's.
fn checked_version(version: &str) -> Result<String, Refusal> {
    let starts = version.starts_with(|first: char| first.is_ascii_digit());
    let goes_on =
        version.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b':' | b'~'));
    match starts && goes_on {
        true => Ok(version.to_owned()),
        false => Err(Refusal::new(format!("`{version}` is not a version"))
            .hint("versions begin with a digit and are letters, digits, `.`, `+`, `-`, `:` and `~`: 1.26.3-3")),
    }
}

impl FromStr for RequestKind {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return url(text).map(Self::Url);
        }
        if text.ends_with(".deb") {
            return path::inside(text).map(Self::File);
        }
        if text.contains('/') {
            let message = format!("`{text}` is neither a package nor a .deb file");
            return Err(Refusal::new(message).hint("a path or URL ends in .deb; a package is only its name"));
        }
        named(text)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operator, self.version)
    }
}

impl fmt::Display for RequestKind {
    /// As the spec writes it: `nginx (>= 1.26)`, `dist/shop.deb`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { name, constraint: Some(constraint) } => write!(f, "{name} ({constraint})"),
            Self::Named { name, constraint: None } => f.write_str(name),
            Self::File(path) => f.write_str(path.as_str()),
            Self::Url(url) => f.write_str(url),
        }
    }
}

impl fmt::Display for PackageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match text.parse::<RequestKind>() {
            Ok(kind) => format!("{kind:?}"),
            Err(refusal) => format!("{} / {}", refusal.message, refusal.hint.unwrap_or_default()),
        };
        assert_eq!(found, expected, "{text}");
    }

    fn check_constraint(text: &str, operator: Operator, version: &str) {
        let constraint = Some(Constraint { operator, version: version.to_owned() });
        assert_eq!(
            text.parse::<RequestKind>(),
            Ok(RequestKind::Named { name: "nginx".to_owned(), constraint }),
            "{text}"
        );
    }

    #[test]
    fn names_files_and_urls() {
        check("nginx-light", r#"Named { name: "nginx-light", constraint: None }"#);
        check("g++-14", r#"Named { name: "g++-14", constraint: None }"#);
        check("./dist/shop_1.2_amd64.deb", r#"File("dist/shop_1.2_amd64.deb")"#);
        check("shop.deb", r#"File("shop.deb")"#);
        check("https://mirror.example/shop.deb", r#"Url("https://mirror.example/shop.deb")"#);
    }

    #[test]
    fn versions() {
        check_constraint("nginx (>= 1.26)", Operator::LaterOrEqual, "1.26");
        check_constraint("nginx(<<2:1.0~rc1+b2-3)", Operator::Earlier, "2:1.0~rc1+b2-3");
        check_constraint("nginx ( >>  1 )", Operator::Later, "1");
        check_constraint("nginx (<= 1)", Operator::EarlierOrEqual, "1");
        check_constraint("nginx (= 1.26.3-3)", Operator::Equal, "1.26.3-3");
        check_constraint("nginx=1.26.3-3", Operator::Equal, "1.26.3-3");
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let name = "names are lower-case letters, digits, `+`, `-` and `.`, as in Debian";
        let version = "versions begin with a digit and are letters, digits, `.`, `+`, `-`, `:` and `~`: 1.26.3-3";
        check("Nginx", &format!("`Nginx` is not a package name / {name}"));
        check("", &format!("`` is not a package name / {name}"));
        check("nginx ", &format!("`nginx ` is not a package name / {name}"));
        check("libc6:i386", &format!("`libc6:i386` is not a package name / {name}"));
        check("nginx >= 1.26", "`nginx >= 1.26` is not a package request / write nginx (>= 1.26)");
        check("nginx>=1.26", "`nginx>=1.26` is not a package request / write nginx (>=1.26)");
        check(
            "nginx (< 1)",
            "`nginx (< 1)` compares versions with `<` / write << for earlier, <= for earlier or equal",
        );
        check("nginx (1)", "`nginx (1)` compares versions with `` / write one of <<, <=, =, >=, >> and then a version");
        check("nginx (>= 1", "`nginx (>= 1` does not end with `)` / write name (>= version)");
        check("nginx=", &format!("`` is not a version / {version}"));
        check("nginx=1.*", &format!("`1.*` is not a version / {version}"));
        check(
            "nginx/trixie-backports",
            "`nginx/trixie-backports` is neither a package nor a .deb file / a path or URL ends in .deb; a package is only its name",
        );
        check(
            "../shop.deb",
            "`../shop.deb` leaves the factory / paths are relative to kiln.toml; bring the file into the factory",
        );
        check(
            "https://mirror.example/shop.tar",
            "`https://mirror.example/shop.tar` does not end in .deb / other files come with a `download` step",
        );
    }

    #[test]
    fn two_limits_are_a_range_and_no_repetition() {
        let repeats = |one: &str, other: &str| {
            one.parse::<RequestKind>().unwrap().repeats(&other.parse::<RequestKind>().unwrap())
        };
        assert!(repeats("nginx", "nginx"));
        assert!(repeats("nginx", "nginx (>= 1)"));
        assert!(repeats("nginx (= 1)", "nginx=1"));
        assert!(repeats("./a.deb", "a.deb"));
        assert!(!repeats("nginx (>= 1)", "nginx (<< 2)"));
        assert!(!repeats("nginx", "nginx-light"));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(text in "[a-z0-9+.-]{2,9}( ?\\((<<|<=|=|>=|>>) ?[0-9][a-z0-9.+:~-]{0,9}\\))?") {
            if let Ok(kind) = text.parse::<RequestKind>() {
                prop_assert_eq!(kind.to_string().parse::<RequestKind>(), Ok(kind));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop_oneof![".*", "[a-z.:/()<=> 0-9]{0,20}"]) {
            if let Err(refusal) = text.parse::<RequestKind>() {
                prop_assert!(!refusal.message.is_empty());
            }
        }
    }
}
