//! `.deb` files: an `ar` archive of `debian-binary`, `control.tar` and `data.tar` (deb(5)).
//!
//! 1. [`Deb::open`] reads what comes before the data: the format's version and the whole of `control.tar`.
//! 2. [`Deb::into_data`] goes on to `data.tar`, which is streamed: packages are large. [`data`] reads its entries.
//!
//! [`read_control`] is the first alone. The `ar` reader is as strict as dpkg's: this is text that a mirror may have
//! damaged, not an archive format to be generous with. `control.tar` is held in memory, bounded.

pub mod data;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use crate::compression::{Compression, UnsupportedCompression, decompress};
use crate::deb822::{Deb822Error, Paragraph, Paragraphs};

/// Largest `control.tar` accepted, compressed or not; Debian's largest is about 3 MiB.
const CONTROL_BYTES_MAX: u64 = 32 << 20;
/// Most files in a `control.tar`; packages have about ten.
const CONTROL_FILES_MAX: usize = 1000;

/// What dpkg runs when it installs and removes.
const SCRIPTS: [&str; 5] = ["preinst", "postinst", "prerm", "postrm", "config"];

/// A package opened, its control part read.
pub struct Deb<R> {
    archive: Archive<R>,
    control: Control,
}

/// What `control.tar` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    text: String,
    /// All its files but `control`: scripts, `conffiles`, `triggers`, `md5sums`, `shlibs`... by name.
    pub files: BTreeMap<String, ControlFile>,
}

/// One file of `control.tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// Permission bits.
    pub mode: u32,
    /// Time of modification, in seconds since 1970.
    pub modified: i64,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// `data.tar` as it stands in the package.
pub struct Data<R> {
    /// How it is compressed.
    pub compression: Compression,
    /// Compressed.
    pub size_bytes: u64,
    /// The compressed bytes, exactly `size_bytes` of them or an error.
    pub reader: Member<R>,
}

/// The bytes of one member; ends with an error if the archive ends before it.
pub struct Member<R> {
    reader: R,
    left_bytes: u64,
}

