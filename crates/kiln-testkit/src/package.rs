//! The description of one binary package, its `.deb`, and its stanza in an index.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kiln_model::digest::Sha256;

use crate::deb;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, `.gz`.
    Gzip,
    /// xz, `.xz`.
    Xz,
    /// Zstandard, `.zst`.
    Zstd,
}

impl Compression {
    /// What it adds to a file's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }
}

/// One member of a package's control or data archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Its bytes.
        contents: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
    /// One more name of a file that comes before it in the order of paths.
    HardLink {
        /// The file's path inside the archive.
        to: String,
    },
}

impl Entry {
    pub(crate) fn mode(&self) -> u32 {
        match self {
            Self::Directory { mode } | Self::File { mode, .. } => *mode,
            Self::Symlink { .. } => 0o777,
            Self::HardLink { .. } => 0o644,
        }
    }

    pub(crate) fn tar_type(&self) -> tar::EntryType {
        match self {
            Self::Directory { .. } => tar::EntryType::Directory,
            Self::File { .. } => tar::EntryType::Regular,
            Self::Symlink { .. } => tar::EntryType::Symlink,
            Self::HardLink { .. } => tar::EntryType::Link,
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::File { contents, .. } => contents.len(),
            Self::Directory { .. } | Self::Symlink { .. } | Self::HardLink { .. } => 0,
        }
    }
}

/// A binary package; every relation method may be called several times and adds to the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    name: String,
    version: String,
    architecture: String,
    fields: BTreeMap<&'static str, String>,
    control: BTreeMap<String, Entry>,
    data: BTreeMap<String, Entry>,
    owners: BTreeMap<String, Owner>,
    compression: Compression,
}

/// Whose a file of a package is, where it is not root's: user and group, each as name and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: (String, u64),
    pub(crate) group: (String, u64),
}

/// The fields of a stanza, in the order in which dpkg writes them.
const FIELD_ORDER: &[&str] = &[
    "Package",
    "Source",
    "Version",
    "Architecture",
    "Essential",
    "Protected",
    "Maintainer",
    "Installed-Size",
    "Pre-Depends",
    "Depends",
    "Recommends",
    "Suggests",
    "Enhances",
    "Conflicts",
    "Breaks",
    "Replaces",
    "Provides",
    "Section",
    "Priority",
    "Multi-Arch",
    "Homepage",
    "Description",
];

