//! The inside of a package stage, in the order in which things happen.
//!
//! The essential set: links and directories that all else stands on; the files of every package; then each `preinst`, as in
//! a tree that was unpacked by other means; then all are configured. Any other stage, wave by wave: each package's `preinst`,
//! then its files, as dpkg unpacks; the wave is configured. At last the triggers, once.
//!
//! Whatever runs, services do not start: `policy-rc.d` says so while programs run, and is gone afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use fs_err as fs;
use kiln_debian::deb::ControlFile;
use kiln_debian::dpkg::DatabaseError;
use kiln_debian::dpkg::conffile::{self, Conffile, Declared};
use kiln_debian::dpkg::list;
use kiln_debian::dpkg::status::{Stanza, State};
use kiln_debian::dpkg::trigger::{self, Directive, DirectiveKind, Interested};
use kiln_sandbox::{Command, Ending, Inside};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use serde::{Deserialize, Serialize};

use super::Package;
use super::database::{self, DIRECTORY, Database};
use super::form::FormEntry;
use super::place::{Placed, Placement, Placer};
use super::policy::Policy;
use super::problem::{Doing as _, Problem};
use super::progress::PAUSE;
use super::states;
use super::tree::Tree;
use crate::ids::Imposed;
use crate::normalise::{Before, Maker};
use crate::stage::PackageWork;
use crate::workplace::FixedIds;

/// Where the packages in their plain form are seen inside, until the first program runs.
pub(crate) const UNPACKED: &str = "/run/kiln/unpacked";

/// Where dpkg has the control files of a package whose `preinst` runs.
const CONTROL_DIRECTORY: &str = "var/lib/dpkg/tmp.ci";

/// What dpkg may do without asking: the older configuration file stays where somebody changed it.
const FORCE: [&str; 2] = ["--force-confold", "--force-confdef"];

/// The same as scripts see it, after what dpkg allows by itself.
const FORCED: &str = "security-mac,downgrade,confold,confdef";

/// Aliased directories of a merged `/usr`: these everywhere.
const MERGED: [&str; 3] = ["bin", "lib", "sbin"];

/// And `lib64` where the ABI has its program loader there.
const MERGED_LIB64: [&str; 7] = ["amd64", "loong64", "mips64el", "ppc64", "ppc64el", "s390x", "sparc64"];

/// What there is to do.
pub(crate) struct Job<'a> {
    pub(crate) work: &'a PackageWork,
    pub(crate) waves: &'a [Vec<Package<'a>>],
    pub(crate) epoch: i64,
    pub(crate) ids: &'a FixedIds,
}

/// What is told of it afterwards.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// How long each part took.
    pub(crate) parts: BTreeMap<String, Duration>,
}

/// Does it, inside the sandbox.
pub(crate) fn run(inside: &Inside<'_>, job: &Job<'_>) -> Result<Report, Problem> {
    let mut stage = Stage::begin(inside, job)?;
    if job.work.essential {
        stage.essential()?;
    } else {
        stage.waves()?;
    }
    stage.check()?;
    stage.finish()?;
    Ok(Report { parts: stage.parts })
}

/// A stage at work.
struct Stage<'a> {
    inside: &'a Inside<'a>,
    job: &'a Job<'a>,
    root: PathBuf,
    database: Database,
    placer: Placer,
    before: Before,
    parts: BTreeMap<String, Duration>,
}

/// What the control files of a package say to who unpacks it.
struct Control {
    conffiles: Vec<Declared>,
    directives: Vec<Directive>,
    stanza: Stanza,
    /// From when the package was here before.
    earlier: Vec<Conffile>,
}

impl<'a> Stage<'a> {
    fn begin(inside: &'a Inside<'a>, job: &'a Job<'a>) -> Result<Self, Problem> {
        let root = inside.tree();
        let tree = Tree::open(root.as_str()).doing(|| "open the tree")?;
        let placer = Placer::new(tree, take_forms(inside)?, job.work.essential);
        let root = root.into_std_path_buf();
        if job.work.essential {
            merge_usr(&root, &job.work.architecture).doing(|| "make the directories of /usr")?;
        }
        let database = Database::open(&root)?;
        let before = Before::read(&root, Maker::Packages).doing(|| "read the tree")?;
        Ok(Self { inside, job, root, database, placer, before, parts: BTreeMap::new() })
    }

