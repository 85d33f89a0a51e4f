//! `[[class.NAME.step]]`: what a class does after its packages, one thing per step, in the order written.
//!
//! The first key of a step's shape is its verb, which says what the step does; the others are that verb's options.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use super::decode::{Scope, Table, Value};
use super::format::{
    ACCOUNT, ANY, COMMENT, DOWNLOAD, MODE, Mode, Refusal, SHA256, SOME_TEXT, TARGET, UNIT, Uri, VARIABLE,
};
use super::package::PackageRequest;
use super::path::{self, FactoryPath, FactoryPaths, Wanted};
use super::place::Place;
use super::shape::{Key, Kind, PLAIN, Shape, list, optional, required};
use crate::diagnostic::nearest;
use crate::digest::Sha256;

/// One step of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Where its verb is written.
    pub place: Place,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Copies files of the factory into the image.
    Copy(CopyFiles),
    /// Renders a template of the factory.
    Template(RenderTemplate),
    /// Makes sure that a user exists.
    User(AddUser),
    /// Makes sure that a group exists.
    Group(AddGroup),
    /// Makes systemd start these units.
    Enable(Vec<String>),
    /// Keeps systemd from starting these units by itself.
    Disable(Vec<String>),
    /// Keeps systemd from starting these units at all.
    Mask(Vec<String>),
    /// Puts a file from elsewhere, pinned in the lock, into the image.
    Download(PlaceDownload),
    /// Runs a few lines of shell.
    Shell(RunShell),
    /// Runs a script of the factory.
    Script(RunScript),
    /// Runs an Ansible playbook of the factory.
    Ansible(RunAnsible),
    /// Applies a Puppet manifest of the factory.
    Puppet(RunPuppet),
}

/// Where a file goes, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Absolute path in the image.
    pub to: Utf8PathBuf,
    /// Whether it is written with a slash at its end: a directory, in which a file keeps its own name.
    pub into: bool,
    /// The user who owns it; root if nothing is said.
    pub owner: Option<String>,
    /// The group that owns it; root if nothing is said.
    pub group: Option<String>,
    /// Permission bits of files; as they are at the source if nothing is said.
    pub mode: Option<Mode>,
}

/// Copies files; the contents of a directory go under the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFiles {
    /// What to copy.
    pub from: FactoryPaths,
    /// Where it goes: with a pattern, the directory for everything that matches.
    pub target: Target,
}

/// Renders a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderTemplate {
    /// The template.
    pub template: FactoryPath,
    /// Where the result goes.
    pub target: Target,
    /// When it is rendered.
    pub at: RenderTime,
    /// Values to render with while building.
    pub sample: BTreeMap<String, String>,
}

/// When a template is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderTime {
    /// While the image is built, from the sample values.
    Build,
    /// On every start of an instance, from its group's config; building only rehearses it.
    Boot,
}

/// Makes sure that a user exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddUser {
    /// Login name.
    pub name: String,
    /// Numeric id; from the lock if nothing is said.
    pub uid: Option<u32>,
    /// Primary group; one with the user's own name if nothing is said.
    pub group: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// Home directory.
    pub home: Option<Utf8PathBuf>,
    /// Login shell.
    pub shell: Option<Utf8PathBuf>,
    /// Whether the id comes from the range for system users.
    pub system: bool,
    /// The account's comment, usually a full name.
    pub comment: Option<String>,
}

/// Makes sure that a group exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddGroup {
    /// The group's name.
    pub name: String,
    /// Numeric id; from the lock if nothing is said.
    pub gid: Option<u32>,
    /// Whether the id comes from the range for system groups.
    pub system: bool,
}

/// Puts a file from elsewhere into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceDownload {
    /// Where it comes from.
    pub url: Uri,
    /// What it must be; the lock decides if nothing is said.
    pub sha256: Option<Sha256>,
    /// Whether it is an archive whose contents go under the target.
    pub unpack: bool,
    /// How many leading parts of the names in the archive are left out.
    pub strip: u32,
    /// Where it goes.
    pub target: Target,
}

