//! A source of keys while the gateway runs: asked in the background and for keys that are not known, by one task and never more
//! often than its limits allow.
//!
//! Requests only note that they would like a fetch, and wait for its end. The fetch belongs to the task, so a client that
//! leaves ends nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cause::chain;

use super::KeyError;
use super::fetch::FetchError;
use super::published::{LeftOut, PublishedSet, shown_kid};
use super::remote::{FETCH_TIMEOUT, Fetched, RemoteKeys};
use super::verification::VerificationKey;

/// The shortest time between two fetches that a `max-age` can ask for.
const SHORTEST_MAX_AGE: Duration = Duration::from_secs(30);
/// After a failed fetch; doubled with each that follows.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The published keys of one issuer.
#[derive(Debug)]
pub struct KeySource {
    /// The issuer's name in the file.
    name: Arc<str>,
    remote: RemoteKeys,
    flight: Mutex<Flight>,
    wake: Notify,
    /// Whether there are keys; sent at each end of a fetch.
    has_keys: watch::Sender<bool>,
}

#[derive(Debug)]
struct Flight {
    /// A fetch is at work or about to be.
    is_on: bool,
    /// When one was last made for the sake of a key that was not known.
    asked_at: Option<Instant>,
}

/// What became of the keys, for whoever has to pass it on.
#[derive(Debug)]
pub enum KeyChange {
    /// These are the keys now.
    Fetched(Vec<VerificationKey>),
    /// They could not be fetched; the last ones serve on.
    Failed,
    /// The source publishes others in their place, none of which can be used: there are none now.
    Withdrawn,
    /// The last ones are older than `max_stale`: there are none now.
    TooOld,
}

impl KeySource {
    /// A source that has not been asked yet. Its first fetch counts as begun, so that who comes before [`Self::follow`] waits.
    pub fn new(name: Arc<str>, remote: RemoteKeys) -> Self {
        let flight = Mutex::new(Flight { is_on: true, asked_at: None });
        Self { name, remote, flight, wake: Notify::new(), has_keys: watch::Sender::new(false) }
    }

    /// The issuer's name in the file.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether there are keys that may be used.
    pub fn has_keys(&self) -> bool {
        *self.has_keys.borrow()
    }

    /// Asks for newer keys, and waits until they are there or not to be had. Any number may ask: while a fetch is at work all wait
    /// for that one, and after one that was asked for the next is not before the cooldown is over. Gives whether a fetch has ended
    /// since the call, well or not.
    pub async fn ask(&self) -> bool {
        let mut ends = {
            let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
            if !flight.is_on {
                let now = Instant::now();
                if flight.asked_at.is_some_and(|asked_at| now.duration_since(asked_at) < self.remote.cooldown) {
                    return false;
                }
                flight.asked_at = Some(now);
                flight.is_on = true;
                self.wake.notify_one();
            }
            // Within the lock, under which an end is told: it cannot come between.
            self.has_keys.subscribe()
        };
        timeout(FETCH_TIMEOUT + Duration::from_secs(1), ends.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    /// Fetches at once, then again and again until its task is aborted. `tell` passes on what became of the keys, before anybody
    /// who waits goes on.
    pub async fn follow(self: Arc<Self>, tell: impl Fn(KeyChange)) {
        let mut report = Report { name: Arc::clone(&self.name), remote: self.remote.clone(), last: String::new() };
        let mut fetched_at: Option<Instant> = None;
        let mut held: Vec<String> = Vec::new();
        let mut failures = 0;
        loop {
            let remote = self.remote.clone();
            // In a task of its own: a defect in reading what strangers send ends one fetch, not all.
            let result = tokio::spawn(async move { remote.fetch().await }).await.unwrap_or(Err(FetchError::Defect));
            let now = Instant::now();
            report.note(&result, fetched_at);
            let pause = match result {
                Ok(Fetched { set, max_age }) => {
                    (fetched_at, failures) = (Some(now), 0);
                    held = set.keys.iter().filter_map(VerificationKey::declared_kid).map(shown_kid).collect();
                    tell(KeyChange::Fetched(set.keys));
                    until_refresh(self.remote.refresh, max_age)
                }
                Err(error) => {
                    if fetched_at.is_some() && takes_keys_back(&error, &held) {
                        fetched_at = None;
                        tracing::error!(
                            issuer = %self.name,
                            "The issuer publishes no key any more that can be used, its tokens are answered with 503"
                        );
                        tell(KeyChange::Withdrawn);
                    } else {
                        tell(KeyChange::Failed);
                    }
                    failures += 1;
                    until_retry(self.remote.refresh, failures)
                }
            };
            self.land(&mut fetched_at, &tell);
            let next = now + jittered(pause);
            loop {
                let gone = fetched_at.map(|fetched_at| fetched_at + self.remote.max_stale);
                tokio::select! {
                    () = sleep_until(next) => break,
                    // A wish that the last fetch has met already may still be noted here.
                    () = self.wake.notified() => if self.flight.lock().unwrap_or_else(PoisonError::into_inner).is_on { break },
                    () = sleep_until(gone.unwrap_or(next)), if gone.is_some() => self.drop_old(&mut fetched_at, &tell),
                }
            }
            self.flight.lock().unwrap_or_else(PoisonError::into_inner).is_on = true;
        }
    }

    /// The end of a fetch.
    fn land(&self, fetched_at: &mut Option<Instant>, tell: &impl Fn(KeyChange)) {
        self.drop_old(fetched_at, tell);
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        flight.is_on = false;
        self.has_keys.send_replace(fetched_at.is_some());
    }

    /// Lets keys go that are too old to be trusted.
    fn drop_old(&self, fetched_at: &mut Option<Instant>, tell: &impl Fn(KeyChange)) {
        if fetched_at.is_some_and(|fetched_at| fetched_at.elapsed() >= self.remote.max_stale) {
            *fetched_at = None;
            tracing::error!(
                issuer = %self.name,
                "Keys of the issuer are older than `jwks_max_stale`, its tokens are answered with 503"
            );
            self.has_keys.send_if_modified(|has_keys| std::mem::replace(has_keys, false));
            tell(KeyChange::TooOld);
        }
    }
}

/// Whether the source says that the keys it had are its own no more: it has some, and none of them is one of those. That the
/// new ones cannot be used here, by their kind or a defect, keeps no key alive that was taken back. An empty set says nothing:
/// sources have published one by mistake. Nor do two keys of a name that is among the names `held`: one of them may be that key.
fn takes_keys_back(error: &FetchError, held: &[String]) -> bool {
    let FetchError::NoKey { left_out } = error else { return false };
    let may_be_held = |key: &LeftOut| matches!(key.error, KeyError::DuplicateKid) && held.contains(&key.name);
    !left_out.is_empty() && !left_out.iter().any(may_be_held)
}

/// The time to the next fetch after a good one: never longer than `refresh`, so that keys that were taken back are out by then.
fn until_refresh(refresh: Duration, max_age: Option<Duration>) -> Duration {
    max_age.map_or(refresh, |max_age| max_age.max(SHORTEST_MAX_AGE).min(refresh))
}

/// The time to the next fetch after a failed one.
fn until_retry(refresh: Duration, failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << (failures - 1).min(10)).min(LAST_RETRY).min(refresh)
}

/// Up to a tenth shorter, so that a fleet that started together does not ask together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    // Without randomness all ask at once, which the source has to bear.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    pause - pause * u32::from(byte[0]) / 2560
}

