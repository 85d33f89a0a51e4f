//! What a failing program's own words say is missing, and what to do about it.
//!
//! apt, Ansible's `apt` module and Puppet's provider all pass on what apt says, the latter two inside longer lines.

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Clue {
    /// A package that is not among the locked ones.
    Package(String),
    /// A version of a package that is not the locked one.
    Version(String),
    /// What Ansible's `apt` module is written with.
    PythonApt,
    /// A network.
    Network,
    /// A program.
    Command(String),
    /// Somebody to ask.
    Answer,
}

/// What apt and its users say before the name of a package that they cannot find.
const BEFORE_PACKAGE: [&str; 6] = [
    "Unable to locate package ",
    "Couldn't find any package by glob '",
    "Couldn't find any package by regex '",
    "No package matching '",
    "No package(s) matching '",
    "Could not find package ",
];

/// What programs say that miss a network: apt, curl, git, Python, Ruby, wget.
const NETWORK: [&str; 6] = [
    "Temporary failure resolving",
    "Temporary failure in name resolution",
    "Could not resolve host",
    "Network is unreachable",
    "Name or service not known",
    "unable to resolve host address",
];

impl Clue {
    /// What this line says is missing.
    pub(super) fn of(line: &str) -> Option<Self> {
        package(line)
            .map(|name| if name == "python3-apt" { Self::PythonApt } else { Self::Package(name) })
            .or_else(|| {
                between(line, "for '", "' was not found").filter(|_| line.contains("Version '")).map(Self::Version)
            })
            .or_else(|| line.contains("Could not import the python3-apt module").then_some(Self::PythonApt))
            .or_else(|| NETWORK.iter().any(|words| line.contains(words)).then_some(Self::Network))
            .or_else(|| line.contains("Do you want to continue? [Y/n] Abort").then_some(Self::Answer))
            .or_else(|| command(line).map(Self::Command))
    }

    /// What to do about it, for the class.
    pub(super) fn hint(&self, class: &str) -> String {
        match self {
            Self::Package(name) => format!(
                "a step finds the locked packages only: add \"{name}\" to `packages` of class {class}, and run `kiln lock`"
            ),
            Self::Version(name) => format!(
                "a step finds the locked version of {name} only: ask for another in `packages` of class {class}, and run \
                 `kiln lock`"
            ),
            Self::PythonApt => {
                "Ansible's `apt` needs Python's: add \"python3-apt\" to this step's `tools`, and run `kiln lock`"
                    .to_owned()
            }
            Self::Network => {
                "steps have no network: bring the file along with a `download` step, or have it in the factory"
                    .to_owned()
            }
            Self::Command(name) => format!(
                "the tree has no `{name}`: add its package to `packages` of class {class}, or to this step's `tools`, and \
                 run `kiln lock`"
            ),
            Self::Answer => "nobody is there to answer: write `apt-get install -y`".to_owned(),
        }
    }
}

/// The package that the line says cannot be found.
fn package(line: &str) -> Option<String> {
    let named = BEFORE_PACKAGE.iter().find_map(|words| word_after(line, words));
    named
        .or_else(|| between(line, "Package '", "' has no installation candidate"))
        .or_else(|| between(line, "Package ", " is not available, but is referred to"))
        .or_else(|| unmet(line))
}

/// `nginx : Depends: nginx-common but it is not installable`.
fn unmet(line: &str) -> Option<String> {
    let (before, _) = line.split_once(" but it is not installable")?;
    let (_, relation) = before.rsplit_once("Depends: ")?;
    word(relation)
}

/// `sh: 1: curl: not found`, `step: line 3: curl: command not found`.
fn command(line: &str) -> Option<String> {
    let before = line.strip_suffix(": command not found").or_else(|| line.strip_suffix(": not found"))?;
    let (place, name) = before.rsplit_once(": ")?;
    let is_of_shell = place.ends_with(|last: char| last.is_ascii_digit());
    (is_of_shell && !name.contains(char::is_whitespace)).then(|| name.to_owned())
}

fn between(line: &str, before: &str, after: &str) -> Option<String> {
    let (head, _) = line.split_once(after)?;
    let (_, name) = head.rsplit_once(before)?;
    word(name)
}

fn word_after(line: &str, words: &str) -> Option<String> {
    word(line.split_once(words)?.1)
}

/// The name of a package at the beginning of a text.
fn word(text: &str) -> Option<String> {
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || "+-.:_*".contains(character);
    let end = text.find(|character| !is_of_name(character)).unwrap_or(text.len());
    text.get(..end).map(|name| name.trim_end_matches('.')).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<Clue>) {
        assert_eq!(Clue::of(line), expected, "{line}");
    }

    fn package(name: &str) -> Option<Clue> {
        Some(Clue::Package(name.to_owned()))
    }

    #[test]
    fn apt_says_what_it_cannot_find() {
        check("E: Unable to locate package no-such", package("no-such"));
        check("E: Package 'no-such' has no installation candidate", package("no-such"));
        check("E: Couldn't find any package by glob 'lib.so'", package("lib.so"));
        check(" nginx : Depends: nginx-common (= 1.26) but it is not installable", package("nginx-common"));
        check("E: Version '9' for 'nginx' was not found", Some(Clue::Version("nginx".to_owned())));
        check("Do you want to continue? [Y/n] Abort.", Some(Clue::Answer));
        check("E: Unable to correct problems, you have held broken packages.", None);
    }

    #[test]
    fn apt_is_heard_through_ansible_and_puppet() {
        check(
            r#"fatal: [localhost]: FAILED! => {"changed": false, "msg": "No package matching 'no-such' is available"}"#,
            package("no-such"),
        );
        check(r#"stderr: "E: Unable to locate package no-such\n", "rc": 100"#, package("no-such"));
        check(
            r#"{"msg": "Failed to auto-install python3-apt. ... 'E: Unable to locate package python3-apt'"}"#,
            Some(Clue::PythonApt),
        );
        check(
            "Error: /Stage[main]/Main/Package[no-such]/ensure: E: Unable to locate package no-such",
            package("no-such"),
        );
    }

    #[test]
    fn shells_say_which_command_is_missing() {
        let command = |name: &str| Some(Clue::Command(name.to_owned()));
        check("/run/kiln/step: 1: curl: not found", command("curl"));
        check("/run/kiln/step: line 3: curl: command not found", command("curl"));
        check("the page: not found", None);
        check("GET /: 404 it was: not found", None);
    }

    #[test]
    fn a_missing_network_is_recognised() {
        check("W: Temporary failure resolving 'mirror.example'", Some(Clue::Network));
        check("curl: (6) Could not resolve host: mirror.example", Some(Clue::Network));
        check("all is well", None);
    }
}
