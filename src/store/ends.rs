//! The ends of sessions as a database tells them by itself.

use tokio::time::Instant;

use super::{SessionId, StoreError};
use crate::time::{Moment, UnixSeconds};

/// A change stream over the sessions. Belongs to one task, and asks the database at least once a second.
#[async_trait::async_trait]
pub trait EndStream: Send {
    /// What the database tells next; waits for it for up to 3 seconds.
    ///
    /// # Errors
    /// The stream is over. A new one of the same store goes on where this one broke off, if the database still can.
    async fn next(&mut self) -> Result<Told, StoreError>;
}

/// What a database told.
#[derive(Debug)]
pub struct Told {
    /// A session that has ended; `None`: no further one has.
    pub end: Option<SessionEnd>,
    /// Every session whose end the database had noted at this moment has been told, this one included. `None`: more may follow
    /// at once.
    pub complete_at: Option<Instant>,
}

/// The end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnd {
    /// Which.
    pub id: SessionId,
    /// When, by the clock of whoever ended it.
    pub at: UnixSeconds,
    /// When the database wrote it, by its own clock, if it says so.
    pub written_at: Option<Moment>,
}