/// The file is not a package that dpkg would take.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The reader failed, or a compressed member is damaged.
    #[error("read {part}")]
    Read {
        /// What was being read.
        part: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file ends in the middle.
    #[error("the package is truncated: it ends inside {part}")]
    Truncated {
        /// What was being read.
        part: String,
    },
    /// Not an `ar` archive at all.
    #[error("this is not a Debian package: it does not begin with `!<arch>`")]
    NotAnArchive,
    /// The header of a member breaks the format.
    #[error("the archive's header of member {number} is damaged: {reason}")]
    Header {
        /// The first member is 1.
        number: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A format newer or older than 2.x.
    #[error("the package's format is version `{version}`, only 2.x is known")]
    FormatVersion {
        /// As `debian-binary` says.
        version: String,
    },
    /// The members are not the expected ones, in order.
    #[error("expected member `{expected}`, found {found}")]
    Member {
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
    /// A member is compressed in a way that is not read.
    #[error(transparent)]
    Compression(#[from] UnsupportedCompression),
    /// A member that is kept in memory is too large.
    #[error("{part} is larger than {CONTROL_BYTES_MAX} bytes")]
    TooLarge {
        /// Which.
        part: String,
    },
    /// `control.tar` has something that has no place there.
    #[error("control.tar has `{path}`: {reason}")]
    ControlEntry {
        /// As the archive names it.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `data.tar` has something that dpkg would not place.
    #[error("data.tar has `{path}`: {reason}")]
    DataEntry {
        /// As the archive names it.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no control file.
    #[error("control.tar has no file `control`")]
    NoControl,
    /// The control file is not deb822.
    #[error("read the control file")]
    Syntax(#[from] Deb822Error),
    /// The control file says too little, or something else than it may.
    #[error("the control file {reason}")]
    ControlText {
        /// A fragment: what it lacks.
        reason: String,
    },
}

/// Reads the control part of a package, and no further.
///
/// # Errors
/// When it is not a package that dpkg would take.
pub fn read_control<R: Read + Send>(reader: R) -> Result<Control, DebError> {
    Deb::open(reader).map(|deb| deb.control)
}

impl<R: Read + Send> Deb<R> {
    /// Reads up to the end of `control.tar`.
    ///
    /// # Errors
    /// When it is not a package that dpkg would take.
    pub fn open(reader: R) -> Result<Self, DebError> {
        let mut archive = Archive::open(reader)?;
        let format = archive.expect("debian-binary", |name| name == "debian-binary")?;
        check_format(&archive.read_whole(&format)?)?;
        let member = archive.expect("control.tar", |name| has_stem(name, "control.tar"))?;
        let compression = Compression::of_name(&member.name)?;
        let tar = decompress_whole(compression, &archive.read_whole(&member)?)?;
        Ok(Self { archive, control: parse_control_tar(&tar)? })
    }

    /// What `control.tar` holds.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Goes on to `data.tar`.
    ///
    /// # Errors
    /// When it does not follow.
    pub fn into_data(mut self) -> Result<(Control, Data<R>), DebError> {
        let member = self.archive.expect("data.tar", |name| has_stem(name, "data.tar"))?;
        let compression = Compression::of_name(&member.name)?;
        let reader = Member { reader: self.archive.reader, left_bytes: member.size_bytes };
        Ok((self.control, Data { compression, size_bytes: member.size_bytes, reader }))
    }
}

impl<R: Read + Send> Data<R> {
    /// The tar archive itself; more than `limit_bytes` of it is an error.
    pub fn decompress<'a>(self, limit_bytes: u64) -> Box<dyn Read + Send + 'a>
    where
        R: 'a,
    {
        decompress(self.compression, self.reader, limit_bytes)
    }
}

impl Control {
    /// Puts together what [`Control::text`] and [`Control::files`] gave.
    ///
    /// # Errors
    /// When the text is no control file.
    pub fn from_parts(text: Vec<u8>, files: BTreeMap<String, ControlFile>) -> Result<Self, DebError> {
        Ok(Self { text: checked_control_text(text)?, files })
    }

    /// The control file as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The fields of the control file.
    #[must_use]
    pub fn fields(&self) -> Paragraph<'_> {
        // It was parsed when it was read; a text that has changed since would have no fields.
        Paragraphs::new(self.text.as_bytes()).next().and_then(Result::ok).unwrap_or_default()
    }

    /// The maintainer scripts it has, in alphabetical order.
    pub fn scripts(&self) -> impl Iterator<Item = (&str, &ControlFile)> {
        let files = self.files.iter().map(|(name, file)| (name.as_str(), file));
        files.filter(|(name, _)| SCRIPTS.contains(name))
    }
}

/// `control.tar`, `control.tar.xz`, ...
fn has_stem(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The format's version: `2.` and a number, in the first line; dpkg ignores further lines.
fn check_format(bytes: &[u8]) -> Result<(), DebError> {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let minor = line.strip_prefix(b"2.").filter(|_| bytes.contains(&b'\n'));
    match minor {
        Some(minor) if !minor.is_empty() && minor.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(DebError::FormatVersion { version: String::from_utf8_lossy(line).into_owned() }),
    }
}

fn decompress_whole(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>, DebError> {
    let mut tar = Vec::new();
    let read = decompress(compression, bytes, CONTROL_BYTES_MAX).read_to_end(&mut tar);
    read.map_err(|source| DebError::Read { part: "control.tar".to_owned(), source })?;
    Ok(tar)
}

fn parse_control_tar(tar: &[u8]) -> Result<Control, DebError> {
    let failed = |source| DebError::Read { part: "control.tar".to_owned(), source };
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let wrong = |reason| DebError::ControlEntry { path: path.clone(), reason };
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = control_name(&path, entry.header().entry_type()).map_err(wrong)?;
        let mode = entry.header().mode().map_err(failed)? & 0o7777;
        let modified = entry.header().mtime().map_err(failed)?.cast_signed();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(failed)?;
        if files.len() == CONTROL_FILES_MAX {
            return Err(wrong("there are too many files"));
        }
        if files.insert(name.to_owned(), ControlFile { mode, modified, bytes }).is_some() {
            return Err(wrong("it is there twice"));
        }
    }
    let control = files.remove("control").ok_or(DebError::NoControl)?;
    Ok(Control { text: checked_control_text(control.bytes)?, files })
}

/// The name of a control file, which is a plain file at the top.
fn control_name(path: &str, kind: tar::EntryType) -> Result<&str, &'static str> {
    let name = path.strip_prefix("./").unwrap_or(path);
    if !kind.is_file() {
        return Err("only plain files belong there");
    }
    if name.is_empty() || name == ".." || name.contains(['/', '\0']) {
        return Err("only files at the top belong there");
    }
    Ok(name)
}

/// The control file's text, known to be one paragraph that names a package.
fn checked_control_text(bytes: Vec<u8>) -> Result<String, DebError> {
    let wrong = |reason: &str| DebError::ControlText { reason: reason.to_owned() };
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
    let paragraphs = Paragraphs::new(text.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let [paragraph] = paragraphs.as_slice() else {
        return Err(wrong("must have one paragraph"));
    };
    for field in ["Package", "Version", "Architecture"] {
        if paragraph.get(field).is_none_or(<[u8]>::is_empty) {
            return Err(wrong(&format!("has no `{field}` field")));
        }
    }
    Ok(text)
}

/// An `ar` archive read front to back.
struct Archive<R> {
    reader: R,
    /// Number of the member read last.
    number: usize,
    /// Padding that stands before the next header.
    padding_bytes: u64,
}

/// The header of a member.
struct Header {
    name: String,
    size_bytes: u64,
}

const MAGIC: &[u8; 8] = b"!<arch>\n";

impl<R: Read> Archive<R> {
    fn open(mut reader: R) -> Result<Self, DebError> {
        let mut magic = [0; 8];
        match read_up_to(&mut reader, &mut magic, "the archive's magic")? {
            8 if magic == *MAGIC => Ok(Self { reader, number: 0, padding_bytes: 0 }),
            _ => Err(DebError::NotAnArchive),
        }
    }

    /// The next member that is not private (`_...`, which dpkg skips), and must be the expected one.
    fn expect(&mut self, expected: &'static str, is_it: impl Fn(&str) -> bool) -> Result<Header, DebError> {
        loop {
            match self.next_header()? {
                Some(member) if is_it(&member.name) => return Ok(member),
                Some(member) if member.name.starts_with('_') && self.number > 1 => self.skip(&member)?,
                Some(member) => return Err(DebError::Member { expected, found: format!("`{}`", member.name) }),
                None => return Err(DebError::Member { expected, found: "the end of the archive".to_owned() }),
            }
        }
    }

    fn next_header(&mut self) -> Result<Option<Header>, DebError> {
        self.number += 1;
        let part = format!("the header of member {}", self.number);
        let mut padding = [0; 1];
        let padding = &mut padding[..usize::from(self.padding_bytes > 0)];
        read_up_to(&mut self.reader, padding, &part)?;
        let mut header = [0; 60];
        match read_up_to(&mut self.reader, &mut header, &part)? {
            0 => Ok(None),
            60 => self.parse_header(&header).map(Some),
            _ => Err(DebError::Truncated { part }),
        }
    }

    /// Name (16 bytes), date (12), user (6), group (6), mode (8), size (10), all padded with spaces, and an end mark.
    fn parse_header(&mut self, header: &[u8; 60]) -> Result<Header, DebError> {
        let number = self.number;
        let wrong = |reason| DebError::Header { number, reason };
        let text = std::str::from_utf8(header).map_err(|_| wrong("it is not ASCII"))?;
        if !text.is_ascii() || !text.ends_with("`\n") {
            return Err(wrong("its end mark is missing"));
        }
        // GNU ar ends names with a slash; dpkg-deb does not.
        let name = text[..16].trim_end_matches(' ').trim_end_matches('/');
        let size = text[48..58].trim_end_matches(' ');
        let size_bytes = parse_decimal(size).ok_or_else(|| wrong("the size is not a number"))?;
        if name.is_empty() {
            return Err(wrong("the name is empty"));
        }
        self.padding_bytes = size_bytes % 2;
        Ok(Header { name: name.to_owned(), size_bytes })
    }

    /// The bytes of a member that fits into memory.
    fn read_whole(&mut self, member: &Header) -> Result<Vec<u8>, DebError> {
        if member.size_bytes > CONTROL_BYTES_MAX {
            return Err(DebError::TooLarge { part: member.name.clone() });
        }
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(member.size_bytes).read_to_end(&mut bytes);
        let read = read.map_err(|source| DebError::Read { part: member.name.clone(), source })?;
        if (read as u64) < member.size_bytes {
            return Err(DebError::Truncated { part: member.name.clone() });
        }
        Ok(bytes)
    }

    fn skip(&mut self, member: &Header) -> Result<(), DebError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(member.size_bytes), &mut io::sink());
        let skipped = skipped.map_err(|source| DebError::Read { part: member.name.clone(), source })?;
        if skipped < member.size_bytes { Err(DebError::Truncated { part: member.name.clone() }) } else { Ok(()) }
    }
}

fn parse_decimal(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Fills `buffer` as far as the reader goes.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8], part: &str) -> Result<usize, DebError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(DebError::Read { part: part.to_owned(), source }),
        }
    }
    Ok(filled)
}

