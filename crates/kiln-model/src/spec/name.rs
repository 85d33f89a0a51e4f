//! Names that people give to classes, groups, environments and distributions.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A lower-case letter, then lower-case letters, digits and hyphens: fit for host names, file names and units alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be a name")]
pub struct NameError {
    text: String,
}

/// A label of a host name is no longer (RFC 1035, section 2.3.4).
const CHARACTERS_MAX: usize = 63;

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NameError {
    /// What a name consists of: a lower-case sentence fragment.
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "a name is a lower-case letter, then letters, digits and hyphens, at most {CHARACTERS_MAX} in all: web-eu1"
        )
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let starts = text.starts_with(|first: char| first.is_ascii_lowercase());
        let goes_on = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        match starts && goes_on && text.len() <= CHARACTERS_MAX {
            true => Ok(Self(text.to_owned())),
            false => Err(NameError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_labels() {
        for text in ["a", "web", "build-agent", "db2", &"a".repeat(63)] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        for text in ["", "Web", "2web", "-web", "we_b", "wéb", "a.b", "a b", &"a".repeat(64)] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
