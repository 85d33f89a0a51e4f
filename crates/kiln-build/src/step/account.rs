//! `user` and `group`: accounts in the tree's own files, as `adduser` and shadow's `useradd` would make them.
//!
//! Nothing of the tree is run, so that trees without the package `passwd` have accounts too. The rules are in `rules`; the
//! files in `table`. What is there with the same properties stays as it is; what is there with others is an error: another
//! part of the class relies on it.

mod rules;
mod table;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;
use kiln_model::diagnostic::nearest;
use kiln_model::spec::{AddGroup, AddUser, Target};

use self::rules::{Defaults, Home};
use self::table::{Accounts, Table};
use super::root::{Ownership, Root};
use super::{Doing as _, Problem, in_tree};
use crate::workplace::{StageError, Workplace};

/// Ids that a file of a tree may have: those that an ordinary user can give too.
const IDS: u32 = kiln_sandbox::IDS;

/// What a new home directory begins with.
const SKELETON: &str = "/etc/skel";

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

pub(super) fn add_user(place: &Workplace<'_>, user: &AddUser) -> Result<(), StageError> {
    in_tree(place, Vec::new(), |_, root| {
        let mut accounts = Accounts::read(root)?;
        let defaults = Defaults::read(root)?;
        let home = rules::add_user(&mut accounts, user, &defaults, place.ids, place.epoch / SECONDS_PER_DAY)?;
        accounts.write(root)?;
        home.map_or(Ok(()), |home| make_home(root, &home))
    })
}

pub(super) fn add_group(place: &Workplace<'_>, group: &AddGroup) -> Result<(), StageError> {
    in_tree(place, Vec::new(), |_, root| {
        let mut accounts = Accounts::read(root)?;
        rules::add_group(&mut accounts, group, &Defaults::read(root)?, place.ids)?;
        accounts.write(root)
    })
}

/// The owner and group that a step names, as the tree's numbers.
pub(super) fn ownership(root: &Root, target: &Target) -> Result<Ownership, Problem> {
    let id = |name: &Option<String>, path, noun| name.as_ref().map_or(Ok(0), |name| id(root, path, noun, name));
    Ok(Ownership { uid: id(&target.owner, "/etc/passwd", "user")?, gid: id(&target.group, "/etc/group", "group")? })
}

fn id(root: &Root, path: &'static str, noun: &str, name: &str) -> Result<u32, Problem> {
    let table = Table::read(root, path)?.unwrap_or_default();
    let found = table.ids().find(|(known, _)| *known == name);
    match found {
        Some((_, id)) if id < IDS => Ok(id),
        Some((_, id)) => {
            Err(Problem::refused(format!("the {noun} `{name}` has the id {id}, and files have ids below {IDS}")))
        }
        None => {
            Err(Problem::refused(format!("there is no {noun} `{name}` in the tree"))
                .hint(missing_hint(&table, noun, name)))
        }
    }
}

