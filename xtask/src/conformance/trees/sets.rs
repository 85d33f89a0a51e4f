//! The package sets of which trees are made, and the spec that asks for them.

use std::fmt::Write as _;

use crate::oracle::MMDEBSTRAP_PACKAGES;

/// Packages that are asked for together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) packages: &'static [&'static str],
    /// The suite in which `--quick` makes it too.
    quick_suite: Option<&'static str>,
}

/// What servers are made of, and whatever does unusual things when it is installed: accounts, keys, databases,
/// alternatives, diversions, triggers.
pub(super) const SETS: &[Set] = &[
    set("minbase", &[], Some("bookworm")),
    set("systemd", &["systemd-sysv", "udev", "dbus", "libnss-systemd", "systemd-timesyncd"], None),
    set("openssh", &["systemd-sysv", "openssh-server", "ca-certificates"], Some("trixie")),
    set("nginx", &["nginx", "logrotate"], Some("bookworm")),
    set("postgresql", &["postgresql"], None),
    set("python3", &["python3", "python3-venv", "python3-apt"], None),
    set("java", &["default-jre-headless"], None),
    set("rsyslog", &["rsyslog", "cron", "logrotate", "sudo"], Some("trixie")),
    set("exim4", &["exim4-daemon-light", "bsd-mailx"], None),
    set("docker", &["docker.io"], None),
    set("samba", &["samba"], None),
    set("apparmor", &["apparmor", "man-db", "locales", "unattended-upgrades"], None),
];

/// A package that no set has, for the suite's apt to install into a finished tree.
pub(super) const ONE_MORE: &str = "hello";

/// The class of a suite that has [`ONE_MORE`], and the one that is mmdebstrap.
pub(super) const PEER_CLASS: &str = "mmdebstrap";

const fn set(name: &'static str, packages: &'static [&'static str], quick_suite: Option<&'static str>) -> Set {
    Set { name, packages, quick_suite }
}

impl Set {
    /// Whether a set is to be made.
    pub(super) fn is_wanted(&self, suite: &str, names: &[String], quick: bool) -> bool {
        let named = names.iter().any(|name| name == self.name);
        named || (names.is_empty() && (!quick || self.quick_suite == Some(suite)))
    }
}

/// The class of a set in a suite.
pub(super) fn class(suite: &str, name: &str) -> String {
    format!("{suite}-{name}")
}

/// All of these sets in these suites, what is installed on top, and mmdebstrap.
pub(super) fn spec(chosen: &[(String, Set)], peer_suite: &str) -> String {
    let mut suites: Vec<&str> = chosen.iter().map(|(suite, _)| suite.as_str()).chain([peer_suite]).collect();
    suites.sort_unstable();
    suites.dedup();
    let mut spec = "[factory]\nname = \"conformance\"\n".to_owned();
    let mut add = |name: &str, suite: &str, packages: &[&str]| {
        let _ = writeln!(spec, "[class.{name}]\ndistribution = \"{suite}\"\npackages = {packages:?}");
    };
    add(PEER_CLASS, peer_suite, MMDEBSTRAP_PACKAGES);
    suites.iter().for_each(|suite| add(&class(suite, ONE_MORE), suite, &[ONE_MORE]));
    chosen.iter().for_each(|(suite, set)| add(&class(suite, set.name), suite, set.packages));
    for suite in suites {
        let _ = writeln!(spec, "[distribution.{suite}]\nfamily = \"debian\"\nsuite = \"{suite}\"");
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_sets_are_quick() {
        let quick = |suite: &str| SETS.iter().filter(|set| set.is_wanted(suite, &[], true)).count();
        assert_eq!((quick("bookworm"), quick("trixie")), (2, 2));
    }

    #[test]
    fn the_spec_asks_for_all() {
        let spec = spec(&[("bookworm".to_owned(), SETS[0])], "trixie");
        for part in ["[class.bookworm-minbase]", "[class.bookworm-hello]", "[class.mmdebstrap]", "suite = \"trixie\""] {
            assert!(spec.contains(part), "{spec}");
        }
    }
}
