//! The content of a directory: blocks, each with its entries sorted by name, then the names.

use super::BLOCK_BYTES;
use super::format::{DIRENT_BYTES, Kind, field};

/// A name and the file it leads to.
#[derive(Debug, Clone)]
pub(super) struct Child<'a> {
    pub(super) name: &'a [u8],
    /// The number of the file among those of the layout.
    pub(super) file: usize,
}

/// All names of a directory, itself and its parent included, sorted by their bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory<'a> {
    pub(super) children: Vec<Child<'a>>,
}

/// What was read from a directory's block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) inode: u64,
    pub(super) kind: u8,
}

impl<'a> Directory<'a> {
    /// The names, in as many as fit into each block.
    fn blocks(&self) -> impl Iterator<Item = &[Child<'a>]> {
        let mut rest = self.children.as_slice();
        std::iter::from_fn(move || {
            let (block, others) = rest.split_at_checked(fitting(rest))?;
            rest = others;
            (!block.is_empty()).then_some(block)
        })
    }

    /// The size of the content: all blocks but the last are whole.
    pub(super) fn size_bytes(&self) -> u64 {
        let mut sizes = self.blocks().map(|block| block.iter().map(Child::bytes).sum::<usize>());
        let Some(mut last) = sizes.next() else { return 0 };
        let mut whole = 0;
        for size in sizes {
            (whole, last) = (whole + 1, size);
        }
        (whole * BLOCK_BYTES + last) as u64
    }

    /// The content; `facts` tells a file's inode number and kind.
    pub(super) fn write(&self, facts: impl Fn(usize) -> (u64, Kind)) -> Vec<u8> {
        let mut content = Vec::new();
        for block in self.blocks() {
            content.resize(content.len().next_multiple_of(BLOCK_BYTES), 0);
            let mut name_offset = block.len() * DIRENT_BYTES;
            for child in block {
                let (inode, kind) = facts(child.file);
                content.extend_from_slice(&inode.to_le_bytes());
                content.extend_from_slice(&u16::try_from(name_offset).unwrap_or_default().to_le_bytes());
                content.extend_from_slice(&[kind.in_directory(), 0]);
                name_offset += child.name.len();
            }
            content.extend(block.iter().flat_map(|child| child.name));
        }
        content
    }
}

impl Child<'_> {
    fn bytes(&self) -> usize {
        DIRENT_BYTES + self.name.len()
    }
}

/// How many of the names fit into one block.
fn fitting(children: &[Child<'_>]) -> usize {
    let ends = children.iter().scan(0, |end, child| {
        *end += child.bytes();
        Some(*end)
    });
    ends.take_while(|end| *end <= BLOCK_BYTES).count()
}

/// Reads one block, or the shorter end, of a directory.
pub(super) fn parse(block: &[u8]) -> Result<Vec<Found>, &'static str> {
    let names_start = usize::from(u16::from_le_bytes(field(block, 8)));
    if names_start < DIRENT_BYTES || names_start % DIRENT_BYTES != 0 || names_start > block.len() {
        return Err("a block of the directory has a wrong number of names");
    }
    let (entries, _) = block.split_at(names_start);
    let entries = entries.chunks_exact(DIRENT_BYTES);
    let starts = entries.clone().map(|entry| usize::from(u16::from_le_bytes(field(entry, 8))));
    let ends = starts.clone().skip(1).chain([block.len()]);
    entries.zip(starts.zip(ends)).map(|(entry, (start, end))| found(block, entry, start, end)).collect()
}

fn found(block: &[u8], entry: &[u8], start: usize, end: usize) -> Result<Found, &'static str> {
    let name = block.get(start..end).ok_or("names of the directory are not in order")?;
    // Only the last name of a block may be followed by zeros.
    let is_last = end == block.len();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let (name, rest) = name.split_at(length);
    if rest.iter().any(|byte| *byte != 0) || !(is_last || rest.is_empty()) {
        return Err("a name in the directory has a zero byte");
    }
    let [kind] = field(entry, 10);
    Ok(Found { name: name.to_vec(), inode: u64::from_le_bytes(field(entry, 0)), kind })
}
