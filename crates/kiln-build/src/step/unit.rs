//! `enable`, `disable`, `mask`: done by the tree's own `systemctl`, which knows `[Install]`, templates and init scripts.
//!
//! Before: each unit must be there, or be of a type that generators make. After `enable`: `systemctl is-enabled` must agree,
//! so that a unit which nothing can start is no silent success.

use std::collections::BTreeSet;
use std::path::Path;

use fs_err as fs;
use kiln_model::diagnostic::nearest;
use kiln_sandbox::{Command, Ending, Inside};

use super::root::Root;
use super::{Doing as _, Problem, in_tree};
use crate::normalise::{Before, Maker};
use crate::workplace::{StageError, Workplace};

const SYSTEMCTL: &str = "/usr/bin/systemctl";

/// Where units are, for a system manager: systemd.unit(5). `/run` is empty while building.
const DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Where init scripts are, each of which is a service too.
const INIT_SCRIPTS: &str = "/etc/init.d";

/// Types of units: systemd.unit(5).
const TYPES: [&str; 10] =
    [".automount", ".device", ".mount", ".path", ".service", ".slice", ".socket", ".swap", ".target", ".timer"];

/// Types of units that generators and the kernel make while booting: one may mask what is not there yet.
const MADE_AT_BOOT: [&str; 5] = [".mount", ".automount", ".swap", ".device", ".slice"];

/// Where what was asked is written, since the output of programs goes to the watcher.
const ANSWER: &str = "/run/kiln/answer";

/// What to do with units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Enable,
    Disable,
    Mask,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Mask => "mask",
        }
    }
}

pub(super) fn run(place: &Workplace<'_>, verb: Verb, units: &[String]) -> Result<(), StageError> {
    in_tree(place, Vec::new(), |inside, root| {
        if !root.exists(Path::new(SYSTEMCTL)) {
            return Err(Problem::refused(format!("the tree has no systemd to {} units of", verb.word()))
                .hint("add \"systemd-sysv\" to the packages of the class"));
        }
        let known = known_units(root)?;
        units.iter().try_for_each(|unit| check_known(verb, unit, &known))?;
        let tree = inside.tree();
        let before = Before::read(tree.as_std_path(), Maker::Step).doing(|| "look at the tree".to_owned())?;
        systemctl(inside, verb, units)?;
        if verb == Verb::Enable {
            check_enabled(inside, units)?;
        }
        // For init scripts systemctl runs programs of the distribution.
        before.clean(tree.as_std_path(), place.epoch).doing(|| "clean the tree after systemctl".to_owned())
    })
}

/// Every unit file of the tree, templates and init scripts included.
fn known_units(root: &Root) -> Result<BTreeSet<String>, Problem> {
    let mut known = BTreeSet::new();
    let is_unit = |name: &String| TYPES.iter().any(|kind| name.ends_with(kind));
    for directory in DIRECTORIES {
        known.extend(names(root, directory)?.into_iter().filter(is_unit));
    }
    known.extend(names(root, INIT_SCRIPTS)?.into_iter().map(|name| format!("{name}.service")));
    Ok(known)
}

/// The names in a directory of the tree that may be missing.
fn names(root: &Root, directory: &str) -> Result<Vec<String>, Problem> {
    if !root.is_directory(Path::new(directory)) {
        return Ok(Vec::new());
    }
    let doing = || format!("list {directory}");
    let entries = fs::read_dir(directory).doing(doing)?;
    entries.map(|entry| Ok(entry.doing(doing)?.file_name().to_string_lossy().into_owned())).collect()
}

fn check_known(verb: Verb, unit: &str, known: &BTreeSet<String>) -> Result<(), Problem> {
    let may_come = verb == Verb::Mask && MADE_AT_BOOT.iter().any(|kind| unit.ends_with(kind));
    if may_come || known.contains(unit) || template(unit).is_some_and(|template| known.contains(&template)) {
        return Ok(());
    }
    let near = nearest(unit, known.iter().map(String::as_str));
    Err(Problem::refused(format!("there is no unit `{unit}` in the tree"))
        .hint(near.map_or_else(|| no_unit_hint(unit, known), |near| format!("did you mean `{near}`?"))))
}

