//! `kiln init`: what it writes locks, and it never overwrites.

use camino::Utf8Path;
use kiln_testkit::{Home, Repository, damage};

use crate::fixture::{checked, files_below, kiln, says};

/// Writes a template and locks it from the testkit's repository.
fn check_template(template: &str, files: &[&str], packages: &[&str]) {
    let home = Home::new();
    let mirror = Repository::debian(home.path().join("mirror")).write();
    let written = checked(kiln(&home, &format!("init -C web-shop --template {template}")).run()).success();
    says(&written, &["wrote factory `web-shop` in web-shop: kiln.toml", "next: kiln lock -C web-shop"]);
    let directory = home.path().join("web-shop");
    assert_eq!(paths(&directory), files);

    // The one thing that a person adds: this is not the host's Debian.
    let debian = "suite = \"trixie\"";
    let ours = format!("{debian}\nmirror = \"{}\"\nkeyring = \"archive.gpg\"", mirror.uri());
    damage::replace_text(&directory.join("kiln.toml"), debian, &ours);
    fs_err::copy(mirror.keyring(), directory.join("archive.gpg")).unwrap();
    let _ = checked(kiln(&home, "-C web-shop lock").run()).success();
    let _ = checked(kiln(&home, "-C web-shop lock --check").run()).success();
    let list = kiln(&home, "-C web-shop lock --list").run().success().stdout;
    for package in packages {
        let is_it = |line: &str| line.split_whitespace().nth(1) == Some(package);
        assert!(list.lines().any(is_it), "{package} is not in\n{list}");
    }
}

/// The paths of a factory's files.
fn paths(factory: &Utf8Path) -> Vec<String> {
    let relative = |path: camino::Utf8PathBuf| path.strip_prefix(factory).unwrap().to_string();
    files_below(factory).into_iter().map(relative).collect()
}

#[test]
fn the_web_template_locks() {
    let files = ["checks/web.yaml", "kiln.toml", "nginx.conf", "site/healthz.txt", "site/index.html"];
    check_template("web", &files, &["nginx-light", "systemd-sysv", "linux-image-cloud-amd64", "qemu-system-x86"]);
}

#[test]
fn the_minimal_template_locks() {
    check_template("minimal", &["kiln.toml"], &["systemd-sysv", "udev", "linux-image-cloud-amd64", "haproxy"]);
}

#[test]
fn nothing_is_overwritten_and_then_nothing_is_written() {
    for existing in ["kiln.toml", "site/index.html"] {
        let home = Home::new();
        home.write(&format!("shop/{existing}"), "mine\n");
        let output = checked(kiln(&home, "-C shop init").run()).code(2);
        says(&output, &[&format!("error: shop/{existing} is already there"), "hint: kiln init never overwrites"]);
        assert_eq!(paths(&home.path().join("shop")), [existing]);
        assert_eq!(fs_err::read_to_string(home.path().join("shop").join(existing)).unwrap(), "mine\n");
    }
}

#[test]
fn a_dangling_link_is_not_followed() {
    let home = Home::new();
    fs_err::create_dir(home.path().join("shop")).unwrap();
    fs_err::os::unix::fs::symlink("../elsewhere", home.path().join("shop/nginx.conf")).unwrap();
    says(&checked(kiln(&home, "-C shop init").run()).code(2), &["error: shop/nginx.conf is already there"]);
    assert!(!home.path().join("elsewhere").exists());
}

#[test]
fn a_name_is_taken_from_the_directory_or_given() {
    let name_of = |arguments: &str| {
        let home = Home::new();
        let _ = checked(kiln(&home, arguments).run()).success();
        let spec = fs_err::read_to_string(home.path().join("My_Shop.2").join("kiln.toml")).unwrap();
        spec.lines().find(|line| line.starts_with("name = ")).unwrap().to_owned()
    };
    assert_eq!(name_of("-C My_Shop.2 init"), "name = \"my-shop-2\"");
    assert_eq!(name_of("-C My_Shop.2 init --template minimal --name store"), "name = \"store\"");
}

#[test]
fn bad_names_are_refused() {
    let check = |arguments: &str, name: &str| {
        let home = Home::new();
        let output = checked(kiln(&home, arguments).run()).code(2);
        says(&output, &[&format!("error: `{name}` cannot be a name"), "hint: a name is", "--name gives"]);
        assert!(!home.path().join("shop").exists() && !home.path().join("9").exists());
    };
    check("-C shop init --name Shop", "Shop");
    check("-C shop init --name my_shop", "my_shop");
    check("-C shop init --name=-x", "-x");
    check(&format!("-C shop init --name {}", "x".repeat(64)), &"x".repeat(64));
    check("-C 9 init", "9");
    check("-C shop init --name é", "é");
}

#[test]
fn a_directory_that_cannot_be_written_is_the_environment() {
    let home = Home::new();
    home.write("shop", "a file");
    let output = checked(kiln(&home, "-C shop init").run()).code(3);
    says(&output, &["create directory `shop`", "hint: is the directory yours to write?"]);
}
