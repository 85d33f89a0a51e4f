//! A lock read back is judged like anybody's: each package against the index that vouches for it, and each class by the
//! linear verifier, which shares no code with the solvers.
//!
//! What cannot be judged, because an index is no longer to be had, is said, never passed over.

use std::fmt;

use kiln_debian::solve::{Request, Wanted, verify};
use kiln_debian::universe::{LocalPackage, PackageId, Source, Universe};
use kiln_model::lock::{Lock, LockedDistribution, LockedPackage, Origin};
use kiln_model::spec::{Distribution, RequestKind, Spec};
use serde::Serialize;

use super::request;
use crate::factory::Factory;
use crate::index::LoadedIndex;
use crate::{Environment, index, mirror, pin, toolbox};

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Examination {
    /// Packages that are exactly what their index says.
    pub verified: usize,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// What could not be judged, and why.
    pub unverified: Vec<String>,
}

/// Something in the lock that is not so: a lower-case sentence fragment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Judges every class and toolbox whose indexes are in the store or can still be had.
#[must_use]
pub fn examine(factory: &Factory, spec: &Spec, lock: &Lock, environment: &Environment<'_>) -> Examination {
    let mut examination = Examination::default();
    for (name, locked) in &lock.distributions {
        match load(name, locked, factory, spec, environment) {
            Ok(indexes) => {
                let judge = Judge { factory, lock, locked, indexes, environment };
                judge.classes(name, &mut examination);
                judge.toolboxes(name, &mut examination);
            }
            Err(error) => examination.unverified.push(format!("distribution {name}: {error}")),
        }
    }
    examination.violations.sort();
    examination.violations.dedup();
    examination
}

fn load(
    name: &str,
    locked: &LockedDistribution,
    factory: &Factory,
    spec: &Spec,
    environment: &Environment<'_>,
) -> Result<Vec<LoadedIndex>, Box<dyn std::error::Error>> {
    let in_spec = spec.distributions.get(name).cloned();
    let distribution: Distribution = in_spec.unwrap_or_else(|| toolbox::distribution(spec));
    let repositories = mirror::repositories(name, &distribution, factory, environment.host)?;
    Ok(index::locked(&locked.indexes, &repositories, &locked.architecture, environment)?)
}

/// One distribution's part of the lock, with the indexes to judge it by.
struct Judge<'a> {
    factory: &'a Factory,
    lock: &'a Lock,
    locked: &'a LockedDistribution,
    indexes: Vec<LoadedIndex>,
    environment: &'a Environment<'a>,
}

impl Judge<'_> {
    fn classes(&self, distribution: &str, examination: &mut Examination) {
        for (name, class) in self.lock.classes.iter().filter(|(_, class)| class.distribution == distribution) {
            let own = self.lock.packages_of(name);
            let wanted = class.request.packages.iter().chain(&class.request.kernel);
            let request = Request {
                essential: true,
                wanted: wanted.enumerate().filter_map(|(label, text)| wanted_by_name(text, label)).collect(),
                exclude: self.exclusions(name),
                ..Request::default()
            };
            self.judge(&format!("class {name}"), &own, &request, examination);
            for tools in &class.tools {
                let all: Vec<&LockedPackage> = own.iter().copied().chain(tools.waves.iter().flatten()).collect();
                self.judge(&format!("the tools of class {name}"), &all, &Request::default(), examination);
            }
        }
    }

    fn exclusions(&self, class: &str) -> Vec<String> {
        let classes = self.lock.lineage(class).into_iter().filter_map(|name| self.lock.classes.get(name));
        classes.flat_map(|class| class.request.exclude.clone()).collect()
    }

    fn toolboxes(&self, distribution: &str, examination: &mut Examination) {
        for toolbox in self.lock.toolboxes.values().filter(|toolbox| toolbox.distribution == distribution) {
            let request = Request {
                wanted: toolbox
                    .request
                    .iter()
                    .enumerate()
                    .filter_map(|(label, text)| wanted_by_name(text, label))
                    .collect(),
                ..Request::default()
            };
            let packages: Vec<&LockedPackage> = toolbox.packages.iter().collect();
            self.judge("the toolbox", &packages, &request, examination);
        }
    }

    fn judge(&self, owner: &str, packages: &[&LockedPackage], request: &Request, examination: &mut Examination) {
        let universe = match self.universe(packages) {
            Ok(universe) => universe,
            Err(error) => {
                examination.unverified.push(format!("{owner}: {error}"));
                return;
            }
        };
        let mut found: Vec<PackageId> = Vec::new();
        for package in packages {
            match check(&universe, package) {
                Ok(id) => found.push(id),
                Err(difference) => examination.violations.push(Violation(format!("{owner}: {difference}"))),
            }
        }
        examination.verified += found.len();
        let violations = verify(&universe, &found, request);
        let violations = violations.iter().map(|violation| format!("{owner}: {}", violation.display(&universe)));
        examination.violations.extend(violations.map(Violation));
    }

    fn universe(&self, packages: &[&LockedPackage]) -> Result<Universe, Box<dyn std::error::Error>> {
        let mut local: Vec<LocalPackage> = Vec::new();
        for package in packages {
            match &package.origin {
                Origin::Archive { .. } => {}
                Origin::File(path) => local.push(pin::local_package(self.factory, path)?),
                Origin::Url(url) => {
                    local.push(pin::remote_package(url, Some((package.sha256, package.size)), self.environment)?);
                }
            }
        }
        let sources: Vec<Source> = self.indexes.iter().map(LoadedIndex::source).collect();
        Ok(Universe::new(&self.locked.architecture, sources, local)?)
    }
}

/// The package as its index has it, if that is what the lock says.
fn check(universe: &Universe, package: &LockedPackage) -> Result<PackageId, String> {
    let LockedPackage { name, version, size, sha256, origin, .. } = package;
    let Some(id) = universe.find(name, version) else {
        return Err(format!("no index has {name} {version}"));
    };
    let stanza = universe.stanza(id);
    if stanza.sha256 != *sha256 || stanza.size_bytes != *size {
        return Err(format!("{name} {version} has other bytes in its index"));
    }
    match origin {
        Origin::Archive { path, .. } if path != stanza.filename => {
            Err(format!("{name} {version} is at {} in its index, not at {path}", stanza.filename))
        }
        _ => Ok(id),
    }
}

fn wanted_by_name(text: &str, label: usize) -> Option<Wanted> {
    let kind: RequestKind = text.parse().ok()?;
    request::wanted(&kind, label)
}
