//! Trees: the shop's class `web` and its parent, against mmdebstrap on the same packages and the same file system.
//!
//! *From nothing* means that the `.deb` files are there and nothing else: each run has a store of its own, into which
//! the packages were fetched before the time is taken. mmdebstrap gets a repository of the same files. What a run leaves
//! on a disk is removed when everything is measured: on some file systems a deletion slows down whatever comes next.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_build::factory::{Factory, SPEC_FILE};
use kiln_model::lock::Lock;
use kiln_sandbox::{Identity, layer};
use kiln_store::Store;
use serde::Serialize;
use serde_json::Value;

use super::figures::Figure;
use super::machine;
use super::measure::{self, Comparison, Pace, median, milliseconds, time};
use super::shop::{Bench, CLASS, MMDEBSTRAP, copy_shop, kiln_command};
use crate::oracle::{Format, Mmdebstrap, Order, Stanzas, printed};

/// What is measured of trees on one file system.
#[derive(Debug, Serialize)]
pub(super) struct Trees {
    file_system: String,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) figures: Vec<Figure>,
    /// What a build from nothing spends its time on, in milliseconds; parts overlap where threads do.
    pub(super) parts_ms: BTreeMap<String, f64>,
}

/// Both sides, ready to make trees.
pub(super) struct Sides<'a> {
    bench: &'a Bench,
    /// The shop with some more classes.
    factory: Utf8PathBuf,
    lock: Lock,
    pub(super) mmdebstrap: Mmdebstrap,
    /// Serves the lock to Kiln.
    mirror: Utf8PathBuf,
    /// Serves the same packages to mmdebstrap.
    repository: Utf8PathBuf,
}

/// A directory on one file system, in which all runs take place.
struct Place<'a> {
    sides: &'a Sides<'a>,
    directory: Utf8PathBuf,
    /// Whether what runs leave is removed at once: where memory is short and deleting costs nothing.
    is_memory: bool,
}

/// The class that has nothing but the essential set: another one of the same distribution.
const ESSENTIAL: &str = "essential";
/// The class that adds one small package.
const ONE_MORE: (&str, &str) = ("more", "sudo");
/// How many similar classes there are.
const SIMILAR: usize = 10;

/// What the classes that are measured have besides the shop's own.
fn additions() -> String {
    let (class, package) = ONE_MORE;
    let mut spec = format!(
        "\n[[class.web.step]]\ncopy = \"last\"\nto = \"/srv/last\"\n\
         [class.{ESSENTIAL}]\ndistribution = \"trixie\"\n[class.{class}]\nfrom = \"web\"\npackages = [\"{package}\"]\n"
    );
    for number in 0..SIMILAR {
        spec.push_str(&format!(
            "[class.similar{number}]\nfrom = \"web\"\npackages = [\"{}\"]\n\
             [[class.similar{number}.step]]\nshell = \"echo {number} > /etc/number\"\n",
            ["less", "sudo", "file", "tree"][number % 4]
        ));
    }
    spec
}

impl<'a> Sides<'a> {
    /// Copies the shop, locks it, and writes a mirror for Kiln and a repository for mmdebstrap.
    pub(super) fn prepare(bench: &'a Bench) -> anyhow::Result<Self> {
        let factory = bench.directory.join("shop-trees");
        copy_shop(&factory)?;
        let path = factory.join(SPEC_FILE);
        fs::write(&path, fs::read_to_string(&path)? + &additions())?;
        fs::create_dir_all(factory.join("last"))?;
        fs::write(factory.join("last/file"), "0\n")?;
        let mmdebstrap = Mmdebstrap::new(bench.workshop.unpack(&bench.tools, MMDEBSTRAP)?)?;
        let (mirror, repository) = (bench.directory.join("mirror"), bench.directory.join("repository"));
        printed(&mut kiln_command(&bench.kiln, &factory, "lock", &bench.store()))?;
        printed(kiln_command(&bench.kiln, &factory, "fetch", &bench.store()).args(["--to", mirror.as_str()]))?;
        let lock = Factory::new(&factory).lock()?.context("find the lock that kiln wrote")?;
        let sides = Self { bench, factory, lock, mmdebstrap, mirror, repository };
        sides.write_repository()?;
        Ok(sides)
    }

    fn write_repository(&self) -> anyhow::Result<()> {
        if self.repository.exists() {
            fs::remove_dir_all(&self.repository)?;
        }
        let distribution = self.lock.distributions.get("trixie").context("find trixie in the lock")?;
        let store = Store::open(&self.bench.store().join("kiln"))?;
        Stanzas::load(&self.bench.workshop, distribution)?.write(&store, &self.lock, CLASS, &self.repository)
    }

    /// Measures everything on the file system of `directory`, which must not exist.
    pub(super) fn measure(&self, directory: &Utf8Path, is_memory: bool, pace: Pace) -> anyhow::Result<Trees> {
        fs::create_dir_all(directory)?;
        let place = Place { sides: self, directory: directory.to_owned(), is_memory };
        let measured = place.measure(pace);
        let removed = layer::remove_tree(directory, Identity::of_caller()?);
        let measured = measured?;
        removed.with_context(|| format!("remove {directory}"))?;
        Ok(measured)
    }
}

