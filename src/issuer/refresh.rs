//! `<prefix>/refresh`: a refresh token becomes the next one and an access token.

use http::header::SET_COOKIE;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::audit::LogoutScope;
use crate::session::{EndReason, SessionId};

use super::form::{Accepted, Field, Fields, FormRequest};
use super::issue::{Issued, Renewal};
use super::{Answer, Issuer, IssuerError, Visit};

impl Issuer {
    /// `POST|GET <prefix>/refresh`: the refresh token of the field `refresh_token`, or else of the cookie, becomes the next one,
    /// which goes where it came from. `access_session` is the session of an access token that was presented besides, which must
    /// be the same. Runs on the control runtime.
    ///
    /// A refusal leaves the cookie: another tab may have got a new one while this request was on its way.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub async fn refresh(
        &self,
        request: FormRequest,
        access_session: Option<SessionId>,
        visit: Visit,
    ) -> Result<Answer, IssuerError> {
        let mut fields = optional_fields(&request, &[Field::RefreshToken, Field::Scope])?;
        let scope = fields.take_text(Field::Scope);
        let in_form = fields.take(Field::RefreshToken);
        // Who sends a token in the form means it; the cookie comes by itself.
        let token = in_form.as_ref().or(visit.cookie.as_ref()).ok_or(IssuerError::RefreshMissing)?;
        let renewal =
            Renewal { token: token.expose_secret(), access_session, scope: scope.as_deref(), client_id: None };
        let issued = self.renew(renewal, &visit).await?;
        Ok(if in_form.is_some() { answer_with_field(&issued) } else { self.answer_with_cookie(&issued) })
    }

    /// The access token in the body, the refresh token in the cookie, where no script reads it.
    pub(super) fn answer_with_cookie(&self, issued: &Issued) -> Answer {
        let mut answer = Answer::not_stored(&native(issued));
        let token = SecretString::from(issued.refresh.expose());
        answer.headers.append(SET_COOKIE, self.cookie.set(&token, issued.refresh_expires_in));
        answer.login = Some(issued.login.clone());
        answer
    }

    /// Ends the session of the cookie that a login replaces. What does not work out is left to the session's own end: the login
    /// is done, and its client has another cookie.
    pub(super) async fn end_replaced(&self, visit: &Visit) {
        let cookie = visit.cookie.as_ref();
        let Some(session) = cookie.and_then(|cookie| self.sessions.session_of(cookie.expose_secret())) else { return };
        match self.sessions.end(session, None, EndReason::Logout, visit.now()).await {
            Ok(true) => {
                let subject = self.sessions.subject_of(session).await;
                self.tell_of_logout(LogoutScope::Local, 1, subject.as_deref(), session, visit);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(session.id = %session, error = %error, "Session of a replaced cookie not ended");
            }
        }
    }
}

fn native(issued: &Issued) -> serde_json::Value {
    json!({
        "access_token": issued.access.token,
        "token_type": "bearer",
        "expires_in": issued.access.expires_in.as_secs(),
        "session": issued.session.to_string(),
    })
}

fn answer_with_field(issued: &Issued) -> Answer {
    let mut body = native(issued);
    body["refresh_token"] = issued.refresh.expose().into();
    Answer { login: Some(issued.login.clone()), ..Answer::not_stored(&body) }
}

/// The fields of a request that may have no body at all.
pub(super) fn optional_fields(request: &FormRequest, known: &'static [Field]) -> Result<Fields, IssuerError> {
    if request.is_empty() {
        return Ok(Fields::of(known, request.dialect()));
    }
    request.read_fields(Accepted::FormsAndJson, known).map_err(IssuerError::Form)
}
