//! A lock read back is judged like anybody's: each index against the signed Release that vouches for it, each package
//! against its index, and each class by the linear verifier, which shares no code with the solvers.
//!
//! What cannot be judged, because mirrors have moved on and the store never had it, is said, never passed over.

use std::fmt;

use kiln_debian::solve::{Request, verify};
use kiln_debian::universe::{PackageId, Universe};
use kiln_model::lock::{Lock, LockedPackage, Origin};
use kiln_model::spec::Spec;
use serde::Serialize;

use super::request;
use super::reread::{Reread, Voucher};
use crate::factory::Factory;
use crate::mirror::public_line;
use crate::{Environment, with_causes};

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
        match Reread::load(name, locked, factory, spec, environment) {
            Ok(again) => {
                for index in &locked.indexes {
                    let place = format!("distribution {name}: index {}", index.name());
                    match again.vouch(index) {
                        Voucher::Good => {}
                        Voucher::Unknown(reason) => examination.unverified.push(format!("{place}: {reason}")),
                        Voucher::Bad(reason) => examination.violations.push(Violation(format!("{place}: {reason}"))),
                    }
                }
                let judge = Judge { lock, again };
                judge.classes(name, &mut examination);
                judge.toolboxes(name, &mut examination);
            }
            Err(error) => examination.unverified.push(format!("distribution {name}: {}", with_causes(&error))),
        }
    }
    examination.violations.sort();
    examination.violations.dedup();
    examination
}

/// One distribution's part of the lock, with the indexes to judge it by.
struct Judge<'a> {
    lock: &'a Lock,
    again: Reread<'a>,
}

impl Judge<'_> {
    fn classes(&self, distribution: &str, examination: &mut Examination) {
        for (name, class) in self.lock.classes.iter().filter(|(_, class)| class.distribution == distribution) {
            let own = self.lock.packages_of(name);
            let request = Request {
                essential: true,
                wanted: request::wanted_again(class),
                exclude: request::exclusions_again(self.lock, name),
                ..Request::default()
            };
            let inherited =
                class.request.from.as_deref().map(|parent| self.lock.packages_of(parent)).unwrap_or_default();
            self.judge(&format!("class {name}"), &own, &inherited, request, examination);
            for tools in &class.tools {
                let all: Vec<&LockedPackage> = own.iter().copied().chain(tools.waves.iter().flatten()).collect();
                self.judge(&format!("the tools of class {name}"), &all, &own, Request::default(), examination);
            }
        }
    }

    fn toolboxes(&self, distribution: &str, examination: &mut Examination) {
        for toolbox in self.lock.toolboxes.values().filter(|toolbox| toolbox.distribution == distribution) {
            let request = Request { wanted: request::wanted_texts(&toolbox.request), ..Request::default() };
            let packages: Vec<&LockedPackage> = toolbox.packages.iter().collect();
            self.judge("the toolbox", &packages, &[], request, examination);
        }
    }

    /// `inherited` are those of the packages that were there before: they are nobody's choice any more.
    fn judge(
        &self,
        owner: &str,
        packages: &[&LockedPackage],
        inherited: &[&LockedPackage],
        request: Request,
        examination: &mut Examination,
    ) {
        let universe = match self.again.universe(packages) {
            Ok(universe) => universe,
            Err(error) => {
                examination.unverified.push(format!("{owner}: {}", with_causes(&error)));
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
        let base = inherited.iter().filter_map(|package| universe.find(&package.name, &package.version)).collect();
        let violations = verify(&universe, &found, &Request { base, ..request });
        let violations =
            violations.iter().map(|violation| public_line(&format!("{owner}: {}", violation.display(&universe))));
        examination.violations.extend(violations.map(Violation));
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
