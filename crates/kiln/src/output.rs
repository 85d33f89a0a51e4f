//! The only way Kiln writes: results to standard output, progress and errors to standard error.
//!
//! With `--json` standard output carries one JSON object a line: events while they happen, then the result or the error.
//! Without it the same facts are text that reads without colour.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiln_model::event::{Event, Report};
use serde::Serialize;

use crate::error::CommandError;
use crate::progress::{Bars, Lines};

/// Where results, progress and errors go.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    progress: Arc<dyn Report>,
    /// The same as `progress`, where it draws on a terminal.
    bars: Option<Arc<Bars>>,
}

/// Writes each event as a JSON line; when `quiet`, warnings only.
struct JsonLines {
    quiet: bool,
}

/// Set when a result could not be written: then the program must not end as if it could.
static LOST: AtomicBool = AtomicBool::new(false);

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("json", &self.json).finish_non_exhaustive()
    }
}

impl Output {
    /// `quiet` keeps warnings and drops progress.
    #[must_use]
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        if json {
            return Self { json, progress: Arc::new(JsonLines { quiet }), bars: None };
        }
        if quiet || !std::io::stderr().is_terminal() {
            return Self { json, progress: Arc::new(Lines::new(quiet)), bars: None };
        }
        let bars = Arc::new(Bars::new());
        Self { json, progress: Arc::<Bars>::clone(&bars), bars: Some(bars) }
    }

    /// Whether standard output carries JSON.
    #[must_use]
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Takes the events of long work.
    #[must_use]
    pub(crate) fn report(&self) -> &dyn Report {
        &*self.progress
    }

    /// The command's answer: `text` for people, or `result` as one JSON line tagged with the command's name.
    pub(crate) fn result(&self, command: &str, result: &impl Serialize, text: &str) {
        self.clear_bars();
        if self.json {
            write_json(&serde_json::json!({ "result": command, "value": result }));
        } else if !text.is_empty() {
            let end = if text.ends_with('\n') { "" } else { "\n" };
            write_out(&format!("{text}{end}"));
        }
    }

    /// The command's failure.
    pub(crate) fn error(&self, error: &CommandError) {
        self.clear_bars();
        if self.json {
            let causes: Vec<String> = error.error.chain().skip(1).map(ToString::to_string).collect();
            write_json(&serde_json::json!({
                "error": error.error.to_string(), "kind": error.kind, "causes": causes, "hints": error.hints,
            }));
        } else {
            let _ = writeln!(std::io::stderr(), "{}", error.render());
        }
    }

    /// What stays on the screen must not begin in the middle of a bar.
    fn clear_bars(&self) {
        if let Some(bars) = &self.bars {
            bars.clear();
        }
    }
}

impl Report for JsonLines {
    fn event(&self, event: Event) {
        if !self.quiet || matches!(event, Event::Warning { .. }) {
            write_json(&event);
        }
    }
}

fn write_json(value: &impl Serialize) {
    // A value of ours that cannot be JSON is a bug; a reader that went away is not.
    if let Ok(line) = serde_json::to_string(value) {
        write_out(&format!("{line}\n"));
    }
}

/// A closed pipe (`kiln lock --list | head`) ends the output, not the program. Anything else is said.
fn write_out(text: &str) {
    let mut out = std::io::stdout();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    if error.kind() != ErrorKind::BrokenPipe && !LOST.swap(true, Ordering::Relaxed) {
        let _ = writeln!(std::io::stderr(), "error: write to standard output\n  because: {error}");
    }
}

/// Whether something that was to be written was not.
pub(crate) fn is_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Bytes for people: three significant figures, decimal units as Debian's tools print them.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three figures are shown")]
pub(crate) fn bytes(count: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let count_f = count as f64;
    match units.into_iter().find(|(_, unit)| count_f >= *unit) {
        None => format!("{count} B"),
        Some((name, unit)) => {
            let value = count_f / unit;
            let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            format!("{value:.decimals$} {name}")
        }
    }
}

/// A number of things: `1 file`, `2 files`.
#[must_use]
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A length of time for people: milliseconds while they are few, then seconds with three figures, then minutes.
#[must_use]
pub(crate) fn seconds(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match took.as_millis() {
        0..1000 => format!("{} ms", took.as_millis()),
        1000..100_000 => format!("{seconds:.*} s", if seconds < 9.995 { 2 } else { 1 }),
        _ => format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60),
    }
}

/// Bytes a second for people.
#[must_use]
pub(crate) fn rate(size_bytes: u64, took_ms: u64) -> String {
    format!("{}/s", bytes(size_bytes * 1000 / took_ms.max(1)))
}

/// Columns padded to their widest cell, two blanks apart, nothing at the end of a line.
#[must_use]
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(|row| line(row) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_figures() {
        let shown: Vec<String> =
            [0, 999, 1000, 12_345, 999_949, 58_800_000, 1_500_000_000].into_iter().map(bytes).collect();
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "12.3 kB", "1000 kB", "58.8 MB", "1.50 GB"]);
        assert_eq!(rate(5_000_000, 500), "10.0 MB/s");
        assert_eq!(rate(5, 0), "5.00 kB/s");
    }

    #[test]
    fn times_have_three_figures() {
        let shown: Vec<String> =
            [0, 999, 1000, 9994, 12_340, 99_900, 100_000].map(Duration::from_millis).into_iter().map(seconds).collect();
        assert_eq!(shown, ["0 ms", "999 ms", "1.00 s", "9.99 s", "12.3 s", "99.9 s", "1 min 40 s"]);
    }

    #[test]
    fn tables_line_up() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&rows), "a    bb\nccc\n");
    }
}
