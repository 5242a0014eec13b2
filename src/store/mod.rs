//! What Tollgate keeps: the people who may log in, and its own signing keys.

mod attempt;
mod ends;
mod error;
mod key;
mod mongo;
mod patience;
mod record;
mod session;
mod sqlite;

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

pub use attempt::{AttemptKey, AttemptStore, Attempts, Failure, MAX_AHEAD_SECONDS};
pub use ends::{EndPage, EndPlace, EndStream, MAX_END_PAGE, SessionEnd, SessionEnds, Told};
pub use error::StoreError;
pub use key::{KeyStore, StoredKey};
pub use patience::{Patience, Ride};
pub use record::{Account, Found, Grants, LoginRecord, MAX_PAGE, MalformedRecord, NewAccount, PasswordHash};
pub use session::{
    EndMark, EndReason, Ended, Ending, MAX_SESSION_PAGE, NewSession, NotASessionId, Rotation, SeenFrom, SessionId,
    SessionRow, SessionStore,
};

/// Where the store is and how the people in it are laid out.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The database.
    pub location: StoreLocation,
    /// How an existing MongoDB collection maps to accounts. SQLite has a layout of its own and ignores this.
    pub users: UserMapping,
}

/// The database that `store.url` names.
#[derive(Debug, Clone)]
pub enum StoreLocation {
    /// The embedded SQLite file; its folder is created when missing.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
    /// A MongoDB deployment, by the driver's whole URI, database name included.
    Mongo {
        /// May hold a password, so it is secret as a whole.
        uri: SecretString,
    },
}

/// Which collection and which fields hold the people.
#[derive(Debug, Clone)]
pub struct UserMapping {
    /// Collection name, taken literally. Default `users`.
    pub collection: String,
    /// Extra condition that a document must fulfil, as MongoDB extended JSON. Empty: none.
    pub filter: serde_json::Map<String, serde_json::Value>,
    /// Field names; a dot reaches into a sub-document.
    pub fields: UserFields,
}

/// The field names of a user document. `None`: the collection has no such field.
#[derive(Debug, Clone)]
pub struct UserFields {
    /// A person logs in with the value of any of these. Never empty. Default `username`, `email`.
    pub login: Vec<String>,
    /// The password hash. Default `password`.
    pub password: String,
    /// What becomes `sub`. Default `_id`; any BSON type that has one stable text form.
    pub subject: String,
    /// Display name. Default `name`.
    pub name: Option<String>,
    /// Default `email`.
    pub email: Option<String>,
    /// An array of strings, or one string separated by spaces. Default `roles`.
    pub roles: Option<String>,
    /// As `roles`. Default `scopes`.
    pub scopes: Option<String>,
    /// A boolean; true refuses the login. Default `disabled`.
    pub disabled: Option<String>,
}

/// The database, in our words.
///
/// Every call ends within a time limit of its own (1.8 seconds for reads and 10 for writes in MongoDB; in SQLite 5 seconds of
/// waiting for other writers of this process, and 5 for those of others). Logins are compared byte for byte: no case folding,
/// no trimming.
#[async_trait::async_trait]
pub trait Store:
    AttemptStore + KeyStore + SessionStore + SessionEnds + Send + Sync + std::fmt::Debug + 'static
{
    /// The person whose login is exactly `login`, with the password hash.
    async fn find_login(&self, login: &str) -> Result<Found, StoreError>;

    /// The person whose subject is exactly `subject`, as the last write left it. By an index where the subject has one.
    async fn find_subject(&self, subject: &str) -> Result<Found, StoreError>;

    /// At most `limit` accounts (and never more than [`MAX_PAGE`]) in a stable order, after the first `skip`. An empty
    /// answer is the end. Accounts that come or go between two pages may be missed or seen twice. A record that cannot be
    /// read does not hide the others.
    async fn accounts(&self, skip: u64, limit: usize) -> Result<Vec<Result<Account, MalformedRecord>>, StoreError>;

    /// Adds an account and returns it with its new subject.
    ///
    /// SQLite keeps logins unique by constraint. MongoDB keeps them unique by looking first, and by a unique index only
    /// where Tollgate made the collection itself: in somebody else's collection two additions of the same login at the
    /// same instant can both succeed, and the login is then refused as ambiguous.
    ///
    /// # Errors
    /// [`StoreError::LoginTaken`] if anybody can log in with the new login or the new e-mail address.
    async fn add_account(&self, account: &NewAccount) -> Result<Account, StoreError>;

    /// Replaces the password hash.
    async fn set_password(&self, login: &str, password: &PasswordHash) -> Result<(), StoreError>;

    /// Puts a new hash in the place of `old`, which the account with this login had a moment ago, if it still has it. Touches
    /// nothing else. False: the password is another by now.
    async fn upgrade_password(&self, login: &str, old: &PasswordHash, new: &PasswordHash) -> Result<bool, StoreError>;

    /// Refuses (`true`) or allows (`false`) logins.
    async fn set_disabled(&self, login: &str, disabled: bool) -> Result<(), StoreError>;

    /// Adds the roles and scopes that the account does not have yet, and returns the account after it.
    async fn grant(&self, login: &str, grants: &Grants) -> Result<Account, StoreError>;

    /// Takes away the roles and scopes that the account has, and returns the account after it.
    async fn revoke(&self, login: &str, grants: &Grants) -> Result<Account, StoreError>;

    /// Removes the account.
    async fn remove_account(&self, login: &str) -> Result<(), StoreError>;
}

/// Opens the store that the settings name. Must be called on the control runtime: the tasks of the store live on the
/// runtime that opened it. MongoDB is not contacted here, so that a gateway starts while its database is down.
///
/// # Errors
/// Settings that cannot work, or an SQLite file that cannot be opened.
pub async fn open(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    match &settings.location {
        StoreLocation::Sqlite { path } => Ok(Arc::new(sqlite::Sqlite::open(path).await?)),
        StoreLocation::Mongo { uri } => Ok(Arc::new(mongo::Mongo::open(uri, &settings.users).await?)),
    }
}

/// As [`open`], for commands that only look: makes no file and changes none, and whatever writes fails in SQLite.
///
/// # Errors
/// As [`open`]; also when there is no SQLite file yet, or one of an older layout.
pub async fn open_to_look(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    match &settings.location {
        StoreLocation::Sqlite { path } => Ok(Arc::new(sqlite::Sqlite::open_to_look(path).await?)),
        StoreLocation::Mongo { uri } => Ok(Arc::new(mongo::Mongo::open(uri, &settings.users).await?)),
    }
}

/// Connects to the store that the settings name, reads what logins and starts read, and says in words what is there, without
/// addresses or credentials. Makes and changes nothing.
///
/// # Errors
/// Settings that cannot work, or a database that cannot be reached, read or, for SQLite, written.
pub async fn survey(settings: &StoreSettings) -> Result<String, StoreError> {
    match &settings.location {
        StoreLocation::Sqlite { path } => sqlite::survey::survey(path).await,
        StoreLocation::Mongo { uri } => mongo::Mongo::open(uri, &settings.users).await?.survey().await,
    }
}
