//! Calls to the MongoDB driver: each in a task of its own, with a time limit, and its failure in our words.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::store::StoreError;

/// How long a read may take, so that a login is answered within 2 seconds. The driver has no limit of its own once a server
/// is chosen.
pub(super) const READ_LIMIT: Duration = Duration::from_millis(1800);
/// How long a write may take, which waits until a majority of the replica set has it.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a call goes on that nobody waits for any more, unless its server is found to be gone before.
const ABANDON_AFTER: Duration = Duration::from_secs(30);
/// Calls under way at once; more wait within their own time limit.
const MAX_CALLS: usize = 128;

/// Code of the server for a value that a unique index already has.
pub(super) const DUPLICATE_KEY: i32 = 11000;
/// Code of the server for creating a collection that exists.
const NAMESPACE_EXISTS: i32 = 48;
/// Code of the server for making an index that exists with other options.
const INDEX_OPTIONS_CONFLICT: i32 = 85;
/// Codes of a server that is no primary, is about to be none, or is going down: NotWritablePrimary, NotPrimaryNoSecondaryOk,
/// PrimarySteppedDown, NotPrimaryOrSecondary, InterruptedDueToReplStateChange, ShutdownInProgress, InterruptedAtShutdown.
const NO_PRIMARY: [i32; 7] = [10107, 13435, 189, 13436, 11602, 91, 11600];

/// Runs calls on the runtime that owns the driver's own tasks.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    runtime: Handle,
    places: Arc<Semaphore>,
    /// Changes when the driver has found a server gone.
    losses: watch::Receiver<()>,
    last_failure: LastFailure,
}

/// Why a server was lost last, since a call succeeded. While the driver connects anew, a call only sees its own time limit.
#[derive(Debug, Clone, Default)]
pub(super) struct LastFailure(Arc<Mutex<Option<Error>>>);

impl LastFailure {
    pub(super) fn note(&self, error: Error) {
        self.set(Some(error));
    }

    fn set(&self, error: Option<Error>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    fn get(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Calls {
    /// Calls run on the runtime that this is called on. `losses` changes when the driver has found a server gone,
    /// `last_failure` tells why.
    pub(super) fn new(losses: watch::Receiver<()>, last_failure: LastFailure) -> Self {
        Self { runtime: Handle::current(), places: Arc::new(Semaphore::new(MAX_CALLS)), losses, last_failure }
    }

    /// Changes when the driver finds a server gone from now on.
    pub(super) fn losses(&self) -> watch::Receiver<()> {
        let mut losses = self.losses.clone();
        losses.mark_unchanged();
        losses
    }

    /// Awaits `call` for at most `limit`. The call goes on in its task when the limit, or the caller, is gone: dropping a
    /// driver's future half-way costs its connection, and a slow server would get a new one for each try. It is dropped
    /// after all when its server is gone, because connections that wait for an answer that cannot come would otherwise hold
    /// the whole pool when the server is long back; the driver does not interrupt them by itself.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, CallError> {
        let places = Arc::clone(&self.places);
        let runtime = self.runtime.clone();
        let mut losses = self.losses.clone();
        losses.mark_unchanged();
        let timed_out = || CallError::TimedOut { limit, last_failure: self.last_failure.get() };
        let work = async {
            let place = places.acquire_owned().await.map_err(|_| CallError::ShuttingDown)?;
            let task = runtime.spawn(async move {
                let _place = place;
                let mut call = std::pin::pin!(call);
                if let Ok(answer) = timeout(limit, &mut call).await {
                    return Some(answer);
                }
                tokio::select! {
                    answer = timeout(ABANDON_AFTER, call) => answer.ok(),
                    // Also one that happened before the limit was over.
                    _ = losses.changed() => None,
                }
            });
            match task.await {
                Ok(Some(Ok(answer))) => {
                    self.last_failure.set(None);
                    Ok(answer)
                }
                Ok(Some(Err(error))) => Err(CallError::Driver(error)),
                Ok(None) => Err(timed_out()),
                Err(_) => Err(CallError::ShuttingDown),
            }
        };
        timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out()))
    }
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum CallError {
    TimedOut { limit: Duration, last_failure: Option<Error> },
    ShuttingDown,
    Driver(Error),
}

impl CallError {
    /// Whether a unique index, or `_id`, already has the value.
    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Driver(error)
            if matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY))
    }

    /// Whether the index to make exists with other options.
    pub(super) fn is_other_index(&self) -> bool {
        matches!(self, Self::Driver(error)
            if matches!(&*error.kind, ErrorKind::Command(command) if command.code == INDEX_OPTIONS_CONFLICT))
    }

    /// Whether the collection to create exists.
    pub(super) fn is_existing_collection(&self) -> bool {
        matches!(self, Self::Driver(error)
            if matches!(&*error.kind, ErrorKind::Command(command) if command.code == NAMESPACE_EXISTS))
    }
}

