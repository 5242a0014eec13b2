//! How long to wait after how many failed logins.
//!
//! A failure is forgotten after a while, one after the other, so that a count falls by itself and somebody who mistypes now
//! and then is never near a limit. From a number on, each further failure doubles the time before the next try, up to a bound.

use std::time::Duration;

use crate::store::{Attempts, MAX_AHEAD_SECONDS};
use crate::time::UnixSeconds;

/// `login.throttle.account` and its two siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Failures that cost nothing.
    pub free: u32,
    /// The longest wait between two tries. Whole seconds, at least one.
    pub max_delay: Duration,
    /// After this, a failure is forgotten; then the next one. Whole seconds, at least one.
    pub forget: Duration,
}

/// Doublings after which no delay grows any more: 2^20 s are twelve days.
const MAX_DOUBLINGS: u32 = 20;

impl Limit {
    /// The failures that are remembered at most; more would only make it take longer until all are forgotten.
    const fn most(self) -> u64 {
        self.free as u64 + 1 + MAX_DOUBLINGS as u64
    }

    /// In whole seconds, for the store.
    pub(super) fn forget_seconds(self) -> u64 {
        self.forget.as_secs().max(1)
    }

    /// How far ahead the time may lie at which all failures are forgotten, in seconds.
    pub(super) fn most_seconds(self) -> u64 {
        self.most().saturating_mul(self.forget_seconds())
    }

    /// The limit for many people at once, who fail `factor` times as often.
    pub(super) fn of_a_crowd(self, factor: u32) -> Self {
        let forget = Duration::from_secs((self.forget_seconds() / u64::from(factor)).max(1));
        Self { free: self.free.saturating_mul(factor), max_delay: self.max_delay, forget }
    }

    /// What a failure at `now` leaves, as the stores count it.
    pub(super) fn after_failure(self, attempts: Attempts, now: UnixSeconds) -> Attempts {
        let (owes_until, failed_at) = if is_from_ahead(&attempts, now) {
            (UnixSeconds(0), UnixSeconds(0))
        } else {
            (attempts.owes_until, attempts.failed_at)
        };
        let owes = owes_until.max(now).0.saturating_add(self.forget_seconds());
        let most = now.0.saturating_add(self.most_seconds());
        Attempts { owes_until: UnixSeconds(owes.min(most)), failed_at: failed_at.max(now), ..attempts }
    }

    /// The failures that are not forgotten yet.
    pub(super) fn level(self, attempts: &Attempts, now: UnixSeconds) -> u64 {
        if is_from_ahead(attempts, now) {
            return 0;
        }
        // From a gateway whose settings were others, it may be more than is remembered here.
        attempts.owes_until.since(now).as_secs().div_ceil(self.forget_seconds()).min(self.most())
    }

    /// The time between a failure, by which `level` has been reached, and the next try.
    pub(super) fn delay(self, level: u64) -> Duration {
        let Some(doublings) = level.checked_sub(u64::from(self.free) + 1) else { return Duration::ZERO };
        let doublings = u32::try_from(doublings).unwrap_or(MAX_DOUBLINGS).min(MAX_DOUBLINGS);
        Duration::from_secs(1 << doublings).min(self.max_delay.max(Duration::from_secs(1)))
    }

    /// What is left of the wait now, by what the store has counted and what it could not be told (`lost`). `under_way` failures
    /// have happened just now, and are in neither.
    pub(super) fn wait(self, stored: &Attempts, lost: &Attempts, under_way: u32, now: UnixSeconds) -> Duration {
        let level = self.level(stored, now) + self.level(lost, now) + u64::from(under_way);
        let delay = self.delay(level);
        if under_way > 0 {
            return delay;
        }
        let believed = [stored, lost].into_iter().filter(|attempts| !is_from_ahead(attempts, now));
        let last = believed.map(|attempts| attempts.failed_at).max().unwrap_or_default();
        // A failure a little ahead is one of a gateway whose clock is.
        delay.saturating_sub(now.since(last))
    }
}

