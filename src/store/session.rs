//! Sessions as the store keeps them: one small row each, which stays for a while after its end, so that its end can be told.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::StoreError;
use super::record::random_bytes;
use crate::time::UnixSeconds;

/// The most sessions that one page of a listing holds.
pub const MAX_SESSION_PAGE: usize = 1000;

/// 128 random bits. Its text, base64url without padding, is the `sid` of access tokens. No secret: it proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// What is known of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Which.
    pub id: SessionId,
    /// Whose: [`super::Account::subject`].
    pub subject: String,
    /// What the person typed when logging in.
    pub login: String,
    /// `client_id` of its access tokens.
    pub client_id: String,
    /// The scopes that were asked for, separated by spaces. Empty: all that the account has at each refresh.
    pub scope: String,
    /// When the person logged in.
    pub created_at: UnixSeconds,
    /// The last login or refresh.
    pub used_at: UnixSeconds,
    /// Which refresh token is the current one; the first has 0.
    pub counter: u32,
    /// When the current refresh token took the place of its predecessor, whose grace begins here; if the store failed to say
    /// that it had, when the store was back.
    pub rotated_at: UnixSeconds,
    /// Its end unless it is refreshed before; never later than `ends_at`.
    pub expires_at: UnixSeconds,
    /// Its end in any case.
    pub ends_at: UnixSeconds,
    /// Where it was last used.
    pub seen: SeenFrom,
    /// How it was ended; `None`: it was not, though it may have expired.
    pub ended: Option<Ended>,
}

/// Where a session was used, for the person to recognize it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenFrom {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// `User-Agent`, cut to a length.
    pub user_agent: Option<String>,
}

/// The end of a session. Nothing undoes it, and of several ends the first one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: UnixSeconds,
    /// Why.
    pub reason: EndReason,
}

/// Why a session was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The person logged out.
    Logout,
    /// The person logged out everywhere.
    LogoutGlobal,
    /// The person logged out everywhere else.
    LogoutOthers,
    /// Ended by the person from another session, or by an operator.
    Revoked,
    /// A refresh token came back that had long been replaced, so that two have the session.
    Replay,
    /// A refresh came after its end. Recorded, so that a clock that is set back does not bring it back to life.
    Expired,
    /// The password was changed.
    PasswordChanged,
    /// The account was disabled.
    AccountDisabled,
    /// The account is gone, or cannot be used any more.
    AccountRemoved,
}

/// A session to begin.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Made by [`SessionId::random`], so that adding it again does nothing.
    pub id: SessionId,
    /// As in [`SessionRow`].
    pub subject: String,
    /// As in [`SessionRow`].
    pub login: String,
    /// As in [`SessionRow`].
    pub client_id: String,
    /// As in [`SessionRow`].
    pub scope: String,
    /// Now.
    pub created_at: UnixSeconds,
    /// As in [`SessionRow`].
    pub expires_at: UnixSeconds,
    /// As in [`SessionRow`].
    pub ends_at: UnixSeconds,
    /// When nobody needs the row any more unless the session is refreshed.
    pub purge_at: UnixSeconds,
    /// As in [`SessionRow`].
    pub seen: SeenFrom,
}

/// A change from one refresh token to the next. It is made if the session has not ended and its counter is not beyond
/// `presented`, and else changes nothing.
///
/// A counter below `presented` is what a database has that lost its last seconds, or that came back from a copy: the token that
/// was presented was made by us, so that the counter has been there.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Which session.
    pub id: SessionId,
    /// The counter of the refresh token that was presented; the new one is the next. Less than `u32::MAX`.
    pub presented: u32,
    /// Now; becomes `used_at` and `rotated_at`.
    pub at: UnixSeconds,
    /// The new end unless it is refreshed before.
    pub expires_at: UnixSeconds,
    /// As in [`NewSession`].
    pub purge_at: UnixSeconds,
    /// As in [`SessionRow`].
    pub seen: SeenFrom,
}

/// 128 random bits that tell one call that ends sessions from all others, in its tries too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMark(pub [u8; 16]);

/// How and when to end sessions.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The same at every try of one call: what an earlier try ended, whose answer was lost, is ended by this call. Time and reason
    /// would not do: two that log out of one session in the same second have both in common.
    pub mark: EndMark,
    /// Now, at this try.
    pub at: UnixSeconds,
    /// Why.
    pub reason: EndReason,
    /// When every access token of the session has expired on every clock: until then the row tells of its end.
    pub purge_at: UnixSeconds,
}

