//! A value followed by its own digest, for files whose name does not tell their digest.
//!
//! The digest comes last, so that a large value is checked and handed on where it was read, without a copy.

use kiln_model::digest::Sha256;

/// Ends every sealed value; another ending means a torn or foreign file.
const MARK: &[u8; 8] = b"kilnval1";
const DIGEST_BYTES: usize = 32;
const TRAILER_BYTES: usize = DIGEST_BYTES + MARK.len();

/// What follows `value` in its file.
pub(crate) fn trailer(value: &[u8]) -> [u8; TRAILER_BYTES] {
    let mut trailer = [0; TRAILER_BYTES];
    let (digest, mark) = trailer.split_at_mut(DIGEST_BYTES);
    digest.copy_from_slice(Sha256::of(value).as_bytes());
    mark.copy_from_slice(MARK);
    trailer
}

/// The value of a file's bytes; `None` when they are not as they were written.
pub(crate) fn open(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let length = bytes.len().checked_sub(TRAILER_BYTES)?;
    let (value, found) = bytes.split_at(length);
    if found != trailer(value) {
        return None;
    }
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(value: &[u8]) -> Vec<u8> {
        [value, &trailer(value)].concat()
    }

    proptest! {
        #[test]
        fn reads_back(value: Vec<u8>) {
            prop_assert_eq!(open(sealed(&value)), Some(value));
        }

        #[test]
        fn any_flipped_bit_is_noticed(value: Vec<u8>, place: prop::sample::Index, bit in 0..8) {
            let mut bytes = sealed(&value);
            let index = place.index(bytes.len());
            bytes[index] ^= 1_u8 << bit;
            prop_assert_eq!(open(bytes), None);
        }

        #[test]
        fn any_cut_is_noticed(value: Vec<u8>, place: prop::sample::Index) {
            let mut bytes = sealed(&value);
            bytes.truncate(place.index(bytes.len()));
            prop_assert_eq!(open(bytes), None);
        }
    }
}
