//! What keeps a person logged in: the session behind the refresh token. It begins with a login, each refresh changes its token
//! for the next, and whatever ends it ends it for good.
//!
//! The store decides each change by one conditional write, so that gateways need not know of each other.

mod error;
mod revoke;
mod token;
mod unsettled;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use moka::sync::Cache;

use crate::revocation::Revocations;
use crate::store::{Account, Found, MalformedRecord, NewSession, Patience, Ride, Rotation, Store, StoreError};
use crate::time::{Arrival, UnixSeconds};

pub use crate::store::{EndReason, Ended, MAX_SESSION_PAGE, NotASessionId, SeenFrom, SessionId, SessionRow};
pub use error::{InvalidRefresh, RefreshError};
pub use token::{RefreshClaim, RefreshKeys, RefreshToken};

use unsettled::Unsettled;

/// How far the clocks of two gateways may be apart. A token that was replaced "in the future" is not an old one within it.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// How long a row stays beyond the life of the session's last access token: for clocks that differ, and for a refresh that
/// meets the end of its session.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Sessions whose subject is remembered, at some 200 bytes each.
const MOST_SUBJECTS: u64 = 20_000;

/// How long sessions live.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// From the last refresh. Default 1 hour.
    pub refresh_ttl: Duration,
    /// From the login, however often it is refreshed. Default 30 days.
    pub session_ttl: Duration,
    /// How long the predecessor of a refresh token still gets the same successor. Zero: not at all. Default 10 seconds.
    pub refresh_grace: Duration,
    /// The longest time for which an access token is accepted after it was made, leeway included.
    pub access_life: Duration,
}

/// The sessions of the fleet. Shared by all workers.
#[derive(Debug)]
pub struct Sessions {
    store: Arc<dyn Store>,
    settings: SessionSettings,
    patience: Arc<Patience>,
    /// `None` until the store has been read.
    keys: ArcSwapOption<RefreshKeys>,
    unsettled: Arc<Unsettled>,
    /// Whose a session is, which never changes: so the account is read beside the session, and not after it.
    subjects: Cache<SessionId, Arc<str>>,
    /// Where the ends of sessions are entered at once.
    revocations: OnceLock<Arc<Revocations>>,
}

/// Who begins a session, and with what.
#[derive(Debug, Clone)]
pub struct Begin<'a> {
    /// Made by [`SessionId::random`]: the access token, which is made before, names it.
    pub session: SessionId,
    /// Whose.
    pub account: &'a Account,
    /// `client_id` of the access tokens.
    pub client_id: &'a str,
    /// The scopes that were asked for, separated by spaces; empty: all of the account.
    pub scope: &'a str,
    /// Where from.
    pub seen: SeenFrom,
}

/// A refresh token that the client is to have.
#[derive(Debug)]
pub struct Granted {
    /// Which session it is of.
    pub session: SessionId,
    /// The token.
    pub token: RefreshToken,
    /// When it expires unless it is used before.
    pub expires_at: UnixSeconds,
    /// When the store was asked what decided this: an access token of this date cannot be younger than the session's end.
    pub at: UnixSeconds,
    /// How it came about.
    pub kind: GrantKind,
}

/// How a refresh token came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantKind {
    /// By a login.
    First,
    /// It takes the place of the one that was presented.
    Successor,
    /// It had already taken the place of the one that was presented, or of its successor, a moment ago: an answer was lost, or
    /// several asked at once.
    SameSuccessor,
}

/// A refresh token that may be changed for the next, with what its access token is made of. Nothing has been changed yet, so
/// whatever fails from here on leaves the client's token good.
#[derive(Debug)]
pub struct Candidate {
    /// The session.
    pub row: SessionRow,
    /// The account as it is now.
    pub account: Account,
    claim: RefreshClaim,
    ride: Ride,
    arrival: Arrival,
    read_at: UnixSeconds,
}

/// What a token is to the session that it is of.
enum Standing {
    /// It may be changed for the next.
    Current,
    /// Its successor is the current one, since a moment ago.
    Predecessor,
    /// It was replaced long ago.
    Replayed,
}

impl Sessions {
    /// `store` must stay open as long as this lives. There are no keys yet: see [`Self::set_keys`].
    pub fn new(store: Arc<dyn Store>, settings: SessionSettings, patience: Arc<Patience>) -> Self {
        let (keys, unsettled, revocations) = (ArcSwapOption::empty(), Arc::default(), OnceLock::new());
        Self { store, settings, patience, keys, unsettled, subjects: Cache::new(MOST_SUBJECTS), revocations }
    }

