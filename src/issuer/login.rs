//! `POST <prefix>/login` and `POST <prefix>/token`: a username and a password, or a refresh token, become an access token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::metrics::Grant;

use super::form::{Accepted, Field, Fields, FormRequest, HeaderCount, decode_form_text};
use super::issue::{Issued, Renewal};
use super::{Answer, Issuer, IssuerError, OauthError, Visit};

/// Longest `client_id`, in bytes.
pub(super) const MAX_CLIENT_ID_BYTES: usize = 128;

impl Issuer {
    /// `POST <prefix>/login`: begins a session, whose refresh token goes into the cookie. Runs on the control runtime.
    ///
    /// Whatever cookie the request brings is replaced, because somebody else may have planted it, and its session ended.
    ///
    /// # Errors
    /// See [`IssuerError`]. A failed login takes the same time and has the same answer whatever it failed of.
    pub async fn log_in(&self, request: FormRequest, visit: Visit) -> Result<Answer, IssuerError> {
        let form = request.read(Accepted::FormsAndJson).map_err(IssuerError::Form)?;
        // A secret is the easiest mistake to see, and one that must not pass for a checked one.
        if form.client_secret.is_some() {
            return Err(IssuerError::ClientSecret);
        }
        let client_id = client_id(form.client_id.as_deref())?;
        let issued = self.issue(&form, client_id, &visit).await?;
        self.end_replaced(&visit).await;
        Ok(self.answer_with_cookie(&issued))
    }

    /// `POST <prefix>/token`: the resource owner password credentials grant (RFC 6749 section 4.3) and the refresh of a token
    /// (section 6). Gives besides which of the two it was; `None`: the request does not say. Runs on the control runtime.
    ///
    /// # Errors
    /// See [`OauthError`].
    pub async fn token(&self, request: FormRequest, visit: Visit) -> (Option<Grant>, Result<Answer, OauthError>) {
        let (fields, client) = match self.token_request(&request) {
            Ok(read) => read,
            Err(error) => return (None, Err(error)),
        };
        // Which grant it is decides which fields must be there, so it is looked at before them.
        match fields.grant_type() {
            None => (None, Err(OauthError::GrantTypeMissing)),
            Some("refresh_token") => {
                let answer = self.refresh_grant(fields, client.as_deref(), visit).await;
                (Some(Grant::RefreshToken), answer.map_err(OauthError::Login))
            }
            Some("password") if self.settings.password_grant => {
                let answer = self.password_grant(fields, client.as_deref(), visit).await;
                (Some(Grant::Password), answer.map_err(OauthError::Login))
            }
            Some(_) => (None, Err(OauthError::GrantTypeUnsupported)),
        }
    }

    /// The fields of a request to the token endpoint, and the client that it names.
    fn token_request(&self, request: &FormRequest) -> Result<(Fields, Option<String>), OauthError> {
        let header = basic_client(&request.authorization)?;
        let mut fields = request.read_fields(Accepted::Forms, TOKEN_FIELDS).map_err(IssuerError::Form)?;
        if fields.take(Field::ClientSecret).is_some() {
            return Err(IssuerError::ClientSecret.into());
        }
        let client = match (header, fields.take_text(Field::ClientId)) {
            (Some(header), Some(form)) if header != form => return Err(OauthError::ClientMismatch),
            (header, form) => form.or(header),
        };
        client_id(client.as_deref())?;
        Ok((fields, client))
    }

    async fn password_grant(&self, fields: Fields, client: Option<&str>, visit: Visit) -> Result<Answer, IssuerError> {
        let form = fields.finish().map_err(IssuerError::Form)?;
        Ok(oauth_answer(self.issue(&form, client, &visit).await?))
    }

    async fn refresh_grant(
        &self,
        mut fields: Fields,
        client_id: Option<&str>,
        visit: Visit,
    ) -> Result<Answer, IssuerError> {
        let token = fields.need(Field::RefreshToken).map_err(IssuerError::Form)?;
        let scope = fields.take_text(Field::Scope);
        let renewal =
            Renewal { token: token.expose_secret(), access_session: None, scope: scope.as_deref(), client_id };
        Ok(oauth_answer(self.renew(renewal, &visit).await?))
    }
}

