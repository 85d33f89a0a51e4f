//! OpenPGP signatures as APT repositories use them: inline, in `InRelease`.
//!
//! 1. [`Keyring::parse`] reads certificates; [`DEBIAN_ARCHIVE_KEYS`] are Debian's.
//! 2. [`verify_inline`] gives back the text that was signed, and by whom.
//!
//! One good signature by a key of the keyring is enough; signatures by other keys, or by keys that have expired, are
//! ignored (Debian signs with the old and the new release's keys). A signature by a valid key that does not fit
//! the text is always an error, as it is for apt. Text that no signature covers is never given back: it is refused.
//!
//! Weaker than SHA-256, weaker than RSA of 2048 bits, and anything not dated, bound, in time and meant for signing is
//! refused: [`Problem`] has the list. The arithmetic is rPGP's (the `pgp` crate); the rules are here.

mod armor;
mod clear_text;
mod keyring;
mod signature;

use jiff::Timestamp;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType};

pub use self::armor::ArmorError;
pub use self::keyring::{CertificateSummary, Keyring, KeyringError};
pub use self::signature::{Problem, Rejected};

use self::armor::Kind;
use self::keyring::Candidate;

/// The keys of Debian's archive: every release that is supported, and the next. `keys/README.md` lists them.
pub const DEBIAN_ARCHIVE_KEYS: &[u8] = include_bytes!("../keys/debian-archive.gpg");
/// The keys of Ubuntu's archive. `keys/README.md` lists them.
pub const UBUNTU_ARCHIVE_KEYS: &[u8] = include_bytes!("../keys/ubuntu-archive.gpg");

/// Most signatures looked at in one document; Debian's have up to four.
const SIGNATURES_MAX: usize = 32;
/// Longest signed document; Debian's largest is under 10 MiB.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// Longest block of signatures.
const SIGNATURE_BYTES_MAX: usize = 1 << 20;

/// A text that a trusted key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The signed text and nothing else, with line feeds for line ends.
    pub text: String,
    /// Who signed it; never empty.
    pub signers: Vec<Signer>,
    /// Signatures that did not count.
    pub ignored: Vec<Rejected>,
}

/// A key that made a good signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// Of the key that signed: upper-case hexadecimal digits, 40 for keys of version 4.
    pub fingerprint: String,
    /// Of the primary key it belongs to, which may be itself.
    pub primary_fingerprint: String,
    /// When it signed.
    pub created: Timestamp,
}

/// The text is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The document is not made as signed documents are.
    #[error("line {line}: {reason}")]
    Framing {
        /// The first line is 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The document ends before its signature does.
    #[error("the signed document is truncated")]
    Truncated,
    /// The signature's armor is damaged.
    #[error("read the signature's armor")]
    Armor(#[from] ArmorError),
    /// Larger than such documents are.
    #[error("the signed document or its signature is too large")]
    TooLarge,
    /// There is no signature in the signature.
    #[error("there is no OpenPGP signature that can be read")]
    NoSignature,
    /// A valid key made this signature for another text.
    #[error("the text was changed: the signature by {key} does not fit it")]
    Forged {
        /// Fingerprint of the key.
        key: String,
    },
    /// Not one signature counts.
    #[error("no signature can be trusted: {}", list(.rejected))]
    Untrusted {
        /// All of them, each with its reason.
        rejected: Vec<Rejected>,
    },
}

fn list(rejected: &[Rejected]) -> String {
    rejected.iter().map(Rejected::to_string).collect::<Vec<_>>().join("; ")
}

/// Verifies a document that carries its signatures, such as `InRelease`.
///
/// # Errors
/// When the document is not exactly a signed text and its signatures, or no key of the keyring vouches for it at `now`.
pub fn verify_inline(bytes: &[u8], keyring: &Keyring, now: Timestamp) -> Result<Verified, SignatureError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(SignatureError::TooLarge);
    }
    let document = clear_text::split(bytes)?;
    let signatures = parse_signatures(document.signatures)?;
    let (signers, ignored) = judge(&signatures, &clear_text::canonical(&document.lines), keyring, now)?;
    let text = document.lines.iter().flat_map(|line| [line, "\n"]).collect();
    Ok(Verified { text, signers, ignored })
}

fn parse_signatures(bytes: &[u8]) -> Result<Vec<Signature>, SignatureError> {
    if bytes.len() > SIGNATURE_BYTES_MAX {
        return Err(SignatureError::TooLarge);
    }
    let packets = armor::packets(bytes, Kind::Signature)?;
    let signature = |packet| if let Packet::Signature(signature) = packet { Some(signature) } else { None };
    let readable = PacketParser::new(packets.as_slice()).flatten().filter_map(signature);
    let signatures: Vec<Signature> = readable.take(SIGNATURES_MAX).collect();
    if signatures.is_empty() { Err(SignatureError::NoSignature) } else { Ok(signatures) }
}

/// Who signed `text`, and which signatures did not count.
fn judge(
    signatures: &[Signature],
    text: &[u8],
    keyring: &Keyring,
    now: Timestamp,
) -> Result<(Vec<Signer>, Vec<Rejected>), SignatureError> {
    let (mut signers, mut rejected) = (Vec::new(), Vec::new());
    for signature in signatures {
        match find_key(signature, keyring, now) {
            Err(problem) => rejected.push(Rejected { key: signature::issuer(signature), problem }),
            Ok((key, created)) if key.made(signature, text) => signers.push(signer(key, created)),
            Ok((key, _)) => return Err(SignatureError::Forged { key: key.fingerprint() }),
        }
    }
    if signers.is_empty() { Err(SignatureError::Untrusted { rejected }) } else { Ok((signers, rejected)) }
}

fn signer(key: Candidate<'_>, created: Timestamp) -> Signer {
    Signer { fingerprint: key.fingerprint(), primary_fingerprint: key.primary_fingerprint(), created }
}

/// The key that must have made `signature` if it is genuine, and when: one that may sign at `now`.
fn find_key<'a>(
    signature: &Signature,
    keyring: &'a Keyring,
    now: Timestamp,
) -> Result<(Candidate<'a>, Timestamp), Problem> {
    signature::check_form(signature, now)?;
    if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
        return Err(Problem::NotOverDocument);
    }
    let created = signature::created(signature).ok_or(Problem::NoDate)?;
    let mut problem = if signature::issuer(signature).is_empty() { Problem::NoIssuer } else { Problem::UnknownKey };
    for candidate in keyring.candidates(signature) {
        match candidate.check(now) {
            Ok(()) if candidate.created() > created => problem = Problem::OlderThanKey,
            Ok(()) => return Ok((candidate, created)),
            Err(found) => problem = found,
        }
    }
    Err(problem)
}
