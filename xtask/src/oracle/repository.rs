//! A repository of exactly the locked packages of a class, for the tools that Kiln is compared with.

use std::collections::BTreeMap;

use anyhow::Context as _;
use camino::Utf8Path;
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_model::lock::{Lock, LockedDistribution, LockedPackage};
use kiln_store::Store;

use super::Workshop;

/// The stanzas of a distribution's indexes.
pub(crate) struct Stanzas {
    suite: String,
    texts: Vec<String>,
}

impl Stanzas {
    pub(crate) fn load(workshop: &Workshop, distribution: &LockedDistribution) -> anyhow::Result<Self> {
        let texts = distribution.indexes.iter().map(|index| {
            let text = workshop.packages(index)?;
            String::from_utf8(text).with_context(|| format!("read the index {}", index.name()))
        });
        let suite = distribution.indexes.first().map(|index| index.suite.clone()).unwrap_or_default();
        Ok(Self { suite, texts: texts.collect::<anyhow::Result<_>>()? })
    }

    /// By name, version and architecture.
    fn find(&self) -> BTreeMap<(&str, &str, &str), &str> {
        let stanzas = self.texts.iter().flat_map(|text| text.split("\n\n")).map(str::trim);
        let keyed = stanzas.filter_map(|stanza| {
            Some(((field(stanza, "Package")?, field(stanza, "Version")?, field(stanza, "Architecture")?), stanza))
        });
        keyed.collect()
    }

    /// Writes `Release`, `Packages` and the files of a class into a directory, which must not exist.
    /// `store` has the files.
    pub(crate) fn write(&self, store: &Store, lock: &Lock, class: &str, directory: &Utf8Path) -> anyhow::Result<()> {
        let stanzas = self.find();
        let mut text = String::new();
        fs::create_dir_all(directory)?;
        for package in lock.packages_of(class) {
            let LockedPackage { name, version, architecture, sha256, .. } = package;
            let stanza = stanzas.get(&(name.as_str(), version.as_str(), architecture.as_str()));
            let stanza = stanza.with_context(|| format!("find {name} {version} in the indexes"))?;
            let file = format!("{name}_{sha256}.deb");
            text.push_str(&with_file(stanza, &file));
            let from = store.path(sha256);
            let to = directory.join(&file);
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))?;
        }
        let suite = self.suite.as_str();
        fs::write(directory.join("Release"), release(suite, &text))?;
        fs::write(directory.join("Packages"), text)?;
        Ok(())
    }
}

/// mmdebstrap finds the essential packages of the suite by the suite's name.
fn release(suite: &str, packages: &str) -> String {
    let (digest, size) = (Sha256::of(packages.as_bytes()), packages.len());
    format!("Origin: Debian\nSuite: {suite}\nCodename: {suite}\nSHA256:\n {digest} {size} Packages\n")
}

/// The stanza with another place of its file.
fn with_file(stanza: &str, file: &str) -> String {
    let line = |line: &str| match line.starts_with("Filename: ") {
        true => format!("Filename: ./{file}\n"),
        false => format!("{line}\n"),
    };
    stanza.lines().map(line).collect::<String>() + "\n"
}

/// The value of a field that fits on its line.
fn field<'t>(stanza: &'t str, name: &str) -> Option<&'t str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_gets_another_place() {
        let stanza = "Package: a\nFilename: pool/a.deb\nSize: 1\nDescription: a\n Filename: b";
        let expected = "Package: a\nFilename: ./x.deb\nSize: 1\nDescription: a\n Filename: b\n\n";
        assert_eq!(with_file(stanza, "x.deb"), expected);
        assert_eq!(field(stanza, "Size"), Some("1"));
    }
}
