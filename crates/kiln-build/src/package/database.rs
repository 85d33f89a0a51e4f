//! dpkg's database in a tree, `/var/lib/dpkg`, read and written while packages are placed.
//!
//! Scripts read and change it too (`dpkg-query`, `dpkg-divert`, `dpkg-statoverride`), so it is complete on disk whenever
//! one runs ([`Database::save`]), and what one may have changed is read again afterwards ([`Database::refresh`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use kiln_debian::dpkg::DatabaseError;
use kiln_debian::dpkg::account::Accounts;
use kiln_debian::dpkg::diversion::Diversions;
use kiln_debian::dpkg::filter::Filters;
use kiln_debian::dpkg::list;
use kiln_debian::dpkg::statoverride::Overrides;
use kiln_debian::dpkg::status::{Stanza, State, Status};
use kiln_debian::dpkg::trigger::{self, FileInterests};

use super::problem::{Doing as _, Problem};

/// Where it is in the tree.
pub(crate) const DIRECTORY: &str = "var/lib/dpkg";

/// What dpkg knows about the tree.
pub(crate) struct Database {
    root: PathBuf,
    pub(crate) status: Status,
    pub(crate) diversions: Diversions,
    pub(crate) overrides: Overrides,
    pub(crate) filters: Filters,
    pub(crate) users: Accounts,
    pub(crate) groups: Accounts,
    /// The names of the packages that have a path, by path.
    owners: BTreeMap<Vec<u8>, Vec<Box<str>>>,
    pub(crate) interests: FileInterests,
    /// Lines for `triggers/Unincorp` that are not written yet; each once.
    activations: Vec<String>,
    activated: BTreeSet<String>,
    /// The texts that were read last, so that nothing is parsed twice.
    texts: BTreeMap<&'static str, Vec<u8>>,
    status_changed: bool,
    interests_changed: bool,
}

impl Database {
    /// Reads the database of the tree at `root`; of an empty tree it is empty.
    pub(crate) fn open(root: &Path) -> Result<Self, Problem> {
        let mut database = Self {
            root: root.to_owned(),
            status: Status::default(),
            diversions: Diversions::default(),
            overrides: Overrides::default(),
            filters: Filters::default(),
            users: Accounts::default(),
            groups: Accounts::default(),
            owners: BTreeMap::new(),
            interests: FileInterests::default(),
            activations: Vec::new(),
            activated: BTreeSet::new(),
            texts: BTreeMap::new(),
            status_changed: false,
            interests_changed: false,
        };
        database.refresh_all()?;
        database.read_lists()?;
        database.read_filters()?;
        Ok(database)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(DIRECTORY).join(name)
    }

    /// A file of a package in `info`.
    pub(crate) fn info_path(&self, package: &str, file: &str) -> PathBuf {
        self.path("info").join(format!("{package}.{file}"))
    }

    /// Reads again what a script may have changed: diversions, overrides, accounts.
    pub(crate) fn refresh(&mut self) -> Result<(), Problem> {
        if let Some(text) = self.changed("var/lib/dpkg/diversions")? {
            self.diversions = Diversions::parse(&text).map_err(damaged)?;
        }
        let users = self.changed("etc/passwd")?.map(|text| self.users = Accounts::parse(&text)).is_some();
        let groups = self.changed("etc/group")?.map(|text| self.groups = Accounts::parse(&text)).is_some();
        let overrides = self.changed("var/lib/dpkg/statoverride")?;
        if overrides.is_some() || users || groups {
            let text = self.texts.get("var/lib/dpkg/statoverride").map(Vec::as_slice).unwrap_or_default();
            self.overrides = Overrides::parse(text, &self.users, &self.groups).map_err(damaged)?;
        }
        Ok(())
    }

    /// Reads again also what dpkg may have changed: states and interests.
    pub(crate) fn refresh_all(&mut self) -> Result<(), Problem> {
        self.refresh()?;
        if let Some(text) = self.changed("var/lib/dpkg/status")? {
            self.status = Status::parse(&text).map_err(damaged)?;
        }
        if let Some(text) = self.changed("var/lib/dpkg/triggers/File")? {
            self.interests = FileInterests::parse(&text).map_err(damaged)?;
        }
        Ok(())
    }

    /// The text of a file, if it is another than the last time; a missing one is empty.
    fn changed(&mut self, name: &'static str) -> Result<Option<Vec<u8>>, Problem> {
        let text = read(&self.root.join(name))?.unwrap_or_default();
        if self.texts.get(name).map(Vec::as_slice).unwrap_or_default() == text {
            return Ok(None);
        }
        self.texts.insert(name, text.clone());
        Ok(Some(text))
    }