/// Says in the log what changed, and nothing while all stays as it was.
struct Report {
    name: Arc<str>,
    remote: RemoteKeys,
    last: String,
}

impl Report {
    fn note(&mut self, result: &Result<Fetched, FetchError>, fetched_at: Option<Instant>) {
        let (issuer, url) = (&self.name, self.remote.url());
        let said = match result {
            Ok(fetched) => format!("{:?} {:?}", names(&fetched.set), (&fetched.set.refused, &fetched.set.passed_over)),
            Err(error) => chain(error),
        };
        if said == self.last {
            tracing::debug!(issuer = %issuer, url = %url, "Keys of the issuer asked for, all as before");
            return;
        }
        match result {
            Ok(fetched) => {
                tracing::info!(issuer = %issuer, url = %url, keys = names(&fetched.set), "Keys of the issuer fetched");
                for key in &fetched.set.refused {
                    tracing::warn!(issuer = %issuer, key = key.name, reason = %key.error, "Key of the issuer refused");
                }
                for key in &fetched.set.passed_over {
                    tracing::info!(issuer = %issuer, key = key.name, reason = %key.error, "Key of the issuer is for something else");
                }
            }
            Err(error) => {
                let age = fetched_at.map(|fetched_at| fetched_at.elapsed().as_secs());
                tracing::warn!(
                    issuer = %issuer, url = %url, error = %chain(error), keys.age_seconds = age,
                    "Keys of the issuer not fetched"
                );
            }
        }
        self.last = said;
    }
}

fn names(set: &PublishedSet) -> String {
    let mut names = Vec::new();
    for key in &set.keys {
        let name: String = key.declared_kid().unwrap_or("(no kid)").chars().filter(|c| !c.is_control()).collect();
        names.push(format!("{name} ({})", key.algorithm()));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_asked_again_between_half_a_minute_and_its_refresh() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        assert_eq!(until_refresh(minutes(5), None), minutes(5));
        assert_eq!(until_refresh(minutes(5), Some(minutes(1))), minutes(1));
        assert_eq!(until_refresh(minutes(5), Some(minutes(60))), minutes(5));
        assert_eq!(until_refresh(minutes(5), Some(Duration::ZERO)), SHORTEST_MAX_AGE);
        assert_eq!(until_refresh(Duration::from_secs(1), Some(Duration::ZERO)), Duration::from_secs(1));
    }

    #[test]
    fn keys_are_taken_back_by_others_and_not_by_an_empty_set_or_two_of_their_own_name() {
        let left_out = |name: &str, error| LeftOut { name: name.to_owned(), error };
        let taken_back = |left_out| takes_keys_back(&FetchError::NoKey { left_out }, &["a".to_owned()]);
        assert!(taken_back(vec![left_out("a", KeyError::Certificate)]));
        assert!(!taken_back(Vec::new()));
        assert!(!taken_back(vec![left_out("b", KeyError::Certificate), left_out("a", KeyError::DuplicateKid)]));
        assert!(taken_back(vec![left_out("b", KeyError::DuplicateKid)]), "the one that was known is not among them");
    }

    #[test]
    fn failures_are_retried_soon_then_less_often_and_never_later_than_a_refresh() {
        let seconds = |refresh: u64| {
            [1, 2, 3, 6, 7, 8, 1000, u32::MAX]
                .map(|failures| until_retry(Duration::from_secs(refresh), failures).as_secs())
        };
        assert_eq!(seconds(300), [1, 2, 4, 32, 60, 60, 60, 60]);
        assert_eq!(seconds(3), [1, 2, 3, 3, 3, 3, 3, 3]);
    }

    #[test]
    fn jitter_only_shortens_and_by_no_more_than_a_tenth() {
        for _ in 0..1000 {
            let pause = jittered(Duration::from_secs(100));
            assert!((90..=100).contains(&pause.as_millis().div_ceil(1000)), "{pause:?}");
        }
    }
}
