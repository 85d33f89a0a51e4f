//! A lock that was damaged, merged by hand, or written by another Kiln: noticed by every verb that reads it.

use kiln_model::digest::Sha256;
use kiln_testkit::damage;

use crate::fixture::{BASE, Shop, says};

/// The text with the digest that it should have, as a forger or a newer Kiln would write it.
pub(crate) fn resealed(text: &str) -> String {
    let (head, rest) = text.split_once("digest = \"").unwrap();
    let (_, body) = rest.split_once("\"\n").unwrap();
    let end = body.find("\n[ids").map_or(body.len(), |newline| newline + 1);
    format!("{head}digest = \"{}\"\n{body}", Sha256::of(&body.as_bytes()[..end]))
}

/// Every verb that reads the lock ends with 2 and says these.
#[track_caller]
fn check(shop: &Shop, lock: impl AsRef<[u8]>, texts: &[&str]) {
    shop.write("kiln.lock", lock.as_ref());
    for verb in ["lock", "lock --check", "lock --update", "lock --list", "fetch"] {
        let output = shop.run(verb).code(2);
        says(&output, texts);
        assert_eq!(output.stdout, "");
    }
    assert_eq!(fs_err::read(shop.path("kiln.lock")).unwrap(), lock.as_ref(), "a damaged lock is left for its owner");
}

const RESTORE: &str = "hint: restore kiln.lock from version control; after a merge, take one side and run `kiln lock`";

#[test]
fn damage_is_noticed() {
    let shop = Shop::new(BASE);
    let good = shop.lock();
    let damaged = "error: kiln.lock was changed by hand or damaged: its digest says ";
    check(&shop, good.replacen("version = \"1.26.3-3\"", "version = \"1.26.3-4\"", 1), &[damaged, RESTORE]);
    check(&shop, good.replacen("size = ", "size = 1", 1), &[damaged, RESTORE]);
    check(&shop, good.replacen("    { name", "    { name ", 1), &[damaged, RESTORE]);
    check(&shop, format!("{good}# a word\n"), &[damaged, RESTORE]);
    let other_digest = good.replacen("digest = \"", "digest = \"0", 1);
    check(&shop, other_digest, &["error: kiln.lock", "digest", RESTORE]);
    let end = good.rfind("[toolbox.").unwrap();
    check(&shop, &good[..end], &[damaged, RESTORE]);
    shop.write("kiln.lock", &good);
    let _ = shop.run("lock --check").success();
}

#[test]
fn every_flipped_byte_is_noticed() {
    let shop = Shop::new(BASE);
    let good = shop.lock();
    let first = good.find("digest = ").unwrap();
    for offset in (first..good.len()).step_by(good.len() / 40) {
        shop.write("kiln.lock", &good);
        damage::corrupt_byte(&shop.path("kiln.lock"), i64::try_from(offset).unwrap());
        let output = shop.run("lock --check");
        assert_eq!(output.status, Some(2), "byte {offset}: {}", output.report());
        says(&output, &["hint: "]);
    }
}

#[test]
fn a_lock_that_is_no_lock() {
    let shop = Shop::new(BASE);
    let good = shop.lock();
    check(&shop, "", &["kiln.lock", RESTORE]);
    check(&shop, &good[..good.len() / 2], &["kiln.lock", RESTORE]);
    let merged = format!("<<<<<<< HEAD\n{good}=======\n{good}>>>>>>> other\n");
    check(&shop, merged, &["kiln.lock:1:", "<<<<<<< HEAD", RESTORE]);
    let inside = good.replacen("[[class", "<<<<<<< HEAD\n[[class", 1);
    check(&shop, inside, &["<<<<<<< HEAD", RESTORE]);
    check(&shop, format!("{good}{good}"), &["kiln.lock", RESTORE]);
    check(&shop, [b'#', 0xff, 0xfe, b'\n'], &["error: kiln.lock is not UTF-8 text", "hint: restore kiln.lock"]);
}

#[test]
fn line_ends_of_a_checkout_do_not_matter() {
    let shop = Shop::new(BASE);
    let good = shop.lock();
    shop.write("kiln.lock", good.replace('\n', "\r\n"));
    says(&shop.run("lock --check").success(), &["kiln.lock fits kiln.toml"]);
    says(&shop.run("lock").success(), &["kiln.lock is up to date"]);
    let _ = shop.run("fetch").success();
}

#[test]
fn a_newer_lock_is_left_to_a_newer_kiln() {
    let shop = Shop::new(BASE);
    let good = shop.lock();
    let newer = good.replacen("format = 1", "format = 2\nsurprise = true", 1);
    check(
        &shop,
        resealed(&newer),
        &["kiln.lock has format 2, this Kiln reads 1", "hint: use the Kiln that wrote it, or a newer one"],
    );
    let output_version = good.replacen("output = 1", "output = 9", 1);
    check(
        &shop,
        resealed(&output_version),
        &["error: kiln.lock is for output version 9, this Kiln has 1", "hint: use the Kiln that wrote it"],
    );
}

#[test]
fn contradictions_are_noticed_before_anything_is_done() {
    let shop = Shop::new(BASE);
    let good = shop.lock();
    for (from, to, text) in [
        ("path = \"pool/", "path = \"../pool/", "which leaves the mirror"),
        ("index = \"trixie/main\"", "index = \"sid/main\"", "is from index `sid/main`, which it does not hold"),
        (
            "distribution = \"trixie\"",
            "distribution = \"sid\"",
            "class base is of distribution `sid`, which it does not hold",
        ),
    ] {
        check(&shop, resealed(&good.replacen(from, to, 1)), &["error: kiln.lock contradicts itself: ", text, RESTORE]);
    }
    let line = good.lines().find(|line| line.contains("name = \"nginx\"")).unwrap();
    let twice = resealed(&good.replace(line, &format!("{line}\n{line}")));
    check(&shop, twice, &["error: kiln.lock contradicts itself: class base has package nginx twice"]);
}

#[test]
fn a_lock_that_cannot_be_read_is_the_environment() {
    let shop = Shop::new(BASE);
    fs_err::create_dir(shop.path("kiln.lock")).unwrap();
    for verb in ["lock", "lock --check", "fetch"] {
        says(&shop.run(verb).code(3), &["error: read the lock", "kiln.lock"]);
    }
}
