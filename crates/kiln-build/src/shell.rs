//! A shell, or one command, in a throw-away copy of a class's tree: as the last build left it, as it was after one of its
//! stages, or as a stage that failed left it.

use camino::{Utf8Path, Utf8PathBuf};
use kiln_sandbox::{CancelToken, Command, Console, Ending, Identity, IdentityError, SandboxError};
use kiln_sandbox::{Sandbox, Tree, Upper};
use kiln_store::{FailedUse, LayerUse, Layers, StoreError};
use serde::Serialize;

use crate::Environment;
use crate::factory::{Factory, FactoryError};
use crate::workplace;

/// Which tree of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The finished one.
    End,
    /// The one after so many stages; the first is 1.
    Stage(usize),
    /// The one of the stage that failed last.
    Failed,
}

/// A tree to go into; its layers stay while this lives.
#[derive(Debug)]
pub struct Entrance {
    identity: Identity,
    layers: Vec<LayerUse>,
    failed: Option<FailedUse>,
    epoch: i64,
}

/// A stage of the last build, for a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NumberedStage {
    /// From 1.
    pub number: usize,
    /// The class that brings it.
    pub class: String,
    /// What it is.
    pub stage: String,
}

/// Why there is no way in.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The class was never built here.
    #[error("class {class} has not been built here")]
    NotBuilt {
        /// As given.
        class: String,
    },
    /// The last build did not come to its end.
    #[error("the last build of class {class} did not come to its end")]
    Unfinished {
        /// As given.
        class: String,
    },
    /// There is no such stage.
    #[error("class {class} has no stage {number}:{}", .stages.iter().map(|stage| format!("\n  {:>2}  {}", stage.number, stage.stage)).collect::<String>())]
    NoStage {
        /// As given.
        class: String,
        /// As given.
        number: usize,
        /// Those it has.
        stages: Vec<NumberedStage>,
    },
    /// No stage of it failed.
    #[error("no stage of class {class} has failed")]
    NothingFailed {
        /// As given.
        class: String,
    },
    /// A layer has been freed meanwhile.
    #[error("the layer of {stage} is no longer in the store")]
    Gone {
        /// What it is.
        stage: String,
    },
    /// The calling user cannot have a sandbox.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The factory cannot be read.
    #[error(transparent)]
    Factory(#[from] FactoryError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl ShellError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotBuilt { class } => Some(format!("kiln build {class} --tree-only")),
            Self::Unfinished { class } => Some(format!(
                "kiln shell {class} --failed goes into the stage that failed, --stage N into one before it"
            )),
            Self::NothingFailed { class } => Some(format!("kiln shell {class} goes into its last build")),
            Self::Gone { .. } => Some("build again".to_owned()),
            Self::Identity(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Sandbox(error) => error.hint(),
            Self::NoStage { .. } | Self::Factory(_) => None,
        }
    }
}

/// Finds a tree of a class.
///
/// # Errors
/// If it was never built, has no such stage, or none that failed; or if the caller cannot have a sandbox.
pub fn entrance(
    factory: &Factory,
    class: &str,
    at: At,
    boot: &str,
    environment: &Environment<'_>,
) -> Result<Entrance, ShellError> {
    let directory = factory.absolute()?;
    let layers = environment.store.layers(boot);
    match at {
        At::Failed => failed(&layers, &directory, class),
        At::End | At::Stage(_) => built(&layers, &directory, class, at, environment),
    }
}

fn failed(layers: &Layers<'_>, directory: &Utf8Path, class: &str) -> Result<Entrance, ShellError> {
    let failed =
        layers.failed(directory, class)?.ok_or_else(|| ShellError::NothingFailed { class: class.to_owned() })?;
    let get = |name| layers.get(name)?.ok_or_else(|| ShellError::Gone { stage: "a stage below it".to_owned() });
    let below = failed.failed.below.iter().map(get).collect::<Result<_, _>>()?;
    let epoch = failed.failed.epoch;
    Ok(Entrance { identity: Identity::of_caller()?, layers: below, failed: Some(failed), epoch })
}

fn built(
    layers: &Layers<'_>,
    directory: &Utf8Path,
    class: &str,
    at: At,
    environment: &Environment<'_>,
) -> Result<Entrance, ShellError> {
    let class = || class.to_owned();
    let build = environment.store.last_build(directory, &class())?;
    let build = build.ok_or_else(|| ShellError::NotBuilt { class: class() })?;
    let count = match at {
        At::Stage(number) if (1..=build.stages.len()).contains(&number) => number,
        At::Stage(number) => {
            let stages = build.stages.iter().enumerate().map(|(index, stage)| NumberedStage {
                number: index + 1,
                class: stage.class.clone(),
                stage: stage.label.clone(),
            });
            return Err(ShellError::NoStage { class: class(), number, stages: stages.collect() });
        }
        At::End | At::Failed if build.tree.is_some() => build.stages.len(),
        At::End | At::Failed => return Err(ShellError::Unfinished { class: class() }),
    };
    let get = |stage: &kiln_store::BuiltStage| {
        layers.get(&stage.layer)?.ok_or_else(|| ShellError::Gone { stage: stage.label.clone() })
    };
    let layers: Vec<LayerUse> = build.stages.iter().take(count).map(get).collect::<Result<_, ShellError>>()?;
    let epoch = layers.last().map_or(0, |layer| layer.record().facts.epoch);
    Ok(Entrance { identity: Identity::of_caller()?, layers, failed: None, epoch })
}

impl Entrance {
    /// What went wrong, where the tree is one of a stage that failed.
    #[must_use]
    pub fn failure(&self) -> Option<(&str, &str)> {
        self.failed.as_ref().map(|failed| (failed.failed.label.as_str(), failed.failed.reason.as_str()))
    }

    /// Runs a command in the tree, or a shell where none is given, at Kiln's own terminal. All changes are forgotten.
    ///
    /// # Errors
    /// If the sandbox cannot be made, or the program not be started.
    pub fn run(&self, command: &[String], terminal: Option<&str>) -> Result<Ending, ShellError> {
        let mut lowers: Vec<Utf8PathBuf> = self.layers.iter().map(LayerUse::tree).collect();
        lowers.extend(self.failed.iter().map(|failed| failed.tree.clone()).filter(|tree| tree.exists()));
        let mut sandbox = Sandbox::new(Tree { lowers, upper: Upper::Discard }, self.identity);
        sandbox.environment.extend(workplace::environment(self.epoch));
        sandbox.environment.extend(terminal.map(|terminal| ("TERM".to_owned(), terminal.to_owned())));
        sandbox.limits.timeout = None;
        let mut command = match command {
            [program, arguments @ ..] => Command::new(program, arguments),
            [] => Command::new("/bin/sh", ["-c", INTERACTIVE]),
        };
        command.console = Console::Terminal;
        let cancel = CancelToken::new().map_err(|source| SandboxError::Start { source })?;
        Ok(sandbox.run(&command, &mut |_| {}, &cancel)?.ending)
    }
}

/// The best shell that the tree has.
const INTERACTIVE: &str = "cd /root 2>/dev/null; if [ -x /bin/bash ]; then exec /bin/bash -i; else exec /bin/sh -i; fi";
