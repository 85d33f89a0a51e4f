//! A private home directory, and the `kiln` binary run in it as a user would.
//!
//! Nothing of the caller's environment reaches the binary: only what [`Home`] and the test set.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;

/// A home directory with its XDG directories; removed when dropped.
#[derive(Debug)]
pub struct Home {
    directory: tempfile::TempDir,
}

/// One run of the `kiln` binary, being described.
#[derive(Debug)]
pub struct Kiln {
    binary: Utf8PathBuf,
    home: Utf8PathBuf,
    directory: Utf8PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; `None` if a signal ended the process.
    pub status: Option<i32>,
    /// Everything it wrote to standard output.
    pub stdout: String,
    /// Everything it wrote to standard error.
    pub stderr: String,
    command: String,
    home: Utf8PathBuf,
}

/// A run that has not ended; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    command: String,
    home: Utf8PathBuf,
}

/// Where programs are looked for in a run.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A home's subdirectories and the variables that name them.
const DIRECTORIES: &[(&str, &str)] = &[
    ("XDG_CACHE_HOME", "cache"),
    ("XDG_CONFIG_HOME", "config"),
    ("XDG_DATA_HOME", "data"),
    ("XDG_RUNTIME_DIR", "runtime"),
    ("XDG_STATE_HOME", "state"),
    ("TMPDIR", "tmp"),
];

impl Home {
    /// An empty home.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("kiln-home-").tempdir().expect("make a home directory");
        let home = Self { directory };
        for (_, name) in DIRECTORIES {
            fs::create_dir(home.path().join(name)).expect("make a directory of the home");
        }
        home
    }

    /// The home directory itself.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("temporary directories have UTF-8 names")
    }

    /// Kiln's cache in this home: the store.
    #[must_use]
    pub fn cache(&self) -> Utf8PathBuf {
        self.path().join("cache/kiln")
    }

    /// Kiln's state in this home.
    #[must_use]
    pub fn state(&self) -> Utf8PathBuf {
        self.path().join("state/kiln")
    }

    /// Writes files, given by their path in the home, with their parent directories.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) -> Utf8PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make a directory of the home");
        fs::write(&path, contents).expect("write a file of the home");
        path
    }

    /// Panics if a run left temporary or half-written files anywhere in the home.
    pub fn check_no_leftovers(&self) {
        check_no_leftovers(self.path());
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// Panics if `directory` holds what a finished run must have removed: any file in a directory named `tmp` or `partial`,
/// or one that was being written aside (`.new`, `.tmp`, `.part`, `.partial` at the end of its name).
pub fn check_no_leftovers(directory: &Utf8Path) {
    let mut leftovers = Vec::new();
    collect_leftovers(directory, false, &mut leftovers);
    assert!(leftovers.is_empty(), "left behind in {directory}: {leftovers:#?}");
}

fn collect_leftovers(directory: &Utf8Path, all: bool, leftovers: &mut Vec<Utf8PathBuf>) {
    const UNFINISHED: [&str; 4] = ["new", "tmp", "part", "partial"];
    for entry in directory.read_dir_utf8().expect("list a directory") {
        let entry = entry.expect("list a directory");
        let is_directory = entry.file_type().expect("ask what a file is").is_dir();
        if is_directory {
            let all = all || matches!(entry.file_name(), "tmp" | "partial");
            collect_leftovers(entry.path(), all, leftovers);
        } else if all || entry.path().extension().is_some_and(|extension| UNFINISHED.contains(&extension)) {
            leftovers.push(entry.into_path());
        }
    }
}

impl Kiln {
    /// A run of `binary`, which a test of the crate `kiln` knows as `env!("CARGO_BIN_EXE_kiln")`, in the home directory.
    #[must_use]
    pub fn new(binary: impl Into<Utf8PathBuf>, home: &Home) -> Self {
        let directory = home.path().to_owned();
        let kiln = Self {
            binary: binary.into(),
            home: home.path().to_owned(),
            directory,
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        };
        let kiln = kiln.env("HOME", home.path().as_str()).env("PATH", SEARCH_PATH).env("LC_ALL", "C.UTF-8");
        DIRECTORIES.iter().fold(kiln, |kiln, (variable, name)| kiln.env(variable, home.path().join(name).as_str()))
    }

    /// Runs in another directory, relative to the home: the factory.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.directory = self.home.join(path);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<String>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable of the environment.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Runs to the end.
    #[must_use]
    pub fn run(&self) -> Output {
        self.spawn().wait()
    }

    /// Starts, for tests that interrupt it.
    #[must_use]
    pub fn spawn(&self) -> Running {
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).current_dir(&self.directory).env_clear().envs(&self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("run {}: {error}", self.binary));
        Running {
            stdout: child.stdout.take().map(read_all),
            stderr: child.stderr.take().map(read_all),
            child,
            command: format!("kiln {}", self.arguments.join(" ")),
            home: self.home.clone(),
        }
    }
}

