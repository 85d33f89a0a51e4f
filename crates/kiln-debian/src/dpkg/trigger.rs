//! Triggers: packages that want to know when files change or names are called (deb-triggers(5), `lib/dpkg/triglib.c`).
//!
//! Interests lie in `/var/lib/dpkg/triggers`: `File` for paths, a file of its own for each name. An activation while a
//! package is unpacked goes to `Unincorp`, from which dpkg, when it runs next, takes it to the packages that are interested
//! and configured; the others will be configured anyway.

use std::collections::BTreeMap;

use super::list::to_path;
use super::{DatabaseError, lines};

/// One line of the control file `triggers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Interest in the trigger, or its activation.
    pub kind: DirectiveKind,
    /// The activating package waits until the interested one is done.
    pub awaits: bool,
    /// A path with a slash before it, or a name.
    pub trigger: String,
}

/// What a directive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectiveKind {
    /// `interest`.
    Interest,
    /// `activate`.
    Activate,
}

/// Reads the control file `triggers`.
///
/// # Errors
/// For directives that dpkg does not know, and names that it refuses.
pub fn parse_control(text: &[u8]) -> Result<Vec<Directive>, DatabaseError> {
    let mut directives = Vec::new();
    for (line, written) in lines(text) {
        let wrong = |reason| DatabaseError { file: "triggers", line, reason };
        let written = written.trim_ascii();
        if written.is_empty() || written.starts_with(b"#") {
            continue;
        }
        let end = written.iter().position(u8::is_ascii_whitespace).ok_or_else(|| wrong("a directive has a name"))?;
        let (directive, trigger) = written.split_at(end);
        let (kind, awaits) = match directive {
            b"interest" | b"interest-await" => (DirectiveKind::Interest, true),
            b"interest-noawait" => (DirectiveKind::Interest, false),
            b"activate" | b"activate-await" => (DirectiveKind::Activate, true),
            b"activate-noawait" => (DirectiveKind::Activate, false),
            _ => return Err(wrong("the directive is unknown")),
        };
        let trigger = trigger_name(trigger.trim_ascii()).ok_or_else(|| wrong("the trigger's name is not allowed"))?;
        directives.push(Directive { kind, awaits, trigger });
    }
    Ok(directives)
}

/// A path without empty parts, or a name as a package has (`trig_classify_byname`).
fn trigger_name(name: &[u8]) -> Option<String> {
    let is_printable = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    let name = std::str::from_utf8(name).ok().filter(|_| is_printable)?;
    let is_right = match name.strip_prefix('/') {
        Some(path) => path.split('/').all(|part| !part.is_empty()),
        None => {
            name.starts_with(|first: char| first.is_ascii_alphanumeric())
                && name.chars().all(|character| character.is_ascii_alphanumeric() || "-+.".contains(character))
        }
    };
    is_right.then(|| name.to_owned())
}

/// The paths that packages are interested in: the text of `triggers/File`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileInterests {
    /// By path, as it is written, which packages; each with `/noawait` where it is so.
    by_path: BTreeMap<Vec<u8>, Vec<String>>,
    text: Vec<u8>,
}

impl FileInterests {
    /// Reads the file: `PATH PACKAGE[/noawait]` a line.
    ///
    /// # Errors
    /// When a line is something else.
    pub fn parse(text: &[u8]) -> Result<Self, DatabaseError> {
        let mut interests = Self { text: text.to_vec(), ..Self::default() };
        for (line, written) in lines(text) {
            let wrong = || DatabaseError {
                file: "/var/lib/dpkg/triggers/File",
                line,
                reason: "a line has an absolute path and a package",
            };
            let space = written.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let (path, package) = written.split_at(space);
            let package = std::str::from_utf8(package).map_err(|_| wrong())?.trim_ascii();
            if !path.starts_with(b"/") || package.is_empty() {
                return Err(wrong());
            }
            interests.by_path.entry(to_path(path).to_vec()).or_default().push(package.to_owned());
        }
        Ok(interests)
    }

    /// Whether any package is interested in this path.
    #[must_use]
    pub fn has(&self, path: &[u8]) -> bool {
        self.by_path.contains_key(path)
    }

    /// Adds the interest of a package, which has none in this path yet.
    pub fn add(&mut self, trigger: &str, package: &str, awaits: bool) {
        let interested = interested(package, awaits);
        self.text.extend(format!("{trigger} {interested}\n").into_bytes());
        self.by_path.entry(to_path(trigger.as_bytes()).to_vec()).or_default().push(interested);
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// A package as a file of interests names it.
#[must_use]
pub fn interested(package: &str, awaits: bool) -> String {
    format!("{package}{}", if awaits { "" } else { "/noawait" })
}

/// A line of `Unincorp`: this package, or nobody who waits, activated the trigger.
#[must_use]
pub fn activation(trigger: &str, package: Option<&str>) -> String {
    format!("{trigger} {}\n", package.unwrap_or("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = |directive: &Directive| {
            let Directive { kind, awaits, trigger } = directive;
            format!("{kind:?}{} {trigger}", if *awaits { "" } else { "(noawait)" })
        };
        let found = match parse_control(text.as_bytes()) {
            Ok(directives) => directives.iter().map(shown).collect::<Vec<_>>().join(", "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn the_control_file() {
        check("", "");
        check("# comment\n\n  interest /usr/lib\n", "Interest /usr/lib");
        check("interest-noawait ldconfig\nactivate-noawait x\n", "Interest(noawait) ldconfig, Activate(noawait) x");
        check("activate update-initramfs\nactivate-await y\n", "Activate update-initramfs, Activate y");
        check("interest\n", "line 1 of triggers: a directive has a name");
        check("please /usr\n", "line 1 of triggers: the directive is unknown");
        check("interest /usr//lib\n", "line 1 of triggers: the trigger's name is not allowed");
        check("interest a_b\n", "line 1 of triggers: the trigger's name is not allowed");
        check("interest /\n", "line 1 of triggers: the trigger's name is not allowed");
    }

    #[test]
    fn interests_in_paths() {
        let mut interests = FileInterests::parse(b"/usr/share/man man-db\n/etc/init.d systemd/noawait\n").unwrap();
        assert!(interests.has(b"usr/share/man") && !interests.has(b"usr/share"));
        interests.add("/usr/lib/a", "b:amd64", false);
        assert!(interests.has(b"usr/lib/a"));
        let expected = "/usr/share/man man-db\n/etc/init.d systemd/noawait\n/usr/lib/a b:amd64/noawait\n";
        assert_eq!(interests.text(), expected.as_bytes());
        assert!(FileInterests::parse(b"man-db\n").is_err());
    }

    #[test]
    fn activations() {
        assert_eq!(activation("/usr/lib", Some("a:amd64")), "/usr/lib a:amd64\n");
        assert_eq!(activation("ldconfig", None), "ldconfig -\n");
    }
}
