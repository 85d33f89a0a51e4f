//! A tree, or one layer of it, as a tar archive: same tree, same bytes.
//!
//! POSIX's interchange formats (IEEE 1003.1-2017, `pax`): a `ustar` header, and before it, only where a value does not fit
//! into one, an extended header. Owners are numbers, names are absent. Names are `./etc/passwd`, as `dpkg-deb` and
//! `mmdebstrap` write them, and the root directory is `./`. Each directory is followed by all that is in it, sorted by the
//! bytes of names: GNU tar sets a directory's time when it sees the first entry outside. Of a file's names the first in this
//! order has the content; the others are links to it.
//!
//! - Extended attributes are `SCHILY.xattr.NAME` records, which GNU tar (`--xattrs --xattrs-include='*'`), bsdtar and every
//!   container runtime read.
//! - Names that are not UTF-8 are written as they are. If such a name is too long for a `ustar` header, the extended one
//!   says `hdrcharset=BINARY`.
//! - Sockets are left out, as by every tar: the format has none.
//!
//! In the archive of a layer, what is gone is an empty file `.wh.NAME`, and an opaque directory has a file `.wh..wh..opq`
//! (OCI image specification, `layer.md`).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use kiln_model::digest::{Hasher, Sha256};

use crate::layer::{Change, Layer, Node, NodeKind};
use crate::tree::{Entry, Tree};

const BLOCK_BYTES: usize = 512;

/// Bytes read from a file at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// The largest number of a field of eight bytes: seven octal digits.
const SHORT_MAX: u64 = 0o777_7777;

/// The largest number of a field of twelve bytes: eleven octal digits.
const LONG_MAX: u64 = 0o777_7777_7777;

const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;

/// The name of every extended header: where a program that does not know them would put it.
const PAX_NAME: &[u8] = b"./PaxHeaders/pax";

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Where the content of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    /// Which layer of the tree, counted from the bottom; 0 where there is only one.
    pub layer: usize,
    /// The path in that layer.
    pub path: &'a [u8],
}

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// A file could not be read.
    #[error("read /{path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file's content is not what it was when the layer was made.
    #[error("read /{path}: its content has changed since its layer was made")]
    Changed {
        /// Which.
        path: String,
        /// Which layer has it.
        layer: usize,
    },
    /// The format cannot hold this.
    #[error("put /{path} into an archive: {reason}")]
    Unfit {
        /// What.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// The archive could not be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

/// Writes a tree; `open` opens the content of a file.
///
/// # Errors
/// If a file cannot be read or has changed, something does not fit into the format, or `out` fails.
pub fn write<R: Read>(
    tree: &Tree,
    mut open: impl FnMut(Content<'_>) -> io::Result<R>,
    out: impl Write,
) -> Result<(), TarError> {
    let mut archive = Archive::new(out);
    let mut names = Names::default();
    for (path, entry) in ordered(tree.entries()) {
        let (first, file) = match entry {
            Entry::Node { .. } => (path, entry),
            Entry::HardLink { to } => (to.as_slice(), tree.get(to).unwrap_or(entry)),
        };
        let Entry::Node { node, layer } = file else { continue };
        match names.earlier(first, path) {
            Some(to) => archive.link(path, to, node)?,
            None => archive.node(Content { layer: *layer, path }, node, &mut open)?,
        }
    }
    archive.finish()
}

/// Writes one layer of an OCI image, with no time of modification after `epoch`; `open` opens the content of a file.
///
/// # Errors
/// As [`fn@write`]; and if a file's name begins with `.wh.`, which means something else in such an archive.
pub fn write_layer<R: Read>(
    layer: &Layer,
    epoch: i64,
    mut open: impl FnMut(Content<'_>) -> io::Result<R>,
    out: impl Write,
) -> Result<(), TarError> {
    let mut archive = Archive::new(out);
    let mut names = Names::default();
    for (path, change) in ordered(layer.changes.iter().map(|(path, change)| (path.as_slice(), change))) {
        let (directory, name) = split(path);
        if name.starts_with(WHITEOUT) {
            return Err(unfit(path, "a name that begins with `.wh.` means something else in an OCI image"));
        }
        let Some(node) = layer.node(path) else {
            archive.mark(directory, &[WHITEOUT, name].concat(), epoch)?;
            continue;
        };
        let node = Node { modified: node.modified.min(epoch), ..node.clone() };
        let first = if let Change::HardLink { to } = change { to } else { path };
        match names.earlier(first, path) {
            Some(to) => archive.link(path, to, &node)?,
            None => archive.node(Content { layer: 0, path }, &node, &mut open)?,
        }
        if matches!(change, Change::Opaque(_)) {
            archive.mark(path, OPAQUE, epoch)?;
        }
    }
    archive.finish()
}

/// Entries so that each directory is followed by all that is in it.
fn ordered<'a, T>(entries: impl Iterator<Item = (&'a [u8], T)>) -> Vec<(&'a [u8], T)> {
    // No name has a zero byte, so the end of a name comes before everything else.
    fn key(path: &[u8]) -> impl Iterator<Item = u8> {
        path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte })
    }
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|(one, _), (other, _)| key(one).cmp(key(other)));
    entries
}

