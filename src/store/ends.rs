//! Which sessions have ended: asked for, and told by a database that tells by itself.

use tokio::time::Instant;

use super::{SessionId, StoreError};
use crate::time::Moment;

/// The ends of sessions in a store.
#[async_trait::async_trait]
pub trait SessionEnds: Send + Sync {
    /// At most `limit` (1 to [`MAX_END_PAGE`]) of the sessions that ended after `place`, in the order of their ends. By an
    /// index. A row that cannot be read is passed over and does not hide the others.
    ///
    /// The times are those of whoever ended the session. A caller that asks for what is new goes back by as much as clocks
    /// may differ, and by the time that a write may take to be seen.
    async fn session_ends(&self, place: EndPlace, limit: usize) -> Result<EndPage, StoreError>;

    /// Ends of sessions from now on, as the database tells them, or from where the last stream of this store broke off.
    /// `None`: this database does not tell.
    async fn watch_session_ends(&self) -> Result<Option<Box<dyn EndStream>>, StoreError>;
}

/// A place in the order of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndPlace {
    /// When.
    pub at: Moment,
    /// Of those that ended at this very moment, after the session of this id. `None`: all of them.
    pub after: Option<SessionId>,
}

/// Sessions that have ended.
#[derive(Debug)]
pub struct EndPage {
    /// In the order of their ends.
    pub ends: Vec<SessionEnd>,
    /// Where to go on; `None`: there are no more.
    pub next: Option<EndPlace>,
}

/// The end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnd {
    /// Which.
    pub id: SessionId,
    /// When, by the clock of whoever ended it.
    pub at: Moment,
    /// When the database wrote it, by its own clock, if it says so.
    pub written_at: Option<Moment>,
}

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
    /// Every session whose end the database had noted at this moment has been told, but for `end`. `None`: more may follow at
    /// once.
    pub complete_at: Option<Instant>,
}

/// The most rows that a page is made of.
pub const MAX_END_PAGE: usize = 1000;
