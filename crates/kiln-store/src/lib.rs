//! Every byte by digest: downloaded once, verified while it arrives, shared by every process of the user.
//!
//! 1. [`Store::fetch`] brings files whose digest is known: in parallel, resumed, retried, one copy for many processes.
//! 2. [`Store::get`] asks for small documents that change under one address, such as an `InRelease`.
//! 3. [`Store::pin`] downloads a file whose digest is to be learned.
//! 4. [`Store::read`] and [`Store::verify`] hash what they find; [`Store::insert`] and its like add what was made here.
//! 5. [`Store::layers`] keeps what the stages of a build made, each once for all processes.
//! 6. [`Store::factories`] knows who uses the store, so that what nobody refers to can be told from what is needed.
//!
//! The store is one directory:
//!
//! ```text
//! ROOT/                        mode 0700 when Kiln makes it
//!   layout                     the layout's version, one line: a store of another version is refused, never guessed at
//!   CACHEDIR.TAG               tells backup programs to pass by
//!   sha256/ab/abcd...          whole, verified files, named by their digest, mode 0444
//!   partial/abcd...            a download that is not whole; its lock is held by the process that downloads it
//!   partial/abcd....origin     where that download came from and its validator, so that it can be resumed
//!   derived/NAME/abcd...       what was computed from files, by the digest of what it was computed from
//!   slot/abcd...               documents that change, by the digest of their name
//!   layer/abcd.../             what one stage changed: tree, manifest, record; see [`Layers`]
//!   stage/abcd.../             names of the layers of one stage, by its key
//!   draft/abcd.../             a layer that is being made, by the one who holds `claim/abcd...`
//!   failed/abcd.../            the tree of a stage that failed, one for each class of a factory
//!   factory/abcd.../           a factory that uses the store, and the last build of each of its classes
//!   claim/                     files that exist to be locked; `claim/open` by everybody, for as long as the store is open
//!   trash/                     directories that nobody will use again, until [`Layers::sweep`] removes them
//!   tmp/                       files being written, and links to entries under other names, each locked by the process
//!                              that works with it; what nobody locks is swept away
//!   quarantine/abcd...         entries whose bytes no longer had their digest; the last of each
//! ```
//!
//! A file gets its name under `sha256/` only by a rename, after its digest was found right and its bytes were flushed to
//! the disk. A process may therefore be killed at any moment: what it leaves is a `partial/` file, which the next
//! download resumes, a `tmp/` file, which the next [`Store::open`] removes, or a `draft/`, which the next sweep removes. Locks are the kernel's, on the files
//! themselves, so that none outlives its holder.
//!
//! Architecture invariant: this crate reads no environment variable and no clock but [`std::time::Instant`]; proxies and
//! paths come in as arguments. It trusts no server: sizes are bounded, digests decide. User names, passwords and query
//! values of addresses never reach an error, an event or a file.

mod aside;
mod attempt;
mod claim;
mod client;
mod derived;
mod document;
mod download;
mod envelope;
mod factory;
mod failure;
mod fetch;
mod garbage;
mod landing;
mod layer;
mod links;
mod pause;
mod pin;
mod public;
mod redirect;
mod session;
mod slot;
mod store;

pub use client::{ProxyError, ProxySettings};
pub use derived::DerivedDraft;
pub use document::{Document, Validators};
pub use factory::{Build, BuiltStage, KnownFactory};
pub use failure::{FailureReason, FetchError, FetchFailure};
pub use fetch::{FetchOptions, Fetched, Want};
pub use garbage::{DerivedEntry, Leftover, LeftoverKind};
pub use layer::{
    FailedTree, FailedUse, LayerDraft, LayerFacts, LayerRecord, LayerUse, Layers, MadeIds, Remove, StoredLayer,
};
pub use links::Links;
pub use pin::Pinned;
pub use public::public_url;
pub use slot::{Slot, SlotDocument};
pub use store::{Alone, Entry, Presence, Store, StoreError};
