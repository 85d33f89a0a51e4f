//! Where everything in an image is.

use std::collections::BTreeMap;

use kiln_model::digest::{Hasher, Sha256};

use crate::layer::{Node, NodeKind, parent};
use crate::tar::Content;
use crate::tree::{Entry, Tree};

use super::attributes::Shared;
use super::directory::{Child, Directory};
use super::format::{self, Inode, Kind, NAME_BYTES_MAX, PATH_BYTES_MAX, SLOT_BYTES, TARGET_BYTES_MAX};
use super::{BLOCK_BYTES, LayoutError, blocks_for, unfit};

/// What is behind the last whole block of a file is kept with its inode up to this size: more than half a block would
/// often leave the rest of the block unused, and gain nothing.
const INLINE_BYTES_MAX: u64 = BLOCK_BYTES as u64 / 2;

/// A group ends on a multiple of its size divided by this, roughly: it can grow or shrink by as much before it moves what
/// follows, and images are larger by about a fortieth.
const SLACK_DIVISOR: u64 = 32;

/// Says what the bytes mean, so that an image's identity is nobody else's.
const UUID_CONTEXT: &[u8] = b"kiln erofs 1\n";

/// The plan of an image, which is made of a tree before any content is read.
#[derive(Debug)]
pub struct Layout<'a> {
    /// By path: parents come before their children.
    pub(super) files: Vec<File<'a>>,
    /// Numbers of those files whose contents are in blocks, in the order of the blocks.
    pub(super) contents: Vec<usize>,
    /// Numbers of all files, in the order of their inodes.
    pub(super) inodes: Vec<usize>,
    pub(super) shared: Shared,
    /// The most common time of modification.
    pub(super) modified: i64,
    pub(super) attribute_block: u32,
    pub(super) inode_block: u32,
    blocks: u32,
    uuid: [u8; 16],
}

/// A file of any kind, with its place.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) content: Content<'a>,
    pub(super) node: &'a Node,
    pub(super) kind: Kind,
    /// Only a directory has one.
    pub(super) directory: Directory<'a>,
    /// The bytes behind the inode, and what is inline comes after them.
    pub(super) attributes: Vec<u8>,
    pub(super) links: u32,
    /// Of the content: of a directory's and of a symbolic link's too.
    pub(super) size_bytes: u64,
    pub(super) is_extended: bool,
    pub(super) is_inline: bool,
    /// The inode, counted in slots from the layout's first inode block.
    pub(super) inode: u64,
    /// The first block of what is not inline, or a device's number.
    pub(super) place: u32,
}

/// A regular file's content as far as it is in blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent<'a> {
    /// Whose content.
    pub content: Content<'a>,
    /// The digest of the whole content.
    pub sha256: Sha256,
    /// Its size.
    pub size_bytes: u64,
    /// The first block; contents begin at a block's first byte and follow each other.
    pub first_block: u32,
    /// How many blocks; what is behind them, if they are fewer than the size needs, is with the inode.
    pub blocks: u32,
}

impl<'a> Layout<'a> {
    /// Decides where everything in a tree goes. Files of one group are close to each other: groups are in their order, and
    /// within a group files are in the order of their paths.
    ///
    /// # Errors
    /// If the format or Linux cannot hold something in the tree.
    pub fn measure<G: Ord>(tree: &'a Tree, group: impl FnMut(&[u8]) -> G) -> Result<Self, LayoutError> {
        let mut files = gather(tree)?;
        let attributes = files.iter().map(|file| &file.node.attributes);
        let shared = Shared::of(attributes).map_err(|(file, reason)| refuse(&files, file, reason))?;
        let modified = most_common_time(&files);
        for file in &mut files {
            file.settle(&shared, modified)?;
        }
        let groups = grouped(&files, group);
        let mut layout = Self {
            files,
            contents: Vec::new(),
            inodes: Vec::new(),
            shared,
            modified,
            attribute_block: 0,
            inode_block: 0,
            blocks: 0,
            uuid: uuid(tree),
        };
        layout.place(&groups)?;
        Ok(layout)
    }

