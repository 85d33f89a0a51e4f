//! What the programs of a stage write, understood: which package is at work, how long each took, which script failed.
//!
//! dpkg says it in words that have not changed in decades and that scripts cannot hide (`Setting up NAME (VERSION) ...`);
//! Kiln's own code inside says the rest in the same words, and [`PAUSE`] where nothing of dpkg's runs any more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kiln_sandbox::{Ending, LAST_LINES};

use crate::workplace::{StageError, Watcher};

/// A line that is not for people: dpkg has ended.
pub(crate) const PAUSE: &str = "\u{1}kiln: pause";

/// Sees every line.
pub(crate) struct Progress<'a> {
    watcher: &'a dyn Watcher,
    /// How many packages there are.
    total: usize,
    placed: usize,
    configured: usize,
    /// What is being done, and since when.
    current: Option<(Activity, Instant)>,
    last_lines: VecDeque<String>,
    failure: Option<Failure>,
}

/// What is being done with a package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Activity {
    kind: Kind,
    package: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unpack,
    Configure,
    Trigger,
}

/// What dpkg said about the first package that failed.
#[derive(Debug)]
struct Failure {
    package: String,
    script: Option<&'static str>,
    ending: Option<Ending>,
    last_lines: Vec<String>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(watcher: &'a dyn Watcher, total: usize) -> Self {
        let last_lines = VecDeque::with_capacity(LAST_LINES);
        Self { watcher, total, placed: 0, configured: 0, current: None, last_lines, failure: None }
    }

    /// Takes one line.
    pub(crate) fn line(&mut self, line: &str) {
        if line == PAUSE {
            self.finish_current(Instant::now());
            return;
        }
        if let Some(activity) = Activity::parse(line) {
            self.begin(activity);
        }
        self.look_for_failure(line);
        if self.last_lines.len() == LAST_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.to_owned());
        self.watcher.line(line);
    }

    fn begin(&mut self, activity: Activity) {
        let now = Instant::now();
        self.finish_current(now);
        self.last_lines.clear();
        let Activity { kind, package } = &activity;
        match kind {
            Kind::Unpack => {
                self.watcher.advanced(&format!("unpacking {package}"), self.placed, self.total);
                self.placed += 1;
            }
            Kind::Configure => {
                self.watcher.advanced(&format!("configuring {package}"), self.configured, self.total);
                self.configured += 1;
            }
            Kind::Trigger => {
                self.watcher.advanced(&format!("triggers of {package}"), self.configured, self.total);
            }
        }
        self.current = Some((activity, now));
    }

    fn finish_current(&mut self, now: Instant) {
        let Some((Activity { kind, package }, since)) = self.current.take() else { return };
        let took: Duration = now.duration_since(since);
        match kind {
            // Its parts are measured inside.
            Kind::Unpack => {}
            Kind::Configure => self.watcher.part(&format!("configure {package}"), took),
            Kind::Trigger => self.watcher.part(&format!("triggers of {package}"), took),
        }
    }

    /// `dpkg: error processing package NAME (--configure):`, and the reason in the line after it.
    fn look_for_failure(&mut self, line: &str) {
        match &mut self.failure {
            Some(failure) if failure.ending.is_none() && failure.script.is_none() => {
                failure.script = script(line);
                failure.ending = ending(line);
                failure.last_lines.push(line.to_owned());
            }
            None => {
                let Some(package) = failed_package(line) else { return };
                let last_lines = self.last_lines.iter().cloned().chain([line.to_owned()]).collect();
                self.failure = Some(Failure { package, script: None, ending: None, last_lines });
            }
            Some(_) => {}
        }
    }

    /// dpkg did not end well: what it said about that.
    pub(crate) fn ended(self, ending: Ending) -> StageError {
        match (self.failure, self.current) {
            (Some(failure), _) => {
                let Failure { package, script, ending: script_ending, mut last_lines } = failure;
                last_lines.drain(..last_lines.len().saturating_sub(LAST_LINES));
                let program = match script {
                    Some(script) => format!("{script} of {package}"),
                    None => format!("dpkg --configure {package}"),
                };
                StageError::Program { program, ending: script_ending.unwrap_or(ending), last_lines, hint: None }
            }
            (None, Some((Activity { kind, package }, _))) => {
                let script = if kind == Kind::Unpack { "preinst" } else { "postinst" };
                let last_lines = self.last_lines.into();
                StageError::Program { program: format!("{script} of {package}"), ending, last_lines, hint: None }
            }
            (None, None) => {
                let last_lines = self.last_lines.into();
                StageError::Program { program: "dpkg --configure".to_owned(), ending, last_lines, hint: None }
            }
        }
    }

    /// A script that Kiln ran failed.
    pub(crate) fn failed(self, program: String, ending: Ending) -> StageError {
        StageError::Program { program, ending, last_lines: self.last_lines.into(), hint: None }
    }
}

