//! deb822: the paragraphs of fields in which Debian writes everything (`Packages`, `Release`, `control`, `.sources`).
//!
//! 1. [`Paragraphs`] walks a text held in memory and yields a [`Paragraph`] at a time: slices into the text, no copies.
//! 2. [`Blocks`] does the same for a reader, so that an index of 60 MB never has to be in memory as a whole.
//!
//! The rules are apt's (`pkgTagSection::Scan`): field names are case-insensitive, spaces before the colon and a carriage
//! return at the end of a line are tolerated, a continuation line starts with a space or a tab, only a line that is
//! quite empty ends a paragraph. A duplicate field is an error, as it is for dpkg: apt would silently take the last.
//!
//! Comments (`#` in the first column) exist only in texts that people write: [`Paragraphs::with_comments`].

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memmem};

/// Most fields a binary package's stanza has in practice; a paragraph is allocated once with this many places.
const USUAL_FIELDS: usize = 28;
/// How much of a reader is read at a time; large enough that the paragraph cut at its end costs nothing.
const BLOCK_BYTES: usize = 1 << 20;
/// The longest paragraph accepted from a reader; the longest in Debian's archive is under 1 MiB.
const PARAGRAPH_BYTES_MAX: usize = 32 << 20;

/// One field; all slices point into the parsed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// As written; compare it without regard to case.
    pub name: &'a [u8],
    /// Without surrounding white space; continuation lines follow as written, each after a line feed.
    pub value: &'a [u8],
    /// Line of the name; the first line of the text is 1.
    pub line: usize,
}

/// The fields between two empty lines, in the order written; never empty when it comes from an iterator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph<'a> {
    fields: Vec<Field<'a>>,
    /// Which (letter, length) pairs its names have: a name whose bit is clear is surely not there.
    names: u64,
}

/// Walks the paragraphs of a text. After an error it goes on behind the paragraph that has it.
#[derive(Debug, Clone)]
pub struct Paragraphs<'a> {
    text: &'a [u8],
    /// Where the next line begins.
    position: usize,
    /// Number of the next line.
    line: usize,
    comments: bool,
}

/// Walks the paragraphs of a reader, in blocks of whole paragraphs.
#[derive(Debug)]
pub struct Blocks<R> {
    reader: R,
    buffer: Vec<u8>,
    /// The block given out last is `buffer[..given]`.
    given: usize,
    line: usize,
    finished: bool,
}

/// The text is not deb822.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Deb822Error {
    /// A line that is neither a field nor the continuation of one.
    #[error("line {line}: expected `Name: value`, found `{text}`")]
    NotAField {
        /// The first line is 1.
        line: usize,
        /// The line, shortened.
        text: String,
    },
    /// A line that starts with white space where no field is open.
    #[error("line {line}: continuation of a field that never began: `{text}`")]
    NothingToContinue {
        /// The first line is 1.
        line: usize,
        /// The line, shortened.
        text: String,
    },
    /// The same field twice in one paragraph.
    #[error("line {line}: field `{name}` is there twice in one paragraph")]
    DuplicateField {
        /// Line of the second.
        line: usize,
        /// The field.
        name: String,
    },
    /// A value that was asked for as text is not UTF-8.
    #[error("line {line}: field `{name}` is not UTF-8")]
    NotUtf8 {
        /// Line of the field's name.
        line: usize,
        /// The field.
        name: String,
    },
}

/// A reader gave no more paragraphs.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The reader failed: a truncated or corrupt compressed file, a disk error.
    #[error("read after line {line}")]
    Read {
        /// The last whole line read.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No empty line within the longest paragraph accepted.
    #[error("line {line}: paragraph is longer than {PARAGRAPH_BYTES_MAX} bytes")]
    TooLong {
        /// Where the paragraph begins.
        line: usize,
    },
}

impl Deb822Error {
    /// The line it is about; the first line of the text is 1.
    #[must_use]
    pub fn line(&self) -> usize {
        match self {
            Self::NotAField { line, .. }
            | Self::NothingToContinue { line, .. }
            | Self::DuplicateField { line, .. }
            | Self::NotUtf8 { line, .. } => *line,
        }
    }
}

impl<'a> Field<'a> {
    /// The value as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&'a str, Deb822Error> {
        std::str::from_utf8(self.value).map_err(|_| Deb822Error::NotUtf8 { line: self.line, name: shown(self.name) })
    }

    /// The value's lines, each without surrounding white space; the first is what follows the colon and may be empty.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii)
    }

    /// Whether the field is called `name`.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

