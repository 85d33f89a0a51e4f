//! The differences that are allowed, each with its reason. What no rule allows is a failure; so is a rule that nothing needs.

use super::compare::{Aspect, Difference};

/// One allowed difference.
pub(super) struct Rule {
    /// Where, as patterns: `*` is anything but a slash, `**` is anything.
    pub(super) paths: &'static [&'static str],
    pub(super) allows: Allows,
    /// Whose doing it is.
    pub(super) cause: Cause,
    pub(super) reason: &'static str,
}

/// What may differ.
#[derive(Clone, Copy)]
pub(super) enum Allows {
    /// This aspect, in whatever way.
    Any(Aspect),
    /// This part of the content, which the function removes.
    ContentUpTo(&'static str, fn(&str) -> String),
    /// This part of the target of a link, which the function removes.
    TargetUpTo(&'static str, fn(&str) -> String),
}

/// Whose doing a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// mmdebstrap adds or keeps something.
    Peer,
    /// Kiln decided so.
    Kiln,
    /// Two runs of mmdebstrap differ in it as well.
    Chance,
}

impl Rule {
    /// What it allows, in words.
    pub(super) fn what(&self) -> String {
        let cause = match self.cause {
            Cause::Peer => "mmdebstrap's",
            Cause::Kiln => "Kiln's",
            Cause::Chance => "chance",
        };
        let what = match self.allows {
            Allows::Any(Aspect::OnlyKiln) => "only in Kiln's tree",
            Allows::Any(Aspect::OnlyPeer) => "only in mmdebstrap's tree",
            Allows::Any(Aspect::Number) => "numeric ids",
            Allows::Any(Aspect::Content) => "content",
            Allows::Any(Aspect::Kind) => "kind of file",
            Allows::Any(Aspect::Mode) => "mode",
            Allows::Any(Aspect::Owner) => "owner",
            Allows::Any(Aspect::Links) => "further names",
            Allows::Any(Aspect::Target) => "target",
            Allows::Any(Aspect::Attributes) => "attributes",
            Allows::Any(Aspect::Order) => "order of the lines",
            Allows::ContentUpTo(what, _) | Allows::TargetUpTo(what, _) => what,
        };
        format!("{what} ({cause})")
    }

    /// Whether the rule allows this difference.
    pub(super) fn allows(&self, difference: &Difference) -> bool {
        self.paths.iter().any(|pattern| matches(pattern, &difference.path)) && self.allows_aspect(difference)
    }

    fn allows_aspect(&self, difference: &Difference) -> bool {
        match self.allows {
            Allows::Any(aspect) => aspect == difference.aspect,
            Allows::TargetUpTo(_, reduce) => {
                difference.aspect == Aspect::Target && reduce(&difference.kiln) == reduce(&difference.peer)
            }
            Allows::ContentUpTo(_, reduce) => {
                let is_equal = |(kiln, peer): &(String, String)| reduce(kiln) == reduce(peer);
                difference.aspect == Aspect::Content && difference.texts.as_ref().is_some_and(is_equal)
            }
        }
    }
}

/// Whether a path fits a pattern as a whole.
fn matches(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**") {
        return path.char_indices().map(|(at, _)| at).chain([path.len()]).any(|at| matches(rest, &path[at..]));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let end = path.find('/').unwrap_or(path.len());
        let places = path[..end].char_indices().map(|(at, _)| at).chain([end]);
        return places.into_iter().any(|at| matches(rest, &path[at..]));
    }
    match (pattern.chars().next(), path.chars().next()) {
        (None, None) => true,
        (Some(expected), Some(found)) if expected == found => {
            matches(&pattern[expected.len_utf8()..], &path[found.len_utf8()..])
        }
        _ => false,
    }
}

const fn rule(paths: &'static [&'static str], allows: Allows, cause: Cause, reason: &'static str) -> Rule {
    Rule { paths, allows, cause, reason }
}

use Allows::{Any, ContentUpTo, TargetUpTo};
use Aspect::{Content, Links, Mode, Number, OnlyKiln, OnlyPeer, Order, Owner};

