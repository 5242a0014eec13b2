//! Keys that sign our tokens: from files, from the store, or new.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::EncodingKey;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::algorithm::{Algorithm, KeyKind};
use super::verification::{PublicNumbers, VerificationKey};
use super::{KeyError, der, pem};

/// Size of the RSA keys we make: 128 bits of strength (NIST SP 800-57 part 1, table 2). A signature costs some 2 ms.
const GENERATED_RSA_SIZE: KeySize = KeySize::Rsa3072;

/// A key that signs our tokens. Cheap to clone. `Debug` shows `kid` and algorithm only.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    encoding: EncodingKey,
    verification: VerificationKey,
    stored: SecretString,
}

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

impl SigningKey {
    /// A private key from PEM text: `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1) or `EC PRIVATE KEY` (SEC 1).
    ///
    /// # Errors
    /// When the text is not exactly one private key, or it is weak, damaged, encrypted or of another kind.
    pub fn from_pem(pem: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        let (document, kind) = match pem::read(pem)? {
            pem::Section::Public(_) | pem::Section::RsaPublic(_) => return Err(KeyError::PublicForSigning),
            pem::Section::Private(document) => {
                let kind = der::private_key_kind(&document)?;
                (document, Some(kind))
            }
            pem::Section::RsaPrivate(document) => (document, Some(KeyKind::Rsa)),
            // Its curve may stand only inside; AWS-LC compares it.
            pem::Section::EcPrivate(document) => (document, None),
        };
        let document = Zeroizing::new(document);
        if let Some(kind) = kind
            && kind != algorithm.key_kind()
        {
            return Err(KeyError::WrongKind { kind, algorithms: vec![algorithm] });
        }
        let rejected = KeyError::PrivateRejected { algorithm };
        match algorithm.key_kind() {
            KeyKind::Secret => {
                Err(KeyError::WrongKind { kind: kind.unwrap_or(KeyKind::P256), algorithms: vec![algorithm] })
            }
            KeyKind::Rsa => {
                let pair = RsaKeyPair::from_pkcs8(&document).or_else(|_| RsaKeyPair::from_der(&document));
                Self::from_rsa(&pair.map_err(|_| rejected)?, algorithm)
            }
            KeyKind::P256 => Self::from_ec_document(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, algorithm),
            KeyKind::P384 => Self::from_ec_document(&ECDSA_P384_SHA384_FIXED_SIGNING, &document, algorithm),
            KeyKind::Ed25519 => {
                Self::from_ed25519(&Ed25519KeyPair::from_pkcs8(&document).map_err(|_| rejected)?, algorithm)
            }
        }
    }

