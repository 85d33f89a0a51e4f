//! Which mirror is asked, and what is said about those that fail.

use std::time::Duration;

use kiln_testkit::web::{Fault, Web};
use kiln_testkit::{Key, Package, Repository, Suite};

use crate::fixture::{BASE, NEXT_DATE, Shop, checked, error_of, package, says};

/// The address of a port where nobody listens any more.
fn dead() -> String {
    Web::serve("/nowhere".into()).url()
}

/// A factory whose spec names no mirror, beside a web server that has one.
fn unnamed() -> (Shop, Web) {
    let shop = Shop::new(BASE);
    let web = Web::serve(shop.mirror().root());
    shop.spec_from("", BASE);
    (shop, web)
}

#[test]
fn the_environment_names_mirrors() {
    let (shop, web) = unnamed();
    let output = shop.kiln("lock").env("KILN_MIRROR", &web.url()).run();
    says(&checked(output).success(), &["signature good (http://127.0.0.1:"]);
    assert_eq!(web.requests().len(), 6);
}

#[test]
fn mirrors_are_tried_in_their_order() {
    let (shop, web) = unnamed();
    let second = Web::serve(shop.mirror().root());
    let list = format!("{}  {} {}", dead(), web.url(), second.url());
    let run = |shop: &Shop| checked(shop.kiln("lock").env("KILN_MIRROR", &list).env("KILN_HTTP_RETRIES", "0").run());
    let output = run(&shop).success();
    says(
        &output,
        &["warning: trixie is taken from http://", "because another mirror failed:", "no answer from 127.0.0.1:"],
    );
    assert_eq!((web.requests().len(), second.requests().len()), (6, 0));

    // A mirror that has another suite only is no reason for a warning.
    let (shop, web) = unnamed();
    let empty = Web::serve(&shop.home.path().join("tmp"));
    let list = format!("{} {}", empty.url(), web.url());
    let output = shop.kiln("lock").env("KILN_MIRROR", &list).run().success();
    assert!(!output.report().contains("warning"), "{}", output.report());
    assert_eq!(empty.requests().len(), 3, "{:#?}", empty.requests());
}

#[test]
fn the_spec_wins_over_the_environment() {
    let shop = Shop::served(BASE);
    let other = Web::serve(shop.mirror().root());
    let _ = checked(shop.kiln("lock").env("KILN_MIRROR", &other.url()).run()).success();
    assert_eq!((shop.web().requests().len(), other.requests().len()), (6, 0));
}

#[test]
fn addresses_that_are_none() {
    let shop = Shop::new(BASE);
    shop.spec_from("", BASE);
    for text in ["mirror", "ftp://mirror.example/debian", "/srv/mirror"] {
        let output = checked(shop.kiln("lock").env("KILN_MIRROR", text).run()).code(2);
        says(&output, &["error: KILN_MIRROR names a mirror that is none", "hint: addresses look like http://"]);
    }
}

#[test]
fn security_may_be_elsewhere() {
    let mut shop = Shop::new("");
    let security = Suite::security("trixie").package(package("openssl").at_version("3.5.1-1+deb13u7"));
    let elsewhere = Repository::new(shop.home.path().join("security")).suite(security).write();
    shop.publish(|repository| repository.change("trixie-security", |suite| suite.remove("openssl")));
    let classes = BASE.replace("nginx", "openssl");
    shop.spec(&format!("security_mirror = \"{}\"\n{classes}", elsewhere.uri()));
    shop.lock();
    let (version, index) = &shop.packages("base")["openssl"];
    assert_eq!((version.as_str(), index.as_str()), ("3.5.1-1+deb13u7", "trixie-security/main"));
    let _ = shop.run("fetch").success();
}

#[test]
fn the_security_archive_is_looked_for_beside_the_main_one() {
    let shop = Shop::new("");
    let root = shop.home.path().join("both");
    let main = Repository::debian(root.join("debian"));
    let security = Suite::security("trixie").package(package("openssl").at_version("3.5.1-1+deb13u7"));
    Repository::new(root.join("debian-security")).suite(security).write();
    let main = main.write();
    fs_err::remove_dir_all(main.root().join("dists/trixie-security")).unwrap();
    shop.spec_from(&format!("mirror = \"{}\"", main.uri()), &BASE.replace("nginx", "openssl"));
    shop.lock();
    assert_eq!(shop.version("base", "openssl").as_deref(), Some("3.5.1-1+deb13u7"));
}

