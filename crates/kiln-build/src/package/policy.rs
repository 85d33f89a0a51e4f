//! Keeps services from starting while scripts run: `policy-rc.d` (Debian's invoke-rc.d asks it), which forbids everything.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// 101: the action is forbidden (`/usr/share/doc/init-system-helpers/README.policy-rc.d.gz`).
const TEXT: &str = "#!/bin/sh\nexit 101\n";

/// It is there while this lives. A tree that has one of its own keeps it.
#[must_use = "services may start when this is dropped"]
pub(crate) struct Policy {
    path: Option<PathBuf>,
    /// The directory's time, which nobody is to see changed.
    time: Timestamps,
}

impl Policy {
    pub(crate) fn begin(root: &Path) -> io::Result<Self> {
        let directory = root.join("usr/sbin");
        let metadata = fs::metadata(&directory)?;
        let modified = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
        let time = Timestamps { last_access: modified, last_modification: modified };
        let path = directory.join("policy-rc.d");
        if path.symlink_metadata().is_ok() {
            return Ok(Self { path: None, time });
        }
        fs::write(&path, TEXT)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { path: Some(path), time })
    }

    pub(crate) fn end(self) -> io::Result<()> {
        let Some(path) = self.path else { return Ok(()) };
        // A package that brings one has its own there now.
        if fs::read(&path).is_ok_and(|text| text == TEXT.as_bytes()) {
            fs::remove_file(&path)?;
            if let Some(directory) = path.parent() {
                utimensat(CWD, directory, &self.time, AtFlags::empty())?;
            }
        }
        Ok(())
    }
}
