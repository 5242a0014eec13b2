//! Sessions that have ended while access tokens of theirs still live: a small set in memory, asked at every request.
//!
//! What ends on this gateway is entered at once; what ends elsewhere comes by the [`Feed`], within 2 seconds.

mod feed;
mod wall_clock;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::time::UnixSeconds;

pub use feed::Feed;

/// How a gateway learns of ended sessions, and what it does while it cannot.
#[derive(Debug, Clone)]
pub struct RevocationSettings {
    /// How it learns of them.
    pub feed: FeedChoice,
    /// Pause between two questions where the database does not tell by itself, 100 ms to 2 s. Default 500 ms.
    pub poll_interval: Duration,
    /// How old the knowledge may be before strict routes are not served, 5 s to 1 h. Default 30 s.
    pub max_feed_age: Duration,
    /// Sessions that are remembered one by one, 1,000 to 100,000,000. Default 1,000,000.
    pub max_entries: usize,
    /// Life of an access token: `tokens.access_ttl`.
    pub access_ttl: Duration,
    /// How much clocks may differ: `tokens.leeway`.
    pub leeway: Duration,
    /// How long a request may have waited for the store before it ended a session, whose end has the request's time:
    /// `login.store_patience`.
    pub store_patience: Duration,
}

/// How ends of sessions are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedChoice {
    /// By a change stream where there is one, and else by polling.
    Auto,
    /// By polling.
    Polling,
}

/// The bytes of a session's id, which are random.
pub type SessionBytes = [u8; 16];

/// Why a token is refused although it is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Revoked {
    /// Its session has ended.
    #[error("the session of the token has ended")]
    Ended,
    /// So many sessions have ended that all tokens from before are refused.
    #[error("the token is older than the sessions that are remembered one by one; a refresh gives a newer one")]
    Early,
}

/// Nobody knows whether the token's session has ended, and the route wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no word of ended sessions has come for longer than `revocation.max_feed_age`")]
pub struct Unknown;

/// Ended sessions, shared by all threads. An entry lives until no access token of its session can be accepted any more.
///
/// It takes 25 to 60 bytes. Beyond `max_entries` the older half is dropped, and in its place every token that was issued before
/// the newest of that half is refused: its bearer refreshes, if the session is alive, and gets a newer one.
pub struct Revocations {
    /// Whether there is anything to look up: all that is read of this at a request while there is not.
    is_in_use: AtomicBool,
    /// In seconds since 1970: tokens that were issued up to then are refused. 0: none.
    cut: AtomicU64,
    /// By the first byte of the id. A reader takes no lock, and a writer copies one of them.
    shards: Box<[ArcSwap<Shard>]>,
    /// Writers in turn, with the number of entries.
    writing: Mutex<usize>,
    knowledge: Knowledge,
    /// From the end of a session to when its last access token is refused as expired on every clock.
    entry_life: Duration,
    leeway: Duration,
    /// How long after the date of its end a session may have got a token: clocks differ, and ends wait for the store.
    lag: Duration,
    max_entries: usize,
    metrics: Arc<Metrics>,
}

/// When each of its sessions ended.
type Shard = HashMap<SessionBytes, UnixSeconds>;

/// Up to when the ends of sessions are known.
struct Knowledge {
    /// From which `current_at` counts.
    origin: Instant,
    /// In milliseconds; 0: not yet.
    current_at: AtomicU64,
    max_age: Duration,
}

const SHARDS: usize = 256;

/// The longest time from the date of an end to when it is to be seen: a write waits for a majority of the database's servers, and
/// one that nobody waits for any more may still be made. A token may be issued until then.
const SLOWEST_WRITE: Duration = Duration::from_secs(35);

impl Revocations {
    /// An empty set, which knows nothing yet.
    pub fn new(settings: &RevocationSettings, metrics: Arc<Metrics>) -> Self {
        let knowledge =
            Knowledge { origin: Instant::now(), current_at: AtomicU64::new(0), max_age: settings.max_feed_age };
        Self {
            is_in_use: AtomicBool::new(false),
            cut: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            writing: Mutex::new(0),
            knowledge,
            // Twice: the gateway that issued the token may be ahead, and this one accepts a token for as long after its `exp`.
            entry_life: settings.access_ttl + settings.leeway * 2 + settings.store_patience + SLOWEST_WRITE,
            leeway: settings.leeway,
            lag: settings.leeway + settings.store_patience + SLOWEST_WRITE,
            max_entries: settings.max_entries,
            metrics,
        }
    }

    /// Whether a good token of this session, issued then, still counts.
    ///
    /// # Errors
    /// [`Revoked`] if it does not.
    #[inline]
    pub fn check(&self, session: &SessionBytes, issued_at: UnixSeconds) -> Result<(), Revoked> {
        if self.is_in_use.load(Ordering::Acquire) { self.look_up(session, issued_at) } else { Ok(()) }
    }

    /// Whether the ends of sessions are known well enough at `now` for a route that must know.
    ///
    /// # Errors
    /// [`Unknown`] if they are not.
    pub fn check_known(&self, now: Instant) -> Result<(), Unknown> {
        match self.knowledge.current_at.load(Ordering::Acquire) {
            0 => Err(Unknown),
            current_at => {
                let age = now.duration_since(self.knowledge.origin).saturating_sub(Duration::from_millis(current_at));
                if age <= self.knowledge.max_age { Ok(()) } else { Err(Unknown) }
            }
        }
    }

