//! What becomes of each path that a step with tools changed: a function of three values.
//!
//! For each path there are three versions: the one below, the tools' if they changed it, and the step's, which did.
//!
//! | below | tools | step | |
//! |---|---|---|---|
//! | any | not theirs | changed | the step's own: stays |
//! | none | theirs | changed or removed | goes with the tools |
//! | there | changed | as the tools have it, or as it is below | nothing of the step's: goes |
//! | there | changed | changed another way | merged, dropped if it is a cache, or a conflict |
//! | there | any | removed | stays removed |
//!
//! A directory stays if something in it stays, or if the step itself changed its mode or owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kiln_disk::{Change, Layer, Node, NodeKind, PathBytes};

use super::merge::Merge;
use super::{parent, shown};

/// What to do with the step's layer, and what stands in the way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// By path; what is not here stays as it is.
    pub(super) actions: BTreeMap<PathBytes, Action>,
    /// Files whose three versions become one.
    pub(super) merges: BTreeMap<PathBytes, Merge>,
    /// Whether the dynamic linker's cache is to be made anew.
    pub(super) linker_cache: bool,
    /// What cannot be told apart.
    pub(super) conflicts: Vec<Conflict>,
}

/// What to do with one entry of the step's layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes, whatever it is; a directory is empty by then.
    Drop,
    /// A directory gets this one's owner and mode.
    Restore(Node),
}

/// A path that both changed in ways that cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) path: PathBytes,
    pub(super) why: &'static str,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", shown(&self.path), self.why)
    }
}

/// What the tools did to a path.
#[derive(Debug, Clone, Copy)]
enum Tools<'a> {
    Nothing,
    Removed,
    Changed(&'a Node),
}

/// What becomes of one entry.
enum Verdict {
    Keep,
    Drop,
    Restore(Node),
    Merge(Merge),
    LinkerCache,
    Conflict(&'static str),
}

/// Decides about every path of the step's layer. `below` says what the tree below has at a path.
pub(super) fn decide(step: &Layer, tools: &Layer, below: &dyn Fn(&[u8]) -> Option<Node>) -> Decision {
    let mut decision = Decision::default();
    // Directories in which something stays.
    let mut inhabited: BTreeSet<&[u8]> = BTreeSet::new();
    // Children come before their parents.
    for (path, change) in step.changes.iter().rev() {
        let question = Question { path, tools: tools_version(tools, path), below: below(path) };
        let verdict = match change {
            Change::Gone => question.gone(),
            Change::Opaque(_) => Verdict::Keep,
            Change::Node(node) if node.kind == NodeKind::Directory => {
                question.directory(node, inhabited.contains(path.as_slice()))
            }
            Change::Node(node) => question.file(node),
            Change::HardLink { to } => match step.changes.get(to).and_then(node_of) {
                Some(node) => question.file(node),
                None => Verdict::Conflict("is a name of a file that is not there"),
            },
        };
        if decision.note(path, verdict) && !path.is_empty() {
            inhabited.insert(parent(path));
        }
    }
    decision.conflicts.reverse();
    decision
}

impl Decision {
    /// Notes what becomes of a path; whether anything of it stays.
    fn note(&mut self, path: &PathBytes, verdict: Verdict) -> bool {
        let action = match verdict {
            Verdict::Keep => return true,
            Verdict::Merge(merge) => {
                self.merges.insert(path.clone(), merge);
                return true;
            }
            Verdict::LinkerCache => {
                self.linker_cache = true;
                return true;
            }
            Verdict::Conflict(why) => {
                self.conflicts.push(Conflict { path: path.clone(), why });
                return true;
            }
            Verdict::Restore(node) => Action::Restore(node),
            Verdict::Drop => Action::Drop,
        };
        let stays = action != Action::Drop;
        self.actions.insert(path.clone(), action);
        stays
    }
}

/// One path, and what is known of it besides the step's version.
struct Question<'a> {
    path: &'a [u8],
    tools: Tools<'a>,
    below: Option<Node>,
}

