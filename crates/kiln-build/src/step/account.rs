//! `user` and `group`: accounts in the tree's own files, as `adduser` and shadow's `useradd` would make them.
//!
//! Nothing of the tree is run, so that trees without the package `passwd` have accounts too. The rules are in `rules`; the
//! files in `table`. What is there with the same properties stays as it is; what is there with others is an error: another
//! part of the class relies on it.

mod rules;
mod table;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;
use kiln_model::diagnostic::nearest;
use kiln_model::spec::{AddGroup, AddUser, Target};

use self::rules::{Defaults, Home};
use self::table::{Accounts, Table};
use super::root::{Ownership, Root};
use super::{Doing as _, Problem, in_tree};
use crate::workplace::{StageError, Workplace};

/// Ids that a file of a tree may have: those that an ordinary user can give too.
const IDS: u32 = kiln_sandbox::IDS;

/// What a new home directory begins with.
const SKELETON: &str = "/etc/skel";

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

pub(super) fn add_user(place: &Workplace<'_>, user: &AddUser) -> Result<(), StageError> {
    in_tree(place, Vec::new(), |_, root| {
        let mut accounts = Accounts::read(root)?;
        let defaults = Defaults::read(root)?;
        let home = rules::add_user(&mut accounts, user, &defaults, place.ids, place.epoch / SECONDS_PER_DAY)?;
        accounts.write(root)?;
        home.map_or(Ok(()), |home| make_home(root, &home))
    })
}

pub(super) fn add_group(place: &Workplace<'_>, group: &AddGroup) -> Result<(), StageError> {
    in_tree(place, Vec::new(), |_, root| {
        let mut accounts = Accounts::read(root)?;
        rules::add_group(&mut accounts, group, &Defaults::read(root)?, place.ids)?;
        accounts.write(root)
    })
}

/// The owner and group that a step names, as the tree's numbers.
pub(super) fn ownership(root: &Root, target: &Target) -> Result<Ownership, Problem> {
    let id = |name: &Option<String>, path, noun| name.as_ref().map_or(Ok(0), |name| id(root, path, noun, name));
    Ok(Ownership { uid: id(&target.owner, "/etc/passwd", "user")?, gid: id(&target.group, "/etc/group", "group")? })
}

fn id(root: &Root, path: &'static str, noun: &str, name: &str) -> Result<u32, Problem> {
    let table = Table::read(root, path)?.unwrap_or_default();
    let found = table.ids().find(|(known, _)| *known == name);
    match found {
        Some((_, id)) if id < IDS => Ok(id),
        Some((_, id)) => {
            Err(Problem::refused(format!("the {noun} `{name}` has the id {id}, and files have ids below {IDS}")))
        }
        None => {
            Err(Problem::refused(format!("there is no {noun} `{name}` in the tree"))
                .hint(missing_hint(&table, noun, name)))
        }
    }
}

fn missing_hint(table: &Table, noun: &str, name: &str) -> String {
    match nearest(name, table.ids().map(|(known, _)| known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("make it with a `{noun}` step before this one"),
    }
}

/// Makes a home directory as `adduser` does; one that is there stays as it is.
fn make_home(root: &Root, home: &Home) -> Result<(), Problem> {
    if [home.ownership.uid, home.ownership.gid].iter().any(|id| *id >= IDS) {
        return Err(Problem::refused(format!("{} cannot be made: files have ids below {IDS}", home.path)));
    }
    let is_new = root.spot(home.path.as_std_path())?.directory(home.ownership, home.mode)?;
    match is_new && home.skeleton && root.is_directory(Path::new(SKELETON)) {
        true => copy_skeleton(root, Path::new(SKELETON), home.path.as_std_path(), home.ownership),
        false => Ok(()),
    }
}

/// Copies what is in a directory of the tree, for another owner. Links stay as they are; what is no file is left out.
fn copy_skeleton(root: &Root, from: &Path, to: &Path, ownership: Ownership) -> Result<(), Problem> {
    let doing = || format!("read {}", from.display());
    let mut names = fs::read_dir(from).doing(doing)?.map(|entry| entry.map(|entry| entry.file_name()));
    names.try_for_each(|name| {
        let name = name.doing(doing)?;
        copy_skeleton_entry(root, &from.join(&name), &to.join(&name), ownership)
    })
}

fn copy_skeleton_entry(root: &Root, from: &Path, to: &Path, ownership: Ownership) -> Result<(), Problem> {
    let doing = || format!("copy {}", from.display());
    let metadata = fs::symlink_metadata(from).doing(doing)?;
    let (spot, mode) = (root.spot(to)?, metadata.mode() & 0o7777);
    if metadata.is_dir() {
        spot.directory(ownership, mode)?;
        return copy_skeleton(root, from, to, ownership);
    }
    if metadata.is_symlink() {
        return spot.symlink(fs::read_link(from).doing(doing)?.as_os_str(), ownership);
    }
    match metadata.is_file() {
        true => spot.file(ownership, mode, |file| file.write_all(&fs::read(from).doing(doing)?).doing(doing)),
        false => Ok(()),
    }
}
