//! `kiln fetch`: every locked file into the store; what is there is verified, what is missing is named.

use std::collections::BTreeSet;

use kiln_model::digest::Sha256;
use kiln_testkit::web::Fault;
use kiln_testkit::{Package, damage};

use crate::fixture::{BASE, BASE_AND_WEB, Shop, checked, damage_stored, error_of, says, wait_until, write_deb};

const NGINX: &str = "pool/main/n/nginx/nginx_1.26.3-3_amd64.deb";

#[test]
fn everything_comes_once_and_is_verified_ever_after() {
    let shop = Shop::served(BASE);
    shop.lock();
    shop.web().forget_requests();
    let output = shop.run("fetch").success();
    let asked = shop.asked();
    says(&output, &[&format!("downloaded and verified {} files, ", asked.len())]);
    assert_eq!(asked.len(), asked.iter().collect::<BTreeSet<_>>().len(), "each file once");
    let locked = shop
        .lock_text()
        .lines()
        .filter_map(|line| line.split("path = \"pool").nth(1)?.split('"').next())
        .map(|path| format!("pool{path}"))
        .collect::<BTreeSet<_>>();
    assert_eq!(asked.iter().cloned().collect::<BTreeSet<_>>(), locked);
    let nginx = fs_err::read(shop.mirror().root().join(NGINX)).unwrap();
    assert_eq!(fs_err::read(shop.stored(&nginx)).unwrap(), nginx);

    shop.web().forget_requests();
    says(&shop.run("fetch").success(), &[&format!("{} files (", asked.len()), ") were there and intact"]);
    let _ = shop.run("fetch --offline").success();
    assert_eq!(shop.asked(), [""; 0]);
    shop.home.check_no_leftovers();
}

#[test]
fn files_come_side_by_side() {
    let shop = Shop::served(BASE);
    shop.lock();
    let stalled =
        [NGINX, "pool/main/i/iproute2/iproute2_6.15.0-1_amd64.deb", "pool/main/b/bash/bash_5.2.37-2+b5_amd64.deb"];
    for path in stalled {
        shop.web().fault(path, Fault::Stall(0));
    }
    let running = shop.kiln("fetch").spawn();
    wait_until(|| {
        let asked = shop.asked();
        stalled.iter().all(|path| asked.iter().any(|other| other == path))
    });
    assert_eq!(running.kill().status, None, "none of the three has come, and all are asked for");
}

#[test]
fn damaged_files_of_the_store_are_found_and_fetched_anew() {
    let shop = Shop::served(BASE);
    shop.lock();
    let _ = shop.run("fetch").success();
    shop.web().forget_requests();
    let nginx = fs_err::read(shop.mirror().root().join(NGINX)).unwrap();
    let file = shop.stored(&nginx);
    for truncated in [false, true] {
        damage_stored(&file);
        if truncated {
            damage::truncate(&file, 10);
        }
        let offline = shop.run("fetch --offline").code(3);
        says(&offline, &["warning: the stored bytes of nginx 1.26.3-3 have changed", "while offline: nginx 1.26.3-3"]);
        let _ = shop.run("fetch").success();
        assert_eq!(fs_err::read(&file).unwrap(), nginx);
    }
    assert_eq!(shop.asked(), [NGINX; 2]);
}

