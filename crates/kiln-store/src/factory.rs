//! Which factories use the store, and what each of their classes was last built from.
//!
//! ```text
//! factory/KEY/directory         the factory's directory, sealed; KEY is the digest of its path
//! factory/KEY/build-CLASS       the last [`Build`] of a class, sealed; CLASS is the digest of its name
//! ```
//!
//! Garbage collection keeps what a known factory refers to. None of this is flushed: what a crash tears is noticed, and
//! written anew by the next build.

use std::io::{self, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use kiln_model::digest::Sha256;
use serde::{Deserialize, Serialize};

use crate::aside;
use crate::layer::{names_in, read_sealed, sealed};
use crate::store::{Store, StoreError};

const DIRECTORY: &str = "directory";
const BUILD: &str = "build-";

/// What a class was last built from: as far as that build came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The class.
    pub class: String,
    /// When.
    pub at: Timestamp,
    /// Its stages in the order of the tree, from bottom to top.
    pub stages: Vec<BuiltStage>,
    /// Digest of the finished tree; none if the build did not come to its end.
    pub tree: Option<Sha256>,
}

/// One stage of a build, with the layer that it became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltStage {
    /// What it is to the user.
    pub label: String,
    /// The class that brings it: this one, or an ancestor.
    pub class: String,
    /// The key of the stage.
    pub base_key: Sha256,
    /// The layer's name.
    pub layer: Sha256,
    /// The layer that held its tools.
    pub tools: Option<Sha256>,
    /// What it read, by name and value.
    pub inputs: Vec<(String, String)>,
}

/// A factory that uses the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFactory {
    /// Its directory, absolute and without links.
    pub directory: Utf8PathBuf,
    /// The last build of each class, by name.
    pub builds: Vec<Build>,
}

impl Build {
    /// The names of the layers that the tree is made of, from bottom to top.
    pub fn layers(&self) -> impl Iterator<Item = &Sha256> {
        self.stages.iter().map(|stage| &stage.layer)
    }

    /// The same, and the layers that held tools.
    pub fn layers_and_tools(&self) -> impl Iterator<Item = &Sha256> {
        self.stages.iter().flat_map(|stage| std::iter::once(&stage.layer).chain(&stage.tools))
    }
}

impl Store {
    /// Notes that the factory in `directory`, absolute and without links, uses the store. To be done before anything that
    /// it alone refers to is put there.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn note_factory(&self, directory: &Utf8Path) -> Result<(), StoreError> {
        let path = self.factory_directory(directory).join(DIRECTORY);
        self.keep_sealed(&path, &directory).map_err(|source| self.error(source))
    }

    /// Every factory that was noted, by directory.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn factories(&self) -> Result<Vec<KnownFactory>, StoreError> {
        let list = || {
            let directory = self.directory("factory");
            let factories = names_in(&directory)?.into_iter().map(|key| read_factory(&directory.join(key.to_string())));
            let factories = factories.collect::<io::Result<Vec<_>>>()?;
            let mut factories: Vec<KnownFactory> = factories.into_iter().flatten().collect();
            factories.sort_by(|left, right| left.directory.cmp(&right.directory));
            Ok(factories)
        };
        list().map_err(|source| self.error(source))
    }

    /// Forgets a factory and its builds.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn forget_factory(&self, directory: &Utf8Path) -> Result<(), StoreError> {
        // Torn at any point it is a factory without builds, or none.
        match fs::remove_dir_all(self.factory_directory(directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    /// Keeps the last build of a class; the factory is noted too.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn keep_build(&self, factory: &Utf8Path, build: &Build) -> Result<(), StoreError> {
        self.note_factory(factory)?;
        let path = self.build_path(factory, &build.class);
        // When it was built last is not worth a write when nothing else is new.
        let last = read_sealed::<Build>(&path).map_err(|source| self.error(source))?;
        if last.is_some_and(|last| Build { at: build.at, ..last } == *build) {
            return Ok(());
        }
        self.keep_sealed(&path, build).map_err(|source| self.error(source))
    }

    /// The last build of a class, if there was one.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn last_build(&self, factory: &Utf8Path, class: &str) -> Result<Option<Build>, StoreError> {
        read_sealed(&self.build_path(factory, class)).map_err(|source| self.error(source))
    }

    /// Forgets the last build of a class.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn forget_build(&self, factory: &Utf8Path, class: &str) -> Result<(), StoreError> {
        aside::remove_if_there(self.build_path(factory, class)).map_err(|source| self.error(source))
    }

    fn factory_directory(&self, factory: &Utf8Path) -> Utf8PathBuf {
        self.directory("factory").join(Sha256::of(factory.as_str().as_bytes()).to_string())
    }

    fn build_path(&self, factory: &Utf8Path, class: &str) -> Utf8PathBuf {
        self.factory_directory(factory).join(format!("{BUILD}{}", Sha256::of(class.as_bytes())))
    }

    /// Replaces a small file as a whole, unless it says the same already.
    fn keep_sealed(&self, path: &Utf8Path, value: &impl Serialize) -> io::Result<()> {
        let bytes = sealed(value)?;
        if fs::read(path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let mut file = aside::create(&self.directory("tmp"))?;
        file.write_all(&bytes)?;
        loop {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            match file.persist(path) {
                Ok(_) => return Ok(()),
                // Its directory was forgotten in this moment.
                Err(error) if error.error.kind() == io::ErrorKind::NotFound => file = error.file,
                Err(error) => return Err(error.error),
            }
        }
    }
}

/// The factory of one directory under `factory/`; `None` if it is torn.
fn read_factory(path: &Utf8Path) -> io::Result<Option<KnownFactory>> {
    let Some(directory) = read_sealed(&path.join(DIRECTORY))? else { return Ok(None) };
    let mut builds = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with(BUILD)) {
            builds.extend(read_sealed::<Build>(&path.join(name))?);
        }
    }
    builds.sort_by(|left, right| left.class.cmp(&right.class));
    Ok(Some(KnownFactory { directory, builds }))
}
