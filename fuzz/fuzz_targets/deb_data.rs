//! Any bytes are the data of a package or an error; no path leads out of a tree.
#![no_main]

use kiln_debian::deb::data::{EntryKind, read_entries};
use libfuzzer_sys::fuzz_target;

fn stays_inside(path: &[u8]) -> bool {
    let is_plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    path.is_empty() || path.split(|byte| *byte == b'/').all(is_plain)
}

fuzz_target!(|bytes: &[u8]| {
    let _ = read_entries(bytes, |entry, content| {
        assert!(stays_inside(&entry.path));
        if let EntryKind::HardLink { to } = &entry.kind {
            assert!(stays_inside(to));
        }
        std::io::copy(content, &mut std::io::sink()).map(drop)
    });
});
