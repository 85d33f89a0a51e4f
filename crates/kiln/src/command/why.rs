//! `kiln why`: reasons.

use std::fmt::Write as _;

use camino::Utf8Path;
use kiln_build::Environment;
use kiln_build::factory::Factory;
use kiln_build::why_build::{ChangedInput, WhyBuild, WhyRun, why_build};

use super::existing_lock;
use crate::error::CommandError;
use crate::output::Output;
use crate::settings::Settings;

/// Say why something is, or would be, as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say which stages `kiln build CLASS` would carry out, and which of the things they read have changed since the last
    /// build.
    Build {
        /// The class.
        class: String,
    },
}

/// Runs the verb.
///
/// # Errors
/// If the lock does not fit, or the store cannot be read.
pub(crate) fn run(
    args: &WhyArgs,
    factory: &Utf8Path,
    settings: &Settings,
    environment: &Environment<'_>,
    output: &Output,
) -> Result<(), CommandError> {
    let What::Build { class } = &args.what;
    let factory = Factory::new(factory);
    let (spec, lock) = (factory.spec()?, existing_lock(&factory)?);
    let why = why_build(&factory, &spec, &lock, class, &settings.boot, environment)?;
    output.result("why-build", &why, &describe(&why));
    Ok(())
}

fn describe(why: &WhyBuild) -> String {
    if why.would_run.is_empty() {
        return format!("class {}: nothing: all stages are cached\n", why.class);
    }
    let mut text = format!("class {}: {} of {} stages would run\n", why.class, why.would_run.len(), why.stages);
    for stage in &why.would_run {
        let whose = if stage.class == why.class { String::new() } else { format!(" (of class {})", stage.class) };
        let _ = writeln!(text, "  {}{whose}", stage.stage);
        match &stage.reason {
            WhyRun::New => text.push_str("    the last build had no such stage\n"),
            WhyRun::Below { stage } => drop(writeln!(text, "    the tree below changes: {stage}")),
            WhyRun::Gone => text.push_str("    its layer is not in the store, or has other ids than kiln.lock\n"),
            WhyRun::Changed { inputs } => text.extend(inputs.iter().map(|input| format!("    {}\n", line(input)))),
        }
    }
    text
}

fn line(input: &ChangedInput) -> String {
    let ChangedInput { name, from, to } = input;
    match (from, to) {
        (Some(from), Some(to)) => {
            let (from, to) = distinct(from, to);
            format!("{name}: {from} -> {to}")
        }
        (None, Some(to)) => format!("{name} is new{}", said(to)),
        (Some(from), None) => format!("{name} is gone{}", said(from)),
        (None, None) => name.clone(),
    }
}

fn said(value: &str) -> String {
    let value = shortened(value);
    if value.is_empty() { String::new() } else { format!(": {value}") }
}

/// Two values as short as they can be without looking equal.
fn distinct(from: &str, to: &str) -> (String, String) {
    // A package is its version, unless only its bytes changed.
    let word = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let short = (shortened(&word(from)), shortened(&word(to)));
    let is_package = |text: &str| text.split(' ').count() == 3 && text.split(' ').next_back().is_some_and(is_digest);
    if is_package(from) && is_package(to) && short.0 != short.1 {
        return short;
    }
    let (short_from, short_to) = (shortened(from), shortened(to));
    if short_from == short_to {
        (from.escape_debug().to_string(), to.escape_debug().to_string())
    } else {
        (short_from, short_to)
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// How much of a value is shown.
const CHARACTERS_MAX: usize = 60;

/// A value on one line: digests by their first digits, long texts by their beginning.
fn shortened(value: &str) -> String {
    let words = value.split(' ').map(|word| if is_digest(word) { word.get(..12).unwrap_or(word) } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let is_whole = line == text && line.chars().count() <= CHARACTERS_MAX;
    let cut: String = line.chars().take(CHARACTERS_MAX).collect();
    if is_whole { cut } else { format!("{cut} ...") }
}

#[cfg(test)]
mod tests {
    use kiln_build::why_build::WhyStage;
    use kiln_model::digest::Sha256;

    use super::*;

    fn input(name: &str, from: Option<&str>, to: Option<&str>) -> ChangedInput {
        ChangedInput { name: name.to_owned(), from: from.map(str::to_owned), to: to.map(str::to_owned) }
    }

    #[test]
    fn each_stage_with_what_changed() {
        let (one, two) = (Sha256::of(b"1").to_string(), Sha256::of(b"2").to_string());
        let stage =
            |class: &str, stage: &str, reason| WhyStage { class: class.to_owned(), stage: stage.to_owned(), reason };
        let inputs = vec![
            input("file site/index.html", Some(&one), Some(&two)),
            input("file site/run", Some(&one), Some(&format!("{one} executable"))),
            input("package nginx", Some(&format!("1.26-1 amd64 {one}")), Some(&format!("1.28-1 amd64 {two}"))),
            input("package curl", Some(&format!("8-1 amd64 {one}")), Some(&format!("8-1 amd64 {two}"))),
            input("env GREETING", None, Some(&two)),
            input("directory site/old", Some(""), None),
            input("shell", Some("\n  echo a\n  echo b\n"), Some("\n  echo a\n  echo c\n")),
        ];
        let why = WhyBuild {
            class: "web".to_owned(),
            stages: 7,
            would_run: vec![
                stage("base", "packages", WhyRun::Gone),
                stage("web", "step 1: copy site", WhyRun::Changed { inputs }),
                stage("web", "step 2: enable nginx.service", WhyRun::Below { stage: "step 1: copy site".to_owned() }),
                stage("web", "step 3: group shop", WhyRun::New),
            ],
        };
        insta::assert_snapshot!(describe(&why), @r"
        class web: 4 of 7 stages would run
          packages (of class base)
            its layer is not in the store, or has other ids than kiln.lock
          step 1: copy site
            file site/index.html: 6b86b273ff34 -> d4735e3a265e
            file site/run: 6b86b273ff34 -> 6b86b273ff34 executable
            package nginx: 1.26-1 -> 1.28-1
            package curl: 8-1 amd64 6b86b273ff34 -> 8-1 amd64 d4735e3a265e
            env GREETING is new: d4735e3a265e
            directory site/old is gone
            shell: \n  echo a\n  echo b\n -> \n  echo a\n  echo c\n
          step 2: enable nginx.service
            the tree below changes: step 1: copy site
          step 3: group shop
            the last build had no such stage
        ");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let why = WhyBuild { class: "web".to_owned(), stages: 7, would_run: Vec::new() };
        assert_eq!(describe(&why), "class web: nothing: all stages are cached\n");
    }
}
