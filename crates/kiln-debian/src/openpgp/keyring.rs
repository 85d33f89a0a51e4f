//! Certificates: who may sign, and whether a key may still be believed at a given moment.
//!
//! Nothing in a keyring is believed for standing there: a subkey counts when its primary key says so (binding
//! signature) and it says so itself (back-signature); expiry dates and revocations count when the primary key signed
//! them. This is worked out for a key when a signature by it is met.

use std::fmt;

use jiff::Timestamp;
use pgp::packet::{Packet, PacketParser, PublicKey, PublicSubkey, Signature, SignatureType, SubpacketData, UserId};
use pgp::ser::Serialize as _;
use pgp::types::{EcdsaPublicParams, EddsaLegacyPublicParams, KeyDetails, KeyVersion, PublicParams, Tag};

use super::armor::{self, ArmorError, Kind};
use super::signature::{Problem, check_form, timestamp};

/// Largest keyring accepted; Debian's, with all developers' keys, is under 40 MiB.
const KEYRING_BYTES_MAX: usize = 64 << 20;
/// RSA keys shorter than this are refused; apt does the same (`APT::Key::Assert-Pubkey-Algo`).
const RSA_BITS_MIN: u16 = 2048;

/// Certificates that are trusted to sign.
#[derive(Clone, Default)]
pub struct Keyring {
    certificates: Vec<Certificate>,
}

/// The bytes are not a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The armor is damaged or missing.
    #[error("read the keyring's armor")]
    Armor(#[from] ArmorError),
    /// GnuPG's own database format, which apt does not read either.
    #[error("this is a GnuPG keybox; export the keys with `gpg --export`")]
    Keybox,
    /// Not one certificate.
    #[error("there is no OpenPGP certificate in the keyring")]
    Empty,
    /// More than any keyring has.
    #[error("the keyring is larger than {KEYRING_BYTES_MAX} bytes")]
    TooLarge,
}

/// What a certificate says of itself; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Of the primary key: upper-case hexadecimal digits, 40 for keys of version 4.
    pub fingerprint: String,
    /// Of the subkeys.
    pub subkeys: Vec<String>,
    /// Names and addresses.
    pub users: Vec<String>,
}

/// A primary key with everything that follows it in a keyring.
#[derive(Clone)]
struct Certificate {
    primary: PublicKey,
    /// Revocations, and statements of the key about itself.
    direct: Vec<Signature>,
    users: Vec<(UserId, Vec<Signature>)>,
    subkeys: Vec<(PublicSubkey, Vec<Signature>)>,
}

/// A key of the keyring that may have made a signature.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    certificate: &'a Certificate,
    subkey: Option<&'a (PublicSubkey, Vec<Signature>)>,
}

impl Keyring {
    /// Reads certificates, binary or armored, one or many.
    ///
    /// Packets that cannot be read (unknown algorithms, say) are left out: they cannot verify anything.
    ///
    /// # Errors
    /// When there is no certificate at all.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        if bytes.len() > KEYRING_BYTES_MAX {
            return Err(KeyringError::TooLarge);
        }
        if bytes.get(8..12) == Some(b"KBXf") {
            return Err(KeyringError::Keybox);
        }
        let packets = armor::packets(bytes, Kind::PublicKey)?;
        let mut keyring = Self::default();
        for certificate in certificates(&packets) {
            keyring.add(certificate);
        }
        if keyring.certificates.is_empty() { Err(KeyringError::Empty) } else { Ok(keyring) }
    }

    /// Adds the certificates of another keyring; of what both have, everything said of it counts.
    pub fn extend(&mut self, other: Self) {
        for certificate in other.certificates {
            self.add(certificate);
        }
    }

    /// What is in it, in the order of the file.
    pub fn certificates(&self) -> impl Iterator<Item = CertificateSummary> {
        self.certificates.iter().map(Certificate::summary)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// The keys that `signature` may be by, going by what it says itself.
    pub(super) fn candidates(&self, signature: &Signature) -> Vec<Candidate<'_>> {
        let keys = self.certificates.iter().flat_map(Certificate::keys);
        keys.filter(|candidate| candidate.may_have_made(signature)).collect()
    }

    /// Adds a certificate to the one with the same primary key, if there is one: a revocation in one copy and a newer
    /// expiry date in the other both count.
    fn add(&mut self, certificate: Certificate) {
        let same = self.certificates.iter_mut().find(|known| known.primary == certificate.primary);
        let Some(known) = same else { return self.certificates.push(certificate) };
        known.direct.extend(certificate.direct);
        known.users.extend(certificate.users);
        for (subkey, signatures) in certificate.subkeys {
            match known.subkeys.iter_mut().find(|(other, _)| *other == subkey) {
                Some((_, others)) => others.extend(signatures),
                None => known.subkeys.push((subkey, signatures)),
            }
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.certificates()).finish()
    }
}

