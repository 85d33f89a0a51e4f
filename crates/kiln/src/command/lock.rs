//! `kiln lock`: `kiln.toml` becomes `kiln.lock`; what changes is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::anyhow;
use camino::Utf8Path;
use kiln_build::Environment;
use kiln_build::change::{Changes, PackageChange, PackageState, changes, tools_label};
use kiln_build::factory::Factory;
use kiln_build::lock::{self, Examination, Explanation, LockOptions, Update};
use kiln_model::digest::Sha256;
use kiln_model::lock::{Lock, LockedPackage};
use serde::Serialize;

use super::existing_lock;
use crate::error::{CommandError, Kind};
use crate::output::{Output, bytes, count, table};

/// Write kiln.lock: the exact packages, indexes and downloads that kiln.toml asks for.
///
/// A lock that fits its spec is left alone, and nothing is asked of the network. When the spec has changed, locked
/// versions are kept wherever they still answer it.
#[derive(Debug, clap::Args)]
pub(crate) struct LockArgs {
    /// Take newer versions from newer indexes: of these packages (or all of a source package), or of every package.
    #[arg(long, value_name = "PACKAGE", num_args = 0.., conflicts_with_all = ["check", "list"])]
    update: Option<Vec<String>>,
    /// With --update: only what the security suite changed.
    #[arg(long, requires = "update")]
    security: bool,
    /// Change nothing; exit 1 and say why if the lock no longer fits the spec or the files it names.
    #[arg(long, conflicts_with_all = ["dry_run", "list"])]
    check: bool,
    /// Show what would change; write nothing.
    #[arg(long, conflicts_with = "list")]
    dry_run: bool,
    /// Accept indexes older than the lock's: a mirror that was rolled back, or an attack.
    #[arg(long, conflicts_with_all = ["check", "list", "why"])]
    allow_older: bool,
    /// List the locked packages of a class with its parents' (or of every class, with its steps' tools), in the order
    /// they are installed.
    #[arg(long, value_name = "CLASS", num_args = 0..=1)]
    list: Option<Option<String>>,
    /// Say what brought a package into each class that has it.
    #[arg(long, value_name = "PACKAGE", conflicts_with_all = ["update", "check", "dry_run", "list"])]
    why: Option<String>,
}

#[derive(Serialize)]
struct Locked<'a> {
    written: bool,
    changes: &'a Changes,
    classes: Vec<Summary>,
}

/// One row of what a lock holds.
#[derive(Serialize)]
struct Summary {
    class: String,
    from: Option<String>,
    packages: usize,
    size_bytes: u64,
    epoch: Option<jiff::Timestamp>,
}

/// Runs the verb.
///
/// # Errors
/// If the spec or the lock is wrong, there is no answer, or the environment refuses.
pub(crate) fn run(
    args: &LockArgs,
    factory: &Utf8Path,
    environment: &Environment<'_>,
    output: &Output,
) -> Result<(), CommandError> {
    let factory = Factory::new(factory);
    let update = update(args)?;
    if let Some(class) = &args.list {
        return list(&existing_lock(&factory)?, class.as_deref(), output);
    }
    let spec = factory.spec()?;
    if let Some(package) = &args.why {
        return why(&lock::why(&factory, &spec, &existing_lock(&factory)?, package, environment)?, package, output);
    }
    if args.check {
        let lock = existing_lock(&factory)?;
        let reasons = lock::reasons(&factory, &spec, &lock, environment);
        return check(&lock::examine(&factory, &spec, &lock, environment), &reasons, output);
    }
    let claim = factory.claim(environment.report)?;
    let old = factory.lock()?;
    let options = LockOptions { update, allow_older: args.allow_older };
    let new = match &old {
        Some(old) if args.update.is_none() && lock::reasons(&factory, &spec, old, environment).is_empty() => {
            old.clone()
        }
        _ => lock::lock(&factory, &spec, old.as_ref(), &options, environment)?,
    };
    let written = old.as_ref() != Some(&new) && !args.dry_run;
    if written {
        factory.write_lock(&claim, &new)?;
    }
    let changes = changes(old.as_ref(), &new);
    let result = Locked { written, changes: &changes, classes: summaries(&new) };
    output.result("lock", &result, &describe(old.as_ref(), &new, &changes, args.dry_run));
    Ok(())
}

