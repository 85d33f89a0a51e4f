//! Reads an image back. Whoever made it is not trusted: every number is checked before it is used, and what an image can make
//! us keep or read is bounded by its own size and by [`MEMORY_BYTES_MAX`].

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use kiln_model::digest::{Hasher, Sha256};

use crate::layer::{Change, Layer, Node, NodeKind, PathBytes};
use crate::tree::Tree;

use super::format::{self, EXTENDED_BYTES, Inode, Kind, NAME_BYTES_MAX, PATH_BYTES_MAX, SLOT_BYTES, Superblock};
use super::{BLOCK_BYTES, attributes, blocks_for, directory, shown};

/// Names, targets of symbolic links and extended attributes of one image take no more memory than this. A tree of 100,000
/// files has about 10 MB of them.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// Bytes read from a file at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The bytes could not be read.
    #[error("read the image")]
    Read(#[source] io::Error),
    /// It is no image, or one that Kiln did not make, or it is damaged.
    #[error("read the image: {reason}")]
    Superblock {
        /// What is wrong.
        reason: &'static str,
    },
    /// Something in it is damaged.
    #[error("read /{path} in the image: {reason}")]
    Damaged {
        /// Where.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// It has no such file.
    #[error("read /{path} in the image: there is no such regular file")]
    Missing {
        /// Which.
        path: String,
    },
}

/// An image whose inodes and names were read; contents are read when they are asked for.
#[derive(Debug)]
pub struct Image<R> {
    source: R,
    superblock: Superblock,
    files: Vec<File>,
    names: BTreeMap<PathBytes, usize>,
}

/// A file in an image.
#[derive(Debug)]
struct File {
    inode: Inode,
    kind: Kind,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Only a symbolic link has one.
    target: Vec<u8>,
    /// Where the content is.
    pieces: [Piece; 2],
    /// How often it was found.
    links: u32,
}

/// Bytes that follow each other in an image.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    offset: u64,
    length: u64,
}

/// What is wrong at one file.
enum Fault {
    Read(io::Error),
    Damaged(&'static str),
}

impl From<&'static str> for Fault {
    fn from(reason: &'static str) -> Self {
        Self::Damaged(reason)
    }
}

impl Fault {
    fn at(self, path: &[u8]) -> ImageError {
        match self {
            Self::Read(source) => ImageError::Read(source),
            Self::Damaged(reason) => ImageError::Damaged { path: shown(path), reason },
        }
    }
}

impl<R: Read + Seek> Image<R> {
    /// Reads all but the contents of files.
    ///
    /// # Errors
    /// If `source` fails, or is not an uncompressed EROFS image that is whole.
    pub fn open(mut source: R) -> Result<Self, ImageError> {
        let size_bytes = source.seek(SeekFrom::End(0)).map_err(ImageError::Read)?;
        let bad = |reason| ImageError::Superblock { reason };
        if size_bytes < BLOCK_BYTES as u64 {
            return Err(bad("it is too short"));
        }
        let mut block = [0; BLOCK_BYTES];
        source.rewind().and_then(|()| source.read_exact(&mut block)).map_err(ImageError::Read)?;
        let superblock = Superblock::parse(&block).map_err(bad)?;
        let image_bytes = u64::from(superblock.blocks) * BLOCK_BYTES as u64;
        if image_bytes > size_bytes {
            return Err(bad("it is cut off"));
        }
        let mut walk = Walk {
            bytes: Bytes { source, size_bytes: image_bytes },
            superblock,
            files: Vec::new(),
            names: BTreeMap::new(),
            by_inode: BTreeMap::new(),
            memory_left: MEMORY_BYTES_MAX,
            content_left: image_bytes,
        };
        walk.run()?;
        let Walk { bytes, superblock, files, names, .. } = walk;
        Ok(Self { source: bytes.source, superblock, files, names })
    }

