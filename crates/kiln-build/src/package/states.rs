//! What apt knows beyond dpkg: which packages nobody asked for (`/var/lib/apt/extended_states`).

use std::collections::BTreeMap;
use std::path::Path;

use super::database::{read, write};
use super::problem::Problem;

const DIRECTORY: &str = "var/lib/apt";

/// Marks packages as installed for others only, so that `apt autoremove` means here what it means elsewhere. Of a tree
/// without apt nothing is noted.
pub(crate) fn mark_automatic<'a>(
    root: &Path,
    packages: impl Iterator<Item = &'a str>,
    architecture: &str,
) -> Result<(), Problem> {
    let directory = root.join(DIRECTORY);
    if !directory.is_dir() {
        return Ok(());
    }
    let path = directory.join("extended_states");
    let earlier = read(&path)?;
    let text = add(&String::from_utf8_lossy(earlier.as_deref().unwrap_or_default()), packages, architecture);
    if text.is_empty() || Some(text.as_bytes()) == earlier.as_deref() {
        return Ok(());
    }
    write(&path, text.as_bytes(), 0o644)
}

/// The text of the file with these packages in it, in alphabetical order. apt has packages of all architectures under that
/// of the system.
fn add<'a>(text: &str, packages: impl Iterator<Item = &'a str>, architecture: &str) -> String {
    let stanzas = text.split("\n\n").map(str::trim).filter(|stanza| !stanza.is_empty());
    let mut by_name: BTreeMap<String, String> =
        stanzas.map(|stanza| (stanza.lines().next().unwrap_or_default().to_owned(), stanza.to_owned())).collect();
    for package in packages {
        let first = format!("Package: {package}");
        let stanza = format!("{first}\nArchitecture: {architecture}\nAuto-Installed: 1");
        by_name.insert(first, stanza);
    }
    by_name.values().map(|stanza| format!("{stanza}\n\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_added_in_order() {
        let text = add("", ["b", "a"].into_iter(), "amd64");
        let expected = "Package: a\nArchitecture: amd64\nAuto-Installed: 1\n\n\
            Package: b\nArchitecture: amd64\nAuto-Installed: 1\n\n";
        assert_eq!(text, expected);
        assert_eq!(add(&text, ["a"].into_iter(), "amd64"), expected);
        assert!(add(&text, ["aa"].into_iter(), "amd64").contains("Package: aa"));
        assert_eq!(add("", [].into_iter(), "amd64"), "");
    }
}