/// A signed repository of somebody else, and the lines that name it.
fn extra(shop: &Shop, priority: &str, packages: impl IntoIterator<Item = Package>) -> String {
    let suite = Suite::new("stable").origin("Shop tools").signed_by([Key::named("extra")]).packages(packages);
    let mirror = Repository::new(shop.home.path().join("extra")).suite(suite).write();
    shop.write("extra.gpg", fs_err::read(mirror.keyring()).unwrap());
    let uri = mirror.uri();
    format!(
        "[[distribution.trixie.repository]]\nname = \"tools\"\nuri = \"{uri}\"\nsuite = \"stable\"\n\
         keyring = \"extra.gpg\"\n{priority}\n{BASE}"
    )
}

#[test]
fn extra_repositories_have_their_keys_and_priorities() {
    let packages = || [package("iproute2").at_version("6.0-1"), Package::new("shop-tools", "2").depends("nginx")];
    let check = |priority: &str, version: &str, index: &str| {
        let shop = Shop::new("");
        let spec = extra(&shop, priority, packages()).replace("\"nginx\"]", "\"shop-tools\"]");
        shop.spec(&spec);
        shop.lock();
        let locked = shop.packages("base");
        assert_eq!(locked["shop-tools"], ("2".to_owned(), "tools:stable/main".to_owned()));
        assert_eq!(locked["iproute2"], (version.to_owned(), index.to_owned()), "{priority}");
        let _ = shop.run("lock --check").success();
        let _ = shop.run("fetch").success();
    };
    check("", "6.15.0-1", "trixie/main");
    check("priority = 100", "6.15.0-1", "trixie/main");
    check("priority = 600", "6.0-1", "tools:stable/main");
}

#[test]
fn an_extra_repository_is_not_trusted_with_the_archives_key() {
    let shop = Shop::new("");
    let spec = extra(&shop, "", [Package::new("shop-tools", "2")]);
    shop.spec(&spec.replace("keyring = \"extra.gpg\"", "keyring = \"archive.gpg\""));
    let output = shop.run("lock").code(3);
    says(&output, &["a valid Release of stable", "the key is not in the keyring"]);
}

#[test]
fn keyrings_that_are_none() {
    let shop = Shop::new(BASE);
    shop.write("archive.gpg", "nonsense");
    says(&shop.run("lock").code(2), &["error: read the keyring ./archive.gpg", "hint: `keyring` of the distribution"]);
}

#[test]
fn a_snapshot_is_below_its_moment_and_may_have_expired() {
    let mut shop = Shop::new("");
    let then = shop.home.path().join("mirror/20250907T000000Z");
    let repository =
        ["trixie", "trixie-updates", "trixie-security"].iter().fold(Repository::debian(then), |repository, suite| {
            repository.change(suite, |suite| suite.valid_until("2025-09-13T10:00:00Z"))
        });
    repository.write();
    let uri = shop.uri().to_owned();
    shop.spec_from(&format!("mirror = \"{uri}\"\nsnapshot = \"2025-09-07T00:00:00Z\""), BASE);
    shop.lock();
    let _ = shop.run("fetch").success();
    // What the mirror has today does not count.
    shop.publish(|repository| repository.dated(NEXT_DATE));
}

const RELEASE: &str = "dists/trixie/InRelease";

#[test]
fn redirects_are_followed_to_the_right_places_only() {
    let shop = Shop::served(BASE);
    let near = Web::serve(shop.mirror().root());
    shop.web().fault(RELEASE, Fault::Redirect(format!("{}{RELEASE}", near.url())));
    shop.lock();
    assert_eq!(near.requests().len(), 1);

    let check = |to: &str, texts: &[&str]| {
        shop.web().heal(RELEASE);
        shop.web().fault(RELEASE, Fault::Redirect(to.to_owned()));
        let output = checked(shop.kiln("lock --update").env("KILN_HTTP_RETRIES", "0").run()).code(3);
        says(&output, &["find a mirror with a valid Release of trixie"]);
        says(&output, texts);
    };
    check(&format!("{}{RELEASE}", dead()), &["no answer from 127.0.0.1:"]);
    check("file:///etc/passwd", &["redirected to file:///etc/passwd, which is not followed"]);
    check(&format!("/{RELEASE}"), &["more than 5 redirects"]);
    check("/dists/nowhere", &["it is not there (HTTP 404)"]);
}

#[test]
fn servers_that_do_not_serve() {
    let shop = Shop::served(BASE);
    let check = |fault: Fault, texts: &[&str]| {
        shop.web().heal(RELEASE);
        shop.web().fault(RELEASE, fault);
        let run = shop.kiln("lock").env("KILN_HTTP_RETRIES", "0").env("KILN_HTTP_TIMEOUT", "1s");
        let output = checked(run.run()).code(3);
        says(&output, &["find a mirror with a valid Release of trixie", "(named by kiln.toml): ", "hint: "]);
        says(&output, texts);
    };
    check(Fault::Status(403), &["the server refuses (HTTP 403)"]);
    check(Fault::Status(500), &["the server fails (HTTP 500)"]);
    check(Fault::Hangup, &["no answer from 127.0.0.1:"]);
    check(Fault::Truncate(500), &["the connection broke after 500 bytes"]);
    check(Fault::Stall(0), &["127.0.0.1"]);
    check(Fault::Stall(400), &["the connection broke after 400 bytes"]);
    check(Fault::ContentLength(u64::MAX / 2), &["it is larger than"]);
    check(Fault::Corrupt(200), &["verify its signature"]);
}

