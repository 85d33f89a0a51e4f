//! The same spec and the same indexes give the same lock, byte for byte, whoever asks, where and how.

use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_testkit::web::Web;
use kiln_testkit::{Home, Kiln, Package};

use crate::fixture::{BINARY, Shop, checked, kiln, write_deb};

/// The ids of `nobody` and `nogroup` on Debian.
const NOBODY: u32 = 65534;

const SPEC: &str = "
[class.base]
distribution = \"trixie\"
packages = [\"systemd-sysv\", \"udev\", \"openssh-server\", \"ca-certificates\", \"./shop_1_amd64.deb\"]
kernel = \"linux-image-cloud-amd64\"
recommends = true

[class.web]
from = \"base\"
packages = [\"nginx-light\", \"nginx (>= 1.26)\"]
[[class.web.step]]
shell = \"true\"
tools = [\"postgresql-common\"]

[class.db]
from = \"base\"
recommends = false
packages = [\"haproxy\"]
";

/// A factory with some of everything.
fn shop() -> Shop {
    let shop = Shop::new("");
    write_deb(&shop.path(""), &Package::new("shop", "1").depends("procps"));
    shop.spec(SPEC);
    shop
}

/// The same factory in another home, that has nothing else yet.
fn copy(shop: &Shop, to: &Home) -> Utf8PathBuf {
    let factory = to.path().join("elsewhere/shop");
    fs_err::create_dir_all(&factory).unwrap();
    for entry in shop.path("").read_dir_utf8().unwrap() {
        let from = entry.unwrap().into_path();
        if from.file_name() != Some("kiln.lock") {
            fs_err::copy(&from, factory.join(from.file_name().unwrap())).unwrap();
        }
    }
    factory
}

fn lock_of(factory: &Utf8Path) -> Vec<u8> {
    fs_err::read(factory.join("kiln.lock")).unwrap()
}

/// A shell that sets what only a process can set about itself, then becomes `kiln`.
fn shell(home: &Home, script: &str, arguments: &[&str]) -> Kiln {
    Kiln::new("/bin/sh", home).args(["-c", script, "sh"]).args(arguments.iter().copied())
}

#[test]
fn the_order_in_which_a_mirror_answers_does_not_matter() {
    let shop = shop();
    let first = shop.lock();
    for slow in ["trixie", "trixie-updates", "trixie-security"] {
        let web = Web::serve(shop.mirror().root());
        let delay = kiln_testkit::web::Fault::Delay(std::time::Duration::from_millis(150));
        web.fault(&format!("dists/{slow}/InRelease"), delay);
        let home = Home::new();
        let factory = copy(&shop, &home);
        kiln_testkit::damage::replace_text(&factory.join("kiln.toml"), shop.uri(), &web.url());
        let _ = checked(kiln(&home, &format!("-C {factory} lock")).run()).success();
        assert_eq!(lock_of(&factory), first.as_bytes(), "{slow} came last");
    }
}

#[test]
fn neither_home_nor_locale_nor_time_zone_nor_umask_nor_directory_matter() {
    let shop = shop();
    let first = shop.lock();
    let home = Home::new();
    let factory = copy(&shop, &home);
    let script = "umask 077; cd /; exec taskset -c 0 \"$@\"";
    let run = shell(&home, script, &[BINARY, "-C", factory.as_str(), "lock"])
        .env("LANG", "tr_TR.UTF-8")
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("TZ", "Pacific/Kiritimati")
        .env("COLUMNS", "20")
        .env("CLICOLOR_FORCE", "1")
        .env("SOURCE_DATE_EPOCH", "1");
    let _ = checked(run.run()).success();
    assert_eq!(lock_of(&factory), first.as_bytes());
}

#[test]
fn the_user_does_not_matter() {
    let shop = shop();
    let first = shop.lock();
    let home = Home::new();
    let factory = copy(&shop, &home);
    let run = if rustix::process::geteuid().is_root() {
        as_nobody(&shop, &home, &factory)
    } else {
        kiln(&home, &format!("-C {factory} lock"))
    };
    let _ = checked(run.run()).success();
    assert_eq!(lock_of(&factory), first.as_bytes());
}

/// The run of somebody who owns a home and nothing else, and may read the mirror.
fn as_nobody(shop: &Shop, home: &Home, factory: &Utf8Path) -> Kiln {
    let open = |path: &Utf8Path| fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    open(shop.home.path());
    open(home.path());
    // The binary may lie where only root can read.
    let binary = home.path().join("kiln");
    fs_err::copy(BINARY, &binary).unwrap();
    give_away(home.path());
    let ids = format!("--reuid={NOBODY} --regid={NOBODY} --clear-groups");
    let script = format!("exec setpriv {ids} \"$@\"");
    shell(home, &script, &[binary.as_str(), "-C", factory.as_str(), "lock"])
}

fn give_away(path: &Utf8Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        path.read_dir_utf8().unwrap().for_each(|entry| give_away(entry.unwrap().path()));
    }
}

#[test]
fn a_lock_is_made_again_from_nothing() {
    let shop = shop();
    let first = shop.lock();
    fs_err::remove_file(shop.path("kiln.lock")).unwrap();
    assert_eq!(shop.lock(), first, "from a full store");
    let _ = shop.run("lock --update").success();
    assert_eq!(shop.lock_text(), first, "with itself as what was locked");
    fs_err::remove_dir_all(shop.home.cache()).unwrap();
    let _ = shop.run("lock --update").success();
    assert_eq!(shop.lock_text(), first, "with itself, from an empty store");
}
