//! The parsed `Packages` index, in a form that loads in milliseconds and is read where it lies.
//!
//! 1. [`Index::build`] reads the text once, stanza by stanza, checks every field that Kiln relies on, and writes a blob.
//!    Only stanzas of the wanted architecture and of `all` are kept, and of those only the fields of [`Stanza`].
//! 2. [`Index::load`] takes a blob back. It checks that every record can be read, so that nothing later can fail.
//! 3. Lookups are binary searches over two sorted tables: packages by name, and what they provide.
//!
//! The blob is a cache, made and read by the same Kiln: its format has a version and no other promise. Whoever keeps it
//! verifies its digest; a damaged blob is refused or answers wrongly, it never makes Kiln fail in another way.
//!
//! ```text
//! magic | architecture | record... | package table | provides table | essential table | trailer
//! record:         texts and numbers of one stanza; texts after their length, numbers as LEB128
//! package table:  u32 where the record begins; sorted by name, then newest version first
//! provides table: u32 where the entry of a `Provides` field begins, u32 its length, u32 place in the package table;
//!                 sorted by the provided name, then by place
//! essential table: u32 place in the package table of each `Essential: yes`
//! trailer:        u32 where the package table begins, u32 entries in each of the three tables; all little-endian
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use kiln_model::digest::Sha256;

use crate::deb822::{BlockError, Blocks, Deb822Error, Paragraph, Paragraphs};
use crate::relation::{self, Operator, Relation, RelationError};
use crate::version::{self, Version, VersionError};

/// Raised with every change of the format.
const MAGIC: &[u8; 8] = b"KILNIDX3";
const TRAILER_BYTES: usize = 16;

/// All packages of one `Packages` file, ready for lookup. Clones share the blob.
#[derive(Clone)]
pub struct Index {
    bytes: Arc<Vec<u8>>,
    architecture: String,
    tables: Tables,
}

/// What an index says about one package in one version; texts are slices of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stanza<'a> {
    /// `Package`.
    pub name: &'a str,
    /// `Version`, as written.
    pub version: &'a str,
    /// `Architecture: all`, rather than the index's own.
    pub is_all: bool,
    /// `Multi-Arch`.
    pub multi_arch: MultiArch,
    /// `Essential: yes`.
    pub is_essential: bool,
    /// `Important: yes` or `Protected: yes`, which apt takes for the same; it prefers such providers.
    pub is_important: bool,
    /// `Priority`.
    pub priority: Priority,
    /// SHA-256 of the `.deb`.
    pub sha256: Sha256,
    /// Size of the `.deb`.
    pub size_bytes: u64,
    /// `Installed-Size`: an estimate of the space needed, in KiB; zero where the field is absent.
    pub installed_size_kib: u64,
    /// `Source` as written, perhaps with a version in parentheses; empty where it equals the package.
    pub source: &'a str,
    /// `Section`; may be empty.
    pub section: &'a str,
    /// When the index first mentions the name, be it in a relation of another package: apt numbers packages so, and
    /// among providers that are equal in all else takes the one with the highest number.
    pub mention: u32,
    /// `Filename`: path below the repository's root; for a local package, what its user calls the file.
    pub filename: &'a str,
    /// `Pre-Depends`.
    pub pre_depends: &'a str,
    /// `Depends`.
    pub depends: &'a str,
    /// `Recommends`.
    pub recommends: &'a str,
    /// `Suggests`: never followed to bring a package in, but what was brought in may stay for it.
    pub suggests: &'a str,
    /// `Conflicts`.
    pub conflicts: &'a str,
    /// `Breaks`.
    pub breaks: &'a str,
    /// `Provides`.
    pub provides: &'a str,
    /// `Replaces`; it says which files may be overwritten and has no part in solving.
    pub replaces: &'a str,
}

/// `Multi-Arch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MultiArch {
    /// Absent, `no` or unknown.
    No,
    /// Can be installed for several architectures side by side.
    Same,
    /// Serves packages of every architecture.
    Foreign,
    /// Serves packages of every architecture that say `:any`.
    Allowed,
}

/// `Priority`; the first is the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Every system has it.
    Required,
    /// Everyone would miss it.
    Important,
    /// A modest system has it.
    Standard,
    /// The default.
    Optional,
    /// Also what is unknown or absent.
    Extra,
}

/// A field that holds relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelationField {
    /// Configured before this package is unpacked.
    PreDepends,
    /// Configured before this package is.
    Depends,
    /// Found together in all but unusual installations.
    Recommends,
    /// Of use together.
    Suggests,
    /// Never together.
    Conflicts,
    /// Never configured together.
    Breaks,
    /// Other names it answers to.
    Provides,
    /// May overwrite files of.
    Replaces,
}

/// One entry of a `Provides` field, and the package that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider<'a> {
    /// Place of the package in the index.
    pub place: u32,
    /// The version it is provided in, if the entry says one.
    pub version: Option<&'a str>,
}

