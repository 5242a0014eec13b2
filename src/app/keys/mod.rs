//! Which key signs our tokens, which ones verify them, and how a gateway follows what others put into the store.

mod vault;

use std::sync::Arc;
use std::time::Duration;

use crate::audit::{Audit, Event, Origin, Whom};
use crate::config::Config;
use crate::gateway::{Shared, chain};
use crate::keyset::{KeySet, OwnKeys, Sealer, SigningKey, VerificationKey};
use crate::store::{self, Store, StoreError, StoredKey};
use crate::time::UnixSeconds;
use crate::token::TrustedIssuer;

use super::StartError;

pub use vault::refresh_key;

/// The keys to start with.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) signing: SigningKey,
    pub(super) set: Arc<KeySet>,
    /// The names of our own keys in `set`; `None` when the file fixes them.
    stored: Option<Vec<String>>,
    /// Whether the key that signs was made at this start.
    is_new: bool,
}

impl Keys {
    /// Tells the audit of a key that was made at this start.
    pub(super) fn tell_if_new(&self, audit: &Audit) {
        if self.is_new {
            let (kid, algorithm) = (self.signing.kid(), self.signing.algorithm().name());
            audit.record(&Event::KeyGenerated { kid, algorithm }, Whom::default(), &Origin::Gateway);
        }
    }
}

/// One of our own keys as the gateway would use it.
#[derive(Debug)]
pub struct OwnKey {
    /// What tokens call it.
    pub kid: String,
    /// JWA name, such as `ES256`.
    pub algorithm: String,
    /// When it was made; `None`: the file names it, and does not say.
    pub created_at: Option<UnixSeconds>,
    /// What it serves for.
    pub role: KeyRole,
}

/// What one of our own keys serves for.
#[derive(Debug)]
pub enum KeyRole {
    /// Signs new tokens, and verifies.
    Signs(SigningKey),
    /// Verifies what it signed before.
    Verifies(VerificationKey),
    /// Cannot be used.
    Unusable(StartError),
}

/// Our own keys, the one that signs first, found without making any: for commands.
///
/// # Errors
/// When the store has to be asked and does not answer.
pub async fn existing(config: &Config) -> Result<Vec<OwnKey>, StoreError> {
    let kept = match &config.own_keys {
        OwnKeys::Configured { signing, previous } => {
            let keys = std::iter::once(KeyRole::Signs(signing.clone()));
            return Ok(keys.chain(previous.iter().cloned().map(KeyRole::Verifies)).map(named).collect());
        }
        OwnKeys::Stored => store::open_to_look(&config.store).await?.keys().await?,
    };
    let signs = kept.iter().position(|key| key.algorithm == config.tokens.algorithm.name());
    let mut own: Vec<OwnKey> = Vec::with_capacity(kept.len());
    for (position, key) in kept.iter().enumerate() {
        let role = match vault::signing_key(&Sealer::default(), key) {
            Ok(usable) if Some(position) == signs => KeyRole::Signs(usable),
            Ok(usable) => KeyRole::Verifies(usable.verification_key()),
            Err(error) => KeyRole::Unusable(error),
        };
        let created_at = Some(key.created_at);
        own.push(OwnKey { kid: key.kid.clone(), algorithm: key.algorithm.clone(), created_at, role });
    }
    own.sort_by_key(|key| !matches!(key.role, KeyRole::Signs(_)));
    Ok(own)
}

/// The key set of a gateway that has these keys of its own.
pub fn key_set(own: &[OwnKey], issuers: &[TrustedIssuer]) -> KeySet {
    KeySet::new(own.iter().filter_map(OwnKey::verification_key).collect(), foreign_keys(issuers))
}

impl OwnKey {
    /// Its public half; `None` if it cannot be used.
    pub fn verification_key(&self) -> Option<VerificationKey> {
        match &self.role {
            KeyRole::Signs(key) => Some(key.verification_key()),
            KeyRole::Verifies(key) => Some(key.clone()),
            KeyRole::Unusable(_) => None,
        }
    }
}

