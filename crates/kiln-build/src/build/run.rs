//! The stages that are missing, each carried out once, as many at a time as are allowed.
//!
//! A worker takes the first stage of the plan whose parent is there. It looks for the layer once more, for a parent that was
//! just built may have one; becomes the only one who carries the stage out; does it; holds the ids that it made against the
//! lock; and keeps the layer. The stage with a step's tools is carried out on the way, by the worker that needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::SignedDuration;
use kiln_disk::{Change, Layer, Node, Tree};
use kiln_model::digest::Sha256;
use kiln_model::event::{Event, Report};
use kiln_model::lock::LockedPackage;
use kiln_sandbox::{Identity, Upper, layer};
use kiln_store::{FailedTree, LayerDraft, LayerFacts, LayerUse, Layers, MadeIds};

use super::ids::{self, Settled, SharedIds};
use super::{BuildError, BuildOptions, StageFailure, accounts, found, upper};

use crate::factory::Factory;
use crate::ids::Accounts;
use crate::package::{self, Unpacked};
use crate::stage::{Stage, StageId, Stages, Work};
use crate::tree::{self, TreeError};
use crate::workplace::{FixedIds, StageError, Watcher, Workplace};
use crate::{Environment, scan, step, tools};

/// How often a stage may run until its ids agree with the lock: collisions are found one run after the other.
const RUNS_MAX: usize = 4;

/// How soon who waits for a turn sees that the build is cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// After this the kernel has written a file to the disk by itself (vm.dirty_expire_centisecs is 30 s), give or take.
const WRITTEN_BACK: SignedDuration = SignedDuration::from_secs(60);

/// A build under way.
pub(super) struct Runner<'a> {
    /// The factory's directory, absolute.
    directory: Utf8PathBuf,
    plan: &'a Stages,
    needed: BTreeSet<StageId>,
    ids: SharedIds<'a>,
    options: &'a BuildOptions<'a>,
    environment: &'a Environment<'a>,
    layers: Layers<'a>,
    state: Mutex<State>,
    changed: Condvar,
    /// The layers of tools, by stage; held while one is made.
    tools: BTreeMap<StageId, Mutex<Option<Arc<LayerUse>>>>,
    /// The packages of the stages that are missing, being decompressed in the order in which they are needed.
    unpacked: Unpacked,
}

/// A layer that is there.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) layer: Arc<LayerUse>,
    /// How long it took to make, if it was made just now.
    pub(super) took: Option<Duration>,
}

/// What came of all stages.
pub(super) struct Outcome {
    pub(super) done: BTreeMap<StageId, Done>,
    /// The layers of tools that were needed.
    pub(super) tools: BTreeMap<StageId, Arc<LayerUse>>,
    pub(super) failures: Vec<StageFailure>,
    pub(super) new_ids: Vec<String>,
}

#[derive(Default)]
struct State {
    done: BTreeMap<StageId, Done>,
    /// Stages that failed, or whose parents did.
    lost: BTreeSet<StageId>,
    running: BTreeSet<StageId>,
    failures: Vec<StageFailure>,
    /// What ended the whole build.
    error: Option<BuildError>,
}

/// The packages that a stage installs, in order.
fn packages_of(stage: &Stage) -> impl Iterator<Item = &LockedPackage> {
    let waves = match &stage.work {
        Work::Packages(work) => &work.waves[..],
        Work::Step(_) => &[],
    };
    waves.iter().flatten()
}

/// Why a stage has no layer.
enum Stop {
    /// It failed, and the others go on.
    Failed(Box<StageFailure>),
    /// Nothing goes on.
    All(BuildError),
}

