//! What a step reads, by name, and what it is called.

use kiln_model::digest::Sha256;
use kiln_model::spec::{Action, AddUser, Mode, RenderTime, Surroundings, Target};

use super::{Input, Source, SourceKind, StepWork};
use crate::mirror::public_text;

/// Version of the code that installs packages; raised when the same packages would give another tree.
pub(super) const ENGINE_PACKAGES: &str = "packages/1";

/// How much of a step's text its label shows.
const LABEL_CHARACTERS_MAX: usize = 48;

impl Input {
    /// A thing that is read, and what it says.
    pub(crate) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// Version of the code that carries out a step of this kind; raised when the same step would give another tree.
fn engine(action: &Action) -> &'static str {
    match action {
        Action::Copy(_) => "copy/1",
        Action::Template(_) => "template/1",
        Action::User(_) => "user/1",
        Action::Group(_) => "group/1",
        Action::Enable(_) => "enable/1",
        Action::Disable(_) => "disable/1",
        Action::Mask(_) => "mask/1",
        Action::Download(_) => "download/1",
        Action::Shell(_) => "shell/1",
        Action::Script(_) => "script/1",
        Action::Ansible(_) => "ansible/1",
        Action::Puppet(_) => "puppet/1",
    }
}

/// What a step is called after its number: `copy site`.
pub(super) fn label(action: &Action) -> String {
    let rest = match action {
        Action::Copy(copy) => copy.from.pattern.to_string(),
        Action::Template(template) => template.template.path.to_string(),
        Action::User(user) => user.name.clone(),
        Action::Group(group) => group.name.clone(),
        Action::Enable(units) | Action::Disable(units) | Action::Mask(units) => units.join(" "),
        Action::Download(download) => public_text(download.url.as_str()),
        Action::Shell(shell) => first_line(&shell.text),
        Action::Script(script) => script.script.path.to_string(),
        Action::Ansible(ansible) => ansible.playbook.path.to_string(),
        Action::Puppet(puppet) => puppet.manifest.path.to_string(),
    };
    format!("{} {}", action.verb(), shortened(&rest))
}

/// The first line of a script that says something.
fn first_line(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    lines.into_iter().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default().to_owned()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LABEL_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default().trim_end()),
        None => text.to_owned(),
    }
}

/// Everything that a step reads besides the tree below it and its tools.
pub(super) fn of_step(work: &StepWork) -> Vec<Input> {
    let action = &work.step.action;
    let mut inputs = vec![Input::new("engine", engine(action))];
    inputs.extend(of_action(action, work));
    inputs.extend(work.sources.iter().map(of_source));
    inputs
}

fn of_source(Source { path, kind }: &Source) -> Input {
    match kind {
        SourceKind::Directory => Input::new(format!("directory {path}"), ""),
        SourceKind::File { sha256, executable: false } => Input::new(format!("file {path}"), sha256.to_string()),
        SourceKind::File { sha256, executable: true } => {
            Input::new(format!("file {path}"), format!("{sha256} executable"))
        }
        SourceKind::Symlink { target } => Input::new(format!("link {path}"), target.as_str()),
    }
}

