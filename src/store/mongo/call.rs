//! Calls to the MongoDB driver: each in a task of its own, with a time limit, and its failure in our words.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::store::StoreError;

/// How long a read may take. The driver has no limit of its own once a server is chosen.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(2);
/// How long a write may take, which waits until a majority of the replica set has it.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// When a call that nobody waits for any more is dropped after all, so that a server that never answers cannot hold
/// its task and its place for ever. Dropping a driver's future costs its connection, which is the lesser evil then.
const ABANDON_AFTER: Duration = Duration::from_secs(30);
/// Calls under way at once; more wait within their own time limit.
const MAX_CALLS: usize = 128;

/// Code of the server for a value that a unique index already has.
const DUPLICATE_KEY: i32 = 11000;
/// Code of the server for creating a collection that exists.
const NAMESPACE_EXISTS: i32 = 48;

/// Runs calls on the runtime that owns the driver's own tasks.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    runtime: Handle,
    places: Arc<Semaphore>,
}

impl Calls {
    /// Calls run on the runtime that this is called on.
    pub(super) fn new() -> Self {
        Self { runtime: Handle::current(), places: Arc::new(Semaphore::new(MAX_CALLS)) }
    }

    /// Awaits `call` for at most `limit`. The call goes on in its task when the limit, or the caller, is gone: dropping
    /// a driver's future half-way is discouraged.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, CallError> {
        let places = Arc::clone(&self.places);
        let runtime = self.runtime.clone();
        let work = async move {
            let place = places.acquire_owned().await.map_err(|_| CallError::ShuttingDown)?;
            let task = runtime.spawn(async move {
                let _place = place;
                timeout(ABANDON_AFTER, call).await
            });
            match task.await {
                Ok(Ok(answer)) => answer.map_err(CallError::Driver),
                Ok(Err(_)) => Err(CallError::TimedOut { limit: ABANDON_AFTER }),
                Err(_) => Err(CallError::ShuttingDown),
            }
        };
        timeout(limit, work).await.unwrap_or(Err(CallError::TimedOut { limit }))
    }
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum CallError {
    TimedOut { limit: Duration },
    ShuttingDown,
    Driver(Error),
}

impl CallError {
    /// Whether a unique index, or `_id`, already has the value.
    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Driver(error)
            if matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY))
    }

    /// Whether the collection to create exists.
    pub(super) fn is_existing_collection(&self) -> bool {
        matches!(self, Self::Driver(error)
            if matches!(&*error.kind, ErrorKind::Command(command) if command.code == NAMESPACE_EXISTS))
    }

    /// Whether the server answered with a document that cannot be read.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Driver(error)
            if matches!(&*error.kind, ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_)))
    }
}

/// Only the kind of failure and the server's own code names: a driver's message may quote addresses, values or the URI.
impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        let error = match error {
            CallError::TimedOut { limit } => {
                return Self::Unavailable { reason: format!("no answer within {} s", limit.as_secs()) };
            }
            CallError::ShuttingDown => {
                return Self::Unavailable { reason: "the store is shutting down".to_owned() };
            }
            CallError::Driver(error) => error,
        };
        let unavailable = |reason: &str| Self::Unavailable { reason: reason.to_owned() };
        #[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open")]
        match &*error.kind {
            ErrorKind::Authentication { .. } => {
                unavailable("the server does not accept the credentials of `store.url`")
            }
            ErrorKind::ServerSelection { .. } => {
                unavailable("no suitable server can be reached; is the address right, and a primary elected?")
            }
            ErrorKind::DnsResolve { .. } => unavailable("the host name cannot be resolved"),
            ErrorKind::Io(error) => Self::Unavailable { reason: format!("the connection failed ({})", error.kind()) },
            ErrorKind::ConnectionPoolCleared { .. } => unavailable("the connection was lost"),
            ErrorKind::InvalidResponse { .. } | ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_) => {
                unavailable("the server's answer cannot be read")
            }
            ErrorKind::IncompatibleServer { .. } => {
                unavailable("the server is too old; it must be MongoDB 4.4 or newer")
            }
            ErrorKind::Command(command) => Self::Refused { reason: format!("{} {}", command.code, command.code_name) },
            ErrorKind::Write(WriteFailure::WriteError(write)) => Self::Refused {
                reason: format!("{} {}", write.code, write.code_name.as_deref().unwrap_or("write error")),
            },
            ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => Self::Unavailable {
                reason: format!("a majority of the servers did not confirm the write ({})", concern.code_name),
            },
            _ => unavailable("the driver failed"),
        }
    }
}