impl<'a> Paragraph<'a> {
    /// The value of the field `name`, whatever its case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.field(name).map(|field| field.value)
    }

    /// The value of the field `name` as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Deb822Error> {
        self.field(name).map(Field::text).transpose()
    }

    /// The field `name`, whatever its case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field<'a>> {
        if self.names & name_bit(name.as_bytes()) == 0 {
            return None;
        }
        self.fields.iter().find(|field| field.is(name))
    }

    /// All fields in the order written.
    #[must_use]
    pub fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// Where it begins; the first line of the text is 1. Zero for a paragraph without fields.
    #[must_use]
    pub fn line(&self) -> usize {
        self.fields.first().map_or(0, |field| field.line)
    }

    fn clear(&mut self) {
        self.fields.clear();
        self.names = 0;
    }

    fn push(&mut self, field: Field<'a>) -> Result<(), Deb822Error> {
        let bit = name_bit(field.name);
        let maybe_there = self.names & bit != 0;
        if maybe_there && self.fields.iter().any(|other| other.name.eq_ignore_ascii_case(field.name)) {
            return Err(Deb822Error::DuplicateField { line: field.line, name: shown(field.name) });
        }
        self.names |= bit;
        self.fields.push(field);
        Ok(())
    }
}

impl<'a> Paragraphs<'a> {
    /// Walks a machine-written text: `#` has no meaning.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, position: 0, line: 1, comments: false }
    }

    /// Walks a text that people write: lines that start with `#` are not there, even between continuation lines.
    ///
    /// They remain inside the [`Field::value`] of a field of several lines; the reader of its lines skips them.
    #[must_use]
    pub fn with_comments(text: &'a [u8]) -> Self {
        Self { comments: true, ..Self::new(text) }
    }

    /// Reads the next paragraph into `paragraph`, which is emptied first; false at the end of the text.
    ///
    /// The same as the iterator, without an allocation per paragraph.
    ///
    /// # Errors
    /// When the paragraph is not deb822; the next call goes on behind it.
    pub fn next_into(&mut self, paragraph: &mut Paragraph<'a>) -> Result<bool, Deb822Error> {
        paragraph.clear();
        while let Some(line) = self.take_line() {
            match line.text.first() {
                None if paragraph.fields.is_empty() => {}
                None => break,
                Some(b'#') if self.comments => {}
                Some(_) => {
                    let added = self.take_field(line).and_then(|field| paragraph.push(field));
                    added.inspect_err(|_| self.skip_paragraph())?;
                }
            }
        }
        Ok(!paragraph.fields.is_empty())
    }

    fn take_line(&mut self) -> Option<Line<'a>> {
        let rest = self.text.get(self.position..).filter(|rest| !rest.is_empty())?;
        let text = memchr(b'\n', rest).map_or(rest, |end| &rest[..end]);
        let line = Line { number: self.line, start: self.position, text: text.strip_suffix(b"\r").unwrap_or(text) };
        self.position += text.len() + 1;
        self.line += 1;
        Some(line)
    }

    /// The field that `first` begins, with the continuation lines that follow it.
    fn take_field(&mut self, first: Line<'a>) -> Result<Field<'a>, Deb822Error> {
        if matches!(first.text, [b' ' | b'\t', ..]) {
            return Err(Deb822Error::NothingToContinue { line: first.number, text: shown(first.text) });
        }
        let colon = memchr(b':', first.text).unwrap_or(0);
        let name = first.text[..colon].trim_ascii_end();
        if !is_field_name(name) {
            return Err(Deb822Error::NotAField { line: first.number, text: shown(first.text) });
        }
        let end = self.skip_continuation().unwrap_or(first.start + first.text.len());
        let value = self.text[first.start + colon + 1..end].trim_ascii();
        Ok(Field { name, value, line: first.number })
    }

    /// Goes behind the continuation lines (and comments among them); where the last of them ends, if there is one.
    fn skip_continuation(&mut self) -> Option<usize> {
        let mut end = None;
        while let Some(&first) = self.text.get(self.position) {
            let continues = matches!(first, b' ' | b'\t');
            if !(continues || self.comments && first == b'#') {
                break;
            }
            let line = self.take_line()?;
            if continues {
                end = Some(line.start + line.text.len());
            }
        }
        end
    }

    fn skip_paragraph(&mut self) {
        while self.take_line().is_some_and(|line| !line.text.is_empty()) {}
    }
}