    /// Makes and reads refresh tokens with these keys from now on.
    pub fn set_keys(&self, keys: RefreshKeys) {
        self.keys.store(Some(Arc::new(keys)));
    }

    /// Begins a session.
    ///
    /// # Errors
    /// When the store does not take it within the patience.
    pub async fn begin(&self, begin: Begin<'_>, arrival: Arrival) -> Result<Granted, StoreError> {
        let ride = self.patience.ride();
        let keys = self.keys(&ride).await?;
        let (session, mut at) = (begin.session, arrival.now());
        ride.out(|| {
            at = arrival.now();
            let new = self.new_session(&begin, at);
            async move { self.store.add_session(&new).await }
        })
        .await?;
        self.subjects.insert(session, begin.account.subject.as_str().into());
        let expires_at = self.expiry(at.plus(self.settings.session_ttl), at);
        let token = keys.token(RefreshClaim { session, counter: 0 });
        Ok(Granted { session, token, expires_at, at, kind: GrantKind::First })
    }

    /// The session of a refresh token that we made, current or not, without asking the store.
    pub fn session_of(&self, token: &str) -> Option<SessionId> {
        self.keys.load().as_ref()?.read(token).map(|claim| claim.session)
    }

    /// As [`Self::session_of`], but waits for the keys where the store has not been read yet.
    ///
    /// # Errors
    /// When there are none within the patience: then nothing can be said of the token.
    pub async fn session_named(&self, token: &str) -> Result<Option<SessionId>, StoreError> {
        let keys = self.keys(&self.patience.ride()).await?;
        Ok(keys.read(token).map(|claim| claim.session))
    }

    /// Whose a session is, alive or not, to be told to the audit. Does not wait for a sick store; `None`: it cannot be told.
    pub async fn subject_of(&self, session: SessionId) -> Option<Arc<str>> {
        if let Some(subject) = self.subjects.get(&session) {
            return Some(subject);
        }
        let row = self.store.find_session(session).await.ok()??;
        Some(row.subject.into())
    }

    /// Whose living session a refresh token belongs to, current or its predecessor. Changes nothing, and does not wait for a sick
    /// store; `None` also when it cannot be told.
    pub async fn owner_of(&self, token: &str, now: UnixSeconds) -> Option<String> {
        let claim = self.keys.load().as_ref()?.read(token)?;
        let row = self.store.find_session(claim.session).await.ok()??;
        let is_held = row.counter.saturating_sub(claim.counter) <= 1;
        (row.ended.is_none() && !row.is_expired(now) && is_held).then_some(row.subject)
    }

    /// Finds the session and the account of a refresh token, and judges whether it may be changed for the next. With
    /// `access_session`, the `sid` of an access token beside it, that must be the same session; a caller who gets an
    /// access token without `sid` refuses it itself.
    ///
    /// A replayed token ends its session here, and so does an account that is disabled or gone. One that cannot be read does not:
    /// a mistake in a migration, or in the settings of one gateway, would log people out for good.
    ///
    /// # Errors
    /// See [`RefreshError`].
    pub async fn look_up(
        &self,
        token: &str,
        access_session: Option<SessionId>,
        arrival: Arrival,
    ) -> Result<Candidate, RefreshError> {
        let ride = self.patience.ride();
        let claim = self.keys(&ride).await?.read(token).ok_or(InvalidRefresh::Foreign)?;
        if access_session.is_some_and(|session| session != claim.session) {
            return Err(InvalidRefresh::OtherSession(claim.session).into());
        }
        let ((row, read_at), account) = match self.subjects.get(&claim.session) {
            Some(subject) => {
                let account = ride.out(|| self.store.find_subject(&subject));
                let (row, account) = tokio::join!(self.row(&ride, claim.session, arrival), account);
                (row?, Some(account))
            }
            None => (self.row(&ride, claim.session, arrival).await?, None),
        };
        match self.standing(&ride, &row, claim, arrival).await? {
            Standing::Current | Standing::Predecessor => {}
            Standing::Replayed => return Err(self.replayed(&ride, row, arrival).await?),
        }
        let found = match account {
            Some(account) => account?,
            None => {
                self.subjects.insert(row.id, row.subject.as_str().into());
                ride.out(|| self.store.find_subject(&row.subject)).await?
            }
        };
        let reason = match found {
            Found::One(record) if !record.account.disabled => {
                // What the person typed stays the login, wherever the store has another.
                let account = Account { login: row.login.clone(), ..record.account };
                return Ok(Candidate { row, account, claim, ride, arrival, read_at });
            }
            Found::One(_) => EndReason::AccountDisabled,
            Found::Nobody => EndReason::AccountRemoved,
            Found::Several => {
                let record = MalformedRecord { subject: row.subject.clone(), reason: "others have it too".to_owned() };
                return Err(RefreshError::Unreadable { subject: row.subject, session: row.id, record });
            }
            Found::Malformed(record) => {
                return Err(RefreshError::Unreadable { subject: row.subject, session: row.id, record });
            }
        };
        self.end_one(&ride, row.id, None, reason, arrival).await?;
        Err(RefreshError::Account { subject: row.subject, session: row.id, reason })
    }

