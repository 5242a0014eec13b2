//! Every reason to refuse a key, each with what to do about it.

use super::algorithm::{Algorithm, KeyKind};

/// Why a key cannot be used. No variant holds anything secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// More text than any key needs.
    #[error("the key file has {bytes} bytes, more than the {limit} that any key needs; name the key itself")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is read.
        limit: usize,
    },
    /// No `-----BEGIN` line, or one without its end.
    #[error(
        "this is not PEM text; a key begins with a line such as `-----BEGIN PUBLIC KEY-----` and ends with its `END` line"
    )]
    NotPem,
    /// More than one key in one PEM text.
    #[error("the PEM text holds more than one section; put each key into a file of its own")]
    SeveralSections,
    /// What stands between the PEM lines is not Base64.
    #[error("the text between the PEM lines is not Base64; copy the key again, whole")]
    PemBody,
    /// A certificate where a key belongs.
    #[error(
        "this is a certificate, not a key; take its key out with \
         `openssl x509 -in certificate.pem -pubkey -noout > public.pem`"
    )]
    Certificate,
    /// A private key where a public one belongs.
    #[error(
        "this is a private key, and only the public half is needed here; make it with \
         `openssl pkey -in private.pem -pubout > public.pem`"
    )]
    PrivateForVerification,
    /// A public key where a private one belongs.
    #[error(
        "this is a public key, and signing needs the private one; name the file with `PRIVATE KEY` in its first line"
    )]
    PublicForSigning,
    /// A private key behind a passphrase.
    #[error("the private key is encrypted; decrypt it with `openssl pkey -in encrypted.pem > private.pem`, mode 0600")]
    Encrypted,
    /// A PEM section of another kind.
    #[error("a PEM section `{label}` is no key that can be used here; convert it with `openssl pkey`")]
    UnknownSection {
        /// What stands after `BEGIN`, cut to 40 characters.
        label: String,
    },
    /// The DER inside cannot be read.
    #[error("the key's encoding is broken; export it again, for instance with `openssl pkey`")]
    Encoding,
    /// A kind of key that Tollgate has no algorithm for.
    #[error("keys of this kind are not supported; use RSA, EC on P-256 or P-384, or Ed25519")]
    UnsupportedKind,
    /// The key's kind fits none of the allowed algorithms.
    #[error("a key of kind {kind} cannot serve {}; allow one of its own algorithms or name another key", names(.algorithms))]
    WrongKind {
        /// The key's kind.
        kind: KeyKind,
        /// What was allowed.
        algorithms: Vec<Algorithm>,
    },
    /// A private key that does not fit the algorithm.
    #[error("the private key does not fit {algorithm} or is damaged; make one with `tollgate key generate` or openssl")]
    PrivateRejected {
        /// The algorithm it should sign with.
        algorithm: Algorithm,
    },
    /// An RSA modulus outside 2048 to 8192 bits (RFC 7518 section 3.3).
    #[error("the RSA key has {bits} bits, and 2048 to 8192 are accepted; make a new key of 3072 bits")]
    RsaSize {
        /// Bits of its modulus.
        bits: usize,
    },
    /// An RSA exponent that is even, below 3, or longer than 32 bits.
    #[error("the RSA key's public exponent is not odd, below 3 or too large; make a new key, whose exponent is 65537")]
    RsaExponent,
    /// An RSA modulus with a small factor, or of the kind that chips with the flaw ROCA made (CVE-2017-15361).
    #[error("the RSA key can be factored: it was made by a faulty chip (CVE-2017-15361) or is damaged; make a new key")]
    RsaFactorable,
    /// The public key is no point of its curve, one of small order, or otherwise mathematically wrong.
    #[error("the {kind} public key is not a valid one (for instance not a point of its curve); export it again")]
    InvalidPublicKey {
        /// The key's kind.
        kind: KeyKind,
    },
    /// An HMAC secret shorter than its hash (RFC 7518 section 3.2).
    #[error(
        "the secret has {bytes} bytes, and {algorithm} needs {needed}: a shorter one can be guessed from a single token; \
         make one with `openssl rand -base64 {needed}`, and give it to every program that signs or verifies with it"
    )]
    SecretTooShort {
        /// What it is for.
        algorithm: Algorithm,
        /// Its length.
        bytes: usize,
        /// The least length.
        needed: usize,
    },
    /// An HMAC secret longer than 4096 bytes.
    #[error(
        "the secret has {bytes} bytes, more than the 4096 that are accepted; make one with `openssl rand -base64 64`"
    )]
    SecretTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A secret that stands in public documentation, repeats a short text, or counts up or down.
    #[error(
        "the secret is a published example or follows a simple pattern; make one with `openssl rand -base64 64`, and give \
         it to every program that signs or verifies with it"
    )]
    SecretKnown,
    /// A public key given as an HMAC secret: whoever knows it could sign (CVE-2026-39999).
    #[error(
        "the secret looks like a key file (PEM, JWK or SSH), which others may know; make one with `openssl rand -base64 64`"
    )]
    SecretIsKey,
    /// An asymmetric algorithm with a secret.
    #[error("{algorithm} does not work with a secret; use HS256, HS384 or HS512, or name a key file")]
    SecretForAsymmetric {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// Not the JSON of a JWK.
    #[error("this is not strict JSON ({problem}); a JWK or a JWK set is expected")]
    NotJson {
        /// What is wrong, and where, without any of the text.
        problem: String,
    },
    /// JSON, but no JWK.
    #[error("this is neither a JWK (an object with `kty`) nor a JWK set (an object with an array `keys`)")]
    NotJwk,
    /// More keys than a set may have.
    #[error("the JWK set has {keys} keys, more than the {limit} that are accepted; keep only those in use")]
    TooManyKeys {
        /// How many there are.
        keys: usize,
        /// The most that are read.
        limit: usize,
    },
    /// Two keys of one set with the same `kid` (RFC 7517 section 4.5).
    #[error("two keys of the set have the same `kid`; give each its own")]
    DuplicateKid,
    /// Secrets and public keys in one set.
    #[error("the set mixes secrets (`oct`) with public keys; keep secrets in a file of their own")]
    MixedSet,
    /// A secret in a set that everybody can fetch.
    #[error("the set publishes a secret (`oct`), which is then none; replace it, and publish public keys only")]
    PublishedSecret,
    /// A member of a private key in a key that only verifies.
    #[error("the JWK has the private member `{member}`; publish and configure public keys only, and replace this one")]
    PrivateMember {
        /// Its name.
        member: &'static str,
    },
    /// A member missing or of the wrong type or encoding.
    #[error("the JWK's `{member}` is missing or not what RFC 7517 and 7518 say; export the key again")]
    Member {
        /// Its name.
        member: &'static str,
    },
    /// `use` is not `sig` (RFC 7517 section 4.2).
    #[error("the JWK's `use` is not `sig`; choose the issuer's signing key")]
    Use,
    /// `key_ops` has no `verify` (RFC 7517 section 4.3).
    #[error("the JWK's `key_ops` does not contain `verify`; choose the issuer's signing key")]
    KeyOperations,
    /// `alg` names no algorithm that is allowed and fits the key (RFC 7517 section 4.4).
    #[error("the JWK's `alg` does not fit its kind {kind} and {}; correct the JWK or allow its algorithm", names(.algorithms))]
    AlgorithmMismatch {
        /// The key's kind.
        kind: KeyKind,
        /// What was allowed.
        algorithms: Vec<Algorithm>,
    },
    /// A set in which nothing can verify.
    #[error("the JWK set has no key that can verify {}; check the address and the allowed algorithms", names(.algorithms))]
    NoUsableKey {
        /// What was allowed.
        algorithms: Vec<Algorithm>,
    },
    /// The cryptographic library gave no key.
    #[error("no {algorithm} key could be made; the system's random source may be failing")]
    Generation {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The cryptographic library gave no signature.
    #[error("signing with {algorithm} failed; check the signing key")]
    Signing {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// A stored key that is not as [`super::SigningKey::to_stored`] wrote it.
    #[error(
        "the stored {algorithm} key cannot be read; restore the store, or remove the key so that a new one is made"
    )]
    Stored {
        /// The algorithm.
        algorithm: Algorithm,
    },
}

fn names(algorithms: &[Algorithm]) -> String {
    if algorithms.is_empty() {
        return "no algorithm".to_owned();
    }
    algorithms.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(", ")
}
