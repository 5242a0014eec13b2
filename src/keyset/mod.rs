//! Keys: which key may verify which token, and which one signs ours.

use std::fmt;

/// A JWS algorithm that Tollgate signs and verifies (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// Every algorithm, in the order of RFC 7518.
    pub const ALL: [Self; 12] = [
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The name in `alg`. Case counts (RFC 7515 section 4.1.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of that exact name, or `None`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether the key is one secret that both signs and verifies.
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key that verifies. Its algorithm is fixed when it is loaded, never chosen by a token (RFC 8725 section 3.1).
#[derive(Clone)]
pub struct VerificationKey {}

/// A key that signs our tokens. `Debug` shows the `kid` only.
#[derive(Clone)]
pub struct SigningKey {}

/// Where the key that signs our tokens comes from: `tokens.key`.
#[derive(Debug, Clone)]
pub enum OwnKeys {
    /// Generated once for the configured algorithm and kept in the store, so that all gateways share it.
    Stored,
    /// Named by the file.
    Configured {
        /// Signs, and verifies.
        signing: SigningKey,
        /// Verify only: keys that signed before.
        previous: Vec<VerificationKey>,
    },
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct KeyError;

impl VerificationKey {
    /// Public keys from PEM text (`PUBLIC KEY`, `RSA PUBLIC KEY`, `CERTIFICATE` is not one). `algorithms` are those that the
    /// issuer may use; the key's kind decides which one of them it gets.
    pub fn from_pem(pem: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        let _ = (pem, algorithms);
        unimplemented!()
    }
    /// All usable keys of a JWK or a JWK set (RFC 7517).
    pub fn from_jwks(json: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Self>, KeyError> {
        let _ = (json, algorithms);
        unimplemented!()
    }
    /// An HMAC secret.
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        let _ = (secret, algorithm);
        unimplemented!()
    }
}

impl SigningKey {
    /// A private key from PKCS#8 (or PKCS#1, SEC1) PEM text.
    pub fn from_pem(pem: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        let _ = (pem, algorithm);
        unimplemented!()
    }
    /// An HMAC secret.
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        let _ = (secret, algorithm);
        unimplemented!()
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerificationKey")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

/// All keys of one moment: an immutable snapshot, swapped whole.
#[derive(Debug)]
pub struct KeySet {}

impl KeySet {
    /// `own` are our keys (the first signs, all verify); `foreign` holds the keys of each trusted issuer, in the order that
    /// the verifier was given them.
    pub fn new(own: Vec<VerificationKey>, foreign: Vec<Vec<VerificationKey>>) -> Self {
        let _ = (own, foreign);
        unimplemented!()
    }
    /// Our public keys as a JWK set (RFC 7517 section 5); secrets are never in it.
    pub fn jwks(&self) -> serde_json::Value {
        unimplemented!()
    }
}