impl Place<'_> {
    fn measure(&self, pace: Pace) -> anyhow::Result<Trees> {
        let plain = self.build_from_nothing(pace, "mmdebstrap", 0.4, &[])?;
        let without_initrd = self.build_from_nothing(pace, "mmdebstrap with INITRD=No", 1.0, &[("INITRD", "No")])?;
        let (mut figures, parts_ms) = self.caches(pace)?;
        figures.extend(self.memory()?);
        figures.extend(self.similar_classes()?);
        let file_system = machine::file_system_of(&self.directory)?;
        Ok(Trees { file_system, comparisons: vec![plain, without_initrd], figures, parts_ms })
    }

    fn build_from_nothing(
        &self,
        pace: Pace,
        peer: &str,
        goal_ratio: f64,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Comparison> {
        let kiln = |run: usize| {
            let store = self.store(&format!("kiln-{}-{run}", environment.len()))?;
            let took = time(&mut self.build(&store, CLASS))?;
            self.forget(&store)?;
            Ok(took)
        };
        let mmdebstrap = |run: usize| {
            let out = self.directory.join(format!("peer-{}-{run}", environment.len()));
            fs::create_dir(&out)?;
            let took = self.sides.mmdebstrap.make(&self.order(&out, environment))?;
            self.forget(&out)?;
            Ok(took)
        };
        pace.compare("tree from nothing", peer, goal_ratio, kiln, mmdebstrap)
    }

    fn order<'o>(&'o self, out: &'o Utf8Path, environment: &'o [(&'o str, &'o str)]) -> Order<'o> {
        let epoch = self.sides.lock.classes.get(CLASS).map_or(0, |class| class.epoch.as_second());
        Order {
            suite: "trixie",
            architecture: "amd64",
            repository: &self.sides.repository,
            include: self.sides.bench.requests.clone(),
            epoch,
            environment,
            out,
            format: Format::Directory,
        }
    }

    /// What each kind of cache leaves to be done.
    fn caches(&self, pace: Pace) -> anyhow::Result<(Vec<Figure>, BTreeMap<String, f64>)> {
        let mut rows: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut parts: Vec<BTreeMap<String, f64>> = Vec::new();
        for run in 0..pace.runs {
            let store = self.store(&format!("cache-{run}"))?;
            let mut add = |what: &'static str, took: Duration| rows.entry(what).or_default().push(milliseconds(took));
            parts.push(parts_of(&mut self.build(&store, CLASS))?);
            self.set_layers_aside(&store, run)?;
            add("unpacked packages there", time(&mut self.build(&store, CLASS))?);
            add("nothing changed", time(&mut self.build(&store, CLASS))?);
            fs::write(self.sides.factory.join("last/file"), format!("{run} {:?}\n", Instant::now()))?;
            add("one file of the last step changed", time(&mut self.build(&store, CLASS))?);
            let started = Instant::now();
            let own = own_scripts_ms(&parts_of(&mut self.build(&store, ONE_MORE.0))?);
            let beyond = (milliseconds(started.elapsed()) - own).max(0.0);
            add("one small package more, beyond its own scripts", Duration::from_secs_f64(beyond / 1000.0));
            self.forget(&store)?;
            let store = self.store(&format!("essential-{run}"))?;
            time(&mut self.build(&store, ESSENTIAL))?;
            add("essential set there", time(&mut self.build(&store, CLASS))?);
            self.forget(&store)?;
        }
        let goal = |what: &str| match what {
            "nothing changed" => Some(200.0),
            "one file of the last step changed" => Some(300.0),
            "one small package more, beyond its own scripts" => Some(1000.0),
            _ => None,
        };
        let figures = rows.iter().map(|(what, times)| Figure::new(what, median(times), "ms", goal(what)));
        Ok((figures.collect(), medians(&parts)))
    }

    /// The most memory that is in use while a tree is made, by whatever process and by files in memory.
    fn memory(&self) -> anyhow::Result<Vec<Figure>> {
        let store = self.store("memory")?;
        let (kiln, built) = measure::memory_in_use(|| printed(&mut self.build(&store, CLASS)))?;
        built?;
        self.forget(&store)?;
        let out = self.directory.join("peer-memory");
        fs::create_dir(&out)?;
        let (peer, made) = measure::memory_in_use(|| self.sides.mmdebstrap.make(&self.order(&out, &[])))?;
        made?;
        self.forget(&out)?;
        let figure = |what: &str, bytes: u64| Figure::new(what, bytes as f64 / 1e6, "MB", None);
        Ok(vec![figure("memory in use, Kiln", kiln), figure("memory in use, mmdebstrap", peer)])
    }

    /// How much ten classes that are nearly the same take, against the first.
    fn similar_classes(&self) -> anyhow::Result<Vec<Figure>> {
        let store = self.store("similar")?;
        let before = occupied(&store)?;
        time(&mut self.build(&store, "similar0"))?;
        let one = occupied(&store)?.saturating_sub(before);
        for number in 1..SIMILAR {
            time(&mut self.build(&store, &format!("similar{number}")))?;
        }
        let all = occupied(&store)?.saturating_sub(before);
        self.forget(&store)?;
        let figure = |what: String, bytes: u64| Figure::new(&what, bytes as f64 / 1e6, "MB", None);
        Ok(vec![figure("store, one class".to_owned(), one), figure(format!("store, {SIMILAR} similar classes"), all)])
    }

    /// A store that has the packages and nothing else.
    fn store(&self, name: &str) -> anyhow::Result<Utf8PathBuf> {
        let store = self.directory.join(name);
        printed(self.kiln("fetch", &store).arg("--no-toolbox"))?;
        Ok(store)
    }

    fn build(&self, store: &Utf8Path, class: &str) -> Command {
        let mut command = self.kiln("build", store);
        command.args([class, "--tree-only", "--no-locked", "--offline"]);
        command
    }

    fn kiln(&self, verb: &str, store: &Utf8Path) -> Command {
        let Sides { bench, factory, mirror, .. } = self.sides;
        let mut command = kiln_command(&bench.kiln, factory, verb, store);
        command.env("KILN_MIRROR", format!("file://{mirror}"));
        command
    }

    /// Removes what is no longer needed, unless that would disturb what comes next.
    fn forget(&self, path: &Utf8Path) -> anyhow::Result<()> {
        if self.is_memory {
            layer::remove_tree(path, Identity::of_caller()?)?;
        }
        Ok(())
    }

    /// Takes the layers out of a store, and leaves what was unpacked.
    fn set_layers_aside(&self, store: &Utf8Path, run: usize) -> anyhow::Result<()> {
        for name in LAYERS {
            let path = store.join("kiln").join(name);
            ensure!(path.exists(), "the store has no {name}");
            fs::rename(path, self.directory.join(format!("aside-{run}-{name}")))?;
        }
        Ok(())
    }
}

