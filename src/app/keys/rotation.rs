//! A new key in the place of an old one: by an operator's word, or when it is time.

use std::time::Duration;

use crate::app::StartError;
use crate::config::Config;
use crate::keyset::OwnKeys;
use crate::store::{self, Store, StoreError, StoreLocation, StoredKey};
use crate::time::UnixSeconds;

use super::follow::Rules;
use super::schedule::{self, HURRIED_AHEAD, PUBLISH_AHEAD, SHORTEST_AHEAD, Stage};
use super::vault;

/// What a rotation led to.
#[derive(Debug)]
pub struct Rotated {
    /// The new key.
    pub kid: String,
    /// When it begins to sign.
    pub signs_from: UnixSeconds,
    /// JWA name.
    pub algorithm: String,
    /// Whether it was there before, and only its date is new.
    pub is_brought_forward: bool,
}

/// From when on the tokens of a key that is retired are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once, as for a key that somebody has stolen.
    Now,
    /// After the last of them has expired.
    AfterLastToken,
}

/// What the retirement of a key led to.
#[derive(Debug)]
pub enum Retired {
    /// It was to sign later, and will not.
    Withdrawn,
    /// It signs no more from then on, and verifies until the last token that it signed has expired.
    Replaced {
        /// What signs in its place.
        successor: String,
        /// From when on.
        from: UnixSeconds,
    },
    /// It signed for another algorithm, and verifies until then.
    Verifies {
        /// Until when.
        until: UnixSeconds,
    },
    /// It is gone, and was the one behind refresh tokens. Gateways that run keep it until they are restarted.
    BehindRefresh,
    /// It is gone, and every token that it signed is refused.
    Refused {
        /// What signs in its place, if it signed.
        successor: Option<String>,
    },
}

/// Why keys were not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The file names the keys.
    #[error(
        "`tokens.key` names the signing key, so it is changed in the file\nhint: put the new one into `tokens.key` and the old one \
         into `tokens.previous_keys`"
    )]
    Configured,
    /// The store did not do it.
    #[error("our own keys are in the store, which cannot be used")]
    Store(#[source] StoreError),
    /// The new key.
    #[error("no new key could be made")]
    NewKey(#[source] StartError),
    /// There is no key to replace.
    #[error("the store has no key for {algorithm} yet\nhint: `tollgate run` makes the first when it starts")]
    NoKey {
        /// `tokens.algorithm`
        algorithm: &'static str,
    },
    /// A successor waits already.
    #[error(
        "the key `{kid}` is already to sign from {from}\nhint: `tollgate key rotate --now` lets it sign in 45 \
         seconds, `tollgate key retire {kid}` withdraws it"
    )]
    Pending {
        /// The successor.
        kid: String,
        /// Its date.
        from: UnixSeconds,
    },
    /// No such key.
    #[error("there is no key of our own with the name `{kid}`\nhint: `tollgate key list` shows them")]
    NoSuchKey {
        /// What was asked for.
        kid: String,
    },
    /// Nothing would sign.
    #[error(
        "the key `{kid}` signs, and there is none to take its place\nhint: `tollgate key rotate --now` makes one; wait until it \
         signs"
    )]
    OnlyKey {
        /// What was asked for.
        kid: String,
    },
    /// What shall take its place is not known to everybody yet.
    #[error(
        "the key `{kid}` signs until the first key of `tokens.algorithm` does, which is published and waits\nhint: wait until \
         `tollgate key list` says that the new one signs; `tollgate key retire {kid} --now` refuses its tokens from now on"
    )]
    StandsIn {
        /// What was asked for.
        kid: String,
    },
    /// It goes by itself.
    #[error(
        "the key `{kid}` signs no more and goes by itself at {until}\nhint: `tollgate key retire {kid} --now` refuses its tokens \
         from now on"
    )]
    Verifies {
        /// What was asked for.
        kid: String,
        /// When its last token has expired.
        until: UnixSeconds,
    },
    /// It signs no tokens.
    #[error(
        "the key `{kid}` is the one behind refresh tokens\nhint: `tollgate key retire {kid} --now` removes it, which ends all \
         sessions when the gateways are restarted"
    )]
    Internal {
        /// What was asked for.
        kid: String,
    },
}

/// What the key behind refresh tokens may be called besides its name, which no list shows.
const REFRESH: &str = "refresh";