#[test]
fn a_dead_mirror_is_named() {
    let shop = Shop::new(BASE);
    shop.spec_from(&format!("mirror = \"{}\"", dead()), BASE);
    let output = checked(shop.kiln("lock").env("KILN_HTTP_RETRIES", "0").run()).code(3);
    says(&output, &["no answer from 127.0.0.1:", "onnection refused", "hint: "]);
}

#[test]
fn what_passes_is_waited_for() {
    let shop = Shop::served(BASE);
    shop.web().fault_times(RELEASE, Fault::Status(503), 1);
    shop.web().fault_times("dists/trixie-security/InRelease", Fault::Hangup, 1);
    shop.web().fault("dists/trixie-updates/InRelease", Fault::Trickle(200, Duration::from_millis(5)));
    let output = shop.run("lock").success();
    says(&output, &["attempt 1 failed (the server fails (HTTP 503)), again in ", "wrote kiln.lock"]);
}

#[test]
fn proxies_are_used_and_passed_by_as_told() {
    let shop = Shop::served(BASE);
    let proxy = Web::proxy();
    let _ = checked(shop.kiln("lock").env("http_proxy", &proxy.url()).run()).success();
    assert_eq!(proxy.requests().len(), 6);
    assert!(proxy.requests().iter().all(|request| request.target.starts_with("http://127.0.0.1:")));

    let shop = Shop::served(BASE);
    let run = shop.kiln("lock").env("http_proxy", &dead()).env("no_proxy", "localhost,127.0.0.1");
    let _ = checked(run.run()).success();
    let run = Shop::served(BASE).kiln("lock").env("http_proxy", &dead()).env("KILN_HTTP_RETRIES", "0").run();
    let _ = checked(run).code(3);
    let run = Shop::served(BASE).kiln("lock").env("HTTP_PROXY", &dead()).run();
    let _ = checked(run).success();
}

#[test]
fn credentials_are_used_and_never_shown_nor_kept() {
    let (shop, web) = unnamed();
    let uri = web.url().replace("http://", "http://me:s3cret@");
    let run = |arguments: &str, mirrors: &str| {
        checked(shop.kiln(arguments).env("KILN_MIRROR", mirrors).env("KILN_HTTP_RETRIES", "1").run())
    };
    let mut reports = String::new();
    for arguments in ["lock", "lock --check", "fetch", "lock --update --json", "fetch --json"] {
        reports.push_str(&run(arguments, &uri).success().report());
    }
    assert!(web.requests().iter().all(|request| request.header("authorization").is_some()));
    // A second mirror, so that the host's own are never asked.
    let both = format!("{uri} {}", shop.mirror().uri());
    for fault in [Fault::Status(401), Fault::Hangup, Fault::Truncate(7), Fault::Redirect("/nowhere".to_owned())] {
        web.heal(RELEASE);
        web.fault(RELEASE, fault);
        reports.push_str(&run("lock --update --dry-run", &both).success().report());
    }
    reports.push_str(&shop.lock_text());
    assert!(reports.contains("http://***@127.0.0.1:"), "{reports}");
    assert!(!reports.contains("s3cret"), "{reports}");
    check_not_kept(shop.home.path(), b"s3cret");
}

/// Panics if any file below has these bytes.
fn check_not_kept(directory: &camino::Utf8Path, secret: &[u8]) {
    for entry in directory.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        if path.is_dir() {
            check_not_kept(&path, secret);
        } else {
            let bytes = fs_err::read(&path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{path} has the secret");
        }
    }
}

#[test]
fn offline_asks_nobody() {
    let shop = Shop::served(BASE);
    let output = shop.run("lock --offline").code(3);
    assert_eq!(shop.asked(), [""; 0]);
    insta::assert_snapshot!(error_of(&output).replace(shop.web().url().as_str(), "[WEB]/"), @"
    error: find a mirror with a valid Release of trixie
      [WEB]/ (named by kiln.toml): its InRelease cannot be had: it needs the network, and this run is offline
    hint: run once without --offline, or name a file: mirror in KILN_MIRROR
    ");
    let first = shop.lock();
    shop.web().forget_requests();
    let _ = shop.run("lock --offline").success();
    let _ = shop.run("lock --update --offline").success();
    let _ = shop.run("lock --check --offline").success();
    assert_eq!(shop.asked(), [""; 0]);
    assert_eq!(shop.lock_text(), first);
}
