//! Who may log in: the account of a person, and the proof of its password.

/// How passwords are checked and hashed.
#[derive(Debug, Clone)]
pub struct PasswordSettings {
    /// How new hashes are made.
    pub new_hash: NewHash,
    /// What to do with a password over 72 bytes on a bcrypt hash.
    pub long_password: LongPassword,
    /// Threads that hash, at the lowest priority. 0: one per core.
    pub threads: usize,
    /// Logins that may wait for a thread; more are answered 503 `overloaded`. At least 1. Default 64.
    pub queue: usize,
}

/// The scheme of new hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewHash {
    /// `$2b$`, which an unmodified FastAPI application with passlib reads. Cost 10 to 16, default 12.
    Bcrypt {
        /// log2 of the number of rounds.
        cost: u32,
    },
    /// `$argon2id$` with 19 MiB, 2 passes, 1 lane (the OWASP minimum).
    Argon2id,
}

/// What to do with a password over 72 bytes on a bcrypt hash, which bcrypt itself cannot tell from its first 72.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongPassword {
    /// The login fails, in the time of a wrong password (default).
    Refuse,
    /// The first 72 bytes count, as in passlib 1.7.
    Truncate,
}

/// A person as the store knows them, without the password hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Stable identifier in text form; becomes `sub`.
    pub subject: String,
    /// The name that the person logs in with.
    pub login: String,
    /// Display name.
    pub name: Option<String>,
    /// E-mail address, unverified.
    pub email: Option<String>,
    /// Roles, in the store's order.
    pub roles: Vec<String>,
    /// Scopes, in the store's order.
    pub scopes: Vec<String>,
    /// Whether logging in is refused.
    pub disabled: bool,
}

/// Checks logins against the store.
#[derive(Debug)]
pub struct Accounts {}

/// Why a login failed. The client cannot tell the first group apart; the log can.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nobody has that login.
    #[error("no such user")]
    UnknownUser,
    /// Several people have that login.
    #[error("the login is ambiguous")]
    AmbiguousLogin,
    /// The password does not match.
    #[error("wrong password of `{subject}`")]
    WrongPassword {
        /// Whose.
        subject: String,
    },
    /// The account is disabled (whether or not the password matched).
    #[error("`{subject}` is disabled")]
    Disabled {
        /// Who.
        subject: String,
    },
    /// The stored document or hash cannot be used.
    #[error("the record of `{subject}` cannot be used: {reason}")]
    MalformedRecord {
        /// Whose.
        subject: String,
        /// What is wrong with it, never the hash itself.
        reason: String,
    },
    /// All hashing threads are busy and the queue is full.
    #[error("too many logins at once")]
    Overloaded {
        /// When to try again.
        retry_after: std::time::Duration,
    },
    /// The store did not answer.
    #[error("the store is unavailable")]
    Store(#[source] crate::store::StoreError),
}

impl Accounts {
    /// `store` must stay open as long as this lives. Starts the hashing threads.
    pub fn new(store: std::sync::Arc<dyn crate::store::Store>, settings: &PasswordSettings) -> Self {
        let _ = (store, settings);
        Self {}
    }

    /// The account of the person who knows this login and password. Takes the time of one hash check in every case but
    /// `Overloaded` and `Store`.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn log_in(&self, login: &str, password: &secrecy::SecretString) -> Result<Account, LoginError> {
        let _ = (login, password);
        unimplemented!()
    }
}

pub fn hash(_: &secrecy::SecretString, _: NewHash) -> crate::store::PasswordHash { unimplemented!() }
