//! Any bytes are a package or an error; neither its control part nor its data grows without bound.
#![no_main]

use std::io::Read as _;

use kiln_debian::deb::Deb;
use libfuzzer_sys::fuzz_target;

const DATA_BYTES_MAX: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(deb) = Deb::open(bytes) else { return };
    assert!(deb.control().fields().get("Package").is_some());
    let Ok((_, data)) = deb.into_data() else { return };
    let mut tar = Vec::new();
    if data.decompress(DATA_BYTES_MAX).read_to_end(&mut tar).is_ok() {
        assert!(tar.len() as u64 <= DATA_BYTES_MAX);
    }
});