/// The sessions of a store. Each call is one step that happens as a whole or not at all, unless it says otherwise, and can be
/// made again when nobody knows whether it happened.
#[async_trait::async_trait]
pub trait SessionStore: Send + Sync {
    /// Adds a session; does nothing if it is there.
    async fn add_session(&self, new: &NewSession) -> Result<(), StoreError>;

    /// The session, ended or not, as the last write left it. `None`: there never was one, or it was purged.
    async fn find_session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError>;

    /// Makes the change and returns the row after it. `None`: there is nothing to change: no such session, an ended one, or
    /// one whose counter is beyond.
    async fn rotate_session(&self, rotation: &Rotation) -> Result<Option<SessionRow>, StoreError>;

    /// Lets the grace of the predecessor begin at `now`, unless it began later, in those of the sessions that have this counter
    /// and have not ended: see [`SessionRow::rotated_at`].
    async fn renew_grace(&self, sessions: &[(SessionId, u32)], now: UnixSeconds) -> Result<(), StoreError>;

    /// Ends a session if it has not ended, and if it is `subject`'s when one is given. Whether it has ended by this mark, now or at
    /// an earlier try.
    async fn end_session(&self, id: SessionId, subject: Option<&str>, ending: &Ending) -> Result<bool, StoreError>;

    /// Ends those of these sessions, at most [`MAX_SESSION_PAGE`], that have not ended, and returns how many of them have ended by
    /// this mark, now or at an earlier try. Each is ended as a whole; a failure may leave some of them for the next try.
    async fn end_sessions(&self, sessions: &[SessionId], ending: &Ending) -> Result<u64, StoreError>;

    /// At most `limit` (and never more than [`MAX_SESSION_PAGE`]) sessions of a person (`None`: of everybody) that have not
    /// ended, whether or not they have expired, in the order of their ids, after the id `after`. Fewer are the end.
    async fn unended_sessions(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, StoreError>;

    /// At most `limit` (and never more than [`MAX_SESSION_PAGE`]) sessions of a person (`None`: of everybody) that have
    /// neither ended nor expired, in the order of their ids, after the id `after`. An empty answer is the end. A row that cannot
    /// be read is told to the log, and does not hide the others.
    async fn live_sessions(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        limit: usize,
        now: UnixSeconds,
    ) -> Result<Vec<SessionRow>, StoreError>;

    /// Deletes the rows whose `purge_at` is past, and returns how many. Does nothing where the database does so by itself.
    async fn purge_sessions(&self, now: UnixSeconds) -> Result<u64, StoreError>;
}

impl SessionId {
    /// A new one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self, StoreError> {
        random_bytes().map(Self)
    }
}

impl EndMark {
    /// A new one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self, StoreError> {
        random_bytes().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// A text that is no session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the id of a session, which has 22 letters, digits, `-` and `_`")]
pub struct NotASessionId;

impl FromStr for SessionId {
    type Err = NotASessionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(NotASessionId),
        }
    }
}

impl SessionRow {
    /// Whether it is over by its times. A session may have ended besides.
    pub fn is_expired(&self, now: UnixSeconds) -> bool {
        now >= self.expires_at || now >= self.ends_at
    }
}

impl EndReason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Logout,
        Self::LogoutGlobal,
        Self::LogoutOthers,
        Self::Revoked,
        Self::Replay,
        Self::Expired,
        Self::PasswordChanged,
        Self::AccountDisabled,
        Self::AccountRemoved,
    ];

    /// What the store, the log and the metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::LogoutGlobal => "logout_global",
            Self::LogoutOthers => "logout_others",
            Self::Revoked => "revoked",
            Self::Replay => "replay",
            Self::Expired => "expired",
            Self::PasswordChanged => "password_changed",
            Self::AccountDisabled => "account_disabled",
            Self::AccountRemoved => "account_removed",
        }
    }

    /// The reason of that name. One that only a newer program knows is a revocation here: the session is over all the same.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.name() == name).unwrap_or(Self::Revoked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = SessionId([0xfb; 16]);
        let text = id.to_string();
        assert_eq!(text.len(), 22);
        assert_eq!(text.parse(), Ok(id));
        let other_last = format!("{}x", &text[..21]);
        for wrong in
            ["", "a", &text[1..], &format!("{text}A"), &format!("{text}=="), &text.replace('-', "+"), &other_last]
        {
            assert_eq!(wrong.parse::<SessionId>(), Err(NotASessionId), "{wrong}");
        }
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::from_name(reason.name()), reason);
        }
        assert_eq!(EndReason::from_name("of_tomorrow"), EndReason::Revoked);
    }
}
