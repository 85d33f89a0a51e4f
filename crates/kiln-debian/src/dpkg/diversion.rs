//! Diversions: files of packages that go elsewhere (`/var/lib/dpkg/diversions`, `lib/dpkg/db-fsys-divert.c`).

use std::collections::BTreeMap;

use super::list::to_path;
use super::{DatabaseError, lines};

const FILE: &str = "/var/lib/dpkg/diversions";

/// All diversions of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diversions {
    by_source: BTreeMap<Vec<u8>, Diversion>,
    by_target: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Where one path goes instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// There.
    pub target: Vec<u8>,
    /// The package whose own file stays; of a local diversion there is none.
    pub package: Option<String>,
}

impl Diversions {
    /// Reads the file: three lines for each, the path, where it goes, and the package or `:`.
    ///
    /// # Errors
    /// When a line is missing, or two diversions involve the same path.
    pub fn parse(text: &[u8]) -> Result<Self, DatabaseError> {
        let mut diversions = Self::default();
        let mut lines = lines(text);
        while let Some((line, source)) = lines.next() {
            let wrong = |reason| DatabaseError { file: FILE, line, reason };
            let (Some((_, target)), Some((_, package))) = (lines.next(), lines.next()) else {
                return Err(wrong("a diversion has three lines"));
            };
            let package = match std::str::from_utf8(package).map_err(|_| wrong("the package's name is not ASCII"))? {
                ":" => None,
                package => Some(package.to_owned()),
            };
            let (source, target) = (to_path(source).to_vec(), to_path(target).to_vec());
            if diversions.involves(&source) || diversions.involves(&target) {
                return Err(wrong("the path is diverted already"));
            }
            diversions.by_target.insert(target.clone(), source.clone());
            diversions.by_source.insert(source, Diversion { target, package });
        }
        Ok(diversions)
    }

    fn involves(&self, path: &[u8]) -> bool {
        self.by_source.contains_key(path) || self.by_target.contains_key(path)
    }

    /// The diversion of this path, if there is one.
    #[must_use]
    pub fn of(&self, path: &[u8]) -> Option<&Diversion> {
        self.by_source.get(path)
    }

    /// The path whose files come here instead, if there is one.
    #[must_use]
    pub fn source_of(&self, path: &[u8]) -> Option<&[u8]> {
        self.by_target.get(path).map(Vec::as_slice)
    }

    /// Where a file of this package goes (`namenodetouse` in `src/main/help.c`).
    #[must_use]
    pub fn place_of<'a>(&'a self, path: &'a [u8], package: &str) -> &'a [u8] {
        match self.of(path) {
            Some(diversion) if diversion.package.as_deref() != Some(package) => &diversion.target,
            _ => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "/usr/bin/vi\n/usr/bin/vi.distrib\n:\n/bin/sh\n/bin/sh.dash\ndash\n";

    fn check(path: &str, package: &str, place: &str) {
        let diversions = Diversions::parse(TEXT.as_bytes()).unwrap();
        let found = diversions.place_of(path.as_bytes(), package).to_vec();
        assert_eq!(String::from_utf8(found).unwrap(), place, "{path} of {package}");
    }

    #[test]
    fn files_of_others_go_elsewhere() {
        check("usr/bin/vi", "vim", "usr/bin/vi.distrib");
        check("bin/sh", "bash", "bin/sh.dash");
        check("bin/sh", "dash", "bin/sh");
        check("bin/ls", "coreutils", "bin/ls");
    }

    #[test]
    fn targets_are_known() {
        let diversions = Diversions::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(diversions.source_of(b"bin/sh.dash"), Some(&b"bin/sh"[..]));
        assert_eq!(diversions.source_of(b"bin/sh"), None);
    }

    #[test]
    fn damage_is_named() {
        let error = |text: &str| Diversions::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("/a\n/b\n"), "line 1 of /var/lib/dpkg/diversions: a diversion has three lines");
        assert_eq!(error("/a\n/b\n:\n/c\n/b\n:\n"), "line 4 of /var/lib/dpkg/diversions: the path is diverted already");
        assert_eq!(Diversions::parse(b"").unwrap(), Diversions::default());
    }
}
