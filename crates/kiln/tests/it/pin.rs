//! Files that no index vouches for: `.deb` files of the factory, `.deb` files and downloads at an address.

use kiln_model::digest::Sha256;
use kiln_testkit::Package;
use kiln_testkit::web::{Fault, Web};

use crate::fixture::{Shop, damage_stored, error_of, says, write_deb};

fn agent(version: &str) -> Package {
    Package::new("shop-agent", version)
        .depends("openssl")
        .executable("/usr/bin/shop-agent", format!("version {version}"))
}

fn class(lines: &str) -> String {
    format!("\n[class.base]\ndistribution = \"trixie\"\n{lines}\n")
}

/// A factory beside a web server that has what is not in the archive.
fn elsewhere() -> (Shop, Web) {
    let shop = Shop::new("");
    fs_err::create_dir(shop.home.path().join("elsewhere")).unwrap();
    let web = Web::serve(&shop.home.path().join("elsewhere"));
    (shop, web)
}

#[test]
fn a_local_package_brings_its_dependencies() {
    let shop = Shop::new("");
    write_deb(&shop.path("dist"), &agent("1.2"));
    shop.spec(&class("packages = [\"./dist/shop-agent_1.2_amd64.deb\"]"));
    shop.lock();
    let packages = shop.packages("base");
    assert_eq!(packages["shop-agent"], ("1.2".to_owned(), "dist/shop-agent_1.2_amd64.deb".to_owned()));
    assert!(packages.contains_key("openssl"));
    let _ = shop.run("lock --check").success();
    let _ = shop.run("fetch").success();
    assert!(shop.stored(&agent("1.2").deb()).exists());
}

#[test]
fn a_local_package_that_changed_is_not_fetched_as_if_it_had_not() {
    let shop = Shop::new("");
    let path = write_deb(&shop.path(""), &agent("1"));
    shop.spec(&class("packages = [\"./shop-agent_1_amd64.deb\"]"));
    shop.lock();
    fs_err::write(&path, agent("1").file("/usr/share/shop", "more").deb()).unwrap();
    let output = shop.run("fetch").code(1);
    says(
        &output,
        &["error: shop-agent_1_amd64.deb has changed since it was locked", "hint: kiln lock takes the new file"],
    );
    let _ = shop.run("lock").success();
    let _ = shop.run("fetch").success();
}

#[test]
fn files_that_are_no_packages() {
    let shop = Shop::new("");
    let check = |bytes: &[u8], texts: &[&str]| {
        shop.write("agent.deb", bytes);
        shop.spec(&class("packages = [\"agent.deb\"]"));
        let output = shop.run("lock").code(2);
        says(&output, &["agent.deb"]);
        says(&output, texts);
        assert!(!shop.path("kiln.lock").exists());
    };
    let good = agent("1").deb();
    let hint = "hint: is it a whole Debian package?";
    check(b"", &[hint]);
    check(b"not a package", &["this is not a Debian package", hint]);
    check(&good[..good.len() / 2], &[hint]);
    check(&Package::new("shop-agent", "1").for_architecture("arm64").deb(), &["arm64"]);
}

#[test]
fn a_package_at_an_address_is_pinned() {
    let (shop, web) = elsewhere();
    let directory = shop.home.path().join("elsewhere");
    let path = write_deb(&directory, &agent("1"));
    shop.spec(&class(&format!("packages = [\"{}shop-agent_1_amd64.deb\"]", web.url())));
    let first = shop.lock();
    let _ = shop.run("fetch").success();
    assert_eq!(web.requests().len(), 1, "what was pinned is in the store");

    // Other bytes at the same address: the lock is what counts.
    fs_err::write(&path, agent("1").file("/usr/share/shop", "other").deb()).unwrap();
    let _ = shop.run("lock --check").success();
    says(&shop.run("lock").success(), &["kiln.lock is up to date"]);
    assert_eq!(shop.lock_text(), first);
    shop.write("kiln.d/more.toml", "[class.more]\nfrom = \"base\"\npackages = [\"procps\"]\n");
    let _ = shop.run("lock").success();
    assert_eq!(web.requests().len(), 1, "a change elsewhere asks for nothing");
    says(&shop.run("lock --update").success(), &["shop-agent", "1 (other bytes)"]);

    // A store that never had it: the address has other bytes than the lock says.
    shop.write("kiln.lock", &first);
    fs_err::remove_file(shop.path("kiln.d/more.toml")).unwrap();
    let empty = shop.home.path().join("empty");
    let output = shop.kiln("fetch").env("XDG_CACHE_HOME", empty.as_str()).run().code(3);
    says(&output, &["shop-agent_1_amd64.deb", "not the expected"]);
}

