//! Certificates and signatures of every kind, in order and not: what honest tools refuse to make.
//!
//! Keys are EdDSA and made from a name, dates are given, so every run makes the same bytes.

use kiln_model::digest::Sha256;
use pgp::crypto::ed25519::{Mode, SecretKey as RawKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::{eddsa_legacy, public_key::PublicKeyAlgorithm};
use pgp::packet::{
    KeyFlags, Packet, PubKeyInner, PublicKey, PublicSubkey, RevocationCode, SecretKey, SecretSubkey, Signature,
    SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::ser::Serialize as _;
use pgp::types::{
    Duration, EddsaLegacyPublicParams, KeyVersion, Password, PlainSecretParams, PublicParams, SecretParams, SigningKey,
    Tag, Timestamp,
};

/// 2020-01-01T00:00:00Z: when keys are made.
pub(crate) const BORN: u32 = 1_577_836_800;
/// 2024-01-01T00:00:00Z: when documents are signed.
pub(crate) const SIGNED: u32 = 1_704_067_200;
/// A year, for what expires.
pub(crate) const YEAR: u32 = 365 * 24 * 3600;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Signing,
    Encryption,
}

/// A signature that can still be changed: kind, date, and what it says.
pub(crate) struct Draft {
    kind: SignatureType,
    created: u32,
    says: Vec<Subpacket>,
}

impl Draft {
    pub(crate) fn new(kind: SignatureType, created: u32) -> Self {
        Self { kind, created, says: Vec::new() }
    }

    /// A statement about a key: what it is for.
    pub(crate) fn usable_for(self, usage: Use) -> Self {
        let mut flags = KeyFlags::default();
        flags.set_certify(usage == Use::Signing);
        flags.set_sign(usage == Use::Signing);
        flags.set_encrypt_comms(usage == Use::Encryption);
        self.saying(SubpacketData::KeyFlags(flags))
    }

    /// A statement about a key: how long it lives.
    pub(crate) fn key_expires_after(self, seconds: u32) -> Self {
        self.saying(SubpacketData::KeyExpirationTime(Duration::from_secs(seconds)))
    }

    pub(crate) fn saying(mut self, data: SubpacketData) -> Self {
        self.says.push(Subpacket::regular(data).unwrap());
        self
    }

    pub(crate) fn demanding(mut self, data: SubpacketData) -> Self {
        self.says.push(Subpacket::critical(data).unwrap());
        self
    }

    fn config(self, signer: &impl SigningKey) -> SignatureConfig {
        let mut config = SignatureConfig::v4(self.kind, PublicKeyAlgorithm::EdDSALegacy, HashAlgorithm::Sha512);
        let created = SubpacketData::SignatureCreationTime(Timestamp::from_secs(self.created));
        let issuer = SubpacketData::IssuerFingerprint(signer.fingerprint());
        config.hashed_subpackets = [created, issuer].map(|data| Subpacket::regular(data).unwrap()).into();
        config.hashed_subpackets.extend(self.says);
        let short = SubpacketData::IssuerKeyId(signer.legacy_key_id());
        config.unhashed_subpackets = vec![Subpacket::regular(short).unwrap()];
        config
    }

    /// Over a document.
    pub(crate) fn over(self, text: &str, signer: &impl SigningKey) -> Signature {
        self.config(signer).sign(signer, &Password::empty(), text.as_bytes()).unwrap()
    }

    /// Over a key and a name.
    pub(crate) fn over_user(self, primary: &SecretKey, user: &UserId) -> Signature {
        let config = self.config(primary);
        config.sign_certification(primary, primary.public_key(), &Password::empty(), Tag::UserId, user).unwrap()
    }

    /// Over a key alone.
    pub(crate) fn over_key(self, primary: &SecretKey) -> Signature {
        self.config(primary).sign_key(primary, &Password::empty(), primary.public_key()).unwrap()
    }

    /// Over a primary key and its subkey, by `signer`, who should be the primary key.
    pub(crate) fn over_subkey(self, signer: &SecretKey, primary: &SecretKey, subkey: &SecretSubkey) -> Signature {
        let config = self.config(signer);
        config.sign_subkey_binding(signer, primary.public_key(), &Password::empty(), subkey.public_key()).unwrap()
    }
}

fn key_pair(name: &str) -> (PubKeyInner, SecretParams) {
    let secret = RawKey::try_from_bytes(*Sha256::of(name.as_bytes()).as_bytes(), Mode::EdDSALegacy).unwrap();
    let public = PublicParams::EdDSALegacy(EddsaLegacyPublicParams::from(&secret));
    let born = Timestamp::from_secs(BORN);
    let public = PubKeyInner::new(KeyVersion::V4, PublicKeyAlgorithm::EdDSALegacy, born, None, public).unwrap();
    (public, SecretParams::Plain(PlainSecretParams::EdDSALegacy(eddsa_legacy::SecretKey::Ed25519(secret))))
}

pub(crate) fn primary(name: &str) -> SecretKey {
    let (public, secret) = key_pair(name);
    SecretKey::new(PublicKey::from_inner(public).unwrap(), secret).unwrap()
}

pub(crate) fn subkey(name: &str) -> SecretSubkey {
    let (public, secret) = key_pair(name);
    SecretSubkey::new(PublicSubkey::from_inner(public).unwrap(), secret).unwrap()
}

pub(crate) fn user() -> UserId {
    UserId::from_str(Default::default(), "Kiln fixture <fixture@mirror.example>").unwrap()
}

/// The usual statement of a primary key about itself.
pub(crate) fn self_signature(created: u32) -> Draft {
    Draft::new(SignatureType::CertPositive, created)
}

/// The subkey's own consent to its binding.
pub(crate) fn consent(primary: &SecretKey, subkey: &SecretSubkey) -> SubpacketData {
    let config = Draft::new(SignatureType::KeyBinding, BORN).config(subkey);
    let signed =
        config.sign_primary_key_binding(subkey, subkey.public_key(), &Password::empty(), primary.public_key()).unwrap();
    SubpacketData::EmbeddedSignature(Box::new(signed))
}

pub(crate) fn binding(created: u32) -> Draft {
    Draft::new(SignatureType::SubkeyBinding, created)
}

/// A revocation of this kind, because the key was stolen.
pub(crate) fn revocation(kind: SignatureType) -> Draft {
    Draft::new(kind, SIGNED).saying(SubpacketData::RevocationReason(RevocationCode::KeyCompromised, Default::default()))
}

/// A certificate of these parts, in the order in which keyrings have them.
pub(crate) fn certificate(
    primary: &SecretKey,
    direct: Vec<Signature>,
    user_signatures: Vec<Signature>,
    subkeys: Vec<(&SecretSubkey, Vec<Signature>)>,
) -> Vec<u8> {
    let mut packets = vec![Packet::from(primary.public_key().clone())];
    packets.extend(direct.into_iter().map(Packet::from));
    packets.push(Packet::from(user()));
    packets.extend(user_signatures.into_iter().map(Packet::from));
    for (subkey, signatures) in subkeys {
        packets.push(Packet::from(subkey.public_key().clone()));
        packets.extend(signatures.into_iter().map(Packet::from));
    }
    to_bytes(&packets)
}

/// The certificate of a key that is in order.
pub(crate) fn plain_certificate(primary: &SecretKey) -> Vec<u8> {
    let statement = self_signature(BORN).usable_for(Use::Signing).over_user(primary, &user());
    certificate(primary, Vec::new(), vec![statement], Vec::new())
}

pub(crate) fn to_bytes(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        packet.to_writer(&mut bytes).unwrap();
    }
    bytes
}

/// An inline-signed document. What is signed is up to the signatures.
pub(crate) fn document(text: &str, signatures: Vec<Signature>) -> String {
    let packets: Vec<Packet> = signatures.into_iter().map(Packet::from).collect();
    let escape = |line: &str| if line.starts_with('-') { format!("- {line}\n") } else { format!("{line}\n") };
    let body: String = text.lines().map(escape).collect();
    format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{body}{}", armor("PGP SIGNATURE", &to_bytes(&packets)))
}

pub(crate) fn armor(kind: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |group: &[u8]| -> String {
        let word = group.iter().chain(&[0; 3][group.len()..]).fold(0_u32, |word, &byte| word << 8 | u32::from(byte));
        let digit = |place: usize| char::from(DIGITS[(word >> (18 - 6 * place) & 63) as usize]);
        (0..4).map(|place| if place <= group.len() { digit(place) } else { '=' }).collect()
    };
    let lines: String = bytes.chunks(48).map(|line| line.chunks(3).map(digits).collect::<String>() + "\n").collect();
    format!("-----BEGIN {kind}-----\n\n{lines}-----END {kind}-----\n")
}
