//! Kiln's side: the binary, with a store that is empty at first, and a mirror that is a directory.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_build::factory::SPEC_FILE;
use kiln_model::lock::{FILE_NAME, Lock};
use kiln_sandbox::{Identity, layer};

/// The binary and where it works.
pub(in crate::conformance) struct Kiln<'a> {
    pub(in crate::conformance) program: &'a Utf8Path,
    /// Holds the factory and the store.
    pub(in crate::conformance) directory: Utf8PathBuf,
    /// What `kiln fetch --to` wrote.
    pub(in crate::conformance) mirror: &'a Utf8Path,
}

impl Kiln<'_> {
    /// Gives it a spec, and its lock where there is one.
    pub(in crate::conformance) fn prepare(&self, spec: &str, lock: Option<&Lock>) -> anyhow::Result<()> {
        let factory = self.factory();
        fs::create_dir_all(&factory)?;
        fs::write(factory.join(SPEC_FILE), spec)?;
        if let Some(lock) = lock {
            fs::write(factory.join(FILE_NAME), lock.print())?;
        }
        Ok(())
    }

    /// Locks the factory from the mirror.
    pub(super) fn lock(&self) -> anyhow::Result<()> {
        self.run(&["lock"]).map(drop)
    }

    /// Builds the tree of a class, and writes it as an archive.
    pub(in crate::conformance) fn archive(&self, class: &str, to: &Utf8Path) -> anyhow::Result<()> {
        self.run(&["build", class, "--tree-only", "--no-locked"])?;
        self.export(class, "tar", to)
    }

    /// Exports a class that is built.
    pub(in crate::conformance) fn export(&self, class: &str, format: &str, to: &Utf8Path) -> anyhow::Result<()> {
        self.run(&["export", class, "--format", format, "--output", to.as_str()]).map(drop)
    }

    /// Removes the store and the factory, whoever owns what is in them.
    pub(in crate::conformance) fn remove(self) -> anyhow::Result<()> {
        Ok(layer::remove_tree(&self.directory, Identity::of_caller()?)?)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.program);
        command.args(arguments).args(["-C", self.factory().as_str()]).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.directory.join("cache"));
        command.env("XDG_STATE_HOME", self.directory.join("state"));
        command.env("KILN_MIRROR", format!("file://{}", self.mirror.canonicalize_utf8()?));
        let output = command.output().with_context(|| format!("run {}", self.program))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("kiln {} ended with {}:\n{}", arguments.join(" "), output.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn factory(&self) -> Utf8PathBuf {
        self.directory.join("factory")
    }
}
