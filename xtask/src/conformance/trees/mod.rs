//! Trees, compared with mmdebstrap's from the same packages.
//!
//! 1. Every set of packages is locked and fetched; a directory is written that serves all of it as a mirror.
//! 2. mmdebstrap makes a tree from a repository of exactly the locked packages ([`mod@reference`]), twice, so that what it
//!    makes otherwise each time is known. What it made is remembered as long as packages and tool are the same.
//! 3. Kiln builds the same from the lock, in a store that is empty at first, and exports it ([`kiln`]).
//! 4. Both archives are read by the same reader ([`manifest`]) and compared in every property but times ([`compare`]).
//!    What differs must be allowed by a rule with a reason ([`rules`]); a rule that nothing needs is a failure too.
//! 5. Both trees are unpacked, and their own programs are asked about them ([`examine`]).
//! 6. One set is locked and built from two mirrors with the same content: the bytes must be the same.

mod accounts;
mod compare;
mod examine;
pub(super) mod kiln;
mod manifest;
mod reference;
mod report;
mod rules;
mod sets;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_model::digest::Sha256;

use crate::oracle::{Mmdebstrap, Workshop, printed};
use crate::say;
use examine::Unpacked;
use kiln::Kiln;
use manifest::Manifest;
use reference::{Peer, Reference};
use report::{Case, Report};
use sets::{ONE_MORE, PEER_CLASS, SETS, Set, class};

pub(crate) use report::rules_page;

/// Which trees are compared, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this set of packages, by its name; may be given again.
    #[arg(long = "set", value_name = "NAME")]
    named: Vec<String>,
    /// The binary that is judged; the one beside this program if not given.
    #[arg(long, value_name = "FILE")]
    pub(super) kiln: Option<Utf8PathBuf>,
    /// Where trees are made: some gigabytes, best in memory.
    #[arg(long, value_name = "DIR")]
    pub(super) scratch: Option<Utf8PathBuf>,
}

/// The suite whose mmdebstrap it is.
const PEER_SUITE: &str = "trixie";

/// Where Linux has files in memory, for programs.
const SHARED_MEMORY: &str = "/dev/shm";

/// Compares, writes the report, and fails if anything is not as it should be.
pub(super) fn run(workshop: &Workshop, suites: &[String], quick: bool, options: &Options) -> anyhow::Result<()> {
    let chosen = choose(suites, &options.named, quick)?;
    let program = options.kiln.clone().map_or_else(beside, Ok)?;
    let spec = sets::spec(&chosen, PEER_SUITE);
    let lock = workshop.provide(&spec)?;
    let mirror = workshop.directory().join("mirror");
    workshop.export(&lock, &mirror)?;
    let scratch = scratch(options.scratch.as_deref())?;
    let directory = Utf8Path::from_path(scratch.path()).context("the name of a temporary directory is text")?;
    let mmdebstrap = Mmdebstrap::new(workshop.unpack(&lock, PEER_CLASS)?)?;
    let peer = Peer::new(workshop, &lock, mmdebstrap, directory)?;
    let mut report = Report::new(&peer.mmdebstrap.version);
    for suite in suites {
        // One store for the sets of a suite: they share their essential set, as classes do.
        let kiln = Kiln { program: &program, directory: directory.join(suite), mirror: &mirror };
        for (_, set) in chosen.iter().filter(|(of, _)| of == suite) {
            // Anew each time: ids that a lock gives out for one class hold for all.
            kiln.prepare(&spec, Some(&lock))?;
            report.cases.push(compare_one(&peer, &kiln, suite, set, quick)?);
        }
        let removed = kiln.remove();
        removed.with_context(|| format!("remove Kiln's store of {suite}"))?;
    }
    if !quick {
        let class = chosen.first().map(|(suite, set)| class(suite, set.name)).context("there is a set")?;
        report.complaints.extend(compare_mirrors(&program, &spec, &class, &mirror, directory)?);
    }
    let is_whole = !quick && options.named.is_empty() && suites.len() > 1;
    if is_whole {
        report.find_unused_rules();
    }
    finish(&report, &workshop.directory().join("trees.json"))
}

/// One set in one suite.
fn compare_one(peer: &Peer<'_>, kiln: &Kiln<'_>, suite: &str, set: &Set, quick: bool) -> anyhow::Result<Case> {
    let class = class(suite, set.name);
    say(&format!("comparing the tree of {class}"));
    let references = peer.references(suite, set, if quick { 1 } else { 2 })?;
    let first = references.first().context("mmdebstrap made a tree")?;
    let mut case = match judge(peer, kiln, suite, &class, first) {
        Ok(case) => case,
        // The other sets are worth knowing about too.
        Err(error) => Case::failed(&class, format!("{error:#}")),
    };
    references.get(1).into_iter().for_each(|second| case.judge_peer(&first.manifest, &second.manifest));
    say(&case.to_string());
    Ok(case)
}

