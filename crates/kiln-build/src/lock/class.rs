//! One class after the other: what it asks for becomes exact packages in a fixed order.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use kiln_debian::deb822::Paragraphs;
use kiln_debian::order::order;
use kiln_debian::solve::{Request, Selection, Wanted, solve};
use kiln_debian::universe::{LocalPackage, PackageId, Universe};
use kiln_model::digest::Sha256;
use kiln_model::event::Event;
use kiln_model::lock::{LockedClass, LockedDownload, LockedPackage, LockedToolbox, LockedTools, Origin};
use kiln_model::spec::{Action, Class, PackageRequest, Place, RequestKind};

use super::request::{locked_request, tool_names, tool_requests, wanted};
use super::supply::{Supply, tools_owner};
use super::{LockFailure, Update, Work};
use crate::mirror::public_request;
use crate::pin;

/// Solves the classes of one distribution, each once.
pub(super) struct Solver<'a> {
    work: Work<'a>,
    supply: &'a Supply,
    solved: BTreeMap<String, LockedClass>,
    /// The `.deb` files that each solved class and its parents bring along.
    local: BTreeMap<String, Vec<LocalPackage>>,
}

/// A request on its way to the solver: whose it is, and the lines that ask.
struct Question<'q> {
    owner: String,
    places: Vec<Option<&'q Place>>,
    request: Request,
}

impl<'a> Solver<'a> {
    pub(super) fn new(work: Work<'a>, supply: &'a Supply) -> Self {
        Self { work, supply, solved: BTreeMap::new(), local: BTreeMap::new() }
    }

    pub(super) fn finish(self) -> BTreeMap<String, LockedClass> {
        self.solved
    }

    /// Solves a class, after its parents.
    pub(super) fn solve_class(&mut self, class: &Class) -> Result<(), LockFailure> {
        for class in self.work.spec.lineage(class) {
            if !self.solved.contains_key(class.name.as_str()) {
                let (locked, local) = self.solve_on_parent(class)?;
                self.solved.insert(class.name.to_string(), locked);
                self.local.insert(class.name.to_string(), local);
            }
        }
        Ok(())
    }

    fn solve_on_parent(&self, class: &Class) -> Result<(LockedClass, Vec<LocalPackage>), LockFailure> {
        let Work { spec, environment, .. } = self.work;
        let name = class.name.as_str();
        environment.report.event(Event::PhaseStarted { phase: format!("solving class {name}") });
        let parent = class.parent().map(|parent| parent.name.as_str());
        let mut local = parent.and_then(|parent| self.local.get(parent).cloned()).unwrap_or_default();
        let requests: Vec<&PackageRequest> = class.packages.iter().chain(&class.kernel).collect();
        let own = self.local_packages(name, &requests)?;
        local.extend(own.values().cloned());

        let universe = self.supply.universe(local.clone())?;
        let base = self.base(&universe, name, parent)?;
        let question = Question {
            owner: format!("class {name}"),
            places: requests.iter().map(|request| Some(&request.place)).collect(),
            request: Request {
                essential: parent.is_none(),
                wanted: wants(&requests, &own),
                base: base.clone(),
                exclude: self.exclusions(class),
                recommends: spec.recommends(class),
                locked: self.supply.kept_by(name),
            },
        };
        let selection = answer(&universe, &question)?;
        let is_root = parent.is_none();
        let mut waves = self.in_order(&universe, &base, is_root, &selection.packages, &self.old_packages(name));
        let essential = if is_root && !waves.is_empty() { waves.remove(0) } else { Vec::new() };
        let locked = LockedClass {
            distribution: self.supply.distribution.clone(),
            request: locked_request(spec, class),
            epoch: self.supply.date(),
            essential,
            waves,
            downloads: self.downloads(class)?,
            tools: self.tools(class, &local, &selection.packages, &universe)?,
        };
        Ok((locked, local))
    }

    /// What a child may not have is also what its parents may not have.
    fn exclusions(&self, class: &Class) -> Vec<String> {
        let lineage = self.work.spec.lineage(class);
        lineage.into_iter().flat_map(|class| &class.exclude).map(|exclusion| exclusion.name.clone()).collect()
    }

