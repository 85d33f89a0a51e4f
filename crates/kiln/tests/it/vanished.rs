//! Locked versions that left the mirror, and the ways out: a newer version, another place, a directory that keeps all.

use camino::Utf8PathBuf;
use kiln_testkit::web::Web;
use kiln_testkit::{Key, Package, Repository, Suite, damage};

use crate::fixture::{BASE, NEXT_DATE, Shop, checked, error_of, package, says, write_deb};

/// A factory whose locked procps, which has an epoch, is no longer on its mirror.
fn vanished() -> Shop {
    let mut shop = Shop::served(&BASE.replace("nginx", "procps"));
    shop.lock();
    shop.publish_version("trixie", "procps", "2:4.0.4-10");
    shop
}

#[test]
fn what_vanished_is_named_with_the_ways_out() {
    let shop = vanished();
    let output = shop.run("fetch").code(3);
    insta::assert_snapshot!(error_of(&output).replace(&shop.web().url(), "[WEB]/"), @"
    error: find a locked version that is no longer on a mirror
      procps 2:4.0.4-9, locked from trixie/main of 2025-09-06T10:00:00Z, is not at [WEB]/pool/main/p/procps/procps_4.0.4-9_amd64.deb
    hint: take the newer version with `kiln lock --update procps`, or name a mirror or directory that still has it with `kiln fetch --from`
    ");
}

#[test]
fn the_newer_version_is_one_way_out() {
    let shop = vanished();
    let _ = shop.run("fetch").code(3);
    says(&shop.run("lock --update procps").success(), &["2:4.0.4-9 -> 2:4.0.4-10"]);
    let _ = shop.run("fetch").success();
}

/// Fetches with `--from`, once the files are where `place` put them.
fn check_from(place: impl Fn(&Shop) -> String) {
    let shop = vanished();
    let from = place(&shop);
    let _ = shop.run(&format!("fetch --from {from}")).success();
    let _ = shop.run("fetch --offline").success();
}

#[test]
fn a_place_that_still_has_it_is_the_other() {
    let procps = || package("procps");
    let flat = |shop: &Shop| shop.home.path().join("debs");
    check_from(|shop| write_deb(&flat(shop), &procps()).parent().unwrap().to_string());
    check_from(|shop| {
        // As apt keeps it in /var/cache/apt/archives.
        shop.home.write("debs/procps_2%3a4.0.4-9_amd64.deb", procps().deb());
        flat(shop).to_string()
    });
    check_from(|shop| {
        shop.home.write("pool-of-old/pool/main/p/procps/procps_4.0.4-9_amd64.deb", procps().deb());
        "../pool-of-old".to_owned()
    });
    check_from(|shop| {
        let mirror = Repository::debian(shop.home.path().join("old")).write();
        mirror.uri()
    });
}

#[test]
fn a_server_that_still_has_it_will_do() {
    let shop = vanished();
    let old = Repository::debian(shop.home.path().join("old")).write();
    let web = Web::serve(old.root());
    let _ = shop.run(&format!("fetch --from {}", web.url())).success();
}

#[test]
fn a_place_with_other_bytes_is_passed_by() {
    let shop = Shop::served(&BASE.replace("nginx", "procps"));
    shop.lock();
    write_deb(&shop.home.path().join("debs"), &package("procps").file("/usr/share/other", "bytes"));
    let _ = shop.run("fetch --from ../debs").success();
}

#[test]
fn places_that_are_none() {
    let shop = vanished();
    says(
        &shop.run("fetch --from ../nowhere").code(2),
        &["`../nowhere` is neither a directory nor an address", "hint: "],
    );
    says(&shop.run("fetch --from http://").code(2), &["is neither a directory nor an address"]);
}

/// A factory with a file from everywhere, a directory filled by `kiln fetch --to`, and nothing else left in the world.
struct Kept {
    shop: Shop,
    directory: Utf8PathBuf,
}

impl Kept {
    fn new() -> Self {
        let mut shop = Shop::new("");
        let web = Web::serve(shop.home.path());
        write_deb(&shop.path(""), &Package::new("local", "1"));
        write_deb(&shop.home.path().join("elsewhere"), &Package::new("remote", "1"));
        shop.home.write("elsewhere/app.tar", "app");
        let suite = Suite::new("stable").origin("Tools").signed_by([Key::named("extra")]);
        let suite = suite.package(Package::new("shop-tools", "2"));
        let extra = Repository::new(shop.home.path().join("extra")).suite(suite).write();
        shop.write("extra.gpg", fs_err::read(extra.keyring()).unwrap());
        let url = web.url();
        let classes = format!(
            "[[distribution.trixie.repository]]\nname = \"tools\"\nuri = \"{url}extra\"\nsuite = \"stable\"\n\
             keyring = \"extra.gpg\"\n[class.base]\ndistribution = \"trixie\"\n\
             packages = [\"procps\", \"shop-tools\", \"./local_1_amd64.deb\", \"{url}elsewhere/remote_1_amd64.deb\"]\n\
             [[class.base.step]]\ndownload = \"{url}elsewhere/app.tar\"\nto = \"/opt/app.tar\"\n\
             [[class.base.step]]\nshell = \"true\"\ntools = [\"postgresql-common\"]\n"
        );
        shop.spec(&classes);
        shop.lock();
        let _ = shop.run("fetch").success();
        // The lock explains itself with two generations of an index.
        let newer = package("iproute2").at_version("6.16.0-1");
        shop.publish(|repository| {
            repository.keep_old_indexes(true).change("trixie", |suite| {
                suite.date(NEXT_DATE).replace(package("libcap2").at_version("1:2.76-1")).replace(newer)
            })
        });
        let classes = classes.replace("\"procps\"", "\"procps\", \"iproute2\"");
        shop.spec(&classes);
        shop.lock();
        let directory = shop.home.path().join("kept");
        let _ = shop.run(&format!("fetch --to {directory}")).success();
        // From here on there is neither mirror nor server nor store.
        shop.spec_from("", &classes);
        fs_err::remove_dir_all(shop.mirror().root()).unwrap();
        fs_err::remove_dir_all(shop.home.path().join("extra")).unwrap();
        fs_err::remove_dir_all(shop.home.cache()).unwrap();
        drop(web);
        Self { shop, directory }
    }

    fn run(&self, arguments: &str) -> kiln_testkit::Output {
        let uri = format!("file://{}", self.directory);
        checked(self.shop.kiln(&format!("{arguments} --offline")).env("KILN_MIRROR", &uri).run())
    }
}

#[test]
fn a_directory_keeps_a_lock_alive_for_ever() {
    let kept = Kept::new();
    let first = kept.shop.lock_text();
    let output = kept.run("lock --check").success();
    says(&output, &["kiln.lock fits kiln.toml"]);
    assert!(!output.report().contains("not examined"), "{}", output.report());
    let _ = kept.run("fetch").success();
    fs_err::remove_dir_all(kept.shop.home.cache()).unwrap();
    let _ = kept.run("fetch").success();
    says(&kept.run("lock").success(), &["kiln.lock is up to date"]);
    let _ = kept.run("lock --update procps").success();
    let _ = kept.run("fetch").success();
    kept.shop.write("kiln.lock", &first);
    let _ = kept.run("lock --check").success();
    // An address is a promise of nobody's: its newest content is on no mirror.
    let output = kept.run("lock --update").code(3);
    says(&output, &["remote_1_amd64.deb: it needs the network", "hint: run once without --offline"]);
}

#[test]
fn a_kept_directory_is_filled_again_and_repaired() {
    let shop = Shop::new(BASE);
    shop.lock();
    let directory = shop.home.path().join("kept");
    says(&shop.run("fetch --to ../kept").success(), &["../kept has ", " of them new"]);
    says(&shop.run("fetch --to ../kept").success(), &["../kept has ", ", 0 of them new"]);
    let nginx = directory.join("pool/main/n/nginx/nginx_1.26.3-3_amd64.deb");
    let good = fs_err::read(&nginx).unwrap();
    damage::corrupt_byte(&nginx, 7);
    fs_err::remove_file(directory.join("dists/trixie/InRelease")).unwrap();
    says(&shop.run("fetch --to ../kept").success(), &[", 2 of them new"]);
    assert_eq!(fs_err::read(&nginx).unwrap(), good);
    kiln_testkit::home::check_no_leftovers(&directory);
    let signed = |root: &camino::Utf8Path| fs_err::read(root.join("dists/trixie/InRelease")).unwrap();
    assert_eq!(signed(&directory), signed(shop.mirror().root()), "as it was signed");
}

#[test]
fn a_directory_that_cannot_be_written() {
    let shop = Shop::new(BASE);
    shop.lock();
    shop.home.write("kept", "a file");
    says(&shop.run("fetch --to ../kept").code(3), &["error: write to ../kept", "hint: "]);
}

#[test]
fn an_index_that_nobody_has_any_more_is_said() {
    let shop = vanished();
    fs_err::remove_dir_all(shop.home.cache()).unwrap();
    let old = Repository::debian(shop.home.path().join("old")).write();
    let pool = old.root().join("pool");
    fs_err::create_dir(shop.home.path().join("debs")).unwrap();
    fs_err::rename(pool, shop.home.path().join("debs/pool")).unwrap();
    let output = shop.run("fetch --from ../debs --to ../kept").code(3);
    says(
        &output,
        &["error: bring the locked indexes into the store", "hint: the mirrors have moved on since this lock was made"],
    );
}
