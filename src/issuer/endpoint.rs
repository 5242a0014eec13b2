//! Our own paths: which endpoint is where, what it answers, and what it asks of a request.

use http::Method;

use crate::token::TokenSettings;

use super::LoginSettings;
use super::alias::{Alias, Aliases, Spoken};
use super::metadata::Metadata;

/// Which paths are our own, and the documents that say so.
#[derive(Debug)]
pub struct Endpoints {
    prefix: String,
    aliases: Aliases,
    /// Whether there is [`Endpoint::Register`].
    registers: bool,
    /// Whether there is [`Endpoint::Introspect`].
    introspects: bool,
    /// `None` if `tokens.issuer` is no URL that a client could begin at.
    pub(super) metadata: Option<Metadata>,
}

/// One of our own paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `<prefix>/login`
    Login,
    /// `<prefix>/token`
    Token,
    /// `<prefix>/refresh`
    Refresh,
    /// `<prefix>/logout`
    Logout,
    /// `<prefix>/me`
    Me,
    /// `<prefix>/sessions`
    Sessions,
    /// `<prefix>/sessions/{id}`
    Session,
    /// `<prefix>/password`
    Password,
    /// `<prefix>/register`, where `login.register` is on.
    Register,
    /// `<prefix>/revoke`
    Revoke,
    /// `<prefix>/introspect`, where `login.introspection_scope` is set.
    Introspect,
    /// `<prefix>/check`
    Check,
    /// `/.well-known/jwks.json`
    Jwks,
    /// `/.well-known/openid-configuration`
    OpenidConfiguration,
    /// `/.well-known/oauth-authorization-server`, followed by the path of the issuer if it has one (RFC 8414 section 3.1).
    OauthAuthorizationServer,
}

/// What an endpoint does with the refresh cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieUse {
    /// Nothing.
    None,
    /// Whoever has it is who asks.
    Read,
    /// Whoever asks is somebody else now, whatever came.
    Replaced,
}

impl Endpoints {
    /// The endpoints that `[login]` and `[tokens]` describe.
    pub fn new(settings: &LoginSettings, tokens: &TokenSettings) -> Self {
        Self {
            prefix: settings.prefix.clone(),
            aliases: settings.aliases.clone(),
            registers: settings.register,
            introspects: settings.introspection_scope.is_some(),
            metadata: Metadata::new(settings, tokens),
        }
    }

    /// The endpoint at this path, which must be normalized. Asked for every request, before the routes: two comparisons of
    /// prefixes and one with each alias reject all others.
    pub fn find(&self, path: &str) -> Option<Endpoint> {
        let own = path.strip_prefix(self.prefix.as_str()).and_then(|rest| self.own(rest));
        own.or_else(|| well_known(self.metadata.as_ref(), path.strip_prefix("/.well-known/")?))
            .or_else(|| self.aliases.find(path).map(Alias::endpoint))
    }

    /// In whose words the endpoint at this path is spoken to. `None`: in our own, at our own path.
    pub fn spoken(&self, path: &str) -> Option<Spoken> {
        self.aliases.find(path).map(Alias::spoken)
    }

    /// The id in the path of [`Endpoint::Session`].
    pub fn session_id<'a>(&self, path: &'a str) -> Option<&'a str> {
        session_id(path.strip_prefix(self.prefix.as_str())?)
    }

    fn own(&self, rest: &str) -> Option<Endpoint> {
        match rest {
            "/login" => Some(Endpoint::Login),
            "/token" => Some(Endpoint::Token),
            "/refresh" => Some(Endpoint::Refresh),
            "/logout" => Some(Endpoint::Logout),
            "/me" => Some(Endpoint::Me),
            "/sessions" => Some(Endpoint::Sessions),
            "/password" => Some(Endpoint::Password),
            "/register" => self.registers.then_some(Endpoint::Register),
            "/revoke" => Some(Endpoint::Revoke),
            "/introspect" => self.introspects.then_some(Endpoint::Introspect),
            "/check" => Some(Endpoint::Check),
            _ => session_id(rest).map(|_| Endpoint::Session),
        }
    }
}

fn session_id(rest: &str) -> Option<&str> {
    rest.strip_prefix("/sessions/").filter(|id| !id.is_empty() && !id.contains('/'))
}

