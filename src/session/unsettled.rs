//! Changes of refresh tokens of which nobody knows whether they were made. The client waits, or was told that the store does not
//! answer, and comes with the token that it has when the store is back, which may be long after: its grace begins only then, or it
//! would be taken for a thief.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::store::{SessionId, Store};
use crate::time::{Arrival, UnixSeconds};

/// The most that are kept. Of more than these the grace begins with the change, as always.
const MAX_KEPT: usize = 10_000;
/// How many are settled by one call of the store.
const BATCH: usize = 200;
/// How much later than now the grace begins: nobody loses time of it, which is short, to a call that takes no longer.
const AHEAD: Duration = Duration::from_secs(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);
/// How long it is tried. An outage that is longer is one in which people log in again.
const GIVE_UP: Duration = Duration::from_secs(3600);

/// The changes that may or may not have been made.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By session.
    changes: HashMap<SessionId, Change>,
    is_settling: bool,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    /// The counter that the session has if the change was made.
    counter: u32,
    /// The request that tried to make it.
    arrival: Arrival,
    noted: Instant,
}

impl Unsettled {
    /// Remembers that a request tried to bring the session's counter to `counter`, and lets the grace begin once more when the
    /// store is back, for all gateways.
    pub(super) fn note(self: &Arc<Self>, store: &Arc<dyn Store>, session: SessionId, counter: u32, arrival: Arrival) {
        let mut kept = self.lock();
        let change = Change { counter, arrival, noted: Instant::now() };
        let is_full = kept.changes.len() >= MAX_KEPT;
        match kept.changes.entry(session) {
            // A request that lags behind says nothing new of a session that has gone on.
            Entry::Occupied(mut known) if known.get().counter <= counter => drop(known.insert(change)),
            Entry::Occupied(_) => {}
            Entry::Vacant(place) if !is_full => drop(place.insert(change)),
            Entry::Vacant(_) => return,
        }
        if !std::mem::replace(&mut kept.is_settling, true) {
            tokio::spawn(Arc::clone(self).settle(Arc::clone(store)));
        }
    }

    /// Whether it is not known yet if the session's counter was brought to `counter`.
    pub(super) fn holds(&self, session: SessionId, counter: u32) -> bool {
        self.lock().changes.get(&session).is_some_and(|change| change.counter == counter)
    }

    async fn settle(self: Arc<Self>, store: Arc<dyn Store>) {
        while let Some((batch, now)) = self.next_batch() {
            let begun = Instant::now();
            match store.renew_grace(&batch, now).await {
                Err(error) if error.is_outage() => sleep(PAUSE).await,
                // It waited for the store, so that a part of the grace is over.
                Ok(()) if begun.elapsed() > AHEAD => sleep(PAUSE).await,
                outcome => {
                    if let Err(error) = outcome {
                        tracing::warn!(%error, "Sessions whose refresh was refused in an outage may have to log in again");
                    }
                    let mut kept = self.lock();
                    for (session, counter) in batch {
                        // One that was noted meanwhile wants a grace that begins later.
                        let is_settled = |change: &Change| change.counter == counter && change.noted <= begun;
                        if kept.changes.get(&session).is_some_and(is_settled) {
                            kept.changes.remove(&session);
                        }
                    }
                }
            }
        }
    }

    /// Some changes, and the time now. `None`: there are none any more, and whoever notes one begins again.
    fn next_batch(&self) -> Option<(Vec<(SessionId, u32)>, UnixSeconds)> {
        let mut kept = self.lock();
        kept.changes.retain(|_, change| change.noted.elapsed() < GIVE_UP);
        let now = kept.changes.values().next().map(|change| change.arrival.now().plus(AHEAD));
        kept.is_settling = now.is_some();
        let batch = kept.changes.iter().take(BATCH).map(|(session, change)| (*session, change.counter)).collect();
        Some((batch, now?))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
