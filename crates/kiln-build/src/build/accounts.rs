//! The users and groups of a tree that is made of layers.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::{Identity, layer};

use crate::ids::Accounts;
use crate::workplace::StageError;

/// Everybody in the tree whose layers these are, from bottom to top.
pub(super) fn of(layers: &[Utf8PathBuf], identity: Identity) -> Result<Accounts, StageError> {
    let read = |path: &str| {
        read(layers, path, identity).map_err(|source| StageError::Io { doing: format!("read /{path}"), source })
    };
    Ok(Accounts::read(&read("etc/passwd")?, &read("etc/group")?))
}

/// A file of the tree; one that is not there is empty.
fn read(layers: &[Utf8PathBuf], path: &str, identity: Identity) -> io::Result<Vec<u8>> {
    match topmost(layers, path) {
        // Of a user's layers some belong to the subordinate ids, whose root may read them.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let read = || topmost(layers, path).map_err(|error| error.to_string());
            identity.act(read).map_err(io::Error::other)?.map_err(io::Error::other)
        }
        result => result,
    }
}

fn topmost(layers: &[Utf8PathBuf], path: &str) -> io::Result<Vec<u8>> {
    for directory in layers.iter().rev() {
        let file = directory.join(path);
        match fs::symlink_metadata(&file) {
            Ok(metadata) if layer::is_whiteout(file.as_std_path(), &metadata)? => return Ok(Vec::new()),
            Ok(metadata) if metadata.is_file() => return fs::read(&file),
            // A link could lead anywhere; no distribution has one here.
            Ok(_) => return Ok(Vec::new()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
        if hides_what_is_below(&file)? {
            return Ok(Vec::new());
        }
    }
    Ok(Vec::new())
}

/// Whether the file's directory is one of this layer alone.
fn hides_what_is_below(file: &Utf8Path) -> io::Result<bool> {
    match file.parent() {
        Some(parent) if parent.exists() => layer::is_opaque(parent.as_std_path()),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_layer_that_has_the_file_counts() {
        let directory = tempfile::tempdir().unwrap();
        let layer = |name: &str| Utf8PathBuf::from_path_buf(directory.path().join(name)).unwrap();
        let layers = [layer("a"), layer("b"), layer("c")];
        for (layer, text) in [(&layers[0], "root:x:0:0\n"), (&layers[1], "root:x:0:0\nshop:x:100:100\n")] {
            fs::create_dir_all(layer.join("etc")).unwrap();
            fs::write(layer.join("etc/passwd"), text).unwrap();
        }
        fs::create_dir_all(layers[2].join("etc")).unwrap();
        let users = |layers: &[Utf8PathBuf]| of(layers, Identity::Root).unwrap().users.into_keys().collect::<Vec<_>>();
        assert_eq!(users(&layers[..1]), ["root"]);
        assert_eq!(users(&layers), ["root", "shop"]);
        assert!(users(&[]).is_empty());
    }
}
