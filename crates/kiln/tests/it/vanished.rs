//! Locked versions that left the mirror, and the ways out: a newer version, another place, a directory that keeps all.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_model::digest::Sha256;
use kiln_model::lock::Lock;
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
    error: find a locked file that is no longer where it was locked from
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
fn a_kept_directory_is_a_place_that_still_has_it() {
    let mut shop = Shop::served(&BASE.replace("nginx", "procps"));
    shop.lock();
    let _ = shop.run("fetch --to ../kept").success();
    shop.publish_version("trixie", "procps", "2:4.0.4-10");
    fs_err::remove_dir_all(shop.home.cache()).unwrap();
    says(&shop.run("fetch").code(3), &["procps 2:4.0.4-9, locked from trixie/main"]);
    shop.web().forget_requests();
    let _ = shop.run("fetch --from ../kept").success();
    assert_eq!(shop.asked(), [""; 0], "what is there needs no mirror");
}

#[test]
fn what_left_an_address_is_named_without_its_secrets() {
    let shop = Shop::new("");
    let elsewhere = shop.home.path().join("elsewhere");
    let web = Web::serve(&elsewhere);
    let deb = write_deb(&elsewhere, &Package::new("agent", "1"));
    let app = shop.home.write("elsewhere/app.tar", "app");
    let uri = web.url().replace("http://", "http://me:s3cret@");
    shop.spec(&format!(
        "[class.base]\ndistribution = \"trixie\"\npackages = [\"{uri}agent_1_amd64.deb\"]\n\
         [[class.base.step]]\ndownload = \"{uri}app.tar\"\nto = \"/opt/app.tar\"\n"
    ));
    shop.lock();
    fs_err::remove_dir_all(shop.home.cache()).unwrap();
    fs_err::remove_file(&deb).unwrap();
    let shown = |output: &kiln_testkit::Output| error_of(output).replace(&web.url()["http://".len()..], "WEB/");
    insta::assert_snapshot!(shown(&shop.run("fetch").code(3)), @"
    error: find a locked file that is no longer where it was locked from
      agent 1, which class base names, is not at http://***@WEB/agent_1_amd64.deb
    hint: if the file has moved, correct its address in class base; `kiln lock --update` locks what is there today, and `kiln fetch --from` takes the old file from a directory that `kiln fetch --to` wrote
    ");
    fs_err::remove_file(&app).unwrap();
    fs_err::remove_dir_all(shop.home.cache()).unwrap();
    insta::assert_snapshot!(shown(&shop.run("fetch").code(3)), @"
    error: find 2 locked files that are no longer where they were locked from
      agent 1, which class base names, is not at http://***@WEB/agent_1_amd64.deb
      http://***@WEB/app.tar, which class base names, is not there
    hint: if the file has moved, correct its address in class base; `kiln lock --update` locks what is there today, and `kiln fetch --from` takes the old file from a directory that `kiln fetch --to` wrote
    ");
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
        let _ = shop.run("fetch --to ../kept").success();
        // From here on there is neither mirror nor server nor store.
        shop.spec_from("", &classes);
        fs_err::remove_dir_all(shop.home.path().join("extra")).unwrap();
        drop(web);
        Self::of(shop)
    }

    /// A factory that has filled `kept`, without its mirror and its store.
    fn of(shop: Shop) -> Self {
        fs_err::remove_dir_all(shop.mirror().root()).unwrap();
        fs_err::remove_dir_all(shop.home.cache()).unwrap();
        let directory = shop.home.path().join("kept");
        Self { shop, directory }
    }

    /// Panics unless the directory has all that the lock needs.
    fn check_sufficient(&self) {
        let output = self.run("lock --check").success();
        assert!(!output.report().contains("not examined"), "{}", output.report());
        let _ = self.run("fetch").success();
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
    let nginx = directory.join("debian/pool/main/n/nginx/nginx_1.26.3-3_amd64.deb");
    let good = fs_err::read(&nginx).unwrap();
    damage::corrupt_byte(&nginx, 7);
    fs_err::remove_file(directory.join("debian/dists/trixie/InRelease")).unwrap();
    says(&shop.run("fetch --to ../kept").success(), &[", 2 of them new"]);
    assert_eq!(fs_err::read(&nginx).unwrap(), good);
    kiln_testkit::home::check_no_leftovers(&directory);
    let signed = |root: &Utf8Path| fs_err::read(root.join("dists/trixie/InRelease")).unwrap();
    assert_eq!(signed(&directory.join("debian")), signed(shop.mirror().root()), "as it was signed");
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

/// A package of both families, and one of a repository beside each, all at equal paths and with other bytes.
fn add_clashing(suite: Suite, family: &str) -> Suite {
    suite.package(Package::new("shop-theme", "1").for_all().file("/usr/share/shop-theme", family))
}

/// A repository called `tools` beside a distribution, and the lines that name it.
fn tools_of(shop: &Shop, distribution: &str) -> String {
    let suite = Suite::new("stable").origin("Tools");
    let tool = Package::new("shop-tool", "1").for_all().file("/usr/share/shop-tool", distribution);
    let uri = Repository::new(shop.home.path().join(format!("tools-of-{distribution}"))).suite(suite.package(tool));
    format!(
        "[[distribution.{distribution}.repository]]\nname = \"tools\"\nuri = \"{}\"\nsuite = \"stable\"\n\
         keyring = \"archive.gpg\"\n",
        uri.write().uri()
    )
}

#[test]
fn families_and_repositories_do_not_hide_each_others_files() {
    let shop = Shop::with("", |repository| repository.change("trixie", |suite| add_clashing(suite, "debian")));
    let ubuntu = |name: &str| Suite::new(name).origin("Ubuntu").label("Ubuntu");
    let noble = Repository::new(shop.home.path().join("noble"))
        .suite(add_clashing(ubuntu("noble").with_archive(), "ubuntu"))
        .suite(ubuntu("noble-updates"))
        .suite(ubuntu("noble-security"))
        .write();
    let tools = [tools_of(&shop, "trixie"), tools_of(&shop, "noble")];
    let classes = |mirror: &str| {
        let [of_trixie, of_noble] = &tools;
        format!(
            "{of_trixie}\n[distribution.noble]\nfamily = \"ubuntu\"\nsuite = \"noble\"\narchitecture = \"amd64\"\n\
             keyring = \"archive.gpg\"\n{mirror}\n{of_noble}\n\
             [class.base]\ndistribution = \"trixie\"\npackages = [\"shop-theme\", \"shop-tool\"]\n\
             [class.other]\ndistribution = \"noble\"\npackages = [\"shop-theme\", \"shop-tool\"]\n"
        )
    };
    shop.spec(&classes(&format!("mirror = \"{}\"", noble.uri())));
    shop.lock();
    let _ = shop.run("fetch --to ../kept").success();
    shop.spec_from("", &classes(""));
    let kept = Kept::of(shop);
    let read = |path: &str| fs_err::read(kept.directory.join(path)).unwrap();
    let theme = "pool/main/s/shop-theme/shop-theme_1_all.deb";
    assert_ne!(read(&format!("debian/{theme}")), read(&format!("ubuntu/{theme}")));
    let tool = "tools/pool/main/s/shop-tool/shop-tool_1_all.deb";
    assert_ne!(read(&format!("repositories/trixie/{tool}")), read(&format!("repositories/noble/{tool}")));
    kept.check_sufficient();
}

#[test]
fn a_snapshot_is_kept_as_well() {
    let shop = Shop::new("");
    let then = shop.home.path().join("mirror/20250907T000000Z");
    Repository::debian(&then).write();
    let snapshot = "snapshot = \"2025-09-07T00:00:00Z\"";
    shop.spec_from(&format!("mirror = \"{}\"\n{snapshot}", shop.uri()), BASE);
    shop.lock();
    let _ = shop.run("fetch --to ../kept").success();
    shop.spec_from(snapshot, BASE);
    Kept::of(shop).check_sufficient();
}

#[test]
fn every_generation_of_a_signed_release_is_kept() {
    let kept = Kept::new();
    let lock = Lock::parse(&kept.shop.lock_text()).unwrap();
    let indexes = lock.distributions.values().flat_map(|distribution| &distribution.indexes);
    let generations: BTreeSet<Sha256> =
        indexes.filter(|index| index.suite == "trixie").map(|index| index.release).collect();
    assert_eq!(generations.len(), 2, "the lock names two generations");
    for digest in generations {
        let path = kept.directory.join(format!("debian/dists/trixie/by-hash/SHA256/{digest}"));
        assert_eq!(Sha256::of(&fs_err::read(path).unwrap()), digest);
    }
    // The directory alone is enough to make another.
    let _ = kept.run("fetch --to ../again").success();
    let files = |directory: &Utf8Path| crate::fixture::files_below(directory).len();
    assert_eq!(files(&kept.shop.home.path().join("again")), files(&kept.directory));
}

#[test]
fn the_toolbox_of_another_architecture_is_its_own_hosts_affair() {
    let shop = Shop::new(BASE);
    let mut lock = Lock::parse(&shop.lock()).unwrap();
    let mut foreign = lock.distributions["toolbox-amd64"].clone();
    "arm64".clone_into(&mut foreign.architecture);
    for index in &mut foreign.indexes {
        index.path = index.path.replace("amd64", "arm64");
        index.sha256 = Sha256::of(b"an index that no mirror here has");
        index.release = Sha256::of(b"a Release that no mirror here has");
    }
    let mut toolbox = lock.toolboxes["amd64"].clone();
    "toolbox-arm64".clone_into(&mut toolbox.distribution);
    lock.distributions.insert(toolbox.distribution.clone(), foreign);
    lock.toolboxes.insert("arm64".to_owned(), toolbox);
    shop.write("kiln.lock", lock.print());
    let _ = shop.run("fetch --to ../kept").success();
    assert!(!shop.home.path().join("kept/debian/dists/trixie/main/binary-arm64").exists());
}

#[test]
fn a_distribution_that_left_the_spec_is_not_looked_for_elsewhere() {
    let shop = Shop::served(BASE);
    shop.lock();
    let spec = fs_err::read_to_string(shop.path("kiln.toml")).unwrap();
    shop.write(
        "kiln.toml",
        spec.replace("distribution.trixie]", "distribution.other]").replace("\"trixie\"\np", "\"other\"\np"),
    );
    shop.web().forget_requests();
    let output = shop.run("fetch");
    assert_ne!(output.status, Some(0));
    says(
        &output,
        &[
            "error: kiln.lock has distribution trixie, which is no longer in kiln.toml",
            "hint: `kiln lock` brings kiln.lock up to date",
        ],
    );
    assert_eq!(shop.asked(), [""; 0]);
}
