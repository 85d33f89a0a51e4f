//! mmdebstrap, which makes whole trees with the suite's own dpkg, and apt from outside.
//!
//! It is a program of many programs (perl, apt, dpkg, tar), which it starts by their usual paths: so its packages, unpacked
//! by Kiln, are the root directory of a sandbox. There it is root with all capabilities, of the host's root or of an
//! ordinary user's subordinate ids; it sees one repository and one directory of the host, and no network.

use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::{Bind, CancelToken, Identity, Inside, Sandbox, Upper};

use super::Tree;

/// What mmdebstrap is made of; the essential set, which every class has, is the rest.
pub(crate) const PACKAGES: &[&str] = &["mmdebstrap", "apt", "mount"];

/// mmdebstrap in its tree.
#[derive(Debug)]
pub(crate) struct Mmdebstrap {
    tree: Tree,
    identity: Identity,
    /// As it says itself.
    pub(crate) version: String,
}

/// One tree to make.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) suite: &'a str,
    pub(crate) architecture: &'a str,
    /// A directory with `Packages` and what it lists.
    pub(crate) repository: &'a Utf8Path,
    /// The packages that are asked for, besides the essential ones and apt.
    pub(crate) include: Vec<String>,
    /// `SOURCE_DATE_EPOCH`.
    pub(crate) epoch: i64,
    /// More variables for maintainer scripts.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// The directory of the host that gets what is made; empty.
    pub(crate) out: &'a Utf8Path,
    /// What is made there.
    pub(crate) format: Format,
}

/// What mmdebstrap leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `tree.tar`.
    Tar,
    /// The directory `tree`.
    Directory,
}

/// Where the repository is inside: below `/run`, which mmdebstrap empties.
const REPOSITORY: &str = "/run/kiln/repository";
/// Where the host's directory is inside.
const OUT: &str = "/run/kiln/out";

/// Accounts that apt and tar look for; the packages are unpacked, and no script made them.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

impl Mmdebstrap {
    pub(crate) fn new(tree: Tree) -> anyhow::Result<Self> {
        let identity = Identity::of_caller().context("find out who root is inside")?;
        let mut mmdebstrap = Self { tree, identity, version: String::new() };
        let (_, lines) = mmdebstrap.run(&["--version".into()], Vec::new(), Vec::new())?;
        let version = lines.iter().find_map(|line| line.strip_prefix("mmdebstrap "));
        mmdebstrap.version = version.context("find mmdebstrap's version")?.trim().to_owned();
        Ok(mmdebstrap)
    }

    /// Makes a tree; says how long the program itself took.
    pub(crate) fn make(&self, order: &Order<'_>) -> anyhow::Result<Duration> {
        let binds = vec![
            Bind { from: absolute(order.repository)?, to: REPOSITORY.into(), read_only: true },
            Bind { from: absolute(order.out)?, to: OUT.into(), read_only: false },
        ];
        let mut environment = vec![("SOURCE_DATE_EPOCH".to_owned(), order.epoch.to_string())];
        environment.extend(order.environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let (took, _) = self.run(&arguments(order), environment, binds)?;
        Ok(took)
    }

    /// Runs it to its end, which must be good; says how long it took and what it wrote.
    fn run(
        &self,
        arguments: &[OsString],
        environment: Vec<(String, String)>,
        binds: Vec<Bind>,
    ) -> anyhow::Result<(Duration, Vec<String>)> {
        let root = absolute(&self.tree.path(""))?;
        let mut sandbox = Sandbox::new(kiln_sandbox::Tree { lowers: vec![root], upper: Upper::Discard }, self.identity);
        sandbox.binds = binds;
        sandbox.environment.extend(environment);
        let mut lines = Vec::new();
        let cancel = CancelToken::new()?;
        let variables = sandbox.environment.clone();
        let work = |_: &Inside<'_>| {
            let mut command = Command::new("/usr/bin/mmdebstrap");
            command.args(arguments).env_clear().envs(&variables).stdin(Stdio::null());
            start(&mut command).map_err(|error| error.to_string())
        };
        let ended: Result<(bool, u64), String> =
            sandbox.call(work, &mut |line| lines.push(line.to_owned()), &cancel).context("run mmdebstrap")?;
        match ended {
            Ok((true, took_us)) => Ok((Duration::from_micros(took_us), lines)),
            Ok((false, _)) => bail!("mmdebstrap failed:\n{}", last(&lines)),
            Err(reason) => bail!("start mmdebstrap: {reason}"),
        }
    }
}

/// Inside: writes the accounts, runs the program; whether it succeeded, and its time in microseconds.
fn start(command: &mut Command) -> io::Result<(bool, u64)> {
    fs::write("/etc/passwd", PASSWD)?;
    fs::write("/etc/group", GROUP)?;
    let started = Instant::now();
    let status = command.status()?;
    Ok((status.success(), u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)))
}

fn arguments(order: &Order<'_>) -> Vec<OsString> {
    let format = match order.format {
        Format::Tar => "tar",
        Format::Directory => "directory",
    };
    let mut arguments = vec![
        "--mode=root".to_owned(),
        // The essential set and apt, as Kiln's.
        "--variant=apt".to_owned(),
        format!("--format={format}"),
        format!("--architectures={}", order.architecture),
        "--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount".to_owned(),
    ];
    if !order.include.is_empty() {
        arguments.push(format!("--include={}", order.include.join(",")));
    }
    let target = match order.format {
        Format::Tar => format!("{OUT}/tree.tar"),
        Format::Directory => format!("{OUT}/tree"),
    };
    let mirror = format!("deb [trusted=yes] file://{REPOSITORY} ./");
    arguments.extend([order.suite.to_owned(), target, mirror]);
    arguments.into_iter().map(OsString::from).collect()
}

fn absolute(path: &Utf8Path) -> anyhow::Result<Utf8PathBuf> {
    path.canonicalize_utf8().with_context(|| format!("find {path}"))
}

/// What it said at its end.
fn last(lines: &[String]) -> String {
    let begin = lines.len().saturating_sub(40);
    lines[begin..].join("\n")
}
