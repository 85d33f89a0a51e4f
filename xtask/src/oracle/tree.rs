//! Unpacked packages whose programs run on any host.

use std::process::Command;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;

use super::printed;
use crate::parallel;

/// A directory into which packages were unpacked; none of them is configured.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    root: Utf8PathBuf,
}

impl Tree {
    pub(super) fn new(root: Utf8PathBuf) -> Self {
        Self { root }
    }

    /// Unpacks `.deb` files into `root`, which appears when it is whole.
    pub(super) fn unpack(debs: &[Utf8PathBuf], root: &Utf8Path) -> anyhow::Result<()> {
        let aside = root.with_extension("new");
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::create_dir_all(&aside)?;
        let unpack =
            |deb: &Utf8PathBuf| printed(Command::new("dpkg-deb").args(["--extract", deb.as_str()]).arg(&aside));
        parallel::map(debs, unpack).into_iter().collect::<anyhow::Result<Vec<String>>>()?;
        fs::rename(&aside, root)?;
        Ok(())
    }

    /// Where a file of the tree lies.
    pub(crate) fn path(&self, relative: &str) -> Utf8PathBuf {
        self.root.join(relative)
    }

    /// A program of the tree, with the libraries of the tree, in a fixed environment.
    pub(crate) fn command(&self, program: &str) -> anyhow::Result<Command> {
        let mut words = self.invocation(program)?.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(command)
    }

    /// The words that run a program of the tree: its dynamic linker, where the libraries are, the program.
    pub(crate) fn invocation(&self, program: &str) -> anyhow::Result<Vec<String>> {
        let linker = self.linker()?;
        let directories = self.library_directories()?;
        Ok(vec![linker.into(), "--library-path".to_owned(), directories.join(":"), self.path(program).into()])
    }

    /// The dynamic linker; its name says the architecture.
    fn linker(&self) -> anyhow::Result<Utf8PathBuf> {
        let directories = ["lib64", "lib", "usr/lib64", "usr/lib"];
        let files = directories.iter().filter_map(|directory| self.path(directory).read_dir_utf8().ok()).flatten();
        let mut linkers: Vec<Utf8PathBuf> = files
            .filter_map(|entry| Some(entry.ok()?.into_path()))
            .filter(|path| path.file_name().is_some_and(|name| name.starts_with("ld-linux")))
            .collect();
        linkers.sort();
        linkers.into_iter().next().with_context(|| format!("find the dynamic linker in {}", self.root))
    }

    /// The multi-arch directories of libraries.
    fn library_directories(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for parent in ["usr/lib", "lib"] {
            for entry in self.path(parent).read_dir_utf8()? {
                let path = entry?.into_path();
                if path.file_name().is_some_and(|name| name.contains("-linux-gnu")) && path.is_dir() {
                    found.push(path.into_string());
                }
            }
        }
        found.sort();
        Ok(found)
    }
}