/// An index cannot be built or loaded.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The text could not be read.
    #[error("read index")]
    Read {
        /// Why.
        #[source]
        source: BlockError,
    },
    /// The text is not deb822.
    #[error("parse index")]
    Syntax {
        /// Why, with the line.
        #[source]
        source: Deb822Error,
    },
    /// A stanza without a field that every package has.
    #[error("line {line}: package `{package}` has no field `{field}`")]
    Missing {
        /// First line of the stanza.
        line: usize,
        /// Name of the package; empty if that is what is missing.
        package: String,
        /// The absent field.
        field: &'static str,
    },
    /// A field whose value Kiln cannot rely on.
    #[error("line {line}: package `{package}`: field `{field}` is `{value}`, expected {expected}")]
    Value {
        /// First line of the stanza.
        line: usize,
        /// Name of the package.
        package: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The version is none that dpkg accepts.
    #[error("line {line}: package `{package}`")]
    Version {
        /// First line of the stanza.
        line: usize,
        /// Name of the package.
        package: String,
        /// Why.
        #[source]
        source: VersionError,
    },
    /// A relation that is not well formed.
    #[error("line {line}: package `{package}`: parse field `{field}`")]
    Relation {
        /// First line of the stanza.
        line: usize,
        /// Name of the package.
        package: String,
        /// The field.
        field: RelationField,
        /// Why.
        #[source]
        source: RelationError,
    },
    /// More than the format can hold.
    #[error("index is larger than 4 GiB")]
    TooLarge,
    /// The blob was not made by this version of Kiln, or it is damaged.
    #[error("load index: {reason}")]
    Damaged {
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The parts of a local `.deb` that its control file does not say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File<'a> {
    pub(crate) name: &'a str,
    pub(crate) sha256: Sha256,
    pub(crate) size_bytes: u64,
}

impl Index {
    /// Turns the text of a `Packages` file into a blob for [`Index::load`]; stanzas of other architectures than
    /// `architecture` and `all` are left out. About a megabyte of the text is in memory at a time.
    ///
    /// # Errors
    /// When the reader fails, or a stanza says something that Kiln cannot rely on: the error names package and line.
    pub fn build(packages: impl Read, architecture: &str) -> Result<Vec<u8>, IndexError> {
        let mut builder = Builder::new(architecture);
        let mut blocks = Blocks::new(packages);
        while let Some(mut block) = blocks.next_block().map_err(|source| IndexError::Read { source })? {
            let mut paragraph = Paragraph::default();
            while block.next_into(&mut paragraph).map_err(|source| IndexError::Syntax { source })? {
                builder.add(&paragraph, None)?;
            }
        }
        builder.finish()
    }

    /// An index of one package, from the control file of a `.deb`.
    pub(crate) fn of_file(control: &str, architecture: &str, file: File<'_>) -> Result<Self, IndexError> {
        let mut builder = Builder::new(architecture);
        for paragraph in Paragraphs::new(control.as_bytes()) {
            builder.add(&paragraph.map_err(|source| IndexError::Syntax { source })?, Some(file))?;
        }
        Self::load(builder.finish()?)
    }

    /// A small index of just the stanzas that `keep` accepts: it offers the kept packages of an index that is no longer
    /// current, and nothing else of it. [`Stanza::mention`] stays as it is in the whole.
    ///
    /// # Errors
    /// None in practice, as it is no larger than the whole.
    pub fn only(&self, keep: impl Fn(&Stanza<'_>) -> bool) -> Result<Self, IndexError> {
        let mut builder = Builder::new(&self.architecture);
        for stanza in (0..self.len()).filter_map(|place| self.stanza(place)).filter(|stanza| keep(stanza)) {
            builder.push(&stanza)?;
        }
        Self::load(builder.finish()?)
    }

    /// Takes back what [`Index::build`] made.
    ///
    /// # Errors
    /// When the blob is of another format, or damaged.
    pub fn load(bytes: Vec<u8>) -> Result<Self, IndexError> {
        let damaged = |reason| IndexError::Damaged { reason };
        let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it has another format"))?;
        let architecture = take_text(&mut rest).ok_or_else(|| damaged("its architecture cannot be read"))?.to_owned();
        let tables = Tables::locate(&bytes).ok_or_else(|| damaged("its tables are not inside it"))?;
        let index = Self { bytes: Arc::new(bytes), architecture, tables };
        index.check().map_err(damaged)?;
        Ok(index)
    }

    /// Whether everything is where it should be. The texts themselves are not looked at, which would take longer than
    /// all the rest of a solve: one that is not UTF-8 reads as empty.
    fn check(&self) -> Result<(), &'static str> {
        for place in 0..self.len() {
            self.stanza_end(place).ok_or("one of its records does not end inside it")?;
        }
        for entry in 0..self.tables.provides.len() {
            let place = self.provides_bytes(entry).ok_or("one of its provides is not inside it")?.1;
            if place >= self.len() {
                return Err("one of its provides has no package");
            }
        }
        if self.essential().any(|place| place >= self.len()) {
            return Err("one of its essential packages is not there");
        }
        Ok(())
    }

    /// How much is left behind the record at `place`, if the record can be read.
    fn stanza_end(&self, place: u32) -> Option<usize> {
        let mut record = self.record(place)?;
        skip_record(&mut record)?;
        Some(record.len())
    }

    /// The architecture it was built for.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// How many packages it has; places go from zero to here.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.tables.packages.len()
    }

    /// Whether it has no package.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The package at `place`; none behind the last.
    #[must_use]
    pub fn stanza(&self, place: u32) -> Option<Stanza<'_>> {
        let mut record = self.record(place)?;
        read_record(&mut record)
    }

    /// The places of all versions of the package `name`, newest first.
    #[must_use]
    pub fn versions_of(&self, name: &str) -> Range<u32> {
        equal_range(self.len(), |place| self.name_at(place).unwrap_or_default().cmp(name))
    }

    /// Who provides `name`, other than by being called so, in the order of places.
    pub fn providers_of(&self, name: &str) -> impl Iterator<Item = Provider<'_>> {
        let provided = |entry| self.provides_entry(entry).map_or("", |(relation, _)| relation.name);
        equal_range(self.tables.provides.len(), |entry| provided(entry).cmp(name)).filter_map(|entry| {
            let (relation, place) = self.provides_entry(entry)?;
            Some(Provider { place, version: relation.constraint.map(|(_, version)| version) })
        })
    }

    /// The places of the packages marked `Essential: yes`.
    pub fn essential(&self) -> impl Iterator<Item = u32> {
        (0..self.tables.essential.len()).filter_map(|entry| self.number(&self.tables.essential, entry, 0))
    }

    /// Every package name, in order, each as often as it has versions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|place| self.name_at(place))
    }

    /// Every name that a package provides, in order, each as often as it is provided.
    pub fn provided_names(&self) -> impl Iterator<Item = &str> {
        (0..self.tables.provides.len()).filter_map(|entry| Some(self.provides_entry(entry)?.0.name))
    }

    fn name_at(&self, place: u32) -> Option<&str> {
        take_text(&mut self.record(place)?)
    }

    fn record(&self, place: u32) -> Option<&[u8]> {
        let start = self.number(&self.tables.packages, place, 0)?;
        self.bytes.get(to_usize(start)..self.tables.packages.start)
    }

    fn provides_entry(&self, entry: u32) -> Option<(Relation<'_>, u32)> {
        let (bytes, place) = self.provides_bytes(entry)?;
        Some((Relation::parse(std::str::from_utf8(bytes).ok()?).ok()?, place))
    }

    fn provides_bytes(&self, entry: u32) -> Option<(&[u8], u32)> {
        let table = &self.tables.provides;
        let start = to_usize(self.number(table, entry, 0)?);
        let end = start.checked_add(to_usize(self.number(table, entry, 1)?))?;
        Some((self.bytes.get(start..end)?, self.number(table, entry, 2)?))
    }

    /// The number in `column` of the `entry` of a table.
    fn number(&self, table: &Table, entry: u32, column: usize) -> Option<u32> {
        if entry >= table.len() {
            return None;
        }
        read_u32(&self.bytes, table.start + (to_usize(entry) * table.columns + column) * 4)
    }
}