impl Question<'_> {
    /// The step removed it.
    fn gone(&self) -> Verdict {
        // What is not below was the tools', and needs no mark that it is gone.
        if self.below.is_some() { Verdict::Keep } else { Verdict::Drop }
    }

    /// The step has a file of any kind there.
    fn file(&self, node: &Node) -> Verdict {
        if matches!(self.tools, Tools::Nothing) {
            return Verdict::Keep;
        }
        let as_tools = matches!(self.tools, Tools::Changed(tools) if is_same(tools, node));
        let as_below = self.below.as_ref().is_some_and(|below| is_same(below, node));
        if as_tools || as_below || is_dropped(self.path) {
            return Verdict::Drop;
        }
        match (self.tools, &self.below) {
            (Tools::Changed(tools), below) if is_file(tools) && below.as_ref().is_none_or(is_file) && is_file(node) => {
                self.three_files()
            }
            (_, None) => Verdict::Drop,
            _ => Verdict::Conflict("was changed by the step and by its tools"),
        }
    }

    /// Three regular files, or two if there is none below.
    fn three_files(&self) -> Verdict {
        match Merge::of(self.path) {
            Some(merge) => Verdict::Merge(merge),
            None if self.path == super::LINKER_CACHE.as_bytes() => Verdict::LinkerCache,
            None if self.below.is_none() => Verdict::Drop,
            None => {
                Verdict::Conflict("was changed by the step and by its tools, and nobody can say how to keep one change")
            }
        }
    }

    /// The step has a directory there, with or without anything in it that stays.
    fn directory(&self, node: &Node, inhabited: bool) -> Verdict {
        match (self.tools, &self.below) {
            (Tools::Nothing, Some(below)) if is_same(below, node) && !inhabited && !self.path.is_empty() => {
                Verdict::Drop
            }
            (Tools::Nothing, _) => Verdict::Keep,
            (_, None) if inhabited => Verdict::Keep,
            (_, None) => Verdict::Drop,
            (_, Some(below)) if below.kind != NodeKind::Directory => {
                Verdict::Conflict("is a directory in place of a file that the tools changed too")
            }
            (Tools::Removed, Some(_)) => Verdict::Conflict("was removed by the tools, and made again by the step"),
            (Tools::Changed(tools), Some(below)) => self.shared_directory(node, tools, below, inhabited),
        }
    }

    /// A directory that all three have.
    fn shared_directory(&self, node: &Node, tools: &Node, below: &Node, inhabited: bool) -> Verdict {
        let (by_step, by_tools) = (!is_same(node, tools), !is_same(tools, below));
        match (by_step, by_tools) {
            (true, true) if !is_same(node, below) => {
                Verdict::Conflict("has another mode or owner by the step and by its tools")
            }
            (true, _) if !is_same(node, below) => Verdict::Keep,
            _ if !inhabited && !self.path.is_empty() => Verdict::Drop,
            _ if is_same(node, below) => Verdict::Keep,
            _ => Verdict::Restore(below.clone()),
        }
    }
}

/// When a directory of the step's layer was changed, but for the tools: as below if the step only took theirs over.
pub(super) fn directory_time(path: &[u8], node: &Node, tools: &Layer, below: &dyn Fn(&[u8]) -> Option<Node>) -> i64 {
    let theirs = tools.changes.get(path).and_then(node_of).filter(|tools| tools.modified == node.modified);
    theirs.and_then(|_| below(path)).map_or(node.modified, |below| below.modified)
}

/// What an entry is, if it is there under its own name.
pub(super) fn node_of(change: &Change) -> Option<&Node> {
    match change {
        Change::Node(node) | Change::Opaque(node) => Some(node),
        Change::HardLink { .. } | Change::Gone => None,
    }
}

