//! The same lock gives the same tree, byte for byte: from empty stores, whoever builds, where, when and how.

use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;
use kiln_testkit::{Home, Kiln, Package, Repository};
use serde_json::Value;

use crate::fixture::{BINARY, FACTORY, checked, kiln};
use crate::living::{self, Told};
use crate::real;

/// The ids of `nobody` and `nogroup` on Debian.
const NOBODY: u32 = 65534;

/// What a build is done with.
#[derive(Debug, Clone, Copy, Default)]
struct Circumstances {
    /// Another host name, time zone, locale, terminal and umask, and one processor.
    elsewhere: bool,
    /// An ordinary user with subordinate ids.
    as_user: bool,
}

/// A script that writes down what it sees, in all the places where a build may leave it.
const CURIOUS: &str = "#!/bin/sh -e
[ \"$1\" = configure ]
see() { date; echo $$; hostname; id -u; umask; ls -f /usr/bin; env; }
mkdir -p /var/log/curious /etc/ssh /var/cache/ldconfig
see >/var/log/curious/log
see >/var/log/alternatives.log
see >/etc/machine-id
see >/etc/ssh/ssh_host_rsa_key
see >/var/cache/ldconfig/aux-cache
see >/tmp/curious
env | sort >/etc/curious-environment
hostname >/etc/curious-hostname
umask >/etc/curious-umask
ls -l /proc/self/fd/0 | sed 's/.*->//' >/etc/curious-input
useradd -rMU curious
mkdir /var/lib/curious
chown curious:curious /var/lib/curious
touch /var/lib/curious/now
";

const CLASSES: &str = "
[class.base]
distribution = \"trixie\"
packages = [\"curious\"]

[class.web]
from = \"base\"
packages = [\"nginx\"]
[[class.web.step]]
copy = \"site\"
to = \"/srv\"
[[class.web.step]]
shell = \"env | sort >/etc/step; umask >>/etc/step; ls -l /proc/self/fd/0 | sed 's/.*->//' >>/etc/step; mkdir /made\"
";

fn curious(repository: Repository) -> Repository {
    let curious: Package = Package::new("curious", "1").depends("dpkg").script("postinst", CURIOUS);
    living::with_life(repository).change("trixie", |suite| suite.package(curious))
}

/// The factory and its lock in another home, which has nothing else yet.
fn copy(from: &Utf8Path) -> Home {
    let home = Home::new();
    copy_below(from, &home.path().join(FACTORY));
    home
}

fn copy_below(from: &Utf8Path, to: &Utf8Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_below(&path, &target) } else { assert!(fs::copy(&path, &target).is_ok()) }
    }
}

/// `kiln` with these arguments under these circumstances.
fn run(home: &Home, circumstances: Circumstances, arguments: &str) -> Kiln {
    let Circumstances { elsewhere, as_user } = circumstances;
    let factory = home.path().join(FACTORY);
    let mut script = "set -e\n".to_owned();
    let mut binary = Utf8PathBuf::from(BINARY);
    if elsewhere {
        script += "hostname elsewhere.example\numask 077\n";
    }
    if as_user {
        // A user whom newuidmap finds, with ids that nobody has.
        let ids = home.write("ids", "nobody:1950000000:65536\n");
        binary = home.path().join("kiln");
        fs::copy(BINARY, &binary).unwrap();
        give_away(home.path());
        script += &format!("for file in /etc/subuid /etc/subgid; do mount --bind {ids} $file; done\n");
    }
    script += match (elsewhere, as_user) {
        (true, true) => "exec taskset -c 0 setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"",
        (true, false) => "exec taskset -c 0 \"$@\"",
        (false, true) => "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"",
        (false, false) => "exec \"$@\"",
    };
    let namespaces = ["--mount", "--uts", "/bin/sh", "-c", &script, "sh", binary.as_str(), "-C", factory.as_str()];
    let run = match rustix::process::geteuid().is_root() {
        true => Kiln::new("unshare", home).args(namespaces),
        false => Kiln::new("taskset", home).args(["-c", "0", BINARY, "-C", factory.as_str()]),
    };
    let run = run.args(arguments.split(' '));
    match elsewhere {
        true => run.env("LC_ALL", "tr_TR.UTF-8").env("TZ", "Pacific/Kiritimati").env("SOURCE_DATE_EPOCH", "1"),
        false => run,
    }
}

fn give_away(path: &Utf8Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.read_dir_utf8().unwrap().for_each(|entry| give_away(entry.unwrap().path()));
    }
}

/// Digest of each class's tree.
fn trees(told: &Told) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told.result["classes"].as_array().unwrap().iter().map(|row| (text(&row["class"]), text(&row["tree"]))).collect()
}

const BUILD: &str = "build --tree-only --json --no-locked";

#[test]
fn neither_place_nor_time_nor_user_matter() {
    let Some(shop) = living::shop_with(CLASSES, curious) else { return };
    open(shop.home.path());
    let factory = shop.path("");
    let (home, told) = built(&factory, Circumstances::default());
    for circumstances in others() {
        let (other, other_told) = built(&factory, circumstances);
        check_equal((&home, &told), (&other, &other_told));
    }
}