    fn timed<T>(&mut self, part: &str, work: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        let started = Instant::now();
        let result = work(self);
        *self.parts.entry(part.to_owned()).or_default() += started.elapsed();
        result
    }

    /// All files, then all `preinst`s, then all is configured.
    fn essential(&mut self) -> Result<(), Problem> {
        let packages: Vec<&Package<'a>> = self.job.waves.iter().flatten().collect();
        let controls = packages.iter().map(|package| self.control(package)).collect::<Result<Vec<_>, _>>()?;
        let mut placed = Vec::new();
        for (package, control) in packages.iter().zip(&controls) {
            self.database.expect(&control.stanza);
            placed.push(self.timed("place", |stage| stage.place(package, control))?);
        }
        prepare_database(&self.root, &self.job.work.architecture)?;
        for ((package, control), placed) in packages.iter().zip(&controls).zip(&placed) {
            say_unpacking(&control.stanza);
            let diverted = self.preinst(package, control)?;
            if diverted {
                self.timed("place", |stage| stage.place_again(package, control))?;
            }
            self.timed("place", |stage| stage.register(package, control, placed))?;
        }
        self.configure(&packages, &[])
    }

    fn waves(&mut self) -> Result<(), Problem> {
        for wave in self.job.waves {
            let packages: Vec<&Package<'a>> = wave.iter().collect();
            self.database.begin_unpacking();
            for package in &packages {
                self.unpack(package)?;
            }
            self.configure(&packages, &["--no-triggers"])?;
        }
        if self
            .database
            .status
            .stanzas()
            .any(|stanza| stanza.state() != State::Installed && stanza.state() > State::ConfigFiles)
        {
            self.dpkg(&["--configure", "--pending"].map(str::to_owned))?;
        }
        Ok(())
    }

    fn control(&self, package: &Package<'_>) -> Result<Control, Problem> {
        let control = &package.form.control;
        let name = &package.locked.name;
        let text = |file: &str| control.files.get(file).map(|file| file.bytes.as_slice()).unwrap_or_default();
        let wrong = |error: DatabaseError| Problem::refused(format!("unpack {name}: {error}"));
        let mut stanza = Stanza::unpacked(control.text()).map_err(wrong)?;
        let mut earlier = Vec::new();
        match self.database.status.get(stanza.name(), stanza.architecture()) {
            Some(there) if there.state() == State::ConfigFiles => {
                stanza.set_configured_version(Some(there.configured_version().unwrap_or(there.version())));
                earlier = there.conffiles();
            }
            Some(there) if there.state() > State::NotInstalled => {
                let (name, version) = (there.name(), there.version());
                return Err(Problem::refused(format!("unpack {name}: the tree has {name} {version} already")));
            }
            _ => {}
        }
        Ok(Control {
            conffiles: conffile::parse_control(text("conffiles")).map_err(wrong)?,
            directives: trigger::parse_control(text("triggers")).map_err(wrong)?,
            stanza,
            earlier,
        })
    }

    /// As `dpkg --unpack`.
    fn unpack(&mut self, package: &Package<'_>) -> Result<(), Problem> {
        let mut control = self.control(package)?;
        say_unpacking(&control.stanza);
        self.database.refresh_overrides()?;
        for directive in control.directives.iter().filter(|directive| directive.kind == DirectiveKind::Activate) {
            let awaited = self.database.activate(&directive.trigger)?;
            awaited.iter().filter(|_| directive.awaits).for_each(|package| control.stanza.note_awaited(package));
        }
        self.preinst(package, &control)?;
        self.timed("place", |stage| {
            let placed = stage.place(package, &control)?;
            stage.register(package, &control, &placed)
        })
    }

    fn place(&mut self, package: &Package<'_>, control: &Control) -> Result<Placed, Problem> {
        self.placer.place(&mut self.database, &placement(package, control, &package.form.entries))
    }

    /// Places what a script moved away that diverted a path of its own package: dpkg would place the package only now.
    fn place_again(&mut self, package: &Package<'_>, control: &Control) -> Result<(), Problem> {
        let mut lost = Vec::new();
        for entry in &package.form.entries {
            let path = self.database.diversions.place_of(&entry.entry.path, control.stanza.name());
            if self.placer.is_missing(path).doing(|| format!("look at {}", entry.entry))? {
                lost.push(entry.clone());
            }
        }
        self.placer.place(&mut self.database, &placement(package, control, &lost))?;
        Ok(())
    }

