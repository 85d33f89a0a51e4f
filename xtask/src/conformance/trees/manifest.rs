//! A tree as a list of its files, read from a tar archive: the same reader for both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context as _, bail};
use kiln_model::digest::{Hasher, Sha256};
use serde::{Deserialize, Serialize};

/// Everything in a tree.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// By path, relative to the root, which is empty itself.
    pub(super) entries: BTreeMap<String, Entry>,
    /// The contents of small text files where configuration and databases lie.
    pub(super) texts: BTreeMap<String, String>,
}

/// One file of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// In seconds since 1970.
    pub(super) modified: u64,
    /// Extended attributes, in hexadecimal digits.
    pub(super) attributes: BTreeMap<String, String>,
    /// The first of all names of the file, if it has several.
    pub(super) first_name: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Directory,
    File { size_bytes: u64, sha256: String },
    Symlink { target: String },
    Device { kind: char, major: u32, minor: u32 },
    Fifo,
}

/// Larger files are no configuration, and their difference is told by their digests.
const TEXT_BYTES_MAX: u64 = 8 << 20;

/// Where contents are kept, for rules and for people.
const TEXT_PLACES: &[&str] = &["etc/", "var/", "usr/lib/systemd/", "usr/lib/kiln/"];

/// What tar writes before the name of an extended attribute.
const ATTRIBUTE: &str = "SCHILY.xattr.";

impl Manifest {
    /// Reads a whole archive.
    pub(super) fn read(archive: impl Read) -> anyhow::Result<Self> {
        let mut archive = tar::Archive::new(archive);
        let mut manifest = Self::default();
        let mut links = Vec::new();
        for entry in archive.entries().context("read the archive")? {
            let mut entry = entry.context("read the archive")?;
            let path = plain(&entry.path_bytes());
            if entry.header().entry_type().is_hard_link() {
                let target = entry.link_name_bytes().with_context(|| format!("read where {path} is linked to"))?;
                links.push((path, plain(&target)));
                continue;
            }
            let read = manifest.read_entry(&mut entry, &path).with_context(|| format!("read {path}"))?;
            if manifest.entries.insert(path.clone(), read).is_some() {
                bail!("the archive has {path} twice");
            }
        }
        manifest.link(&links)?;
        Ok(manifest)
    }

    fn read_entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, path: &str) -> anyhow::Result<Entry> {
        let attributes = attributes(entry)?;
        let header = entry.header();
        let (mode, uid, gid, modified) = (header.mode()? & 0o7777, header.uid()?, header.gid()?, header.mtime()?);
        let device = |kind| -> anyhow::Result<Kind> {
            let (major, minor) = (header.device_major()?, header.device_minor()?);
            Ok(Kind::Device { kind, major: major.unwrap_or_default(), minor: minor.unwrap_or_default() })
        };
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().context("a symbolic link has a target")?;
                Kind::Symlink { target: printable(&target) }
            }
            tar::EntryType::Char => device('c')?,
            tar::EntryType::Block => device('b')?,
            tar::EntryType::Fifo => Kind::Fifo,
            tar::EntryType::Regular | tar::EntryType::Continuous => self.read_file(entry, path)?,
            other => bail!("an archive of a tree has no {other:?}"),
        };
        Ok(Entry { kind, mode, uid, gid, modified, attributes, first_name: None })
    }

    fn read_file(&mut self, entry: &mut tar::Entry<'_, impl Read>, path: &str) -> anyhow::Result<Kind> {
        let size_bytes = entry.size();
        let is_kept = size_bytes <= TEXT_BYTES_MAX && TEXT_PLACES.iter().any(|place| path.starts_with(place));
        if is_kept {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            let sha256 = Sha256::of(&bytes).to_string();
            if let Ok(text) = String::from_utf8(bytes) {
                self.texts.insert(path.to_owned(), text);
            }
            return Ok(Kind::File { size_bytes, sha256 });
        }
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = entry.read(&mut buffer)?;
            if count == 0 {
                return Ok(Kind::File { size_bytes, sha256: hasher.finish().to_string() });
            }
            hasher.update(&buffer[..count]);
        }
    }

    /// Gives all names of a file its properties and its first name in order, whichever of them the archive has first.
    fn link(&mut self, links: &[(String, String)]) -> anyhow::Result<()> {
        let mut names: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
        for (path, target) in links {
            names.entry(target).or_insert_with(|| BTreeSet::from([target])).insert(path);
        }
        for (target, names) in names {
            let file = self.entries.get(target).with_context(|| format!("find {target}, which has further names"))?;
            let file = Entry { first_name: names.first().map(|first| (*first).clone()), ..file.clone() };
            let text = self.texts.get(target).cloned();
            for name in names {
                self.entries.insert(name.clone(), file.clone());
                text.iter().for_each(|text| drop(self.texts.insert(name.clone(), text.clone())));
            }
        }
        Ok(())
    }
}

fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> anyhow::Result<BTreeMap<String, String>> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    for extension in extensions {
        let extension = extension?;
        if let Some(name) = extension.key()?.strip_prefix(ATTRIBUTE) {
            let digits: String = extension.value_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            found.insert(name.to_owned(), digits);
        }
    }
    Ok(found)
}

/// Relative to the root, without a slash at the end.
fn plain(path: &[u8]) -> String {
    let path = printable(path);
    let path = path.strip_prefix("./").unwrap_or(&path).trim_matches('/');
    if path == "." { String::new() } else { path.to_owned() }
}

/// Names are text with hardly an exception; the bytes that are not are written as numbers.
fn printable(bytes: &[u8]) -> String {
    let part = |chunk: std::str::Utf8Chunk<'_>| {
        let invalid: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("{}{invalid}", chunk.valid())
    };
    bytes.utf8_chunks().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive as GNU tar writes it.
    fn archive(script: &str) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let tar = "tar --create --format=pax --sort=name --numeric-owner --xattrs --xattrs-include='*' -C tree .";
        let script = format!("umask 022; mkdir tree; cd tree; {script}; cd ..; {tar}");
        let output = std::process::Command::new("sh").args(["-ec", &script]).current_dir(&directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn read(script: &str) -> Manifest {
        Manifest::read(archive(script).as_slice()).unwrap()
    }

    #[test]
    fn files_of_each_kind() {
        let manifest = read("mkdir -p etc; printf text > etc/a; chmod 4750 etc/a; ln -s /etc/a b; mkfifo p");
        let names: Vec<&str> = manifest.entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["", "b", "etc", "etc/a", "p"]);
        assert_eq!(manifest.entries["etc/a"].mode, 0o4750);
        assert_eq!(manifest.entries["b"].kind, Kind::Symlink { target: "/etc/a".to_owned() });
        assert_eq!(manifest.entries["p"].kind, Kind::Fifo);
        assert_eq!(manifest.texts["etc/a"], "text");
    }

    #[test]
    fn all_names_of_a_file_are_equal() {
        let manifest = read("mkdir etc; printf x > etc/m; ln etc/m z; ln etc/m a");
        let first = |name: &str| manifest.entries[name].first_name.clone();
        assert_eq!([first("a"), first("etc/m"), first("z")], [(); 3].map(|()| Some("a".to_owned())));
        assert_eq!(manifest.entries["a"].kind, manifest.entries["z"].kind);
    }

    #[test]
    fn long_names_and_bytes_that_are_no_text() {
        let long = "n".repeat(200);
        let manifest = read(&format!("mkdir -p {long}/{long}; touch {long}/{long}/a \"$(printf 'b\\377')\""));
        assert!(manifest.entries.contains_key(&format!("{long}/{long}/a")));
        assert!(manifest.entries.contains_key("b\\xff"));
    }

    #[test]
    fn contents_are_told_apart() {
        assert_ne!(read("printf a > f").entries["f"].kind, read("printf b > f").entries["f"].kind);
    }
}
