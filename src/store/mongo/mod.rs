//! The store in MongoDB: people in a collection that may belong to another application, and our keys in our own.

mod accounts;
mod attempts;
mod call;
mod ends;
mod indexes;
mod keys;
mod mapping;
mod sessions;
mod survey;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use mongodb::bson::Document;
use mongodb::error::ErrorKind;
use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, Database};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use self::call::{Calls, Failures, WRITE_LIMIT};
use self::indexes::Indexes;
use self::mapping::Mapping;
use super::{
    Account, AttemptKey, AttemptStore, Attempts, Failure, Found, Grants, MalformedRecord, NewAccount, PasswordHash,
    Store, StoreError, UserMapping,
};
use crate::time::UnixSeconds;

/// How long the driver looks for a server that can serve the call. Its own default is 30 seconds. Less than
/// [`call::READ_LIMIT`], so that the log says that no server was found, and not only that time was over.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_millis(1600);
/// How long a connection, with TLS and authentication, may take to be made; also the limit of a heartbeat.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often each server is asked how it is, unless the URI says otherwise; the driver's own default is 10 seconds. A server
/// that has not answered for this and [`CONNECT_TIMEOUT`] counts as gone, and its connections are closed: so long, at most,
/// do logins wait on connections that a silent network has killed.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Connections to each server, unless the URI says otherwise.
const MAX_POOL_SIZE: u32 = 16;
/// Idle connections close after this, unless the URI says otherwise, before firewalls forget them.
const MAX_IDLE_TIME: Duration = Duration::from_secs(300);

/// Our collection of signing keys.
const KEYS_COLLECTION: &str = "tollgate_keys";
/// Our collection of sessions.
const SESSIONS_COLLECTION: &str = "tollgate_sessions";

/// An open connection to MongoDB. Connects when first used, and again whenever needed.
pub(super) struct Mongo {
    database: Database,
    users: Collection<Document>,
    keys: Collection<Document>,
    sessions: Collection<Document>,
    session_indexes: Indexes,
    attempts: Collection<Document>,
    attempt_indexes: Indexes,
    /// Keys that cannot be read, by `_id`, each of which was told.
    unreadable_keys: Mutex<BTreeSet<String>>,
    mapping: Mapping,
    calls: Calls,
    /// Of the change stream over `sessions`.
    bookmark: ends::Bookmark,
}

/// Says nothing of the client: its options hold the credentials.
impl std::fmt::Debug for Mongo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mongo")
            .field("database", &self.database.name())
            .field("users", &self.users.name())
            .finish_non_exhaustive()
    }
}

impl Mongo {
    /// Checks the settings and prepares the client, without contacting the server.
    pub(super) async fn open(uri: &SecretString, users: &UserMapping) -> Result<Self, StoreError> {
        let mapping = Mapping::new(users)?;
        let mut options = client_options(uri).await?;
        let Some(database) = options.default_database.clone() else {
            return bad_uri("it must name a database, as in `mongodb://host:27017/database`");
        };
        options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
        options.connect_timeout = Some(CONNECT_TIMEOUT);
        options.heartbeat_freq.get_or_insert(HEARTBEAT);
        options.max_pool_size.get_or_insert(MAX_POOL_SIZE);
        options.max_idle_time.get_or_insert(MAX_IDLE_TIME);
        options.app_name.get_or_insert_with(|| "tollgate".to_owned());
        options.write_concern =
            Some(WriteConcern::builder().w(Acknowledgment::Majority).w_timeout(WRITE_LIMIT).build());
        let (loss, losses) = watch::channel(());
        options.cmap_event_handler = Some(EventHandler::callback(move |event| {
            if let CmapEvent::PoolCleared(_) = event {
                // Nobody listens when the store has been closed.
                let _ = loss.send(());
            }
        }));
        let failures = Failures::default();
        let noted = failures.clone();
        options.sdam_event_handler = Some(EventHandler::callback(move |event| noted.note(event)));
        let client = match Client::with_options(options) {
            Ok(client) => client,
            Err(error) => {
                if let ErrorKind::InvalidTlsConfig { message, .. } = &*error.kind {
                    return bad_uri(&format!("its TLS options: {message}"));
                }
                return bad_uri("its options contradict each other, or name a file that cannot be read");
            }
        };
        let database = client.database(&database);
        // Keys are read where they are written: a secondary that lags would make a starting gateway miss them.
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let keys_options = CollectionOptions::builder().selection_criteria(primary.clone()).build();
        // In the journal, too: a server of its own would otherwise lose the refresh of the last moment when it is killed.
        let journaled =
            WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(WRITE_LIMIT).build();
        let sessions_options =
            CollectionOptions::builder().selection_criteria(primary).write_concern(journaled).build();
        Ok(Self {
            users: database.collection(&users.collection),
            // As the keys: what a secondary lags behind would be tried once more.
            attempts: database.collection_with_options(attempts::COLLECTION, keys_options.clone()),
            attempt_indexes: Indexes::of(attempts::COLLECTION),
            unreadable_keys: Mutex::default(),
            keys: database.collection_with_options(KEYS_COLLECTION, keys_options),
            sessions: database.collection_with_options(SESSIONS_COLLECTION, sessions_options),
            session_indexes: Indexes::of(SESSIONS_COLLECTION),
            database,
            mapping,
            calls: Calls::new(losses, failures),
            bookmark: ends::Bookmark::default(),
        })
    }
}

