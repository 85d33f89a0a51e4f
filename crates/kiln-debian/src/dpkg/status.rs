//! `/var/lib/dpkg/status`: the packages of a tree and their states (`lib/dpkg/parse.c`, `dump.c`).
//!
//! A stanza is kept as it is written, field by field, and only what changes is written anew: dpkg itself puts the file into
//! its own form when it runs next.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::DatabaseError;
use super::conffile::{self, Conffile};
use crate::relation;

const FILE: &str = "/var/lib/dpkg/status";

/// The packages of a tree, by name and architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status(BTreeMap<(String, String), Stanza>);

/// What the status says of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    name: String,
    architecture: String,
    /// Name, and what follows the colon, with the line feed that ends it.
    fields: Vec<(String, Vec<u8>)>,
}

/// How far a package is; the third word of the field `Status`, in dpkg's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// `not-installed`.
    NotInstalled,
    /// `config-files`: removed, its configuration is left.
    ConfigFiles,
    /// `half-installed`.
    HalfInstalled,
    /// `unpacked`.
    Unpacked,
    /// `half-configured`.
    HalfConfigured,
    /// `triggers-awaited`.
    TriggersAwaited,
    /// `triggers-pending`.
    TriggersPending,
    /// `installed`.
    Installed,
}

impl State {
    const ALL: [(Self, &str); 8] = [
        (Self::NotInstalled, "not-installed"),
        (Self::ConfigFiles, "config-files"),
        (Self::HalfInstalled, "half-installed"),
        (Self::Unpacked, "unpacked"),
        (Self::HalfConfigured, "half-configured"),
        (Self::TriggersAwaited, "triggers-awaited"),
        (Self::TriggersPending, "triggers-pending"),
        (Self::Installed, "installed"),
    ];

    /// As dpkg writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("installed", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
    }
}

impl Status {
    /// Reads the file.
    ///
    /// # Errors
    /// When a stanza is no deb822, names no package, or names one a second time.
    pub fn parse(text: &[u8]) -> Result<Self, DatabaseError> {
        let mut status = Self::default();
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
        while lines.peek().is_some() {
            let mut fields = Vec::new();
            let mut first = 0;
            for (index, line) in lines.by_ref() {
                first = if fields.is_empty() { index + 1 } else { first };
                if line.trim_ascii().is_empty() && !line.starts_with(b" ") {
                    break;
                }
                take_line(&mut fields, line).map_err(|reason| wrong(index + 1, reason))?;
            }
            if !fields.is_empty() {
                let stanza = Stanza::new(fields).ok_or_else(|| wrong(first, "a stanza names a package"))?;
                status.add_new(stanza).ok_or_else(|| wrong(first, "the package is there already"))?;
            }
        }
        Ok(status)
    }

    fn add_new(&mut self, stanza: Stanza) -> Option<()> {
        match self.0.entry((stanza.name.clone(), stanza.architecture.clone())) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(stanza);
                Some(())
            }
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for stanza in self.0.values() {
            for (name, value) in &stanza.fields {
                text.extend(name.as_bytes());
                text.push(b':');
                text.extend(value);
            }
            text.push(b'\n');
        }
        text
    }

    /// Puts a stanza there, in place of what the package had.
    pub fn insert(&mut self, stanza: Stanza) {
        self.0.insert((stanza.name.clone(), stanza.architecture.clone()), stanza);
    }

    /// Every package of the file, by name.
    pub fn stanzas(&self) -> impl Iterator<Item = &Stanza> {
        self.0.values()
    }

    /// The package of this name, of whichever architecture; that of `architecture` first.
    #[must_use]
    pub fn get(&self, name: &str, architecture: &str) -> Option<&Stanza> {
        let exact = self.0.get(&(name.to_owned(), architecture.to_owned()));
        exact.or_else(|| {
            self.0
                .range((name.to_owned(), String::new())..)
                .map(|(_, stanza)| stanza)
                .find(|stanza| stanza.name == name)
        })
    }

    /// The package that dpkg's files name so: `NAME` or `NAME:ARCHITECTURE`.
    pub fn by_qualified_name_mut(&mut self, qualified: &str) -> Option<&mut Stanza> {
        self.0.values_mut().find(|stanza| stanza.qualified_name() == qualified)
    }

    /// Every package of the file, to be changed.
    pub fn stanzas_mut(&mut self) -> impl Iterator<Item = &mut Stanza> {
        self.0.values_mut()
    }
}