#[test]
fn offline_names_what_is_missing() {
    let shop = Shop::served(BASE);
    shop.lock();
    shop.web().forget_requests();
    let output = shop.run("fetch --offline").code(3);
    insta::assert_snapshot!(error_of(&output), @"
    error: find 69 files in the store while offline: adduser 3.152, apt 3.0.3, base-files 13.8, base-passwd 3.6.7, bash 5.2.37-2+b5, bsdutils 1:2.41-5, coreutils 9.7-3, dash 0.5.12-12, debconf 1.5.91, debian-archive-keyring 2025.1 and 59 more
    hint: run once without --offline, or give a directory with --from
    ");
    assert_eq!(shop.asked(), [""; 0]);
}

#[test]
fn only_the_classes_that_are_asked_for() {
    let shop = Shop::served(BASE_AND_WEB);
    shop.lock();
    let asked = |arguments: &str| {
        shop.web().forget_requests();
        let _ = shop.run(arguments).success();
        shop.asked()
    };
    let base = asked("fetch base --no-toolbox");
    let has = |asked: &[String], what: &str| asked.iter().any(|path| path.contains(what));
    assert!(has(&base, "/openssl_") && !has(&base, "/nginx_") && !has(&base, "/haproxy_"), "{base:#?}");
    let web = asked("fetch web --no-toolbox");
    assert!(has(&web, "/nginx_") && !has(&web, "/haproxy_") && !has(&web, "/openssl_"), "{web:#?}");
    let rest = asked("fetch");
    assert!(has(&rest, "/haproxy_") && !has(&rest, "/nginx_"), "{rest:#?}");
    says(&shop.run("fetch wbe").code(2), &["error: kiln.lock has no class `wbe`", "hint: it has base, web"]);
}

#[test]
fn a_mirror_with_other_bytes_is_named() {
    let shop = Shop::served(BASE);
    shop.lock();
    let deb = shop.mirror().root().join(NGINX);
    let good = fs_err::read(&deb).unwrap();
    damage::corrupt_byte(&deb, -1);
    let output = shop.run("fetch").code(3);
    let error = error_of(&output);
    says(
        &output,
        &[
            "error: download 1 file",
            "nginx 1.26.3-3 from http://127.0.0.1:",
            NGINX,
            "its bytes are not the expected ones: expected sha256 ",
        ],
    );
    assert!(error.contains(&Sha256::of(&good).to_string()) && error.contains("try another mirror"), "{error}");
    assert!(!shop.stored(&fs_err::read(&deb).unwrap()).exists(), "wrong bytes are not kept");
    damage::truncate(&deb, 100);
    says(&shop.run("fetch").code(3), &["its size is not the expected one", "got 100"]);

    // Everything else came; the rest comes when the mirror is well again.
    fs_err::write(&deb, good).unwrap();
    shop.web().forget_requests();
    let _ = shop.run("fetch").success();
    assert_eq!(shop.asked(), [NGINX]);
}

#[test]
fn servers_in_trouble_are_asked_again() {
    let shop = Shop::served(BASE);
    shop.lock();
    shop.web().fault_times(NGINX, Fault::Status(503), 1);
    let output = shop.run("fetch").success();
    says(&output, &["nginx 1.26.3-3: attempt 1 failed (the server fails (HTTP 503)), again in "]);
}

#[test]
fn every_failure_is_told_together() {
    let shop = Shop::served(BASE);
    shop.lock();
    shop.web().fault(NGINX, Fault::Status(403));
    shop.web().fault("pool/main/i/iproute2/iproute2_6.15.0-1_amd64.deb", Fault::Status(500));
    let output = checked(shop.kiln("fetch").env("KILN_HTTP_RETRIES", "0").run()).code(3);
    insta::assert_snapshot!(error_of(&output).replace(&shop.web().url(), "[WEB]/"), @"
    error: download 2 files
      iproute2 6.15.0-1 from [WEB]/pool/main/i/iproute2/iproute2_6.15.0-1_amd64.deb: the server fails (HTTP 500)
      nginx 1.26.3-3 from [WEB]/pool/main/n/nginx/nginx_1.26.3-3_amd64.deb: the server refuses (HTTP 403)
    hint: another mirror may have it: name one in KILN_MIRROR, or a directory with --from
    ");
}

#[test]
fn a_file_of_the_factory_is_stored_under_its_own_digest_only() {
    let shop = Shop::new(&BASE.replace("\"nginx\"", "\"./agent_1_amd64.deb\""));
    let agent = Package::new("agent", "1");
    let path = write_deb(&shop.path(""), &agent);
    shop.lock();
    let changed = agent.clone().file("/usr/share/agent", "more").deb();
    fs_err::write(&path, &changed).unwrap();
    says(&shop.run("fetch").code(1), &["error: agent_1_amd64.deb has changed since it was locked"]);
    assert!(!shop.stored(&agent.deb()).exists());
    assert_eq!(fs_err::read(shop.stored(&changed)).unwrap(), changed);
    write_deb(&shop.path(""), &agent);
    let _ = shop.run("fetch").success();
    assert_eq!(fs_err::read(shop.stored(&agent.deb())).unwrap(), agent.deb());
}
