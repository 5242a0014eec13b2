//! Who may log in: the account of a person, and the proof of its password.

mod change;
mod hash;
mod pace;
mod pool;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use self::hash::Stored;
use self::pace::{Pace, Spent};
use self::pool::{HashingPool, NotRun};
use crate::store::{Found, LoginRecord, MalformedRecord, PasswordHash, Patience, Store};

pub use crate::store::{Account, NewAccount, StoreError};
pub use change::ChangeError;

/// The longest password and the longest login, in bytes. Longer ones are refused before any work.
pub const MAX_CREDENTIAL_BYTES: usize = 1024;

/// How passwords are checked and hashed.
#[derive(Debug, Clone)]
pub struct PasswordSettings {
    /// How new hashes are made.
    pub new_hash: NewHash,
    /// What to do with a password over 72 bytes on a bcrypt hash.
    pub long_password: LongPassword,
    /// Threads that hash. 0: half of the cores, at least one.
    pub threads: usize,
    /// Logins that may wait for a thread; more are answered 503 `overloaded`. At least 1. Default 64.
    pub queue: usize,
    /// Whom the threads give way to.
    pub priority: Priority,
}

/// Whom the hashing threads give way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Everybody (default): forwarding does not notice a storm of logins, and logins take what is left of the cores.
    Idle,
    /// They get about a tenth of what an ordinary thread gets, so that logins go on where other programs leave no core idle.
    Low,
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

/// Checks logins against the store.
#[derive(Debug)]
pub struct Accounts {
    store: Arc<dyn Store>,
    patience: Arc<Patience>,
    pool: HashingPool,
    new_hash: NewHash,
    long_password: LongPassword,
    /// A hash that no password fits, checked when there is none of the person's own, so that it takes as long.
    nobody: Arc<Stored>,
    pace: Pace,
}

/// Why a login failed. The client cannot tell the first group apart; the log can.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nobody has that login.
    #[error("no such user")]
    UnknownUser,
    /// Several people have that login.
    #[error("the login is ambiguous")]
    AmbiguousLogin,
    /// The password does not match, or is longer than 1024 bytes (then nobody was looked up and `subject` is `?`).
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
        retry_after: Duration,
    },
    /// The store did not answer.
    #[error("the store is unavailable")]
    Store(#[source] StoreError),
}

/// Why a new password was not hashed.
#[derive(Debug, thiserror::Error)]
pub enum NewPasswordError {
    /// No characters.
    #[error("the password is empty; choose one")]
    Empty,
    /// Over [`MAX_CREDENTIAL_BYTES`].
    #[error("the password is longer than {MAX_CREDENTIAL_BYTES} bytes; choose a shorter one")]
    TooLong,
    /// Over the 72 bytes that bcrypt reads.
    #[error("bcrypt reads only the first 72 bytes of a password; choose a shorter one, or `scheme = \"argon2id\"`")]
    TooLongForBcrypt,
    /// Contains NUL, at which some programs stop reading.
    #[error("the password contains a NUL character; choose one without")]
    Nul,
    /// The hashing threads are busy; try again.
    #[error("too many passwords are being checked at once; try again")]
    Overloaded,
    /// The system gave no random salt or no memory.
    #[error("the password cannot be hashed: the system lacks randomness or memory")]
    System,
}

impl Accounts {
    /// `store` must stay open as long as this lives. Starts the hashing threads, which end when this is dropped.
    pub fn new(store: Arc<dyn Store>, settings: &PasswordSettings) -> Self {
        let nobody = hash::of_nobody(settings.new_hash);
        Self {
            store,
            patience: Patience::new(Duration::ZERO),
            pool: HashingPool::start(settings.threads, settings.queue, settings.priority),
            new_hash: settings.new_hash,
            long_password: settings.long_password,
            pace: Pace::new(nobody.work("")),
            nobody: Arc::new(nobody),
        }
    }

    /// Waits for a store that does not answer, as long as it says, where nothing else would be waited for.
    #[must_use]
    pub fn with_patience(self, patience: Arc<Patience>) -> Self {
        Self { patience, ..self }
    }

    /// Checks a password of nobody, to learn how long that takes. Whoever serves logins calls it first, so that already the
    /// first one that fails takes as long as the others.
    pub async fn learn_pace(&self) {
        // If there is no room, there are logins to learn from.
        let _ = self.check(Arc::clone(&self.nobody), &SecretString::from("nobody's")).await;
    }

