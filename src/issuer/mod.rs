//! The authorization-server half: the endpoints under `/auth` and `/.well-known`.
//!
//! There is no client registry: every client is public (RFC 6749 section 2.1), `client_id` is a label that ends up in the token
//! and proves nothing, and a client secret is refused, because one that nobody checks must not seem checked. The password grant
//! is for first-party clients only (RFC 9700 section 2.4 discourages it) and can be switched off.

mod alias;
mod dialect;
mod document;
mod error;
mod form;
mod login;
mod metadata;
mod profile;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use http::{HeaderMap, Method, StatusCode};

use crate::account::Accounts;
use crate::keyset::KeySet;
use crate::token::mint::Minter;
use crate::token::{Identity, TokenSettings};

pub use alias::{Alias, Aliases, Deed, Spoken};
pub use dialect::Dialect;
pub use document::Document;
pub use error::{IssuerError, OauthError, OauthErrorCode};
pub use form::{Accepted, Field, FormError, FormRequest, LoginForm, MAX_FORM_BYTES};

use metadata::Metadata;

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
}

/// Logs people in and says who issues our tokens. Shared by all workers; holds no state of a request.
#[derive(Debug)]
pub struct Issuer {
    settings: LoginSettings,
    accounts: Arc<Accounts>,
    minter: Arc<Minter>,
    endpoints: Endpoints,
}

/// Which paths are our own, and the documents that say so.
#[derive(Debug)]
pub struct Endpoints {
    prefix: String,
    aliases: Aliases,
    /// `None` if `tokens.issuer` is no URL that a client could begin at.
    metadata: Option<Metadata>,
}

/// One of our own paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `<prefix>/login`
    Login,
    /// `<prefix>/token`
    Token,
    /// `<prefix>/me`
    Me,
    /// `/.well-known/jwks.json`
    Jwks,
    /// `/.well-known/openid-configuration`
    OpenidConfiguration,
    /// `/.well-known/oauth-authorization-server`, followed by the path of the issuer if it has one (RFC 8414 section 3.1).
    OauthAuthorizationServer,
}

/// A success: what could not be done is an error. Answers to GET carry their body also for HEAD, where the server that
/// writes them leaves it out and keeps its length.
#[derive(Clone)]
pub struct Answer {
    /// 200, or 304 to a condition.
    pub status: StatusCode,
    /// All but the framing.
    pub headers: HeaderMap,
    /// Empty with 304.
    pub body: Bytes,
}

impl Issuer {
    /// The issuer that `[login]` and `[tokens]` describe.
    pub fn new(settings: &LoginSettings, tokens: &TokenSettings, accounts: Arc<Accounts>, minter: Arc<Minter>) -> Self {
        Self { settings: settings.clone(), accounts, minter, endpoints: Endpoints::new(settings, tokens) }
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
    /// cannot verify our tokens. Made anew from `keys`, which may have changed, in a few microseconds; a snapshot that
    /// wants to save these keeps [`Document::new`].
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

impl Endpoints {
    /// The endpoints that `[login]` and `[tokens]` describe.
    pub fn new(settings: &LoginSettings, tokens: &TokenSettings) -> Self {
        Self {
            prefix: settings.prefix.clone(),
            aliases: settings.aliases.clone(),
            metadata: Metadata::new(settings, tokens),
        }
    }

    /// The endpoint at this path, which must be normalized. Asked for every request, before the routes: two comparisons of
    /// prefixes and one with each alias reject all others.
    pub fn find(&self, path: &str) -> Option<Endpoint> {
        let alias = || self.aliases.find(path).map(Alias::endpoint);
        find_endpoint(&self.prefix, self.metadata.as_ref(), path).or_else(alias)
    }

    /// In whose words the endpoint at this path is spoken to. `None`: in our own, at our own path.
    pub fn spoken(&self, path: &str) -> Option<Spoken> {
        self.aliases.find(path).map(Alias::spoken)
    }
}

impl Endpoint {
    /// What it answers; everything else is 405 with these in `Allow`.
    pub const fn methods(self) -> &'static [Method] {
        match self {
            Self::Login | Self::Token => &[Method::POST],
            Self::Me | Self::Jwks | Self::OpenidConfiguration | Self::OauthAuthorizationServer => {
                &[Method::GET, Method::HEAD]
            }
        }
    }

    /// A name for logs and metrics, where a route's name stands for others.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "tollgate:login",
            Self::Token => "tollgate:token",
            Self::Me => "tollgate:me",
            Self::Jwks => "tollgate:jwks",
            Self::OpenidConfiguration => "tollgate:openid-configuration",
            Self::OauthAuthorizationServer => "tollgate:oauth-authorization-server",
        }
    }
}

impl Answer {
    /// 200 with JSON that nobody may keep (RFC 6749 section 5.1).
    fn not_stored(value: &impl serde::Serialize) -> Self {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        let body = serde_json::to_vec(value).expect("text, numbers and lists always serialize");
        Self { status: StatusCode::OK, headers, body: body.into() }
    }
}

/// Hides the body, which may hold a token.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

fn find_endpoint(prefix: &str, metadata: Option<&Metadata>, path: &str) -> Option<Endpoint> {
    let own = path.strip_prefix(prefix).and_then(|rest| match rest {
        "/login" => Some(Endpoint::Login),
        "/token" => Some(Endpoint::Token),
        "/me" => Some(Endpoint::Me),
        _ => None,
    });
    own.or_else(|| {
        let rest = path.strip_prefix("/.well-known/")?;
        if rest == "jwks.json" {
            return Some(Endpoint::Jwks);
        }
        let metadata = metadata?;
        if rest == "openid-configuration" {
            return Some(Endpoint::OpenidConfiguration);
        }
        let issuer_path = rest.strip_prefix("oauth-authorization-server")?;
        (issuer_path.is_empty() || issuer_path == metadata.issuer_path).then_some(Endpoint::OauthAuthorizationServer)
    })
}

#[cfg(test)]
mod tests;
