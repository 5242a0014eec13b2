//! Tokens: taken from the request, verified strictly, remembered, and made.

pub mod bearer;
pub mod cache;
pub mod mint;

use std::sync::Arc;
use std::time::Duration;

use crate::keyset::Algorithm;

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
    /// The exact `iss` (RFC 7519 section 4.1.1: compared octet for octet).
    pub issuer: String,
    /// `aud` must contain one of these. Never empty.
    pub audiences: Vec<String>,
    /// Where our names for things are found in its claims.
    pub claims: ClaimNames,
    /// Accepted `typ` header values, lower case, without `application/`. Default `at+jwt`, `jwt` and absent.
    pub types: Vec<String>,
}

/// An issuer whose tokens are accepted besides our own, with its keys.
#[derive(Debug, Clone)]
pub struct TrustedIssuer {
    /// What is checked.
    pub settings: TrustedIssuerSettings,
    /// With what. Never empty.
    pub keys: Vec<crate::keyset::VerificationKey>,
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
}

/// A verified caller: only [`Verifier::verify`] makes one.
#[derive(Debug)]
pub struct Identity {}

impl Identity {
    /// `sub`
    pub fn subject(&self) -> &str {
        unimplemented!()
    }
    /// `name`
    pub fn name(&self) -> Option<&str> {
        unimplemented!()
    }
    /// `email`
    pub fn email(&self) -> Option<&str> {
        unimplemented!()
    }
    /// Roles.
    pub fn roles(&self) -> &[Box<str>] {
        unimplemented!()
    }
    /// Scopes.
    pub fn scopes(&self) -> &[Box<str>] {
        unimplemented!()
    }
    /// `iss`
    pub fn issuer(&self) -> &str {
        unimplemented!()
    }
    /// The headers made for upstreams from this identity: made once, then remembered.
    pub fn headers(
        &self,
        make: impl FnOnce(&Self) -> Vec<(http::HeaderName, http::HeaderValue)>,
    ) -> &[(http::HeaderName, http::HeaderValue)] {
        let _ = make;
        unimplemented!()
    }
    /// `exp`
    pub fn expires_at(&self) -> crate::time::UnixSeconds {
        unimplemented!()
    }
    /// Any claim of the token; a dot reaches into an object.
    pub fn claim(&self, path: &str) -> Option<&serde_json::Value> {
        let _ = path;
        unimplemented!()
    }
}

/// Why a token was refused.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct TokenError;

/// Verifies tokens of our own and of the trusted issuers.
#[derive(Debug)]
pub struct Verifier {}

impl Verifier {
    /// A verifier for our own tokens and those of `issuers`.
    pub fn new(settings: &TokenSettings, issuers: &[TrustedIssuer]) -> Self {
        let _ = (settings, issuers);
        unimplemented!()
    }

    /// Checks everything about `token`.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(
        &self,
        token: &str,
        keys: &crate::keyset::KeySet,
        now: crate::time::UnixSeconds,
    ) -> Result<Identity, TokenError> {
        let _ = (token, keys, now);
        unimplemented!()
    }
}
