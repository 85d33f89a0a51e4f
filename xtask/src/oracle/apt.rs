//! A suite's own apt, on a root in which nothing is installed.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::Serialize;

use super::{Tree, output, printed};

/// An apt with its root and its configuration.
#[derive(Debug)]
pub(crate) struct Apt {
    tree: Tree,
    configuration: Utf8PathBuf,
    /// As it says itself.
    pub(crate) version: String,
}

/// A package in a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// What apt would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It would install these.
    Selected(BTreeSet<Package>),
    /// It would not; in its words.
    Refused(String),
}

/// One suite as apt is to know it: a line of its sources, and the downloaded files if it is not to ask for them.
pub(crate) struct List<'a> {
    /// The mirror's root, without a `/` at the end.
    pub(crate) mirror: &'a str,
    pub(crate) suite: &'a str,
    pub(crate) component: &'a str,
    /// The signed Release and the text of the index; without them apt has to ask the mirror.
    pub(crate) content: Option<(Vec<u8>, &'a str)>,
}

/// What apt says where it will not install something, rather than when something is wrong with its own world.
const REFUSALS: &[&str] = &["held broken packages", "Unable to locate package", "has no installation candidate"];

/// What apt expects to be there.
const DIRECTORIES: &[&str] = &[
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "var/lib/apt/lists/partial",
    "var/cache/apt/archives/partial",
    "var/lib/dpkg",
    PROGRAMS,
];

/// The keys of Debian's archive, as the package of that name has them.
const KEYRING: &str = "usr/share/keyrings/debian-archive-keyring.gpg";

/// Where scripts lie that run apt's own programs from the tree.
const PROGRAMS: &str = "programs";

/// Where a tree has what apt calls methods.
const METHODS: &str = "usr/lib/apt/methods";

impl Apt {
    /// Writes a clean root at `root` with these lists. One that is there already is used as it is.
    pub(crate) fn new(tree: Tree, root: &Utf8Path, architecture: &str, lists: &[List<'_>]) -> anyhow::Result<Self> {
        let configuration = root.join("apt.conf");
        if !configuration.exists() {
            write_root(root, &tree, architecture, lists)?;
            write_programs(root, &tree)?;
            // Last, so that a root with a configuration is whole.
            fs::write(&configuration, configure(root, architecture))?;
        }
        let mut apt = Self { tree, configuration, version: String::new() };
        let printed = printed(apt.command()?.arg("--version"))?;
        apt.version = printed.split_whitespace().nth(1).unwrap_or_default().to_owned();
        Ok(apt)
    }

    /// `apt-get`, ready for its arguments.
    pub(crate) fn command(&self) -> anyhow::Result<Command> {
        let mut command = self.tree.command("usr/bin/apt-get")?;
        command.env("APT_CONFIG", &self.configuration);
        Ok(command)
    }

    /// What `apt-get install '?essential' NAMES` would bring into the empty root.
    pub(crate) fn select(&self, names: &[String], recommends: bool) -> anyhow::Result<Answer> {
        let mut command = self.command()?;
        command.args(["install", "-qq", "--yes", "--print-uris", "-o"]);
        command.arg(format!("APT::Install-Recommends={recommends}"));
        let output = output(command.arg("?essential").args(names))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            let lines = String::from_utf8(output.stdout).context("read what apt-get printed")?;
            return lines.lines().map(parse_uri).collect::<anyhow::Result<_>>().map(Answer::Selected);
        }
        if !REFUSALS.iter().any(|refusal| said.contains(refusal)) {
            bail!("apt-get install {} ended with {}: {}", names.join(" "), output.status, said.trim());
        }
        Ok(Answer::Refused(said.trim().to_owned()))
    }
}