/// Makes a key for `tokens.algorithm` that begins to sign `after` from now, also the first of that algorithm. `None`: as soon
/// as verifiers can know it, and if a successor waits already, that one is brought forward.
///
/// # Errors
/// See [`RotationError`].
pub async fn rotate(config: &Config, after: Option<Duration>) -> Result<Rotated, RotationError> {
    let (rules, store) = open(config).await?;
    let now = UnixSeconds::now();
    let kept = store.keys().await.map_err(RotationError::Store)?;
    let row = of_algorithm(&rules, &kept, now);
    let soonest = now.plus(HURRIED_AHEAD);
    if let Some((pending, _)) = row.iter().find(|(_, stage)| *stage == Stage::Next) {
        if after.is_some() {
            return Err(RotationError::Pending { kid: pending.kid.clone(), from: pending.active_from });
        }
        bring_forward(&*store, &pending.kid, soonest).await?;
        let signs_from = pending.active_from.min(soonest);
        let (kid, algorithm) = (pending.kid.clone(), pending.algorithm.clone());
        return Ok(Rotated { kid, algorithm, signs_from, is_brought_forward: true });
    }
    let active_from = after.map_or(soonest, |after| now.plus(after.max(SHORTEST_AHEAD)));
    let Some((newest, _)) = row.last() else {
        return prepare(&rules, &*store, &kept, active_from, now).await;
    };
    let standing = succeed(&rules, &*store, newest, active_from).await?;
    if standing.is_new {
        let StoredKey { kid, algorithm, .. } = standing.key;
        return Ok(Rotated { kid, algorithm, signs_from: active_from, is_brought_forward: false });
    }
    Err(RotationError::Pending { kid: standing.key.kid, from: standing.key.active_from })
}

/// Makes the first key of an algorithm that is to take over from another one.
async fn prepare(
    rules: &Rules,
    store: &dyn Store,
    kept: &[StoredKey],
    active_from: UnixSeconds,
    now: UnixSeconds,
) -> Result<Rotated, RotationError> {
    // Else the gateway that starts first makes one, and need not wait for anybody to know it.
    if !schedule::somebody_signs(kept, now) {
        return Err(RotationError::NoKey { algorithm: rules.algorithm.name() });
    }
    let added = vault::add_first(store, &rules.sealer, rules.algorithm, active_from).await;
    let (StoredKey { kid, algorithm, active_from: signs_from, .. }, is_new) = added.map_err(RotationError::NewKey)?;
    if is_new {
        return Ok(Rotated { kid, algorithm, signs_from, is_brought_forward: false });
    }
    Err(RotationError::Pending { kid, from: signs_from })
}

/// Takes a key out of service: one that signs is replaced by its successor, one that waits is withdrawn. `refresh` names the
/// key behind refresh tokens, which is in the store wherever the others are. Gives what became of the key, and its algorithm.
///
/// # Errors
/// See [`RotationError`].
pub async fn retire(config: &Config, kid: &str, when: When) -> Result<(Retired, String), RotationError> {
    let (rules, store) = if kid == REFRESH { opened(config).await } else { open(config).await }?;
    let now = UnixSeconds::now();
    let kept = store.keys().await.map_err(RotationError::Store)?;
    let stages = schedule::stages(&kept, rules.keep, now);
    let is_meant = |key: &StoredKey| key.kid == kid || (kid == REFRESH && !key.signs_tokens());
    let Some((key, stage)) = kept.iter().zip(stages.iter().copied()).find(|(key, _)| is_meant(key)) else {
        return Err(RotationError::NoSuchKey { kid: kid.to_owned() });
    };
    if !key.signs_tokens() {
        if when == When::AfterLastToken {
            return Err(RotationError::Internal { kid: kid.to_owned() });
        }
        store.remove_key(&key.kid).await.map_err(RotationError::Store)?;
        vault::clear_traces(&*store).await;
        return Ok((Retired::BehindRefresh, key.algorithm.clone()));
    }
    let stands_in = schedule::signs_for(&kept, &stages, rules.algorithm.name()).is_some_and(|signs| signs.kid == kid);
    let signs_here = stage == Stage::Signs && key.algorithm == rules.algorithm.name();
    let retired = match stage {
        Stage::Signs if signs_here => {
            let row = of_algorithm(&rules, &kept, now);
            let Some((next, _)) = row.iter().find(|(_, stage)| *stage == Stage::Next) else {
                return Err(RotationError::OnlyKey { kid: kid.to_owned() });
            };
            let from = match when {
                When::Now => now,
                When::AfterLastToken => next.active_from.min(now.plus(HURRIED_AHEAD)),
            };
            bring_forward(&*store, &next.kid, from).await?;
            let successor = next.kid.clone();
            match when {
                When::Now => Retired::Refused { successor: Some(successor) },
                When::AfterLastToken => Retired::Replaced { successor, from },
            }
        }
        // It stands in for the first key of another algorithm, which not everybody knows yet.
        Stage::Signs if when == When::AfterLastToken && stands_in => {
            return Err(RotationError::StandsIn { kid: kid.to_owned() });
        }
        // Nobody signs for that algorithm any more.
        Stage::Signs if when == When::AfterLastToken => {
            store.retire_key(kid, now).await.map_err(RotationError::Store)?;
            Retired::Verifies { until: rules.keep.until(key, now) }
        }
        Stage::Verifies { until } if when == When::AfterLastToken => {
            return Err(RotationError::Verifies { kid: kid.to_owned(), until });
        }
        Stage::Next => Retired::Withdrawn,
        Stage::Signs | Stage::Verifies { .. } | Stage::Over { .. } => Retired::Refused { successor: None },
    };
    if matches!(retired, Retired::Withdrawn | Retired::Refused { .. }) {
        store.remove_key(kid).await.map_err(RotationError::Store)?;
        vault::clear_traces(&*store).await;
    }
    Ok((retired, key.algorithm.clone()))
}

