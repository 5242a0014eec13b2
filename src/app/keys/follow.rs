//! The keys that a gateway starts with, and how it follows what others do to them in the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::app::StartError;
use crate::audit::{Audit, Event, Origin, Whom};
use crate::cause::chain;
use crate::config::Config;
use crate::gateway::Shared;
use crate::keyset::{Algorithm, KeySet, OwnKeys, Sealer, SigningKey, VerificationKey};
use crate::store::{Store, StoredKey};
use crate::time::UnixSeconds;
use crate::token::Signers;
use crate::token::mint::Minter;

use super::schedule::{self, FOLLOW_INTERVAL, Keep, PUBLISH_AHEAD, Stage};
use super::{foreign_keys, rotation, vault};

/// The keys to start with.
#[derive(Debug)]
pub(in crate::app) struct Keys {
    pub(in crate::app) signers: Signers,
    pub(in crate::app) set: Arc<KeySet>,
    /// `None` when the file fixes them.
    ring: Option<Ring>,
    /// The key that was made at this start.
    new: Option<SigningKey>,
}

impl Keys {
    /// Tells the audit of a key that was made at this start.
    pub(in crate::app) fn tell_if_new(&self, audit: &Audit) {
        if let Some(key) = &self.new {
            let event = Event::KeyGenerated { kid: key.kid(), algorithm: key.algorithm().name() };
            audit.record(&event, Whom::default(), &Origin::Gateway);
        }
    }
}

/// What is known of the keys in the store.
#[derive(Debug)]
struct Ring {
    rules: Rules,
    /// All that sign tokens, as they were last read.
    kept: Vec<StoredKey>,
    /// Those that could be opened, by name: a key never changes, so each is opened once.
    opened: BTreeMap<String, SigningKey>,
    /// What was last put into use.
    in_use: Vec<Standing>,
}

/// What the configuration says about our keys.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) algorithm: Algorithm,
    pub(super) sealer: Sealer,
    pub(super) keep: Keep,
    /// `None`: nobody but an operator makes successors.
    pub(super) rotate_every: Option<Duration>,
}

/// What can be noticed of a key from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    kid: String,
    duty: Duty,
    active_from: UnixSeconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Next,
    Signs,
    Verifies,
    Unusable,
}

/// The keys that the file names, or those in the store. A key is generated if the store has none for `tokens.algorithm`; of
/// gateways that start together on an empty store one wins, and all get its key. Where a key of another algorithm signs, that
/// one does until everybody knows the new one.
pub(in crate::app) async fn load(config: &Config, store: &dyn Store) -> Result<Keys, StartError> {
    if let OwnKeys::Configured { signing, previous } = &config.own_keys {
        let own = std::iter::once(signing.verification_key()).chain(previous.iter().cloned()).collect();
        let set = Arc::new(KeySet::new(own, foreign_keys(&config.issuers)));
        return Ok(Keys { signers: Signers::new(signing.clone(), Vec::new()), set, ring: None, new: None });
    }
    let rules = Rules::new(config);
    let now = UnixSeconds::now();
    let mut kept = store.keys().await.map_err(StartError::Store)?;
    let mut made = None;
    // First of all: no key is made while there are some that cannot be read.
    vault::seal_all(store, &rules.sealer, &kept).await?;
    if !kept.iter().any(|key| key.algorithm == rules.algorithm.name()) {
        let ahead = if schedule::somebody_signs(&kept, now) { PUBLISH_AHEAD } else { Duration::ZERO };
        let (first, is_ours) = vault::add_first(store, &rules.sealer, rules.algorithm, now.plus(ahead)).await?;
        made = is_ours.then(|| first.kid.clone());
        kept.push(first);
    }
    vault::warn_of_keys_in_the_clear(&rules.sealer, &kept);
    let mut ring = Ring { rules, kept: Vec::new(), opened: BTreeMap::new(), in_use: Vec::new() };
    ring.take(kept);
    let Some(signers) = ring.signers(now) else { return Err(ring.why_none_signs(now)) };
    let set = Arc::new(KeySet::new(ring.published(now), foreign_keys(&config.issuers)));
    ring.in_use = ring.standings(now);
    let new = made.and_then(|kid| ring.opened.get(&kid).cloned());
    Ok(Keys { signers, set, ring: Some(ring), new })
}

/// Looks for keys that other gateways or an operator put into the store or took out of it, lets each begin and end in its time,
/// and makes a successor when one is due.
pub(in crate::app) async fn follow(
    keys: Keys,
    store: Arc<dyn Store>,
    minter: Arc<Minter>,
    shared: Arc<Shared>,
    audit: Arc<Audit>,
) {
    let Some(mut ring) = keys.ring else { return };
    let mut interval = tokio::time::interval(FOLLOW_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval.tick().await;
    shared.metrics.keys_read();
    // A key that was retired because it was stolen is accepted here for as long as the store cannot be read: somebody must know.
    let mut is_failing = false;
    loop {
        interval.tick().await;
        let is_read = match store.keys().await {
            Ok(kept) => {
                ring.take(kept);
                shared.metrics.keys_read();
                if std::mem::take(&mut is_failing) {
                    tracing::info!("Signing keys read again");
                }
                true
            }
            // Those that are known begin and end all the same.
            Err(error) => {
                if std::mem::replace(&mut is_failing, true) {
                    tracing::debug!(error = %chain(&error), "Signing keys not read, keeping the known ones");
                } else {
                    tracing::warn!(error = %chain(&error), "Signing keys not read, keeping the known ones");
                }
                false
            }
        };
        let now = UnixSeconds::now();
        ring.put_into_use(&minter, &shared, now);
        if is_read {
            ring.clean_up(&*store, &audit, now).await;
            match rotation::rotate_if_due(&ring.rules, &ring.kept, &*store, now).await {
                Ok(Some(new)) => {
                    let event = Event::KeyRotated { kid: &new.kid, algorithm: &new.algorithm };
                    audit.record(&event, Whom::default(), &Origin::Gateway);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "No successor made for the signing key, trying again");
                }
            }
        }
    }
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            algorithm: config.tokens.algorithm,
            sealer: config.sealer.clone(),
            keep: Keep::new(&config.tokens),
            rotate_every: config.rotate_every,
        }
    }
}

