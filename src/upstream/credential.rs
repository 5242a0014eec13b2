//! What an upstream gets of the caller's credentials.

use std::sync::Arc;

use http::HeaderValue;

use crate::policy::Caller;
use crate::time::UnixSeconds;
use crate::token::translation::{Slot, Translation, TranslationError};

use super::IdentityTooLarge;

/// `[upstreams.<name>] token`: what becomes of the client's bearer token.
#[derive(Debug, Clone)]
pub enum TokenForwarding {
    /// `Authorization` is removed if its scheme is `Bearer` (default): an upstream that logs its headers then logs no token.
    /// Another scheme passes.
    Strip,
    /// `Authorization` is passed on as it came.
    Pass,
    /// `Authorization` is removed, and a token that is made for this upstream takes its place.
    Mint(Arc<Translation>),
}

/// What becomes of one request's `Authorization`.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A bearer token is removed.
    Stripped,
    /// It stays as it is.
    Passed,
    /// Whatever it was, this takes its place; `None`: nothing does.
    Replaced(Option<HeaderValue>),
}

/// Why an upstream cannot be told who calls.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    /// It does not fit into headers.
    #[error(transparent)]
    TooLarge(#[from] IdentityTooLarge),
    /// It does not fit into the upstream's token.
    #[error(transparent)]
    Token(#[from] TranslationError),
}

impl TokenForwarding {
    /// What the upstream at `slot` gets with a request of `caller`. Where nobody is known it gets no minted token.
    ///
    /// # Errors
    /// See [`TranslationError`].
    pub fn credential(&self, caller: &Caller, slot: Slot, now: UnixSeconds) -> Result<Credential, TranslationError> {
        Ok(match (self, caller) {
            (Self::Strip, _) => Credential::Stripped,
            (Self::Pass, _) => Credential::Passed,
            (Self::Mint(_), Caller::Anonymous) => Credential::Replaced(None),
            (Self::Mint(translation), Caller::Known(identity)) => {
                Credential::Replaced(Some(translation.authorization(identity, slot, now)?))
            }
        })
    }
}