/// Units whose names hold the unit's stem, or where a unit may come from.
fn no_unit_hint(unit: &str, known: &BTreeSet<String>) -> String {
    let stem = unit.split(['.', '@']).next().unwrap_or(unit);
    let alike: Vec<&str> = known.iter().map(String::as_str).filter(|name| name.contains(stem)).take(4).collect();
    match alike.is_empty() {
        true => "add its package to the class, or place its file with a step before this one".to_owned(),
        false => format!("there is {}", alike.join(", ")),
    }
}

/// The template of an instance: `getty@.service` of `getty@tty1.service`.
fn template(unit: &str) -> Option<String> {
    let (stem, rest) = unit.split_once('@')?;
    let (_, kind) = rest.rsplit_once('.')?;
    Some(format!("{stem}@.{kind}"))
}

fn systemctl(inside: &Inside<'_>, verb: Verb, units: &[String]) -> Result<(), Problem> {
    let arguments = [verb.word(), "--"].into_iter().chain(units.iter().map(String::as_str));
    let ending = start(inside, &Command::new(SYSTEMCTL, arguments))?;
    match ending.is_success() {
        true => Ok(()),
        false => Err(Problem::Program { program: format!("systemctl {} {}", verb.word(), units.join(" ")), ending }),
    }
}

/// Makes sure that each unit is enabled now.
fn check_enabled(inside: &Inside<'_>, units: &[String]) -> Result<(), Problem> {
    let script = format!("{SYSTEMCTL} is-enabled -- \"$@\" >{ANSWER} 2>/dev/null || :");
    fs::create_dir_all("/run/kiln").doing(|| "make /run/kiln".to_owned())?;
    let arguments = ["-c", script.as_str(), "sh"].into_iter().chain(units.iter().map(String::as_str));
    start(inside, &Command::new("/bin/sh", arguments))?;
    let answer = fs::read_to_string(ANSWER).doing(|| "ask systemctl is-enabled".to_owned())?;
    let states = answer.lines().map(str::trim).chain(std::iter::repeat("unknown"));
    units.iter().zip(states).try_for_each(|(unit, state)| check_state(unit, state))
}

fn start(inside: &Inside<'_>, command: &Command) -> Result<Ending, Problem> {
    inside.run(command).map_err(|error| Problem::io(format!("start {} in the tree", error.program), &error.source))
}