impl Ring {
    /// Takes over what the store holds now.
    fn take(&mut self, mut kept: Vec<StoredKey>) {
        kept.retain(StoredKey::signs_tokens);
        self.opened.retain(|kid, _| kept.iter().any(|key| key.kid == *kid));
        for key in &kept {
            if self.opened.contains_key(&key.kid) {
                continue;
            }
            match vault::signing_key(&self.rules.sealer, key) {
                Ok(usable) => {
                    self.opened.insert(key.kid.clone(), usable);
                }
                // Said once, not at every look.
                Err(error) if !self.kept.iter().any(|known| known.kid == key.kid) => {
                    tracing::warn!(kid = %key.kid, error = %chain(&error), "Signing key in the store cannot be used");
                }
                Err(_) => {}
            }
        }
        self.kept = kept;
    }

    fn stages(&self, now: UnixSeconds) -> impl Iterator<Item = (&StoredKey, Stage)> {
        self.kept.iter().zip(schedule::stages(&self.kept, self.rules.keep, now))
    }

    /// The keys that sign from `now` on, each from its date; `None`: the one that should sign now cannot be used.
    fn signers(&self, now: UnixSeconds) -> Option<Signers> {
        let algorithm = self.rules.algorithm.name();
        let stages = schedule::stages(&self.kept, self.rules.keep, now);
        let signing = schedule::signs_for(&self.kept, &stages, algorithm)?;
        let next =
            self.kept.iter().zip(&stages).filter(|(key, stage)| **stage == Stage::Next && key.algorithm == algorithm);
        let later = next.filter_map(|(key, _)| Some((key.active_from, self.opened.get(&key.kid)?.clone()))).collect();
        Some(Signers::new(self.opened.get(&signing.kid)?.clone(), later))
    }

    fn why_none_signs(&self, now: UnixSeconds) -> StartError {
        let algorithm = self.rules.algorithm;
        let signer = self.stages(now).find(|(key, stage)| *stage == Stage::Signs && key.algorithm == algorithm.name());
        let unusable = signer.and_then(|(key, _)| vault::signing_key(&self.rules.sealer, key).err());
        unusable.unwrap_or(StartError::AllRetired { algorithm: algorithm.name() })
    }

    /// What verifies at `now`. One that cannot be read is left out: the others' tokens are not to suffer from it.
    fn published(&self, now: UnixSeconds) -> Vec<VerificationKey> {
        let needed = self.stages(now).filter(|(_, stage)| !matches!(stage, Stage::Over { .. }));
        needed.filter_map(|(key, _)| self.opened.get(&key.kid)).map(SigningKey::verification_key).collect()
    }

    fn standings(&self, now: UnixSeconds) -> Vec<Standing> {
        let standing = |(key, stage): (&StoredKey, Stage)| {
            let duty = match stage {
                Stage::Over { .. } => return None,
                _ if !self.opened.contains_key(&key.kid) => Duty::Unusable,
                Stage::Next => Duty::Next,
                Stage::Signs => Duty::Signs,
                Stage::Verifies { .. } => Duty::Verifies,
            };
            Some(Standing { kid: key.kid.clone(), duty, active_from: key.active_from })
        };
        self.stages(now).filter_map(standing).collect()
    }

    /// Signs and verifies by what is known now, if anything is different from before.
    fn put_into_use(&mut self, minter: &Minter, shared: &Shared, now: UnixSeconds) {
        let standings = self.standings(now);
        if standings == self.in_use {
            return;
        }
        let mut own = self.published(now);
        let signs = match self.signers(now) {
            Some(signers) => {
                let kid = signers.key(now).kid().to_owned();
                // Verified first: what is signed from here on must be accepted here.
                shared.change_keys(|set| set.with_own(own.clone()));
                minter.replace_signers(signers);
                kid
            }
            // Somebody emptied the store, or put a key there that cannot be used here: what signs goes on, and must verify.
            None => {
                let kept = minter.key(now);
                let kid = kept.kid().to_owned();
                tracing::error!(kid, "The store has no usable signing key, keeping the known one");
                if !own.iter().any(|key| key.thumbprint() == kept.verification_key().thumbprint()) {
                    own.push(kept.verification_key());
                }
                shared.change_keys(|set| set.with_own(own.clone()));
                kid
            }
        };
        tracing::info!(keys = own.len(), signs, "Signing keys changed");
        self.in_use = standings;
    }

    /// Removes the keys that nobody needs any more. Others may do so at the same time.
    async fn clean_up(&self, store: &dyn Store, audit: &Audit, now: UnixSeconds) {
        for (key, stage) in self.stages(now) {
            if !schedule::may_be_removed(stage, now) {
                continue;
            }
            match store.remove_key(&key.kid).await {
                Ok(true) => {
                    tracing::info!(kid = %key.kid, "Signing key removed from the store, all its tokens have expired");
                    let event = Event::KeyRetired { kid: &key.kid, algorithm: &key.algorithm };
                    audit.record(&event, Whom::default(), &Origin::Gateway);
                    vault::clear_traces(store).await;
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(kid = %key.kid, error = %chain(&error), "Signing key not removed yet"),
            }
        }
    }
}