/// Circumstances that differ from the usual, as far as this machine and user allow.
fn others() -> Vec<Circumstances> {
    let elsewhere = Circumstances { elsewhere: true, as_user: false };
    if !rustix::process::geteuid().is_root() {
        return vec![elsewhere];
    }
    if !Utf8Path::new("/usr/bin/newuidmap").exists() {
        kiln_testkit::cannot_test("newuidmap is needed to build as an ordinary user");
        return vec![elsewhere];
    }
    vec![elsewhere, Circumstances { elsewhere: true, as_user: true }]
}

/// A build of the factory in a home of its own.
#[track_caller]
fn built(factory: &Utf8Path, circumstances: Circumstances) -> (Home, Told) {
    let home = copy(factory);
    let told = Told::of(checked(run(&home, circumstances, BUILD).run()), 0);
    (home, told)
}

#[track_caller]
fn check_equal((home, told): (&Home, &Told), (other, other_told): (&Home, &Told)) {
    if trees(told) != trees(other_told) {
        let classes = trees(told).into_iter().map(|(class, _)| difference(home, other, &class));
        panic!("the trees differ:\n{}", classes.collect::<String>());
    }
}

/// A class whose packages are installed while every program believes what libfaketime is told.
const CLASSES_OF_ANOTHER_TIME: &str = "
[class.base]
distribution = \"trixie\"
packages = [\"libfaketime\", \"passwd\"]
[[class.base.step]]
shell = \"echo '@YEAR-05-06 07:08:09' >/etc/faketimerc; echo '/usr/$LIB/faketime/libfaketime.so.1' >/etc/ld.so.preload\"

[class.web]
from = \"base\"
packages = [
    \"systemd-sysv\", \"openssh-server\", \"ca-certificates\", \"nginx-light\", \"cron\", \"rsyslog\", \"python3-minimal\",
    \"ssl-cert\", \"locales\",
]
[[class.web.step]]
shell = \"date; [ $(date +%Y) = YEAR ]; rm /etc/faketimerc /etc/ld.so.preload\"
";

/// A factory in a home of its own, that is to be built in a year.
fn in_year(year: &str) -> Home {
    let home = Home::new();
    let head = "[factory]\nname = \"shop\"\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\n\
                architecture = \"amd64\"\n";
    home.write(&format!("{FACTORY}/kiln.toml"), format!("{head}{}", CLASSES_OF_ANOTHER_TIME.replace("YEAR", year)));
    home
}

#[test]
fn real_packages_know_neither_place_nor_time_nor_user() {
    // Before the newest package, and long after it.
    let years = ["2019", "2037"].map(in_year);
    let _ = checked(real::with_network(kiln(&years[0], "lock").directory(FACTORY)).run()).success();
    fs::copy(years[0].path().join("shop/kiln.lock"), years[1].path().join("shop/kiln.lock")).unwrap();
    let build = |home: &Home, circumstances| {
        let run = real::with_network(run(home, circumstances, BUILD));
        Told::of(checked(run.run()), 0)
    };
    let early = build(&years[0], Circumstances::default());
    let elsewhere = others().pop().unwrap_or_default();
    let late = build(&years[1], elsewhere);
    assert!(!early.tree("web").is_empty() && !late.tree("web").is_empty());
    // libfaketime moves what stat tells as well, and so the times of what is copied with its times.
    let [early, late] =
        [&years[0], &years[1]].map(|home| list(home, "web").iter().map(File::without_time).collect::<Vec<_>>());
    assert_eq!(compare(&early, &late), "");
}

/// Others may look for the mirror in it.
fn open(path: &Utf8Path) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What differs between the trees of two homes.
fn difference(first: &Home, second: &Home, class: &str) -> String {
    compare(&list(first, class), &list(second, class))
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Path, kind, mode, owners, target, digest of the content, and the content itself if it is short.
    line: String,
    time: u64,
}

impl File {
    fn without_time(&self) -> Self {
        Self { time: 0, ..self.clone() }
    }
}

/// Every file of a class's tree that is in a home.
pub(crate) fn list(home: &Home, class: &str) -> Vec<File> {
    let tar = home.path().join(format!("{class}.tar"));
    let run = kiln(home, &format!("export {class} --format tar --output {tar}")).directory(FACTORY);
    let _ = checked(run.run()).success();
    let mut archive = tar::Archive::new(fs::File::open(&tar).unwrap());
    let files = archive.entries().unwrap().map(|entry| describe(entry.unwrap())).collect();
    fs::remove_file(tar).unwrap();
    files
}

/// Files that are so in only one of the two.
pub(crate) fn compare(first: &[File], second: &[File]) -> String {
    let only = |these: &[File], those: &[File], sign: char| {
        let files = these.iter().filter(|file| !those.contains(file));
        files.map(|file| format!("{sign} {} {}\n", file.line, file.time)).collect::<String>()
    };
    only(first, second, '-') + &only(second, first, '+')
}

fn describe(mut entry: tar::Entry<'_, impl Read>) -> File {
    let header = entry.header().clone();
    let path = entry.path().unwrap().display().to_string();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let digest = Sha256::of(&content).to_string();
    let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
    let (kind, link) = (header.entry_type(), header.link_name_bytes());
    let link = link.map(|link| String::from_utf8_lossy(&link).into_owned()).unwrap_or_default();
    let text = if content.len() < 2000 { String::from_utf8_lossy(&content) } else { "".into() };
    let line = format!("{path} {kind:?} {mode:o} {uid}:{gid} {link} {digest:.12} {text:?}");
    File { line, time: header.mtime().unwrap() }
}