fn write_root(root: &Utf8Path, tree: &Tree, architecture: &str, lists: &[List<'_>]) -> anyhow::Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::write(root.join("var/lib/dpkg/status"), "")?;
    let keyring = tree.path(KEYRING);
    let mut sources = String::new();
    for List { mirror, suite, component, content } in lists {
        sources.push_str(&format!(
            "deb [signed-by={keyring}] {mirror} {suite} {component}
"
        ));
        let Some((release, text)) = content else { continue };
        let (_, place) = mirror.split_once("://").context("a mirror has a scheme")?;
        let prefix = format!("var/lib/apt/lists/{}_dists_{suite}_", place.replace('/', "_"));
        fs::write(root.join(format!("{prefix}InRelease")), release)?;
        fs::write(root.join(format!("{prefix}{component}_binary-{architecture}_Packages")), text)?;
    }
    fs::write(root.join("etc/apt/sources.list"), sources)?;
    Ok(())
}

/// apt downloads and verifies through programs of its own, which it starts itself: scripts stand in for them. Where sqv
/// is not among them apt uses gpgv; sqv's place cannot be configured.
fn write_programs(root: &Utf8Path, tree: &Tree) -> anyhow::Result<()> {
    let methods = tree.path(METHODS).read_dir_utf8()?.collect::<Result<Vec<_>, _>>()?;
    let methods = methods.iter().map(|entry| entry.file_name()).filter(|name| *name != "sqv");
    for name in methods {
        write_script(&root.join(PROGRAMS).join(name), &tree.invocation(&format!("{METHODS}/{name}"))?)?;
    }
    // `gpgv` is the name of a method too.
    write_script(&root.join(PROGRAMS).join("gpgv-itself"), &tree.invocation("usr/bin/gpgv")?)
}

fn write_script(path: &Utf8Path, invocation: &[String]) -> anyhow::Result<()> {
    fs::write(path, format!("#!/bin/sh\nexec '{}' \"$@\"\n", invocation.join("' '")))?;
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Everything apt reads and writes lies below the root. It never asks dpkg, and several may run at once.
fn configure(root: &Utf8Path, architecture: &str) -> String {
    format!(
        "Dir \"{root}/\";\n\
         Dir::Bin::methods \"{root}/{PROGRAMS}/\";\n\
         Dir::Bin::dpkg \"/bin/false\";\n\
         APT::Key::GPGVCommand \"{root}/{PROGRAMS}/gpgv-itself\";\n\
         APT::Sandbox::User \"root\";\n\
         APT::Architecture \"{architecture}\";\n\
         APT::Architectures {{ \"{architecture}\"; }};\n\
         Acquire::Languages \"none\";\n\
         Debug::NoLocking \"true\";\n"
    )
}

/// A line of `--print-uris`: `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE DIGEST`.
fn parse_uri(line: &str) -> anyhow::Result<Package> {
    let file = line.split(' ').nth(1).and_then(|file| file.strip_suffix(".deb"));
    let mut parts = file.into_iter().flat_map(|file| file.split('_'));
    match (parts.next(), parts.next()) {
        (Some(name), Some(version)) => Ok(Package { name: name.to_owned(), version: unquote(version) }),
        _ => bail!("apt-get printed what is no address of a package: {line}"),
    }
}

/// apt writes `:` and `_` of a version as `%3a` and `%5f`.
fn unquote(version: &str) -> String {
    version.replace("%3a", ":").replace("%5f", "_").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_uri(line: &str, name: &str, version: &str) {
        let expected = Package { name: name.to_owned(), version: version.to_owned() };
        assert_eq!(parse_uri(line).ok(), Some(expected), "{line}");
    }

    #[test]
    fn reads_what_apt_prints() {
        check_uri(
            "'http://mirror.example/debian/pool/main/libw/libwpg/libwpg-0.3-3_0.3.4-3%2bb2_amd64.deb' \
             libwpg-0.3-3_0.3.4-3+b2_amd64.deb 81328 MD5Sum:72d0",
            "libwpg-0.3-3",
            "0.3.4-3+b2",
        );
        check_uri(
            "'http://mirror.example/debian/pool/x.deb' coreutils_1%3a9.7-3_amd64.deb 1 SHA256:00",
            "coreutils",
            "1:9.7-3",
        );
        assert!(parse_uri("E: something").is_err());
    }
}
