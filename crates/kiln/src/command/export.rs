//! `kiln export`: a class's tree as a tar archive, an OCI image or a directory.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use camino::{Utf8Path, Utf8PathBuf};
use kiln_build::Environment;
use kiln_build::build::{BuildOptions, BuiltClass, TreeFacts, build};
use kiln_build::factory::Factory;
use kiln_build::tree::{ClassTree, TreeError};
use kiln_build::tree_export::{TreeExport, TreeExportError, TreeExported, TreeFormat, check_place};
use kiln_model::digest::Sha256;
use kiln_model::event::Event;
use kiln_model::lock::Lock;
use kiln_sandbox::{CancelToken, Identity};
use kiln_store::LayerUse;
use serde::Serialize;

use super::build::{cancel_token, failure, milliseconds, processors};
use super::existing_lock;
use crate::error::{CommandError, Kind};
use crate::output::{Output, bytes, seconds};
use crate::settings::Settings;

/// Standard output, as a place.
const STANDARD_OUTPUT: &str = "-";

/// Write a class's tree as a tar archive, an OCI image or a directory.
///
/// The tree is built first, as far as it is not. Owners, modes, times, links and extended attributes are the true ones; the
/// same tree gives the same bytes, whoever exports it. What is written takes its place when it is whole.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The class.
    class: String,
    /// What to make of it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to; `-` is standard output, for a tar archive. An OCI image is a layout directory, or an archive of one if the
    /// name ends in .tar.
    #[arg(long, short, value_name = "PATH")]
    output: Utf8PathBuf,
    /// Replace what is there, if it is a file, or a directory that an export can have left.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    /// One tar archive (pax).
    #[default]
    Tar,
    /// An OCI image, one layer for each stage of the build.
    Oci,
    /// A directory: with the true owners as root, with your subordinate ids as a user.
    Dir,
}

#[derive(Serialize)]
struct Result<'a> {
    class: &'a str,
    format: Format,
    output: &'a Utf8Path,
    tree: Sha256,
    size_bytes: u64,
    digest: Option<Sha256>,
    remove_with: Option<&'a str>,
    took_ms: u64,
}

/// Runs the verb.
///
/// # Errors
/// If the tree cannot be built, there is something already, or the environment refuses.
pub(crate) fn run(
    args: &ExportArgs,
    factory: &Utf8Path,
    settings: &Settings,
    environment: &Environment<'_>,
    output: &Output,
) -> std::result::Result<(), CommandError> {
    check(args, output)?;
    let started = Instant::now();
    let cancel = cancel_token()?;
    let factory = Factory::new(factory);
    let (built, lock) = built(args, &factory, settings, &cancel, environment)?;
    let exported = export(args, &built, &lock, &cancel, environment);
    let BuiltClass { layers, tree, .. } = built;
    let exported = exported.map_err(|failed| failed.into_error(layers, settings, environment))?;
    if args.output != STANDARD_OUTPUT {
        let result = result(args, &tree, &exported, milliseconds(started.elapsed()));
        output.result("export", &result, &describe(args, &tree, &exported, started));
    }
    Ok(())
}

/// What the command line alone says is wrong.
fn check(args: &ExportArgs, output: &Output) -> std::result::Result<(), CommandError> {
    let wrong = |message: &'static str| Err(CommandError::new(Kind::Usage, anyhow!(message)));
    if args.output != STANDARD_OUTPUT {
        // Before anything is built.
        return Ok(check_place(&args.output, args.force)?);
    }
    match args.format {
        Format::Oci | Format::Dir => wrong("only a tar archive can go to standard output"),
        Format::Tar if output.is_json() => wrong("standard output cannot carry an archive and JSON lines at once"),
        Format::Tar if std::io::stdout().is_terminal() => wrong("an archive is nothing for a terminal"),
        Format::Tar => Ok(()),
    }
}

