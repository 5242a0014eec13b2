//! `<prefix>/revoke` (RFC 7009) and `<prefix>/introspect` (RFC 7662): what becomes of a token, and what it says.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::audit::{Event, Whom};
use crate::session::{EndReason, SessionId};
use crate::token::Identity;

use super::form::{Accepted, Field, FormRequest};
use super::{Answer, Issuer, IssuerError, Visit};

impl Issuer {
    /// The token that a request to revoke or to introspect is about. The type that the client takes it for does not matter: what
    /// it is shows in itself.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub fn asked_token(&self, request: &FormRequest) -> Result<SecretString, IssuerError> {
        let known = &[Field::Token, Field::ClientSecret];
        let mut fields = request.read_fields(Accepted::Forms, known).map_err(IssuerError::Form)?;
        if fields.take(Field::ClientSecret).is_some() {
            return Err(IssuerError::ClientSecret);
        }
        fields.need(Field::Token).map_err(IssuerError::Form)
    }

    /// `POST <prefix>/revoke`: ends the session of a refresh token, whether it can still be used or not, or else the one that an
    /// access token proved, `by_access`. A token of none is a success, too (RFC 7009 section 2.2). The clients are public, so the
    /// token itself is the proof that its holder may. Runs on the control runtime.
    ///
    /// # Errors
    /// [`IssuerError::StoreUnavailable`].
    pub async fn revoke(
        &self,
        token: &SecretString,
        by_access: Option<SessionId>,
        visit: Visit,
    ) -> Result<Answer, IssuerError> {
        let session = match by_access {
            Some(session) => Some(session),
            None => {
                let named = self.sessions.session_named(token.expose_secret()).await;
                named.map_err(IssuerError::StoreUnavailable)?
            }
        };
        if let Some(session) = session {
            let ended = self.sessions.end(session, None, EndReason::Revoked, visit.now()).await;
            if ended.map_err(IssuerError::StoreUnavailable)? {
                let subject = self.sessions.subject_of(session).await;
                let session = session.to_string();
                let event = Event::SessionsRevoked { reason: EndReason::Revoked.name(), sessions: 1 };
                let whom = Whom { subject: subject.as_deref(), login: None, session: Some(&session) };
                self.audit.record(&event, whom, &visit.origin());
            }
        }
        Ok(Answer::not_stored(&json!({})))
    }

    /// `POST <prefix>/introspect`: what a good access token says (RFC 7662 section 2.2). `None`: `token` is none, which is all that
    /// is told of it. A refresh token is no business of whoever asks, so it is none, either.
    pub fn introspection(&self, token: Option<&Identity>) -> Answer {
        let Some(identity) = token else { return Answer::not_stored(&json!({ "active": false })) };
        let mut answer = json!({
            "active": true,
            "token_type": "Bearer",
            "iss": identity.issuer(),
            "sub": identity.subject(),
            "exp": identity.expires_at(),
        });
        let texts = [
            ("username", identity.name()),
            ("client_id", identity.client_id()),
            ("jti", identity.token_id()),
            ("sid", identity.session()),
            ("scope", Some(identity.scopes_text()).filter(|scope| !scope.is_empty())),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                answer[name] = text.into();
            }
        }
        for name in ["aud", "iat", "nbf"] {
            if let Some(value) = identity.claim(name) {
                answer[name] = value.clone();
            }
        }
        if !identity.roles().is_empty() {
            answer["roles"] = json!(identity.roles());
        }
        Answer::not_stored(&answer)
    }
}