/// What the tools did to a path: an ancestor that they removed or replaced took it along.
fn tools_version<'a>(tools: &'a Layer, path: &[u8]) -> Tools<'a> {
    match tools.changes.get(path) {
        Some(Change::Gone) => Tools::Removed,
        Some(Change::HardLink { to }) => tools.changes.get(to).and_then(node_of).map_or(Tools::Nothing, Tools::Changed),
        Some(Change::Node(node) | Change::Opaque(node)) => Tools::Changed(node),
        None if is_hidden(tools, path) => Tools::Removed,
        None => Tools::Nothing,
    }
}

fn is_hidden(tools: &Layer, path: &[u8]) -> bool {
    let mut path = path;
    while !path.is_empty() {
        path = parent(path);
        match tools.changes.get(path) {
            None => {}
            Some(Change::Node(node)) if node.kind == NodeKind::Directory => {}
            Some(_) => return true,
        }
    }
    false
}

/// Whether two are the same but for their times.
fn is_same(one: &Node, other: &Node) -> bool {
    let Node { kind, mode, uid, gid, modified: _, attributes } = one;
    (kind, mode, uid, gid, attributes) == (&other.kind, &other.mode, &other.uid, &other.gid, &other.attributes)
}

fn is_file(node: &Node) -> bool {
    matches!(node.kind, NodeKind::File { .. })
}