impl<E: Into<BuildError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::All(error.into())
    }
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        factory: &'a Factory,
        plan: &'a Stages,
        needed: BTreeSet<StageId>,
        found: BTreeMap<StageId, Arc<LayerUse>>,
        ids: SharedIds<'a>,
        options: &'a BuildOptions<'a>,
        environment: &'a Environment<'a>,
    ) -> Result<Self, BuildError> {
        let directory = factory.absolute()?;
        let tools = plan.stages.iter().filter_map(|stage| stage.tools).map(|id| (id, Mutex::default()));
        let done: BTreeMap<StageId, Done> =
            found.into_iter().map(|(id, layer)| (id, Done { layer, took: None })).collect();
        let missing = needed.iter().filter(|id| !done.contains_key(id)).filter_map(|id| plan.stages.get(*id));
        let tools_of = |stage: &Stage| stage.tools.and_then(|id| plan.stages.get(id));
        let with_tools = missing.flat_map(|stage| tools_of(stage).into_iter().chain([stage]));
        let packages = with_tools.flat_map(packages_of).cloned();
        let unpacked = Unpacked::start(environment.store, packages, threads().saturating_sub(1).max(1));
        Ok(Self {
            directory,
            plan,
            needed,
            ids,
            options,
            environment,
            layers: environment.store.layers(options.boot),
            state: Mutex::new(State { done, ..State::default() }),
            changed: Condvar::new(),
            tools: tools.collect(),
            unpacked,
        })
    }

    /// Carries out whatever is missing.
    pub(super) fn run(self) -> Result<Outcome, BuildError> {
        self.settle_found();
        let missing = self.needed.len() - self.state().done.len();
        if missing > 0 && self.state().error.is_none() {
            let identity = Identity::of_caller()?;
            self.tidy(identity);
            let workers = self.options.jobs.clamp(1, missing);
            std::thread::scope(|scope| {
                for _ in 1..workers {
                    scope.spawn(|| self.work(identity));
                }
                self.work(identity);
            });
        }
        let new_ids = self.ids.added();
        let tools = self.tools.into_iter();
        let tools =
            tools.filter_map(|(id, held)| Some((id, held.into_inner().unwrap_or_else(PoisonError::into_inner)?)));
        let tools = tools.collect();
        let State { done, failures, error, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => Err(error),
            None => Ok(Outcome { done, tools, failures, new_ids }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids of layers that were there are held against the lock first, in the order of the plan.
    fn settle_found(&self) {
        let found: Vec<(StageId, Done)> = self.state().done.iter().map(|(id, done)| (*id, done.clone())).collect();
        for (id, done) in found {
            let Some(stage) = self.plan.stages.get(id) else { continue };
            let stop = match self.settle_cached(id, stage, &done.layer) {
                Ok(true) => {
                    self.report_cached(stage, &done.layer);
                    continue;
                }
                Ok(false) => {
                    // Another process wrote into the lock between two looks at it.
                    let message = "kiln.lock was given other ids meanwhile".to_owned();
                    self.failed(id, stage, StageError::Refused { message, hint: Some("build again".to_owned()) }, false)
                }
                Err(stop) => stop,
            };
            self.state().done.remove(&id);
            self.finish(id, Err(stop));
        }
    }

    /// Clears what killed processes left, and makes older layers outlast this boot, while the stages run.
    fn tidy(&self, identity: Identity) {
        let (store, boot) = (self.environment.store.clone(), self.options.boot.to_owned());
        let settled = self.environment.now - WRITTEN_BACK;
        std::thread::spawn(move || {
            let layers = store.layers(&boot);
            let remove = |path: &Utf8Path| layer::remove_tree(path, identity).map_err(io::Error::other);
            // Best effort: the next build does it again.
            let _ = layers.flush(settled);
            let _ = layers.sweep(&remove);
        });
    }

    fn work(&self, identity: Identity) {
        while let Some(id) = self.next() {
            let result = match self.plan.stages.get(id) {
                Some(stage) => self.obtain(id, id, stage, identity),
                None => return,
            };
            self.finish(id, result);
        }
    }

    /// The first stage that can be carried out; waits for one; none if there will be none.
    fn next(&self) -> Option<StageId> {
        let mut state = self.state();
        loop {
            if state.error.is_some() {
                return None;
            }
            let ready = self.needed.iter().copied().find(|id| self.is_ready(&state, *id));
            if let Some(id) = ready {
                state.running.insert(id);
                return Some(id);
            }
            if state.running.is_empty() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_ready(&self, state: &State, id: StageId) -> bool {
        let is_open = !state.done.contains_key(&id) && !state.lost.contains(&id) && !state.running.contains(&id);
        is_open && self.parent(id).is_none_or(|parent| state.done.contains_key(&parent))
    }

    fn parent(&self, id: StageId) -> Option<StageId> {
        self.plan.stages.get(id)?.parent
    }

    fn finish(&self, id: StageId, result: Result<Done, Stop>) {
        let mut state = self.state();
        state.running.remove(&id);
        match result {
            Ok(done) => drop(state.done.insert(id, done)),
            Err(Stop::Failed(failure)) => {
                state.failures.push(*failure);
                state.lost.insert(id);
                // Parents come before their children.
                for child in &self.needed {
                    if self.parent(*child).is_some_and(|parent| state.lost.contains(&parent)) {
                        state.lost.insert(*child);
                    }
                }
            }
            Err(Stop::All(error)) => drop(state.error.get_or_insert(error)),
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all stages before this one have their ids.
    fn await_turn(&self, turn: StageId) -> Result<(), Stop> {
        let mut state = self.state();
        loop {
            let is_settled = |id: &StageId| state.done.contains_key(id) || state.lost.contains(id);
            if self.needed.range(..turn).all(is_settled) {
                return Ok(());
            }
            if self.options.cancel.is_cancelled() || state.error.is_some() {
                return Err(Stop::All(BuildError::Interrupted));
            }
            state = self.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The layer of a stage whose parent is there: from the store, or made now. Ids are given out in the turn of `turn`:
    /// the stage itself, or the one whose tools it has.
    fn obtain(&self, id: StageId, turn: StageId, stage: &Stage, identity: Identity) -> Result<Done, Stop> {
        let below = self.below(stage);
        let key = found::key(self.plan, id, below.last().map(|layer| layer.name()));
        if let Some(done) = self.cached(turn, stage, &key)? {
            return Ok(done);
        }
        let tools = stage.tools.map(|tools| self.tools(tools, turn, identity)).transpose()?;
        let name = format!("{} of class {}", stage.label, stage.class);
        let cancelled = || self.options.cancel.is_cancelled();
        let draft = self.layers.begin(&key, &name, self.environment.report, &cancelled)?;
        let draft = draft.ok_or(BuildError::Interrupted)?;
        if draft.waited()
            && let Some(done) = self.cached(turn, stage, &key)?
        {
            return Ok(done);
        }
        let job = Job { runner: self, stage, turn, identity, below, tools, draft: &draft };
        let started = Instant::now();
        self.environment.report.event(Event::StageStarted { class: stage.class.clone(), stage: stage.label.clone() });
        match job.make() {
            Ok((facts, manifest)) => {
                let layer = Arc::new(draft.keep(facts, manifest.as_bytes())?);
                let took = started.elapsed();
                self.report_finished(stage, &layer, took);
                Ok(Done { layer, took: Some(took) })
            }
            Err(_) if cancelled() => Err(Stop::All(BuildError::Interrupted)),
            Err(error) => {
                let failed = job.failed_tree(&error)?;
                let is_kept = draft.fail(&failed).is_ok();
                Err(self.failed(turn, stage, error, is_kept))
            }
        }
    }

    /// The stage's layer if the store has it, once the lock has its ids. None too if others took them while this one waited
    /// for its turn.
    fn cached(&self, turn: StageId, stage: &Stage, key: &Sha256) -> Result<Option<Done>, Stop> {
        let fitting = found::fitting(&self.layers, key, &self.ids, &FixedIds::default())?;
        let Some(layer) = fitting else { return Ok(None) };
        let made = ids::fixed(&layer.record().facts.made);
        if !self.ids.has(&made) {
            self.await_turn(turn)?;
        }
        if !self.settle_cached(turn, stage, &layer)? {
            return Ok(None);
        }
        self.report_cached(stage, &layer);
        Ok(Some(Done { layer: Arc::new(layer), took: None }))
    }

    /// Writes down what the lock lacks of a layer's ids; whether the two agree then.
    fn settle_cached(&self, turn: StageId, stage: &Stage, layer: &LayerUse) -> Result<bool, Stop> {
        let made = ids::fixed(&layer.record().facts.made);
        let settled = self.ids.settle(&made, &FixedIds::default(), &Accounts::default());
        let settled = settled.map_err(|error| self.failed(turn, stage, error, false))?;
        Ok(matches!(settled, Settled::Agreed))
    }

    /// The layer with a step's tools.
    fn tools(&self, id: StageId, turn: StageId, identity: Identity) -> Result<Arc<LayerUse>, Stop> {
        let (Some(held), Some(stage)) = (self.tools.get(&id), self.plan.stages.get(id)) else {
            return Err(Stop::All(BuildError::Interrupted));
        };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layer) = held.as_ref() {
            return Ok(Arc::clone(layer));
        }
        // The turn of the first that needs them: it may be waiting for them right here.
        let users =
            self.needed.iter().filter(|user| self.plan.stages.get(**user).is_some_and(|user| user.tools == Some(id)));
        let done = self.obtain(id, users.min().copied().unwrap_or(turn), stage, identity)?;
        *held = Some(Arc::clone(&done.layer));
        Ok(done.layer)
    }

    /// The layers below a stage, from bottom to top.
    fn below(&self, stage: &Stage) -> Vec<Arc<LayerUse>> {
        let state = self.state();
        let parents = std::iter::successors(stage.parent, |id| self.parent(*id));
        let layers = parents.filter_map(|id| state.done.get(&id)).map(|done| Arc::clone(&done.layer));
        let mut layers: Vec<_> = layers.collect();
        layers.reverse();
        layers
    }

    fn failed(&self, turn: StageId, stage: &Stage, error: StageError, is_kept: bool) -> Stop {
        let (class, label) = (stage.class.clone(), stage.label.clone());
        self.environment.report.event(Event::StageFailed { class: class.clone(), stage: label.clone() });
        let classes = self.plan.classes.iter().filter(|(_, stages)| stages.contains(&turn));
        let classes = classes.map(|(name, _)| name.clone()).collect();
        let place = stage.place.clone();
        Stop::Failed(Box::new(StageFailure { class, stage: label, place, error, classes, is_kept }))
    }

    fn report_cached(&self, stage: &Stage, layer: &LayerUse) {
        let (class, label) = (stage.class.clone(), stage.label.clone());
        self.environment.report.event(Event::StageCached { class, stage: label, key: *layer.name() });
    }

    fn report_finished(&self, stage: &Stage, layer: &LayerUse, took: Duration) {
        let (class, label) = (stage.class.clone(), stage.label.clone());
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.environment.report.event(Event::StageFinished { class, stage: label, key: *layer.name(), took_ms });
    }
}

/// One stage being carried out.
struct Job<'j, 'a> {
    runner: &'j Runner<'a>,
    stage: &'j Stage,
    turn: StageId,
    identity: Identity,
    below: Vec<Arc<LayerUse>>,
    tools: Option<Arc<LayerUse>>,
    draft: &'j LayerDraft<'a>,
}

impl Job<'_, '_> {
    /// Carries the stage out until its ids agree with the lock; what it made is in the draft then.
    fn make(&self) -> Result<(LayerFacts, String), StageError> {
        let ids = &self.runner.ids;
        let mut imposed =
            ids.imposed_first(self.below.iter().chain(&self.tools).map(|layer| &layer.record().facts.made));
        for _ in 0..RUNS_MAX {
            let (layer, epoch) = self.run(&imposed)?;
            let (made, after) = self.made()?;
            if !ids.has(&made) && self.runner.await_turn(self.turn).is_err() {
                break;
            }
            match ids.settle(&made, &imposed, &after)? {
                Settled::Agreed => return Ok((self.facts(&layer, epoch, ids::made(made)), layer.to_text())),
                Settled::Again(more) => imposed = more,
            }
            self.draft.restart()?;
        }
        let message = "the numeric ids of its users and groups differ from run to run".to_owned();
        Err(StageError::Refused { message, hint: Some("give them numbers in [ids] of kiln.lock".to_owned()) })
    }

    fn run(&self, imposed: &FixedIds) -> Result<(Layer, i64), StageError> {
        let tree = self.draft.tree();
        let upper = upper::of(&self.stage.work, tree.clone())
            .map_err(|source| StageError::Io { doing: format!("ask for the file system of {tree}"), source })?;
        let place = self.place(true, upper, imposed);
        let epoch = match &self.stage.work {
            Work::Packages(work) => package::install(&place, work, &self.runner.unpacked)?,
            Work::Step(work) => {
                step::run(&place, work)?;
                place.epoch
            }
        };
        self.check_clock(epoch)?;
        let mut layer = self.scan(epoch, place.threads)?;
        if let Some(tools) = &self.tools {
            self.timed("separate", || self.separate(tools, &layer, imposed))?;
            layer = self.scan(epoch, place.threads)?;
        }
        Ok((layer, epoch))
    }

    /// What is made while building is later than the packages, and gets their time. By a clock that is earlier than they are
    /// it would keep its own, another one in each build.
    fn check_clock(&self, epoch: i64) -> Result<(), StageError> {
        let now = self.runner.environment.now;
        match jiff::Timestamp::from_second(epoch) {
            Ok(newest) if newest > now => Err(StageError::Refused {
                message: format!("this machine's clock says {now:.0}, and the packages have files of {newest}"),
                hint: Some("set the clock; the same lock would give another tree each time".to_owned()),
            }),
            _ => Ok(()),
        }
    }

    fn place<'p>(&'p self, with_tools: bool, upper: Upper, ids: &'p FixedIds) -> Workplace<'p> {
        let Runner { environment, options, directory, .. } = self.runner;
        Workplace {
            store: environment.store,
            factory: directory,
            identity: self.identity,
            lowers: self.lowers(with_tools),
            upper,
            epoch: self.epoch(),
            ids,
            threads: threads(),
            watcher: self,
            cancel: options.cancel,
        }
    }

    fn scan(&self, epoch: i64, threads: usize) -> Result<Layer, StageError> {
        self.timed("scan", || scan::finish(&self.draft.tree(), epoch, self.identity, threads))
    }

    /// Takes what belongs to the tools out of the step's layer.
    fn separate(&self, tools: &LayerUse, layer: &Layer, ids: &FixedIds) -> Result<(), StageError> {
        let tree = self.draft.tree();
        let below = self.below.iter().map(|layer| tree::value(layer)).collect::<Result<Vec<_>, _>>();
        let below = Tree::of(&below.map_err(unreadable)?);
        let parts = tools::Parts {
            directory: &tree,
            step: layer,
            tools_directory: &tools.tree(),
            tools: &tree::value(tools).map_err(unreadable)?,
            below: &|path| below.node(path).cloned(),
        };
        tools::separate(&self.place(false, Upper::Directory(tree.clone()), ids), &parts)
    }

    /// The epoch of the tree below.
    fn epoch(&self) -> i64 {
        self.below.last().map_or(0, |layer| layer.record().facts.epoch)
    }

    fn lowers(&self, with_tools: bool) -> Vec<Utf8PathBuf> {
        let tools = self.tools.iter().filter(|_| with_tools);
        self.below.iter().chain(tools).map(|layer| layer.tree()).collect()
    }

    /// The ids that the stage gave out, and everybody in the tree.
    fn made(&self) -> Result<(FixedIds, Accounts), StageError> {
        let mut layers = self.lowers(false);
        let before = accounts::of(&layers, self.identity)?;
        layers.push(self.draft.tree());
        let after = accounts::of(&layers, self.identity)?;
        Ok((crate::ids::made(&before, &after), after))
    }

    fn facts(&self, layer: &Layer, epoch: i64, made: MadeIds) -> LayerFacts {
        LayerFacts {
            class: self.stage.class.clone(),
            label: self.stage.label.clone(),
            inputs: self.runner.plan.inputs_with_tools(self.stage),
            epoch,
            made,
            size_bytes: layer.changes.values().filter_map(Change::node).map(Node::size_bytes).sum(),
        }
    }

    fn failed_tree(&self, error: &StageError) -> Result<FailedTree, BuildError> {
        Ok(FailedTree {
            factory: self.runner.directory.clone(),
            class: self.stage.class.clone(),
            label: self.stage.label.clone(),
            below: self.below.iter().chain(&self.tools).map(|layer| *layer.name()).collect(),
            reason: crate::with_causes(error),
            epoch: self.epoch(),
            at: self.runner.environment.now,
        })
    }

    fn timed<T>(&self, part: &str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        self.part(part, started.elapsed());
        result
    }

    fn report(&self) -> &dyn Report {
        self.runner.environment.report
    }
}

impl Watcher for Job<'_, '_> {
    fn line(&self, line: &str) {
        let (class, stage) = (self.stage.class.clone(), self.stage.label.clone());
        self.report().event(Event::StageLine { class, stage, line: line.to_owned() });
    }

    fn advanced(&self, doing: &str, done: usize, total: usize) {
        let (class, stage) = (self.stage.class.clone(), self.stage.label.clone());
        let (done, total) = (done as u64, total as u64);
        self.report().event(Event::StageAdvanced { class, stage, doing: doing.to_owned(), done, total });
    }

    fn part(&self, part: &str, took: Duration) {
        let (class, stage) = (self.stage.class.clone(), self.stage.label.clone());
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.report().event(Event::StagePart { class, stage, part: part.to_owned(), took_us });
    }
}

fn unreadable(error: TreeError) -> StageError {
    StageError::Io { doing: "read the layers below".to_owned(), source: io::Error::other(error) }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}