    /// The parent's packages, found again in this class's universe. A child adds, it never replaces.
    fn base(&self, universe: &Universe, class: &str, parent: Option<&str>) -> Result<Vec<PackageId>, LockFailure> {
        let lineage = std::iter::successors(parent, |name| self.solved.get(*name)?.request.from.as_deref());
        let classes = lineage.filter_map(|name| self.solved.get(name).map(|solved| (name, solved)));
        let packages = classes.flat_map(|(name, solved)| solved.packages().map(move |package| (name, package)));
        let find = |(parent, package): (&str, &LockedPackage)| {
            find_again(universe, package).ok_or_else(|| {
                let other = universe.candidate(&package.name).map(|other| universe.stanza(other).filename.to_owned());
                LockFailure::Replaces {
                    class: class.to_owned(),
                    parent: parent.to_owned(),
                    package: format!("{} {}", package.name, package.version),
                    other: public_request(&other.unwrap_or_default()),
                }
            })
        };
        packages.map(find).collect()
    }

    /// For each set of tools, what comes on top of the class's packages.
    fn tools(
        &self,
        class: &Class,
        local: &[LocalPackage],
        packages: &[PackageId],
        class_universe: &Universe,
    ) -> Result<Vec<LockedTools>, LockFailure> {
        tool_requests(class)
            .into_iter()
            .map(|tools| self.tool_set(class, tools, local, packages, class_universe))
            .collect()
    }

    fn tool_set(
        &self,
        class: &Class,
        tools: &[PackageRequest],
        local: &[LocalPackage],
        packages: &[PackageId],
        class_universe: &Universe,
    ) -> Result<LockedTools, LockFailure> {
        let requests: Vec<&PackageRequest> = tools.iter().collect();
        let own = self.local_packages(class.name.as_str(), &requests)?;
        let universe = self.supply.universe(local.iter().cloned().chain(own.values().cloned()).collect())?;
        let again = packages.iter().map(|&package| {
            let package = locked_package(class_universe, package);
            find_again(&universe, &package).ok_or_else(|| LockFailure::Replaces {
                class: format!("{} for its steps' tools", class.name),
                parent: class.name.to_string(),
                package: format!("{} {}", package.name, package.version),
                other: "a file among the tools".to_owned(),
            })
        });
        let base: Vec<PackageId> = again.collect::<Result<_, _>>()?;
        let question = Question {
            owner: format!("the tools of class {}", class.name),
            places: requests.iter().map(|request| Some(&request.place)).collect(),
            request: Request {
                wanted: wants(&requests, &own),
                base: base.clone(),
                locked: self.supply.kept_by(&tools_owner(class.name.as_str(), &tool_names(tools))),
                ..Request::default()
            },
        };
        let selection = answer(&universe, &question)?;
        let old = self.old_packages(class.name.as_str());
        let waves = self.in_order(&universe, &base, false, &selection.packages, &old);
        Ok(LockedTools { request: tool_names(tools), waves })
    }

    /// Kiln's own tools: nothing essential, for they run on the host and are never configured.
    pub(super) fn solve_toolbox(&self, name: &str, packages: Vec<String>) -> Result<LockedToolbox, LockFailure> {
        self.work.environment.report.event(Event::PhaseStarted { phase: "solving the toolbox".to_owned() });
        let universe = self.supply.universe(Vec::new())?;
        let wanted =
            packages.iter().enumerate().map(|(label, name)| Wanted { name: name.clone(), constraint: None, label });
        let question = Question {
            owner: "the toolbox".to_owned(),
            places: vec![None; packages.len()],
            request: Request { wanted: wanted.collect(), locked: self.supply.kept_by(name), ..Request::default() },
        };
        let selection = answer(&universe, &question)?;
        let old = self.work.old.and_then(|old| old.toolboxes.get(&self.work.environment.host.architecture));
        let old = |name: &str| old.and_then(|old| old.packages.iter().find(|package| package.name == name));
        let locked = selection.packages.iter().map(|&package| {
            let package = locked_package(&universe, package);
            let old = old(&package.name);
            self.supply.steady(package, old)
        });
        Ok(LockedToolbox { distribution: name.to_owned(), request: packages, packages: locked.collect() })
    }

    /// The `.deb` files among the requests, by their place among them.
    fn local_packages(
        &self,
        class: &str,
        requests: &[&PackageRequest],
    ) -> Result<BTreeMap<usize, LocalPackage>, LockFailure> {
        let mut found = BTreeMap::new();
        for (label, request) in requests.iter().enumerate() {
            let package = match &request.kind {
                RequestKind::Named { .. } => continue,
                RequestKind::File(path) => pin::local_package(self.work.factory, path)?,
                RequestKind::Url(url) => {
                    pin::remote_package(url, self.known_package(class, url), self.work.environment)?
                }
            };
            found.insert(label, package);
        }
        Ok(found)
    }

