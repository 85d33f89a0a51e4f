//! The works that are compared, with `examples/shop`: its class `web` is what apt is asked to install.

use std::process::Command;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_build::factory::Factory;
use kiln_model::lock::{FILE_NAME, Lock};
use kiln_model::spec::RequestKind;

use super::figures::Figure;
use super::measure::{Comparison, Pace, peak_memory, time};
use crate::oracle::{Answer, Apt, List, MMDEBSTRAP_PACKAGES, Network, Package, Tree, Workshop, printed};
use crate::root;

/// Both sides, ready.
pub(super) struct Bench {
    pub(super) kiln: Utf8PathBuf,
    pub(super) directory: Utf8PathBuf,
    pub(super) workshop: Workshop,
    /// What apt is asked for: the words of `web` and of its parent.
    pub(super) requests: Vec<String>,
    pub(super) lock: Lock,
    /// The lock of the peers.
    pub(super) tools: Lock,
    tree: Tree,
    apt: Apt,
    environment: Vec<(&'static str, String)>,
}

/// The copy of the shop, and the store that has its indexes.
const SHOP: &str = "shop";
const WARM_STORE: &str = "store-warm";

/// The class of the shop that has everything.
pub(super) const CLASS: &str = "web";

/// The class that is mmdebstrap.
pub(super) const MMDEBSTRAP: &str = "mmdebstrap";

/// apt's side: gpgv for its signatures, the keys, and certificates for mirrors that want TLS.
const TOOLS: &str = "packages = [\"apt\", \"gpgv\", \"debian-archive-keyring\", \"ca-certificates\"]";

impl Bench {
    /// Brings trixie's apt, copies the shop, fills both sides' indexes.
    pub(super) fn prepare(kiln: Utf8PathBuf, directory: Utf8PathBuf, network: &Network) -> anyhow::Result<Self> {
        let workshop = Workshop::open(&directory, network)?;
        let tools = workshop.provide(&format!(
            "[factory]\nname = \"bench\"\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\n\
             [class.apt]\ndistribution = \"trixie\"\n{TOOLS}\n\
             [class.{MMDEBSTRAP}]\ndistribution = \"trixie\"\npackages = {MMDEBSTRAP_PACKAGES:?}\n"
        ))?;
        let tree = workshop.unpack(&tools, "apt")?;
        let environment = network.environment();
        let shop = directory.join(SHOP);
        copy_shop(&shop)?;
        let factory = Factory::new(&shop);
        let apt = prepare_apt(&tree, &workshop, &tools, &directory.join("apt"))?;
        printed(apt.command()?.envs(environment.clone()).arg("update"))?;
        printed(&mut kiln_command(&kiln, &shop, "lock", &directory.join(WARM_STORE)))?;
        let lock = factory.lock()?.context("find the lock that kiln wrote")?;
        let requests = requests(&factory)?;
        let bench = Self { kiln, directory, workshop, requests, lock, tools, tree, apt, environment };
        bench.check_same_selection()?;
        Ok(bench)
    }

    pub(super) fn apt_version(&self) -> &str {
        &self.apt.version
    }

    /// A lock from indexes that are there, with no lock before, against a simulated installation.
    pub(super) fn lock_with_indexes(&self, pace: Pace) -> anyhow::Result<Comparison> {
        let kiln = |_| {
            self.forget_lock()?;
            time(self.kiln_command("lock", &self.store()).arg("--offline"))
        };
        let apt = |_| time(self.simulation(&self.apt)?.arg("-qq"));
        pace.compare("lock, indexes present", "apt-get install --simulate", 1.0 / 3.0, kiln, apt)
    }

    /// A lock where nothing is there, against an update and a simulated installation.
    pub(super) fn first_lock(&self, pace: Pace) -> anyhow::Result<Comparison> {
        let kiln = |run| {
            self.forget_lock()?;
            let store = self.directory.join(format!("store-{run}"));
            let took = time(&mut self.kiln_command("lock", &store));
            fs::remove_dir_all(&store)?;
            took
        };
        let apt = |run| {
            let root = self.directory.join(format!("apt-{run}"));
            let apt = prepare_apt(&self.tree, &self.workshop, &self.lock, &root)?;
            let update = time(self.with_proxies(apt.command()?).args(["update", "-qq"]))?;
            let took = update + time(self.simulation(&apt)?.arg("-qq"))?;
            fs::remove_dir_all(&root)?;
            Ok(took)
        };
        pace.compare("first lock, with downloads", "apt-get update, install --simulate", 1.0, kiln, apt)
    }

    /// All packages of the shop into an empty store, against apt's download into an empty cache.
    pub(super) fn fetch(&self, pace: Pace) -> anyhow::Result<Comparison> {
        let packages = self.lock.packages_of(CLASS).len();
        printed(&mut self.kiln_command("lock", &self.store()))?;
        let kiln = |run| {
            let store = self.directory.join(format!("store-{run}"));
            let took = time(self.kiln_command("fetch", &store).args(["--no-toolbox", CLASS]));
            fs::remove_dir_all(&store)?;
            took
        };
        let apt = |_| {
            let mut clean = self.apt_get()?;
            printed(clean.arg("clean"))?;
            let took = time(self.installation(&self.apt)?.args(["-qq", "--download-only"]))?;
            self.check_downloaded(packages)?;
            Ok(took)
        };
        pace.compare(&format!("fetch of {packages} packages"), "apt-get install --download-only", 1.0, kiln, apt)
    }

