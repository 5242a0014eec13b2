//! How long a failed login takes: as long as the costliest kind of hash that was checked so far, whoever it was for.
//!
//! Users whose hashes are of another scheme or cost than new ones would otherwise be told from unknown ones by the clock. A check
//! cannot be made shorter, and computing more than is needed would let a storm of wrong passwords cost the machine more.
//! So the time that is left is waited for, which costs nothing.
//!
//! What remains to be seen: the first check of a kind that is costlier than all before it since the start, and a kind that
//! takes longer than [`LONGEST`] and is not the one of new hashes. On a busy machine the pause is an estimate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::hash::Work;

/// Every failed login takes a tenth more than the costliest check, so that what varies from one check to the next is
/// within.
const MARGIN: f64 = 1.1;
/// How much of what is known of the machine's load a further check leaves.
const KEPT: f64 = 0.75;
/// The most that a busy machine is thought to slow the threads down.
const MAX_STRETCH: f64 = 20.0;
/// The longest time that is made up to the checks of a costlier kind. bcrypt of cost 14 takes some 1 to 2 s.
const LONGEST: Duration = Duration::from_secs(3);
/// Kinds that are remembered. An application has one or two, and old ones of a migration.
const MAX_KINDS: usize = 32;

/// The kinds of checks that were seen, and the time that each takes.
#[derive(Debug)]
pub(super) struct Pace {
    /// The kind of new hashes.
    new: Work,
    learned: Mutex<Learned>,
}

#[derive(Debug, Default)]
struct Learned {
    /// The least time of the processor that a check of each kind took: what else the machine does only ever adds to it.
    kinds: Vec<(Work, Duration)>,
    /// What checks took lately, older ones counting less. The threads give way to everybody else, so the one may be several
    /// times the other.
    wall_seconds: f64,
    processor_seconds: f64,
}

/// What a check took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// On the clock.
    pub(super) wall: Duration,
    /// Of the processor.
    pub(super) processor: Duration,
}

impl Spent {
    /// Runs `work`, on the calling thread.
    pub(super) fn measure<T>(work: impl FnOnce() -> T) -> (T, Self) {
        let (start, before) = (Instant::now(), processor_time());
        let value = work();
        (value, Self { wall: start.elapsed(), processor: processor_time().saturating_sub(before) })
    }
}

impl Pace {
    /// Knows that new hashes are of this kind, but not yet how long they take.
    pub(super) fn new(new: Work) -> Self {
        Self { new, learned: Mutex::default() }
    }

    /// Learns from a check.
    pub(super) fn note(&self, work: Work, spent: Spent) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.wall_seconds = learned.wall_seconds * KEPT + spent.wall.as_secs_f64();
        learned.processor_seconds = learned.processor_seconds * KEPT + spent.processor.as_secs_f64();
        let kinds = &mut learned.kinds;
        if let Some((_, least)) = kinds.iter_mut().find(|(known, _)| *known == work) {
            *least = spent.processor.min(*least);
        } else if kinds.len() < MAX_KINDS {
            kinds.push((work, spent.processor));
        } else if let Some(quickest) =
            kinds.iter_mut().filter(|(known, _)| *known != self.new).min_by_key(|(_, least)| *least)
            && (quickest.1 < spent.processor || work == self.new)
        {
            // Only the costliest count.
            *quickest = (work, spent.processor);
        }
    }

    /// What is to be waited for after a check that took `wall` on the clock and did not succeed.
    pub(super) fn pause(&self, wall: Duration) -> Duration {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let of_new = learned.kinds.iter().find(|(known, _)| *known == self.new).map(|(_, least)| *least);
        let limit = of_new.unwrap_or_default().max(LONGEST);
        let bearable = learned.kinds.iter().map(|(_, least)| *least).filter(|least| *least <= limit);
        let costliest = bearable.max().unwrap_or_default();
        let stretch = (learned.wall_seconds / learned.processor_seconds.max(1e-6)).clamp(1.0, MAX_STRETCH);
        let whole = costliest.mul_f64(stretch * MARGIN);
        whole.saturating_sub(wall).min(limit.mul_f64(MARGIN))
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Work = Work::Bcrypt { cost: 12 };
    const OLD: Work = Work::Bcrypt { cost: 10 };
    const COSTLY: Work = Work::Bcrypt { cost: 13 };

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    const fn quiet(processor: Duration) -> Spent {
        Spent { wall: processor, processor }
    }

    #[track_caller]
    fn check(seen: &[(Work, Spent)], wall: Duration, expected: Duration) {
        let pace = Pace::new(NEW);
        for (work, spent) in seen {
            pace.note(*work, *spent);
        }
        let pause = pace.pause(wall);
        assert!(pause.abs_diff(expected) < Duration::from_micros(2), "{pause:?}");
    }

    #[test]
    fn a_quicker_kind_waits_until_the_costliest_would_have_ended() {
        check(&[(NEW, quiet(ms(400))), (OLD, quiet(ms(100)))], ms(100), ms(340));
        check(&[(NEW, quiet(ms(400))), (OLD, quiet(ms(100)))], ms(400), ms(40));
        check(&[(NEW, quiet(ms(400))), (COSTLY, quiet(ms(800)))], ms(400), ms(480));
    }

    #[test]
    fn the_least_that_a_kind_took_counts() {
        check(&[(NEW, quiet(ms(900))), (NEW, quiet(ms(400))), (NEW, quiet(ms(700)))], ms(400), ms(40));
    }

    #[test]
    fn a_machine_that_is_busy_stretches_the_pause() {
        let busy = Spent { wall: ms(1200), processor: ms(400) };
        check(&[(NEW, busy)], ms(0), ms(1320));
        check(&[(NEW, busy)], ms(1400), ms(0));
        let quick = Spent { wall: ms(1), processor: ms(1) };
        let pace = Pace::new(NEW);
        pace.note(NEW, busy);
        pace.note(OLD, quick);
        assert!(pace.pause(ms(1)) > ms(1300), "a check of a moment says little about the load");
    }

    #[test]
    fn nobody_waits_for_a_kind_that_takes_too_long_unless_it_is_that_of_new_hashes() {
        check(&[(NEW, quiet(ms(400))), (COSTLY, quiet(ms(9000)))], ms(400), ms(40));
        check(&[(NEW, quiet(ms(5000))), (OLD, quiet(ms(100)))], ms(100), ms(5400));
        check(&[(NEW, Spent { wall: ms(60_000), processor: ms(400) })], ms(0), ms(3300));
    }

    #[test]
    fn no_number_of_kinds_takes_more_memory_or_hides_the_costliest() {
        let pace = Pace::new(NEW);
        pace.note(NEW, quiet(ms(400)));
        for rounds in 0..1000 {
            pace.note(Work::ShaCrypt { sha: crate::account::hash::Sha::Two512, rounds, length: 0 }, quiet(ms(1)));
        }
        pace.note(COSTLY, quiet(ms(800)));
        assert_eq!(pace.learned.lock().unwrap().kinds.len(), MAX_KINDS);
        assert!(pace.pause(ms(400)) >= ms(480));
    }

    #[test]
    fn time_of_the_processor_passes_while_something_is_computed() {
        let (_, spent) = Spent::measure(|| (0..2_000_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number)));
        assert!(spent.processor > Duration::ZERO, "{spent:?}");
    }
}
