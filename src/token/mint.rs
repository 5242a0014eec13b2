//! Signs our access tokens.

use std::time::Duration;

use crate::keyset::SigningKey;
use crate::time::UnixSeconds;

use super::TokenSettings;

/// What an access token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessGrant {
    /// `sub`
    pub subject: String,
    /// `client_id`
    pub client_id: String,
    /// `scope`, joined by spaces.
    pub scopes: Vec<String>,
    /// `roles`, left out when empty.
    pub roles: Vec<String>,
    /// `name`
    pub name: Option<String>,
    /// `email`
    pub email: Option<String>,
}

/// Makes access tokens (RFC 9068).
#[derive(Debug)]
pub struct Minter {}

/// A signed token. `Debug` hides it.
pub struct MintedToken {
    /// The compact JWS.
    pub token: String,
    /// Its life from now.
    pub expires_in: Duration,
}

/// Why no token could be made.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct MintError;

impl Minter {
    /// A minter for the configured issuer, audience and lifetime.
    pub fn new(settings: &TokenSettings, key: SigningKey) -> Self {
        let _ = (settings, key);
        unimplemented!()
    }

    /// Signs a token that begins now.
    ///
    /// # Errors
    /// When the token would be longer than the verifier accepts, or signing fails.
    pub fn mint(&self, grant: &AccessGrant, now: UnixSeconds) -> Result<MintedToken, MintError> {
        let _ = (grant, now);
        unimplemented!()
    }
}

impl std::fmt::Debug for MintedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MintedToken").field("token", &"[redacted]").field("expires_in", &self.expires_in).finish()
    }
}
