//! Which server of an upstream gets a request, and which is passed over. Shared by all workers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::Instant;

use super::Balance;

/// What all workers know of an upstream's servers.
#[derive(Debug)]
pub struct Servers {
    balance: Balance,
    states: Vec<ServerState>,
    next: AtomicU32,
}

#[derive(Debug, Default)]
struct ServerState {
    in_flight: AtomicU32,
    /// Connections that failed in a row, those that failed together counted once.
    failures: AtomicU32,
    /// Passed over until then, in milliseconds since [`START`].
    retry_at: AtomicU64,
}

/// The servers that one request has tried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tried(u64);

/// Counts a request as in flight at a server until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    servers: Arc<Servers>,
    index: usize,
}

impl Servers {
    /// `count` servers, at most [`MAX_SERVERS`], that are all believed to live.
    pub fn new(count: usize, balance: Balance) -> Self {
        let states = (0..count).map(|_| ServerState::default()).collect();
        Self { balance, states, next: AtomicU32::new(0) }
    }

    /// The server for a request's next try: one that lives by the balance rule; if none does, the one whose pause ends
    /// first, because refusing everything on stale bad news is worse than one failed connection. `None` when all were tried.
    pub(super) fn choose(&self, tried: &mut Tried) -> Option<usize> {
        let index = if self.states.len() == 1 { (tried.0 == 0).then_some(0)? } else { self.choose_among(*tried)? };
        tried.0 |= 1 << index;
        Some(index)
    }

    fn choose_among(&self, tried: Tried) -> Option<usize> {
        let count = self.states.len();
        let start = self.next.fetch_add(1, Relaxed) as usize;
        let now = milliseconds_since_start();
        let in_turn =
            (0..count).map(|step| start.wrapping_add(step) % count).filter(|index| tried.0 & (1 << index) == 0);
        let mut living = in_turn.clone().filter(|&index| self.states[index].retry_at.load(Relaxed) <= now);
        let chosen = match self.balance {
            Balance::RoundRobin => living.next(),
            Balance::LeastRequests => living.min_by_key(|&index| self.states[index].in_flight.load(Relaxed)),
        };
        chosen.or_else(|| in_turn.min_by_key(|&index| self.states[index].retry_at.load(Relaxed)))
    }

    /// Notes that a connection could not be made. Returns whether the server was believed to live until now.
    pub(super) fn failed(&self, index: usize) -> bool {
        self.failed_at(index, milliseconds_since_start())
    }

    /// A failure within a pause was begun before it, or in want of a better server, and says nothing new: of the connections
    /// that fail together one counts, so that a burst does not make the pause the longest at once.
    fn failed_at(&self, index: usize, now: u64) -> bool {
        let state = &self.states[index];
        let retry_at = state.retry_at.load(Relaxed);
        if retry_at > now {
            return false;
        }
        let failures = state.failures.load(Relaxed);
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(5)).min(LONGEST_PAUSE);
        let milliseconds = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let is_first = state.retry_at.compare_exchange(retry_at, now.saturating_add(milliseconds), Relaxed, Relaxed);
        if is_first.is_ok() {
            state.failures.fetch_add(1, Relaxed);
        }
        is_first.is_ok() && failures == 0
    }

    /// Notes that a connection was made. Returns whether the server was passed over until now.
    pub(super) fn connected(&self, index: usize) -> bool {
        let state = &self.states[index];
        let was_failing = state.failures.load(Relaxed) > 0 && state.failures.swap(0, Relaxed) > 0;
        if was_failing {
            state.retry_at.store(0, Relaxed);
        }
        was_failing
    }

    /// Notes that a kept connection brought an answer. As [`Self::connected`], but only once the pause is over: connections that
    /// were made before say little of a server that takes no new ones.
    pub(super) fn answered(&self, index: usize) -> bool {
        let state = &self.states[index];
        let is_failing = state.failures.load(Relaxed) > 0;
        is_failing && state.retry_at.load(Relaxed) <= milliseconds_since_start() && self.connected(index)
    }

    /// Counts a request at a server, where the balance needs it.
    pub(super) fn begin(self: &Arc<Self>, index: usize) -> Option<InFlight> {
        if self.states.len() == 1 || self.balance == Balance::RoundRobin {
            return None;
        }
        self.states[index].in_flight.fetch_add(1, Relaxed);
        Some(InFlight { servers: Arc::clone(self), index })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.servers.states[self.index].in_flight.fetch_sub(1, Relaxed);
    }
}

fn milliseconds_since_start() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Most servers of one upstream, which `config` holds: the tries of a request are bits of a number.
pub const MAX_SERVERS: usize = 64;

/// A server is passed over this long after its first failure, then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_next(servers: &Servers, expected: usize) {
        assert_eq!(servers.choose(&mut Tried::default()), Some(expected));
    }

    #[test]
    fn round_robin_takes_turns_and_passes_over_the_dead() {
        let servers = Servers::new(3, Balance::RoundRobin);
        for expected in [0, 1, 2, 0] {
            check_next(&servers, expected);
        }
        assert!(servers.failed(1));
        assert!(!servers.failed(1));
        check_next(&servers, 2);
        check_next(&servers, 2);
        check_next(&servers, 0);
        assert!(servers.connected(1));
        check_next(&servers, 1);
    }

    #[test]
    fn an_answer_on_a_kept_connection_does_not_end_a_pause() {
        let servers = Servers::new(2, Balance::RoundRobin);
        assert!(!servers.answered(0), "it lives anyway");
        servers.failed(0);
        assert!(!servers.answered(0));
        check_next(&servers, 1);
        servers.states[0].retry_at.store(0, Relaxed);
        assert!(servers.answered(0), "its pause is over");
        assert!(servers.failed(0), "believed to live until now");
    }

    #[test]
    fn connections_that_fail_together_count_as_one_failure() {
        let servers = Servers::new(2, Balance::RoundRobin);
        let retry_at = || servers.states[0].retry_at.load(Relaxed);
        let mut now = 10;
        for pause in [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert_eq!(servers.failed_at(0, now), pause == 1000, "believed to live until the first one");
            for later in [0, 1, pause - 1] {
                assert!(!servers.failed_at(0, now + later));
                assert_eq!(retry_at(), now + pause);
            }
            now = retry_at();
        }
    }

    #[test]
    fn the_server_with_the_fewest_requests_is_next() {
        let servers = Arc::new(Servers::new(2, Balance::LeastRequests));
        let busy = servers.begin(0);
        check_next(&servers, 1);
        check_next(&servers, 1);
        let _busier = (servers.begin(1), servers.begin(1));
        check_next(&servers, 0);
        drop(busy);
        check_next(&servers, 0);
    }

    #[test]
    fn each_server_is_tried_once_and_a_dead_one_last() {
        let servers = Servers::new(2, Balance::RoundRobin);
        servers.failed(0);
        let mut tried = Tried::default();
        assert_eq!(servers.choose(&mut tried), Some(1));
        assert_eq!(servers.choose(&mut tried), Some(0));
        assert_eq!(servers.choose(&mut tried), None);
        let alone = Servers::new(1, Balance::RoundRobin);
        let mut tried = Tried::default();
        assert_eq!((alone.choose(&mut tried), alone.choose(&mut tried)), (Some(0), None));
    }
}