/// Makes a successor of the key that signs, if `tokens.rotate_every` says that it has to be published by now. Of several gateways
/// that do so at once one wins, and gets the new key.
pub(super) async fn rotate_if_due(
    rules: &Rules,
    kept: &[StoredKey],
    store: &dyn Store,
    now: UnixSeconds,
) -> Result<Option<StoredKey>, RotationError> {
    let Some(every) = rules.rotate_every else { return Ok(None) };
    let row = of_algorithm(rules, kept, now);
    let Some((signing, Stage::Signs)) = row.last() else { return Ok(None) };
    let due = signing.active_from.plus(every);
    if now.plus(PUBLISH_AHEAD) < due {
        return Ok(None);
    }
    let active_from = due.max(now.plus(PUBLISH_AHEAD));
    let standing = succeed(rules, store, signing, active_from).await?;
    if !standing.is_new {
        return Ok(None);
    }
    tracing::info!(kid = %standing.key.kid, signs_from = %active_from, "Successor of the signing key made");
    Ok(Some(standing.key))
}

/// Lets a key that waits begin to sign. Somebody may withdraw it at the same time, and then the one before it must not go.
pub(super) async fn bring_forward(store: &dyn Store, kid: &str, from: UnixSeconds) -> Result<(), RotationError> {
    if store.bring_forward_key(kid, from).await.map_err(RotationError::Store)? {
        return Ok(());
    }
    // It is to begin before, or has begun; or it is gone.
    let kept = store.keys().await.map_err(RotationError::Store)?;
    if kept.iter().any(|key| key.kid == kid) { Ok(()) } else { Err(RotationError::NoSuchKey { kid: kid.to_owned() }) }
}

struct Successor {
    key: StoredKey,
    /// Whether it is the one that was made here.
    is_new: bool,
}

async fn succeed(
    rules: &Rules,
    store: &dyn Store,
    predecessor: &StoredKey,
    active_from: UnixSeconds,
) -> Result<Successor, RotationError> {
    let mut new = vault::new_key(&rules.sealer, rules.algorithm, active_from).await.map_err(RotationError::NewKey)?;
    // The order in the store is that of the dates, also when two clocks do not agree.
    new.created_at = new.created_at.max(predecessor.created_at);
    let standing = store.add_successor(&predecessor.kid, &new).await.map_err(RotationError::Store)?;
    let key = standing.ok_or(RotationError::NoKey { algorithm: rules.algorithm.name() })?;
    let is_new = key.kid == new.kid;
    Ok(Successor { key, is_new })
}

/// The keys that sign here, in the order of the store.
fn of_algorithm<'a>(rules: &Rules, kept: &'a [StoredKey], now: UnixSeconds) -> Vec<(&'a StoredKey, Stage)> {
    let stages = schedule::stages(kept, rules.keep, now);
    kept.iter().zip(stages).filter(|(key, _)| key.algorithm == rules.algorithm.name()).collect()
}

/// The store, to change what is in it; a SQLite file is not made for that.
async fn open(config: &Config) -> Result<(Rules, std::sync::Arc<dyn Store>), RotationError> {
    if let OwnKeys::Configured { .. } = config.own_keys {
        return Err(RotationError::Configured);
    }
    opened(config).await
}

/// As [`open`], also where the file names the keys that sign.
async fn opened(config: &Config) -> Result<(Rules, std::sync::Arc<dyn Store>), RotationError> {
    if let StoreLocation::Sqlite { path } = &config.store.location
        && !path.exists()
    {
        return Err(RotationError::Store(StoreError::Missing { path: path.clone() }));
    }
    let store = store::open(&config.store).await.map_err(RotationError::Store)?;
    Ok((Rules::new(config), store))
}
