//! What is in an EROFS image, byte by byte; all numbers are little-endian.

use crate::layer::NodeKind;

use super::BLOCK_BYTES;

/// Where the superblock begins.
pub(super) const SUPERBLOCK_OFFSET: usize = 1024;

pub(super) const MAGIC: u32 = 0xE0F5_E1E2;

/// Compatible features: the superblock has a checksum; times of extended inodes are those of modification.
const FEATURES: u32 = 0x1 | 0x2;
const FEATURE_CHECKSUM: u32 = 0x1;

/// An incompatible feature that says where compressed contents begin, and nothing where there are none.
const FEATURE_PADDING: u32 = 0x1;

/// Inode numbers count in these bytes.
pub(super) const SLOT_BYTES: usize = 32;

pub(super) const COMPACT_BYTES: usize = 32;
pub(super) const EXTENDED_BYTES: usize = 64;

/// Bytes of the header before an inode's extended attributes.
pub(super) const ATTRIBUTES_HEADER_BYTES: usize = 12;

pub(super) const DIRENT_BYTES: usize = 12;

/// The longest name of a file.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// The longest path by which Linux reaches a file (`PATH_MAX` without its zero byte). Of a longer one nobody is sure.
pub(super) const PATH_BYTES_MAX: usize = 4095;

/// The longest target of a symbolic link, by the same limit.
pub(super) const TARGET_BYTES_MAX: usize = 4095;

const KIND_MASK: u16 = 0o170_000;

/// The file system as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) root: u16,
    pub(super) inodes: u64,
    /// The time of all compact inodes, in seconds since 1970.
    pub(super) modified: i64,
    pub(super) blocks: u32,
    /// The block that inode numbers count from.
    pub(super) inode_block: u32,
    /// The block that numbers of shared attributes count from.
    pub(super) attribute_block: u32,
    pub(super) uuid: [u8; 16],
}

/// One inode, without its attributes and what is inline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) is_extended: bool,
    /// Whether what is behind the last whole block follows the inode.
    pub(super) is_inline: bool,
    /// Bytes of extended attributes between the inode and what is inline.
    pub(super) attribute_bytes: usize,
    /// The kind of file and its permissions, as in `st_mode`.
    pub(super) mode: u16,
    pub(super) links: u32,
    pub(super) size_bytes: u64,
    /// The first block, or the number of a device.
    pub(super) place: u32,
    /// The number for programs that know only 32 bits.
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// In seconds since 1970; that of the superblock if the inode is compact.
    pub(super) modified: i64,
}

/// The kinds of files, by the bits in `st_mode` and the number in directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
    Symlink,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::File,
        Self::Directory,
        Self::CharacterDevice,
        Self::BlockDevice,
        Self::Fifo,
        Self::Socket,
        Self::Symlink,
    ];

    pub(super) fn of(kind: &NodeKind) -> Self {
        match kind {
            NodeKind::File { .. } => Self::File,
            NodeKind::Directory => Self::Directory,
            NodeKind::CharacterDevice { .. } => Self::CharacterDevice,
            NodeKind::BlockDevice { .. } => Self::BlockDevice,
            NodeKind::Fifo => Self::Fifo,
            NodeKind::Socket => Self::Socket,
            NodeKind::Symlink { .. } => Self::Symlink,
        }
    }

    pub(super) fn of_mode(mode: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.mode_bits() == mode & KIND_MASK)
    }

    pub(super) fn mode_bits(self) -> u16 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::CharacterDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Symlink => 0o120_000,
        }
    }

    /// The number that directories give it.
    pub(super) fn in_directory(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::CharacterDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }
}

impl Superblock {
    /// The image's first block.
    pub(super) fn to_block(&self) -> Vec<u8> {
        let mut block = self.without_checksum();
        block.resize(BLOCK_BYTES, 0);
        let checksum = crc32c(block.get(SUPERBLOCK_OFFSET..).unwrap_or_default());
        if let Some(field) = block.get_mut(SUPERBLOCK_OFFSET + 4..SUPERBLOCK_OFFSET + 8) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
        block
    }