impl<'a> Stanza<'a> {
    /// The relations in `field`, as written.
    #[must_use]
    pub fn field(&self, field: RelationField) -> &'a str {
        match field {
            RelationField::PreDepends => self.pre_depends,
            RelationField::Depends => self.depends,
            RelationField::Recommends => self.recommends,
            RelationField::Suggests => self.suggests,
            RelationField::Conflicts => self.conflicts,
            RelationField::Breaks => self.breaks,
            RelationField::Provides => self.provides,
            RelationField::Replaces => self.replaces,
        }
    }

    /// The or-groups in `field`.
    pub fn groups(&self, field: RelationField) -> impl Iterator<Item = relation::Group<'a>> + use<'a> {
        relation::groups(self.field(field)).filter_map(Result::ok)
    }

    /// What it provides beside its own name, and in which version. Entries that dpkg ignores are left out.
    pub fn provided(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        provides_entries(self.provides)
            .map(|(_, relation)| (relation.name, relation.constraint.map(|(_, version)| version)))
    }

    /// The source package that it was built from.
    #[must_use]
    pub fn source_name(&self) -> &'a str {
        match self.source.split_once('(').map_or(self.source, |(name, _)| name).trim_ascii() {
            "" => self.name,
            name => name,
        }
    }

    /// The version of that source package.
    #[must_use]
    pub fn source_version(&self) -> &'a str {
        let written = self.source.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
        written.map_or(self.version, |(version, _)| version.trim_ascii())
    }
}

/// Collects records, then sorts them.
struct Builder<'a> {
    architecture: &'a str,
    bytes: Vec<u8>,
    /// Where each record begins.
    records: Vec<u32>,
    mentions: Mentions,
}

/// Numbers names in the order in which apt meets them.
#[derive(Default)]
struct Mentions {
    #[expect(clippy::disallowed_types, reason = "a million lookups, and nobody walks it")]
    numbers: std::collections::HashMap<Box<str>, u32>,
}

impl Mentions {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.numbers.get(name) {
            return known;
        }
        // There are fewer names than bytes in the blob, whose length is a u32.
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.numbers.insert(name.into(), next);
        next
    }

    /// Numbers a stanza's package and all that its relations name; the number of the package.
    fn read(&mut self, name: &str, paragraph: &Paragraph<'_>) -> u32 {
        let number = self.number(name);
        for field in FIELDS_IN_ORDER_OF_MENTION {
            let text = paragraph.get(field).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
            for relation in relation::groups(text).flatten().flat_map(|group| group.alternatives()) {
                // To apt, `python3:any` is another name than `python3`.
                if relation.qualifier.is_none() {
                    self.number(relation.name);
                }
            }
        }
        number
    }
}

/// As apt's list parser visits them.
const FIELDS_IN_ORDER_OF_MENTION: [&str; 9] =
    ["Pre-Depends", "Depends", "Conflicts", "Breaks", "Recommends", "Suggests", "Replaces", "Enhances", "Provides"];

impl<'a> Builder<'a> {
    fn new(architecture: &'a str) -> Self {
        let mut bytes = MAGIC.to_vec();
        put_text(&mut bytes, architecture);
        Self { architecture, bytes, records: Vec::new(), mentions: Mentions::default() }
    }

