//! `ansible-playbook` with the user's own playbook, unchanged.
//!
//! The inventory has one machine, `localhost`, which is the tree. Which groups it is in decides which plays run:
//!
//! 1. groups named after the class and its ancestors, each the parent of the next, as group variables expect it;
//! 2. if no play names one of these, every group that a play names.
//!
//! So a playbook for one kind of machine runs whatever it calls that kind, and of a playbook for many kinds the plays for this
//! class do. A playbook of which no play runs is an error, not an empty success.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::spec::RunAnsible;
use kiln_sandbox::Command;
use serde_json::{Value, json};

use super::program::{environment, find};
use super::{Doing as _, FACTORY, Problem};
use crate::stage::StepWork;

/// Where what we write for Ansible is.
const OWN: &str = "/run/kiln/ansible";

/// What a playbook's `hosts` may say that means this machine anyway.
const ANYWHERE: [&str; 4] = ["all", "*", "localhost", "127.0.0.1"];

/// What is constant about every run. Ansible's own notes go where they are lost; nothing depends on where it runs.
const ENVIRONMENT: [(&str, &str); 12] = [
    ("ANSIBLE_ASYNC_DIR", "/tmp/ansible/async"),
    ("ANSIBLE_FORKS", "1"),
    ("ANSIBLE_HOME", "/tmp/ansible"),
    ("ANSIBLE_INVENTORY_ENABLED", "yaml"),
    ("ANSIBLE_LOCAL_TEMP", "/tmp/ansible/local"),
    ("ANSIBLE_LOCALHOST_WARNING", "0"),
    ("ANSIBLE_NOCOLOR", "1"),
    ("ANSIBLE_NOCOWS", "1"),
    ("ANSIBLE_PYTHON_INTERPRETER", PYTHON),
    ("ANSIBLE_REMOTE_TEMP", "/tmp/ansible/remote"),
    ("ANSIBLE_RETRY_FILES_ENABLED", "0"),
    ("ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS", "ignore"),
];

/// What runs Ansible's modules.
const PYTHON: &str = "/usr/bin/python3";

/// How deep playbooks may import each other.
const DEPTH_MAX: usize = 20;

/// The command that runs the playbook.
pub(super) fn command(step: &RunAnsible, work: &StepWork) -> Result<Command, Problem> {
    let Some(program) = find("ansible-playbook") else {
        return Err(Problem::refused("the tree has no ansible-playbook")
            .hint("add tools = [\"ansible-core\"] to this step, and run `kiln lock`"));
    };
    let playbook = Utf8Path::new(FACTORY).join(&step.playbook.path);
    let patterns = patterns_of(&playbook, &step.variables, DEPTH_MAX)?;
    write("inventory.json", &inventory(&work.lineage, &groups(&work.lineage, &patterns)))?;
    write("variables.json", &json!(step.variables))?;
    let mut arguments = vec!["-i".to_owned(), format!("{OWN}/inventory.json"), "-c".to_owned(), "local".to_owned()];
    arguments.extend(["--extra-vars".to_owned(), format!("@{OWN}/variables.json"), playbook.to_string()]);
    let mut command = Command::new(program, arguments);
    command.environment = environment(ENVIRONMENT);
    if let Some(roles) = &step.roles {
        let roles = Utf8Path::new(FACTORY).join(&roles.path);
        command.environment.insert("ANSIBLE_ROLES_PATH".to_owned(), roles.into_string());
    }
    if let Some(settings) = settings(&playbook) {
        command.environment.insert("ANSIBLE_CONFIG".to_owned(), settings.into_string());
    }
    command.working_directory = playbook.parent().map(Utf8Path::to_owned);
    Ok(command)
}

/// The `ansible.cfg` in the playbook's directory, or in the nearest above it.
fn settings(playbook: &Utf8Path) -> Option<Utf8PathBuf> {
    let directories = playbook.ancestors().skip(1).take_while(|directory| directory.starts_with(FACTORY));
    directories.map(|directory| directory.join("ansible.cfg")).find(|path| path.is_file())
}

fn write(name: &str, value: &Value) -> Result<(), Problem> {
    let doing = || format!("write Ansible's {name}");
    fs::create_dir_all(OWN).doing(doing)?;
    fs::write(Utf8Path::new(OWN).join(name), value.to_string()).doing(doing)
}