    /// The file system's identity.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.superblock.uuid
    }

    /// The image's size, by what it says itself.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.superblock.blocks) * BLOCK_BYTES as u64
    }

    /// The content of a regular file, by any of its names.
    ///
    /// # Errors
    /// If there is no regular file at that path.
    pub fn content(&mut self, path: &[u8]) -> Result<impl Read + use<'_, R>, ImageError> {
        let file = self.names.get(path).and_then(|number| self.files.get(*number));
        match file.filter(|file| file.kind == Kind::File) {
            Some(file) => Ok(Pieces { source: &mut self.source, left: file.pieces }),
            None => Err(ImageError::Missing { path: shown(path) }),
        }
    }

    /// The tree, with the digests of all contents, which are read for that.
    ///
    /// # Errors
    /// If the source fails.
    pub fn tree(&mut self) -> Result<Tree, ImageError> {
        let mut firsts: BTreeMap<usize, PathBytes> = BTreeMap::new();
        let mut layer = Layer::default();
        for (path, number) in &self.names {
            let Some(file) = self.files.get(*number) else { continue };
            let change = match firsts.get(number) {
                Some(first) => Change::HardLink { to: first.clone() },
                None => {
                    firsts.insert(*number, path.clone());
                    Change::Node(node(&mut self.source, file)?)
                }
            };
            layer.changes.insert(path.clone(), change);
        }
        Ok(Tree::of([&layer]))
    }
}

/// An image while its directories are walked.
struct Walk<R> {
    bytes: Bytes<R>,
    superblock: Superblock,
    files: Vec<File>,
    names: BTreeMap<PathBytes, usize>,
    by_inode: BTreeMap<u64, usize>,
    /// Bytes of names and attributes that may still be kept.
    memory_left: u64,
    /// Bytes of contents that there may still be: no two files share any, so all of them are smaller than the image.
    content_left: u64,
}

/// A directory that was found and not yet read.
struct Pending {
    path: PathBytes,
    inode: u64,
    parent: u64,
    file: usize,
}

impl<R: Read + Seek> Walk<R> {
    fn run(&mut self) -> Result<(), ImageError> {
        let root = u64::from(self.superblock.root);
        let file = self.add(b"", root).map_err(|fault| fault.at(b""))?;
        if self.kind(file) != Some(Kind::Directory) {
            return Err(ImageError::Superblock { reason: "its root is not a directory" });
        }
        let mut pending = vec![Pending { path: Vec::new(), inode: root, parent: root, file }];
        while let Some(directory) = pending.pop() {
            self.read_directory(&directory, &mut pending)?;
        }
        self.check_links()
    }

