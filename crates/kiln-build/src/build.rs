//! Carries out a plan: a spec and its lock become trees, of which only the stages are built that no store has yet.
//!
//! 1. What the steps read is hashed, the stages are planned (`stage`), and their layers are looked for (`found`).
//! 2. If one is missing, the files that the missing ones need are fetched, unless all are there.
//! 3. The missing stages are carried out (`run`), side by side where their trees allow it. Of all processes that want the
//!    same stage one does it; the others wait for its layer.
//! 4. The numeric ids that a stage gave out are held against the lock, and new names are added to it (`ids`).
//! 5. Each class that is complete becomes the last build of that class, and its tree gets its digest.
//!
//! A stage that fails takes the classes with it that need it; all others are finished. Nothing that is half done counts,
//! however the process ends.

mod accounts;
mod facts;
mod failure;
mod found;
mod ids;
mod run;
mod upper;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kiln_model::digest::Sha256;
use kiln_model::event::Event;
use kiln_model::lock::Lock;
use kiln_model::spec::Spec;
use kiln_sandbox::{CancelToken, Identity, IdentityError};
use kiln_store::{Build, BuiltStage, LayerUse, StoreError};

use crate::Environment;
use crate::factory::{Factory, FactoryError};
use crate::fetch::{FetchFailure, FetchOptions, fetch};
use crate::lock::Reason;
use crate::stage::{self, PlanError, SourceError, StageId, Stages, Work};
use crate::tree::TreeError;

pub use facts::TreeFacts;
pub use failure::StageFailure;
use ids::SharedIds;
use run::{Done, Runner};

/// What to build, and how.
#[derive(Debug)]
pub struct BuildOptions<'a> {
    /// Only these classes, with what they descend from; all of them if empty.
    pub classes: Vec<String>,
    /// Whether names that the lock has no numeric ids for are an error.
    pub locked: bool,
    /// How many stages may be carried out at a time.
    pub jobs: usize,
    /// The kernel's boot id; empty where it is not known.
    pub boot: &'a str,
    /// Ends it early.
    pub cancel: &'a CancelToken,
}

/// What came of a build.
#[derive(Debug)]
pub struct Built {
    /// The classes that were asked for and are complete, by name.
    pub classes: Vec<BuiltClass>,
    /// The stages that failed.
    pub failures: Vec<StageFailure>,
    /// Names whose ids the lock has learned: `user nginx: 101`.
    pub new_ids: Vec<String>,
}

/// A class whose tree is complete.
#[derive(Debug)]
pub struct BuiltClass {
    /// Its name.
    pub class: String,
    /// What its tree is made of, from bottom to top.
    pub layers: Vec<Arc<LayerUse>>,
    /// No time of its tree is later, in seconds since 1970.
    pub epoch: i64,
    /// What its tree is.
    pub tree: TreeFacts,
    /// How many of its stages were carried out now, by this or another process.
    pub built: usize,
    /// How many were there.
    pub cached: usize,
    /// How long its stages took together.
    pub took: Duration,
}

/// Why nothing was built, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The lock does not answer the spec.
    #[error("kiln.lock does not fit kiln.toml:{}", .0.iter().map(|reason| format!("\n  {reason}")).collect::<String>())]
    Stale(Vec<Reason>),
    /// The plan cannot be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file of the factory cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file of the lock cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchFailure),
    /// The calling user cannot build.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The factory or its lock cannot be read or written.
    #[error(transparent)]
    Factory(#[from] FactoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer of the store cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The system refused.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It was asked to end.
    #[error("the build was interrupted")]
    Interrupted,
}

impl BuildError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Stale(_) => Some("kiln lock brings it up to date; review what changes".to_owned()),
            Self::Plan(error) => Some(error.hint()),
            Self::Fetch(error) => error.hint(),
            Self::Identity(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Interrupted => Some("what was finished is kept; the next build goes on from there".to_owned()),
            Self::Tree(error) => error.hint(),
            Self::Source(_) | Self::Factory(_) | Self::Io { .. } => None,
        }
    }
}

/// Builds the trees of some classes.
///
/// # Errors
/// If nothing can be built, or it is interrupted. A stage that fails is no error here: see [`Built::failures`].
pub fn build(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    options: &BuildOptions<'_>,
    environment: &Environment<'_>,
) -> Result<Built, BuildError> {
    let plan = plan(factory, spec, lock, &options.classes, environment)?;
    let wanted = stage::asked_for(spec, &options.classes)?;
    let needed: BTreeSet<StageId> = plan.classes.values().flatten().copied().collect();
    let directory = factory.absolute()?;
    environment.store.note_factory(&directory)?;
    let ids = SharedIds::new(factory, lock, options.locked, environment.report);
    let layers = environment.store.layers(options.boot);
    let found = found::layers(&plan, &needed, &layers, &ids)?;
    let (stages, cached) = (needed.len() as u64, found.len() as u64);
    environment.report.event(Event::StagesPlanned { stages, cached });
    if found.len() < needed.len() {
        // Who cannot build is told before anything is downloaded.
        Identity::of_caller()?;
        let missing: BTreeSet<StageId> = needed.iter().copied().filter(|id| !found.contains_key(id)).collect();
        fetch_missing(factory, spec, lock, &plan, &missing, environment)?;
    }
    let runner = Runner::new(factory, &plan, needed, found, ids, options, environment)?;
    let outcome = runner.run()?;
    let mut classes = Vec::new();
    for (class, stages) in &plan.classes {
        let epoch = lock.classes.get(class).map_or(0, |class| class.epoch.as_second());
        let built = finish_class(class, stages, epoch, &outcome.done, environment)?;
        if built.is_some() {
            layers.forget_failed(&directory, class)?;
        }
        let last = environment.store.last_build(&directory, class)?;
        let build = record(&plan, class, stages, &outcome, built.as_ref(), last.as_ref(), environment);
        environment.store.keep_build(&directory, &build)?;
        classes.extend(built.filter(|_| wanted.contains(class)));
    }
    Ok(Built { classes, failures: outcome.failures, new_ids: outcome.new_ids })
}