/// Builds the class, if it is not.
fn built(
    args: &ExportArgs,
    factory: &Factory,
    settings: &Settings,
    cancel: &CancelToken,
    environment: &Environment<'_>,
) -> std::result::Result<(BuiltClass, Lock), CommandError> {
    let spec = factory.spec()?;
    let lock = existing_lock(factory)?;
    let classes = vec![args.class.clone()];
    let (locked, jobs, boot) = (settings.is_ci, processors(), settings.boot.as_str());
    let built = build(factory, &spec, &lock, &BuildOptions { classes, locked, jobs, boot, cancel }, environment)?;
    if let Some(error) = failure(&built.failures) {
        return Err(error);
    }
    let class = built.classes.into_iter().find(|built| built.class == args.class);
    let missing = || CommandError::new(Kind::Internal, anyhow!("class {} was not built", args.class));
    Ok((class.ok_or_else(missing)?, lock))
}

/// Why an export failed.
enum Failed {
    Tree(TreeError),
    Export(TreeExportError),
    Command(CommandError),
}

fn export(
    args: &ExportArgs,
    built: &BuiltClass,
    lock: &Lock,
    cancel: &CancelToken,
    environment: &Environment<'_>,
) -> std::result::Result<TreeExported, Failed> {
    let locked = lock.classes.get(&args.class);
    let epoch = locked.map_or(0, |class| class.epoch.as_second());
    let distribution = locked.and_then(|class| lock.distributions.get(&class.distribution));
    let tree = ClassTree::read(&built.layers, epoch).map_err(Failed::Tree)?;
    let export = TreeExport {
        class: &args.class,
        architecture: distribution.map_or("", |distribution| &distribution.architecture),
        tree: &tree,
        identity: Identity::of_caller().map_err(|error| Failed::Command(error.into()))?,
        format: args.format.into(),
        force: args.force,
        threads: processors(),
        cancel,
    };
    environment.report.event(Event::PhaseStarted { phase: format!("writing class {}", args.class) });
    let exported = match args.output == STANDARD_OUTPUT {
        true => export.stream_to(&mut std::io::stdout()),
        false => export.write_to(&args.output),
    };
    exported.map_err(Failed::Export)
}

impl Failed {
    /// The error that a person sees. A layer that turned out to be damaged is given up, so that it is built again.
    fn into_error(
        self,
        layers: Vec<Arc<LayerUse>>,
        settings: &Settings,
        environment: &Environment<'_>,
    ) -> CommandError {
        // As long as it is used it stays.
        drop(layers);
        let damaged = match &self {
            Self::Tree(TreeError::Damaged { layer, .. }) | Self::Export(TreeExportError::Damaged { layer, .. }) => {
                environment.store.layers(&settings.boot).discard(layer).ok()
            }
            _ => None,
        };
        let error = match self {
            Self::Tree(error) => error.into(),
            Self::Export(error) => error.into(),
            Self::Command(error) => error,
        };
        match damaged {
            Some(true) => error.with_hint("the layer has been removed; the same command builds it again"),
            _ => error,
        }
    }
}

impl From<Format> for TreeFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Tar => Self::Tar,
            Format::Oci => Self::Oci,
            Format::Dir => Self::Directory,
        }
    }
}

fn result<'a>(args: &'a ExportArgs, tree: &TreeFacts, exported: &'a TreeExported, took_ms: u64) -> Result<'a> {
    Result {
        class: &args.class,
        format: args.format,
        output: &args.output,
        tree: tree.digest,
        size_bytes: exported.size_bytes,
        digest: exported.digest,
        remove_with: exported.remove_with.as_deref(),
        took_ms,
    }
}

fn describe(args: &ExportArgs, tree: &TreeFacts, exported: &TreeExported, started: Instant) -> String {
    let what = match args.format {
        Format::Tar => "tar archive",
        Format::Oci => "OCI image",
        Format::Dir => "directory",
    };
    let (output, size, took) = (&args.output, bytes(exported.size_bytes), seconds(started.elapsed()));
    let digest = exported.digest.map(|digest| format!(", sha256:{digest}")).unwrap_or_default();
    let mut text = format!("{output}: {what}, {size}{digest}, in {took}\ntree sha256:{}", tree.digest);
    if let Some(command) = &exported.remove_with {
        text.push_str(&format!("\nits files belong to your subordinate ids; to remove it: {command}"));
    }
    text
}