/// What every step that runs a program may say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Packages that are there for this step and gone after it.
    pub tools: Vec<PackageRequest>,
    /// Working directory in the image; `/` if nothing is said.
    pub directory: Option<Utf8PathBuf>,
}

/// Runs a few lines of shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunShell {
    /// The lines.
    pub text: String,
    /// What is around them.
    pub surroundings: Surroundings,
}

/// Runs a script of the factory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunScript {
    /// The script; its first line names its interpreter.
    pub script: FactoryPath,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What is around it.
    pub surroundings: Surroundings,
}

/// Runs an Ansible playbook of the factory.
#[derive(Debug, Clone, PartialEq)]
pub struct RunAnsible {
    /// The playbook.
    pub playbook: FactoryPath,
    /// Its variables, as with `--extra-vars`.
    pub variables: BTreeMap<String, serde_json::Value>,
    /// Directory of roles.
    pub roles: Option<FactoryPath>,
    /// Packages that are there for this step and gone after it.
    pub tools: Vec<PackageRequest>,
}

/// Applies a Puppet manifest of the factory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPuppet {
    /// The manifest.
    pub manifest: FactoryPath,
    /// Directory of modules.
    pub modules: Option<FactoryPath>,
    /// Packages that are there for this step and gone after it.
    pub tools: Vec<PackageRequest>,
}

const ANYTHING: Wanted = Wanted { file: true, directory: true, pattern: true };
const ONE_FILE: Wanted = Wanted { file: true, directory: false, pattern: false };
const ONE_DIRECTORY: Wanted = Wanted { file: false, directory: true, pattern: false };

/// Zero is root's own, and the largest number means "no id" to the kernel.
const ID: Kind = Kind::Integer { minimum: 1, maximum: u32::MAX as i64 - 1 };
const UNITS: Kind = Kind::List { of: &Kind::Text(&UNIT), minimum: 1 };
const TEXTS_BY_VARIABLE: Kind = Kind::Map { key: &VARIABLE, value: &Kind::Text(&ANY), minimum: 0 };

const STRIP: Kind = Kind::Integer { minimum: 1, maximum: 64 };

const TO: Key = required(
    "to",
    Kind::Text(&TARGET),
    "Where it goes: an absolute path in the image. With a slash at its end, the directory for a file that keeps its name.",
);
const OWNER: Key = optional("owner", Kind::Text(&ACCOUNT), "The user who owns it. Default: root.");
const OWNER_GROUP: Key = optional("group", Kind::Text(&ACCOUNT), "The group that owns it. Default: root.");
const FILE_MODE: Key =
    optional("mode", Kind::Text(&MODE), "Permission bits of files, in octal. Default: 0755 if executable, else 0644.");
const ENV: Key =
    optional("env", TEXTS_BY_VARIABLE, "Environment variables: all that the step sees besides Kiln's own.");
const TOOLS: Key = optional("tools", list(&Kind::Package), "Packages that are there for this step and gone after it.");
const DIRECTORY: Key = optional("cwd", Kind::Text(&TARGET), "Working directory in the image. Default: /.");

/// All kinds of steps. The verb is each one's first key.
pub(crate) const STEPS: [&Shape; 12] =
    [&COPY, &TEMPLATE, &USER, &GROUP, &ENABLE, &DISABLE, &MASK, &DOWNLOAD_STEP, &SHELL, &SCRIPT, &ANSIBLE, &PUPPET];

/// A step's shape, to be completed.
const STEP: Shape = Shape { elsewhere: option_of_others, ..PLAIN };

const COPY: Shape = Shape {
    name: "step-copy",
    doc: "Copies files of the factory into the image.",
    keys: &[
        required("copy", Kind::Source(ANYTHING), "A file, a directory (its contents go under `to`), or a pattern."),
        TO,
        OWNER,
        OWNER_GROUP,
        FILE_MODE,
    ],
    ..STEP
};

const TEMPLATE: Shape = Shape {
    name: "step-template",
    doc: "Renders a template of the factory.",
    keys: &[
        required("template", Kind::Source(ONE_FILE), "The template."),
        TO,
        optional(
            "at",
            Kind::Choice(RenderTime::WORDS),
            "When it is rendered: at build from `sample`, or at every boot from the group's config. Default: build.",
        ),
        optional("sample", TEXTS_BY_VARIABLE, "Values to render with while building; for `boot` this is a rehearsal."),
        OWNER,
        OWNER_GROUP,
        FILE_MODE,
    ],
    ..STEP
};

