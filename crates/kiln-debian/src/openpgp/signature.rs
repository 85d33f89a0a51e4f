//! What a signature says of itself, and why it may not be believed.

use std::fmt;

use jiff::Timestamp;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureConfig, SignatureVersion, Subpacket, SubpacketData};

use crate::release::FUTURE_TOLERANCE;

/// Why one signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nobody in the keyring has this key.
    #[error("the key is not in the keyring")]
    UnknownKey,
    /// It does not say who made it.
    #[error("it does not name its key")]
    NoIssuer,
    /// A version of the format that is obsolete or not known.
    #[error("its format (version {version}) is not supported")]
    Format {
        /// As the packet says.
        version: u8,
    },
    /// Not a signature over a document.
    #[error("it is not a signature over a document")]
    NotOverDocument,
    /// A hash for which collisions can be made, or are feared.
    #[error("its hash {hash} is too weak")]
    WeakHash {
        /// The hash.
        hash: String,
    },
    /// It demands that its reader understands what Kiln does not.
    #[error("it has a critical part that is not known")]
    UnknownCriticalPart,
    /// It has no date.
    #[error("it has no date")]
    NoDate,
    /// Made later than now.
    #[error("it is from the future ({0})")]
    Future(Timestamp),
    /// It says itself that it is no longer valid.
    #[error("it expired on {0}")]
    Expired(Timestamp),
    /// The key's owner gave it up.
    #[error("the key is revoked")]
    KeyRevoked,
    /// The key's time is over.
    #[error("the key expired on {0}")]
    KeyExpired(Timestamp),
    /// Nothing valid says that this key belongs to its certificate.
    #[error("the key has no valid and strong signature that binds it to its certificate")]
    KeyUnbound,
    /// The key was made for something else.
    #[error("the key is not for signing")]
    KeyNotForSigning,
    /// Too short, or of a kind that is given up.
    #[error("the key is too weak ({algorithm})")]
    KeyWeak {
        /// Which kind.
        algorithm: String,
    },
    /// Made before its key was.
    #[error("it is older than its key")]
    OlderThanKey,
}

/// A signature that does not count, by the name of its key and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Fingerprint, or the short id where there is nothing else; empty when it does not say.
    pub key: String,
    /// Why.
    pub problem: Problem,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key.is_empty() { "(unnamed)" } else { &self.key };
        write!(f, "signature by {key}: {}", self.problem)
    }
}

/// Checks everything about a signature that can be known without its key. For signatures over documents as well as
/// for those inside certificates.
pub(super) fn check_form(signature: &Signature, now: Timestamp) -> Result<(), Problem> {
    let config = signature.config().ok_or_else(|| Problem::Format { version: signature.version().into() })?;
    if !matches!(config.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return Err(Problem::Format { version: config.version().into() });
    }
    if !is_strong(config.hash_alg) {
        return Err(Problem::WeakHash { hash: config.hash_alg.to_string() });
    }
    if config.hashed_subpackets().any(is_unknown_critical) {
        return Err(Problem::UnknownCriticalPart);
    }
    check_dates(config, signature, now)
}

fn check_dates(config: &SignatureConfig, signature: &Signature, now: Timestamp) -> Result<(), Problem> {
    let created_seconds = config.created().map(|created| i64::from(created.as_secs())).ok_or(Problem::NoDate)?;
    let created = timestamp(created_seconds);
    if created.duration_since(now) > FUTURE_TOLERANCE {
        return Err(Problem::Future(created));
    }
    match signature.signature_expiration_time().map(|lifetime| i64::from(lifetime.as_secs())) {
        Some(lifetime_seconds) if lifetime_seconds > 0 && timestamp(created_seconds + lifetime_seconds) <= now => {
            Err(Problem::Expired(timestamp(created_seconds + lifetime_seconds)))
        }
        _ => Ok(()),
    }
}

/// When it was made, as it says.
pub(super) fn created(signature: &Signature) -> Option<Timestamp> {
    signature.created().map(|created| timestamp(i64::from(created.as_secs())))
}

fn is_strong(hash: HashAlgorithm) -> bool {
    use HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    matches!(hash, Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512)
}

/// RFC 9580 section 5.2.3.7: what is critical and not known makes the signature invalid. No notation is known.
fn is_unknown_critical(subpacket: &Subpacket) -> bool {
    use SubpacketData::{Experimental, Notation, Other};
    subpacket.is_critical && matches!(subpacket.data, Experimental(..) | Other(..) | Notation(_))
}

/// The name a signature gives its key, as exactly as it gives it.
pub(super) fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("{fingerprint:X}"));
    let key_id = || signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase());
    fingerprint.or_else(key_id).unwrap_or_default()
}

/// A moment of OpenPGP: seconds since 1970, at most twice 2^32.
pub(super) fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
