//! Any bytes are entries and problems.
#![no_main]

use kiln_debian::sources::Sources;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut sources = Sources::default();
    sources.add("a.list", bytes);
    sources.add("a.sources", bytes);
    for entry in &sources.entries {
        assert!(entry.line > 0 && !entry.uris.is_empty() && !entry.suites.is_empty());
    }
});