const USER: Shape = Shape {
    name: "step-user",
    doc: "Makes sure that a user exists.",
    keys: &[
        required("user", Kind::Text(&ACCOUNT), "Login name."),
        optional("uid", ID, "Numeric id. Default: one that the lock then keeps."),
        optional("group", Kind::Text(&ACCOUNT), "Primary group. Default: one with the user's own name."),
        optional("groups", list(&Kind::Text(&ACCOUNT)), "Further groups."),
        optional("home", Kind::Text(&TARGET), "Home directory. Default: /home/NAME; for a system user /nonexistent."),
        optional("shell", Kind::Text(&TARGET), "Login shell. Default: /bin/bash; for a system user /usr/sbin/nologin."),
        optional("system", Kind::Boolean, "Whether the id comes from the range for system users. Default: false."),
        optional("comment", Kind::Text(&COMMENT), "The account's comment, usually a full name."),
    ],
    ..STEP
};

const GROUP: Shape = Shape {
    name: "step-group",
    doc: "Makes sure that a group of users exists.",
    keys: &[
        required("group", Kind::Text(&ACCOUNT), "The group's name."),
        optional("gid", ID, "Numeric id. Default: one that the lock then keeps."),
        optional("system", Kind::Boolean, "Whether the id comes from the range for system groups. Default: false."),
    ],
    ..STEP
};

const ENABLE: Shape = Shape {
    name: "step-enable",
    doc: "Makes systemd start units.",
    keys: &[required("enable", UNITS, "The units, with their types: nginx.service.")],
    ..STEP
};

const DISABLE: Shape = Shape {
    name: "step-disable",
    doc: "Keeps systemd from starting units by itself.",
    keys: &[required("disable", UNITS, "The units, with their types: nginx.service.")],
    ..STEP
};

const MASK: Shape = Shape {
    name: "step-mask",
    doc: "Keeps systemd from starting units at all.",
    keys: &[required("mask", UNITS, "The units, with their types: nginx.service.")],
    ..STEP
};

const DOWNLOAD_STEP: Shape = Shape {
    name: "step-download",
    doc: "Puts a file from elsewhere, pinned in the lock, into the image.",
    keys: &[
        required("download", Kind::Text(&DOWNLOAD), "Where it comes from: an http, https or file URL."),
        TO,
        optional("sha256", Kind::Text(&SHA256), "What it must be. Default: what it was when it was locked."),
        optional("unpack", Kind::Boolean, "Whether it is an archive whose contents go under `to`. Default: false."),
        optional(
            "strip",
            STRIP,
            "With `unpack`: how many leading parts of the names in it are left out. Default: none.",
        ),
        OWNER,
        OWNER_GROUP,
        FILE_MODE,
    ],
    ..STEP
};

const SHELL: Shape = Shape {
    name: "step-shell",
    doc: "Runs a few lines of shell.",
    keys: &[required("shell", Kind::Text(&SOME_TEXT), "The lines."), ENV, TOOLS, DIRECTORY],
    ..STEP
};

const SCRIPT: Shape = Shape {
    name: "step-script",
    doc: "Runs a script of the factory.",
    keys: &[
        required("script", Kind::Source(ONE_FILE), "The script; its first line names its interpreter."),
        optional("args", list(&Kind::Text(&ANY)), "Its arguments."),
        ENV,
        TOOLS,
        DIRECTORY,
    ],
    ..STEP
};

const ANSIBLE: Shape = Shape {
    name: "step-ansible",
    doc: "Runs an Ansible playbook of the factory.",
    keys: &[
        required("ansible", Kind::Source(ONE_FILE), "The playbook."),
        optional(
            "variables",
            Kind::Map { key: &VARIABLE, value: &Kind::Anything, minimum: 0 },
            "Its variables, as with --extra-vars.",
        ),
        optional("roles", Kind::Source(ONE_DIRECTORY), "Directory of roles."),
        TOOLS,
    ],
    ..STEP
};

