//! Who has failed to log in too often waits, and is told so before a password is checked.
//!
//! Failures count three times: for the account, for the account from one address, and for the address. The second has the
//! longest waits. The first only ever slows, so that strangers cannot lock anybody out, and neither the first nor the third
//! concerns a person who logged in from that address before, or who still has a session in that browser.
//!
//! The counts are in the store, so that all gateways share them; they are read while the account is looked up, and raised before
//! a failed login is answered. Between both lie the queue and the hash of a password, in which many guesses could pass that were
//! sent at once. So failures here count in memory, too, until the store has them, and a guess is held against these once
//! more when its turn to be hashed comes.

mod limit;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use aws_lc_rs::hmac;
use moka::sync::Cache;

use crate::audit;
use crate::store::{AttemptKey, Attempts, Failure, Store, StoreError};
use crate::time::UnixSeconds;

pub use limit::Limit;

/// `[login.throttle]`.
#[derive(Debug, Clone)]
pub struct ThrottleSettings {
    /// Failures on one account, from anywhere.
    pub account: Limit,
    /// Failures on one account from one address.
    pub account_and_address: Limit,
    /// Failures from one address, on any account. IPv6: from its network of 64 bits.
    pub address: Limit,
    /// How long a successful login makes its address a known one of the account.
    pub known_for: Duration,
}

/// Where a login comes from.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The client's address, as `server.trusted_proxies` tells it.
    pub address: IpAddr,
    /// Subject of the session that the client still has. Of that account only the tries from this address count.
    pub session_of: Option<&'a str>,
    /// Now.
    pub now: UnixSeconds,
}

/// Refuses logins that come too soon after too many that failed.
pub struct Throttle {
    settings: ThrottleSettings,
    store: Arc<dyn Store>,
    key: hmac::Key,
    /// Failures of this process that the store may not have yet.
    recent: Cache<AttemptKey, Arc<Recent>>,
}

/// Failures of one key in this process.
#[derive(Debug, Default)]
struct Recent {
    /// All since the record was made.
    failed: AtomicU32,
    /// Those of them that the store has.
    stored: AtomicU32,
}

/// A login under way.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    /// In the order of [`KINDS`].
    counters: [Counter; 3],
    now: UnixSeconds,
}

#[derive(Debug, Clone)]
struct Counter {
    key: AttemptKey,
    recent: Arc<Recent>,
    /// `recent.stored` when the login came, before the store was asked.
    known_failures: u32,
}

/// A login and what the store knew of its keys.
#[derive(Debug)]
pub(super) struct Judged {
    ticket: Ticket,
    attempts: [Attempts; 3],
    limits: [Limit; 3],
    /// Whether only the account from this address counts.
    is_known: bool,
    /// Whether its failure has been counted in this process.
    has_failed: AtomicBool,
}

/// Too soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSoon {
    pub(super) retry_after: Duration,
    pub(super) reason: audit::Throttle,
}

const KINDS: [audit::Throttle; 3] =
    [audit::Throttle::Account, audit::Throttle::AccountAndAddress, audit::Throttle::Address];
/// The place of the account from one address in [`KINDS`].
const OWN: usize = 1;
/// Keys whose latest failures are kept in memory, and for how long after their last use.
const MAX_RECENT: u64 = 10_000;
const RECENT_FOR: Duration = Duration::from_secs(120);
/// A known address is noted anew when less than this part of its time has passed since, so that not every login writes.
const RENEW_AFTER: u64 = 10;