    /// The image's size: a whole number of blocks.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_BYTES as u64
    }

    /// The file system's identity, which comes from the digest of its tree.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Contents of regular files in the order of their blocks. What is in a file's blocks depends on its content alone: two
    /// images whose extents have equal digests and blocks have the same bytes there.
    pub fn extents(&self) -> impl Iterator<Item = Extent<'a>> {
        self.contents.iter().filter_map(|number| self.files.get(*number)?.extent())
    }

    pub(super) fn superblock(&self) -> format::Superblock {
        format::Superblock {
            root: self.files.first().and_then(|root| u16::try_from(root.inode).ok()).unwrap_or_default(),
            inodes: self.files.len() as u64,
            modified: self.modified,
            blocks: self.blocks,
            inode_block: self.inode_block,
            attribute_block: self.attribute_block,
            uuid: self.uuid,
        }
    }

    /// Gives everything its place, from the first block to the last.
    fn place(&mut self, groups: &[Vec<usize>]) -> Result<(), LayoutError> {
        // The superblock has the first block for itself.
        let mut next = 1;
        for group in groups {
            let (start, is_content) = (next, |file: &File<'_>| file.kind != Kind::Directory);
            self.place_blocks(group, is_content, &mut next)?;
            next = start + with_slack(next - start);
        }
        self.attribute_block = block_number(next)?;
        next += blocks_for(self.shared.size_bytes);
        for group in groups {
            self.place_blocks(group, |file| file.kind == Kind::Directory, &mut next)?;
        }
        self.inode_block = block_number(next)?;
        next += self.place_inodes(groups);
        self.blocks = block_number(next)?;
        Ok(())
    }

    /// Gives blocks to those files of a group that match and need some.
    fn place_blocks(
        &mut self,
        group: &[usize],
        matches: impl Fn(&File<'_>) -> bool,
        next: &mut u64,
    ) -> Result<(), LayoutError> {
        for number in group {
            let Some(file) = self.files.get_mut(*number) else { continue };
            if matches(file) && file.blocks() > 0 {
                file.place = block_number(*next)?;
                *next = next.checked_add(file.blocks()).ok_or(LayoutError::TooLarge)?;
                self.contents.push(*number);
            }
        }
        Ok(())
    }

    /// Numbers all inodes, the root's first; how many blocks they need.
    fn place_inodes(&mut self, groups: &[Vec<usize>]) -> u64 {
        let mut slots = Slots::default();
        // The root's number has 16 bits in the superblock.
        if let Some(root) = self.files.first_mut() {
            root.inode = slots.take(root);
            self.inodes.push(0);
        }
        for group in groups {
            let start = slots.blocks();
            for number in group.iter().filter(|number| **number != 0) {
                if let Some(file) = self.files.get_mut(*number) {
                    file.inode = slots.take(file);
                    self.inodes.push(*number);
                }
            }
            slots.skip_to(start + with_slack(slots.blocks() - start));
        }
        slots.blocks()
    }
}

impl<'a> File<'a> {
    fn new(content: Content<'a>, node: &'a Node) -> Self {
        Self {
            content,
            node,
            kind: Kind::of(&node.kind),
            directory: Directory::default(),
            attributes: Vec::new(),
            links: 1,
            size_bytes: 0,
            is_extended: true,
            is_inline: false,
            inode: 0,
            place: 0,
        }
    }

    /// Decides all that does not depend on other files' places.
    fn settle(&mut self, shared: &Shared, modified: i64) -> Result<(), LayoutError> {
        let path = self.content.path;
        self.attributes = shared.body(&self.node.attributes).map_err(|reason| unfit(path, reason))?;
        self.size_bytes = match &self.node.kind {
            NodeKind::Directory => self.directory.size_bytes(),
            NodeKind::File { size_bytes, .. } => *size_bytes,
            NodeKind::Symlink { target } => target.len() as u64,
            NodeKind::CharacterDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
                self.place = format::device(*major, *minor)
                    .ok_or_else(|| unfit(path, "Linux has no device of such a number"))?;
                0
            }
            NodeKind::Fifo | NodeKind::Socket => 0,
        };
        if i64::try_from(self.size_bytes).is_err() {
            return Err(LayoutError::TooLarge);
        }
        self.is_extended = !self.fits_compact(modified);
        self.is_inline = self.fits_inline();
        Ok(())
    }

    fn fits_compact(&self, modified: i64) -> bool {
        let small = u32::from(u16::MAX);
        let numbers = [self.node.uid, self.node.gid, self.links];
        self.node.modified == modified
            && numbers.iter().all(|number| *number <= small)
            && self.size_bytes <= u64::from(u32::MAX)
    }

    /// Whether what is behind the last whole block can be in the inode's block. A symbolic link is inline as a whole:
    /// nobody reads one that is not.
    fn fits_inline(&self) -> bool {
        let fits = |tail: u64| self.head_bytes() as u64 + tail <= BLOCK_BYTES as u64;
        self.tail_bytes() > 0 && self.tail_bytes() <= INLINE_BYTES_MAX && fits(self.tail_bytes())
    }

    /// Bytes of the inode and its attributes.
    pub(super) fn head_bytes(&self) -> usize {
        Inode::own_bytes(self.is_extended) + self.attributes.len()
    }

    /// Bytes of content behind the last whole block.
    pub(super) fn tail_bytes(&self) -> u64 {
        self.size_bytes % BLOCK_BYTES as u64
    }

    /// Bytes that are with the inode.
    pub(super) fn inline_bytes(&self) -> u64 {
        if self.is_inline { self.tail_bytes() } else { 0 }
    }

    /// Blocks of content.
    pub(super) fn blocks(&self) -> u64 {
        blocks_for(self.size_bytes - self.inline_bytes())
    }

    fn extent(&self) -> Option<Extent<'a>> {
        let NodeKind::File { size_bytes, sha256 } = self.node.kind else { return None };
        let blocks = u32::try_from(self.blocks()).ok()?;
        Some(Extent { content: self.content, sha256, size_bytes, first_block: self.place, blocks })
    }

    pub(super) fn to_inode(&self, number: u32) -> Inode {
        Inode {
            is_extended: self.is_extended,
            is_inline: self.is_inline,
            attribute_bytes: self.attributes.len(),
            mode: self.kind.mode_bits() | u16::try_from(self.node.mode & 0o7777).unwrap_or_default(),
            links: self.links,
            size_bytes: self.size_bytes,
            place: self.place,
            number,
            uid: self.node.uid,
            gid: self.node.gid,
            modified: self.node.modified,
        }
    }
}

