//! Steps of the walk that need nothing but their arguments, so that a decision can be replayed without a gateway.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};

use crate::body::{BodyLimits, Pace};
use crate::issuer::{CookieUse, Endpoint, MAX_FORM_BYTES};
use crate::policy::{Caller, Denial};
use crate::request::cookie::CookieError;
use crate::request::origin::{ForeignPage, OwnScheme, check_page};
use crate::request::path::{NormalPath, PathError};
use crate::request::web_origin::AllowedOrigins;
use crate::route::pattern::Rewrite;
use crate::route::{Access, Revocation, Route};
use crate::token::Identity;
use crate::token::bearer::{BearerError, bearer};

use super::refusal::Refusal;

/// The token that is to be verified: none on a public route, where nobody reads one.
///
/// # Errors
/// See [`BearerError`].
pub fn presented<'a>(access: &Access, headers: &'a HeaderMap) -> Result<Option<&'a str>, BearerError> {
    match access {
        Access::Public => Ok(None),
        Access::Optional | Access::Required(_) => bearer(headers),
    }
}

/// Whether an endpoint of ours takes the method.
///
/// # Errors
/// [`Refusal::EndpointMethod`].
pub fn endpoint_takes(endpoint: Endpoint, method: &Method) -> Result<(), Refusal> {
    let allowed = endpoint.methods();
    if allowed.contains(method) { Ok(()) } else { Err(Refusal::EndpointMethod { allowed }) }
}

/// The refresh cookies of a request, as far as its endpoint asks.
#[derive(Debug)]
pub enum Cookies<T> {
    /// None came, or nobody asks.
    None,
    /// The one.
    One(T),
    /// Several, of which none counts.
    Several,
}

impl<T> Cookies<T> {
    /// Whether a browser has sent any.
    pub const fn have_come(&self) -> bool {
        match self {
            Self::None => false,
            Self::One(_) | Self::Several => true,
        }
    }

    /// The one that counts.
    pub fn one(self) -> Option<T> {
        match self {
            Self::One(cookie) => Some(cookie),
            Self::None | Self::Several => None,
        }
    }
}

/// What is made of the refresh cookie of a request. Two keep nobody from a login: who logs in anew has no part in either session,
/// and so neither is ended.
///
/// # Errors
/// [`CookieError::Duplicate`] where one decides who asks.
pub fn cookies<T>(endpoint: Endpoint, found: Result<Option<T>, CookieError>) -> Result<Cookies<T>, CookieError> {
    match (found, endpoint.cookie_use()) {
        (_, CookieUse::None) | (Ok(None), CookieUse::Read | CookieUse::Replaced) => Ok(Cookies::None),
        (Ok(Some(cookie)), CookieUse::Read | CookieUse::Replaced) => Ok(Cookies::One(cookie)),
        (Err(CookieError::Duplicate), CookieUse::Replaced) => Ok(Cookies::Several),
        (Err(error @ CookieError::Duplicate), CookieUse::Read) => Err(error),
    }
}

/// Whether the page that made a browser send the request may have its way with the refresh cookie.
///
/// # Errors
/// See [`ForeignPage`].
pub fn page_may_act(
    endpoint: Endpoint,
    headers: &HeaderMap,
    has_cookie: bool,
    own_scheme: OwnScheme,
    allowed: &AllowedOrigins,
) -> Result<(), ForeignPage> {
    if endpoint.acts_on_cookie() { check_page(headers, has_cookie, own_scheme, allowed) } else { Ok(()) }
}

/// The refusal as the endpoint tells it: clients of OAuth's endpoints read OAuth's words only.
pub fn in_the_words_of(endpoint: Endpoint, refusal: Refusal) -> Refusal {
    let is_said = !endpoint.speaks_oauth() || matches!(refusal, Refusal::Oauth(_));
    if is_said { refusal } else { Refusal::OauthUnread(Box::new(refusal)) }
}

/// What an endpoint of ours reads a token for: only those that are about their callers do.
pub const fn endpoint_access(endpoint: Endpoint) -> Access {
    if endpoint.needs_token() { Access::Optional } else { Access::Public }
}

/// How long a form may be, and how slow its client.
pub const fn form_limits(pace: Pace) -> BodyLimits {
    BodyLimits { bytes: MAX_FORM_BYTES as u64, pace }
}

/// The caller of an endpoint that is about the caller.
///
/// # Errors
/// [`Denial::Anonymous`].
pub fn known(caller: Caller) -> Result<Arc<Identity>, Denial> {
    match caller {
        Caller::Known(identity) => Ok(identity),
        Caller::Anonymous => Err(Denial::Anonymous),
    }
}

/// Whether a route serves a caller only while it is known which sessions have ended. Who shows no token has none that could have.
pub const fn must_know_sessions(route: &Route, caller: &Caller) -> bool {
    match (route.revocation, caller) {
        (Revocation::Strict, Caller::Known(_)) => true,
        (Revocation::Strict, Caller::Anonymous) | (Revocation::Lenient, Caller::Known(_) | Caller::Anonymous) => false,
    }
}

/// Path and query of the forwarded request: the path that was decided on, rewritten if the route says so, and the query byte
/// for byte.
///
/// # Errors
/// When the rewritten path is one that two parsers could read differently.
pub fn forwarded_target(rewrite: &Rewrite, path: &NormalPath<'_>, uri: &Uri) -> Result<PathAndQuery, PathError> {
    if path.is_as_sent()
        && *rewrite == Rewrite::Keep
        && let Some(target) = uri.path_and_query()
    {
        return Ok(target.clone());
    }
    let mut target = rewrite.apply(path)?.into_owned();
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    // A normal path and a query that came in a URI make a target again.
    PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|_| PathError::RawByte)
}
