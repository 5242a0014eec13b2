//! Which key signs our tokens, which ones verify them, and how a gateway follows what others put into the store.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::gateway::{Shared, chain};
use crate::keyset::{Algorithm, KeySet, OwnKeys, SigningKey, VerificationKey};
use crate::store::{Store, StoredKey};
use crate::time::UnixSeconds;
use crate::token::TrustedIssuer;

use super::StartError;

/// The keys to start with.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) signing: SigningKey,
    pub(super) set: Arc<KeySet>,
    /// The names of our own keys in `set`; `None` when the file fixes them.
    stored: Option<Vec<String>>,
}

/// The keys that the file names, or those in the store. A key is generated if the store has none for `tokens.algorithm`;
/// of gateways that start together on an empty store one wins, and all get its key.
pub(super) async fn load(config: &Config, store: Arc<dyn Store>) -> Result<Keys, StartError> {
    let (signing, own, stored) = match &config.own_keys {
        OwnKeys::Configured { signing, previous } => {
            let own = std::iter::once(signing.verification_key()).chain(previous.iter().cloned()).collect();
            (signing.clone(), own, None)
        }
        OwnKeys::Stored => {
            let signing = stored_or_generated(config.tokens.algorithm, &*store).await?;
            let kept = store.signing_keys().await.map_err(StartError::Store)?;
            let stored = kept.iter().map(|key| key.kid.clone()).collect();
            (signing.clone(), own_keys(&signing, &kept), Some(stored))
        }
    };
    let set = Arc::new(KeySet::new(own, foreign_keys(&config.issuers)));
    Ok(Keys { signing, set, stored })
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
        let kept = match store.signing_keys().await {
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

async fn stored_or_generated(algorithm: Algorithm, store: &dyn Store) -> Result<SigningKey, StartError> {
    let kept = store.signing_keys().await.map_err(StartError::Store)?;
    if let Some(key) = kept.iter().find(|key| key.algorithm == algorithm.name()) {
        return signing_key(key);
    }
    let generated = SigningKey::generate(algorithm).map_err(StartError::Key)?;
    let (name, material) = generated.to_stored();
    let kid = generated.kid().to_owned();
    let key = StoredKey { kid, algorithm: name.to_owned(), material, created_at: UnixSeconds::now() };
    let standing = store.add_key_if_absent(&key).await.map_err(StartError::Store)?;
    if standing.kid == key.kid {
        tracing::info!(kid = %key.kid, algorithm = %algorithm, "Signing key generated and kept in the store");
    }
    signing_key(&standing)
}

fn signing_key(key: &StoredKey) -> Result<SigningKey, StartError> {
    let algorithm = Algorithm::from_name(&key.algorithm)
        .ok_or_else(|| StartError::StoredAlgorithm { algorithm: key.algorithm.clone() })?;
    SigningKey::from_stored(algorithm, &key.material).map_err(StartError::Key)
}

/// The signing key first, then the others of the store. One that cannot be read is left out and reported: the others' tokens
/// are not to suffer from it.
fn own_keys(signing: &SigningKey, kept: &[StoredKey]) -> Vec<VerificationKey> {
    let mut own = vec![signing.verification_key()];
    for key in kept.iter().filter(|key| key.kid != signing.kid()) {
        match signing_key(key) {
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
