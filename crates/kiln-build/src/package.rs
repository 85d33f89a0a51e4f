//! Package stages: packages are placed by Kiln by dpkg's rules, and configured by the tree's own dpkg.
//!
//! 1. [`Unpacked`] has the packages in their plain form ([`form`]), decompressed beside all other work.
//! 2. [`install`] starts one sandbox for the whole stage. Inside, wave by wave ([`run`]): each package's `preinst`, its files
//!    ([`place`]), what dpkg knows of it ([`database`]); then `dpkg --configure` in the lock's order, and at last the
//!    triggers. Services do not start, and nothing has a network.
//! 3. What the programs write is watched from outside ([`progress`]): it says which package is being configured, how long
//!    each took, and which script failed.
//!
//! Nothing here decides what to install or in which order: that is the lock's.

mod database;
mod form;
#[cfg(test)]
mod ground;
mod place;
mod policy;
mod problem;
mod progress;
mod run;
mod states;
#[cfg(test)]
mod tests;
mod tree;
mod unpacked;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kiln_model::lock::LockedPackage;
use kiln_sandbox::{Bind, Ending, SandboxError};

use crate::stage::PackageWork;
use crate::workplace::{StageError, Workplace};
use form::Form;
use problem::Problem;
use progress::Progress;
use run::{Job, Report, UNPACKED};

pub(crate) use form::KIND;
pub(crate) use unpacked::Unpacked;

/// One package of a stage.
struct Package<'a> {
    locked: &'a LockedPackage,
    form: Arc<Form>,
}

/// Installs the packages of a stage. Returns the stage's epoch: the time of the newest file of all packages so far.
///
/// # Errors
/// If a package is missing, damaged or does not fit into the tree, if a script fails, or if dpkg does not end with every
/// package installed.
pub(crate) fn install(place: &Workplace<'_>, work: &PackageWork, unpacked: &Unpacked) -> Result<i64, StageError> {
    let waves = waves(place, work, unpacked)?;
    let newest = waves.iter().flatten().map(|package| package.form.newest()).max().unwrap_or_default();
    let epoch = newest.max(place.epoch);
    let mut sandbox = place.sandbox();
    sandbox.environment.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string());
    // Scripts sort and compare; and it is the locale that needs no files.
    sandbox.environment.insert("LC_ALL".to_owned(), "C".to_owned());
    let from = place.store.derived_file(KIND, &kiln_model::digest::Sha256::of(b""))?;
    let from = from.parent().map(camino::Utf8Path::to_owned).unwrap_or_default();
    sandbox.binds.push(Bind { from, to: UNPACKED.into(), read_only: true });
    let total = waves.iter().map(Vec::len).sum();
    let mut progress = Progress::new(place.watcher, total);
    let job = Job { work, waves: &waves, epoch, ids: place.ids };
    let result = sandbox.call(|inside| run::run(inside, &job), &mut |line| progress.line(line), place.cancel);
    match result {
        Ok(Ok(report)) => {
            tell(place, &report);
            Ok(epoch)
        }
        Ok(Err(problem)) => Err(failed(problem, progress)),
        Err(SandboxError::Stopped { ending: Ending::TimedOut }) => Err(progress.ended(Ending::TimedOut)),
        Err(error) => Err(error.into()),
    }
}

fn waves<'a>(
    place: &Workplace<'_>,
    work: &'a PackageWork,
    unpacked: &Unpacked,
) -> Result<Vec<Vec<Package<'a>>>, StageError> {
    let started = Instant::now();
    let all: Vec<&LockedPackage> = work.waves.iter().flatten().collect();
    let mut forms = unpacked.forms(&all)?.into_iter();
    place.watcher.part("wait for decompression", started.elapsed());
    let wave = |wave: &'a Vec<LockedPackage>| -> Vec<Package<'a>> {
        wave.iter().zip(forms.by_ref()).map(|(locked, form)| Package { locked, form }).collect()
    };
    Ok(work.waves.iter().map(wave).collect())
}

/// Hands on how long the parts took that only the inside knows.
fn tell(place: &Workplace<'_>, report: &Report) {
    let parts: &BTreeMap<String, _> = &report.parts;
    for (part, took) in parts {
        place.watcher.part(part, *took);
    }
}

fn failed(problem: Problem, progress: Progress<'_>) -> StageError {
    match problem {
        Problem::Dpkg { ending } => progress.ended(ending),
        Problem::Script { program, ending } => progress.failed(program, ending),
        Problem::Refused { message, hint } => StageError::Refused { message, hint },
        Problem::Io { doing, kind, message } => StageError::Io { doing, source: problem::cause(kind, message) },
    }
}