/// What a lock and a spec mean for some classes and all that these descend from, once it is certain that they fit.
///
/// # Errors
/// If they do not fit, or a file of the factory cannot be read.
pub fn plan(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    classes: &[String],
    environment: &Environment<'_>,
) -> Result<Stages, BuildError> {
    let classes = stage::with_ancestors(spec, classes)?;
    let reasons = crate::lock::reasons(factory, spec, lock, environment);
    if !reasons.is_empty() {
        return Err(BuildError::Stale(reasons));
    }
    let sources = stage::read_sources(factory, spec, &classes)?;
    Ok(stage::stages(spec, lock, &sources, &classes)?)
}

/// The stages among `needed` whose layers are there and agree with the lock.
pub(crate) fn found(
    factory: &Factory,
    lock: &Lock,
    plan: &Stages,
    needed: &BTreeSet<StageId>,
    boot: &str,
    environment: &Environment<'_>,
) -> Result<BTreeSet<StageId>, BuildError> {
    let ids = SharedIds::new(factory, lock, true, environment.report);
    Ok(found::layers(plan, needed, &environment.store.layers(boot), &ids)?.into_keys().collect())
}

/// Brings what the missing stages read into the store. The bytes are verified where they are read.
fn fetch_missing(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    plan: &Stages,
    missing: &BTreeSet<StageId>,
    environment: &Environment<'_>,
) -> Result<(), BuildError> {
    let tools = missing.iter().filter_map(|id| plan.stages.get(*id)?.tools);
    let all: BTreeSet<StageId> = missing.iter().copied().chain(tools).collect();
    let stages = all.iter().filter_map(|id| plan.stages.get(*id));
    let lacking = stages.filter(|stage| !has_files(&stage.work, environment));
    let classes: BTreeSet<String> = lacking.map(|stage| stage.class.clone()).collect();
    if !classes.is_empty() {
        let options = FetchOptions { classes: classes.into_iter().collect(), ..FetchOptions::default() };
        fetch(factory, spec, lock, &options, environment)?;
    }
    Ok(())
}

/// Whether the store has every file that the work reads.
fn has_files(work: &Work, environment: &Environment<'_>) -> bool {
    let store = environment.store;
    let (packages, download) = match work {
        Work::Packages(work) => (work.waves.iter().flatten().collect::<Vec<_>>(), None),
        Work::Step(work) => (work.repository.iter().collect(), work.download.as_ref()),
    };
    packages.iter().all(|package| store.contains(&package.sha256, package.size))
        && download.is_none_or(|download| store.contains(&download.sha256, download.size))
}

/// What a class has become, if all its stages are there.
fn finish_class(
    class: &str,
    stages: &[StageId],
    epoch: i64,
    done: &BTreeMap<StageId, Done>,
    environment: &Environment<'_>,
) -> Result<Option<BuiltClass>, BuildError> {
    let Some(done) = stages.iter().map(|id| done.get(id)).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let layers: Vec<Arc<LayerUse>> = done.iter().map(|done| Arc::clone(&done.layer)).collect();
    let tree = facts::of(environment.store, &layers, epoch)?;
    let built = done.iter().filter(|done| done.took.is_some()).count();
    Ok(Some(BuiltClass {
        class: class.to_owned(),
        layers,
        epoch,
        tree,
        built,
        cached: done.len() - built,
        took: done.iter().filter_map(|done| done.took).sum(),
    }))
}

/// The build of a class, as far as it came.
fn record(
    plan: &Stages,
    class: &str,
    stages: &[StageId],
    outcome: &run::Outcome,
    built: Option<&BuiltClass>,
    last: Option<&Build>,
    environment: &Environment<'_>,
) -> Build {
    // Tools that were not needed this time are wanted again when their step changes.
    let last_tools = |layer: &Sha256| last?.stages.iter().find(|stage| stage.layer == *layer)?.tools;
    let stages = stages.iter().map_while(|id| {
        let (stage, done) = (plan.stages.get(*id)?, outcome.done.get(id)?);
        Some(BuiltStage {
            label: stage.label.clone(),
            class: stage.class.clone(),
            base_key: done.layer.record().base_key,
            layer: *done.layer.name(),
            tools: match stage.tools.and_then(|tools| outcome.tools.get(&tools)) {
                Some(tools) => Some(*tools.name()),
                None => last_tools(done.layer.name()),
            },
            inputs: plan.inputs_with_tools(stage),
        })
    });
    let tree = built.map(|built| built.tree.digest);
    Build { class: class.to_owned(), at: environment.now, stages: stages.collect(), tree }
}
