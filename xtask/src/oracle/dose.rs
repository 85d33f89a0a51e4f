//! Judges selections with dose, the solver of Debian's own quality assurance. Nothing of Kiln's code has a part in it but
//! this file: the stanzas are the index's own text.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use camino::Utf8Path;
use fs_err as fs;

use super::{Package, Tree, output};

/// dose, with the stanzas of one suite.
pub(crate) struct Dose<'a> {
    tree: Tree,
    architecture: String,
    stanzas: BTreeMap<(&'a str, &'a str), &'a str>,
    /// Where its input is written.
    directory: &'a Utf8Path,
}

/// The package that depends on all that is to be judged together.
const WHOLE: &str = "kiln-selection";

impl<'a> Dose<'a> {
    /// Reads the texts of all indexes of a suite.
    pub(crate) fn new(tree: Tree, architecture: &str, texts: &'a [String], directory: &'a Utf8Path) -> Self {
        let stanzas = texts.iter().flat_map(|text| text.split("\n\n")).filter_map(|stanza| {
            let stanza = stanza.trim();
            Some(((field(stanza, "Package")?, field(stanza, "Version")?), stanza))
        });
        Self { tree, architecture: architecture.to_owned(), stanzas: stanzas.collect(), directory }
    }

    /// Whether these packages can all be installed together, with nothing else; if not, why not.
    ///
    /// `number` tells apart what is judged at the same time.
    pub(crate) fn judge(&self, packages: &BTreeSet<Package>, number: usize) -> anyhow::Result<Option<String>> {
        let mut text = String::new();
        for package @ Package { name, version } in packages {
            let stanza = self.stanzas.get(&(name.as_str(), version.as_str()));
            let stanza = stanza.with_context(|| format!("find {package:?} in the indexes"))?;
            text.push_str(&format!("{stanza}\n\n"));
        }
        text.push_str(&self.whole(WHOLE, packages));
        let verdict = self.ask(&text, &[WHOLE.to_owned()], number)?;
        Ok((!verdict.broken.is_empty()).then_some(verdict.explanation))
    }

    /// Which of these sets of packages could be installed by themselves and what they need of `candidates`, of which
    /// there is one version of each name.
    pub(crate) fn solvable<'s>(
        &self,
        candidates: &[Package],
        sets: &'s [Vec<Package>],
    ) -> anyhow::Result<Vec<&'s [Package]>> {
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        let mut text = String::new();
        for Package { name, version } in candidates {
            if let Some(stanza) = self.stanzas.get(&(name.as_str(), version.as_str())) {
                text.push_str(&format!("{stanza}\n\n"));
            }
        }
        let names: Vec<String> = (0..sets.len()).map(|number| format!("{WHOLE}-{number}")).collect();
        for (name, set) in names.iter().zip(sets) {
            text.push_str(&self.whole(name, set));
        }
        let broken = self.ask(&text, &names, 0)?.broken;
        let solvable = names.iter().zip(sets).filter(|(name, _)| !broken.contains(*name));
        Ok(solvable.map(|(_, set)| set.as_slice()).collect())
    }

    /// A package that depends on exactly these: a name alone could be answered by something that provides it.
    fn whole<'p>(&self, name: &str, packages: impl IntoIterator<Item = &'p Package>) -> String {
        let relation = |Package { name, version }: &Package| format!("{name} (= {version})");
        let relations = packages.into_iter().map(relation).collect::<Vec<_>>().join(", ");
        let architecture = &self.architecture;
        format!("Package: {name}\nVersion: 1\nArchitecture: {architecture}\nDepends: {relations}\n\n")
    }

    fn ask(&self, text: &str, names: &[String], number: usize) -> anyhow::Result<Verdict> {
        let path = self.directory.join(format!("dose-{number}.Packages"));
        fs::write(&path, text)?;
        let mut command = self.tree.command("usr/bin/dose-debcheck")?;
        command.arg(format!("--deb-native-arch={}", self.architecture)).args(["--failures", "--explain"]);
        let only: Vec<String> = names.iter().map(|name| format!("{name}:{}", self.architecture)).collect();
        let output = output(command.args(["--checkonly", &only.join(",")]).arg(&path))?;
        fs::remove_file(&path)?;
        let explanation = String::from_utf8_lossy(&output.stdout).into_owned();
        // It ends with 1 where packages are broken, and prints nothing where it does not understand its input.
        let count = field(&explanation, "foreground-packages").map(str::parse);
        if !matches!(output.status.code(), Some(0 | 1)) || count != Some(Ok(names.len())) {
            bail!("dose-debcheck ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        let broken: BTreeSet<String> = explanation.lines().filter_map(broken_package).map(str::to_owned).collect();
        if broken.is_empty() != output.status.success() {
            bail!("dose-debcheck ended with {} and named {} broken packages", output.status, broken.len());
        }
        Ok(Verdict { broken, explanation })
    }
}

/// What dose found.
struct Verdict {
    /// Of the packages that it was asked about.
    broken: BTreeSet<String>,
    explanation: String,
}

/// An entry of the report begins with the name at this depth; deeper ones are the reasons.
fn broken_package(line: &str) -> Option<&str> {
    line.strip_prefix("  package: ")
}

/// The value of a field that fits on its line.
fn field<'t>(stanza: &'t str, name: &str) -> Option<&'t str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}
