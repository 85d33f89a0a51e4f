//! The `.deb` format, written: an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*` (deb(5)).
//!
//! Every owner is root unless it is given, every date is [`EPOCH_SECONDS`], and compressor levels are fixed: same content, same bytes.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::package::{Compression, Entry, Owner};

/// Modification time of everything in a package: 2025-01-01T00:00:00Z, in seconds since the epoch.
pub(crate) const EPOCH_SECONDS: u64 = 1_735_689_600;

/// The whole package as bytes.
pub(crate) fn write(
    control: &BTreeMap<String, Entry>,
    data: &BTreeMap<String, Entry>,
    owners: &BTreeMap<String, Owner>,
    format: Compression,
) -> Vec<u8> {
    let suffix = format.suffix();
    let mut archive = b"!<arch>\n".to_vec();
    append_member(&mut archive, "debian-binary", b"2.0\n");
    append_member(&mut archive, &format!("control.tar{suffix}"), &compress(format, &tar(control, &BTreeMap::new())));
    append_member(&mut archive, &format!("data.tar{suffix}"), &compress(format, &tar(data, owners)));
    archive
}

/// One member: a 60-byte header, the content, and a line break if the content's length is odd.
fn append_member(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
    let header = format!("{name:<16}{EPOCH_SECONDS:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, "100644", content.len());
    assert_eq!(header.len(), 60, "an ar header is 60 bytes: {header:?}");
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(content);
    if content.len() % 2 == 1 {
        archive.push(b'\n');
    }
}

/// The entries as a GNU tar, with `./` first and every parent directory before what it holds.
fn tar(entries: &BTreeMap<String, Entry>, owners: &BTreeMap<String, Owner>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, entry) in with_parents(entries) {
        append_entry(&mut archive, &path, &entry, owners.get(&path));
    }
    archive.into_inner().expect("write to memory")
}

fn with_parents(entries: &BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    let mut all = BTreeMap::from([(String::new(), Entry::Directory { mode: 0o755 })]);
    for path in entries.keys() {
        for (slash, _) in path.match_indices('/') {
            all.insert(path[..slash].to_owned(), Entry::Directory { mode: 0o755 });
        }
    }
    all.extend(entries.iter().map(|(path, entry)| (path.clone(), entry.clone())));
    all
}

fn append_entry(archive: &mut tar::Builder<Vec<u8>>, path: &str, entry: &Entry, owner: Option<&Owner>) {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(EPOCH_SECONDS);
    let root = ("root".to_owned(), 0);
    let (user, group) = owner.map_or((&root, &root), |owner| (&owner.user, &owner.group));
    header.set_username(&user.0).expect("a short name");
    header.set_groupname(&group.0).expect("a short name");
    header.set_uid(user.1);
    header.set_gid(group.1);
    header.set_mode(entry.mode());
    header.set_entry_type(entry.tar_type());
    match entry {
        // The tar crate would drop the `./` that dpkg-deb writes, so the name is set byte by byte.
        Entry::Directory { .. } if path.is_empty() => append_named(archive, header, "./", &[]),
        Entry::Directory { .. } => append_named(archive, header, &format!("./{path}/"), &[]),
        Entry::File { contents, .. } => append_named(archive, header, &format!("./{path}"), contents),
        Entry::HardLink { to } => {
            header.set_link_name_literal(format!("./{to}")).expect("a link target under 100 bytes");
            append_named(archive, header, &format!("./{path}"), &[]);
        }
        Entry::Symlink { target } => {
            header.set_link_name_literal(target).expect("a link target under 100 bytes");
            append_named(archive, header, &format!("./{path}"), &[]);
        }
    }
}

fn append_named(archive: &mut tar::Builder<Vec<u8>>, mut header: tar::Header, name: &str, contents: &[u8]) {
    let field = &mut header.as_old_mut().name;
    assert!(name.len() < field.len(), "paths in test packages are under 100 bytes: {name}");
    field[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(contents.len() as u64);
    header.set_cksum();
    archive.append(&header, contents).expect("write to memory");
}

/// `bytes` compressed; fast settings, because test files are tiny and many.
pub(crate) fn compress(format: Compression, bytes: &[u8]) -> Vec<u8> {
    match format {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("compress in memory")
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("compress in memory")
        }
        Compression::Zstd => zstd::bulk::compress(bytes, 3).expect("compress in memory"),
    }
}
