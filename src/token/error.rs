//! Every reason to refuse a token.

use crate::time::UnixSeconds;

/// Why a token was refused, in the order of the checks in [`super::Verifier::verify`]. Nothing that an unverified token
/// says is in here, so that it may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than `max_token_bytes`.
    #[error("the token has {bytes} bytes, more than the {limit} allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most accepted.
        limit: usize,
    },
    /// Not three parts with two dots (RFC 7515 section 7.1).
    #[error("the token does not have the three parts of a signed JWT")]
    Parts,
    /// A part is not canonical base64url without padding (RFC 7515 section 2).
    #[error("the token's {part} is not base64url")]
    Encoding {
        /// `header`, `payload` or `signature`.
        part: &'static str,
    },
    /// A part is not strict JSON.
    #[error("the token's {part} is not the JSON of a JWT: {problem}")]
    Json {
        /// `header` or `payload`.
        part: &'static str,
        /// What is wrong, and where.
        problem: String,
    },
    /// `alg` is missing, `none`, or none that we know.
    #[error("the token's `alg` is not one that is accepted")]
    Algorithm,
    /// `alg` is of a registered algorithm that we do not have: RFC 7518, RFC 8812, RFC 9864.
    #[error(
        "the token's `alg` {name} is not supported; its issuer has to sign with RS256, PS256, ES256, ES384 or EdDSA"
    )]
    AlgorithmUnsupported {
        /// Its name.
        name: &'static str,
    },
    /// There is a `crit` or `b64`, and we know no extension (RFC 7515 section 4.1.11, RFC 7797).
    #[error("the token demands an extension that is not supported")]
    Critical,
    /// There is a `zip`; nothing is ever inflated.
    #[error("the token is compressed, which is not supported")]
    Compressed,
    /// `kid` is not a string of 1 to 256 bytes.
    #[error("the token's `kid` is not a short string")]
    KeyIdentifier,
    /// `iss` is missing or names no issuer that is trusted.
    #[error("the token's issuer is not trusted")]
    Issuer,
    /// `typ` is not that of an access token (RFC 8725 section 3.11, RFC 9068 section 4).
    #[error("the token is not an access token: its `typ` is another")]
    Type,
    /// The issuer has no key for this `kid` and `alg`.
    #[error("the issuer has no key of the token's `kid` and `alg`")]
    KeyUnknown,
    /// No key of the issuer made this signature.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim that must be there is not.
    #[error("the token has no `{claim}`")]
    ClaimMissing {
        /// Its name in the token.
        claim: String,
    },
    /// A claim has a type or value that its definition does not allow.
    #[error("the token's `{claim}` is not what it must be")]
    ClaimInvalid {
        /// Its name in the token.
        claim: String,
    },
    /// Now is not before `exp`, leeway included (RFC 7519 section 4.1.4).
    #[error("the token expired at {expired_at}")]
    Expired {
        /// `exp`
        expired_at: UnixSeconds,
    },
    /// Now is before `nbf`, leeway included (RFC 7519 section 4.1.5).
    #[error("the token is not valid before {valid_from}")]
    NotYetValid {
        /// `nbf`
        valid_from: UnixSeconds,
    },
    /// `aud` names none of ours (RFC 7519 section 4.1.3).
    #[error("the token is for another audience")]
    Audience,
}

/// The kinds of refusal that a client is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenErrorKind {
    /// Not a token that we could accept from anybody.
    Malformed,
    /// The signature is wrong.
    Signature,
    /// Too late.
    Expired,
    /// Too early.
    NotYetValid,
    /// Of another issuer.
    Issuer,
    /// For another audience.
    Audience,
    /// Signed with a key that we do not have.
    KeyUnknown,
}

impl TokenError {
    /// Which kind of refusal it is.
    pub const fn kind(&self) -> TokenErrorKind {
        match self {
            Self::TooLong { .. }
            | Self::Parts
            | Self::Encoding { .. }
            | Self::Json { .. }
            | Self::Algorithm
            | Self::AlgorithmUnsupported { .. }
            | Self::Critical
            | Self::Compressed
            | Self::KeyIdentifier
            | Self::Type
            | Self::ClaimMissing { .. }
            | Self::ClaimInvalid { .. } => TokenErrorKind::Malformed,
            Self::Issuer => TokenErrorKind::Issuer,
            Self::KeyUnknown => TokenErrorKind::KeyUnknown,
            Self::Signature => TokenErrorKind::Signature,
            Self::Expired { .. } => TokenErrorKind::Expired,
            Self::NotYetValid { .. } => TokenErrorKind::NotYetValid,
            Self::Audience => TokenErrorKind::Audience,
        }
    }
}