fn well_known(metadata: Option<&Metadata>, rest: &str) -> Option<Endpoint> {
    if rest == "jwks.json" {
        return Some(Endpoint::Jwks);
    }
    let metadata = metadata?;
    if rest == "openid-configuration" {
        return Some(Endpoint::OpenidConfiguration);
    }
    let issuer_path = rest.strip_prefix("oauth-authorization-server")?;
    (issuer_path.is_empty() || issuer_path == metadata.issuer_path).then_some(Endpoint::OauthAuthorizationServer)
}

impl Endpoint {
    /// What it answers; everything else is 405 with these in `Allow`.
    pub const fn methods(self) -> &'static [Method] {
        match self {
            Self::Login | Self::Token | Self::Password | Self::Register | Self::Revoke | Self::Introspect => {
                &[Method::POST]
            }
            // GET for clients that can do nothing else. No HEAD: it would change the token and not tell the new one.
            Self::Refresh | Self::Logout => &[Method::GET, Method::POST],
            Self::Session => &[Method::DELETE],
            Self::Me
            | Self::Sessions
            | Self::Check
            | Self::Jwks
            | Self::OpenidConfiguration
            | Self::OauthAuthorizationServer => &[Method::GET, Method::HEAD],
        }
    }

    /// A name for logs and metrics, where a route's name stands for others.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "tollgate:login",
            Self::Token => "tollgate:token",
            Self::Refresh => "tollgate:refresh",
            Self::Logout => "tollgate:logout",
            Self::Me => "tollgate:me",
            Self::Sessions => "tollgate:sessions",
            Self::Session => "tollgate:session",
            Self::Password => "tollgate:password",
            Self::Register => "tollgate:register",
            Self::Revoke => "tollgate:revoke",
            Self::Introspect => "tollgate:introspect",
            Self::Check => "tollgate:check",
            Self::Jwks => "tollgate:jwks",
            Self::OpenidConfiguration => "tollgate:openid-configuration",
            Self::OauthAuthorizationServer => "tollgate:oauth-authorization-server",
        }
    }

    /// Whether a page of another site must not be able to call it. The others act on what a client sends on purpose.
    pub const fn acts_on_cookie(self) -> bool {
        match self.cookie_use() {
            CookieUse::Read | CookieUse::Replaced => true,
            CookieUse::None => false,
        }
    }

    /// What becomes of the refresh cookie of a request.
    pub const fn cookie_use(self) -> CookieUse {
        match self {
            Self::Refresh | Self::Logout => CookieUse::Read,
            Self::Login | Self::Register => CookieUse::Replaced,
            Self::Token
            | Self::Me
            | Self::Sessions
            | Self::Session
            | Self::Password
            | Self::Revoke
            | Self::Introspect
            | Self::Check
            | Self::Jwks
            | Self::OpenidConfiguration
            | Self::OauthAuthorizationServer => CookieUse::None,
        }
    }

    /// Whether it is about its caller, who must bring an access token.
    pub const fn needs_token(self) -> bool {
        match self {
            Self::Me | Self::Sessions | Self::Session | Self::Password | Self::Introspect | Self::Check => true,
            // A refresh or a logout may bring one, and reads it in its own way.
            Self::Login
            | Self::Token
            | Self::Refresh
            | Self::Logout
            | Self::Register
            | Self::Revoke
            | Self::Jwks
            | Self::OpenidConfiguration
            | Self::OauthAuthorizationServer => false,
        }
    }

    /// Whether it reads a form.
    pub const fn takes_form(self) -> bool {
        match self {
            Self::Login
            | Self::Token
            | Self::Refresh
            | Self::Logout
            | Self::Password
            | Self::Register
            | Self::Revoke
            | Self::Introspect => true,
            Self::Me
            | Self::Sessions
            | Self::Session
            | Self::Check
            | Self::Jwks
            | Self::OpenidConfiguration
            | Self::OauthAuthorizationServer => false,
        }
    }

    /// Whether its clients read refusals in the words of RFC 6749 section 5.2 only (RFC 7009 section 2.2.1, RFC 7662 section 2.3).
    pub const fn speaks_oauth(self) -> bool {
        match self {
            Self::Token | Self::Revoke => true,
            Self::Login
            | Self::Refresh
            | Self::Logout
            | Self::Me
            | Self::Sessions
            | Self::Session
            | Self::Password
            | Self::Register
            | Self::Introspect
            | Self::Check
            | Self::Jwks
            | Self::OpenidConfiguration
            | Self::OauthAuthorizationServer => false,
        }
    }
}
