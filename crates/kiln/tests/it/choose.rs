//! Which packages a class gets, and what is said when there is no answer.

use kiln_testkit::Package;

use crate::fixture::{Shop, adding, error_of, package};

/// A class with these lines.
fn class(lines: &str) -> String {
    format!("\n[class.base]\ndistribution = \"trixie\"\n{lines}\n")
}

/// Locks a class of this spec; `names` must be in it (`nginx`, `nginx=1.26.3-3`) or must not (`!nginx`).
#[track_caller]
fn check(shop: &Shop, spec: &str, class: &str, names: &[&str]) {
    shop.spec(spec);
    shop.unlock();
    shop.lock();
    let packages = shop.packages(class);
    for name in names {
        match (name.strip_prefix('!'), name.split_once('=')) {
            (Some(name), _) => assert!(!packages.contains_key(name), "{name} in {packages:?}"),
            (None, Some((name, version))) => {
                assert_eq!(packages.get(name).map(|(version, _)| &**version), Some(version));
            }
            (None, None) => assert!(packages.contains_key(*name), "no {name} in {packages:?}"),
        }
    }
}

/// What is said of a class that has no answer.
fn error(shop: &Shop, spec: &str) -> String {
    shop.spec(spec);
    shop.unlock();
    error_of(&shop.run("lock").code(2))
}

#[test]
fn the_essential_set_is_there_unasked() {
    check(&Shop::new(""), &class(""), "base", &["dpkg", "bash", "libc6", "mawk", "apt", "!nginx", "!tzdata"]);
}

