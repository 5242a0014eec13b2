//! Failed logins as the store counts them, for all gateways of a fleet. No name and no address is kept, only keyed hashes.

use super::StoreError;
use crate::time::UnixSeconds;

/// What failed logins are counted by: a keyed hash of a login, an address, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptKey(pub [u8; 16]);

/// What is known of a key. Without a record all times are zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// When the last of its failures will have been forgotten, if there are no more.
    pub owes_until: UnixSeconds,
    /// The last failure.
    pub failed_at: UnixSeconds,
    /// Until when a success counts for it.
    pub known_until: UnixSeconds,
}

/// A record whose last failure lies further ahead than this, in seconds, was written by a gateway whose clock is ahead, and is
/// worth nothing: believed, it would make people wait until the time has come.
pub const MAX_AHEAD_SECONDS: u64 = 60;

/// A failure to count for a key.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// For which.
    pub key: AttemptKey,
    /// Seconds until it is forgotten, after all before it have been.
    pub forget: u64,
    /// How far ahead of now `owes_until` may lie at most, in seconds.
    pub most: u64,
}

/// The part of a store that counts failed logins. Nothing in it is worth a wait for a majority of a replica set: what a failover
/// loses is counted anew.
#[async_trait::async_trait]
pub trait AttemptStore {
    /// What is known of these keys, in their order. One round trip.
    async fn attempts(&self, keys: &[AttemptKey]) -> Result<Vec<Attempts>, StoreError>;

    /// Counts a failure for each, atomically each. Those before it that lie more than [`MAX_AHEAD_SECONDS`] ahead of `now` are
    /// forgotten. One round trip.
    async fn count_failures(&self, failures: &[Failure], now: UnixSeconds) -> Result<(), StoreError>;

    /// Forgets the key's failures and notes until when its success counts.
    async fn note_success(&self, key: AttemptKey, known_until: UnixSeconds) -> Result<(), StoreError>;
}
