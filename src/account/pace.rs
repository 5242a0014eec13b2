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

/// Every failed login takes a little more than the costliest check, so that what varies from one check to the next is within.
const MARGIN: f64 = 1.15;
/// How far a check that was slower than thought, and one that was quicker, move what is thought of the machine's load. It
/// must be thought rather too busy: who is too early can be told, who is late among those that are late cannot.
const UP: f64 = 0.3;
const DOWN: f64 = 0.05;
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

#[derive(Debug)]
struct Learned {
    /// The least time of the processor that a check of each kind took: what else the machine does only ever adds to it.
    kinds: Vec<(Work, Duration)>,
    /// How many times longer the slower ones of the last checks took on the clock. The threads give way to everybody, so on a
    /// busy machine it may be several times.
    stretch: f64,
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
        Self { new, learned: Mutex::new(Learned { kinds: Vec::new(), stretch: 1.0 }) }
    }

    /// Learns from a check.
    pub(super) fn note(&self, work: Work, spent: Spent) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = &mut learned.kinds;
        let mut least = spent.processor;
        if let Some((_, known)) = kinds.iter_mut().find(|(known, _)| *known == work) {
            least = least.min(*known);
            *known = least;
        } else if kinds.len() < MAX_KINDS {
            kinds.push((work, least));
        } else if let Some(quickest) =
            kinds.iter_mut().filter(|(known, _)| *known != self.new).min_by_key(|(_, least)| *least)
            && (quickest.1 < least || work == self.new)
        {
            // Only the costliest count.
            *quickest = (work, least);
        }
        let (costliest, _) = learned.costliest(self.new);
        // One that is over in a moment says little about what the costliest would take, and one that was stopped for a second
        // not all.
        let weight = (least.as_secs_f64() / costliest.as_secs_f64().max(1e-6)).min(1.0).powi(2);
        let seen = spent.wall.as_secs_f64() / least.as_secs_f64().max(1e-6);
        let change = seen.min(2.0 * learned.stretch) - learned.stretch;
        learned.stretch += weight * change * if change > 0.0 { UP } else { DOWN };
    }

    /// What is to be waited for after a check that took `wall` on the clock and did not succeed.
    pub(super) fn pause(&self, wall: Duration) -> Duration {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let (costliest, limit) = learned.costliest(self.new);
        let whole = costliest.mul_f64(learned.stretch.clamp(1.0, MAX_STRETCH) * MARGIN);
        whole.saturating_sub(wall).min(limit.mul_f64(MARGIN))
    }
}

impl Learned {
    /// What the costliest kind takes that others wait for, and the longest that they would.
    fn costliest(&self, new: Work) -> (Duration, Duration) {
        let of_new = self.kinds.iter().find(|(known, _)| *known == new).map(|(_, least)| *least);
        let limit = of_new.unwrap_or_default().max(LONGEST);
        let bearable = self.kinds.iter().map(|(_, least)| *least).filter(|least| *least <= limit);
        (bearable.max().unwrap_or_default(), limit)
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
        check(&[(NEW, quiet(ms(400))), (OLD, quiet(ms(100)))], ms(100), ms(360));
        check(&[(NEW, quiet(ms(400))), (OLD, quiet(ms(100)))], ms(400), ms(60));
        check(&[(NEW, quiet(ms(400))), (COSTLY, quiet(ms(800)))], ms(400), ms(520));
    }

    #[test]
    fn the_least_that_a_kind_took_counts() {
        let pace = Pace::new(NEW);
        for milliseconds in [900, 400, 700] {
            pace.note(NEW, quiet(ms(milliseconds)));
        }
        for _ in 0..100 {
            pace.note(NEW, quiet(ms(400)));
        }
        assert!(pace.pause(ms(400)).abs_diff(ms(60)) < ms(1));
    }

    #[test]
    fn a_machine_that_is_busy_stretches_the_pause() {
        let pace = Pace::new(NEW);
        pace.note(NEW, quiet(ms(400)));
        for _ in 0..20 {
            pace.note(NEW, Spent { wall: ms(1200), processor: ms(450) });
            pace.note(OLD, quiet(ms(1)));
        }
        assert!(pace.pause(ms(1)).abs_diff(ms(1380)) < ms(30), "{:?}", pace.pause(ms(1)));
        assert_eq!(pace.pause(ms(1400)), Duration::ZERO);
        for _ in 0..200 {
            pace.note(NEW, quiet(ms(400)));
        }
        assert!(pace.pause(ms(400)) < ms(70), "{:?}", pace.pause(ms(400)));
    }

    #[test]
    fn one_check_that_was_stopped_for_long_counts_little() {
        let stopped = Spent { wall: ms(60_000), processor: ms(400) };
        check(&[(NEW, quiet(ms(400))), (NEW, stopped)], ms(400), ms(198));
    }

    #[test]
    fn nobody_waits_for_a_kind_that_takes_too_long_unless_it_is_that_of_new_hashes() {
        check(&[(NEW, quiet(ms(400))), (COSTLY, quiet(ms(9000)))], ms(400), ms(60));
        check(&[(NEW, quiet(ms(5000))), (OLD, quiet(ms(100)))], ms(100), ms(5650));
        let stopped = Spent { wall: ms(60_000), processor: ms(400) };
        check(&[(NEW, stopped); 50], ms(0), ms(3450));
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
        assert!(pace.pause(ms(400)) >= ms(520));
    }

    #[test]
    fn time_of_the_processor_passes_while_something_is_computed() {
        let (_, spent) =
            Spent::measure(|| (0..2_000_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number)));
        assert!(spent.processor > Duration::ZERO, "{spent:?}");
    }
}