    /// What the old lock has for an address, unless it is to be asked again.
    fn known_package(&self, class: &str, url: &str) -> Option<(Sha256, u64)> {
        let old = self.old_class(class)?;
        let mut packages = old.packages_and_tools();
        let known = packages.find(|package| matches!(&package.origin, Origin::Url(known) if known == url))?;
        (!self.is_updated(&known.name) && !self.is_updated(url)).then_some((known.sha256, known.size))
    }

    fn old_class(&self, class: &str) -> Option<&'a LockedClass> {
        self.work.old.and_then(|old| old.classes.get(class))
    }

    fn is_updated(&self, name: &str) -> bool {
        match &self.work.options.update {
            Update::Nothing | Update::Security => false,
            Update::Named(names) => names.iter().any(|known| known == name),
            Update::Everything => true,
        }
    }

    fn downloads(&self, class: &Class) -> Result<Vec<LockedDownload>, LockFailure> {
        let mut found: BTreeMap<String, LockedDownload> = BTreeMap::new();
        for step in &class.steps {
            let Action::Download(download) = &step.action else { continue };
            let url = download.url.as_str();
            let old = self.old_class(class.name.as_str());
            let known = old.and_then(|old| old.downloads.iter().find(|known| known.url == url));
            let known = known.filter(|_| !self.is_updated(url)).map(|known| (known.sha256, known.size));
            // A digest in the spec is the word of a person: it wins over the lock's.
            let known = known.filter(|(digest, _)| download.sha256.is_none_or(|expected| expected == *digest));
            found.insert(url.to_owned(), pin::download(url, download.sha256, known, self.work.environment)?);
        }
        Ok(found.into_values().collect())
    }

    /// What the old lock has for a class and its steps, by name.
    fn old_packages(&self, class: &str) -> BTreeMap<&'a str, &'a LockedPackage> {
        let packages = self.old_class(class).into_iter().flat_map(LockedClass::packages_and_tools);
        packages.map(|package| (package.name.as_str(), package)).collect()
    }

    fn in_order(
        &self,
        universe: &Universe,
        base: &[PackageId],
        is_root: bool,
        packages: &[PackageId],
        old: &BTreeMap<&str, &LockedPackage>,
    ) -> Vec<Vec<LockedPackage>> {
        let lock = |package: PackageId| {
            let package = locked_package(universe, package);
            let old = old.get(package.name.as_str()).copied();
            self.supply.steady(package, old)
        };
        let waves = order(universe, base, is_root, packages).into_iter();
        waves.map(|wave| wave.into_iter().map(lock).collect()).collect()
    }
}

/// The very package, bytes included.
fn find_again(universe: &Universe, package: &LockedPackage) -> Option<PackageId> {
    universe.find(&package.name, &package.version).filter(|&id| universe.stanza(id).sha256 == package.sha256)
}

/// The requests in the solver's form; a `.deb` file is asked for by the name in its control file.
fn wants(requests: &[&PackageRequest], own: &BTreeMap<usize, LocalPackage>) -> Vec<Wanted> {
    let want = |(label, request): (usize, &&PackageRequest)| match own.get(&label) {
        Some(package) => Some(Wanted { name: control_name(&package.control)?, constraint: None, label }),
        None => wanted(&request.kind, label),
    };
    requests.iter().enumerate().filter_map(want).collect()
}

fn control_name(control: &str) -> Option<String> {
    let paragraph = Paragraphs::new(control.as_bytes()).next()?.ok()?;
    paragraph.text("Package").ok()?.map(str::to_owned)
}

fn answer(universe: &Universe, question: &Question<'_>) -> Result<Selection, LockFailure> {
    solve(universe, &question.request).map_err(|unsolvable| {
        let places = unsolvable.labels.iter().filter_map(|&label| question.places.get(label).copied().flatten());
        let places = places.cloned().collect();
        LockFailure::Unsolvable { owner: question.owner.clone(), unsolvable: Box::new(unsolvable), places }
    })
}

fn locked_package(universe: &Universe, package: PackageId) -> LockedPackage {
    let stanza = universe.stanza(package);
    let origin = match (universe.is_local(package), stanza.filename) {
        (false, path) => Origin::Archive { index: universe.source(package).to_owned(), path: path.to_owned() },
        (true, url) if url.contains("://") => Origin::Url(url.to_owned()),
        (true, path) => Origin::File(Utf8PathBuf::from(path)),
    };
    LockedPackage {
        name: stanza.name.to_owned(),
        version: stanza.version.to_owned(),
        architecture: if stanza.is_all { "all".to_owned() } else { universe.architecture().to_owned() },
        origin,
        size: stanza.size_bytes,
        sha256: stanza.sha256,
    }
}
