//! Two sides take turns at one work; the median of each counts.

use std::fmt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fs_err as fs;
use serde::Serialize;

/// How often each work is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) runs: usize,
}

/// One work, done by Kiln and by its peer.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) work: String,
    pub(super) peer: String,
    /// Wall times of all runs, in the order in which they were made.
    kiln_ms: Vec<f64>,
    peer_ms: Vec<f64>,
    kiln_median_ms: f64,
    peer_median_ms: f64,
    /// Of the medians.
    ratio: f64,
    goal_ratio: f64,
    load_before: f64,
}

/// How often the high-water mark of a process is read. It only grows, so that at most what the process takes in its last
/// moment is missed.
const MEMORY_PAUSE: Duration = Duration::from_millis(1);

impl Pace {
    /// For work that takes long.
    pub(super) fn halved(self) -> Self {
        Self { runs: self.runs.div_ceil(2) }
    }

    /// Lets both sides do the work in turns: the one that begins changes, so that neither always finds warm caches. Each
    /// side gets the number of the run, and says how long the work itself took.
    pub(super) fn compare(
        self,
        work: &str,
        peer: &str,
        goal_ratio: f64,
        mut kiln: impl FnMut(usize) -> anyhow::Result<Duration>,
        mut other: impl FnMut(usize) -> anyhow::Result<Duration>,
    ) -> anyhow::Result<Comparison> {
        let load_before = super::machine::load()?;
        let (mut kiln_ms, mut peer_ms) = (Vec::new(), Vec::new());
        for run in 0..self.runs {
            if run % 2 == 0 {
                kiln_ms.push(milliseconds(kiln(run)?));
                peer_ms.push(milliseconds(other(run)?));
            } else {
                peer_ms.push(milliseconds(other(run)?));
                kiln_ms.push(milliseconds(kiln(run)?));
            }
        }
        let (kiln_median_ms, peer_median_ms) = (median(&kiln_ms), median(&peer_ms));
        let ratio = kiln_median_ms / peer_median_ms;
        let (work, peer) = (work.to_owned(), peer.to_owned());
        Ok(Comparison { work, peer, kiln_ms, peer_ms, kiln_median_ms, peer_median_ms, ratio, goal_ratio, load_before })
    }
}

/// How long a program takes that must succeed.
pub(super) fn time(command: &mut Command) -> anyhow::Result<Duration> {
    let program = command.get_program().to_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command.output().with_context(|| format!("run {}", program.display()))?;
    let took = started.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", program.display(), output.status, said.trim());
    }
    Ok(took)
}

/// The most memory that a program has at a time, in bytes.
pub(super) fn peak_memory(command: &mut Command) -> anyhow::Result<u64> {
    let program = command.get_program().to_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("run {}", program.display()))?;
    let mut peak_bytes = 0;
    let status = loop {
        peak_bytes = high_water_mark(&child).unwrap_or_default().max(peak_bytes);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(MEMORY_PAUSE);
    };
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    Ok(peak_bytes)
}

/// The most memory that the machine has in use while something is done, less what it has in use before: the memory of
/// processes and of files in memory, without what the kernel keeps of files on disks.
pub(super) fn memory_in_use<T>(work: impl FnOnce() -> T) -> anyhow::Result<(u64, T)> {
    let before = in_use(&fs::read_to_string(MEMINFO)?).context("read how much memory is in use")?;
    let is_done = AtomicBool::new(false);
    let (most, result) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = before;
            while !is_done.load(Ordering::Relaxed) {
                let now = fs::read_to_string(MEMINFO).ok().and_then(|text| in_use(&text));
                most = now.unwrap_or_default().max(most);
                thread::sleep(MEMORY_PAUSE);
            }
            most
        });
        let result = work();
        is_done.store(true, Ordering::Relaxed);
        (watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), result)
    });
    Ok((most - before, result))
}

const MEMINFO: &str = "/proc/meminfo";

/// In bytes, from the text of [`MEMINFO`].
fn in_use(meminfo: &str) -> Option<u64> {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some((field("AnonPages")? + field("Shmem")?) * 1024)
}

/// Nothing, once the process is at its end.
fn high_water_mark(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The middle one; of an even number, the middle between the two.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    // To the microsecond; more digits would only be noise in the results.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, kiln_median_ms, peer_median_ms, ratio, goal_ratio, peer, .. } = self;
        let missed = if ratio < goal_ratio { "" } else { ", MISSED" };
        write!(
            f,
            "{work:44} {kiln_median_ms:>7.0} ms {peer_median_ms:>7.0} ms {ratio:>7.2}  under {goal_ratio:.2}{missed} ({peer})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[test]
    fn both_sides_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name: char| {
            let order = &order;
            move |_| {
                order.borrow_mut().push(name);
                Ok(Duration::from_millis(2))
            }
        };
        let comparison = Pace { runs: 3 }.compare("work", "peer", 1.0, side('k'), side('p')).unwrap();
        assert_eq!(*order.borrow(), "kppkkp");
        assert_eq!((comparison.kiln_ms.len(), comparison.peer_ms.len()), (3, 3));
    }

    #[test]
    fn memory_in_use_is_of_processes_and_files() {
        assert_eq!(
            in_use("MemTotal: 9 kB\nAnonPages:    2 kB\nShmem:    3 kB\nShmemHugePages: 7 kB\n"),
            Some(5 * 1024)
        );
        assert_eq!(in_use("AnonPages: 2 kB\n"), None);
    }

    #[test]
    fn memory_of_a_process_is_seen() {
        // The shell reads all of it into a variable before it ends.
        let script = "text=$(head -c 40000000 /dev/zero | tr '\\0' x); sleep 0.1; test -n \"$text\"";
        let peak_bytes = peak_memory(Command::new("sh").args(["-c", script])).unwrap();
        assert!(peak_bytes > 40_000_000, "{peak_bytes}");
        assert!(peak_memory(&mut Command::new("false")).is_err());
    }
}
