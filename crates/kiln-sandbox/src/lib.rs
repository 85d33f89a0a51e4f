//! Runs one command, or one function of ours, in a tree, inside namespaces.
//!
//! - [`Sandbox`]: a [`Tree`] of layers, what of the host is seen in it, limits, and an [`Identity`]: real root, or an
//!   ordinary user's subordinate ids. [`Sandbox::run`] runs a [`Command`], [`Sandbox::call`] a function.
//! - [`layer`]: the form in which a layer is kept, the same whoever wrote it; and how to remove one.
//! - [`Survey`]: what this machine allows, and the cure for what it does not.
//! - [`capability`]: file capabilities in the form that an image needs.
//!
//! A sandbox is three processes. The *outer* one enters the namespaces, waits, and finishes the layer. The *first* is
//! process 1 inside: it enters the tree; when it ends the kernel ends all others. The *worker* runs our function, or starts
//! the program. Each dies with its parent, so nothing outlives Kiln, however Kiln ends.
//!
//! Inside there is no network but the loopback interface, a `/dev` of six nodes, a `/proc` that cannot change the host, a
//! `/sys` of a machine with one processor and no disk, a `/run` and `/tmp` in memory, a fixed environment, and root without the capabilities that reach outside.
//!
//! Architecture invariant: this crate never reads the environment, and nothing that a sandbox does needs undoing: mounts,
//! processes and memory go with the namespaces.

pub mod capability;
pub mod layer;

mod cancel;
mod cgroup;
mod command;
mod identity;
mod inside;
mod launch;
mod lines;
mod message;
mod mount;
mod sandbox;
mod survey;
mod system;
mod terminal;

pub use cancel::CancelToken;
pub use command::{Command, Console, Ending, Exit};
pub use identity::{IDS, Identity, IdentityError, Subordinate};
pub use inside::{Inside, StartError};
pub use lines::{LAST_LINES, LINE_BYTES_MAX};
pub use sandbox::{Bind, Limits, Sandbox, SandboxError, Tree, Upper};
pub use survey::{Finding, State, Survey};