/// Groups packets: everything behind a primary key belongs to it.
fn certificates(packets: &[u8]) -> Vec<Certificate> {
    let mut certificates: Vec<Certificate> = Vec::new();
    // What a signature packet speaks of: the packet before it.
    let mut subject = Subject::Ignored;
    for packet in PacketParser::new(packets).flatten() {
        if let Packet::PublicKey(primary) = packet {
            certificates.push(Certificate { primary, direct: Vec::new(), users: Vec::new(), subkeys: Vec::new() });
            subject = Subject::Primary;
        } else if let Some(certificate) = certificates.last_mut() {
            subject = certificate.take(packet, subject);
        }
    }
    certificates.retain(|certificate| is_modern(&certificate.primary));
    certificates
}

#[derive(Clone, Copy)]
enum Subject {
    Primary,
    User,
    Subkey,
    Ignored,
}

impl Certificate {
    /// Files one packet away; what the signatures behind it speak of.
    fn take(&mut self, packet: Packet, subject: Subject) -> Subject {
        match packet {
            Packet::UserId(user) => {
                self.users.push((user, Vec::new()));
                Subject::User
            }
            Packet::PublicSubkey(subkey) => {
                self.subkeys.push((subkey, Vec::new()));
                Subject::Subkey
            }
            Packet::Signature(signature) => {
                self.signatures_on(subject).into_iter().for_each(|signatures| signatures.push(signature.clone()));
                subject
            }
            Packet::UserAttribute(_) => Subject::Ignored,
            _ => subject,
        }
    }

    fn signatures_on(&mut self, subject: Subject) -> Option<&mut Vec<Signature>> {
        match subject {
            Subject::Primary => Some(&mut self.direct),
            Subject::User => self.users.last_mut().map(|(_, signatures)| signatures),
            Subject::Subkey => self.subkeys.last_mut().map(|(_, signatures)| signatures),
            Subject::Ignored => None,
        }
    }

