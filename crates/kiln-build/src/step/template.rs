//! `template`: a file made from a Jinja template of the factory.
//!
//! The dialect is the one that Ansible renders: Jinja2 with Python's methods of texts, the line break after a block left
//! out, the one at the end of the file kept, nothing escaped. A name that has no value is an error, also in a branch that is
//! not taken, unless the template itself asks whether it is there (`NAME is defined`, `NAME | default("x")`). A template
//! stands alone: there is no `include`, `extends` or `import`.
//!
//! With `at = "boot"` the rendering is a rehearsal: its result is placed so that checks of the tree see a whole file, and
//! the template itself is kept for the agent, see `boot`.

mod mention;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::diagnostic::nearest;
use kiln_model::digest::Sha256;
use kiln_model::spec::{RenderTemplate, RenderTime};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use self::mention::mentions;
use super::account::ownership;
use super::boot::{self, Manifest};
use super::content::changed;
use super::copy::file_mode;
use super::{Doing as _, Problem, in_tree};
use crate::stage::{SourceKind, StepWork};
use crate::workplace::{StageError, Workplace};

/// What templates are called by custom; left out of the name of a file that keeps its name.
const EXTENSION: &str = "j2";

pub(super) fn run(place: &Workplace<'_>, work: &StepWork, step: &RenderTemplate) -> Result<(), StageError> {
    let source = read(place.factory, work, step).map_err(|problem| problem.into_error(&[]))?;
    let template = Template { name: step.template.path.as_str(), text: &source.text };
    let rendered = template.render(&step.sample).map_err(|problem| problem.into_error(&[]))?;
    let to = destination(step);
    in_tree(place, Vec::new(), |_, root| {
        let ownership = ownership(root, &step.target)?;
        let mode = file_mode(step.target.mode, source.executable);
        let spot = root.spot(to.as_std_path())?;
        spot.file(ownership, mode, |file| file.write_all(rendered.as_bytes()).doing(|| format!("write {to}")))?;
        match step.at {
            RenderTime::Build => boot::forget(root, &to),
            RenderTime::Boot => boot::keep(root, &source.text, &manifest(step, &template, &source, &to, mode)),
        }
    })
}

/// A template as the factory has it.
struct TemplateSource {
    text: String,
    sha256: Sha256,
    executable: bool,
}

fn read(factory: &Utf8Path, work: &StepWork, step: &RenderTemplate) -> Result<TemplateSource, Problem> {
    let path = &step.template.path;
    let planned = work.sources.iter().find(|source| source.path == *path);
    let Some(SourceKind::File { sha256, executable }) = planned.map(|source| &source.kind) else {
        return Err(Problem::refused(format!("{path} is no regular file")));
    };
    let bytes = fs::read(factory.join(path)).doing(|| format!("read {path}"))?;
    if Sha256::of(&bytes) != *sha256 {
        return Err(changed(path.as_str()));
    }
    let text = String::from_utf8(bytes).map_err(|_| Problem::refused(format!("{path} is not UTF-8")))?;
    Ok(TemplateSource { text, sha256: *sha256, executable: *executable })
}

/// Where the result goes: in a directory under the template's own name, without the extension of templates.
fn destination(step: &RenderTemplate) -> Utf8PathBuf {
    let path = &step.template.path;
    let name = if path.extension() == Some(EXTENSION) { path.file_stem() } else { path.file_name() };
    match name {
        Some(name) if step.target.into => step.target.to.join(name),
        _ => step.target.to.clone(),
    }
}

fn manifest(
    step: &RenderTemplate,
    template: &Template<'_>,
    source: &TemplateSource,
    to: &Utf8Path,
    mode: u32,
) -> Manifest {
    let mut manifest = Manifest::new(to, source.sha256);
    let name = |account: &Option<String>| account.clone().unwrap_or_else(|| "root".to_owned());
    (manifest.owner, manifest.group) = (name(&step.target.owner), name(&step.target.group));
    manifest.mode = format!("{mode:04o}");
    let (optional, variables) = template.variables().into_iter().partition(|name| template.asks_for(name));
    (manifest.optional, manifest.variables) = (optional, variables);
    manifest
}

/// A template by its path in the factory.
struct Template<'a> {
    name: &'a str,
    text: &'a str,
}

