//! The embedded store: one SQLite file, in write-ahead mode, so that the command line works on it while the gateway
//! serves.

mod accounts;
mod attempts;
mod ends;
mod file;
mod keys;
mod schema;
mod sessions;
pub(super) mod survey;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::time::UnixSeconds;

use super::{
    Account, AttemptKey, AttemptStore, Attempts, Failure, Found, Grants, MalformedRecord, NewAccount, PasswordHash,
    Store, StoreError,
};

/// An open SQLite store. Blocking calls run on the blocking threads of the runtime that opened it.
pub(super) struct Sqlite {
    inner: Arc<Inner>,
    runtime: Handle,
}

struct Inner {
    path: PathBuf,
    /// The only connection of this process that writes.
    writer: Mutex<Connection>,
    /// One place, for which writers wait in turn: not in SQLite's busy loop, not on a thread, and not for ever. While another
    /// program locks the file, each of them would else wait for all before it.
    writing: Arc<Semaphore>,
    /// Connections that only read, opened when needed and kept for the next reader.
    readers: Mutex<Vec<Connection>>,
    /// How they are opened.
    read_as: file::Use,
    /// Bounds the readers, and with them the blocking threads that they hold.
    reading: Arc<Semaphore>,
}

/// Readers at the same time; more wait.
const MAX_READERS: usize = 4;

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the file; makes it, its folder and its tables when missing.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let runtime = Handle::current();
        let path = path.to_owned();
        let inner = blocking(&runtime, move || {
            file::create(&path)?;
            let mut writer = file::connect(&path, file::Use::Write)?;
            schema::migrate(&mut writer)?;
            Ok(Arc::new(Inner {
                path,
                writer: Mutex::new(writer),
                writing: Arc::new(Semaphore::new(1)),
                readers: Mutex::new(Vec::new()),
                read_as: file::Use::Read,
                reading: Arc::new(Semaphore::new(MAX_READERS)),
            }))
        })
        .await?;
        Ok(Self { inner, runtime })
    }

    /// Opens the file if it is there and of the newest layout; every write then fails.
    pub(super) async fn open_to_look(path: &Path) -> Result<Self, StoreError> {
        let runtime = Handle::current();
        let path = path.to_owned();
        let inner = blocking(&runtime, move || {
            if !path.is_file() {
                return Err(StoreError::Missing { path });
            }
            let connection = file::connect(&path, file::Use::Look)?;
            schema::expect_newest(&connection)?;
            Ok(Arc::new(Inner {
                path,
                writer: Mutex::new(connection),
                writing: Arc::new(Semaphore::new(1)),
                readers: Mutex::new(Vec::new()),
                read_as: file::Use::Look,
                reading: Arc::new(Semaphore::new(MAX_READERS)),
            }))
        })
        .await?;
        Ok(Self { inner, runtime })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.inner.reading).acquire_owned().await.map_err(|_| ended())?;
        let inner = Arc::clone(&self.inner);
        blocking(&self.runtime, move || {
            // Held by the thread, not by the caller: a caller that leaves does not free a thread that still works.
            let _permit = permit;
            let kept = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => file::connect(&inner.path, inner.read_as)?,
            };
            let outcome = work(&connection);
            // A connection whose work failed may be the cause; the next reader opens a fresh one.
            if outcome.is_ok() {
                inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            outcome
        })
        .await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.place_to_write().await?;
        let inner = Arc::clone(&self.inner);
        blocking(&self.runtime, move || {
            let _place = place;
            // A panic inside rolls its transaction back, so the connection behind a poisoned lock is sound.
            let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            // Immediate: a deferred transaction that reads first cannot be upgraded once another process has written.
            let transaction = writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }
}

impl Sqlite {
    async fn place_to_write(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        match timeout(file::BUSY_TIMEOUT, Arc::clone(&self.inner.writing).acquire_owned()).await {
            Ok(place) => place.map_err(|_| ended()),
            Err(_) => Err(StoreError::Unavailable { reason: "others wait to write before this".to_owned() }),
        }
    }

    /// Empties the write-ahead file into the database. Not while another connection reads from it: that is no error, and the next
    /// call or the end of the last process does it.
    async fn checkpoint(&self) -> Result<(), StoreError> {
        let place = self.place_to_write().await?;
        let inner = Arc::clone(&self.inner);
        blocking(&self.runtime, move || {
            let _place = place;
            let writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(())
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    runtime.spawn_blocking(work).await.map_err(|_| ended())?
}

fn ended() -> StoreError {
    StoreError::Unavailable { reason: "the store is shutting down".to_owned() }
}

#[async_trait::async_trait]
impl Store for Sqlite {
    async fn find_login(&self, login: &str) -> Result<Found, StoreError> {
        let login = login.to_owned();
        self.read(move |connection| accounts::find(connection, &login)).await
    }

    async fn find_subject(&self, subject: &str) -> Result<Found, StoreError> {
        let subject = subject.to_owned();
        self.read(move |connection| accounts::find_subject(connection, &subject)).await
    }

    async fn accounts(&self, skip: u64, limit: usize) -> Result<Vec<Result<Account, MalformedRecord>>, StoreError> {
        self.read(move |connection| accounts::list(connection, skip, limit)).await
    }

    async fn add_account(&self, account: &NewAccount) -> Result<Account, StoreError> {
        let account = account.clone();
        self.write(move |transaction| accounts::add(transaction, account)).await
    }

    async fn set_password(&self, login: &str, password: &PasswordHash) -> Result<(), StoreError> {
        let (login, password) = (login.to_owned(), password.clone());
        self.write(move |transaction| accounts::set_password(transaction, &login, &password)).await
    }

    async fn upgrade_password(&self, login: &str, old: &PasswordHash, new: &PasswordHash) -> Result<bool, StoreError> {
        let (login, old, new) = (login.to_owned(), old.clone(), new.clone());
        self.write(move |transaction| accounts::upgrade_password(transaction, &login, &old, &new)).await
    }

    async fn set_disabled(&self, login: &str, disabled: bool) -> Result<(), StoreError> {
        let login = login.to_owned();
        self.write(move |transaction| accounts::set_disabled(transaction, &login, disabled)).await
    }

    async fn grant(&self, login: &str, grants: &Grants) -> Result<Account, StoreError> {
        let (login, grants) = (login.to_owned(), grants.clone());
        self.write(move |transaction| accounts::grant(transaction, &login, &grants)).await
    }

    async fn revoke(&self, login: &str, grants: &Grants) -> Result<Account, StoreError> {
        let (login, grants) = (login.to_owned(), grants.clone());
        self.write(move |transaction| accounts::revoke(transaction, &login, &grants)).await
    }

    async fn remove_account(&self, login: &str) -> Result<(), StoreError> {
        let login = login.to_owned();
        self.write(move |transaction| accounts::remove(transaction, &login)).await
    }
}

#[async_trait::async_trait]
impl AttemptStore for Sqlite {
    async fn attempts(&self, keys: &[AttemptKey]) -> Result<Vec<Attempts>, StoreError> {
        let keys = keys.to_vec();
        self.read(move |connection| attempts::read(connection, &keys)).await
    }

    async fn count_failures(&self, failures: &[Failure], now: UnixSeconds) -> Result<(), StoreError> {
        let failures = failures.to_vec();
        self.write(move |transaction| attempts::count(transaction, &failures, now)).await
    }

    async fn note_success(&self, key: AttemptKey, known_until: UnixSeconds) -> Result<(), StoreError> {
        self.write(move |transaction| attempts::succeed(transaction, key, known_until)).await
    }
}
