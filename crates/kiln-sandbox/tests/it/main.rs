//! Sandboxes, as real root and as an ordinary user with subordinate ids, judged from outside and from inside.
//!
//! When the tests run as root, the ordinary user is one that does not exist, and the tests play `newuidmap`'s part, as Kiln
//! does when it is root itself. When they run as an ordinary user, that user and the real `newuidmap` are used. Nothing is
//! ever skipped: see [`ground::identities`].

#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod containment;
mod function;
mod ground;
mod layers;
mod program;