impl Activity {
    /// `Setting up NAME (VERSION) ...` and its like; names may have their architecture behind them.
    fn parse(line: &str) -> Option<Self> {
        let beginnings = [
            ("Unpacking ", Kind::Unpack),
            ("Setting up ", Kind::Configure),
            ("Processing triggers for ", Kind::Trigger),
        ];
        let (rest, kind) = beginnings.iter().find_map(|(text, kind)| Some((line.strip_prefix(text)?, *kind)))?;
        let (name, rest) = rest.split_once(" (")?;
        let is_right = rest.ends_with(") ...") && !name.is_empty() && !name.contains(' ');
        is_right.then(|| Self { kind, package: without_architecture(name).to_owned() })
    }
}

/// `libc6:amd64` is `libc6`.
fn without_architecture(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

fn failed_package(line: &str) -> Option<String> {
    let rest = line.strip_prefix("dpkg: error processing package ")?;
    let (name, _) = rest.split_once(' ')?;
    Some(without_architecture(name).to_owned())
}

/// Which script dpkg's words are about: `installed nginx package post-installation script subprocess returned...`.
fn script(line: &str) -> Option<&'static str> {
    let scripts = [
        (" pre-installation script", "preinst"),
        (" post-installation script", "postinst"),
        (" pre-removal script", "prerm"),
        (" post-removal script", "postrm"),
    ];
    scripts.into_iter().find(|(words, _)| line.contains(words)).map(|(_, script)| script)
}

/// `... returned error exit status 1`, `... was killed by signal (Killed)`.
fn ending(line: &str) -> Option<Ending> {
    if let Some((_, code)) = line.split_once(" exit status ") {
        return code.trim().parse().ok().map(Ending::Code);
    }
    let (_, name) = line.split_once("killed by signal (")?;
    let (name, _) = name.split_once(')')?;
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| Ending::Signal(*number))
}

/// What the C library calls the signals that end programs.
const SIGNALS: [(&str, i32); 9] = [
    ("Hangup", 1),
    ("Interrupt", 2),
    ("Quit", 3),
    ("Aborted", 6),
    ("Bus error", 7),
    ("Killed", 9),
    ("Segmentation fault", 11),
    ("Broken pipe", 13),
    ("Terminated", 15),
];

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Writes down what it is told, without times.
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Watcher for Notes {
        fn line(&self, line: &str) {
            self.note(format!("line {line}"));
        }

        fn advanced(&self, doing: &str, done: usize, total: usize) {
            self.note(format!("{done} of {total}: {doing}"));
        }

        fn part(&self, part: &str, _took: Duration) {
            self.note(format!("part {part}"));
        }
    }

    impl Notes {
        fn note(&self, note: String) {
            self.0.lock().unwrap().push(note);
        }
    }

    #[test]
    fn packages_are_told_apart() {
        let notes = Notes::default();
        let mut progress = Progress::new(&notes, 2);
        for line in ["Unpacking a (1) ...", "Setting up a:amd64 (1:2-3) ...", "Created x.", "Setting up b (1) ..."] {
            progress.line(line);
        }
        progress.line("Processing triggers for a (1) ...");
        progress.line(PAUSE);
        let told = notes.0.into_inner().unwrap();
        let told: Vec<&str> = told.iter().map(String::as_str).filter(|note| !note.starts_with("line")).collect();
        assert_eq!(
            told,
            [
                "0 of 2: unpacking a",
                "0 of 2: configuring a",
                "part configure a",
                "1 of 2: configuring b",
                "part configure b",
                "2 of 2: triggers of a",
                "part triggers of a",
            ]
        );
    }

    /// The error of a stage in which dpkg wrote these lines and ended with code 1, and its last lines.
    fn check(lines: &[&str], expected: &str, expected_lines: &[&str]) {
        let notes = Notes::default();
        let mut progress = Progress::new(&notes, 2);
        lines.iter().for_each(|line| progress.line(line));
        let error = progress.ended(Ending::Code(1));
        assert_eq!(error.to_string(), expected);
        let StageError::Program { last_lines, .. } = error else { panic!("{error:?}") };
        assert_eq!(last_lines, expected_lines);
    }

    #[test]
    fn the_script_that_failed_is_named() {
        let processing = "dpkg: error processing package a:amd64 (--configure):";
        let reason = " installed a:amd64 package post-installation script subprocess returned error exit status 7";
        check(
            &["Setting up b (1) ...", "fine", "Setting up a:amd64 (1) ...", "oh no", processing, reason, "Errors were"],
            "postinst of a ended with exit code 7",
            &["Setting up a:amd64 (1) ...", "oh no", processing, reason],
        );
        let killed = " installed a package post-installation script subprocess was killed by signal (Killed)";
        check(&[processing, killed], "postinst of a was killed by signal 9", &[processing, killed]);
        let problem = " dependency problems - leaving unconfigured";
        check(&[processing, problem], "dpkg --configure a ended with exit code 1", &[processing, problem]);
        check(&["dpkg: error: x"], "dpkg --configure ended with exit code 1", &["dpkg: error: x"]);
    }

    #[test]
    fn what_never_ends_is_named() {
        let notes = Notes::default();
        let mut progress = Progress::new(&notes, 2);
        progress.line("Setting up a (1) ...");
        progress.line("waiting");
        assert_eq!(progress.ended(Ending::TimedOut).to_string(), "postinst of a took too long and was killed");
    }
}
