//! Signatures, good and forged, judged by Kiln and by gpgv.

use std::process::Command;

use jiff::Timestamp;
use kiln_debian::openpgp::{
    DEBIAN_ARCHIVE_KEYS, Keyring, KeyringError, SignatureError, UBUNTU_ARCHIVE_KEYS, verify_inline,
};
use pgp::packet::{Notation, Signature, SignatureType, SubpacketData};
use pgp::types::{Duration, SigningKey};
use proptest::prelude::*;

use crate::forge::{
    BORN, Draft, SIGNED, Use, YEAR, armor, binding, certificate, consent, document, plain_certificate, primary,
    revocation, self_signature, subkey, user,
};
use crate::run;

const TEXT: &str = "Origin: Kiln\n-dash\n\nSuite: x\n";
/// The text as signatures cover it.
const CANONICAL: &str = "Origin: Kiln\r\n-dash\r\n\r\nSuite: x";

fn now() -> Timestamp {
    "2024-06-01T00:00:00Z".parse().unwrap()
}

/// A text signature in order.
fn sign(signer: &impl SigningKey) -> Signature {
    Draft::new(SignatureType::Text, SIGNED).over(CANONICAL, signer)
}

/// What gpgv does: accepts (a good signature and no bad one, as apt reads it) or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gpgv {
    Accepts,
    Refuses,
}

fn gpgv(keyring: &[u8], document: &[u8]) -> Gpgv {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs_err::write(path("keyring.gpg"), keyring).unwrap();
    fs_err::write(path("InRelease"), document).unwrap();
    let output = run(Command::new("gpgv")
        .arg("--homedir")
        .arg(directory.path())
        .args(["--status-fd", "1", "--keyring"])
        .args([path("keyring.gpg"), path("InRelease")]));
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_good = status.contains("GOODSIG") && !status.contains("BADSIG");
    if is_good { Gpgv::Accepts } else { Gpgv::Refuses }
}

