//! Places the files of one package in a tree, as dpkg unpacks them (`tarobject` in `src/main/archives.c`).
//!
//! What dpkg does in two steps, for a machine that may lose its power between them, is one here: a file appears under its
//! final name, whole. Configuration files are different: they wait beside their place, as `NAME.dpkg-new`, for dpkg to decide
//! when it configures the package. Only in the essential set, where all is unpacked before dpkg knows of anything, they are
//! in their place at once, which dpkg then finds right.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use kiln_debian::deb::data::{Entry, EntryKind};
use kiln_debian::dpkg::conffile::{Conffile, Declared, NEW};
use kiln_debian::dpkg::decision::{Decision, Existing, New, Owner, Situation, decide};
use kiln_debian::dpkg::list;
use kiln_debian::dpkg::status::{Stanza, State};
use kiln_model::digest::Sha256;
use rustix::fs::{FileType, Mode, OFlags, openat};

use super::database::Database;
use super::form::FormEntry;
use super::problem::{Doing as _, Problem};
use super::tree::{Metadata, Tree, new, set_file_metadata};

/// How much of a form is read at once: most packages' files come in one piece.
const WINDOW_BYTES: usize = 1 << 20;

/// Beside its place, for dpkg.
const NEW_SUFFIX: &[u8] = b".dpkg-new";

/// What a modified file is called that a package no longer wants.
const OLD_SUFFIX: &[u8] = b".dpkg-old";

/// What a distributed version is called that was not wanted.
const DISTRIBUTED_SUFFIX: &[u8] = b".dpkg-dist";

/// Places packages, one after the other.
pub(crate) struct Placer {
    tree: Tree,
    /// The directory of forms.
    forms: OwnedFd,
    /// Whether the tree was empty, and nothing of dpkg has run in it.
    essential: bool,
    /// Directories that are surely there, and whether they hand their group on to new files (set-group-id).
    directories: BTreeMap<Vec<u8>, bool>,
    window: Vec<u8>,
}

/// A package to be placed.
#[derive(Clone, Copy)]
pub(crate) struct Placement<'a> {
    /// Names its form.
    pub(crate) sha256: &'a Sha256,
    /// Its `data.tar`.
    pub(crate) entries: &'a [FormEntry],
    /// What the status will say of it.
    pub(crate) stanza: &'a Stanza,
    /// Its `conffiles`.
    pub(crate) conffiles: &'a [Declared],
    /// What the status says of its configuration files from an earlier time.
    pub(crate) earlier: &'a [Conffile],
}

/// What became of a package's files.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    /// Its list, in order.
    pub(crate) paths: Vec<Vec<u8>>,
    /// Those that it took from any other package that had them.
    pub(crate) taken: BTreeSet<Vec<u8>>,
    /// For the status.
    pub(crate) conffiles: Vec<Conffile>,
    /// Packages whose triggers it waits for.
    pub(crate) awaited: Vec<String>,
    /// MD5 of each file, where that is known.
    pub(crate) digests: Vec<(Vec<u8>, [u8; 16])>,
}

impl Placer {
    pub(crate) fn new(tree: Tree, forms: OwnedFd, essential: bool) -> Self {
        Self { tree, forms, essential, directories: BTreeMap::new(), window: Vec::new() }
    }

    /// Scripts ran: what was sure is not any more.
    pub(crate) fn forget(&mut self) {
        self.directories.clear();
    }

    /// Whether nothing is at a path.
    pub(crate) fn is_missing(&self, path: &[u8]) -> io::Result<bool> {
        Ok(self.tree.look(path)?.is_none())
    }

    /// Places all files of a package.
    pub(crate) fn place(&mut self, database: &mut Database, package: &Placement<'_>) -> Result<Placed, Problem> {
        let mut one = One { name: package.stanza.name().to_owned(), ..One::default() };
        let form = self.open_form(package.sha256)?;
        let mut contents = Contents { form, window: std::mem::take(&mut self.window), start: 0 };
        contents.window.clear();
        // dpkg keeps links for the end, so that no file of the package goes through one.
        let (links, others): (Vec<_>, Vec<_>) = package.entries.iter().partition(|form| is_link(&form.entry));
        for entry in others.into_iter().chain(links) {
            self.entry(database, package, entry, &mut contents, &mut one)?;
        }
        self.window = contents.window;
        self.settle_conffiles(database, package, one)
    }