impl Mongo {
    /// What the database says of itself, for a person.
    pub(super) async fn survey(&self) -> Result<String, StoreError> {
        survey::survey(self).await
    }
}

async fn client_options(uri: &SecretString) -> Result<ClientOptions, StoreError> {
    let uri = uri.expose_secret();
    if uri.get(..12).is_some_and(|scheme| scheme.eq_ignore_ascii_case("mongodb+srv:")) {
        return bad_uri(
            "`mongodb+srv://` needs DNS support that this build does not have; list the servers as in \
             `mongodb://a:27017,b:27017/database?replicaSet=name&tls=true`",
        );
    }
    // The parser's message may quote parts of the URI, so it is not passed on.
    match ClientOptions::parse(uri).await {
        Ok(options) => Ok(options),
        Err(_) => bad_uri(
            "it is not a MongoDB URI; write `mongodb://user:password@host:27017/database?option=value`, with \
             `:/?#[]@%` in names and passwords percent-encoded",
        ),
    }
}

fn bad_uri<T>(reason: &str) -> Result<T, StoreError> {
    Err(StoreError::BadUri { reason: reason.to_owned() })
}

#[async_trait::async_trait]
impl Store for Mongo {
    async fn find_login(&self, login: &str) -> Result<Found, StoreError> {
        accounts::find(self, login).await
    }

    async fn find_subject(&self, subject: &str) -> Result<Found, StoreError> {
        accounts::find_subject(self, subject).await
    }

    async fn accounts(&self, skip: u64, limit: usize) -> Result<Vec<Result<Account, MalformedRecord>>, StoreError> {
        accounts::list(self, skip, limit).await
    }

    async fn add_account(&self, account: &NewAccount) -> Result<Account, StoreError> {
        accounts::add(self, account).await
    }

    async fn set_password(&self, login: &str, password: &PasswordHash) -> Result<(), StoreError> {
        accounts::set_password(self, login, password).await
    }

    async fn upgrade_password(&self, login: &str, old: &PasswordHash, new: &PasswordHash) -> Result<bool, StoreError> {
        accounts::upgrade_password(self, login, old, new).await
    }

    async fn set_disabled(&self, login: &str, disabled: bool) -> Result<(), StoreError> {
        accounts::set_disabled(self, login, disabled).await
    }

    async fn grant(&self, login: &str, grants: &Grants) -> Result<Account, StoreError> {
        accounts::change_grants(self, login, grants, accounts::Change::Grant).await
    }

    async fn revoke(&self, login: &str, grants: &Grants) -> Result<Account, StoreError> {
        accounts::change_grants(self, login, grants, accounts::Change::Revoke).await
    }

    async fn remove_account(&self, login: &str) -> Result<(), StoreError> {
        accounts::remove(self, login).await
    }
}

#[async_trait::async_trait]
impl AttemptStore for Mongo {
    async fn attempts(&self, keys: &[AttemptKey]) -> Result<Vec<Attempts>, StoreError> {
        attempts::read(self, keys).await
    }

    async fn count_failures(&self, failures: &[Failure], now: UnixSeconds) -> Result<(), StoreError> {
        attempts::count(self, failures, now).await
    }

    async fn note_success(&self, key: AttemptKey, known_until: UnixSeconds) -> Result<(), StoreError> {
        attempts::succeed(self, key, known_until).await
    }
}
