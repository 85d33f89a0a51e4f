//! Files that a step and its tools both changed, and that consist of entries of which each belongs to one of them.
//!
//! An entry is what it is by its name: an account's, a package's. For each entry: as the tools have it, it is nothing the
//! step did; as below, it is nothing the tools did; and if all three differ, only members of groups can be told apart.

use std::collections::{BTreeMap, BTreeSet};

/// How a file's three versions become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// Lines with fields between colons, of which the first is the name: passwd(5), shadow(5).
    Accounts,
    /// The same, where the last field lists members: group(5), gshadow(5).
    Groups,
    /// Paragraphs of deb822(5) with `Package` and `Architecture`: dpkg's status, apt's marks.
    Packages,
    /// Paragraphs with `Name`: debconf's answers and questions.
    Questions,
    /// Lines that are there or not.
    Lines,
    /// The same, of three lines each: dpkg's diversions.
    Triples,
}

/// Which files are merged, and how. Everything else that both changed is a conflict.
const MERGES: &[(&str, Merge)] = &[
    ("etc/group", Merge::Groups),
    ("etc/gshadow", Merge::Groups),
    ("etc/passwd", Merge::Accounts),
    ("etc/shadow", Merge::Accounts),
    ("etc/shells", Merge::Lines),
    ("etc/subgid", Merge::Lines),
    ("etc/subuid", Merge::Lines),
    ("var/cache/debconf/config.dat", Merge::Questions),
    ("var/cache/debconf/passwords.dat", Merge::Questions),
    ("var/cache/debconf/templates.dat", Merge::Questions),
    ("var/lib/apt/extended_states", Merge::Packages),
    ("var/lib/dpkg/available", Merge::Packages),
    ("var/lib/dpkg/diversions", Merge::Triples),
    ("var/lib/dpkg/statoverride", Merge::Lines),
    ("var/lib/dpkg/status", Merge::Packages),
    ("var/lib/dpkg/triggers/File", Merge::Lines),
    ("var/lib/dpkg/triggers/Unincorp", Merge::Lines),
    ("var/lib/shells.state", Merge::Lines),
    ("var/lib/ucf/hashfile", Merge::Lines),
    ("var/lib/ucf/registry", Merge::Lines),
];

/// One entry: its name, and its text with the end of its last line.
type Entry<'a> = (Vec<u8>, &'a [u8]);

impl Merge {
    /// How the file at this path is merged, if it can be.
    pub(super) fn of(path: &[u8]) -> Option<Self> {
        MERGES.iter().find(|(known, _)| known.as_bytes() == path).map(|(_, merge)| *merge)
    }

    /// What the file is without the tools.
    ///
    /// # Errors
    /// If one entry is different in all three; names it.
    pub(super) fn merge(self, below: &[u8], tools: &[u8], step: &[u8]) -> Result<Vec<u8>, String> {
        let (below, tools, step) = (self.entries(below), self.entries(tools), self.entries(step));
        let theirs: BTreeMap<_, _> = tools.into_iter().collect();
        let ours: BTreeMap<_, _> = step.iter().cloned().collect();
        let mut merged = Vec::new();
        for (name, text) in &below {
            merged.extend(self.entry(name, text, theirs.get(name).copied(), ours.get(name).copied())?);
        }
        let known: BTreeSet<&Vec<u8>> = below.iter().map(|(name, _)| name).collect();
        let new = step.iter().filter(|(name, _)| !known.contains(name) && !theirs.contains_key(name));
        merged.extend(new.flat_map(|(_, text)| text.to_vec()));
        Ok(merged)
    }

    /// One entry that is below.
    fn entry(self, name: &[u8], below: &[u8], tools: Option<&[u8]>, step: Option<&[u8]>) -> Result<Vec<u8>, String> {
        let chosen = match (tools, step) {
            (tools, step) if tools == step => Some(below),
            (Some(tools), step) if tools == below => step,
            (_, Some(step)) if step == below => Some(below),
            (Some(_), None) => None,
            (Some(tools), Some(step)) if self == Self::Groups => {
                return members(below, tools, step).ok_or_else(|| both(name));
            }
            _ => return Err(both(name)),
        };
        Ok(chosen.unwrap_or_default().to_vec())
    }

    fn entries(self, text: &[u8]) -> Vec<Entry<'_>> {
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        match self {
            Self::Accounts | Self::Groups => lines.into_iter().map(|line| (first_field(line), line)).collect(),
            Self::Lines => lines.into_iter().map(|line| (line.to_vec(), line)).collect(),
            Self::Packages => paragraphs(text).map(|text| (fields(text, &["Package", "Architecture"]), text)).collect(),
            Self::Questions => paragraphs(text).map(|text| (fields(text, &["Name"]), text)).collect(),
            Self::Triples => triples(text).map(|text| (text.to_vec(), text)).collect(),
        }
    }
}

fn both(name: &[u8]) -> String {
    format!("the step and its tools both changed the entry `{}`", String::from_utf8_lossy(name).trim_end())
}

fn first_field(line: &[u8]) -> Vec<u8> {
    line.split(|byte| *byte == b':').next().unwrap_or_default().to_vec()
}

