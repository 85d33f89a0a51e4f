//! A lock as text: its shape on the disk, its digest, and its printing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    FILE_NAME, FORMAT_VERSION, Ids, Lock, LockError, LockedClass, LockedDistribution, LockedDownload, LockedIndex,
    LockedPackage, LockedRequest, LockedToolbox, LockedTools, OUTPUT_VERSION, Origin, PRIORITY_DEFAULT,
};
use crate::diagnostic::{Diagnostic, Source};
use crate::digest::Sha256;

impl Lock {
    /// Reads a lock's text.
    ///
    /// # Errors
    /// If the text is not TOML of this format, not what was written, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let source = Source { name: FILE_NAME.to_owned(), text: text.to_owned() };
        let header: Header = toml::from_str(text).map_err(|error| syntax(&source, &error))?;
        if header.format > FORMAT_VERSION {
            return Err(LockError::Newer { format: header.format });
        }
        let (body, ids_text) = split(text);
        let actual = body_digest(body);
        if actual != header.digest {
            return Err(LockError::Damaged { expected: header.digest, actual });
        }
        let file: File = toml::from_str(text).map_err(|error| syntax(&source, &error))?;
        let lock = file.into_lock(ids_text.to_owned())?;
        lock.check_references().map_err(LockError::Inconsistent)?;
        Ok(lock)
    }

    /// The lock's text; [`Lock::parse`] reads it back.
    #[must_use]
    pub fn print(&self) -> String {
        let body = self.print_body();
        format!("{HEADER}digest = \"{}\"\n{body}{}", body_digest(&body), self.ids.text)
    }

    fn print_body(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "format = {FORMAT_VERSION}\noutput = {}\nsolver = {}", self.output, quote(&self.solver));
        for (name, distribution) in &self.distributions {
            print_distribution(&mut out, name, distribution);
        }
        for (name, class) in &self.classes {
            print_class(&mut out, name, class);
        }
        for (architecture, toolbox) in &self.toolboxes {
            let _ = writeln!(out, "\n[toolbox.{architecture}]\ndistribution = {}", quote(&toolbox.distribution));
            print_strings(&mut out, "request", &toolbox.request);
            print_packages(&mut out, "packages", &toolbox.packages);
        }
        out.push('\n');
        out
    }
}

/// The keys that decide whether the rest can be read at all.
#[derive(Deserialize)]
struct Header {
    digest: Sha256,
    format: u32,
}

