//! `kiln lock --update`: everything, some packages, only security.

use kiln_testkit::{Package, Suite};

use crate::fixture::{BASE, BASE_AND_WEB, NEXT_DATE, Shop, package, says};

/// nginx and its common files in another version.
fn nginx(version: &str) -> [Package; 2] {
    let common = package("nginx-common").at_version(version);
    let nginx = Package::new("nginx", version).depends(&format!("nginx-common (= {version}), iproute2, libssl3t64"));
    [nginx, common]
}

/// A point release: new versions in the suite itself, and a security fix of something else.
fn point_release(shop: &mut Shop) {
    let [nginx, common] = nginx("1.26.3-3+deb13u5");
    let procps = package("procps").at_version("2:4.0.4-10");
    let libssl = package("libssl3t64").at_version("3.5.1-1+deb13u1");
    shop.publish(|repository| {
        repository
            .change("trixie", |suite| suite.date(NEXT_DATE).replace(nginx).replace(common).replace(procps))
            .change("trixie-security", |suite| suite.date(NEXT_DATE).replace(libssl))
    });
}

#[test]
fn everything_is_taken_anew() {
    let mut shop = Shop::new(BASE_AND_WEB);
    shop.lock();
    point_release(&mut shop);
    says(&shop.run("lock").success(), &["kiln.lock is up to date"]);
    let output = shop.run("lock --update").success();
    insta::assert_snapshot!(output.stdout, @"
    ~  libssl3t64    3.5.1-1 -> 3.5.1-1+deb13u1    trixie-security/main  base, toolbox.amd64
    ~  nginx         1.26.3-3 -> 1.26.3-3+deb13u5  trixie/main           web
    ~  nginx-common  1.26.3-3 -> 1.26.3-3+deb13u5  trixie/main           web
    ~  index trixie-security/main  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  index trixie/main           2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  class base                  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z
    ~  class web                   2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z
    base                      52 packages  43.6 kB  epoch 2025-09-08T10:00:00Z
    web            from base  4 packages   3.34 kB  epoch 2025-09-08T10:00:00Z
    toolbox.amd64             34 packages  28.6 kB
    wrote kiln.lock
    ");
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
}

#[test]
fn one_package_is_taken_anew() {
    let mut shop = Shop::new(BASE_AND_WEB);
    shop.lock();
    point_release(&mut shop);
    let output = shop.run("lock --update libssl3t64").success();
    insta::assert_snapshot!(output.stdout, @"
    ~  libssl3t64  3.5.1-1 -> 3.5.1-1+deb13u1  trixie-security/main  base, toolbox.amd64
    ~  index trixie-security/main  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  index trixie/main           2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  class base                  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z
    ~  class web                   2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z
    base                      52 packages  43.6 kB  epoch 2025-09-08T10:00:00Z
    web            from base  4 packages   3.44 kB  epoch 2025-09-08T10:00:00Z
    toolbox.amd64             34 packages  28.6 kB
    wrote kiln.lock
    ");
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
}

#[test]
fn a_source_name_means_all_its_packages() {
    let mut shop = Shop::new(BASE_AND_WEB);
    shop.lock();
    shop.publish_version("trixie-updates", "libssl3t64", "3.5.1-2");
    shop.publish_version("trixie-updates", "openssl", "3.5.1-2");
    let output = shop.run("lock --update openssl").success();
    says(&output, &["libssl3t64", "3.5.1-1 -> 3.5.1-2"]);
    // The mirror's openssl of trixie-updates is older than that of trixie-security.
    assert_eq!(shop.version("base", "openssl").as_deref(), Some("3.5.1-2"));
}

#[test]
fn a_child_follows_its_parent() {
    let mut shop = Shop::new(BASE_AND_WEB);
    shop.lock();
    point_release(&mut shop);
    let _ = shop.run("lock --update libssl3t64 nginx").success();
    assert_eq!(shop.version("web", "libssl3t64").as_deref(), Some("3.5.1-1+deb13u1"));
    assert_eq!(shop.version("web", "nginx").as_deref(), Some("1.26.3-3+deb13u5"));
    assert_eq!(shop.version("web", "procps"), None);
}

#[test]
fn unknown_names_are_refused() {
    let shop = Shop::new(BASE);
    let first = shop.lock();
    let output = shop.run("lock --update ngnix").code(2);
    says(&output, &["no locked package is called `ngnix`", "hint: did you mean `nginx`?"]);
    let output = shop.run("lock --update nginx no-such-thing").code(2);
    says(&output, &["no locked package is called `no-such-thing`", "hint: kiln lock --list shows what is locked"]);
    assert_eq!(shop.lock_text(), first);
}

#[test]
fn security_takes_what_the_security_suite_changed_and_nothing_else() {
    let mut shop = Shop::served(BASE_AND_WEB);
    shop.lock();
    let before = shop.packages("web");
    point_release(&mut shop);
    shop.web().forget_requests();
    let output = shop.run("lock --update --security").success();
    insta::assert_snapshot!(output.stdout, @"
    ~  libssl3t64  3.5.1-1 -> 3.5.1-1+deb13u1  trixie-security/main  base, toolbox.amd64
    ~  index trixie-security/main  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z  toolbox-amd64, trixie
    ~  class base                  2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z
    ~  class web                   2025-09-06T10:00:00Z -> 2025-09-08T10:00:00Z
    base                      52 packages  43.6 kB  epoch 2025-09-08T10:00:00Z
    web            from base  4 packages   3.44 kB  epoch 2025-09-08T10:00:00Z
    toolbox.amd64             34 packages  28.6 kB
    wrote kiln.lock
    ");
    let asked = shop.asked();
    assert!(asked.iter().all(|path| path.starts_with("dists/trixie-security/")), "{asked:#?}");
    let after = shop.packages("web");
    for (name, version) in &before {
        let expected = if name == "libssl3t64" { "3.5.1-1+deb13u1" } else { &version.0 };
        assert_eq!(after[name].0, expected, "{name}");
    }
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
    says(&shop.run("lock --update --security").success(), &["kiln.lock is up to date"]);
}

#[test]
fn security_without_news_changes_nothing() {
    let mut shop = Shop::new(BASE);
    let first = shop.lock();
    shop.publish(|repository| {
        repository.change("trixie", |suite: Suite| suite.date(NEXT_DATE).replace(package("nginx").at_version("1.27")))
    });
    says(&shop.run("lock --update --security").success(), &["kiln.lock is up to date"]);
    assert_eq!(shop.lock_text(), first);
}

#[test]
fn a_dry_run_shows_what_an_update_would_do() {
    let mut shop = Shop::new(BASE);
    let first = shop.lock();
    point_release(&mut shop);
    says(
        &shop.run("lock --update --dry-run").success(),
        &["nginx", "1.26.3-3 -> 1.26.3-3+deb13u5", "dry run: kiln.lock was not written"],
    );
    assert_eq!(shop.lock_text(), first);
}

#[test]
fn a_package_rebuilt_under_its_version_is_a_change() {
    let mut shop = Shop::new(BASE);
    shop.lock();
    let rebuilt = package("iproute2").file("/usr/share/doc/iproute2/rebuilt", "again");
    shop.publish(|repository| repository.change("trixie", |suite: Suite| suite.date(NEXT_DATE).replace(rebuilt)));
    says(&shop.run("lock --update").success(), &["iproute2", "6.15.0-1 (other bytes)"]);
}
