//! Debian's rules, as values and functions: what a mirror says, what may be believed of it, what fits together.
//!
//! From bytes to packages, in this order:
//!
//! - [`deb822`]: paragraphs of fields; [`version`]: version numbers and their order.
//! - [`compression`]: xz, gzip and zstd, bounded and strict.
//! - [`openpgp`]: whose signature makes a text worth believing.
//! - [`release`]: what a suite says about itself, and the digests of its indexes.
//! - [`sources`]: the mirrors and keys that a host's apt is configured for.
//! - [`deb`]: one package: its control file, its scripts, its data as a stream.
//! - [`relation`]: what packages demand of each other; [`index`]: `Packages`, parsed once and read where it lies.
//! - [`dpkg`]: what dpkg knows about a tree, and its rules for placing a package.
//! - [`universe`]: all indexes as one, with apt's rules of preference; [`solve`]: which packages; [`order`]: when.
//!
//! Architecture invariant: this crate is pure. It opens no file and knows no clock, environment, network or random
//! source; callers pass text, bytes, readers and `now`. Whatever the bytes are, it answers with a value or an error.

#![forbid(unsafe_code)]

pub mod compression;
pub mod deb;
pub mod deb822;
pub mod dpkg;
pub mod index;
pub mod openpgp;
pub mod order;
pub mod relation;
pub mod release;
pub mod solve;
pub mod sources;
pub mod universe;
pub mod version;