    fn add(&mut self, paragraph: &Paragraph<'_>, file: Option<File<'_>>) -> Result<(), IndexError> {
        let reader = StanzaReader::new(paragraph)?;
        let architecture = reader.required("Architecture")?;
        if architecture != "all" && architecture != self.architecture {
            return match file {
                Some(_) => Err(reader.value_error("Architecture", architecture, "the distribution's own or `all`")),
                None => Ok(()),
            };
        }
        let mut stanza = reader.stanza(architecture == "all", file)?;
        stanza.mention = self.mentions.read(stanza.name, paragraph);
        self.push(&stanza)
    }

    fn push(&mut self, stanza: &Stanza<'_>) -> Result<(), IndexError> {
        self.records.push(u32::try_from(self.bytes.len()).map_err(|_| IndexError::TooLarge)?);
        write_record(&mut self.bytes, stanza);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, IndexError> {
        self.sort();
        let provides = self.provides_table()?;
        let essential = self.essential_table()?;
        let start = self.bytes.len();
        let numbers = self.records.iter().chain(provides.iter().flatten()).chain(&essential);
        let trailer = [start, self.records.len(), provides.len(), essential.len()];
        let numbers: Vec<u32> = numbers.copied().collect();
        self.bytes.reserve_exact((numbers.len() + trailer.len()) * 4);
        for number in numbers {
            self.bytes.extend(number.to_le_bytes());
        }
        for number in trailer {
            self.bytes.extend(u32::try_from(number).map_err(|_| IndexError::TooLarge)?.to_le_bytes());
        }
        Ok(self.bytes)
    }

    /// By name, then newest first; of a version that is there twice, the first written.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |record: u32| {
            let mut record = bytes.get(to_usize(record)..).unwrap_or_default();
            (take_text(&mut record).unwrap_or_default(), take_text(&mut record).unwrap_or_default())
        };
        let compare = |left: (&str, &str), right: (&str, &str)| {
            left.0.cmp(right.0).then_with(|| version::compare(right.1, left.1)).then_with(|| left.1.cmp(right.1))
        };
        self.records.sort_by(|&left, &right| compare(key(left), key(right)));
        self.records.dedup_by(|later, earlier| key(*later) == key(*earlier));
    }

    fn stanzas(&self) -> impl Iterator<Item = (u32, Stanza<'_>)> {
        let read = |&record: &u32| read_record(&mut self.bytes.get(to_usize(record)..)?);
        (0..).zip(self.records.iter().filter_map(read))
    }

    fn provides_table(&self) -> Result<Vec<[u32; 3]>, IndexError> {
        let mut entries: Vec<(&str, u32, &str)> = Vec::new();
        for (place, stanza) in self.stanzas() {
            entries.extend(provides_entries(stanza.provides).map(|(text, relation)| (relation.name, place, text)));
        }
        entries.sort_by_key(|&(name, place, _)| (name, place));
        let locate = |(_, place, text): (&str, u32, &str)| {
            let start = text.as_ptr() as usize - self.bytes.as_ptr() as usize;
            let start = u32::try_from(start).map_err(|_| IndexError::TooLarge)?;
            let length = u32::try_from(text.len()).map_err(|_| IndexError::TooLarge)?;
            Ok([start, length, place])
        };
        entries.into_iter().map(locate).collect()
    }

    fn essential_table(&self) -> Result<Vec<u32>, IndexError> {
        Ok(self.stanzas().filter(|(_, stanza)| stanza.is_essential).map(|(place, _)| place).collect())
    }
}

/// The entries of a `Provides` field that mean something: with no version or an exact one, for this architecture.
fn provides_entries(field: &str) -> impl Iterator<Item = (&str, Relation<'_>)> {
    relation::groups(field).filter_map(|group| {
        let text = group.ok()?.text();
        let relation = Relation::parse(text).ok()?;
        let exact = relation.constraint.is_none_or(|(operator, _)| operator == Operator::Equal);
        (exact && relation.qualifier.is_none()).then_some((text, relation))
    })
}

/// Reads the fields of one stanza; its errors know the package and the line.
struct StanzaReader<'a> {
    paragraph: &'a Paragraph<'a>,
    name: &'a str,
}

impl<'a> StanzaReader<'a> {
    fn new(paragraph: &'a Paragraph<'a>) -> Result<Self, IndexError> {
        let nameless = Self { paragraph, name: "" };
        let name = nameless.required("Package")?;
        if !relation::is_package_name(name) {
            return Err(nameless.value_error("Package", name, "letters, digits and `-+._`"));
        }
        Ok(Self { paragraph, name })
    }

