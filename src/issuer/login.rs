//! `POST <prefix>/login` and `POST <prefix>/token`: a username and a password become an access token.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::account::{Account, LoginError};
use crate::audit::{Client, Event, LoginFailure, Origin, Whom};
use crate::time::UnixSeconds;
use crate::token::mint::{AccessGrant, MintedToken};

use super::form::{Accepted, FormRequest, HeaderCount, LoginForm, decode_form_text};
use super::{Answer, Issuer, IssuerError, OauthError};

/// Longest `client_id`, in bytes.
const MAX_CLIENT_ID_BYTES: usize = 128;

impl Issuer {
    /// `POST <prefix>/login`. Runs on the control runtime.
    ///
    /// # Errors
    /// See [`IssuerError`]. A failed login takes the same time and has the same answer whatever it failed of.
    pub async fn log_in(&self, request: FormRequest, now: UnixSeconds, client: Client) -> Result<Answer, IssuerError> {
        let form = request.read(Accepted::FormsAndJson).map_err(IssuerError::Form)?;
        // A secret is the easiest mistake to see, and one that must not pass for a checked one.
        if form.client_secret.is_some() {
            return Err(IssuerError::ClientSecret);
        }
        let client_id = client_id(form.client_id.as_deref())?;
        let (minted, _) = self.issue(&form, client_id, now, client).await?;
        Ok(Answer::not_stored(&json!({
            "access_token": minted.token,
            "token_type": "bearer",
            "expires_in": minted.expires_in.as_secs(),
        })))
    }

    /// `POST <prefix>/token`: the resource owner password credentials grant (RFC 6749 section 4.3). Runs on the control runtime.
    ///
    /// # Errors
    /// See [`OauthError`].
    pub async fn token(&self, request: FormRequest, now: UnixSeconds, client: Client) -> Result<Answer, OauthError> {
        let header_client = basic_client(&request.authorization)?;
        let fields = request.read_fields(Accepted::Forms).map_err(IssuerError::Form)?;
        // Which grant it is decides which fields must be there, so it is looked at before them.
        match fields.grant_type() {
            None => return Err(OauthError::GrantTypeMissing),
            Some("password") if self.settings.password_grant => {}
            Some(_) => return Err(OauthError::GrantTypeUnsupported),
        }
        let form = fields.finish().map_err(IssuerError::Form)?;
        if form.client_secret.is_some() {
            return Err(IssuerError::ClientSecret.into());
        }
        let label = match (header_client.as_deref(), form.client_id.as_deref()) {
            (Some(header), Some(form)) if header != form => return Err(OauthError::ClientMismatch),
            (header, form) => form.or(header),
        };
        let (minted, scope) = self.issue(&form, client_id(label)?, now, client).await?;
        let mut answer = json!({
            "access_token": minted.token,
            "token_type": "bearer",
            "expires_in": minted.expires_in.as_secs(),
        });
        // A scope has at least one character (RFC 6749 section 3.3), so none is left out.
        if !scope.is_empty() {
            answer["scope"] = scope.into();
        }
        Ok(Answer::not_stored(&answer))
    }

    /// Checks the password, signs a token, and tells the audit; gives the token's scope besides.
    async fn issue(
        &self,
        form: &LoginForm,
        client_id: Option<&str>,
        now: UnixSeconds,
        client: Client,
    ) -> Result<(MintedToken, String), IssuerError> {
        let origin = Origin::Client(client);
        let requested = form.scope.as_deref().map_or(Ok(Vec::new()), requested_scopes)?;
        let account = match self.accounts.log_in(&form.username, &form.password).await {
            Ok(account) => account,
            Err(error) => {
                if let Some((event, subject)) = failure(&error) {
                    // Who is somebody has that login; what is nobody's may be a password in the wrong field.
                    let login = subject.map(|_| form.username.as_str());
                    self.audit.record(&event, Whom { subject, login, session: None }, &origin);
                }
                return Err(error.into());
            }
        };
        let (subject, login) = (account.subject.clone(), account.login.clone());
        let whom = Whom { subject: Some(&subject), login: Some(&login), session: None };
        let scopes = narrow(&requested, &account).inspect_err(|_| {
            self.audit.record(&Event::LoginFailed { reason: LoginFailure::ScopeNotGranted }, whom, &origin);
        })?;
        let scope = scopes.join(" ");
        let grant = AccessGrant {
            subject: account.subject,
            client_id: client_id.unwrap_or(&self.settings.client_id).to_owned(),
            scopes,
            roles: account.roles,
            name: account.name,
            email: account.email,
        };
        let minted = self.minter.mint(&grant, now).map_err(IssuerError::Mint)?;
        self.audit.record(&Event::LoginSucceeded { client_id: &grant.client_id }, whom, &origin);
        Ok((minted, scope))
    }
}