/// Whether a document cannot be read.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_))
}

/// Only the kind of failure and the server's own code names: a driver's message may quote addresses, values or the URI.
impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        let error = match error {
            CallError::TimedOut { limit, last_failure } => {
                let no_access = last_failure.and_then(|error| no_access(&error.to_string()));
                return no_access
                    .unwrap_or_else(|| Self::Unavailable { reason: format!("no answer within {limit:?}") });
            }
            CallError::ShuttingDown => {
                return Self::Unavailable { reason: "the store is shutting down".to_owned() };
            }
            CallError::Driver(error) => error,
        };
        let unavailable = |reason: &str| Self::Unavailable { reason: reason.to_owned() };
        #[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open")]
        match &*error.kind {
            ErrorKind::Authentication { .. } => Self::NoAccess { reason: CREDENTIALS.to_owned() },
            ErrorKind::ServerSelection { message, .. } => why_no_server(message),
            ErrorKind::DnsResolve { .. } => unavailable("the host name cannot be resolved"),
            ErrorKind::Io(error) => Self::Unavailable { reason: format!("the connection failed ({})", error.kind()) },
            ErrorKind::ConnectionPoolCleared { .. } => unavailable("the connection was lost"),
            ErrorKind::InvalidResponse { .. } | ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_) => {
                unavailable("the server's answer cannot be read")
            }
            ErrorKind::IncompatibleServer { .. } => {
                unavailable("the server is too old; it must be MongoDB 4.4 or newer")
            }
            ErrorKind::Command(command) if NO_PRIMARY.contains(&command.code) => unavailable("there is no primary"),
            ErrorKind::Command(command) => Self::Refused { reason: format!("{} {}", command.code, command.code_name) },
            ErrorKind::Write(WriteFailure::WriteError(write)) if NO_PRIMARY.contains(&write.code) => {
                unavailable("there is no primary")
            }
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

/// What keeps the driver from a server, by the text in which it gathers what each of them did last. The text itself names
/// addresses, so that only its meaning is told.
fn why_no_server(message: &str) -> StoreError {
    let errors: String = message.split("Error:").skip(1).collect();
    no_access(&errors).unwrap_or_else(|| {
        let reason =
            "no suitable server can be reached; is the address right, is it `tls=true`, and is a primary elected?";
        StoreError::Unavailable { reason: reason.to_owned() }
    })
}

/// Whether the driver's words say that a server will not let us in, or is not to be trusted.
fn no_access(errors: &str) -> Option<StoreError> {
    let says = |words: &[&str]| words.iter().any(|word| errors.contains(word));
    let reason = if says(&["certificate", "Certificate"]) {
        "the server's TLS certificate is not trusted, or is for another host; see `tlsCAFile` of `store.url`"
    } else if says(&["Authentication", "SCRAM"]) {
        CREDENTIALS
    } else {
        return None;
    };
    Some(StoreError::NoAccess { reason: reason.to_owned() })
}

const CREDENTIALS: &str = "the server does not accept the credentials of `store.url`";
