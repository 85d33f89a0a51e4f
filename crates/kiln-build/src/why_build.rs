//! Why a build would do what it would do: the plan, held against the last build and against the layers that are there.

use std::collections::{BTreeMap, BTreeSet};

use kiln_model::lock::Lock;
use kiln_model::spec::Spec;
use kiln_store::{Build, BuiltStage};
use serde::Serialize;

use crate::Environment;
use crate::build::{self, BuildError};
use crate::factory::Factory;
use crate::stage::Stage;

/// What a build of a class would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhyBuild {
    /// The class.
    pub class: String,
    /// How many stages it has.
    pub stages: usize,
    /// Those that would run, from the bottom to the top of the tree.
    pub would_run: Vec<WhyStage>,
}

/// A stage that would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhyStage {
    /// The class that brings it.
    pub class: String,
    /// What it is.
    pub stage: String,
    /// Why it would run.
    pub reason: WhyRun,
}

/// Why a stage would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum WhyRun {
    /// The last build had no such stage, or there was none.
    New,
    /// What it reads is not what the last build read.
    Changed {
        /// Each input that differs.
        inputs: Vec<ChangedInput>,
    },
    /// It reads the same, on a tree that is another.
    Below {
        /// The lowest stage that would run.
        stage: String,
    },
    /// It reads the same on the same tree, and its layer is not there: it was freed, or the ids in it are not the lock's.
    Gone,
}

/// An input that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangedInput {
    /// What it is: `file site/index.html`.
    pub name: String,
    /// What it said; nothing if it is new.
    pub from: Option<String>,
    /// What it says; nothing if it is gone.
    pub to: Option<String>,
}

/// Compares what a class would be built from with what it was last built from. Nothing is built.
///
/// # Errors
/// If the lock does not fit, or the factory or the store cannot be read.
pub fn why_build(
    factory: &Factory,
    spec: &Spec,
    lock: &Lock,
    class: &str,
    boot: &str,
    environment: &Environment<'_>,
) -> Result<WhyBuild, BuildError> {
    let plan = build::plan(factory, spec, lock, &[class.to_owned()], environment)?;
    let chain = plan.classes.get(class).cloned().unwrap_or_default();
    let last = environment.store.last_build(&factory.absolute()?, class)?;
    let found = build::found(factory, lock, &plan, &chain.iter().copied().collect(), boot, environment)?;
    let planned: Vec<Planned> = chain
        .iter()
        .filter_map(|id| {
            let stage = plan.stages.get(*id)?;
            Some(Planned::new(stage, plan.inputs_with_tools(stage), found.contains(id)))
        })
        .collect();
    Ok(WhyBuild { class: class.to_owned(), stages: planned.len(), would_run: compare(&planned, last.as_ref()) })
}

/// A stage of the plan.
#[derive(Debug, Clone)]
struct Planned {
    class: String,
    label: String,
    inputs: Vec<(String, String)>,
    /// Whether its layer is there.
    is_there: bool,
}

impl Planned {
    fn new(stage: &Stage, inputs: Vec<(String, String)>, is_there: bool) -> Self {
        Self { class: stage.class.clone(), label: stage.label.clone(), inputs, is_there }
    }
}

fn compare(planned: &[Planned], last: Option<&Build>) -> Vec<WhyStage> {
    let mut lowest: Option<&str> = None;
    let mut why = Vec::new();
    for stage in planned.iter().filter(|stage| !stage.is_there) {
        let before = last.and_then(|last| same_stage(stage, &last.stages));
        let reason = match (before.map(|before| changed(&before.inputs, &stage.inputs)), lowest) {
            (None, _) => WhyRun::New,
            (Some(inputs), _) if !inputs.is_empty() => WhyRun::Changed { inputs },
            (Some(_), Some(lowest)) => WhyRun::Below { stage: lowest.to_owned() },
            (Some(_), None) => WhyRun::Gone,
        };
        lowest.get_or_insert(&stage.label);
        why.push(WhyStage { class: stage.class.clone(), stage: stage.label.clone(), reason });
    }
    why
}

/// The stage of the last build that this one is: of the same name; or, as a step's name tells what it does, with the same
/// number.
fn same_stage<'b>(stage: &Planned, stages: &'b [BuiltStage]) -> Option<&'b BuiltStage> {
    let of_class = || stages.iter().filter(|known| known.class == stage.class);
    let number = |label: &str| label.split(':').next().unwrap_or_default().to_owned();
    let same_name = of_class().find(|known| known.label == stage.label);
    same_name.or_else(|| of_class().find(|known| number(&known.label) == number(&stage.label)))
}

