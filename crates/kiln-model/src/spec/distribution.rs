//! `[factory]`, `[distribution.NAME]`, `[toolbox]`: whose factory it is, and where packages come from.

use std::fmt;
use std::str::FromStr;

use super::decode::{Entry, Scope, Table};
use super::format::{COMPONENT, MIRROR, NAME, Refusal, SNAPSHOT, SUITE, Uri, timestamp};
use super::name::Name;
use super::path::{FactoryPath, Wanted};
use super::place::Place;
use super::reference::Reference;
use super::shape::{Kind, PLAIN, Shape, optional, required};

/// The factory itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factory {
    /// Its name: state on a host is kept under it.
    pub name: Name,
}

/// A Debian-like distribution: a suite, its mirrors, and further repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The factory's word for it.
    pub name: Name,
    /// Whose conventions it follows.
    pub family: Family,
    /// `trixie`, `noble`.
    pub suite: String,
    /// `main` and so on, each once, as written.
    pub components: Vec<String>,
    /// Whether `SUITE-updates` belongs to it.
    pub updates: bool,
    /// Whether `SUITE-security` belongs to it.
    pub security: bool,
    /// The machines it is for; the caller's choice if nothing is said.
    pub architecture: Option<Architecture>,
    /// Where suite and updates come from; the host's mirror if nothing is said.
    pub mirror: Option<Uri>,
    /// Where security updates come from; decided as for `mirror`.
    pub security_mirror: Option<Uri>,
    /// Keys that may sign its indexes; the family's archive keys if nothing is said.
    pub keyring: Option<FactoryPath>,
    /// The moment whose archive is meant, for mirrors that keep the past.
    pub snapshot: Option<jiff::Timestamp>,
    /// Further repositories, as written.
    pub repositories: Vec<Repository>,
    /// Its heading.
    pub place: Place,
}

/// A signed repository besides the distribution's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The factory's word for it.
    pub name: Name,
    /// Where it is.
    pub uri: Uri,
    /// Its suite.
    pub suite: String,
    /// Its components.
    pub components: Vec<String>,
    /// The keys that may sign it.
    pub keyring: FactoryPath,
    /// apt's pin priority, if it is said; the distribution itself has 500.
    pub priority: Option<u16>,
    /// Its heading.
    pub place: Place,
}

/// Where Kiln's own tools come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolbox {
    /// The distribution whose packages they are.
    pub distribution: Reference,
}

/// Whose conventions a distribution follows: archive keys, Origin, names of security suites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Debian.
    Debian,
    /// Ubuntu.
    Ubuntu,
}

/// A machine architecture, in Debian's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// 64-bit x86.
    Amd64,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit ARM with hardware floating point.
    Armhf,
    /// 32-bit x86.
    I386,
    /// 64-bit LoongArch.
    Loong64,
    /// 64-bit little-endian PowerPC.
    Ppc64el,
    /// 64-bit RISC-V.
    Riscv64,
    /// IBM Z.
    S390x,
}

/// How the lock calls the distribution of Kiln's own tools, before the host's architecture.
const TOOLBOX_PREFIX: &str = "toolbox-";

/// How the lock calls a distribution's own repositories.
const OWN_REPOSITORIES: [&str; 2] = [crate::lock::ARCHIVE, crate::lock::SECURITY];

const KEYRING_FILE: Wanted = Wanted { file: true, directory: false, pattern: false };
const COMPONENTS: Kind = Kind::List { of: &Kind::Text(&COMPONENT), minimum: 1 };

pub(crate) const FACTORY: Shape = Shape {
    name: "factory",
    doc: "The factory itself.",
    keys: &[required("name", Kind::Text(&NAME), "Name of the factory: a host keeps its state under this name.")],
    ..PLAIN
};

pub(crate) const TOOLBOX: Shape = Shape {
    name: "toolbox",
    doc: "Where Kiln's own tools (QEMU, HAProxy...) come from; they are never part of an image.",
    keys: &[required("distribution", Kind::Text(&NAME), "The [distribution.NAME] whose packages the tools are.")],
    ..PLAIN
};

pub(crate) const DISTRIBUTION: Shape = Shape {
    name: "distribution",
    doc: "A Debian-like distribution: a suite, its mirrors, and further repositories.",
    keys: &[
        required("family", Kind::Choice(Family::WORDS), "Whose conventions it follows."),
        required("suite", Kind::Text(&SUITE), "The suite, with its -updates and -security unless told otherwise."),
        optional("components", COMPONENTS, "The suite's components. Default: [\"main\"]."),
        optional("updates", Kind::Boolean, "Whether SUITE-updates belongs to it. Default: true."),
        optional("security", Kind::Boolean, "Whether SUITE-security belongs to it. Default: true."),
        optional("architecture", Kind::Choice(Architecture::WORDS), "The machines it is for. Default: the host's."),
        optional("mirror", Kind::Text(&MIRROR), "Where packages come from. Default: what the host's apt uses."),
        optional("security_mirror", Kind::Text(&MIRROR), "Where security updates come from. Default: as for `mirror`."),
        optional(
            "keyring",
            Kind::Source(KEYRING_FILE),
            "File of the keys that may sign. Default: the family's archive keys.",
        ),
        optional(
            "snapshot",
            Kind::Text(&SNAPSHOT),
            "The moment whose archive is meant, for mirrors that keep the past.",
        ),
        optional("repository", Kind::Tables(&REPOSITORY), "Further signed repositories."),
    ],
    ..PLAIN
};

