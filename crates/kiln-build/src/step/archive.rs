//! Unpacks tar and zip archives below a directory of the tree.
//!
//! Which kind it is, and how it is compressed, is told by its first bytes. Nothing leaves the directory: names that are
//! absolute or go up are refused, so are links that lead out, and what lies behind a link of the tree that does. Devices and
//! pipes are refused. What is unpacked belongs to root, or to whom the step says; of the modes, the right of others to
//! write and the bits that lend an owner's rights are left out, since the owner is another than the archive's.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use camino::Utf8PathBuf;
use kiln_debian::compression::{Compression, decompress};
use kiln_model::spec::Mode;
use tar::EntryType;

use super::copy::{directory_mode, file_mode};
use super::root::{Ownership, Root};
use super::{Doing as _, Problem, content};

/// Bits of an archive's modes that are kept.
const MODE_KEPT: u32 = 0o755;

/// How much of a file tells what it is: the mark of tar is at 257.
const HEAD_BYTES: usize = 512;

/// Longest target of a link, as the kernel has it.
const TARGET_BYTES_MAX: u64 = 4096;

/// Where and how an archive is unpacked.
#[derive(Debug)]
pub(super) struct Unpacking {
    /// The directory.
    pub(super) root: Root,
    /// Its path in the tree.
    pub(super) to: Utf8PathBuf,
    /// How many leading parts of names are left out.
    pub(super) strip: u32,
    pub(super) ownership: Ownership,
    /// The mode of files, instead of the archive's.
    pub(super) mode: Option<Mode>,
}

/// One thing in an archive.
enum Item<'a> {
    Directory,
    File(&'a mut dyn Read),
    Symlink(PathBuf),
    /// One more name of a file of the archive.
    HardLink(PathBuf),
}

/// Kinds of files that can be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tar(Packing),
    Zip,
}

/// How a tar archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Known(Compression),
    Bzip2,
}

/// Unpacks a file, whose name is for messages.
pub(super) fn unpack(mut file: &File, unpacking: &Unpacking, name: &str) -> Result<(), Problem> {
    let mut head = Vec::new();
    let doing = || format!("read {name}");
    file.take(HEAD_BYTES as u64).read_to_end(&mut head).doing(doing)?;
    file.seek(SeekFrom::Start(0)).doing(doing)?;
    let placed = match kind(&head) {
        Some(Kind::Zip) => unpack_zip(file, unpacking, name)?,
        Some(Kind::Tar(packing)) => unpack_tar(file, packing, unpacking, name)?,
        None => {
            return Err(Problem::refused(format!("{name} is no archive that Kiln can unpack")).hint(
                "tar is, plain or with gzip, xz, zstd or bzip2, and zip; leave `unpack` out to place the file itself",
            ));
        }
    };
    match placed {
        0 => {
            Err(Problem::refused(format!("{name} holds nothing below {} leading parts of its names", unpacking.strip)))
        }
        _ => Ok(()),
    }
}

fn kind(head: &[u8]) -> Option<Kind> {
    let known = |compression| Some(Kind::Tar(Packing::Known(compression)));
    match head {
        [0x1f, 0x8b, ..] => known(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => known(Compression::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => known(Compression::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Kind::Tar(Packing::Bzip2)),
        [b'P', b'K', 3, 4, ..] => Some(Kind::Zip),
        _ if head.get(257..262) == Some(b"ustar") => known(Compression::None),
        _ => None,
    }
}

fn unpack_tar(file: &File, packing: Packing, unpacking: &Unpacking, name: &str) -> Result<u64, Problem> {
    let doing = || format!("unpack {name}");
    let reader: Box<dyn Read> = match packing {
        Packing::Known(compression) => decompress(compression, file, u64::MAX),
        Packing::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(BufReader::new(file))),
    };
    let mut archive = tar::Archive::new(reader);
    let mut placed = 0;
    for entry in archive.entries().doing(doing)? {
        let mut entry = entry.doing(doing)?;
        let path = path_of_bytes(&entry.path_bytes());
        let target = entry.link_name_bytes().map(|target| path_of_bytes(&target));
        let mode = entry.header().mode().doing(doing)?;
        let item = match (entry.header().entry_type(), target) {
            (EntryType::Directory, _) => Item::Directory,
            (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse, _) => Item::File(&mut entry),
            (EntryType::Symlink, Some(target)) => Item::Symlink(target),
            (EntryType::Link, Some(target)) => Item::HardLink(target),
            (EntryType::XGlobalHeader, _) => continue,
            (other, _) => return Err(refused(name, &path, &format!("is {}", noun(other)))),
        };
        placed += u64::from(unpacking.put(name, &path, mode, item)?);
    }
    Ok(placed)
}

fn noun(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        _ => "something that Kiln does not know",
    }
}

