//! What differs between two trees.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::accounts::{Accounts, GROUP, PASSWD, without_numbers};
use super::manifest::{Entry, Kind, Manifest};

/// One thing in which the trees differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) aspect: Aspect,
    /// What Kiln's tree has.
    pub(super) kiln: String,
    /// What the peer's tree has.
    pub(super) peer: String,
    /// Both contents, where they are text and kept.
    #[serde(skip)]
    pub(super) texts: Option<(String, String)>,
}

/// What of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Aspect {
    OnlyKiln,
    OnlyPeer,
    Kind,
    Mode,
    /// The names of its user and its group.
    Owner,
    /// The number that a name has.
    Number,
    /// Its further names.
    Links,
    /// Where a symbolic link points, or which device it is.
    Target,
    Attributes,
    Content,
    /// The same lines, or the same accounts, in another order.
    Order,
}

/// All differences, by path.
pub(super) fn compare(kiln: &Manifest, peer: &Manifest) -> Vec<Difference> {
    let sides = Sides { kiln, peer, accounts: (Accounts::of(kiln), Accounts::of(peer)) };
    let paths: BTreeSet<&String> = kiln.entries.keys().chain(peer.entries.keys()).collect();
    let differences = paths.into_iter().flat_map(|path| sides.at(path));
    let mut differences: Vec<Difference> = differences.chain(sides.numbers()).collect();
    differences.sort_by(|left, right| (&left.path, left.aspect).cmp(&(&right.path, right.aspect)));
    differences
}

struct Sides<'a> {
    kiln: &'a Manifest,
    peer: &'a Manifest,
    accounts: (Accounts, Accounts),
}

