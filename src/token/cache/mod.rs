//! Verified tokens, so that each is checked once.

mod recent;

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use moka::Expiry;
use moka::sync::Cache;

use crate::keyset::KeySet;
use crate::time::UnixSeconds;

use super::Identity;

pub use recent::RecentTokens;

/// What an entry costs beside the token and the identity: moka's nodes and counters, estimated from its sources.
const ENTRY_BYTES: usize = 256;

/// What a minted token may have more than the one that it is made from, with what keeps it. It says the same of the caller.
const MINTED_BYTES: usize = 512;

/// Verified tokens by their whole text. Shared by all workers; dropped with the verifier that filled it.
///
/// Only tokens that were verified are in it, so nobody without a valid token can fill it or choose what it holds.
#[derive(Debug)]
pub struct TokenCache {
    /// `None` remembers nothing.
    entries: Option<Cache<Box<str>, Entry, TailState>>,
}

#[derive(Debug, Clone)]
struct Entry {
    identity: Arc<Identity>,
    /// From its insertion to `exp`, when moka drops it.
    life: Duration,
}

impl TokenCache {
    /// A cache of at most `bytes`; 0 remembers nothing.
    pub fn new(bytes: u64) -> Self {
        Self::with_minted(bytes, 0)
    }

    /// As [`Self::new`], where for each token up to `minted` others are made, for as many upstreams.
    #[expect(clippy::borrowed_box, reason = "the weigher gets what moka keeps")]
    pub fn with_minted(bytes: u64, minted: usize) -> Self {
        let entries = (bytes != 0).then(|| {
            Cache::builder()
                .name("tokens")
                .max_capacity(bytes)
                .weigher(move |token: &Box<str>, entry: &Entry| {
                    let minted = minted * (token.len() + MINTED_BYTES);
                    u32::try_from(token.len() + entry.identity.weight() + ENTRY_BYTES + minted).unwrap_or(u32::MAX)
                })
                .expire_after(AtExpiry)
                .build_with_hasher(TailState::new())
        });
        Self { entries }
    }

    /// The identity that this very token was verified to, if it has not expired and its key is still in `keys`.
    pub fn get(&self, token: &str, keys: &KeySet, now: UnixSeconds) -> Option<Arc<Identity>> {
        let entries = self.entries.as_ref()?;
        let identity = entries.get(token)?.identity;
        // moka's own clock may lag behind by its housekeeping, and a key may have gone a moment ago.
        if now < identity.expires_at() && keys.contains(identity.key_id()) {
            return Some(identity);
        }
        entries.invalidate(token);
        None
    }

    /// Remembers a verified token until it expires. A token that lives only by the leeway is not remembered.
    pub fn insert(&self, token: &str, identity: Arc<Identity>, now: UnixSeconds) {
        let Some(entries) = &self.entries else { return };
        let life = identity.expires_at().since(now);
        if !life.is_zero() {
            entries.insert(token.into(), Entry { identity, life });
        }
    }

    /// Drops a token that counts no longer.
    pub fn forget(&self, token: &str) {
        if let Some(entries) = &self.entries {
            entries.invalidate(token);
        }
    }

    /// Drops every token whose key is no longer in `keys`. [`Self::get`] would not return them anyway; this frees their memory.
    pub fn retain(&self, keys: &KeySet) {
        let Some(entries) = &self.entries else { return };
        for (token, entry) in entries {
            if !keys.contains(entry.identity.key_id()) {
                entries.invalidate(&**token);
            }
        }
    }

    /// Memory that the entries take, in bytes, as it is counted against the limit. Lags behind by moments.
    pub fn weight(&self) -> u64 {
        self.entries.as_ref().map_or(0, Cache::weighted_size)
    }

    /// Brings the bookkeeping up to date, for tests.
    #[cfg(test)]
    fn settle(&self) {
        if let Some(entries) = &self.entries {
            entries.run_pending_tasks();
        }
    }
}

struct AtExpiry;

impl Expiry<Box<str>, Entry> for AtExpiry {
    #[expect(clippy::disallowed_types, reason = "moka's trait names the type; nothing here reads it")]
    fn expire_after_create(&self, _token: &Box<str>, entry: &Entry, _now: std::time::Instant) -> Option<Duration> {
        Some(entry.life)
    }

    #[expect(clippy::disallowed_types, reason = "moka's trait names the type; nothing here reads it")]
    fn expire_after_update(
        &self,
        _token: &Box<str>,
        entry: &Entry,
        _now: std::time::Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life)
    }
}

/// Hashes the end of a token only. There stands the signature, so tokens of one issuer differ there as they would in a
/// hash, and a hit costs the same for a token of 300 bytes and of 3000. Equality is still that of the whole token.
#[derive(Debug, Clone)]
struct TailState(RandomState);

impl TailState {
    fn new() -> Self {
        Self(RandomState::new())
    }
}

impl BuildHasher for TailState {
    type Hasher = TailHasher;

    fn build_hasher(&self) -> TailHasher {
        TailHasher(self.0.build_hasher())
    }
}

struct TailHasher(DefaultHasher);

impl TailHasher {
    /// 43 characters of base64url are 256 bits: the whole of an HS256 signature, half of an ES256 one.
    const TAIL_BYTES: usize = 43;
}

impl Hasher for TailHasher {
    fn write(&mut self, bytes: &[u8]) {
        let start = bytes.len().saturating_sub(Self::TAIL_BYTES);
        self.0.write(&bytes[start..]);
    }

    fn write_u8(&mut self, byte: u8) {
        self.0.write_u8(byte);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests;
