//! Any bytes are a keyring or an error, and any certificate can be asked about a signature by its own key.
#![no_main]

use jiff::Timestamp;
use kiln_debian::openpgp::{Keyring, verify_inline};
use libfuzzer_sys::fuzz_target;

/// Signed by the key that the seed `rsa2048.gpg` holds, so that changed copies of it are worked through.
const DOCUMENT: &[u8] = include_bytes!("../../crates/kiln-debian/tests/formats/data/rsa2048.InRelease");

fuzz_target!(|bytes: &[u8]| {
    let Ok(keyring) = Keyring::parse(bytes) else { return };
    assert!(keyring.certificates().count() > 0);
    let _ = verify_inline(DOCUMENT, &keyring, Timestamp::from_second(1_767_225_600).expect("a date"));
});
