//! `<prefix>/logout`: the end of a session, or of several.

use http::header::SET_COOKIE;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::audit::{Event, LogoutScope, Whom};
use crate::session::{EndReason, RefreshError, SessionId};
use crate::token::Identity;

use super::form::{Field, FormRequest};
use super::query::parameter;
use super::refresh::optional_fields;
use super::{Answer, Issuer, IssuerError, Visit};

/// The session that asks to be ended, and whose it is.
struct Asking {
    session: SessionId,
    subject: String,
}

/// The parameter `scope` of a logout's query. Left out: local.
///
/// # Errors
/// [`IssuerError::Query`]: another value, or two.
fn scope_of(query: Option<&str>) -> Result<LogoutScope, IssuerError> {
    match parameter(query, "scope")?.as_deref() {
        None => Ok(LogoutScope::Local),
        Some(named) => [LogoutScope::Local, LogoutScope::Global, LogoutScope::Others]
            .into_iter()
            .find(|scope| scope.name() == named)
            .ok_or(IssuerError::Query { name: "scope" }),
    }
}

impl Issuer {
    /// `POST|GET <prefix>/logout`: ends what `scope` in `query` says of the person whose refresh token stands in the field `refresh_token`, in
    /// the cookie, or else whose access token `bearer` was. Without any of these, or when the session is over already, there is
    /// nothing to end, which is no error. `is_good`: whether the access token would be let in now; one that has expired ends its
    /// own session only. The cookie is deleted unless the session goes on, or it did not come: a browser that kept it back
    /// because a page of another site asks must not be told to forget it. Runs on the control runtime.
    ///
    /// # Errors
    /// See [`IssuerError`]: the form cannot be read, or the store does not answer, or several sessions shall end by an access token
    /// that is no good; then nobody is logged out.
    pub async fn log_out(
        &self,
        request: FormRequest,
        query: Option<&str>,
        bearer: Option<&Identity>,
        is_good: bool,
        visit: Visit,
    ) -> Result<Answer, IssuerError> {
        let scope = scope_of(query)?;
        let in_form = optional_fields(&request, &[Field::RefreshToken])?.take(Field::RefreshToken);
        let token = in_form.as_ref().or(visit.cookie.as_ref()).map(ExposeSecret::expose_secret);
        let ended = match scope {
            LogoutScope::Local => self.end_this(token, bearer, &visit).await?,
            LogoutScope::Global | LogoutScope::Others => {
                match self.asking(token, bearer.filter(|_| is_good), &visit).await? {
                    Some(asking) => self.end_many(&asking, scope, &visit).await?,
                    // Whoever is told of a success believes that the other devices are out.
                    None if token.is_none() && bearer.is_some() => return Err(IssuerError::RefreshMissing),
                    None => 0,
                }
            }
        };
        let mut answer = Answer::not_stored(&json!({ "sessions_ended": ended }));
        if scope != LogoutScope::Others && visit.cookie.is_some() {
            answer.headers.append(SET_COOKIE, self.cookie.delete());
        }
        Ok(answer)
    }

    /// Ends one session. Any token of it that we made will do, also one that was replaced: it is the client's wish to be out.
    async fn end_this(
        &self,
        token: Option<&str>,
        bearer: Option<&Identity>,
        visit: &Visit,
    ) -> Result<u64, IssuerError> {
        let (session, subject) = match token.and_then(|token| self.sessions.session_of(token)) {
            Some(session) => (session, None),
            None => match bearer.and_then(|identity| Some((identity.session()?.parse().ok()?, identity.subject()))) {
                Some((session, subject)) => (session, Some(subject)),
                None => return Ok(0),
            },
        };
        let ended = self.sessions.end(session, subject, EndReason::Logout, visit.now()).await;
        let ended = u64::from(ended.map_err(IssuerError::StoreUnavailable)?);
        if ended > 0 {
            self.tell_of_logout(LogoutScope::Local, ended, subject, session, visit);
        }
        Ok(ended)
    }

    pub(super) fn tell_of_logout(
        &self,
        scope: LogoutScope,
        sessions: u64,
        subject: Option<&str>,
        asking: SessionId,
        visit: &Visit,
    ) {
        let asking = asking.to_string();
        let whom = Whom { subject, login: None, session: Some(&asking) };
        self.audit.record(&Event::LoggedOut { scope, sessions }, whom, &visit.origin());
    }

    /// Who asks for the end of several sessions. A refresh token must be good for a refresh: one that is not says that somebody
    /// else may have it. `None`: nobody who could.
    async fn asking(
        &self,
        token: Option<&str>,
        bearer: Option<&Identity>,
        visit: &Visit,
    ) -> Result<Option<Asking>, IssuerError> {
        if let Some(token) = token {
            let found = self.sessions.look_up(token, None, visit.arrival).await;
            match found.inspect_err(|error| self.tell_of(error, visit)) {
                Ok(candidate) => {
                    let (session, subject) = (candidate.row.id, candidate.row.subject);
                    return Ok(Some(Asking { session, subject }));
                }
                Err(
                    RefreshError::Account { subject, session, .. } | RefreshError::Unreadable { subject, session, .. },
                ) => return Ok(Some(Asking { session, subject })),
                Err(RefreshError::Invalid(_) | RefreshError::Reused { .. }) => {}
                Err(RefreshError::Store(error)) => return Err(IssuerError::StoreUnavailable(error)),
            }
        }
        let of = |identity: &Identity| {
            Some(Asking { session: identity.session()?.parse().ok()?, subject: identity.subject().to_owned() })
        };
        Ok(bearer.and_then(of))
    }

    async fn end_many(&self, asking: &Asking, scope: LogoutScope, visit: &Visit) -> Result<u64, IssuerError> {
        let (Asking { session, subject }, now) = (asking, visit.now());
        let ended = match scope {
            LogoutScope::Others => self.sessions.end_others(subject, *session, EndReason::LogoutOthers, now).await,
            LogoutScope::Local | LogoutScope::Global => {
                self.sessions.end_all(Some(subject), EndReason::LogoutGlobal, now).await
            }
        };
        let ended = ended.map_err(IssuerError::StoreUnavailable)?;
        if ended > 0 {
            self.tell_of_logout(scope, ended, Some(subject), *session, visit);
        }
        Ok(ended)
    }
}
