//! Calls to the MongoDB driver: each in a task of its own, with a time limit, and its failure in our words.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, WriteFailure};
use mongodb::event::sdam::SdamEvent;
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
/// Codes of a server that did not come to it this time: HostUnreachable, HostNotFound, NetworkTimeout, SocketException,
/// ExceededTimeLimit, ReadConcernMajorityNotAvailableYet, FailedToSatisfyReadPreference, MaxTimeMSExpired. The driver tries most of
/// them once more by itself.
const IN_PASSING: [i32; 8] = [6, 7, 89, 9001, 262, 134, 133, 50];

/// Runs calls on the runtime that owns the driver's own tasks.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    runtime: Handle,
    places: Arc<Semaphore>,
    /// Changes when the driver has found a server gone.
    losses: watch::Receiver<()>,
    failures: Failures,
}

/// Of each server why it was lost last, since a call succeeded. While the driver connects anew, a call only sees its own time
/// limit.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures(Arc<Mutex<BTreeMap<String, Option<String>>>>);

impl Failures {
    /// Notes what the driver tells of its servers.
    pub(super) fn note(&self, event: SdamEvent) {
        let mut servers = self.lock();
        #[expect(clippy::wildcard_enum_match_arm, reason = "the driver's enum is open, and most of it does not matter")]
        match event {
            SdamEvent::ServerOpening(opening) => {
                servers.entry(opening.address.to_string()).or_default();
            }
            SdamEvent::ServerClosed(closed) => {
                servers.remove(&closed.address.to_string());
            }
            SdamEvent::ServerDescriptionChanged(change) => {
                if let Some(error) = change.new_description.error() {
                    servers.insert(change.address.to_string(), Some(error.to_string()));
                }
            }
            _ => {}
        }
    }

    fn forget(&self) {
        self.lock().values_mut().for_each(|error| *error = None);
    }

    fn no_access(&self) -> Option<StoreError> {
        no_access(self.lock().values().map(Option::as_deref))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// Calls run on the runtime that this is called on. `losses` changes when the driver has found a server gone,
    /// `failures` tells why.
    pub(super) fn new(losses: watch::Receiver<()>, failures: Failures) -> Self {
        Self { runtime: Handle::current(), places: Arc::new(Semaphore::new(MAX_CALLS)), losses, failures }
    }

    /// Where tasks of the store run.
    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
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
        let timed_out = || CallError::TimedOut { limit, no_access: self.failures.no_access() };
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
                    self.failures.forget();
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
    TimedOut { limit: Duration, no_access: Option<StoreError> },
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
            CallError::TimedOut { limit, no_access } => {
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
            ErrorKind::Command(command) => match refused(command.code, &command.code_name) {
                Self::Refused { reason } if is_to_be_tried_again(&error) => Self::Unavailable { reason },
                told => told,
            },
            ErrorKind::Write(WriteFailure::WriteError(write)) => {
                refused(write.code, write.code_name.as_deref().unwrap_or("write error"))
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => Self::Unavailable {
                reason: format!("a majority of the servers did not confirm the write ({})", concern.code_name),
            },
            _ => unavailable("the driver failed"),
        }
    }
}

/// Whether server or driver say that it passes.
fn is_to_be_tried_again(error: &Error) -> bool {
    [RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR].iter().any(|label| error.contains_label(label))
}

/// That a server said no.
pub(super) fn refused(code: i32, name: &str) -> StoreError {
    if NO_PRIMARY.contains(&code) {
        StoreError::Unavailable { reason: "there is no primary".to_owned() }
    } else if IN_PASSING.contains(&code) {
        StoreError::Unavailable { reason: format!("{code} {name}") }
    } else {
        StoreError::Refused { reason: format!("{code} {name}") }
    }
}

/// What keeps the driver from a server, by the text in which it gathers what each of them did last. The text itself names
/// addresses, so that only its meaning is told.
fn why_no_server(message: &str) -> StoreError {
    let servers = message.split("{ Address: ").skip(1);
    no_access(servers.map(|server| server.split_once(", Error: ").map(|(_, error)| error))).unwrap_or_else(|| {
        let reason =
            "no suitable server can be reached; is the address right, is it `tls=true`, and is a primary elected?";
        StoreError::Unavailable { reason: reason.to_owned() }
    })
}

/// Whether the driver's words of each server say that it will not let us in, or is not to be trusted. One that is away, or of which
/// nothing is known, may let us in when it is back, so that all of them must.
fn no_access<'a>(mut servers: impl Iterator<Item = Option<&'a str>>) -> Option<StoreError> {
    let first = why_no_access(servers.next()??)?;
    let all = servers.all(|error| error.and_then(why_no_access).is_some());
    all.then(|| StoreError::NoAccess { reason: first.to_owned() })
}