/// Whether Ansible's last lines say that no play had a machine.
pub(super) fn ran_nothing<'a>(last_lines: impl Iterator<Item = &'a str>) -> bool {
    let mut recap = last_lines.skip_while(|line| !line.starts_with("PLAY RECAP"));
    recap.next().is_some() && !recap.any(|line| line.contains("ok="))
}

/// The error for that.
pub(super) fn nothing_to_run(step: &RunAnsible, work: &StepWork) -> Problem {
    let (playbook, groups) = (&step.playbook.path, work.lineage.join(", "));
    Problem::refused(format!("no play of {playbook} is for this machine"))
        .hint(format!("the machine is `localhost`, in the groups {groups}: name one of these in `hosts`"))
}

/// Every pattern in the `hosts` of a playbook's plays, and of the playbooks that it imports.
fn patterns_of(
    playbook: &Utf8Path,
    variables: &BTreeMap<String, Value>,
    depth: usize,
) -> Result<BTreeSet<String>, Problem> {
    let Ok(text) = fs::read_to_string(playbook) else {
        // Ansible itself says best what is wrong with a file that is missing or no text.
        return Ok(BTreeSet::new());
    };
    let mut patterns = hosts(&text, variables);
    for imported in imports(&text) {
        let (Some(directory), Some(depth)) = (playbook.parent(), depth.checked_sub(1)) else { continue };
        patterns.extend(patterns_of(&directory.join(imported), variables, depth)?);
    }
    Ok(patterns)
}

/// Playbooks that a playbook imports.
fn imports(text: &str) -> Vec<String> {
    let values = text.lines().filter_map(|line| {
        let line = item(line);
        line.strip_prefix("import_playbook:").or_else(|| line.strip_prefix("ansible.builtin.import_playbook:"))
    });
    values.map(|value| scalar(value).to_owned()).filter(|value| !value.is_empty()).collect()
}

/// Every pattern in the `hosts` of a playbook's plays: names of groups and machines.
///
/// This reads lines, not YAML: a `hosts` that is no play's can only add a group that nothing asks for.
fn hosts(text: &str, variables: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let mut lines = text.lines().peekable();
    let mut patterns = BTreeSet::new();
    while let Some(line) = lines.next() {
        let Some(value) = item(line).strip_prefix("hosts:") else { continue };
        let mut values = vec![scalar(value)];
        while scalar(value).is_empty() && lines.peek().is_some_and(|line| line.trim_start().starts_with("- ")) {
            values.extend(lines.next().map(|line| scalar(item(line))));
        }
        patterns.extend(values.into_iter().flat_map(|value| split(&filled(value, variables))));
    }
    patterns
}

/// A line without its indentation and the mark of a list's item.
fn item(line: &str) -> &str {
    let line = line.trim_start();
    line.strip_prefix("- ").unwrap_or(line).trim_start()
}

/// A value on one line without quotes and comment.
fn scalar(value: &str) -> &str {
    let value = value.split(" #").next().unwrap_or_default().trim();
    value.trim_matches(['"', '\'', '[', ']']).trim()
}

/// `{{ name }}` filled in from the step's variables; whatever else is computed stays, and names no group.
fn filled(value: &str, variables: &BTreeMap<String, Value>) -> String {
    let name = value.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    let known = name.and_then(|name| variables.get(name.trim())).and_then(Value::as_str);
    known.unwrap_or(value).to_owned()
}