impl Sides<'_> {
    fn at(&self, path: &str) -> Vec<Difference> {
        let one = |aspect, kiln: String, peer: String| {
            vec![Difference { path: path.to_owned(), aspect, kiln, peer, texts: None }]
        };
        match (self.kiln.entries.get(path), self.peer.entries.get(path)) {
            (Some(kiln), Some(peer)) => self.both(path, kiln, peer),
            (Some(kiln), None) => one(Aspect::OnlyKiln, kiln.kind.to_string(), String::new()),
            (None, Some(peer)) => one(Aspect::OnlyPeer, String::new(), peer.kind.to_string()),
            (None, None) => Vec::new(),
        }
    }

    fn both(&self, path: &str, kiln: &Entry, peer: &Entry) -> Vec<Difference> {
        let owner =
            |entry: &Entry, accounts: &Accounts| format!("{}:{}", accounts.user(entry.uid), accounts.group(entry.gid));
        let mode = |entry: &Entry| match entry.kind {
            Kind::Symlink { .. } => String::new(),
            _ => format!("{:04o}", entry.mode),
        };
        let attributes = |entry: &Entry| {
            let attributes = entry.attributes.iter().map(|(name, value)| format!("{name}={value}"));
            attributes.collect::<Vec<_>>().join(" ")
        };
        let links = |entry: &Entry| entry.first_name.clone().unwrap_or_default();
        let aspects = [
            (Aspect::Mode, mode(kiln), mode(peer)),
            (Aspect::Owner, owner(kiln, &self.accounts.0), owner(peer, &self.accounts.1)),
            (Aspect::Links, links(kiln), links(peer)),
            (Aspect::Attributes, attributes(kiln), attributes(peer)),
        ];
        let aspects = aspects
            .into_iter()
            .filter(|(_, kiln, peer)| kiln != peer)
            .map(|(aspect, kiln, peer)| Difference { path: path.to_owned(), aspect, kiln, peer, texts: None });
        aspects.chain(self.kinds(path, &kiln.kind, &peer.kind)).collect()
    }

    fn kinds(&self, path: &str, kiln: &Kind, peer: &Kind) -> Option<Difference> {
        if kiln == peer {
            return None;
        }
        let texts = self.kiln.texts.get(path).cloned().zip(self.peer.texts.get(path).cloned());
        let aspect = match (kiln, peer) {
            (Kind::File { .. }, Kind::File { .. }) => self.difference_of(path, texts.as_ref())?,
            (Kind::Symlink { .. }, Kind::Symlink { .. }) | (Kind::Device { .. }, Kind::Device { .. }) => Aspect::Target,
            _ => Aspect::Kind,
        };
        Some(Difference { path: path.to_owned(), aspect, kiln: kiln.to_string(), peer: peer.to_string(), texts })
    }

    /// What differs between two texts, if anything does. Numbers are told apart from what else a line says of an account.
    fn difference_of(&self, path: &str, texts: Option<&(String, String)>) -> Option<Aspect> {
        let Some((kiln, peer)) = texts else { return Some(Aspect::Content) };
        let (kiln, peer) = match path {
            PASSWD | GROUP => {
                let (of_kiln, of_peer) = &self.accounts;
                (without_numbers(path, kiln, of_kiln), without_numbers(path, peer, of_peer))
            }
            _ => (kiln.clone(), peer.clone()),
        };
        match () {
            () if kiln == peer => None,
            () if sorted(&kiln) == sorted(&peer) => Some(Aspect::Order),
            () => Some(Aspect::Content),
        }
    }

    /// Names that both have, with other numbers.
    fn numbers(&self) -> Vec<Difference> {
        let (kiln, peer) = &self.accounts;
        let files = [(PASSWD, &kiln.users, &peer.users), (GROUP, &kiln.groups, &peer.groups)];
        let differ = |(path, kiln, peer): (
            &str,
            &std::collections::BTreeMap<String, String>,
            &std::collections::BTreeMap<String, String>,
        )| {
            let both = kiln.iter().filter_map(|(name, number)| Some((name, number, peer.get(name)?)));
            let others = both.filter(|(_, kiln, peer)| kiln != peer).map(|(name, kiln, peer)| Difference {
                path: path.to_owned(),
                aspect: Aspect::Number,
                kiln: format!("{name} {kiln}"),
                peer: format!("{name} {peer}"),
                texts: None,
            });
            others.collect::<Vec<_>>()
        };
        files.into_iter().flat_map(differ).collect()
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// So many lines of a text that differ are shown.
const LINES_MAX: usize = 12;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, aspect, kiln, peer, texts } = self;
        match aspect {
            Aspect::OnlyKiln => write!(f, "/{path}: only in Kiln's tree ({kiln})"),
            Aspect::OnlyPeer => write!(f, "/{path}: only in the peer's tree ({peer})"),
            _ => write!(f, "/{path}: {}: `{kiln}`, peer `{peer}`", format!("{aspect:?}").to_lowercase()),
        }?;
        let Some((kiln, peer)) = texts else { return Ok(()) };
        let (only_kiln, only_peer) = (lines_without(kiln, peer), lines_without(peer, kiln));
        if only_kiln.is_empty() && only_peer.is_empty() {
            return write!(f, "\n      (the same lines in another order, or more often)");
        }
        let signed = |sign: char, lines: Vec<&str>| -> Vec<String> {
            lines.iter().take(LINES_MAX).map(|line| format!("\n      {sign} {line}")).collect()
        };
        write!(f, "{}{}", signed('-', only_peer).concat(), signed('+', only_kiln).concat())
    }
}

