//! Keys on their way into the store and out of it: made when there is none, sealed when there is an encryption key.

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretString};

use crate::app::StartError;
use crate::cause::chain;
use crate::config::Config;
use crate::keyset::{Algorithm, KeyError, OwnKeys, Seal, Sealer, SigningKey};
use crate::store::{Store, StoredKey};
use crate::time::UnixSeconds;

/// What the key behind refresh tokens is called in the store, where others have the name of an algorithm.
const REFRESH_ALGORITHM: &str = "tollgate-refresh";

/// Bytes of the key behind refresh tokens: as many as the hash of its HMAC-SHA-256 (RFC 2104 section 3).
const REFRESH_KEY_BYTES: usize = 32;

/// The key behind refresh tokens, the same for all gateways of the store: made by the first that asks, sealed as the others.
/// It is never published, listed or used for anything else.
///
/// # Errors
/// When the store does not answer or take it, or the key in it cannot be opened or used. No other is made then: it would end all
/// sessions.
pub async fn refresh_key(config: &Config, store: &dyn Store) -> Result<SecretBox<[u8; REFRESH_KEY_BYTES]>, StartError> {
    let kept = store.keys().await.map_err(StartError::Store)?;
    let standing = match kept.into_iter().find(|key| key.algorithm == REFRESH_ALGORITHM) {
        Some(standing) => standing,
        None => {
            let (kid, material) = new_refresh_key()?;
            add(store, &config.sealer, kid, REFRESH_ALGORITHM, &material).await?
        }
    };
    let alone = std::slice::from_ref(&standing);
    // With the keys of tokens in the file nobody else looks at how it stands in the store.
    seal_all(store, &config.sealer, alone).await?;
    if matches!(config.own_keys, OwnKeys::Configured { .. }) {
        warn_of_keys_in_the_clear(&config.sealer, alone);
    }
    let material = open(&config.sealer, &standing)?;
    let bytes = Zeroizing::new(STANDARD.decode(material.expose_secret()).unwrap_or_default());
    let mut key = Box::new([0; REFRESH_KEY_BYTES]);
    if bytes.len() != key.len() {
        return Err(StartError::RefreshKey { kid: standing.kid });
    }
    key.copy_from_slice(&bytes);
    Ok(SecretBox::new(key))
}

/// What only the gateways of a fleet know, for the names of failed logins in the store. It stays when the signing key changes, or
/// they would forget what they counted, and gateways that start before and after it would count apart.
///
/// # Errors
/// As [`refresh_key`], if the keys are in the store.
pub async fn throttle_secret(config: &Config, store: &dyn Store) -> Result<SecretBox<[u8]>, StartError> {
    let derive = |secret: &[u8]| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"tollgate login throttle");
        SecretBox::new(Box::from(tag.as_ref()))
    };
    Ok(match &config.own_keys {
        // The store may be away when such a gateway starts, and its key changes with a restart only.
        OwnKeys::Configured { signing, .. } => derive(signing.to_stored().1.expose_secret().as_bytes()),
        OwnKeys::Stored => derive(refresh_key(config, store).await?.expose_secret()),
    })
}

fn new_refresh_key() -> Result<(String, SecretString), StartError> {
    let (mut name, mut key) = ([0; 16], Zeroizing::new([0; REFRESH_KEY_BYTES]));
    rand::fill(&mut name).and_then(|()| rand::fill(&mut *key)).map_err(|_| StartError::Randomness)?;
    Ok((format!("refresh-{}", URL_SAFE_NO_PAD.encode(name)), STANDARD.encode(*key).into()))
}