fn wrong(line: usize, reason: &'static str) -> DatabaseError {
    DatabaseError { file: FILE, line, reason }
}

fn take_line(fields: &mut Vec<(String, Vec<u8>)>, line: &[u8]) -> Result<(), &'static str> {
    let ended = if line.ends_with(b"\n") { line.to_vec() } else { [line, b"\n"].concat() };
    if ended.starts_with(b" ") || ended.starts_with(b"\t") {
        let (_, value) = fields.last_mut().ok_or("a line continues a field that never began")?;
        value.extend(ended);
        return Ok(());
    }
    let colon = ended.iter().position(|byte| *byte == b':').ok_or("a line is a field or continues one")?;
    let (name, value) = ended.split_at(colon);
    let name = std::str::from_utf8(name).map_err(|_| "the name of a field is ASCII")?.trim_ascii();
    fields.push((name.to_owned(), value.get(1..).unwrap_or_default().to_vec()));
    Ok(())
}

impl Stanza {
    /// The stanza of a package whose control file has this text, in the state `install ok unpacked`.
    ///
    /// # Errors
    /// When the text is no stanza that names a package.
    pub fn unpacked(control: &str) -> Result<Self, DatabaseError> {
        let mut fields = Vec::new();
        for (index, line) in control.as_bytes().split_inclusive(|byte| *byte == b'\n').enumerate() {
            if !line.trim_ascii().is_empty() {
                take_line(&mut fields, line).map_err(|reason| DatabaseError {
                    file: "control",
                    line: index + 1,
                    reason,
                })?;
            }
        }
        let missing = DatabaseError { file: "control", line: 1, reason: "a stanza names a package" };
        let mut stanza = Self::new(fields).ok_or(missing)?;
        stanza.set_state(State::Unpacked);
        Ok(stanza)
    }

    fn new(fields: Vec<(String, Vec<u8>)>) -> Option<Self> {
        let stanza = Self { name: String::new(), architecture: String::new(), fields };
        let name = stanza.text("Package").filter(|name| !name.is_empty())?.to_owned();
        let architecture = stanza.text("Architecture").unwrap_or_default().to_owned();
        Some(Self { name, architecture, ..stanza })
    }

    /// The package's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The package's architecture.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The package's version; empty if it has none.
    #[must_use]
    pub fn version(&self) -> &str {
        self.text("Version").unwrap_or_default()
    }

    /// How dpkg's files name the package: with the architecture where several may be there (`Multi-Arch: same`).
    #[must_use]
    pub fn qualified_name(&self) -> String {
        match self.text("Multi-Arch") {
            Some("same") => format!("{}:{}", self.name, self.architecture),
            _ => self.name.clone(),
        }
    }

    /// How far the package is.
    #[must_use]
    pub fn state(&self) -> State {
        let words = self.text("Status").unwrap_or_default();
        words.split_ascii_whitespace().nth(2).and_then(State::parse).unwrap_or(State::NotInstalled)
    }

    /// Makes it wanted, without errors, and this far.
    pub fn set_state(&mut self, state: State) {
        self.set("Status", Some(format!(" install ok {}\n", state.name()).into_bytes()));
    }

    /// Triggers that wait for the package, in dpkg's order.
    #[must_use]
    pub fn pending(&self) -> Vec<&str> {
        self.text("Triggers-Pending").map(|text| text.split_ascii_whitespace().collect()).unwrap_or_default()
    }

    /// Packages whose triggers this one waits for.
    #[must_use]
    pub fn awaited(&self) -> Vec<&str> {
        self.text("Triggers-Awaited").map(|text| text.split_ascii_whitespace().collect()).unwrap_or_default()
    }