    fn without_checksum(&self) -> Vec<u8> {
        let mut block = vec![0; SUPERBLOCK_OFFSET];
        block.extend_from_slice(&MAGIC.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&FEATURES.to_le_bytes());
        // A block is 1 << 12 bytes; there are no extensions.
        block.extend_from_slice(&[12, 0]);
        block.extend_from_slice(&self.root.to_le_bytes());
        block.extend_from_slice(&self.inodes.to_le_bytes());
        block.extend_from_slice(&self.modified.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&self.blocks.to_le_bytes());
        block.extend_from_slice(&self.inode_block.to_le_bytes());
        block.extend_from_slice(&self.attribute_block.to_le_bytes());
        block.extend_from_slice(&self.uuid);
        block
    }

    /// Reads the image's first block.
    pub(super) fn parse(block: &[u8; BLOCK_BYTES]) -> Result<Self, &'static str> {
        let fields = block.get(SUPERBLOCK_OFFSET..).unwrap_or_default();
        if u32::from_le_bytes(field(fields, 0)) != MAGIC {
            return Err("this is not EROFS");
        }
        let features = u32::from_le_bytes(field(fields, 8));
        if features & FEATURE_CHECKSUM != 0 {
            check_superblock(fields)?;
        }
        if field(fields, 12) != [12] {
            return Err("blocks are not of 4096 bytes");
        }
        if u32::from_le_bytes(field(fields, 80)) & !FEATURE_PADDING != 0 || u16::from_le_bytes(field(fields, 86)) != 0 {
            return Err("it has features that Kiln does not use, such as compression");
        }
        Ok(Self {
            root: u16::from_le_bytes(field(fields, 14)),
            inodes: u64::from_le_bytes(field(fields, 16)),
            modified: i64::from_le_bytes(field(fields, 24)),
            blocks: u32::from_le_bytes(field(fields, 36)),
            inode_block: u32::from_le_bytes(field(fields, 40)),
            attribute_block: u32::from_le_bytes(field(fields, 44)),
            uuid: field(fields, 48),
        })
    }
}

/// Checks the checksum of the first block's rest.
fn check_superblock(fields: &[u8]) -> Result<(), &'static str> {
    let mut zeroed = fields.to_vec();
    if let Some(checksum) = zeroed.get_mut(4..8) {
        checksum.fill(0);
    }
    let is_right = crc32c(&zeroed) == u32::from_le_bytes(field(fields, 4));
    if is_right { Ok(()) } else { Err("the superblock has a wrong checksum") }
}

impl Inode {
    /// Bytes of the inode itself.
    pub(super) fn own_bytes(is_extended: bool) -> usize {
        if is_extended { EXTENDED_BYTES } else { COMPACT_BYTES }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let layout: u16 = if self.is_inline { 2 } else { 0 };
        out.extend_from_slice(&(u16::from(self.is_extended) | layout << 1).to_le_bytes());
        out.extend_from_slice(&low_16(attribute_count(self.attribute_bytes)).to_le_bytes());
        out.extend_from_slice(&self.mode.to_le_bytes());
        if self.is_extended { self.write_extended(out) } else { self.write_compact(out) }
    }

    fn write_compact(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&low_16(self.links).to_le_bytes());
        out.extend_from_slice(self.size_bytes.to_le_bytes().first_chunk::<4>().unwrap_or(&[0; 4]));
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.place.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&low_16(self.uid).to_le_bytes());
        out.extend_from_slice(&low_16(self.gid).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }

    fn write_extended(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.size_bytes.to_le_bytes());
        out.extend_from_slice(&self.place.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&self.gid.to_le_bytes());
        out.extend_from_slice(&self.modified.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.links.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
    }

    /// Whether the inode that begins like this has the long form.
    pub(super) fn is_extended(start: &[u8]) -> bool {
        u16::from_le_bytes(field(start, 0)) & 1 == 1
    }

    /// Reads an inode; `modified` is the superblock's.
    pub(super) fn parse(bytes: &[u8], modified: i64) -> Result<Self, &'static str> {
        let is_extended = Self::is_extended(bytes);
        let is_inline = match u16::from_le_bytes(field(bytes, 0)) >> 1 {
            0 => false,
            2 => true,
            _ => return Err("its inode has features that Kiln does not use, such as compression"),
        };
        let attribute_bytes = attribute_bytes(u16::from_le_bytes(field(bytes, 2)));
        let mode = u16::from_le_bytes(field(bytes, 4));
        let common = Self { is_extended, is_inline, attribute_bytes, mode, ..Self::numbers(bytes, modified) };
        Ok(common)
    }

    /// The numbers that are elsewhere in both forms.
    fn numbers(bytes: &[u8], modified: i64) -> Self {
        let is_extended = Self::is_extended(bytes);
        let short = |offset| u32::from(u16::from_le_bytes(field(bytes, offset)));
        let long = |offset| u32::from_le_bytes(field(bytes, offset));
        let size = if is_extended { u64::from_le_bytes(field(bytes, 8)) } else { u64::from(long(8)) };
        Self {
            is_extended,
            is_inline: false,
            attribute_bytes: 0,
            mode: 0,
            links: if is_extended { long(44) } else { short(6) },
            size_bytes: size,
            place: long(16),
            number: long(20),
            uid: if is_extended { long(24) } else { short(24) },
            gid: if is_extended { long(28) } else { short(26) },
            modified: if is_extended { i64::from_le_bytes(field(bytes, 32)) } else { modified },
        }
    }
}

