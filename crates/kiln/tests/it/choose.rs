//! Which packages a class gets, and what is said when there is no answer.

use kiln_testkit::Package;

use crate::fixture::{Shop, adding, error_of, package};

/// A class with these lines.
fn class(lines: &str) -> String {
    format!("\n[class.base]\ndistribution = \"trixie\"\n{lines}\n")
}

/// Locks a class; `names` must be in it (`nginx`, `nginx=1.26.3-3`) or must not (`!nginx`).
fn check(shop: &Shop, class: &str, names: &[&str]) {
    shop.lock();
    let packages = shop.packages(class);
    for name in names {
        match (name.strip_prefix('!'), name.split_once('=')) {
            (Some(name), _) => assert!(!packages.contains_key(name), "{name} in {packages:?}"),
            (None, Some((name, version))) => {
                assert_eq!(packages.get(name).map(|(version, _)| &**version), Some(version))
            }
            (None, None) => assert!(packages.contains_key(*name), "no {name} in {packages:?}"),
        }
    }
}

fn error(lines: &str) -> String {
    error_of(&Shop::new(&class(lines)).run("lock").code(2))
}

#[test]
fn the_essential_set_is_there_unasked() {
    check(&Shop::new(&class("")), "base", &["dpkg", "bash", "libc6", "mawk", "apt", "!nginx", "!tzdata"]);
}

