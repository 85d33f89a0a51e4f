//! Where the real tools are made ready: a store, a lock, unpacked trees. Everything lies in one directory below `target`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, anyhow};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::Timestamp;
use kiln_build::export::export;
use kiln_build::factory::{Factory, SPEC_FILE};
use kiln_build::fetch::{FetchOptions as Which, fetch};
use kiln_build::lock::{LockOptions, Update, lock};
use kiln_build::{Environment, Host, Memory};
use kiln_debian::compression::{Compression, decompress};
use kiln_model::digest::Hasher;
use kiln_model::event::{Event, Report};
use kiln_model::lock::{Lock, LockedIndex, LockedPackage};
use kiln_store::{FetchOptions, ProxySettings, Store};

use super::Tree;
use crate::say;

/// More text than any index has.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// How the mirror is reached: as `kiln` itself does it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Network {
    /// Mirrors, separated by blanks, asked before those of the host's apt sources.
    #[arg(long, env = "KILN_MIRROR", value_name = "URL", hide_env_values = true)]
    mirror: Option<String>,
    /// Proxy for `http:` addresses.
    #[arg(long, env = "http_proxy", value_name = "URL", hide_env_values = true)]
    http_proxy: Option<String>,
    /// Proxy for `https:` addresses.
    #[arg(long, env = "https_proxy", value_name = "URL", hide_env_values = true)]
    https_proxy: Option<String>,
    /// Hosts that are reached without a proxy.
    #[arg(long, env = "no_proxy", value_name = "HOSTS", hide_env_values = true)]
    no_proxy: Option<String>,
}

impl Network {
    /// The proxies, for programs that read them from their environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let Self { http_proxy, https_proxy, no_proxy, .. } = self;
        let variables = [("http_proxy", http_proxy), ("https_proxy", https_proxy), ("no_proxy", no_proxy)];
        variables.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

/// The directory, and all that the pipeline is given.
pub(crate) struct Workshop {
    directory: Utf8PathBuf,
    store: Store,
    fetch: FetchOptions,
    host: Host,
    watcher: Watcher,
    memory: Memory,
    now: Timestamp,
    /// Two runs at once would take each other's trees away.
    _claim: fs::File,
}

/// Remembers which mirror served each suite, and passes on what a person should know.
#[derive(Default)]
struct Watcher {
    mirrors: Mutex<BTreeMap<String, String>>,
}

impl Report for Watcher {
    fn event(&self, event: Event) {
        match event {
            Event::ReleaseVerified { suite, mirror, .. } => {
                self.mirrors.lock().unwrap_or_else(PoisonError::into_inner).insert(suite, mirror);
            }
            Event::PhaseStarted { phase } => say(&phase),
            Event::Warning { message, .. } => say(&format!("warning: {message}")),
            _ => {}
        }
    }
}

impl Workshop {
    /// Opens the directory, for this process alone.
    pub(crate) fn open(directory: &Utf8Path, network: &Network) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let claim = fs::File::create(directory.join("claim"))?;
        claim.file().try_lock().with_context(|| format!("claim {directory}, which another run uses"))?;
        let Network { mirror, http_proxy, https_proxy, no_proxy } = network;
        let proxy = ProxySettings::parse(http_proxy.as_deref(), https_proxy.as_deref(), no_proxy.as_deref())?;
        let mirrors = mirror.iter().flat_map(|mirrors| mirrors.split_whitespace()).map(str::to_owned).collect();
        #[expect(clippy::disallowed_methods, reason = "xtask is a binary: it reads the clock for the libraries")]
        let now = Timestamp::now();
        Ok(Self {
            store: Store::open(&directory.join("store"))?,
            fetch: FetchOptions { proxy, ..FetchOptions::default() },
            host: Host::read(mirrors, Utf8Path::new("/etc/apt"), Utf8Path::new("/usr/share/keyrings")),
            watcher: Watcher::default(),
            memory: Memory::default(),
            now,
            directory: directory.to_owned(),
            _claim: claim,
        })
    }