#[test]
fn a_child_is_solved_on_its_parents_exact_packages() {
    let lines = "packages = [\"libssl3t64 (<< 3.5.2)\"]\n[class.web]\nfrom = \"base\"\npackages = [\"nginx\"]\n\
                 [class.deep]\nfrom = \"web\"\npackages = [\"ca-certificates\"]\n";
    let newer = package("libssl3t64").at_version("3.5.2-1");
    let picky = Package::new("picky", "1").depends("libssl3t64 (>= 3.5.2)");
    let shop = Shop::with("", |repository| adding(picky)(adding(newer)(repository)));
    check(&shop, &class(lines), "deep", &["libssl3t64=3.5.1-1", "nginx", "ca-certificates"]);
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

    let lines = "packages = [\"libssl3t64 (<< 3.5.2)\"]\n[class.web]\nfrom = \"base\"\npackages = [\"picky\"]";
    insta::assert_snapshot!(error(&shop, &class(lines)), @r#"
    error: solve class web: picky cannot be installed
      picky 1 (requested)  depends on libssl3t64 (>= 3.5.2)
        the parent has libssl3t64 3.5.1-1, which stays
      kiln.toml:16: packages = ["picky"]
    hint: remove the request for picky
    "#);
}

#[test]
fn exclusions_are_obeyed_and_inherited() {
    let shop = Shop::new("");
    check(&shop, &class("packages = [\"apt\"]"), "base", &["sqv", "!gpgv"]);
    check(&shop, &class("packages = [\"apt\"]\nexclude = [\"sqv\"]"), "base", &["gpgv", "!sqv"]);
    let child = "exclude = [\"sqv\"]\n[class.web]\nfrom = \"base\"\npackages = [\"apt\"]";
    check(&shop, &class(child), "web", &["gpgv", "!sqv"]);
    insta::assert_snapshot!(error(&shop, &class("packages = [\"nginx\"]\nexclude = [\"nginx-common\"]")), @r#"
    error: solve class base: nginx cannot be installed
      nginx 1.26.3-3 (requested)  depends on nginx-common (= 1.26.3-3)
        nginx-common is excluded
      kiln.toml:13: packages = ["nginx"]
    hint: remove the request for nginx
    "#);
}

#[test]
fn recommended_packages_come_when_asked_for() {
    let shop = Shop::new("");
    let systemd = "packages = [\"systemd-sysv\"]";
    check(&shop, &class(systemd), "base", &["systemd", "!libpam-systemd", "!ca-certificates"]);
    let all = ["libpam-systemd", "libnss-systemd", "dbus", "ca-certificates"];
    check(&shop, &class(&format!("{systemd}\nrecommends = true")), "base", &all);
    let child = format!("recommends = true\n[class.web]\nfrom = \"base\"\n{systemd}");
    check(&shop, &class(&child), "web", &all);
    let not_child = format!("recommends = true\n[class.web]\nfrom = \"base\"\nrecommends = false\n{systemd}");
    check(&shop, &class(&not_child), "web", &["ca-certificates", "!libpam-systemd"]);
}

#[test]
fn versions_are_chosen_as_asked() {
    let newer = package("iproute2").at_version("6.16.0-1");
    let shop = Shop::with("", adding(newer));
    let check = |request: &str, version: &str| {
        check(&shop, &class(&format!("packages = [\"{request}\"]")), "base", &[&format!("iproute2={version}")]);
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
    let shop = Shop::new("");
    insta::assert_snapshot!(error(&shop, &class("packages = [\"openssl\", \"nginx (>= 1.30)\"]")), @r#"
    error: solve class base: no version of nginx fits nginx (>= 1.30)
      there is 1.26.3-3 (trixie/main)
      kiln.toml:13: packages = ["openssl", "nginx (>= 1.30)"]
    hint: relax the version, or add a repository that has it
    "#);
    insta::assert_snapshot!(error(&shop, &class("packages = [\"nginx=1.26.3-2\"]")), @r#"
    error: solve class base: no version of nginx fits nginx (= 1.26.3-2)
      there is 1.26.3-3 (trixie/main)
      kiln.toml:13: packages = ["nginx=1.26.3-2"]
    hint: relax the version, or add a repository that has it
    "#);
}

#[test]
fn provided_names_may_be_asked_for() {
    let shop = Shop::new("");
    check(&shop, &class("packages = [\"dbus-system-bus\", \"watch\"]"), "base", &["dbus", "procps"]);
    insta::assert_snapshot!(error(&shop, &class("packages = [\"linux-initramfs-tool\"]")), @r#"
    error: solve class base: linux-initramfs-tool is not a package; several packages provide it
      dracut
      initramfs-tools
      kiln.toml:13: packages = ["linux-initramfs-tool"]
    hint: request one of them
    "#);
}

#[test]
fn names_that_nobody_knows() {
    let shop = Shop::new("");
    insta::assert_snapshot!(error(&shop, &class("packages = [\"openssl\", \"ngnix\"]")), @r#"
    error: solve class base: there is no package ngnix
      kiln.toml:13: packages = ["openssl", "ngnix"]
    hint: did you mean nginx?
    "#);
    insta::assert_snapshot!(error(&shop, &class("packages = [\"no-such-thing-at-all\"]")), @r#"
    error: solve class base: there is no package no-such-thing-at-all
      kiln.toml:13: packages = ["no-such-thing-at-all"]
    hint: add the component or repository that has it
    "#);
    insta::assert_snapshot!(error(&shop, &class("kernel = \"linux-image-cloud-amd46\"")), @r#"
    error: solve class base: there is no package linux-image-cloud-amd46
      kiln.toml:13: kernel = "linux-image-cloud-amd46"
    hint: did you mean linux-image-cloud-amd64?
    "#);
}

#[test]
fn packages_that_exclude_each_other() {
    let shop = Shop::new("");
    insta::assert_snapshot!(error(&shop, &class("packages = [\"dracut\",\n\"nginx\", \"initramfs-tools\"]")), @r#"
    error: solve class base: dracut and initramfs-tools cannot be installed together
      dracut 106-6 (requested)  conflicts with initramfs-tools
      initramfs-tools 0.148.3 (requested)
      kiln.toml:13: packages = ["dracut",
      kiln.toml:14: "nginx", "initramfs-tools"]
    hint: remove one of the two requests
    "#);
    let on_one_line = error(&shop, &class("packages = [\"dracut\", \"initramfs-tools\"]"));
    assert_eq!(on_one_line.matches("kiln.toml:13").count(), 1, "{on_one_line}");
    insta::assert_snapshot!(
        error(&shop, &class("packages = [\"systemd-sysv\"]\n[class.web]\nfrom = \"base\"\npackages = [\"sysvinit-core\"]")), @r#"
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
    let shop = Shop::with("", adding(broken));
    insta::assert_snapshot!(error(&shop, &class("packages = [\"broken\"]")), @r#"
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
    let spec = class("packages = [\"initramfs-tools\"]\nkernel = \"linux-image-cloud-amd64\"");
    check(&Shop::new(""), &spec, "base", &["linux-image-cloud-amd64", "linux-image-6.12.41+deb13-cloud-amd64"]);
}

#[test]
fn tools_come_on_top_and_apart() {
    let lines = "packages = [\"openssl\"]\n[[class.base.step]]\nshell = \"true\"\ntools = [\"nginx\"]\n\
                 [[class.base.step]]\nshell = \"true\"\ntools = [\"nginx\"]\n\
                 [[class.base.step]]\nshell = \"true\"\ntools = [\"procps\"]\n";
    let shop = Shop::served("");
    check(&shop, &class(lines), "base", &["openssl", "!nginx", "!procps"]);
    let text = shop.lock_text();
    assert_eq!(text.matches("[[class.base.tools]]").count(), 2, "equal sets of tools are locked once");
    let tools = text.split("[[class.base.tools]]").nth(1).unwrap();
    assert!(tools.contains("name = \"nginx\"") && !tools.contains("name = \"libssl3t64\""), "{tools}");
    let _ = shop.run("lock --check").success();
    let _ = shop.run("fetch").success();
    assert!(shop.asked().iter().any(|path| path.ends_with("nginx_1.26.3-3_amd64.deb")), "tools are fetched");

    let lines = "[[class.base.step]]\nshell = \"true\"\ntools = [\"no-such-tool\"]\n";
    insta::assert_snapshot!(error(&shop, &class(lines)), @r#"
    error: solve the tools of class base: there is no package no-such-tool
      kiln.toml:15: tools = ["no-such-tool"]
    hint: add the component or repository that has it
    "#);
}

#[test]
fn the_toolbox_may_be_of_a_distribution_of_the_factory() {
    let lines = "packages = [\"nginx\"]\n[toolbox]\ndistribution = \"trixie\"\n";
    let shop = Shop::new("");
    check(&shop, &class(lines), "base", &["nginx"]);
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