/// States of `systemctl is-enabled` in which a unit will be started, by itself or by others.
fn check_state(unit: &str, state: &str) -> Result<(), Problem> {
    match state {
        "enabled" | "indirect" | "alias" | "generated" | "linked" => Ok(()),
        "static" => Err(Problem::refused(format!("`{unit}` has no [Install] section: enabling it does nothing")).hint(
            "leave it out if others start it; or say in a drop-in who wants it: [Install] WantedBy=multi-user.target",
        )),
        other => Err(Problem::refused(format!("`{unit}` is `{other}` for systemd, also after `systemctl enable`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::ground::{Ground, for_each_identity};

    fn check(verb: Verb, unit: &str, expected: &str) {
        let known = ["nginx.service", "getty@.service", "fstrim.timer", "ssh.socket", "systemd-networkd.service"];
        let found = match check_known(verb, unit, &known.map(str::to_owned).into()) {
            Ok(()) => "fine".to_owned(),
            Err(Problem::Refused { message, hint }) => format!("{message} / {}", hint.unwrap_or_default()),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn units_must_be_there() {
        for unit in ["nginx.service", "getty@tty1.service", "getty@.service", "fstrim.timer"] {
            check(Verb::Enable, unit, "fine");
        }
        check(
            Verb::Enable,
            "ngnix.service",
            "there is no unit `ngnix.service` in the tree / did you mean `nginx.service`?",
        );
        check(
            Verb::Disable,
            "networkd.timer",
            "there is no unit `networkd.timer` in the tree / there is systemd-networkd.service",
        );
        let place = "add its package to the class, or place its file with a step before this one";
        check(Verb::Mask, "zebra.service", &format!("there is no unit `zebra.service` in the tree / {place}"));
        check(Verb::Mask, "zebra.swap", "fine");
        check(Verb::Enable, "zebra.swap", &format!("there is no unit `zebra.swap` in the tree / {place}"));
    }

    #[test]
    fn a_unit_that_nothing_starts_is_an_error() {
        for state in ["enabled", "alias", "indirect", "generated"] {
            assert!(check_state("a.service", state).is_ok());
        }
        for state in ["static", "masked", "disabled", "bad", "unknown", ""] {
            assert!(check_state("a.service", state).is_err(), "{state}");
        }
    }

    const UNITS: [(&str, &str); 6] = [
        ("web.service", "[Install]\nWantedBy=multi-user.target\nAlias=www.service\nAlso=web.socket\n"),
        ("web.socket", "[Socket]\nListenStream=80\n[Install]\nRequiredBy=sockets.target\n"),
        ("getty@.service", "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n"),
        ("worker@.service", "[Install]\nWantedBy=multi-user.target\n"),
        ("quiet.service", "[Service]\nExecStart=/bin/true\n"),
        ("tmp.mount", "[Mount]\nWhat=tmpfs\nWhere=/tmp\n"),
    ];

    /// A tree with the host's systemctl and some units; none where the host has no systemd.
    fn for_each_tree(test: impl Fn(&mut Ground)) {
        if !Path::new(SYSTEMCTL).exists() {
            return kiln_testkit::cannot_test("the host has no systemctl");
        }
        for_each_identity(|ground| {
            ground.programs(&[SYSTEMCTL, "/bin/sh"]);
            ground.layer("units", |root| {
                for (name, text) in UNITS {
                    let path = root.join("usr/lib/systemd/system").join(name);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, format!("[Unit]\nDescription=A unit\n{text}")).unwrap();
                }
            });
            test(ground);
        });
    }

    /// Carries steps out one after the other, each with the links that it makes or removes.
    fn check_links(steps: &[(&str, &[&str])]) {
        for_each_tree(|ground| {
            for (step, expected) in steps {
                ground.step(step).unwrap();
                let changes = ground.changes();
                let links = changes.iter().filter_map(|line| line.strip_prefix("etc/systemd/system/"));
                let links: Vec<String> = links
                    .filter(|line| !line.ends_with('/'))
                    .map(|line| line.replace("-> /usr/lib", "-> /lib"))
                    .collect();
                assert_eq!(links, *expected, "{step} {:?}", ground.identity);
            }
        });
    }

    #[test]
    fn systemctl_does_what_the_step_says() {
        check_links(&[
            (
                "enable = [\"web.service\"]",
                &[
                    "multi-user.target.wants/web.service 0:0 -> /lib/systemd/system/web.service",
                    "sockets.target.requires/web.socket 0:0 -> /lib/systemd/system/web.socket",
                    "www.service 0:0 -> /lib/systemd/system/web.service",
                ],
            ),
            (
                "enable = [\"worker@3.service\", \"web.service\"]",
                &["multi-user.target.wants/worker@3.service 0:0 -> /lib/systemd/system/worker@.service"],
            ),
            (
                "enable = [\"getty@.service\"]",
                &["getty.target.wants/getty@tty1.service 0:0 -> /lib/systemd/system/getty@.service"],
            ),
            ("disable = [\"worker@3.service\"]", &["multi-user.target.wants/worker@3.service gone"]),
            (
                "mask = [\"tmp.mount\", \"dev-sdx1.swap\"]",
                &["dev-sdx1.swap 0:0 -> /dev/null", "tmp.mount 0:0 -> /dev/null"],
            ),
        ]);
    }

    #[test]
    fn what_cannot_be_enabled_is_an_error() {
        for_each_tree(|ground| {
            let nothing = "has no [Install] section: enabling it does nothing / leave it out if others start it; \
                           or say in a drop-in who wants it: [Install] WantedBy=multi-user.target";
            let error = ground.step("enable = [\"quiet.service\"]").unwrap_err();
            assert_eq!(error, format!("`quiet.service` {nothing}"));
            let error = ground.step("enable = [\"wbe.service\"]").unwrap_err();
            assert_eq!(error, "there is no unit `wbe.service` in the tree / did you mean `web.service`?");
            ground.step("mask = [\"web.service\"]").unwrap();
            let error = ground.step("enable = [\"web.service\"]").unwrap_err();
            assert!(error.starts_with("systemctl enable web.service ended with exit code 1: "), "{error}");
            assert!(error.contains("is masked"), "{error}");
        });
    }

    #[test]
    fn a_tree_without_systemd_has_no_units() {
        for_each_identity(|ground| {
            assert_eq!(
                ground.step("enable = [\"web.service\"]").unwrap_err(),
                "the tree has no systemd to enable units of / add \"systemd-sysv\" to the packages of the class"
            );
        });
    }
}