/// One line without its ending, and where it is.
struct Line<'a> {
    number: usize,
    start: usize,
    text: &'a [u8],
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Result<Paragraph<'a>, Deb822Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut paragraph = Paragraph { fields: Vec::with_capacity(USUAL_FIELDS), names: 0 };
        match self.next_into(&mut paragraph) {
            Ok(true) => Some(Ok(paragraph)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl<R: Read> Blocks<R> {
    /// Walks the paragraphs of `reader`, which is machine-written: `#` has no meaning.
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), given: 0, line: 1, finished: false }
    }

    /// The next paragraphs, at least one line of text; `None` at the end. About a megabyte is in memory at a time.
    ///
    /// # Errors
    /// When the reader fails, or a paragraph is too long to be one.
    pub fn next_block(&mut self) -> Result<Option<Paragraphs<'_>>, BlockError> {
        self.line += memchr_iter(b'\n', &self.buffer[..self.given]).count();
        self.buffer.drain(..self.given);
        self.given = self.fill()?;
        if self.given == 0 {
            return Ok(None);
        }
        let text = &self.buffer[..self.given];
        Ok(Some(Paragraphs { text, position: 0, line: self.line, comments: false }))
    }

    /// Reads until the buffer holds a whole paragraph; where the last whole paragraph ends.
    fn fill(&mut self) -> Result<usize, BlockError> {
        while !self.finished {
            let before = self.buffer.len();
            let read = self.reader.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut self.buffer);
            let read = read.map_err(|source| BlockError::Read { line: self.lines_read(), source })?;
            self.finished = read < BLOCK_BYTES;
            if let Some(end) = last_paragraph_end(&self.buffer, before) {
                return Ok(end);
            }
            if self.buffer.len() > PARAGRAPH_BYTES_MAX {
                return Err(BlockError::TooLong { line: self.line });
            }
        }
        Ok(self.buffer.len())
    }

    fn lines_read(&self) -> usize {
        self.line - 1 + memchr_iter(b'\n', &self.buffer).count()
    }
}

/// Behind the last empty line of `text`; the part before `searched` is known to have none (but may have its beginning).
fn last_paragraph_end(text: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(2);
    let newlines = memmem::rfind(&text[from..], b"\n\n").map(|at| from + at + 2);
    let returns = memmem::rfind(&text[from..], b"\n\r\n").map(|at| from + at + 3);
    newlines.max(returns)
}

/// Printable ASCII without a colon, and not what begins a comment or an armor line.
fn is_field_name(name: &[u8]) -> bool {
    let ordinary = name.iter().all(|byte| byte.is_ascii_graphic());
    ordinary && !matches!(name, [] | [b'#' | b'-', ..])
}

fn name_bit(name: &[u8]) -> u64 {
    let letter = usize::from(name.first().map_or(0, u8::to_ascii_lowercase));
    1 << ((letter ^ (name.len() << 3)) & 63)
}