/// A key of the file, which says nothing of itself.
fn named(role: KeyRole) -> OwnKey {
    let (kid, algorithm) = match &role {
        KeyRole::Signs(key) => (key.kid().to_owned(), key.algorithm().name()),
        KeyRole::Verifies(key) => {
            (key.declared_kid().unwrap_or_else(|| key.thumbprint()).to_owned(), key.algorithm().name())
        }
        KeyRole::Unusable(_) => (String::new(), ""),
    };
    OwnKey { kid, algorithm: algorithm.to_owned(), created_at: None, role }
}

/// The keys that the file names, or those in the store. A key is generated if the store has none for `tokens.algorithm`;
/// of gateways that start together on an empty store one wins, and all get its key.
pub(super) async fn load(config: &Config, store: Arc<dyn Store>) -> Result<Keys, StartError> {
    let (signing, own, stored, is_new) = match &config.own_keys {
        OwnKeys::Configured { signing, previous } => {
            let own = std::iter::once(signing.verification_key()).chain(previous.iter().cloned()).collect();
            (signing.clone(), own, None, false)
        }
        OwnKeys::Stored => {
            let (signing, is_new) = stored_or_generated(config, &*store).await?;
            let kept = store.keys().await.map_err(StartError::Store)?;
            let stored = kept.iter().map(|key| key.kid.clone()).collect();
            (signing.clone(), own_keys(&signing, &kept), Some(stored), is_new)
        }
    };
    let set = Arc::new(KeySet::new(own, foreign_keys(&config.issuers)));
    Ok(Keys { signing, set, stored, is_new })
}

/// Looks for keys that other gateways put into the store, or an operator took out of it, and swaps the key set when there are.
/// The key that signs here stays, because what it signs must verify.
pub(super) async fn follow(keys: Keys, store: Arc<dyn Store>, issuers: Vec<TrustedIssuer>, shared: Arc<Shared>) {
    let Some(mut known) = keys.stored else { return };
    let mut interval = tokio::time::interval(FOLLOW_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        interval.tick().await;
        let kept = match store.keys().await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "Signing keys not read, keeping the known ones");
                continue;
            }
        };
        let names: Vec<String> = kept.iter().map(|key| key.kid.clone()).collect();
        if names != known {
            tracing::info!(keys = names.len(), "Signing keys changed");
            let set = Arc::new(KeySet::new(own_keys(&keys.signing, &kept), foreign_keys(&issuers)));
            shared.keys.store(Arc::clone(&set));
            shared.cache.retain(&set);
            known = names;
        }
    }
}

/// The key, and whether it was generated now.
async fn stored_or_generated(config: &Config, store: &dyn Store) -> Result<(SigningKey, bool), StartError> {
    let kept = store.keys().await.map_err(StartError::Store)?;
    vault::seal_all(store, &config.sealer, &kept).await?;
    let algorithm = config.tokens.algorithm;
    let (standing, is_new) = match kept.into_iter().find(|key| key.algorithm == algorithm.name()) {
        Some(standing) => (standing, false),
        None => (vault::add_first(store, &config.sealer, algorithm, UnixSeconds::now()).await?, true),
    };
    Ok((vault::signing_key(&config.sealer, &standing)?, is_new))
}

/// The signing key first, then the others of the store. One that cannot be read is left out and reported: the others' tokens
/// are not to suffer from it.
fn own_keys(signing: &SigningKey, kept: &[StoredKey]) -> Vec<VerificationKey> {
    let mut own = vec![signing.verification_key()];
    for key in kept.iter().filter(|key| key.kid != signing.kid()) {
        match vault::signing_key(&Sealer::default(), key) {
            Ok(key) => own.push(key.verification_key()),
            Err(error) => {
                tracing::warn!(kid = %key.kid, error = %chain(&error), "Signing key in the store cannot be used")
            }
        }
    }
    own
}

fn foreign_keys(issuers: &[TrustedIssuer]) -> Vec<Vec<VerificationKey>> {
    issuers.iter().map(|issuer| issuer.keys.clone()).collect()
}

/// How long a key that another gateway generated for another algorithm stays unknown here.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(10);
