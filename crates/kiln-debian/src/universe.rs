//! Everything that could be installed: the indexes of all suites and repositories as one, and the local packages.
//!
//! The rules of preference are apt's. Of a name, the *candidate* is the version from the source of the highest priority,
//! and among those the newest; a version that several sources have is taken from the first of them. A local package is
//! the only version of its name: it is there because somebody asked for that file. Sources with a negative priority
//! are never chosen from.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use kiln_model::diagnostic::nearest;
use kiln_model::digest::Sha256;

use crate::index::{File, Index, IndexError, MultiArch, Priority, Stanza};
use crate::relation::{Operator, Relation};
use crate::version;

/// How a local package's source is called.
const LOCAL: &str = "local file";

/// One `Packages` index and where it stands among the others.
#[derive(Debug)]
pub struct Source {
    /// As messages show it: `trixie-security/main`.
    pub name: String,
    /// Its packages.
    pub index: Index,
    /// apt's pin priority; 500 is the usual one.
    pub priority: i32,
}

/// A `.deb` that the user named by its file.
#[derive(Debug, Clone)]
pub struct LocalPackage {
    /// As the user wrote it: `./dist/shop-agent_1.2_amd64.deb`.
    pub file: String,
    /// The text of its control file.
    pub control: String,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Size of the file.
    pub size_bytes: u64,
}

/// One version of one package in a [`Universe`]; means nothing in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(u32);

/// All packages there are to choose from.
pub struct Universe {
    architecture: String,
    sources: Vec<Placed>,
    local_names: BTreeMap<String, PackageId>,
}

struct Placed {
    source: Source,
    /// Id of the index's first package; the others follow.
    first: u32,
}

/// The sources do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum UniverseError {
    /// An index of another architecture.
    #[error("{source_name} is an index for {actual}, not for {expected}")]
    Architecture {
        /// The source's name.
        source_name: String,
        /// The architecture wanted.
        expected: String,
        /// The one it has.
        actual: String,
    },
    /// A local package that cannot be used.
    #[error("read the control file of {file}")]
    Local {
        /// As the user wrote it.
        file: String,
        /// Why.
        #[source]
        source: IndexError,
    },
    /// A local file without a package in it.
    #[error("{file} has an empty control file")]
    LocalEmpty {
        /// As the user wrote it.
        file: String,
    },
    /// Two local files are the same package.
    #[error("{file} and {other} are both package `{package}`")]
    LocalTwice {
        /// As the user wrote it.
        file: String,
        /// The other.
        other: String,
        /// The name both have.
        package: String,
    },
    /// More packages than ids.
    #[error("the indexes hold more than 4 billion packages")]
    TooMany,
}

impl Universe {
    /// All packages of `sources`, in the order of trust where they have the same, and the files in `local`.
    ///
    /// # Errors
    /// When an index is of another architecture, or a local package cannot be used.
    pub fn new(architecture: &str, sources: Vec<Source>, local: Vec<LocalPackage>) -> Result<Self, UniverseError> {
        let mut universe =
            Self { architecture: architecture.to_owned(), sources: Vec::new(), local_names: BTreeMap::new() };
        for source in sources {
            universe.add(source)?;
        }
        for package in local {
            universe.add_local(package)?;
        }
        Ok(universe)
    }

    fn add(&mut self, source: Source) -> Result<u32, UniverseError> {
        if source.index.architecture() != self.architecture {
            let (expected, actual) = (self.architecture.clone(), source.index.architecture().to_owned());
            return Err(UniverseError::Architecture { source_name: source.name, expected, actual });
        }
        let first = self.sources.last().map_or(Some(0), |last| last.first.checked_add(last.source.index.len()));
        let first = first.filter(|first| first.checked_add(source.index.len()).is_some());
        let first = first.ok_or(UniverseError::TooMany)?;
        self.sources.push(Placed { source, first });
        Ok(first)
    }

    fn add_local(&mut self, package: LocalPackage) -> Result<(), UniverseError> {
        let file = File { name: &package.file, sha256: package.sha256, size_bytes: package.size_bytes };
        let index = Index::of_file(&package.control, &self.architecture, file)
            .map_err(|source| UniverseError::Local { file: package.file.clone(), source })?;
        let Some(name) = index.names().next().map(str::to_owned) else {
            return Err(UniverseError::LocalEmpty { file: package.file });
        };
        if let Some(&other) = self.local_names.get(&name) {
            let other = self.stanza(other).filename.to_owned();
            return Err(UniverseError::LocalTwice { file: package.file, other, package: name });
        }
        let first = self.add(Source { name: LOCAL.to_owned(), index, priority: i32::MAX })?;
        self.local_names.insert(name, PackageId(first));
        Ok(())
    }

