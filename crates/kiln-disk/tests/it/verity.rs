//! Hash trees: those that `veritysetup` makes, damage, and hashes that are used again.

use std::io::Write as _;

use kiln_disk::verity::{BLOCK_BYTES, HashTree, Hashing, Leaves, Salt, Superblock, VerityError, verify};
use kiln_model::digest::Sha256;
use proptest::prelude::*;

const UUID: [u8; 16] = *b"0123456789abcdef";

fn image(blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK_BYTES)
        .map(|index| (index / 7 + index / BLOCK_BYTES * 3) % 251)
        .map(|byte| u8::try_from(byte).unwrap())
        .collect()
}

fn salt() -> Salt {
    Salt::new(&[0xab; 32]).unwrap()
}

/// The root hash of an image, and its hash device.
fn sealed(image: &[u8], salt: &Salt) -> (Sha256, Vec<u8>) {
    let mut leaves = Leaves::default();
    leaves.extend(salt.hash_blocks(image));
    device(&leaves, salt)
}

fn device(leaves: &Leaves, salt: &Salt) -> (Sha256, Vec<u8>) {
    let tree = HashTree::of(leaves, salt).unwrap();
    let mut hashes = Vec::new();
    tree.write(UUID, &mut hashes).unwrap();
    assert_eq!(hashes.len() as u64, tree.size_bytes());
    (tree.root(), hashes)
}

/// Root hashes by `veritysetup format --salt=abab... --uuid=30313233-3435-3637-3839-616263646566` (cryptsetup 2.6.1), and
/// the digests of its hash devices.
#[test]
fn roots_and_devices_are_those_of_veritysetup() {
    let facts = [1, 2, 128, 129, 300, 20_000].map(|blocks| {
        let (root, hashes) = sealed(&image(blocks), &salt());
        format!("{blocks} {root} {}", Sha256::of(&hashes))
    });
    insta::assert_snapshot!(facts.join("\n"), @r"
    1 aa2b2e29ac992d672493ec843a52c033ec09780eb25f8eea32a17d5c35c87573 8200fdc8b9629e734128f5182ac12b29a0efa9da45c60a3fca3ea86e44a153a9
    2 7ee846414da54ec4f748ff5426257024eda5d44d154beb13aaa927cf28fde43e 0f338f7231f4435e7c8b77f3a4a938867fe43d4817a0a2cd63e941e9f0475593
    128 9469053b863703c142e0011d1fbf2fc11a52e9b196c49a6117d5480a74bc4f1f db2ffe4bf1a3e6a83b5765899ad8b6b0c713645e968e30e13d52c4cf904c71ef
    129 37063f06f6cb4566192b0beb17233a6cfad945030255036342b389ffedf6c6e6 4cbc82633449e088edea390f95c9adc12180d97d4fb535e36f2d2bbaff8f1deb
    300 dc57dd788225af4f95553e9e9dd4df9ac234ddc929ad69ab6bd7420de15c5cfe 187c132bc90993beda3ffb7bb84684828516a03ce81c7c041040cefd65f6a6c9
    20000 2bd834ee77fffb245b37451a9d45b02f3d6f13f085b4c098fc86b6631cf37ea1 167462fa39e09c4b57ecad455dffe520e8b20ed3afb82612776bc3798030f310
    ");
}

#[test]
fn an_image_agrees_with_its_hashes() {
    for blocks in [1, 2, 128, 129, 300] {
        for salt in [salt(), Salt::new(&[]).unwrap(), Salt::new(&[1; 256]).unwrap()] {
            let image = image(blocks);
            let (root, hashes) = sealed(&image, &salt);
            let found = verify(image.as_slice(), hashes.as_slice(), &root).unwrap();
            assert_eq!(found, Superblock { uuid: UUID, salt, data_blocks: blocks as u64 });
            let other = Sha256::of(b"");
            assert!(verify(image.as_slice(), hashes.as_slice(), &other).is_err());
        }
    }
}

#[test]
fn what_has_no_tree_is_refused() {
    assert!(matches!(Salt::new(&[0; 257]), Err(VerityError::Salt { size_bytes: 257 })));
    assert!(matches!(HashTree::of(&Leaves::default(), &salt()), Err(VerityError::Size)));
    let mut hashing = Hashing::new(Vec::new(), salt());
    hashing.write_all(&[0; BLOCK_BYTES + 1]).unwrap();
    assert!(matches!(hashing.finish(), Err(VerityError::Size)));
    let (_, single) = sealed(&image(1), &salt());
    assert!(matches!(Leaves::read(single.as_slice()), Err(VerityError::Superblock { .. })));
    let mut leaves = Leaves::unknown(2);
    assert!(leaves.set(1, &[Sha256::of(b""), Sha256::of(b"")]).is_err());
    assert!(leaves.copy(0, &Leaves::unknown(1), 1, 1).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_flipped_bit_is_found_and_named(blocks in 1_usize..300, place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut image = image(blocks);
        let (root, mut hashes) = sealed(&image, &salt());
        let byte = place.index(image.len());
        image[byte] ^= 1_u8 << bit;
        let found = verify(image.as_slice(), hashes.as_slice(), &root);
        let is_named = matches!(found, Err(VerityError::DataBlock { block }) if block == (byte / BLOCK_BYTES) as u64);
        prop_assert!(is_named);
        image[byte] ^= 1_u8 << bit;
        let byte = place.index(hashes.len());
        hashes[byte] ^= 1_u8 << bit;
        // The identity is nobody's proof of anything; all other bits count.
        let is_identity = (16..32).contains(&byte);
        prop_assert_eq!(verify(image.as_slice(), hashes.as_slice(), &root).is_ok(), is_identity);
        hashes.truncate(byte);
        prop_assert!(verify(image.as_slice(), hashes.as_slice(), &root).is_err());
    }

    #[test]
    fn pieces_of_any_size_give_the_same_leaves(cuts in prop::collection::vec(1_usize..10_000, 1..10)) {
        let image = image(9);
        let mut hashing = Hashing::new(Vec::new(), salt());
        let mut rest = image.as_slice();
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            hashing.write_all(now).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let (written, leaves) = hashing.finish().unwrap();
        prop_assert_eq!(&written, &image);
        prop_assert_eq!(leaves.as_slice(), salt().hash_blocks(&image));
    }

    #[test]
    fn only_changed_blocks_need_to_be_hashed(changed in prop::collection::btree_set(0_usize..200, 0..5), more in 0_usize..3) {
        let old = image(200);
        let (_, old_hashes) = sealed(&old, &salt());
        let mut new = old.clone();
        new.extend(vec![9; more * BLOCK_BYTES]);
        for block in &changed {
            new[block * BLOCK_BYTES] ^= 0xff;
        }
        let (superblock, before) = Leaves::read(old_hashes.as_slice()).unwrap();
        let mut leaves = Leaves::unknown(200 + more);
        leaves.copy(0, &before, 0, before.len()).unwrap();
        for block in changed.into_iter().chain(200..200 + more) {
            let bytes = &new[block * BLOCK_BYTES..][..BLOCK_BYTES];
            leaves.set(block, &superblock.salt.hash_blocks(bytes)).unwrap();
        }
        prop_assert_eq!(device(&leaves, &salt()), sealed(&new, &salt()));
    }
}