impl Package {
    /// An `amd64` package of priority optional, with nothing but its copyright file.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        let package = Self {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            fields: BTreeMap::new(),
            control: BTreeMap::new(),
            data: BTreeMap::new(),
            owners: BTreeMap::new(),
            compression: Compression::Xz,
        };
        package
            .field("Maintainer", "Kiln tests <tests@mirror.example>")
            .field("Section", "misc")
            .field("Priority", "optional")
            .field("Description", &format!("{name}, as small as it can be\n A package for tests."))
            .file(&format!("/usr/share/doc/{name}/copyright"), "Apache-2.0\n")
    }

    /// Packages from stanzas as an index has them, separated by blank lines; `Package` and `Version` are required.
    #[must_use]
    pub fn parse_all(stanzas: &str) -> Vec<Self> {
        let stanzas = stanzas.split("\n\n").map(str::trim).filter(|stanza| !stanza.is_empty());
        stanzas.map(Self::parse).collect()
    }

    fn parse(stanza: &str) -> Self {
        let mut fields: BTreeMap<&str, &str> = stanza.lines().map(split_field).collect();
        let mut take = |name| fields.remove(name);
        let name = take("Package").unwrap_or_else(|| panic!("no Package in `{stanza}`"));
        let version = take("Version").unwrap_or_else(|| panic!("no Version in `{stanza}`"));
        let architecture = take("Architecture").unwrap_or("amd64");
        let package = Self::new(name, version).for_architecture(architecture);
        fields.into_iter().fold(package, |package, (name, value)| package.field(name, value))
    }

    /// The package's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The package's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The package's architecture: `amd64`, `all`...
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The same package for `architecture`.
    #[must_use]
    pub fn for_architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// The same package for `Architecture: all`.
    #[must_use]
    pub fn for_all(self) -> Self {
        self.for_architecture("all")
    }

    /// The same package in another version.
    #[must_use]
    pub fn at_version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Sets a field, or replaces it.
    ///
    /// Lines after the first must begin with a space, as in the file.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(known_field(name), value.to_owned());
        self
    }

    /// `Essential: yes`, priority required.
    #[must_use]
    pub fn essential(self) -> Self {
        self.field("Essential", "yes").priority("required")
    }

    /// `Priority`.
    #[must_use]
    pub fn priority(self, priority: &str) -> Self {
        self.field("Priority", priority)
    }

    /// `Section`.
    #[must_use]
    pub fn section(self, section: &str) -> Self {
        self.field("Section", section)
    }

    /// `Source`: `name` or `name (version)`.
    #[must_use]
    pub fn source(self, source: &str) -> Self {
        self.field("Source", source)
    }

    /// `Multi-Arch`: `same`, `foreign`, `allowed`.
    #[must_use]
    pub fn multi_arch(self, value: &str) -> Self {
        self.field("Multi-Arch", value)
    }

    /// Adds to `Pre-Depends`.
    #[must_use]
    pub fn pre_depends(self, relations: &str) -> Self {
        self.relation("Pre-Depends", relations)
    }

    /// Adds to `Depends`.
    #[must_use]
    pub fn depends(self, relations: &str) -> Self {
        self.relation("Depends", relations)
    }

    /// Adds to `Recommends`.
    #[must_use]
    pub fn recommends(self, relations: &str) -> Self {
        self.relation("Recommends", relations)
    }

    /// Adds to `Suggests`.
    #[must_use]
    pub fn suggests(self, relations: &str) -> Self {
        self.relation("Suggests", relations)
    }

    /// Adds to `Enhances`.
    #[must_use]
    pub fn enhances(self, relations: &str) -> Self {
        self.relation("Enhances", relations)
    }

    /// Adds to `Conflicts`.
    #[must_use]
    pub fn conflicts(self, relations: &str) -> Self {
        self.relation("Conflicts", relations)
    }

    /// Adds to `Breaks`.
    #[must_use]
    pub fn breaks(self, relations: &str) -> Self {
        self.relation("Breaks", relations)
    }

    /// Adds to `Replaces`.
    #[must_use]
    pub fn replaces(self, relations: &str) -> Self {
        self.relation("Replaces", relations)
    }

    /// Adds to `Provides`.
    #[must_use]
    pub fn provides(self, relations: &str) -> Self {
        self.relation("Provides", relations)
    }

    /// Installs a file with mode 0644 at the absolute `path`.
    #[must_use]
    pub fn file(self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        self.file_with_mode(path, contents, 0o644)
    }

    /// Installs a file with mode 0755.
    #[must_use]
    pub fn executable(self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        self.file_with_mode(path, contents, 0o755)
    }

    /// Installs a file with any mode.
    #[must_use]
    pub fn file_with_mode(mut self, path: &str, contents: impl AsRef<[u8]>, mode: u32) -> Self {
        self.data.insert(inside(path), Entry::File { contents: contents.as_ref().to_vec(), mode });
        self
    }

    /// Installs a file with mode 0644 that dpkg treats as configuration.
    #[must_use]
    pub fn conffile(mut self, path: &str, contents: impl AsRef<[u8]>) -> Self {
        self.append_control("conffiles", &format!("{path}\n"));
        self.file(path, contents)
    }

    /// Installs a symbolic link.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.data.insert(inside(path), Entry::Symlink { target: target.to_owned() });
        self
    }

    /// Installs one more name of a file whose path is earlier in the order of bytes.
    #[must_use]
    pub fn hard_link(mut self, path: &str, to: &str) -> Self {
        self.data.insert(inside(path), Entry::HardLink { to: inside(to) });
        self
    }

    /// Gives a file that is installed to a user and a group, each by name and number.
    #[must_use]
    pub fn owned_by(mut self, path: &str, user: (&str, u64), group: (&str, u64)) -> Self {
        let [user, group] = [user, group].map(|(name, id)| (name.to_owned(), id));
        self.owners.insert(inside(path), Owner { user, group });
        self
    }

    /// Says that a file which is not in the package goes when the package is upgraded.
    #[must_use]
    pub fn removed_conffile(mut self, path: &str) -> Self {
        self.append_control("conffiles", &format!("remove-on-upgrade {path}\n"));
        self
    }

    /// Installs a directory; parents of files need no mention unless their mode is not 0755.
    #[must_use]
    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.data.insert(inside(path), Entry::Directory { mode });
        self
    }

    /// Adds a maintainer script: `preinst`, `postinst`, `prerm`, `postrm`, `config`.
    #[must_use]
    pub fn script(mut self, name: &str, text: &str) -> Self {
        self.control.insert(name.to_owned(), Entry::File { contents: text.into(), mode: 0o755 });
        self
    }

    /// Adds a line to the `triggers` file, for instance `interest-noawait /usr/lib`.
    #[must_use]
    pub fn trigger(mut self, line: &str) -> Self {
        self.append_control("triggers", &format!("{line}\n"));
        self
    }

    /// Compresses the package's members in another way than xz.
    #[must_use]
    pub fn compressed(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The file name: `nginx_1.26.3-3_amd64.deb`; an epoch is not part of it.
    #[must_use]
    pub fn file_name(&self) -> String {
        let version = self.version.split_once(':').map_or(&*self.version, |(_epoch, version)| version);
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }

    /// The path in a mirror's pool, sorted by source package as Debian does.
    #[must_use]
    pub fn pool_path(&self, component: &str) -> String {
        let source = self.fields.get("Source").map_or(&*self.name, |source| source.split(' ').next().unwrap_or(source));
        let prefix_length = if source.starts_with("lib") { 4 } else { 1 };
        let prefix = source.get(..prefix_length).unwrap_or(source);
        format!("pool/{component}/{prefix}/{source}/{}", self.file_name())
    }

    /// The package itself: a `.deb` that dpkg accepts.
    #[must_use]
    pub fn deb(&self) -> Vec<u8> {
        let mut control = self.control.clone();
        control.insert("control".to_owned(), Entry::File { contents: self.control_stanza().into_bytes(), mode: 0o644 });
        deb::write(&control, &self.data, &self.owners, self.compression)
    }

    /// The package's stanza in a Packages file, for the `.deb` that [`Package::deb`] gave.
    #[must_use]
    pub fn index_stanza(&self, component: &str, deb: &[u8]) -> String {
        let mut stanza = self.control_stanza();
        let path = self.pool_path(component);
        writeln!(stanza, "Filename: {path}\nSize: {}\nSHA256: {}", deb.len(), Sha256::of(deb))
            .expect("write to memory");
        stanza
    }

    fn control_stanza(&self) -> String {
        let mut fields = self.fields.clone();
        fields.insert("Package", self.name.clone());
        fields.insert("Version", self.version.clone());
        fields.insert("Architecture", self.architecture.clone());
        fields.insert("Installed-Size", self.installed_size_kib().to_string());
        let mut stanza = String::new();
        for name in FIELD_ORDER {
            if let Some(value) = fields.get(name) {
                writeln!(stanza, "{name}: {value}").expect("write to memory");
            }
        }
        stanza
    }

    /// As dpkg-gencontrol estimates it: each file's size rounded up, one KiB for anything else.
    fn installed_size_kib(&self) -> usize {
        self.data.values().map(|entry| entry.size_bytes().div_ceil(1024).max(1)).sum()
    }

    fn relation(mut self, field: &'static str, relations: &str) -> Self {
        let value = self.fields.entry(field).or_default();
        if !value.is_empty() {
            value.push_str(", ");
        }
        value.push_str(relations);
        self
    }

    fn append_control(&mut self, name: &str, line: &str) {
        let empty = Entry::File { contents: Vec::new(), mode: 0o644 };
        if let Entry::File { contents, .. } = self.control.entry(name.to_owned()).or_insert(empty) {
            contents.extend_from_slice(line.as_bytes());
        }
    }
}

