//! The stable codes of refusals, and the status that goes with each: with `refusal.rs` the only place that picks one.

use http::StatusCode;

/// The stable code of a refusal: in the body, the log and the metrics. docs/refusals.md says what each means to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its name; docs/refusals.md describes them, and a test holds the two together")]
pub enum Code {
    BadPath,
    BadRequest,
    InvalidScope,
    MultipleTokens,
    TokenMissing,
    TokenMalformed,
    TokenSignature,
    TokenExpired,
    TokenNotYetValid,
    TokenIssuer,
    TokenAudience,
    TokenKeyUnknown,
    TokenRevoked,
    LoginFailed,
    RefreshInvalid,
    RefreshReused,
    ScopeMissing,
    RoleMissing,
    ClaimMismatch,
    CsrfRefused,
    RouteNotFound,
    SessionNotFound,
    MethodNotAllowed,
    RequestTimeout,
    LoginTaken,
    BodyTooLarge,
    UriTooLong,
    UnsupportedEncoding,
    LoginThrottled,
    HeadersTooLarge,
    InternalError,
    UpstreamUnreachable,
    UpstreamFailed,
    Overloaded,
    KeysUnavailable,
    StoreUnavailable,
    RevocationUnknown,
    UpstreamTimeout,
}

impl Code {
    /// Every code, in the order of the table in docs/refusals.md; a code's index here counts its refusals.
    pub const ALL: [Self; 38] = [
        Self::BadPath,
        Self::BadRequest,
        Self::InvalidScope,
        Self::MultipleTokens,
        Self::TokenMissing,
        Self::TokenMalformed,
        Self::TokenSignature,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenIssuer,
        Self::TokenAudience,
        Self::TokenKeyUnknown,
        Self::TokenRevoked,
        Self::LoginFailed,
        Self::RefreshInvalid,
        Self::RefreshReused,
        Self::ScopeMissing,
        Self::RoleMissing,
        Self::ClaimMismatch,
        Self::CsrfRefused,
        Self::RouteNotFound,
        Self::SessionNotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::LoginTaken,
        Self::BodyTooLarge,
        Self::UriTooLong,
        Self::UnsupportedEncoding,
        Self::LoginThrottled,
        Self::HeadersTooLarge,
        Self::InternalError,
        Self::UpstreamUnreachable,
        Self::UpstreamFailed,
        Self::Overloaded,
        Self::KeysUnavailable,
        Self::StoreUnavailable,
        Self::RevocationUnknown,
        Self::UpstreamTimeout,
    ];

    /// The names of [`Self::ALL`], for the metrics.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = Self::ALL[index].name();
            index += 1;
        }
        names
    };

    /// The code as text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadPath => "bad_path",
            Self::BadRequest => "bad_request",
            Self::InvalidScope => "invalid_scope",
            Self::MultipleTokens => "multiple_tokens",
            Self::TokenMissing => "token_missing",
            Self::TokenMalformed => "token_malformed",
            Self::TokenSignature => "token_signature",
            Self::TokenExpired => "token_expired",
            Self::TokenNotYetValid => "token_not_yet_valid",
            Self::TokenIssuer => "token_issuer",
            Self::TokenAudience => "token_audience",
            Self::TokenKeyUnknown => "token_key_unknown",
            Self::TokenRevoked => "token_revoked",
            Self::LoginFailed => "login_failed",
            Self::RefreshInvalid => "refresh_invalid",
            Self::RefreshReused => "refresh_reused",
            Self::ScopeMissing => "scope_missing",
            Self::RoleMissing => "role_missing",
            Self::ClaimMismatch => "claim_mismatch",
            Self::CsrfRefused => "csrf_refused",
            Self::RouteNotFound => "route_not_found",
            Self::SessionNotFound => "session_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::LoginTaken => "login_taken",
            Self::BodyTooLarge => "body_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::LoginThrottled => "login_throttled",
            Self::HeadersTooLarge => "headers_too_large",
            Self::InternalError => "internal_error",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamFailed => "upstream_failed",
            Self::Overloaded => "overloaded",
            Self::KeysUnavailable => "keys_unavailable",
            Self::StoreUnavailable => "store_unavailable",
            Self::RevocationUnknown => "revocation_unknown",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// The status that goes with it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadPath | Self::BadRequest | Self::InvalidScope | Self::MultipleTokens => StatusCode::BAD_REQUEST,
            Self::TokenMissing
            | Self::TokenMalformed
            | Self::TokenSignature
            | Self::TokenExpired
            | Self::TokenNotYetValid
            | Self::TokenIssuer
            | Self::TokenAudience
            | Self::TokenKeyUnknown
            | Self::TokenRevoked
            | Self::LoginFailed
            | Self::RefreshInvalid
            | Self::RefreshReused => StatusCode::UNAUTHORIZED,
            Self::ScopeMissing | Self::RoleMissing | Self::ClaimMismatch | Self::CsrfRefused => StatusCode::FORBIDDEN,
            Self::RouteNotFound | Self::SessionNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::LoginTaken => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::LoginThrottled => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UpstreamUnreachable | Self::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Self::Overloaded | Self::KeysUnavailable | Self::StoreUnavailable | Self::RevocationUnknown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}
