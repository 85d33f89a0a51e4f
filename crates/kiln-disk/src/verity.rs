//! dm-verity: the tree of hashes by which the kernel checks each block of an image when it reads it.
//!
//! 1. The hashes of the image's blocks, its [`Leaves`], are made while it is written ([`Hashing`]), or by as many threads as
//!    the caller likes ([`Salt::hash_blocks`]), or taken from the image before where blocks are the same ([`Leaves::copy`]).
//! 2. [`HashTree::of`] hashes the hashes, up to one root hash.
//! 3. [`HashTree::write`] writes what a hash device has; [`verify`] checks an image and its hash device against a root hash.
//!
//! The format is that of `veritysetup` (cryptsetup's `docs/on-disk-format-verity`, Linux's
//! `Documentation/admin-guide/device-mapper/verity.rst`): version 1, SHA-256, blocks of 4096 bytes. A hash is that of the salt
//! and the block; 128 of them fill a block of the tree. The hash device begins with a block for the superblock, then comes the
//! tree, from the root's block down to the leaves. Memory is a 128th of the image.

use std::io::{self, Read, Write};

use kiln_model::digest::{Hasher, Sha256};

/// Bytes of a block, of the image and of the tree.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// Hashes in a block of the tree.
const HASHES: usize = BLOCK_BYTES / HASH_BYTES;

/// The longest salt for which the superblock has a place.
const SALT_BYTES_MAX: usize = 256;

const SIGNATURE: &[u8; 8] = b"verity\0\0";

/// The name of the hash function, with zeros up to the field's end.
const ALGORITHM: &[u8; 32] = b"sha256\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Where the salt begins in the superblock.
const SALT_OFFSET: usize = 88;

/// Why there is no tree of hashes, or an image does not agree with it.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The salt has no place in the superblock.
    #[error("seal the image: a salt has at most 256 bytes, not {size_bytes}")]
    Salt {
        /// How long it is.
        size_bytes: usize,
    },
    /// dm-verity knows only whole blocks, and at least one.
    #[error("seal the image: its size is not a positive multiple of 4096 bytes")]
    Size,
    /// A block is given a hash that is beyond the image's end.
    #[error("seal the image: it has {blocks} blocks, and there are hashes for a block after them")]
    Outside {
        /// How many blocks it has.
        blocks: usize,
    },
    /// The image could not be read.
    #[error("read the image")]
    Data(#[source] io::Error),
    /// The hash device could not be read.
    #[error("read the image's hashes")]
    Hashes(#[source] io::Error),
    /// The hash device is not one that Kiln makes.
    #[error("read the image's hashes: {reason}")]
    Superblock {
        /// What is wrong.
        reason: &'static str,
    },
    /// A block of the tree does not have the hash that it should have.
    #[error("verify the image: block {block} of its hashes is damaged, or belongs to another image")]
    HashBlock {
        /// Which, counted from the superblock, which is 0.
        block: u64,
    },
    /// A block of the image does not have the hash that it should have.
    #[error("verify the image: block {block} is damaged, or belongs to another image")]
    DataBlock {
        /// Which, counted from 0.
        block: u64,
    },
}

/// What is hashed before each block, so that hashes of other images are of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salt(Vec<u8>);

/// The hashes of an image's blocks, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leaves(Vec<Sha256>);

/// Passes an image on, and hashes its blocks.
#[derive(Debug)]
pub struct Hashing<W> {
    out: W,
    salt: Salt,
    leaves: Leaves,
    /// The beginning of a block that is not whole yet.
    partial: Vec<u8>,
}

/// All hashes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTree {
    salt: Salt,
    data_blocks: u64,
    /// From the leaves to the root: whole blocks.
    levels: Vec<Vec<u8>>,
    root: Sha256,
}

/// What a hash device says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Its identity.
    pub uuid: [u8; 16],
    /// The salt of all its hashes.
    pub salt: Salt,
    /// How many blocks the image has.
    pub data_blocks: u64,
}