    /// The architecture that packages are for.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// What the index says about a package.
    ///
    /// # Panics
    /// When the id is from another universe.
    #[must_use]
    pub fn stanza(&self, package: PackageId) -> Stanza<'_> {
        let placed = self.placed(package);
        placed.source.index.stanza(package.0 - placed.first).expect("ids are given out by this universe")
    }

    /// The name of a package.
    #[must_use]
    pub fn name(&self, package: PackageId) -> &str {
        self.stanza(package).name
    }

    /// Name and version of a package, as messages show them: `nginx 1.26.3-3`.
    pub fn display(&self, package: PackageId) -> impl fmt::Display {
        let stanza = self.stanza(package);
        fmt::from_fn(move |f| write!(f, "{} {}", stanza.name, stanza.version))
    }

    /// The name of the source that a package is from.
    #[must_use]
    pub fn source(&self, package: PackageId) -> &str {
        &self.placed(package).source.name
    }

    /// Whether a package is a local file, whose [`Stanza::filename`] is what the user calls it.
    #[must_use]
    pub fn is_local(&self, package: PackageId) -> bool {
        self.local_names.values().any(|&local| local == package)
    }

    /// Whether there are local files among the packages.
    #[must_use]
    pub fn has_local(&self) -> bool {
        !self.local_names.is_empty()
    }

    fn placed(&self, package: PackageId) -> &Placed {
        let behind = self.sources.partition_point(|placed| placed.first <= package.0);
        &self.sources[behind - 1]
    }

    /// The versions of `name` that may be chosen, the candidate first, then by apt's preference.
    #[must_use]
    pub fn versions(&self, name: &str) -> Vec<PackageId> {
        if let Some(&local) = self.local_names.get(name) {
            return vec![local];
        }
        let mut found: Vec<(i32, &str, PackageId)> = Vec::new();
        for Placed { source, first } in self.sources.iter().filter(|placed| placed.source.priority >= 0) {
            for place in source.index.versions_of(name) {
                let version = source.index.stanza(place).map_or("", |stanza| stanza.version);
                found.push((source.priority, version, PackageId(first + place)));
            }
        }
        found.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| version::compare(right.1, left.1)));
        let mut versions: Vec<(&str, PackageId)> = Vec::with_capacity(found.len());
        for (_, version, package) in found {
            if !versions.iter().any(|(known, _)| version::compare(known, version).is_eq()) {
                versions.push((version, package));
            }
        }
        versions.into_iter().map(|(_, package)| package).collect()
    }

    /// The version of `name` that apt would install.
    #[must_use]
    pub fn candidate(&self, name: &str) -> Option<PackageId> {
        self.versions(name).first().copied()
    }

    /// The package `name` in exactly `version`.
    #[must_use]
    pub fn find(&self, name: &str, version: &str) -> Option<PackageId> {
        self.versions(name).into_iter().find(|&package| self.stanza(package).version == version)
    }

    /// All packages that provide `name`, other than by being called so, and in which version they do.
    pub fn providers(&self, name: &str) -> impl Iterator<Item = (PackageId, Option<&str>)> {
        self.sources.iter().flat_map(move |Placed { source, first }| {
            source.index.providers_of(name).map(move |provider| (PackageId(first + provider.place), provider.version))
        })
    }

    /// The names of all packages that are `Essential: yes` in some version, and of apt, which takes itself for one.
    #[must_use]
    pub fn essential_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec!["apt"];
        for Placed { source, .. } in &self.sources {
            let stanzas = source.index.essential().filter_map(|place| source.index.stanza(place));
            names.extend(stanzas.map(|stanza| stanza.name));
        }
        names.retain(|name| self.candidate(name).is_some());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The candidates that satisfy a dependency, in apt's order of preference.
    #[must_use]
    pub fn targets<'u>(&'u self, relation: &Relation<'u>) -> Vec<PackageId> {
        self.targets_among(relation, &Candidates(self))
    }

    /// The packages among those `offered` for their name that satisfy a dependency, in order of preference.
    pub(crate) fn targets_among<'u>(
        &'u self,
        relation: &Relation<'u>,
        preference: &impl Preference<'u>,
    ) -> Vec<PackageId> {
        if !self.is_for_us(relation) {
            return Vec::new();
        }
        let real = preference.offered(relation.name);
        let mut targets: Vec<PackageId> =
            real.iter().copied().filter(|&package| self.satisfies_by_name(relation, package)).collect();
        if relation.qualifier != Some("any") {
            targets.extend(self.providers_among(relation, preference));
        }
        targets
    }

    /// Providers of what `relation` names, the best first.
    fn providers_among<'u>(&'u self, relation: &Relation<'u>, preference: &impl Preference<'u>) -> Vec<PackageId> {
        let mut found: Vec<(Rank, PackageId)> = Vec::new();
        for (package, provided_version) in self.providers(relation.name) {
            let stanza = self.stanza(package);
            if stanza.name == relation.name || !relation.accepts_provided(provided_version) {
                continue;
            }
            if let Some(position) = preference.offered(stanza.name).iter().position(|&other| other == package) {
                found.push((self.rank(&stanza, position, preference), package));
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|(_, package)| package).collect()
    }

    fn rank<'u>(&self, stanza: &Stanza<'u>, position: usize, preference: &impl Preference<'u>) -> Rank {
        Rank {
            essential: Reverse(is_essential(stanza)),
            important: Reverse(stanza.is_important || stanza.name == "apt"),
            priority: stanza.priority,
            kept: Reverse(preference.keeps(stanza.name)),
            mention: Reverse(self.mention(stanza.name)),
            position,
        }
    }

    /// When the sources, one after the other, first mention a package.
    fn mention(&self, name: &str) -> (usize, u32) {
        let found = self.sources.iter().enumerate().find_map(|(number, placed)| {
            let place = placed.source.index.versions_of(name).next()?;
            Some((number, placed.source.index.stanza(place)?.mention))
        });
        found.unwrap_or_default()
    }

    /// Whether a package satisfies a dependency.
    #[must_use]
    pub fn satisfies(&self, relation: &Relation<'_>, package: PackageId) -> bool {
        self.is_for_us(relation)
            && (self.satisfies_by_name(relation, package)
                || relation.qualifier != Some("any") && self.provides(relation, package))
    }

    /// Whether a conflict or break names a package, be it another version of the one that declares it.
    #[must_use]
    pub fn matches(&self, relation: &Relation<'_>, package: PackageId) -> bool {
        let stanza = self.stanza(package);
        self.is_for_us(relation)
            && (stanza.name == relation.name && relation.accepts(stanza.version) || self.provides(relation, package))
    }

    fn satisfies_by_name(&self, relation: &Relation<'_>, package: PackageId) -> bool {
        let stanza = self.stanza(package);
        let any = relation.qualifier == Some("any");
        stanza.name == relation.name
            && relation.accepts(stanza.version)
            && (!any || stanza.multi_arch == MultiArch::Allowed)
    }

    fn provides(&self, relation: &Relation<'_>, package: PackageId) -> bool {
        let mut provided = self.stanza(package).provided();
        provided.any(|(name, version)| name == relation.name && relation.accepts_provided(version))
    }

    /// Whether the relation can mean packages of this architecture.
    pub(crate) fn is_for_us(&self, relation: &Relation<'_>) -> bool {
        relation
            .qualifier
            .is_none_or(|qualifier| matches!(qualifier, "any" | "native") || qualifier == self.architecture)
    }

    /// The known name that a person most likely meant by `name`.
    #[must_use]
    pub fn nearest_name(&self, name: &str) -> Option<&str> {
        let similar = |other: &&str| other.len().abs_diff(name.len()) <= 1 + name.len() / 3 && shares_end(other, name);
        let names = self.sources.iter().flat_map(|placed| placed.source.index.names());
        nearest(name, names.filter(similar))
    }

    /// The versions of `name` and where they are, as a message lists them: `1.26.3-3 (trixie/main)`.
    #[must_use]
    pub fn listed_versions(&self, name: &str) -> Vec<String> {
        let show = |package| format!("{} ({})", self.stanza(package).version, self.source(package));
        self.versions(name).into_iter().map(show).collect()
    }
}

