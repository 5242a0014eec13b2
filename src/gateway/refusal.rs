//! Every way the gateway answers for itself: code, status, headers, body. The only place that picks a status.
//!
//! The client is told a code and a sentence about its own request; the cause goes to the log. Neither names a claim of a token
//! that was not verified, nor an upstream's address.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::account::NewPasswordError;
use crate::body::BodyFault;
use crate::issuer::{FormError, IssuerError, OauthError, OauthErrorCode};
use crate::policy::Denial;
use crate::request::cookie::CookieError;
use crate::request::origin::ForeignPage;
use crate::request::path::PathError;
use crate::request::target::TargetError;
use crate::request::{HeadError, RequestId, X_REQUEST_ID};
use crate::revocation::{Revoked, Unknown};
use crate::route::NoRoute;
use crate::session::RefreshError;
use crate::token::bearer::BearerError;
use crate::token::translation::TranslationError;
use crate::token::{TokenError, TokenErrorKind};
use crate::upstream::{IdentityFault, UpstreamError};

use super::code::Code;
pub use super::refusal_answer::RefusalAnswer;

/// Why a request was not forwarded, or its answer not had.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The target or `Host`.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// hyper could not parse the head; this is the status that it would have answered.
    #[error("the request's head cannot be parsed")]
    Unparsed(StatusCode),
    /// No route, or not with this method.
    #[error(transparent)]
    Route(#[from] NoRoute),
    /// An endpoint of ours does not take this method.
    #[error("the endpoint does not serve this method")]
    EndpointMethod {
        /// What it takes.
        allowed: &'static [Method],
    },
    /// The `Authorization` header.
    #[error(transparent)]
    Bearer(#[from] BearerError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token's session has ended.
    #[error(transparent)]
    Revoked(#[from] Revoked),
    /// The route wants to know whether it has.
    #[error(transparent)]
    RevocationUnknown(#[from] Unknown),
    /// The token names an issuer whose keys could not be fetched, so nothing can be said of it.
    #[error("there are no keys of the issuer `{issuer}`: they could not be fetched")]
    KeysUnavailable {
        /// Its name in the file.
        issuer: Arc<str>,
    },
    /// The route's rules.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The request's body.
    #[error(transparent)]
    Body(#[from] BodyFault),
    /// The upstream.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The route's `timeout` was over before the response's head.
    #[error("the route's `timeout` is over")]
    RouteTimeout,
    /// Two refresh cookies.
    #[error(transparent)]
    Cookie(#[from] CookieError),
    /// A page of another site may have sent it.
    #[error(transparent)]
    ForeignPage(#[from] ForeignPage),
    /// A login, or another endpoint of ours.
    #[error(transparent)]
    Login(#[from] IssuerError),
    /// The token endpoint, which answers in OAuth's own words.
    #[error(transparent)]
    Oauth(#[from] OauthError),
    /// What kept the token endpoint from reading a request. Said in OAuth's words, too: its clients read nothing else.
    #[error(transparent)]
    OauthUnread(Box<Self>),
    /// A defect of ours.
    #[error("{0}")]
    Internal(&'static str),
}

impl Refusal {
    /// The code of this refusal.
    pub fn code(&self) -> Code {
        match self {
            Self::Path(PathError::TooLong) => Code::UriTooLong,
            Self::Path(
                PathError::NotAbsolute
                | PathError::RawByte
                | PathError::Semicolon
                | PathError::BrokenEncoding
                | PathError::DangerousEncoding
                | PathError::NotUtf8
                | PathError::EmptySegment
                | PathError::DotSegment,
            ) => Code::BadPath,
            Self::Target(TargetError::Method) => Code::MethodNotAllowed,
            Self::Target(
                TargetError::HostMissing
                | TargetError::HostTwice
                | TargetError::HostMalformed
                | TargetError::HostMismatch
                | TargetError::TransferEncoding
                | TargetError::ContentTypeTwice
                | TargetError::Form,
            ) => Code::BadRequest,
            Self::Unparsed(status) => match *status {
                StatusCode::REQUEST_TIMEOUT => Code::RequestTimeout,
                StatusCode::URI_TOO_LONG => Code::UriTooLong,
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::HeadersTooLarge,
                _ => Code::BadRequest,
            },
            Self::Route(NoRoute::Path) => Code::RouteNotFound,
            Self::Route(NoRoute::Method { .. }) | Self::EndpointMethod { .. } => Code::MethodNotAllowed,
            Self::Bearer(BearerError::Multiple) => Code::MultipleTokens,
            Self::Bearer(BearerError::Malformed) => Code::TokenMalformed,
            Self::Token(error) => match error.kind() {
                TokenErrorKind::Malformed => Code::TokenMalformed,
                TokenErrorKind::Signature => Code::TokenSignature,
                TokenErrorKind::Expired => Code::TokenExpired,
                TokenErrorKind::NotYetValid => Code::TokenNotYetValid,
                TokenErrorKind::Issuer => Code::TokenIssuer,
                TokenErrorKind::Audience => Code::TokenAudience,
                TokenErrorKind::KeyUnknown => Code::TokenKeyUnknown,
            },
            Self::Revoked(Revoked::Ended | Revoked::Early) => Code::TokenRevoked,
            Self::RevocationUnknown(Unknown) => Code::RevocationUnknown,
            Self::KeysUnavailable { .. } => Code::KeysUnavailable,
            Self::Denied(Denial::Anonymous) => Code::TokenMissing,
            Self::Denied(Denial::Scope { .. } | Denial::AnyScope { .. }) => Code::ScopeMissing,
            Self::Denied(Denial::Role) => Code::RoleMissing,
            Self::Denied(Denial::Claim { .. }) => Code::ClaimMismatch,
            Self::Body(fault) | Self::Upstream(UpstreamError::RequestBody(fault)) => match fault {
                BodyFault::TooLarge => Code::BodyTooLarge,
                BodyFault::Silent => Code::RequestTimeout,
                BodyFault::Broken => Code::BadRequest,
            },
            Self::Upstream(UpstreamError::Unreachable(_)) => Code::UpstreamUnreachable,
            Self::Upstream(UpstreamError::Failed(_) | UpstreamError::SwitchedProtocols | UpstreamError::Unclear(_)) => {
                Code::UpstreamFailed
            }
            Self::Upstream(UpstreamError::TimedOut) | Self::RouteTimeout => Code::UpstreamTimeout,
            Self::Upstream(UpstreamError::Identity(fault)) => match fault {
                IdentityFault::TooLarge(_) => Code::HeadersTooLarge,
                IdentityFault::Token(TranslationError::Missing { .. } | TranslationError::NotText { .. }) => {
                    Code::ClaimMismatch
                }
                IdentityFault::Token(TranslationError::Random | TranslationError::Key(_)) => Code::InternalError,
            },
            Self::Cookie(CookieError::Duplicate) => Code::BadRequest,
            Self::ForeignPage(_) => Code::CsrfRefused,
            Self::Login(error) | Self::Oauth(OauthError::Login(error)) => login_code(error),
            // Mistakes of the client itself, whatever status OAuth has for them: nobody's login has failed.
            Self::Oauth(
                OauthError::AuthorizationRepeated
                | OauthError::AuthorizationUnusable
                | OauthError::BasicSecret
                | OauthError::ClientMismatch
                | OauthError::GrantTypeMissing
                | OauthError::GrantTypeUnsupported,
            ) => Code::BadRequest,
            Self::OauthUnread(refusal) => refusal.code(),
            Self::Internal(_) => Code::InternalError,
        }
    }

    /// The answer.
    pub fn answer(&self, request_id: &RequestId) -> RefusalAnswer {
        let code = self.code();
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_REQUEST_ID, request_id.header().clone());
        if let Some(challenge) = self.challenge(code) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(allow) = self.allow() {
            headers.insert(ALLOW, allow);
        }
        if code == Code::UnsupportedEncoding {
            // RFC 9110 section 15.5.16.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(pause) = self.retry_after(code) {
            headers.insert(RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)));
        }
        if let Some((status, body)) = self.oauth(code) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(http::header::PRAGMA, HeaderValue::from_static("no-cache"));
            return RefusalAnswer { status, headers, body: body.to_string().into() };
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let status = code.status();
        let sentence = self.sentence();
        let body = json!({
            "type": format!("urn:tollgate:refusal:{}", code.name()),
            "title": status.canonical_reason().unwrap_or("Refused"),
            "status": status.as_u16(),
            "detail": sentence,
            "message": sentence,
            "code": code.name(),
            "request_id": request_id.as_str(),
        });
        RefusalAnswer { status, headers, body: body.to_string().into() }
    }

    /// Status and body of the token endpoint (RFC 6749 section 5.2). What HTTP has a status for keeps it, as `Allow` and a
    /// retry depend on it.
    fn oauth(&self, code: Code) -> Option<(StatusCode, serde_json::Value)> {
        if let Self::Oauth(error) = self {
            return Some((oauth_status(error.code()), error.body()));
        }
        let Self::OauthUnread(refusal) = self else { return None };
        let status = code.status();
        let error = if status.is_server_error() { OauthErrorCode::ServerError } else { OauthErrorCode::InvalidRequest };
        Some((status, json!({ "error": error.name(), "error_description": refusal.sentence() })))
    }

    /// Whether it is a defect or an outage of ours or an upstream's, that an operator wants to see outside the access log.
    pub fn is_fault(&self) -> bool {
        self.code().status().is_server_error() && self.code() != Code::Overloaded
    }

    /// What the client is told, and what it can do about it.
    pub(super) fn sentence(&self) -> Cow<'static, str> {
        match self {
            Self::Path(error) => format!("The path is refused: {error}.").into(),
            Self::Target(TargetError::Method) => "CONNECT and TRACE are not served.".into(),
            Self::Target(error) => format!("The request is refused: {error}.").into(),
            Self::Unparsed(StatusCode::REQUEST_TIMEOUT) => "The request's head did not arrive in time.".into(),
            Self::Unparsed(StatusCode::URI_TOO_LONG) => "The request target is too long.".into(),
            Self::Unparsed(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => {
                "The request's headers are too large; send fewer or smaller cookies and headers.".into()
            }
            Self::Unparsed(_) => "The request is not well-formed HTTP/1.1.".into(),
            Self::Route(NoRoute::Path) => "No route serves this host and path.".into(),
            Self::Route(NoRoute::Method { .. }) | Self::EndpointMethod { .. } => {
                "This path does not serve this method; `Allow` lists those it does.".into()
            }
            Self::Bearer(BearerError::Multiple) => "Send exactly one `Authorization` header.".into(),
            Self::Bearer(BearerError::Malformed) => "`Authorization` must be `Bearer` and one token.".into(),
            Self::Token(error) => token_sentence(error.kind()).into(),
            Self::Revoked(Revoked::Ended) => "The session of this token has ended; log in again.".into(),
            Self::Revoked(Revoked::Early) => "The token counts no longer; refresh it, or log in again.".into(),
            Self::RevocationUnknown(Unknown) => {
                "It cannot be known at present whether the token still counts; try again later.".into()
            }
            Self::KeysUnavailable { .. } => {
                "The keys of the token's issuer cannot be had at the moment; try again later.".into()
            }
            Self::Denied(Denial::Anonymous) => "Log in and send the token as `Authorization: Bearer …`.".into(),
            Self::Denied(Denial::Scope { needed }) => {
                format!("The token lacks a scope that this route needs: {needed}.").into()
            }
            Self::Denied(Denial::AnyScope { any }) => {
                format!("The token has none of the scopes of which this route needs one: {any}.").into()
            }
            Self::Denied(Denial::Role) => "The token has none of the roles that this route needs.".into(),
            Self::Denied(Denial::Claim { claim }) => {
                format!("The token's claim `{claim}` does not allow this path.").into()
            }
            Self::Body(fault) | Self::Upstream(UpstreamError::RequestBody(fault)) => match fault {
                BodyFault::TooLarge => "The request body is longer than this route takes.".into(),
                BodyFault::Silent => "The request body stopped arriving.".into(),
                BodyFault::Broken => "The request body broke off or is not well-formed.".into(),
            },
            Self::Upstream(UpstreamError::Unreachable(_)) => {
                "The service behind this route cannot be reached; try again later.".into()
            }
            Self::Upstream(UpstreamError::Failed(_) | UpstreamError::SwitchedProtocols | UpstreamError::Unclear(_)) => {
                "The service behind this route gave no usable response.".into()
            }
            Self::Upstream(UpstreamError::TimedOut) | Self::RouteTimeout => {
                "The service behind this route took too long.".into()
            }
            Self::Upstream(UpstreamError::Identity(IdentityFault::Token(error))) => match error {
                TranslationError::Missing { placeholder } => {
                    format!("The service behind this route needs the caller's `{placeholder}`, and the token has none.")
                        .into()
                }
                TranslationError::NotText { placeholder } => {
                    format!("The service behind this route needs the caller's `{placeholder}` as text.").into()
                }
                TranslationError::Random | TranslationError::Key(_) => {
                    "Something in the gateway failed; tell the operator this request's id.".into()
                }
            },
            Self::Upstream(UpstreamError::Identity(IdentityFault::TooLarge(_))) => {
                "The account has more names, roles and scopes than fit into headers; ask for a token with fewer scopes."
                    .into()
            }
            Self::Cookie(CookieError::Duplicate) => {
                "The refresh cookie was sent twice; delete this site's cookies and log in again.".into()
            }
            Self::ForeignPage(_) => {
                "The request may come from a page of another site: send it from an allowed `Origin`, or as `application/json`."
                    .into()
            }
            Self::Login(error) => error.sentence(),
            Self::Oauth(error) => error.description(),
            Self::OauthUnread(refusal) => refusal.sentence(),
            Self::Internal(_) => "Something in the gateway failed; tell the operator this request's id.".into(),
        }
    }

    /// RFC 6750 section 3: bare without a token, `invalid_token` with a bad one, `insufficient_scope` with a weak one.
    fn challenge(&self, code: Code) -> Option<HeaderValue> {
        if let Self::Oauth(error) = self {
            return error.asks_for_basic().then_some(HeaderValue::from_static("Basic realm=\"tollgate\""));
        }
        let text: Cow<'static, str> = match self {
            Self::Login(IssuerError::OtherIssuer) => {
                format!("Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"{}\"", code.name())
                    .into()
            }
            // RFC 9110 section 15.5.2: no 401 is without one.
            Self::Denied(Denial::Anonymous) => "Bearer realm=\"tollgate\"".into(),
            Self::Login(_) if code.status() == StatusCode::UNAUTHORIZED => "Bearer realm=\"tollgate\"".into(),
            // The attribute has no way to say "one of these".
            Self::Denied(Denial::Scope { needed: scopes } | Denial::AnyScope { any: scopes }) => {
                format!("Bearer realm=\"tollgate\", error=\"insufficient_scope\", scope=\"{scopes}\"").into()
            }
            Self::Denied(Denial::Role | Denial::Claim { .. }) => {
                "Bearer realm=\"tollgate\", error=\"insufficient_scope\"".into()
            }
            Self::Bearer(BearerError::Multiple) => "Bearer realm=\"tollgate\", error=\"invalid_request\"".into(),
            Self::Bearer(BearerError::Malformed) | Self::Token(_) | Self::Revoked(_) => {
                format!("Bearer realm=\"tollgate\", error=\"invalid_token\", error_description=\"{}\"", code.name())
                    .into()
            }
            Self::Path(_)
            | Self::Target(_)
            | Self::Unparsed(_)
            | Self::Route(_)
            | Self::EndpointMethod { .. }
            | Self::RevocationUnknown(_)
            | Self::KeysUnavailable { .. }
            | Self::Body(_)
            | Self::Upstream(_)
            | Self::RouteTimeout
            | Self::Cookie(_)
            | Self::ForeignPage(_)
            | Self::Login(_)
            | Self::Oauth(_)
            | Self::OauthUnread(_)
            | Self::Internal(_) => return None,
        };
        HeaderValue::from_str(&text).ok()
    }

    /// RFC 9110 section 15.5.6.
    fn allow(&self) -> Option<HeaderValue> {
        let allowed: &[Method] = if let Self::Route(NoRoute::Method { allowed }) = self {
            allowed
        } else if let Self::EndpointMethod { allowed } = self {
            allowed
        } else if let Self::OauthUnread(refusal) = self {
            return refusal.allow();
        } else if let Self::Target(TargetError::Method) = self {
            &[Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        } else {
            return None;
        };
        HeaderValue::from_str(&allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")).ok()
    }

    fn retry_after(&self, code: Code) -> Option<Duration> {
        let told = if let Self::Login(error) = self {
            error.retry_after()
        } else if let Self::Oauth(error) = self {
            error.retry_after()
        } else {
            None
        };
        told.or_else(|| (code.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_SOON))
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Path(error) => Self::Path(error),
            HeadError::Target(error) => Self::Target(error),
        }
    }
}

const fn login_code(error: &IssuerError) -> Code {
    match error {
        IssuerError::Form(FormError::Compressed) => Code::UnsupportedEncoding,
        IssuerError::Form(_) | IssuerError::ClientId | IssuerError::ClientSecret => Code::BadRequest,
        IssuerError::ScopeMalformed | IssuerError::ScopeNotGranted { .. } => Code::InvalidScope,
        IssuerError::LoginFailed(_) => Code::LoginFailed,
        IssuerError::Throttled { .. } => Code::LoginThrottled,
        IssuerError::Overloaded { .. } | IssuerError::NewPassword(NewPasswordError::Overloaded) => Code::Overloaded,
        IssuerError::StoreUnavailable(_)
        | IssuerError::OthersGoOn(_)
        | IssuerError::Refresh(RefreshError::Store(_) | RefreshError::Unreadable { .. }) => Code::StoreUnavailable,
        IssuerError::Mint(_) | IssuerError::NewPassword(NewPasswordError::System) => Code::InternalError,
        IssuerError::RefreshMissing
        | IssuerError::Refresh(RefreshError::Invalid(_) | RefreshError::Account { .. })
        | IssuerError::NoSession
        | IssuerError::OtherClient { .. } => Code::RefreshInvalid,
        IssuerError::Refresh(RefreshError::Reused { .. }) => Code::RefreshReused,
        IssuerError::Query { .. }
        | IssuerError::Unfit { .. }
        | IssuerError::NewPassword(
            NewPasswordError::Empty
            | NewPasswordError::TooLong
            | NewPasswordError::TooLongForBcrypt
            | NewPasswordError::Nul,
        ) => Code::BadRequest,
        IssuerError::SessionUnknown => Code::SessionNotFound,
        IssuerError::OtherIssuer => Code::TokenIssuer,
        IssuerError::LoginTaken => Code::LoginTaken,
    }
}

/// RFC 6749 section 5.2.
const fn oauth_status(code: OauthErrorCode) -> StatusCode {
    match code {
        OauthErrorCode::InvalidRequest
        | OauthErrorCode::InvalidGrant
        | OauthErrorCode::UnsupportedGrantType
        | OauthErrorCode::InvalidScope => StatusCode::BAD_REQUEST,
        OauthErrorCode::InvalidClient => StatusCode::UNAUTHORIZED,
        OauthErrorCode::TooManyTries => StatusCode::TOO_MANY_REQUESTS,
        OauthErrorCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        OauthErrorCode::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const fn token_sentence(kind: TokenErrorKind) -> &'static str {
    match kind {
        TokenErrorKind::Malformed => {
            "The token is not a well-formed access token; send the access token whole, and no other one."
        }
        TokenErrorKind::Signature => "The token's signature is wrong; log in again.",
        TokenErrorKind::Expired => "The token has expired; refresh it, or log in again.",
        TokenErrorKind::NotYetValid => "The token is not valid yet; check the clocks.",
        TokenErrorKind::Issuer => "The token's issuer is not accepted here; log in here, or with an issuer that is.",
        TokenErrorKind::Audience => {
            "The token is meant for another audience; ask its issuer for one that is meant for this."
        }
        TokenErrorKind::KeyUnknown => {
            "The key that signed the token is not known here; refresh the token, or log in again."
        }
    }
}

/// For an outage of which nobody knows when it ends.
const RETRY_SOON: Duration = Duration::from_secs(2);
