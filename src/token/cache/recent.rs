//! One worker's latest tokens, in front of the shared cache.
//!
//! The shared cache notes each hit for its choice of what to keep, which touches memory all over; with thousands of tokens in
//! turn that costs more than all the rest of a hit. A worker asks here first: one slot, one comparison, nothing written.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::keyset::KeySet;
use crate::time::UnixSeconds;

use super::TailState;
use crate::token::Identity;

/// Tokens that this worker saw lately. Never the only place of a token, so forgetting one costs a look into the shared cache.
#[derive(Debug)]
pub struct RecentTokens {
    /// Sets of [`WAYS`] slots; a token's hash names its set. Empty until the first token.
    slots: RefCell<Vec<Option<Slot>>>,
    hasher: TailState,
    swept: Cell<usize>,
}

#[derive(Debug, Clone)]
struct Slot {
    /// Of the token: a look at another one's slot then ends before that token's text is touched.
    hash: u64,
    token: Box<str>,
    identity: Arc<Identity>,
}

impl Slot {
    fn is_good(&self, keys: &KeySet, now: UnixSeconds) -> bool {
        now < self.identity.expires_at() && keys.contains(self.identity.key_id())
    }
}

impl RecentTokens {
    /// An empty memory of at most 8,192 tokens of at most 4 KiB each.
    pub fn new() -> Self {
        let slots = RefCell::default();
        Self { slots, hasher: TailState::new(), swept: Cell::new(0) }
    }

    /// As [`super::TokenCache::get`].
    pub fn get(&self, token: &str, keys: &KeySet, now: UnixSeconds) -> Option<Arc<Identity>> {
        let slots = self.slots.borrow();
        let hash = self.hasher.hash_one(token);
        let set = slots.get(set_of(hash)..)?.iter().take(WAYS);
        let slot = set.flatten().find(|slot| slot.hash == hash && *slot.token == *token)?;
        slot.is_good(keys, now).then(|| Arc::clone(&slot.identity))
    }

    /// Remembers a token that the shared cache knows. Takes the place of the oldest of its set.
    pub fn insert(&self, token: &str, identity: &Arc<Identity>) {
        if token.len() > LONGEST_TOKEN {
            return;
        }
        let hash = self.hasher.hash_one(token);
        let mut slots = self.slots.borrow_mut();
        if slots.is_empty() {
            slots.resize(SLOTS, None);
        }
        let set = &mut slots[set_of(hash)..][..WAYS];
        set.rotate_right(1);
        set[0] = Some(Slot { hash, token: token.into(), identity: Arc::clone(identity) });
    }

    /// Drops a token that counts no longer.
    pub fn forget(&self, token: &str) {
        let hash = self.hasher.hash_one(token);
        let mut slots = self.slots.borrow_mut();
        let set = slots.iter_mut().skip(set_of(hash)).take(WAYS);
        set.for_each(|slot| drop(slot.take_if(|slot| *slot.token == *token)));
    }

    /// Frees some of the slots whose token has expired or whose key is gone. All are looked at within sixteen calls.
    pub fn sweep(&self, keys: &KeySet, now: UnixSeconds) {
        let start = self.swept.get();
        self.swept.set((start + SLOTS / 16) % SLOTS);
        for slot in self.slots.borrow_mut().iter_mut().skip(start).take(SLOTS / 16) {
            slot.take_if(|slot| !slot.is_good(keys, now));
        }
    }
}

/// Where the set of a hash begins.
fn set_of(hash: u64) -> usize {
    // Cut to what a slot's number needs.
    usize::try_from(hash % (SLOTS as u64 / WAYS as u64)).unwrap_or(0) * WAYS
}

impl Default for RecentTokens {
    fn default() -> Self {
        Self::new()
    }
}

/// With four ways and twice as many slots as are in use, hardly a set is asked for more than it holds.
const SLOTS: usize = 8192;
const WAYS: usize = 4;
const LONGEST_TOKEN: usize = 4096;