/// The directories of a store that hold layers.
const LAYERS: &[&str] = &["layer", "stage"];

/// Runs a build with its events; how long each part took, in milliseconds.
fn parts_of(command: &mut Command) -> anyhow::Result<BTreeMap<String, f64>> {
    sum_parts(&printed(command.arg("--json").stdin(Stdio::null()))?)
}

/// The time of each part, over all stages.
fn sum_parts(events: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut parts = BTreeMap::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("read the event {line}"))?;
        if event["event"] == "stage-part"
            && let (Some(part), Some(took_us)) = (event["part"].as_str(), event["took_us"].as_f64())
        {
            *parts.entry(part.to_owned()).or_default() += took_us / 1000.0;
        }
    }
    Ok(parts)
}

/// What the distribution's own scripts took.
fn own_scripts_ms(parts: &BTreeMap<String, f64>) -> f64 {
    let is_own = |part: &str| part == "preinst" || part == "configure";
    parts.iter().filter(|(part, _)| is_own(part)).map(|(_, took)| took).sum()
}

fn medians(runs: &[BTreeMap<String, f64>]) -> BTreeMap<String, f64> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (part, took) in runs.iter().flatten() {
        all.entry(part.clone()).or_default().push(*took);
    }
    all.into_iter().map(|(part, times)| (part, (median(&times) * 1000.0).round() / 1000.0)).collect()
}

/// Bytes on the disk of all below a directory, each file once.
fn occupied(directory: &Utf8Path) -> anyhow::Result<u64> {
    let printed = printed(Command::new("du").args(["--summarize", "--block-size=1", directory.as_str()]))?;
    let first = printed.split_whitespace().next().unwrap_or_default();
    first.parse().with_context(|| format!("read what du says of {directory}"))
}

/// Parts that took less are not shown.
const SHOWN_MS_MIN: f64 = 20.0;

impl fmt::Display for Trees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {}", self.file_system)?;
        self.comparisons.iter().try_for_each(|comparison| write!(f, "\n{comparison}"))?;
        self.figures.iter().try_for_each(|figure| write!(f, "\n{figure}"))?;
        let mut parts: Vec<(&String, &f64)> = self.parts_ms.iter().filter(|(_, took)| **took >= SHOWN_MS_MIN).collect();
        parts.sort_by(|left, right| right.1.total_cmp(left.1));
        parts.iter().try_for_each(|(part, took)| write!(f, "\n  {part:42} {took:>10.0} ms"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_summed_from_events() {
        let events = "{\"event\":\"stage-part\",\"part\":\"place\",\"took_us\":1500}\n\
                      {\"event\":\"stage-part\",\"part\":\"place\",\"took_us\":500}\n{\"event\":\"other\"}\n";
        assert_eq!(sum_parts(events).unwrap(), BTreeMap::from([("place".to_owned(), 2.0)]));
        assert!(sum_parts("no event").is_err());
    }

    #[test]
    fn medians_of_parts() {
        let run = |took: f64| BTreeMap::from([("place".to_owned(), took)]);
        assert_eq!(medians(&[run(1.0), run(3.0), run(2.0)]), run(2.0));
    }
}
