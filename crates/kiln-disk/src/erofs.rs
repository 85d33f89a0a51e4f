//! EROFS, the read-only file system that an image's root is: same tree, same bytes.
//!
//! 1. [`Layout::measure`] decides where everything is: each inode's number, each file's blocks.
//! 2. [`Layout::write`] writes the image from its first byte to its last; each file is opened once, the small ones
//!    first, the others in the order of their blocks; memory grows with the number of files, not with what is in them.
//! 3. [`Image::open`] reads an image back, without trust in it.
//!
//! The on-disk format is the one that Linux documents in `Documentation/filesystems/erofs.rst` and
//! `fs/erofs/erofs_fs.h`, without compression, in blocks of 4096 bytes, with nothing that Linux 6.1 cannot read:
//!
//! | blocks | what |
//! |---|---|
//! | first | the superblock, at byte 1024 |
//! | then | contents of files, group by group; a group is what the caller says, a package for instance |
//! | then | extended attributes that several files have, or that are large |
//! | then | whole blocks of large directories |
//! | last | inodes, group by group; the contents of small files and directories are with their inodes |
//!
//! Contents come before inodes, and each group ends on a boundary that depends on its size: so a group whose size changes
//! a little moves no other one, and two images of which one has a newer package differ in few blocks.
//!
//! Times are in seconds: that is what a tree knows. An inode has the short form (32 bytes instead of 64) where its time is
//! the tree's most common one and its numbers are small. Files with holes are written with zeros. What several names lead
//! to is written once.

mod attributes;
mod directory;
mod format;
mod layout;
mod read;
mod write;

pub use layout::{Extent, Layout};
pub use read::{Image, ImageError};
pub use write::{Check, WriteError};

/// Bytes of a block: the only size that every Linux since 5.4 reads on every machine.
pub const BLOCK_BYTES: usize = 4096;

/// Why a tree has no EROFS image.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The format, or Linux, cannot hold this.
    #[error("put /{path} into an image: {reason}")]
    Unfit {
        /// What, with bytes that are not ASCII escaped.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// There is more than block numbers of 32 bits can count.
    #[error("lay out an image: its contents need more than 16 TiB")]
    TooLarge,
}

fn unfit(path: &[u8], reason: &'static str) -> LayoutError {
    LayoutError::Unfit { path: shown(path), reason }
}

/// A path as messages show it.
fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

/// How many blocks hold so many bytes.
fn blocks_for(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(BLOCK_BYTES as u64)
}