impl Template<'_> {
    fn render(&self, values: &BTreeMap<String, String>) -> Result<String, Problem> {
        let mut engine = engine();
        engine.add_template(self.name, self.text).map_err(|error| self.problem(&error))?;
        self.check_values(values)?;
        let template = engine.get_template(self.name).map_err(|error| self.problem(&error))?;
        template.render(values).map_err(|error| self.problem(&error))
    }

    /// Names that the template reads and does not set itself, in order.
    fn variables(&self) -> BTreeSet<String> {
        let mut engine = engine();
        let globals: BTreeSet<String> = engine.globals().map(|(name, _)| name.to_owned()).collect();
        if engine.add_template(self.name, self.text).is_err() {
            return BTreeSet::new();
        }
        let names = engine.get_template(self.name).map(|template| template.undeclared_variables(false));
        names.into_iter().flatten().filter(|name| !globals.contains(name)).collect()
    }

    /// Whether the template itself asks if this name has a value.
    fn asks_for(&self, name: &str) -> bool {
        mentions(self.text).iter().any(|mention| mention.name == name && mention.guarded)
    }

    fn check_values(&self, values: &BTreeMap<String, String>) -> Result<(), Problem> {
        let mut missing: Vec<(usize, String)> =
            self.variables().into_iter().map(|name| (self.line_of(&name), name)).collect();
        missing.retain(|(_, name)| !values.contains_key(name) && !self.asks_for(name));
        missing.sort();
        let Some((line, first)) = missing.first() else { return Ok(()) };
        let problem = self.at(Some(*line), &format!("`{first}` has no value"));
        Err(problem.hint(match nearest(first, values.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => add_to_sample(&missing),
        }))
    }

    /// The line that mentions a name first; the first is 1.
    fn line_of(&self, name: &str) -> usize {
        mentions(self.text).iter().find(|mention| mention.name == name).map_or(1, |mention| mention.line)
    }

    fn problem(&self, error: &minijinja::Error) -> Problem {
        let kind = error.kind().to_string();
        let message = error.detail().map_or_else(|| kind.clone(), str::to_owned);
        let problem = self.at(error.line(), &message);
        match ["include", "extends", "import", "from", "block"]
            .iter()
            .any(|word| message.ends_with(&format!("statement {word}")))
        {
            true if error.kind() == ErrorKind::SyntaxError => {
                problem.hint("a template stands alone: write all of it in one file")
            }
            _ => problem,
        }
    }

    /// What is wrong, with the line of the template.
    fn at(&self, line: Option<usize>, message: &str) -> Problem {
        let text = line.and_then(|line| self.text.lines().nth(line.checked_sub(1)?)).map(str::trim);
        Problem::refused(match (line, text) {
            (Some(line), Some(text)) => format!("{}:{line}: {message}: {text}", self.name),
            _ => format!("{}: {message}", self.name),
        })
    }
}

fn add_to_sample(missing: &[(usize, String)]) -> String {
    let names: Vec<&str> = missing.iter().map(|(_, name)| name.as_str()).collect();
    let first = names.first().copied().unwrap_or_default();
    format!("give the step's `sample` values for {}; or write `{first} | default(\"...\")`", names.join(", "))
}

fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_keep_trailing_newline(true);
    engine.set_trim_blocks(true);
    engine.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    engine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::ground::for_each_identity;

    fn render(text: &str) -> String {
        let values = [("GREETING", "hello"), ("HOSTS", "a,b"), ("EMPTY", "")];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        match (Template { name: "motd.j2", text }).render(&values) {
            Ok(text) => text,
            Err(Problem::Refused { message, hint }) => format!("{message} / {}", hint.unwrap_or_default()),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(render(text), expected, "{text}");
    }

    #[test]
    fn the_dialect_is_ansibles() {
        check("{{ GREETING }}, <world>!\n", "hello, <world>!\n");
        check("{{ '<' + GREETING }}\n\n", "<hello\n\n");
        check("{% for host in HOSTS.split(',') %}\n{{ host.upper() }}\n{% endfor %}\nend", "A\nB\nend");
        check("{% if GREETING.startswith('h') %}\nyes\n{% endif %}\n", "yes\n");
        check("{% set x = 1 %}\n{{ x + 1 }}", "2");
        check("{{ HOSTS | split(',') | tojson }}", r#"["a","b"]"#);
        check("{# {{ NOTHING }} #}{% raw %}{{ NOTHING }}{% endraw %}", "{{ NOTHING }}");
        check("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(GREETING) }}", "[hello]");
        check("{{ range(3) | join('-') }}{{ EMPTY }}", "0-1-2");
    }

    #[test]
    fn names_without_a_value_are_found_wherever_they_are() {
        let write = |names: &str, first: &str| {
            format!("give the step's `sample` values for {names}; or write `{first} | default(\"...\")`")
        };
        check(
            "a\n  b {{ PORT }}\n",
            &format!("motd.j2:2: `PORT` has no value: b {{{{ PORT }}}} / {}", write("PORT", "PORT")),
        );
        check("{{ GREETINGS }}", "motd.j2:1: `GREETINGS` has no value: {{ GREETINGS }} / did you mean `GREETING`?");
        let branch = "{% if EMPTY %}\n{{ Z.a }}{{ A }}\n{% endif %}";
        check(branch, &format!("motd.j2:2: `A` has no value: {{{{ Z.a }}}}{{{{ A }}}} / {}", write("A, Z", "A")));
    }

    #[test]
    fn a_template_may_ask_whether_a_name_has_a_value() {
        check("{{ PORT | default('80') }}", "80");
        check("{{ PORT|d(80) }}", "80");
        check("{% if PORT is defined %}{{ PORT }}{% else %}-{% endif %}", "-");
        check("{% if PORT is not defined %}-{% endif %}", "-");
        check("{{ PORT | default('80') }}\n{{ PORT }}", "motd.j2:2: undefined value: {{ PORT }} / ");
    }

    #[test]
    fn other_mistakes_name_the_line() {
        check("\n{{ GREETING | nothing }}", "motd.j2:2: filter nothing is unknown: {{ GREETING | nothing }} / ");
        let alone = "a template stands alone: write all of it in one file";
        check("\n{% include 'x' %}", &format!("motd.j2:2: unknown statement include: {{% include 'x' %}} / {alone}"));
        assert!(render("{% if GREETING %}\nx\n").starts_with("motd.j2:"), "{}", render("{% if GREETING %}\nx\n"));
        assert!(render("{{ GREETING").starts_with("motd.j2:1: "));
    }

    #[test]
    fn what_the_agent_needs_to_know() {
        let template = Template {
            name: "x",
            text: "{{ A }}{{ B | default(1) }}{% for c in C %}{{ c }}{{ range(2) }}{% endfor %}",
        };
        assert_eq!(template.variables(), ["A", "B", "C"].map(str::to_owned).into());
        assert!(template.asks_for("B") && !template.asks_for("A"));
    }

    #[test]
    fn a_template_is_rendered_into_the_tree() {
        for_each_identity(|ground| {
            ground.write("motd.j2", "{{ GREETING }}!\n");
            let step = "template = \"motd.j2\"\nto = \"/etc/\"\nsample = { GREETING = \"hello\" }\ngroup = \"adm\"\nmode = \"0600\"";
            ground.step(step).unwrap();
            assert_eq!(ground.changes(), ["etc 755 0:0 /", "etc/motd 600 0:4 \"hello!\\n\""]);
            ground.write("motd.j2", "{{ GREETING }}\n{{ NAME }}\n");
            let error = ground.step(step).unwrap_err();
            assert!(error.starts_with("motd.j2:2: `NAME` has no value: {{ NAME }} / "), "{error}");
        });
    }

    #[test]
    fn a_template_for_boot_is_rehearsed_and_kept() {
        for_each_identity(|ground| {
            ground.write("motd.j2", "{{ GREETING }}{{ NAME | default('') }}\n");
            ground
                .step("template = \"motd.j2\"\nto = \"/etc/motd\"\nat = \"boot\"\nsample = { GREETING = \"hi\" }")
                .unwrap();
            assert_eq!(ground.read("etc/motd"), "hi\n");
            let template = ground.read("usr/lib/kiln/boot/templates/etc/motd");
            assert_eq!(template, "{{ GREETING }}{{ NAME | default('') }}\n");
            let manifest: Manifest =
                serde_json::from_str(&ground.read("usr/lib/kiln/boot/manifests/etc/motd.json")).unwrap();
            let mut expected = Manifest::new("/etc/motd".into(), Sha256::of(template.as_bytes()));
            (expected.variables, expected.optional) = (vec!["GREETING".to_owned()], vec!["NAME".to_owned()]);
            expected.mode = "0644".to_owned();
            assert_eq!(manifest, expected);
            let changes = ground.changes();
            let kept = changes.iter().filter(|line| line.starts_with("usr/lib/kiln/boot/") && !line.ends_with('/'));
            assert!(kept.clone().count() == 2 && kept.clone().all(|line| line.contains(" 600 0:0 ")), "{changes:?}");
            // What a later step places there is not to be overwritten on every start.
            ground.write("motd", "static");
            ground.step("copy = \"motd\"\nto = \"/etc/motd\"").unwrap();
            let changes = ground.changes();
            assert!(changes.contains(&"usr/lib/kiln/boot/manifests/etc/motd.json gone".to_owned()), "{changes:?}");
            assert!(changes.contains(&"usr/lib/kiln/boot/templates/etc/motd gone".to_owned()), "{changes:?}");
        });
    }
}
