//! Why a refresh token gave no new one.

use crate::store::{EndReason, MalformedRecord, SessionId, StoreError};

/// Why a refresh token gave no new one. `Display` is for the log; it names the session, never the token.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// 401 `refresh_invalid`
    #[error("the refresh token is not valid: {0}")]
    Invalid(#[from] InvalidRefresh),
    /// 401 `refresh_reused`: the token had been replaced long ago, so that two have the session, which is ended by that.
    #[error(
        "a refresh token of session {session} of `{subject}` came back after it had been replaced; the session is ended"
    )]
    Reused {
        /// Whose.
        subject: String,
        /// Which.
        session: SessionId,
        /// Whether this token ended the session, and no other one at the same time.
        ended: bool,
    },
    /// 401 `refresh_invalid`: the account cannot log in any more, and the session is ended by that.
    #[error("session {session} is ended: `{subject}` is {}", if matches!(reason, EndReason::AccountDisabled) { "disabled" } else { "gone" })]
    Account {
        /// Whose.
        subject: String,
        /// Which.
        session: SessionId,
        /// `AccountDisabled` or `AccountRemoved`.
        reason: EndReason,
    },
    /// 503 `store_unavailable`: nobody can tell whether the account may log in. The session goes on, and the token stays what it
    /// was.
    #[error("the account `{subject}` of session {session} cannot be read")]
    Unreadable {
        /// Whose.
        subject: String,
        /// Which.
        session: SessionId,
        /// What is wrong with the account.
        #[source]
        record: MalformedRecord,
    },
    /// 503 `store_unavailable`; the token stays what it was.
    #[error("the session could not be looked up or changed")]
    Store(#[from] StoreError),
}

/// What is wrong with a refresh token, none of which harms a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRefresh {
    /// We did not make it. The store was not asked.
    #[error("it is none of ours")]
    Foreign,
    /// There is no such session; it was purged after its end.
    #[error("session {0} is not known")]
    Unknown(SessionId),
    /// The session was ended.
    #[error("session {session} was ended ({})", reason.name())]
    Ended {
        /// Which.
        session: SessionId,
        /// Why it was ended.
        reason: EndReason,
    },
    /// The session is over by its times.
    #[error("session {0} has expired")]
    Expired(SessionId),
    /// The access token beside it belongs to another session.
    #[error("it is of session {0}, and the access token beside it is not")]
    OtherSession(SessionId),
}