    fn read_lists(&mut self) -> Result<(), Problem> {
        let packages: Vec<(String, String)> = self
            .status
            .stanzas()
            .filter(|stanza| stanza.state() > State::NotInstalled)
            .map(|stanza| (stanza.name().to_owned(), stanza.qualified_name()))
            .collect();
        for (name, qualified) in packages {
            let text = read(&self.info_path(&qualified, "list"))?.unwrap_or_default();
            list::parse(&text).for_each(|path| self.own(path, &name));
        }
        Ok(())
    }

    fn read_filters(&mut self) -> Result<(), Problem> {
        let directory = self.root.join("etc/dpkg/dpkg.cfg.d");
        let mut files = vec![self.root.join("etc/dpkg/dpkg.cfg")];
        match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            entries => {
                let entries = entries.doing(|| "read the configuration of dpkg")?;
                let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
                let mut paths = paths.doing(|| "read the configuration of dpkg")?;
                paths.retain(|path| is_configuration(path));
                paths.sort();
                files.extend(paths);
            }
        }
        for file in files {
            self.filters.add(&read(&file)?.unwrap_or_default());
        }
        Ok(())
    }

    /// The packages that have a path, in the order in which they were placed.
    pub(crate) fn owners(&self, path: &[u8]) -> &[Box<str>] {
        self.owners.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    /// Notes that a package has a path.
    pub(crate) fn own(&mut self, path: &[u8], package: &str) {
        match self.owners.get_mut(path) {
            Some(owners) if owners.iter().any(|owner| &**owner == package) => {}
            Some(owners) => owners.push(package.into()),
            None => drop(self.owners.insert(path.to_vec(), vec![package.into()])),
        }
    }

    /// Takes paths away from another package, in memory and in its list.
    pub(crate) fn disown(&mut self, paths: &BTreeSet<&[u8]>, package: &Stanza) -> Result<(), Problem> {
        let file = self.info_path(&package.qualified_name(), "list");
        let text = read(&file)?.unwrap_or_default();
        write(&file, &list::print(list::parse(&text).filter(|path| !paths.contains(path))), 0o644)?;
        for path in paths {
            if let Some(owners) = self.owners.get_mut(*path) {
                owners.retain(|owner| &**owner != package.name());
            }
        }
        Ok(())
    }

    /// Puts a package's stanza into the status.
    pub(crate) fn set_stanza(&mut self, stanza: Stanza) {
        self.status.insert(stanza);
        self.status_changed = true;
    }

    /// Adds a package's interest in a trigger.
    pub(crate) fn add_interest(&mut self, trigger: &str, package: &str, awaits: bool) -> Result<(), Problem> {
        if trigger.starts_with('/') {
            self.interests.add(trigger, package, awaits);
            self.interests_changed = true;
            return Ok(());
        }
        let file = self.path("triggers").join(trigger);
        let mut text = read(&file)?.unwrap_or_default();
        text.extend(format!("{}\n", trigger::interested(package, awaits)).into_bytes());
        self.write_trigger(&file, &text)
    }

    /// Notes that a package, or nobody who waits, activates a trigger.
    pub(crate) fn activate(&mut self, trigger: &str, package: Option<&str>) {
        let line = trigger::activation(trigger, package);
        if self.activated.insert(line.clone()) {
            self.activations.push(line);
        }
    }

    /// Brings everything to disk, for a program that is about to run.
    pub(crate) fn save(&mut self) -> Result<(), Problem> {
        if std::mem::take(&mut self.status_changed) {
            let text = self.status.print();
            write(&self.path("status"), &text, 0o644)?;
            self.texts.insert("var/lib/dpkg/status", text);
        }
        if std::mem::take(&mut self.interests_changed) {
            let text = self.interests.text().to_vec();
            self.write_trigger(&self.path("triggers/File"), &text)?;
            self.texts.insert("var/lib/dpkg/triggers/File", text);
        }
        if !self.activations.is_empty() {
            let file = self.path("triggers/Unincorp");
            let mut text = read(&file)?.unwrap_or_default();
            text.extend(self.activations.drain(..).collect::<String>().into_bytes());
            self.activated.clear();
            self.write_trigger(&file, &text)?;
        }
        Ok(())
    }

    fn write_trigger(&self, file: &Path, text: &[u8]) -> Result<(), Problem> {
        fs::create_dir_all(self.path("triggers")).doing(|| "write dpkg's triggers")?;
        write(file, text, 0o644)
    }
}

/// What run-parts would take, and dpkg does: letters, digits, `-` and `_`.
fn is_configuration(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn damaged(error: DatabaseError) -> Problem {
    Problem::Refused { message: format!("read what dpkg knows of the tree: {error}"), hint: None }
}

/// The bytes of a file that may be missing.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| "read the tree"),
    }
}

/// Writes a file anew.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Problem> {
    let written =
        fs::write(path, bytes).and_then(|()| fs::set_permissions(path, std::fs::Permissions::from_mode(mode)));
    written.doing(|| "write dpkg's database")
}
