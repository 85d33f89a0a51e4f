//! Mirrors and keys from the host's own apt configuration, in both of its formats, with strangers in between.

#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use kiln_build::factory::Factory;
use kiln_build::lock::{LockFailure, LockOptions, Update, lock};
use kiln_build::{Environment, Host, Memory};
use kiln_model::event::Silent;
use kiln_model::lock::Lock;
use kiln_store::{FetchOptions, Store};
use kiln_testkit::repository::Mirror;
use kiln_testkit::web::Web;
use kiln_testkit::{Home, Key, Package, Repository, Suite};

const SPEC: &str = "[factory]\nname = \"shop\"\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\n\
                    architecture = \"amd64\"\n[class.base]\ndistribution = \"trixie\"\npackages = [\"openssl\"]\n";

/// A host with a private apt directory and keyring directory, and a factory that names no mirror.
struct Machine {
    home: Home,
    mirror: Mirror,
}

impl Machine {
    fn new() -> Self {
        let home = Home::new();
        let mirror = Repository::debian(home.path().join("mirror")).write();
        home.write("shop/kiln.toml", SPEC);
        home.write("keyrings/debian-archive-keyring.gpg", fs::read(mirror.keyring()).unwrap());
        fs::create_dir_all(home.path().join("apt/sources.list.d")).unwrap();
        Self { home, mirror }
    }

    /// Locks the factory with these files below apt's directory.
    fn lock(&self, sources: &[(&str, &str)]) -> Result<Lock, LockFailure> {
        for (path, text) in sources {
            self.home.write(&format!("apt/{path}"), text);
        }
        let host = Host::read(Vec::new(), &self.path("apt"), &self.path("keyrings"));
        let store = Store::open(&self.home.cache()).unwrap();
        let fetch = FetchOptions { attempts: 1, ..FetchOptions::default() };
        let now: Timestamp = "2025-10-01T00:00:00Z".parse().unwrap();
        let memory = Memory::default();
        let environment =
            Environment { store: &store, fetch: &fetch, host: &host, report: &Silent, memory: &memory, now };
        let factory = Factory::new(&self.path("shop"));
        let options = LockOptions { update: Update::Nothing, allow_older: false };
        lock(&factory, &factory.spec().unwrap(), None, &options, &environment)
    }

    fn path(&self, path: &str) -> Utf8PathBuf {
        self.home.path().join(path)
    }
}

/// The version of a package of the class.
fn version(lock: &Lock, name: &str) -> String {
    lock.packages_of("base").into_iter().find(|package| package.name == name).unwrap().version.clone()
}

#[test]
fn one_line_sources_name_the_mirror() {
    let machine = Machine::new();
    let uri = machine.mirror.uri();
    let text = format!(
        "# the system's own\ndeb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] {uri} trixie main contrib\n\
         deb-src {uri} trixie main\ndeb {uri} trixie-updates main\ndeb {uri} trixie-security main\n"
    );
    let lock = machine.lock(&[("sources.list", &text)]).unwrap();
    assert_eq!(version(&lock, "openssl"), "3.5.1-1+deb13u1");
}

#[test]
fn deb822_sources_name_the_mirror() {
    let machine = Machine::new();
    let uri = machine.mirror.uri();
    let text = format!(
        "# Debian\nTypes: deb deb-src\nURIs: {uri}\nSuites: trixie trixie-updates\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
         Types: deb\nURIs: {uri}\nSuites: trixie-security\nComponents: main\n"
    );
    let lock = machine.lock(&[("sources.list.d/debian.sources", &text)]).unwrap();
    assert_eq!(version(&lock, "openssl"), "3.5.1-1+deb13u1");
}