    /// The account of the person who knows this login and password. A refusal takes the same time whatever it is for, but
    /// for `Overloaded`, `Store`, and a password over 1024 bytes, whose refusal depends on the input alone. `Pace` says how
    /// far that goes.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn log_in(&self, login: &str, password: &SecretString) -> Result<Account, LoginError> {
        if password.expose_secret().len() > MAX_CREDENTIAL_BYTES {
            return Err(LoginError::WrongPassword { subject: "?".to_owned() });
        }
        let found = if login.len() > MAX_CREDENTIAL_BYTES {
            Found::Nobody
        } else {
            self.patience.ride().out(|| self.store.find_login(login)).await.map_err(LoginError::Store)?
        };
        self.prove(found, password).await
    }

    /// The account that was found, if it may log in and the password is its own. Takes as long as [`Self::log_in`].
    async fn prove(&self, found: Found, password: &SecretString) -> Result<Account, LoginError> {
        let (candidate, stored) = match candidate(found) {
            Ok((account, stored)) => (Ok(account), Arc::new(stored)),
            Err(failure) => (Err(failure), Arc::clone(&self.nobody)),
        };
        let (matches, spent) = self.check(stored, password).await?;
        let failure = match (candidate, matches) {
            (Ok(account), Ok(true)) if !account.disabled => return Ok(account),
            (Ok(Account { subject, disabled: true, .. }), Ok(_)) => LoginError::Disabled { subject },
            (Ok(Account { subject, .. }), Ok(_)) => LoginError::WrongPassword { subject },
            (Ok(Account { subject, .. }), Err(reason)) => unusable(subject, reason),
            (Err(failure), _) => failure,
        };
        tokio::time::sleep(self.pace.pause(spent.wall)).await;
        Err(failure)
    }

    /// Hashes a new password with the configured scheme, on the hashing threads.
    ///
    /// # Errors
    /// A password that must not be set, or no room on the threads.
    pub async fn hash_password(&self, password: &SecretString) -> Result<PasswordHash, NewPasswordError> {
        let scheme = self.new_hash;
        hash::check_new(password.expose_secret(), scheme)?;
        let password = password.clone();
        match self.pool.run(move || hash::make(password.expose_secret(), scheme)).await {
            Ok(made) => made,
            Err(NotRun::Full { .. }) => Err(NewPasswordError::Overloaded),
            Err(NotRun::Panicked) => Err(NewPasswordError::System),
        }
    }

    /// Whether a new password may be set, which takes no time to see.
    fn check_new_password(&self, password: &SecretString) -> Result<(), NewPasswordError> {
        hash::check_new(password.expose_secret(), self.new_hash)
    }

    /// Whether the password is the one of the hash, or what is wrong with the hash, and the time that it took.
    async fn check(
        &self,
        stored: Arc<Stored>,
        password: &SecretString,
    ) -> Result<(Result<bool, &'static str>, Spent), LoginError> {
        let work = stored.work(password.expose_secret());
        // The copy is wiped when the job is dropped, run or not.
        let (password, long_password) = (password.clone(), self.long_password);
        let job = move || Spent::measure(|| stored.verify(password.expose_secret(), long_password));
        match self.pool.run(job).await {
            Ok((matches, spent)) => {
                self.pace.note(work, spent);
                Ok((matches, spent))
            }
            Err(NotRun::Full { retry_after }) => Err(LoginError::Overloaded { retry_after }),
            Err(NotRun::Panicked) => Ok((Err("made its check fail"), Spent::default())),
        }
    }
}

/// The account that a password could belong to, with its hash, or why there is none.
fn candidate(found: Found) -> Result<(Account, Stored), LoginError> {
    match found {
        Found::One(LoginRecord { account, password }) => match Stored::parse(&password) {
            Ok(stored) => Ok((account, stored)),
            Err(reason) => Err(unusable(account.subject, reason)),
        },
        Found::Nobody => Err(LoginError::UnknownUser),
        Found::Several => Err(LoginError::AmbiguousLogin),
        Found::Malformed(MalformedRecord { subject, reason }) => Err(LoginError::MalformedRecord { subject, reason }),
    }
}

fn unusable(subject: String, reason: &str) -> LoginError {
    LoginError::MalformedRecord { subject, reason: format!("the password hash {reason}") }
}

#[cfg(test)]
mod tests;
