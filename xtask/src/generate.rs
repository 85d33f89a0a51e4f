//! Files in the repository that are made from the code: written, or compared with what the code says now.

use anyhow::{Context as _, bail};
use fs_err as fs;

use crate::{conformance, reference, root};

/// Arguments of `cargo xtask generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    /// Change nothing; fail if a file is not current.
    #[arg(long)]
    check: bool,
}

/// One generated file.
struct Generated {
    /// Path in the workspace.
    path: &'static str,
    /// What it should hold.
    text: String,
}

/// Writes or checks all generated files.
pub(crate) fn run(arguments: &Generate) -> anyhow::Result<()> {
    let all = generated()?;
    if arguments.check { check(&all) } else { all.iter().try_for_each(write) }
}

/// Fails, naming the files, unless every generated file is current.
pub(crate) fn check_all() -> anyhow::Result<()> {
    check(&generated()?)
}

fn generated() -> anyhow::Result<Vec<Generated>> {
    let schema = kiln_model::spec::schema();
    let text = serde_json::to_string_pretty(&schema).context("print the schema of kiln.toml")? + "\n";
    Ok(vec![
        Generated { path: "crates/kiln-model/schema/kiln.schema.json", text },
        Generated { path: "docs/kiln.toml.md", text: reference::page(&schema) },
        with_section("docs/conformance.md", "rules", &conformance::rules_page())?,
    ])
}

/// A file that people write, but for the part between `<!-- NAME -->` and `<!-- end of NAME -->`.
fn with_section(path: &'static str, name: &str, section: &str) -> anyhow::Result<Generated> {
    let text = fs::read_to_string(root().join(path))?;
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let parts = text.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let (head, tail) = parts.with_context(|| format!("find `{}` and its end in {path}", begin.trim()))?;
    Ok(Generated { path, text: format!("{head}{begin}{section}{end}{tail}") })
}

fn check(all: &[Generated]) -> anyhow::Result<()> {
    let is_current = |file: &Generated| fs::read_to_string(root().join(file.path)).is_ok_and(|text| text == file.text);
    let stale: Vec<&str> = all.iter().filter(|file| !is_current(file)).map(|file| file.path).collect();
    if !stale.is_empty() {
        bail!("not current: {} (run `cargo xtask generate`)", stale.join(", "));
    }
    Ok(())
}

fn write(file: &Generated) -> anyhow::Result<()> {
    let path = root().join(file.path);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, &file.text)?;
    Ok(())
}