const PUPPET: Shape = Shape {
    name: "step-puppet",
    doc: "Applies a Puppet manifest of the factory.",
    keys: &[
        required("puppet", Kind::Source(ONE_FILE), "The manifest."),
        optional("modules", Kind::Source(ONE_DIRECTORY), "Directory of modules."),
        TOOLS,
    ],
    ..STEP
};

impl Shape {
    /// The key that says what a step of this shape does.
    fn verb(&self) -> &'static str {
        self.keys.first().map_or("", |key| key.name)
    }
}

fn option_of_others(key: &str, heading: &str) -> Option<Refusal> {
    let verbs: Vec<String> =
        STEPS.iter().filter(|shape| shape.key(key).is_some()).map(|shape| format!("`{}`", shape.verb())).collect();
    let hint = match verbs.len() {
        0 => return None,
        1 => format!("{} takes it", verbs.join("")),
        _ => format!("{} take it", verbs.join(", ")),
    };
    Some(Refusal::new(format!("unknown key `{key}` in {heading}")).hint(hint))
}

impl Step {
    pub(crate) fn read(value: Value<'_>) -> Option<Self> {
        let shape = shape_of(value)?;
        let verb = shape.verb();
        let table = Table::open(value, shape, &format!("this `{verb}` step"))?;
        let place = table.entries().iter().find(|entry| entry.name == verb)?.place();
        Some(Self { action: Action::read(verb, &table)?, place })
    }
}

/// Decides what a step does. Some verbs are also options of others (`group` of `copy`): there they say nothing new.
fn shape_of(value: Value<'_>) -> Option<&'static Shape> {
    let table = value.spanned.get_ref().as_table()?;
    let present: Vec<&'static Shape> = STEPS.into_iter().filter(|shape| table.contains_key(shape.verb())).collect();
    let is_option = |verb: &str| present.iter().any(|other| other.verb() != verb && other.key(verb).is_some());
    let shapes: Vec<_> = present.iter().filter(|shape| !is_option(shape.verb())).collect();
    if let [shape] = shapes[..] {
        return Some(shape);
    }
    let verbs: Vec<_> = shapes.iter().map(|shape| shape.verb()).collect();
    value.context.add(Scope::Here, &value.place(), no_single_verb(value, &verbs));
    None
}

fn no_single_verb(value: Value<'_>, verbs: &[&str]) -> Refusal {
    if !verbs.is_empty() {
        return Refusal::new(format!("this step does several things: `{}`", verbs.join("`, `")))
            .hint("write a step for each, in the order in which they are to happen");
    }
    let known = || STEPS.iter().map(|shape| shape.verb());
    let table = value.spanned.get_ref().as_table();
    let near = table.and_then(|table| table.keys().find_map(|key| nearest(key.get_ref(), known())));
    Refusal::new("this step does nothing").hint(match near {
        Some(verb) => format!("did you mean `{verb}`?"),
        None => format!("say what it does with one of {}", known().collect::<Vec<_>>().join(", ")),
    })
}

impl Action {
    /// As the spec writes it: `copy`, `shell`.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Copy(_) => "copy",
            Self::Template(_) => "template",
            Self::User(_) => "user",
            Self::Group(_) => "group",
            Self::Enable(_) => "enable",
            Self::Disable(_) => "disable",
            Self::Mask(_) => "mask",
            Self::Download(_) => "download",
            Self::Shell(_) => "shell",
            Self::Script(_) => "script",
            Self::Ansible(_) => "ansible",
            Self::Puppet(_) => "puppet",
        }
    }

    /// Packages that are there for this step and gone after it.
    #[must_use]
    pub fn tools(&self) -> &[PackageRequest] {
        match self {
            Self::Shell(RunShell { surroundings, .. }) | Self::Script(RunScript { surroundings, .. }) => {
                &surroundings.tools
            }
            Self::Ansible(RunAnsible { tools, .. }) | Self::Puppet(RunPuppet { tools, .. }) => tools,
            _ => &[],
        }
    }

    fn read(verb: &str, table: &Table<'_>) -> Option<Self> {
        Some(match verb {
            "copy" => Self::Copy(CopyFiles { from: table.factory_paths("copy")?, target: Target::read(table)? }),
            "template" => Self::Template(RenderTemplate::read(table)?),
            "user" => Self::User(AddUser::read(table)?),
            "group" => Self::Group(AddGroup::read(table)?),
            "enable" => Self::Enable(table.texts("enable")?),
            "disable" => Self::Disable(table.texts("disable")?),
            "mask" => Self::Mask(table.texts("mask")?),
            "download" => Self::Download(PlaceDownload::read(table)?),
            "shell" => Self::Shell(RunShell { text: table.text("shell")?, surroundings: Surroundings::read(table) }),
            "script" => Self::Script(RunScript::read(table)?),
            "ansible" => Self::Ansible(RunAnsible::read(table)?),
            "puppet" => Self::Puppet(RunPuppet::read(table)?),
            _ => return None,
        })
    }
}

