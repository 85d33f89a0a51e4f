//! Nothing but what Debian signed is ever believed, and nothing panics on the way there.
#![no_main]

use std::sync::LazyLock;

use jiff::Timestamp;
use kiln_debian::openpgp::{DEBIAN_ARCHIVE_KEYS, Keyring, verify_inline};
use libfuzzer_sys::fuzz_target;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| Keyring::parse(DEBIAN_ARCHIVE_KEYS).expect("the shipped keys"));
/// 2026-01-01T00:00:00Z: all keys are valid.
static NOW: LazyLock<Timestamp> = LazyLock::new(|| Timestamp::from_second(1_767_225_600).expect("a date"));

fuzz_target!(|bytes: &[u8]| {
    assert!(verify_inline(bytes, &KEYRING, *NOW).is_err(), "a forgery");
});
