//! The files of the factory that steps read, hashed: what the plan of a build knows of them.
//!
//! A path that the spec names is followed where it is a link; what is found inside a directory is taken as it is, links as
//! links. Nothing outside the factory is ever read, wherever a link leads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::PoisonError;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::{Hasher, Sha256};
use kiln_model::spec::{Action, Place, Spec, Step};

use super::{Source, SourceKind};
use crate::factory::Factory;

/// The files of a factory that the steps of some classes read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    files: BTreeMap<Utf8PathBuf, SourceKind>,
}

/// A file of the factory cannot be read by a step.
#[derive(Debug, thiserror::Error)]
#[error("read {path} for the step at {}", .place)]
pub struct SourceError {
    /// The file, relative to the factory.
    pub path: Utf8PathBuf,
    /// Where the spec names it, or the directory that it is in.
    pub place: Box<Place>,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// One path that a step names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Root {
    path: Utf8PathBuf,
    /// Whether the step does without it.
    optional: bool,
}

/// What Ansible looks for beside a playbook (its documentation, "Sample directory layout" and "Playbook search path").
/// A playbook at the top of the factory sees these and not the whole factory.
const BESIDE_PLAYBOOK: [&str; 14] = [
    "ansible.cfg",
    "collections",
    "files",
    "filter_plugins",
    "group_vars",
    "handlers",
    "host_vars",
    "library",
    "lookup_plugins",
    "module_utils",
    "roles",
    "tasks",
    "templates",
    "vars",
];

/// Bytes that are hashed at a time.
const BLOCK_BYTES: usize = 256 * 1024;

/// Threads are worth starting for so many files at least.
const FILES_PER_THREAD: usize = 64;

impl Sources {
    /// Sources that are known already.
    pub fn of(sources: impl IntoIterator<Item = Source>) -> Self {
        Self { files: sources.into_iter().map(|source| (source.path, source.kind)).collect() }
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn files_for_tests(self) -> impl Iterator<Item = Source> {
        self.files.into_iter().map(|(path, kind)| Source { path, kind })
    }

    /// What a step reads, in order of paths.
    pub(crate) fn of_step(&self, step: &Step) -> Vec<Source> {
        let found: BTreeMap<&Utf8PathBuf, &SourceKind> =
            roots(step).iter().flat_map(|root| self.below(&root.path).collect::<Vec<_>>()).collect();
        found.into_iter().map(|(path, kind)| Source { path: path.clone(), kind: kind.clone() }).collect()
    }

    /// The file or directory at `path` with all that is in it: paths are ordered by their components.
    fn below(&self, path: &Utf8Path) -> impl Iterator<Item = (&Utf8PathBuf, &SourceKind)> {
        let path = path.to_owned();
        self.files.range(path.clone()..).take_while(move |(found, _)| found.starts_with(&path))
    }
}

/// Reads and hashes every file that the steps of these classes read.
///
/// # Errors
/// If one cannot be read, lies outside the factory, has a name that is not text, or is neither file, directory nor link.
pub fn read_sources(factory: &Factory, spec: &Spec, classes: &BTreeSet<String>) -> Result<Sources, SourceError> {
    let directory = factory.path(Utf8Path::new(""));
    let directory = if directory.as_str().is_empty() { Utf8PathBuf::from(".") } else { directory };
    let mut walk = Walk { directory, found: BTreeMap::new(), contents: BTreeMap::new() };
    let of_classes = spec.classes.values().filter(|class| classes.contains(class.name.as_str()));
    for step in of_classes.flat_map(|class| &class.steps) {
        for root in roots(step) {
            walk.root(&root, &step.place)?;
        }
    }
    walk.finish()
}

/// The paths that a step names, and what is seen with them.
fn roots(step: &Step) -> Vec<Root> {
    let named = |path: &Utf8Path| Root { path: path.to_owned(), optional: false };
    match &step.action {
        Action::Copy(copy) => copy.from.paths.iter().map(|path| named(path)).collect(),
        Action::Template(template) => vec![named(&template.template.path)],
        Action::Script(script) => vec![named(&script.script.path)],
        Action::Ansible(ansible) => {
            let roles = ansible.roles.as_ref().map(|roles| named(&roles.path));
            around_playbook(&ansible.playbook.path).into_iter().chain(roles).collect()
        }
        Action::Puppet(puppet) => {
            let modules = puppet.modules.as_ref().map(|modules| named(&modules.path));
            beside_manifest(&puppet.manifest.path).into_iter().chain(modules).collect()
        }
        Action::User(_)
        | Action::Group(_)
        | Action::Enable(_)
        | Action::Disable(_)
        | Action::Mask(_)
        | Action::Download(_)
        | Action::Shell(_) => Vec::new(),
    }
}

/// A manifest with what Puppet looks things up in, where that is beside it: Hiera's configuration and its usual places.
fn beside_manifest(manifest: &Utf8Path) -> Vec<Root> {
    let directory = manifest.parent().unwrap_or(Utf8Path::new(""));
    let beside = ["hiera.yaml", "data", "hieradata"].map(|name| Root { path: directory.join(name), optional: true });
    std::iter::once(Root { path: manifest.to_owned(), optional: false }).chain(beside).collect()
}

/// A playbook with its directory; at the top of the factory only with what Ansible looks for.
fn around_playbook(playbook: &Utf8Path) -> Vec<Root> {
    let directory = playbook.parent().filter(|directory| !directory.as_str().is_empty());
    let Some(directory) = directory else {
        let beside = BESIDE_PLAYBOOK.iter().map(|name| Root { path: Utf8PathBuf::from(name), optional: true });
        return std::iter::once(Root { path: playbook.to_owned(), optional: false }).chain(beside).collect();
    };
    vec![Root { path: directory.to_owned(), optional: false }]
}

/// What has been found so far.
struct Walk {
    /// The factory's directory.
    directory: Utf8PathBuf,
    found: BTreeMap<Utf8PathBuf, SourceKind>,
    /// Files whose content is still to be hashed, with the step that reads each.
    contents: BTreeMap<Utf8PathBuf, Place>,
}

impl Walk {
    fn root(&mut self, root: &Root, place: &Place) -> Result<(), SourceError> {
        let failed = |source| SourceError { path: root.path.clone(), place: Box::new(place.clone()), source };
        let path = self.directory.join(&root.path);
        match fs::metadata(&path) {
            Err(error) if root.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
            Ok(metadata) => {
                self.check_inside(&path).map_err(failed)?;
                self.take(&root.path, &metadata, place)
            }
        }
    }

