//! The plain form of a package: decompressed once per store, so that placing it is copying.
//!
//! ```text
//! contents     of all regular files, one after the other, in the order of the package
//! index        what the package has: control files, entries, where each content begins
//! trailer      lengths and checksums of both, and the mark of the format
//! ```
//!
//! The checksums are CRC-32: they are there for a form that was not flushed before the power failed, not for an enemy. The
//! `.deb` itself is verified by its SHA-256 when the form is made ([`super::unpacked`]).

use std::collections::BTreeMap;
use std::io::{self, Read, Seek as _, SeekFrom, Write};

use camino::Utf8Path;
use fs_err as fs;
use kiln_debian::deb::data::{Entry, EntryKind, Owner, read_entries};
use kiln_debian::deb::{Control, ControlFile, Deb, DebError};
use kiln_debian::dpkg::conffile;
use md5::{Digest as _, Md5};

/// The kind of derived value that forms are; the number is the format's version.
pub(crate) const KIND: &str = "unpacked-v1";

/// Ends every form.
const MARK: &[u8; 8] = b"kilnunp1";
const TRAILER_BYTES: usize = 32;

/// More than any package unpacks to; beyond it a stream is taken for a bomb.
const DATA_BYTES_MAX: u64 = 256 << 30;
/// The largest index accepted: that of a package with a few million files.
const INDEX_BYTES_MAX: u64 = 1 << 30;
/// Large enough that copying costs few calls, small enough for the processor's cache.
const BLOCK_BYTES: usize = 256 << 10;

/// What a package has, and where the contents of its files are in its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    /// `control.tar`.
    pub(crate) control: Control,
    /// `data.tar`, in order.
    pub(crate) entries: Vec<FormEntry>,
}

/// One entry of `data.tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormEntry {
    /// What it says itself.
    pub(crate) entry: Entry,
    /// Where its content begins.
    pub(crate) offset_bytes: u64,
    /// MD5 of its content: of every file where the package has no `md5sums`, else of conffiles.
    pub(crate) md5: Option<[u8; 16]>,
}

impl Form {
    /// Time of modification of the newest file, in seconds since 1970; 0 if there is none.
    pub(crate) fn newest(&self) -> i64 {
        self.entries.iter().map(|entry| entry.entry.modified).max().unwrap_or_default()
    }
}

/// Makes the form of the package that `deb` reads. Reads no further than the end of `data.tar`.
pub(crate) fn make(deb: impl Read + Send, form: impl Write) -> Result<Form, DebError> {
    let (control, data) = Deb::open(deb)?.into_data()?;
    let wanted = Wanted::of(&control)?;
    let mut contents = Contents { form, length_bytes: 0, checksum: crc32fast::Hasher::new() };
    let mut entries = Vec::new();
    let mut tar = data.decompress(DATA_BYTES_MAX);
    read_entries(&mut tar, |entry, content| {
        let offset_bytes = contents.length_bytes;
        let md5 = contents.copy(content, wanted.wants(&entry))?;
        entries.push(FormEntry { entry, offset_bytes, md5 });
        Ok(())
    })?;
    // The decompressor tells a damaged stream only at its end, which is behind the archive's.
    let failed = |part: &str| {
        let part = part.to_owned();
        move |source| DebError::Read { part, source }
    };
    io::copy(&mut tar, &mut io::sink()).map_err(failed("data.tar"))?;
    let form = Form { control, entries };
    contents.finish(&form).map_err(failed("what was unpacked"))?;
    Ok(form)
}

/// Of which files the MD5 is needed.
struct Wanted {
    all: bool,
    conffiles: Vec<Vec<u8>>,
}

impl Wanted {
    fn of(control: &Control) -> Result<Self, DebError> {
        let text = control.files.get("conffiles").map(|file| file.bytes.as_slice()).unwrap_or_default();
        // What is wrong with it is said when the package is placed.
        let conffiles = conffile::parse_control(text).unwrap_or_default();
        let conffiles = conffiles.into_iter().map(|conffile| conffile.path).collect();
        Ok(Self { all: !control.files.contains_key("md5sums"), conffiles })
    }

    fn wants(&self, entry: &Entry) -> bool {
        matches!(entry.kind, EntryKind::File { .. }) && (self.all || self.conffiles.contains(&entry.path))
    }
}

/// The contents while they are written.
struct Contents<W> {
    form: W,
    length_bytes: u64,
    checksum: crc32fast::Hasher,
}