#[test]
fn a_child_is_solved_on_its_parents_exact_packages() {
    let lines = "packages = [\"libssl3t64 (<< 3.5.2)\"]\n[class.web]\nfrom = \"base\"\npackages = [\"nginx\"]\n\
                 [class.deep]\nfrom = \"web\"\npackages = [\"ca-certificates\"]\n";
    let newer = package("libssl3t64").at_version("3.5.2-1");
    let shop = Shop::with(&class(lines), adding(newer.clone()));
    check(&shop, "deep", &["libssl3t64=3.5.1-1", "nginx", "ca-certificates"]);
    let own = |class: &str| {
        let list = shop.run("lock --list").success().stdout;
        let of_class = |line: &&str| line.split_whitespace().next() == Some(class);
        list.lines()
            .filter(of_class)
            .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let (base, web, deep) = (own("base"), own("web"), own("deep"));
    assert!(base.iter().all(|name| !web.contains(name)) && web.iter().all(|name| !deep.contains(name)));

    let picky = Package::new("picky", "1").depends("libssl3t64 (>= 3.5.2)");
    let lines = "packages = [\"libssl3t64 (<< 3.5.2)\"]\n[class.web]\nfrom = \"base\"\npackages = [\"picky\"]";
    let shop = Shop::with(&class(lines), |repository| adding(picky)(adding(newer)(repository)));
    insta::assert_snapshot!(error_of(&shop.run("lock").code(2)), @r#"
    error: solve class web: picky cannot be installed
      picky 1 (requested)  depends on libssl3t64 (>= 3.5.2)
        the parent has libssl3t64 3.5.1-1, which stays
      kiln.toml:16: packages = ["picky"]
    hint: remove the request for picky
    "#);
}

#[test]
fn exclusions_are_obeyed_and_inherited() {
    check(&Shop::new(&class("packages = [\"apt\"]")), "base", &["sqv", "!gpgv"]);
    check(&Shop::new(&class("packages = [\"apt\"]\nexclude = [\"sqv\"]")), "base", &["gpgv", "!sqv"]);
    let child = "exclude = [\"sqv\"]\n[class.web]\nfrom = \"base\"\npackages = [\"apt\"]";
    check(&Shop::new(&class(child)), "web", &["gpgv", "!sqv"]);
    insta::assert_snapshot!(error("packages = [\"nginx\"]\nexclude = [\"nginx-common\"]"), @r#"
    error: solve class base: nginx cannot be installed
      nginx 1.26.3-3 (requested)  depends on nginx-common (= 1.26.3-3)
        nginx-common is excluded
      kiln.toml:13: packages = ["nginx"]
    hint: remove the request for nginx
    "#);
}

#[test]
fn recommended_packages_come_when_asked_for() {
    let systemd = "packages = [\"systemd-sysv\"]";
    check(&Shop::new(&class(systemd)), "base", &["systemd", "!libpam-systemd", "!ca-certificates"]);
    let all = ["libpam-systemd", "libnss-systemd", "dbus", "ca-certificates"];
    check(&Shop::new(&class(&format!("{systemd}\nrecommends = true"))), "base", &all);
    let child = format!("recommends = true\n[class.web]\nfrom = \"base\"\n{systemd}");
    check(&Shop::new(&class(&child)), "web", &all);
    let not_child = format!("recommends = true\n[class.web]\nfrom = \"base\"\nrecommends = false\n{systemd}");
    check(&Shop::new(&class(&not_child)), "web", &["ca-certificates", "!libpam-systemd"]);
}

#[test]
fn versions_are_chosen_as_asked() {
    let newer = package("iproute2").at_version("6.16.0-1");
    let check = |request: &str, version: &str| {
        let shop = Shop::with(&class(&format!("packages = [\"{request}\"]")), adding(newer.clone()));
        check(&shop, "base", &[&format!("iproute2={version}")]);
    };
    check("iproute2", "6.16.0-1");
    check("iproute2=6.15.0-1", "6.15.0-1");
    check("iproute2 (<< 6.16)", "6.15.0-1");
    check("iproute2 (>= 6.15.0-1)", "6.16.0-1");
    check("iproute2 (>> 6.15.0-1)", "6.16.0-1");
    check("iproute2 (<= 6.15.0-1)", "6.15.0-1");
}

#[test]
fn versions_that_nobody_has() {
    insta::assert_snapshot!(error("packages = [\"openssl\", \"nginx (>= 1.30)\"]"), @r#"
    error: solve class base: no version of nginx fits nginx (>= 1.30)
      there is 1.26.3-3 (trixie/main)
      kiln.toml:13: packages = ["openssl", "nginx (>= 1.30)"]
    hint: relax the version, or add a repository that has it
    "#);
    insta::assert_snapshot!(error("packages = [\"nginx=1.26.3-2\"]"), @r#"
    error: solve class base: no version of nginx fits nginx (= 1.26.3-2)
      there is 1.26.3-3 (trixie/main)
      kiln.toml:13: packages = ["nginx=1.26.3-2"]
    hint: relax the version, or add a repository that has it
    "#);
}

#[test]
fn provided_names_may_be_asked_for() {
    check(&Shop::new(&class("packages = [\"dbus-system-bus\", \"watch\"]")), "base", &["dbus", "procps"]);
    insta::assert_snapshot!(error("packages = [\"linux-initramfs-tool\"]"), @r#"
    error: solve class base: linux-initramfs-tool is not a package; several packages provide it
      dracut
      initramfs-tools
      kiln.toml:13: packages = ["linux-initramfs-tool"]
    hint: request one of them
    "#);
}

#[test]
fn names_that_nobody_knows() {
    insta::assert_snapshot!(error("packages = [\"openssl\", \"ngnix\"]"), @r#"
    error: solve class base: there is no package ngnix
      kiln.toml:13: packages = ["openssl", "ngnix"]
    hint: did you mean nginx?
    "#);
    insta::assert_snapshot!(error("packages = [\"no-such-thing-at-all\"]"), @r#"
    error: solve class base: there is no package no-such-thing-at-all
      kiln.toml:13: packages = ["no-such-thing-at-all"]
    hint: add the component or repository that has it
    "#);
    insta::assert_snapshot!(error("kernel = \"linux-image-cloud-amd46\""), @r#"
    error: solve class base: there is no package linux-image-cloud-amd46
      kiln.toml:13: kernel = "linux-image-cloud-amd46"
    hint: did you mean linux-image-cloud-amd64?
    "#);
}

#[test]
fn packages_that_exclude_each_other() {
    insta::assert_snapshot!(error("packages = [\"dracut\",\n\"nginx\", \"initramfs-tools\"]"), @r#"
    error: solve class base: dracut and initramfs-tools cannot be installed together
      dracut 106-6 (requested)  conflicts with initramfs-tools
      initramfs-tools 0.148.3 (requested)
      kiln.toml:13: packages = ["dracut",
      kiln.toml:14: "nginx", "initramfs-tools"]
    hint: remove one of the two requests
    "#);
    insta::assert_snapshot!(
        error("packages = [\"systemd-sysv\"]\n[class.web]\nfrom = \"base\"\npackages = [\"sysvinit-core\"]"), @r#"
    error: solve class web: sysvinit-core cannot be installed beside systemd-sysv of the parent
      systemd-sysv 257.7-1 (in the parent)  conflicts with sysvinit-core
      sysvinit-core 3.14-4 (requested)
      kiln.toml:16: packages = ["sysvinit-core"]
    hint: remove the request for sysvinit-core
    "#
    );
}

#[test]
fn a_dependency_that_is_not_in_the_archive() {
    let broken = Package::new("broken", "1").depends("libc6, nowhere (>= 2) | elsewhere");
    let shop = Shop::with(&class("packages = [\"broken\"]"), adding(broken));
    insta::assert_snapshot!(error_of(&shop.run("lock").code(2)), @r#"
    error: solve class base: broken cannot be installed
      broken 1 (requested)  depends on nowhere (>= 2) | elsewhere
        there is no package nowhere
        there is no package elsewhere
      kiln.toml:13: packages = ["broken"]
    hint: add the repository that has nowhere (>= 2) | elsewhere, or remove the request
    "#);
}

#[test]
fn the_kernel_is_asked_for_by_its_own_key() {
    let shop = Shop::new(&class("packages = [\"initramfs-tools\"]\nkernel = \"linux-image-cloud-amd64\""));
    check(&shop, "base", &["linux-image-cloud-amd64", "linux-image-6.12.41+deb13-cloud-amd64"]);
}

#[test]
fn tools_come_on_top_and_apart() {
    let lines = "packages = [\"openssl\"]\n[[class.base.step]]\nshell = \"true\"\ntools = [\"nginx\"]\n\
                 [[class.base.step]]\nshell = \"true\"\ntools = [\"nginx\"]\n\
                 [[class.base.step]]\nshell = \"true\"\ntools = [\"procps\"]\n";
    let shop = Shop::served(&class(lines));
    check(&shop, "base", &["openssl", "!nginx", "!procps"]);
    let text = shop.lock_text();
    assert_eq!(text.matches("[[class.base.tools]]").count(), 2, "equal sets of tools are locked once");
    let tools = text.split("[[class.base.tools]]").nth(1).unwrap();
    assert!(tools.contains("name = \"nginx\"") && !tools.contains("name = \"libssl3t64\""), "{tools}");
    let _ = shop.run("lock --check").success();
    let _ = shop.run("fetch").success();
    assert!(shop.asked().iter().any(|path| path.ends_with("nginx_1.26.3-3_amd64.deb")), "tools are fetched");

    let lines = "[[class.base.step]]\nshell = \"true\"\ntools = [\"no-such-tool\"]\n";
    insta::assert_snapshot!(error(lines), @r#"
    error: solve the tools of class base: there is no package no-such-tool
      kiln.toml:15: tools = ["no-such-tool"]
    hint: add the component or repository that has it
    "#);
}

#[test]
fn two_distributions_and_a_toolbox_of_its_own() {
    let lines = "packages = [\"nginx\"]\n[toolbox]\ndistribution = \"trixie\"\n";
    let shop = Shop::new(&class(lines));
    check(&shop, "base", &["nginx"]);
    assert!(shop.run("lock --list").success().stdout.contains("toolbox.amd64"));
}

#[test]
fn every_class_of_a_spec_is_locked_alike_whatever_its_place() {
    let one = "\n[class.a]\ndistribution = \"trixie\"\npackages = [\"nginx\"]\n";
    let two = "\n[class.b]\nfrom = \"a\"\npackages = [\"openssl\"]\n";
    let shop = Shop::new(&format!("{one}{two}"));
    let first = shop.lock();
    fs_err::remove_file(shop.path("kiln.lock")).unwrap();
    shop.spec(&format!("{two}{one}"));
    assert_eq!(shop.lock(), first);
}