/// All rules.
pub(super) const RULES: &[Rule] = &[
    rule(
        &["dev/*"],
        Any(OnlyPeer),
        Cause::Peer,
        "device nodes and links; a machine's kernel makes its own, and a user could not make these",
    ),
    rule(&["etc/fstab"], Any(OnlyPeer), Cause::Peer, "a file without a line, written by mmdebstrap"),
    rule(
        &["etc/apt/sources.list"],
        Any(OnlyPeer),
        Cause::Peer,
        "Kiln's images have no sources but those that a step writes",
    ),
    rule(
        &["var/cache/apt/archives/lock", "var/lib/apt/lists/lock"],
        Any(OnlyPeer),
        Cause::Peer,
        "left by apt, which has no part in Kiln's trees",
    ),
    rule(
        &["var/cache/apt/archives/partial", "var/lib/apt/lists/partial"],
        Any(Mode),
        Cause::Peer,
        "apt gives the directory to its own user when it first runs as root",
    ),
    rule(&["var/cache/apt/archives/partial", "var/lib/apt/lists/partial"], Any(Owner), Cause::Peer, "the same"),
    rule(
        &["usr/bin/gunzip", "usr/bin/uncompress"],
        Any(Links),
        Cause::Peer,
        "bookworm's usrmerge moves what mmdebstrap unpacked into `/bin` by copying each name; Kiln has `/bin` be a link from the \
         beginning, and the names stay those of one file, as in the package",
    ),
    rule(
        &["etc/shells"],
        Any(Order),
        Cause::Peer,
        "the same: usrmerge adds the other names of the shells at the end, after its conversion",
    ),
    rule(
        &["etc/machine-id"],
        Any(Mode),
        Cause::Peer,
        "mmdebstrap writes the file anew; systemd made it, and makes it, read-only",
    ),
    rule(
        &["run/**"],
        Any(OnlyPeer),
        Cause::Kiln,
        "a machine's `/run` begins empty, in memory; mmdebstrap keeps directories",
    ),
    rule(
        &[
            "etc/group-",
            "etc/gshadow-",
            "etc/passwd-",
            "etc/shadow-",
            "etc/subgid-",
            "etc/subuid-",
            "var/cache/debconf/*-old",
            "var/lib/dpkg/*-old",
        ],
        Any(OnlyPeer),
        Cause::Kiln,
        "backups of the moment before the last change",
    ),
    rule(
        &["etc/ssh/ssh_host_*", "etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"],
        Any(OnlyPeer),
        Cause::Kiln,
        "keys of one machine, made again when it first boots",
    ),
    rule(
        &["etc/ssl/certs/*.0"],
        Any(OnlyPeer),
        Cause::Kiln,
        "the link to the snake-oil certificate, made again with it",
    ),
    rule(
        &["var/lib/postgresql/*/*/**"],
        Any(OnlyPeer),
        Cause::Kiln,
        "a database cluster with identifiers of one machine, made again when it first boots",
    ),
    rule(
        &["etc/ssl/certs/java/cacerts"],
        Any(Content),
        Cause::Chance,
        "notes when each certificate was added; Kiln sets all dates to the epoch",
    ),
    rule(
        &["etc/ssh/ssh_host_*", "etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"],
        Any(Content),
        Cause::Chance,
        "random keys",
    ),
    rule(&["var/lib/postgresql/*/*/**"], Any(Content), Cause::Chance, "identifiers and times in a new database"),
    rule(
        &["etc/shadow"],
        ContentUpTo("days and order", without_days),
        Cause::Kiln,
        "the day of an account is that of the newest package so far, mmdebstrap's that of `SOURCE_DATE_EPOCH`, by which no \
         layer may be named; the order is the lock's",
    ),
    rule(
        &["etc/passwd", "etc/group"],
        Any(Number),
        Cause::Kiln,
        "accounts are numbered in the order in which packages are configured; the lock's order is its own, and ids stay as \
         `[ids]` has them",
    ),
    rule(&["etc/passwd", "etc/group", "etc/gshadow"], Any(Order), Cause::Kiln, "the order of the lock, as above"),
    rule(
        &["var/lib/dpkg/triggers/File"],
        Any(Order),
        Cause::Kiln,
        "packages stand there in the order in which they were unpacked; the lock's is its own",
    ),
    rule(&["var/lib/apt/extended_states"], Any(Order), Cause::Kiln, "alphabetical; apt's is that of a hash table"),
    rule(
        &["var/cache/man/*/CACHEDIR.TAG"],
        Any(OnlyKiln),
        Cause::Kiln,
        "mandb makes them when it runs again, which man-db's trigger has it do where packages are unpacked after man-db was \
         configured; the lock's order is its own",
    ),
    rule(
        &["etc/systemd/**"],
        TargetUpTo("`/lib` or `/usr/lib`, which are the same", without_usr),
        Cause::Kiln,
        "packages that are configured after systemd find their units enabled by it, under the other name; the lock's order \
         is its own",
    ),
];

/// Lines without the day on which a password was changed, in order.
fn without_days(shadow: &str) -> String {
    let line = |line: &str| -> String {
        let fields = line.split(':').enumerate().map(|(number, field)| if number == 2 { "day" } else { field });
        fields.collect::<Vec<_>>().join(":")
    };
    let mut lines: Vec<String> = shadow.lines().map(line).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn without_usr(target: &str) -> String {
    target.replace("/usr/lib/", "/lib/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_pattern(pattern: &str, fits: &[&str], does_not: &[&str]) {
        for path in fits {
            assert!(matches(pattern, path), "{pattern} fits {path}");
        }
        for path in does_not {
            assert!(!matches(pattern, path), "{pattern} does not fit {path}");
        }
    }

    #[test]
    fn days_and_directories() {
        assert_eq!(without_days("b:*:2:0::\na:!:1:9::\n"), "a:!:day:9::\nb:*:day:0::");
        assert_eq!(without_usr("link to /usr/lib/a"), without_usr("link to /lib/a"));
    }

    #[test]
    fn patterns() {
        check_pattern("a/b", &["a/b"], &["a", "a/b/c", "a/bb"]);
        check_pattern("a/*", &["a/b", "a/"], &["a", "a/b/c"]);
        check_pattern("a/**", &["a/b", "a/b/c"], &["a", "b/a/c"]);
        check_pattern("**/x*.pyc", &["a/b/x1.pyc", "a/x.pyc"], &["x.pyc", "a/y.pyc"]);
    }
}
