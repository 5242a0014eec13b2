//! A real store that a test makes sick: calls that change a session fail before they reach it, or after it has done them and before
//! that is told. Everything else passes.

#![expect(clippy::unwrap_used, reason = "a lock that is poisoned is a failed test")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tollgate::store::{
    Account, AttemptKey, AttemptStore, Attempts, EndPage, EndPlace, EndStream, Ending, Failure, Found, Grants,
    KeyStore, MalformedRecord, NewAccount, NewSession, PasswordHash, Rotation, SessionEnds, SessionId, SessionRow,
    SessionStore, Store, StoreError, StoredKey,
};
use tollgate::time::UnixSeconds;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not reach the store.
    Before,
    /// The store does it, and nobody hears of that.
    After,
}

/// How many calls have a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sick {
    Never,
    Once(Fault),
    Always(Fault),
}

#[derive(Debug)]
pub(crate) struct SickStore {
    inner: Arc<dyn Store>,
    writing: Mutex<Sick>,
    reading: Mutex<Sick>,
    /// How often the grace was to be renewed, and how often it was.
    renewals: watch::Sender<(usize, usize)>,
    /// One permit, without which no grace is renewed.
    renewing: Semaphore,
}

impl SickStore {
    pub(crate) fn over(inner: &Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            writing: Mutex::new(Sick::Never),
            reading: Mutex::new(Sick::Never),
            renewals: watch::channel((0, 0)).0,
            renewing: Semaphore::new(1),
        })
    }

    /// From now on, of what changes one session.
    pub(crate) fn writing(&self, sick: Sick) {
        *self.writing.lock().unwrap() = sick;
    }

    /// From now on, of what reads one session.
    pub(crate) fn reading(&self, sick: Sick) {
        *self.reading.lock().unwrap() = sick;
    }

    /// No grace is renewed while this is held.
    pub(crate) async fn hold_renewals(&self) -> SemaphorePermit<'_> {
        self.renewing.acquire().await.unwrap()
    }

    /// Until a grace was renewed.
    pub(crate) async fn renewed(&self) {
        self.renewals.subscribe().wait_for(|(_, done)| *done > 0).await.unwrap();
    }

    /// Until somebody does not know whether a change was made.
    pub(crate) async fn asked_to_renew(&self) {
        self.renewals.subscribe().wait_for(|(asked, _)| *asked > 0).await.unwrap();
    }
}

fn next(sick: &Mutex<Sick>) -> Option<Fault> {
    let mut sick = sick.lock().unwrap();
    match *sick {
        Sick::Never => None,
        Sick::Always(fault) => Some(fault),
        Sick::Once(fault) => {
            *sick = Sick::Never;
            Some(fault)
        }
    }
}

async fn call<T>(sick: &Mutex<Sick>, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let outage = |reason: &str| StoreError::Unavailable { reason: reason.to_owned() };
    match next(sick) {
        None => work.await,
        Some(Fault::Before) => Err(outage("it was not asked")),
        Some(Fault::After) => {
            work.await?;
            Err(outage("its answer was lost"))
        }
    }
}

#[async_trait]
impl SessionStore for SickStore {
    async fn add_session(&self, new: &NewSession) -> Result<(), StoreError> {
        call(&self.writing, self.inner.add_session(new)).await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        call(&self.reading, self.inner.find_session(id)).await
    }

    async fn rotate_session(&self, rotation: &Rotation) -> Result<Option<SessionRow>, StoreError> {
        call(&self.writing, self.inner.rotate_session(rotation)).await
    }

    async fn renew_grace(&self, sessions: &[(SessionId, u32)], now: UnixSeconds) -> Result<(), StoreError> {
        self.renewals.send_modify(|(asked, _)| *asked += 1);
        let _permit = self.renewing.acquire().await.unwrap();
        if let Sick::Always(_) = *self.writing.lock().unwrap() {
            return Err(StoreError::Unavailable { reason: "it is not well yet".to_owned() });
        }
        self.inner.renew_grace(sessions, now).await?;
        self.renewals.send_modify(|(_, done)| *done += 1);
        Ok(())
    }

    async fn end_session(&self, id: SessionId, subject: Option<&str>, ending: &Ending) -> Result<bool, StoreError> {
        call(&self.writing, self.inner.end_session(id, subject, ending)).await
    }

    async fn end_sessions(&self, sessions: &[SessionId], ending: &Ending) -> Result<u64, StoreError> {
        call(&self.writing, self.inner.end_sessions(sessions, ending)).await
    }

