//! Readers of the event stream: bars for a terminal, plain lines for a log.
//!
//! Of a build both show which stage begins and ends. A terminal has one line for each running stage with what it does at
//! this moment; a log has what the programs of steps write. What packages say while they are installed is only told when
//! one of them fails.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kiln_model::event::{Event, Report};

use crate::output::{bytes, count, rate, seconds};

/// Plain lines say how far a download is at most this often: a log must not be silent, nor be flooded.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// One bar for all downloads, a spinner for the phase; what was learned scrolls above them.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    state: Mutex<BarsState>,
}

#[derive(Debug, Default)]
struct BarsState {
    phase: Option<ProgressBar>,
    downloads: Option<ProgressBar>,
    /// One line for each running stage, by class and name.
    stages: BTreeMap<(String, String), ProgressBar>,
    tally: Tally,
}

/// One line a fact.
#[derive(Debug)]
pub(crate) struct Lines {
    quiet: bool,
    state: Mutex<LinesState>,
}

#[derive(Debug)]
struct LinesState {
    tally: Tally,
    last_line: Instant,
}

/// What is downloaded so far, over all files of the last plan.
#[derive(Debug, Default)]
struct Tally {
    files: u64,
    files_done: u64,
    size_bytes: u64,
    finished_bytes: u64,
    /// Bytes of the files under way, by name.
    underway: BTreeMap<String, u64>,
    started: Option<Instant>,
}

impl Tally {
    fn see(&mut self, event: &Event) {
        match event {
            Event::DownloadsPlanned { files, size_bytes, .. } => {
                *self =
                    Self { files: *files, size_bytes: *size_bytes, started: Some(Instant::now()), ..Self::default() };
            }
            Event::DownloadStarted { name, resumed_from_bytes, .. } => {
                self.underway.insert(name.clone(), *resumed_from_bytes);
            }
            Event::DownloadAdvanced { name, received_bytes } => {
                self.underway.insert(name.clone(), *received_bytes);
            }
            Event::DownloadFinished { name, size_bytes, .. } => {
                self.underway.remove(name);
                self.files_done += 1;
                self.finished_bytes += size_bytes;
            }
            _ => {}
        }
    }

    fn received_bytes(&self) -> u64 {
        self.finished_bytes + self.underway.values().sum::<u64>()
    }

    fn took_ms(&self) -> u64 {
        self.started.map_or(0, |started| u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn is_complete(&self) -> bool {
        self.files > 0 && self.files_done >= self.files
    }

    fn sentence(&self) -> String {
        let received = self.received_bytes();
        format!(
            "{} of {}, {} of {}, {}",
            self.files_done,
            count(self.files, "file"),
            bytes(received),
            bytes(self.size_bytes.max(received)),
            rate(received, self.took_ms())
        )
    }
}

/// The sentence an event is worth on its own; none for those that only move a bar.
fn sentence(event: &Event) -> Option<String> {
    match event {
        Event::ReleaseVerified { suite, mirror, date, changed, .. } => {
            let state = if *changed { "new" } else { "unchanged" };
            Some(format!("{suite}: {state}, dated {date}, signature good ({mirror})"))
        }
        Event::DownloadsPlanned { files: 0, present_files, present_bytes, .. } if *present_files > 0 => {
            Some(format!("{} ({}) already in the store", count(*present_files, "file"), bytes(*present_bytes)))
        }
        Event::DownloadsPlanned { files, size_bytes, present_files, .. } if *files > 0 => {
            let present =
                if *present_files > 0 { format!(", {present_files} already in the store") } else { String::new() };
            // A signed Release has no size that is known beforehand.
            let size = if *size_bytes > 0 { format!(", {}", bytes(*size_bytes)) } else { String::new() };
            Some(format!("downloading {}{size}{present}", count(*files, "file")))
        }
        Event::DownloadRetried { name, attempt, wait_ms, reason } => {
            Some(format!("{name}: attempt {attempt} failed ({reason}), again in {wait_ms} ms"))
        }
        Event::StagesPlanned { stages, cached } if cached < stages => {
            Some(format!("{}, {cached} cached", count(*stages, "stage")))
        }
        Event::StageFinished { class, stage, took_ms, .. } => {
            Some(format!("{class}: {stage}: built in {}", seconds(Duration::from_millis(*took_ms))))
        }
        Event::StageFailed { class, stage } => Some(format!("{class}: {stage}: failed")),
        Event::Waiting { reason } => Some(format!("waiting: {reason}")),
        Event::Warning { message, hint } => {
            let hint = hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            Some(format!("warning: {message}{hint}"))
        }
        _ => None,
    }
}

/// How far a stage is.
fn progress(doing: &str, done: u64, total: u64) -> String {
    if total > 0 { format!("{doing} ({done} of {total})") } else { doing.to_owned() }
}

/// Whether the user's own programs run in the stage.
fn is_step(stage: &str) -> bool {
    stage.starts_with("step ")
}

/// `step 2` of `step 2: shell apt-get update`.
fn number(stage: &str) -> &str {
    stage.split(':').next().unwrap_or(stage)
}

/// A line of a program, without what would move a terminal's cursor or colour what follows.
fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.next_if_eq(&'[').is_some() {
            // Control sequences end with a letter (ECMA-48, section 5.4).
            characters.by_ref().find(|character| ('\u{40}'..='\u{7e}').contains(character));
        } else if character == '\t' {
            text.push(' ');
        } else if !character.is_control() {
            text.push(character);
        }
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Bars {
    /// Bars on standard error.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { all: MultiProgress::new(), state: Mutex::default() }
    }

    /// Takes everything that moves off the screen.
    pub(crate) fn clear(&self) {
        let mut state = lock(&self.state);
        let stages = std::mem::take(&mut state.stages).into_values();
        for bar in [state.phase.take(), state.downloads.take()].into_iter().flatten().chain(stages) {
            bar.finish_and_clear();
        }
    }

    fn begin_stage(&self, state: &mut BarsState, class: &str, stage: &str) {
        // What came before is over, also if it did not say so.
        if let Some(phase) = state.phase.take() {
            phase.finish_and_clear();
        }
        let bar = self.all.add(ProgressBar::new_spinner().with_style(style("{spinner} {prefix} {elapsed} {wide_msg}")));
        bar.set_prefix(format!("{class}: {stage}"));
        bar.enable_steady_tick(Duration::from_millis(120));
        if let Some(before) = state.stages.insert((class.to_owned(), stage.to_owned()), bar) {
            before.finish_and_clear();
        }
    }

    fn end_stage(state: &mut BarsState, class: &str, stage: &str) {
        if let Some(bar) = state.stages.remove(&(class.to_owned(), stage.to_owned())) {
            bar.finish_and_clear();
        }
    }

    fn show_activity(state: &BarsState, class: &str, stage: &str, activity: String) {
        if let Some(bar) = state.stages.get(&(class.to_owned(), stage.to_owned())) {
            bar.set_message(activity);
        }
    }

    fn show_phase(&self, state: &mut BarsState, phase: String) {
        let bar = state.phase.get_or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg}")));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(phase);
    }