    fn stanza(&self, is_all: bool, file: Option<File<'a>>) -> Result<Stanza<'a>, IndexError> {
        let version = self.version()?;
        let file = file.map_or_else(|| self.file(), Ok)?;
        let stanza = Stanza {
            name: self.name,
            version,
            is_all,
            multi_arch: MultiArch::parse(self.text("Multi-Arch")?),
            is_essential: self.text("Essential")? == "yes",
            is_important: self.text("Important")? == "yes" || self.text("Protected")? == "yes",
            priority: Priority::parse(self.text("Priority")?),
            sha256: file.sha256,
            size_bytes: file.size_bytes,
            installed_size_kib: self.installed_size()?,
            source: self.text("Source")?,
            section: self.text("Section")?,
            mention: 0,
            filename: file.name,
            pre_depends: self.relations(RelationField::PreDepends)?,
            depends: self.relations(RelationField::Depends)?,
            recommends: self.relations(RelationField::Recommends)?,
            // Nothing is ever brought in for it, so that a mistake in it is no reason to refuse the index.
            suggests: self.text("Suggests")?,
            conflicts: self.relations(RelationField::Conflicts)?,
            breaks: self.relations(RelationField::Breaks)?,
            provides: self.relations(RelationField::Provides)?,
            replaces: self.relations(RelationField::Replaces)?,
        };
        Ok(stanza)
    }

    /// The value of a field; empty where it is absent.
    fn text(&self, field: &'static str) -> Result<&'a str, IndexError> {
        let text = self.paragraph.text(field).map_err(|source| IndexError::Syntax { source })?;
        Ok(text.unwrap_or_default())
    }

    fn required(&self, field: &'static str) -> Result<&'a str, IndexError> {
        match self.text(field)? {
            "" => Err(IndexError::Missing { line: self.paragraph.line(), package: self.name.to_owned(), field }),
            text => Ok(text),
        }
    }

    fn version(&self) -> Result<&'a str, IndexError> {
        let text = self.required("Version")?;
        let refused =
            |source| IndexError::Version { line: self.paragraph.line(), package: self.name.to_owned(), source };
        Version::parse(text).map_err(refused)?;
        Ok(text)
    }

    fn relations(&self, field: RelationField) -> Result<&'a str, IndexError> {
        let text = self.text(field.name())?;
        for group in relation::groups(text) {
            group.map_err(|source| {
                let package = self.name.to_owned();
                IndexError::Relation { line: self.paragraph.line(), package, field, source }
            })?;
        }
        Ok(text)
    }

    fn file(&self) -> Result<File<'a>, IndexError> {
        let name = self.required("Filename")?;
        if !is_path_below_root(name) {
            return Err(self.value_error("Filename", name, "a plain path below the repository's root"));
        }
        let size = self.required("Size")?;
        let size_bytes = size.parse().map_err(|_| self.value_error("Size", size, "a number of bytes"))?;
        let digest = self.required("SHA256")?;
        let sha256 = digest.parse().map_err(|_| self.value_error("SHA256", digest, "64 hexadecimal digits"))?;
        Ok(File { name, sha256, size_bytes })
    }

    fn installed_size(&self) -> Result<u64, IndexError> {
        match self.text("Installed-Size")? {
            "" => Ok(0),
            size => size.parse().map_err(|_| self.value_error("Installed-Size", size, "a number of KiB")),
        }
    }

    fn value_error(&self, field: &'static str, value: &str, expected: &'static str) -> IndexError {
        let package = self.name.to_owned();
        IndexError::Value { line: self.paragraph.line(), package, field, value: value.to_owned(), expected }
    }
}

/// Whether a mirror may be asked for it, and a directory may hold it: nothing that climbs, hides or ends a line.
fn is_path_below_root(path: &str) -> bool {
    let plain = path.chars().all(|character| !character.is_control() && character != '\\');
    plain && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl MultiArch {
    fn parse(text: &str) -> Self {
        match text {
            "same" => Self::Same,
            "foreign" => Self::Foreign,
            "allowed" => Self::Allowed,
            _ => Self::No,
        }
    }
}

impl Priority {
    fn parse(text: &str) -> Self {
        match text {
            "required" => Self::Required,
            "important" => Self::Important,
            "standard" => Self::Standard,
            "optional" => Self::Optional,
            _ => Self::Extra,
        }
    }
}

impl RelationField {
    /// The field's name, as Debian writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PreDepends => "Pre-Depends",
            Self::Depends => "Depends",
            Self::Recommends => "Recommends",
            Self::Suggests => "Suggests",
            Self::Conflicts => "Conflicts",
            Self::Breaks => "Breaks",
            Self::Provides => "Provides",
            Self::Replaces => "Replaces",
        }
    }
}

impl fmt::Display for RelationField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, architecture, tables } = self;
        write!(f, "Index({architecture}, {} packages, {} bytes)", tables.packages.len(), bytes.len())
    }
}

/// Where the tables are.
#[derive(Clone)]
struct Tables {
    packages: Table,
    provides: Table,
    essential: Table,
}

/// Rows of `columns` numbers each, `rows` of them, from the byte `start` on.
#[derive(Clone)]
struct Table {
    start: usize,
    columns: usize,
    rows: u32,
}

impl Tables {
    fn locate(bytes: &[u8]) -> Option<Self> {
        let trailer = bytes.len().checked_sub(TRAILER_BYTES)?;
        let number = |position: usize| read_u32(bytes, trailer + position * 4);
        let packages = Table { start: to_usize(number(0)?), columns: 1, rows: number(1)? };
        let provides = Table { start: packages.end()?, columns: 3, rows: number(2)? };
        let essential = Table { start: provides.end()?, columns: 1, rows: number(3)? };
        (essential.end()? == trailer).then_some(Self { packages, provides, essential })
    }
}

impl Table {
    fn len(&self) -> u32 {
        self.rows
    }

    fn end(&self) -> Option<usize> {
        to_usize(self.rows).checked_mul(self.columns * 4)?.checked_add(self.start)
    }
}

/// The rows between those for which `order` says less and those for which it says greater.
fn equal_range(rows: u32, order: impl Fn(u32) -> Ordering) -> Range<u32> {
    let first = partition_point(0..rows, |row| order(row).is_lt());
    // Almost always there is one row, or a few.
    let mut end = first;
    while end < rows && order(end).is_eq() {
        end += 1;
    }
    first..end
}

