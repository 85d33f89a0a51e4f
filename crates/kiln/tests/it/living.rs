//! A factory whose packages really install: its essential set has this machine's own dpkg, shell and C library.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::Survey;
use kiln_testkit::{Compression, Home, Output, Package, Repository, Suite};
use serde_json::Value;

use crate::fixture::{Shop, package};

/// What dpkg asks for, and what the steps of the tests use.
const PROGRAMS: &[&str] = &[
    "cat",
    "chmod",
    "chown",
    "cp",
    "dash",
    "date",
    "diff",
    "dpkg",
    "dpkg-deb",
    "dpkg-divert",
    "dpkg-query",
    "dpkg-statoverride",
    "dpkg-trigger",
    "env",
    "hostname",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "sed",
    "sleep",
    "sort",
    "tar",
    "touch",
    "true",
    "update-alternatives",
];

/// Programs of the administrator, which Debian has elsewhere.
const ADMINISTRATION: &[&str] = &["groupadd", "ldconfig", "start-stop-daemon", "useradd"];

/// Two classes, of which one adds a directory, a command and a user.
pub(crate) const CLASSES: &str = "
[class.base]
distribution = \"trixie\"
packages = [\"openssl\"]

[class.web]
from = \"base\"
packages = [\"nginx\"]
[[class.web.step]]
copy = \"site\"
to = \"/srv\"
[[class.web.step]]
shell = \"echo hello >/etc/greeting\"
[[class.web.step]]
user = \"shop\"
system = true
";

/// A locked factory with these classes; nothing where this machine cannot build.
pub(crate) fn shop(classes: &str) -> Option<Shop> {
    shop_with(classes, with_life)
}

/// The same from a repository that has more than life.
pub(crate) fn shop_with(classes: &str, repository: impl FnOnce(Repository) -> Repository) -> Option<Shop> {
    let shop = Shop::with(classes, repository);
    if !can_build(&shop.home) {
        return None;
    }
    shop.write("site/index.html", "hello\n");
    shop.write("site/css/a.css", "a {}\n");
    shop.spec(classes);
    shop.lock();
    Some(shop)
}

/// Whether this machine can build with a store in the home; says so if not.
pub(crate) fn can_build(home: &Home) -> bool {
    let can = Survey::of(&home.cache()).can_work();
    if !can {
        kiln_testkit::cannot_test("kiln doctor says that this machine cannot build");
    }
    can
}

/// The repository with an essential set that works.
pub(crate) fn with_life(repository: Repository) -> Repository {
    repository.change("trixie", |suite: Suite| suite.replace(living_dpkg().clone()).replace(accounts()))
}

/// Everything that dpkg needs, as one package.
fn living_dpkg() -> &'static Package {
    static LIVING: OnceLock<Package> = OnceLock::new();
    LIVING.get_or_init(|| {
        let mut living = package("dpkg").compressed(Compression::None).symlink("/usr/bin/sh", "dash");
        let mut libraries = BTreeSet::new();
        for (names, directory) in [(PROGRAMS, "usr/bin"), (ADMINISTRATION, "usr/sbin")] {
            for name in names {
                let path = found(name);
                libraries.extend(libraries_of(&path));
                living = living.executable(&format!("/{directory}/{name}"), fs::read(path).unwrap());
            }
        }
        for library in libraries {
            let merged = if library.starts_with("/usr") { library.to_string() } else { format!("/usr{library}") };
            living = living.executable(&merged, fs::read(&library).unwrap());
        }
        let directories = ["/etc/alternatives", "/usr/share/dpkg", "/var/lib/dpkg/alternatives", "/var/lib/dpkg/info"];
        let directories = directories.into_iter().chain(["/var/lib/dpkg/parts", "/var/lib/dpkg/updates"]);
        directories.fold(living, |living, path| living.directory(path, 0o755))
    })
}

/// The accounts that every Debian system begins with, as far as anybody asks for them.
fn accounts() -> Package {
    package("base-passwd")
        .file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n")
        .file("/etc/group", "root:x:0:\nshadow:x:42:\nnogroup:x:65534:\n")
}

fn found(name: &str) -> Utf8PathBuf {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    let mut paths = directories.iter().map(|directory| Utf8Path::new(directory).join(name));
    paths.find(|path| path.exists()).unwrap_or_else(|| panic!("this machine has no {name}"))
}

/// The libraries of a program, the loader among them, as it finds them itself.
fn libraries_of(program: &Utf8Path) -> Vec<Utf8PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("run ldd");
    let text = String::from_utf8(output.stdout).expect("ldd writes text");
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(Utf8PathBuf::from).collect()
}

/// What `kiln build --json` says, line by line.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) events: Vec<Value>,
    pub(crate) result: Value,
}

impl Told {
    /// The lines of a run with `--json`, which must end with this code.
    #[track_caller]
    pub(crate) fn of(output: Output, code: i32) -> Self {
        let output = output.code(code);
        let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let result = lines.iter().find(|line| line["result"] == "build").map(|line| line["value"].clone());
        let events = lines.into_iter().filter(|line| line["event"].is_string()).collect();
        Self { events, result: result.unwrap_or_default() }
    }

    /// The stages that an event tells of: `web: step 1: copy site`.
    pub(crate) fn stages(&self, event: &str) -> Vec<String> {
        let events = self.events.iter().filter(|one| one["event"] == event);
        let name =
            |event: &Value| format!("{}: {}", event["class"].as_str().unwrap(), event["stage"].as_str().unwrap());
        events.map(name).collect()
    }

    /// The digest of a class's tree.
    pub(crate) fn tree(&self, class: &str) -> String {
        let classes = self.result["classes"].as_array().unwrap();
        let class = classes.iter().find(|row| row["class"] == class).unwrap_or_else(|| panic!("no {class}"));
        class["tree"].as_str().unwrap().to_owned()
    }
}

/// Builds every class, or those that are named.
#[track_caller]
pub(crate) fn build(shop: &Shop, arguments: &str) -> Told {
    Told::of(shop.run(&format!("build --tree-only --json {arguments}")), 0)
}