#[test]
fn one_pinned_package_can_be_taken_anew() {
    let (shop, web) = elsewhere();
    let path = write_deb(&shop.home.path().join("elsewhere"), &agent("1"));
    shop.spec(&class(&format!("packages = [\"{}shop-agent_1_amd64.deb\"]", web.url())));
    shop.lock();
    fs_err::write(&path, agent("1").file("/usr/share/shop", "other").deb()).unwrap();
    says(&shop.run("lock --update shop-agent").success(), &["shop-agent", "1 (other bytes)"]);
}

#[test]
fn a_download_is_pinned() {
    let (shop, web) = elsewhere();
    let file = shop.home.write("elsewhere/app.tar", "one");
    let url = format!("{}app.tar", web.url());
    let step = |more: &str| class(&format!("[[class.base.step]]\ndownload = \"{url}\"\nto = \"/opt/app.tar\"\n{more}"));
    shop.spec(&step(""));
    shop.lock();
    assert!(shop.lock_text().contains(&Sha256::of(b"one").to_string()));
    let _ = shop.run("fetch").success();
    assert_eq!(web.requests().len(), 1);

    fs_err::write(&file, "two").unwrap();
    let _ = shop.run("lock --check").success();
    says(&shop.run("lock").success(), &["kiln.lock is up to date"]);
    let output = shop.run("lock --update").success();
    says(&output, &["~  download http://", "app.tar", "sha256 "]);
    assert!(shop.lock_text().contains(&Sha256::of(b"two").to_string()));

    // A digest in the spec is the word of a person.
    shop.spec(&step(&format!("sha256 = \"{}\"", Sha256::of(b"two"))));
    let _ = shop.run("lock --check").success();
    shop.spec(&step(&format!("sha256 = \"{}\"", Sha256::of(b"three"))));
    says(&shop.run("lock --check").code(1), &["class base: a download has another sha256 than is locked"]);
    let output = shop.run("lock").code(2);
    says(&output, &[&format!("app.tar has sha256 {}, kiln.toml says {}", Sha256::of(b"two"), Sha256::of(b"three"))]);
    fs_err::write(&file, "three").unwrap();
    let _ = shop.run("lock").success();
    let _ = shop.run("lock --check").success();
}

#[test]
fn changed_downloads_are_misfits() {
    let (shop, web) = elsewhere();
    shop.home.write("elsewhere/app.tar", "one");
    let step = format!("[[class.base.step]]\ndownload = \"{}app.tar\"\nto = \"/opt/app.tar\"\n", web.url());
    shop.spec(&class(&step));
    shop.lock();
    shop.spec(&class(&step.replace("app.tar\"\nto", "new.tar\"\nto")));
    let output = shop.run("lock --check").code(1);
    says(&output, &["class base: a download is not locked", "class base: a download is locked and no longer wanted"]);
    shop.spec(&class(""));
    says(&shop.run("lock --check").code(1), &["class base: a download is locked and no longer wanted"]);
}

#[test]
fn an_address_that_has_nothing() {
    let (shop, web) = elsewhere();
    let url = format!("{}app.tar", web.url()).replace("http://", "http://me:s3cret@");
    shop.spec(&class(&format!("[[class.base.step]]\ndownload = \"{url}?token=hush\"\nto = \"/opt/app.tar\"")));
    let output = shop.run("lock").code(3);
    says(&output, &["app.tar", "it is not there (HTTP 404)"]);
    assert!(!output.report().contains("s3cret") && !output.report().contains("hush"), "{}", output.report());
    assert!(error_of(&output).starts_with("error: download "));
    shop.home.write("elsewhere/app.tar", "x");
    web.fault("app.tar", Fault::Status(403));
    says(&shop.run("lock").code(3), &["the server refuses (HTTP 403)"]);
    web.heal("app.tar");
    let _ = shop.run("lock").success();
}

#[test]
fn a_damaged_copy_in_the_store_is_fetched_anew() {
    let (shop, web) = elsewhere();
    shop.home.write("elsewhere/app.tar", "one");
    shop.spec(&class(&format!("[[class.base.step]]\ndownload = \"{}app.tar\"\nto = \"/opt/app.tar\"", web.url())));
    shop.lock();
    let stored = shop.stored(b"one");
    damage_stored(&stored);
    let output = shop.run("fetch").success();
    says(&output, &["warning: the stored bytes of ", "app.tar have changed", "quarantine"]);
    assert_eq!(fs_err::read(&stored).unwrap(), b"one");
}
