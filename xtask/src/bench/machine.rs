//! The machine that figures are from: what matters for them, and nothing that names it.

use std::fmt;

use anyhow::Context as _;
use camino::Utf8Path;
use fs_err as fs;
use serde::Serialize;

use crate::parallel::processors;

/// What figures depend on.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) date: jiff::civil::Date,
    processor: String,
    processors: usize,
    memory_gib: u64,
    kernel: String,
    /// Where the store and apt's root lie.
    file_system: String,
    /// Average number of running processes in the minute before.
    load_before: f64,
}

impl Machine {
    pub(super) fn describe(directory: &Utf8Path) -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "xtask is a binary: results are dated")]
        let now = jiff::Timestamp::now();
        Ok(Self {
            date: now.to_zoned(jiff::tz::TimeZone::UTC).date(),
            processor: value(&fs::read_to_string("/proc/cpuinfo")?, "model name").unwrap_or("unknown").to_owned(),
            processors: processors(),
            memory_gib: memory_gib(&fs::read_to_string("/proc/meminfo")?).unwrap_or_default(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system_of(directory)?,
            load_before: load()?,
        })
    }
}

/// The type of the file system that holds a directory.
pub(super) fn file_system_of(directory: &Utf8Path) -> anyhow::Result<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(file_system(&mounts, directory.canonicalize_utf8()?.as_path()).unwrap_or_default().to_owned())
}

/// The average number of running processes in the last minute.
pub(super) fn load() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().with_context(|| format!("read the load from `{}`", text.trim()))
}

fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn memory_gib(meminfo: &str) -> Option<u64> {
    let kibibytes: u64 = value(meminfo, "MemTotal")?.strip_suffix(" kB")?.parse().ok()?;
    Some((kibibytes + (1 << 19)) >> 20)
}

/// The type of the file system that holds `path`: of all mount points above it the longest, and of those the last.
fn file_system<'t>(mountinfo: &'t str, path: &Utf8Path) -> Option<&'t str> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        Some((mount.split(' ').nth(4)?, kind.split(' ').next()?))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, memory_gib, kernel, file_system, load_before, .. } = self;
        write!(
            f,
            "{processors} processors ({processor}), {memory_gib} GiB, Linux {kernel}, {file_system}, load {load_before}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_system_of_a_path() {
        let mounts = "21 1 254:0 / / rw - ext4 /dev/a rw\n22 21 0:5 / /tmp rw,nosuid shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(file_system(mounts, Utf8Path::new("/tmp/a")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Utf8Path::new("/tmpfile")), Some("ext4"));
    }

    #[test]
    fn memory_in_whole_gibibytes() {
        assert_eq!(memory_gib("MemTotal:       24684544 kB\nMemFree: 1 kB\n"), Some(24));
    }
}