impl<R: Read> Read for Member<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left_bytes).map_or(buffer.len(), |left| left.min(buffer.len()));
        let length = self.reader.read(&mut buffer[..wanted])?;
        if length == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the package is truncated"));
        }
        self.left_bytes -= length as u64;
        Ok(length)
    }
}

impl<R> fmt::Debug for Deb<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deb").field("control", &self.control).finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Data<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compression, size_bytes, .. } = self;
        f.debug_struct("Data").field("compression", compression).field("size_bytes", size_bytes).finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Member<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("left_bytes", &self.left_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use proptest::prelude::*;

    use super::*;

    const CONTROL: &str = "Package: a\nVersion: 1\nArchitecture: all\nDescription: x\n y\n";

    /// The parts of an archive that tests vary.
    struct Parts {
        format: &'static str,
        control: Vec<(&'static str, &'static str)>,
        names: [&'static str; 3],
        before_control: Vec<(&'static str, &'static str)>,
    }

    impl Default for Parts {
        fn default() -> Self {
            Self {
                format: "2.0\n",
                control: vec![("./control", CONTROL), ("./postinst", "#!/bin/sh\n"), ("./md5sums", "")],
                names: ["debian-binary", "control.tar", "data.tar"],
                before_control: Vec::new(),
            }
        }
    }

    fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", bytes.len());
        let padding: &[u8] = if bytes.len() % 2 == 1 { b"\n" } else { b"" };
        [header.as_bytes(), bytes, padding].concat()
    }

    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o755);
            // Names are set by hand: the builder refuses those that the reader must refuse too.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(if name.ends_with('/') {
                tar::EntryType::Directory
            } else {
                tar::EntryType::Regular
            });
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn archive(parts: &Parts) -> Vec<u8> {
        let [format, control, data] = parts.names;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(member(format, parts.format.as_bytes()));
        for (name, text) in &parts.before_control {
            bytes.extend(member(name, text.as_bytes()));
        }
        bytes.extend(member(control, &tar(&parts.control)));
        bytes.extend(member(data, b"the data"));
        bytes
    }

    #[test]
    fn control_and_data_are_read() {
        let bytes = archive(&Parts::default());
        let deb = Deb::open(&bytes[..]).unwrap();
        assert_eq!(deb.control().text(), CONTROL);
        assert_eq!(deb.control().fields().text("package").unwrap(), Some("a"));
        assert_eq!(deb.control().files.keys().collect::<Vec<_>>(), ["md5sums", "postinst"]);
        let scripts: Vec<_> = deb.control().scripts().map(|(name, file)| (name, file.mode)).collect();
        assert_eq!(scripts, [("postinst", 0o755)]);
        let (_, data) = deb.into_data().unwrap();
        assert_eq!((data.compression, data.size_bytes), (Compression::None, 8));
        let mut text = String::new();
        data.decompress(8).read_to_string(&mut text).unwrap();
        assert_eq!(text, "the data");
    }

    #[test]
    fn private_members_are_skipped() {
        let parts = Parts { before_control: vec![("_gpgorigin", "odd"), ("_x", "")], ..Parts::default() };
        assert!(Deb::open(&archive(&parts)[..]).unwrap().into_data().is_ok());
    }

    #[test]
    fn names_may_end_with_a_slash() {
        let names = ["debian-binary/", "control.tar/", "data.tar/"];
        assert!(Deb::open(&archive(&Parts { names, ..Parts::default() })[..]).unwrap().into_data().is_ok());
    }

    fn check_error(bytes: &[u8], expected: &str) {
        let error = Deb::open(bytes).and_then(Deb::into_data).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn other_archives_are_refused() {
        check_error(b"", "this is not a Debian package: it does not begin with `!<arch>`");
        check_error(b"PK\x03\x04 and more", "this is not a Debian package: it does not begin with `!<arch>`");
        check_error(MAGIC, "expected member `debian-binary`, found the end of the archive");
        let with = |parts: Parts| archive(&parts);
        for format in ["3.0\n", "2\n", "2.\n", "2.x\n", "2.0", ""] {
            let expected = format!("the package's format is version `{}`, only 2.x is known", format.trim_end());
            check_error(&with(Parts { format, ..Parts::default() }), &expected);
        }
        let names = ["debian-binary", "data.tar", "control.tar"];
        check_error(&with(Parts { names, ..Parts::default() }), "expected member `control.tar`, found `data.tar`");
        let names = ["debian-binary", "control.tar", "control.tar"];
        check_error(&with(Parts { names, ..Parts::default() }), "expected member `data.tar`, found `control.tar`");
        let names = ["_debian-binary", "control.tar", "data.tar"];
        check_error(
            &with(Parts { names, ..Parts::default() }),
            "expected member `debian-binary`, found `_debian-binary`",
        );
        let names = ["debian-binary", "control.tar.bz2", "data.tar"];
        let expected = "`control.tar.bz2` is compressed in a way that is not supported (xz, gz and zst are)";
        check_error(&with(Parts { names, ..Parts::default() }), expected);
        let names = ["debian-binary", "control.tar.xz", "data.tar"];
        let error = Deb::open(&with(Parts { names, ..Parts::default() })[..]).unwrap_err();
        assert_eq!(error.to_string(), "read control.tar");
        assert_eq!(error.source().unwrap().to_string(), "xz stream is corrupt");
    }

    #[test]
    fn control_archives_hold_plain_files_at_the_top() {
        let check =
            |control: Vec<_>, expected: &str| check_error(&archive(&Parts { control, ..Parts::default() }), expected);
        check(vec![], "control.tar has no file `control`");
        check(vec![("./postinst", "")], "control.tar has no file `control`");
        let top = "only files at the top belong there";
        check(vec![("./a/b", "")], &format!("control.tar has `./a/b`: {top}"));
        check(vec![("../b", "")], &format!("control.tar has `../b`: {top}"));
        check(vec![("/b", "")], &format!("control.tar has `/b`: {top}"));
        check(
            vec![("./", ""), ("control", CONTROL), ("./control", CONTROL)],
            "control.tar has `./control`: it is there twice",
        );
        check(vec![("control", "")], "the control file must have one paragraph");
        check(vec![("control", "Package: a\n\nPackage: b\n")], "the control file must have one paragraph");
        check(vec![("control", "Package: a\nArchitecture: all\n")], "the control file has no `Version` field");
        check(vec![("control", "nonsense\n")], "read the control file");
    }

    #[test]
    fn links_are_refused() {
        let mut bytes = tar(&[("control", CONTROL), ("postinst", "")]);
        let link = bytes.len() - 1024 - 512;
        let mut header = tar::Header::from_byte_slice(&bytes[link..link + 512]).clone();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_cksum();
        bytes[link..link + 512].copy_from_slice(header.as_bytes());
        let error = parse_control_tar(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "control.tar has `postinst`: only plain files belong there");
    }

    #[test]
    fn damaged_headers_are_named() {
        let whole = archive(&Parts::default());
        let damage = |at: usize, with: &[u8]| {
            let mut bytes = whole.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            bytes
        };
        let header = "the archive's header of member 1 is damaged";
        check_error(&damage(8 + 58, b"xx"), &format!("{header}: its end mark is missing"));
        check_error(&damage(8 + 48, b"-4"), &format!("{header}: the size is not a number"));
        check_error(&damage(8 + 48, b"4 4"), &format!("{header}: the size is not a number"));
        check_error(&damage(8 + 48, b"          "), &format!("{header}: the size is not a number"));
        check_error(&damage(8, b"             "), &format!("{header}: the name is empty"));
        check_error(&damage(8, &[0xff]), &format!("{header}: it is not ASCII"));
        check_error(&damage(8 + 48, b"9999999999"), "debian-binary is larger than 33554432 bytes");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = archive(&Parts::default());
        for length in 0..whole.len() {
            let read = Deb::open(&whole[..length]).and_then(Deb::into_data).map_err(io::Error::other);
            let read = read.and_then(|(_, data)| data.decompress(100).read_to_end(&mut Vec::new()));
            assert!(read.is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn mutations_never_panic(at in 0_usize..3000, with in any::<u8>(), cut in 0_usize..4000) {
            let mut bytes = archive(&Parts::default());
            let length = bytes.len();
            bytes[at % length] ^= with;
            bytes.truncate(cut);
            if let Ok((_, data)) = Deb::open(&bytes[..]).and_then(Deb::into_data) {
                let _ = data.decompress(1000).read_to_end(&mut Vec::new());
            }
        }
    }
}