    /// The most memory that a lock takes.
    pub(super) fn memory(&self) -> anyhow::Result<Vec<Figure>> {
        let store = self.directory.join("store-memory");
        self.forget_lock()?;
        let first = peak_memory(&mut self.kiln_command("lock", &store))?;
        self.forget_lock()?;
        let again = peak_memory(self.kiln_command("lock", &store).arg("--offline"))?;
        fs::remove_dir_all(&store)?;
        let figure = |what: &str, bytes: u64| Figure::new(what, bytes as f64 / 1e6, "MB", Some(200.0));
        Ok(vec![figure("peak memory, first lock", first), figure("peak memory, lock, indexes present", again)])
    }

    pub(super) fn store(&self) -> Utf8PathBuf {
        self.directory.join(WARM_STORE)
    }

    fn forget_lock(&self) -> anyhow::Result<()> {
        let path = self.directory.join(SHOP).join(FILE_NAME);
        if path.exists() {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn kiln_command(&self, verb: &str, store: &Utf8Path) -> Command {
        kiln_command(&self.kiln, &self.directory.join(SHOP), verb, store)
    }

    fn apt_get(&self) -> anyhow::Result<Command> {
        Ok(self.with_proxies(self.apt.command()?))
    }

    fn installation(&self, apt: &Apt) -> anyhow::Result<Command> {
        let mut command = self.with_proxies(apt.command()?);
        command.args(["install", "--yes", "--no-install-recommends", "?essential"]).args(&self.requests);
        Ok(command)
    }

    fn simulation(&self, apt: &Apt) -> anyhow::Result<Command> {
        let mut command = self.installation(apt)?;
        command.arg("--simulate");
        Ok(command)
    }

    fn with_proxies(&self, mut command: Command) -> Command {
        command.envs(self.environment.clone());
        command
    }

    /// The comparison is of the same work only if both choose the same packages.
    fn check_same_selection(&self) -> anyhow::Result<()> {
        let answer = self.apt.select(&self.requests, false)?;
        let locked = self.lock.packages_of(CLASS);
        let ours =
            locked.iter().map(|package| Package { name: package.name.clone(), version: package.version.clone() });
        let is_same = answer == Answer::Selected(ours.collect());
        ensure!(is_same, "apt and Kiln choose different packages for examples/shop: {answer:?}");
        Ok(())
    }

    fn check_downloaded(&self, packages: usize) -> anyhow::Result<()> {
        let archives = self.directory.join("apt/var/cache/apt/archives");
        let is_deb = |name: &str| name.ends_with(".deb");
        let found = archives.read_dir_utf8()?.flatten().filter(|entry| is_deb(entry.file_name())).count();
        ensure!(found == packages, "apt-get downloaded {found} packages of {packages}");
        Ok(())
    }
}

pub(super) fn kiln_command(kiln: &Utf8Path, factory: &Utf8Path, verb: &str, store: &Utf8Path) -> Command {
    let mut command = Command::new(kiln);
    command.args([verb, "-C", factory.as_str()]).env("XDG_CACHE_HOME", store);
    command
}

/// A root that knows the mirror that served Kiln, and nothing else.
fn prepare_apt(tree: &Tree, workshop: &Workshop, lock: &Lock, root: &Utf8Path) -> anyhow::Result<Apt> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    let distribution = lock.distributions.get("trixie").context("find trixie in the lock")?;
    let mirrors = distribution.indexes.iter().map(|index| {
        let mirror = workshop.mirror(&index.suite).with_context(|| format!("find the mirror of {}", index.suite))?;
        Ok(mirror.trim_end_matches('/').to_owned())
    });
    let mirrors = mirrors.collect::<anyhow::Result<Vec<String>>>()?;
    let lists = distribution.indexes.iter().zip(&mirrors).map(|(index, mirror)| List {
        mirror,
        suite: &index.suite,
        component: &index.component,
        content: None,
    });
    Apt::new(tree.clone(), root, &distribution.architecture, &lists.collect::<Vec<_>>())
}

/// The shop without what locks and builds left there.
pub(super) fn copy_shop(to: &Utf8Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    copy(&root().join("examples/shop"), to)
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in from.read_dir_utf8()? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy(entry.path(), &to)?,
            _ if entry.file_name() == FILE_NAME => {}
            _ => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// What the class and its parents ask for, by name.
fn requests(factory: &Factory) -> anyhow::Result<Vec<String>> {
    let spec = factory.spec()?;
    let class = spec.classes.values().find(|class| class.name.as_str() == CLASS).context("find the class")?;
    let lineage = spec.lineage(class);
    let requests = lineage.into_iter().flat_map(|class| class.packages.iter().chain(&class.kernel));
    let name = |kind: &RequestKind| match kind {
        RequestKind::Named { name, .. } => Some(name.clone()),
        RequestKind::File(_) | RequestKind::Url(_) => None,
    };
    Ok(requests.filter_map(|request| name(&request.kind)).collect())
}