/// What an inode says about the size of its attributes: the header counts as one, and each four bytes more.
fn attribute_count(bytes: usize) -> u32 {
    let rest = bytes.saturating_sub(ATTRIBUTES_HEADER_BYTES) / 4;
    if bytes == 0 { 0 } else { u32::try_from(rest).unwrap_or(u32::MAX).saturating_add(1) }
}

/// The most bytes of attributes that an inode can speak of.
pub(super) const ATTRIBUTE_BYTES_MAX: usize = ATTRIBUTES_HEADER_BYTES + 4 * (u16::MAX as usize - 1);

fn attribute_bytes(count: u16) -> usize {
    match count {
        0 => 0,
        count => ATTRIBUTES_HEADER_BYTES + 4 * (usize::from(count) - 1),
    }
}

/// A number that is known to fit into 16 bits.
fn low_16(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// A device's number, as Linux encodes it in 32 bits: 12 for the major number, 20 for the minor one.
pub(super) fn device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// The major and the minor number of a device.
pub(super) fn device_parts(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & !0xff))
}

/// The bytes of a field, which are zero where there are none.
pub(super) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// CRC-32C (Castagnoli), as Linux's `crc32c(~0, ...)` has it: without the last inversion.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_standard_text() {
        // RFC 3720, appendix B.4, and the catalogue of CRCs: `123456789` gives E3069283 after the last inversion.
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(!crc32c(&[0; 32]), 0x8A91_36AA);
    }

    #[test]
    fn devices_read_back() {
        for (major, minor) in [(0, 0), (1, 3), (8, 1), (259, 70_000), (4095, 1_048_575)] {
            assert_eq!(device_parts(device(major, minor).unwrap()), (major, minor));
        }
        // `mknod c 1 3` is 0x103 in `st_rdev`, as for every Linux.
        assert_eq!(device(1, 3), Some(0x103));
        assert_eq!(device(4096, 0), None);
        assert_eq!(device(0, 1 << 20), None);
    }

    #[test]
    fn superblock_reads_back_and_notices_a_flipped_bit() {
        let superblock = Superblock {
            root: 1,
            inodes: 2,
            modified: -3,
            blocks: 4,
            inode_block: 5,
            attribute_block: 6,
            uuid: *b"0123456789abcdef",
        };
        let mut block: [u8; BLOCK_BYTES] = superblock.to_block().try_into().unwrap();
        assert_eq!(Superblock::parse(&block), Ok(superblock));
        block[SUPERBLOCK_OFFSET + 200] ^= 1;
        assert_eq!(Superblock::parse(&block), Err("the superblock has a wrong checksum"));
    }

    #[test]
    fn both_forms_of_an_inode_read_back() {
        for is_extended in [false, true] {
            let inode = Inode {
                is_extended,
                is_inline: true,
                attribute_bytes: 16,
                mode: 0o100_644,
                links: 2,
                size_bytes: if is_extended { 1 << 40 } else { 1 << 20 },
                place: 77,
                number: 5,
                uid: 1000,
                gid: 65_535,
                modified: 11,
            };
            let mut bytes = Vec::new();
            inode.write(&mut bytes);
            assert_eq!(bytes.len(), Inode::own_bytes(is_extended));
            assert_eq!(Inode::parse(&bytes, 11), Ok(inode));
        }
    }
}