pub(crate) const REPOSITORY: Shape = Shape {
    name: "repository",
    doc: "A signed repository besides the distribution's own.",
    keys: &[
        required("name", Kind::Text(&NAME), "Name of the repository, as the lock will call it."),
        required("uri", Kind::Text(&MIRROR), "Where it is: what comes before /dists."),
        required("suite", Kind::Text(&SUITE), "Its suite."),
        optional("components", COMPONENTS, "Its components. Default: [\"main\"]."),
        required("keyring", Kind::Source(KEYRING_FILE), "File of the keys that may sign it."),
        optional(
            "priority",
            Kind::Integer { minimum: 1, maximum: 1000 },
            "Preference among repositories, as in apt: the distribution itself has 500. Default: as apt's: 500, or 1 or 100 for backports and their like.",
        ),
    ],
    ..PLAIN
};

impl Family {
    const WORDS: &[&str] = &["debian", "ubuntu"];

    /// As the spec writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Ubuntu => "ubuntu",
        }
    }
}

impl Architecture {
    const ALL: [Self; 8] =
        [Self::Amd64, Self::Arm64, Self::Armhf, Self::I386, Self::Loong64, Self::Ppc64el, Self::Riscv64, Self::S390x];
    const WORDS: &[&str] = &["amd64", "arm64", "armhf", "i386", "loong64", "ppc64el", "riscv64", "s390x"];

    /// As Debian writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

/// The text is not one of the words for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not one of {words}")]
pub struct WordError {
    text: String,
    words: String,
}

impl WordError {
    pub(crate) fn new(text: &str, words: &[&str]) -> Self {
        Self { text: text.to_owned(), words: words.join(", ") }
    }
}

impl FromStr for Family {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let known = [Self::Debian, Self::Ubuntu].into_iter().find(|family| family.as_str() == text);
        known.ok_or_else(|| WordError::new(text, Self::WORDS))
    }
}

impl FromStr for Architecture {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let known = Self::ALL.into_iter().find(|architecture| architecture.as_str() == text);
        known.ok_or_else(|| WordError::new(text, Self::WORDS))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Factory {
    pub(crate) fn read(root: &Table<'_>) -> Option<Self> {
        Some(Self { name: root.table("factory", &FACTORY, "[factory]")?.parsed("name")? })
    }
}

impl Toolbox {
    pub(crate) fn read(root: &Table<'_>) -> Option<Self> {
        Some(Self { distribution: root.table("toolbox", &TOOLBOX, "[toolbox]")?.reference("distribution")? })
    }
}

impl Distribution {
    pub(crate) fn read(entry: &Entry<'_>) -> Option<Self> {
        let table = Table::open(entry.value, &DISTRIBUTION, &format!("[distribution.{}]", entry.name))?;
        if entry.name.starts_with(TOOLBOX_PREFIX) {
            let refusal = Refusal::new(format!("a distribution cannot be called `{}`", entry.name));
            let refusal = refusal.hint("the lock calls the distributions of Kiln's own tools so; choose another name");
            entry.value.context.add(Scope::Elsewhere, &entry.place(), refusal);
        }
        let heading = format!("[[distribution.{}.repository]]", entry.name);
        let tables = table.tables("repository").into_iter();
        let repositories: Vec<_> =
            tables.filter_map(|value| Repository::read(&Table::open(value, &REPOSITORY, &heading)?)).collect();
        check_names(&repositories, &table);
        Some(Self {
            name: entry.name.parse().ok()?,
            family: table.parsed("family")?,
            suite: table.text("suite")?,
            components: components(&table),
            updates: table.boolean("updates").unwrap_or(true),
            security: table.boolean("security").unwrap_or(true),
            architecture: table.parsed("architecture"),
            mirror: table.parsed("mirror"),
            security_mirror: table.parsed("security_mirror"),
            keyring: table.factory_path("keyring"),
            snapshot: table.text("snapshot").and_then(|text| timestamp(&text).ok()),
            repositories,
            place: entry.value.place(),
        })
    }
}

impl Repository {
    fn read(table: &Table<'_>) -> Option<Self> {
        Some(Self {
            name: table.parsed("name")?,
            uri: table.parsed("uri")?,
            suite: table.text("suite")?,
            components: components(table),
            keyring: table.factory_path("keyring")?,
            priority: table.integer("priority"),
            place: table.value.place(),
        })
    }
}

/// The lock knows repositories by their names.
fn check_names(repositories: &[Repository], distribution: &Table<'_>) {
    for repository in repositories.iter().filter(|repository| OWN_REPOSITORIES.contains(&repository.name.as_str())) {
        let refusal = Refusal::new(format!("a repository cannot be called `{}`", repository.name));
        let refusal = refusal.hint("the distribution's own repositories are called so in the lock");
        distribution.value.context.add(Scope::Elsewhere, &repository.place, refusal);
    }
    for (index, repository) in repositories.iter().enumerate() {
        if let Some(first) = repositories.iter().take(index).find(|earlier| earlier.name == repository.name) {
            let refusal = Refusal::new(format!("repository `{}` is defined twice", repository.name));
            let refusal = refusal.hint(format!("it is also at {}", first.place));
            distribution.value.context.add(Scope::Elsewhere, &repository.place, refusal);
        }
    }
}

fn components(table: &Table<'_>) -> Vec<String> {
    let mut components = table.texts("components").unwrap_or_else(|| vec!["main".to_owned()]);
    let mut seen = std::collections::BTreeSet::new();
    components.retain(|component| seen.insert(component.clone()));
    components
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_what_prints_it() {
        for word in Family::WORDS {
            assert_eq!(word.parse::<Family>().unwrap().to_string(), *word);
        }
        assert_eq!(Architecture::ALL.map(Architecture::as_str), Architecture::WORDS);
        for word in Architecture::WORDS {
            assert_eq!(word.parse::<Architecture>().unwrap().to_string(), *word);
        }
        assert_eq!("x86".parse::<Family>().unwrap_err().to_string(), "`x86` is not one of debian, ubuntu");
    }
}