/// The beginning of a line, as an error message shows it.
fn shown(line: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 60;
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES_MAX)]);
    let ellipsis = if line.len() > SHOWN_BYTES_MAX { "..." } else { "" };
    format!("{}{ellipsis}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One line a paragraph, `Name@line=value` a field, errors as they read.
    fn show(paragraphs: Paragraphs<'_>) -> String {
        let show_field =
            |field: &Field<'_>| format!("{}@{}={:?}", shown(field.name), field.line, field.text().unwrap_or("?"));
        let mut shown = String::new();
        for paragraph in paragraphs {
            shown += &match paragraph {
                Ok(paragraph) => paragraph.fields().iter().map(show_field).collect::<Vec<_>>().join(" "),
                Err(error) => format!("error: {error}"),
            };
            shown.push('\n');
        }
        shown
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(show(Paragraphs::new(text.as_bytes())).trim_end(), expected, "{text:?}");
    }

    #[test]
    fn paragraphs_end_at_empty_lines() {
        check("", "");
        check("\n\n", "");
        check("A: 1", "A@1=\"1\"");
        check("A: 1\nB:2\n\n\n\nA:  3 \n", "A@1=\"1\" B@2=\"2\"\nA@6=\"3\"");
        check("A: 1\r\nB: 2\r\n\r\nA: 3\r\n", "A@1=\"1\" B@2=\"2\"\nA@4=\"3\"");
    }

    #[test]
    fn values_continue_over_lines() {
        check("A: 1\n 2\n\t3\nB: 4\n", "A@1=\"1\\n 2\\n\\t3\" B@4=\"4\"");
        check("A:\n x\n", "A@1=\"x\"");
        check("A: x\n \n y\n", "A@1=\"x\\n \\n y\"");
        check("A:\nB: \n", "A@1=\"\" B@2=\"\"");
        check("A: b:c\n", "A@1=\"b:c\"");
        check("A : 1\n", "A@1=\"1\"");
    }

    #[test]
    fn errors_name_the_line_and_spare_the_next_paragraph() {
        check("A: 1\nnonsense\nB: 2\n\nC: 3\n", "error: line 2: expected `Name: value`, found `nonsense`\nC@5=\"3\"");
        check(" x\n\nA: 1", "error: line 1: continuation of a field that never began: ` x`\nA@3=\"1\"");
        check("A: 1\na: 2\n", "error: line 2: field `a` is there twice in one paragraph");
        check("# c\nA: 1\n", "error: line 1: expected `Name: value`, found `# c`");
        check(": 1\n", "error: line 1: expected `Name: value`, found `: 1`");
        check("-----BEGIN X: 1\n", "error: line 1: expected `Name: value`, found `-----BEGIN X: 1`");
        check("A\u{7f}: 1\n", "error: line 1: expected `Name: value`, found `A\\u{7f}: 1`");
    }

    #[test]
    fn comments_vanish_where_people_write() {
        let text = "# head\n\n# x\nA: 1\n#A: 2\n 3\n# tail\nB: 4\n";
        let shown = show(Paragraphs::with_comments(text.as_bytes()));
        assert_eq!(shown, "A@4=\"1\\n#A: 2\\n 3\" B@8=\"4\"\n");
    }

    #[test]
    fn names_are_found_in_any_case() {
        let paragraph = Paragraphs::new(b"Package: a\nSHA256: x\nBad: \xff\n").next().unwrap().unwrap();
        assert_eq!(paragraph.get("sha256"), Some(&b"x"[..]));
        assert_eq!(paragraph.text("PACKAGE").unwrap(), Some("a"));
        assert_eq!(paragraph.get("Pack"), None);
        assert_eq!(paragraph.text("bad").unwrap_err().to_string(), "line 3: field `Bad` is not UTF-8");
    }

    #[test]
    fn lines_are_trimmed() {
        let paragraph = Paragraphs::new(b"SHA256:\n a 1 x\n b 2 y\n").next().unwrap().unwrap();
        let lines: Vec<_> = paragraph.field("SHA256").unwrap().lines().collect();
        assert_eq!(lines, [&b"a 1 x"[..], b"b 2 y"]);
    }

    /// Gives a few bytes at a time, as decompressors may.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn show_blocks(reader: impl Read) -> String {
        let mut blocks = Blocks::new(reader);
        let mut shown = String::new();
        while let Some(block) = blocks.next_block().unwrap() {
            shown += &show(block);
        }
        shown
    }

    #[test]
    fn blocks_cut_between_paragraphs() {
        let stanza = format!("Package: x\nDescription: {}\n more\n\n", "y".repeat(300));
        let text = stanza.repeat(2 * BLOCK_BYTES / stanza.len() + 10);
        let blocks = show_blocks(Dribble(text.as_bytes(), 70_001));
        assert_eq!(blocks, show(Paragraphs::new(text.as_bytes())));
        assert_eq!(show_blocks(text.replace('\n', "\r\n").as_bytes()).lines().count(), blocks.lines().count());
    }

    #[test]
    fn endless_paragraph_is_refused() {
        let error = Blocks::new(io::repeat(b'x')).next_block().unwrap_err();
        assert_eq!(error.to_string(), "line 1: paragraph is longer than 33554432 bytes");
    }

    #[test]
    fn failing_reader_is_named() {
        let corrupt = Dribble(b"A: 1\n", 5).chain(Failing);
        let error = Blocks::new(corrupt).next_block().unwrap_err();
        assert_eq!(error.to_string(), "read after line 1");
    }

    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_the_end(bytes in proptest::collection::vec(
            prop_oneof![Just(b'\n'), Just(b' '), Just(b':'), Just(b'#'), Just(b'\r'), any::<u8>()], 0..200)) {
            for paragraphs in [Paragraphs::new(&bytes), Paragraphs::with_comments(&bytes)] {
                for paragraph in paragraphs.flatten() {
                    prop_assert!(!paragraph.fields().is_empty());
                }
            }
            prop_assert_eq!(show_blocks(&bytes[..]), show(Paragraphs::new(&bytes)));
        }

        #[test]
        fn written_fields_are_read_back(fields in proptest::collection::btree_map("[A-Z][a-z]{1,6}", "[!-~]( ?[!-~]){0,9}", 1..9)) {
            let text: String = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            let paragraph = Paragraphs::new(text.as_bytes()).next().unwrap().unwrap();
            prop_assert_eq!(paragraph.fields().len(), fields.len());
            for (name, value) in &fields {
                prop_assert_eq!(paragraph.text(&name.to_uppercase()).unwrap(), Some(value.as_str()));
            }
        }
    }
}