/// Whether a file that both changed is nothing that an image needs: caches, logs, backups.
fn is_dropped(path: &[u8]) -> bool {
    let merged = Merge::of(path).is_some();
    let is_cache = [&b"var/cache/"[..], b"var/log/", b"var/tmp/"].iter().any(|start| path.starts_with(start));
    let is_backup = [&b"-old"[..], b"/passwd-", b"/group-", b"/shadow-", b"/gshadow-", b"/subuid-", b"/subgid-"];
    !merged && (is_cache || is_backup.iter().any(|end| path.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use kiln_model::digest::Sha256;

    use super::*;

    /// Words: `path=content` is a file, `path/` a directory, `path/@7` one of owner 7, `!path` is gone. Parents are there.
    fn layer(words: &str) -> Layer {
        let mut changes = BTreeMap::from([(Vec::new(), Change::Node(node("/", 0)))]);
        for word in words.split_whitespace() {
            let (path, change) = entry(word);
            let ancestors = std::iter::successors(Some(parent(path.as_bytes())), |path| Some(parent(path)));
            for ancestor in ancestors.take_while(|path| !path.is_empty()) {
                changes.entry(ancestor.to_vec()).or_insert_with(|| Change::Node(node("/", 0)));
            }
            changes.insert(path.as_bytes().to_vec(), change);
        }
        Layer { changes }
    }

    fn entry(word: &str) -> (&str, Change) {
        if let Some(path) = word.strip_prefix('!') {
            return (path, Change::Gone);
        }
        if let Some((path, owner)) = word.split_once("/@") {
            return (path, Change::Node(node("/", owner.parse().unwrap())));
        }
        match word.strip_suffix('/') {
            Some(path) => (path, Change::Node(node("/", 0))),
            None => word.split_once('=').map(|(path, content)| (path, Change::Node(node(content, 0)))).unwrap(),
        }
    }

    fn node(content: &str, uid: u32) -> Node {
        let kind = match content {
            "/" => NodeKind::Directory,
            _ => NodeKind::File { size_bytes: content.len() as u64, sha256: Sha256::of(content.as_bytes()) },
        };
        Node { kind, mode: 0o755, uid, gid: 0, modified: 0, attributes: BTreeMap::new() }
    }

    /// What becomes of the step's layer; what stays as it is is left out.
    fn check([below, tools, step]: [&str; 3], expected: &[&str]) {
        let base = layer(below);
        let decision = decide(&layer(step), &layer(tools), &|path| base.changes.get(path).and_then(node_of).cloned());
        let text = |path: &PathBytes| String::from_utf8_lossy(path).into_owned();
        let actions = decision.actions.iter().map(|(path, action)| match action {
            Action::Drop => format!("drop {}", text(path)),
            Action::Restore(_) => format!("restore {}", text(path)),
        });
        let mut seen: Vec<String> = actions.collect();
        seen.extend(decision.merges.keys().map(|path| format!("merge {}", text(path))));
        seen.extend(decision.linker_cache.then(|| "ldconfig".to_owned()));
        seen.extend(decision.conflicts.iter().map(|conflict| format!("conflict {}", text(&conflict.path))));
        assert_eq!(seen, expected, "{below} | {tools} | {step}");
    }

    #[test]
    fn what_the_step_made_or_changed_alone_stays() {
        check(["etc/motd=a", "usr/bin/tool=t", "etc/motd=b srv/new=n"], &[]);
        check(["etc/motd=a", "usr/bin/tool=t", "!etc/motd"], &[]);
        check(["etc/motd=a", "etc/motd=t", "!etc/motd"], &[]);
        check(["srv/", "usr/bin/tool=t", "srv/@7"], &[]);
    }

    #[test]
    fn what_is_there_because_of_the_tools_goes() {
        check(["usr/bin/sh=s", "usr/bin/tool=1", "usr/bin/tool=2"], &["drop usr", "drop usr/bin", "drop usr/bin/tool"]);
        check(["usr/bin/sh=s", "opt/tool/x=1", "!opt/tool"], &["drop opt", "drop opt/tool"]);
        check(["usr/bin/sh=s", "opt/tool/x=1", "opt/tool/"], &["drop opt", "drop opt/tool"]);
    }

    #[test]
    fn what_the_step_put_into_a_directory_of_the_tools_stays_with_it() {
        check(["usr/bin/sh=s", "opt/tool/x=1", "opt/tool/mine=m opt/tool/x=2"], &["drop opt/tool/x"]);
        check(["etc/", "etc/tool/", "etc/tool/mine=m"], &[]);
    }

    #[test]
    fn what_is_as_the_tools_or_the_tree_have_it_is_nothing_of_the_step() {
        check(["etc/a=1", "etc/a=2", "etc/a=2"], &["drop etc", "drop etc/a"]);
        check(["etc/a=1", "etc/a=2", "etc/a=1"], &["drop etc", "drop etc/a"]);
        check(["etc/a=1", "!etc/a", "etc/a=1"], &["drop etc", "drop etc/a"]);
    }

    #[test]
    fn what_both_changed_is_merged_dropped_made_anew_or_a_conflict() {
        check(["etc/passwd=1", "etc/passwd=2", "etc/passwd=3"], &["merge etc/passwd"]);
        check(
            ["var/", "var/lib/apt/extended_states=2", "var/lib/apt/extended_states=3"],
            &["merge var/lib/apt/extended_states"],
        );
        check(["etc/ld.so.cache=1", "etc/ld.so.cache=2", "etc/ld.so.cache=3"], &["ldconfig"]);
        check(["var/cache/x=1", "var/cache/x=2", "var/cache/x=3"], &["drop var", "drop var/cache", "drop var/cache/x"]);
        check(["etc/passwd-=1", "etc/passwd-=2", "etc/passwd-=3"], &["drop etc", "drop etc/passwd-"]);
        check(["etc/a=1", "etc/a=2", "etc/a=3"], &["conflict etc/a"]);
        check(["etc/a=1", "!etc/a", "etc/a=3"], &["conflict etc/a"]);
        check(["etc/a=1", "!etc", "etc/a=3"], &["conflict etc", "conflict etc/a"]);
        check(["etc/a=1", "etc/a/b=2", "etc/a=3"], &["conflict etc/a"]);
    }

    #[test]
    fn a_directory_gets_its_owner_back() {
        check(["srv/ srv/a=1", "srv/@7 srv/t=1", "srv/@7 srv/new=1"], &["restore srv"]);
        check(["srv/", "srv/@7", "srv/@8"], &["conflict srv"]);
        check(["srv/", "srv/@7", "srv/@7"], &["drop srv"]);
    }
}