    /// Refuses a path that leads out of the factory through links.
    fn check_inside(&self, path: &Utf8Path) -> io::Result<()> {
        match fs::canonicalize(path)?.starts_with(fs::canonicalize(&self.directory)?) {
            true => Ok(()),
            false => Err(io::Error::other("a link leads out of the factory")),
        }
    }

    fn take(&mut self, path: &Utf8Path, metadata: &std::fs::Metadata, place: &Place) -> Result<(), SourceError> {
        let failed = |source| SourceError { path: path.to_owned(), place: Box::new(place.clone()), source };
        if metadata.is_dir() {
            self.found.insert(path.to_owned(), SourceKind::Directory);
            return self.directory(path, place);
        }
        if metadata.is_symlink() {
            let target = fs::read_link(self.directory.join(path)).map_err(failed)?;
            let target = Utf8PathBuf::from_path_buf(target).map_err(|_| failed(not_text()))?;
            self.found.insert(path.to_owned(), SourceKind::Symlink { target });
            return Ok(());
        }
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is neither a file nor a directory nor a link")));
        }
        self.contents.entry(path.to_owned()).or_insert_with(|| place.clone());
        Ok(())
    }

    fn directory(&mut self, path: &Utf8Path, place: &Place) -> Result<(), SourceError> {
        let failed = |source| SourceError { path: path.to_owned(), place: Box::new(place.clone()), source };
        for entry in fs::read_dir(self.directory.join(path)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().into_string().map_err(|_| failed(not_text()))?;
            let child = path.join(name);
            let metadata = fs::symlink_metadata(entry.path());
            let metadata = metadata.map_err(|source| SourceError {
                path: child.clone(),
                place: Box::new(place.clone()),
                source,
            })?;
            self.take(&child, &metadata, place)?;
        }
        Ok(())
    }

    /// Hashes what is to be hashed, each file once, in as many threads as are worth it.
    fn finish(self) -> Result<Sources, SourceError> {
        let Self { directory, mut found, contents } = self;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = cores.min(contents.len().div_ceil(FILES_PER_THREAD));
        let waiting = Mutex::new(contents.into_iter());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<Vec<_>, SourceError> {
            let mut hashed = Vec::new();
            while let Some((path, place)) = next() {
                let kind = hash(&directory.join(&path));
                let kind = kind.map_err(|source| SourceError { path: path.clone(), place: Box::new(place), source })?;
                hashed.push((path, kind));
            }
            Ok(hashed)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            std::iter::once(own).chain(others).collect()
        });
        for hashed in results {
            found.extend(hashed?);
        }
        Ok(Sources { files: found })
    }
}