/// The file's shape; [`Lock`] is what it means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "digest")]
    _digest: Sha256,
    #[serde(rename = "format")]
    _format: u32,
    output: u32,
    solver: String,
    #[serde(default)]
    distribution: BTreeMap<String, LockedDistribution>,
    #[serde(default)]
    class: BTreeMap<String, ClassTable>,
    #[serde(default)]
    toolbox: BTreeMap<String, LockedToolbox>,
    #[serde(default)]
    ids: IdsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassTable {
    distribution: String,
    epoch: Timestamp,
    request: LockedRequest,
    #[serde(default)]
    downloads: Vec<LockedDownload>,
    #[serde(default)]
    essential: Vec<LockedPackage>,
    #[serde(default)]
    wave: Vec<WaveTable>,
    #[serde(default)]
    tools: Vec<ToolsTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolsTable {
    request: Vec<String>,
    #[serde(default)]
    wave: Vec<WaveTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveTable {
    packages: Vec<LockedPackage>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct IdsTable {
    #[serde(default)]
    users: BTreeMap<String, u32>,
    #[serde(default)]
    groups: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageTable {
    name: String,
    version: String,
    architecture: String,
    index: Option<String>,
    path: Option<String>,
    file: Option<Utf8PathBuf>,
    url: Option<String>,
    size: u64,
    sha256: Sha256,
}

impl<'de> Deserialize<'de> for LockedPackage {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PackageTable { name, version, architecture, index, path, file, url, size, sha256 } =
            PackageTable::deserialize(deserializer)?;
        let origin = match (index, path, file, url) {
            (Some(index), Some(path), None, None) => Origin::Archive { index, path },
            (None, None, Some(file), None) => Origin::File(file),
            (None, None, None, Some(url)) => Origin::Url(url),
            _ => {
                let expected = "either `index` and `path`, or `file`, or `url`";
                return Err(serde::de::Error::custom(format!("package {name} needs {expected}")));
            }
        };
        Ok(Self { name, version, architecture, origin, size, sha256 })
    }
}

impl File {
    fn into_lock(self, ids_text: String) -> Result<Lock, LockError> {
        if self.output > OUTPUT_VERSION {
            return Err(LockError::NewerOutput { output: self.output });
        }
        let classes = self.class.into_iter().map(|(name, table)| (name, table.into_class())).collect();
        Ok(Lock {
            output: self.output,
            solver: self.solver,
            distributions: self.distribution,
            classes,
            toolboxes: self.toolbox,
            ids: Ids { users: self.ids.users, groups: self.ids.groups, text: ids_text },
        })
    }
}

impl ClassTable {
    fn into_class(self) -> LockedClass {
        let Self { distribution, epoch, request, downloads, essential, wave, tools } = self;
        let tools = tools.into_iter().map(|tools| LockedTools { request: tools.request, waves: waves(tools.wave) });
        LockedClass { distribution, request, epoch, essential, waves: waves(wave), downloads, tools: tools.collect() }
    }
}

fn waves(tables: Vec<WaveTable>) -> Vec<Vec<LockedPackage>> {
    tables.into_iter().map(|wave| wave.packages).collect()
}

fn syntax(source: &Source, error: &toml::de::Error) -> LockError {
    let span = error.span().unwrap_or(0..0);
    let message = format!("{FILE_NAME}: {}", error.message());
    LockError::Syntax(Box::new(Diagnostic::at(source, span, message)))
}

/// The text after the digest's line, in two: what the digest covers, and `[ids]`.
fn split(text: &str) -> (&str, &str) {
    let lines = || {
        text.split_inclusive('\n').scan(0, |offset, line| Some((std::mem::replace(offset, *offset + line.len()), line)))
    };
    let start = lines().find(|(_, line)| line.starts_with("digest")).map_or(0, |(offset, line)| offset + line.len());
    let end = lines()
        .find(|(offset, line)| *offset >= start && line.starts_with("[ids"))
        .map_or(text.len(), |(offset, _)| offset);
    (&text[start..end], &text[end..])
}

/// Carriage returns do not count: version control may add them on checkout.
fn body_digest(body: &str) -> Sha256 {
    Sha256::of(body.replace('\r', "").as_bytes())
}

const HEADER: &str = "# Written by `kiln lock`. Review it and commit it; only [ids] is for hands.\n";

fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn print_strings(out: &mut String, key: &str, values: &[String]) {
    let _ = writeln!(out, "{key} = [{}]", values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(", "));
}

fn print_distribution(out: &mut String, name: &str, distribution: &LockedDistribution) {
    let LockedDistribution { family, architecture, snapshot, indexes } = distribution;
    let _ =
        writeln!(out, "\n[distribution.{name}]\nfamily = {}\narchitecture = {}", quote(family), quote(architecture));
    if let Some(snapshot) = snapshot {
        let _ = writeln!(out, "snapshot = \"{snapshot}\"");
    }
    for index in indexes {
        let LockedIndex { repository, suite, component, priority, date, key, release, path, size, sha256 } = index;
        let _ = writeln!(out, "\n[[distribution.{name}.indexes]]");
        let _ = writeln!(out, "repository = {}\nsuite = {}", quote(repository), quote(suite));
        if *priority != PRIORITY_DEFAULT {
            let _ = writeln!(out, "priority = {priority}");
        }
        let _ = writeln!(out, "component = {}\ndate = \"{date}\"\nkey = {}", quote(component), quote(key));
        let _ = writeln!(out, "release = \"{release}\"\npath = {}\nsize = {size}\nsha256 = \"{sha256}\"", quote(path));
    }
}

fn print_class(out: &mut String, name: &str, class: &LockedClass) {
    let LockedClass { distribution, request, epoch, essential, waves, downloads, tools } = class;
    let _ = writeln!(out, "\n[class.{name}]\ndistribution = {}\nepoch = \"{epoch}\"", quote(distribution));
    if !downloads.is_empty() {
        out.push_str("downloads = [\n");
        for LockedDownload { url, size, sha256 } in downloads {
            let _ = writeln!(out, "    {{ url = {}, size = {size}, sha256 = \"{sha256}\" }},", quote(url));
        }
        out.push_str("]\n");
    }
    if !essential.is_empty() {
        print_packages(out, "essential", essential);
    }
    print_request(out, name, request);
    print_waves(out, &format!("class.{name}"), waves);
    for LockedTools { request, waves } in tools {
        let _ = writeln!(out, "\n[[class.{name}.tools]]");
        print_strings(out, "request", request);
        print_waves(out, &format!("class.{name}.tools"), waves);
    }
}

fn print_waves(out: &mut String, table: &str, waves: &[Vec<LockedPackage>]) {
    for wave in waves {
        let _ = writeln!(out, "\n[[{table}.wave]]");
        print_packages(out, "packages", wave);
    }
}

fn print_request(out: &mut String, name: &str, request: &LockedRequest) {
    let LockedRequest { from, packages, kernel, exclude, recommends } = request;
    let _ = writeln!(out, "\n[class.{name}.request]");
    if let Some(from) = from {
        let _ = writeln!(out, "from = {}", quote(from));
    }
    print_strings(out, "packages", packages);
    if let Some(kernel) = kernel {
        let _ = writeln!(out, "kernel = {}", quote(kernel));
    }
    if !exclude.is_empty() {
        print_strings(out, "exclude", exclude);
    }
    if *recommends {
        out.push_str("recommends = true\n");
    }
}

fn print_packages(out: &mut String, key: &str, packages: &[LockedPackage]) {
    let _ = writeln!(out, "{key} = [");
    for LockedPackage { name, version, architecture, origin, size, sha256 } in packages {
        let origin = match origin {
            Origin::Archive { index, path } => format!("index = {}, path = {}", quote(index), quote(path)),
            Origin::File(path) => format!("file = {}", quote(path.as_str())),
            Origin::Url(url) => format!("url = {}", quote(url)),
        };
        let (name, version, architecture) = (quote(name), quote(version), quote(architecture));
        let _ = writeln!(
            out,
            "    {{ name = {name}, version = {version}, architecture = {architecture}, {origin}, size = {size}, sha256 = \"{sha256}\" }},"
        );
    }
    out.push_str("]\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ARCHIVE;
    use super::*;

    fn package(name: &str, version: &str, origin: Origin) -> LockedPackage {
        let sha256 = Sha256::of(name.as_bytes());
        LockedPackage {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            origin,
            size: 7,
            sha256,
        }
    }

    fn archive(name: &str) -> Origin {
        Origin::Archive { index: "trixie/main".into(), path: format!("pool/main/{name}.deb") }
    }

    fn example() -> Lock {
        let date: Timestamp = "2026-09-12T07:55:41Z".parse().unwrap();
        let index = LockedIndex {
            repository: ARCHIVE.into(),
            suite: "trixie".into(),
            component: "main".into(),
            priority: 100,
            date,
            key: "ABCD".into(),
            release: Sha256::of(b"release"),
            path: "main/binary-amd64/Packages.xz".into(),
            size: 9,
            sha256: Sha256::of(b"packages"),
        };
        let distribution = LockedDistribution {
            family: "debian".into(),
            architecture: "amd64".into(),
            snapshot: Some(date),
            indexes: vec![index],
        };
        let base = LockedClass {
            distribution: "trixie".into(),
            request: LockedRequest {
                packages: vec!["udev".into()],
                kernel: Some("linux".into()),
                ..LockedRequest::default()
            },
            epoch: date,
            essential: vec![package("dpkg", "1.22", archive("dpkg"))],
            waves: vec![vec![package("udev", "257", archive("udev"))], vec![package("linux", "6", archive("linux"))]],
            downloads: Vec::new(),
            tools: Vec::new(),
        };
        let web = LockedClass {
            distribution: "trixie".into(),
            request: LockedRequest {
                from: Some("base".into()),
                packages: vec!["nginx (>= 1.26)".into(), "./dist/agent.deb".into()],
                exclude: vec!["apt".into()],
                recommends: true,
                ..LockedRequest::default()
            },
            epoch: date,
            essential: Vec::new(),
            waves: vec![vec![
                package("agent", "1:1~\"x\"", Origin::File("dist/agent.deb".into())),
                package("nginx", "1.26", archive("nginx")),
                package("tool", "2", Origin::Url("https://mirror.example/tool.deb".into())),
            ]],
            downloads: vec![LockedDownload {
                url: "https://mirror.example/a".into(),
                size: 3,
                sha256: Sha256::of(b"a"),
            }],
            tools: vec![LockedTools {
                request: vec!["ansible-core".into()],
                waves: vec![vec![package("python3", "3.13", archive("python3"))], vec![]],
            }],
        };
        let toolbox = LockedToolbox {
            distribution: "trixie".into(),
            request: vec!["haproxy".into()],
            packages: vec![package("haproxy", "3", archive("haproxy"))],
        };
        Lock {
            output: OUTPUT_VERSION,
            solver: "apt-classic/1".into(),
            distributions: BTreeMap::from([("trixie".into(), distribution)]),
            classes: BTreeMap::from([("base".into(), base), ("web".into(), web)]),
            toolboxes: BTreeMap::from([("amd64".into(), toolbox)]),
            ids: Ids::default(),
        }
    }

    #[test]
    fn text_reads_back() {
        assert_eq!(Lock::parse(&example().print()).unwrap(), example());
    }

    #[test]
    fn parents_come_first() {
        let lock = example();
        let names: Vec<_> = lock.packages_of("web").into_iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["dpkg", "udev", "linux", "agent", "nginx", "tool"]);
    }

    #[test]
    fn ids_belong_to_others_and_are_kept_byte_for_byte() {
        let ids = "[ids.users]\n# moved here by hand\nnginx = 101\n\n[ids.groups]\nnginx=102\n";
        let read = Lock::parse(&format!("{}{ids}", example().print())).unwrap();
        assert_eq!(read.ids.users["nginx"], 101);
        assert_eq!(read.ids.groups["nginx"], 102);
        assert!(read.print().ends_with(ids));
        assert_eq!(Lock::parse(&read.print()).unwrap(), read);
    }

    #[test]
    fn checkout_with_carriage_returns_is_not_damage() {
        let text = example().print().replace('\n', "\r\n");
        assert_eq!(Lock::parse(&text).unwrap().classes, example().classes);
    }

    #[test]
    fn a_change_by_hand_is_noticed() {
        let text = example().print();
        let changed = text.replace("\"1.26\"", "\"1.27\"");
        assert_ne!(text, changed);
        let error = Lock::parse(&changed).unwrap_err();
        assert!(matches!(error, LockError::Damaged { .. }), "{error}");
    }

    /// A lock whose digest is right but whose content is `change`d.
    fn check_inconsistent(change: impl Fn(&mut Lock), expected: &str) {
        let mut lock = example();
        change(&mut lock);
        let error = Lock::parse(&lock.print()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn contradictions_are_named() {
        check_inconsistent(|lock| lock.distributions.clear(), "class base is of distribution `trixie`");
        check_inconsistent(|lock| drop(lock.classes.remove("base")), "class web is from `base`");
        check_inconsistent(
            |lock| lock.classes.get_mut("base").unwrap().request.from = Some("web".into()),
            "its own ancestor",
        );
        check_inconsistent(
            |lock| lock.classes.get_mut("web").unwrap().waves[0][1].name = "udev".into(),
            "package udev twice",
        );
        check_inconsistent(
            |lock| {
                let path = "../etc/passwd".into();
                lock.classes.get_mut("base").unwrap().essential[0].origin =
                    Origin::Archive { index: "trixie/main".into(), path };
            },
            "leaves the mirror",
        );
        check_inconsistent(
            |lock| lock.distributions.get_mut("trixie").unwrap().indexes[0].component = "contrib".into(),
            "is from index `trixie/main`",
        );
        check_inconsistent(|lock| lock.output = OUTPUT_VERSION + 1, "output version");
    }

    #[test]
    fn newer_format_is_named() {
        let text = example().print().replace("format = 1", "format = 2");
        assert!(matches!(Lock::parse(&text).unwrap_err(), LockError::Newer { format: 2 }));
    }

    #[test]
    fn conflict_markers_are_a_syntax_error_with_a_place() {
        let text = example().print().replacen("[class.web]", "<<<<<<< HEAD\n[class.web]", 1);
        let LockError::Syntax(diagnostic) = Lock::parse(&text).unwrap_err() else { panic!("another error") };
        assert_eq!(diagnostic.snippet, "<<<<<<< HEAD");
    }

    proptest! {
        #[test]
        fn any_mutation_is_an_error_or_reads_the_same(at in 0_usize..4000, byte in any::<u8>()) {
            let mut bytes = example().print().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(text) = String::from_utf8(bytes)
                && let Ok(read) = Lock::parse(&text)
            {
                prop_assert_eq!(read, example());
            }
        }

        #[test]
        fn any_text_in_a_field_reads_back(text in "\\PC*") {
            let mut lock = example();
            lock.classes.get_mut("web").unwrap().waves[0][0].version = text.clone();
            lock.classes.get_mut("web").unwrap().request.packages = vec![text];
            prop_assert_eq!(Lock::parse(&lock.print()).unwrap(), lock);
        }
    }
}