impl<W: Write> Contents<W> {
    fn copy(&mut self, content: &mut dyn Read, with_md5: bool) -> io::Result<Option<[u8; 16]>> {
        let mut md5 = with_md5.then(Md5::new);
        let mut block = [0; 32 << 10];
        loop {
            let length = read_some(content, &mut block)?;
            let bytes = block.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(md5.map(|md5| md5.finalize().into()));
            }
            self.write(bytes)?;
            if let Some(md5) = &mut md5 {
                md5.update(bytes);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.length_bytes += bytes.len() as u64;
        self.form.write_all(bytes)
    }

    fn finish(mut self, form: &Form) -> io::Result<()> {
        let index = encode(form);
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend(self.length_bytes.to_le_bytes());
        trailer.extend((index.len() as u64).to_le_bytes());
        trailer.extend(self.checksum.finalize().to_le_bytes());
        trailer.extend(crc32fast::hash(&index).to_le_bytes());
        trailer.extend(MARK);
        self.form.write_all(&index)?;
        self.form.write_all(&trailer)?;
        self.form.flush()
    }
}

/// Reads the form at `path`, contents and all; `None` when it is not there, or not as it was written.
pub(crate) fn read(path: &Utf8Path) -> Option<Form> {
    let mut file = fs::File::open(path).ok()?;
    let trailer_at = file.seek(SeekFrom::End(-i64::try_from(TRAILER_BYTES).ok()?)).ok()?;
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact(&mut trailer).ok()?;
    let mut fields = Fields(&trailer);
    let (contents_bytes, index_bytes) = (fields.u64()?, fields.u64()?);
    let (contents_checksum, index_checksum) = (fields.u32()?, fields.u32()?);
    if fields.0 != MARK || index_bytes > INDEX_BYTES_MAX || contents_bytes.checked_add(index_bytes)? != trailer_at {
        return None;
    }
    file.rewind().ok()?;
    if checksum(&mut (&mut file).take(contents_bytes)).ok()? != contents_checksum {
        return None;
    }
    let mut index = Vec::new();
    (&mut file).take(index_bytes).read_to_end(&mut index).ok()?;
    let form = decode(&index).filter(|_| crc32fast::hash(&index) == index_checksum)?;
    form.entries.iter().all(|entry| entry.ends_before(contents_bytes)).then_some(form)
}

impl FormEntry {
    fn ends_before(&self, length_bytes: u64) -> bool {
        let EntryKind::File { size_bytes } = self.entry.kind else { return true };
        self.offset_bytes.checked_add(size_bytes).is_some_and(|end| end <= length_bytes)
    }
}

fn checksum(reader: &mut impl Read) -> io::Result<u32> {
    let mut checksum = crc32fast::Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let length = read_some(reader, &mut block)?;
        match block.get(..length) {
            Some(bytes) if !bytes.is_empty() => checksum.update(bytes),
            _ => return Ok(checksum.finalize()),
        }
    }
}

/// Reads as much as comes at once; 0 at the end.
fn read_some(reader: &mut (impl Read + ?Sized), block: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The index as bytes: numbers are little-endian, texts have their length before them.
fn encode(form: &Form) -> Vec<u8> {
    let mut index = Index(Vec::new());
    index.bytes(form.control.text().as_bytes());
    index.u32(form.control.files.len());
    for (name, file) in &form.control.files {
        index.bytes(name.as_bytes());
        index.0.extend(file.mode.to_le_bytes());
        index.0.extend(file.modified.to_le_bytes());
        index.bytes(&file.bytes);
    }
    index.u32(form.entries.len());
    form.entries.iter().for_each(|entry| index.entry(entry));
    index.0
}

struct Index(Vec<u8>);

impl Index {
    /// A count or a length, all of which are bounded where packages are read.
    fn u32(&mut self, number: usize) {
        self.0.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len());
        self.0.extend(bytes);
    }

    fn owner(&mut self, owner: &Owner) {
        self.0.extend(owner.id.to_le_bytes());
        self.bytes(&owner.name);
    }

    fn entry(&mut self, FormEntry { entry, offset_bytes, md5 }: &FormEntry) {
        self.bytes(&entry.path);
        self.kind(&entry.kind);
        self.0.extend(entry.mode.to_le_bytes());
        self.owner(&entry.user);
        self.owner(&entry.group);
        self.0.extend(entry.modified.to_le_bytes());
        self.0.extend(offset_bytes.to_le_bytes());
        self.bytes(md5.as_ref().map(<[u8; 16]>::as_slice).unwrap_or_default());
    }

    fn kind(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::Directory => self.0.push(b'd'),
            EntryKind::File { size_bytes } => {
                self.0.push(b'f');
                self.0.extend(size_bytes.to_le_bytes());
            }
            EntryKind::HardLink { to } => {
                self.0.push(b'h');
                self.bytes(to);
            }
            EntryKind::Symlink { target } => {
                self.0.push(b'l');
                self.bytes(target);
            }
            EntryKind::CharacterDevice { major, minor } => self.device(b'c', *major, *minor),
            EntryKind::BlockDevice { major, minor } => self.device(b'b', *major, *minor),
            EntryKind::Fifo => self.0.push(b'p'),
        }
    }

    fn device(&mut self, kind: u8, major: u32, minor: u32) {
        self.0.push(kind);
        self.0.extend(major.to_le_bytes());
        self.0.extend(minor.to_le_bytes());
    }
}