    fn keys(&self) -> impl Iterator<Item = Candidate<'_>> {
        let primary = Candidate { certificate: self, subkey: None };
        let subkeys = self.subkeys.iter().map(|subkey| Candidate { certificate: self, subkey: Some(subkey) });
        std::iter::once(primary).chain(subkeys)
    }

    fn summary(&self) -> CertificateSummary {
        let user = |user: &UserId| String::from_utf8_lossy(user.id()).into_owned();
        CertificateSummary {
            fingerprint: fingerprint(&self.primary),
            subkeys: self.subkeys.iter().map(|(subkey, _)| fingerprint(subkey)).collect(),
            users: self.users.iter().map(|(id, _)| user(id)).collect(),
        }
    }

    /// Whether the primary key may be believed; what it says of itself.
    fn check_primary(&self, now: Timestamp) -> Result<Vec<&Signature>, Problem> {
        let is_revocation = |signature: &&Signature| signature.typ() == Some(SignatureType::KeyRevocation);
        if self.direct.iter().filter(is_revocation).any(|revocation| revocation.verify_key(&self.primary).is_ok()) {
            return Err(Problem::KeyRevoked);
        }
        check_strength(self.primary.public_params())?;
        let statements = self.statements(now);
        if statements.is_empty() {
            return Err(Problem::KeyUnbound);
        }
        // Debian's keys name their revokers in direct statements, which say nothing of expiry: silence is no answer.
        let with_expiry = statements.iter().filter(|statement| statement.key_expiration_time().is_some());
        if let Some(newest) = with_expiry.max_by_key(|statement| statement.created()) {
            check_expiry(&self.primary, newest, now)?;
        }
        Ok(statements)
    }

    /// The newest valid statements of the primary key about itself: with a name that is not revoked, and directly.
    fn statements(&self, now: Timestamp) -> Vec<&Signature> {
        let users = self.users.iter().filter(|user| !self.is_user_revoked(user));
        let certified = users.filter_map(|(id, signatures)| {
            let own =
                signatures.iter().filter(|signature| is_certification(signature) && self.is_by_primary(signature));
            newest(own, now, |signature| self.certifies(signature, id))
        });
        let direct = self.direct.iter().filter(|signature| signature.typ() == Some(SignatureType::Key));
        let direct = newest(direct, now, |signature| signature.verify_key(&self.primary).is_ok());
        certified.max_by_key(|signature| signature.created()).into_iter().chain(direct).collect()
    }

    fn is_user_revoked(&self, (id, signatures): &(UserId, Vec<Signature>)) -> bool {
        let is_revocation = |signature: &&Signature| signature.typ() == Some(SignatureType::CertRevocation);
        signatures.iter().filter(is_revocation).any(|revocation| self.certifies(revocation, id))
    }

    fn certifies(&self, signature: &Signature, id: &UserId) -> bool {
        signature.verify_certification(&self.primary, Tag::UserId, id).is_ok()
    }

    /// Spares the arithmetic for other people's signatures, of which keyrings are full.
    fn is_by_primary(&self, signature: &Signature) -> bool {
        names(signature, &self.primary)
    }

    /// Whether the primary key made this subkey a signing key that may be believed.
    fn check_subkey(
        &self,
        (subkey, signatures): &(PublicSubkey, Vec<Signature>),
        now: Timestamp,
    ) -> Result<(), Problem> {
        let of_kind = |kind| signatures.iter().filter(move |signature| signature.typ() == Some(kind));
        let is_valid = |signature: &&Signature| signature.verify_subkey_binding(&self.primary, subkey).is_ok();
        if of_kind(SignatureType::SubkeyRevocation).any(|revocation| is_valid(&revocation)) {
            return Err(Problem::KeyRevoked);
        }
        check_strength(subkey.public_params())?;
        let bindings = of_kind(SignatureType::SubkeyBinding);
        let binding = newest(bindings, now, |binding| is_valid(&binding)).ok_or(Problem::KeyUnbound)?;
        check_expiry(subkey, binding, now)?;
        if !binding.key_flags().sign() {
            return Err(Problem::KeyNotForSigning);
        }
        let back = binding.embedded_signature().ok_or(Problem::KeyUnbound)?;
        check_form(back, now).map_err(|_| Problem::KeyUnbound)?;
        back.verify_primary_key_binding(subkey, &self.primary).map_err(|_| Problem::KeyUnbound)
    }
}

impl Candidate<'_> {
    fn may_have_made(&self, signature: &Signature) -> bool {
        match self.subkey {
            None => names(signature, &self.certificate.primary),
            Some((subkey, _)) => names(signature, subkey),
        }
    }

    /// Of the key itself.
    pub(super) fn fingerprint(&self) -> String {
        self.subkey.map_or_else(|| self.primary_fingerprint(), |(subkey, _)| fingerprint(subkey))
    }

    /// Of the primary key it belongs to, which may be itself.
    pub(super) fn primary_fingerprint(&self) -> String {
        fingerprint(&self.certificate.primary)
    }

    /// Whether this key may sign, at `now`.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Problem> {
        let statements = self.certificate.check_primary(now)?;
        match self.subkey {
            Some(subkey) => self.certificate.check_subkey(subkey, now),
            None if may_sign(&statements) => Ok(()),
            None => Err(Problem::KeyNotForSigning),
        }
    }

    /// When the key was made.
    pub(super) fn created(&self) -> Timestamp {
        let created = self.subkey.map_or(self.certificate.primary.created_at(), |(subkey, _)| subkey.created_at());
        timestamp(i64::from(created.as_secs()))
    }

    /// Whether this key made `signature` over `text`; nothing else is looked at.
    pub(super) fn made(&self, signature: &Signature, text: &[u8]) -> bool {
        match self.subkey {
            None => signature.verify(&self.certificate.primary, text).is_ok(),
            Some((subkey, _)) => signature.verify(subkey, text).is_ok(),
        }
    }
}

