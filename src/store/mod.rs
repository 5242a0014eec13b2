//! What Tollgate keeps: the people who may log in, and its own signing keys.

use std::path::PathBuf;

use secrecy::SecretString;

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
#[async_trait::async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Whether the database answers. Used by `/readyz?verbose` and by the start-up check.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// Why the store did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("placeholder")]
pub struct StoreError;

/// Opens the store that the settings name. Must be called on the control runtime: the MongoDB driver's own tasks live on
/// the runtime that opened it.
pub async fn open(settings: &StoreSettings) -> Result<std::sync::Arc<dyn Store>, StoreError> {
    let _ = settings;
    unimplemented!()
}