    /// Runs the `preinst`, if there is one, with everything of dpkg's as it would be. Whether diversions changed.
    fn preinst(&mut self, package: &Package<'_>, control: &Control) -> Result<bool, Problem> {
        if !package.form.control.files.contains_key("preinst") {
            return Ok(false);
        }
        self.timed("preinst", |stage| {
            let stanza = &control.stanza;
            let earlier = stanza.configured_version().map(str::to_owned);
            stage.stage_control(package)?;
            let mut half = half_installed(stanza);
            half.set_conffiles(&control.earlier);
            stage.database.set_stanza(half);
            stage.database.save()?;
            let diversions = stage.database.diversions.clone();
            let mut arguments = vec!["install".to_owned()];
            arguments.extend(earlier.map(|earlier| [earlier, stanza.version().to_owned()]).into_iter().flatten());
            let mut command = Command::new(format!("/{CONTROL_DIRECTORY}/preinst"), arguments);
            command.environment = stage.script_environment(stanza, "preinst");
            let ending = stage.with_programs(|stage| Ok(stage.inside.run(&command)?))?;
            if !ending.is_success() {
                return Err(Problem::Script { program: format!("preinst of {}", stanza.name()), ending });
            }
            stage.database.refresh()?;
            stage.placer.forget();
            Ok(stage.database.diversions != diversions)
        })
    }