    /// Notes that a trigger was activated that the package, which is configured, is interested in (`trig_note_pend` in
    /// `lib/dpkg/trignote.c`); the newest comes first. Whether that is news.
    pub fn note_pending(&mut self, trigger: &str) -> bool {
        let pending = self.pending();
        if pending.contains(&trigger) {
            return false;
        }
        let all = [&[trigger], &pending[..]].concat().join(" ");
        self.set_words("Triggers-Pending", &all);
        let state = if self.awaited().is_empty() { State::TriggersPending } else { State::TriggersAwaited };
        let words = self.text("Status").unwrap_or_default();
        let wanted: Vec<&str> = words.split_ascii_whitespace().take(2).collect();
        self.set_words("Status", &format!("{} {}", wanted.join(" "), state.name()));
        true
    }

    /// Notes that this package waits for the triggers of another one.
    pub fn note_awaited(&mut self, package: &str) {
        let mut awaited = self.awaited();
        if !awaited.contains(&package) {
            awaited.push(package);
            let all = awaited.join(" ");
            self.set_words("Triggers-Awaited", &all);
        }
    }

    /// Turns the order of the pending triggers round, which dpkg does whenever it reads the file. Whether that changes it.
    pub fn turn_pending(&mut self) -> bool {
        let mut pending = self.pending();
        if pending.len() < 2 {
            return false;
        }
        pending.reverse();
        let all = pending.join(" ");
        self.set_words("Triggers-Pending", &all);
        true
    }

    fn set_words(&mut self, field: &str, words: &str) {
        self.set(field, Some(format!(" {words}\n").into_bytes()));
    }

    /// As it is while it is being unpacked: to be installed again if that is not finished.
    pub fn set_half_installed(&mut self) {
        self.set("Status", Some(b" install reinstreq half-installed\n".to_vec()));
    }

    /// The version that was configured last, where the package is removed or not configured yet.
    #[must_use]
    pub fn configured_version(&self) -> Option<&str> {
        self.text("Config-Version").filter(|version| !version.is_empty())
    }

    /// Sets the version that was configured last.
    pub fn set_configured_version(&mut self, version: Option<&str>) {
        self.set("Config-Version", version.map(|version| format!(" {version}\n").into_bytes()));
    }

    /// Its configuration files.
    #[must_use]
    pub fn conffiles(&self) -> Vec<Conffile> {
        self.value("Conffiles").map(conffile::parse_field).unwrap_or_default()
    }

    /// Sets its configuration files.
    pub fn set_conffiles(&mut self, conffiles: &[Conffile]) {
        let value = (!conffiles.is_empty()).then(|| [conffile::print_field(conffiles), b"\n".to_vec()].concat());
        self.set("Conffiles", value);
    }

