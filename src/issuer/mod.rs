//! The authorization-server half: the endpoints under `/auth` and `/.well-known`.
//!
//! There is no client registry: every client is public (RFC 6749 section 2.1), `client_id` is a label that ends up in the token
//! and proves nothing, and a client secret is refused, because one that nobody checks must not seem checked. The password grant
//! is for first-party clients only (RFC 9700 section 2.4 discourages it) and can be switched off.

mod alias;
mod cookie;
mod demand;
mod dialect;
mod document;
mod endpoint;
mod error;
mod form;
mod introspection;
mod issue;
mod login;
mod logout;
mod metadata;
mod own;
mod profile;
mod query;
mod refresh;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;

use crate::account::Accounts;
use crate::audit::{Audit, Client, Origin};
use crate::keyset::KeySet;
use crate::request::cookie::{CookieError, cookie};
use crate::request::origin::OwnScheme;
use crate::session::{SeenFrom, Sessions};
use crate::time::{Arrival, UnixSeconds};
use crate::token::mint::Minter;
use crate::token::{Identity, TokenSettings};

pub use alias::{Alias, Aliases, Deed, Spoken};
pub use cookie::{CookieSettings, SameSite};
pub use demand::{Demand, Freshness};
pub use dialect::Dialect;
pub use document::Document;
pub use endpoint::{CookieUse, Endpoint, Endpoints};
pub use error::{IssuerError, OauthError, OauthErrorCode};
pub use form::{Accepted, Field, FormError, FormRequest, LoginForm, MAX_FORM_BYTES};
pub use issue::Issued;
pub use logout::{AccessToken, LogoutError, LogoutRefused};

use cookie::RefreshCookie;

/// `[login]`.
#[derive(Debug, Clone)]
pub struct LoginSettings {
    /// Where the endpoints are. Begins with `/`, does not end with it. Default `/auth`.
    pub prefix: String,
    /// Whether `POST <prefix>/token` takes `grant_type=password`. Default true.
    pub password_grant: bool,
    /// `client_id` of tokens from a login that names no client. Default `tollgate`.
    pub client_id: String,
    /// Where clients of other servers find the endpoints. Default none.
    pub aliases: Aliases,
    /// The refresh cookie.
    pub cookie: CookieSettings,
    /// Whether there is `POST <prefix>/register`. Default false.
    pub register: bool,
    /// The scope that callers of `POST <prefix>/introspect` need. `None` (default): there is no such endpoint.
    pub introspection_scope: Option<String>,
    /// How long logins, refreshes and logouts wait for a store that does not answer, such as one that elects a primary. Zero:
    /// they are refused at once. Default 10 seconds.
    pub store_patience: Duration,
}

impl LoginSettings {
    /// Whether clients reach us by `https`, as far as the cookie and our own address, `issuer`, say. No browser keeps a secure
    /// cookie of a page of plain `http`.
    pub fn own_scheme(&self, issuer: &str) -> OwnScheme {
        if self.cookie.is_secure { OwnScheme::Https } else { OwnScheme::of(issuer) }
    }
}

/// Logs people in and says who issues our tokens. Shared by all workers; holds no state of a request.
#[derive(Debug)]
pub struct Issuer {
    settings: LoginSettings,
    /// `tokens.issuer`
    issuer: String,
    accounts: Arc<Accounts>,
    sessions: Arc<Sessions>,
    minter: Arc<Minter>,
    audit: Arc<Audit>,
    endpoints: Endpoints,
    cookie: RefreshCookie,
}

/// What a request brings besides its form.
#[derive(Debug)]
pub struct Visit {
    /// The value of the refresh cookie.
    pub cookie: Option<SecretString>,
    /// Who sent it, from where.
    pub client: Client,
    /// When it came, body and all.
    pub arrival: Arrival,
}

impl Visit {
    /// What time it is by now.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.arrival.now()
    }

    /// For the session's row.
    fn seen(&self) -> SeenFrom {
        SeenFrom { address: Some(self.client.address), user_agent: self.client.user_agent.clone() }
    }

    /// For the audit.
    fn origin(&self) -> Origin {
        Origin::Client(self.client.clone())
    }
}

