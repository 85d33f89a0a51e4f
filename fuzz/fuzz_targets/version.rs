//! The order of any three texts, one a line, is total; whatever parses reads back as it was.
#![no_main]

use kiln_debian::version::{Version, compare};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut texts: Vec<&str> = text.splitn(3, '\n').collect();
    for left in &texts {
        assert!(compare(left, left).is_eq());
        if let Ok(version) = Version::parse(left) {
            assert_eq!(&version.as_str(), left);
        }
        for right in &texts {
            assert_eq!(compare(left, right), compare(right, left).reverse());
        }
    }
    texts.sort_by(|left, right| compare(left, right));
    assert!(compare(texts[0], texts[texts.len() - 1]).is_le());
});
