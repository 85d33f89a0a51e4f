//! The files of accounts, line by line: passwd(5), group(5), shadow(5), gshadow(5), subuid(5), subgid(5).
//!
//! Lines that nothing changes stay as they are, byte for byte, and new ones come last. A file keeps its owner and mode.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::step::root::{Ownership, Root};
use crate::step::{Doing as _, Problem};

/// Mode of a file of accounts that everyone may read, where it is new.
const MODE: u32 = 0o644;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Table {
    path: &'static str,
    lines: Vec<String>,
    is_changed: bool,
}

/// All files of accounts. Those that may be missing in a tree are not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) passwd: Table,
    pub(super) group: Table,
    pub(super) shadow: Option<Table>,
    pub(super) gshadow: Option<Table>,
    pub(super) subuid: Option<Table>,
    pub(super) subgid: Option<Table>,
}

impl Accounts {
    pub(super) fn read(root: &Root) -> Result<Self, Problem> {
        let read = |path| Table::read(root, path);
        Ok(Self {
            passwd: read("/etc/passwd")?.unwrap_or_else(|| Table::parse("/etc/passwd", "")),
            group: read("/etc/group")?.unwrap_or_else(|| Table::parse("/etc/group", "")),
            shadow: read("/etc/shadow")?,
            gshadow: read("/etc/gshadow")?,
            subuid: read("/etc/subuid")?,
            subgid: read("/etc/subgid")?,
        })
    }

    /// Writes the files that changed.
    pub(super) fn write(&self, root: &Root) -> Result<(), Problem> {
        let optional = [&self.shadow, &self.gshadow, &self.subuid, &self.subgid];
        let tables = [&self.passwd, &self.group].into_iter().chain(optional.into_iter().flatten());
        tables.filter(|table| table.is_changed).try_for_each(|table| table.write(root))
    }
}

impl Table {
    pub(super) fn parse(path: &'static str, text: &str) -> Self {
        Self { path, lines: text.lines().map(str::to_owned).collect(), is_changed: false }
    }

    pub(super) fn read(root: &Root, path: &'static str) -> Result<Option<Self>, Problem> {
        let Some(bytes) = root.read(path)? else { return Ok(None) };
        let text =
            String::from_utf8(bytes).map_err(|_| Problem::refused(format!("{path} of the tree is not UTF-8")))?;
        Ok(Some(Self::parse(path, &text)))
    }

    fn write(&self, root: &Root) -> Result<(), Problem> {
        let doing = || format!("write {}", self.path);
        let path = Path::new(self.path);
        let text = self.text();
        match root.exists(path) {
            true => {
                let file = root.resolve(path, OFlags::WRONLY | OFlags::TRUNC).doing(doing)?;
                File::from(file).write_all(text.as_bytes()).doing(doing)
            }
            false => root.spot(path)?.file(Ownership::ROOT, MODE, |file| file.write_all(text.as_bytes()).doing(doing)),
        }
    }

    pub(super) fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// The fields of each line.
    pub(super) fn entries(&self) -> impl Iterator<Item = Vec<&str>> {
        self.lines.iter().map(|line| line.split(':').collect())
    }

    /// The fields of the line with this name.
    pub(super) fn find(&self, name: &str) -> Option<Vec<&str>> {
        self.entries().find(|fields| fields.first() == Some(&name))
    }

    /// Each name with the id in the third field.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries().filter_map(|fields| Some((*fields.first()?, fields.get(2)?.parse().ok()?)))
    }

    /// The id that a name has.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        self.ids().find(|(known, _)| *known == name).map(|(_, id)| id)
    }

    /// The first name that has an id.
    pub(super) fn name(&self, id: u32) -> Option<&str> {
        self.ids().find(|(_, known)| *known == id).map(|(name, _)| name)
    }

    /// Adds a line at the end.
    pub(super) fn append(&mut self, line: String) {
        self.lines.push(line);
        self.is_changed = true;
    }

    /// Adds a member to the last field of the line with this name, unless it is there.
    pub(super) fn add_member(&mut self, name: &str, member: &str) {
        let line = self.lines.iter_mut().find(|line| line.split(':').next() == Some(name));
        let Some((line, members)) =
            line.and_then(|line| line.clone().rsplit_once(':').map(|(_, last)| (line, last.to_owned())))
        else {
            return;
        };
        if members.split(',').any(|known| known == member) {
            return;
        }
        line.push_str(if members.is_empty() { "" } else { "," });
        line.push_str(member);
        self.is_changed = true;
    }
}