/// A success: what could not be done is an error. Answers to GET carry their body also for HEAD, where the server that
/// writes them leaves it out and keeps its length.
#[derive(Clone)]
pub struct Answer {
    /// 200, 201 for what was made, or 304 to a condition.
    pub status: StatusCode,
    /// All but the framing.
    pub headers: HeaderMap,
    /// Empty with 304.
    pub body: Bytes,
    /// The login of the account that tokens in the body are for: some other servers say it beside them.
    pub login: Option<String>,
}

impl Issuer {
    /// The issuer that `[login]` and `[tokens]` describe.
    pub fn new(
        settings: &LoginSettings,
        tokens: &TokenSettings,
        accounts: Arc<Accounts>,
        sessions: Arc<Sessions>,
        minter: Arc<Minter>,
        audit: Arc<Audit>,
    ) -> Self {
        let (endpoints, cookie) = (Endpoints::new(settings, tokens), RefreshCookie::new(&settings.cookie));
        let issuer = tokens.issuer.clone();
        Self { settings: settings.clone(), issuer, accounts, sessions, minter, audit, endpoints, cookie }
    }

    /// The sessions of the people who log in here.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The scope that callers of `POST <prefix>/introspect` need; without one there is no such endpoint.
    pub fn introspection_scope(&self) -> Option<&str> {
        self.settings.introspection_scope.as_deref()
    }

    /// As [`LoginSettings::own_scheme`].
    pub fn own_scheme(&self) -> OwnScheme {
        self.settings.own_scheme(&self.issuer)
    }

    /// The refresh cookie of a request.
    ///
    /// # Errors
    /// It stands twice.
    pub fn cookie(&self, headers: &HeaderMap) -> Result<Option<SecretString>, CookieError> {
        let value = cookie(headers, self.cookie.name())?;
        // What is not UTF-8 is none of our tokens, and no other text is either.
        Ok(value.map(|value| String::from_utf8_lossy(value).into_owned().into()))
    }

    /// As [`Endpoints::session_id`].
    pub fn session_id<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.endpoints.session_id(path)
    }

    /// As [`Endpoints::find`].
    pub fn endpoint(&self, path: &str) -> Option<Endpoint> {
        self.endpoints.find(path)
    }

    /// As [`Endpoints::spoken`].
    pub fn spoken(&self, path: &str) -> Option<Spoken> {
        self.endpoints.spoken(path)
    }

    /// `GET /.well-known/jwks.json`. With an HMAC algorithm the list is empty: the secret is not for publication, and others
    /// cannot verify our tokens. Made anew from `keys`, which may have changed, in a few microseconds.
    pub fn jwks(&self, keys: &KeySet, headers: &HeaderMap) -> Answer {
        Document::new(&keys.jwks()).answer(headers)
    }

    /// `GET /.well-known/openid-configuration`. `headers` are the request's, for `If-None-Match`.
    /// `None` if [`Self::endpoint`] does not know the endpoint either, because `tokens.issuer` is not an `http` URL.
    pub fn openid_configuration(&self, headers: &HeaderMap) -> Option<Answer> {
        self.endpoints.metadata.as_ref().map(|metadata| metadata.openid_configuration.answer(headers))
    }

    /// `GET /.well-known/oauth-authorization-server`; otherwise as [`Self::openid_configuration`].
    pub fn oauth_authorization_server(&self, headers: &HeaderMap) -> Option<Answer> {
        self.endpoints.metadata.as_ref().map(|metadata| metadata.oauth_authorization_server.answer(headers))
    }

    /// `GET <prefix>/me`: what the caller's token says of the caller.
    pub fn me(&self, identity: &Identity) -> Answer {
        Answer::not_stored(&profile::Profile::of(identity))
    }
}

impl Answer {
    /// 201 with JSON that nobody may keep.
    fn created(value: &impl serde::Serialize) -> Self {
        Self { status: StatusCode::CREATED, ..Self::not_stored(value) }
    }

    /// 200 with JSON that nobody may keep (RFC 6749 section 5.1).
    fn not_stored(value: &impl serde::Serialize) -> Self {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        let body = serde_json::to_vec(value).expect("text, numbers and lists always serialize");
        Self { status: StatusCode::OK, headers, body: body.into(), login: None }
    }
}

/// Hides the body, which may hold a token.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
