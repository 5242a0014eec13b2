//! How long to wait after how many failed logins.
//!
//! A failure is forgotten after a while, one after the other, so that a count falls by itself and somebody who mistypes now
//! and then is never near a limit. From a number on, each further failure doubles the time before the next try, up to a bound.

use std::time::Duration;

use crate::store::Attempts;
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

    /// The failures that are not forgotten yet.
    pub(super) fn level(self, attempts: &Attempts, now: UnixSeconds) -> u64 {
        // From a gateway whose clock is ahead, or whose settings were others, it may be more than is remembered here.
        attempts.owes_until.since(now).as_secs().div_ceil(self.forget_seconds()).min(self.most())
    }

    /// The time between a failure, by which `level` has been reached, and the next try.
    pub(super) fn delay(self, level: u64) -> Duration {
        let Some(doublings) = level.checked_sub(u64::from(self.free) + 1) else { return Duration::ZERO };
        let doublings = u32::try_from(doublings).unwrap_or(MAX_DOUBLINGS).min(MAX_DOUBLINGS);
        Duration::from_secs(1 << doublings).min(self.max_delay.max(Duration::from_secs(1)))
    }

    /// What is left of the wait now. `unstored` failures have happened just now, and are not in `attempts`.
    pub(super) fn wait(self, attempts: &Attempts, unstored: u32, now: UnixSeconds) -> Duration {
        let delay = self.delay(self.level(attempts, now) + u64::from(unstored));
        if unstored > 0 {
            return delay;
        }
        // A failure in the future is one of a gateway whose clock is ahead.
        delay.saturating_sub(now.since(attempts.failed_at))
    }
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

    /// What a store makes of a failure.
    fn failed(attempts: Attempts, limit: Limit, now: UnixSeconds) -> Attempts {
        let owed = attempts.owes_until.max(now).0 + limit.forget_seconds();
        let owes_until = UnixSeconds(owed.min(now.0 + limit.most_seconds()));
        Attempts { owes_until, failed_at: attempts.failed_at.max(now), ..attempts }
    }

    #[test]
    fn typing_errors_cost_nothing_and_guessing_costs_ever_more() {
        let mut attempts = Attempts::default();
        for _ in 0..=10 {
            assert_eq!(LIMIT.wait(&attempts, 0, NOW), Duration::ZERO);
            attempts = failed(attempts, LIMIT, NOW);
        }
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            assert_eq!(LIMIT.wait(&attempts, 0, NOW), seconds(expected));
            attempts = failed(attempts, LIMIT, NOW);
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten_one_after_the_other() {
        let mut attempts = Attempts::default();
        (0..13).for_each(|_| attempts = failed(attempts, LIMIT, NOW));
        for (later, level, wait) in [(0, 13, 4), (3, 13, 1), (600, 12, 0), (6600, 2, 0), (7800, 0, 0), (9999, 0, 0)] {
            let now = NOW.plus(seconds(later));
            assert_eq!((LIMIT.level(&attempts, now), LIMIT.wait(&attempts, 0, now)), (level, seconds(wait)), "{later}");
        }
    }

    #[test]
    fn a_failure_that_no_store_has_counts() {
        let mut attempts = Attempts::default();
        (0..10).for_each(|_| attempts = failed(attempts, LIMIT, UnixSeconds(NOW.0 - 500)));
        assert_eq!(LIMIT.wait(&attempts, 0, NOW), Duration::ZERO);
        assert_eq!(LIMIT.wait(&attempts, 1, NOW), seconds(1));
        assert_eq!(LIMIT.wait(&attempts, 3, NOW), seconds(4));
    }

    #[test]
    fn a_clock_that_is_ahead_makes_nobody_wait_longer_than_the_bound() {
        let ahead = UnixSeconds(NOW.0 + 100_000_000);
        let attempts = Attempts { owes_until: ahead, failed_at: ahead, known_until: UnixSeconds(0) };
        assert_eq!(LIMIT.wait(&attempts, 0, NOW), LIMIT.max_delay);
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
                attempts = failed(attempts, limit, now);
            }
            let later = now.plus(seconds(pause));
            prop_assert!(limit.wait(&attempts, 0, later) <= limit.wait(&attempts, 0, now));
            prop_assert!(limit.wait(&attempts, 0, now.plus(limit.max_delay)).is_zero());
            prop_assert!(limit.level(&attempts, now.plus(seconds(limit.most_seconds()))) == 0);
        }

        #[test]
        fn one_more_failure_is_never_less_of_a_wait(limit in limits(), count in 0_u32..100, unstored in 0_u32..100) {
            let mut attempts = Attempts::default();
            (0..count).for_each(|_| attempts = failed(attempts, limit, NOW));
            prop_assert!(limit.wait(&attempts, unstored, NOW) <= limit.wait(&attempts, unstored + 1, NOW));
            prop_assert!(limit.wait(&attempts, 0, NOW) <= limit.wait(&failed(attempts, limit, NOW), 0, NOW));
        }
    }
}
