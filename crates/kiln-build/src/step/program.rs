//! Steps that run programs: shell, script, Ansible, Puppet.
//!
//! All of a step happens in one sandbox. Before its program starts, and gone after it:
//!
//! 1. the sources of the step, and no other file of the factory, in [`FACTORY`];
//! 2. the locked packages as an archive that apt reads (`repository`), where the tree has apt;
//! 3. a `policy-rc.d` that keeps daemons from starting, as while packages are installed;
//! 4. facts that configuration tools ask for: `/proc/1/comm` is the sandbox's doing, `/run/systemd/container` is ours.
//!
//! What the program may add is in `tools`' and `normalise`'s care. A program that fails is told with its last lines, and with
//! what to do where its words are known (`clue`).

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::spec::{Action, RunScript, RunShell, Surroundings};
use kiln_sandbox::{Bind, Command, Ending, Inside, LAST_LINES, SandboxError, StartError};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, stat, utimensat};

use super::clue::Clue;
use super::repository::{self, Repository};
use super::{Doing as _, FACTORY, Problem, ansible, puppet, sources};
use crate::ids::Imposed;
use crate::normalise::{Before, Maker};
use crate::stage::StepWork;
use crate::workplace::{StageError, Workplace};

/// Where what is only for us, and only before the program starts, is seen inside.
const ORIGIN: &str = "/run/kiln/origin";

/// Where the lines of a shell step are written, to be run.
const LINES: &str = "/run/kiln/step";

/// What every program of a step gets besides the sandbox's environment. Python's compiled files would hold times; the order
/// in which Perl and Python go through a set is another in each process, unless told.
const ENVIRONMENT: [(&str, &str); 4] =
    [("PERL_HASH_SEED", "0"), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONHASHSEED", "0"), repository::VARIABLE];

/// Keeps services from starting: invoke-rc.d(8) asks it, and 101 means "not allowed".
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The directory that it is in.
const POLICY_DIRECTORY: &str = "/usr/sbin";

/// Directories that a booted system has in `/run` and programs expect.
const RUN: [(&str, u32); 2] = [("/run/lock", 0o1777), ("/run/systemd", 0o755)];

/// Where systemd notes in which kind of container it runs; systemd-detect-virt(1) and Ansible look here first. Whatever the
/// host is, a build is this.
const CONTAINER: (&str, &str) = ("/run/systemd/container", "kiln");

/// What others ask: the environment of process 1, where that of Kiln itself is not to be seen.
const FIRST_ENVIRONMENT: (&str, &str) = ("/proc/1/environ", "container=kiln\0");

/// A program of a step.
#[derive(Debug)]
pub(super) struct Program {
    /// As an error names it.
    pub(super) name: String,
    /// What to start.
    pub(super) command: Command,
    /// Exit codes that say that it did its work, besides 0.
    pub(super) successes: &'static [u8],
}

/// Runs the program of the step.
///
/// # Errors
/// If it fails, cannot be started, or the tree lacks what it needs.
pub(crate) fn run(place: &Workplace<'_>, work: &StepWork) -> Result<(), StageError> {
    let repository = Repository::read(place.store, &work.repository)?;
    let mut sandbox = place.sandbox();
    sandbox.environment.extend(ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned())));
    sandbox.binds = vec![origin(place.factory, "factory"), origin(repository.packages(), "packages")];
    let mut output = Output::default();
    let mut on_line = |line: &str| {
        place.watcher.line(line);
        output.take(line);
    };
    let carry_out = |inside: &Inside<'_>| carry_out(inside, place, work, &repository);
    match sandbox.call(carry_out, &mut on_line, place.cancel) {
        Ok(Ok(())) => output.check(work),
        Ok(Err(problem)) => Err(output.explain(problem, work)),
        Err(SandboxError::Stopped { ending: Ending::TimedOut }) => {
            Err(output.explain(Problem::Program { program: name(work), ending: Ending::TimedOut }, work))
        }
        Err(error) => Err(error.into()),
    }
}

fn origin(from: &Utf8Path, name: &str) -> Bind {
    Bind { from: from.to_owned(), to: Utf8Path::new(ORIGIN).join(name), read_only: true }
}

/// As errors name the step's program.
fn name(work: &StepWork) -> String {
    match &work.step.action {
        Action::Script(script) => format!("script {}", script.script.path),
        Action::Ansible(ansible) => format!("playbook {}", ansible.playbook.path),
        Action::Puppet(puppet) => format!("manifest {}", puppet.manifest.path),
        action => format!("{} step", action.verb()),
    }
}