    /// An HMAC secret, as bytes.
    ///
    /// # Errors
    /// As [`VerificationKey::from_secret`].
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        Ok(Self::of_secret(secret, VerificationKey::from_secret(secret, algorithm)?))
    }

    /// An HMAC secret that another service has chosen already; if it can be guessed, with what is wrong with it.
    ///
    /// # Errors
    /// As [`VerificationKey::from_weak_secret`].
    pub fn from_weak_secret(secret: &[u8], algorithm: Algorithm) -> Result<(Self, Option<KeyError>), KeyError> {
        let (verification, weakness) = VerificationKey::from_weak_secret(secret, algorithm)?;
        Ok((Self::of_secret(secret, verification), weakness))
    }

    fn of_secret(secret: &[u8], verification: VerificationKey) -> Self {
        let (encoding, stored) = (EncodingKey::from_secret(secret), STANDARD.encode(secret).into());
        Self(Arc::new(Inner { encoding, verification, stored }))
    }

    /// A new key. RSA keys have 3072 bits and take up to some seconds; secrets are as long as the algorithm's hash.
    ///
    /// # Errors
    /// When the system's random source fails.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let failed = KeyError::Generation { algorithm };
        match algorithm.key_kind() {
            KeyKind::Secret => {
                let mut secret = Zeroizing::new(vec![0; algorithm.hash_bytes()]);
                rand::fill(&mut secret).map_err(|_| failed)?;
                Self::from_secret(&secret, algorithm)
            }
            KeyKind::Rsa => Self::from_rsa(&RsaKeyPair::generate(GENERATED_RSA_SIZE).map_err(|_| failed)?, algorithm),
            KeyKind::P256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| failed)?;
                Self::from_ec(&pair, algorithm)
            }
            KeyKind::P384 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).map_err(|_| failed)?;
                Self::from_ec(&pair, algorithm)
            }
            KeyKind::Ed25519 => Self::from_ed25519(&Ed25519KeyPair::generate().map_err(|_| failed)?, algorithm),
        }
    }

    /// The key as [`Self::to_stored`] gave it.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_stored(algorithm: Algorithm, stored: &SecretString) -> Result<Self, KeyError> {
        let text = stored.expose_secret();
        if algorithm.is_symmetric() {
            let secret = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyError::Stored { algorithm })?);
            Self::from_secret(&secret, algorithm)
        } else {
            Self::from_pem(text.as_bytes(), algorithm)
        }
    }

    /// What a store keeps: the algorithm's name, and PKCS#8 PEM text or, for HMAC, the secret in Base64.
    pub fn to_stored(&self) -> (&'static str, SecretString) {
        (self.algorithm().name(), self.0.stored.clone())
    }

    /// `kid` of the tokens it signs: [`VerificationKey::thumbprint`].
    pub fn kid(&self) -> &str {
        self.0.verification.thumbprint()
    }

    /// The one algorithm it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.0.verification.algorithm()
    }

    /// Its other half, under the same `kid`.
    pub fn verification_key(&self) -> VerificationKey {
        self.0.verification.clone()
    }

    /// The signature over `message`, in base64url.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        let algorithm = self.algorithm();
        jsonwebtoken::crypto::sign(message, &self.0.encoding, algorithm.jws_algorithm())
            .map_err(|_| KeyError::Signing { algorithm })
    }

    fn from_rsa(pair: &RsaKeyPair, algorithm: Algorithm) -> Result<Self, KeyError> {
        let numbers = PublicNumbers::from_encoded(KeyKind::Rsa, pair.public_key().as_ref())?;
        let document: Pkcs8V1Der<'static> = pair.as_der().map_err(|_| KeyError::PrivateRejected { algorithm })?;
        Self::from_parts(numbers, document.as_ref(), algorithm)
    }

    fn from_ec_document(
        curve: &'static EcdsaSigningAlgorithm,
        document: &[u8],
        algorithm: Algorithm,
    ) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_private_key_der(curve, document);
        Self::from_ec(&pair.map_err(|_| KeyError::PrivateRejected { algorithm })?, algorithm)
    }

    fn from_ec(pair: &EcdsaKeyPair, algorithm: Algorithm) -> Result<Self, KeyError> {
        let numbers = PublicNumbers::from_encoded(algorithm.key_kind(), pair.public_key().as_ref())?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::PrivateRejected { algorithm })?;
        Self::from_parts(numbers, document.as_ref(), algorithm)
    }

    fn from_ed25519(pair: &Ed25519KeyPair, algorithm: Algorithm) -> Result<Self, KeyError> {
        let numbers = PublicNumbers::from_encoded(KeyKind::Ed25519, pair.public_key().as_ref())?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::PrivateRejected { algorithm })?;
        Self::from_parts(numbers, document.as_ref(), algorithm)
    }

    /// `pkcs8` is AWS-LC's own writing of the key, so that what is stored does not depend on what was read.
    fn from_parts(numbers: PublicNumbers, pkcs8: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        let text = pem::write("PRIVATE KEY", pkcs8);
        let encoding = match numbers.kind() {
            // The library signs with PKCS#1, which it takes out of the PKCS#8 itself.
            KeyKind::Rsa => {
                EncodingKey::from_rsa_pem(text.as_bytes()).map_err(|_| KeyError::PrivateRejected { algorithm })?
            }
            KeyKind::P256 | KeyKind::P384 => EncodingKey::from_ec_der(pkcs8),
            KeyKind::Ed25519 => EncodingKey::from_ed_der(pkcs8),
            KeyKind::Secret => return Err(KeyError::PrivateRejected { algorithm }),
        };
        let verification = VerificationKey::from_numbers(numbers, algorithm, None);
        Ok(Self(Arc::new(Inner { encoding, verification, stored: text.into() })))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid())
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}
