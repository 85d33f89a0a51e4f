//! `kiln`: an image factory. The command line over the libraries: one verb, one file under `command/`.

mod args;
mod command;
mod error;
mod output;
mod progress;
mod settings;

use std::process::ExitCode;

use camino::Utf8Path;
use clap::{CommandFactory as _, Parser as _};
use jiff::Timestamp;
use kiln_build::factory::{Factory, SPEC_FILE};
use kiln_build::{Environment, Host, Memory};
use kiln_store::{FetchOptions, ProxySettings, Store};

use args::{Args, Verb};
use error::{CommandError, Kind};
use output::Output;
use settings::Settings;

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.global.json, args.global.quiet);
    match run(&args, &output) {
        Ok(0) if output::is_lost() => ExitCode::from(Kind::Environment.exit_code()),
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

/// Runs the verb; returns the exit code.
fn run(args: &Args, output: &Output) -> Result<u8, CommandError> {
    if let Verb::Shell(shell) = &args.verb {
        let factory = args.global.factory.as_path();
        return with_environment(args, output, |settings, environment| {
            command::shell::run(shell, factory, settings, environment, output)
        });
    }
    run_to_end(args, output).map(|()| 0)
}

fn run_to_end(args: &Args, output: &Output) -> Result<(), CommandError> {
    let factory = args.global.factory.as_path();
    match &args.verb {
        Verb::Init(init) => command::init::run(init, factory, &host(&[]).architecture, output),
        Verb::Lock(lock) => {
            with_environment(args, output, |_, environment| command::lock::run(lock, factory, environment, output))
        }
        Verb::Fetch(fetch) => {
            with_environment(args, output, |_, environment| command::fetch::run(fetch, factory, environment, output))
        }
        Verb::Build(build) => with_environment(args, output, |settings, environment| {
            command::build::run(build, factory, settings, environment, output)
        }),
        Verb::Why(why) => with_environment(args, output, |settings, environment| {
            command::why::run(why, factory, settings, environment, output)
        }),
        Verb::Shell(_) => Ok(()),
        Verb::Gc(gc) => {
            with_environment(args, output, |settings, environment| command::gc::run(gc, settings, environment, output))
        }
        Verb::Export(export) => with_environment(args, output, |settings, environment| {
            command::export::run(export, factory, settings, environment, output)
        }),
        Verb::Doctor(_) => command::doctor::run(&Settings::read()?.store, output),
        Verb::Schema => {
            let schema = kiln_model::spec::schema();
            let text =
                serde_json::to_string_pretty(&schema).map_err(|error| CommandError::new(Kind::Internal, error))?;
            output.result("schema", &schema, &text);
            Ok(())
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "kiln", &mut script);
            let script = String::from_utf8_lossy(&script);
            output.result("completions", &script, &script);
            Ok(())
        }
    }
}

/// Opens the store and gathers what the pipeline is given instead of taking it.
fn with_environment<T>(
    args: &Args,
    output: &Output,
    work: impl FnOnce(&Settings, &Environment<'_>) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let settings = Settings::read()?;
    let Settings { http_proxy, https_proxy, no_proxy, .. } = &settings;
    let proxy = ProxySettings::parse(http_proxy.as_deref(), https_proxy.as_deref(), no_proxy.as_deref())?;
    let store = Store::open(&settings.store)?;
    note_factory(&args.global.factory, &store)?;
    let fetch = fetch_options(&settings, proxy, args.global.offline);
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    let now = Timestamp::now();
    let host = host(&settings.mirrors);
    let memory = Memory::default();
    let environment =
        Environment { store: &store, fetch: &fetch, host: &host, report: output.report(), memory: &memory, now };
    work(&settings, &environment)
}

/// What a factory refers to stays in the store for as long as the store knows of the factory.
fn note_factory(factory: &Utf8Path, store: &Store) -> Result<(), CommandError> {
    if factory.join(SPEC_FILE).exists() {
        store.note_factory(&Factory::new(factory).absolute()?)?;
    }
    Ok(())
}

fn fetch_options(settings: &Settings, proxy: ProxySettings, offline: bool) -> FetchOptions {
    let mut options = FetchOptions { offline, proxy, ..FetchOptions::default() };
    if let Some(timeout) = settings.http_timeout {
        options.idle_timeout = timeout.into();
        options.connect_timeout = options.connect_timeout.min(options.idle_timeout);
    }
    if let Some(retries) = settings.http_retries {
        options.attempts = retries.saturating_add(1);
    }
    options
}

fn host(mirrors: &[String]) -> Host {
    Host::read(mirrors.to_vec(), Utf8Path::new("/etc/apt"), Utf8Path::new("/usr/share/keyrings"))
}
