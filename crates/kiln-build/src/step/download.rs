//! `download`: a file of the store, by the digest that the lock has, as it is or unpacked.

use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};
use kiln_model::digest::Sha256;
use kiln_model::lock::LockedDownload;
use kiln_model::spec::PlaceDownload;
use kiln_sandbox::Bind;
use kiln_store::{Presence, Store, StoreError};
use url::Url;

use super::account::ownership;
use super::archive::{self, Unpacking};
use super::copy::{directory_mode, file_mode};
use super::root::Root;
use super::{Doing as _, Problem, boot, content, in_tree};
use crate::mirror::public_text;
use crate::stage::StepWork;
use crate::workplace::{StageError, Workplace};

/// Where the file is seen inside.
const DOWNLOAD: &str = "/run/kiln/download";

pub(super) fn run(place: &Workplace<'_>, work: &StepWork, step: &PlaceDownload) -> Result<(), StageError> {
    let locked = work.download.as_ref().ok_or_else(|| not_locked(step).into_error(&[]))?;
    check_present(place.store, locked)?;
    let bind = Bind { from: place.store.path(&locked.sha256), to: DOWNLOAD.into(), read_only: true };
    in_tree(place, vec![bind], |_, root| match step.unpack {
        true => unpack(root, step),
        false => place_file(root, step, &locked.sha256),
    })
}

fn not_locked(step: &PlaceDownload) -> Problem {
    Problem::refused(format!("{} is not in kiln.lock", public_text(step.url.as_str()))).hint("kiln lock adds it")
}

/// Makes sure that the store has the file, whole.
fn check_present(store: &Store, locked: &LockedDownload) -> Result<(), StageError> {
    match store.verify(&locked.sha256)? {
        Presence::Present => Ok(()),
        Presence::Absent => Err(StoreError::Absent { digest: locked.sha256 }.into()),
        Presence::Corrupt { moved_to } => {
            let message = format!("{} was damaged in the store; it is {moved_to} now", public_text(&locked.url));
            Err(Problem::refused(message).hint("kiln fetch brings it again").into_error(&[]))
        }
    }
}

fn place_file(root: &Root, step: &PlaceDownload, sha256: &Sha256) -> Result<(), Problem> {
    let to = destination(step)?;
    let ownership = ownership(root, &step.target)?;
    root.spot(to.as_std_path())?.file(ownership, file_mode(step.target.mode, false), |file| {
        let copied = content::copy(&mut open()?, file).doing(|| format!("write {to}"))?;
        if copied == *sha256 { Ok(()) } else { Err(content::changed(&public_text(step.url.as_str()))) }
    })?;
    boot::forget(root, &to)
}

fn unpack(root: &Root, step: &PlaceDownload) -> Result<(), Problem> {
    let to = step.target.to.as_std_path();
    let ownership = ownership(root, &step.target)?;
    if step.target.to != "/" {
        root.spot(to)?.directory(ownership, directory_mode(step.target.mode))?;
    }
    let unpacking = Unpacking {
        root: root.below(to)?,
        to: step.target.to.clone(),
        strip: step.strip,
        ownership,
        mode: step.target.mode,
    };
    archive::unpack(&open()?, &unpacking, &public_text(step.url.as_str()))
}

fn open() -> Result<File, Problem> {
    let file = fs_err::File::open(DOWNLOAD).doing(|| "open the download".to_owned())?;
    Ok(file.into_parts().0)
}

/// Where the file goes: in a directory under the name that its address ends in.
fn destination(step: &PlaceDownload) -> Result<Utf8PathBuf, Problem> {
    if !step.target.into {
        return Ok(step.target.to.clone());
    }
    let url = Url::parse(step.url.as_str()).ok();
    let name = url.as_ref().and_then(|url| Utf8Path::new(url.path()).file_name());
    name.map(|name| step.target.to.join(name)).ok_or_else(|| {
        Problem::refused(format!("{} names no file", public_text(step.url.as_str())))
            .hint("write the file's name in `to`")
    })
}