    fn read_directory(&mut self, directory: &Pending, pending: &mut Vec<Pending>) -> Result<(), ImageError> {
        let names = self.directory_names(directory).map_err(|fault| fault.at(&directory.path))?;
        for found in names {
            let mut path = directory.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&found.name);
            let child = self.read_child(directory, &path, &found).map_err(|fault| fault.at(&path))?;
            if self.kind(child) == Some(Kind::Directory) {
                pending.push(Pending { path, inode: found.inode, parent: directory.inode, file: child });
            }
        }
        Ok(())
    }

    /// Reads the file that a name leads to; its number.
    fn read_child(&mut self, directory: &Pending, path: &[u8], found: &directory::Found) -> Result<usize, Fault> {
        let is_new = !self.by_inode.contains_key(&found.inode);
        let child = self.add(path, found.inode)?;
        let kind = self.kind(child);
        if kind.map(Kind::in_directory) != Some(found.kind) {
            return Err("its directory says that it is something else".into());
        }
        if kind == Some(Kind::Directory) {
            if !is_new {
                return Err("it is a directory with two names".into());
            }
            // The directory's own `.`, and the child's `..`.
            self.count_link(child);
            self.count_link(directory.file);
        }
        Ok(child)
    }

    /// The names in a directory, without itself and its parent; they are in order.
    fn directory_names(&mut self, pending: &Pending) -> Result<Vec<directory::Found>, Fault> {
        let content = self.content(pending.file)?;
        let mut names = Vec::new();
        for block in content.chunks(BLOCK_BYTES) {
            names.append(&mut directory::parse(block)?);
        }
        if !names.is_sorted_by(|one, other| one.name < other.name) {
            return Err("its names are not in order".into());
        }
        let mut take = |name: &[u8], inode: u64| {
            let place = names.iter().position(|found| found.name == name && found.inode == inode)?;
            Some(names.remove(place)).filter(|found| found.kind == Kind::Directory.in_directory())
        };
        take(b".", pending.inode).ok_or("it does not lead to itself")?;
        take(b"..", pending.parent).ok_or("it does not lead to its parent")?;
        if names.iter().any(|found| !is_name(&found.name)) {
            return Err("it has a name that is none".into());
        }
        Ok(names)
    }

    /// Adds a name, and the file if it is new; the file's number.
    fn add(&mut self, path: &[u8], inode: u64) -> Result<usize, Fault> {
        if path.len() > PATH_BYTES_MAX {
            return Err("its path has more than 4095 bytes".into());
        }
        self.keep(path.len())?;
        let number = match self.by_inode.get(&inode) {
            Some(number) => *number,
            None => {
                let file = self.read_file(inode)?;
                self.files.push(file);
                self.by_inode.insert(inode, self.files.len() - 1);
                self.files.len() - 1
            }
        };
        self.count_link(number);
        self.names.insert(path.to_vec(), number);
        Ok(number)
    }

    fn read_file(&mut self, number: u64) -> Result<File, Fault> {
        let offset = self.inode_offset(number).ok_or("its inode is outside of the image")?;
        let start = self.bytes.read(offset, SLOT_BYTES)?;
        let length = if Inode::is_extended(&start) { EXTENDED_BYTES } else { SLOT_BYTES };
        let inode = Inode::parse(&self.bytes.read(offset, length)?, self.superblock.modified)?;
        let kind = Kind::of_mode(inode.mode).ok_or("it is of no known kind")?;
        let attributes = self.read_attributes(&inode, offset + length as u64)?;
        let pieces = self.pieces(&inode, kind, offset + (length + inode.attribute_bytes) as u64)?;
        let mut file = File { inode, kind, attributes, target: Vec::new(), pieces, links: 0 };
        if kind == Kind::Symlink {
            file.target = self.read_target(&file)?;
        }
        Ok(file)
    }

    fn inode_offset(&self, number: u64) -> Option<u64> {
        let start = u64::from(self.superblock.inode_block) * BLOCK_BYTES as u64;
        number.checked_mul(SLOT_BYTES as u64)?.checked_add(start)
    }

    fn read_attributes(&mut self, inode: &Inode, offset: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Fault> {
        let mut found = BTreeMap::new();
        if inode.attribute_bytes == 0 {
            return Ok(found);
        }
        self.keep(inode.attribute_bytes)?;
        let body = self.bytes.read(offset, inode.attribute_bytes)?;
        let (numbers, own) = attributes::parse_body(&body)?;
        for number in numbers {
            attributes::add(self.read_shared(number)?, &mut found)?;
        }
        attributes::parse_entries(own, &mut found)?;
        Ok(found)
    }

    /// Reads an attribute from the area of those that inodes share.
    fn read_shared(&mut self, number: u32) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let offset = u64::from(self.superblock.attribute_block) * BLOCK_BYTES as u64 + 4 * u64::from(number);
        let length = attributes::entry_bytes(&self.bytes.read(offset, 4)?);
        self.keep(length)?;
        Ok(attributes::parse_entry(&self.bytes.read(offset, length)?)?)
    }

    /// Where the content is; `behind` is what follows the inode and its attributes.
    fn pieces(&mut self, inode: &Inode, kind: Kind, behind: u64) -> Result<[Piece; 2], Fault> {
        let size_bytes = inode.size_bytes;
        let has_content = matches!(kind, Kind::File | Kind::Directory | Kind::Symlink);
        if !has_content && size_bytes > 0 {
            return Err("it has content, which such a file cannot have".into());
        }
        self.content_left =
            self.content_left.checked_sub(size_bytes).ok_or("the image is smaller than the files in it")?;
        let block = BLOCK_BYTES as u64;
        let inline = if inode.is_inline { size_bytes % block } else { 0 };
        if inline > 0 && behind % block + inline > block {
            return Err("its inline content crosses the border of a block".into());
        }
        let body = Piece { offset: u64::from(inode.place) * block, length: size_bytes - inline };
        let blocks_end = u64::from(inode.place) + blocks_for(body.length);
        let is_outside = body.length > 0 && blocks_end > u64::from(self.superblock.blocks);
        if is_outside || inline > 0 && behind + inline > self.bytes.size_bytes {
            return Err("its content is outside of the image".into());
        }
        Ok([body, Piece { offset: behind, length: inline }])
    }

    fn read_target(&mut self, file: &File) -> Result<Vec<u8>, Fault> {
        let length = usize::try_from(file.inode.size_bytes).unwrap_or(usize::MAX);
        if length == 0 || length > format::TARGET_BYTES_MAX {
            return Err("the target of the symbolic link is too long, or empty".into());
        }
        self.keep(length)?;
        let target = self.bytes.read_pieces(&file.pieces)?;
        if target.contains(&0) { Err("the target of the symbolic link has a zero byte".into()) } else { Ok(target) }
    }

    /// The content of a directory.
    fn content(&mut self, number: usize) -> Result<Vec<u8>, Fault> {
        let pieces = self.files.get(number).map(|file| file.pieces).unwrap_or_default();
        self.bytes.read_pieces(&pieces)
    }

    fn kind(&self, number: usize) -> Option<Kind> {
        self.files.get(number).map(|file| file.kind)
    }

    fn count_link(&mut self, number: usize) {
        if let Some(file) = self.files.get_mut(number) {
            file.links = file.links.saturating_add(1);
        }
    }

    /// Checks that each file has as many names as it says.
    fn check_links(&self) -> Result<(), ImageError> {
        // The root has no name of its own; its first one was counted as its `.`, and its `..` leads to itself.
        let wrong = |(path, number): &(&PathBytes, &usize)| {
            let expected = self.files.get(**number).map(|file| file.links + u32::from(path.is_empty()));
            expected != self.files.get(**number).map(|file| file.inode.links)
        };
        match self.names.iter().find(wrong) {
            None => Ok(()),
            Some((path, _)) => Err(Fault::Damaged("it has a wrong number of names").at(path)),
        }
    }

    /// Counts bytes that stay in memory.
    fn keep(&mut self, bytes: usize) -> Result<(), Fault> {
        self.memory_left =
            self.memory_left.checked_sub(bytes as u64).ok_or("the image has too many names and attributes")?;
        Ok(())
    }
}

