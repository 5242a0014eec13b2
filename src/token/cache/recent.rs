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
    /// Sets of [`WAYS`] slots; a token's hash names its set.
    slots: RefCell<Box<[Option<Slot>]>>,
    hasher: TailState,
    swept: Cell<usize>,
}

#[derive(Debug, Clone)]
struct Slot {
    token: Box<str>,
    identity: Arc<Identity>,
}

impl Slot {
    fn is_good(&self, keys: &KeySet, now: UnixSeconds) -> bool {
        now < self.identity.expires_at() && keys.contains(self.identity.key_id())
    }
}

impl RecentTokens {
    /// An empty memory of at most 4,096 tokens of at most 4 KiB each.
    pub fn new() -> Self {
        let slots = RefCell::new(vec![None; SLOTS].into());
        Self { slots, hasher: TailState::new(), swept: Cell::new(0) }
    }

    /// As [`super::TokenCache::get`].
    pub fn get(&self, token: &str, keys: &KeySet, now: UnixSeconds) -> Option<Arc<Identity>> {
        let slots = self.slots.borrow();
        let set = self.set_of(token);
        let slot = slots[set..set + WAYS].iter().flatten().find(|slot| *slot.token == *token)?;
        slot.is_good(keys, now).then(|| Arc::clone(&slot.identity))
    }

    /// Remembers a token that the shared cache knows. Takes the place of the older one of its set.
    pub fn insert(&self, token: &str, identity: &Arc<Identity>) {
        if token.len() > LONGEST_TOKEN {
            return;
        }
        let set = self.set_of(token);
        let slots = &mut self.slots.borrow_mut()[set..set + WAYS];
        slots.rotate_right(1);
        slots[0] = Some(Slot { token: token.into(), identity: Arc::clone(identity) });
    }

    /// Frees some of the slots whose token has expired or whose key is gone. All are looked at within sixteen calls.
    pub fn sweep(&self, keys: &KeySet, now: UnixSeconds) {
        let start = self.swept.get();
        self.swept.set((start + SLOTS / 16) % SLOTS);
        for slot in &mut self.slots.borrow_mut()[start..start + SLOTS / 16] {
            slot.take_if(|slot| !slot.is_good(keys, now));
        }
    }

    fn set_of(&self, token: &str) -> usize {
        // Cut to what a slot's number needs.
        let hash = usize::try_from(self.hasher.hash_one(token) % (SLOTS as u64 / WAYS as u64)).unwrap_or(0);
        hash * WAYS
    }
}

impl Default for RecentTokens {
    fn default() -> Self {
        Self::new()
    }
}

const SLOTS: usize = 4096;
const WAYS: usize = 2;
const LONGEST_TOKEN: usize = 4096;
