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
use kiln_debian::dpkg::trigger::{FileInterests, Interested, parse_interested};

use super::problem::{Doing as _, Problem};

/// Where it is in the tree.
pub(crate) const DIRECTORY: &str = "var/lib/dpkg";

/// What dpkg knows about the tree.
pub(crate) struct Database {
    root: PathBuf,
    pub(crate) status: Status,
    /// Packages that are placed and that dpkg is to know of later, by name.
    coming: BTreeMap<String, Stanza>,
    pub(crate) diversions: Diversions,
    pub(crate) overrides: Overrides,
    pub(crate) filters: Filters,
    pub(crate) users: Accounts,
    pub(crate) groups: Accounts,
    /// The names of the packages that have a path, by path.
    owners: BTreeMap<Vec<u8>, Vec<Box<str>>>,
    pub(crate) interests: FileInterests,
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
            coming: BTreeMap::new(),
            diversions: Diversions::default(),
            overrides: Overrides::default(),
            filters: Filters::default(),
            users: Accounts::default(),
            groups: Accounts::default(),
            owners: BTreeMap::new(),
            interests: FileInterests::default(),
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

    /// Reads again what a script may have changed and dpkg heeds at once: diversions and accounts.
    pub(crate) fn refresh(&mut self) -> Result<(), Problem> {
        if let Some(text) = self.changed("var/lib/dpkg/diversions")? {
            self.diversions = Diversions::parse(&text).map_err(damaged)?;
        }
        if let Some(text) = self.changed("etc/passwd")? {
            self.users = Accounts::parse(&text);
        }
        if let Some(text) = self.changed("etc/group")? {
            self.groups = Accounts::parse(&text);
        }
        Ok(())
    }

    /// Reads again what dpkg heeds only before it unpacks the next package: overrides.
    pub(crate) fn refresh_overrides(&mut self) -> Result<(), Problem> {
        let text = read(&self.path("statoverride"))?.unwrap_or_default();
        self.overrides = Overrides::parse(&text, &self.users, &self.groups).map_err(damaged)?;
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

    /// Begins what is one run of dpkg that unpacks: the order of pending triggers is as dpkg would have it then.
    pub(crate) fn begin_unpacking(&mut self) {
        for stanza in self.status.stanzas_mut() {
            self.status_changed |= stanza.turn_pending();
        }
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

    /// What is known of a package that has files, whether or not dpkg knows of it yet.
    pub(crate) fn owner(&self, name: &str, architecture: &str) -> Option<&Stanza> {
        self.coming.get(name).or_else(|| self.status.get(name, architecture))
    }

    /// Notes a package that is placed before dpkg is to know of it.
    pub(crate) fn expect(&mut self, stanza: &Stanza) {
        self.coming.insert(stanza.name().to_owned(), stanza.clone());
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
        self.coming.remove(stanza.name());
        self.status.insert(stanza);
        self.status_changed = true;
    }

    /// Adds a package's interest in a trigger.
    pub(crate) fn add_interest(&mut self, trigger: &str, interested: Interested) -> Result<(), Problem> {
        if trigger.starts_with('/') {
            self.interests.add(trigger, interested);
            self.interests_changed = true;
            return Ok(());
        }
        let file = self.path("triggers").join(trigger);
        let mut text = read(&file)?.unwrap_or_default();
        text.extend(format!("{interested}\n").into_bytes());
        self.write_trigger(&file, &text)
    }

    /// Activates a trigger that a package names; a path is one with all directories that it is in. Which packages whoever
    /// waits must wait for.
    pub(crate) fn activate(&mut self, trigger: &str) -> Result<Vec<String>, Problem> {
        let Some(path) = trigger.strip_prefix('/') else {
            let text = read(&self.path("triggers").join(trigger))?.unwrap_or_default();
            return Ok(self.pend(trigger, &parse_interested(&text)));
        };
        let parents = path.match_indices('/').map(|(slash, _)| path.get(..slash).unwrap_or_default());
        let paths = std::iter::once(path).chain(parents.rev());
        Ok(paths.flat_map(|path| self.activate_path(path.as_bytes())).collect())
    }

    /// Activates the trigger that is this path, and nothing else.
    pub(crate) fn activate_path(&mut self, path: &[u8]) -> Vec<String> {
        let interested = self.interests.of(path).to_vec();
        if interested.is_empty() {
            return Vec::new();
        }
        self.pend(&String::from_utf8_lossy(&list::to_name(path)), &interested)
    }

    fn pend(&mut self, trigger: &str, interested: &[Interested]) -> Vec<String> {
        let mut awaited = Vec::new();
        for Interested { package, awaits } in interested {
            let stanza = self.status.by_qualified_name_mut(package);
            let Some(stanza) = stanza.filter(|stanza| stanza.state() >= State::TriggersAwaited) else { continue };
            self.status_changed |= stanza.note_pending(trigger);
            if *awaits {
                awaited.push(package.clone());
            }
        }
        awaited
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