/// The names in a pattern such as `web:&staging:!old` that a machine must be in.
fn split(pattern: &str) -> Vec<String> {
    if pattern.contains("{{") {
        return Vec::new();
    }
    let parts = pattern.split([',', ':']).map(|part| part.trim().trim_matches(['"', '\'']));
    let wanted = parts.filter(|part| !part.starts_with(['!', '~']));
    let names = wanted.map(|part| part.trim_start_matches('&').split('[').next().unwrap_or_default());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The groups of the machine besides those of its lineage: what plays name, if no play names the lineage.
fn groups(lineage: &[String], patterns: &BTreeSet<String>) -> BTreeSet<String> {
    let own: BTreeSet<String> = lineage.iter().map(|class| group(class)).chain(lineage.iter().cloned()).collect();
    let mut named: BTreeSet<String> =
        patterns.iter().filter(|name| !ANYWHERE.contains(&name.as_str()) && !name.contains('*')).cloned().collect();
    if named.iter().any(|name| own.contains(name)) {
        named.clear();
    }
    // A class may have a name that Ansible would rather write another way.
    named.extend(lineage.iter().filter(|class| group(class) != **class).map(|class| group(class)));
    named
}

/// A class's name as Ansible has groups' names: without `-`.
fn group(class: &str) -> String {
    class.replace('-', "_")
}

/// The inventory: its one machine in the innermost group of its lineage, and in the other groups.
fn inventory(lineage: &[String], groups: &BTreeSet<String>) -> Value {
    let machine = || json!({ "localhost": { "ansible_connection": "local", "ansible_python_interpreter": PYTHON } });
    let mut children: serde_json::Map<String, Value> =
        groups.iter().map(|name| (name.clone(), json!({ "hosts": machine() }))).collect();
    let chain = lineage.iter().rev().fold(None, |inner: Option<(&String, Value)>, class| {
        let content = match inner {
            None => json!({ "hosts": machine() }),
            Some((name, value)) => json!({ "children": { name.as_str(): value } }),
        };
        Some((class, content))
    });
    children.extend(chain.map(|(class, content)| (class.clone(), content)));
    json!({ "all": { "hosts": machine(), "children": children } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_hosts(text: &str, expected: &[&str]) {
        let variables = BTreeMap::from([("target".to_owned(), json!("named"))]);
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(hosts(text, &variables), expected, "{text}");
    }

    #[test]
    fn the_hosts_of_plays_are_found() {
        check_hosts("- hosts: web\n", &["web"]);
        check_hosts(
            "---\n- name: x\n  hosts: \"web\" # these\n  tasks: []\n- hosts: 'db,cache'\n",
            &["web", "db", "cache"],
        );
        check_hosts("- hosts: web:&staging:!old\n", &["web", "staging"]);
        check_hosts("- hosts: web[0]\n", &["web"]);
        check_hosts("- hosts: [web, \"db\"]\n", &["web", "db"]);
        check_hosts("- hosts:\n    - web\n    - db\n  become: true\n", &["web", "db"]);
        check_hosts("- hosts:\n  - web\n  roles:\n  - x\n", &["web"]);
        check_hosts("- hosts: \"{{ target }}\"\n", &["named"]);
        check_hosts("- hosts: \"{{ target | default('all') }}\"\n", &[]);
        check_hosts("- name: no play\n", &[]);
    }

    #[test]
    fn imported_playbooks_are_found() {
        let text = "- import_playbook: a.yml\n- ansible.builtin.import_playbook: \"b/c.yml\"\n- hosts: x\n";
        assert_eq!(imports(text), ["a.yml", "b/c.yml"]);
    }

    fn check_groups(patterns: &[&str], expected: &[&str]) {
        let lineage = ["base", "web-shop"].map(str::to_owned);
        let patterns = patterns.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(groups(&lineage, &patterns).into_iter().collect::<Vec<_>>(), expected, "{patterns:?}");
    }

    #[test]
    fn plays_for_the_class_alone_run_where_there_are_some() {
        check_groups(&["all"], &["web_shop"]);
        check_groups(&["webservers"], &["web_shop", "webservers"]);
        check_groups(&["web_shop", "db"], &["web_shop"]);
        check_groups(&["base", "db"], &["web_shop"]);
        check_groups(&["web*", "localhost"], &["web_shop"]);
    }

    #[test]
    fn the_inventory_nests_the_lineage() {
        let inventory = inventory(&["base", "web"].map(str::to_owned), &BTreeSet::from(["front".to_owned()]));
        let children = inventory.pointer("/all/children").unwrap();
        assert!(children.pointer("/base/children/web/hosts/localhost").is_some(), "{inventory}");
        assert!(children.pointer("/front/hosts/localhost").is_some(), "{inventory}");
    }

    #[test]
    fn a_run_without_machines_is_noticed() {
        let empty = ["PLAY [web] ***", "skipping: no hosts matched", "", "PLAY RECAP ****"];
        assert!(ran_nothing(empty.into_iter()));
        assert!(!ran_nothing(empty.into_iter().chain(["localhost : ok=1 changed=0"])));
        assert!(!ran_nothing(["a callback of its own"].into_iter()));
    }
}
