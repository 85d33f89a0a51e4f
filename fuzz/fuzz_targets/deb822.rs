//! Any bytes are walked to their end, and a text read in blocks has the paragraphs that it has in memory.
#![no_main]

use kiln_debian::deb822::{Blocks, Paragraph, Paragraphs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for paragraph in Paragraphs::with_comments(bytes).flatten() {
        assert!(!paragraph.fields().is_empty());
        assert!(paragraph.fields().iter().all(|field| field.lines().count() >= 1));
    }
    let whole: Vec<_> = Paragraphs::new(bytes).map(|found| found.map(|paragraph| show(&paragraph))).collect();
    let mut blocks = Blocks::new(bytes);
    let mut read = Vec::new();
    while let Some(block) = blocks.next_block().expect("a slice never fails to be read") {
        read.extend(block.map(|found| found.map(|paragraph| show(&paragraph))));
    }
    assert_eq!(whole, read);
});

fn show(paragraph: &Paragraph<'_>) -> String {
    format!("{paragraph:?}")
}