impl Throttle {
    /// `secret` keys the hashes that stand for logins and addresses in the store; all gateways of a fleet must have the same.
    pub fn new(settings: ThrottleSettings, store: Arc<dyn Store>, secret: &[u8]) -> Self {
        // A key of its own, whatever else the secret is used for.
        let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"tollgate: failed logins");
        let key = hmac::Key::new(hmac::HMAC_SHA256, own.as_ref());
        let recent = Cache::builder().max_capacity(MAX_RECENT).time_to_idle(RECENT_FOR).build();
        Self { settings, store, key, recent }
    }

    /// To be called before anything else is asked for a login.
    pub(super) fn begin(&self, login: &str, address: IpAddr, now: UnixSeconds) -> Ticket {
        let network = network(address);
        // A database may take all ways of writing a name for one, and each would have tries of its own.
        let login = login.to_lowercase();
        let login = login.as_str();
        let [account, both, address] =
            [(0, login, &[][..]), (1, login, &network), (2, "", &network)].map(|(kind, login, network)| {
                let key = self.key(kind, login, network);
                let recent = self.recent.get_with(key, Arc::default);
                let known_failures = recent.stored.load(SeqCst);
                Counter { key, recent, known_failures }
            });
        Ticket { counters: [account, both, address], now }
    }

    /// Asks the store.
    pub(super) async fn judge(&self, ticket: Ticket) -> Result<Judged, StoreError> {
        let keys = ticket.counters.each_ref().map(|counter| counter.key);
        let found = self.store.attempts(&keys).await?;
        let mut attempts = [Attempts::default(); 3];
        attempts.iter_mut().zip(found).for_each(|(slot, found)| *slot = found);
        let ThrottleSettings { account, account_and_address, address, known_for: _ } = self.settings;
        let is_known = attempts[OWN].known_until > ticket.now;
        Ok(Judged {
            ticket,
            attempts,
            limits: [account, account_and_address, address],
            is_known,
            has_failed: AtomicBool::new(false),
        })
    }

    /// Counts a failed login, here if that was not done before, and in the store.
    pub(super) async fn count(&self, judged: &Judged) {
        judged.failed();
        let counters = &judged.ticket.counters;
        let mut failures = Vec::with_capacity(counters.len());
        for (counter, limit) in counters.iter().zip(&judged.limits) {
            failures.push(Failure { key: counter.key, forget: limit.forget_seconds(), most: limit.most_seconds() });
        }
        match self.store.count_failures(&failures, judged.ticket.now).await {
            Ok(()) => counters.iter().for_each(|counter| {
                counter.recent.stored.fetch_add(1, SeqCst);
            }),
            // It goes on counting here. A store that is gone lets nobody in anyway.
            Err(error) => tracing::warn!(%error, "Failed login not counted in the store"),
        }
    }

    /// Forgets the failures of a person who has logged in, and notes the address. Returns at once when there is nothing to do.
    pub(super) async fn forgive(&self, judged: &Judged) {
        let (now, known_for) = (judged.ticket.now, self.settings.known_for);
        let attempts = &judged.attempts[OWN];
        let is_fresh =
            attempts.known_until.since(now).as_secs() > known_for.as_secs() - known_for.as_secs() / RENEW_AFTER;
        if is_fresh && attempts.owes_until <= now {
            return;
        }
        let key = judged.ticket.counters[OWN].key;
        if let Err(error) = self.store.note_success(key, now.plus(known_for)).await {
            tracing::warn!(%error, "Failed logins before a right one not forgotten in the store");
        }
    }

    fn key(&self, kind: u8, login: &str, network: &[u8]) -> AttemptKey {
        let mut context = hmac::Context::with_key(&self.key);
        // The lengths are fixed by the kind but for the login's, which comes last.
        context.update(&[kind]);
        context.update(network);
        context.update(login.as_bytes());
        let tag = context.sign();
        let mut key = [0; 16];
        key.iter_mut().zip(tag.as_ref()).for_each(|(slot, byte)| *slot = *byte);
        AttemptKey(key)
    }
}

impl Judged {
    /// Of the account with the session that the client has, only the tries from its address count.
    pub(super) fn trust_session(&mut self) {
        self.is_known = true;
    }

    /// Whether the login may be tried now. Asked when it comes, and once more when its password is about to be hashed.
    pub(super) fn check(&self) -> Result<(), TooSoon> {
        let mut longest: Option<TooSoon> = None;
        for (index, counter) in self.ticket.counters.iter().enumerate() {
            if self.is_known && index != OWN {
                continue;
            }
            let unstored = counter.recent.failed.load(SeqCst).saturating_sub(counter.known_failures);
            let wait = self.limits[index].wait(&self.attempts[index], unstored, self.ticket.now);
            if wait > longest.map_or(Duration::ZERO, |longest| longest.retry_after) {
                longest = Some(TooSoon { retry_after: wait, reason: KINDS[index] });
            }
        }
        longest.map_or(Ok(()), Err)
    }

    /// Counts a failure in this process, at once, and only once.
    pub(super) fn failed(&self) {
        if !self.has_failed.swap(true, SeqCst) {
            for counter in &self.ticket.counters {
                counter.recent.failed.fetch_add(1, SeqCst);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, or the 64 bits of an IPv6 network, of which a client has all the rest to
/// choose from.
fn network(address: IpAddr) -> [u8; 9] {
    let mut bytes = [0; 9];
    match address.to_canonical() {
        IpAddr::V4(address) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            bytes[0] = 6;
            bytes[1..].copy_from_slice(&address.octets()[..8]);
        }
    }
    bytes
}

/// Hides the key.
impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