impl Salt {
    /// A salt; it may be empty.
    ///
    /// # Errors
    /// If it has more than 256 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, VerityError> {
        let is_fitting = bytes.len() <= SALT_BYTES_MAX;
        is_fitting.then(|| Self(bytes.to_vec())).ok_or(VerityError::Salt { size_bytes: bytes.len() })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hashes of whole blocks. Blocks can be hashed in any order, by any thread; bytes behind the last whole block are not
    /// looked at.
    #[must_use]
    pub fn hash_blocks(&self, blocks: &[u8]) -> Vec<Sha256> {
        blocks.chunks_exact(BLOCK_BYTES).map(|block| self.hash(block)).collect()
    }

    fn hash(&self, block: &[u8]) -> Sha256 {
        let mut hasher = Hasher::new();
        hasher.update(&self.0);
        hasher.update(block);
        hasher.finish()
    }
}

impl Leaves {
    /// Hashes of so many blocks that are not known yet.
    #[must_use]
    pub fn unknown(blocks: usize) -> Self {
        Self(vec![Sha256::from_bytes([0; HASH_BYTES]); blocks])
    }

    /// Of how many blocks they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hashes.
    #[must_use]
    pub fn as_slice(&self) -> &[Sha256] {
        &self.0
    }

    /// Adds the hashes of the next blocks.
    pub fn extend(&mut self, hashes: impl IntoIterator<Item = Sha256>) {
        self.0.extend(hashes);
    }

    /// Says the hashes of blocks from `first` on.
    ///
    /// # Errors
    /// If there are fewer blocks.
    pub fn set(&mut self, first: usize, hashes: &[Sha256]) -> Result<(), VerityError> {
        let outside = VerityError::Outside { blocks: self.0.len() };
        let end = first.saturating_add(hashes.len());
        self.0.get_mut(first..end).ok_or(outside)?.copy_from_slice(hashes);
        Ok(())
    }

    /// Takes the hashes of so many blocks from another image with the same salt: a hash does not depend on a block's place.
    ///
    /// # Errors
    /// If one of both has fewer blocks.
    pub fn copy(&mut self, first: usize, from: &Self, from_first: usize, blocks: usize) -> Result<(), VerityError> {
        let outside = VerityError::Outside { blocks: from.0.len() };
        let end = from_first.saturating_add(blocks);
        self.set(first, from.0.get(from_first..end).ok_or(outside)?)
    }

    /// Reads the leaves from a hash device, which is trusted.
    ///
    /// # Errors
    /// If it cannot be read, or is not one that Kiln makes, or is that of a single block, whose hash is the root and nowhere
    /// else.
    pub fn read(mut hashes: impl Read) -> Result<(Superblock, Self), VerityError> {
        let superblock = Superblock::read(&mut hashes)?;
        if superblock.data_blocks == 1 {
            return Err(VerityError::Superblock { reason: "the hash of a single block is only the root hash" });
        }
        let mut leaves = Vec::new();
        for blocks in superblock.level_blocks() {
            leaves = read_blocks(&mut hashes, blocks)?;
        }
        let count = usize::try_from(superblock.data_blocks).unwrap_or(usize::MAX);
        let leaves = leaves.as_chunks::<HASH_BYTES>().0.iter().take(count);
        let leaves: Vec<Sha256> = leaves.map(|hash| Sha256::from_bytes(*hash)).collect();
        Ok((superblock, Self(leaves)))
    }
}

impl<W: Write> Hashing<W> {
    /// Hashes what is written to `out`.
    pub fn new(out: W, salt: Salt) -> Self {
        Self { out, salt, leaves: Leaves::default(), partial: Vec::with_capacity(BLOCK_BYTES) }
    }

    /// Ends the image: where it went, and its hashes.
    ///
    /// # Errors
    /// If the last block is not whole.
    pub fn finish(self) -> Result<(W, Leaves), VerityError> {
        if self.partial.is_empty() { Ok((self.out, self.leaves)) } else { Err(VerityError::Size) }
    }