    /// Whether the package may replace files of another one (`does_replace` in `src/main/archives.c`). A version that
    /// dpkg could not read replaces nothing.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        let replaced = self.text("Replaces").unwrap_or_default();
        let relations = relation::groups(replaced).filter_map(Result::ok).flat_map(|group| group.alternatives());
        relations.filter(|relation| relation.name == other.name).any(|relation| relation.accepts(other.version()))
    }

    /// The version without what a rebuild for one architecture adds: `1.2-3+b4` is `1.2-3`.
    #[must_use]
    pub fn source_version(&self) -> &str {
        let version = self.version();
        let rebuilt = version.rfind("+b").filter(|at| {
            let number = version.get(at + 2..).unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        rebuilt.and_then(|at| version.get(..at)).unwrap_or(version)
    }

    /// A field of one line.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.value(name)?).ok()
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.trim_ascii())
    }

    /// Sets what follows the colon, or removes the field.
    fn set(&mut self, name: &str, value: Option<Vec<u8>>) {
        let place = self.fields.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
        match (place, value) {
            (Some(place), Some(value)) => self.fields.splice(place..=place, [(name.to_owned(), value)]).for_each(drop),
            (Some(place), None) => drop(self.fields.remove(place)),
            (None, Some(value)) => self.fields.push((name.to_owned(), value)),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1:2-3+b1\n\
        Conffiles:\n /etc/a d41d8cd98f00b204e9800998ecf8427e\nDescription: x\n y\n .\n z\n\nPackage: b\n\
        Status: deinstall ok config-files\nArchitecture: all\nVersion: 1\nConfig-Version: 1\nReplaces: a (<< 2), c\n\n";

    fn status() -> Status {
        Status::parse(TEXT.as_bytes()).unwrap()
    }

    #[test]
    fn the_text_stays_as_it_is() {
        assert_eq!(String::from_utf8(status().print()).unwrap(), TEXT);
        assert_eq!(Status::parse(TEXT.trim_end().as_bytes()).unwrap(), status());
    }

    #[test]
    fn fields_are_understood() {
        let status = status();
        let [a, b] = ["a", "b"].map(|name| status.get(name, "amd64").unwrap());
        assert_eq!((a.qualified_name(), b.qualified_name()), ("a:amd64".to_owned(), "b".to_owned()));
        assert_eq!((a.state(), b.state()), (State::Installed, State::ConfigFiles));
        assert_eq!(a.source_version(), "1:2-3");
        assert_eq!((a.conffiles().len(), b.configured_version()), (1, Some("1")));
        assert!(!b.replaces(a) && !a.replaces(b));
    }

    #[test]
    fn replaces_looks_at_versions() {
        let stanza = |version: &str| Stanza::unpacked(&format!("Package: a\nVersion: {version}\n")).unwrap();
        let status = status();
        let b = status.get("b", "all").unwrap();
        assert!(b.replaces(&stanza("1.9")) && !b.replaces(&stanza("2")));
    }

    #[test]
    fn a_new_stanza_and_its_changes() {
        let mut stanza =
            Stanza::unpacked("Package: n\nVersion: 2\nArchitecture: all\nDescription: d\n long\n").unwrap();
        stanza.set_configured_version(Some("1"));
        let conffile =
            Conffile { path: b"etc/n".to_vec(), digest: "00".to_owned(), obsolete: false, remove_on_upgrade: false };
        stanza.set_conffiles(&[conffile]);
        let mut status = Status::default();
        status.insert(stanza.clone());
        let expected = "Package: n\nVersion: 2\nArchitecture: all\nDescription: d\n long\nStatus: install ok unpacked\n\
            Config-Version: 1\nConffiles:\n /etc/n 00\n\n";
        assert_eq!(String::from_utf8(status.print()).unwrap(), expected);
        stanza.set_conffiles(&[]);
        stanza.set_configured_version(None);
        stanza.set_state(State::Installed);
        status.insert(stanza);
        let expected =
            "Package: n\nVersion: 2\nArchitecture: all\nDescription: d\n long\nStatus: install ok installed\n\n";
        assert_eq!(String::from_utf8(status.print()).unwrap(), expected);
    }

    #[test]
    fn triggers_are_noted() {
        let mut status = status();
        let a = status.by_qualified_name_mut("a:amd64").unwrap();
        assert!(a.note_pending("/usr/lib") && a.note_pending("ldconfig") && !a.note_pending("/usr/lib"));
        assert_eq!((a.pending(), a.state()), (vec!["ldconfig", "/usr/lib"], State::TriggersPending));
        assert!(a.turn_pending());
        assert_eq!(a.pending(), ["/usr/lib", "ldconfig"]);
        a.note_awaited("b");
        a.note_awaited("b");
        assert_eq!(a.awaited(), ["b"]);
        assert!(a.note_pending("third"));
        assert_eq!(a.text("Status"), Some("install ok triggers-awaited"));
    }

    #[test]
    fn damage_is_named() {
        let error = |text: &str| Status::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("Version: 1\n"), "line 1 of /var/lib/dpkg/status: a stanza names a package");
        assert_eq!(error("\n x\n"), "line 2 of /var/lib/dpkg/status: a line continues a field that never began");
        assert_eq!(error("Package: a\nx\n"), "line 2 of /var/lib/dpkg/status: a line is a field or continues one");
        assert_eq!(error("Package: a\n\nPackage: a\n"), "line 3 of /var/lib/dpkg/status: the package is there already");
    }
}