fn unpack_zip(file: &File, unpacking: &Unpacking, name: &str) -> Result<u64, Problem> {
    let doing = || format!("unpack {name}");
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).doing(doing)?;
    let mut placed = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).doing(doing)?;
        let path = path_of_bytes(entry.name_raw());
        // Archives from systems without modes have none.
        let mode = entry.unix_mode().unwrap_or(if entry.is_dir() { 0o755 } else { 0o644 });
        let item = if entry.is_dir() {
            Item::Directory
        } else if entry.is_symlink() {
            Item::Symlink(target_of(&mut entry).doing(doing)?)
        } else {
            Item::File(&mut entry)
        };
        placed += u64::from(unpacking.put(name, &path, mode, item)?);
    }
    Ok(placed)
}

/// In zip, the target of a link is its content.
fn target_of(entry: &mut dyn Read) -> io::Result<PathBuf> {
    let mut bytes = Vec::new();
    entry.take(TARGET_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(path_of_bytes(&bytes))
}

fn path_of_bytes(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn refused(archive: &str, path: &Path, what: &str) -> Problem {
    Problem::refused(format!("{archive} cannot be unpacked: {} in it {what}", path.display()))
        .hint("leave `unpack` out, and unpack it in a `shell` step if you trust it")
}

impl Unpacking {
    /// Places one thing; returns whether anything is left of its name.
    fn put(&self, archive: &str, path: &Path, mode: u32, item: Item<'_>) -> Result<bool, Problem> {
        let refuse = |what: &str| refused(archive, path, what);
        let inside = self.inside(path).map_err(refuse)?;
        let Some(inside) = inside else { return Ok(false) };
        let spot = self.root.spot(&inside)?;
        match item {
            Item::Directory => {
                let mode = self.mode.map_or(mode & MODE_KEPT, |mode| directory_mode(Some(mode)));
                spot.directory(self.ownership, mode).map(drop)?;
            }
            Item::File(content) => {
                let mode = self.mode.map_or(mode & MODE_KEPT, |mode| file_mode(Some(mode), false));
                spot.file(self.ownership, mode, |file| {
                    content::copy(content, file).doing(|| format!("unpack {archive}")).map(drop)
                })?;
            }
            Item::Symlink(target) => match self.holds(&inside, &target) {
                true => spot.symlink(target.as_os_str(), self.ownership)?,
                false => return Err(refuse(&format!("is a link that leads out of {}", self.to))),
            },
            Item::HardLink(target) => match self.inside(&target).map_err(refuse)? {
                Some(target) => spot.hard_link(&self.root.spot(&target)?)?,
                None => return Err(refuse("is a name of a file that is left out")),
            },
        }
        Ok(true)
    }

    /// The path below the directory for a name in the archive; none if it is left out.
    fn inside(&self, name: &Path) -> Result<Option<PathBuf>, &'static str> {
        let mut parts = Vec::new();
        for component in name.components() {
            match component {
                Component::Normal(part) => parts.push(part),
                Component::CurDir => {}
                Component::ParentDir => return Err("goes up"),
                Component::RootDir | Component::Prefix(_) => return Err("is an absolute path"),
            }
        }
        let rest: PathBuf = parts.into_iter().skip(self.strip as usize).collect();
        Ok(Some(rest).filter(|rest| !rest.as_os_str().is_empty()))
    }

    /// Whether a link stays in the directory.
    fn holds(&self, link: &Path, target: &Path) -> bool {
        let start = self.to.as_std_path().join(link);
        let mut at: Vec<Component<'_>> = match target.is_absolute() {
            true => Vec::new(),
            false => start.parent().map(|parent| parent.components().collect()).unwrap_or_default(),
        };
        for component in target.components() {
            match component {
                Component::ParentDir if at.len() > 1 => drop(at.pop()),
                Component::ParentDir | Component::CurDir => {}
                part => at.push(part),
            }
        }
        at.into_iter().collect::<PathBuf>().starts_with(&self.to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use fs_err as fs;

    use super::*;
    use crate::step::ground::{Ground, for_each_identity};

    /// One entry: kind, name, mode, content or target.
    type Entry<'a> = (EntryType, &'a str, u32, &'a str);

    /// A tar archive; names are written as they are, however wrong they may be.
    fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, name, mode, text) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_uid(1234);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            let content = if is_link { "" } else { text };
            if is_link {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    const ENTRIES: [Entry<'_>; 6] = [
        (EntryType::XGlobalHeader, "pax_global_header", 0o644, "27 comment=abcdefabcdefabc\n"),
        (EntryType::Directory, "./app/", 0o2777, ""),
        (EntryType::Regular, "./app/run", 0o6777, "run"),
        (EntryType::Regular, "app/share/notes", 0o600, "notes"),
        (EntryType::Symlink, "app/share/up", 0o777, "../run"),
        (EntryType::Link, "app/again", 0o644, "app/run"),
    ];

    const UNPACKED: [&str; 7] = [
        "opt 755 0:0 /",
        "opt/app 755 0:0 /",
        "opt/app/again 755 0:0 \"run\"",
        "opt/app/run 755 0:0 \"run\"",
        "opt/app/share 755 0:0 /",
        "opt/app/share/notes 600 0:0 \"notes\"",
        "opt/app/share/up 0:0 -> ../run",
    ];

    fn unpack_step(to: &str, more: &str) -> String {
        format!("download = \"https://mirror.example/app\"\nunpack = true\nto = \"{to}\"\n{more}")
    }

    fn check(bytes: &[u8], step: &str, expected: &[&str]) {
        for_each_identity(|ground| {
            ground.step_with(step, bytes).unwrap();
            assert_eq!(ground.changes(), expected, "{:?}", ground.identity);
        });
    }

    fn zip_of_app() -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = |mode| zip::write::SimpleFileOptions::default().unix_permissions(mode);
        archive.add_directory("app/", options(0o777)).unwrap();
        archive.start_file("app/run", options(0o755)).unwrap();
        archive.write_all(b"run").unwrap();
        archive
            .start_file("app/share/notes", options(0o600).compression_method(zip::CompressionMethod::Stored))
            .unwrap();
        archive.write_all(b"notes").unwrap();
        archive.add_symlink("app/share/up", "../run", options(0o777)).unwrap();
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn every_packing_is_recognised_by_its_first_bytes() {
        let plain = tar_of(&ENTRIES);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&plain).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for bytes in [plain, gzip.finish().unwrap(), bzip2.finish().unwrap(), xz.finish().unwrap(), zstd] {
            check(&bytes, &unpack_step("/opt", ""), &UNPACKED);
        }
        let without_hard_link = UNPACKED.iter().copied().filter(|line| !line.contains("again")).collect::<Vec<_>>();
        check(&zip_of_app(), &unpack_step("/opt/", ""), &without_hard_link);
    }

    #[test]
    fn leading_parts_can_be_left_out_and_modes_set() {
        let bytes = tar_of(&ENTRIES);
        let step = unpack_step("/srv/www", "strip = 1\nowner = \"www-data\"\nmode = \"0640\"");
        let expected = [
            "srv 755 0:0 /",
            "srv/www 750 33:0 /",
            "srv/www/again 640 33:0 \"run\"",
            "srv/www/run 640 33:0 \"run\"",
            "srv/www/share 750 33:0 /",
            "srv/www/share/notes 640 33:0 \"notes\"",
            "srv/www/share/up 33:0 -> ../run",
        ];
        check(&bytes, &step, &expected);
        for_each_identity(|ground| {
            let error = ground.step_with(&unpack_step("/opt", "strip = 5"), &bytes).unwrap_err();
            assert_eq!(error, "https://mirror.example/app holds nothing below 5 leading parts of its names");
        });
    }

    /// The archive is refused for this reason, and outside of the target nothing has changed.
    fn check_refused(entries: &[Entry<'_>], expected: &str) {
        for_each_identity(|ground| {
            ground.layer("more", |root| {
                fs::create_dir_all(root.join("opt/app")).unwrap();
                fs::os::unix::fs::symlink("../../srv", root.join("opt/app/out")).unwrap();
            });
            let error = ground.step_with(&unpack_step("/opt/app", ""), &tar_of(entries)).unwrap_err();
            assert!(error.contains(expected), "{error}\n{expected}");
            let changes = ground.changes();
            assert!(changes.iter().all(|line| line.starts_with("opt")), "{changes:?}");
        });
    }

    #[test]
    fn nothing_leaves_the_target() {
        let file = EntryType::Regular;
        let refused = |entry: Entry<'_>, expected: &str| check_refused(&[entry], expected);
        refused((file, "../evil", 0o644, ""), "../evil in it goes up / leave `unpack` out");
        refused((file, "a/../../evil", 0o644, ""), "goes up");
        refused((file, "/srv/evil", 0o644, ""), "/srv/evil in it is an absolute path");
        refused((file, "out/evil", 0o644, ""), "/opt/app/out leads out of /opt/app by a link");
        refused((EntryType::Directory, "out/evil/", 0o755, ""), "leads out of /opt/app by a link");
        refused((EntryType::Symlink, "link", 0o777, "../../srv"), "link in it is a link that leads out of /opt/app");
        refused((EntryType::Symlink, "link", 0o777, "/etc/passwd"), "leads out of /opt/app");
        refused((EntryType::Symlink, "a/link", 0o777, "../../x"), "leads out of /opt/app");
        refused((EntryType::Link, "link", 0o644, "../../etc/passwd"), "goes up");
        refused((EntryType::Link, "link", 0o644, "/etc/passwd"), "is an absolute path");
        refused((EntryType::Char, "null", 0o666, ""), "null in it is a device");
        refused((EntryType::Fifo, "pipe", 0o666, ""), "pipe in it is a named pipe");
        // Links that are harmless one by one lead out together.
        let chain = [
            (EntryType::Directory, "a/b/", 0o755, ""),
            (EntryType::Symlink, "short", 0o777, "a/b"),
            (EntryType::Symlink, "short/up", 0o777, "../../.."),
        ];
        check_refused(&chain, "leads out of /opt/app");
        let chain = [
            (EntryType::Directory, "a/", 0o755, ""),
            (EntryType::Symlink, "a/b", 0o777, ".."),
            (EntryType::Symlink, "c", 0o777, "a/b/../x"),
            (file, "c/evil", 0o644, ""),
        ];
        check_refused(&chain, "leads out of /opt/app by a link");
    }

    #[test]
    fn links_that_stay_are_kept() {
        let entries = [
            (EntryType::Symlink, "current", 0o777, "/opt/app/releases/1"),
            (EntryType::Symlink, "releases/latest", 0o777, "./1"),
            (EntryType::Regular, "releases/1/x", 0o644, "x"),
        ];
        check(
            &tar_of(&entries),
            &unpack_step("/opt/app", ""),
            &[
                "opt 755 0:0 /",
                "opt/app 755 0:0 /",
                "opt/app/current 0:0 -> /opt/app/releases/1",
                "opt/app/releases 755 0:0 /",
                "opt/app/releases/1 755 0:0 /",
                "opt/app/releases/1/x 644 0:0 \"x\"",
                "opt/app/releases/latest 0:0 -> ./1",
            ],
        );
        let over_the_tree =
            [(EntryType::Regular, "bin/tool", 0o755, "x"), (EntryType::Symlink, "etc/tool", 0o777, "/usr/bin/tool")];
        let expected = [
            "etc 755 0:0 /",
            "etc/tool 0:0 -> /usr/bin/tool",
            "usr 755 0:0 /",
            "usr/bin 755 0:0 /",
            "usr/bin/tool 755 0:0 \"x\"",
        ];
        check(&tar_of(&over_the_tree), &unpack_step("/", ""), &expected);
    }

    #[test]
    fn what_is_no_archive_is_said() {
        let check = |ground: &mut Ground, bytes: &[u8], expected: &str| {
            let error = ground.step_with(&unpack_step("/opt", ""), bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        for_each_identity(|ground| {
            check(ground, b"#!/bin/sh\n", "https://mirror.example/app is no archive that Kiln can unpack / tar is");
            check(ground, b"", "is no archive");
            let bytes = tar_of(&ENTRIES);
            let cut = zstd::encode_all(bytes.as_slice(), 1).unwrap();
            check(ground, &cut[..cut.len() / 2], "unpack https://mirror.example/app");
            check(ground, &zip_of_app()[..100], "unpack https://mirror.example/app");
        });
    }
}