/// The first row of `rows` that is not `before`.
fn partition_point(rows: Range<u32>, before: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (rows.start, rows.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

const SHA256_BYTES: usize = 32;
/// From `Source` to `Replaces`.
const TEXTS_AFTER_NUMBERS: usize = 11;
const ESSENTIAL: u8 = 1;
const IMPORTANT: u8 = 2;
const ALL: u8 = 4;
/// The kind of `Multi-Arch` is above this bit.
const MULTI_ARCH_SHIFT: u8 = 3;

fn write_record(bytes: &mut Vec<u8>, stanza: &Stanza<'_>) {
    put_text(bytes, stanza.name);
    put_text(bytes, stanza.version);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(stanza.is_essential, ESSENTIAL) | flag(stanza.is_important, IMPORTANT) | flag(stanza.is_all, ALL);
    bytes.push(flags | (stanza.multi_arch as u8) << MULTI_ARCH_SHIFT);
    bytes.push(stanza.priority as u8);
    bytes.extend(stanza.sha256.as_bytes());
    put_number(bytes, stanza.size_bytes);
    put_number(bytes, stanza.installed_size_kib);
    put_number(bytes, stanza.mention.into());
    let texts = [stanza.source, stanza.section, stanza.filename, stanza.pre_depends, stanza.depends];
    let more = [stanza.recommends, stanza.suggests, stanza.conflicts, stanza.breaks, stanza.provides, stanza.replaces];
    texts.into_iter().chain(more).for_each(|text| put_text(bytes, text));
}

fn read_record<'a>(record: &mut &'a [u8]) -> Option<Stanza<'a>> {
    let name = take_text(record)?;
    let version = take_text(record)?;
    let (&[flags, priority], rest) = record.split_first_chunk()?;
    let (sha256, rest) = rest.split_first_chunk()?;
    *record = rest;
    Some(Stanza {
        name,
        version,
        is_all: flags & ALL != 0,
        multi_arch: multi_arch_of(flags >> MULTI_ARCH_SHIFT)?,
        is_essential: flags & ESSENTIAL != 0,
        is_important: flags & IMPORTANT != 0,
        priority: priority_of(priority)?,
        sha256: Sha256::from_bytes(*sha256),
        size_bytes: take_number(record)?,
        installed_size_kib: take_number(record)?,
        mention: u32::try_from(take_number(record)?).ok()?,
        source: take_text(record)?,
        section: take_text(record)?,
        filename: take_text(record)?,
        pre_depends: take_text(record)?,
        depends: take_text(record)?,
        recommends: take_text(record)?,
        suggests: take_text(record)?,
        conflicts: take_text(record)?,
        breaks: take_text(record)?,
        provides: take_text(record)?,
        replaces: take_text(record)?,
    })
}

/// The same walk as [`read_record`], without a look at the texts.
fn skip_record(record: &mut &[u8]) -> Option<()> {
    take_bytes(record)?;
    take_bytes(record)?;
    let (&[flags, priority], rest) = record.split_first_chunk()?;
    multi_arch_of(flags >> MULTI_ARCH_SHIFT)?;
    priority_of(priority)?;
    *record = rest.get(SHA256_BYTES..)?;
    (0..2).try_for_each(|_| take_number(record).map(|_| ()))?;
    u32::try_from(take_number(record)?).ok()?;
    (0..TEXTS_AFTER_NUMBERS).try_for_each(|_| take_bytes(record).map(|_| ()))
}

fn multi_arch_of(number: u8) -> Option<MultiArch> {
    [MultiArch::No, MultiArch::Same, MultiArch::Foreign, MultiArch::Allowed].get(usize::from(number)).copied()
}

fn priority_of(number: u8) -> Option<Priority> {
    let priorities = [Priority::Required, Priority::Important, Priority::Standard, Priority::Optional, Priority::Extra];
    priorities.get(usize::from(number)).copied()
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// A text; empty where it is not UTF-8, which no index that Kiln built has.
fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    take_bytes(bytes).map(|text| std::str::from_utf8(text).unwrap_or_default())
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// LEB128: seven bits a byte, the lowest first; the high bit says that more follow.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(lowest_byte(number) | 0x80);
        number >>= 7;
    }
    bytes.push(lowest_byte(number));
}

