//! OpenPGP keys made from a name, and signatures with them as APT repositories carry them.
//!
//! The secret key is the digest of the name and every date is fixed, so a key has the same fingerprint in every run.
//! Keys are version 4 with EdDSA over Curve25519 in its old framing, which every gpgv that Debian ships understands.

use jiff::Timestamp;
use kiln_model::digest::Sha256;
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, DetachedSignature, SignedKeyDetails, SignedPublicKey, SignedPublicSubKey,
};
use pgp::crypto::ed25519::{Mode, SecretKey as EdSecretKey};
use pgp::crypto::eddsa_legacy;
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    KeyFlags, PubKeyInner, PublicKey, PublicSubkey, RevocationCode, SecretKey, SecretSubkey, Signature,
    SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::ser::Serialize as _;
use pgp::types::{
    Duration, EddsaLegacyPublicParams, KeyDetails as _, KeyVersion, Password, PlainSecretParams, PublicParams,
    SecretParams, SignedUser, SigningKey, Tag,
};

/// When every key was made: 2020-01-01T00:00:00Z, in seconds since the epoch.
const CREATED_SECONDS: u32 = 1_577_836_800;

/// A key pair that can sign repositories; its public half can be exported as a keyring.
#[derive(Debug, Clone)]
pub struct Key {
    name: String,
    expires: Option<Timestamp>,
    signs_with_subkey: bool,
    revoked: bool,
}

/// The secret material of a [`Key`], made anew when it is needed: this takes microseconds.
struct Material {
    primary: SecretKey,
    subkey: Option<SecretSubkey>,
}

impl Key {
    /// The key of this name; it never expires, and its primary key signs.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), expires: None, signs_with_subkey: false, revoked: false }
    }

    /// The same key material with an expiry date: a verifier whose clock is past `moment` must refuse it.
    #[must_use]
    pub fn expiring(mut self, moment: Timestamp) -> Self {
        self.expires = Some(moment);
        self
    }

    /// The same key material, expired a year after it was made, long before any test runs.
    #[must_use]
    pub fn expired(self) -> Self {
        let year_seconds = 365 * 24 * 3600;
        self.expiring(Timestamp::from_second(i64::from(CREATED_SECONDS) + year_seconds).expect("a date"))
    }

    /// The same primary key, which leaves signing to a subkey, as Debian's older archive keys did.
    #[must_use]
    pub fn with_signing_subkey(mut self) -> Self {
        self.signs_with_subkey = true;
        self
    }

    /// The same key, with a revocation by itself ("key material has been compromised").
    #[must_use]
    pub fn revoked(mut self) -> Self {
        self.revoked = true;
        self
    }

    /// Fingerprint of the primary key: 40 upper-case hexadecimal digits, as gpg prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.material().primary.fingerprint())
    }

    /// Fingerprint of the key that makes the signatures: the subkey's if there is one.
    #[must_use]
    pub fn signing_fingerprint(&self) -> String {
        let material = self.material();
        match &material.subkey {
            Some(subkey) => format!("{:X}", subkey.fingerprint()),
            None => format!("{:X}", material.primary.fingerprint()),
        }
    }

    /// The certificate as a binary keyring (`.gpg`); concatenated certificates are a keyring of several.
    #[must_use]
    pub fn public_binary(&self) -> Vec<u8> {
        self.certificate().to_bytes().expect("serialize a certificate")
    }

    /// The certificate as ASCII armor (`.asc`).
    #[must_use]
    pub fn public_armored(&self) -> String {
        self.certificate().to_armored_string(ArmorOptions::default()).expect("armor a certificate")
    }

    /// An armored detached signature over `bytes`, as `Release.gpg` holds it.
    #[must_use]
    pub fn sign_detached(&self, bytes: &[u8], created: Timestamp) -> String {
        let signature = self.signature(SignatureType::Binary, bytes, created);
        DetachedSignature::new(signature).to_armored_string(ArmorOptions::default()).expect("armor a signature")
    }

    /// The certificate: primary key, one user id, and the subkey if there is one, with their self-signatures.
    fn certificate(&self) -> SignedPublicKey {
        let material = self.material();
        let public = material.primary.public_key().clone();
        let revocations = if self.revoked { vec![revocation(&material.primary)] } else { Vec::new() };
        let user = self.certified_user(&material.primary);
        let details = SignedKeyDetails::new(revocations, Vec::new(), vec![user], Vec::new());
        let subkeys = material.subkey.iter().map(|subkey| bound_subkey(&material.primary, subkey)).collect();
        SignedPublicKey::new(public, details, subkeys)
    }

    fn certified_user(&self, primary: &SecretKey) -> SignedUser {
        let name = format!("Kiln test key {} <{}@mirror.example>", self.name, self.name);
        let user = UserId::from_str(Default::default(), name).expect("a user id");
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(!self.signs_with_subkey);
        let mut extra = vec![SubpacketData::KeyFlags(flags), SubpacketData::IsPrimary(true)];
        extra.extend(self.expires.map(|moment| SubpacketData::KeyExpirationTime(lifetime(moment))));
        let config = signature_config(SignatureType::CertPositive, primary, created(), extra);
        let signature = config
            .sign_certification(primary, primary.public_key(), &Password::empty(), Tag::UserId, &user)
            .expect("certify a user id");
        SignedUser::new(user, vec![signature])
    }

    fn signature(&self, kind: SignatureType, bytes: &[u8], made: Timestamp) -> Signature {
        let material = self.material();
        match &material.subkey {
            Some(subkey) => sign(subkey, kind, bytes, made),
            None => sign(&material.primary, kind, bytes, made),
        }
    }

    fn material(&self) -> Material {
        let (public, secret) = key_pair(&format!("kiln test key {}", self.name));
        let public = PublicKey::from_inner(public).expect("a public key");
        let primary = SecretKey::new(public, secret).expect("a secret key");
        let subkey = self.signs_with_subkey.then(|| {
            let (public, secret) = key_pair(&format!("kiln test subkey {}", self.name));
            let public = PublicSubkey::from_inner(public).expect("a public subkey");
            SecretSubkey::new(public, secret).expect("a secret subkey")
        });
        Material { primary, subkey }
    }
}

