//! What dpkg knows about a tree, and its rules for placing a package: pure functions over the texts of `/var/lib/dpkg`.
//!
//! - [`status`]: the packages and their states; [`list`]: which files are whose.
//! - [`conffile`]: configuration files and their digests.
//! - [`diversion`], [`statoverride`], [`filter`]: what an administrator or a package changes about where files go, whose
//!   they are, and whether they are placed at all.
//! - [`trigger`]: who wants to know of what.
//! - [`account`]: names of owners as numbers.
//! - [`decision`]: what becomes of one file of a package, given what is there.
//!
//! The rules are those of dpkg 1.21 and 1.22; each module names the file of dpkg's source that it follows. Paths are bytes
//! relative to the root, without a slash at either end; dpkg's own files write them with a slash before, and the root as
//! `/.` ([`list`]).

pub mod account;
pub mod conffile;
pub mod decision;
pub mod diversion;
pub mod filter;
pub mod list;
pub mod statoverride;
pub mod status;
pub mod trigger;

/// A file of dpkg's database, or of a package, breaks its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of {file}: {reason}")]
pub struct DatabaseError {
    /// Its name: `conffiles`, `/var/lib/dpkg/diversions`.
    pub file: &'static str,
    /// The first line is 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The lines of a file, with their numbers; a line break ends each.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    // Nothing at all has no line.
    let has_lines = !text.is_empty();
    text.split(|byte| *byte == b'\n').enumerate().filter(move |_| has_lines).map(|(index, line)| (index + 1, line))
}