#[test]
fn strangers_are_not_asked_or_not_believed() {
    let machine = Machine::new();
    let uri = machine.mirror.uri();
    let never = Web::serve(&machine.path("tmp"));
    let other = Suite::new("trixie").origin("Somebody").signed_by([Key::named("somebody")]);
    let other = other.package(Package::new("openssl", "99"));
    let somebody = Repository::new(machine.path("somebody")).suite(other).write();
    // Signed with a key that is trusted, and yet not Debian.
    let derived = Suite::new("trixie").origin("Derivative").package(Package::new("openssl", "98"));
    let derivative = Repository::new(machine.path("derivative")).suite(derived).write();
    let strangers = format!(
        "Types: deb\nURIs: {0}\nSuites: nodistro\nComponents: main\n\n\
         Types: deb\nURIs: {0}\nSuites: trixie\nComponents: main\nEnabled: no\n\n\
         Types: deb-src\nURIs: {0}\nSuites: trixie\nComponents: main\n\n\
         Types: deb\nURIs: {0}\nSuites: noble noble-updates\nComponents: main\n\n\
         Types: deb\nURIs: {0}\nSuites: ./\n",
        never.url()
    );
    let list = format!("deb {} trixie main\ndeb {} trixie main\n", somebody.uri(), derivative.uri());
    let lock = machine.lock(&[
        ("sources.list", &list),
        ("sources.list.d/a.sources", &strangers),
        ("sources.list.d/b.sources.disabled", &format!("Types: deb\nURIs: {}\nSuites: trixie\n", never.url())),
        ("sources.list.d/nonsense.list", "deb\n[[[\n\u{0}\n"),
        ("sources.list.d/z.list", &format!("deb {uri} trixie main\n")),
    ]);
    assert_eq!(version(&lock.unwrap(), "openssl"), "3.5.1-1+deb13u1");
    assert_eq!(never.requests(), []);
}

#[test]
fn security_may_have_an_entry_of_its_own() {
    let machine = Machine::new();
    let patched = Package::new("openssl", "3.5.1-1+deb13u7").depends("libc6");
    let security = Suite::security("trixie").package(patched);
    let elsewhere = Repository::new(machine.path("elsewhere")).suite(security).write();
    fs::remove_dir_all(machine.mirror.root().join("dists/trixie-security")).unwrap();
    let text = format!(
        "deb {} trixie main\ndeb {} trixie-updates main\ndeb {} trixie-security main\n",
        machine.mirror.uri(),
        machine.mirror.uri(),
        elsewhere.uri()
    );
    let lock = machine.lock(&[("sources.list", &text)]).unwrap();
    assert_eq!(version(&lock, "openssl"), "3.5.1-1+deb13u7");
}

#[test]
fn the_next_entry_serves_where_the_first_does_not() {
    let machine = Machine::new();
    let dead = Web::serve(&machine.path("tmp")).url();
    let text = format!("deb {dead} trixie main\ndeb {} trixie main\n", machine.mirror.uri());
    let _ = machine.lock(&[("sources.list", &text)]).unwrap();
}

#[test]
fn without_any_source_a_mirror_is_asked_for() {
    for sources in
        [&[][..], &[("sources.list", "# nothing\n")], &[("sources.list", "deb http://mirror.example x main\n")]]
    {
        let failure = Machine::new().lock(sources).unwrap_err();
        assert_eq!(failure.to_string(), "no mirror is known for distribution trixie (debian trixie)");
        let hint = failure.hint().unwrap();
        assert!(hint.contains("`mirror` of the distribution in kiln.toml, or KILN_MIRROR"), "{hint}");
    }
}

#[test]
fn keys_that_the_host_does_not_have_are_not_trusted() {
    let machine = Machine::new();
    let keyring = machine.path("keyrings/debian-archive-keyring.gpg");
    let text = format!("deb {} trixie main\n", machine.mirror.uri());
    fs::remove_file(&keyring).unwrap();
    let failure = machine.lock(&[("sources.list", &text)]).unwrap_err();
    assert!(failure.to_string().contains("the key is not in the keyring"), "{failure}");
    // A keyring under its newer name.
    let newer: &Utf8Path = &keyring.with_extension("pgp");
    fs::copy(machine.mirror.keyring(), newer).unwrap();
    let _ = machine.lock(&[]).unwrap();
}
