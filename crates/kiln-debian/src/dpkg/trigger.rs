//! Triggers: packages that want to know when files change or names are called (deb-triggers(5), `lib/dpkg/triglib.c`).
//!
//! Interests lie in `/var/lib/dpkg/triggers`: `File` for paths, a file of its own for each name. A trigger that is activated
//! while a package is unpacked becomes pending in the packages that are interested and configured
//! ([`Stanza::note_pending`](super::status::Stanza::note_pending)); the others will be configured anyway.

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

/// A package that is interested in a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interested {
    /// As dpkg's files name it: with the architecture where several may be there.
    pub package: String,
    /// Who activates the trigger waits for it.
    pub awaits: bool,
}

impl Interested {
    /// Reads `PACKAGE[/noawait]`.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_ascii();
        let (package, option) = text.split_once('/').unwrap_or((text, ""));
        (!package.is_empty()).then(|| Self { package: package.to_owned(), awaits: option != "noawait" })
    }
}

impl std::fmt::Display for Interested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.package, if self.awaits { "" } else { "/noawait" })
    }
}

/// Reads the file of a trigger that is a name: `PACKAGE[/noawait]` a line.
#[must_use]
pub fn parse_interested(text: &[u8]) -> Vec<Interested> {
    lines(text).filter_map(|(_, line)| Interested::parse(line)).collect()
}

/// The paths that packages are interested in: the text of `triggers/File`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileInterests {
    by_path: BTreeMap<Vec<u8>, Vec<Interested>>,
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
            let interested = Interested::parse(package).filter(|_| path.starts_with(b"/")).ok_or_else(wrong)?;
            // dpkg puts each before those that it read earlier.
            interests.by_path.entry(to_path(path).to_vec()).or_default().insert(0, interested);
        }
        Ok(interests)
    }

    /// The packages that are interested in this path, in dpkg's order.
    #[must_use]
    pub fn of(&self, path: &[u8]) -> &[Interested] {
        self.by_path.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds the interest of a package, which has none in this path yet.
    pub fn add(&mut self, trigger: &str, interested: Interested) {
        self.text.extend(format!("{trigger} {interested}\n").into_bytes());
        self.by_path.entry(to_path(trigger.as_bytes()).to_vec()).or_default().insert(0, interested);
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }
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
        let text = b"/usr/share/man man-db\n/etc/init.d systemd/noawait\n/etc/init.d x:amd64/await\n";
        let mut interests = FileInterests::parse(text).unwrap();
        assert_eq!((interests.of(b"usr/share/man").len(), interests.of(b"usr/share").len()), (1, 0));
        assert_eq!(
            interests.of(b"etc/init.d").iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["x:amd64", "systemd/noawait"]
        );
        interests.add("/usr/lib/a", Interested { package: "b:amd64".to_owned(), awaits: false });
        assert_eq!(interests.of(b"usr/lib/a").len(), 1);
        assert_eq!(interests.text(), [&text[..], b"/usr/lib/a b:amd64/noawait\n"].concat());
        assert!(FileInterests::parse(b"man-db\n").is_err());
        assert!(FileInterests::parse(b"usr man-db\n").is_err());
    }

    #[test]
    fn interests_in_names() {
        let interested = parse_interested(b"a\nlibc6:amd64/noawait\n\n");
        assert_eq!(interested.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "libc6:amd64/noawait"]);
    }
}
