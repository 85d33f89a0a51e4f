//! `kiln init`: writes a factory to start from.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use kiln_model::spec::{Name, NameError};
use serde::Serialize;

use crate::error::{CommandError, Kind};
use crate::output::Output;

/// Write a factory to start from.
///
/// Nothing is overwritten: if one of its files is already there, none is written.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// What to start from.
    #[arg(long, value_enum, default_value_t = Template::Web)]
    template: Template,
    /// The factory's name; the directory's name unless given.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Template {
    /// A base class and a web server, with a site, checks and a group of three.
    Web,
    /// One class that boots.
    Minimal,
}

/// A file of a template: its path in the factory and its text.
type TemplateFile = (&'static str, &'static str);

/// `examples/shop` is the template: it is locked and built by Kiln's own tests.
const WEB: &[TemplateFile] = &[
    ("kiln.toml", include_str!("../../../../examples/shop/kiln.toml")),
    ("nginx.conf", include_str!("../../../../examples/shop/nginx.conf")),
    ("site/index.html", include_str!("../../../../examples/shop/site/index.html")),
    ("site/healthz.txt", include_str!("../../../../examples/shop/site/healthz.txt")),
    ("checks/web.yaml", include_str!("../../../../examples/shop/checks/web.yaml")),
];

const MINIMAL: &[TemplateFile] = &[("kiln.toml", include_str!("../../templates/minimal/kiln.toml"))];

#[derive(Serialize)]
struct Written {
    factory: Utf8PathBuf,
    name: Name,
    files: Vec<&'static str>,
}

/// Runs the verb.
///
/// # Errors
/// If a file is already there, the name is not one, or the directory cannot be written.
pub(crate) fn run(
    args: &InitArgs,
    factory: &Utf8Path,
    architecture: &str,
    output: &Output,
) -> Result<(), CommandError> {
    let name = factory_name(args, factory)?;
    let (files, template_name) = match args.template {
        Template::Web => (WEB, "shop"),
        Template::Minimal => (MINIMAL, "minimal"),
    };
    refuse_existing(factory, files)?;
    for (path, text) in files {
        let text = if *path == "kiln.toml" {
            adapt(text, template_name, name.as_str(), architecture)
        } else {
            (*text).to_owned()
        };
        write_new(&factory.join(path), &text)?;
    }
    let written = Written { factory: factory.to_owned(), name, files: files.iter().map(|(path, _)| *path).collect() };
    let text = format!(
        "wrote factory `{}` in {factory}: {}\nnext: kiln lock{}",
        written.name,
        written.files.join(", "),
        if factory == "." { String::new() } else { format!(" -C {factory}") },
    );
    output.result("init", &written, &text);
    Ok(())
}

/// The given name, or the directory's, as the spec wants names.
fn factory_name(args: &InitArgs, factory: &Utf8Path) -> Result<Name, CommandError> {
    let from_directory = || {
        let absolute = camino::absolute_utf8(factory).ok()?;
        let name = absolute.file_name()?.to_lowercase();
        Some(name.replace(|character: char| !character.is_ascii_alphanumeric(), "-").trim_matches('-').to_owned())
    };
    let text = args.name.clone().or_else(from_directory).unwrap_or_default();
    text.parse().map_err(|error: NameError| {
        let hint = format!("{}; --name gives the factory one", error.hint());
        CommandError::new(Kind::Usage, error).with_hint(hint)
    })
}

fn refuse_existing(factory: &Utf8Path, files: &[TemplateFile]) -> Result<(), CommandError> {
    match files.iter().map(|(path, _)| factory.join(path)).find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => Err(CommandError::new(Kind::Usage, anyhow::anyhow!("{path} is already there"))
            .with_hint("kiln init never overwrites; choose another directory with -C")),
    }
}

/// The template's text with this factory's name and this host's architecture.
fn adapt(text: &str, template_name: &str, name: &str, architecture: &str) -> String {
    text.replacen(&format!("name = \"{template_name}\""), &format!("name = \"{name}\""), 1)
        .replace("architecture = \"amd64\"", &format!("architecture = \"{architecture}\""))
        .replace("linux-image-cloud-amd64", &kernel_package(architecture))
}

/// Debian's kernel for virtual machines, where the architecture has one.
fn kernel_package(architecture: &str) -> String {
    match architecture {
        "amd64" | "arm64" => format!("linux-image-cloud-{architecture}"),
        other => format!("linux-image-{other}"),
    }
}

fn write_new(path: &Utf8Path, text: &str) -> Result<(), CommandError> {
    let write = || {
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        let mut file = fs_err::OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|error| CommandError::new(Kind::Environment, error).with_hint("is the directory yours to write?"))
}
