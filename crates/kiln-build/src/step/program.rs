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
    let repository = Repository::read(place.store, &work.repository, place.threads)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::StepWork;
    use crate::step::ground::{EPOCH, Ground, for_each_identity};

    const PROGRAMS: [&str; 6] =
        ["/bin/sh", "/usr/bin/cat", "/usr/bin/env", "/usr/bin/ls", "/usr/bin/stat", "/usr/bin/mkdir"];

    /// Does `test` in a tree with a shell.
    fn for_each_tree(test: impl Fn(&mut Ground)) {
        for_each_identity(|ground| {
            ground.programs(&PROGRAMS);
            ground.layer("sbin", |root| fs::create_dir_all(root.join("usr/sbin")).unwrap());
            test(ground);
        });
    }

    /// Puts a program into the tree that is these lines.
    fn put(ground: &mut Ground, name: &str, lines: &str) {
        ground.layer(&format!("program-{}", name.replace('/', "-")), |root| {
            let path = root.join(name.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_executable(&path, &format!("#!/bin/sh\n{lines}\n")).unwrap();
        });
    }

    fn said(ground: &Ground) -> Vec<String> {
        std::mem::take(&mut *ground.lines.lock().unwrap())
    }

    /// Runs a step that must succeed; what it said.
    fn lines(ground: &mut Ground, step: &str) -> Vec<String> {
        ground.step(step).unwrap_or_else(|error| panic!("{step}: {error}"));
        said(ground)
    }

    fn check_refused(ground: &mut Ground, step: &str, expected: &str) {
        assert_eq!(ground.step(step).unwrap_err(), expected, "{step}");
    }

    #[test]
    fn lines_of_shell_see_what_they_declare_and_what_is_constant() {
        for_each_tree(|ground| {
            let step = r#"shell = "env -u PWD -u OLDPWD -u _; pwd; umask; ls /run /run/kiln /sys; cat /proc/1/comm"
                          env = { FOO = "a b", HOME = "/srv" }
                          cwd = "/srv""#;
            let expected = [
                "APT_CONFIG=/run/kiln/apt/apt.conf",
                "DEBCONF_NONINTERACTIVE_SEEN=true",
                "DEBIAN_FRONTEND=noninteractive",
                "FOO=a b",
                "HOME=/srv",
                "INITRD=No",
            ];
            let seen = lines(ground, step);
            let (variables, rest): (Vec<_>, Vec<_>) = seen.into_iter().partition(|line| line.contains('='));
            let mut variables: Vec<String> = variables.into_iter().collect();
            variables.sort();
            assert_eq!(variables[..6], expected);
            assert!(variables.contains(&format!("SOURCE_DATE_EPOCH={EPOCH}")), "{variables:?}");
            let expected = [
                "/srv",
                "0022",
                "/run:",
                "kiln",
                "lock",
                "systemd",
                "",
                "/run/kiln:",
                "factory",
                "step",
                "",
                "/sys:",
                "block",
                "devices",
                "systemd",
            ];
            assert_eq!(rest, expected);
        });
    }

    #[test]
    fn a_step_leaves_only_what_it_made() {
        for_each_tree(|ground| {
            let step = r#"shell = """
                /usr/sbin/policy-rc.d || test $? = 101
                test "$(cat /run/systemd/container)" = kiln
                mkdir /srv/made
                """"#;
            lines(ground, step);
            let expected = ["srv 755 0:0 /", "srv/made 755 0:0 /", "usr 755 0:0 /", "usr/sbin 755 0:0 /"];
            assert_eq!(ground.changes(), expected);
        });
    }

    #[test]
    fn a_policy_of_the_tree_stays() {
        for_each_tree(|ground| {
            put(ground, "/usr/sbin/policy-rc.d", "exit 104");
            lines(ground, "shell = '/usr/sbin/policy-rc.d || test $? = 104'");
            assert!(ground.read("usr/sbin/policy-rc.d").contains("104"));
        });
    }

    #[test]
    fn the_first_failing_line_ends_it() {
        for_each_tree(|ground| {
            check_refused(
                ground,
                r#"shell = "echo one\n! cat /nowhere 2>/dev/null\n(exit 3)\necho never""#,
                "shell step ended with exit code 3: one",
            );
            check_refused(ground, r#"shell = "kill -9 $$""#, "shell step was killed by signal 9: ");
        });
    }

    #[test]
    fn a_first_line_chooses_another_interpreter() {
        for_each_tree(|ground| {
            put(ground, "/usr/bin/other", "echo other $1 $2");
            assert_eq!(lines(ground, "shell = '''#!/usr/bin/other -x\n'''"), ["other -x /run/kiln/step"]);
            check_refused(
                ground,
                "shell = '''#!/usr/bin/nothing\n'''",
                "the tree has no /usr/bin/nothing, which is to run the shell step / add its package to the class's \
                 `packages`, or to this step's `tools`",
            );
        });
    }

    #[test]
    fn a_working_directory_must_be_there() {
        for_each_tree(|ground| {
            check_refused(
                ground,
                "shell = \"true\"\ncwd = \"/nowhere\"",
                "`cwd`: there is no directory /nowhere in the tree",
            );
        });
    }

    #[test]
    fn a_script_runs_with_its_arguments_and_nothing_else_of_the_factory() {
        for_each_tree(|ground| {
            ground.write("other", "");
            ground.write("set/up.sh", "#!/bin/sh\necho $#: \"$2\"\nls -R /run/kiln/factory\nstat -c '%a %u %Y' $0\n");
            let seen = lines(ground, "script = \"set/up.sh\"\nargs = [\"one\", \"t w o\"]");
            let expected = ["2: t w o", "/run/kiln/factory:", "set", "", "/run/kiln/factory/set:", "up.sh"];
            assert_eq!(seen[..6], expected);
            assert_eq!(seen[6], format!("755 0 {EPOCH}"));
        });
    }

    #[test]
    fn a_script_says_what_runs_it() {
        for_each_tree(|ground| {
            ground.write("a.sh", "echo a\n");
            let hint = "begin it with a line such as #!/bin/sh";
            check_refused(ground, "script = \"a.sh\"", &format!("a.sh does not say what runs it / {hint}"));
            ground.write("b.sh", "#!/bin/sh\r\necho b\r\n");
            let hint = "save it with plain line feeds";
            check_refused(ground, "script = \"b.sh\"", &format!("b.sh has the line ends of Windows / {hint}"));
        });
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_an_error() {
        for_each_tree(|ground| {
            ground.write("a.sh", "#!/bin/sh\necho planned\n");
            let work = ground.work("script = \"a.sh\"", b"");
            ground.write("a.sh", "#!/bin/sh\necho changed\n");
            let error = ground.carry_out(&work, b"").unwrap_err();
            assert_eq!(error.to_string(), "a.sh changed while the build ran");
        });
    }

    #[test]
    fn tools_that_are_missing_are_named() {
        for_each_tree(|ground| {
            ground.write("play.yml", "- hosts: all\n");
            ground.write("site.pp", "\n");
            let add = |package: &str| format!("add tools = [\"{package}\"] to this step, and run `kiln lock`");
            let expected = format!("the tree has no ansible-playbook / {}", add("ansible-core"));
            check_refused(ground, "ansible = \"play.yml\"", &expected);
            let expected = format!("the tree has no puppet / {}", add("puppet-agent"));
            check_refused(ground, "puppet = \"site.pp\"", &expected);
        });
    }

    /// A program that stands in for Ansible, and tells what it was given.
    const ANSIBLE: &str = "pwd; echo \"$@\"; cat /run/kiln/ansible/inventory.json; echo; \
                           cat /run/kiln/ansible/variables.json; echo; echo $ANSIBLE_ROLES_PATH $ANSIBLE_CONFIG; \
                           echo 'PLAY RECAP ***'; echo 'localhost : ok=1'";

    #[test]
    fn ansible_is_given_the_playbook_its_groups_and_its_variables() {
        for_each_tree(|ground| {
            put(ground, "/usr/bin/ansible-playbook", ANSIBLE);
            ground.write("a/site.yml", "- hosts: front\n");
            ground.write("a/ansible.cfg", "[defaults]\n");
            ground.write("roles/nginx/tasks/main.yml", "[]\n");
            let seen = lines(ground, "ansible = \"a/site.yml\"\nroles = \"roles\"\nvariables = { a = 1, b = [\"x\"] }");
            let inventory: serde_json::Value = serde_json::from_str(&seen[2]).unwrap();
            assert_eq!(seen[0], "/run/kiln/factory/a");
            let arguments = "-i /run/kiln/ansible/inventory.json -c local --extra-vars \
                             @/run/kiln/ansible/variables.json /run/kiln/factory/a/site.yml";
            assert_eq!(seen[1], arguments);
            assert!(inventory.pointer("/all/children/web/hosts/localhost").is_some(), "{inventory}");
            assert!(inventory.pointer("/all/children/front/hosts/localhost").is_some(), "{inventory}");
            assert_eq!(seen[3], "{\"a\":1,\"b\":[\"x\"]}");
            assert_eq!(seen[4], "/run/kiln/factory/roles /run/kiln/factory/a/ansible.cfg");
        });
    }

    #[test]
    fn a_playbook_for_other_machines_is_no_success() {
        for_each_tree(|ground| {
            put(ground, "/usr/bin/ansible-playbook", "echo 'PLAY RECAP ***'");
            ground.write("a/site.yml", "- hosts: '{{ somewhere }}'\n");
            check_refused(
                ground,
                "ansible = \"a/site.yml\"",
                "no play of a/site.yml is for this machine / the machine is `localhost`, in the groups web: name one of \
                 these in `hosts`",
            );
        });
    }

    #[test]
    fn puppet_says_with_its_exit_code_that_it_changed_something() {
        for_each_tree(|ground| {
            put(ground, "/usr/bin/puppet", "echo \"$@\"; cat /run/kiln/factory/p/data/x.yaml; exit $(cat /srv/code)");
            ground.write("p/site.pp", "\n");
            ground.write("p/hiera.yaml", "---\n");
            ground.write("p/data/x.yaml", "x: 1\n");
            for (code, expected) in [(0, true), (2, true), (4, false), (6, false), (1, false)] {
                ground
                    .layer(&format!("code{code}"), |root| fs::write(root.join("srv/code"), code.to_string()).unwrap());
                assert_eq!(ground.step("puppet = \"p/site.pp\"").is_ok(), expected, "{code}");
            }
            let seen = said(ground);
            assert!(seen[0].starts_with("apply --detailed-exitcodes"), "{seen:?}");
            let end = "--certname web --hiera_config /run/kiln/factory/p/hiera.yaml /run/kiln/factory/p/site.pp";
            assert!(seen[0].ends_with(end), "{seen:?}");
            assert_eq!(seen[1], "x: 1");
        });
    }

    /// What a step does about packages: its repository has one of them.
    fn work_with_package(ground: &Ground, step: &str) -> (StepWork, Vec<u8>) {
        let deb = kiln_testkit::Package::new("tiny", "1:2.0-1").for_all().deb();
        let package = kiln_model::lock::LockedPackage {
            name: "tiny".to_owned(),
            version: "1:2.0-1".to_owned(),
            architecture: "all".to_owned(),
            origin: kiln_model::lock::Origin::File("tiny.deb".into()),
            size: deb.len() as u64,
            sha256: kiln_model::digest::Sha256::of(&deb),
        };
        (StepWork { repository: vec![package], ..ground.work(step, b"") }, deb)
    }

    #[test]
    fn apt_finds_exactly_the_locked_packages() {
        for_each_tree(|ground| {
            put(ground, "/usr/bin/apt-get", "");
            let step = r#"shell = """
                cd /run/kiln/apt
                ls repository/pool
                cat repository/Packages
                test "$(cat repository/Packages)" = "$(cat lists/*_Packages)"
                test "$(cat repository/Release)" = "$(cat lists/*_Release)"
                ! { echo x > repository/pool/new; } 2>/dev/null
                ls /run/kiln
                echo 'deb http://mirror.example x y' > sources.list.d/mine.list
                """"#;
            let (work, deb) = work_with_package(ground, step);
            ground.carry_out(&work, &deb).unwrap_or_else(|error| panic!("{error:?} {:?}", said(ground)));
            let seen = said(ground);
            assert_eq!(seen[0], "tiny_2.0-1_all.deb", "{:?} {seen:?}", ground.identity);
            assert!(seen.contains(&"Version: 1:2.0-1".to_owned()), "{seen:?}");
            assert!(seen.contains(&"Filename: ./pool/tiny_2.0-1_all.deb".to_owned()), "{seen:?}");
            assert!(seen.contains(&format!("SHA256: {}", work.repository[0].sha256)), "{seen:?}");
            assert_eq!(seen[seen.len() - 3..], ["apt", "factory", "step"]);
            assert_eq!(ground.read("etc/apt/sources.list.d/mine.list"), "deb http://mirror.example x y\n");
            assert_eq!(fs::read_dir(ground.path("store/tmp")).unwrap().count(), 0);
        });
    }

    #[test]
    fn what_apt_misses_is_said_with_what_to_do() {
        for_each_tree(|ground| {
            put(ground, "/usr/bin/apt-get", "echo 'E: Unable to locate package nginx' >&2; exit 100");
            let (work, deb) = work_with_package(ground, "shell = \"apt-get install -y nginx\"");
            let error = ground.carry_out(&work, &deb).unwrap_err();
            let StageError::Program { program, ending, last_lines, hint } = error else { panic!("{error:?}") };
            assert_eq!((program.as_str(), ending), ("shell step", Ending::Code(100)));
            assert_eq!(last_lines, ["E: Unable to locate package nginx"]);
            assert!(hint.unwrap().contains("add \"nginx\" to `packages` of class web"));
        });
    }
}
