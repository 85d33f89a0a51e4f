//! What the spec needs to know about the factory's directory: which files are there. Their bytes are others' business.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file, or a symbolic link to one.
    File,
    /// A directory, or a symbolic link to one.
    Directory,
}

/// Answers which files are in the factory. Paths are relative to the directory of `kiln.toml`; the empty path is it.
pub trait Files {
    /// What lies at `path`, symbolic links followed; nothing where there is none, or something else.
    fn kind(&self, path: &Utf8Path) -> Option<FileKind>;

    /// Names of the entries of the directory at `path`, in any order; none where it is no directory.
    fn list(&self, path: &Utf8Path) -> Vec<String>;
}

/// A factory's files known beforehand, for callers that hold it in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    files: BTreeSet<Utf8PathBuf>,
    directories: BTreeMap<Utf8PathBuf, BTreeSet<String>>,
}

impl Listing {
    /// The factory that has these files, and the directories that they lie in; a path ending in `/` is a directory.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut listing = Self { directories: [(Utf8PathBuf::new(), BTreeSet::new())].into(), ..Self::default() };
        for path in paths {
            listing.insert(path);
        }
        listing
    }

    fn insert(&mut self, text: &str) {
        let path = Utf8Path::new(text.trim_end_matches('/'));
        if text.ends_with('/') {
            self.directories.entry(path.to_owned()).or_default();
        } else {
            self.files.insert(path.to_owned());
        }
        for child in path.ancestors() {
            let (Some(directory), Some(name)) = (child.parent(), child.file_name()) else { continue };
            self.directories.entry(directory.to_owned()).or_default().insert(name.to_owned());
        }
    }
}

impl Files for Listing {
    fn kind(&self, path: &Utf8Path) -> Option<FileKind> {
        match (self.files.contains(path), self.directories.contains_key(path)) {
            (true, _) => Some(FileKind::File),
            (_, true) => Some(FileKind::Directory),
            _ => None,
        }
    }

    fn list(&self, path: &Utf8Path) -> Vec<String> {
        self.directories.get(path).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_follow_from_files() {
        let listing = Listing::new(["site/css/a.css", "site/index.html", "empty/"]);
        assert_eq!(listing.kind("site/css".into()), Some(FileKind::Directory));
        assert_eq!(listing.kind("site/index.html".into()), Some(FileKind::File));
        assert_eq!(listing.kind("empty".into()), Some(FileKind::Directory));
        assert_eq!(listing.kind("other".into()), None);
        assert_eq!(listing.list("".into()), ["empty", "site"]);
        assert_eq!(listing.list("site".into()), ["css", "index.html"]);
        assert_eq!(listing.list("site/index.html".into()), [""; 0]);
    }
}