/// `text` as an inline-signed document (`InRelease`) with one signature of each key.
#[must_use]
pub fn sign_inline(text: &str, keys: &[Key], created: Timestamp) -> String {
    // The line break before the signature belongs to the armor, not to the signed text.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let sign_all =
        |text: &str| Ok(keys.iter().map(|key| key.signature(SignatureType::Text, text.as_bytes(), created)).collect());
    CleartextSignedMessage::new_many(text, sign_all)
        .and_then(|message| message.to_armored_string(ArmorOptions::default()))
        .expect("sign a document")
}

fn created() -> Timestamp {
    Timestamp::from_second(i64::from(CREATED_SECONDS)).expect("a date")
}

/// OpenPGP's form of a moment: seconds since the epoch in 32 bits.
fn openpgp_time(moment: Timestamp) -> pgp::types::Timestamp {
    pgp::types::Timestamp::from_secs(u32::try_from(moment.as_second()).expect("a date between 1970 and 2106"))
}

/// How long after its creation a key lives that expires at `moment`.
fn lifetime(moment: Timestamp) -> Duration {
    let seconds = moment.as_second() - i64::from(CREATED_SECONDS);
    Duration::from_secs(u32::try_from(seconds).expect("an expiry after 2020"))
}

fn key_pair(seed: &str) -> (PubKeyInner, SecretParams) {
    let secret = EdSecretKey::try_from_bytes(*Sha256::of(seed.as_bytes()).as_bytes(), Mode::EdDSALegacy)
        .expect("32 bytes are a secret key");
    let params = PublicParams::EdDSALegacy(EddsaLegacyPublicParams::from(&secret));
    let created = openpgp_time(created());
    let public = PubKeyInner::new(KeyVersion::V4, PublicKeyAlgorithm::EdDSALegacy, created, None, params)
        .expect("version 4 keys may use EdDSA");
    let secret = PlainSecretParams::EdDSALegacy(eddsa_legacy::SecretKey::Ed25519(secret));
    (public, SecretParams::Plain(secret))
}