/// The newest signature that is in order at `now` and `is_valid`, which is arithmetic: asked of the newest first.
fn newest<'a>(
    signatures: impl Iterator<Item = &'a Signature>,
    now: Timestamp,
    is_valid: impl Fn(&Signature) -> bool,
) -> Option<&'a Signature> {
    let mut signatures: Vec<_> = signatures.filter(|signature| check_form(signature, now).is_ok()).collect();
    signatures.sort_by_key(|signature| std::cmp::Reverse(signature.created()));
    signatures.into_iter().find(|signature| is_valid(signature))
}

fn is_certification(signature: &Signature) -> bool {
    signature.is_certification() && signature.typ() != Some(SignatureType::CertRevocation)
}

fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().contains(&&key.legacy_key_id());
    }
    fingerprints.contains(&&key.fingerprint())
}

fn is_modern(key: &impl KeyDetails) -> bool {
    matches!(key.version(), KeyVersion::V4 | KeyVersion::V6)
}

pub(super) fn fingerprint(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

/// Whether the statements of a primary key let it sign: the first that says what the key is for. Old keys say
/// nothing, which allows everything.
fn may_sign(statements: &[&Signature]) -> bool {
    statements.iter().find(|statement| has_key_flags(statement)).is_none_or(|statement| statement.key_flags().sign())
}

fn has_key_flags(statement: &Signature) -> bool {
    let mut subpackets = statement.config().into_iter().flat_map(|config| config.hashed_subpackets());
    subpackets.any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)))
}

fn check_expiry(key: &impl KeyDetails, statement: &Signature, now: Timestamp) -> Result<(), Problem> {
    let created_seconds = i64::from(key.created_at().as_secs());
    let lifetime_seconds = statement.key_expiration_time().map_or(0, |lifetime| i64::from(lifetime.as_secs()));
    let expires = timestamp(created_seconds + lifetime_seconds);
    if lifetime_seconds != 0 && expires <= now { Err(Problem::KeyExpired(expires)) } else { Ok(()) }
}

/// The algorithms that apt believes: RSA from 2048 bits, Ed25519, Ed448 and NIST's curves.
fn check_strength(params: &PublicParams) -> Result<(), Problem> {
    match params {
        PublicParams::RSA(rsa) => {
            // The number's own form begins with its length in bits.
            let bytes = rsa.to_bytes().unwrap_or_default();
            let bits = bytes.first_chunk().map_or(0, |length| u16::from_be_bytes(*length));
            if bits < RSA_BITS_MIN {
                Err(Problem::KeyWeak { algorithm: format!("RSA of {bits} bits") })
            } else {
                Ok(())
            }
        }
        PublicParams::Ed25519(_) | PublicParams::Ed448(_) => Ok(()),
        PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { .. }) => Ok(()),
        PublicParams::ECDSA(
            EcdsaPublicParams::P256 { .. } | EcdsaPublicParams::P384 { .. } | EcdsaPublicParams::P521 { .. },
        ) => Ok(()),
        PublicParams::DSA(_) => Err(Problem::KeyWeak { algorithm: "DSA".to_owned() }),
        _ => Err(Problem::KeyWeak { algorithm: "an algorithm that apt does not trust either".to_owned() }),
    }
}
