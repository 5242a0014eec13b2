//! The wall clock, and whether somebody set it.

use std::time::Duration;

use tokio::time::Instant;

use crate::time::Moment;

/// More than any correction of a clock that runs, from one look to the next some seconds later.
const LARGEST_DRIFT: Duration = Duration::from_secs(1);

/// The wall clock beside the steady one.
#[derive(Debug)]
pub(super) struct WallClock {
    /// What both showed last.
    last: (Moment, Instant),
    was_set: bool,
}

impl WallClock {
    pub(super) fn new() -> Self {
        Self { last: (Moment::now(), Instant::now()), was_set: false }
    }

    /// The time now.
    pub(super) fn now(&mut self) -> Moment {
        self.note(Moment::now(), Instant::now())
    }

    /// Whether it showed something else than it should have, at any look since [`Self::take_as_right`].
    pub(super) const fn was_set(&self) -> bool {
        self.was_set
    }

    /// From now on what it showed last is right.
    pub(super) const fn take_as_right(&mut self) {
        self.was_set = false;
    }

    /// What it showed is not right after all.
    pub(super) const fn take_as_wrong(&mut self) {
        self.was_set = true;
    }

    fn note(&mut self, wall: Moment, steady: Instant) -> Moment {
        let (last_wall, last_steady) = std::mem::replace(&mut self.last, (wall, steady));
        let passed = steady.duration_since(last_steady);
        let (ahead, behind) = (wall.since(last_wall), last_wall.since(wall));
        let wrong_by = if behind > Duration::ZERO { behind + passed } else { ahead.abs_diff(passed) };
        self.was_set |= wrong_by > LARGEST_DRIFT;
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// Whether the last of these looks, each so many milliseconds of both clocks after the one before, tells of a step.
    #[track_caller]
    fn check(looks: &[(i64, u64)], expected: bool) {
        let (mut wall, mut steady) = (1_800_000_000_000_i64, Instant::now());
        let moment = |millis: i64| Moment::from_millis(millis.unsigned_abs());
        let mut clock = WallClock { last: (moment(wall), steady), was_set: false };
        for (of_wall, of_steady) in looks {
            wall += of_wall;
            steady += Duration::from_millis(*of_steady);
            assert_eq!(clock.note(moment(wall), steady), moment(wall));
        }
        assert_eq!(clock.was_set(), expected, "{looks:?}");
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_runs_is_not() {
        check(&[(1000, 1000), (10_000, 10_000)], false);
        // As time servers correct it, and as two looks one after the other differ.
        check(&[(1005, 1000), (995, 1000), (-1, 1), (0, 0)], false);
        check(&[(HOUR, 1000)], true);
        check(&[(-HOUR, 1000)], true);
        check(&[(2001, 1000)], true);
        check(&[(-1, 1000)], true);
        // It was wrong for one look, and is right again.
        check(&[(HOUR, 1000), (1000 - HOUR + 1000, 1000)], true);
        // A machine that slept.
        check(&[(HOUR, 0)], true);
    }

    #[test]
    fn what_was_noticed_stays_until_it_is_dealt_with() {
        let mut clock = WallClock::new();
        clock.last.0 = clock.last.0.minus(Duration::from_secs(1000));
        clock.now();
        clock.now();
        assert!(clock.was_set());
        clock.take_as_right();
        clock.now();
        assert!(!clock.was_set());
    }
}
