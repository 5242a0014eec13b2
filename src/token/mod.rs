//! Tokens: taken from the request, verified strictly, remembered, and made.
//!
//! [`Verifier::verify`] is the only way to an [`Identity`], and its documentation numbers the checks.

pub mod bearer;
pub mod cache;
mod check;
mod claims;
mod error;
mod header;
mod identity;
pub mod mint;
mod signers;
pub mod translation;
mod unverified;
mod verifier;

pub use check::Check;
pub use error::{TokenError, TokenErrorKind};
pub use identity::{Identity, TokenSession};
pub use signers::Signers;
pub use unverified::{Unreadable, Unverified};
pub use verifier::Verifier;

use std::sync::Arc;
use std::time::Duration;

use crate::keyset::{Algorithm, RemoteKeys, VerificationKey};

/// What our own access tokens say, and how strictly all tokens are checked.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// `iss` of our tokens, and the base of the discovery documents.
    pub issuer: String,
    /// `aud` of our tokens. Empty: our tokens carry the issuer as audience (RFC 9068 requires one).
    pub audience: Vec<String>,
    /// What signs our tokens. Default ES256.
    pub algorithm: Algorithm,
    /// Life of an access token, 30 s to 24 h. Default 5 min.
    pub access_ttl: Duration,
    /// Clock skew allowed when verifying, 0 to 60 s. Default 30 s.
    pub leeway: Duration,
    /// Longest token accepted, in bytes. Default 16384.
    pub max_token_bytes: usize,
    /// Memory for verified tokens, in bytes, shared by all workers. Default 32 MiB; 0 turns the cache off.
    pub cache_bytes: u64,
}

/// An issuer whose tokens are accepted besides our own: `[issuers.<name>]`.
#[derive(Debug, Clone)]
pub struct TrustedIssuerSettings {
    /// The name in the file, for messages and metrics.
    pub name: Arc<str>,
    /// The exact `iss` (RFC 7519 section 4.1.1: compared octet for octet). `None`: its tokens have no `iss`; at most one issuer
    /// may be so.
    pub issuer: Option<String>,
    /// `aud` must contain one of these. Empty: its tokens have no `aud`, and one that has is for somebody else.
    pub audiences: Vec<String>,
    /// Where our names for things are found in its claims.
    pub claims: ClaimNames,
    /// Accepted `typ` header values, without `application/`; case does not count. The empty string accepts a token without
    /// `typ`. Default [`Self::default_types`].
    pub types: Vec<String>,
}

impl TrustedIssuerSettings {
    /// `at+jwt`, `jwt` and none: what issuers put on access tokens, with and without RFC 9068.
    pub fn default_types() -> Vec<String> {
        ["at+jwt", "jwt", ""].map(str::to_owned).to_vec()
    }
}

/// An issuer whose tokens are accepted besides our own, with its keys.
#[derive(Debug, Clone)]
pub struct TrustedIssuer {
    /// What is checked.
    pub settings: TrustedIssuerSettings,
    /// With what. Not empty, but for an issuer whose keys are fetched.
    pub keys: Vec<VerificationKey>,
    /// How further keys are fetched; `None`: there are no others.
    pub remote: Option<RemoteKeys>,
}

/// Claim names of a foreign issuer; a dot reaches into an object (`realm_access.roles`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// Default `sub`.
    pub subject: String,
    /// Default `name`.
    pub name: String,
    /// Default `email`.
    pub email: String,
    /// An array, or a string separated by spaces. Default `scope`.
    pub scopes: String,
    /// As `scopes`. Default `roles`.
    pub roles: String,
    /// Seconds since 1970, as a number. Must be in every token; if it is not `exp` and `exp` is there too, the earlier counts.
    /// Default `exp`.
    pub expires: String,
}

/// The names that our own tokens use.
impl Default for ClaimNames {
    fn default() -> Self {
        let [subject, name, email, scopes, roles, expires] =
            ["sub", "name", "email", "scope", "roles", "exp"].map(str::to_owned);
        Self { subject, name, email, scopes, roles, expires }
    }
}

impl TokenSettings {
    /// `aud` of our tokens: what is configured, or else the issuer itself.
    pub(crate) fn audiences(&self) -> &[String] {
        if self.audience.is_empty() { std::slice::from_ref(&self.issuer) } else { &self.audience }
    }
}

#[cfg(test)]
mod tests;
