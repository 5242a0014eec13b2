//! Which key signs our tokens, which ones verify them, and how both come out of the store.

mod follow;
mod rotation;
mod schedule;
mod vault;

use crate::config::Config;
use crate::keyset::{KeySet, OwnKeys, Seal, SigningKey, VerificationKey};
use crate::store::{self, StoreError};
use crate::time::UnixSeconds;
use crate::token::TrustedIssuer;

use self::schedule::{Keep, Stage};
use super::StartError;

pub use rotation::{Retired, Rotated, RotationError, When, retire, rotate};
pub use schedule::{FOLLOW_INTERVAL, PUBLISH_AHEAD};
pub use vault::{refresh_key, throttle_secret};

pub(super) use follow::{Keys, follow, load};

/// One of our own keys as the gateway would use it.
#[derive(Debug)]
pub struct OwnKey {
    /// What tokens call it.
    pub kid: String,
    /// JWA name, such as `ES256`.
    pub algorithm: String,
    /// When it was made; `None`: the file names it, and does not say.
    pub created_at: Option<UnixSeconds>,
    /// When it began to sign, or will; `None` as above.
    pub active_from: Option<UnixSeconds>,
    /// How it stands in the store; `None`: the file names it.
    pub seal: Option<Seal>,
    /// What it serves for.
    pub role: KeyRole,
}

/// What one of our own keys serves for.
#[derive(Debug)]
pub enum KeyRole {
    /// Signs new tokens, and verifies.
    Signs(SigningKey),
    /// Is published, and signs from its date.
    Next(SigningKey),
    /// Verifies what it signed before, until then; `None`: until somebody retires it.
    Verifies(VerificationKey, Option<UnixSeconds>),
    /// What it signed has expired.
    Over,
    /// Cannot be used.
    Unusable(StartError),
}

/// Our own keys, the one that signs first, found without making any: for commands.
///
/// # Errors
/// When the store has to be asked and does not answer.
pub async fn existing(config: &Config) -> Result<Vec<OwnKey>, StoreError> {
    let mut kept = match &config.own_keys {
        OwnKeys::Configured { signing, previous } => {
            let keys = std::iter::once(KeyRole::Signs(signing.clone()));
            let previous = previous.iter().cloned().map(|key| KeyRole::Verifies(key, None));
            return Ok(keys.chain(previous).map(named).collect());
        }
        OwnKeys::Stored => store::open_to_look(&config.store).await?.keys().await?,
    };
    kept.retain(store::StoredKey::signs_tokens);
    let stages = schedule::stages(&kept, Keep::new(&config.tokens), UnixSeconds::now());
    let signing = schedule::signs_for(&kept, &stages, config.tokens.algorithm.name()).map(|key| key.kid.as_str());
    let mut own: Vec<OwnKey> = Vec::with_capacity(kept.len());
    for (key, stage) in kept.iter().zip(stages) {
        let signs_here = signing == Some(key.kid.as_str());
        let role = match (stage, vault::signing_key(&config.sealer, key)) {
            (Stage::Over { .. }, _) => KeyRole::Over,
            (_, Err(error)) => KeyRole::Unusable(error),
            (Stage::Signs, Ok(usable)) if signs_here => KeyRole::Signs(usable),
            (Stage::Signs, Ok(usable)) => KeyRole::Verifies(usable.verification_key(), None),
            (Stage::Next, Ok(usable)) => KeyRole::Next(usable),
            (Stage::Verifies { until }, Ok(usable)) => KeyRole::Verifies(usable.verification_key(), Some(until)),
        };
        own.push(OwnKey {
            kid: key.kid.clone(),
            algorithm: key.algorithm.clone(),
            created_at: Some(key.created_at),
            active_from: Some(key.active_from),
            seal: Some(config.sealer.seal_of(&key.material)),
            role,
        });
    }
    own.sort_by_key(|key| match key.role {
        KeyRole::Signs(_) => 0,
        KeyRole::Next(_) => 1,
        KeyRole::Verifies(..) | KeyRole::Unusable(_) => 2,
        KeyRole::Over => 3,
    });
    Ok(own)
}

/// Notes that a key in the store signed a token that lives until `until`, which is longer than tokens do, so that it verifies
/// for as long also when it is replaced.
///
/// # Errors
/// When the store does not take it; the token should then not be given to anybody.
pub async fn keep_until(config: &Config, kid: &str, until: UnixSeconds) -> Result<(), StoreError> {
    if matches!(config.own_keys, OwnKeys::Configured { .. }) {
        return Ok(());
    }
    if store::open(&config.store).await?.need_key_until(kid, until).await? {
        return Ok(());
    }
    Err(StoreError::KeyGone { kid: kid.to_owned() })
}

/// The key set of a gateway that has these keys of its own.
pub fn key_set(own: &[OwnKey], issuers: &[TrustedIssuer]) -> KeySet {
    KeySet::new(own.iter().filter_map(OwnKey::verification_key).collect(), foreign_keys(issuers))
}

impl OwnKey {
    /// Its public half; `None` if it cannot be used, or what it signed has expired.
    pub fn verification_key(&self) -> Option<VerificationKey> {
        match &self.role {
            KeyRole::Signs(key) | KeyRole::Next(key) => Some(key.verification_key()),
            KeyRole::Verifies(key, _) => Some(key.clone()),
            KeyRole::Over | KeyRole::Unusable(_) => None,
        }
    }
}

/// A key of the file, which says nothing of itself.
fn named(role: KeyRole) -> OwnKey {
    let (kid, algorithm) = match &role {
        KeyRole::Signs(key) | KeyRole::Next(key) => (key.kid().to_owned(), key.algorithm().name()),
        KeyRole::Verifies(key, _) => {
            (key.declared_kid().unwrap_or_else(|| key.thumbprint()).to_owned(), key.algorithm().name())
        }
        KeyRole::Over | KeyRole::Unusable(_) => (String::new(), ""),
    };
    OwnKey { kid, algorithm: algorithm.to_owned(), created_at: None, active_from: None, seal: None, role }
}

fn foreign_keys(issuers: &[TrustedIssuer]) -> Vec<Vec<VerificationKey>> {
    issuers.iter().map(|issuer| issuer.keys.clone()).collect()
}

#[cfg(test)]
mod tests;