/// Where the next inode goes.
#[derive(Default)]
struct Slots {
    /// Bytes from the first inode block.
    next: u64,
}

impl Slots {
    /// Takes a place for an inode; it, and what is inline, crosses no border of a block. Only attributes may do so.
    fn take(&mut self, file: &File<'_>) -> u64 {
        let bytes = file.head_bytes() as u64 + file.inline_bytes();
        let block = BLOCK_BYTES as u64;
        let left = block - self.next % block;
        let together = if bytes <= block { bytes } else { Inode::own_bytes(file.is_extended) as u64 };
        if together > left {
            self.next += left;
        }
        let inode = self.next / SLOT_BYTES as u64;
        self.next = (self.next + bytes).next_multiple_of(SLOT_BYTES as u64);
        inode
    }

    fn blocks(&self) -> u64 {
        blocks_for(self.next)
    }

    fn skip_to(&mut self, block: u64) {
        self.next = self.next.max(block * BLOCK_BYTES as u64);
    }
}

/// All files of a tree, with their names.
fn gather(tree: &Tree) -> Result<Vec<File<'_>>, LayoutError> {
    let mut files: Vec<File<'_>> = Vec::with_capacity(tree.len());
    let mut names = Vec::with_capacity(tree.len());
    for (path, entry) in tree.entries() {
        check_path(path)?;
        let file = match entry {
            Entry::Node { node, layer } => {
                check_target(path, node)?;
                files.push(File::new(Content { layer: *layer, path }, node));
                files.len() - 1
            }
            Entry::HardLink { to } => {
                let file = find(&files, to).ok_or_else(|| unfit(path, "it is a name of a file that is not there"))?;
                add_link(&mut files, file);
                file
            }
        };
        names.push((path, file));
    }
    for (path, file) in names {
        add_name(&mut files, path, file)?;
    }
    for file in &mut files {
        file.directory.children.sort_by(|one, other| one.name.cmp(other.name));
    }
    Ok(files)
}