/// The inputs that differ, in the order of the names. That packages come in another order is only said when they are the same.
fn changed(before: &[(String, String)], now: &[(String, String)]) -> Vec<ChangedInput> {
    let by_name = |inputs: &[(String, String)]| inputs.iter().cloned().collect::<BTreeMap<_, _>>();
    let (before, now) = (by_name(before), by_name(now));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
    let mut inputs: Vec<ChangedInput> = differing
        .map(|name| ChangedInput { name: name.clone(), from: before.get(name).cloned(), to: now.get(name).cloned() })
        .collect();
    let is_order = |input: &ChangedInput| input.name.trim_start_matches("tools: ") == "order";
    if !inputs.iter().all(is_order) {
        inputs.retain(|input| !is_order(input));
    }
    inputs
}

#[cfg(test)]
mod tests {
    use kiln_model::digest::Sha256;

    use super::*;

    type Inputs<'a> = &'a [(&'a str, &'a str)];

    fn inputs(pairs: Inputs<'_>) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn planned(label: &str, is_there: bool, pairs: Inputs<'_>) -> Planned {
        Planned { class: "web".to_owned(), label: label.to_owned(), inputs: inputs(pairs), is_there }
    }

    fn last(stages: &[(&str, Inputs<'_>)]) -> Build {
        let stage = |(label, pairs): &(&str, Inputs<'_>)| BuiltStage {
            label: (*label).to_owned(),
            class: "web".to_owned(),
            base_key: Sha256::of(b""),
            layer: Sha256::of(b""),
            tools: None,
            inputs: inputs(pairs),
        };
        let stages = stages.iter().map(stage).collect();
        Build { class: "web".to_owned(), at: jiff::Timestamp::UNIX_EPOCH, stages, tree: None }
    }

    fn check(planned: &[Planned], last: Option<&Build>, expected: &[(&str, WhyRun)]) {
        let found = compare(planned, last).into_iter().map(|why| (why.stage, why.reason)).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|(stage, why)| ((*stage).to_owned(), why.clone())).collect();
        assert_eq!(found, expected);
    }

    fn change(name: &str, from: Option<&str>, to: Option<&str>) -> ChangedInput {
        ChangedInput { name: name.to_owned(), from: from.map(str::to_owned), to: to.map(str::to_owned) }
    }

    #[test]
    fn what_is_there_would_not_run() {
        check(&[planned("packages", true, &[])], None, &[]);
        check(&[planned("packages", false, &[])], None, &[("packages", WhyRun::New)]);
    }

    #[test]
    fn a_changed_file_is_named_and_what_is_above_follows() {
        let last = last(&[
            ("packages", &[]),
            ("step 1: copy site", &[("file a", "1"), ("to", "/")]),
            ("step 2: enable x", &[]),
        ]);
        let now = [
            planned("packages", true, &[]),
            planned("step 1: copy site", false, &[("file a", "2"), ("to", "/"), ("file b", "3")]),
            planned("step 2: enable x", false, &[]),
        ];
        let inputs = vec![change("file a", Some("1"), Some("2")), change("file b", None, Some("3"))];
        let below = WhyRun::Below { stage: "step 1: copy site".to_owned() };
        check(&now, Some(&last), &[("step 1: copy site", WhyRun::Changed { inputs }), ("step 2: enable x", below)]);
    }

    #[test]
    fn a_step_that_does_something_else_is_still_the_same_step() {
        let last = last(&[("step 1: copy site", &[("copy", "site")])]);
        let inputs = vec![change("copy", Some("site"), Some("www"))];
        let now = planned("step 1: copy www", false, &[("copy", "www")]);
        check(&[now], Some(&last), &[("step 1: copy www", WhyRun::Changed { inputs })]);
    }

    #[test]
    fn a_layer_that_was_freed_is_gone() {
        let last = last(&[("packages", &[])]);
        check(&[planned("packages", false, &[])], Some(&last), &[("packages", WhyRun::Gone)]);
    }

    #[test]
    fn the_order_is_only_told_where_nothing_else_is() {
        let before = inputs(&[("order", "1"), ("package a", "1")]);
        assert_eq!(changed(&before, &inputs(&[("order", "2"), ("package a", "1")])).len(), 1);
        let changes = changed(&before, &inputs(&[("order", "2"), ("package a", "2")]));
        assert_eq!(changes, [change("package a", Some("1"), Some("2"))]);
    }
}