fn update(args: &LockArgs) -> Result<Update, CommandError> {
    match (&args.update, args.security) {
        (None, _) => Ok(Update::Nothing),
        (Some(names), true) if names.is_empty() => Ok(Update::Security),
        (Some(names), false) if names.is_empty() => Ok(Update::Everything),
        (Some(names), false) => Ok(Update::Named(names.clone())),
        (Some(_), true) => Err(CommandError::new(Kind::Usage, anyhow!("--security takes no packages"))
            .with_hint("either --update --security, or --update PACKAGE")),
    }
}

fn check(examination: &Examination, reasons: &[lock::Reason], output: &Output) -> Result<(), CommandError> {
    let violations = examination.violations.iter().map(ToString::to_string);
    let lines: Vec<String> = reasons.iter().map(ToString::to_string).chain(violations).collect();
    let mut text = String::new();
    for unverified in &examination.unverified {
        let _ = writeln!(text, "not examined: {unverified}");
    }
    let result = serde_json::json!({ "reasons": lines, "examination": examination });
    if lines.is_empty() {
        let _ = write!(
            text,
            "kiln.lock fits kiln.toml; {} examined against their indexes",
            count(examination.verified as u64, "package")
        );
        output.result("lock-check", &result, &text);
        return Ok(());
    }
    output.result("lock-check", &result, &text);
    let error = anyhow!("kiln.lock does not fit:\n  {}", lines.join("\n  "));
    Err(CommandError::new(Kind::No, error)
        .with_hint("kiln lock brings it up to date; review what changes, then commit it"))
}

fn why(explanations: &[Explanation], package: &str, output: &Output) -> Result<(), CommandError> {
    let paragraph = |Explanation { class, chain }: &Explanation| {
        format!("{package} is in class {class}:\n  {}\n", chain.join("\n  "))
    };
    output.result("lock-why", &explanations, &explanations.iter().map(paragraph).collect::<String>());
    Ok(())
}

/// One locked package as `--list` shows it.
#[derive(Serialize)]
struct Listed<'a> {
    class: String,
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
    source: String,
    size_bytes: u64,
    sha256: Sha256,
}

impl<'a> Listed<'a> {
    fn new(class: &str, package: &'a LockedPackage) -> Self {
        let LockedPackage { name, version, architecture, size, sha256, .. } = package;
        let source = PackageState::of(package).source;
        Self { class: class.to_owned(), name, version, architecture, source, size_bytes: *size, sha256: *sha256 }
    }

    /// Whose it is comes first, where several are listed.
    fn row(&self, one_class: bool) -> Vec<String> {
        let Self { class, name, version, architecture, source, size_bytes, .. } = self;
        let class = (!one_class).then(|| class.clone());
        let texts = [*name, *version, *architecture].map(str::to_owned);
        class.into_iter().chain(texts).chain([bytes(*size_bytes), source.clone()]).collect()
    }
}

fn list(lock: &Lock, class: Option<&str>, output: &Output) -> Result<(), CommandError> {
    if let Some(class) = class.filter(|class| !lock.classes.contains_key(*class)) {
        let known = lock.classes.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(CommandError::new(Kind::Usage, anyhow!("kiln.lock has no class `{class}`"))
            .with_hint(format!("it has {known}")));
    }
    let wanted: Vec<String> = match class {
        Some(class) => lock.lineage(class).into_iter().map(str::to_owned).collect(),
        None => owners(lock).map(|(owner, _)| owner).collect(),
    };
    let held: BTreeMap<String, Vec<&LockedPackage>> = owners(lock).collect();
    let listed: Vec<Listed<'_>> = wanted
        .iter()
        .flat_map(|owner| held.get(owner).into_iter().flatten().map(|package| Listed::new(owner, package)))
        .collect();
    let rows: Vec<Vec<String>> = listed.iter().map(|listed| listed.row(class.is_some())).collect();
    output.result("lock-list", &listed, &table(&rows));
    Ok(())
}

/// Every class, its steps' tools and every toolbox, with the packages each holds itself.
fn owners(lock: &Lock) -> impl Iterator<Item = (String, Vec<&LockedPackage>)> {
    let classes = lock.classes.iter().flat_map(|(name, class)| {
        let tools: Vec<&LockedPackage> = class.tools.iter().flat_map(|tools| tools.waves.iter().flatten()).collect();
        let tools = (!tools.is_empty()).then(|| (tools_label(name), tools));
        std::iter::once((name.clone(), class.packages().collect())).chain(tools)
    });
    let toolboxes = lock.toolboxes.iter();
    classes.chain(toolboxes.map(|(name, toolbox)| (format!("toolbox.{name}"), toolbox.packages.iter().collect())))
}

