//! Durations and sizes as people write them: whole numbers that always carry their unit, never a bare number.
//!
//! `15s`, `10m`, `1h30m`, `14d`; `512MiB`, `1GB`, `4KiB`. What is printed reads back as the same value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, in whole milliseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    milliseconds: u64,
}

/// A number of bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    bytes: u64,
}

/// Why a text is not a duration or not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It does not consist of numbers and units.
    #[error("`{text}` is not a {quantity}")]
    Malformed {
        /// `duration` or `size`.
        quantity: &'static str,
        /// What was written.
        text: String,
    },
    /// The last number stands alone.
    #[error("`{text}` lacks a unit")]
    NoUnit {
        /// `duration` or `size`.
        quantity: &'static str,
        /// What was written.
        text: String,
    },
    /// A number is followed by something that is not a unit.
    #[error("`{unit}` in `{text}` is not a unit of {quantity}")]
    UnknownUnit {
        /// `duration` or `size`.
        quantity: &'static str,
        /// What was written.
        text: String,
        /// The part that should be a unit.
        unit: String,
    },
    /// A unit comes after a smaller one, or a second time.
    #[error("`{unit}` in `{text}` comes after a unit that is not larger")]
    Order {
        /// What was written.
        text: String,
        /// The unit in the wrong place.
        unit: String,
    },
    /// The value does not fit in 64 bits.
    #[error("`{text}` is too large")]
    Overflow {
        /// `duration` or `size`.
        quantity: &'static str,
        /// What was written.
        text: String,
    },
}

/// Largest first: the order in which they may be combined.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1000), ("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

/// Largest first: [`Size`] prints the first that divides it.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl Duration {
    /// A duration of whole milliseconds.
    #[must_use]
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self { milliseconds }
    }

    /// A duration of whole seconds; the longest one where that many do not fit.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self { milliseconds: seconds.saturating_mul(1000) }
    }

    /// Its length in milliseconds.
    #[must_use]
    pub const fn as_milliseconds(self) -> u64 {
        self.milliseconds
    }

    /// Both together; the longest duration where that does not fit.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self { milliseconds: self.milliseconds.saturating_add(other.milliseconds) }
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_millis(duration.milliseconds)
    }
}

impl Size {
    /// A size of whole bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// A size of whole mebibytes; the largest one where that many do not fit.
    #[must_use]
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self { bytes: mebibytes.saturating_mul(1 << 20) }
    }

    /// Its number of bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.bytes
    }
}

impl UnitError {
    /// What to write instead: a lower-case sentence fragment.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Order { .. } => "begin with the largest unit, and use each once: 1h30m".to_owned(),
            Self::NoUnit { quantity: "duration", text } if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("write {text}s, {text}m, {text}h or {text}d")
            }
            Self::NoUnit { quantity: "duration", .. } => "each number has its unit: 1h30m, 1m5s".to_owned(),
            Self::NoUnit { text, .. } => format!("write {text}MiB, or another of {}", size_unit_names()),
            Self::Malformed { quantity: "duration", .. } | Self::UnknownUnit { quantity: "duration", .. } => {
                "write whole numbers with d, h, m, s or ms: 15s, 10m, 1h30m, 14d".to_owned()
            }
            Self::Malformed { .. } => "write a whole number and a unit: 512MiB, 1GB".to_owned(),
            Self::UnknownUnit { unit, .. } => match similar_size_unit(unit) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None => format!("units of size are {}", size_unit_names()),
            },
            Self::Overflow { quantity: "duration", .. } => {
                format!("the longest is {}", Duration { milliseconds: u64::MAX })
            }
            Self::Overflow { .. } => format!("the largest is {}", Size { bytes: u64::MAX }),
        }
    }
}

fn size_unit_names() -> String {
    SIZE_UNITS.map(|(name, _)| name).join(", ")
}