fn lines_without<'t>(text: &'t str, other: &str) -> Vec<&'t str> {
    let others: BTreeSet<&str> = other.lines().collect();
    text.lines().filter(|line| !others.contains(line)).collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => write!(f, "directory"),
            Self::File { size_bytes, sha256 } => write!(f, "file of {size_bytes} bytes, {}", &sha256[..12]),
            Self::Symlink { target } => write!(f, "link to {target}"),
            Self::Device { kind, major, minor } => write!(f, "device {kind} {major}:{minor}"),
            Self::Fifo => write!(f, "named pipe"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use kiln_model::digest::Sha256;

    fn file(text: &str) -> Entry {
        let kind = Kind::File { size_bytes: text.len() as u64, sha256: Sha256::of(text.as_bytes()).to_string() };
        Entry { kind, mode: 0o644, uid: 0, gid: 0, modified: 1, attributes: BTreeMap::new(), first_name: None }
    }

    fn tree(files: &[(&str, &str)]) -> Manifest {
        let mut manifest = Manifest::default();
        for (path, text) in files {
            manifest.entries.insert((*path).to_owned(), file(text));
            manifest.texts.insert((*path).to_owned(), (*text).to_owned());
        }
        manifest
    }

    fn check(kiln: &Manifest, peer: &Manifest, expected: &[(&str, Aspect)]) {
        let found = compare(kiln, peer);
        let found: Vec<(&str, Aspect)> = found.iter().map(|found| (found.path.as_str(), found.aspect)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn presence_and_content() {
        let (kiln, peer) = (tree(&[("a", "1"), ("b", "1")]), tree(&[("b", "2"), ("c", "1")]));
        check(&kiln, &peer, &[("a", Aspect::OnlyKiln), ("b", Aspect::Content), ("c", Aspect::OnlyPeer)]);
        check(&kiln, &kiln, &[]);
    }

    #[test]
    fn every_property_counts_but_the_time() {
        let peer = tree(&[("a", "1")]);
        let changed = |change: fn(&mut Entry)| {
            let mut kiln = tree(&[("a", "1")]);
            kiln.entries.values_mut().for_each(change);
            kiln
        };
        check(&changed(|entry| entry.modified = 2), &peer, &[]);
        check(&changed(|entry| entry.mode = 0o600), &peer, &[("a", Aspect::Mode)]);
        check(&changed(|entry| entry.gid = 5), &peer, &[("a", Aspect::Owner)]);
        check(&changed(|entry| entry.first_name = Some("a".into())), &peer, &[("a", Aspect::Links)]);
        check(&changed(|entry| entry.kind = Kind::Fifo), &peer, &[("a", Aspect::Kind)]);
        let attribute = |entry: &mut Entry| drop(entry.attributes.insert("user.a".into(), "00".into()));
        check(&changed(attribute), &peer, &[("a", Aspect::Attributes)]);
    }

    #[test]
    fn numbers_of_accounts_are_a_difference_of_their_own() {
        let text = |web: u32| format!("root:x:0:0::/:\nweb:x:{web}:0::/:\n");
        let with_owner = |web: u32| {
            let mut tree = tree(&[("a", "1"), (PASSWD, &text(web)), (GROUP, "root:x:0:\n")]);
            tree.entries.get_mut("a").unwrap().uid = web.into();
            tree
        };
        check(&with_owner(101), &with_owner(102), &[(PASSWD, Aspect::Number)]);
    }

    #[test]
    fn order_is_a_difference_of_its_own() {
        check(&tree(&[("a", "1\n2\n")]), &tree(&[("a", "2\n1\n")]), &[("a", Aspect::Order)]);
        check(&tree(&[("a", "1\n2\n2\n")]), &tree(&[("a", "2\n1\n")]), &[("a", Aspect::Content)]);
        let accounts = |first: u32, second: u32| tree(&[(GROUP, &format!("a:x:{first}:\nb:x:{second}:\n"))]);
        let turned = tree(&[(GROUP, "b:x:1:\na:x:2:\n")]);
        check(&accounts(1, 2), &turned, &[(GROUP, Aspect::Number), (GROUP, Aspect::Number), (GROUP, Aspect::Order)]);
    }

    #[test]
    fn differing_lines_are_shown() {
        let found = compare(&tree(&[("a", "1\n2\n")]), &tree(&[("a", "1\n3\n")]));
        let shown = found[0].to_string();
        assert!(shown.ends_with("\n      - 3\n      + 2"), "{shown}");
    }
}
