//! What a mirror may get wrong about its indexes, each found and named; and how little is fetched when it gets them right.

use camino::Utf8PathBuf;
use jiff::Timestamp;
use kiln_model::digest::Sha256;
use kiln_testkit::repository::Mirror;
use kiln_testkit::{Compression, Key, damage, key};

use crate::fixture::{BASE, NEXT_DATE, Shop, damage_stored, error_of, files_below, package, says};

/// `kiln lock` ends with 3, says these texts, and writes nothing.
#[track_caller]
fn refused(shop: &Shop, texts: &[&str]) {
    let output = shop.run("lock").code(3);
    says(&output, texts);
    says(&output, &["\nerror: ", "\nhint: "]);
    assert!(!shop.path("kiln.lock").exists());
}

#[test]
fn a_changed_text_does_not_fit_its_signature() {
    let shop = Shop::new(BASE);
    let release = shop.mirror().suite_file("trixie", "InRelease");
    damage::replace_text(&release, "Origin: Debian", "Origin: Debiam");
    refused(&shop, &["find a mirror with a valid Release of trixie", "verify its signature: the text was changed"]);
    let good = Shop::new(BASE);
    damage::truncate(&good.mirror().suite_file("trixie", "InRelease"), 500);
    refused(&good, &["verify its signature: the signed document is truncated"]);
}

#[test]
fn strangers_keys_are_not_trusted() {
    let mut shop = Shop::new(BASE);
    let trusted = fs_err::read(shop.path("archive.gpg")).unwrap();
    shop.publish_suites(|suite| suite.signed_by([Key::named("stranger")]));
    shop.write("archive.gpg", &trusted);
    refused(&shop, &["no signature can be trusted", "the key is not in the keyring", "give its key with `keyring`"]);
    // A second signature, by a key that is known, is enough.
    shop.publish_suites(|suite| suite.signed_by([Key::named("stranger"), Key::named("archive")]));
    shop.write("archive.gpg", &trusted);
    assert!(shop.lock().contains(&Key::named("archive").fingerprint()));
}

#[test]
fn keys_that_no_longer_count() {
    let mut shop = Shop::new(BASE);
    shop.publish_suites(|suite| suite.signed_by([Key::named("archive").expired()]));
    refused(&shop, &["no signature can be trusted", "the key expired on ", "hint: install the archive's newer keys"]);
    shop.publish_suites(|suite| suite.signed_by([Key::named("archive").revoked()]));
    refused(&shop, &["no signature can be trusted", "the key is revoked"]);
}

#[test]
fn signatures_by_subkeys_count() {
    let mut shop = Shop::new(BASE);
    shop.publish_suites(|suite| suite.signed_by([Key::named("archive").with_signing_subkey()]));
    assert!(shop.lock().contains(&Key::named("archive").with_signing_subkey().signing_fingerprint()));
}

#[test]
fn unsigned_mirrors_are_refused() {
    let mut shop = Shop::new(BASE);
    let trusted = fs_err::read(shop.path("archive.gpg")).unwrap();
    shop.publish_suites(|suite| suite.signed_by([]));
    shop.write("archive.gpg", trusted);
    refused(&shop, &["its InRelease cannot be had: it is not there"]);
    let release = shop.mirror().suite_file("trixie", "Release");
    fs_err::copy(&release, release.with_file_name("InRelease")).unwrap();
    refused(&shop, &["verify its signature", "this document is not signed"]);
}

#[test]
fn releases_out_of_their_time() {
    let mut shop = Shop::new(BASE);
    shop.publish_suites(|suite| suite.valid_until("2025-09-13T10:00:00Z"));
    refused(&shop, &["the Release file of trixie has expired: it was valid until 2025-09-13T10:00:00Z"]);
    shop.publish_suites(|suite| suite.signed_at("2025-09-06T10:00:00Z").date("2100-09-06T10:00:00Z"));
    refused(&shop, &["the Release file of trixie is from the future: it was made on 2100-09-06T10:00:00Z", "clock"]);
    shop.publish_suites(|suite| suite.signed_at("2100-09-06T10:00:00Z"));
    refused(&shop, &["no signature can be trusted", "it is from the future"]);
}

#[test]
fn somebody_elses_release() {
    let mut shop = Shop::new(BASE);
    shop.publish_suites(|suite| suite.origin("Devuan"));
    refused(&shop, &["its Origin is `Devuan`, not `Debian`"]);
    shop.publish_suites(|suite| suite.alias("oldstable").codename("bookworm"));
    refused(&shop, &["it is the Release of bookworm"]);
}