/// The binary unit meant by what other programs call `M`, `m`, `mb`, `mib`.
fn similar_size_unit(unit: &str) -> Option<&'static str> {
    let mut letters = unit.chars();
    let first = letters.next()?.to_ascii_uppercase();
    let rest = letters.as_str().to_ascii_lowercase();
    let wanted = if rest == "b" { 2 } else { 3 };
    let known = matches!(rest.as_str(), "" | "b" | "i" | "ib");
    SIZE_UNITS
        .iter()
        .map(|(name, _)| *name)
        .find(|name| known && name.len() == wanted && name.to_ascii_uppercase().starts_with(first))
}

impl FromStr for Duration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let quantity = "duration";
        let mut milliseconds: u64 = 0;
        let mut units = DURATION_UNITS.iter();
        let mut rest = text;
        loop {
            let (number, unit, after) = number_and_unit(quantity, text, rest)?;
            let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
                return Err(misplaced_or_unknown(text, unit));
            };
            milliseconds = times(number, *factor)
                .and_then(|part| milliseconds.checked_add(part))
                .ok_or_else(|| UnitError::Overflow { quantity, text: text.to_owned() })?;
            if after.is_empty() {
                return Ok(Self { milliseconds });
            }
            rest = after;
        }
    }
}

fn misplaced_or_unknown(text: &str, unit: &str) -> UnitError {
    let (text, unit) = (text.to_owned(), unit.to_owned());
    match DURATION_UNITS.iter().any(|(name, _)| *name == unit) {
        true => UnitError::Order { text, unit },
        false => UnitError::UnknownUnit { quantity: "duration", text, unit },
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let quantity = "size";
        let (number, unit, rest) = number_and_unit(quantity, text, text)?;
        if !rest.is_empty() {
            return Err(UnitError::Malformed { quantity, text: text.to_owned() });
        }
        let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(UnitError::UnknownUnit { quantity, text: text.to_owned(), unit: unit.to_owned() });
        };
        let bytes = times(number, *factor).ok_or_else(|| UnitError::Overflow { quantity, text: text.to_owned() })?;
        Ok(Self { bytes })
    }
}

/// Splits the next number and its unit off `rest`, a part of `text`.
fn number_and_unit<'a>(
    quantity: &'static str,
    text: &str,
    rest: &'a str,
) -> Result<(&'a str, &'a str, &'a str), UnitError> {
    let (number, rest) = split_while(rest, |character| character.is_ascii_digit());
    let (unit, rest) = split_while(rest, |character| character.is_ascii_alphabetic());
    match (number.is_empty(), unit.is_empty(), rest.is_empty()) {
        (false, false, _) => Ok((number, unit, rest)),
        (false, true, true) => Err(UnitError::NoUnit { quantity, text: text.to_owned() }),
        _ => Err(UnitError::Malformed { quantity, text: text.to_owned() }),
    }
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|character| !belongs(character)).unwrap_or(text.len()))
}