impl Target {
    fn read(table: &Table<'_>) -> Option<Self> {
        Some(Self {
            to: image_path(table, "to")?,
            into: table.text("to")?.ends_with('/'),
            owner: table.text("owner"),
            group: table.text("group"),
            mode: table.parsed("mode"),
        })
    }
}

fn image_path(table: &Table<'_>, key: &str) -> Option<Utf8PathBuf> {
    path::absolute(&table.text(key)?).ok()
}

impl RenderTemplate {
    fn read(table: &Table<'_>) -> Option<Self> {
        Some(Self {
            template: table.factory_path("template")?,
            target: Target::read(table)?,
            at: match table.text("at").as_deref() {
                Some("boot") => RenderTime::Boot,
                _ => RenderTime::Build,
            },
            sample: table.text_map("sample"),
        })
    }
}

impl RenderTime {
    const WORDS: &[&str] = &["build", "boot"];
}

impl AddUser {
    fn read(table: &Table<'_>) -> Option<Self> {
        Some(Self {
            name: table.text("user")?,
            uid: table.integer("uid"),
            group: table.text("group"),
            groups: table.texts("groups").unwrap_or_default(),
            home: image_path(table, "home"),
            shell: image_path(table, "shell"),
            system: table.boolean("system").unwrap_or(false),
            comment: table.text("comment"),
        })
    }
}

impl AddGroup {
    fn read(table: &Table<'_>) -> Option<Self> {
        Some(Self {
            name: table.text("group")?,
            gid: table.integer("gid"),
            system: table.boolean("system").unwrap_or(false),
        })
    }
}

impl PlaceDownload {
    fn read(table: &Table<'_>) -> Option<Self> {
        let unpack = table.boolean("unpack").unwrap_or(false);
        if let (Some(strip), false) = (table.get("strip"), unpack) {
            strip.refuse(Refusal::new("`strip` is for archives").hint("write `unpack = true` too"));
        }
        Some(Self {
            url: table.parsed("download")?,
            sha256: table.parsed("sha256"),
            unpack,
            strip: table.integer("strip").unwrap_or(0),
            target: Target::read(table)?,
        })
    }
}

impl Surroundings {
    fn read(table: &Table<'_>) -> Self {
        Self { env: table.text_map("env"), tools: table.requests("tools"), directory: image_path(table, "cwd") }
    }
}

impl RunScript {
    fn read(table: &Table<'_>) -> Option<Self> {
        Some(Self {
            script: table.factory_path("script")?,
            arguments: table.texts("args").unwrap_or_default(),
            surroundings: Surroundings::read(table),
        })
    }
}

impl RunAnsible {
    fn read(table: &Table<'_>) -> Option<Self> {
        Some(Self {
            playbook: table.factory_path("ansible")?,
            variables: table.json_map("variables"),
            roles: table.factory_path("roles"),
            tools: table.requests("tools"),
        })
    }
}

impl RunPuppet {
    fn read(table: &Table<'_>) -> Option<Self> {
        Some(Self {
            manifest: table.factory_path("puppet")?,
            modules: table.factory_path("modules"),
            tools: table.requests("tools"),
        })
    }
}
