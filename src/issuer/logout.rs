//! `<prefix>/logout`: the end of a session, or of several.

use http::header::SET_COOKIE;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::session::{EndReason, RefreshError, SessionId};
use crate::time::UnixSeconds;
use crate::token::Identity;

use super::form::{Field, FormRequest};
use super::query::parameter;
use super::refresh::optional_fields;
use super::{Answer, Issuer, IssuerError, Visit};

/// Which sessions of the person a logout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogoutScope {
    /// This one.
    Local,
    /// All.
    Global,
    /// All but this one.
    Others,
}

/// The session that asks to be ended, and whose it is.
struct Asking {
    session: SessionId,
    subject: String,
}

impl LogoutScope {
    /// The parameter `scope` of the query. Left out: local.
    ///
    /// # Errors
    /// [`IssuerError::Query`]: another value, or two.
    pub fn of_query(query: Option<&str>) -> Result<Self, IssuerError> {
        match parameter(query, "scope")?.as_deref() {
            None | Some("local") => Ok(Self::Local),
            Some("global") => Ok(Self::Global),
            Some("others") => Ok(Self::Others),
            Some(_) => Err(IssuerError::Query { name: "scope" }),
        }
    }
}

impl Issuer {
    /// `POST|GET <prefix>/logout`: ends what `scope` says of the person whose refresh token stands in the field `refresh_token`, in
    /// the cookie, or else whose access token `bearer` was. Without any of these, or when the session is over already, there is
    /// nothing to end, which is no error. The cookie is deleted unless the session goes on. Runs on the control runtime.
    ///
    /// # Errors
    /// See [`IssuerError`]: the form cannot be read, or the store does not answer; then nobody is logged out.
    pub async fn log_out(
        &self,
        request: FormRequest,
        scope: LogoutScope,
        bearer: Option<&Identity>,
        visit: Visit,
    ) -> Result<Answer, IssuerError> {
        let in_form = optional_fields(&request, &[Field::RefreshToken])?.take(Field::RefreshToken);
        let token = in_form.as_ref().or(visit.cookie.as_ref()).map(ExposeSecret::expose_secret);
        let ended = match scope {
            LogoutScope::Local => u64::from(self.end_this(token, bearer, visit.now).await?),
            LogoutScope::Global | LogoutScope::Others => match self.asking(token, bearer, visit.now).await? {
                Some(asking) => self.end_many(&asking, scope, visit.now).await?,
                None => 0,
            },
        };
        let mut answer = Answer::not_stored(&json!({ "sessions_ended": ended }));
        if scope != LogoutScope::Others {
            answer.headers.append(SET_COOKIE, self.cookie.delete());
        }
        Ok(answer)
    }

    /// Ends one session. Any token of it that we made will do, also one that was replaced: it is the client's wish to be out.
    async fn end_this(
        &self,
        token: Option<&str>,
        bearer: Option<&Identity>,
        now: UnixSeconds,
    ) -> Result<bool, IssuerError> {
        let (session, subject) = match token.and_then(|token| self.sessions.session_of(token)) {
            Some(session) => (session, None),
            None => match bearer.and_then(|identity| Some((identity.session()?.parse().ok()?, identity.subject()))) {
                Some((session, subject)) => (session, Some(subject)),
                None => return Ok(false),
            },
        };
        self.sessions.end(session, subject, EndReason::Logout, now).await.map_err(IssuerError::StoreUnavailable)
    }

    /// Who asks for the end of several sessions. A refresh token must be good for a refresh: one that is not says that somebody
    /// else may have it. `None`: nobody who could.
    async fn asking(
        &self,
        token: Option<&str>,
        bearer: Option<&Identity>,
        now: UnixSeconds,
    ) -> Result<Option<Asking>, IssuerError> {
        if let Some(token) = token {
            match self.sessions.look_up(token, None, now).await {
                Ok(candidate) => {
                    let (session, subject) = (candidate.row.id, candidate.row.subject);
                    return Ok(Some(Asking { session, subject }));
                }
                Err(RefreshError::Account { subject, session, .. }) => return Ok(Some(Asking { session, subject })),
                Err(RefreshError::Invalid(_) | RefreshError::Reused { .. }) => {}
                Err(RefreshError::Store(error)) => return Err(IssuerError::StoreUnavailable(error)),
            }
        }
        let of = |identity: &Identity| {
            Some(Asking { session: identity.session()?.parse().ok()?, subject: identity.subject().to_owned() })
        };
        Ok(bearer.and_then(of))
    }

    async fn end_many(&self, asking: &Asking, scope: LogoutScope, now: UnixSeconds) -> Result<u64, IssuerError> {
        let Asking { session, subject } = asking;
        let ended = match scope {
            LogoutScope::Others => self.sessions.end_others(subject, *session, EndReason::LogoutOthers, now).await,
            LogoutScope::Local | LogoutScope::Global => {
                self.sessions.end_all(Some(subject), EndReason::LogoutGlobal, now).await
            }
        };
        ended.map_err(IssuerError::StoreUnavailable)
    }
}
