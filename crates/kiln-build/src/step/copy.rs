//! `copy`: files, directories and patterns of the factory.
//!
//! [`arrange`] decides what goes where, from the plan alone: a file goes to `to`, or into it where that ends in a slash; a
//! directory's contents go under `to`; what a pattern matches goes into `to`, each by its own name. [`run`] then writes it.
//!
//! What is new belongs to root, or to whom the step says; files have mode 0644, or 0755 if they are executable in the
//! factory, or what the step says; directories 0755, or the step's mode with the right to enter wherever it gives the right
//! to read. Directories that are there keep their owner and mode.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_model::spec::{CopyFiles, Mode, Target};

use super::account::ownership;
use super::boot;
use super::content::{Factory, changed};
use super::root::{Ownership, Root};
use super::{Problem, factory_bind, in_tree};
use crate::stage::{Source, SourceKind, StepWork};
use crate::workplace::{StageError, Workplace};

pub(super) fn run(place: &Workplace<'_>, work: &StepWork, copy: &CopyFiles) -> Result<(), StageError> {
    let arrangement = arrange(copy, &work.sources).map_err(|problem| problem.into_error(&[]))?;
    in_tree(place, vec![factory_bind(place.factory)], |_, root| {
        let ownership = ownership(root, &copy.target)?;
        let factory = Factory::open()?;
        arrangement.iter().try_for_each(|(to, source)| put(root, &factory, to, source, ownership, copy.target.mode))
    })
}

/// What is to be at which path of the tree; parents come before what is in them.
type Arrangement<'a> = BTreeMap<Utf8PathBuf, &'a Source>;

fn arrange<'a>(copy: &CopyFiles, sources: &'a [Source]) -> Result<Arrangement<'a>, Problem> {
    let mut arrangement = Arrangement::new();
    for path in &copy.from.paths {
        let top = sources.iter().find(|source| source.path == *path).ok_or_else(|| changed(path.as_str()))?;
        let base = base(copy, top);
        for source in sources {
            let Ok(rest) = source.path.strip_prefix(path) else { continue };
            add(&mut arrangement, base.join(rest), source)?;
        }
    }
    Ok(arrangement)
}

/// Where one of the paths that the step names goes.
fn base(copy: &CopyFiles, source: &Source) -> Utf8PathBuf {
    let Target { to, into, .. } = &copy.target;
    let is_pattern = copy.from.paths != [copy.from.pattern.clone()];
    let keeps_name = is_pattern || (*into && source.kind != SourceKind::Directory);
    match source.path.file_name() {
        Some(name) if keeps_name => to.join(name),
        _ => to.clone(),
    }
}

/// Adds one path. Two directories become one; anything else is one too many.
fn add<'a>(arrangement: &mut Arrangement<'a>, to: Utf8PathBuf, source: &'a Source) -> Result<(), Problem> {
    // A path joined with nothing ends in a slash.
    let to: Utf8PathBuf = to.components().collect();
    match arrangement.get(&to) {
        Some(other) if other.kind != SourceKind::Directory || source.kind != SourceKind::Directory => {
            Err(Problem::refused(format!("{} and {} both go to {to}", other.path, source.path)))
        }
        _ => {
            arrangement.insert(to, source);
            Ok(())
        }
    }
}

fn put(
    root: &Root,
    factory: &Factory,
    to: &Utf8Path,
    source: &Source,
    ownership: Ownership,
    mode: Option<Mode>,
) -> Result<(), Problem> {
    let spot = match source.kind {
        SourceKind::Directory if to == "/" => return Ok(()),
        _ => root.spot(to.as_std_path())?,
    };
    match &source.kind {
        SourceKind::Directory => spot.directory(ownership, directory_mode(mode)).map(drop),
        SourceKind::Symlink { target } => spot.symlink(target.as_ref(), ownership),
        SourceKind::File { sha256, executable } => {
            spot.file(ownership, file_mode(mode, *executable), |file| factory.copy(&source.path, sha256, file))
        }
    }?;
    boot::forget(root, to)
}

/// The mode of a file that the step says, or else by whether it is executable.
pub(super) fn file_mode(mode: Option<Mode>, executable: bool) -> u32 {
    match mode {
        Some(mode) => mode.bits().into(),
        None if executable => 0o755,
        None => 0o644,
    }
}

/// The mode of a directory that is made on the way: who may read it may enter it. Special bits are for files.
pub(super) fn directory_mode(mode: Option<Mode>) -> u32 {
    let bits = mode.map_or(0o755, |mode| u32::from(mode.bits()) & 0o777);
    bits | (bits & 0o444) >> 2
}