/// Kiln's answer: `ok` and what was ignored, or the error.
fn kiln(keyring: &[u8], document: &[u8]) -> String {
    let keyring = Keyring::parse(keyring).unwrap();
    match verify_inline(document, &keyring, now()) {
        Ok(verified) => {
            assert_eq!(verified.text, TEXT);
            let ignored = verified.ignored.iter().map(|rejected| format!(", {}", rejected.problem));
            std::iter::once("ok".to_owned()).chain(ignored).collect()
        }
        Err(SignatureError::Untrusted { rejected }) => {
            rejected.iter().map(|rejected| rejected.problem.to_string()).collect::<Vec<_>>().join(", ")
        }
        Err(SignatureError::Forged { .. }) => "forged".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn check(keyring: &[u8], document: &str, expected: &str, by_gpgv: Gpgv) {
    assert_eq!(kiln(keyring, document.as_bytes()), expected);
    assert_eq!(gpgv(keyring, document.as_bytes()), by_gpgv, "gpgv, where Kiln says: {expected}");
}

#[test]
fn documents_in_order_are_accepted() {
    let key = primary("a");
    let keyring = plain_certificate(&key);
    check(&keyring, &document(TEXT, vec![sign(&key)]), "ok", Gpgv::Accepts);
    check(&keyring, &document(TEXT, vec![sign(&key)]).replace('\n', "\r\n"), "ok", Gpgv::Accepts);
    check(&keyring, &document(&TEXT.replace("Kiln", "Kiln \t "), vec![sign(&key)]), "ok", Gpgv::Accepts);
    // What Go's OpenPGP makes, and with it aptly.
    let binary = Draft::new(SignatureType::Binary, SIGNED).over(CANONICAL, &key);
    check(&keyring, &document(TEXT, vec![binary]), "ok", Gpgv::Accepts);
}

#[test]
fn one_good_signature_is_enough() {
    let (key, stranger) = (primary("a"), primary("stranger"));
    let keyring = plain_certificate(&key);
    let both = document(TEXT, vec![sign(&stranger), sign(&key)]);
    check(&keyring, &both, "ok, the key is not in the keyring", Gpgv::Accepts);
    let alone = document(TEXT, vec![sign(&stranger)]);
    check(&keyring, &alone, "the key is not in the keyring", Gpgv::Refuses);
}

#[test]
fn changed_texts_are_refused() {
    let (key, other) = (primary("a"), primary("b"));
    let keyring = plain_certificate(&key);
    let changed = document(TEXT, vec![sign(&key)]).replace("Suite: x", "Suite: y");
    check(&keyring, &changed, "forged", Gpgv::Refuses);
    // One good signature does not excuse a bad one.
    let bad = Draft::new(SignatureType::Text, SIGNED).over("other", &key);
    let two = [keyring.clone(), plain_certificate(&other)].concat();
    check(&two, &document(TEXT, vec![sign(&other), bad]), "forged", Gpgv::Refuses);
    // A signature that names a key and was made by another.
    let name = SubpacketData::IssuerFingerprint(pgp::types::KeyDetails::fingerprint(&key));
    let forged = Draft::new(SignatureType::Text, SIGNED).saying(name).over(CANONICAL, &other);
    check(&keyring, &document(TEXT, vec![forged]), "forged", Gpgv::Refuses);
}

#[test]
fn signatures_out_of_time_are_refused() {
    let key = primary("a");
    let keyring = plain_certificate(&key);
    let case = |draft: Draft, expected: &str, by_gpgv| {
        check(&keyring, &document(TEXT, vec![draft.over(CANONICAL, &key)]), expected, by_gpgv);
    };
    let future = Draft::new(SignatureType::Text, SIGNED + 78 * YEAR);
    // gpgv warns of the clock and believes it.
    case(future, "it is from the future (2101-12-13T00:00:00Z)", Gpgv::Accepts);
    let expiring = SubpacketData::SignatureExpirationTime(Duration::from_secs(24 * 3600));
    let expired = Draft::new(SignatureType::Text, SIGNED).saying(expiring);
    case(expired, "it expired on 2024-01-02T00:00:00Z", Gpgv::Refuses);
    let old = Draft::new(SignatureType::Text, BORN - 1);
    case(old, "it is older than its key", Gpgv::Refuses);
}

#[test]
fn signatures_of_other_kinds_are_refused() {
    let key = primary("a");
    let keyring = plain_certificate(&key);
    let notation =
        |name: &'static str| SubpacketData::Notation(Notation { readable: true, name: name.into(), value: "1".into() });
    let demanding = Draft::new(SignatureType::Text, SIGNED).demanding(notation("must@mirror.example"));
    let demanding = document(TEXT, vec![demanding.over(CANONICAL, &key)]);
    check(&keyring, &demanding, "it has a critical part that is not known", Gpgv::Refuses);
    let noting = Draft::new(SignatureType::Text, SIGNED).saying(notation("may@mirror.example"));
    check(&keyring, &document(TEXT, vec![noting.over(CANONICAL, &key)]), "ok", Gpgv::Accepts);
    let about_user = self_signature(SIGNED).over_user(&key, &user());
    check(&keyring, &document(TEXT, vec![about_user]), "it is not a signature over a document", Gpgv::Refuses);
}

#[test]
fn keys_out_of_time_are_refused() {
    let key = primary("a");
    let signed = document(TEXT, vec![sign(&key)]);
    let expires = |created: u32, years: u32| {
        let draft = self_signature(created).usable_for(Use::Signing).key_expires_after(years * YEAR);
        draft.over_user(&key, &user())
    };
    let of = |statements| certificate(&key, Vec::new(), statements, Vec::new());
    let expired = "the key expired on 2020-12-31T00:00:00Z";
    check(&of(vec![expires(BORN, 1)]), &signed, expired, Gpgv::Refuses);
    // The newest statement counts, whatever their order.
    check(&of(vec![expires(BORN, 1), expires(BORN + YEAR, 50)]), &signed, "ok", Gpgv::Accepts);
    check(&of(vec![expires(BORN + YEAR, 1), expires(BORN, 50)]), &signed, expired, Gpgv::Refuses);
    // A statement about something else does not make the key eternal.
    let about_else = Draft::new(SignatureType::Key, SIGNED).over_key(&key);
    let silent = certificate(&key, vec![about_else], vec![expires(BORN, 1)], Vec::new());
    check(&silent, &signed, expired, Gpgv::Refuses);
    // Two copies of a certificate, one renewed: what both say counts.
    let copies = [of(vec![expires(BORN, 1)]), of(vec![expires(BORN + YEAR, 50)])].concat();
    assert_eq!(kiln(&copies, signed.as_bytes()), "ok");
}

#[test]
fn revoked_keys_are_refused() {
    let (key, stranger) = (primary("a"), primary("stranger"));
    let signed = document(TEXT, vec![sign(&key)]);
    let statement = || self_signature(BORN).usable_for(Use::Signing).over_user(&key, &user());
    let revoked = |by| certificate(&key, vec![by], vec![statement()], Vec::new());
    let own = revocation(SignatureType::KeyRevocation).over_key(&key);
    check(&revoked(own.clone()), &signed, "the key is revoked", Gpgv::Refuses);
    // In one of two copies of the certificate.
    let copies = [plain_certificate(&key), revoked(own)].concat();
    assert_eq!(kiln(&copies, signed.as_bytes()), "the key is revoked");
    // By somebody else.
    let foreign = revocation(SignatureType::KeyRevocation).over_key(&stranger);
    check(&revoked(foreign), &signed, "ok", Gpgv::Accepts);
    // The name is withdrawn, and nothing else vouches for the key.
    let withdrawn = revocation(SignatureType::CertRevocation).over_user(&key, &user());
    let nameless = certificate(&key, Vec::new(), vec![statement(), withdrawn], Vec::new());
    assert_eq!(kiln(&nameless, signed.as_bytes()), UNBOUND);
}

const UNBOUND: &str = "the key has no valid and strong signature that binds it to its certificate";

#[test]
fn keys_must_be_bound_to_their_names() {
    let (key, stranger) = (primary("a"), primary("stranger"));
    let signed = document(TEXT, vec![sign(&key)]);
    let without = certificate(&key, Vec::new(), Vec::new(), Vec::new());
    assert_eq!(kiln(&without, signed.as_bytes()), UNBOUND);
    let foreign = self_signature(BORN).usable_for(Use::Signing).over_user(&stranger, &user());
    let foreign = certificate(&key, Vec::new(), vec![foreign], Vec::new());
    assert_eq!(kiln(&foreign, signed.as_bytes()), UNBOUND);
    let encrypting = self_signature(BORN).usable_for(Use::Encryption).over_user(&key, &user());
    let encrypting = certificate(&key, Vec::new(), vec![encrypting], Vec::new());
    assert_eq!(kiln(&encrypting, signed.as_bytes()), "the key is not for signing");
}

#[test]
fn subkeys_must_be_bound_both_ways() {
    let (key, stranger, sub) = (primary("a"), primary("stranger"), subkey("s"));
    let signed = document(TEXT, vec![sign(&sub)]);
    let of = |signatures| {
        let statement = self_signature(BORN).usable_for(Use::Signing).over_user(&key, &user());
        certificate(&key, Vec::new(), vec![statement], vec![(&sub, signatures)])
    };
    let bound = || binding(BORN).usable_for(Use::Signing).saying(consent(&key, &sub));
    check(&of(vec![bound().over_subkey(&key, &key, &sub)]), &signed, "ok", Gpgv::Accepts);
    let case = |signatures, expected| check(&of(signatures), &signed, expected, Gpgv::Refuses);
    case(vec![], UNBOUND);
    case(vec![bound().over_subkey(&stranger, &key, &sub)], UNBOUND);
    case(vec![binding(BORN).usable_for(Use::Signing).over_subkey(&key, &key, &sub)], UNBOUND);
    let foreign_consent = binding(BORN).usable_for(Use::Signing).saying(consent(&stranger, &sub));
    case(vec![foreign_consent.over_subkey(&key, &key, &sub)], UNBOUND);
    let encrypting = binding(BORN).usable_for(Use::Encryption).over_subkey(&key, &key, &sub);
    case(vec![encrypting], "the key is not for signing");
    let expiring = bound().key_expires_after(YEAR).over_subkey(&key, &key, &sub);
    case(vec![expiring], "the key expired on 2020-12-31T00:00:00Z");
    let revoked = revocation(SignatureType::SubkeyRevocation).over_subkey(&key, &key, &sub);
    case(vec![bound().over_subkey(&key, &key, &sub), revoked], "the key is revoked");
}

#[test]
fn a_subkey_is_worth_no_more_than_its_primary_key() {
    let (key, sub) = (primary("a"), subkey("s"));
    let signed = document(TEXT, vec![sign(&sub)]);
    let bound = binding(BORN).usable_for(Use::Signing).saying(consent(&key, &sub)).over_subkey(&key, &key, &sub);
    let expired = self_signature(BORN).usable_for(Use::Signing).key_expires_after(YEAR).over_user(&key, &user());
    let keyring = certificate(&key, Vec::new(), vec![expired], vec![(&sub, vec![bound])]);
    check(&keyring, &signed, "the key expired on 2020-12-31T00:00:00Z", Gpgv::Refuses);
}

#[test]
fn text_around_the_signed_text_is_refused() {
    let key = primary("a");
    let keyring = plain_certificate(&key);
    let signed = document(TEXT, vec![sign(&key)]);
    for around in [format!("Evil: yes\n{signed}"), format!("{signed}Evil: yes\n"), format!("\n{signed}")] {
        assert!(kiln(&keyring, around.as_bytes()).starts_with("line "), "{around}");
    }
    for length in 0..signed.len() - 1 {
        assert!(!kiln(&keyring, &signed.as_bytes()[..length]).starts_with("ok"), "{length}");
    }
}

fn fixture(name: &str) -> Vec<u8> {
    fs_err::read(format!("{}/tests/formats/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn documents_of_gnupg_are_read() {
    let keyring = Keyring::parse(&fixture("rsa2048.gpg")).unwrap();
    let verified = verify_inline(&fixture("rsa2048.InRelease"), &keyring, now()).unwrap();
    assert_eq!(
        verified.text,
        "Origin: Kiln\nDescription: fixture\n - not a dash at the start\n-dash at the start\n\n--\nKöln\n"
    );
    let signer = &verified.signers[0];
    assert_eq!(signer.fingerprint, "6A57CBF7E31CF4B284D84142F9D70C2867D9E6FF");
    assert_ne!(signer.primary_fingerprint, signer.fingerprint);
    assert_eq!(signer.created.to_string(), "2024-01-01T00:00:00Z");
    assert_eq!(gpgv(&fixture("rsa2048.gpg"), &fixture("rsa2048.InRelease")), Gpgv::Accepts);
}

#[test]
fn weak_hashes_and_keys_are_refused() {
    let error = |keyring: &str, document: &str| {
        let keyring = Keyring::parse(&fixture(keyring)).unwrap();
        verify_inline(&fixture(document), &keyring, now()).unwrap_err().to_string()
    };
    assert_eq!(
        error("rsa2048.gpg", "rsa2048-sha1.InRelease"),
        "no signature can be trusted: signature by 6A57CBF7E31CF4B284D84142F9D70C2867D9E6FF: its hash SHA1 is too weak"
    );
    assert_eq!(
        error("rsa1024.asc", "rsa1024.InRelease"),
        "no signature can be trusted: signature by AA4962251D759D07EB903BB076D9ED9858E92D4D: \
         the key is too weak (RSA of 1024 bits)"
    );
}

#[test]
fn keyrings_come_in_several_forms() {
    let (first, second) = (plain_certificate(&primary("a")), plain_certificate(&primary("b")));
    let fingerprints = |bytes: &[u8]| -> Vec<String> {
        Keyring::parse(bytes).unwrap().certificates().map(|certificate| certificate.fingerprint).collect()
    };
    let both = fingerprints(&[first.clone(), second.clone()].concat());
    assert_eq!(both.len(), 2);
    let armored = |bytes: &[u8]| armor("PGP PUBLIC KEY BLOCK", bytes);
    assert_eq!(fingerprints(format!("{}{}", armored(&first), armored(&second)).as_bytes()), both);
    assert_eq!(fingerprints(&[first.clone(), first.clone()].concat()), both[..1]);
    let one: Vec<_> = Keyring::parse(&first).unwrap().certificates().collect();
    assert_eq!(one[0].fingerprint, both[0]);
    assert_eq!(one[0].users, ["Kiln fixture <fixture@mirror.example>"]);
}

#[test]
fn what_is_no_keyring_is_named() {
    let error = |bytes: &[u8]| Keyring::parse(bytes).unwrap_err();
    assert!(matches!(error(b""), KeyringError::Armor(_)));
    assert!(matches!(error(b"text"), KeyringError::Armor(_)));
    assert_eq!(error(&[0x99; 40]), KeyringError::Empty);
    assert_eq!(error(b"\0\0\0\x20\x01\x01\0\x02KBXf\0\0\0\0"), KeyringError::Keybox);
    assert_eq!(error(&fixture("rsa2048.Release.gpg")), KeyringError::Empty);
}

#[test]
fn shipped_keys_are_those_of_the_readme() {
    let readme = fs_err::read_to_string(format!("{}/keys/README.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut found = 0;
    for keys in [DEBIAN_ARCHIVE_KEYS, UBUNTU_ARCHIVE_KEYS] {
        for certificate in Keyring::parse(keys).unwrap().certificates() {
            for fingerprint in certificate.subkeys.iter().chain([&certificate.fingerprint]) {
                assert!(readme.contains(&format!("`{fingerprint}`")), "{certificate:?}");
                found += 1;
            }
        }
    }
    let is_fingerprint = |word: &&str| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let documented = readme.split('`').filter(is_fingerprint).count();
    assert_eq!((found, documented), (13, 13));
}

proptest! {
    #[test]
    fn mutated_documents_never_pass(at in any::<prop::sample::Index>(), with in 1..=255_u8) {
        let key = primary("a");
        let keyring = Keyring::parse(&plain_certificate(&key)).unwrap();
        let signed = document(TEXT, vec![sign(&key)]);
        let mut bytes = signed.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        // White space at line ends, armor headers and unsigned parts may change; the text may not.
        if let Ok(verified) = verify_inline(&bytes, &keyring, now()) {
            prop_assert_eq!(verified.text, TEXT);
        }
    }

    #[test]
    fn mutated_keyrings_never_panic(at in any::<prop::sample::Index>(), with in 1..=255_u8, cut in any::<prop::sample::Index>()) {
        let (key, sub) = (primary("a"), subkey("s"));
        let bound = binding(BORN).usable_for(Use::Signing).saying(consent(&key, &sub)).over_subkey(&key, &key, &sub);
        let statement = self_signature(BORN).usable_for(Use::Signing).over_user(&key, &user());
        let mut bytes = certificate(&key, Vec::new(), vec![statement], vec![(&sub, vec![bound])]);
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        bytes.truncate(cut.index(bytes.len()).max(at));
        if let Ok(keyring) = Keyring::parse(&bytes) {
            let _ = verify_inline(document(TEXT, vec![sign(&sub)]).as_bytes(), &keyring, now());
        }
    }
}