    /// Changes the token for the next. The last step of a refresh: what is answered must have been made before.
    ///
    /// # Errors
    /// See [`RefreshError`]: also what has happened since [`Self::look_up`], such as a logout, which wins for good.
    pub async fn rotate(&self, candidate: Candidate, seen: SeenFrom) -> Result<Granted, RefreshError> {
        let Candidate { row, claim, ride, read_at, .. } = &candidate;
        if row.counter > claim.counter {
            // The change was made a moment ago, and the answer is the same.
            return self.granted(ride, row, *read_at, GrantKind::SameSuccessor).await;
        }
        let granted = self.change(&candidate, &seen).await;
        if matches!(&granted, Err(RefreshError::Store(error)) if error.is_outage()) {
            self.doubt(&candidate);
        }
        granted
    }

    /// Makes the change, and says what the client is to have if it was made before.
    async fn change(&self, candidate: &Candidate, seen: &SeenFrom) -> Result<Granted, RefreshError> {
        let Candidate { row, claim, ride, arrival, .. } = candidate;
        let (mut tries, mut at) = (0_u32, arrival.now());
        let rotated = ride.out(|| {
            // Each try has its own date: the successor, and the grace of what it replaces, begin with the one that is made.
            (tries, at) = (tries.saturating_add(1), arrival.now());
            let (id, presented, expires_at) = (row.id, claim.counter, self.expiry(row.ends_at, at));
            let purge_at = self.purge_at(expires_at);
            let rotation = Rotation { id, presented, at, expires_at, purge_at, seen: seen.clone() };
            async move {
                let rotated = self.store.rotate_session(&rotation).await;
                // Not only when all is over: meanwhile the client may give up and ask once more.
                rotated.inspect_err(|error| {
                    if error.is_outage() {
                        self.doubt(candidate);
                    }
                })
            }
        });
        if let Some(rotated) = rotated.await? {
            return self.granted(ride, &rotated, at, GrantKind::Successor).await;
        }
        // Somebody was faster, or an earlier try of ours was made and its answer lost, which then is as old as that try.
        if tries > 1 {
            self.doubt(candidate);
        }
        let (row, read_at) = self.row(ride, row.id, *arrival).await?;
        match self.standing(ride, &row, *claim, *arrival).await? {
            Standing::Predecessor => self.granted(ride, &row, read_at, GrantKind::SameSuccessor).await,
            // When this request came the token was the current one, and it was overtaken more than once: it waited.
            Standing::Replayed if self.is_in_grace(row.rotated_at, *arrival) => {
                self.granted(ride, &row, read_at, GrantKind::SameSuccessor).await
            }
            Standing::Replayed => Err(self.replayed(ride, row, *arrival).await?),
            // The write found the session beyond this token and the read behind it: a server that is no primary any more.
            Standing::Current => {
                let reason = "the session was read from a server that is behind".to_owned();
                Err(StoreError::Unavailable { reason }.into())
            }
        }
    }

    /// The change of this token may have been made or not.
    fn doubt(&self, candidate: &Candidate) {
        let Candidate { row, claim, arrival, .. } = candidate;
        self.unsettled.note(&self.store, row.id, claim.counter.saturating_add(1), *arrival);
    }

