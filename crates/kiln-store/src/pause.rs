//! How long to wait before asking again.
//!
//! The pause doubles each time. Its jitter comes from the digest of what is asked for: many machines that lost one mirror
//! at the same moment ask for many files, and come back spread out; no random source is needed.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use kiln_model::digest::Sha256;

/// The pause after the failed attempt number `attempt` (from 1): `first`, doubled each time up to `longest`, then between
/// three and five quarters of that.
pub(crate) fn pause(first: Duration, longest: Duration, attempt: u32, seed: &Sha256) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    let bytes = seed.as_bytes();
    let byte = bytes[attempt as usize % bytes.len()];
    doubled.min(longest).mul_f64(0.75 + f64::from(byte) / 512.0)
}

/// What a `Retry-After` header asks for: seconds, or a date, which is measured against the server's own `Date`.
/// RFC 9110, section 10.2.3.
pub(crate) fn retry_after(value: &str, server_date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let wait = http_date(value)?.duration_since(http_date(server_date?)?);
    Duration::try_from(wait).ok()
}

fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn check_retry_after(value: &str, seconds: Option<u64>) {
        assert_eq!(retry_after(value, Some(NOW)), seconds.map(Duration::from_secs), "{value}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        check_retry_after("120", Some(120));
        check_retry_after("0", Some(0));
        check_retry_after("Sun, 06 Nov 1994 08:50:07 GMT", Some(30));
        check_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", None);
        check_retry_after("-5", None);
        check_retry_after("soon", None);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", None), None);
    }

    #[test]
    fn pauses_grow_and_differ_between_files() {
        let pauses: Vec<_> = (1..=5)
            .map(|attempt| pause(Duration::from_millis(100), Duration::from_secs(1), attempt, &Sha256::of(b"a")))
            .collect();
        assert!(pauses[0] < pauses[2] && pauses[2] < pauses[4], "{pauses:?}");
        let other = pause(Duration::from_millis(100), Duration::from_secs(1), 1, &Sha256::of(b"b"));
        assert_ne!(pauses[0], other);
    }

    proptest! {
        #[test]
        fn pause_is_bounded(attempt: u32, seed: [u8; 32]) {
            let longest = Duration::from_secs(8);
            let wait = pause(Duration::from_millis(500), longest, attempt, &Sha256::from_bytes(seed));
            prop_assert!(wait >= Duration::from_millis(375) && wait <= longest.mul_f64(1.25));
        }
    }
}
