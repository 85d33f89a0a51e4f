//! mmdebstrap's side: a tree, what its own programs say of it, and the memory of both.

use std::collections::BTreeMap;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Hasher;
use kiln_model::lock::{Lock, LockedClass, LockedDistribution};
use serde::{Deserialize, Serialize};

use super::examine::{Answer, Unpacked};
use super::manifest::Manifest;
use super::sets::{Set, class};
use crate::oracle::{Format, Mmdebstrap, Order, Stanzas, Workshop};
use crate::say;

/// What mmdebstrap made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) manifest: Manifest,
    pub(super) answers: Vec<Answer>,
    took_ms: u64,
}

/// mmdebstrap and all it needs.
pub(super) struct Peer<'a> {
    workshop: &'a Workshop,
    lock: &'a Lock,
    pub(super) mmdebstrap: Mmdebstrap,
    /// Where trees are made.
    pub(super) directory: &'a Utf8Path,
    /// By distribution.
    stanzas: BTreeMap<&'a str, Stanzas>,
}

/// Raised when what is remembered, or how it is made, changes.
const REVISION: u32 = 1;

impl<'a> Peer<'a> {
    /// Reads the indexes of all distributions of a lock.
    pub(super) fn new(
        workshop: &'a Workshop,
        lock: &'a Lock,
        mmdebstrap: Mmdebstrap,
        directory: &'a Utf8Path,
    ) -> anyhow::Result<Self> {
        let used = lock.classes.values().map(|class| class.distribution.as_str());
        let used: BTreeMap<&str, &LockedDistribution> =
            used.filter_map(|name| Some((name, lock.distributions.get(name)?))).collect();
        let stanzas = used.into_iter().map(|(name, distribution)| Ok((name, Stanzas::load(workshop, distribution)?)));
        let stanzas = stanzas.collect::<anyhow::Result<_>>()?;
        Ok(Self { workshop, lock, mmdebstrap, directory, stanzas })
    }

    /// So many trees of one set, made one after the other.
    pub(super) fn references(&self, suite: &str, set: &Set, count: usize) -> anyhow::Result<Vec<Reference>> {
        (1..=count).map(|number| self.reference(suite, set, number)).collect()
    }

    fn reference(&self, suite: &str, set: &Set, number: usize) -> anyhow::Result<Reference> {
        let class_name = class(suite, set.name);
        let path = self.memory(&format!("{class_name}-{number}"), &self.digest(&class_name))?;
        if let Ok(text) = fs::read_to_string(&path)
            && let Ok(reference) = serde_json::from_str(&text)
        {
            return Ok(reference);
        }
        let reference = self.with_repository(&class_name, |repository| self.make(suite, set, repository))?;
        let aside = path.with_extension("new");
        fs::write(&aside, serde_json::to_string(&reference)?)?;
        fs::rename(&aside, &path)?;
        Ok(reference)
    }

    fn make(&self, suite: &str, set: &Set, repository: &Utf8Path) -> anyhow::Result<Reference> {
        let locked = self.locked(&class(suite, set.name))?;
        let out = self.directory.join("peer");
        fs::create_dir(&out)?;
        let order = Order {
            suite,
            architecture: &self.architecture(&locked.distribution)?,
            repository,
            include: set.packages.iter().map(|name| (*name).to_owned()).collect(),
            epoch: locked.epoch.as_second(),
            environment: &[],
            out: &out,
            format: Format::Tar,
        };
        let took = self.mmdebstrap.make(&order)?;
        let archive = out.join("tree.tar");
        let manifest = super::read(&archive)?;
        let unpacked = Unpacked::new(&archive, &self.directory.join("peer-tree"))?;
        let answers = unpacked.answers()?;
        unpacked.remove()?;
        fs::remove_dir_all(&out)?;
        say(&format!("  mmdebstrap took {:.1} s", took.as_secs_f64()));
        Ok(Reference { manifest, answers, took_ms: u64::try_from(took.as_millis())? })
    }

    /// Does something with a repository of a class's packages, and removes it.
    pub(super) fn with_repository<T>(
        &self,
        class: &str,
        work: impl FnOnce(&Utf8Path) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let locked = self.locked(class)?;
        let stanzas = self.stanzas.get(locked.distribution.as_str()).context("find the distribution")?;
        let directory = self.workshop.directory().join("repository");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        stanzas.write(self.workshop.store(), self.lock, class, &directory)?;
        let result = work(&directory);
        fs::remove_dir_all(&directory)?;
        result
    }

    fn locked(&self, class: &str) -> anyhow::Result<&LockedClass> {
        self.lock.classes.get(class).with_context(|| format!("find {class} in the lock"))
    }

    fn architecture(&self, distribution: &str) -> anyhow::Result<String> {
        let distribution = self.lock.distributions.get(distribution).context("find the distribution")?;
        Ok(distribution.architecture.clone())
    }

    /// Of all that decides what mmdebstrap makes.
    fn digest(&self, class: &str) -> String {
        let mut hasher = Hasher::new();
        hasher.update(format!("{REVISION} {} {:?}", self.mmdebstrap.version, super::examine::questions()).as_bytes());
        for package in self.lock.packages_of(class) {
            hasher.update(package.sha256.as_bytes());
        }
        hasher.finish().to_string()
    }

    /// The file that remembers what is called `name`; what is remembered of other packages is removed.
    fn memory(&self, name: &str, digest: &str) -> anyhow::Result<Utf8PathBuf> {
        let directory = self.workshop.directory().join("reference");
        fs::create_dir_all(&directory)?;
        let wanted = format!("{name}-{}.json", &digest[..16]);
        for entry in directory.read_dir_utf8()? {
            let entry = entry?;
            let is_other = entry.file_name().strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
            if is_other && entry.file_name() != wanted {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(directory.join(wanted))
    }
}