/// Texts that end where a line is empty, that line included.
fn paragraphs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.windows(2).position(|pair| pair == b"\n\n").map_or(rest.len(), |start| start + 2);
        let (paragraph, after) = rest.split_at_checked(end).filter(|(paragraph, _)| !paragraph.is_empty())?;
        rest = after;
        Some(paragraph)
    })
}

/// The values of these fields, one to a line.
fn fields(paragraph: &[u8], names: &[&str]) -> Vec<u8> {
    let lines: Vec<&[u8]> = paragraph.split(|byte| *byte == b'\n').collect();
    let value = |name: &&str| {
        let mut values = lines.iter().filter_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"));
        values.next().unwrap_or_default().trim_ascii().to_vec()
    };
    names.iter().map(value).collect::<Vec<_>>().join(&b' ')
}

fn triples(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1);
        let end = ends.take(3).last().unwrap_or(rest.len());
        let (triple, after) = rest.split_at_checked(end).filter(|(triple, _)| !triple.is_empty())?;
        rest = after;
        Some(triple)
    })
}

/// A group's line where both changed the members only: those below, with what the step added and without what it removed.
fn members(below: &[u8], tools: &[u8], step: &[u8]) -> Option<Vec<u8>> {
    let (head, old) = split_members(below)?;
    let ((tools_head, theirs), (step_head, ours)) = (split_members(tools)?, split_members(step)?);
    if head != tools_head || head != step_head {
        return None;
    }
    let mut kept: Vec<&[u8]> =
        old.iter().copied().filter(|name| ours.contains(name) || !theirs.contains(name)).collect();
    let added: Vec<&[u8]> = ours.into_iter().filter(|name| !theirs.contains(name) && !old.contains(name)).collect();
    kept.extend(added);
    Some([head, b":", kept.join(&b',').as_slice(), b"\n"].concat())
}

/// A line up to its last field, and the names in that.
fn split_members(line: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let end = line.iter().rposition(|byte| *byte == b':')?;
    let names = line.get(end + 1..)?.split(|byte| *byte == b',').filter(|name| !name.is_empty());
    Some((line.get(..end)?, names.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(merge: Merge, [below, tools, step]: [&str; 3], expected: Result<&str, &str>) {
        let merged = merge.merge(below.as_bytes(), tools.as_bytes(), step.as_bytes());
        let merged = merged.map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(merged.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn accounts_of_the_tools_go_and_those_of_the_step_stay() {
        let below = "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/false\n";
        let tools = format!("{below}puppet:x:100:100::/:/bin/false\n");
        let step = format!("{tools}deploy:x:1000:1000::/home/deploy:/bin/sh\n");
        let expected = format!("{below}deploy:x:1000:1000::/home/deploy:/bin/sh\n");
        check(Merge::Accounts, [below, &tools, &step], Ok(&expected));
        check(Merge::Accounts, [below, &tools, &tools], Ok(below));
        check(
            Merge::Accounts,
            [below, &tools, &step.replace("www:x:33:33::/:/bin/false\n", "")],
            Ok(&expected.replace("www:x:33:33::/:/bin/false\n", "")),
        );
        check(
            Merge::Accounts,
            [below, &tools, &step.replace("/root:/bin/sh", "/root:/bin/bash")],
            Ok(&expected.replace("/root:/bin/sh", "/root:/bin/bash")),
        );
        check(
            Merge::Accounts,
            [
                below,
                &tools.replace("/root:/bin/sh", "/root:/bin/zsh"),
                &step.replace("/root:/bin/sh", "/root:/bin/bash"),
            ],
            Err("the step and its tools both changed the entry `root`"),
        );
    }

    #[test]
    fn members_of_a_group_are_told_apart() {
        check(Merge::Groups, ["adm:x:4:\n", "adm:x:4:puppet\n", "adm:x:4:puppet,deploy\n"], Ok("adm:x:4:deploy\n"));
        check(Merge::Groups, ["adm:x:4:a,b\n", "adm:x:4:a,b,t\n", "adm:x:4:b,t,s\n"], Ok("adm:x:4:b,s\n"));
        check(
            Merge::Groups,
            ["adm:x:4:\n", "adm:x:4:t\n", "adm:x:5:t,s\n"],
            Err("the step and its tools both changed the entry `adm`"),
        );
    }

    #[test]
    fn packages_of_the_tools_are_forgotten() {
        let stanza =
            |name: &str, status: &str| format!("Package: {name}\nStatus: {status}\nArchitecture: all\nX: y\n z\n\n");
        let below = stanza("a", "ii") + &stanza("b", "ii");
        let tools = below.clone() + &stanza("tool", "ii");
        let step = stanza("a", "rc") + &stanza("b", "ii") + &stanza("new", "ii") + &stanza("tool", "ii");
        let expected = stanza("a", "rc") + &stanza("b", "ii") + &stanza("new", "ii");
        check(Merge::Packages, [&below, &tools, &step], Ok(&expected));
    }

    #[test]
    fn lines_and_triples_are_whole() {
        check(Merge::Lines, ["a\nb\n", "a\nb\nt\n", "b\nt\ns\n"], Ok("b\ns\n"));
        let triple = |name: &str| format!("/{name}\n/{name}.real\n:\n");
        let [a, t, s] = ["a", "t", "s"].map(triple);
        check(Merge::Triples, [&a, &(a.clone() + &t), &(a.clone() + &t + &s)], Ok(&(a.clone() + &s)));
    }
}