fn summaries(lock: &Lock) -> Vec<Summary> {
    let summary = |(owner, packages): (String, Vec<&LockedPackage>)| {
        let class = lock.classes.get(&owner);
        Summary {
            from: class.and_then(|class| class.request.from.clone()),
            packages: packages.len(),
            size_bytes: packages.iter().map(|package| package.size).sum(),
            epoch: class.map(|class| class.epoch),
            class: owner,
        }
    };
    owners(lock).map(summary).collect()
}

/// What a person reads: the changes, then what the lock holds.
fn describe(old: Option<&Lock>, new: &Lock, changes: &Changes, dry_run: bool) -> String {
    let mut text = String::new();
    if old.is_some() {
        text.push_str(&describe_changes(changes));
    }
    let rows: Vec<Vec<String>> = summaries(new).iter().map(summary_row).collect();
    text.push_str(&table(&rows));
    text.push_str(match (old, changes.is_empty(), dry_run) {
        (_, true, _) if old == Some(new) => "kiln.lock is up to date",
        (_, _, true) => "dry run: kiln.lock was not written",
        _ => "wrote kiln.lock",
    });
    text
}

fn summary_row(summary: &Summary) -> Vec<String> {
    let from = summary.from.as_ref().map(|from| format!("from {from}")).unwrap_or_default();
    let epoch = summary.epoch.map(|epoch| format!("epoch {epoch}")).unwrap_or_default();
    let packages = count(summary.packages as u64, "package");
    vec![summary.class.clone(), from, packages, bytes(summary.size_bytes), epoch]
}

/// What a person reviews: packages first, then what is behind them.
fn describe_changes(changes: &Changes) -> String {
    let packages: Vec<Vec<String>> = changes.packages.iter().map(package_row).collect();
    let indexes = changes.indexes.iter().map(|index| {
        let mut row = move_row(&format!("index {}", index.name), index.from.as_ref(), index.to.as_ref());
        row.push(index.distributions.join(", "));
        row
    });
    let short = |digest: &Option<Sha256>| digest.map(|digest| format!("sha256 {:.12}", digest.to_string()));
    let downloads = changes.downloads.iter().map(|download| {
        let (from, to) = (short(&download.from), short(&download.to));
        move_row(&format!("download {}", download.url), from.as_ref(), to.as_ref())
    });
    let classes = changes
        .classes
        .iter()
        .map(|class| move_row(&format!("class {}", class.name), class.from.as_ref(), class.to.as_ref()));
    let others: Vec<Vec<String>> = indexes.chain(downloads).chain(classes).collect();
    table(&packages) + &table(&others)
}

fn package_row(change: &PackageChange) -> Vec<String> {
    let PackageChange { name, from, to, classes } = change;
    let version = |state: &Option<PackageState>| state.as_ref().map(|state| state.version.clone());
    let source = to.as_ref().or(from.as_ref()).map(|state| state.source.clone()).unwrap_or_default();
    let sign = sign(from.is_some(), to.is_some());
    let mut versions = arrow(version(from), version(to));
    let source = match (from, to) {
        (Some(from), Some(to)) if from.sha256 == to.sha256 => arrow(Some(from.source.clone()), Some(to.source.clone())),
        (Some(from), Some(to)) if from.version == to.version => {
            versions.push_str(" (other bytes)");
            source
        }
        _ => source,
    };
    vec![sign.to_owned(), name.clone(), versions, source, classes.join(", ")]
}

fn move_row(name: &str, from: Option<&impl ToString>, to: Option<&impl ToString>) -> Vec<String> {
    let sign = sign(from.is_some(), to.is_some());
    vec![sign.to_owned(), name.to_owned(), arrow(from.map(ToString::to_string), to.map(ToString::to_string))]
}

fn sign(before: bool, after: bool) -> &'static str {
    match (before, after) {
        (false, _) => "+",
        (true, false) => "-",
        (true, true) => "~",
    }
}

fn arrow(from: Option<String>, to: Option<String>) -> String {
    match (from, to) {
        (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
        (from, to) => to.or(from).unwrap_or_default(),
    }
}
