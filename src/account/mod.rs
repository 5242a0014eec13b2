//! Who may log in: the account of a person, and the proof of its password.

mod change;
mod hash;
mod pace;
mod pool;
mod proven;
pub mod throttle;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use self::hash::Stored;
use self::pace::{Pace, Spent};
use self::pool::{HashingPool, NotRun};
use self::throttle::{Attempt, Judged, Throttle, TooSoon};
use self::upgrade::Upgrades;
use crate::audit::{self, Audit};
use crate::store::{Found, LoginRecord, MalformedRecord, PasswordHash, Patience, Ride, Store};

pub use crate::store::{Account, NewAccount, StoreError};
pub use change::ChangeError;
pub(crate) use hash::BCRYPT_BYTES;
pub use proven::Proven;

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
    /// Whether the hash of somebody who logs in is replaced when it is of another scheme than `new_hash`, or cheaper. Default
    /// false.
    pub upgrade: bool,
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
    /// `None`: everybody may try as often as the hashing threads allow.
    throttle: Option<Throttle>,
    upgrades_hashes: bool,
    upgrades: Upgrades,
    audit: Arc<Audit>,
}

/// Whether a password fits, or what is wrong with the hash, and what it took to find out.
type Checked = (Result<bool, &'static str>, Spent);

/// Why a password was not looked at.
#[derive(Debug)]
enum NotChecked {
    /// Too many failed before.
    TooSoon(TooSoon),
    /// There is no room on the threads.
    Overloaded { retry_after: Duration },
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
    /// The password does not match, or is longer than 1024 bytes.
    #[error("wrong password{}", of(subject.as_deref()))]
    WrongPassword {
        /// Whose; `None`: nobody was looked up, because the password was too long.
        subject: Option<String>,
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
    /// Too many logins failed before this one. No password was looked at.
    #[error("too many failed logins before ({})", reason.name())]
    Throttled {
        /// When to try again.
        retry_after: Duration,
        /// Whose failures.
        reason: audit::Throttle,
        /// Whose account it was for, if it is one's.
        subject: Option<String>,
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
            throttle: None,
            upgrades_hashes: settings.upgrade,
            upgrades: Upgrades::new(),
            audit: Arc::new(Audit::silent()),
        }
    }

    /// As these, but they wait for a store that does not answer, as long as it says.
    #[must_use]
    pub fn with_patience(mut self, patience: Arc<Patience>) -> Self {
        self.patience = patience;
        self
    }

    /// As these, but who fails too often has to wait.
    #[must_use]
    pub fn with_throttle(mut self, throttle: Option<Throttle>) -> Self {
        self.throttle = throttle;
        self
    }

    /// As these, but what they do by themselves is told to `audit`.
    #[must_use]
    pub fn with_audit(mut self, audit: Arc<Audit>) -> Self {
        self.audit = audit;
        self
    }

    /// Checks a password of nobody, to learn how long that takes. Whoever serves logins calls it first, so that already the
    /// first one that fails takes as long as the others.
    pub async fn learn_pace(&self) {
        // If there is no room, there are logins to learn from.
        let _ = self.check(Arc::clone(&self.nobody), &SecretString::from("nobody's"), None).await;
    }

    /// The account of the person who knows this login and password. A refusal takes the same time whatever it is for, but
    /// for `Throttled`, `Overloaded`, `Store`, and a password over 1024 bytes, whose refusals depend on the input alone, or on
    /// what came before. `Pace` says how far that goes.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn log_in(
        self: &Arc<Self>,
        login: &str,
        password: &SecretString,
        attempt: &Attempt<'_>,
    ) -> Result<Proven, LoginError> {
        if password.expose_secret().len() > MAX_CREDENTIAL_BYTES {
            return Err(LoginError::WrongPassword { subject: None });
        }
        let ride = self.patience.ride();
        let (found, judged) = tokio::join!(self.find(login, &ride), self.judge(login, attempt, &ride));
        let (found, mut judged) = (found?, judged?);
        if let (Some(judged), Found::One(record), Some(subject)) = (&mut judged, &found, attempt.session_of)
            && record.account.subject == subject
        {
            judged.trust_session();
        }
        self.prove(login, found, password, judged).await
    }

    /// The account that was found, if it may log in and the password is its own. Takes as long as [`Self::log_in`].
    async fn prove(
        self: &Arc<Self>,
        login: &str,
        found: Found,
        password: &SecretString,
        judged: Option<Judged>,
    ) -> Result<Proven, LoginError> {
        let judged = judged.map(Arc::new);
        let subject = match &found {
            Found::One(record) => Some(record.account.subject.clone()),
            Found::Nobody | Found::Several | Found::Malformed(_) => None,
        };
        let refused = |why: NotChecked| match why {
            NotChecked::TooSoon(TooSoon { retry_after, reason }) => {
                LoginError::Throttled { retry_after, reason, subject }
            }
            NotChecked::Overloaded { retry_after } => LoginError::Overloaded { retry_after },
        };
        // Before it takes a place in the queue.
        if let Err(early) = judged.as_deref().map_or(Ok(()), Judged::check) {
            return Err(refused(NotChecked::TooSoon(early)));
        }
        let (candidate, stored) = match candidate(found) {
            Ok((account, hash, stored)) => (Ok((account, hash)), Arc::new(stored)),
            Err(failure) => (Err(failure), Arc::clone(&self.nobody)),
        };
        let (matches, spent) = match self.check(stored, password, judged.clone()).await {
            Ok(checked) => checked,
            Err(why) => return Err(refused(why)),
        };
        let failure = match (candidate, matches) {
            (Ok((account, hash)), Ok(true)) if !account.disabled => {
                self.upgrade_later(login, &account, password, hash.clone());
                self.forgive_later(judged);
                return Ok(Proven { account, hash });
            }
            (Ok((Account { subject, disabled: true, .. }, _)), Ok(_)) => LoginError::Disabled { subject },
            (Ok((Account { subject, .. }, _)), Ok(_)) => LoginError::WrongPassword { subject: Some(subject) },
            (Ok((Account { subject, .. }, _)), Err(reason)) => unusable(subject, reason),
            (Err(failure), _) => failure,
        };
        let count = async {
            if let (Some(throttle), Some(judged)) = (&self.throttle, &judged) {
                throttle.count(judged).await;
            }
        };
        tokio::join!(tokio::time::sleep(self.pace.pause(spent.wall)), count);
        Err(failure)
    }

    async fn find(&self, login: &str, ride: &Ride) -> Result<Found, LoginError> {
        if login.len() > MAX_CREDENTIAL_BYTES {
            return Ok(Found::Nobody);
        }
        ride.out(|| self.store.find_login(login)).await.map_err(LoginError::Store)
    }

    /// What came before this login; `None` when nobody asks for it.
    async fn judge(&self, login: &str, attempt: &Attempt<'_>, ride: &Ride) -> Result<Option<Judged>, LoginError> {
        let Some(throttle) = &self.throttle else { return Ok(None) };
        let ticket = throttle.begin(login, attempt.address, attempt.now);
        ride.out(|| throttle.judge(ticket.clone())).await.map(Some).map_err(LoginError::Store)
    }

    /// Forgets the failures before a login that was right, without a wait for the store.
    fn forgive_later(self: &Arc<Self>, judged: Option<Arc<Judged>>) {
        let (accounts, Some(judged)) = (Arc::clone(self), judged) else { return };
        tokio::spawn(async move {
            if let Some(throttle) = &accounts.throttle {
                throttle.forgive(&judged).await;
            }
        });
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
        judged: Option<Arc<Judged>>,
    ) -> Result<Checked, NotChecked> {
        let work = stored.work(password.expose_secret());
        // The copy is wiped when the job is dropped, run or not.
        let (password, long_password) = (password.clone(), self.long_password);
        let is_nobody = Arc::ptr_eq(&stored, &self.nobody);
        let job = move || {
            // Of many guesses that came at once, those before this one may have failed by now.
            judged.as_deref().map_or(Ok(()), Judged::check)?;
            let (matches, spent) = Spent::measure(|| stored.verify(password.expose_secret(), long_password));
            if let Some(judged) = judged.filter(|_| is_nobody || matches != Ok(true)) {
                judged.failed();
            }
            Ok::<_, TooSoon>((matches, spent))
        };
        match self.pool.run(job).await {
            Ok(Ok((matches, spent))) => {
                self.pace.note(work, spent);
                Ok((matches, spent))
            }
            Ok(Err(too_soon)) => Err(NotChecked::TooSoon(too_soon)),
            Err(NotRun::Full { retry_after }) => Err(NotChecked::Overloaded { retry_after }),
            Err(NotRun::Panicked) => Ok((Err("made its check fail"), Spent::default())),
        }
    }
}

/// The account that a password could belong to, with its hash, or why there is none.
fn candidate(found: Found) -> Result<(Account, PasswordHash, Stored), LoginError> {
    match found {
        Found::One(LoginRecord { account, password }) => match Stored::parse(&password) {
            Ok(stored) => Ok((account, password, stored)),
            Err(reason) => Err(unusable(account.subject, reason)),
        },
        Found::Nobody => Err(LoginError::UnknownUser),
        Found::Several => Err(LoginError::AmbiguousLogin),
        Found::Malformed(MalformedRecord { subject, reason }) => Err(LoginError::MalformedRecord { subject, reason }),
    }
}

fn of(subject: Option<&str>) -> String {
    subject.map(|subject| format!(" of `{subject}`")).unwrap_or_default()
}

fn unusable(subject: String, reason: &str) -> LoginError {
    LoginError::MalformedRecord { subject, reason: format!("the password hash {reason}") }
}

#[cfg(test)]
mod tests;