    /// Where everything lies.
    pub(crate) fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// The mirror that served a suite, without what is secret about it.
    pub(crate) fn mirror(&self, suite: &str) -> Option<String> {
        self.watcher.mirrors.lock().unwrap_or_else(PoisonError::into_inner).get(suite).cloned()
    }

    /// Locks a spec on the newest indexes and fetches the packages of its classes.
    pub(crate) fn provide(&self, spec: &str) -> anyhow::Result<Lock> {
        let directory = self.directory.join("factory");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(SPEC_FILE), spec)?;
        let factory = Factory::new(&directory);
        let spec = factory.spec()?;
        let options = LockOptions { update: Update::Nothing, allow_older: false };
        let environment = self.environment();
        let lock = lock(&factory, &spec, None, &options, &environment).map_err(|error| {
            let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            anyhow!("find the real tools on a Debian mirror: {:#}{hint}", anyhow::Error::from(error))
        })?;
        fetch(&factory, &spec, &lock, &Which::default(), &environment).context("fetch the real tools")?;
        Ok(lock)
    }

    /// Writes a directory that serves a lock that was just provided as a mirror.
    pub(crate) fn export(&self, lock: &Lock, to: &Utf8Path) -> anyhow::Result<()> {
        let factory = Factory::new(&self.directory.join("factory"));
        let (spec, environment) = (factory.spec()?, self.environment());
        let all = Which { toolbox: true, ..Which::default() };
        fetch(&factory, &spec, lock, &all, &environment).context("fetch Kiln's own tools")?;
        export(&factory, &spec, lock, to, &environment).context("write a mirror")?;
        Ok(())
    }

    fn environment(&self) -> Environment<'_> {
        let Self { store, fetch, host, watcher, memory, now, .. } = self;
        Environment { store, fetch, host, report: watcher, memory, now: *now }
    }

    /// A class of a lock with its parents, unpacked; what an earlier run unpacked is used again if it is the same.
    pub(crate) fn unpack(&self, lock: &Lock, class: &str) -> anyhow::Result<Tree> {
        let packages = lock.packages_of(class);
        let mut hasher = Hasher::new();
        packages.iter().for_each(|package| hasher.update(package.sha256.as_bytes()));
        let digest = hasher.finish().to_string();
        let root = self.current(&format!("tree-{class}"), &digest)?;
        if !root.exists() {
            say(&format!("unpacking {} packages for {class}", packages.len()));
            let debs: Vec<Utf8PathBuf> = packages.iter().map(|package| self.deb(package)).collect();
            Tree::unpack(&debs, &root)?;
        }
        Ok(Tree::new(root))
    }

    /// The path of what is called `name` and made from what has this digest; what was made from others is removed.
    pub(crate) fn current(&self, name: &str, digest: &str) -> anyhow::Result<Utf8PathBuf> {
        let wanted = format!("{name}-{}", &digest[..16]);
        for entry in self.directory.read_dir_utf8()? {
            let entry = entry?;
            let is_other = entry.file_name().strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
            if is_other && entry.file_name() != wanted {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(self.directory.join(wanted))
    }

    /// Where the packages are.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Where the store has a locked package.
    fn deb(&self, package: &LockedPackage) -> Utf8PathBuf {
        self.store.path(&package.sha256)
    }

    /// The signed Release that vouches for an index, as the mirror sent it.
    pub(crate) fn release(&self, index: &LockedIndex) -> anyhow::Result<Vec<u8>> {
        Ok(self.store.read(&index.release)?)
    }

    /// The text of an index.
    pub(crate) fn packages(&self, index: &LockedIndex) -> anyhow::Result<Vec<u8>> {
        let bytes = self.store.read(&index.sha256)?;
        let mut text = Vec::new();
        let compression = Compression::of_name(&index.path)?;
        std::io::copy(&mut decompress(compression, bytes.as_slice(), INDEX_BYTES_MAX), &mut text)
            .with_context(|| format!("decompress the index {}", index.name()))?;
        Ok(text)
    }
}
