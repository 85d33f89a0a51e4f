//! From spec and lock to stages: which there are, in which order, and what each reads.

use std::collections::BTreeSet;

use kiln_model::digest::Hasher;
use kiln_model::lock::{Lock, LockedClass, LockedDownload, LockedPackage, Origin};
use kiln_model::spec::{Action, Class, Name, Place, Spec, Step};

use super::inputs::{self, ENGINE_PACKAGES};
use super::sources::Sources;
use super::{Input, PackageWork, Stage, StageId, Stages, StepWork, Work};
use crate::lock::tool_names;

/// The lock does not hold what the spec asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A class that the spec does not have.
    #[error("there is no class `{name}` in kiln.toml")]
    UnknownClass {
        /// As given.
        name: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// Something of the spec is not in the lock.
    #[error("{what} is not in kiln.lock")]
    NotLocked {
        /// What: `class web`, `the download at kiln.toml:12`.
        what: String,
    },
}

impl PlanError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownClass { name, known } => {
                let near = kiln_model::diagnostic::nearest(name, known.iter().map(String::as_str));
                near.map_or_else(|| format!("it has {}", known.join(", ")), |near| format!("did you mean `{near}`?"))
            }
            Self::NotLocked { .. } => "kiln lock brings it up to date".to_owned(),
        }
    }
}

/// The classes that are asked for with all that they descend from; every class if none is named.
///
/// # Errors
/// If there is no class of such a name.
pub fn with_ancestors(spec: &Spec, names: &[String]) -> Result<BTreeSet<String>, PlanError> {
    let asked = asked_for(spec, names)?;
    let classes = asked.iter().filter_map(|name| spec.classes.get(name.as_str()));
    Ok(classes.flat_map(|class| spec.lineage(class)).map(|class| class.name.to_string()).collect())
}

/// The classes that are asked for; every class if none is named.
///
/// # Errors
/// If there is no class of such a name.
pub fn asked_for(spec: &Spec, names: &[String]) -> Result<BTreeSet<String>, PlanError> {
    let known = || spec.classes.keys().map(Name::to_string);
    match names.iter().find(|name| !spec.classes.contains_key(name.as_str())) {
        Some(name) => Err(PlanError::UnknownClass { name: name.clone(), known: known().collect() }),
        None if names.is_empty() => Ok(known().collect()),
        None => Ok(names.iter().cloned().collect()),
    }
}

/// Plans the stages of some classes, which must be given with all that they descend from.
///
/// # Errors
/// If the lock does not hold what the spec asks for.
pub fn stages(spec: &Spec, lock: &Lock, sources: &Sources, classes: &BTreeSet<String>) -> Result<Stages, PlanError> {
    let mut planner = Planner { spec, lock, sources, stages: Stages::default() };
    for name in classes {
        let class = spec.classes.get(name.as_str()).ok_or_else(|| not_locked(format!("class {name}")))?;
        planner.class(class)?;
    }
    Ok(planner.stages)
}

struct Planner<'a> {
    spec: &'a Spec,
    lock: &'a Lock,
    sources: &'a Sources,
    stages: Stages,
}

/// A class being planned, and the stage that its tree ends with so far.
struct Chain<'a> {
    class: &'a Class,
    locked: &'a LockedClass,
    lineage: Vec<String>,
    stages: Vec<StageId>,
}

impl<'a> Planner<'a> {
    /// Plans a class after its parent, unless that is done.
    fn class(&mut self, class: &'a Class) -> Result<Vec<StageId>, PlanError> {
        if let Some(stages) = self.stages.classes.get(class.name.as_str()) {
            return Ok(stages.clone());
        }
        let below = match class.parent().and_then(|parent| self.spec.classes.get(&parent.name)) {
            Some(parent) => self.class(parent)?,
            None => Vec::new(),
        };
        let locked = self.lock.classes.get(class.name.as_str());
        let locked = locked.ok_or_else(|| not_locked(format!("class {}", class.name)))?;
        let lineage = self.spec.lineage(class).into_iter().map(|class| class.name.to_string()).collect();
        let mut chain = Chain { class, locked, lineage, stages: below };
        self.packages(&mut chain);
        for (index, step) in class.steps.iter().enumerate() {
            self.step(&mut chain, index + 1, step)?;
        }
        self.stages.classes.insert(class.name.to_string(), chain.stages.clone());
        Ok(chain.stages)
    }

    /// The essential set and the class's packages, where there are any.
    fn packages(&mut self, chain: &mut Chain<'a>) {
        let LockedClass { essential, waves, .. } = chain.locked;
        if !essential.is_empty() {
            let work = self.package_work(chain, vec![essential.clone()], true, BTreeSet::new());
            self.push(chain, "essential set".to_owned(), None, None, package_inputs(&work), Work::Packages(work));
        }
        if waves.iter().any(|wave| !wave.is_empty()) {
            let request = &chain.locked.request;
            let asked = request.packages.iter().chain(&request.kernel);
            let manual = asked.map(|text| asked_name(text, chain.locked.packages())).collect();
            let work = self.package_work(chain, waves.clone(), false, manual);
            let place = Some(chain.class.place.clone());
            self.push(chain, "packages".to_owned(), None, place, package_inputs(&work), Work::Packages(work));
        }
    }

    fn package_work(
        &self,
        chain: &Chain<'_>,
        waves: Vec<Vec<LockedPackage>>,
        essential: bool,
        manual: BTreeSet<String>,
    ) -> PackageWork {
        let distribution = self.lock.distributions.get(&chain.locked.distribution);
        let architecture = distribution.map(|distribution| distribution.architecture.clone()).unwrap_or_default();
        PackageWork { architecture, essential, waves, manual }
    }