/// Under which of its names a file is in the archive already.
#[derive(Default)]
struct Names<'a>(BTreeMap<&'a [u8], &'a [u8]>);

impl<'a> Names<'a> {
    /// The name under which the file whose first name in the tree is `first` came before; from now on that is `path`, if
    /// there is none.
    fn earlier(&mut self, first: &'a [u8], path: &'a [u8]) -> Option<&'a [u8]> {
        match self.0.entry(first) {
            std::collections::btree_map::Entry::Occupied(name) => Some(name.get()),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(path);
                None
            }
        }
    }
}

/// One entry, before it is known which of its values fit into a header.
struct Header<'a> {
    /// As in the tree.
    path: &'a [u8],
    node: &'a Node,
    kind: u8,
    size_bytes: u64,
    link: Vec<u8>,
    device: (u32, u32),
}

/// An archive that is being written.
struct Archive<W> {
    out: W,
    chunk: Vec<u8>,
}

impl<W: Write> Archive<W> {
    fn new(out: W) -> Self {
        Self { out, chunk: vec![0; CHUNK_BYTES] }
    }

    fn node<R: Read>(
        &mut self,
        place: Content<'_>,
        node: &Node,
        open: impl FnOnce(Content<'_>) -> io::Result<R>,
    ) -> Result<(), TarError> {
        let path = place.path;
        let mut header = Header { path, node, kind: b'0', size_bytes: 0, link: Vec::new(), device: (0, 0) };
        match &node.kind {
            NodeKind::Directory => header.kind = b'5',
            NodeKind::File { size_bytes, .. } => header.size_bytes = *size_bytes,
            NodeKind::Symlink { target } => (header.kind, header.link) = (b'2', target.clone()),
            NodeKind::CharacterDevice { major, minor } => (header.kind, header.device) = (b'3', (*major, *minor)),
            NodeKind::BlockDevice { major, minor } => (header.kind, header.device) = (b'4', (*major, *minor)),
            NodeKind::Fifo => header.kind = b'6',
            NodeKind::Socket => return Ok(()),
        }
        self.header(&header)?;
        match header.size_bytes {
            0 => Ok(()),
            _ => self.content(place, node, open),
        }
    }

    fn link(&mut self, path: &[u8], to: &[u8], node: &Node) -> Result<(), TarError> {
        if matches!(node.kind, NodeKind::Socket) {
            return Ok(());
        }
        self.header(&Header { path, node, kind: b'1', size_bytes: 0, link: member(to), device: (0, 0) })
    }

    /// An empty file that says something about its directory.
    fn mark(&mut self, directory: &[u8], name: &[u8], modified: i64) -> Result<(), TarError> {
        let path = if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') };
        let kind = NodeKind::File { size_bytes: 0, sha256: Sha256::of(b"") };
        let node = Node { kind, mode: 0o644, uid: 0, gid: 0, modified, attributes: BTreeMap::new() };
        self.header(&Header { path: &path, node: &node, kind: b'0', size_bytes: 0, link: Vec::new(), device: (0, 0) })
    }

    fn header(&mut self, header: &Header<'_>) -> Result<(), TarError> {
        let records = header.records()?;
        if !records.is_empty() {
            self.write(&pax_block(records.len() as u64))?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.write(&header.block()?)
    }

    /// Copies a file's content, which must be what it was when it was hashed.
    fn content<R: Read>(
        &mut self,
        place: Content<'_>,
        node: &Node,
        open: impl FnOnce(Content<'_>) -> io::Result<R>,
    ) -> Result<(), TarError> {
        let NodeKind::File { size_bytes, sha256 } = &node.kind else { return Ok(()) };
        let failed = |source| TarError::Read { path: shown(place.path), source };
        let changed = || TarError::Changed { path: shown(place.path), layer: place.layer };
        let mut reader = open(place).map_err(failed)?;
        let (mut hasher, mut left) = (Hasher::new(), *size_bytes);
        loop {
            let length = match reader.read(&mut self.chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map_err(failed)?,
            };
            let piece = self.chunk.get(..length).unwrap_or_default();
            left = left.checked_sub(length as u64).ok_or_else(changed)?;
            if length == 0 {
                break;
            }
            hasher.update(piece);
            self.out.write_all(piece).map_err(TarError::Write)?;
        }
        if left > 0 || hasher.finish() != *sha256 {
            return Err(changed());
        }
        self.pad(*size_bytes)
    }

    /// Fills up the last block of what has this size.
    fn pad(&mut self, size_bytes: u64) -> Result<(), TarError> {
        let block = BLOCK_BYTES as u64;
        let missing = usize::try_from((block - size_bytes % block) % block).unwrap_or_default();
        self.write([0; BLOCK_BYTES].get(..missing).unwrap_or_default())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.out.write_all(bytes).map_err(TarError::Write)
    }

    fn finish(mut self) -> Result<(), TarError> {
        self.write(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush().map_err(TarError::Write)
    }
}

impl Header<'_> {
    fn name(&self) -> Vec<u8> {
        let mut name = member(self.path);
        if self.kind == b'5' && !self.path.is_empty() {
            name.push(b'/');
        }
        name
    }

    /// The records of the extended header: what does not fit into the header.
    fn records(&self) -> Result<Vec<u8>, TarError> {
        let mut records = Vec::new();
        let name = self.name();
        let long_name = ustar_name(&name).is_none().then_some(name);
        let long_link = (self.link.len() > NAME_BYTES).then_some(&self.link);
        if long_name.iter().chain(long_link).any(|text| std::str::from_utf8(text).is_err()) {
            record(&mut records, b"hdrcharset", b"BINARY");
        }
        let numbers = [
            ("gid", i64::from(self.node.gid), SHORT_MAX),
            ("mtime", self.node.modified, LONG_MAX),
            ("size", i64::try_from(self.size_bytes).unwrap_or(i64::MAX), LONG_MAX),
            ("uid", i64::from(self.node.uid), SHORT_MAX),
        ];
        for (key, value, max) in numbers {
            if u64::try_from(value).map_or(true, |value| value > max) {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        for (key, text) in [("linkpath", long_link), ("path", long_name.as_ref())] {
            if let Some(text) = text {
                record(&mut records, key.as_bytes(), text);
            }
        }
        // Of a file's names only the first brings its attributes.
        let attributes = self.node.attributes.iter().filter(|_| self.kind != b'1');
        for (name, value) in attributes {
            if name.contains(&b'=') {
                return Err(unfit(self.path, "the name of an extended attribute has a `=`"));
            }
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        Ok(records)
    }

    fn block(&self) -> Result<[u8; BLOCK_BYTES], TarError> {
        let mut block = Block::new(self.kind);
        let name = self.name();
        let (prefix, name) = ustar_name(&name).unwrap_or((b"", &name));
        block.text(0, NAME_BYTES, name);
        block.text(345, PREFIX_BYTES, prefix);
        block.text(157, NAME_BYTES, &self.link);
        block.number(100, 8, self.node.mode.into());
        block.number(108, 8, fitting(self.node.uid.into(), SHORT_MAX));
        block.number(116, 8, fitting(self.node.gid.into(), SHORT_MAX));
        block.number(124, 12, fitting(self.size_bytes, LONG_MAX));
        block.number(136, 12, fitting(u64::try_from(self.node.modified).unwrap_or_default(), LONG_MAX));
        for (offset, number) in [(329, self.device.0), (337, self.device.1)] {
            if u64::from(number) > SHORT_MAX {
                return Err(unfit(self.path, "the number of a device is too large"));
            }
            block.number(offset, 8, number.into());
        }
        Ok(block.finish())
    }
}

/// A value for a field that an extended header overrides where the value does not fit.
fn fitting(value: u64, max: u64) -> u64 {
    if value > max { 0 } else { value }
}

/// The header of an extended header.
fn pax_block(size_bytes: u64) -> [u8; BLOCK_BYTES] {
    let mut block = Block::new(b'x');
    block.text(0, NAME_BYTES, PAX_NAME);
    block.number(100, 8, 0o644);
    for (offset, width) in [(108, 8), (116, 8), (136, 12), (329, 8), (337, 8)] {
        block.number(offset, width, 0);
    }
    block.number(124, 12, size_bytes);
    block.finish()
}

/// A header that is being filled in.
struct Block([u8; BLOCK_BYTES]);

impl Block {
    fn new(kind: u8) -> Self {
        let mut block = Self([0; BLOCK_BYTES]);
        block.text(156, 1, &[kind]);
        block.text(257, 8, b"ustar\x0000");
        // The checksum is that of a header whose checksum is blanks.
        block.text(148, 8, b"        ");
        block
    }

    /// As much of a text as the field holds.
    fn text(&mut self, offset: usize, width: usize, text: &[u8]) {
        let field = self.0.get_mut(offset..offset + width).unwrap_or_default();
        for (place, byte) in field.iter_mut().zip(text) {
            *place = *byte;
        }
    }

    /// An octal number and a zero byte.
    fn number(&mut self, offset: usize, width: usize, number: u64) {
        let digits = width - 1;
        self.text(offset, width, format!("{number:0digits$o}\0").as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK_BYTES] {
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.text(148, 8, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// Adds a record: its own length in decimal, a blank, the key, `=`, the value, a newline.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// A path as archives name it.
fn member(path: &[u8]) -> Vec<u8> {
    [b"./", path].concat()
}

/// The prefix and the name that a header can hold, if it can hold this name.
fn ustar_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME_BYTES {
        return Some((b"", name));
    }
    let slashes = (0..name.len()).filter(|index| name.get(*index) == Some(&b'/'));
    let parts = slashes.filter_map(|slash| Some((name.get(..slash)?, name.get(slash + 1..)?)));
    let mut fitting = parts.filter(|(prefix, rest)| prefix.len() <= PREFIX_BYTES && rest.len() <= NAME_BYTES);
    fitting.find(|(prefix, rest)| !prefix.is_empty() && !rest.is_empty())
}

/// The directory of a path, and its name in there.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

fn unfit(path: &[u8], reason: &'static str) -> TarError {
    TarError::Unfit { path: shown(path), reason }
}

fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}
