//! `puppet apply` with the user's own manifest and modules.
//!
//! Everything that Puppet notes for itself goes where it is lost. `node` blocks see the class's name as the machine's.

use camino::Utf8Path;
use kiln_model::spec::RunPuppet;
use kiln_sandbox::Command;

use super::program::{environment, find};
use super::{FACTORY, Problem};
use crate::stage::StepWork;

/// With `--detailed-exitcodes`, 2 says that there were changes, and all succeeded (puppet-apply(8)).
pub(super) const SUCCESSES: &[u8] = &[2];

/// Where Puppet keeps what it notes for itself, and on which machine's behalf.
const SETTINGS: [(&str, &str); 8] = [
    ("--confdir", "/tmp/puppet/conf"),
    ("--codedir", "/tmp/puppet/code"),
    ("--vardir", "/tmp/puppet/var"),
    ("--statedir", "/tmp/puppet/state"),
    ("--rundir", "/tmp/puppet/run"),
    ("--logdir", "/tmp/puppet/log"),
    ("--ssldir", "/tmp/puppet/ssl"),
    ("--publicdir", "/tmp/puppet/public"),
];

/// The command that applies the manifest.
pub(super) fn command(step: &RunPuppet, work: &StepWork) -> Result<Command, Problem> {
    let Some(program) = find("puppet") else {
        return Err(Problem::refused("the tree has no puppet")
            .hint("add tools = [\"puppet-agent\"] to this step, and run `kiln lock`"));
    };
    let factory = Utf8Path::new(FACTORY);
    let mut arguments: Vec<String> = ["apply", "--detailed-exitcodes", "--color=false"].map(str::to_owned).into();
    arguments.extend(SETTINGS.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]));
    arguments.extend(work.lineage.last().into_iter().flat_map(|class| ["--certname".to_owned(), class.clone()]));
    if let Some(modules) = &step.modules {
        arguments.extend(["--modulepath".to_owned(), factory.join(&modules.path).into_string()]);
    }
    let manifest = factory.join(&step.manifest.path);
    let hiera = manifest.ancestors().skip(1).take_while(|path| path.starts_with(factory));
    if let Some(hiera) = hiera.map(|path| path.join("hiera.yaml")).find(|path| path.is_file()) {
        arguments.extend(["--hiera_config".to_owned(), hiera.into_string()]);
    }
    arguments.push(manifest.into_string());
    let mut command = Command::new(program, arguments);
    command.environment = environment([("FACTER_kiln", "true")]);
    Ok(command)
}
