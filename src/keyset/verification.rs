//! Keys that verify: checked when they are loaded, then fixed to one algorithm.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};

use super::algorithm::{Algorithm, KeyKind};
use super::{KeyError, der, jwk, pem, secret, weak};

/// Bits of the smallest RSA modulus (RFC 7518 section 3.3) and of the largest that AWS-LC verifies with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Longest RSA exponent. All in use have three bytes.
const MAX_EXPONENT_BYTES: usize = 4;

/// A key that verifies. Its algorithm is fixed when it is loaded, never chosen by a token (RFC 8725 section 3.1).
/// Cheap to clone. `Debug` shows `kid` and algorithm only.
#[derive(Clone)]
pub struct VerificationKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    /// What a JWK said of itself. PEM files and secrets say nothing.
    declared_kid: Option<Box<str>>,
    thumbprint: Box<str>,
    decoding: DecodingKey,
    /// `None` for a secret, which has nothing to publish.
    public: Option<PublicNumbers>,
}

impl VerificationKey {
    /// A public key from PEM text: `PUBLIC KEY` or `RSA PUBLIC KEY`. `algorithms` are those that the issuer may use; the
    /// key's kind decides which of them it gets, and it comes back once for each (an RSA key of an issuer that uses both
    /// RS256 and PS256 comes back twice).
    ///
    /// # Errors
    /// When the text is not exactly one public key, or the key is weak or fits none of `algorithms`.
    pub fn from_pem(pem: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Self>, KeyError> {
        let numbers = match pem::read(pem)? {
            pem::Section::Public(document) => {
                let (kind, key) = der::subject_public_key(&document)?;
                PublicNumbers::from_encoded(kind, key)?
            }
            pem::Section::RsaPublic(document) => PublicNumbers::from_encoded(KeyKind::Rsa, &document)?,
            pem::Section::Private(_) | pem::Section::RsaPrivate(_) | pem::Section::EcPrivate(_) => {
                return Err(KeyError::PrivateForVerification);
            }
        };
        let kind = numbers.kind();
        let chosen = kind.algorithms(algorithms);
        if chosen.is_empty() {
            return Err(KeyError::WrongKind { kind, algorithms: algorithms.to_vec() });
        }
        Ok(chosen.into_iter().map(|algorithm| Self::from_numbers(numbers.clone(), algorithm, None)).collect())
    }

    /// The keys of a JWK or a JWK set (RFC 7517) that `algorithms` can use; a key comes back once for each algorithm it
    /// serves. A set may hold keys that are not for us (another `use`, kind, curve or algorithm): these are passed over,
    /// as section 5 of the RFC asks. A single JWK must be usable, and a broken, weak or private key is an error in both.
    ///
    /// # Errors
    /// When the text is not strict JSON, a key is unacceptable, two share a `kid`, or none is usable.
    pub fn from_jwks(json: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Self>, KeyError> {
        jwk::read(json, algorithms)
    }

    /// An HMAC secret, as bytes.
    ///
    /// # Errors
    /// When it is shorter than the algorithm's hash (RFC 7518 section 3.2), published, or in truth a public key.
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        Self::from_named_secret(secret, algorithm, None)
    }

    pub(super) fn from_named_secret(
        secret: &[u8],
        algorithm: Algorithm,
        declared_kid: Option<Box<str>>,
    ) -> Result<Self, KeyError> {
        secret::check(secret, algorithm)?;
        Ok(Self::of_secret(secret, algorithm, declared_kid))
    }

    /// As [`Self::from_secret`], but a secret that can be guessed serves too, and comes with what is wrong with it. Only for
    /// secrets that another service has chosen already.
    ///
    /// # Errors
    /// When it is empty, longer than 4096 bytes, or in truth a public key.
    pub fn from_weak_secret(secret: &[u8], algorithm: Algorithm) -> Result<(Self, Option<KeyError>), KeyError> {
        secret::check_usable(secret, algorithm)?;
        Ok((Self::of_secret(secret, algorithm, None), secret::check_strong(secret, algorithm).err()))
    }

    fn of_secret(secret: &[u8], algorithm: Algorithm, declared_kid: Option<Box<str>>) -> Self {
        Self(Arc::new(Inner {
            algorithm,
            declared_kid,
            thumbprint: secret_name(secret),
            decoding: DecodingKey::from_secret(secret),
            public: None,
        }))
    }

    /// `algorithm` must fit the kind of `numbers`.
    pub(super) fn from_numbers(numbers: PublicNumbers, algorithm: Algorithm, declared_kid: Option<Box<str>>) -> Self {
        let encoded = numbers.encoded();
        let decoding = match numbers.kind() {
            KeyKind::Rsa => DecodingKey::from_rsa_der(&encoded),
            KeyKind::P256 | KeyKind::P384 => DecodingKey::from_ec_der(&encoded),
            KeyKind::Ed25519 => DecodingKey::from_ed_der(&encoded),
            KeyKind::Secret => DecodingKey::from_secret(&encoded),
        };
        let thumbprint = numbers.thumbprint();
        Self(Arc::new(Inner { algorithm, declared_kid, thumbprint, decoding, public: Some(numbers) }))
    }

    /// The one algorithm this key verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The `kid` that a JWK declared, or `None`.
    pub fn declared_kid(&self) -> Option<&str> {
        self.0.declared_kid.as_deref()
    }

    /// The RFC 7638 thumbprint (SHA-256, base64url) of a public key. Of a secret it would be a plain hash, from which a
    /// weak one could be guessed; a secret is named by an HMAC under itself instead, cut to 128 bits. That too would
    /// confirm a guess, but no more than any token signed with it does.
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// Whether `signature` (base64url) is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.0.decoding, self.0.algorithm.jws_algorithm())
            .unwrap_or(false)
    }