/// Whether a gateway with a clock that nobody shares wrote it.
const fn is_from_ahead(attempts: &Attempts, now: UnixSeconds) -> bool {
    attempts.failed_at.0 > now.0.saturating_add(MAX_AHEAD_SECONDS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const LIMIT: Limit = Limit { free: 10, max_delay: seconds(900), forget: seconds(600) };

    const NONE: Attempts =
        Attempts { owes_until: UnixSeconds(0), failed_at: UnixSeconds(0), known_until: UnixSeconds(0) };

    #[test]
    fn typing_errors_cost_nothing_and_guessing_costs_ever_more() {
        let mut attempts = Attempts::default();
        for _ in 0..=10 {
            assert_eq!(LIMIT.wait(&attempts, &NONE, 0, NOW), Duration::ZERO);
            attempts = LIMIT.after_failure(attempts, NOW);
        }
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            assert_eq!(LIMIT.wait(&attempts, &NONE, 0, NOW), seconds(expected));
            attempts = LIMIT.after_failure(attempts, NOW);
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten_one_after_the_other() {
        let mut attempts = Attempts::default();
        (0..13).for_each(|_| attempts = LIMIT.after_failure(attempts, NOW));
        for (later, level, wait) in [(0, 13, 4), (3, 13, 1), (600, 12, 0), (6600, 2, 0), (7800, 0, 0), (9999, 0, 0)] {
            let now = NOW.plus(seconds(later));
            assert_eq!(
                (LIMIT.level(&attempts, now), LIMIT.wait(&attempts, &NONE, 0, now)),
                (level, seconds(wait)),
                "{later}"
            );
        }
    }

    #[test]
    fn a_failure_that_no_store_has_counts() {
        let mut attempts = Attempts::default();
        (0..10).for_each(|_| attempts = LIMIT.after_failure(attempts, UnixSeconds(NOW.0 - 500)));
        assert_eq!(LIMIT.wait(&attempts, &NONE, 0, NOW), Duration::ZERO);
        assert_eq!(LIMIT.wait(&attempts, &NONE, 1, NOW), seconds(1));
        assert_eq!(LIMIT.wait(&attempts, &NONE, 3, NOW), seconds(4));
    }

    #[test]
    fn failures_that_the_store_could_not_be_told_of_count_and_age_like_the_others() {
        let (mut stored, mut lost) = (NONE, NONE);
        (0..6).for_each(|_| stored = LIMIT.after_failure(stored, NOW));
        (0..7).for_each(|_| lost = LIMIT.after_failure(lost, NOW));
        for (later, expected) in [(0, 4), (3, 1), (4, 0)] {
            let now = NOW.plus(seconds(later));
            assert_eq!(LIMIT.wait(&stored, &lost, 0, now), seconds(expected), "{later}");
        }
        assert_eq!(LIMIT.wait(&NONE, &lost, 6, NOW.plus(seconds(4200))), Duration::ZERO);
    }

    #[test]
    fn a_record_of_a_clock_that_is_ahead_makes_nobody_wait() {
        let mut attempts = NONE;
        let ahead = NOW.plus(seconds(3600));
        (0..20).for_each(|_| attempts = LIMIT.after_failure(attempts, ahead));
        assert_eq!(LIMIT.wait(&attempts, &NONE, 0, NOW), Duration::ZERO);
        assert_eq!(LIMIT.wait(&attempts, &NONE, 0, ahead), seconds(512));
        // It is no reason to forgive either: a minute ahead counts.
        attempts.failed_at = NOW.plus(seconds(60));
        assert_eq!(LIMIT.wait(&attempts, &NONE, 0, NOW), seconds(900));
        attempts.failed_at = NOW.plus(seconds(61));
        assert_eq!(LIMIT.wait(&attempts, &NONE, 0, NOW), Duration::ZERO);
        let counted = LIMIT.after_failure(attempts, NOW);
        assert_eq!((LIMIT.level(&counted, NOW), counted.failed_at), (1, NOW));
    }

    fn limits() -> impl Strategy<Value = Limit> {
        (0_u32..2000, 1_u64..100_000, 1_u64..100_000).prop_map(|(free, max_delay, forget)| Limit {
            free,
            max_delay: seconds(max_delay),
            forget: seconds(forget),
        })
    }

    proptest! {
        #[test]
        fn a_delay_grows_with_failures_and_is_bounded(limit in limits(), level in 0_u64..5000) {
            let (delay, next) = (limit.delay(level), limit.delay(level + 1));
            prop_assert!(delay <= next);
            prop_assert!(next <= limit.max_delay);
            prop_assert_eq!(delay.is_zero(), level <= u64::from(limit.free));
        }

        #[test]
        fn a_wait_shrinks_with_time_and_is_over_at_last(
            limit in limits(),
            failures in prop::collection::vec(0_u64..10_000, 0..60),
            pause in 0_u64..1_000_000,
        ) {
            let (mut attempts, mut now) = (Attempts::default(), NOW);
            for step in failures {
                now = now.plus(seconds(step));
                attempts = limit.after_failure(attempts, now);
            }
            let later = now.plus(seconds(pause));
            prop_assert!(limit.wait(&attempts, &NONE, 0, later) <= limit.wait(&attempts, &NONE, 0, now));
            prop_assert!(limit.wait(&attempts, &NONE, 0, now.plus(limit.max_delay)).is_zero());
            prop_assert!(limit.level(&attempts, now.plus(seconds(limit.most_seconds()))) == 0);
        }

        #[test]
        fn one_more_failure_is_never_less_of_a_wait(limit in limits(), count in 0_u32..100, unstored in 0_u32..100) {
            let mut attempts = Attempts::default();
            (0..count).for_each(|_| attempts = limit.after_failure(attempts, NOW));
            prop_assert!(limit.wait(&attempts, &NONE, unstored, NOW) <= limit.wait(&attempts, &NONE, unstored + 1, NOW));
            prop_assert!(limit.wait(&attempts, &NONE, 0, NOW) <= limit.wait(&limit.after_failure(attempts, NOW), &NONE, 0, NOW));
        }
    }
}
