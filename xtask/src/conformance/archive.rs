//! One suite as both sides see it: the same bytes.

use std::collections::BTreeSet;

use anyhow::Context as _;
use kiln_debian::index::Index;
use kiln_debian::universe::{PackageId, Source, Universe};
use kiln_model::digest::Hasher;
use kiln_model::lock::{Lock, LockedIndex, SECURITY};

use super::report::{IndexUsed, SuiteUsed};
use crate::oracle::{Apt, List, Package, Tree, Workshop};
use crate::parallel;

/// A suite with its updates and security.
pub(super) struct Archive {
    pub(super) suite: String,
    pub(super) universe: Universe,
    /// The indexes as the archive wrote them, in the order of the universe's sources.
    pub(super) texts: Vec<String>,
    indexes: Vec<LockedIndex>,
    /// Every name that can be asked for, in order.
    pub(super) names: Vec<String>,
    /// Every name that packages provide and none has.
    pub(super) provided_names: Vec<String>,
}

/// apt's usual priority.
const PRIORITY: i32 = 500;

impl Archive {
    pub(super) fn load(workshop: &Workshop, lock: &Lock, suite: &str) -> anyhow::Result<Self> {
        let distribution = lock.distributions.get(suite).with_context(|| format!("find {suite} in the lock"))?;
        let architecture = &distribution.architecture;
        let indexes = distribution.indexes.clone();
        let texts = parallel::map(&indexes, |index| {
            let text = workshop.packages(index)?;
            String::from_utf8(text).with_context(|| format!("read the index {}", index.name()))
        });
        let texts = texts.into_iter().collect::<anyhow::Result<Vec<String>>>()?;
        let parsed =
            parallel::map(&texts, |text| anyhow::Ok(Index::load(Index::build(text.as_bytes(), architecture)?)?));
        let parsed = parsed.into_iter().collect::<anyhow::Result<Vec<Index>>>()?;
        let names: BTreeSet<String> = parsed.iter().flat_map(Index::names).map(str::to_owned).collect();
        let provided: BTreeSet<String> = parsed.iter().flat_map(Index::provided_names).map(str::to_owned).collect();
        let sources =
            indexes.iter().zip(parsed).map(|(locked, index)| Source { name: locked.name(), index, priority: PRIORITY });
        Ok(Self {
            suite: suite.to_owned(),
            universe: Universe::new(architecture, sources.collect(), Vec::new())?,
            texts,
            indexes,
            provided_names: provided.difference(&names).cloned().collect(),
            names: names.into_iter().collect(),
        })
    }

    /// The suite's apt on a root with these very indexes.
    pub(super) fn apt(&self, workshop: &Workshop, tree: Tree) -> anyhow::Result<Apt> {
        let mut hasher = Hasher::new();
        self.indexes.iter().for_each(|index| hasher.update(index.release.as_bytes()));
        let root = workshop.current(&format!("root-{}", self.suite), &hasher.finish().to_string())?;
        let lists = self.indexes.iter().zip(&self.texts).map(|(index, text)| {
            Ok(List {
                mirror: mirror(index),
                suite: &index.suite,
                component: &index.component,
                content: Some((workshop.release(index)?, text)),
            })
        });
        let lists = lists.collect::<anyhow::Result<Vec<List<'_>>>>()?;
        let apt = Apt::new(tree, &root, self.universe.architecture(), &lists)?;
        // Before several ask at once, one has to fill apt's cache.
        apt.select(&[], false)?;
        Ok(apt)
    }

    /// Every version of every package.
    pub(super) fn versions(&self) -> impl Iterator<Item = String> {
        let packages = self.names.iter().flat_map(|name| self.universe.versions(name));
        packages.map(|package| self.universe.stanza(package).version.to_owned())
    }

    /// What apt may choose: the candidate of every name.
    pub(super) fn candidates(&self) -> Vec<Package> {
        self.candidates_of(self.names.iter().map(String::as_str))
    }

    /// The candidates of these names and of the essential packages.
    pub(super) fn with_essential(&self, names: &[String]) -> Vec<Package> {
        self.candidates_of(self.universe.essential_names().into_iter().chain(names.iter().map(String::as_str)))
    }

    fn candidates_of<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<Package> {
        let candidates = names.filter_map(|name| self.universe.candidate(name));
        candidates.map(|package| self.package(package)).collect()
    }

    pub(super) fn package(&self, package: PackageId) -> Package {
        let stanza = self.universe.stanza(package);
        Package { name: stanza.name.to_owned(), version: stanza.version.to_owned() }
    }

    /// For the report.
    pub(super) fn describe(&self, apt: &Apt) -> SuiteUsed {
        let index =
            |index: &LockedIndex| IndexUsed { name: index.name(), date: index.date, sha256: index.sha256.to_string() };
        SuiteUsed {
            suite: self.suite.clone(),
            apt_version: apt.version.clone(),
            packages: self.names.len(),
            indexes: self.indexes.iter().map(index).collect(),
        }
    }
}

/// apt needs addresses to tell its files apart; nothing is asked of them.
fn mirror(index: &LockedIndex) -> &'static str {
    if index.repository == SECURITY { "http://mirror.example/debian-security" } else { "http://mirror.example/debian" }
}