/// A signature's unsigned description: who, when, and what else it says.
fn signature_config(
    kind: SignatureType,
    signer: &impl SigningKey,
    made: Timestamp,
    extra: Vec<SubpacketData>,
) -> SignatureConfig {
    let mut config = SignatureConfig::v4(kind, PublicKeyAlgorithm::EdDSALegacy, HashAlgorithm::Sha512);
    let said = [
        SubpacketData::SignatureCreationTime(openpgp_time(made)),
        SubpacketData::IssuerFingerprint(signer.fingerprint()),
    ];
    config.hashed_subpackets = said.into_iter().chain(extra).map(subpacket).collect();
    config.unhashed_subpackets = vec![subpacket(SubpacketData::IssuerKeyId(signer.legacy_key_id()))];
    config
}

fn subpacket(content: SubpacketData) -> Subpacket {
    Subpacket::regular(content).expect("a short subpacket")
}

fn sign(signer: &impl SigningKey, kind: SignatureType, bytes: &[u8], made: Timestamp) -> Signature {
    signature_config(kind, signer, made, Vec::new()).sign(signer, &Password::empty(), bytes).expect("sign bytes")
}

fn revocation(primary: &SecretKey) -> Signature {
    let reason = SubpacketData::RevocationReason(RevocationCode::KeyCompromised, Default::default());
    signature_config(SignatureType::KeyRevocation, primary, created(), vec![reason])
        .sign_key(primary, &Password::empty(), primary.public_key())
        .expect("revoke a key")
}

/// The subkey with both halves of its binding: the primary key's, and inside it the subkey's own consent.
fn bound_subkey(primary: &SecretKey, subkey: &SecretSubkey) -> SignedPublicSubKey {
    let consent = signature_config(SignatureType::KeyBinding, subkey, created(), Vec::new())
        .sign_primary_key_binding(subkey, subkey.public_key(), &Password::empty(), primary.public_key())
        .expect("sign the primary key");
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    let extra = vec![SubpacketData::KeyFlags(flags), SubpacketData::EmbeddedSignature(Box::new(consent))];
    let binding = signature_config(SignatureType::SubkeyBinding, primary, created(), extra)
        .sign_subkey_binding(primary, primary.public_key(), &Password::empty(), subkey.public_key())
        .expect("bind a subkey");
    SignedPublicSubKey::new(subkey.public_key().clone(), vec![binding])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_key_for_ever() {
        assert_eq!(Key::named("archive").fingerprint(), "89532A313CCE1A7D7528985D3031D6B7FCF2BBD8");
        assert_ne!(Key::named("archive").fingerprint(), Key::named("security").fingerprint());
        let key = Key::named("archive");
        assert_eq!(key.sign_detached(b"text", created()), key.sign_detached(b"text", created()));
    }

    #[test]
    fn variants_are_the_same_key_with_other_certificates() {
        let key = Key::named("archive");
        for variant in [key.clone().expired(), key.clone().revoked(), key.clone().with_signing_subkey()] {
            assert_eq!(variant.fingerprint(), key.fingerprint());
            assert_ne!(variant.public_binary(), key.public_binary());
        }
        assert_ne!(key.clone().with_signing_subkey().signing_fingerprint(), key.signing_fingerprint());
    }

    #[test]
    fn certificates_bind_what_they_hold() {
        for key in [Key::named("a"), Key::named("b").with_signing_subkey(), Key::named("c").expired().revoked()] {
            key.certificate().verify_bindings().unwrap();
            let armored = key.public_armored();
            assert!(armored.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"), "{armored}");
        }
    }
}
