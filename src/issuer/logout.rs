//! `<prefix>/logout`: the end of a session, or of several.

use std::sync::Arc;

use http::HeaderValue;
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

/// The access token that comes with a logout.
#[derive(Debug)]
pub enum AccessToken<E> {
    /// None came.
    None,
    /// One that would be let in now.
    Good(Arc<Identity>),
    /// One that was good once: it has expired, or its session has ended. It speaks for its own session only.
    Past(Arc<Identity>),
    /// One that proves nothing, and why.
    Refused(E),
}

/// A logout that ended nothing, although something was to end.
#[derive(Debug)]
pub struct LogoutRefused<E> {
    /// Why.
    pub error: LogoutError<E>,
    /// `Set-Cookie` that makes the browser forget the refresh cookie all the same; `None`: it keeps it, or has none.
    pub cookie: Option<HeaderValue>,
}

/// Why a logout ended nothing.
#[derive(Debug)]
pub enum LogoutError<E> {
    /// There is nothing but an access token that was refused, so that nobody is known.
    AccessToken(E),
    /// Everything else.
    Issuer(IssuerError),
}

impl<E> From<IssuerError> for LogoutError<E> {
    fn from(error: IssuerError) -> Self {
        Self::Issuer(error)
    }
}

/// The refresh tokens that came: in the form, and in the cookie. A page may send something useless in the former.
type Tokens<'a> = [Option<&'a str>; 2];

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
    /// `POST|GET <prefix>/logout`: ends what `scope` in `query` says of the person whose refresh token stands in the field
    /// `refresh_token`, in the cookie, or whose access token came. Without any of these, or when the session is over
    /// already, there is nothing to end, which is no error. The cookie is deleted unless the session goes on, or it did not
    /// come: a browser that kept it back because a page of another site asks must not be told to forget it. Runs on the control
    /// runtime.
    ///
    /// # Errors
    /// Nobody is logged out, and is not to believe it: the form cannot be read, the store does not answer, the access token
    /// proves nothing, or several sessions shall end by tokens that are no good. Of a person who leaves a browser that others use
    /// the cookie goes even then; what is left of the session ends by its times.
    pub async fn log_out<E>(
        &self,
        request: FormRequest,
        query: Option<&str>,
        access: AccessToken<E>,
        visit: Visit,
    ) -> Result<Answer, LogoutRefused<E>> {
        let unread = |error: IssuerError| LogoutRefused { error: error.into(), cookie: None };
        let scope = scope_of(query).map_err(unread)?;
        let in_form = optional_fields(&request, &[Field::RefreshToken]).map_err(unread)?.take(Field::RefreshToken);
        let tokens = [in_form.as_ref(), visit.cookie.as_ref()].map(|token| token.map(ExposeSecret::expose_secret));
        let ended = match scope {
            LogoutScope::Local => self.end_this(tokens, access, &visit).await,
            LogoutScope::Global | LogoutScope::Others => self.end_many(tokens, access, scope, &visit).await,
        };
        let cookie = (scope != LogoutScope::Others && visit.cookie.is_some()).then(|| self.cookie.delete());
        match ended {
            Ok(ended) => {
                let mut answer = Answer::not_stored(&json!({ "sessions_ended": ended }));
                if let Some(cookie) = cookie {
                    answer.headers.append(SET_COOKIE, cookie);
                }
                Ok(answer)
            }
            Err(error) => Err(LogoutRefused { error, cookie }),
        }
    }

    /// Ends the session of each token that came: mostly one, but a form may name another than the cookie, which is deleted. Any
    /// token of it that we made will do, also one that was replaced: it is the client's wish to be out.
    async fn end_this<E>(
        &self,
        tokens: Tokens<'_>,
        access: AccessToken<E>,
        visit: &Visit,
    ) -> Result<u64, LogoutError<E>> {
        let mut named = Vec::new();
        for token in tokens.into_iter().flatten() {
            let session = self.sessions.session_named(token).await.map_err(IssuerError::StoreUnavailable)?;
            named.extend(session.map(|session| (session, None)));
        }
        match access {
            AccessToken::Good(identity) | AccessToken::Past(identity) => {
                named.extend(of(&identity).map(|asking| (asking.session, Some(asking.subject))));
            }
            AccessToken::Refused(error) if named.is_empty() => return Err(LogoutError::AccessToken(error)),
            AccessToken::Refused(_) | AccessToken::None => {}
        }
        let mut sessions_ended = 0;
        for (session, subject) in named {
            let ended = self.sessions.end(session, subject.as_deref(), EndReason::Logout, visit.now()).await;
            if ended.map_err(IssuerError::StoreUnavailable)? {
                let subject = match subject {
                    Some(subject) => Some(subject.into()),
                    None => self.sessions.subject_of(session).await,
                };
                self.tell_of_logout(LogoutScope::Local, 1, subject.as_deref(), session, visit);
                sessions_ended += 1;
            }
        }
        Ok(sessions_ended)
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
    /// else may have it. `None`: nothing came that would say who. Whoever is told of a success believes that the other devices
    /// are out, so what says nothing is refused.
    async fn asking<E>(
        &self,
        tokens: Tokens<'_>,
        access: AccessToken<E>,
        visit: &Visit,
    ) -> Result<Option<Asking>, LogoutError<E>> {
        let mut refused = None;
        for token in tokens.into_iter().flatten() {
            let found = self.sessions.look_up(token, None, visit.arrival).await;
            match found.inspect_err(|error| self.tell_of(error, visit)) {
                Ok(candidate) => {
                    let (session, subject) = (candidate.row.id, candidate.row.subject);
                    return Ok(Some(Asking { session, subject }));
                }
                Err(
                    RefreshError::Account { subject, session, .. } | RefreshError::Unreadable { subject, session, .. },
                ) => return Ok(Some(Asking { session, subject })),
                Err(RefreshError::Store(error)) => return Err(IssuerError::StoreUnavailable(error).into()),
                Err(error @ (RefreshError::Invalid(_) | RefreshError::Reused { .. })) => {
                    refused = refused.or(Some(IssuerError::Refresh(error)));
                }
            }
        }
        if let AccessToken::Good(identity) = &access
            && let Some(asking) = of(identity)
        {
            return Ok(Some(asking));
        }
        match (refused, access) {
            (Some(error), _) => Err(error.into()),
            (None, AccessToken::None) => Ok(None),
            (None, AccessToken::Good(_) | AccessToken::Past(_)) => Err(IssuerError::RefreshMissing.into()),
            (None, AccessToken::Refused(error)) => Err(LogoutError::AccessToken(error)),
        }
    }

    async fn end_many<E>(
        &self,
        tokens: Tokens<'_>,
        access: AccessToken<E>,
        scope: LogoutScope,
        visit: &Visit,
    ) -> Result<u64, LogoutError<E>> {
        let Some(Asking { session, subject }) = self.asking(tokens, access, visit).await? else { return Ok(0) };
        let reason = match scope {
            LogoutScope::Others => EndReason::LogoutOthers,
            LogoutScope::Local | LogoutScope::Global => EndReason::LogoutGlobal,
        };
        let ended = self.sessions.end_others(&subject, session, reason, visit.now()).await;
        let others = ended.map_err(IssuerError::StoreUnavailable)?;
        let own = match scope {
            LogoutScope::Others => Ok(false),
            // Last, so that who was told 503 in the middle can ask once more.
            LogoutScope::Local | LogoutScope::Global => {
                self.sessions.end(session, Some(&subject), reason, visit.now()).await
            }
        };
        let ended = others + u64::from(matches!(own, Ok(true)));
        if ended > 0 {
            self.tell_of_logout(scope, ended, Some(&subject), session, visit);
        }
        own.map_err(IssuerError::StoreUnavailable)?;
        Ok(ended)
    }
}

/// The session of an access token, and whose it is. `None`: it is of another issuer, or made by a command.
fn of(identity: &Identity) -> Option<Asking> {
    let session = identity.session()?.parse().ok()?;
    Some(Asking { session, subject: identity.subject().to_owned() })
}
