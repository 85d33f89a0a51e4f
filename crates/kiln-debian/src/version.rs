//! Debian version numbers, `[epoch:]upstream[-revision]`, and their order: deb-version(7).
//!
//! [`compare`] orders any two texts, allocates nothing and never fails, so that an index can be sorted as it is read;
//! [`Version`] is a text that dpkg would accept without a warning.
//!
//! Different texts may be the same version (`1.0` and `1.00`, `1` and `0:1-0`): equality here is dpkg's.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A version number that dpkg accepts, as it was written; compares as dpkg compares.
#[derive(Debug, Clone)]
pub struct Version(String);

/// dpkg would refuse this version number, or warn of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a Debian version number: {reason}")]
pub struct VersionError {
    text: String,
    reason: &'static str,
}

/// The three parts of a version number; absent parts are empty, which is the same as `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Before the first colon.
    pub epoch: &'a str,
    /// What the author of the software calls it.
    pub upstream: &'a str,
    /// Behind the last hyphen.
    pub revision: &'a str,
}

/// Orders two version numbers as `dpkg --compare-versions` does.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (left, right) = (Parts::of(left), Parts::of(right));
    compare_part(left.epoch, right.epoch)
        .then_with(|| compare_part(left.upstream, right.upstream))
        .then_with(|| compare_part(left.revision, right.revision))
}

impl<'a> Parts<'a> {
    /// Cuts a version number where dpkg cuts it; never fails, checks nothing.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let (epoch, rest) = text.split_once(':').unwrap_or(("", text));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self { epoch, upstream, revision }
    }
}

/// Alternates between a stretch without digits, compared by rank, and a number, compared by value of any length.
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let order = compare_text(&mut left, &mut right).then_with(|| compare_number(&mut left, &mut right));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Compares the stretches before the next digit and removes them.
fn compare_text(left: &mut &[u8], right: &mut &[u8]) -> Ordering {
    while starts_with_text(left) || starts_with_text(right) {
        let order = rank(left.first()).cmp(&rank(right.first()));
        if order != Ordering::Equal {
            return order;
        }
        // Equal ranks here: neither is a digit and neither is at its end.
        *left = &left[1..];
        *right = &right[1..];
    }
    Ordering::Equal
}

fn starts_with_text(part: &[u8]) -> bool {
    part.first().is_some_and(|byte| !byte.is_ascii_digit())
}

/// `~` before the end of the part, which is the same as a digit, before letters, before everything else.
fn rank(byte: Option<&u8>) -> i16 {
    match byte {
        Some(b'~') => -1,
        None | Some(b'0'..=b'9') => 0,
        Some(&byte) if byte.is_ascii_alphabetic() => i16::from(byte),
        Some(&byte) => i16::from(byte) + 256,
    }
}

/// Compares the numbers in front (none counts as zero) and removes them.
fn compare_number(left: &mut &[u8], right: &mut &[u8]) -> Ordering {
    let (left, right) = (take_number(left), take_number(right));
    // Without leading zeros the longer is the larger; of equal length, the first different digit decides.
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn take_number<'a>(part: &mut &'a [u8]) -> &'a [u8] {
    let end = part.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(part.len());
    let (number, rest) = part.split_at(end);
    *part = rest;
    let zeros = number.iter().position(|&digit| digit != b'0').unwrap_or(number.len());
    &number[zeros..]
}

impl Version {
    /// The version number that `text` writes.
    ///
    /// # Errors
    /// When `dpkg --validate-version` would refuse it or warn of it.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        match flaw(text) {
            None => Ok(Self(text.to_owned())),
            Some(reason) => Err(VersionError { text: text.to_owned(), reason }),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        Parts::of(&self.0)
    }
}

/// What is wrong with a version number, if anything is.
fn flaw(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    let parts = Parts::of(text);
    epoch_flaw(text, parts.epoch)
        .or_else(|| upstream_flaw(parts.upstream))
        .or_else(|| revision_flaw(text, parts.revision))
}

fn epoch_flaw(text: &str, epoch: &str) -> Option<&'static str> {
    let digits_only = epoch.bytes().all(|byte| byte.is_ascii_digit());
    match epoch.parse::<i32>() {
        _ if !text.contains(':') => None,
        _ if epoch.is_empty() => Some("the epoch is empty"),
        _ if !digits_only => Some("the epoch is not a number"),
        Err(_) => Some("the epoch is too big"),
        Ok(_) => None,
    }
}