#[test]
fn an_older_release_is_taken_only_when_told_to() {
    let mut shop = Shop::new(BASE);
    shop.publish(|repository| repository.dated(NEXT_DATE));
    let newer = shop.lock();
    shop.publish(|repository| repository.dated("2025-09-06T10:00:00Z"));
    for verb in ["lock --update", "lock --update nginx", "lock --update --security"] {
        let output = shop.run(verb).code(3);
        says(
            &output,
            &[
                "it is dated 2025-09-06T10:00:00Z, before the lock's 2025-09-08T10:00:00Z: the mirror went back in time",
                "hint: if you trust this mirror, `--allow-older` takes its older indexes; otherwise use another",
            ],
        );
        assert_eq!(shop.lock_text(), newer);
    }
    says(&shop.run("lock").success(), &["kiln.lock is up to date"]);
    let _ = shop.run("lock --update --allow-older").success();
    assert!(
        shop.lock_text().contains("date = \"2025-09-06T10:00:00Z\"")
            && !shop.lock_text().contains(&format!("date = \"{NEXT_DATE}"))
    );
}

const INDEX: &str = "main/binary-amd64/Packages.xz";

#[test]
fn indexes_with_other_bytes_are_refused() {
    let mut shop = Shop::new(BASE);
    shop.publish_suites(|suite| suite.by_hash(false));
    damage::corrupt_byte(&shop.mirror().suite_file("trixie", INDEX), 100);
    refused(&shop, &["index trixie/main", "its bytes are not the expected ones: expected sha256 "]);
    shop.publish_suites(|suite| suite.by_hash(false));
    damage::truncate(&shop.mirror().suite_file("trixie", INDEX), 100);
    refused(&shop, &["index trixie/main", "its size is not the expected one", "got 100"]);
    shop.publish_suites(|suite| suite.by_hash(false));
    fs_err::remove_file(shop.mirror().suite_file("trixie", INDEX)).unwrap();
    refused(&shop, &["index trixie/main", "it is not there"]);
}

#[test]
fn a_damaged_copy_by_hash_is_passed_by() {
    let shop = Shop::new(BASE);
    let digest = Sha256::of(&fs_err::read(shop.mirror().suite_file("trixie", INDEX)).unwrap());
    let by_hash = shop.mirror().suite_file("trixie", &format!("main/binary-amd64/by-hash/SHA256/{digest}"));
    damage::corrupt_byte(&by_hash, 50);
    shop.lock();
}

/// Puts `bytes` in place of the suite's index, in the Release too, which is signed again: a mirror that means it.
fn publish_index(mirror: &Mirror, bytes: &[u8]) {
    let index = mirror.suite_file("trixie", INDEX);
    fs_err::write(&index, bytes).unwrap();
    let release = fs_err::read_to_string(mirror.suite_file("trixie", "Release")).unwrap();
    let line = release.lines().find(|line| line.ends_with(INDEX)).unwrap();
    let release = release.replace(line, &format!(" {} {} {INDEX}", Sha256::of(bytes), bytes.len()));
    let date: Timestamp = NEXT_DATE.parse().unwrap();
    let signed = key::sign_inline(&release, &[Key::named("archive")], date);
    fs_err::write(mirror.suite_file("trixie", "InRelease"), signed).unwrap();
}

#[test]
fn indexes_that_cannot_be_read_are_refused() {
    let mut shop = Shop::new(BASE);
    shop.publish_suites(|suite| suite.by_hash(false));
    publish_index(shop.mirror(), b"this is no xz file");
    says(&shop.run("lock").code(3), &["error: read the index trixie/main\n  because: "]);
    shop.publish_suites(|suite| suite.by_hash(false));
    let good = fs_err::read(shop.mirror().suite_file("trixie", INDEX)).unwrap();
    publish_index(shop.mirror(), &good[..good.len() / 2]);
    says(&shop.run("lock").code(3), &["error: read the index trixie/main\n  because: ", "hint: the mirror publishes"]);
}

