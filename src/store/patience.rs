//! Riding out a sick store: while a replica set elects a primary, who may wait does so, because one refresh that fails logs
//! somebody out.
//!
//! What is tried again must be harmless when it had already happened: nobody knows whether a write whose answer is lost was made.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::StoreError;

/// The most that wait at once; more get the failure at once, so that an outage does not gather requests without end.
const MAX_WAITING: usize = 4096;
/// Between two tries: this at first, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// What was last seen to be down for longer ago than this and the bound may be up by now. Longer than a call takes to fail.
const OUTAGE_MEMORY: Duration = Duration::from_secs(5);
/// How long the tries may take that have begun in time: the longest limit that a store has for one call, which is that of the
/// change of many sessions.
const LAST_TRY: Duration = Duration::from_secs(10);
/// The longest time between two tries. The driver itself waits for a primary, and is woken by it.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// How long requests wait for a store that does not answer. One for all that share a store.
#[derive(Debug)]
pub struct Patience {
    /// Zero: not at all.
    bound: Duration,
    outage: Mutex<Option<Outage>>,
    waiting: AtomicUsize,
}

/// A time in which no call succeeded.
#[derive(Debug, Clone, Copy)]
struct Outage {
    first_failure: Instant,
    last_failure: Instant,
}

/// The wait of one request, for all of its calls together.
#[derive(Debug)]
pub struct Ride {
    patience: Arc<Patience>,
    /// No second try begins after it, and it ends all but the first; that one ends [`LAST_TRY`] later, for all calls together.
    deadline: Instant,
}

impl Patience {
    /// Waits for at most `bound`; zero: not at all.
    pub fn new(bound: Duration) -> Arc<Self> {
        Arc::new(Self { bound, outage: Mutex::new(None), waiting: AtomicUsize::new(0) })
    }

    /// The wait of a request that begins now. When the store is known to have been down for longer than the bound, there is
    /// none: each call is tried once, which also finds out when the store is back.
    pub fn ride(self: &Arc<Self>) -> Ride {
        self.ride_from(Instant::now())
    }

    fn ride_from(self: &Arc<Self>, now: Instant) -> Ride {
        let is_long_down = self.current_outage(now).is_some_and(|outage| now - outage.first_failure > self.bound);
        let deadline = if is_long_down { now } else { now + self.bound };
        Ride { patience: Arc::clone(self), deadline }
    }

    /// The outage that is going on. One whose last failure is long ago, because nobody asked since, says nothing of now.
    fn current_outage(&self, now: Instant) -> Option<Outage> {
        let outage = *self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.filter(|outage| now.saturating_duration_since(outage.last_failure) <= self.bound + OUTAGE_MEMORY)
    }

    /// A call that began at `begun` has failed now.
    fn note_failure(&self, begun: Instant, now: Instant) {
        let first_failure = self.current_outage(now).map_or(begun, |outage| outage.first_failure);
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = Some(Outage { first_failure, last_failure: now });
    }

    fn note_success(&self) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A place among those that wait, if there is one.
    fn place(self: &Arc<Self>) -> Option<Place> {
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < MAX_WAITING).then_some(waiting + 1)
        });
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// A place among those that wait; free again when dropped.
struct Place(Arc<Patience>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ride {
    /// Makes the call, again and again while the store does not answer and there is time. What is cut off may happen all the same.
    ///
    /// # Errors
    /// That of the last try; any but an outage at once.
    pub async fn out<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        // The first try has the store's own time limit. In SQLite writers stand in a queue, where each may take its own.
        let begun = Instant::now();
        let first = timeout_at(self.deadline + LAST_TRY, call()).await;
        let mut failure = match self.judge(begun, first.unwrap_or_else(|_| Err(cut_off()))) {
            Ok(done) => return done,
            Err(failure) => failure,
        };
        let mut pause = FIRST_PAUSE;
        let Some(_place) = self.patience.place() else { return Err(failure) };
        while Instant::now() + pause < self.deadline {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let begun = Instant::now();
            let Ok(outcome) = timeout_at(self.deadline, call()).await else {
                self.patience.note_failure(begun, self.deadline);
                break;
            };
            match self.judge(begun, outcome) {
                Ok(done) => return done,
                Err(again) => failure = again,
            }
        }
        Err(failure)
    }

    /// `Err`: it may be tried again.
    fn judge<T>(&self, begun: Instant, outcome: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
        match outcome {
            Err(error) if error.is_outage() => {
                self.patience.note_failure(begun, Instant::now());
                Err(error)
            }
            outcome => {
                self.patience.note_success();
                Ok(outcome)
            }
        }
    }
}