/// People seldom mistype both ends of a word; the full comparison of 70,000 names would take a tenth of a second.
fn shares_end(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    left.first() == right.first() || left.last_chunk::<2>() == right.last_chunk::<2>()
}

/// Who is preferred among the providers of a name: the smallest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    essential: Reverse<bool>,
    important: Reverse<bool>,
    priority: Priority,
    /// Locked; so that a choice between equals, once made, stays.
    kept: Reverse<bool>,
    mention: Reverse<(usize, u32)>,
    /// Among the versions of one name.
    position: usize,
}

/// What may be chosen for a name, and what is preferred among equals.
pub(crate) trait Preference<'u> {
    /// The versions of a name, the best first.
    fn offered(&self, name: &'u str) -> Rc<[PackageId]>;
    /// Whether the name was chosen before.
    fn keeps(&self, name: &str) -> bool;
}

/// apt's candidates, nothing else known.
struct Candidates<'u>(&'u Universe);

impl<'u> Preference<'u> for Candidates<'u> {
    fn offered(&self, name: &'u str) -> Rc<[PackageId]> {
        self.0.candidate(name).into_iter().collect()
    }

    fn keeps(&self, _: &str) -> bool {
        false
    }
}

/// What apt takes for essential: also itself.
pub(crate) fn is_essential(stanza: &Stanza<'_>) -> bool {
    stanza.is_essential || stanza.name == "apt"
}

/// Whether `version` fits what is asked of it, if anything is.
pub(crate) fn fits(constraint: Option<&(Operator, String)>, version: &str) -> bool {
    constraint.is_none_or(|(operator, wanted)| operator.accepts(version::compare(version, wanted)))
}

impl fmt::Debug for Universe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources.iter().map(|placed| (&placed.source.name, placed.source.index.len()));
        f.debug_struct("Universe")
            .field("architecture", &self.architecture)
            .field("sources", &sources.collect::<Vec<_>>())
            .finish()
    }
}
