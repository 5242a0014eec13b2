//! What `GET <prefix>/me` tells callers about themselves.

use serde::Serialize;

use crate::time::UnixSeconds;
use crate::token::Identity;

/// Our own names, and `sub` besides, by which OpenID Connect clients know the endpoint as UserInfo (Core 1.0 section 5.3.2).
#[derive(Debug, Serialize)]
pub(super) struct Profile<'a> {
    pub(super) sub: &'a str,
    pub(super) subject: &'a str,
    /// `null` if the token does not say.
    pub(super) name: Option<&'a str>,
    /// `null` if the token does not say.
    pub(super) email: Option<&'a str>,
    pub(super) roles: &'a [Box<str>],
    pub(super) scopes: &'a [Box<str>],
    pub(super) issuer: &'a str,
    /// `null`: the token belongs to no session.
    pub(super) session: Option<&'a str>,
    /// Seconds since 1970, as `exp`.
    pub(super) expires_at: UnixSeconds,
}

impl<'a> Profile<'a> {
    pub(super) fn of(identity: &'a Identity) -> Self {
        Self {
            sub: identity.subject(),
            subject: identity.subject(),
            name: identity.name(),
            email: identity.email(),
            roles: identity.roles(),
            scopes: identity.scopes(),
            issuer: identity.issuer(),
            session: identity.session(),
            expires_at: identity.expires_at(),
        }
    }
}
