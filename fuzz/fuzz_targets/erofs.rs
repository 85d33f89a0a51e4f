//! Any bytes are an image or an error; an image that is read and can be written reads back as it was.
#![no_main]

use std::io::{Cursor, Read as _};

use kiln_disk::Entry;
use kiln_disk::erofs::{Check, Image, Layout};
use libfuzzer_sys::fuzz_target;

/// Where the superblock says whether it has a checksum: nothing behind that check would be reached.
const FEATURES: usize = 1032;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if let Some(features) = bytes.get_mut(FEATURES) {
        *features &= !1;
    }
    let Ok(mut image) = Image::open(Cursor::new(bytes)) else { return };
    let tree = image.tree().expect("a slice never fails to be read");
    assert!(tree.entries().all(|(_, entry)| !matches!(entry, Entry::HardLink { to } if tree.get(to).is_none())));
    // Of attributes that are only just possible others may have a denser form than ours.
    let Ok(layout) = Layout::measure(&tree, |_| 0_u8) else { return };
    let mut again = Vec::new();
    let open = |content: kiln_disk::tar::Content<'_>| {
        let mut bytes = Vec::new();
        image.content(content.path).expect("a file of the tree").read_to_end(&mut bytes)?;
        Ok(Cursor::new(bytes))
    };
    layout.write(Check::Digest, open, &mut again).expect("contents that were just read");
    let back = Image::open(Cursor::new(again)).and_then(|mut image| image.tree()).expect("an image of Kiln's");
    assert_eq!(back.to_text(), tree.to_text());
});