fn why_no_access(error: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if says(&["certificate", "Certificate"]) {
        Some(CERTIFICATE)
    } else if says(&["Authentication", "SCRAM"]) {
        Some(CREDENTIALS)
    } else {
        None
    }
}

const CERTIFICATE: &str =
    "the server's TLS certificate is not trusted, or is for another host; see `tlsCAFile` of `store.url`";
const CREDENTIALS: &str = "the server does not accept the credentials of `store.url`";

#[cfg(test)]
mod tests {
    use super::*;

    const UNTRUSTED: &str = "Kind: I/O error: invalid peer certificate: UnknownIssuer, labels: {}";
    const NO_PASSWORD: &str = "Kind: SCRAM failure: Authentication failed., labels: {}";
    const AWAY: &str = "Kind: I/O error: Connection refused (os error 111), labels: {}";

    /// What the driver says when none of these servers could be chosen.
    fn message(servers: &[Option<&str>]) -> String {
        let each = |error: &Option<&str>| match error {
            Some(error) => format!("{{ Address: db:27017, Type: Unknown, Error: {error} }}"),
            None => "{ Address: db:27017, Type: RsSecondary, Average RTT: 1ms, Replica Set Name: rs0 }".to_owned(),
        };
        let servers: Vec<String> = servers.iter().map(each).collect();
        format!("No available servers. Topology: {{ Type: ReplicaSetNoPrimary, Servers: [ {} ] }}", servers.join(", "))
    }

    /// One member with a bad certificate, or one that does not know us yet, ends no patience while others elect a primary.
    #[test]
    fn only_when_every_server_says_so_are_we_not_let_in() {
        for (servers, expected) in [
            (vec![Some(UNTRUSTED)], Some(CERTIFICATE)),
            (vec![Some(NO_PASSWORD), Some(NO_PASSWORD)], Some(CREDENTIALS)),
            (vec![Some(NO_PASSWORD), Some(UNTRUSTED)], Some(CREDENTIALS)),
            (vec![Some(UNTRUSTED), Some(AWAY), Some(AWAY)], None),
            (vec![Some(AWAY), Some(NO_PASSWORD)], None),
            (vec![Some(UNTRUSTED), None], None),
            (vec![None, Some(NO_PASSWORD)], None),
            (vec![Some(AWAY)], None),
            (vec![], None),
        ] {
            let told = why_no_server(&message(&servers));
            match (&told, expected) {
                (StoreError::NoAccess { reason }, Some(expected)) => assert_eq!(reason, expected),
                (StoreError::Unavailable { .. }, None) => {}
                _ => panic!("{servers:?}: {told}"),
            }
            let noted = no_access(servers.iter().copied());
            assert_eq!(noted.is_some(), expected.is_some(), "{servers:?}");
        }
    }

    #[test]
    fn what_a_server_says_in_passing_is_an_outage_and_a_right_that_is_missing_is_none() {
        for code in NO_PRIMARY.into_iter().chain(IN_PASSING) {
            assert!(refused(code, "Name").is_outage(), "{code}");
        }
        let error = refused(13, "Unauthorized");
        assert!(!error.is_outage());
        assert_eq!(error.to_string(), "the database refused: 13 Unauthorized");
    }
}
