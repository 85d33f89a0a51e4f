//! Java's keystore of trusted certificates, which notes when each came in.
//!
//! Format: JKS, as `sun.security.provider.JavaKeyStore` of OpenJDK reads it. Numbers are big-endian: magic, version, number
//! of entries; an entry is its kind, alias, date in milliseconds since 1970, and its certificates; at the end is SHA-1 of
//! the password as UTF-16, the words `Mighty Aphrodite`, and all that was before.

use sha1::{Digest as _, Sha1};

const MAGIC: u32 = 0xfeed_feed;
const TRUSTED_CERTIFICATE: u32 = 2;
const DIGEST_BYTES: usize = 20;

/// The password of Debian's `/etc/ssl/certs/java/cacerts`, unless `/etc/default/cacerts` says otherwise.
const PASSWORD: &str = "changeit";

/// The keystore with every date that is later than the epoch (in seconds since 1970) set to it. None if it needs no change,
/// or is not what Debian makes.
pub(super) fn with_dates(keystore: &[u8], epoch: i64) -> Option<Vec<u8>> {
    let (body, digest) = keystore.split_at_checked(keystore.len().checked_sub(DIGEST_BYTES)?)?;
    if digest_of(body) != digest {
        return None;
    }
    let latest = epoch.checked_mul(1000)?;
    let mut changed = body.to_vec();
    for at in dates(body)? {
        let date: &mut [u8; 8] = changed.get_mut(at..at.checked_add(8)?)?.try_into().ok()?;
        if i64::from_be_bytes(*date) > latest {
            *date = latest.to_be_bytes();
        }
    }
    if changed == body {
        return None;
    }
    changed.extend(digest_of(&changed));
    Some(changed)
}

fn digest_of(body: &[u8]) -> Vec<u8> {
    let mut hasher = Sha1::new();
    PASSWORD.encode_utf16().for_each(|unit| hasher.update(unit.to_be_bytes()));
    hasher.update(b"Mighty Aphrodite");
    hasher.update(body);
    hasher.finalize().to_vec()
}

/// Where the dates are.
fn dates(body: &[u8]) -> Option<Vec<usize>> {
    let mut reader = Reader { body, at: 0 };
    let (magic, version, entries) = (reader.number()?, reader.number()?, reader.number()?);
    if magic != MAGIC || version != 2 {
        return None;
    }
    let mut dates = Vec::new();
    for _ in 0..entries {
        if reader.number()? != TRUSTED_CERTIFICATE {
            return None;
        }
        reader.skip_text()?;
        dates.push(reader.at);
        reader.skip(8)?;
        reader.skip_text()?;
        let size = reader.number()?;
        reader.skip(usize::try_from(size).ok()?)?;
    }
    (reader.at == body.len()).then_some(dates)
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self) -> Option<u32> {
        let (number, _) = self.body.get(self.at..)?.split_first_chunk::<4>()?;
        self.at += 4;
        Some(u32::from_be_bytes(*number))
    }

    /// A text of Java's: its length in two bytes, and as many more.
    fn skip_text(&mut self) -> Option<()> {
        let (length, _) = self.body.get(self.at..)?.split_first_chunk::<2>()?;
        self.skip(2 + usize::from(u16::from_be_bytes(*length)))
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes)?;
        (self.at <= self.body.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
    }

    fn keystore(dates: &[i64]) -> Vec<u8> {
        let mut bytes = [MAGIC, 2, u32::try_from(dates.len()).unwrap()].map(u32::to_be_bytes).concat();
        for date in dates {
            bytes.extend(TRUSTED_CERTIFICATE.to_be_bytes());
            bytes.extend(text("debian:some_root.pem"));
            bytes.extend(date.to_be_bytes());
            bytes.extend(text("X.509"));
            bytes.extend([0, 0, 0, 3, 1, 2, 3]);
        }
        bytes.extend(digest_of(&bytes));
        bytes
    }

    #[test]
    fn later_dates_become_the_epoch() {
        assert_eq!(with_dates(&keystore(&[7_001, 5_000, i64::MAX]), 7), Some(keystore(&[7_000, 5_000, 7_000])));
        assert_eq!(with_dates(&keystore(&[7_000, 1]), 7), None);
    }

    #[test]
    fn what_is_no_such_keystore_is_left_alone() {
        let good = keystore(&[7_001, 8_000]);
        for length in 0..good.len() {
            assert_eq!(with_dates(&good[..length], 7), None, "{length}");
        }
        let mut other_password = good.clone();
        *other_password.last_mut().unwrap() ^= 1;
        assert_eq!(with_dates(&other_password, 7), None);
        for at in 0..good.len() - DIGEST_BYTES {
            let mut damaged = good[..good.len() - DIGEST_BYTES].to_vec();
            damaged[at] ^= 0xff;
            damaged.extend(digest_of(&damaged));
            // Whatever it reads as, it is the same length and reads again.
            if let Some(changed) = with_dates(&damaged, 7) {
                assert_eq!((changed.len(), with_dates(&changed, 7)), (good.len(), None), "{at}");
            }
        }
    }
}