/// In the tree: everything from the first preparation to the last trace removed.
fn carry_out(
    inside: &Inside<'_>,
    place: &Workplace<'_>,
    work: &StepWork,
    repository: &Repository,
) -> Result<(), Problem> {
    prepare(inside, place, work, repository)?;
    let program = program(work)?;
    let tree = inside.tree();
    let before = Before::read(tree.as_std_path(), Maker::Step).doing(|| "look at the tree".to_owned())?;
    let policy = Policy::begin()?;
    let imposed = Imposed::begin(inside, place.ids).doing(|| "impose the lock's ids".to_owned())?;
    let ending = inside.run(&program.command).map_err(not_started);
    imposed.end().doing(|| "end imposing ids".to_owned())?;
    policy.end()?;
    Repository::settle()?;
    before.clean(tree.as_std_path(), place.epoch).doing(|| "clean the tree after the step".to_owned())?;
    match ending? {
        Ending::Code(code) if code == 0 || program.successes.contains(&code) => Ok(()),
        ending => Err(Problem::Program { program: program.name, ending }),
    }
}

fn not_started(error: StartError) -> Problem {
    Problem::io(format!("start {}", error.program), &error.source)
}

fn prepare(
    inside: &Inside<'_>,
    place: &Workplace<'_>,
    work: &StepWork,
    repository: &Repository,
) -> Result<(), Problem> {
    let origin = Utf8Path::new(ORIGIN);
    for (directory, mode) in RUN {
        fs::create_dir_all(directory).doing(|| format!("make {directory}"))?;
        fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)).doing(|| format!("make {directory}"))?;
    }
    fs::write(CONTAINER.0, CONTAINER.1).doing(|| format!("write {}", CONTAINER.0))?;
    sources::show(&work.sources, &origin.join("factory"), FACTORY.into(), place.epoch)?;
    cover(inside, FIRST_ENVIRONMENT)?;
    if find("apt-get").is_some() {
        repository.lay_out(inside, &origin.join("packages"), place.epoch)?;
    }
    for name in ["factory", "packages"] {
        let path = origin.join(name);
        inside.unbind(&path).and_then(|()| fs::remove_dir(&path)).doing(|| format!("take {path} away"))?;
    }
    fs::remove_dir(origin).doing(|| format!("take {origin} away"))
}

/// Shows a text where the kernel shows something else, if this kernel lets it be covered.
fn cover(inside: &Inside<'_>, (path, text): (&str, &str)) -> Result<(), Problem> {
    let cover = Utf8Path::new("/run/kiln/cover");
    fs::write(cover, text).doing(|| format!("write {cover}"))?;
    let _ = inside.bind(cover, path.into());
    fs::remove_file(cover).doing(|| format!("remove {cover}"))
}

fn program(work: &StepWork) -> Result<Program, Problem> {
    let command = match &work.step.action {
        Action::Shell(step) => shell(step)?,
        Action::Script(step) => script(step)?,
        Action::Ansible(step) => ansible::command(step, work)?,
        Action::Puppet(step) => puppet::command(step, work)?,
        action => return Err(Problem::refused(format!("a `{}` step runs no program", action.verb()))),
    };
    let successes = if matches!(work.step.action, Action::Puppet(_)) { puppet::SUCCESSES } else { &[] };
    Ok(Program { name: name(work), command, successes })
}

/// Lines for `/bin/sh`, which stops at the first that fails; or for the interpreter that their first line names.
fn shell(step: &RunShell) -> Result<Command, Problem> {
    write_executable(LINES.into(), &step.text)?;
    let command = match step.text.starts_with("#!") {
        true => {
            check_interpreter("the shell step", step.text.as_bytes())?;
            Command::new(LINES, [""; 0])
        }
        false => Command::new("/bin/sh", ["-e", LINES]),
    };
    surrounded(command, &step.surroundings)
}

/// A script of the factory, run by the interpreter that it names.
fn script(step: &RunScript) -> Result<Command, Problem> {
    let path = Utf8Path::new(FACTORY).join(&step.script.path);
    let text = fs::read(&path).doing(|| format!("read {}", step.script.path))?;
    check_interpreter(step.script.path.as_str(), &text)?;
    set_executable(&path)?;
    surrounded(Command::new(path, &step.arguments), &step.surroundings)
}

fn surrounded(mut command: Command, surroundings: &Surroundings) -> Result<Command, Problem> {
    let Surroundings { env, directory, .. } = surroundings;
    if let Some(directory) = directory.as_ref().filter(|directory| !directory.is_dir()) {
        return Err(Problem::refused(format!("`cwd`: there is no directory {directory} in the tree")));
    }
    command.environment = env.clone();
    command.working_directory = Some(directory.clone().unwrap_or_else(|| "/".into()));
    Ok(command)
}

