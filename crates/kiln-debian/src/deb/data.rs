//! The entries of `data.tar`: the files that a package places.
//!
//! [`read_entries`] walks the archive once, front to back, and hands each file's content to the caller as it comes by. It
//! takes what dpkg takes (`lib/dpkg/tarfn.c`, `tarobject` in `src/main/archives.c`), and refuses names that could lead out of
//! a tree, which no package has.

use std::fmt;
use std::io::{self, Read};

use super::DebError;

/// Most entries in one package; Debian's largest have about a hundred thousand.
const ENTRIES_MAX: usize = 4_000_000;
/// Longest path: what a Linux kernel takes (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

/// One file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes: relative to the root, without a slash at either end; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Its owner.
    pub user: Owner,
    /// Its group.
    pub group: Owner,
    /// Time of modification, in seconds since 1970.
    pub modified: i64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size.
        size_bytes: u64,
    },
    /// One more name of a file that came before.
    HardLink {
        /// That file's path, as [`Entry::path`].
        to: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: Vec<u8>,
    },
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A user or a group, as an archive names it. The name counts where the tree knows it, else the number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Numeric id.
    pub id: u32,
    /// Name; empty if there is none.
    pub name: Vec<u8>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.path))
    }
}

/// Reads a `data.tar`; each entry, in order, goes to `take`, with a reader of its content, which is empty but for files.
///
/// # Errors
/// When the archive is damaged, or has something that dpkg would not take, or `take` fails.
pub fn read_entries<R: Read>(
    tar: R,
    mut take: impl FnMut(Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), DebError> {
    let failed = |source| DebError::Read { part: "data.tar".to_owned(), source };
    let mut archive = tar::Archive::new(tar);
    for (number, member) in archive.entries().map_err(failed)?.enumerate() {
        let mut member = member.map_err(failed)?;
        if number == ENTRIES_MAX {
            return Err(wrong(&member.path_bytes(), "there are too many entries"));
        }
        let entry = entry(&mut member)?;
        take(entry, &mut member).map_err(failed)?;
    }
    Ok(())
}

fn wrong(path: &[u8], reason: &'static str) -> DebError {
    DebError::DataEntry { path: String::from_utf8_lossy(path).into_owned(), reason }
}

fn entry<R: Read>(member: &mut tar::Entry<'_, R>) -> Result<Entry, DebError> {
    let written = member.path_bytes().into_owned();
    let number = |result: io::Result<u64>| {
        let value = result.map_err(|_| wrong(&written, "a number of its header is damaged"))?;
        u32::try_from(value).map_err(|_| wrong(&written, "a number of its header is too large"))
    };
    let header = member.header();
    Ok(Entry {
        path: path_of(&written).map_err(|reason| wrong(&written, reason))?,
        kind: kind(member, &written)?,
        mode: number(header.mode().map(u64::from))? & 0o7777,
        user: Owner { id: number(header.uid())?, name: header.username_bytes().unwrap_or_default().to_vec() },
        group: Owner { id: number(header.gid())?, name: header.groupname_bytes().unwrap_or_default().to_vec() },
        // A time before 1970 is a large unsigned number here, and comes out right.
        modified: header.mtime().map_err(|_| wrong(&written, "its time is damaged"))?.cast_signed(),
    })
}

fn kind<R: Read>(member: &tar::Entry<'_, R>, path: &[u8]) -> Result<EntryKind, DebError> {
    let header = member.header();
    let device = |number: io::Result<Option<u32>>| {
        number.ok().flatten().ok_or_else(|| wrong(path, "the number of the device is damaged"))
    };
    let link = || member.link_name_bytes().map(|name| name.into_owned()).filter(|name| !name.is_empty());
    Ok(match header.entry_type() {
        tar::EntryType::Regular => EntryKind::File { size_bytes: member.size() },
        tar::EntryType::Directory => EntryKind::Directory,
        tar::EntryType::Symlink => {
            EntryKind::Symlink { target: link().ok_or_else(|| wrong(path, "it links to nothing"))? }
        }
        tar::EntryType::Link => {
            let to = link().ok_or_else(|| wrong(path, "it links to nothing"))?;
            EntryKind::HardLink { to: path_of(&to).map_err(|reason| wrong(path, reason))? }
        }
        tar::EntryType::Char => {
            EntryKind::CharacterDevice { major: device(header.device_major())?, minor: device(header.device_minor())? }
        }
        tar::EntryType::Block => {
            EntryKind::BlockDevice { major: device(header.device_major())?, minor: device(header.device_minor())? }
        }
        tar::EntryType::Fifo => EntryKind::Fifo,
        _ => return Err(wrong(path, "dpkg knows no such kind of entry")),
    })
}

/// A path as the tree has it: `./usr/bin/` is `usr/bin`.
fn path_of(written: &[u8]) -> Result<Vec<u8>, &'static str> {
    if written.len() > PATH_BYTES_MAX {
        return Err("the name is too long");
    }
    if written.iter().any(|byte| matches!(byte, b'\n' | 0)) {
        return Err("a line break has no place in a name");
    }
    let parts: Vec<&[u8]> = written.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err("a name must not lead upwards");
    }
    Ok(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_mtime(7);
            header.set_uid(5);
            header.set_gid(6);
            header.set_username("games").unwrap();
            let is_file = *kind == tar::EntryType::Regular;
            if !is_file {
                header.set_link_name_literal(content).unwrap();
            }
            header.set_size(if is_file { content.len() as u64 } else { 0 });
            header.set_cksum();
            builder.append(&header, if is_file { content.as_bytes() } else { b"" }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(tar: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, DebError> {
        let mut entries = Vec::new();
        read_entries(tar, |entry, reader| {
            let mut content = Vec::new();
            reader.read_to_end(&mut content)?;
            entries.push((entry, content));
            Ok(())
        })?;
        Ok(entries)
    }

    /// What is read of one member: its path, kind and content, or why it is refused.
    fn check(name: &str, kind: tar::EntryType, content: &str, expected: &str) {
        let found = match read(&archive(&[(name, kind, content)])) {
            Ok(entries) => entries
                .iter()
                .map(|(entry, content)| format!("{entry} {:?} {:?}", entry.kind, String::from_utf8_lossy(content)))
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{name:?}");
    }

    #[test]
    fn kinds_of_entries() {
        use tar::EntryType as Type;
        check("./", Type::Directory, "x", "/ Directory \"\"");
        check("./usr/share/", Type::Directory, "x", "/usr/share Directory \"\"");
        check("./a", Type::Regular, "text", "/a File { size_bytes: 4 } \"text\"");
        check("/a//b", Type::Regular, "", "/a/b File { size_bytes: 0 } \"\"");
        check("./a", Type::Fifo, "x", "/a Fifo \"\"");
        check("./a", Type::Link, "./b/c", "/a HardLink { to: [98, 47, 99] } \"\"");
        check("./a", Type::Symlink, "../b", "/a Symlink { target: [46, 46, 47, 98] } \"\"");
    }

    #[test]
    fn what_has_no_place_is_refused() {
        use tar::EntryType as Type;
        check("./a/../b", Type::Regular, "", "data.tar has `./a/../b`: a name must not lead upwards");
        check("./a\nb", Type::Regular, "", "data.tar has `./a\nb`: a line break has no place in a name");
        check("./a", Type::Link, "../b", "data.tar has `./a`: a name must not lead upwards");
        check("./a", Type::Symlink, "", "data.tar has `./a`: it links to nothing");
        check("./a", Type::Continuous, "x", "data.tar has `./a`: dpkg knows no such kind of entry");
    }

    #[test]
    fn owners_modes_and_times_arrive() {
        let entries = read(&archive(&[("./a", tar::EntryType::Regular, "x")])).unwrap();
        let (entry, _) = &entries[0];
        assert_eq!((entry.mode, entry.modified), (0o4755, 7));
        assert_eq!((&entry.user, entry.group.id), (&Owner { id: 5, name: b"games".to_vec() }, 6));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_path_leads_out(name in prop::collection::vec(prop::sample::select(b"ab./\0\n".as_slice()), 0..12)) {
            if let Ok(path) = path_of(&name) {
                prop_assert!(path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"." | b"..")));
                prop_assert!(!path.starts_with(b"/") && !path.ends_with(b"/"));
            }
        }
    }
}