/// The number of the file at a path, among files in the order of their paths.
fn find(files: &[File<'_>], path: &[u8]) -> Option<usize> {
    files.binary_search_by(|file| file.content.path.cmp(path)).ok()
}

fn add_link(files: &mut [File<'_>], file: usize) {
    if let Some(file) = files.get_mut(file) {
        file.links += 1;
    }
}

/// Makes a file known to its directory, and a directory to itself.
fn add_name<'a>(files: &mut [File<'a>], path: &'a [u8], file: usize) -> Result<(), LayoutError> {
    let directory = match parent(path) {
        None => file,
        Some(parent) => find(files, parent).ok_or_else(|| unfit(path, "its directory is not in the tree"))?,
    };
    let is_directory = files.get(file).is_some_and(|file| file.kind == Kind::Directory);
    if is_directory {
        add_child(files, file, b".", file);
        add_child(files, file, b"..", directory);
        // The directory's own `.`, and the `..` of this one.
        add_link(files, file);
        if file != directory {
            add_link(files, directory);
        }
    }
    if file != directory {
        add_child(files, directory, name_of(path), file);
    }
    Ok(())
}

fn add_child<'a>(files: &mut [File<'a>], directory: usize, name: &'a [u8], file: usize) {
    if let Some(directory) = files.get_mut(directory) {
        directory.directory.children.push(Child { name, file });
    }
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn check_path(path: &[u8]) -> Result<(), LayoutError> {
    let name = name_of(path);
    let is_root = path.is_empty();
    if !is_root && (name.is_empty() || name == b"." || name == b".." || name.contains(&0)) {
        return Err(unfit(path, "that is no name of a file"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(unfit(path, "its name has more than 255 bytes"));
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(unfit(path, "its path has more than 4095 bytes"));
    }
    Ok(())
}

fn check_target(path: &[u8], node: &Node) -> Result<(), LayoutError> {
    let NodeKind::Symlink { target } = &node.kind else { return Ok(()) };
    if target.is_empty() || target.len() > TARGET_BYTES_MAX || target.contains(&0) {
        return Err(unfit(path, "a symbolic link points to between 1 and 4095 bytes that are not zero"));
    }
    Ok(())
}

fn refuse(files: &[File<'_>], file: usize, reason: &'static str) -> LayoutError {
    unfit(files.get(file).map(|file| file.content.path).unwrap_or_default(), reason)
}

/// The time that most files have; of several, the earliest.
fn most_common_time(files: &[File<'_>]) -> i64 {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for file in files {
        *counts.entry(file.node.modified).or_default() += 1;
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(time, _)| time).unwrap_or_default()
}

/// The numbers of all files, by group and path.
fn grouped<G: Ord>(files: &[File<'_>], mut group: impl FnMut(&[u8]) -> G) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<G, Vec<usize>> = BTreeMap::new();
    for (number, file) in files.iter().enumerate() {
        groups.entry(group(file.content.path)).or_default().push(number);
    }
    groups.into_values().collect()
}

/// Rounds a number of blocks up.
fn with_slack(blocks: u64) -> u64 {
    let step = (blocks / SLACK_DIVISOR).max(1).next_power_of_two();
    blocks.next_multiple_of(step)
}

fn block_number(block: u64) -> Result<u32, LayoutError> {
    u32::try_from(block).map_err(|_| LayoutError::TooLarge)
}

/// An identifier of version 8 (RFC 9562): bits of our own making.
fn uuid(tree: &Tree) -> [u8; 16] {
    let mut hasher = Hasher::new();
    hasher.update(UUID_CONTEXT);
    hasher.update(tree.digest().as_bytes());
    let mut uuid: [u8; 16] = format::field(hasher.finish().as_bytes(), 0);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}
