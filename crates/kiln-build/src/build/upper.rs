//! Where a stage's changes go while it runs: to the disk at once, or into memory first.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use kiln_sandbox::Upper;

use crate::stage::{PackageWork, Work};

/// Magic numbers of file systems in memory: tmpfs, ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Packages take about so many times their `.deb`'s size when they are installed (3.5 measured over Debian 13).
const EXPANSION: u64 = 5;

/// A smaller stage writes so little that the disk is not felt.
const LARGE_BYTES: u64 = 32 << 20;

/// A layer in memory may take this part of what is available: the rest is for programs, and for the page cache.
const SHARE: u64 = 3;

/// Where the changes of a stage go, whose layer is to be in `directory`.
pub(super) fn of(work: &Work, directory: Utf8PathBuf) -> io::Result<Upper> {
    let expected = match work {
        Work::Packages(work) => expected_bytes(work),
        Work::Step(_) => 0,
    };
    if expected < LARGE_BYTES || is_in_memory(&directory)? || expected > available_bytes() / SHARE {
        return Upper::fitting(directory);
    }
    Ok(Upper::Memory(directory))
}

fn expected_bytes(work: &PackageWork) -> u64 {
    work.waves.iter().flatten().map(|package| package.size.saturating_mul(EXPANSION)).sum()
}

fn is_in_memory(directory: &Utf8Path) -> io::Result<bool> {
    let parent = directory.parent().unwrap_or(directory);
    let magic = rustix::fs::statfs(parent.as_std_path())?.f_type;
    Ok(IN_MEMORY.contains(&u64::try_from(magic).unwrap_or_default()))
}

/// Memory that can be had without swapping (proc(5)); none if the kernel does not say.
fn available_bytes() -> u64 {
    available(&fs::read_to_string("/proc/meminfo").unwrap_or_default()).unwrap_or(0)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_much_memory_there_is() {
        let text = "MemTotal:  24000000 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\n";
        assert_eq!(available(text), Some(20_000_000 * 1024));
        assert_eq!(available("MemTotal: 5 kB\n"), None);
        assert_eq!(available("MemAvailable: many kB\n"), None);
    }
}