fn cut_off() -> StoreError {
    StoreError::Unavailable { reason: "no answer while there was time to wait".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// No machine is so slow that this is over in a test.
    const LONG: Duration = Duration::from_secs(600);

    fn outage<T>() -> Result<T, StoreError> {
        Err(StoreError::Unavailable { reason: "no primary".to_owned() })
    }

    /// A store that does not answer the first calls.
    #[derive(Default)]
    struct Sick {
        failures: usize,
        calls: Cell<usize>,
    }

    impl Sick {
        fn call(&self) -> impl Future<Output = Result<(), StoreError>> + use<> {
            self.calls.set(self.calls.get() + 1);
            let fails = self.calls.get() <= self.failures;
            async move { if fails { outage() } else { Ok(()) } }
        }
    }

    #[tokio::test]
    async fn an_outage_is_waited_out_and_each_success_ends_it() {
        let patience = Patience::new(LONG);
        for _ in 0..2 {
            let store = Sick { failures: 4, ..Sick::default() };
            patience.ride().out(|| store.call()).await.unwrap();
            assert_eq!(store.calls.get(), 5);
            assert!(patience.current_outage(Instant::now()).is_none());
        }
        assert_eq!(patience.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn all_calls_of_a_request_share_one_bound() {
        let bound = Duration::from_millis(300);
        let ride = Patience::new(bound).ride();
        let never = Sick { failures: usize::MAX, ..Sick::default() };
        let begun = Instant::now();
        assert!(ride.out(|| never.call()).await.unwrap_err().is_outage());
        // It ends no more than a pause before the bound.
        assert!(begun.elapsed() >= bound / 3 && never.calls.get() >= 2);
        tokio::time::sleep_until(ride.deadline).await;
        let again = Sick { failures: usize::MAX, ..Sick::default() };
        assert!(ride.out(|| again.call()).await.is_err());
        assert_eq!(again.calls.get(), 1, "the time was used up by the first call");
    }

    #[tokio::test]
    async fn a_try_that_hangs_ends_with_the_bound() {
        let first = Cell::new(true);
        let hangs = || {
            let is_first = first.replace(false);
            async move { if is_first { outage::<()>() } else { std::future::pending().await } }
        };
        assert!(Patience::new(Duration::from_millis(200)).ride().out(hangs).await.is_err());
        assert!(!first.get());
    }

    /// SQLite's writers wait for one another without a limit of their own.
    #[tokio::test]
    async fn a_first_try_that_hangs_ends_too_and_leaves_no_time_for_the_next_call() {
        let bound = Duration::from_millis(100);
        let ride = Ride { patience: Patience::new(Duration::ZERO), deadline: Instant::now() + bound - LAST_TRY };
        let begun = Instant::now();
        assert!(ride.out(std::future::pending::<Result<(), _>>).await.unwrap_err().is_outage());
        assert!(begun.elapsed() >= bound);
        let again = Instant::now();
        assert!(ride.out(std::future::pending::<Result<(), _>>).await.unwrap_err().is_outage());
        assert!(again.elapsed() < LAST_TRY, "the time was used up by the first call");
    }

    /// Of three servers, the one that an election has just made the primary may be the one with the expired certificate.
    #[tokio::test]
    async fn a_server_that_lets_nobody_in_is_waited_for_as_an_outage() {
        let tries = Cell::new(0);
        let call = || {
            tries.set(tries.get() + 1);
            let outcome = if tries.get() < 3 { Err(StoreError::NoAccess { reason: String::new() }) } else { Ok(()) };
            async move { outcome }
        };
        Patience::new(LONG).ride().out(call).await.unwrap();
        assert_eq!(tries.get(), 3);
    }

    #[tokio::test]
    async fn without_patience_each_call_is_tried_once() {
        let ride = Patience::new(Duration::ZERO).ride();
        let store = Sick { failures: usize::MAX, ..Sick::default() };
        for calls in 1..4 {
            assert!(ride.out(|| store.call()).await.is_err());
            assert_eq!(store.calls.get(), calls);
        }
    }

    #[tokio::test]
    async fn another_error_than_an_outage_is_not_tried_again() {
        let tries = Cell::new(0);
        let call = || {
            tries.set(tries.get() + 1);
            async { Err::<(), _>(StoreError::Refused { reason: "13 Unauthorized".to_owned() }) }
        };
        assert!(Patience::new(LONG).ride().out(call).await.is_err());
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test]
    async fn those_beyond_the_places_are_answered_at_once() {
        let patience = Patience::new(LONG);
        let mut places: Vec<Place> = (0..MAX_WAITING).map(|_| patience.place().unwrap()).collect();
        let store = Sick { failures: 2, ..Sick::default() };
        assert!(patience.ride().out(|| store.call()).await.is_err());
        assert_eq!(store.calls.get(), 1);
        places.pop();
        patience.ride().out(|| store.call()).await.unwrap();
        drop(places);
        assert_eq!(patience.waiting.load(Ordering::Relaxed), 0);
    }

    /// How long a request that begins at `at` seconds would wait, with a bound of 10, after failures at those seconds.
    #[track_caller]
    fn check(failures: &[u64], at: u64, expected: u64) {
        let begin = Instant::now();
        let second = |seconds| begin + Duration::from_secs(seconds);
        let patience = Patience::new(Duration::from_secs(10));
        for failure in failures {
            patience.note_failure(second(*failure), second(*failure));
        }
        let ride = patience.ride_from(second(at));
        assert_eq!(ride.deadline - second(at), Duration::from_secs(expected), "{failures:?}, at {at}");
    }

    #[test]
    fn a_store_that_has_been_down_for_longer_than_the_bound_is_not_waited_for() {
        check(&[], 0, 10);
        check(&[0], 5, 10);
        check(&[0, 5, 10], 10, 10);
        check(&[0, 5, 10], 11, 0);
        check(&[0, 5, 10, 15, 20, 30], 40, 0);
    }

    #[test]
    fn an_outage_that_nobody_saw_the_end_of_is_not_held_against_the_next() {
        check(&[0, 5, 10], 25, 0);
        check(&[0, 5, 10], 26, 10);
        check(&[0, 5, 10, 3600], 3605, 10);
    }
}