fn times(digits: &str, factor: u64) -> Option<u64> {
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

impl fmt::Display for Duration {
    /// Largest units first, each only where it is not zero: `1h30m`; nothing at all is `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milliseconds == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.milliseconds;
        for (name, factor) in DURATION_UNITS {
            if rest >= factor {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    /// The largest unit that leaves a whole number: `512MiB`, `1GB`, `1025B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.bytes >= *factor && self.bytes.is_multiple_of(*factor);
        let (name, factor) = SIZE_UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.bytes / factor)
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_duration(text: &str, milliseconds: u64, printed: &str) {
        let duration: Duration = text.parse().unwrap();
        assert_eq!((duration.as_milliseconds(), duration.to_string().as_str()), (milliseconds, printed), "{text}");
    }

    fn check_size(text: &str, bytes: u64, printed: &str) {
        let size: Size = text.parse().unwrap();
        assert_eq!((size.as_bytes(), size.to_string().as_str()), (bytes, printed), "{text}");
    }

    fn check_refused<T: FromStr<Err = UnitError> + fmt::Debug>(text: &str, message: &str, hint: &str) {
        let error = text.parse::<T>().unwrap_err();
        assert_eq!((error.to_string().as_str(), error.hint().as_str()), (message, hint));
    }

    #[test]
    fn durations_are_read() {
        check_duration("15s", 15_000, "15s");
        check_duration("10m", 600_000, "10m");
        check_duration("14d", 1_209_600_000, "14d");
        check_duration("1h30m", 5_400_000, "1h30m");
        check_duration("90m", 5_400_000, "1h30m");
        check_duration("1500ms", 1_500, "1s500ms");
        check_duration("0s", 0, "0s");
        check_duration("0d0ms", 0, "0s");
    }

    #[test]
    fn sizes_are_read() {
        check_size("512MiB", 512 << 20, "512MiB");
        check_size("1GB", 1_000_000_000, "1GB");
        check_size("4KiB", 4096, "4KiB");
        check_size("1024MiB", 1 << 30, "1GiB");
        check_size("1025B", 1025, "1025B");
        check_size("0TiB", 0, "0B");
    }

    #[test]
    fn other_durations_are_refused() {
        let example = "write whole numbers with d, h, m, s or ms: 15s, 10m, 1h30m, 14d";
        for text in ["", " ", "s", "-1s", "+1s", "1.5h", "1h 30m", "15 s", "1h30", "٣s"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
        check_refused::<Duration>("15", "`15` lacks a unit", "write 15s, 15m, 15h or 15d");
        check_refused::<Duration>("1h5", "`1h5` lacks a unit", "each number has its unit: 1h30m, 1m5s");
        check_refused::<Duration>("soon", "`soon` is not a duration", example);
        check_refused::<Duration>("", "`` is not a duration", example);
        check_refused::<Duration>("2weeks", "`weeks` in `2weeks` is not a unit of duration", example);
        let order = "begin with the largest unit, and use each once: 1h30m";
        check_refused::<Duration>("5s1h", "`h` in `5s1h` comes after a unit that is not larger", order);
        check_refused::<Duration>("5s5s", "`s` in `5s5s` comes after a unit that is not larger", order);
        let longest = "the longest is 213503982334d14h25m51s615ms";
        check_refused::<Duration>("213503982334d14h25m51s616ms", "`213503982334d14h25m51s616ms` is too large", longest);
        check_refused::<Duration>("99999999999999999999s", "`99999999999999999999s` is too large", longest);
    }

    #[test]
    fn other_sizes_are_refused() {
        let units = "TiB, TB, GiB, GB, MiB, MB, KiB, kB, B";
        check_refused::<Size>("512", "`512` lacks a unit", &format!("write 512MiB, or another of {units}"));
        check_refused::<Size>("1.5GiB", "`1.5GiB` is not a size", "write a whole number and a unit: 512MiB, 1GB");
        check_refused::<Size>("1GiB1MiB", "`1GiB1MiB` is not a size", "write a whole number and a unit: 512MiB, 1GB");
        for (unit, meant) in [("M", "MiB"), ("g", "GiB"), ("mb", "MB"), ("KB", "kB"), ("mib", "MiB"), ("Ti", "TiB")] {
            let message = format!("`{unit}` in `1{unit}` is not a unit of size");
            check_refused::<Size>(&format!("1{unit}"), &message, &format!("did you mean `{meant}`?"));
        }
        check_refused::<Size>("1EiB", "`EiB` in `1EiB` is not a unit of size", &format!("units of size are {units}"));
        check_refused::<Size>("16777216TiB", "`16777216TiB` is too large", "the largest is 18446744073709551615B");
    }

    proptest! {
        #[test]
        fn any_duration_reads_back(milliseconds in prop_oneof![any::<u64>(), 0..200_000_000_u64]) {
            let duration = Duration::from_milliseconds(milliseconds);
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }

        #[test]
        fn any_size_reads_back(bytes in prop_oneof![any::<u64>(), (0..1000_u64).prop_map(|mebibytes| mebibytes << 20)]) {
            let size = Size::from_bytes(bytes);
            prop_assert_eq!(size.to_string().parse::<Size>(), Ok(size));
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop_oneof![".*", "[0-9a-zA-Z]{0,30}", "([0-9]{1,22}(d|h|m|s|ms)){0,6}"]) {
            if let Ok(duration) = text.parse::<Duration>() {
                prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
            }
            if let Err(error) = text.parse::<Size>() {
                prop_assert!(!error.hint().is_empty());
            }
        }
    }
}
