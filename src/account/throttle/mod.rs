//! Who has failed to log in too often waits, and is told so before a password is checked.
//!
//! Failures count for the account, for the account from one address, and for the address. The second has the longest waits. The
//! first only ever slows, so that strangers cannot lock anybody out, and neither the first nor the third concerns a person who
//! logged in from that address before, or who still has a session in that browser. For the former there is a fourth counter, of the
//! address with ten times as many failures: behind one address there may be a thousand people who have logged in there, and who
//! guesses at all of them is not to have the tries of each.
//!
//! The counts are in the store, so that all gateways share them; they are read while the account is looked up, and raised before
//! a failed login is answered. Between both lie the queue and the hash of a password, in which many guesses could pass that were
//! sent at once. So failures here count in memory, too, until the store has them, and a guess is held against these once
//! more when its turn to be hashed comes. What the store does not take is counted here by the same rules, for as long as
//! the record is kept: `RECENT_FOR` after its last use.

mod limit;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
struct Recent(Mutex<Tally>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// All since the record was made.
    failed: u32,
    /// Those of them that are no longer under way: the store has them, or they are in `lost`.
    settled: u32,
    /// Those that the store did not take.
    lost: Attempts,
}

impl Recent {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A login under way.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    /// In the order of [`KINDS`].
    counters: [Counter; KINDS.len()],
    now: UnixSeconds,
}

#[derive(Debug, Clone)]
struct Counter {
    key: AttemptKey,
    recent: Arc<Recent>,
    /// `recent` when the login came, before the store was asked.
    before: Tally,
}

/// A login and what the store knew of its keys.
#[derive(Debug)]
pub(super) struct Judged {
    ticket: Ticket,
    attempts: [Attempts; KINDS.len()],
    limits: [Limit; KINDS.len()],
    visitor: Visitor,
    /// Whether its failure has been counted in this process.
    has_failed: AtomicBool,
    /// Whether the failure is no longer under way.
    is_settled: AtomicBool,
}

/// Who tries, which says whose failures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visitor {
    /// All.
    Stranger,
    /// From where the account was logged in before: those on it from here, and very many from here.
    FromKnownAddress,
    /// With a session of the account: those on it from here.
    WithSession,
}

/// Too soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSoon {
    pub(super) retry_after: Duration,
    pub(super) reason: audit::Throttle,
}

const KINDS: [audit::Throttle; 4] = [
    audit::Throttle::Account,
    audit::Throttle::AccountAndAddress,
    audit::Throttle::Address,
    // With the limit that holds for known addresses, too.
    audit::Throttle::Address,
];
/// The place of the account from one address in [`KINDS`], and that of the address with the higher limit.
const OWN: usize = 1;
const CROWD: usize = 3;
/// How many times the failures of an address count there before people wait who are known at it, and how many times sooner each
/// is forgotten.
const CROWD_FACTOR: u32 = 10;
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
        let kinds = [(0, login, &[][..]), (1, login, &network), (2, "", &network), (3, "", &network)];
        let counters = kinds.map(|(kind, login, network)| {
            let key = self.key(kind, login, network);
            let recent = self.recent.get_with(key, Arc::default);
            let before = *recent.tally();
            Counter { key, recent, before }
        });
        Ticket { counters, now }
    }

    /// Asks the store.
    pub(super) async fn judge(&self, ticket: Ticket) -> Result<Judged, StoreError> {
        let keys = ticket.counters.each_ref().map(|counter| counter.key);
        let found = self.store.attempts(&keys).await?;
        let mut attempts = [Attempts::default(); KINDS.len()];
        attempts.iter_mut().zip(found).for_each(|(slot, found)| *slot = found);
        let ThrottleSettings { account, account_and_address, address, known_for: _ } = self.settings;
        let is_known = attempts[OWN].known_until > ticket.now;
        Ok(Judged {
            ticket,
            attempts,
            limits: [account, account_and_address, address, address.of_a_crowd(CROWD_FACTOR)],
            visitor: if is_known { Visitor::FromKnownAddress } else { Visitor::Stranger },
            has_failed: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
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
            Ok(()) => judged.settle(Whereabouts::Store),
            Err(error) => {
                judged.settle(Whereabouts::Here);
                tracing::warn!(%error, "Failed login not counted in the store");
            }
        }
    }

    /// Forgets the failures of a person who has logged in, and notes the address. Returns at once when there is nothing to do.
    pub(super) async fn forgive(&self, judged: &Judged) {
        let (now, known_for) = (judged.ticket.now, self.settings.known_for);
        let (attempts, own) = (&judged.attempts[OWN], &judged.ticket.counters[OWN]);
        own.recent.tally().lost = Attempts::default();
        let is_fresh =
            attempts.known_until.since(now).as_secs() > known_for.as_secs() - known_for.as_secs() / RENEW_AFTER;
        if is_fresh && attempts.owes_until <= now {
            return;
        }
        if let Err(error) = self.store.note_success(own.key, now.plus(known_for)).await {
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
        self.visitor = Visitor::WithSession;
    }

    /// Whether the login may be tried now. Asked when it comes, and once more when its password is about to be hashed.
    pub(super) fn check(&self) -> Result<(), TooSoon> {
        let mut longest: Option<TooSoon> = None;
        for (index, counter) in self.ticket.counters.iter().enumerate() {
            let counts = match self.visitor {
                Visitor::Stranger => true,
                Visitor::FromKnownAddress => index == OWN || index == CROWD,
                Visitor::WithSession => index == OWN,
            };
            if !counts {
                continue;
            }
            let before = &counter.before;
            let under_way = counter.recent.tally().failed.saturating_sub(before.settled);
            let wait = self.limits[index].wait(&self.attempts[index], &before.lost, under_way, self.ticket.now);
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
                counter.recent.tally().failed += 1;
            }
        }
    }

    /// Ends the time in which its failure counts as under way.
    fn settle(&self, whereabouts: Whereabouts) {
        if self.is_settled.swap(true, SeqCst) {
            return;
        }
        for (counter, limit) in self.ticket.counters.iter().zip(&self.limits) {
            let mut tally = counter.recent.tally();
            tally.settled += 1;
            match whereabouts {
                Whereabouts::Store => {}
                Whereabouts::Here => tally.lost = limit.after_failure(tally.lost, self.ticket.now),
            }
        }
    }
}

/// Where a failure is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    Store,
    /// The store did not take it. A part of it may have arrived all the same; then that counts twice.
    Here,
}

/// Whatever became of its login: a failure that stayed under way for ever would make the next ones wait for ever.
impl Drop for Judged {
    fn drop(&mut self) {
        if self.has_failed.load(SeqCst) {
            self.settle(Whereabouts::Here);
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