/// What the audit is told of a failed login, and of whom; `None`: it says nothing about an account.
fn failure(error: &LoginError) -> Option<(Event<'static>, Option<&str>)> {
    let (reason, subject) = match error {
        LoginError::UnknownUser => (LoginFailure::UnknownUser, None),
        LoginError::AmbiguousLogin => (LoginFailure::AmbiguousLogin, None),
        LoginError::WrongPassword { subject } => (LoginFailure::WrongPassword, known(subject)),
        LoginError::Disabled { subject } => (LoginFailure::Disabled, known(subject)),
        LoginError::MalformedRecord { subject, reason: _ } => (LoginFailure::MalformedRecord, known(subject)),
        LoginError::Overloaded { .. } | LoginError::Store(_) => return None,
    };
    Some((Event::LoginFailed { reason }, subject))
}

/// `?` stands for nobody in particular.
fn known(subject: &str) -> Option<&str> {
    (subject != "?").then_some(subject)
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

/// `scope-token *( SP scope-token )`, several spaces and spaces around allowed. Empty: all that the account has.
fn requested_scopes(scope: &str) -> Result<Vec<&str>, IssuerError> {
    let scopes: Vec<&str> = scope.split(' ').filter(|scope| !scope.is_empty()).collect();
    if scopes.iter().all(|scope| is_scope_token(scope)) { Ok(scopes) } else { Err(IssuerError::ScopeMalformed) }
}

/// The account's scopes, or those of them that were asked for; in the account's order, each once.
fn narrow(requested: &[&str], account: &Account) -> Result<Vec<String>, IssuerError> {
    // By sets: whoever can write a record of a million scopes must not be able to make its login cost minutes.
    let mut known: HashSet<&str> = HashSet::new();
    let mut granted: Vec<String> = Vec::new();
    let mut left_out = 0_usize;
    for scope in &account.scopes {
        if !is_scope_token(scope) {
            // One with a space in it would be read as two scopes that nobody gave.
            left_out += 1;
        } else if known.insert(scope) {
            granted.push(scope.clone());
        }
    }
    if left_out > 0 {
        tracing::warn!(account.subject = %account.subject, scopes = left_out, "Left out scopes that are not one word of printable ASCII");
    }
    if !requested.iter().all(|scope| known.contains(scope)) {
        return Err(IssuerError::ScopeNotGranted { subject: account.subject.clone() });
    }
    if !requested.is_empty() {
        let requested: HashSet<&str> = requested.iter().copied().collect();
        granted.retain(|scope| requested.contains(scope.as_str()));
    }
    Ok(granted)
}

/// `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )` (RFC 6749 section 3.3).
fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use http::header::AUTHORIZATION;
    use tokio::time::Instant;

    use super::*;

    fn account(scopes: &[&str]) -> Account {
        Account {
            subject: "1".into(),
            login: "ada".into(),
            name: None,
            email: None,
            roles: Vec::new(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            disabled: false,
        }
    }

    /// The scopes of the token, or what stands for the error.
    fn narrowed(requested: &str, granted: &[&str]) -> String {
        match requested_scopes(requested).and_then(|requested| narrow(&requested, &account(granted))) {
            Ok(scopes) => scopes.join(" "),
            Err(IssuerError::ScopeMalformed) => "malformed".into(),
            Err(IssuerError::ScopeNotGranted { subject }) => format!("not granted to {subject}"),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn without_a_scope_the_token_has_all_of_the_account() {
        assert_eq!(narrowed("", &["a", "b"]), "a b");
        assert_eq!(narrowed("  ", &["a", "b"]), "a b");
        assert_eq!(narrowed("", &[]), "");
    }

    #[test]
    fn a_scope_narrows_in_the_order_of_the_account() {
        assert_eq!(narrowed("b", &["a", "b"]), "b");
        assert_eq!(narrowed(" b  a b ", &["a", "b", "c"]), "a b");
    }

    #[test]
    fn a_scope_that_the_account_lacks_is_refused() {
        assert_eq!(narrowed("a c", &["a", "b"]), "not granted to 1");
        assert_eq!(narrowed("A", &["a"]), "not granted to 1");
        assert_eq!(narrowed("a", &[]), "not granted to 1");
    }

    #[test]
    fn a_malformed_scope_is_refused() {
        for scope in ["a\tb", "a\"", "a\\", "ä", "a\nb", "a\0"] {
            assert_eq!(narrowed(scope, &["a", "b"]), "malformed", "{scope:?}");
        }
    }

    #[test]
    fn a_stored_scope_with_a_space_does_not_become_two() {
        assert_eq!(narrowed("", &["read admin", "read", "read"]), "read");
        assert_eq!(narrowed("admin", &["read admin"]), "not granted to 1");
    }

    #[test]
    fn many_scopes_cost_no_more_than_their_length() {
        let many: Vec<String> = (0..150_000).map(|number| format!("scope:{number}")).collect();
        let asked: Vec<&str> = many.iter().rev().take(7000).map(String::as_str).collect();
        let account = Account { scopes: many.clone(), ..account(&[]) };
        let start = Instant::now();
        assert_eq!(narrow(&asked, &account).unwrap().len(), 7000);
        // Each with each would be some 10^10 comparisons.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

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