    fn open_form(&self, sha256: &Sha256) -> Result<std::fs::File, Problem> {
        let opened = openat(&self.forms, sha256.to_string(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(opened.doing(|| format!("open the unpacked package {sha256}"))?.into())
    }

    fn entry(
        &mut self,
        database: &mut Database,
        package: &Placement<'_>,
        form: &FormEntry,
        contents: &mut Contents,
        one: &mut One,
    ) -> Result<(), Problem> {
        let (entry, name) = (&form.entry, package.stanza.name());
        refuse_impossible(database, package, entry)?;
        let target = database.diversions.place_of(&entry.path, name).to_vec();
        one.placed.awaited.extend(database.activate_path(&target));
        if entry.kind == EntryKind::Directory && self.directories.contains_key(&target) {
            one.placed.paths.push(entry.path.clone());
            database.own(&entry.path, name);
            return Ok(());
        }
        let is_conffile = package.is_conffile(&entry.path);
        let doing = || format!("place {entry} of {name}");
        let is_filtered = database.filters.skips(&entry.path, may_lead_on(entry));
        let is_new = !is_conffile && !is_filtered && database.owners(&entry.path).is_empty();
        if is_new && self.write_new(database, form, &target, contents).doing(doing)? {
            one.note_digest(form);
            one.placed.paths.push(entry.path.clone());
            database.own(&entry.path, name);
            return Ok(());
        }
        let existing = self.tree.existing(&target, &entry.kind).doing(doing)?;
        match self.decide(database, package, entry, existing)? {
            Decision::Leave => {
                if is_conffile {
                    one.conffiles.insert(entry.path.clone(), Settled { obsolete: true, md5: None });
                }
                return Ok(());
            }
            Decision::Share if self.is_first(database, entry, existing) => {
                let metadata = metadata(database, entry);
                self.tree.set_metadata(&target, &entry.kind, metadata).doing(doing)?;
            }
            Decision::Place if !is_filtered => {
                let place = Place { target: &target, existing, is_conffile };
                self.write(database, form, &place, contents, one)
                    .map_err(|error| refuse_device(error, entry))
                    .doing(doing)?;
                if !database.owners(&entry.path).is_empty() {
                    one.placed.taken.insert(entry.path.clone());
                }
            }
            Decision::Place | Decision::Share | Decision::Overlap { .. } => {}
        }
        if entry.kind == EntryKind::Directory {
            self.hands_group_on(&target).doing(doing)?;
        }
        one.placed.paths.push(entry.path.clone());
        database.own(&entry.path, name);
        Ok(())
    }

    /// The usual case, in as few calls as it can be: something where nothing is. Whether it was that.
    fn write_new(
        &mut self,
        database: &Database,
        form: &FormEntry,
        target: &[u8],
        contents: &mut Contents,
    ) -> io::Result<bool> {
        let entry = &form.entry;
        let metadata = metadata(database, entry);
        let parent = target.iter().rposition(|byte| *byte == b'/').and_then(|slash| target.get(..slash));
        let has_other_group = self.hands_group_on(parent.unwrap_or_default())?;
        let made = match &entry.kind {
            EntryKind::File { size_bytes } => self.tree.make_file(target, metadata).and_then(|mut file| {
                contents.copy(form.offset_bytes, *size_bytes, &mut file)?;
                set_file_metadata(&file, metadata, has_other_group)
            }),
            EntryKind::Directory => self.tree.make_directory(target, metadata).and_then(|()| {
                self.directories.insert(target.to_vec(), metadata.mode & 0o2000 != 0);
                self.tree.set_new_metadata(target, &entry.kind, metadata, has_other_group)
            }),
            EntryKind::Symlink { target: to } => self
                .tree
                .symlink(to, target)
                .and_then(|()| self.tree.set_new_metadata(target, &entry.kind, metadata, has_other_group)),
            _ => return Ok(false),
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Whether new files of a directory get its group instead of root's. Of no directory: no.
    fn hands_group_on(&mut self, directory: &[u8]) -> io::Result<bool> {
        if let Some(known) = self.directories.get(directory) {
            return Ok(*known);
        }
        let Some(found) = self.tree.look_behind(directory)? else { return Ok(false) };
        let hands_on = found.st_mode & 0o2000 != 0;
        self.directories.insert(directory.to_vec(), hands_on);
        Ok(hands_on)
    }

    fn decide(
        &self,
        database: &Database,
        package: &Placement<'_>,
        entry: &Entry,
        existing: Existing,
    ) -> Result<Decision, Problem> {
        let others: Vec<&Stanza> = others(database, package, &entry.path).collect();
        let owners: Vec<Owner> = others.iter().map(|other| stands(database, package, entry, other)).collect();
        let is_conffile = package.is_conffile(&entry.path);
        let decision = decide(&Situation { new: new(&entry.kind), existing, owners: &owners, is_conffile });
        if let Decision::Overlap { owner } = decision {
            let other = others.get(owner).map(|other| format!("{} {}", other.name(), other.version()));
            let (name, version) = (package.stanza.name(), package.stanza.version());
            return Err(Problem::Refused {
                message: format!("place {entry} of {name} {version}: it is also in {}", other.unwrap_or_default()),
                hint: Some("one of the two packages must go, or must say that it replaces the other".to_owned()),
            });
        }
        Ok(decision)
    }

    /// Of a directory that was made before there were packages, the first package says how it is to be.
    fn is_first(&self, database: &Database, entry: &Entry, existing: Existing) -> bool {
        self.essential
            && entry.kind == EntryKind::Directory
            && existing == Existing::Directory
            && database.owners(&entry.path).is_empty()
    }

    fn write(
        &mut self,
        database: &Database,
        form: &FormEntry,
        place: &Place<'_>,
        contents: &mut Contents,
        one: &mut One,
    ) -> io::Result<()> {
        let entry = &form.entry;
        let Place { target, existing, is_conffile } = *place;
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        let waits = is_conffile && !(self.essential && is_file && existing == Existing::Nothing);
        let is_directory = new(&entry.kind) == New::Directory || existing == Existing::Directory;
        let beside = [target, NEW_SUFFIX].concat();
        let at = if waits || (existing != Existing::Nothing && !is_directory) {
            self.tree.remove(&beside)?;
            &beside[..]
        } else {
            if existing != Existing::Nothing {
                self.tree.remove(target)?;
                self.forget();
            }
            target
        };
        self.make(database, form, at, contents, one)?;
        one.note_digest(form);
        if waits {
            one.pending.insert(entry.path.clone(), beside);
        } else if at != target {
            self.tree.rename(at, target)?;
        }
        if is_conffile {
            let md5 = form.md5.filter(|_| !waits);
            one.conffiles.insert(entry.path.clone(), Settled { obsolete: false, md5 });
        }
        Ok(())
    }

    fn make(
        &self,
        database: &Database,
        form: &FormEntry,
        at: &[u8],
        contents: &mut Contents,
        one: &One,
    ) -> io::Result<()> {
        let FormEntry { entry, offset_bytes, .. } = form;
        let metadata = metadata(database, entry);
        match &entry.kind {
            EntryKind::Directory => self.tree.make_directory(at, metadata)?,
            EntryKind::File { size_bytes } => {
                let mut file = self.tree.make_file(at, metadata)?;
                contents.copy(*offset_bytes, *size_bytes, &mut file)?;
                return set_file_metadata(&file, metadata, true);
            }
            EntryKind::HardLink { to } => {
                let waiting = one.pending.get(to).map(Vec::as_slice);
                self.tree.link(waiting.unwrap_or_else(|| database.diversions.place_of(to, &one.name)), at)?;
            }
            EntryKind::Symlink { target } => self.tree.symlink(target, at)?,
            EntryKind::CharacterDevice { major, minor } => {
                self.tree.make_node(at, FileType::CharacterDevice, *major, *minor)?;
            }
            EntryKind::BlockDevice { major, minor } => {
                self.tree.make_node(at, FileType::BlockDevice, *major, *minor)?;
            }
            EntryKind::Fifo => self.tree.make_node(at, FileType::Fifo, 0, 0)?,
        }
        self.tree.set_metadata(at, &entry.kind, metadata)
    }
}

impl Placer {
    /// What the status is to say of the package's configuration files, old ones included.
    fn settle_conffiles(&self, database: &Database, package: &Placement<'_>, mut one: One) -> Result<Placed, Problem> {
        let mut conffiles = Vec::new();
        for Declared { path, remove_on_upgrade } in package.conffiles {
            let settled = one.conffiles.remove(path).unwrap_or_default();
            let known = package.known_digest(path).or_else(|| digest_of_others(database, package, path));
            let conffile = Conffile {
                path: path.clone(),
                digest: settled.md5.map(|md5| list::hexadecimal(&md5)).or(known).unwrap_or_else(|| NEW.to_owned()),
                obsolete: settled.obsolete,
                remove_on_upgrade: *remove_on_upgrade,
            };
            if *remove_on_upgrade && others(database, package, path).next().is_none() {
                self.put_away(database, package, &conffile).doing(|| format!("remove /{}", lossy(path)))?;
            }
            conffiles.push(conffile);
        }
        for earlier in package.earlier.iter().filter(|earlier| !package.declares(&earlier.path)) {
            let place = database.diversions.place_of(&earlier.path, &one.name);
            if self.tree.look(place).doing(|| format!("look at /{}", lossy(place)))?.is_some() {
                conffiles.push(Conffile { obsolete: true, ..earlier.clone() });
                one.placed.paths.push(earlier.path.clone());
            }
        }
        one.placed.conffiles = conffiles;
        Ok(one.placed)
    }

    /// A configuration file that the package wants removed: it goes if nobody changed it, else it gets another name
    /// (`pkg_remove_conffile_on_upgrade` in `src/main/unpack.c`).
    fn put_away(&self, database: &Database, package: &Placement<'_>, conffile: &Conffile) -> io::Result<()> {
        let place = database.diversions.place_of(&conffile.path, package.stanza.name());
        let Some(place) = self.tree.behind_links(place)? else { return Ok(()) };
        self.tree.remove(&[&place, DISTRIBUTED_SUFFIX].concat())?;
        if self.tree.look(&place)?.is_none() {
            return Ok(());
        }
        if self.tree.md5(&place)? == conffile.digest {
            self.tree.remove(&place)
        } else {
            self.tree.rename(&place, &[&place, OLD_SUFFIX].concat())
        }
    }
}

/// One package while it is placed.
#[derive(Default)]
struct One {
    name: String,
    /// Where files are that wait for dpkg, by their path.
    pending: BTreeMap<Vec<u8>, Vec<u8>>,
    conffiles: BTreeMap<Vec<u8>, Settled>,
    placed: Placed,
}

impl One {
    fn note_digest(&mut self, form: &FormEntry) {
        let digests = &mut self.placed.digests;
        let md5 = match &form.entry.kind {
            EntryKind::HardLink { to } => digests.iter().find(|(path, _)| path == to).map(|(_, md5)| *md5),
            _ => form.md5,
        };
        digests.extend(md5.map(|md5| (form.entry.path.clone(), md5)));
    }
}

/// What became of a configuration file.
#[derive(Default)]
struct Settled {
    /// Another package, which replaces this one, has it.
    obsolete: bool,
    /// Of the version that is in its place.
    md5: Option<[u8; 16]>,
}

/// Where one file goes.
struct Place<'a> {
    target: &'a [u8],
    existing: Existing,
    is_conffile: bool,
}

impl Placement<'_> {
    fn is_conffile(&self, path: &[u8]) -> bool {
        self.conffiles.iter().any(|conffile| conffile.path == path && !conffile.remove_on_upgrade)
    }

    fn declares(&self, path: &[u8]) -> bool {
        self.conffiles.iter().any(|conffile| conffile.path == path)
    }

    fn known_digest(&self, path: &[u8]) -> Option<String> {
        let earlier = self.earlier.iter().find(|conffile| conffile.path == path);
        earlier.map(|conffile| conffile.digest.clone())
    }
}

/// The other packages that have a path.
fn others<'a>(
    database: &'a Database,
    package: &Placement<'a>,
    path: &[u8],
) -> impl Iterator<Item = &'a Stanza> + use<'a> {
    let (name, architecture) = (package.stanza.name(), package.stanza.architecture());
    let names = database.owners(path).iter().filter(move |owner| &***owner != name);
    names.filter_map(move |owner| database.owner(owner, architecture))
}

/// The digest that another package, whose configuration file it was, knows.
fn digest_of_others(database: &Database, package: &Placement<'_>, path: &[u8]) -> Option<String> {
    let conffiles = others(database, package, path).flat_map(Stanza::conffiles);
    conffiles.filter(|conffile| conffile.path == path).last().map(|conffile| conffile.digest)
}

/// How another package that has the path stands to the one that is placed.
fn stands(database: &Database, package: &Placement<'_>, entry: &Entry, other: &Stanza) -> Owner {
    let diverting = database.diversions.of(&entry.path).map(|diversion| diversion.package.as_deref());
    let diverting = diverting.flatten();
    let is_obsolete = |conffile: &Conffile| conffile.obsolete && conffile.path == entry.path;
    Owner {
        diverted: diverting.is_some_and(|name| name == other.name() || name == package.stanza.name()),
        is_removed: other.state() == State::ConfigFiles,
        is_obsolete_conffile: other.conffiles().iter().any(is_obsolete),
        is_replaced: package.stanza.replaces(other),
        replaces: other.replaces(package.stanza),
    }
}

fn refuse_impossible(database: &Database, package: &Placement<'_>, entry: &Entry) -> Result<(), Problem> {
    let name = package.stanza.name();
    if package.conffiles.iter().any(|conffile| conffile.remove_on_upgrade && conffile.path == entry.path) {
        return Err(Problem::refused(format!(
            "place {entry} of {name}: the package says that the file is to be removed"
        )));
    }
    match database.diversions.source_of(&entry.path) {
        Some(source) => {
            let source = lossy(source);
            Err(Problem::refused(format!("place {entry} of {name}: /{source} is diverted to there")))
        }
        None => Ok(()),
    }
}

/// An ordinary user's root may make no devices, so no package with one gives the same tree for everybody.
fn refuse_device(error: io::Error, entry: &Entry) -> io::Error {
    let is_device = matches!(entry.kind, EntryKind::CharacterDevice { .. } | EntryKind::BlockDevice { .. });
    if is_device && error.kind() == io::ErrorKind::PermissionDenied {
        return io::Error::other("it is a device, which only real root may make");
    }
    error
}

fn is_link(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Symlink { .. })
}