    /// The public key as PEM text, a `PUBLIC KEY` section (RFC 7468 section 13); `None` for a secret.
    pub fn public_pem(&self) -> Option<String> {
        let document = self.0.public.as_ref()?.document().ok()?;
        Some(pem::write("PUBLIC KEY", document.as_ref()))
    }

    /// The public JWK under that `kid`; `None` for a secret.
    pub(super) fn jwk(&self, kid: &str) -> Option<Value> {
        let mut jwk = self.0.public.as_ref()?.jwk();
        jwk["kid"] = kid.into();
        jwk["alg"] = self.0.algorithm.name().into();
        jwk["use"] = "sig".into();
        Some(jwk)
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("kid", &self.declared_kid().unwrap_or_else(|| self.thumbprint()))
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

fn secret_name(secret: &[u8]) -> Box<str> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"tollgate kid");
    URL_SAFE_NO_PAD.encode(&tag.as_ref()[..16]).into()
}

/// The numbers of a public key that was found good.
#[derive(Clone)]
pub(super) enum PublicNumbers {
    /// Big-endian, no leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// `kind` is a curve; both coordinates have its full length.
    Point { kind: KeyKind, x: Vec<u8>, y: Vec<u8> },
    /// 32 bytes (RFC 8032 section 5.1.5).
    Ed25519 { x: Vec<u8> },
}

impl PublicNumbers {
    /// From the encoding that a `SubjectPublicKeyInfo` holds for that kind.
    pub(super) fn from_encoded(kind: KeyKind, key: &[u8]) -> Result<Self, KeyError> {
        match kind {
            KeyKind::Rsa => {
                let (modulus, exponent) = der::rsa_public_key(key)?;
                Self::rsa(modulus, exponent)
            }
            KeyKind::P256 | KeyKind::P384 => match key {
                // SEC 1 section 2.3.3: 4 marks an uncompressed point.
                [4, coordinates @ ..] if coordinates.len() % 2 == 0 => {
                    let (x, y) = coordinates.split_at(coordinates.len() / 2);
                    Self::point(kind, x, y)
                }
                _ => Err(KeyError::InvalidPublicKey { kind }),
            },
            KeyKind::Ed25519 => Self::ed25519(key),
            KeyKind::Secret => Err(KeyError::UnsupportedKind),
        }
    }