/// The fields of both grants. What else a form has is passed over.
const TOKEN_FIELDS: &[Field] = &[
    Field::Username,
    Field::Password,
    Field::GrantType,
    Field::Scope,
    Field::ClientId,
    Field::ClientSecret,
    Field::RefreshToken,
];

/// RFC 6749 section 5.1.
fn oauth_answer(issued: Issued) -> Answer {
    let mut answer = json!({
        "access_token": issued.access.token,
        "token_type": "bearer",
        "expires_in": issued.access.expires_in.as_secs(),
        "refresh_token": issued.refresh.expose(),
    });
    // A scope has at least one character (RFC 6749 section 3.3), so none is left out.
    if !issued.scope.is_empty() {
        answer["scope"] = issued.scope.into();
    }
    Answer::not_stored(&answer)
}

/// A label of 1 to 128 visible ASCII characters (RFC 6749 appendix A.1 allows spaces, too, which would only confuse logs).
fn client_id(label: Option<&str>) -> Result<Option<&str>, IssuerError> {
    match label {
        Some(label) if label.len() > MAX_CLIENT_ID_BYTES || !label.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(IssuerError::ClientId)
        }
        label => Ok(label),
    }
}

/// The client of `Authorization: Basic` (RFC 6749 section 2.3.1). Swagger UI, which FastAPI serves, always sends one, with an
/// empty secret and mostly an empty name. `Bearer` is not about the client: it is an old token that the client's HTTP library
/// adds to everything, and must not keep its owner from logging in again.
fn basic_client(authorization: &HeaderCount) -> Result<Option<String>, OauthError> {
    let value = match authorization {
        HeaderCount::None => return Ok(None),
        HeaderCount::Several => return Err(OauthError::AuthorizationRepeated),
        HeaderCount::One(value) => value.to_str().map_err(|_| OauthError::AuthorizationUnusable)?,
    };
    let (scheme, credentials) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(OauthError::AuthorizationUnusable);
    }
    let decoded = STANDARD.decode(credentials.trim()).map_err(|_| OauthError::AuthorizationUnusable)?;
    let decoded = String::from_utf8(decoded).map_err(|_| OauthError::AuthorizationUnusable)?;
    let decoded = SecretString::from(decoded);
    let (client, secret) = decoded.expose_secret().split_once(':').ok_or(OauthError::AuthorizationUnusable)?;
    if !secret.is_empty() {
        return Err(OauthError::BasicSecret);
    }
    let client = decode_form_text(client).map_err(|_| OauthError::AuthorizationUnusable)?;
    Ok(Some(client).filter(|client| !client.is_empty()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::AUTHORIZATION;

    use super::*;

    #[track_caller]
    fn check_client(authorization: &[&str], expected: Result<Option<&str>, &str>) {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let request = FormRequest::new(&headers, bytes::Bytes::new());
        let client = basic_client(&request.authorization);
        match (&client, expected) {
            (Ok(client), Ok(expected)) => assert_eq!(client.as_deref(), expected),
            (Err(error), Err(expected)) => assert_eq!(error.code().name(), expected),
            (_, expected) => panic!("{authorization:?} gave {client:?}, not {expected:?}"),
        }
    }

    #[test]
    fn basic_without_a_secret_names_the_client() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        check_client(&[], Ok(None));
        check_client(&[&basic(":")], Ok(None));
        check_client(&[&basic("notebook:")], Ok(Some("notebook")));
        check_client(&[&basic("note%20book:").replace("Basic", "bASIC")], Ok(Some("note book")));
        check_client(&["Bearer old"], Ok(None));
    }

    #[test]
    fn a_client_that_authenticates_is_refused() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        check_client(&[&basic("notebook:secret")], Err("invalid_client"));
        for unusable in ["Basic", "Basic !", &basic("no colon"), &basic("a%zz:"), "Digest x", ""] {
            check_client(&[unusable], Err("invalid_client"));
        }
        check_client(&["Bearer a", &basic(":")], Err("invalid_request"));
    }

    #[test]
    fn a_client_id_is_a_short_label() {
        assert_eq!(client_id(None).unwrap(), None);
        assert_eq!(client_id(Some("a-b:c")).unwrap(), Some("a-b:c"));
        assert!(client_id(Some(&"a".repeat(128))).is_ok());
        for label in [&"a".repeat(129), "a b", "ä", "a\n"] {
            assert!(matches!(client_id(Some(label)), Err(IssuerError::ClientId)), "{label:?}");
        }
    }
}