/// The bytes of an image.
struct Bytes<R> {
    source: R,
    size_bytes: u64,
}

impl<R: Read + Seek> Bytes<R> {
    fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err("it is outside of the image".into());
        }
        let mut bytes = vec![0; length];
        let read = self.source.seek(SeekFrom::Start(offset)).and_then(|_| self.source.read_exact(&mut bytes));
        read.map_err(Fault::Read)?;
        Ok(bytes)
    }

    fn read_pieces(&mut self, pieces: &[Piece]) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.length > 0) {
            let length = usize::try_from(piece.length).map_err(|_| "it is larger than memory")?;
            bytes.append(&mut self.read(piece.offset, length)?);
        }
        Ok(bytes)
    }
}

/// Reads pieces one after the other.
struct Pieces<'a, R> {
    source: &'a mut R,
    left: [Piece; 2],
}

impl<R: Read + Seek> Read for Pieces<'_, R> {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.left.iter_mut().find(|piece| piece.length > 0) else { return Ok(0) };
        let wanted = usize::try_from(piece.length).unwrap_or(usize::MAX).min(place.len());
        if wanted == 0 {
            return Ok(0);
        }
        self.source.seek(SeekFrom::Start(piece.offset))?;
        let length = self.source.read(place.get_mut(..wanted).unwrap_or_default())?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.offset += length as u64;
        piece.length -= length as u64;
        Ok(length)
    }
}

fn node(source: &mut (impl Read + Seek), file: &File) -> Result<Node, ImageError> {
    let (major, minor) = format::device_parts(file.inode.place);
    let kind = match file.kind {
        Kind::Directory => NodeKind::Directory,
        Kind::File => NodeKind::File {
            size_bytes: file.inode.size_bytes,
            sha256: digest(Pieces { source, left: file.pieces }).map_err(ImageError::Read)?,
        },
        Kind::Symlink => NodeKind::Symlink { target: file.target.clone() },
        Kind::CharacterDevice => NodeKind::CharacterDevice { major, minor },
        Kind::BlockDevice => NodeKind::BlockDevice { major, minor },
        Kind::Fifo => NodeKind::Fifo,
        Kind::Socket => NodeKind::Socket,
    };
    Ok(Node {
        kind,
        mode: u32::from(file.inode.mode & 0o7777),
        uid: file.inode.uid,
        gid: file.inode.gid,
        modified: file.inode.modified,
        attributes: file.attributes.clone(),
    })
}

fn digest(mut content: impl Read) -> io::Result<Sha256> {
    let (mut hasher, mut chunk) = (Hasher::new(), vec![0; CHUNK_BYTES]);
    loop {
        let length = match content.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(chunk.get(..length).unwrap_or_default());
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(&b'/') && name != b"." && name != b".."
}
