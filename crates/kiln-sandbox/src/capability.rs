//! What root may do inside, and capabilities of files in one form.
//!
//! A file's capabilities are the extended attribute `security.capability`. The kernel writes it as version 2 for real
//! root, and as version 3, with the id of the namespace's root, for root of a user namespace. An image needs version 2:
//! [`image_form`] makes it from either. Formats: linux/capability.h, `struct vfs_cap_data` and `vfs_ns_cap_data`.

use std::io;

use rustix::thread::{CapabilitySet, clear_ambient_capability_set, remove_capability_from_bounding_set};

/// The extended attribute that holds a file's capabilities.
pub const FILE_CAPABILITY: &str = "security.capability";

const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const SIZE_2: usize = 20;
const SIZE_3: usize = 24;

/// What maintainer scripts and configuration tools need as root. Not among them, among others: mounting, modules, the
/// clock, tracing, the network, raw devices and device nodes (an ordinary user could not make those either).
pub(crate) const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// Takes all but [`KEPT`] from every program that this process will start, for good.
///
/// A program started by root gets its capabilities from the bounding set, so that is the one to cut; set-user-id programs
/// and capabilities of files cannot give back what it lacks. That is why `no_new_privs` is not needed, and `su` works.
pub(crate) fn drop_for_programs() -> io::Result<()> {
    clear_ambient_capability_set()?;
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel knows no capability of this number, nor any after it.
            Err(rustix::io::Errno::INVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

/// The form of a `security.capability` value that belongs in an image: version 2. None if the bytes are neither
/// version 2 nor 3.
#[must_use]
pub fn image_form(value: &[u8]) -> Option<[u8; SIZE_2]> {
    let (magic, rest) = value.split_first_chunk::<4>()?;
    let magic = u32::from_le_bytes(*magic);
    let size = match magic & REVISION_MASK {
        REVISION_2 => SIZE_2,
        REVISION_3 => SIZE_3,
        _ => return None,
    };
    if value.len() != size {
        return None;
    }
    let mut form = [0; SIZE_2];
    let (head, sets) = form.split_at_mut(4);
    head.copy_from_slice(&(REVISION_2 | (magic & !REVISION_MASK)).to_le_bytes());
    sets.copy_from_slice(rest.get(..SIZE_2 - 4)?);
    Some(form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `cap_net_raw=ep`, as `setcap` writes it for real root.
    const NET_RAW: [u8; SIZE_2] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn both_versions_become_the_second() {
        assert_eq!(image_form(&NET_RAW), Some(NET_RAW));
        let mut third = [NET_RAW.as_slice(), &100_000_u32.to_le_bytes()].concat();
        third[3] = 3;
        assert_eq!(image_form(&third), Some(NET_RAW));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in [&NET_RAW[..19], &[], &[0; 20], &[NET_RAW.as_slice(), &[0; 4]].concat()] {
            assert_eq!(image_form(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_the_form_is_stable(value in prop::collection::vec(any::<u8>(), 0..30)) {
            if let Some(form) = image_form(&value) {
                prop_assert_eq!(image_form(&form), Some(form));
            }
        }
    }
}