    /// What dpkg tells a script (dpkg(1), `src/main/script.c`).
    fn script_environment(&self, stanza: &Stanza, script: &str) -> BTreeMap<String, String> {
        let dpkg = self.database.status.get("dpkg", &self.job.work.architecture);
        let dpkg = dpkg.map(Stanza::source_version).or_else(|| self.version_to_come("dpkg")).unwrap_or_default();
        let variables = [
            ("DPKG_ADMINDIR", "/var/lib/dpkg"),
            ("DPKG_FORCE", FORCED),
            ("DPKG_MAINTSCRIPT_ARCH", stanza.architecture()),
            ("DPKG_MAINTSCRIPT_DEBUG", "0"),
            ("DPKG_MAINTSCRIPT_NAME", script),
            ("DPKG_MAINTSCRIPT_PACKAGE", stanza.name()),
            ("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1"),
            ("DPKG_ROOT", ""),
            ("DPKG_RUNNING_VERSION", dpkg),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The version of a package that is placed already and not yet known to dpkg.
    fn version_to_come(&self, name: &str) -> Option<&'a str> {
        let mut packages = self.job.waves.iter().flatten();
        packages.find(|package| package.locked.name == name).map(|package| package.locked.version.as_str())
    }

    /// All control files of the package where dpkg has them while its `preinst` runs.
    fn stage_control(&self, package: &Package<'_>) -> Result<(), Problem> {
        let directory = self.root.join(CONTROL_DIRECTORY);
        let doing = || "make dpkg's directory of control files";
        remove_directory(&directory).doing(doing)?;
        fs::create_dir(&directory).doing(doing)?;
        let control = &package.form.control;
        database::write(&directory.join("control"), control.text().as_bytes(), 0o644)?;
        for (name, file) in &control.files {
            let mode = if name == "preinst" && file.mode & 0o555 != 0o555 { 0o755 } else { file.mode };
            write_control(&directory.join(name), file, mode).doing(doing)?;
        }
        Ok(())
    }

    /// Writes what dpkg knows of an unpacked package.
    fn register(&mut self, package: &Package<'_>, control: &Control, placed: &Placed) -> Result<(), Problem> {
        let name = control.stanza.qualified_name();
        self.register_files(package, &name, placed)?;
        for Directive { trigger, awaits, .. } in
            control.directives.iter().filter(|directive| directive.kind == DirectiveKind::Interest)
        {
            self.database.add_interest(trigger, Interested { package: name.clone(), awaits: *awaits })?;
        }
        let mut stanza = control.stanza.clone();
        stanza.set_conffiles(&placed.conffiles);
        placed.awaited.iter().for_each(|package| stanza.note_awaited(package));
        self.database.set_stanza(stanza);
        self.take_from_others(control, placed)
    }

    /// The files of a package in `info`.
    fn register_files(&self, package: &Package<'_>, name: &str, placed: &Placed) -> Result<(), Problem> {
        let path = |file: &str| self.database.info_path(name, file);
        database::write(&path("list"), &list::print(placed.paths.iter().map(Vec::as_slice)), 0o644)?;
        let staged = self.root.join(CONTROL_DIRECTORY);
        let is_staged = package.form.control.files.contains_key("preinst");
        for (file, control) in package.form.control.files.iter().filter(|(file, _)| is_registered(file)) {
            let registered = if is_staged {
                fs::rename(staged.join(file), path(file))
            } else {
                write_control(&path(file), control, control.mode)
            };
            registered.doing(|| format!("register {file} of {name}"))?;
        }
        if is_staged {
            remove_directory(&staged).doing(|| "clear dpkg's directory of control files")?;
        }
        if !package.form.control.files.contains_key("md5sums") {
            database::write(
                &path("md5sums"),
                &list::print_md5sums(placed.digests.iter().map(|(path, md5)| (&path[..], *md5))),
                0o644,
            )?;
        }
        Ok(())
    }

    /// Takes paths that the package took over out of the lists of those that had them.
    fn take_from_others(&mut self, control: &Control, placed: &Placed) -> Result<(), Problem> {
        let own = control.stanza.name();
        let mut losers: BTreeMap<String, BTreeSet<&[u8]>> = BTreeMap::new();
        for path in &placed.taken {
            let diverting = self.database.diversions.of(path).and_then(|diversion| diversion.package.clone());
            if diverting.as_deref() == Some(own) {
                continue;
            }
            for owner in self.database.owners(path).iter().filter(|owner| &***owner != own) {
                if diverting.as_deref() != Some(&**owner) {
                    losers.entry(owner.to_string()).or_default().insert(path);
                }
            }
        }
        for (name, paths) in losers {
            let found = self.database.status.get(&name, &self.job.work.architecture).cloned();
            let Some(mut loser) = found else { continue };
            let conffiles = loser.conffiles().into_iter().map(|conffile| {
                let obsolete =
                    conffile.obsolete || paths.contains(&conffile.path[..]) && control.declares(&conffile.path);
                Conffile { obsolete, ..conffile }
            });
            loser.set_conffiles(&conffiles.collect::<Vec<_>>());
            self.database.disown(&paths, &loser)?;
            self.database.set_stanza(loser);
        }
        Ok(())
    }

    /// Configures packages in this order.
    fn configure(&mut self, packages: &[&Package<'_>], options: &[&str]) -> Result<(), Problem> {
        let names = packages.iter().map(|package| package.locked.name.clone());
        let arguments: Vec<String> =
            options.iter().map(|option| (*option).to_owned()).chain(["--configure".to_owned()]).chain(names).collect();
        self.dpkg(&arguments)
    }

    fn dpkg(&mut self, arguments: &[String]) -> Result<(), Problem> {
        self.database.save()?;
        let mut all: Vec<String> = FORCE.map(str::to_owned).into();
        // The log has times, and the first failure is the one that counts.
        all.extend(["--log=/dev/null", "--abort-after=1"].map(str::to_owned));
        all.extend_from_slice(arguments);
        let command = Command::new("dpkg", all);
        let ending = self.timed("configure", |stage| stage.with_programs(|stage| Ok(stage.inside.run(&command)?)))?;
        say(PAUSE);
        if !ending.is_success() {
            return Err(Problem::Dpkg { ending });
        }
        self.placer.forget();
        self.database.refresh_all()
    }

    /// Runs programs with the lock's ids imposed, and without services.
    fn with_programs(&mut self, run: impl FnOnce(&mut Self) -> Result<Ending, Problem>) -> Result<Ending, Problem> {
        let policy = Policy::begin(&self.root).doing(|| "keep services from starting")?;
        let imposed = Imposed::begin(self.inside, self.job.ids).doing(|| "impose the ids of the lock")?;
        let ending = run(self)?;
        imposed.end().doing(|| "take back the ids of the lock")?;
        policy.end().doing(|| "let services start again")?;
        Ok(ending)
    }

    /// Every package must be there, whole.
    fn check(&self) -> Result<(), Problem> {
        for package in self.job.waves.iter().flatten() {
            let name = &package.locked.name;
            let stanza = self.database.status.get(name, &package.locked.architecture);
            let state = stanza.map_or(State::NotInstalled, Stanza::state);
            if state != State::Installed {
                let state = state.name();
                return Err(Problem::refused(format!(
                    "configure {name}: dpkg ended without an error, but it is {state}"
                )));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Problem> {
        let work = self.job.work;
        let essential = if work.essential { states::essential(&self.database.status) } else { BTreeSet::new() };
        let names = self.job.waves.iter().flatten().map(|package| package.locked.name.as_str());
        let automatic = names.filter(|name| !work.manual.contains(*name) && !essential.contains(name));
        states::mark(&self.root, automatic, &work.manual, &work.architecture)?;
        let epoch = self.job.epoch;
        self.timed("normalise", |stage| stage.before.clean(&stage.root, epoch).doing(|| "clean the tree"))
    }
}

impl Control {
    fn declares(&self, path: &[u8]) -> bool {
        self.conffiles.iter().any(|conffile| conffile.path == path)
    }
}

fn placement<'p>(package: &'p Package<'_>, control: &'p Control, entries: &'p [FormEntry]) -> Placement<'p> {
    let Control { conffiles, stanza, earlier, .. } = control;
    Placement { sha256: &package.locked.sha256, entries, stanza, conffiles, earlier }
}

/// The state of a package whose `preinst` runs.
fn half_installed(stanza: &Stanza) -> Stanza {
    let mut half = stanza.clone();
    half.set_half_installed();
    half
}

/// Takes hold of the packages in their plain form, which then are not seen any more.
fn take_forms(inside: &Inside<'_>) -> Result<OwnedFd, Problem> {
    let doing = || "open the unpacked packages";
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let forms = rustix::fs::open(UNPACKED, flags, Mode::empty()).doing(doing)?;
    inside.unbind(Utf8Path::new(UNPACKED)).doing(doing)?;
    fs::remove_dir(UNPACKED).doing(doing)?;
    Ok(forms)
}

/// Makes `/bin` and its like links into `/usr`, before any package could make them directories.
fn merge_usr(root: &Path, architecture: &str) -> io::Result<()> {
    let lib64 = MERGED_LIB64.contains(&architecture).then_some("lib64");
    for name in MERGED.into_iter().chain(lib64) {
        fs::create_dir_all(root.join("usr").join(name))?;
        fs::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))?;
    }
    Ok(())
}

/// What dpkg's database needs before dpkg runs for the first time. Its directories are in the package `dpkg`.
fn prepare_database(root: &Path, architecture: &str) -> Result<(), Problem> {
    let directory = root.join(DIRECTORY);
    if !directory.join("info").is_dir() {
        return Err(Problem::refused("install the essential set: there is no dpkg in it"));
    }
    database::write(&directory.join("info/format"), b"1\n", 0o644)?;
    database::write(&directory.join("arch"), format!("{architecture}\n").as_bytes(), 0o644)
}

/// dpkg keeps every control file but the control file itself, and what has a dot in its name.
fn is_registered(file: &str) -> bool {
    !file.contains('.') && !matches!(file, "control" | "list")
}

fn write_control(path: &Path, file: &ControlFile, mode: u32) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let written = options.write(true).create(true).truncate(true).open(path)?;
    io::Write::write_all(&mut written.file(), &file.bytes)?;
    written.file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    let time = Timespec { tv_sec: file.modified, tv_nsec: 0 };
    Ok(rustix::fs::futimens(written.file(), &Timestamps { last_access: time, last_modification: time })?)
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// dpkg's words, so that who watches knows.
fn say_unpacking(stanza: &Stanza) {
    say(&format!("Unpacking {} ({}) ...", stanza.qualified_name(), stanza.version()));
}

/// Writes a line to the standard output, past its lock: a thread that is not here may have held it.
fn say(line: &str) {
    let line = format!("{line}\n");
    let mut rest = line.as_bytes();
    while let Ok(length @ 1..) = rustix::io::retry_on_intr(|| rustix::io::write(rustix::stdio::stdout(), rest)) {
        rest = rest.get(length..).unwrap_or_default();
    }
}
