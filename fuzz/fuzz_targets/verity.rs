//! Any bytes are a hash device or an error, and memory does not grow with what it claims to have.
#![no_main]

use kiln_disk::verity::{HashTree, Leaves, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((superblock, leaves)) = Leaves::read(bytes) else { return };
    assert!(leaves.len() * 32 <= bytes.len());
    let Ok(tree) = HashTree::of(&leaves, &superblock.salt) else { return };
    // Whatever the device is, these bytes do not belong to it: nobody knows what hashes to them.
    assert!(verify(bytes, bytes, &tree.root()).is_err());
});