    fn hash(&mut self, mut bytes: &[u8]) {
        if !self.partial.is_empty() {
            let missing = (BLOCK_BYTES - self.partial.len()).min(bytes.len());
            let (now, later) = bytes.split_at(missing);
            self.partial.extend_from_slice(now);
            bytes = later;
        }
        if self.partial.len() == BLOCK_BYTES {
            self.leaves.extend([self.salt.hash(&self.partial)]);
            self.partial.clear();
        }
        self.leaves.extend(self.salt.hash_blocks(bytes));
        let (_, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK_BYTES);
        self.partial.extend_from_slice(rest);
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hash(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl HashTree {
    /// Hashes the hashes of an image's blocks.
    ///
    /// # Errors
    /// If the image has no block.
    pub fn of(leaves: &Leaves, salt: &Salt) -> Result<Self, VerityError> {
        let mut hashes = leaves.0.clone();
        let mut levels = Vec::new();
        while hashes.len() > 1 {
            let level = level(&hashes);
            hashes = salt.hash_blocks(&level);
            levels.push(level);
        }
        let root = *hashes.first().ok_or(VerityError::Size)?;
        Ok(Self { salt: salt.clone(), data_blocks: leaves.0.len() as u64, levels, root })
    }

    /// The hash of all.
    #[must_use]
    pub fn root(&self) -> Sha256 {
        self.root
    }

    /// How many blocks the image has.
    #[must_use]
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// Bytes of the hash device.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        (BLOCK_BYTES + self.levels.iter().map(Vec::len).sum::<usize>()) as u64
    }

    /// Writes the hash device, with this identity: the superblock, then the tree.
    ///
    /// # Errors
    /// If `out` fails.
    pub fn write(&self, uuid: [u8; 16], mut out: impl Write) -> io::Result<()> {
        let superblock = Superblock { uuid, salt: self.salt.clone(), data_blocks: self.data_blocks };
        out.write_all(&superblock.to_block())?;
        for level in self.levels.iter().rev() {
            out.write_all(level)?;
        }
        out.flush()
    }
}

impl Superblock {
    fn to_block(&self) -> Vec<u8> {
        let mut block = SIGNATURE.to_vec();
        // Version of the superblock, and of the order of salt and block.
        block.extend_from_slice(&1_u32.to_le_bytes());
        block.extend_from_slice(&1_u32.to_le_bytes());
        block.extend_from_slice(&self.uuid);
        block.extend_from_slice(ALGORITHM);
        for size in [BLOCK_BYTES, BLOCK_BYTES] {
            block.extend_from_slice(&u32::try_from(size).unwrap_or_default().to_le_bytes());
        }
        block.extend_from_slice(&self.data_blocks.to_le_bytes());
        block.extend_from_slice(&u16::try_from(self.salt.0.len()).unwrap_or_default().to_le_bytes());
        block.resize(SALT_OFFSET, 0);
        block.extend_from_slice(&self.salt.0);
        block.resize(BLOCK_BYTES, 0);
        block
    }

    /// Reads the first block of a hash device, and nothing after it.
    ///
    /// # Errors
    /// If it cannot be read, or is not as Kiln writes it.
    pub fn read(mut hashes: impl Read) -> Result<Self, VerityError> {
        let mut block = [0; BLOCK_BYTES];
        hashes.read_exact(&mut block).map_err(VerityError::Hashes)?;
        let wrong = |reason| VerityError::Superblock { reason };
        if !block.starts_with(SIGNATURE) {
            return Err(wrong("this is not dm-verity"));
        }
        let salt_bytes = usize::from(u16::from_le_bytes(field(&block, 80)));
        let salt = block.get(SALT_OFFSET..SALT_OFFSET + salt_bytes.min(SALT_BYTES_MAX)).unwrap_or_default();
        let data_blocks = u64::from_le_bytes(field(&block, 72));
        let superblock = Self { uuid: field(&block, 16), salt: Salt::new(salt)?, data_blocks };
        // All other fields have one right value each: so the whole block has.
        if superblock.to_block() != block {
            return Err(wrong("it is of another version, hash or size of blocks than Kiln's, or damaged"));
        }
        // 2^51 blocks are 2^63 bytes, more than any device has.
        if data_blocks == 0 || data_blocks >> 51 != 0 {
            return Err(wrong("the image has an impossible size"));
        }
        Ok(superblock)
    }

    /// How many blocks each level of the tree has, from the root to the leaves.
    fn level_blocks(&self) -> Vec<u64> {
        let mut levels = Vec::new();
        let mut hashes = self.data_blocks;
        while hashes > 1 {
            hashes = hashes.div_ceil(HASHES as u64);
            levels.push(hashes);
        }
        levels.reverse();
        levels
    }
}

/// Checks each block of an image and of its hash device against a root hash. What is behind the image's last block is not
/// read.
///
/// # Errors
/// If something cannot be read, or the first thing that is not as it should be.
pub fn verify(data: impl Read, mut hashes: impl Read, root: &Sha256) -> Result<Superblock, VerityError> {
    let superblock = Superblock::read(&mut hashes)?;
    let mut expected = root.as_bytes().to_vec();
    let mut number = 1;
    for blocks in superblock.level_blocks() {
        let level = read_blocks(&mut hashes, blocks)?;
        let found = superblock.salt.hash_blocks(&level);
        if let Some(wrong) = first_difference(&found, &expected) {
            return Err(VerityError::HashBlock { block: number + wrong });
        }
        number += blocks;
        expected = level;
    }
    verify_data(data, &superblock, &expected)?;
    Ok(superblock)
}

fn verify_data(mut data: impl Read, superblock: &Superblock, expected: &[u8]) -> Result<(), VerityError> {
    let mut block = [0; BLOCK_BYTES];
    let mut leaves = expected.chunks_exact(HASH_BYTES);
    for (number, leaf) in (0..superblock.data_blocks).zip(leaves.by_ref()) {
        data.read_exact(&mut block).map_err(VerityError::Data)?;
        if superblock.salt.hash(&block).as_bytes() != leaf {
            return Err(VerityError::DataBlock { block: number });
        }
    }
    // A superblock that speaks of fewer blocks than were hashed would leave the others unchecked.
    let is_all = leaves.flatten().all(|byte| *byte == 0);
    is_all.then_some(()).ok_or(VerityError::Superblock { reason: "there are hashes for more blocks than it says" })
}

/// Hashes as blocks of the tree, the last of which is filled up with zeros.
fn level(hashes: &[Sha256]) -> Vec<u8> {
    let mut level = Vec::with_capacity(hashes.len().next_multiple_of(HASHES) * HASH_BYTES);
    level.extend(hashes.iter().flat_map(Sha256::as_bytes));
    level.resize(level.len().next_multiple_of(BLOCK_BYTES), 0);
    level
}

/// The first hash that is not the expected one.
fn first_difference(found: &[Sha256], expected: &[u8]) -> Option<u64> {
    let mut expected = expected.chunks_exact(HASH_BYTES);
    let position = found.iter().position(|hash| expected.next() != Some(hash.as_bytes()));
    position.map(|position| position as u64)
}

/// Reads whole blocks; memory grows with what is there, not with what the number claims.
fn read_blocks(source: &mut impl Read, blocks: u64) -> Result<Vec<u8>, VerityError> {
    let size_bytes = blocks * BLOCK_BYTES as u64;
    let mut bytes = Vec::new();
    source.take(size_bytes).read_to_end(&mut bytes).map_err(VerityError::Hashes)?;
    if bytes.len() as u64 == size_bytes {
        Ok(bytes)
    } else {
        Err(VerityError::Hashes(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// The bytes of a field.
fn field<const N: usize>(block: &[u8; BLOCK_BYTES], offset: usize) -> [u8; N] {
    block.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}