/// What [`encode`] wrote; `None` for anything else.
fn decode(index: &[u8]) -> Option<Form> {
    let mut fields = Fields(index);
    let text = fields.bytes()?.to_vec();
    let mut files = BTreeMap::new();
    for _ in 0..fields.u32()? {
        let name = String::from_utf8(fields.bytes()?.to_vec()).ok()?;
        let (mode, modified) = (fields.u32()?, fields.u64()?.cast_signed());
        files.insert(name, ControlFile { mode, modified, bytes: fields.bytes()?.to_vec() });
    }
    let control = Control::from_parts(text, files).ok()?;
    let entries = (0..fields.u32()?).map(|_| fields.entry()).collect::<Option<_>>()?;
    fields.0.is_empty().then_some(Form { control, entries })
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?.try_into().ok()?;
        self.take(length)
    }

    fn owner(&mut self) -> Option<Owner> {
        Some(Owner { id: self.u32()?, name: self.bytes()?.to_vec() })
    }

    fn entry(&mut self) -> Option<FormEntry> {
        let path = self.bytes()?.to_vec();
        let kind = self.kind()?;
        let mode = self.u32()?;
        let (user, group) = (self.owner()?, self.owner()?);
        let (modified, offset_bytes) = (self.u64()?.cast_signed(), self.u64()?);
        let md5 = match self.bytes()? {
            [] => None,
            md5 => Some(md5.try_into().ok()?),
        };
        Some(FormEntry { entry: Entry { path, kind, mode, user, group, modified }, offset_bytes, md5 })
    }

    fn kind(&mut self) -> Option<EntryKind> {
        Some(match self.take(1)? {
            b"d" => EntryKind::Directory,
            b"f" => EntryKind::File { size_bytes: self.u64()? },
            b"h" => EntryKind::HardLink { to: self.bytes()?.to_vec() },
            b"l" => EntryKind::Symlink { target: self.bytes()?.to_vec() },
            b"c" => EntryKind::CharacterDevice { major: self.u32()?, minor: self.u32()? },
            b"b" => EntryKind::BlockDevice { major: self.u32()?, minor: self.u32()? },
            b"p" => EntryKind::Fifo,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use kiln_testkit::{Compression, Package};
    use proptest::prelude::*;

    use super::*;

    fn package() -> Package {
        Package::new("a", "1")
            .compressed(Compression::None)
            .file("/usr/bin/a", "content")
            .hard_link("/usr/bin/b", "/usr/bin/a")
            .symlink("/usr/bin/c", "a")
            .owned_by("/usr/bin/a", ("mail", 8), ("games", 60))
            .conffile("/etc/a", "setting")
            .script("postinst", "#!/bin/sh\n")
    }

    fn made(package: &Package) -> (Form, Vec<u8>) {
        let mut bytes = Vec::new();
        let form = make(&package.deb()[..], &mut bytes).unwrap();
        (form, bytes)
    }

    fn read_back(bytes: &[u8]) -> Option<Form> {
        let directory = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(directory.path().join("form")).unwrap();
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn a_form_reads_back() {
        let (form, bytes) = made(&package());
        assert_eq!(read_back(&bytes).as_ref(), Some(&form));
        let file = form.entries.iter().find(|entry| entry.entry.path == b"usr/bin/a").unwrap();
        let start = usize::try_from(file.offset_bytes).unwrap();
        assert_eq!(&bytes[start..start + 7], b"content");
        assert_eq!(file.entry.user, Owner { id: 8, name: b"mail".to_vec() });
        // The package brings no md5sums: then dpkg wants them of every file.
        assert_eq!(file.md5, Some(Md5::digest(b"content").into()));
        assert_eq!(form.newest(), 1_735_689_600);
    }

    #[test]
    fn digests_are_taken_where_they_are_wanted() {
        let (form, _) = made(&package().script("md5sums", ""));
        let with_digest: Vec<_> = form.entries.iter().filter(|entry| entry.md5.is_some()).collect();
        assert_eq!(with_digest.len(), 1);
        assert_eq!(with_digest[0].entry.path, b"etc/a");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (_, bytes) = made(&package());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert_eq!(read_back(&damaged), None, "bit of byte {at}");
        }
        for length in (0..bytes.len()).step_by(7) {
            assert_eq!(read_back(&bytes[..length]), None, "cut after {length} bytes");
        }
    }

    #[test]
    fn a_damaged_package_has_no_form() {
        let deb = package().compressed(Compression::Xz).deb();
        for length in [0, 100, deb.len() / 2, deb.len() - 30] {
            assert!(make(&deb[..length], io::sink()).is_err(), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_index_gives_an_answer(index in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&index);
        }
    }
}
