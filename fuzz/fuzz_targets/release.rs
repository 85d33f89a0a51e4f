//! Any text is a Release file or an error, and what it lists stays below the suite.
#![no_main]

use jiff::{SignedDuration, Timestamp};
use kiln_debian::release::Release;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(release) = Release::parse(text) else { return };
    let _ = release.check_dates(Timestamp::UNIX_EPOCH, SignedDuration::ZERO);
    assert!(release.files.keys().all(|path| !path.starts_with('/') && !path.split('/').any(|part| part == "..")));
    for index in release.packages_indexes("main", "amd64").into_iter().flatten() {
        assert!(index.downloads.iter().all(|download| release.files.contains_key(&download.path)));
    }
});
