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
    /// No try begins after it, and it ends any but the first.
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
        let now = Instant::now();
        let is_long_down = self.current_outage(now).is_some_and(|outage| now - outage.first_failure > self.bound);
        let deadline = if is_long_down { now } else { now + self.bound };
        Ride { patience: Arc::clone(self), deadline }
    }

    /// The outage that is going on. One whose last failure is long ago, because nobody asked since, says nothing of now.
    fn current_outage(&self, now: Instant) -> Option<Outage> {
        let outage = *self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.filter(|outage| now.saturating_duration_since(outage.last_failure) <= self.bound)
    }

    fn note_failure(&self) {
        let now = Instant::now();
        let first_failure = self.current_outage(now).map_or(now, |outage| outage.first_failure);
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
    /// Makes the call, again and again while the store does not answer and there is time.
    ///
    /// # Errors
    /// That of the last try; any but an outage at once.
    pub async fn out<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        // The first try has the store's own time limit.
        let mut failure = match self.judge(call().await) {
            Ok(done) => return done,
            Err(failure) => failure,
        };
        let mut pause = FIRST_PAUSE;
        let Some(_place) = self.patience.place() else { return Err(failure) };
        while Instant::now() + pause < self.deadline {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let Ok(outcome) = timeout_at(self.deadline, call()).await else { break };
            match self.judge(outcome) {
                Ok(done) => return done,
                Err(again) => failure = again,
            }
        }
        Err(failure)
    }

    /// `Err`: it may be tried again.
    fn judge<T>(&self, outcome: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
        match outcome {
            Err(error) if error.is_outage() => {
                self.patience.note_failure();
                Err(error)
            }
            outcome => {
                self.patience.note_success();
                Ok(outcome)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn outage<T>() -> Result<T, StoreError> {
        Err(StoreError::Unavailable { reason: "no primary".to_owned() })
    }

    /// A store that is down until a moment.
    async fn down_until(back: Instant) -> Result<(), StoreError> {
        sleep(Duration::from_millis(20)).await;
        if Instant::now() < back { outage() } else { Ok(()) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_election_is_waited_for_and_the_answer_comes_when_it_is_over() {
        let begun = Instant::now();
        let back = begun + Duration::from_secs(7);
        Patience::new(BOUND).ride().out(|| down_until(back)).await.unwrap();
        assert!(Instant::now() >= back && Instant::now() < back + Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn all_calls_of_a_request_share_one_bound() {
        let begun = Instant::now();
        let ride = Patience::new(BOUND).ride();
        ride.out(|| down_until(begun + Duration::from_secs(6))).await.unwrap();
        let error = ride.out(|| down_until(begun + Duration::from_secs(60))).await.unwrap_err();
        assert!(error.is_outage());
        let taken = begun.elapsed();
        assert!(taken <= BOUND && taken > Duration::from_secs(9), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_hangs_ends_with_the_bound() {
        let begun = Instant::now();
        let tries = Cell::new(0);
        let hangs = || {
            tries.set(tries.get() + 1);
            let is_first = tries.get() == 1;
            async move { if is_first { outage::<()>() } else { std::future::pending().await } }
        };
        assert!(Patience::new(BOUND).ride().out(hangs).await.is_err());
        assert_eq!(begun.elapsed(), BOUND);
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_each_call_is_tried_once() {
        let tries = Cell::new(0);
        let ride = Patience::new(Duration::ZERO).ride();
        let begun = Instant::now();
        for _ in 0..3 {
            let call = || {
                tries.set(tries.get() + 1);
                async { outage::<()>() }
            };
            assert!(ride.out(call).await.is_err());
        }
        assert_eq!((tries.get(), begun.elapsed()), (3, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn another_error_than_an_outage_is_not_tried_again() {
        let tries = Cell::new(0);
        let call = || {
            tries.set(tries.get() + 1);
            async { Err::<(), _>(StoreError::Refused { reason: "13 Unauthorized".to_owned() }) }
        };
        assert!(Patience::new(BOUND).ride().out(call).await.is_err());
        assert_eq!(tries.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_outage_is_answered_at_once_until_the_store_is_back() {
        let patience = Patience::new(BOUND);
        let back = Instant::now() + Duration::from_secs(60);
        assert!(patience.ride().out(|| down_until(back)).await.is_err());
        sleep(Duration::from_secs(1)).await;
        while Instant::now() < back {
            let begun = Instant::now();
            assert!(patience.ride().out(|| down_until(back)).await.is_err());
            assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
            sleep(Duration::from_secs(3)).await;
        }
        patience.ride().out(|| down_until(back)).await.unwrap();
        let again = Instant::now() + Duration::from_secs(5);
        patience.ride().out(|| down_until(again)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_that_nobody_saw_the_end_of_is_not_held_against_the_next() {
        let patience = Patience::new(BOUND);
        let never = Instant::now() + Duration::from_secs(100_000);
        assert!(patience.ride().out(|| down_until(never)).await.is_err());
        sleep(Duration::from_secs(3600)).await;
        let back = Instant::now() + Duration::from_secs(5);
        patience.ride().out(|| down_until(back)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn those_beyond_the_places_are_answered_at_once() {
        let patience = Patience::new(BOUND);
        let places: Vec<Place> = (0..MAX_WAITING - 1).map(|_| patience.place().unwrap()).collect();
        let begun = Instant::now();
        let back = begun + Duration::from_secs(5);
        let (first, second) = (patience.ride(), patience.ride());
        let (first, second) = tokio::join!(first.out(|| down_until(back)), async {
            let outcome = second.out(|| down_until(back)).await;
            (outcome, begun.elapsed())
        });
        first.unwrap();
        assert!(second.0.is_err() && second.1 < Duration::from_millis(100), "{second:?}");
        drop(places);
        assert_eq!(patience.waiting.load(Ordering::Relaxed), 0);
    }
}