fn lowest_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn read_u32(bytes: &[u8], start: usize) -> Option<u32> {
    let four = bytes.get(start..start.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

/// Kiln runs on 32 bits or more, where this loses nothing.
fn to_usize(number: u32) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// A stanza with what every stanza has, and `fields`, one a line; those named there replace the usual ones.
    fn stanza(name: &str, version: &str, fields: &str) -> String {
        let usual = [
            ("Architecture", "amd64".to_owned()),
            ("Filename", format!("pool/main/{name}_{version}.deb")),
            ("Size", "7".to_owned()),
            ("SHA256", DIGEST.to_owned()),
        ];
        let absent = |(field, _): &&(&str, String)| !fields.lines().any(|line| line.starts_with(&format!("{field}:")));
        let usual: String = usual.iter().filter(absent).map(|(field, value)| format!("{field}: {value}\n")).collect();
        format!("Package: {name}\nVersion: {version}\n{usual}{fields}\n\n")
    }

    fn load(text: &str) -> Index {
        Index::load(Index::build(text.as_bytes(), "amd64").unwrap()).unwrap()
    }

    fn versions<'a>(index: &'a Index, name: &str) -> Vec<&'a str> {
        index.versions_of(name).map(|place| index.stanza(place).unwrap().version).collect()
    }

    fn oldest<'a>(index: &'a Index, name: &str) -> Stanza<'a> {
        index.stanza(index.versions_of(name).last().unwrap()).unwrap()
    }

    #[test]
    fn fields_are_read_back() {
        let fields = "Architecture: all\nMulti-Arch: foreign\nEssential: yes\nProtected: yes\nPriority: required\n\
                      Source: src (1.0)\nSection: net\nInstalled-Size: 99\nPre-Depends: p\nDepends: d1,\n d2\n\
                      Recommends: r\nSuggests: s | t\nConflicts: c\nBreaks: b (<< 1)\nProvides: v (= 2)\nReplaces: b";
        let index = load(&stanza("x", "1.0-1", fields));
        let expected = Stanza {
            name: "x",
            version: "1.0-1",
            is_all: true,
            multi_arch: MultiArch::Foreign,
            is_essential: true,
            is_important: true,
            priority: Priority::Required,
            sha256: DIGEST.parse().unwrap(),
            size_bytes: 7,
            installed_size_kib: 99,
            source: "src (1.0)",
            section: "net",
            mention: 0,
            filename: "pool/main/x_1.0-1.deb",
            pre_depends: "p",
            depends: "d1,\n d2",
            recommends: "r",
            suggests: "s | t",
            conflicts: "c",
            breaks: "b (<< 1)",
            provides: "v (= 2)",
            replaces: "b",
        };
        assert_eq!(index.stanza(0), Some(expected));
        assert_eq!(index.stanza(1), None);
        assert_eq!(index.architecture(), "amd64");
        assert_eq!(index.essential().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn source_package() {
        let check = |field: &str, name: &str, version: &str| {
            let index = load(&stanza("x", "2-1+b1", field));
            let stanza = index.stanza(0).unwrap();
            assert_eq!((stanza.source_name(), stanza.source_version()), (name, version));
        };
        check("Section: net", "x", "2-1+b1");
        check("Source: y", "y", "2-1+b1");
        check("Source: y (2-1)", "y", "2-1");
    }

    #[test]
    fn versions_come_newest_first() {
        let text: String = [("b", "1"), ("a", "1.0"), ("a", "1.10"), ("a", "1.9"), ("c", "1"), ("a", "1.0~rc1")]
            .iter()
            .map(|(name, version)| stanza(name, version, ""))
            .collect();
        let index = load(&text);
        assert_eq!(versions(&index, "a"), ["1.10", "1.9", "1.0", "1.0~rc1"]);
        assert_eq!(versions(&index, "b"), ["1"]);
        assert_eq!(versions(&index, "aa"), [""; 0]);
        assert_eq!(index.names().collect::<Vec<_>>(), ["a", "a", "a", "a", "b", "c"]);
    }

    #[test]
    fn same_version_twice_counts_once() {
        let index = load(&(stanza("a", "1", "Section: first") + &stanza("a", "1", "Section: second")));
        assert_eq!(index.len(), 1);
        assert_eq!(index.stanza(0).unwrap().section, "first");
    }

    #[test]
    fn providers() {
        let text = stanza("b", "1", "Provides: v, w (= 3)")
            + &stanza("a", "1", "Provides: v (= 2), v (>> 1), v:any\nDepends: z");
        let index = load(&text);
        let providers = |name: &str| {
            let shown = |provider: Provider<'_>| {
                format!("{}{:?}", index.stanza(provider.place).unwrap().name, provider.version)
            };
            index.providers_of(name).map(shown).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(providers("v"), "aSome(\"2\") bNone");
        assert_eq!(providers("w"), "bSome(\"3\")");
        assert_eq!(providers("z"), "");
        assert_eq!(index.provided_names().collect::<Vec<_>>(), ["v", "v", "w"]);
    }

    #[test]
    fn names_are_numbered_as_they_are_first_mentioned() {
        let index = load(
            &(stanza("b", "1", "Suggests: c\nDepends: d:any")
                + &stanza("a", "1", "")
                + &stanza("c", "1", "")
                + &stanza("d", "1", "")),
        );
        let mentions: Vec<_> =
            (0..4).map(|place| index.stanza(place).unwrap()).map(|stanza| (stanza.name, stanza.mention)).collect();
        assert_eq!(mentions, [("a", 2), ("b", 0), ("c", 1), ("d", 3)]);
    }

    #[test]
    fn part_of_an_index_is_an_index() {
        let text = stanza("d", "1", "Depends: c\nProvides: v")
            + &stanza("b", "1", "Essential: yes\nProvides: v (= 2)")
            + &stanza("b", "2", "")
            + &stanza("c", "1", "Architecture: all\nEssential: yes");
        let whole = load(&text);
        let part = whole.only(|stanza| stanza.name != "d" && stanza.version == "1").unwrap();
        assert_eq!(part.architecture(), "amd64");
        assert_eq!(part.names().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(versions(&part, "b"), ["1"]);
        assert_eq!(versions(&part, "d"), [""; 0]);
        // As they are in the whole, with the number of the mention, though `d`, which mentions `c`, is gone.
        assert_eq!(oldest(&part, "b"), Stanza { mention: 3, ..oldest(&whole, "b") });
        assert_eq!((oldest(&part, "c"), oldest(&part, "c").mention), (oldest(&whole, "c"), 1));
        assert_eq!(part.providers_of("v").collect::<Vec<_>>(), [Provider { place: 0, version: Some("2") }]);
        assert_eq!(part.provided_names().collect::<Vec<_>>(), ["v"]);
        assert_eq!(part.essential().collect::<Vec<_>>(), [0, 1]);
        assert!(whole.only(|_| false).unwrap().is_empty());
    }

    #[test]
    fn whole_of_an_index_is_the_index() {
        let whole = Index::load(blob()).unwrap();
        let all = whole.only(|_| true).unwrap();
        let shown =
            |index: &Index| (0..index.len()).map(|place| format!("{:?}", index.stanza(place))).collect::<Vec<_>>();
        assert_eq!(shown(&all), shown(&whole));
        assert!(all.essential().eq(whole.essential()) && all.provided_names().eq(whole.provided_names()));
        assert!(all.providers_of("w").eq(whole.providers_of("w")));
    }

    #[test]
    fn other_architectures_are_left_out_unread() {
        let index = load(&(stanza("a", "1", "Architecture: arm64\nSize: x") + &stanza("b", "1", "Architecture: all")));
        assert_eq!(index.names().collect::<Vec<_>>(), ["b"]);
    }

    /// The error, and its cause where it has one.
    #[track_caller]
    fn fail(text: &str, expected: &str) {
        use std::error::Error as _;
        let error = Index::build(text.as_bytes(), "amd64").unwrap_err();
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        assert_eq!(format!("{error}{cause}"), expected);
    }

    #[test]
    fn errors_name_line_and_package() {
        let good = stanza("a", "1", "");
        fail(&(good + "Package: b\nArchitecture: all\n"), "line 9: package `b` has no field `Version`");
        fail("Version: 1\n", "line 1: package `` has no field `Package`");
        fail("Package: a/b\n", "line 1: package ``: field `Package` is `a/b`, expected letters, digits and `-+._`");
        fail(
            &stanza("a", "1:", ""),
            "line 1: package `a`: `1:` is not a Debian version number: nothing stands before the revision",
        );
        fail(&stanza("a", "1", "Size: -1"), "line 1: package `a`: field `Size` is `-1`, expected a number of bytes");
        fail(
            &stanza("a", "1", "SHA256: 12"),
            "line 1: package `a`: field `SHA256` is `12`, expected 64 hexadecimal digits",
        );
        fail(
            &stanza("a", "1", "Installed-Size: x"),
            "line 1: package `a`: field `Installed-Size` is `x`, expected a number of KiB",
        );
        fail(
            &stanza("a", "1", "Depends: b (= 1"),
            "line 1: package `a`: parse field `Depends`: `b (= 1`: expected `(operator version)` after the name",
        );
        fail("Package: a\nnonsense\n", "parse index: line 2: expected `Name: value`, found `nonsense`");
    }

    #[test]
    fn paths_stay_below_the_root() {
        for path in ["/etc/passwd", "pool/../../x", "..", "./x", "pool//x", "pool/x/", "pool\\x", "pool/\u{7}x"] {
            let expected = "a plain path below the repository's root";
            fail(
                &stanza("a", "1", &format!("Filename: {path}")),
                &format!("line 1: package `a`: field `Filename` is `{path}`, expected {expected}"),
            );
        }
        assert!(Index::build(stanza("a", "1", "Filename: pool/a%3a1~b+c_1.deb").as_bytes(), "amd64").is_ok());
    }

    #[test]
    fn failing_reader_is_an_error() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        assert!(matches!(Index::build(Failing, "amd64"), Err(IndexError::Read { .. })));
    }

    fn blob() -> Vec<u8> {
        let text = stanza("b", "1", "Provides: v, w (= 3)\nEssential: yes") + &stanza("a", "1", "Depends: v");
        Index::build(text.as_bytes(), "amd64").unwrap()
    }

    #[test]
    fn other_formats_are_refused() {
        for bytes in [Vec::new(), b"KILNIDX0".to_vec(), MAGIC.to_vec(), [MAGIC, &[0; 40][..]].concat()] {
            assert!(matches!(Index::load(bytes), Err(IndexError::Damaged { .. })));
        }
        let blob = blob();
        for length in 0..blob.len() {
            assert!(Index::load(blob[..length].to_vec()).is_err(), "the first {length} bytes");
        }
    }

    #[test]
    fn empty_index_is_an_index() {
        let index = load("");
        assert!(index.is_empty());
        assert_eq!(versions(&index, "a"), [""; 0]);
    }

    proptest! {
        #[test]
        fn damaged_blobs_are_refused_or_read(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let mut bytes = blob();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(index) = Index::load(bytes) {
                for place in 0..index.len() {
                    prop_assert!(index.stanza(place).is_some());
                }
                for name in ["a", "b", "v", "w"] {
                    index.versions_of(name).for_each(|place| assert!(index.stanza(place).is_some()));
                    index.providers_of(name).for_each(|provider| assert!(index.stanza(provider.place).is_some()));
                }
                prop_assert!(index.essential().all(|place| index.stanza(place).is_some()));
                prop_assert!(index.names().count() + index.provided_names().count() < 10);
            }
        }

        #[test]
        fn order_of_stanzas_is_of_no_account_but_for_mentions(names in prop::collection::btree_set("[a-c]{1,2}", 1..6), turn in any::<prop::sample::Index>()) {
            let mut stanzas: Vec<String> = names.iter().map(|name| stanza(name, "1", "Provides: v")).collect();
            let one = load(&stanzas.concat());
            let turn = turn.index(stanzas.len());
            stanzas.rotate_left(turn);
            let other = load(&stanzas.concat());
            let shown = |index: &Index| (0..index.len()).map(|place| Stanza { mention: 0, ..index.stanza(place).unwrap() }).map(|stanza| format!("{stanza:?}")).collect::<Vec<_>>();
            prop_assert_eq!(shown(&one), shown(&other));
            prop_assert!(one.providers_of("v").eq(other.providers_of("v")));
        }

        #[test]
        fn numbers_are_read_back(number in any::<u64>()) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            prop_assert_eq!(take_number(&mut &bytes[..]), Some(number));
        }
    }
}