/// Builds the class with Kiln and compares it with the reference.
fn judge(peer: &Peer<'_>, kiln: &Kiln<'_>, suite: &str, class: &str, reference: &Reference) -> anyhow::Result<Case> {
    let archive = peer.directory.join("kiln.tar");
    let started = Instant::now();
    kiln.archive(class, &archive)?;
    let took_ms = started.elapsed().as_millis();
    let manifest = read(&archive)?;
    let unpacked = Unpacked::new(&archive, &peer.directory.join("kiln"))?;
    fs::remove_file(&archive)?;
    let answers = unpacked.answers()?;
    let one_more =
        peer.with_repository(&sets::class(suite, ONE_MORE), |repository| unpacked.install_one_more(repository));
    unpacked.remove()?;
    let mut complaints = examine::compare(&answers, &reference.answers);
    complaints.extend(one_more.err().map(|error| format!("{error:#}")));
    Ok(Case::new(class, &manifest, &reference.manifest, complaints, took_ms))
}

/// Locks and builds one class from two mirrors with the same content; says so if the trees are not the same bytes.
fn compare_mirrors(
    program: &Utf8Path,
    spec: &str,
    class: &str,
    mirror: &Utf8Path,
    directory: &Utf8Path,
) -> anyhow::Result<Option<String>> {
    say(&format!("building {class} from two mirrors with the same content"));
    let second = directory.join("second-mirror");
    printed(Command::new("cp").args(["--archive", mirror.as_str(), second.as_str()]))?;
    let digest = |mirror: &Utf8Path| -> anyhow::Result<Sha256> {
        let kiln = Kiln { program, directory: directory.join("mirrored"), mirror };
        kiln.prepare(spec, None)?;
        kiln.lock()?;
        let archive = directory.join("mirrored.tar");
        kiln.archive(class, &archive)?;
        let digest = Sha256::of(&fs::read(&archive)?);
        fs::remove_file(&archive)?;
        kiln.remove()?;
        Ok(digest)
    };
    let digests = [digest(mirror)?, digest(&second)?];
    let differ = format!("{class} has other bytes from another mirror with the same content");
    Ok((digests[0] != digests[1]).then_some(differ))
}

fn read(archive: &Utf8Path) -> anyhow::Result<Manifest> {
    let file = std::io::BufReader::with_capacity(1 << 20, fs::File::open(archive)?);
    Manifest::read(file).with_context(|| format!("read {archive}"))
}

fn finish(report: &Report, path: &Utf8Path) -> anyhow::Result<()> {
    fs::write(path, serde_json::to_string_pretty(report)? + "\n")?;
    say(&format!("{report}\nthe whole report is in {path}"));
    match report.failures() {
        0 => Ok(()),
        count => bail!("{count} things about trees are not as they should be"),
    }
}

/// The sets of each suite.
fn choose(suites: &[String], names: &[String], quick: bool) -> anyhow::Result<Vec<(String, Set)>> {
    let known: BTreeSet<&str> = SETS.iter().map(|set| set.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        bail!("there is no set `{unknown}`; there are {}", known.into_iter().collect::<Vec<_>>().join(", "));
    }
    let all = suites.iter().flat_map(|suite| SETS.iter().map(move |set| (suite.clone(), *set)));
    Ok(all.filter(|(suite, set)| set.is_wanted(suite, names, quick)).collect())
}

/// `kiln` of the same build as this program.
pub(super) fn beside() -> anyhow::Result<Utf8PathBuf> {
    let program = Utf8PathBuf::try_from(std::env::current_exe()?)?;
    let kiln = program.with_file_name("kiln");
    if !kiln.exists() {
        bail!("there is no {kiln}: `cargo build --package kiln` makes it");
    }
    Ok(kiln)
}

/// A directory for trees, in memory if there is any to be had by files.
pub(super) fn scratch(wanted: Option<&Utf8Path>) -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("kiln-conformance-");
    match wanted {
        Some(directory) => builder.tempdir_in(directory),
        None => builder.tempdir_in(SHARED_MEMORY).or_else(|_| builder.tempdir()),
    }
    .context("make a directory for trees")
}