    fn step(&mut self, chain: &mut Chain<'a>, number: usize, step: &Step) -> Result<(), PlanError> {
        let request = tool_names(step.action.tools());
        let locked_tools = chain.locked.tools.iter().find(|tools| tools.request == request);
        let tools = match (request.is_empty(), locked_tools) {
            (true, _) => None,
            (false, None) => return Err(not_locked(format!("what the step at {} names as tools", step.place))),
            (false, Some(tools)) => self.tools(chain, number, step, &request, &tools.waves),
        };
        let mut repository: Vec<LockedPackage> =
            self.lock.packages_of(chain.class.name.as_str()).into_iter().cloned().collect();
        repository.extend(locked_tools.iter().flat_map(|tools| tools.waves.iter().flatten()).cloned());
        let work = StepWork {
            step: step.clone(),
            sources: self.sources.of_step(step),
            download: locked_download(chain.locked, step)?,
            repository: if runs_programs(&step.action) { repository } else { Vec::new() },
            lineage: chain.lineage.clone(),
        };
        let label = format!("step {number}: {}", inputs::label(&step.action));
        self.push(chain, label, tools, Some(step.place.clone()), inputs::of_step(&work), Work::Step(Box::new(work)));
        Ok(())
    }

    /// The stage that has a step's tools, on the same tree as the step; none where they bring nothing new.
    fn tools(
        &mut self,
        chain: &Chain<'_>,
        number: usize,
        step: &Step,
        request: &[String],
        waves: &[Vec<LockedPackage>],
    ) -> Option<StageId> {
        if waves.iter().all(Vec::is_empty) {
            return None;
        }
        let manual = request.iter().map(|text| asked_name(text, waves.iter().flatten())).collect();
        let work = self.package_work(chain, waves.to_vec(), false, manual);
        let stage = Stage {
            class: chain.class.name.to_string(),
            label: format!("tools of step {number}"),
            parent: chain.stages.last().copied(),
            tools: None,
            place: Some(step.place.clone()),
            inputs: package_inputs(&work),
            work: Work::Packages(work),
        };
        Some(self.stages.add(stage))
    }

    fn push(
        &mut self,
        chain: &mut Chain<'_>,
        label: String,
        tools: Option<StageId>,
        place: Option<Place>,
        inputs: Vec<Input>,
        work: Work,
    ) {
        let parent = chain.stages.last().copied();
        let stage = Stage { class: chain.class.name.to_string(), label, parent, tools, place, inputs, work };
        let id = self.stages.add(stage);
        chain.stages.push(id);
    }
}

impl Stages {
    /// The stage's place: that of one that reads the same on the same tree, if there is one.
    fn add(&mut self, stage: Stage) -> StageId {
        let same =
            |known: &Stage| known.parent == stage.parent && known.tools == stage.tools && known.inputs == stage.inputs;
        self.stages.iter().position(same).unwrap_or_else(|| {
            self.stages.push(stage);
            self.stages.len() - 1
        })
    }
}

/// Whether a step runs programs of the user, to which apt may belong.
fn runs_programs(action: &Action) -> bool {
    matches!(action, Action::Shell(_) | Action::Script(_) | Action::Ansible(_) | Action::Puppet(_))
}

/// The name of the package that a request of the lock means: a file or an address is one by what it holds.
fn asked_name<'p>(text: &str, packages: impl IntoIterator<Item = &'p LockedPackage>) -> String {
    let is_it = |package: &&LockedPackage| match &package.origin {
        Origin::Archive { .. } => false,
        Origin::File(path) => path == text,
        Origin::Url(url) => url == text,
    };
    let name_ends = |character: char| matches!(character, ' ' | '(' | '=');
    let by_name = || text.split(name_ends).next().unwrap_or_default().to_owned();
    packages.into_iter().find(is_it).map_or_else(by_name, |package| package.name.clone())
}

fn locked_download(locked: &LockedClass, step: &Step) -> Result<Option<LockedDownload>, PlanError> {
    let Action::Download(download) = &step.action else { return Ok(None) };
    let found = locked.downloads.iter().find(|known| known.url == download.url.as_str());
    found.cloned().map(Some).ok_or_else(|| not_locked(format!("the download at {}", step.place)))
}

fn not_locked(what: String) -> PlanError {
    PlanError::NotLocked { what }
}

fn package_inputs(work: &PackageWork) -> Vec<Input> {
    let mut inputs = vec![Input::new("engine", ENGINE_PACKAGES), Input::new("architecture", &work.architecture)];
    let manual: Vec<&str> = work.manual.iter().map(String::as_str).collect();
    inputs.push(Input::new("asked for", manual.join(" ")));
    inputs.push(Input::new("order", order_digest(&work.waves)));
    let packages = work.waves.iter().flatten();
    inputs.extend(packages.map(|package| {
        let LockedPackage { name, version, architecture, sha256, .. } = package;
        Input::new(format!("package {name}"), format!("{version} {architecture} {sha256}"))
    }));
    inputs
}

/// The order says nothing to a person; that it changed, without any package having changed, does.
fn order_digest(waves: &[Vec<LockedPackage>]) -> String {
    let mut hasher = Hasher::new();
    for wave in waves {
        for package in wave {
            hasher.update(package.name.as_bytes());
            hasher.update(b" ");
        }
        hasher.update(b"\n");
    }
    hasher.finish().to_string()
}