fn split_field(line: &str) -> (&str, &str) {
    let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("`{line}` is not `Field: value`"));
    (name, value.trim())
}

/// The field's name as [`FIELD_ORDER`] has it.
fn known_field(name: &str) -> &'static str {
    FIELD_ORDER.iter().find(|known| **known == name).unwrap_or_else(|| panic!("`{name}` is not in FIELD_ORDER"))
}

/// The path of an installed file inside the archive.
fn inside(path: &str) -> String {
    let path = path.strip_prefix('/').unwrap_or_else(|| panic!("installed paths are absolute: {path}"));
    path.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_has_every_field_in_dpkgs_order() {
        let package = Package::new("nginx", "1:1.26.3-3")
            .source("nginx-source (1.2)")
            .provides("httpd")
            .depends("libc6 (>= 2.36)")
            .depends("zlib1g")
            .pre_depends("dpkg")
            .multi_arch("foreign")
            .file("/usr/share/x", vec![0; 1025]);
        let stanza = package.index_stanza("main", b"deb");
        assert_eq!(
            stanza,
            "Package: nginx\nSource: nginx-source (1.2)\nVersion: 1:1.26.3-3\nArchitecture: amd64\n\
             Maintainer: Kiln tests <tests@mirror.example>\nInstalled-Size: 3\nPre-Depends: dpkg\n\
             Depends: libc6 (>= 2.36), zlib1g\nProvides: httpd\nSection: misc\nPriority: optional\n\
             Multi-Arch: foreign\nDescription: nginx, as small as it can be\n A package for tests.\n\
             Filename: pool/main/n/nginx-source/nginx_1.26.3-3_amd64.deb\nSize: 3\n\
             SHA256: 9cfa1468c93fc18652e34a000f0c6614b0fa18f6f4887477ad9b0d36ca6a7eaa\n"
        );
    }

    #[test]
    fn pool_paths_follow_debian() {
        let check = |package: Package, path: &str| assert_eq!(package.pool_path("main"), path);
        check(Package::new("bash", "5.2"), "pool/main/b/bash/bash_5.2_amd64.deb");
        check(Package::new("libc6", "2.41").source("glibc"), "pool/main/g/glibc/libc6_2.41_amd64.deb");
        check(Package::new("libcap2", "1:2.75").for_all(), "pool/main/libc/libcap2/libcap2_2.75_all.deb");
    }

    #[test]
    fn stanzas_read_back_as_packages() {
        let packages = Package::parse_all(
            "\nPackage: a\nVersion: 1\nDepends: b | c\n\nPackage: b\nVersion: 2\nArchitecture: all\n",
        );
        let expected = [Package::new("a", "1").depends("b | c"), Package::new("b", "2").for_all()];
        assert_eq!(packages, expected);
    }
}