    /// Enters sessions that ended at these times, and returns those that were not in it. Others have ended too long ago to
    /// matter, or were known.
    pub fn enter(&self, ended: &[(SessionBytes, UnixSeconds)], now: UnixSeconds) -> Vec<SessionBytes> {
        let mut entries = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = UnixSeconds(self.cut.load(Ordering::Relaxed));
        let mut by_shard: HashMap<u8, Vec<(SessionBytes, UnixSeconds)>> = HashMap::new();
        for &(session, ended_at) in ended {
            // A clock that is ahead keeps nothing for much longer.
            let ended_at = ended_at.min(now.plus(self.leeway));
            let is_over = now >= ended_at.plus(self.entry_life);
            if !is_over && ended_at.plus(self.lag) > cut {
                by_shard.entry(session[0]).or_default().push((session, ended_at));
            }
        }
        let mut new = Vec::new();
        for (index, ended) in by_shard {
            let shard = &self.shards[usize::from(index)];
            let known = shard.load();
            // A clock that was behind dated them too early, and they are to stay for their time when it has been put right.
            let is_news = |(session, ended_at): &&(SessionBytes, UnixSeconds)| {
                known.get(session).is_none_or(|known_at| known_at < ended_at && *ended_at <= now)
            };
            let mut fresh = ended.iter().filter(is_news).peekable();
            if fresh.peek().is_none() {
                continue;
            }
            let mut changed = Shard::clone(&known);
            for (session, ended_at) in fresh {
                if changed.insert(*session, *ended_at).is_none() {
                    new.push(*session);
                }
            }
            shard.store(Arc::new(changed));
        }
        *entries += new.len();
        if !new.is_empty() {
            self.is_in_use.store(true, Ordering::Release);
        }
        if *entries > self.max_entries {
            self.forget_older_half(&mut entries);
        }
        self.metrics.revocation().set_entries(*entries);
        new
    }

    /// Drops the entries whose access tokens have all expired.
    pub fn sweep(&self, now: UnixSeconds) {
        let mut entries = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.keep(&mut entries, |ended_at| now < ended_at.plus(self.entry_life));
        let cut = self.cut.load(Ordering::Relaxed);
        // What was issued before has expired by now.
        if cut != 0 && now >= UnixSeconds(cut).plus(self.entry_life) {
            self.cut.store(0, Ordering::Relaxed);
        }
        let is_in_use = *entries != 0 || self.cut.load(Ordering::Relaxed) != 0;
        self.is_in_use.store(is_in_use, Ordering::Release);
        self.metrics.revocation().set_entries(*entries);
    }

    /// Notes that every session that ended before `moment` is entered.
    fn know_until(&self, moment: Instant) {
        let millis = moment.duration_since(self.knowledge.origin).as_millis();
        self.knowledge.current_at.fetch_max(u64::try_from(millis).unwrap_or(u64::MAX).max(1), Ordering::Release);
        self.metrics.revocation().set_current(moment);
    }

    #[cold]
    fn look_up(&self, session: &SessionBytes, issued_at: UnixSeconds) -> Result<(), Revoked> {
        if issued_at.0 <= self.cut.load(Ordering::Acquire) {
            return Err(Revoked::Early);
        }
        let is_ended = self.shards[usize::from(session[0])].load().contains_key(session);
        if is_ended { Err(Revoked::Ended) } else { Ok(()) }
    }

    /// In place of the older half, every token from before its newest entry is refused. `lag` is for the clocks, as the gateway
    /// that issued a token may have been ahead of the one that ended its session, and for ends that waited for the store.
    fn forget_older_half(&self, entries: &mut usize) {
        let mut ends: Vec<u64> = Vec::with_capacity(*entries);
        for shard in &self.shards {
            ends.extend(shard.load().values().map(|ended_at| ended_at.0));
        }
        let half = ends.len() / 2;
        let (_, &mut newest, _) = ends.select_nth_unstable(half);
        let cut = UnixSeconds(newest).plus(self.lag);
        self.cut.fetch_max(cut.0, Ordering::Release);
        self.keep(entries, |ended_at| ended_at.0 > newest);
        self.metrics.revocation().overflowed();
        tracing::warn!(
            entries = *entries,
            "More sessions ended than `revocation.max_entries`, refusing all access tokens issued until {cut}"
        );
    }

    fn keep(&self, entries: &mut usize, is_kept: impl Fn(UnixSeconds) -> bool) {
        for shard in &self.shards {
            let known = shard.load();
            let dropped = known.values().filter(|ended_at| !is_kept(**ended_at)).count();
            if dropped != 0 {
                // Made anew, so that it takes no more room than it needs.
                let kept = known.iter().filter(|(_, ended_at)| is_kept(**ended_at));
                shard.store(Arc::new(kept.map(|(session, ended_at)| (*session, *ended_at)).collect()));
                *entries -= dropped;
            }
        }
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("is_in_use", &self.is_in_use).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