/// What is behind the path of the suite's InRelease, to be put back later.
fn in_release(mirror: &Mirror) -> (Utf8PathBuf, Vec<u8>) {
    let path = mirror.suite_file("trixie", "InRelease");
    let bytes = fs_err::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn a_mirror_in_mid_update_is_read_by_hash() {
    let mut shop = Shop::new(BASE);
    let (path, old) = in_release(shop.mirror());
    let newer = package("iproute2").at_version("6.16.0-1");
    shop.publish(|repository| {
        let repository = repository.keep_old_indexes(true);
        repository.change("trixie", |suite| suite.date(NEXT_DATE).replace(newer).package(package("iproute2")))
    });
    let (_, new) = in_release(shop.mirror());
    // The plain names are of the new generation already, the signed file is not.
    fs_err::write(&path, old).unwrap();
    shop.lock();
    assert_eq!(shop.version("base", "iproute2").as_deref(), Some("6.15.0-1"));
    fs_err::write(&path, new).unwrap();
    let _ = shop.run("lock --update").success();
    assert_eq!(shop.version("base", "iproute2").as_deref(), Some("6.16.0-1"));
}

#[test]
fn a_mirror_in_mid_update_without_by_hash_is_named() {
    let mut shop = Shop::new(BASE);
    shop.publish_suites(|suite| suite.by_hash(false));
    let (path, old) = in_release(shop.mirror());
    shop.publish_version("trixie", "iproute2", "6.16.0-1");
    fs_err::write(path, old).unwrap();
    refused(&shop, &["index trixie/main", "expected", "hint: the mirror may be in the middle of an update"]);
}

#[test]
fn every_form_of_an_index_is_read() {
    let mut shop = Shop::new(BASE);
    for form in [Compression::Xz, Compression::Gzip, Compression::Zstd, Compression::None] {
        shop.publish_suites(|suite| suite.compressions([form]));
        shop.unlock();
        let lock = shop.lock();
        assert!(lock.contains(&format!("main/binary-amd64/Packages{}\"", form.suffix())), "{lock}");
        let _ = shop.run("lock --check").success();
    }
}

#[test]
fn only_what_changed_is_fetched() {
    let mut shop = Shop::served(BASE);
    shop.lock();
    let asked = shop.asked();
    assert_eq!(asked.iter().filter(|path| path.ends_with("/InRelease")).count(), 3, "{asked:#?}");
    assert_eq!(asked.iter().filter(|path| path.contains("/by-hash/")).count(), 3, "{asked:#?}");
    assert_eq!(asked.len(), 6, "{asked:#?}");

    shop.publish_version("trixie-security", "iproute2", "6.15.0-1+deb13u1");
    shop.web().forget_requests();
    says(&shop.run("lock --update").success(), &["trixie: unchanged", "trixie-security: new", "iproute2"]);
    let requests = shop.web().requests();
    let (releases, others): (Vec<_>, Vec<_>) =
        requests.iter().partition(|request| request.path().ends_with("/InRelease"));
    assert_eq!(releases.len(), 3);
    assert!(releases.iter().all(|request| request.header("if-none-match").is_some()), "{releases:#?}");
    let index = "dists/trixie-security/main/binary-amd64/by-hash/";
    assert!(others.len() == 1 && others[0].path().starts_with(index), "{others:#?}");

    shop.web().forget_requests();
    says(&shop.run("lock --update").success(), &["kiln.lock is up to date"]);
    assert!(shop.asked().iter().all(|path| path.ends_with("/InRelease")), "{:#?}", shop.asked());
}

#[test]
fn what_a_suite_does_not_have_is_a_mistake_of_the_spec() {
    let shop = Shop::new(BASE);
    let check = |lines: &str, texts: &[&str]| {
        shop.spec(&format!("{lines}\n{BASE}"));
        says(&shop.run("lock").code(2), texts);
    };
    check("components = [\"main\", \"contrib\"]", &["has no component `contrib` (it has main)"]);
    let text = fs_err::read_to_string(shop.path("kiln.toml")).unwrap().replace("\"amd64\"", "\"riscv64\"");
    shop.write("kiln.toml", text);
    says(&shop.run("lock").code(2), &["has no architecture `riscv64` (it has "]);
}

#[test]
fn a_suite_that_is_not_there() {
    let shop = Shop::new(BASE);
    let text =
        fs_err::read_to_string(shop.path("kiln.toml")).unwrap().replace("suite = \"trixie\"", "suite = \"trixxie\"");
    shop.write("kiln.toml", text);
    let output = shop.run("lock").code(3);
    says(&output, &["a valid Release of trixxie", "is not there", "hint: is `trixxie` the right suite?"]);
}

#[test]
fn a_store_damaged_anywhere_gives_the_same_lock() {
    let shop = Shop::served(BASE);
    let first = shop.lock();
    let directories = ["sha256", "derived", "slot"].map(|directory| shop.home.cache().join(directory));
    let files: Vec<Utf8PathBuf> = directories.iter().flat_map(|directory| files_below(directory)).collect();
    assert!(files.len() >= 3 + 3 + 3, "{files:#?}");
    for file in files {
        let size = fs_err::metadata(&file).unwrap().len();
        for truncated in [false, true] {
            if !file.exists() {
                continue;
            }
            damage_stored(&file);
            if truncated {
                damage::truncate(&file, size / 2);
            }
            let output = shop.run("lock --update").success();
            assert_eq!(shop.lock_text(), first, "{file} was damaged:\n{}", output.report());
            let _ = shop.run("lock --check").success();
        }
    }
}

#[test]
fn the_error_reads_well() {
    let shop = Shop::new(BASE);
    damage::replace_text(&shop.mirror().suite_file("trixie", "InRelease"), "Origin: Debian", "Origin: Debiam");
    insta::assert_snapshot!(error_of(&shop.run("lock").code(3)), @"
    error: find a mirror with a valid Release of trixie
      file://[HOME]/mirror/ (named by kiln.toml): verify its signature: the text was changed: the signature by 89532A313CCE1A7D7528985D3031D6B7FCF2BBD8 does not fit it
    hint: the mirror may be damaged or not what it claims; if it is another archive, give its key with `keyring`
    ");
    let mut shop = Shop::new(BASE);
    shop.publish_suites(|suite| suite.valid_until("2025-09-13T10:00:00Z"));
    let error = error_of(&shop.run("lock").code(3));
    let (error, _) = error.split_once("and the clock here says ").unwrap();
    insta::assert_snapshot!(error, @"
    error: find a mirror with a valid Release of trixie
      file://[HOME]/mirror/ (named by kiln.toml): the Release file of trixie has expired: it was valid until 2025-09-13T10:00:00Z,
    ");
}
