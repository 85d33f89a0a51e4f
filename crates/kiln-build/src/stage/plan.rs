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
    for class in in_order(spec).into_iter().filter(|class| classes.contains(class.name.as_str())) {
        planner.class(class)?;
    }
    Ok(planner.stages)
}

/// Every class, parents first: an order that is the same whichever of them are built.
fn in_order(spec: &Spec) -> Vec<&Class> {
    let mut order: Vec<&Class> = Vec::new();
    for class in spec.classes.values().flat_map(|class| spec.lineage(class)) {
        if !order.iter().any(|known| known.name == class.name) {
            order.push(class);
        }
    }
    order
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
    /// All that a stage reads, its tools' packages included, by name and value.
    pub(crate) fn inputs_with_tools(&self, stage: &Stage) -> Vec<(String, String)> {
        let tools = stage.tools.and_then(|tools| self.stages.get(tools));
        let of_tools = tools.iter().flat_map(|tools| &tools.inputs);
        let of_tools = of_tools.map(|Input { name, value }| (format!("tools: {name}"), value.clone()));
        let own = stage.inputs.iter().map(|Input { name, value }| (name.clone(), value.clone()));
        own.chain(of_tools).collect()
    }

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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kiln_model::diagnostic::Source as Text;
    use kiln_model::digest::Sha256;
    use kiln_model::lock::{LockedDistribution, LockedRequest, LockedTools};
    use kiln_model::spec::{Listing, parse};

    use super::super::{Source, SourceKind};
    use super::*;

    const HEAD: &str = "[factory]\nname = \"shop\"\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\n";

    /// A base class and a web class that adds to it.
    const SHOP: &str = "
        [class.base]
        distribution = \"trixie\"
        packages = [\"openssh-server\"]
        [class.web]
        from = \"base\"
        packages = [\"nginx\"]
        [[class.web.step]]
        copy = \"site\"
        to = \"/srv\"
        [[class.web.step]]
        shell = \"\\n# comment\\n  echo hello\\n\"
        env = { GREETING = \"hello\" }
        tools = [\"jq\"]
        [[class.web.step]]
        enable = [\"nginx.service\"]
    ";

    fn package(name: &str, version: &str) -> LockedPackage {
        LockedPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            origin: Origin::Archive { index: "trixie/main".to_owned(), path: format!("pool/{name}.deb") },
            size: 1,
            sha256: Sha256::of(format!("{name} {version}").as_bytes()),
        }
    }

    fn packages(names: &[&str]) -> Vec<LockedPackage> {
        names.iter().map(|name| package(name, "1")).collect()
    }

    fn class(from: Option<&str>, asked: &[&str], waves: Vec<Vec<LockedPackage>>) -> LockedClass {
        let essential = if from.is_none() { packages(&["base-files", "dpkg"]) } else { Vec::new() };
        let asked = asked.iter().map(|name| (*name).to_owned()).collect();
        LockedClass {
            distribution: "trixie".to_owned(),
            request: LockedRequest { from: from.map(str::to_owned), packages: asked, ..LockedRequest::default() },
            epoch: Timestamp::UNIX_EPOCH,
            essential,
            waves,
            downloads: Vec::new(),
            tools: Vec::new(),
        }
    }

    fn shop_lock() -> Lock {
        let base = class(None, &["openssh-server"], vec![packages(&["openssh-server", "libssl"])]);
        let mut web = class(Some("base"), &["nginx"], vec![packages(&["nginx"])]);
        web.tools = vec![LockedTools { request: vec!["jq".to_owned()], waves: vec![packages(&["jq"])] }];
        let trixie = LockedDistribution {
            family: "debian".to_owned(),
            architecture: "amd64".to_owned(),
            snapshot: None,
            indexes: Vec::new(),
        };
        Lock {
            output: 1,
            solver: "test".to_owned(),
            distributions: [("trixie".to_owned(), trixie)].into(),
            classes: [("base".to_owned(), base), ("web".to_owned(), web)].into(),
            toolboxes: std::collections::BTreeMap::new(),
            ids: kiln_model::lock::Ids::default(),
        }
    }

    fn shop_spec(classes: &str) -> Spec {
        let source = Text { name: "kiln.toml".to_owned(), text: format!("{HEAD}{classes}") };
        let files = ["site/index.html", "site/run", "www/index.html", "play.yml", "books/play.yml", "setup.sh"];
        parse(&[source], &Listing::new(files)).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    fn file(path: &str, content: &str, executable: bool) -> Source {
        Source { path: path.into(), kind: SourceKind::File { sha256: Sha256::of(content.as_bytes()), executable } }
    }

    fn shop_sources() -> Sources {
        let directory = |path: &str| Source { path: path.into(), kind: SourceKind::Directory };
        Sources::of([
            directory("site"),
            file("site/index.html", "hello", false),
            file("site/run", "run", true),
            file("site.txt", "not of it", false),
            Source { path: "site/link".into(), kind: SourceKind::Symlink { target: "index.html".into() } },
        ])
    }

    fn plan(classes: &str, lock: &Lock, sources: &Sources) -> Stages {
        let spec = shop_spec(classes);
        stages(&spec, lock, sources, &with_ancestors(&spec, &[]).unwrap()).unwrap()
    }

    /// The keys of a class's chain as if each layer were named after its key.
    fn keys(plan: &Stages, class: &str) -> Vec<Sha256> {
        let mut keys: Vec<Sha256> = Vec::new();
        for stage in plan.classes[class].iter().map(|id| &plan.stages[*id]) {
            let parent = keys.last().copied();
            let tools = stage.tools.map(|tools| plan.stages[tools].key(parent.as_ref(), None));
            keys.push(stage.key(parent.as_ref(), tools.as_ref()));
        }
        keys
    }

    /// Which stages of `web` have another key after a change.
    fn changed(classes: &str, lock: &Lock, sources: &Sources) -> Vec<String> {
        let (before, now) = (plan(SHOP, &shop_lock(), &shop_sources()), plan(classes, lock, sources));
        let keys = keys(&now, "web").into_iter().zip(keys(&before, "web"));
        let labels = now.classes["web"].iter().map(|id| now.stages[*id].label.clone());
        labels.zip(keys).filter(|(_, (now, before))| now != before).map(|(label, _)| label).collect()
    }

    #[test]
    fn essential_set_packages_and_steps_in_order() {
        let plan = plan(SHOP, &shop_lock(), &shop_sources());
        let labels = |class: &str| -> Vec<String> {
            let stages = plan.classes[class].iter().map(|id| &plan.stages[*id]);
            stages.map(|stage| format!("{}: {}", stage.class, stage.label)).collect()
        };
        assert_eq!(labels("base"), ["base: essential set", "base: packages"]);
        let own = [
            "web: packages",
            "web: step 1: copy site",
            "web: step 2: shell echo hello",
            "web: step 3: enable nginx.service",
        ];
        assert_eq!(labels("web"), [&["base: essential set", "base: packages"][..], &own].concat());
        assert_eq!(plan.classes["web"][..2], plan.classes["base"][..]);
        let shell = &plan.stages[plan.classes["web"][4]];
        let tools = &plan.stages[shell.tools.unwrap()];
        assert_eq!((tools.label.as_str(), tools.parent), ("tools of step 2", shell.parent));
    }

    #[test]
    fn inputs_are_named_for_people() {
        let plan = plan(SHOP, &shop_lock(), &shop_sources());
        let inputs = |stage: usize| {
            let inputs = &plan.stages[plan.classes["web"][stage]].inputs;
            let short = |value: &str| value.split(' ').map(|word| format!("{word:.12}")).collect::<Vec<_>>().join(" ");
            inputs.iter().map(|input| format!("{} = {}\n", input.name, short(&input.value))).collect::<String>()
        };
        insta::assert_snapshot!(inputs(1), @r"
        engine = packages/1
        architecture = amd64
        asked for = openssh-serv
        order = f9c74ce564d3
        package openssh-server = 1 amd64 d3d77717c61d
        package libssl = 1 amd64 16376e7521a2
        ");
        insta::assert_snapshot!(inputs(3), @r"
        engine = copy/1
        copy = site
        to = /srv
        directory site = 
        file site/index.html = 2cf24dba5fb0
        link site/link = index.html
        file site/run = acba25512100 executable
        ");
        insta::assert_snapshot!(inputs(5), @r"
        engine = enable/1
        enable = nginx.servic
        ");
        let shell = &plan.stages[plan.classes["web"][4]].inputs;
        let env: Vec<&Input> = shell.iter().filter(|input| input.name == "env GREETING").collect();
        assert_eq!(env, [&Input::new("env GREETING", Sha256::of(b"hello").to_string())]);
    }

    #[test]
    fn a_key_changes_with_what_its_stage_reads_and_with_what_is_below() {
        let (lock, sources) = (shop_lock(), shop_sources());
        assert_eq!(changed(SHOP, &lock, &sources), [""; 0]);
        let steps = ["step 1: copy site", "step 2: shell echo hello", "step 3: enable nginx.service"];
        let with = |source| Sources::of(shop_sources().files_for_tests().chain([source]));
        assert_eq!(changed(SHOP, &lock, &with(file("site/index.html", "other", false))), steps);
        assert_eq!(changed(SHOP, &lock, &with(file("site/index.html", "hello", true))), steps);
        assert_eq!(changed(SHOP, &lock, &with(file("site.txt", "other", false))), [""; 0]);
        assert_eq!(changed(&SHOP.replace("= \"hello\"", "= \"bye\""), &lock, &sources), steps[1..]);
        assert_eq!(
            changed(&SHOP.replace("nginx.service", "nginx.socket"), &lock, &sources),
            ["step 3: enable nginx.socket"]
        );
        let mut newer = shop_lock();
        newer.classes.get_mut("web").unwrap().waves = vec![vec![package("nginx", "2")]];
        assert_eq!(changed(SHOP, &newer, &sources).len(), 4);
        let mut tools = shop_lock();
        tools.classes.get_mut("web").unwrap().tools[0].waves = vec![vec![package("jq", "2")]];
        assert_eq!(changed(SHOP, &tools, &sources), steps[1..]);
        let mut dates = shop_lock();
        dates.classes.get_mut("web").unwrap().epoch = Timestamp::from_second(5).unwrap();
        assert_eq!(changed(SHOP, &dates, &sources), [""; 0]);
    }

    #[test]
    fn equal_essential_sets_are_one_stage() {
        let mut lock = shop_lock();
        lock.classes.insert("other".to_owned(), class(None, &["vim"], vec![packages(&["vim"])]));
        let classes = format!("{SHOP}\n[class.other]\ndistribution = \"trixie\"\npackages = [\"vim\"]\n");
        let plan = plan(&classes, &lock, &shop_sources());
        assert_eq!(plan.classes["other"][0], plan.classes["base"][0]);
        assert_ne!(plan.classes["other"][1], plan.classes["base"][1]);
    }

    #[test]
    fn the_order_of_the_plan_does_not_depend_on_what_is_asked_for() {
        let classes = "
            [class.zero]
            distribution = \"trixie\"
            [class.one]
            from = \"zero\"
            [class.two]
            distribution = \"trixie\"
        ";
        let spec = shop_spec(classes);
        let order = |names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let chosen = with_ancestors(&spec, &names).unwrap();
            let classes = in_order(&spec).into_iter().filter(|class| chosen.contains(class.name.as_str()));
            classes.map(|class| class.name.to_string()).collect()
        };
        assert_eq!(order(&[]), ["zero", "one", "two"]);
        assert_eq!(order(&["two", "zero"]), ["zero", "two"]);
        assert_eq!(order(&["one"]), ["zero", "one"]);
    }

    #[test]
    fn apt_sees_what_is_asked_for_as_such() {
        let plan = plan(SHOP, &shop_lock(), &shop_sources());
        let manual = |class: &str, stage: usize| match &plan.stages[plan.classes[class][stage]].work {
            Work::Packages(work) => work.manual.iter().cloned().collect::<Vec<_>>(),
            Work::Step(_) => panic!("packages"),
        };
        assert_eq!(manual("base", 1), ["openssh-server"]);
        assert_eq!(manual("web", 0), [""; 0]);
        let file = LockedPackage { origin: Origin::File("a.deb".into()), ..package("agent", "1") };
        assert_eq!(asked_name("a.deb", [&file]), "agent");
        assert_eq!(asked_name("nginx (>= 1)", [&file]), "nginx");
        assert_eq!(asked_name("nginx=1", [&file]), "nginx");
    }

    #[test]
    fn what_is_not_locked_is_named() {
        let spec = shop_spec(SHOP);
        let check = |lock: &Lock, expected: &str| {
            let classes = with_ancestors(&spec, &[]).unwrap();
            assert_eq!(stages(&spec, lock, &shop_sources(), &classes).unwrap_err().to_string(), expected);
        };
        let mut lock = shop_lock();
        lock.classes.get_mut("web").unwrap().tools.clear();
        check(&lock, "what the step at kiln.toml:17 names as tools is not in kiln.lock");
        lock.classes.remove("web");
        check(&lock, "class web is not in kiln.lock");
        let unknown = with_ancestors(&spec, &["wbe".to_owned()]).unwrap_err();
        assert_eq!(
            (unknown.to_string().as_str(), unknown.hint().as_str()),
            ("there is no class `wbe` in kiln.toml", "did you mean `web`?")
        );
    }
}