    async fn unended_sessions(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.inner.unended_sessions(subject, after, limit).await
    }

    async fn live_sessions(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        limit: usize,
        now: UnixSeconds,
    ) -> Result<Vec<SessionRow>, StoreError> {
        self.inner.live_sessions(subject, after, limit, now).await
    }

    async fn purge_sessions(&self, now: UnixSeconds) -> Result<u64, StoreError> {
        self.inner.purge_sessions(now).await
    }
}

#[async_trait]
impl SessionEnds for SickStore {
    async fn session_ends(&self, place: EndPlace, limit: usize) -> Result<EndPage, StoreError> {
        self.inner.session_ends(place, limit).await
    }

    async fn watch_session_ends(&self) -> Result<Option<Box<dyn EndStream>>, StoreError> {
        self.inner.watch_session_ends().await
    }
}

#[async_trait]
impl AttemptStore for SickStore {
    async fn attempts(&self, keys: &[AttemptKey]) -> Result<Vec<Attempts>, StoreError> {
        self.inner.attempts(keys).await
    }

    async fn count_failures(&self, failures: &[Failure], now: UnixSeconds) -> Result<(), StoreError> {
        self.inner.count_failures(failures, now).await
    }

    async fn note_success(&self, key: AttemptKey, known_until: UnixSeconds) -> Result<(), StoreError> {
        self.inner.note_success(key, known_until).await
    }
}

#[async_trait]
impl KeyStore for SickStore {
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.inner.keys().await
    }

    async fn add_key_if_absent(&self, key: &StoredKey) -> Result<StoredKey, StoreError> {
        self.inner.add_key_if_absent(key).await
    }

    async fn add_successor(&self, predecessor: &str, key: &StoredKey) -> Result<Option<StoredKey>, StoreError> {
        self.inner.add_successor(predecessor, key).await
    }

    async fn bring_forward_key(&self, kid: &str, from: UnixSeconds) -> Result<bool, StoreError> {
        self.inner.bring_forward_key(kid, from).await
    }

    async fn retire_key(&self, kid: &str, at: UnixSeconds) -> Result<bool, StoreError> {
        self.inner.retire_key(kid, at).await
    }

    async fn need_key_until(&self, kid: &str, until: UnixSeconds) -> Result<bool, StoreError> {
        self.inner.need_key_until(kid, until).await
    }

    async fn replace_material(
        &self,
        kid: &str,
        former: &SecretString,
        material: &SecretString,
    ) -> Result<bool, StoreError> {
        self.inner.replace_material(kid, former, material).await
    }

    async fn remove_key(&self, kid: &str) -> Result<bool, StoreError> {
        self.inner.remove_key(kid).await
    }

    async fn clear_traces(&self) -> Result<(), StoreError> {
        self.inner.clear_traces().await
    }
}

#[async_trait]
impl Store for SickStore {
    async fn find_login(&self, login: &str) -> Result<Found, StoreError> {
        self.inner.find_login(login).await
    }

    async fn find_subject(&self, subject: &str) -> Result<Found, StoreError> {
        self.inner.find_subject(subject).await
    }

    async fn accounts(&self, skip: u64, limit: usize) -> Result<Vec<Result<Account, MalformedRecord>>, StoreError> {
        self.inner.accounts(skip, limit).await
    }

    async fn add_account(&self, account: &NewAccount) -> Result<Account, StoreError> {
        self.inner.add_account(account).await
    }

    async fn set_password(&self, login: &str, password: &PasswordHash) -> Result<(), StoreError> {
        self.inner.set_password(login, password).await
    }

    async fn upgrade_password(&self, login: &str, old: &PasswordHash, new: &PasswordHash) -> Result<bool, StoreError> {
        self.inner.upgrade_password(login, old, new).await
    }

    async fn set_disabled(&self, login: &str, disabled: bool) -> Result<(), StoreError> {
        self.inner.set_disabled(login, disabled).await
    }

    async fn grant(&self, login: &str, grants: &Grants) -> Result<Account, StoreError> {
        self.inner.grant(login, grants).await
    }

    async fn revoke(&self, login: &str, grants: &Grants) -> Result<Account, StoreError> {
        self.inner.revoke(login, grants).await
    }

    async fn remove_account(&self, login: &str) -> Result<(), StoreError> {
        self.inner.remove_account(login).await
    }
}