/// The kernel would only say that there is "no such file", and of which it would not say.
fn check_interpreter(name: &str, text: &[u8]) -> Result<(), Problem> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let Some(words) = line.strip_prefix("#!") else {
        return Err(Problem::refused(format!("{name} does not say what runs it"))
            .hint("begin it with a line such as #!/bin/sh"));
    };
    if words.ends_with('\r') {
        return Err(
            Problem::refused(format!("{name} has the line ends of Windows")).hint("save it with plain line feeds")
        );
    }
    let interpreter = words.split_whitespace().next().unwrap_or_default();
    match Utf8Path::new(interpreter).is_file() {
        true => Ok(()),
        false => Err(Problem::refused(format!("the tree has no {interpreter}, which is to run {name}"))
            .hint("add its package to the class's `packages`, or to this step's `tools`")),
    }
}

fn write_executable(path: &Utf8Path, text: &str) -> Result<(), Problem> {
    fs::write(path, text).doing(|| format!("write {path}"))?;
    set_executable(path)
}

fn set_executable(path: &Utf8Path) -> Result<(), Problem> {
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).doing(|| format!("make {path} executable"))
}

/// Where the tree has this program, among the places where programs look.
pub(super) fn find(program: &str) -> Option<Utf8PathBuf> {
    const DIRECTORIES: [&str; 5] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/opt/puppetlabs/bin"];
    let paths = DIRECTORIES.map(|directory| Utf8Path::new(directory).join(program));
    paths.into_iter().find(|path| path.is_file())
}

/// The `policy-rc.d` of a step, unless the tree has its own.
#[derive(Debug)]
struct Policy {
    /// When its directory was changed last, if there was none and this one goes again.
    directory_time: Option<Timespec>,
}

impl Policy {
    fn begin() -> Result<Self, Problem> {
        let doing = || format!("write {POLICY}");
        if Utf8Path::new(POLICY).exists() || !Utf8Path::new(POLICY_DIRECTORY).is_dir() {
            return Ok(Self { directory_time: None });
        }
        let status = stat(POLICY_DIRECTORY).doing(doing)?;
        write_executable(POLICY.into(), "#!/bin/sh\nexit 101\n")?;
        let time = Timespec { tv_sec: status.st_mtime, tv_nsec: status.st_mtime_nsec.try_into().unwrap_or_default() };
        Ok(Self { directory_time: Some(time) })
    }

    fn end(self) -> Result<(), Problem> {
        let Some(time) = self.directory_time else { return Ok(()) };
        let doing = || format!("remove {POLICY}");
        match fs::remove_file(POLICY) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result.doing(doing)?,
        }
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, POLICY_DIRECTORY, &times, AtFlags::empty()).doing(doing)
    }
}

/// What the program wrote, as far as an error needs it.
#[derive(Debug, Default)]
struct Output {
    last_lines: VecDeque<String>,
    clue: Option<Clue>,
}

impl Output {
    fn take(&mut self, line: &str) {
        if let Some(clue) = Clue::of(line) {
            self.clue = Some(clue);
        }
        if self.last_lines.len() == LAST_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.to_owned());
    }

    /// Whether a program that says that it did its work did any.
    fn check(self, work: &StepWork) -> Result<(), StageError> {
        match &work.step.action {
            Action::Ansible(step) if ansible::ran_nothing(self.last_lines.iter().map(String::as_str)) => {
                Err(ansible::nothing_to_run(step, work).into_error(&[]))
            }
            _ => Ok(()),
        }
    }

    fn explain(self, problem: Problem, work: &StepWork) -> StageError {
        let last_lines: Vec<String> = self.last_lines.into();
        match problem.into_error(&last_lines) {
            StageError::Program { program, ending, last_lines, hint: None } => {
                let class = work.lineage.last().map_or("", String::as_str);
                let hint = self.clue.map(|clue| clue.hint(class)).or_else(|| hint_of_ending(ending));
                StageError::Program { program, ending, last_lines, hint }
            }
            error => error,
        }
    }
}

fn hint_of_ending(ending: Ending) -> Option<String> {
    (ending == Ending::TimedOut).then(|| "a step may take an hour; does it wait for something?".to_owned())
}

/// Variables for a command.
pub(super) fn environment<const COUNT: usize>(variables: [(&str, &str); COUNT]) -> BTreeMap<String, String> {
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