    /// A page of the sessions of a person (`None`: of everybody) that are alive, in the order of their ids, after `after`; an
    /// empty one is the end.
    ///
    /// # Errors
    /// When the store does not answer within the patience.
    pub async fn list(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        now: UnixSeconds,
    ) -> Result<Vec<SessionRow>, StoreError> {
        self.patience.ride().out(|| self.store.live_sessions(subject, after, MAX_SESSION_PAGE, now)).await
    }

    fn new_session(&self, begin: &Begin<'_>, at: UnixSeconds) -> NewSession {
        let ends_at = at.plus(self.settings.session_ttl);
        let expires_at = self.expiry(ends_at, at);
        NewSession {
            id: begin.session,
            subject: begin.account.subject.clone(),
            login: begin.account.login.clone(),
            client_id: begin.client_id.to_owned(),
            scope: begin.scope.to_owned(),
            created_at: at,
            expires_at,
            ends_at,
            purge_at: self.purge_at(expires_at),
            seen: begin.seen.clone(),
        }
    }

    /// The row of a session, unless it has ended, and when it was asked for.
    async fn row(
        &self,
        ride: &Ride,
        id: SessionId,
        arrival: Arrival,
    ) -> Result<(SessionRow, UnixSeconds), RefreshError> {
        let mut at = arrival.now();
        let found = ride.out(|| {
            at = arrival.now();
            self.store.find_session(id)
        });
        let row = found.await?.ok_or(InvalidRefresh::Unknown(id))?;
        match row.ended {
            None => Ok((row, at)),
            Some(ended) => Err(InvalidRefresh::Ended { session: id, reason: ended.reason }.into()),
        }
    }

    /// What the token is to a session that has not been ended. One that is over by its times is ended here. Who had to wait is
    /// judged by when they came.
    async fn standing(
        &self,
        ride: &Ride,
        row: &SessionRow,
        claim: RefreshClaim,
        arrival: Arrival,
    ) -> Result<Standing, RefreshError> {
        if row.is_expired(arrival.came_at()) {
            self.end_one(ride, row.id, None, EndReason::Expired, arrival).await?;
            return Err(InvalidRefresh::Expired(row.id).into());
        }
        Ok(match row.counter.checked_sub(claim.counter) {
            // A counter that is behind: see `Rotation`.
            None | Some(0) => Standing::Current,
            Some(1) if self.is_in_grace(row.rotated_at, arrival) || self.unsettled.holds(row.id, row.counter) => {
                Standing::Predecessor
            }
            Some(_) => Standing::Replayed,
        })
    }

    /// Whether a change was made a moment before the request came, or since then.
    fn is_in_grace(&self, rotated_at: UnixSeconds, arrival: Arrival) -> bool {
        let grace = self.settings.refresh_grace;
        let is_within_skew = rotated_at.since(arrival.now()) <= CLOCK_SKEW.min(grace);
        grace > Duration::ZERO && is_within_skew && arrival.came_at().since(rotated_at) <= grace
    }

    async fn replayed(&self, ride: &Ride, row: SessionRow, arrival: Arrival) -> Result<RefreshError, RefreshError> {
        let ended = self.end_one(ride, row.id, None, EndReason::Replay, arrival).await?;
        Ok(RefreshError::Reused { subject: row.subject, session: row.id, ended })
    }

    async fn granted(
        &self,
        ride: &Ride,
        row: &SessionRow,
        at: UnixSeconds,
        kind: GrantKind,
    ) -> Result<Granted, RefreshError> {
        let claim = RefreshClaim { session: row.id, counter: row.counter };
        let token = self.keys(ride).await?.token(claim);
        Ok(Granted { session: row.id, token, expires_at: row.expires_at, at, kind })
    }

    fn expiry(&self, ends_at: UnixSeconds, now: UnixSeconds) -> UnixSeconds {
        now.plus(self.settings.refresh_ttl).min(ends_at)
    }

    fn purge_at(&self, end: UnixSeconds) -> UnixSeconds {
        end.plus(self.settings.access_life).plus(REMEMBERED)
    }

    async fn keys(&self, ride: &Ride) -> Result<Arc<RefreshKeys>, StoreError> {
        if let Some(keys) = self.keys.load_full() {
            return Ok(keys);
        }
        let missing =
            || StoreError::Unavailable { reason: "the key of refresh tokens has not been read yet".to_owned() };
        ride.out(|| async { self.keys.load_full().ok_or_else(missing) }).await
    }
}