fn of_action(action: &Action, work: &StepWork) -> Vec<Input> {
    match action {
        Action::Copy(copy) => {
            let from = Input::new("copy", copy.from.pattern.as_str());
            std::iter::once(from).chain(of_target(&copy.target)).collect()
        }
        Action::Template(template) => {
            let at = match template.at {
                RenderTime::Build => "build",
                RenderTime::Boot => "boot",
            };
            let mut inputs = vec![Input::new("template", template.template.path.as_str()), Input::new("at", at)];
            inputs.extend(of_target(&template.target));
            inputs.extend(template.sample.iter().map(|(name, value)| Input::new(format!("sample {name}"), value)));
            inputs
        }
        Action::User(user) => of_user(user),
        Action::Group(group) => {
            let mut inputs = vec![Input::new("group", &group.name), Input::new("system", group.system.to_string())];
            inputs.extend(optional("gid", group.gid));
            inputs
        }
        Action::Enable(units) | Action::Disable(units) | Action::Mask(units) => {
            vec![Input::new(action.verb(), units.join(" "))]
        }
        Action::Download(download) => {
            let sha256 = work.download.as_ref().map(|download| download.sha256);
            let name = format!("download {}", public_text(download.url.as_str()));
            let mut inputs: Vec<Input> = optional(&name, sha256).into_iter().collect();
            inputs.push(Input::new("unpack", download.unpack.to_string()));
            inputs.push(Input::new("strip", download.strip.to_string()));
            inputs.extend(of_target(&download.target));
            inputs
        }
        Action::Shell(shell) => {
            let text = Input::new("shell", &shell.text);
            std::iter::once(text).chain(of_surroundings(&shell.surroundings)).collect()
        }
        Action::Script(script) => {
            let mut inputs = vec![Input::new("script", script.script.path.as_str())];
            let arguments = script.arguments.iter().enumerate();
            inputs.extend(arguments.map(|(index, text)| Input::new(format!("argument {}", index + 1), text)));
            inputs.extend(of_surroundings(&script.surroundings));
            inputs
        }
        Action::Ansible(ansible) => {
            let mut inputs = vec![
                Input::new("ansible", ansible.playbook.path.as_str()),
                // Playbooks address hosts by groups, which are named after classes.
                Input::new("classes", work.lineage.join(" ")),
            ];
            inputs.extend(optional("roles", ansible.roles.as_ref().map(|roles| &roles.path)));
            let variables = ansible.variables.iter();
            inputs.extend(variables.map(|(name, value)| Input::new(format!("variable {name}"), value.to_string())));
            inputs
        }
        Action::Puppet(puppet) => {
            let mut inputs = vec![
                Input::new("puppet", puppet.manifest.path.as_str()),
                // Manifests address nodes by name, which is the class's.
                Input::new("classes", work.lineage.join(" ")),
            ];
            inputs.extend(optional("modules", puppet.modules.as_ref().map(|modules| &modules.path)));
            inputs
        }
    }
}

fn of_user(user: &AddUser) -> Vec<Input> {
    let AddUser { name, uid, group, groups, home, shell, system, comment } = user;
    let mut inputs = vec![Input::new("user", name), Input::new("system", system.to_string())];
    inputs.extend(optional("uid", *uid));
    inputs.extend(optional("group", group.as_ref()));
    inputs.extend((!groups.is_empty()).then(|| Input::new("groups", groups.join(" "))));
    inputs.extend(optional("home", home.as_ref()));
    inputs.extend(optional("shell", shell.as_ref()));
    inputs.extend(optional("comment", comment.as_ref()));
    inputs
}

fn of_target(Target { to, into, owner, group, mode }: &Target) -> Vec<Input> {
    let slash = if *into { "/" } else { "" };
    let mut inputs = vec![Input::new("to", format!("{to}{slash}"))];
    inputs.extend(optional("owner", owner.as_ref()));
    inputs.extend(optional("group", group.as_ref()));
    inputs.extend(optional("mode", mode.as_ref().map(Mode::to_string)));
    inputs
}

fn of_surroundings(surroundings: &Surroundings) -> Vec<Input> {
    let Surroundings { env, directory, tools: _ } = surroundings;
    // Inputs are kept beside the layer and shown by `kiln why build`: what people put into a variable is not for that.
    let variables =
        env.iter().map(|(name, value)| Input::new(format!("env {name}"), Sha256::of(value.as_bytes()).to_string()));
    variables.chain(optional("cwd", directory.as_ref())).collect()
}

fn optional(name: &str, value: Option<impl ToString>) -> Option<Input> {
    value.map(|value| Input::new(name, value.to_string()))
}