    /// Two big-endian numbers without leading zeros.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaSize { bits });
        }
        let odd = exponent.last().is_some_and(|last| last & 1 == 1);
        if !odd || exponent == [1] || exponent.len() > MAX_EXPONENT_BYTES {
            return Err(KeyError::RsaExponent);
        }
        if weak::is_factorable(modulus) {
            return Err(KeyError::RsaFactorable);
        }
        Self::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() }.checked(&RSA_PKCS1_2048_8192_SHA256)
    }

    /// A point by its coordinates, which must have the curve's length (RFC 7518 section 6.2.1.2).
    pub(super) fn point(kind: KeyKind, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        let (length, algorithm): (_, &'static dyn VerificationAlgorithm) = match kind {
            KeyKind::P256 => (32, &ECDSA_P256_SHA256_FIXED),
            KeyKind::P384 => (48, &ECDSA_P384_SHA384_FIXED),
            KeyKind::Secret | KeyKind::Rsa | KeyKind::Ed25519 => return Err(KeyError::UnsupportedKind),
        };
        if x.len() != length || y.len() != length {
            return Err(KeyError::InvalidPublicKey { kind });
        }
        Self::Point { kind, x: x.to_vec(), y: y.to_vec() }.checked(algorithm)
    }

    pub(super) fn ed25519(x: &[u8]) -> Result<Self, KeyError> {
        if !<&[u8; 32]>::try_from(x).is_ok_and(weak::is_good_ed25519_point) {
            return Err(KeyError::InvalidPublicKey { kind: KeyKind::Ed25519 });
        }
        Self::Ed25519 { x: x.to_vec() }.checked(&ED25519)
    }

    /// AWS-LC's own opinion: the point is on its NIST curve, the modulus is odd, and so on.
    fn checked(self, algorithm: &'static dyn VerificationAlgorithm) -> Result<Self, KeyError> {
        match ParsedPublicKey::new(algorithm, self.encoded()) {
            Ok(_) => Ok(self),
            Err(_) => Err(KeyError::InvalidPublicKey { kind: self.kind() }),
        }
    }

    pub(super) const fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa { .. } => KeyKind::Rsa,
            Self::Point { kind, .. } => *kind,
            Self::Ed25519 { .. } => KeyKind::Ed25519,
        }
    }

    fn encoded(&self) -> Vec<u8> {
        match self {
            Self::Rsa { modulus, exponent } => der::write_rsa_public_key(modulus, exponent),
            Self::Point { x, y, .. } => [&[4], x.as_slice(), y.as_slice()].concat(),
            Self::Ed25519 { x } => x.clone(),
        }
    }

    /// A `SubjectPublicKeyInfo` (RFC 5280 section 4.1), as AWS-LC writes it.
    fn document(&self) -> Result<PublicKeyX509Der<'static>, Unspecified> {
        let algorithm: &'static dyn VerificationAlgorithm = match self {
            Self::Rsa { .. } => &RSA_PKCS1_2048_8192_SHA256,
            Self::Point { kind: KeyKind::P384, .. } => &ECDSA_P384_SHA384_FIXED,
            Self::Point { .. } => &ECDSA_P256_SHA256_FIXED,
            Self::Ed25519 { .. } => &ED25519,
        };
        ParsedPublicKey::new(algorithm, self.encoded()).map_err(|_| Unspecified)?.as_der()
    }

    /// The required members, in the lexicographic order that RFC 7638 section 3 hashes.
    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa { modulus, exponent } => json!({ "e": text(exponent), "kty": "RSA", "n": text(modulus) }),
            Self::Point { kind, x, y } => json!({ "crv": kind.to_string(), "kty": "EC", "x": text(x), "y": text(y) }),
            Self::Ed25519 { x } => json!({ "crv": "Ed25519", "kty": "OKP", "x": text(x) }),
        }
    }

    fn thumbprint(&self) -> Box<str> {
        // `serde_json` keeps the order of insertion here (its feature `preserve_order`) and writes no spaces.
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, self.jwk().to_string().as_bytes())).into()
    }
}