fn hash(path: &Utf8Path) -> io::Result<SourceKind> {
    let mut file = fs::File::open(path)?;
    let executable = file.metadata()?.permissions().mode() & 0o100 != 0;
    let mut hasher = Hasher::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block) {
            Ok(0) => break,
            Ok(length) => hasher.update(block.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let sha256: Sha256 = hasher.finish();
    Ok(SourceKind::File { sha256, executable })
}

fn not_text() -> io::Error {
    io::Error::other("a name in it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use kiln_model::diagnostic::Source as Text;
    use kiln_model::spec::{Listing, parse};

    use super::*;

    /// A factory with one class that has these steps. All files are there, as the spec sees it.
    struct Shop {
        directory: tempfile::TempDir,
        files: Vec<String>,
    }

    impl Shop {
        fn new(files: &[&str]) -> Self {
            let shop = Self {
                directory: tempfile::tempdir().unwrap(),
                files: files.iter().map(|path| (*path).to_owned()).collect(),
            };
            for path in files {
                let path = shop.path(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, path.file_name().unwrap()).unwrap();
            }
            shop
        }

        fn path(&self, path: &str) -> Utf8PathBuf {
            Utf8Path::from_path(self.directory.path()).unwrap().join(path)
        }

        fn link(&self, path: &str, target: &str) {
            fs::os::unix::fs::symlink(target, self.path(path)).unwrap();
        }

        fn read(&self, step: &str) -> Result<Vec<String>, String> {
            let text = format!(
                "[factory]\nname = \"shop\"\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\n\
                 [class.web]\ndistribution = \"trixie\"\n[[class.web.step]]\n{step}\n"
            );
            let listing = Listing::new(self.files.iter().map(String::as_str));
            let spec = parse(&[Text { name: "kiln.toml".to_owned(), text }], &listing).unwrap();
            let factory = Factory::new(&self.path(""));
            let sources = read_sources(&factory, &spec, &["web".to_owned()].into());
            let sources = sources.map_err(|error| crate::with_causes(&error).replace(self.path("").as_str(), ""))?;
            let step = &spec.classes.values().next().unwrap().steps[0];
            let show = |Source { path, kind }: Source| match kind {
                SourceKind::Directory => format!("{path}/"),
                SourceKind::File { sha256, executable } => {
                    assert_eq!(sha256, Sha256::of(&fs::read(self.path(path.as_str())).unwrap()));
                    format!("{path}{}", if executable { "*" } else { "" })
                }
                SourceKind::Symlink { target } => format!("{path} -> {target}"),
            };
            Ok(sources.of_step(step).into_iter().map(show).collect())
        }
    }

    fn check(shop: &Shop, step: &str, expected: &[&str]) {
        assert_eq!(shop.read(step).unwrap(), expected, "{step}");
    }

    #[test]
    fn directories_come_whole_with_links_as_they_are() {
        let shop = Shop::new(&["site/a.html", "site/css/b.css", "site-other", "x"]);
        fs::set_permissions(shop.path("site/a.html"), std::fs::Permissions::from_mode(0o755)).unwrap();
        shop.link("site/out", "/etc/passwd");
        fs::create_dir(shop.path("site/empty")).unwrap();
        let all = ["site/", "site/a.html*", "site/css/", "site/css/b.css", "site/empty/", "site/out -> /etc/passwd"];
        check(&shop, "copy = \"site\"\nto = \"/srv\"", &all);
        check(&shop, "copy = \"site/css/b.css\"\nto = \"/srv/b\"", &["site/css/b.css"]);
    }

    #[test]
    fn a_named_link_is_followed_inside_the_factory_only() {
        let shop = Shop::new(&["v1/a", "current/a", "secret"]);
        fs::remove_dir_all(shop.path("current")).unwrap();
        shop.link("current", "v1");
        check(&shop, "copy = \"current\"\nto = \"/srv\"", &["current/", "current/a"]);
        fs::remove_file(shop.path("secret")).unwrap();
        shop.link("secret", "/etc/passwd");
        let error = shop.read("copy = \"secret\"\nto = \"/srv/x\"").unwrap_err();
        assert_eq!(error, "read secret for the step at kiln.toml:9: a link leads out of the factory");
    }

    #[test]
    fn ansible_sees_the_directory_of_its_playbook_but_not_the_whole_factory() {
        let shop =
            Shop::new(&["books/play.yml", "books/files/a", "play.yml", "files/b", "roles/web/c", "kiln.toml", "my/d"]);
        check(&shop, "ansible = \"books/play.yml\"", &["books/", "books/files/", "books/files/a", "books/play.yml"]);
        let beside = ["files/", "files/b", "play.yml", "roles/", "roles/web/", "roles/web/c"];
        check(&shop, "ansible = \"play.yml\"", &beside);
        let with_roles = [&["files/", "files/b", "my/", "my/d"][..], &beside[2..]].concat();
        check(&shop, "ansible = \"play.yml\"\nroles = \"my\"", &with_roles);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let shop = Shop::new(&["site/a"]);
        let _socket = std::os::unix::net::UnixListener::bind(shop.path("site/socket")).unwrap();
        let error = shop.read("copy = \"site\"\nto = \"/srv\"").unwrap_err();
        let expected = "read site/socket for the step at kiln.toml:9: it is neither a file nor a directory nor a link";
        assert_eq!(error, expected);
    }
}