/// Reads a stream to its end beside the process, so that neither waits for the other.
fn read_all(mut stream: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("read what the process writes");
        String::from_utf8(bytes).expect("the process writes UTF-8")
    })
}

impl Running {
    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("interrupt the process");
    }

    /// Ends it as `kill -9` does, and returns what it had written.
    #[must_use]
    pub fn kill(mut self) -> Output {
        self.child.kill().expect("kill the process");
        self.wait()
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait(mut self) -> Output {
        let status = self.child.wait().expect("wait for the process").code();
        let text = |stream: Option<JoinHandle<String>>| {
            stream.map(|stream| stream.join().expect("the reader does not panic")).unwrap_or_default()
        };
        Output {
            status,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            command: self.command.clone(),
            home: self.home.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error here means that the process has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// Panics, with all that was written, unless the exit code is `code`.
    #[must_use]
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        let Self { status, stdout, stderr, command, .. } = &self;
        assert_eq!(*status, Some(code), "exit code of `{command}`\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        self
    }

    /// Panics, with all that was written, unless the exit code is 0.
    #[must_use]
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Exit code, standard output and standard error as one text for snapshots; the home directory reads `[HOME]`.
    #[must_use]
    pub fn report(&self) -> String {
        let status = self.status.map_or("killed".to_owned(), |code| code.to_string());
        let text = format!("exit: {status}\n--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr);
        text.replace(self.home.as_str(), "[HOME]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell stands in for the binary: this is the runner's test, not Kiln's.
    fn shell(home: &Home, script: &str) -> Kiln {
        Kiln::new("/bin/sh", home).args(["-c", script])
    }

    #[test]
    fn a_run_sees_its_home_and_nothing_else() {
        let home = Home::new();
        let output = shell(&home, "env | cut -d= -f1 | sort | tr '\\n' ' '; echo \"$XDG_CACHE_HOME\" >&2").run();
        let output = output.success();
        let expected = [
            "HOME",
            "LC_ALL",
            "PATH",
            "PWD",
            "TMPDIR",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "XDG_RUNTIME_DIR",
            "XDG_STATE_HOME",
        ];
        let seen: Vec<&str> =
            output.stdout.split_whitespace().filter(|name| !matches!(*name, "_" | "OLDPWD")).collect();
        assert_eq!(seen, expected);
        assert!(output.report().ends_with("--- stderr\n[HOME]/cache\n"), "{}", output.report());
    }

    #[test]
    fn codes_directories_and_variables_arrive() {
        let home = Home::new();
        home.write("shop/kiln.toml", "x");
        let run = shell(&home, "cat kiln.toml; echo $GREETING; exit 3").directory("shop").env("GREETING", "hello");
        assert_eq!(run.run().code(3).stdout, "xhello\n");
        assert_eq!(run.without_env("GREETING").run().stdout, "x\n");
    }

    #[test]
    #[should_panic(expected = "not good")]
    fn an_unexpected_code_shows_what_was_written() {
        let _ = shell(&Home::new(), "echo not good >&2; exit 1").run().success();
    }

    #[test]
    fn large_outputs_do_not_block_either_side() {
        let home = Home::new();
        let output =
            shell(&home, "head -c 300000 /dev/zero | tr '\\0' e >&2; head -c 300000 /dev/zero | tr '\\0' o").run();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000));
    }

    #[test]
    fn a_run_can_be_interrupted_and_killed() {
        let home = Home::new();
        let running = shell(&home, "exec sleep 60").spawn();
        assert_eq!(running.kill().status, None);
        let running = shell(&home, "exec sleep 60").spawn();
        running.interrupt();
        assert_eq!(running.wait().status, None);
    }

    #[test]
    fn leftovers_are_found_where_they_hide() {
        let home = Home::new();
        home.write("cache/kiln/sha256/ab/cd", "kept");
        home.check_no_leftovers();
        for path in ["cache/kiln/tmp/x", "cache/kiln/partial/a/b", "tmp/y", "shop/.kiln.lock.new", "state/kiln/z.tmp"] {
            let written = home.write(path, "left");
            let found = std::panic::catch_unwind(|| check_no_leftovers(home.path()));
            assert!(found.is_err(), "{path}");
            fs::remove_file(written).unwrap();
        }
        home.check_no_leftovers();
    }
}
