//! Fixtures and judges for Kiln's tests: real bytes, made in milliseconds, the same on every run.
//!
//! - [`key`]: OpenPGP keys made from a name: good, expired, revoked, with a signing subkey.
//! - [`package`]: the description of one binary package, and the `.deb` it becomes.
//! - [`repository`]: suites of packages as a signed APT repository in a directory; written again, it becomes the newer
//!   (or older) state, as a mirror does.
//! - [`archive`]: small, consistent sets of packages with Debian's names: the essential base, a shop, the toolbox.
//! - [`damage`]: flips bytes and cuts files.
//! - [`web`]: a web server with faults.
//! - [`home`]: a private home directory, and the `kiln` binary run in it.
//!
//! A fixture that cannot be made is a failed test: everything here panics instead of returning errors.
//!
//! Nothing here is part of Kiln: no other crate depends on this one outside its tests. It reads no clock and no random
//! source, so that the same description gives the same bytes, names, digests and signatures.

pub mod archive;
pub mod damage;
mod deb;
pub mod home;
pub mod key;
pub mod package;
pub mod repository;
pub mod web;

pub use home::{Home, Kiln, Output};
pub use key::Key;
pub use package::{Compression, Package};
pub use repository::{Mirror, Repository, Suite};

/// What a test says when the machine cannot give what it needs: in CI it fails, elsewhere it says so and the test may
/// return. Never a silent skip.
///
/// # Panics
/// Where `CI` is set.
#[expect(clippy::disallowed_methods, reason = "whether this is CI is only to be known from the environment")]
#[expect(clippy::print_stderr, reason = "what is not tested is said")]
pub fn cannot_test(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "this machine cannot run the test: {reason}");
    eprintln!("skipped: {reason}");
}
