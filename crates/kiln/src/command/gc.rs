//! `kiln gc`: removes from the store what no factory, failed tree or running process refers to, and says why.

use std::io;

use camino::Utf8Path;
use kiln_build::Environment;
use kiln_build::gc::{Freed, GcPlan, Group, Share, carry_out, gather, plan};
use kiln_model::event::Event;
use kiln_sandbox::{Identity, layer};
use serde::Serialize;

use crate::error::CommandError;
use crate::output::{Output, bytes, count};
use crate::settings::Settings;

/// Remove from the store what nothing refers to any more.
///
/// What stays: everything that the kiln.lock of a factory names which used this store, the last build of each of its
/// classes, failed trees and unfinished downloads for a week, and whatever a running kiln uses. Another branch's lock does
/// not count: what it names is fetched again when it is needed; `kiln fetch --to DIR` keeps it for ever.
#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Say what would go and what would stay, and why; remove nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Result {
    dry_run: bool,
    freed_things: u64,
    freed_bytes: u64,
    /// Things that were to go and are in use meanwhile.
    spared_things: u64,
    kept_bytes: u64,
    groups: Vec<Part>,
}

/// Things of one group that share their fate and the reason for it.
#[derive(Serialize)]
struct Part {
    group: &'static str,
    goes: bool,
    count: u64,
    size_bytes: u64,
    reason: String,
}

/// Runs the verb.
///
/// # Errors
/// If the store cannot be read or changed.
pub(crate) fn run(
    args: &GcArgs,
    settings: &Settings,
    environment: &Environment<'_>,
    output: &Output,
) -> std::result::Result<(), CommandError> {
    let Environment { store, report, now, .. } = *environment;
    let layers = store.layers(&settings.boot);
    report.event(Event::PhaseStarted { phase: "looking through the store".to_owned() });
    let alone = store.alone()?;
    let plan = plan(&gather(store, &layers, alone.is_none(), now)?);
    let freed = if args.dry_run {
        Freed {
            count: plan.verdicts.iter().filter(|verdict| verdict.goes).count() as u64,
            size_bytes: plan.freed_bytes(),
            spared: 0,
        }
    } else {
        report.event(Event::PhaseStarted { phase: "removing".to_owned() });
        carry_out(&plan, store, &layers, alone, &remove)?
    };
    let result = result(args.dry_run, &plan, freed);
    output.result("gc", &result, &describe(&plan, &result));
    Ok(())
}

/// As the user where that is enough; what belongs to the user's subordinate ids needs their root.
fn remove(path: &Utf8Path) -> io::Result<()> {
    match fs_err::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let identity = Identity::of_caller().map_err(io::Error::other)?;
            layer::remove_tree(path, identity).map_err(io::Error::other)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn result(dry_run: bool, plan: &GcPlan, freed: Freed) -> Result {
    let part = |share: &Share| Part {
        group: noun(share.group).1,
        goes: share.goes,
        count: share.count,
        size_bytes: share.size_bytes,
        reason: share.reason.to_string(),
    };
    Result {
        dry_run,
        freed_things: freed.count,
        freed_bytes: freed.size_bytes,
        spared_things: freed.spared,
        kept_bytes: plan.verdicts.iter().filter(|verdict| !verdict.goes).map(|verdict| verdict.size_bytes).sum(),
        groups: plan.shares().iter().map(part).collect(),
    }
}

/// Each group on a line for what goes and one for what stays, and the sum.
fn describe(plan: &GcPlan, result: &Result) -> String {
    let shares = plan.shares();
    let fate = |goes| match (goes, result.dry_run) {
        (true, true) => "would go",
        (true, false) => "freed",
        (false, _) => "kept",
    };
    let mut text = String::new();
    for same in shares.chunk_by(|left, right| (left.group, left.goes) == (right.group, right.goes)) {
        text.push_str(&line(same, fate(same.first().is_some_and(|share| share.goes))));
    }
    let would = if result.dry_run { "would free" } else { "freed" };
    text.push_str(&format!("{would} {}, kept {}", bytes(result.freed_bytes), bytes(result.kept_bytes)));
    if result.spared_things > 0 {
        text.push_str(&format!("; {} came into use meanwhile", count(result.spared_things, "thing")));
    }
    text
}

/// `layers: 12 freed (1.20 GB): 3 of class web, replaced by newer builds; 9 of class db, which no known factory has`.
fn line(shares: &[Share], fate: &str) -> String {
    let Some(Share { group, .. }) = shares.first() else { return String::new() };
    let total: u64 = shares.iter().map(|share| share.count).sum();
    let size_bytes: u64 = shares.iter().map(|share| share.size_bytes).sum();
    let size = if size_bytes == 0 { String::new() } else { format!(" ({})", bytes(size_bytes)) };
    let (one, many) = noun(*group);
    let noun = if total == 1 { one } else { many };
    // A factory's reason is the factory itself.
    let is_counted = shares.len() > 1 && *group != Group::Factories;
    let reason = |share: &Share| match is_counted {
        true => format!("{} {}", share.count, share.reason),
        false => share.reason.to_string(),
    };
    let reasons: Vec<String> = shares.iter().map(reason).collect();
    format!("{noun}: {total} {fate}{size}: {}\n", reasons.join("; "))
}

fn noun(group: Group) -> (&'static str, &'static str) {
    match group {
        Group::Factories => ("factory", "factories"),
        Group::Builds => ("last build", "last builds"),
        Group::Files => ("file", "files"),
        Group::Unpacked => ("unpacked package", "unpacked packages"),
        Group::Indexes => ("parsed index", "parsed indexes"),
        Group::Shortcuts => ("shortcut", "shortcuts"),
        Group::Layers => ("layer", "layers"),
        Group::Failed => ("failed tree", "failed trees"),
        Group::Partial => ("unfinished download", "unfinished downloads"),
        Group::Damaged => ("damaged file", "damaged files"),
    }
}