fn upstream_flaw(upstream: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-+~:".contains(&byte);
    if upstream.is_empty() {
        Some("nothing stands before the revision")
    } else if !upstream.starts_with(|first: char| first.is_ascii_digit()) {
        Some("it does not start with a digit")
    } else if !upstream.bytes().all(allowed) {
        Some("it has a character that is not a letter, digit or one of `.-+~:`")
    } else {
        None
    }
}

fn revision_flaw(text: &str, revision: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".+~".contains(&byte);
    if revision.is_empty() {
        return text.ends_with('-').then_some("the revision is empty");
    }
    (!revision.bytes().all(allowed))
        .then_some("the revision has a character that is not a letter, digit or one of `.+~`")
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Version {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `chain` is a rising sequence: `a < b = c < d`.
    fn check_order(chain: &str) {
        let words: Vec<&str> = chain.split(' ').collect();
        for step in words.windows(3).step_by(2) {
            let expected = if step[1] == "<" { Ordering::Less } else { Ordering::Equal };
            assert_eq!(compare(step[0], step[2]), expected, "{step:?}");
            assert_eq!(compare(step[2], step[0]), expected.reverse(), "{step:?}");
        }
    }

    #[test]
    fn order_is_debians() {
        check_order("1.0~~ < 1.0~~a < 1.0~ < 1.0~rc1 < 1.0 < 1.0-1 < 1.0-1+b1 < 1.0-1.1 < 1.0a < 1.0+dfsg < 1.0.1");
        check_order("1 = 0:1 = 1-0 = 01 = 1-00 < 1-0.1 < 1-1 < 1.0");
        check_order("9 < 10 < 99999999999999999999 < 100000000000000000000 < 1:0 < 2:0 < 10:0");
        check_order("1 < 1a < 1b < 1z < 1+ < 1--0 < 1--1");
        check_order("1.2.3-4 < 1.2.3-4+deb13u1 < 1.2.3-4+deb13u2 < 1.2.3-4+deb13u10");
        check_order("3.5.7-1~deb13u2 < 3.5.7-1~deb13u3 < 3.5.7-1");
        check_order("A < Z < a < z");
    }

    fn check_flaw(text: &str, reason: Option<&str>) {
        let found = Version::parse(text).err().map(|error| error.reason);
        assert_eq!(found, reason, "{text:?}");
    }

    #[test]
    fn what_dpkg_refuses_is_refused() {
        for good in ["1", "0", "1:2:3-4-5", "2147483647:1", "1.0+~-1", "0~"] {
            check_flaw(good, None);
        }
        check_flaw("", Some("it is empty"));
        check_flaw(":1", Some("the epoch is empty"));
        check_flaw("1:", Some("nothing stands before the revision"));
        check_flaw("+1:1", Some("the epoch is not a number"));
        check_flaw("2147483648:1", Some("the epoch is too big"));
        check_flaw("a1", Some("it does not start with a digit"));
        check_flaw("-1", Some("nothing stands before the revision"));
        check_flaw("1-", Some("the revision is empty"));
        check_flaw("1_0", Some("it has a character that is not a letter, digit or one of `.-+~:`"));
        check_flaw("1 0", Some("it has a character that is not a letter, digit or one of `.-+~:`"));
        check_flaw("1:1-a_b", Some("the revision has a character that is not a letter, digit or one of `.+~`"));
    }

    #[test]
    fn error_shows_the_text() {
        let error = Version::parse("x").unwrap_err();
        assert_eq!(error.to_string(), "`x` is not a Debian version number: it does not start with a digit");
    }

    proptest! {
        #[test]
        fn order_is_total(a in "[01a~+.:-]{0,6}", b in "[01a~+.:-]{0,6}", c in "[01a~+.:-]{0,6}") {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            let mut sorted = [a, b, c];
            sorted.sort_by(|left, right| compare(left, right));
            prop_assert!(compare(&sorted[0], &sorted[2]).is_le());
            prop_assert!(compare(&sorted[0], &sorted[1]).is_le() && compare(&sorted[1], &sorted[2]).is_le());
        }

        #[test]
        fn equal_versions_order_alike(a in "[01a~+.:-]{0,4}", b in "[01a~+.:-]{0,4}", c in "[01a~+.:-]{0,4}") {
            if compare(&a, &b).is_eq() {
                prop_assert_eq!(compare(&a, &c), compare(&b, &c));
            }
        }

        #[test]
        fn any_text_can_be_compared_and_parsed(a in any::<String>(), b in any::<String>()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if let Ok(version) = Version::parse(&a) {
                prop_assert_eq!(version.as_str(), a.as_str());
            }
        }
    }
}