    fn show_downloads(&self, state: &mut BarsState) {
        if state.tally.files == 0 {
            return;
        }
        let bar = state.downloads.get_or_insert_with(|| {
            let template = "  {wide_bar} {msg}";
            self.all.add(ProgressBar::new(0).with_style(style(template)))
        });
        bar.set_length(state.tally.size_bytes.max(1));
        bar.set_position(state.tally.received_bytes());
        bar.set_message(state.tally.sentence());
        if state.tally.is_complete()
            && let Some(bar) = state.downloads.take()
        {
            bar.finish_and_clear();
            let _ = self.all.println(state.tally.sentence());
        }
    }
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

impl Report for Bars {
    fn event(&self, event: Event) {
        let mut state = lock(&self.state);
        state.tally.see(&event);
        if let Event::StageFinished { class, stage, .. } | Event::StageFailed { class, stage } = &event {
            Self::end_stage(&mut state, class, stage);
        }
        if let Some(sentence) = sentence(&event) {
            let _ = self.all.println(sentence);
        }
        match event {
            Event::StageStarted { class, stage } => self.begin_stage(&mut state, &class, &stage),
            Event::StageAdvanced { class, stage, doing, done, total } => {
                Self::show_activity(&state, &class, &stage, progress(&doing, done, total));
            }
            Event::StageLine { class, stage, line } => {
                Self::show_activity(&state, &class, &stage, printable(&line));
            }
            Event::PhaseStarted { phase } => self.show_phase(&mut state, phase),
            Event::DownloadStarted { .. } | Event::DownloadAdvanced { .. } | Event::DownloadFinished { .. } => {
                self.show_downloads(&mut state);
            }
            _ => {}
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Lines {
    /// Lines on standard error; when `quiet`, warnings only.
    #[must_use]
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, state: Mutex::new(LinesState { tally: Tally::default(), last_line: Instant::now() }) }
    }
}

impl Report for Lines {
    fn event(&self, event: Event) {
        let mut state = lock(&self.state);
        state.tally.see(&event);
        if self.quiet && !matches!(event, Event::Warning { .. }) {
            return;
        }
        let line = match &event {
            Event::PhaseStarted { phase } => Some(phase.clone()),
            Event::StageStarted { class, stage } => Some(format!("{class}: {stage}")),
            Event::StageLine { class, stage, line } if is_step(stage) => {
                Some(format!("{class}: {}: {}", number(stage), printable(line)))
            }
            Event::StageAdvanced { class, stage, doing, done, total } if state.last_line.elapsed() > LINE_INTERVAL => {
                Some(format!("{class}: {stage}: {}", progress(doing, *done, *total)))
            }
            Event::DownloadFinished { .. } if state.tally.is_complete() => Some(state.tally.sentence()),
            Event::DownloadAdvanced { .. } | Event::DownloadFinished { .. }
                if state.last_line.elapsed() > LINE_INTERVAL =>
            {
                Some(state.tally.sentence())
            }
            event => sentence(event),
        };
        if let Some(line) = line {
            state.last_line = Instant::now();
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_programs_cannot_move_the_cursor() {
        assert_eq!(printable("\u{1b}[1;31mred\u{1b}[0m\ta\rb\u{7}"), "red ab");
        assert_eq!(printable("\u{1b}[2J\u{1b}[Hgone\u{1b}"), "gone");
        assert_eq!(printable("größer"), "größer");
    }

    #[test]
    fn stages_are_told_by_sentences() {
        let (class, stage) = ("web".to_owned(), "step 2: copy site".to_owned());
        let key = kiln_model::digest::Sha256::of(b"");
        let finished = Event::StageFinished { class, stage, key, took_ms: 1234 };
        assert_eq!(sentence(&finished).as_deref(), Some("web: step 2: copy site: built in 1.23 s"));
        assert_eq!(sentence(&Event::StagesPlanned { stages: 5, cached: 5 }), None);
        assert_eq!(sentence(&Event::StagesPlanned { stages: 5, cached: 2 }).as_deref(), Some("5 stages, 2 cached"));
        assert_eq!(number("step 2: copy site"), "step 2");
        assert_eq!(progress("configuring nginx", 3, 9), "configuring nginx (3 of 9)");
    }
}
