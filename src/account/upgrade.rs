//! A password that was right, and whose hash is of another scheme or cheaper than new ones, is hashed anew.
//!
//! It is done after the login's answer, on the hashing threads, and only when they have room; the next login tries again.
//! The hash is replaced by compare-and-set on the old one, so that of several logins one wins, and a password that was changed
//! meanwhile stays.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Account, Accounts, hash};
use crate::audit::{Event, Origin, Whom};
use crate::store::PasswordHash;

/// Upgrades under way at once; more logins keep their old hashes until the next one.
const MAX_UPGRADES: usize = 2;

/// Bounds the upgrades under way.
#[derive(Debug)]
pub(super) struct Upgrades(Arc<Semaphore>);

impl Upgrades {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_UPGRADES)))
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

impl Accounts {
    /// Begins an upgrade of the hash of somebody who has just logged in, if it needs one and there is room.
    pub(super) fn upgrade_later(
        self: &Arc<Self>,
        login: &str,
        account: &Account,
        password: &SecretString,
        old: PasswordHash,
    ) {
        if !self.upgrades_hashes || !hash::needs_upgrade(&old, password.expose_secret(), self.new_hash) {
            return;
        }
        let Some(place) = self.upgrades.place() else { return };
        let (accounts, login, password) = (Arc::clone(self), login.to_owned(), password.clone());
        let (subject, name) = (account.subject.clone(), account.login.clone());
        tokio::spawn(async move {
            let _place = place;
            let new = match accounts.hash_password(&password).await {
                Ok(new) => new,
                Err(error) => {
                    tracing::debug!(account.subject = %subject, %error, "Hash not upgraded");
                    return;
                }
            };
            match accounts.store.upgrade_password(&login, &old, &new).await {
                Ok(true) => {
                    let whom = Whom { subject: Some(&subject), login: Some(&name), session: None };
                    accounts.audit.record(&Event::HashUpgraded, whom, &Origin::Gateway);
                }
                Ok(false) => tracing::debug!(account.subject = %subject, "Hash not upgraded, it has changed meanwhile"),
                Err(error) => tracing::warn!(account.subject = %subject, %error, "Hash not upgraded"),
            }
        });
    }
}
