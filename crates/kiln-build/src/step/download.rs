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
    let mode = directory_mode(step.target.mode);
    if step.target.to != "/" {
        root.spot(to)?.directory(ownership, mode)?;
    }
    let unpacking = Unpacking {
        root: root.below(to, (ownership, mode))?,
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

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;
    use crate::step::ground::for_each_identity;

    const STEP: &str = "download = \"https://user:secret@mirror.example/get/app-3.1.bin?token=x\"";

    #[test]
    fn a_download_is_placed_under_its_name_or_another() {
        for_each_identity(|ground| {
            ground.step_with(&format!("{STEP}\nto = \"/opt/\""), b"bytes").unwrap();
            assert_eq!(ground.changes(), ["opt 755 0:0 /", "opt/app-3.1.bin 644 0:0 \"bytes\""]);
            let step = format!("{STEP}\nto = \"/usr/bin/app\"\nowner = \"www-data\"\nmode = \"4755\"");
            ground.step_with(&step, b"bytes").unwrap();
            assert_eq!(ground.changes()[2..], ["usr/bin/app 4755 33:0 \"bytes\""]);
        });
    }

    #[test]
    fn a_download_that_is_missing_or_damaged_is_named() {
        for_each_identity(|ground| {
            let mut work = ground.work(&format!("{STEP}\nto = \"/opt/\""), b"bytes");
            let error = ground.carry_out(&work, b"other").unwrap_err();
            assert!(matches!(error, StageError::Store(StoreError::Absent { .. })), "{error}");
            let sha256 = Sha256::of(b"bytes");
            let path = Store::open(&ground.path("store")).unwrap().path(&sha256);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "damaged").unwrap();
            let error = ground.carry_out(&work, b"other").unwrap_err();
            let shown = "https://***@mirror.example/get/app-3.1.bin?token=*** was damaged in the store; it is ";
            assert!(error.to_string().starts_with(shown), "{error}");
            work.download = None;
            let error = ground.carry_out(&work, b"").unwrap_err();
            assert_eq!(error.to_string(), "https://***@mirror.example/get/app-3.1.bin?token=*** is not in kiln.lock");
        });
    }

    #[test]
    fn an_archive_is_unpacked_below_the_target() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o4777);
        archive.append_data(&mut header, "app-3.1/bin/run", &b"hi"[..]).unwrap();
        let bytes = archive.into_inner().unwrap();
        for_each_identity(|ground| {
            ground
                .step_with(
                    &format!("{STEP}\nto = \"/opt/app\"\nunpack = true\nstrip = 1\nowner = \"www-data\""),
                    &bytes,
                )
                .unwrap();
            let expected =
                ["opt 755 0:0 /", "opt/app 755 33:0 /", "opt/app/bin 755 33:0 /", "opt/app/bin/run 755 33:0 \"hi\""];
            assert_eq!(ground.changes(), expected, "{:?}", ground.identity);
        });
    }
}
