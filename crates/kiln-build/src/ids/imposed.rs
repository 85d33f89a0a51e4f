//! Has programs give accounts the lock's ids, without a trace in the tree.
//!
//! - `adduser`, `addgroup`, `useradd` and `groupadd` are covered by `account.sh`, which calls the real one with a range that
//!   holds the wanted id alone. (adduser's own UID_POOL would need a change to `/etc/adduser.conf`, which belongs to a
//!   package and to the user, would not cover `useradd`, and before version 3.139 does not keep other names off its ids.)
//! - `systemd-sysusers NAME.conf` prefers `/run/sysusers.d/NAME.conf` to the package's: it is written from that one, with
//!   ids in place of `-`.
//!
//! Covers are mounts, and `/run` is in memory: the layer that is being written has no part in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::Inside;
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::{DYNAMIC_FIRST, REGULAR_FIRST, REGULAR_LAST, sysusers};
use crate::workplace::FixedIds;

/// Where everything is while ids are imposed; `account.sh` names it too.
const PLACE: &str = "/run/kiln/ids";

/// What stands before the programs that make accounts.
const ACCOUNT: &str = include_str!("account.sh");

/// The programs that it stands before.
const PROGRAMS: &[&str] = &["adduser", "groupadd", "useradd"];

/// Where they are.
const PROGRAMS_DIRECTORY: &str = "/usr/sbin";

/// Where packages say which accounts they need, the directory that wins first: sysusers.d(5).
const SYSUSERS_DIRECTORIES: &[&str] = &["/etc/sysusers.d", "/usr/local/lib/sysusers.d", "/usr/lib/sysusers.d"];

/// Where what they say is overridden.
const SYSUSERS_OVERRIDES: &str = "/run/sysusers.d";

/// Ids are imposed while this lives.
#[derive(Debug)]
#[must_use = "ids are imposed while this lives"]
pub(crate) struct Imposed {
    /// Mounts, in the order in which they were made.
    mounts: Vec<Utf8PathBuf>,
    /// Files and directories to remove.
    made: Vec<Utf8PathBuf>,
}

impl Imposed {
    /// Begins to impose ids, in the tree that this process is inside of. Packages that bring the programs or the files of
    /// sysusers.d must have been placed before, and none of them can be replaced before the end.
    ///
    /// # Errors
    /// If something cannot be written or mounted.
    pub(crate) fn begin(_inside: &Inside<'_>, fixed: &FixedIds) -> io::Result<Self> {
        let mut imposed = Self { mounts: Vec::new(), made: Vec::new() };
        if fixed.users.is_empty() && fixed.groups.is_empty() {
            return Ok(imposed);
        }
        let ranges = Ranges::beside(fixed);
        imposed.cover_programs(fixed, &ranges)?;
        imposed.override_sysusers(fixed, &ranges)?;
        Ok(imposed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// If something cannot be unmounted or removed.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.undo()
    }

    fn undo(&mut self) -> io::Result<()> {
        while let Some(path) = self.mounts.pop() {
            unmount(path.as_str(), UnmountFlags::DETACH)?;
        }
        while let Some(path) = self.made.pop() {
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }

    fn cover_programs(&mut self, fixed: &FixedIds, ranges: &Ranges) -> io::Result<()> {
        let place = Utf8Path::new(PLACE);
        fs::create_dir_all(place.join("real"))?;
        self.made.push(place.to_owned());
        fs::write(place.join("users"), lines(&fixed.users))?;
        fs::write(place.join("groups"), lines(&fixed.groups))?;
        fs::write(place.join("ranges"), ranges.print())?;
        let account = place.join("account");
        fs::write(&account, ACCOUNT)?;
        fs::set_permissions(&account, std::fs::Permissions::from_mode(0o755))?;
        fs::os::unix::fs::symlink("adduser", place.join("real/addgroup"))?;
        for name in PROGRAMS {
            let program = Utf8Path::new(PROGRAMS_DIRECTORY).join(name);
            if program.is_file() {
                let real = place.join("real").join(name);
                fs::write(&real, "")?;
                self.mount(&program, real)?;
                self.mount(&account, program)?;
            }
        }
        Ok(())
    }

    fn mount(&mut self, from: &Utf8Path, to: Utf8PathBuf) -> io::Result<()> {
        mount_bind(from.as_str(), to.as_str())
            .map_err(|error| io::Error::other(format!("mount {from} on {to}: {error}")))?;
        self.mounts.push(to);
        Ok(())
    }

    fn override_sysusers(&mut self, fixed: &FixedIds, ranges: &Ranges) -> io::Result<()> {
        let overrides = Utf8Path::new(SYSUSERS_OVERRIDES);
        for (name, path) in sysusers_files()? {
            let file = overrides.join(name);
            let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
            if let Some(text) = sysusers::with_ids(&text, fixed, &ranges.system)
                && !file.exists()
            {
                fs::create_dir_all(overrides)?;
                fs::write(&file, text)?;
                self.made.push(file);
            }
        }
        Ok(())
    }
}

impl Drop for Imposed {
    fn drop(&mut self) {
        // On the way out of an error: the sandbox ends with it, and what is left goes with the sandbox.
        let _ = self.undo();
    }
}

/// The files that say which accounts there should be, by name, but those of `/etc`, which win over any override.
fn sysusers_files() -> io::Result<BTreeMap<String, Utf8PathBuf>> {
    let mut files = BTreeMap::new();
    for directory in SYSUSERS_DIRECTORIES {
        let entries = match Utf8Path::new(directory).read_dir_utf8() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().ends_with(".conf") && entry.path().is_file() {
                files.entry(entry.file_name().to_owned()).or_insert_with(|| entry.path().to_owned());
            }
        }
    }
    files.retain(|_, path| !path.starts_with("/etc"));
    Ok(files)
}

fn lines(ids: &BTreeMap<String, u32>) -> String {
    ids.iter().fold(String::new(), |mut text, (name, id)| {
        let _ = writeln!(text, "{name}:{id}");
        text
    })
}

/// From where names that the lock does not know may take their ids: the widest ranges in which it has none.
#[derive(Debug, PartialEq, Eq)]
struct Ranges {
    system: RangeInclusive<u32>,
    regular: RangeInclusive<u32>,
}

impl Ranges {
    fn beside(fixed: &FixedIds) -> Self {
        let taken: BTreeSet<u32> = fixed.users.values().chain(fixed.groups.values()).copied().collect();
        Self {
            system: widest(DYNAMIC_FIRST..=REGULAR_FIRST - 1, &taken),
            regular: widest(REGULAR_FIRST..=REGULAR_LAST, &taken),
        }
    }

