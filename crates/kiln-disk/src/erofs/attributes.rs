//! Extended attributes: those of one inode, and those that inodes share.

use std::collections::BTreeMap;

use super::format::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_HEADER_BYTES, field};

/// An attribute that is larger than this is not kept with its inode: inodes should be close to each other.
const INLINE_VALUE_BYTES_MAX: usize = 1024;

/// How many shared attributes an inode can name.
const SHARED_MAX: usize = 255;

/// Beginnings of names, by the number that stands for them. The lists of access rights have no rest of a name.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Attributes by full name, as a tree has them.
type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Attributes that several inodes have, or that are large; each as it is on disk, with its place.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// From the attribute as it is on disk to its offset.
    places: BTreeMap<Vec<u8>, u32>,
    pub(super) size_bytes: u64,
}

impl Shared {
    /// Finds what should be shared among all files.
    ///
    /// # Errors
    /// Which of the files has an attribute that no image can have, and why.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a Attributes>) -> Result<Self, (usize, &'static str)> {
        let mut uses: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (file, attributes) in files.enumerate() {
            for (name, value) in attributes {
                *uses.entry(entry(name, value).map_err(|reason| (file, reason))?).or_default() += 1;
            }
        }
        let mut shared = Self::default();
        for (entry, count) in uses {
            if count > 1 || entry.len() > INLINE_VALUE_BYTES_MAX {
                shared.add(entry);
            }
        }
        Ok(shared)
    }

    fn add(&mut self, entry: Vec<u8>) {
        // Beyond what 32 bits count, each inode has its own.
        if let Ok(place) = u32::try_from(self.size_bytes) {
            self.size_bytes += entry.len() as u64;
            self.places.insert(entry, place);
        }
    }

    /// The area that all inodes share, in the order of its bytes.
    pub(super) fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.places.keys().map(Vec::as_slice)
    }

    /// What stands behind an inode that has these attributes.
    pub(super) fn body(&self, attributes: &Attributes) -> Result<Vec<u8>, &'static str> {
        if attributes.is_empty() {
            return Ok(Vec::new());
        }
        let (mut numbers, mut rest) = (Vec::new(), Vec::new());
        for (name, value) in attributes {
            let entry = entry(name, value)?;
            match self.places.get(&entry) {
                Some(place) if numbers.len() < SHARED_MAX => numbers.push(place / 4),
                _ => rest.extend_from_slice(&entry),
            }
        }
        let count = u8::try_from(numbers.len()).unwrap_or(u8::MAX);
        let mut body = vec![0, 0, 0, 0, count, 0, 0, 0, 0, 0, 0, 0];
        body.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
        body.append(&mut rest);
        if body.len() > ATTRIBUTE_BYTES_MAX {
            return Err("its extended attributes are too large together");
        }
        Ok(body)
    }
}

/// One attribute as it is on disk.
fn entry(name: &[u8], value: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (number, rest) = split(name).ok_or("an extended attribute has a name that EROFS does not know")?;
    let name_bytes =
        u8::try_from(rest.len()).map_err(|_| "the name of an extended attribute has more than 255 bytes")?;
    let value_bytes = u16::try_from(value.len()).map_err(|_| "an extended attribute has more than 65,535 bytes")?;
    let mut entry = vec![name_bytes, number];
    entry.extend_from_slice(&value_bytes.to_le_bytes());
    entry.extend_from_slice(rest);
    entry.extend_from_slice(value);
    entry.resize(entry.len().next_multiple_of(4), 0);
    Ok(entry)
}

/// The number of a name's beginning, and the rest.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    let (number, rest) = PREFIXES.iter().find_map(|(number, prefix)| Some((*number, name.strip_prefix(*prefix)?)))?;
    // Linux takes no name longer than this, and no `user.` alone.
    let is_list = matches!(number, 2 | 3);
    (rest.is_empty() == is_list && name.len() <= 255 && !rest.contains(&0)).then_some((number, rest))
}

/// What is behind an inode: the numbers of shared attributes, and the bytes of its own.
pub(super) fn parse_body(body: &[u8]) -> Result<(Vec<u32>, &[u8]), &'static str> {
    let [count] = field(body, 4);
    let rest = body.get(ATTRIBUTES_HEADER_BYTES..).unwrap_or_default();
    let (numbers, rest) = rest.split_at_checked(4 * usize::from(count)).ok_or("it names too many shared attributes")?;
    Ok((numbers.chunks_exact(4).map(|number| u32::from_le_bytes(field(number, 0))).collect(), rest))
}

/// Bytes of the attribute that begins with these four bytes.
pub(super) fn entry_bytes(header: &[u8]) -> usize {
    let [name_bytes] = field(header, 0);
    let value_bytes = u16::from_le_bytes(field(header, 2));
    (4 + usize::from(name_bytes) + usize::from(value_bytes)).next_multiple_of(4)
}

/// Reads one attribute: its full name and its value.
pub(super) fn parse_entry(entry: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let ([name_bytes], [number]) = (field(entry, 0), field(entry, 1));
    let value_bytes = usize::from(u16::from_le_bytes(field(entry, 2)));
    let rest = entry.get(4..).unwrap_or_default();
    let parts = rest.split_at_checked(usize::from(name_bytes));
    let (name, rest) = parts.ok_or("an extended attribute is cut off")?;
    let value = rest.get(..value_bytes).ok_or("an extended attribute is cut off")?;
    let prefix = PREFIXES.iter().find(|(known, _)| *known == number);
    let (_, prefix) = prefix.ok_or("an extended attribute has an unknown kind of name")?;
    let name = [prefix, name].concat();
    split(&name).ok_or("an extended attribute has a wrong name")?;
    Ok((name, value.to_vec()))
}

/// Reads the attributes that are an inode's own.
pub(super) fn parse_entries(mut bytes: &[u8], attributes: &mut Attributes) -> Result<(), &'static str> {
    while !bytes.is_empty() {
        let (entry, rest) = bytes.split_at_checked(entry_bytes(bytes)).ok_or("an extended attribute is cut off")?;
        add(parse_entry(entry)?, attributes)?;
        bytes = rest;
    }
    Ok(())
}

/// Adds an attribute that must be the only one of its name.
pub(super) fn add((name, value): (Vec<u8>, Vec<u8>), attributes: &mut Attributes) -> Result<(), &'static str> {
    match attributes.insert(name, value) {
        None => Ok(()),
        Some(_) => Err("it has an extended attribute twice"),
    }
}
