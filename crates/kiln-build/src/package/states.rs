//! What apt knows beyond dpkg: which packages nobody asked for (`/var/lib/apt/extended_states`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kiln_debian::dpkg::status::{Stanza, Status};
use kiln_debian::relation::{Relation, groups};

use super::database::{read, write};
use super::problem::Problem;

const DIRECTORY: &str = "var/lib/apt";

/// Marks packages as installed for others only, and those that are asked for as such, so that `apt autoremove` means here
/// what it means elsewhere. Of a tree without apt nothing is noted.
pub(crate) fn mark<'a>(
    root: &Path,
    automatic: impl Iterator<Item = &'a str>,
    asked: &BTreeSet<String>,
    architecture: &str,
) -> Result<(), Problem> {
    let directory = root.join(DIRECTORY);
    if !directory.is_dir() {
        return Ok(());
    }
    let path = directory.join("extended_states");
    let earlier = read(&path)?;
    let text = add(&String::from_utf8_lossy(earlier.as_deref().unwrap_or_default()), automatic, asked, architecture);
    if (text.is_empty() && earlier.is_none()) || Some(text.as_bytes()) == earlier.as_deref() {
        return Ok(());
    }
    write(&path, text.as_bytes(), 0o644)
}

/// The text of the file with these packages in it and without those that are asked for, in alphabetical order. apt has
/// packages of all architectures under that of the system.
fn add<'a>(
    text: &str,
    automatic: impl Iterator<Item = &'a str>,
    asked: &BTreeSet<String>,
    architecture: &str,
) -> String {
    let stanzas = text.split("\n\n").map(str::trim).filter(|stanza| !stanza.is_empty());
    let mut by_name: BTreeMap<String, String> =
        stanzas.map(|stanza| (stanza.lines().next().unwrap_or_default().to_owned(), stanza.to_owned())).collect();
    for package in automatic {
        let first = format!("Package: {package}");
        let stanza = format!("{first}\nArchitecture: {architecture}\nAuto-Installed: 1");
        by_name.insert(first, stanza);
    }
    by_name.retain(|first, _| !asked.contains(first.trim_start_matches("Package: ")));
    by_name.values().map(|stanza| format!("{stanza}\n\n")).collect()
}

/// The names of the essential packages and of all that they depend on. What else a tree has at its beginning is there for
/// apt's sake; apt itself is nobody's dependency, and asked for.
pub(crate) fn essential(status: &Status) -> BTreeSet<&str> {
    let mut found: BTreeSet<&str> = BTreeSet::from(["apt"]);
    let mut next: Vec<&Stanza> = status.stanzas().filter(|stanza| stanza.text("Essential") == Some("yes")).collect();
    while let Some(stanza) = next.pop() {
        if found.insert(stanza.name()) {
            let needs = ["Pre-Depends", "Depends"].into_iter().filter_map(|field| stanza.text(field));
            let needs: BTreeSet<&str> = needs.flat_map(relations).map(|relation| relation.name).collect();
            next.extend(status.stanzas().filter(|other| answers(other).any(|name| needs.contains(name))));
        }
    }
    found
}

/// Its name, and what it provides.
fn answers(stanza: &Stanza) -> impl Iterator<Item = &str> {
    let provided = stanza.text("Provides").into_iter().flat_map(relations).map(|relation| relation.name);
    provided.chain([stanza.name()])
}

/// All relations of a field that are well formed.
fn relations(field: &str) -> impl Iterator<Item = Relation<'_>> {
    groups(field).flatten().flat_map(|group| group.alternatives())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn essential_is_what_essential_packages_need() {
        let package = |name: &str, rest: &str| {
            format!("Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n{rest}\n")
        };
        let text = [
            package("base", "Essential: yes\nPre-Depends: awk\nDepends: missing | libc (>= 1)\n"),
            package("mawk", "Provides: awk\nDepends: libm\n"),
            package("libc", ""),
            package("libm", ""),
            package("apt", "Depends: libapt\n"),
            package("libapt", ""),
        ];
        let status = Status::parse(text.concat().as_bytes()).unwrap();
        assert_eq!(essential(&status), BTreeSet::from(["apt", "base", "libc", "libm", "mawk"]));
    }

    #[test]
    fn packages_are_added_in_order() {
        let asked = BTreeSet::new();
        let text = add("", ["b", "a"].into_iter(), &asked, "amd64");
        let expected = "Package: a\nArchitecture: amd64\nAuto-Installed: 1\n\n\
            Package: b\nArchitecture: amd64\nAuto-Installed: 1\n\n";
        assert_eq!(text, expected);
        assert_eq!(add(&text, ["a"].into_iter(), &asked, "amd64"), expected);
        assert!(add(&text, ["aa"].into_iter(), &asked, "amd64").contains("Package: aa"));
        assert_eq!(add("", [].into_iter(), &asked, "amd64"), "");
        let one = add(&text, [].into_iter(), &BTreeSet::from(["a".to_owned()]), "amd64");
        assert_eq!(one, "Package: b\nArchitecture: amd64\nAuto-Installed: 1\n\n");
    }
}