fn may_lead_on(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Directory | EntryKind::Symlink { .. })
}

fn metadata(database: &Database, entry: &Entry) -> Metadata {
    let modified = entry.modified;
    match database.overrides.of(&entry.path) {
        Some(instead) => Metadata { uid: instead.uid, gid: instead.gid, mode: instead.mode, modified },
        None => Metadata {
            uid: database.users.resolve(&entry.user),
            gid: database.groups.resolve(&entry.group),
            mode: entry.mode,
            modified,
        },
    }
}

fn lossy(path: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(path)
}

/// The contents of a package's files, read in order and mostly in one piece.
struct Contents {
    form: std::fs::File,
    /// What was read last, and where it begins.
    window: Vec<u8>,
    start: u64,
}

impl Contents {
    fn copy(&mut self, offset_bytes: u64, size_bytes: u64, file: &mut std::fs::File) -> io::Result<()> {
        let (mut at, end) = (offset_bytes, offset_bytes.saturating_add(size_bytes));
        while at < end {
            let bytes = self.at(at)?;
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(bytes.len());
            let bytes = bytes.get(..wanted).unwrap_or_default();
            file.write_all(bytes)?;
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// Some bytes from there on, at least one.
    fn at(&mut self, offset_bytes: u64) -> io::Result<&[u8]> {
        let in_window = |start: u64, length: usize| {
            let inside = usize::try_from(offset_bytes.checked_sub(start)?).ok()?;
            (inside < length).then_some(inside)
        };
        if in_window(self.start, self.window.len()).is_none() {
            self.window.resize(WINDOW_BYTES, 0);
            let length = self.form.read_at(&mut self.window, offset_bytes)?;
            self.window.truncate(length);
            self.start = offset_bytes;
        }
        let inside = in_window(self.start, self.window.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(self.window.get(inside..).unwrap_or_default())
    }
}