/// The first key of the algorithm, which signs from `active_from`, and whether it was made here: another gateway may have been
/// quicker.
pub(super) async fn add_first(
    store: &dyn Store,
    sealer: &Sealer,
    algorithm: Algorithm,
    active_from: UnixSeconds,
) -> Result<(StoredKey, bool), StartError> {
    let new = new_key(sealer, algorithm, active_from).await?;
    let standing = store.add_key_if_absent(&new).await.map_err(StartError::Store)?;
    let is_ours = standing.kid == new.kid;
    if is_ours {
        let from = new.active_from;
        tracing::info!(kid = %new.kid, algorithm = %algorithm, signs_from = %from, "Signing key generated and kept in the store");
    }
    Ok((standing, is_ours))
}

/// A new key to put into the store, which signs from `active_from`.
pub(super) async fn new_key(
    sealer: &Sealer,
    algorithm: Algorithm,
    active_from: UnixSeconds,
) -> Result<StoredKey, StartError> {
    // Prime numbers take seconds to find.
    let generated = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm)).await;
    let generated = generated.unwrap_or(Err(KeyError::Generation { algorithm })).map_err(StartError::Key)?;
    let (name, material) = generated.to_stored();
    let material = sealer.seal(generated.kid(), name, &material)?;
    let created_at = UnixSeconds::now();
    Ok(StoredKey { active_from, ..StoredKey::new(generated.kid().to_owned(), name, material, created_at) })
}

async fn add(
    store: &dyn Store,
    sealer: &Sealer,
    kid: String,
    algorithm: &str,
    plain: &SecretString,
) -> Result<StoredKey, StartError> {
    let material = sealer.seal(&kid, algorithm, plain)?;
    let key = StoredKey::new(kid, algorithm, material, UnixSeconds::now());
    store.add_key_if_absent(&key).await.map_err(StartError::Store)
}

/// The key that signs tokens, out of what is in the store.
pub(super) fn signing_key(sealer: &Sealer, key: &StoredKey) -> Result<SigningKey, StartError> {
    let algorithm = Algorithm::from_name(&key.algorithm)
        .ok_or_else(|| StartError::StoredAlgorithm { algorithm: key.algorithm.clone() })?;
    SigningKey::from_stored(algorithm, &open(sealer, key)?).map_err(StartError::Key)
}

fn open(sealer: &Sealer, key: &StoredKey) -> Result<SecretString, StartError> {
    Ok(sealer.open(&key.kid, &key.algorithm, &key.material)?)
}

/// Seals with the encryption key of now what is in the clear or was sealed with a former one.
/// Every key must open: a gateway that starts with a wrong encryption key would otherwise serve until somebody needs the key.
pub(super) async fn seal_all(store: &dyn Store, sealer: &Sealer, keys: &[StoredKey]) -> Result<(), StartError> {
    let mut sealed = 0;
    for key in keys {
        let plain = open(sealer, key)?;
        let Some(current) = sealer.current() else { continue };
        if sealer.seal_of(&key.material) == Seal::Current {
            continue;
        }
        let material = sealer.seal(&key.kid, &key.algorithm, &plain)?;
        match store.replace_material(&key.kid, &key.material, &material).await {
            // Otherwise another gateway was quicker.
            Ok(true) => {
                sealed += 1;
                tracing::info!(kid = %key.kid, encryption_key = current.name(), "Key in the store encrypted");
            }
            Ok(false) => {}
            Err(error) => return Err(StartError::Store(error)),
        }
    }
    if sealed > 0 {
        clear_traces(store).await;
    }
    Ok(())
}

/// Says that keys stand in the store in the clear, where a copy of the store is enough to sign tokens.
pub(super) fn warn_of_keys_in_the_clear(sealer: &Sealer, keys: &[StoredKey]) {
    let count = keys.iter().filter(|key| sealer.seal_of(&key.material) == Seal::None).count();
    if sealer.current().is_none() && count > 0 {
        tracing::warn!(
            keys = count,
            "Private keys stand in the store unencrypted; set `store.encryption_key` to encrypt them"
        );
    }
}

pub(super) async fn clear_traces(store: &dyn Store) {
    if let Err(error) = store.clear_traces().await {
        tracing::warn!(error = %chain(&error), "The database file may still hold former forms of keys");
    }
}