fn missing_hint(table: &Table, noun: &str, name: &str) -> String {
    match nearest(name, table.ids().map(|(known, _)| known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("make it with a `{noun}` step before this one"),
    }
}

/// Makes a home directory as `adduser` does; one that is there stays as it is.
fn make_home(root: &Root, home: &Home) -> Result<(), Problem> {
    if [home.ownership.uid, home.ownership.gid].iter().any(|id| *id >= IDS) {
        return Err(Problem::refused(format!("{} cannot be made: files have ids below {IDS}", home.path)));
    }
    let is_new = root.spot(home.path.as_std_path())?.directory(home.ownership, home.mode)?;
    match is_new && home.skeleton && root.is_directory(Path::new(SKELETON)) {
        true => copy_skeleton(root, Path::new(SKELETON), home.path.as_std_path(), home.ownership),
        false => Ok(()),
    }
}

/// Copies what is in a directory of the tree, for another owner. Links stay as they are; what is no file is left out.
fn copy_skeleton(root: &Root, from: &Path, to: &Path, ownership: Ownership) -> Result<(), Problem> {
    let doing = || format!("read {}", from.display());
    let mut names = fs::read_dir(from).doing(doing)?.map(|entry| entry.map(|entry| entry.file_name()));
    names.try_for_each(|name| {
        let name = name.doing(doing)?;
        copy_skeleton_entry(root, &from.join(&name), &to.join(&name), ownership)
    })
}

fn copy_skeleton_entry(root: &Root, from: &Path, to: &Path, ownership: Ownership) -> Result<(), Problem> {
    let doing = || format!("copy {}", from.display());
    let metadata = fs::symlink_metadata(from).doing(doing)?;
    let (spot, mode) = (root.spot(to)?, metadata.mode() & 0o7777);
    if metadata.is_dir() {
        spot.directory(ownership, mode)?;
        return copy_skeleton(root, from, to, ownership);
    }
    if metadata.is_symlink() {
        return spot.symlink(fs::read_link(from).doing(doing)?.as_os_str(), ownership);
    }
    match metadata.is_file() {
        true => spot.file(ownership, mode, |file| file.write_all(&fs::read(from).doing(doing)?).doing(doing)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kiln_sandbox::{Bind, CancelToken, Command, Sandbox, Tree, Upper};

    use super::*;
    use crate::step::ground::{EPOCH, Ground, for_each_identity};

    const FILES: [&str; 6] = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];

    /// A tree with all files of accounts, and a skeleton.
    fn furnish(ground: &mut Ground) {
        ground.layer("accounts", |root| {
            let write = |name: &str, text: &str| fs::write(root.join("etc").join(name), text).unwrap();
            write("shadow", "root:*:19000:0:99999:7:::\n");
            write("gshadow", "root:*::\nadm:*::syslog\n");
            write("subuid", "");
            write("subgid", "");
            write("login.defs", "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nSUB_UID_COUNT 65536\nPASS_MAX_DAYS 99999\nPASS_MIN_DAYS 0\nPASS_WARN_AGE 7\n");
            write("skel/.profile", "umask 022\n");
            fs::create_dir(root.join("etc/skel/.config")).unwrap();
            fs::os::unix::fs::symlink(".profile", root.join("etc/skel/.login")).unwrap();
            for (name, mode) in [("shadow", 0o640), ("gshadow", 0o640)] {
                let path = root.join("etc").join(name);
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
                fs::os::unix::fs::chown(&path, Some(0), Some(42)).unwrap();
            }
        });
    }

    /// The host's programs on the tree as it is below the last step; changes are lost. Returns the files afterwards.
    fn judged(ground: &Ground, commands: &[&[&str]]) -> Vec<String> {
        let tree = Tree { lowers: ground.lowers.clone(), upper: Upper::Discard };
        let mut sandbox = Sandbox::new(tree, ground.identity);
        sandbox.environment.insert("SOURCE_DATE_EPOCH".to_owned(), EPOCH.to_string());
        for name in ["usr", "bin", "sbin", "lib", "lib64"] {
            let path = camino::Utf8PathBuf::from("/").join(name);
            if path.is_dir() {
                sandbox.binds.push(Bind { from: path.clone(), to: path, read_only: true });
            }
        }
        let mut lines = Vec::new();
        let run = |inside: &kiln_sandbox::Inside<'_>| {
            for command in commands {
                let (program, arguments) = command.split_first().unwrap();
                let ending = inside.run(&Command::new(*program, arguments.iter().copied())).unwrap();
                assert!(ending.is_success(), "{command:?} {ending}");
            }
            FILES.map(|name| fs::read_to_string(format!("/etc/{name}")).unwrap()).to_vec()
        };
        sandbox
            .call(run, &mut |line| lines.push(line.to_owned()), &CancelToken::new().unwrap())
            .unwrap_or_else(|error| panic!("{error}: {lines:?}"))
    }

    fn check_as_judged(steps: &[&str], commands: &[&[&str]]) {
        if !Path::new("/usr/sbin/useradd").exists() {
            return kiln_testkit::cannot_test("the host has no useradd");
        }
        for_each_identity(|ground| {
            furnish(ground);
            // The host's programs need /lib64 and so on to be mounted on.
            let expected = judged(ground, commands);
            for step in steps {
                ground.step(step).unwrap();
            }
            let found: Vec<String> = FILES.map(|name| ground.read(&format!("etc/{name}"))).to_vec();
            assert_eq!(found, expected, "{steps:?} {:?}", ground.identity);
        });
    }

    #[test]
    fn useradd_writes_the_same() {
        check_as_judged(
            &[
                "group = \"shop\"\ngid = 901\nsystem = true",
                "user = \"shop\"\nuid = 902\ngroup = \"shop\"\ngroups = [\"adm\", \"users\"]\nhome = \"/var/lib/shop\"\n\
                 shell = \"/bin/sh\"\nsystem = true\ncomment = \"The shop\"",
            ],
            &[
                &["/usr/sbin/groupadd", "-r", "-g", "901", "shop"],
                &[
                    "/usr/sbin/useradd",
                    "-r",
                    "-u",
                    "902",
                    "-g",
                    "shop",
                    "-G",
                    "adm,users",
                    "-d",
                    "/var/lib/shop",
                    "-s",
                    "/bin/sh",
                    "-c",
                    "The shop",
                    "shop",
                ],
            ],
        );
        check_as_judged(
            &["user = \"ann\"\nshell = \"/bin/bash\"", "user = \"bob\"\nshell = \"/bin/sh\"", "group = \"friends\""],
            &[
                &["/usr/sbin/useradd", "-s", "/bin/bash", "-U", "ann"],
                &["/usr/sbin/useradd", "-s", "/bin/sh", "-U", "bob"],
                &["/usr/sbin/groupadd", "friends"],
            ],
        );
        check_as_judged(&["user = \"root\"\ngroups = [\"adm\"]"], &[&["/usr/sbin/usermod", "-a", "-G", "adm", "root"]]);
    }

    #[test]
    fn adduser_chooses_the_same() {
        if !Path::new("/usr/sbin/adduser").exists() {
            return kiln_testkit::cannot_test("the host has no adduser");
        }
        check_as_judged(
            &["user = \"shop\"\nsystem = true", "group = \"depot\"\nsystem = true", "user = \"agent\"\nsystem = true"],
            &[
                &["/usr/sbin/adduser", "--quiet", "--system", "--group", "shop"],
                &["/usr/sbin/addgroup", "--quiet", "--system", "depot"],
                &["/usr/sbin/adduser", "--quiet", "--system", "--group", "agent"],
            ],
        );
    }

    #[test]
    fn files_keep_their_owner_and_mode_and_homes_are_made() {
        for_each_identity(|ground| {
            furnish(ground);
            ground.step("user = \"ann\"").unwrap();
            let changes = ground.changes();
            let heads: Vec<&str> = changes.iter().map(|line| line.split(" \"").next().unwrap()).collect();
            let expected = [
                "etc 755 0:0 /",
                "etc/group 644 0:0",
                "etc/gshadow 640 0:42",
                "etc/passwd 644 0:0",
                "etc/shadow 640 0:42",
                "etc/subgid 644 0:0",
                "etc/subuid 644 0:0",
                "home 755 0:0 /",
                "home/ann 700 1000:1000 /",
                "home/ann/.config 755 1000:1000 /",
                "home/ann/.login 1000:1000 -> .profile",
                "home/ann/.profile 644 1000:1000",
            ];
            assert_eq!(heads, expected, "{:?}", ground.identity);
            assert_eq!(ground.read("home/ann/.profile"), "umask 022\n");
            ground.step("copy = \"kiln.toml\"\nto = \"/home/ann/\"\nowner = \"ann\"\ngroup = \"ann\"").unwrap();
            assert!(ground.changes().iter().any(|line| line.starts_with("home/ann/kiln.toml 644 1000:1000")));
        });
    }

    #[test]
    fn a_tree_with_little_in_it_is_enough() {
        for_each_identity(|ground| {
            ground.ids.users.insert("shop".to_owned(), 321);
            ground.step("user = \"shop\"\nsystem = true\nhome = \"/var/lib/shop\"").unwrap();
            let changes = ground.changes();
            assert!(changes.contains(&"var/lib/shop 755 321:101 /".to_owned()), "{changes:?}");
            assert!(ground.read("etc/passwd").ends_with("shop:!:321:101::/var/lib/shop:/usr/sbin/nologin\n"));
            ground.step("user = \"shop\"\nsystem = true\nhome = \"/var/lib/shop\"").unwrap();
            assert_eq!(ground.changes(), Vec::<String>::new());
            assert!(ground.step("user = \"shop\"\nshell = \"/bin/sh\"").is_err());
        });
    }

    #[test]
    fn ids_beyond_those_of_trees_own_no_files() {
        for_each_identity(|ground| {
            ground.step("user = \"far\"\nuid = 100000\nhome = \"/nonexistent\"\ngroup = \"users\"").unwrap();
            let error = ground.step("copy = \"kiln.toml\"\nto = \"/srv/\"\nowner = \"far\"").unwrap_err();
            assert_eq!(error, "the user `far` has the id 100000, and files have ids below 65536");
            let error = ground.step("user = \"away\"\nuid = 100001\ngroup = \"users\"").unwrap_err();
            assert_eq!(error, "/home/away cannot be made: files have ids below 65536");
        });
    }
}