    /// As variables of the shell.
    fn print(&self) -> String {
        let Self { system, regular } = self;
        format!(
            "system_first={}\nsystem_last={}\nregular_first={}\nregular_last={}\n",
            system.start(),
            system.end(),
            regular.start(),
            regular.end()
        )
    }
}

/// The widest range in `all` without an id that is taken, the first of equals; `all` itself if none is free.
fn widest(all: RangeInclusive<u32>, taken: &BTreeSet<u32>) -> RangeInclusive<u32> {
    let mut best: Option<RangeInclusive<u32>> = None;
    let mut first = *all.start();
    for &id in taken.range(all.clone()).chain([&(all.end() + 1)]) {
        let width = |range: &RangeInclusive<u32>| range.end() - range.start() + 1;
        if id > first && best.as_ref().is_none_or(|best| width(best) < id - first) {
            best = Some(first..=id - 1);
        }
        first = id + 1;
    }
    best.unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use kiln_sandbox::{Bind, CancelToken, Command, Ending, Identity, Sandbox, Subordinate, Tree, Upper, layer};

    use super::*;

    #[test]
    fn ranges_hold_no_id_that_is_taken() {
        let check = |taken: &[u32], expected: RangeInclusive<u32>| {
            assert_eq!(widest(100..=199, &taken.iter().copied().collect()), expected, "{taken:?}");
        };
        check(&[], 100..=199);
        check(&[100, 101, 199], 102..=198);
        check(&[150], 100..=149);
        check(&[120, 99, 200, 5000], 121..=199);
        check(&(100..=199).collect::<Vec<_>>(), 100..=199);
    }

    /// What all trees of the tests begin with, besides the host's programs.
    const FILES: &[(&str, &str)] = &[
        ("adduser.conf", "# mine\n"),
        ("group", "root:x:0:\ndaemon:x:1:\nusers:x:100:\nnogroup:x:65534:\n"),
        ("gshadow", "root:*::\ndaemon:*::\nusers:*::\nnogroup:*::\n"),
        ("login.defs", "USERGROUPS_ENAB yes\nUID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\n"),
        (
            "pam.d/chfn",
            "auth sufficient pam_rootok.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
        ),
        ("passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
        ("shadow", "root:*:1::::::\ndaemon:*:1::::::\nnobody:*:1::::::\n"),
    ];

    /// What packages of the tests ask systemd-sysusers for.
    const SYSUSERS: &str = "u bus - \"System Bus\" /nonexistent\ng input -\nu pair -\ng fresh -\n";

    /// An ordinary user that no machine has, and its ids.
    const NOBODY: Subordinate =
        Subordinate { uid: 54_321, gid: 54_321, first_uid: 1_900_000_000, first_gid: 1_900_000_000 };

    fn identities() -> Vec<Identity> {
        if rustix::process::geteuid().is_root() {
            return vec![Identity::Root, Identity::User(NOBODY)];
        }
        Identity::of_caller().into_iter().collect()
    }

    /// What became of a tree.
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Outcome {
        ending: Ending,
        /// Lines of passwd and of group that were not there before.
        passwd: Vec<String>,
        group: Vec<String>,
        /// What is still mounted or written of ours.
        left: Vec<String>,
    }

    /// Runs a script with the host's programs while ids are imposed, for each identity; each must leave the same.
    fn check(program: &str, fixed: &FixedIds, script: &str, passwd: &[&str], group: &[&str]) {
        if !Utf8Path::new(program).is_file() || identities().is_empty() {
            return kiln_testkit::cannot_test(&format!("{program} or subordinate ids are missing"));
        }
        for identity in identities() {
            let directory = tempfile::tempdir().unwrap();
            let ground = Utf8Path::from_path(directory.path()).unwrap();
            fs::create_dir(ground.join("sysusers")).unwrap();
            fs::write(ground.join("sysusers/test.conf"), SYSUSERS).unwrap();
            if let (Identity::User(user), true) = (identity, rustix::process::geteuid().is_root()) {
                fs::os::unix::fs::chown(ground, Some(user.uid), Some(user.gid)).unwrap();
            }
            let mut lines = Vec::new();
            let outcome = run(ground, identity, fixed, script, &mut lines);
            assert_eq!(outcome.ending, Ending::Code(0), "{}", lines.join("\n"));
            check_begins(&outcome.passwd, passwd);
            check_begins(&outcome.group, group);
            assert_eq!(outcome.left, Vec::<String>::new());
            check_layer(&ground.join("layer"), identity);
            for name in ["layer", "base"] {
                layer::remove_tree(&ground.join(name), identity).unwrap();
            }
        }
    }

    /// Each line begins as expected: what follows differs between versions.
    fn check_begins(lines: &[String], expected: &[&str]) {
        let fits = |(line, expected): (&String, &&str)| line.starts_with(expected);
        assert!(lines.len() == expected.len() && lines.iter().zip(expected).all(fits), "{lines:#?}\n{expected:#?}");
    }

    fn run(ground: &Utf8Path, identity: Identity, fixed: &FixedIds, script: &str, lines: &mut Vec<String>) -> Outcome {
        let cancel = CancelToken::new().unwrap();
        let base = Tree { lowers: Vec::new(), upper: Upper::Directory(ground.join("base")) };
        Sandbox::new(base, identity).call(|inside| lay(&inside.tree()), &mut |_| {}, &cancel).unwrap();
        let tree = Tree { lowers: vec![ground.join("base")], upper: Upper::Directory(ground.join("layer")) };
        let mut sandbox = Sandbox::new(tree, identity);
        let bind = |from: &Utf8Path, to: &str| Bind { from: from.to_owned(), to: to.into(), read_only: true };
        sandbox.binds =
            vec![bind(Utf8Path::new("/usr"), "/usr"), bind(&ground.join("sysusers"), "/usr/lib/sysusers.d")];
        let work = |inside: &Inside<'_>| {
            let imposed = Imposed::begin(inside, fixed).unwrap();
            let ending = inside.run(&Command::shell(script)).unwrap();
            imposed.end().unwrap();
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
            let ours = mounts.lines().filter(|line| line.contains("/sbin/") || line.contains(PLACE)).map(str::to_owned);
            let files = [PLACE, "/run/sysusers.d/test.conf"].into_iter().filter(|path| Utf8Path::new(path).exists());
            let left = ours.chain(files.map(str::to_owned)).collect();
            Outcome { ending, passwd: added("passwd"), group: added("group"), left }
        };
        sandbox.call(work, &mut |line| lines.push(line.to_owned()), &cancel).unwrap()
    }

    fn lay(root: &Utf8Path) {
        for name in ["bin", "sbin", "lib", "lib64"] {
            fs::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        for name in ["etc", "etc/pam.d", "usr", "var", "home"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        for (name, content) in FILES {
            fs::write(root.join("etc").join(name), content).unwrap();
        }
    }

    fn added(name: &str) -> Vec<String> {
        let (_, before) = FILES.iter().find(|(file, _)| *file == name).unwrap();
        let after = fs::read_to_string(Utf8Path::new("/etc").join(name)).unwrap();
        after.lines().filter(|line| !before.lines().any(|old| old == *line)).map(str::to_owned).collect()
    }

    /// The layer holds what the accounts' own programs write, and nothing of ours.
    fn check_layer(layer: &Utf8Path, identity: Identity) {
        let path = layer.to_owned();
        let files = identity.act(move || {
            let names =
                fs::read_dir(path.join("etc")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.extend(fs::read_dir(path.join("usr")).into_iter().flatten().map(|_| "usr".to_owned()));
            names
        });
        let known = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid", ".pwd.lock"];
        let is_known = |name: &String| known.contains(&name.trim_end_matches('-'));
        assert!(files.as_ref().unwrap().iter().all(is_known), "{files:?}");
    }

    fn fixed(users: &[(&str, u32)], groups: &[(&str, u32)]) -> FixedIds {
        let of = |ids: &[(&str, u32)]| ids.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        FixedIds { users: of(users), groups: of(groups) }
    }

    #[test]
    fn adduser_and_addgroup_give_the_locks_ids() {
        let fixed = fixed(&[("a", 300), ("b", 301), ("me", 1234)], &[("a", 300), ("b", 777), ("g", 303), ("me", 1234)]);
        let script = "
            adduser --quiet --system --group --home /var/lib/a --no-create-home --gecos 'A B' --shell /bin/false a
            addgroup --quiet --system b
            adduser --quiet --system --no-create-home --ingroup b b
            addgroup --quiet --system g
            adduser --quiet --system --no-create-home other
            addgroup --quiet --system other
            adduser --quiet --disabled-password --gecos '' --no-create-home me
            adduser --quiet --system a
            adduser --quiet a g";
        let passwd = ["a:x:300:300:A B", "b:x:301:777:", "other:x:304:65534:", "me:x:1234:1234:"];
        let group = ["users:x:100:me", "a:x:300:", "b:x:777:", "g:x:303:a", "other:x:304:", "me:x:1234:"];
        check("/usr/sbin/adduser", &fixed, script, &passwd, &group);
    }

    #[test]
    fn useradd_and_groupadd_give_the_locks_ids() {
        let fixed = fixed(
            &[("a", 300), ("b", 301), ("c", 302), ("me", 1234)],
            &[("a", 400), ("b", 401), ("c", 402), ("docker", 998), ("me", 1300)],
        );
        let script = "
            groupadd --system docker
            useradd -r -g docker -d /var/lib/a -s /bin/false first
            useradd -rMU a -s /bin/false
            useradd me --no-create-home --shell /bin/sh
            useradd -u 555 -N explicit
            useradd -rUM -d /home/U b
            useradd -rMg docker c
            groupadd -f docker
            groupadd plain";
        let passwd = [
            "first:x:997:998:",
            "a:x:300:400::/home/a:/bin/false",
            "me:x:1234:1300:",
            "explicit:x:555:",
            "b:x:301:401::/home/U:",
            "c:x:302:998:",
        ];
        let group = ["docker:x:998:", "a:x:400:", "me:x:1300:", "b:x:401:", "plain:x:1301:"];
        check("/usr/sbin/useradd", &fixed, script, &passwd, &group);
    }

    #[test]
    fn sysusers_gives_the_locks_ids() {
        let fixed = fixed(&[("bus", 300), ("pair", 302)], &[("bus", 300), ("input", 401), ("pair", 302)]);
        let passwd = ["bus:x:300:300:System Bus:/nonexistent:", "pair:x:302:302:"];
        // In the order in which they would come without.
        let group = ["input:x:401:", "fresh:x:999:", "bus:x:300:", "pair:x:302:"];
        check("/usr/bin/systemd-sysusers", &fixed, "systemd-sysusers test.conf 2>/dev/null", &passwd, &group);
    }

    #[test]
    fn without_ids_programs_choose_as_ever() {
        let script = "systemd-sysusers test.conf 2>/dev/null; useradd -rM x; groupadd -r y";
        let passwd = ["bus:x:", "pair:x:", "x:x:"];
        let group = ["input:x:999:", "fresh:x:998:", "bus:x:", "pair:x:", "x:x:", "y:x:"];
        check("/usr/bin/systemd-sysusers", &FixedIds::default(), script, &passwd, &group);
    }
}
