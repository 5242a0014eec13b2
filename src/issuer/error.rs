//! Why a login was refused: for the log, for the client, and in OAuth's words.

use std::borrow::Cow;
use std::time::Duration;

use crate::account::{BCRYPT_BYTES, LoginError, MAX_CREDENTIAL_BYTES, NewPasswordError, StoreError};
use crate::audit::Throttle;
use crate::session::{RefreshError, SessionId};
use crate::token::mint::MintError;

use super::form::{Field, FormError};
use super::login::MAX_CLIENT_ID_BYTES;
use super::own::MAX_NEW_BYTES;

/// Why `POST <prefix>/login` gave no token. `Display` is for the log; the client gets [`Self::sentence`].
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// 400 `bad_request`: the body cannot be read.
    #[error("the form cannot be read")]
    Form(#[source] FormError),
    /// 400 `bad_request`: `client_id` is not 1 to 128 visible ASCII characters.
    #[error("the `client_id` is malformed")]
    ClientId,
    /// 400 `bad_request`: there is a client secret, which nobody here could check.
    #[error("the client sent a secret, and there is no client registry to check it against")]
    ClientSecret,
    /// 400 `invalid_scope`: `scope` does not follow RFC 6749 section 3.3.
    #[error("the requested scope is malformed")]
    ScopeMalformed,
    /// 400 `invalid_scope`: the account does not have a scope that was asked for.
    #[error("`{subject}` does not have a scope that was asked for")]
    ScopeNotGranted {
        /// Whose account.
        subject: String,
    },
    /// 401 `login_failed`: unknown, disabled, unusable, ambiguous or a wrong password; one answer for all of them.
    #[error("the login failed")]
    LoginFailed(#[source] LoginError),
    /// 429 `login_throttled`: too many failed logins before.
    #[error("too many failed logins before, by {}", reason.name())]
    Throttled {
        /// For `Retry-After`.
        retry_after: Duration,
        /// Whose.
        reason: Throttle,
    },
    /// 503 `overloaded`: too many logins at once.
    #[error("too many logins at once")]
    Overloaded {
        /// For `Retry-After`.
        retry_after: Duration,
    },
    /// 503 `store_unavailable`.
    #[error("the login could not be checked")]
    StoreUnavailable(#[source] StoreError),
    /// 500 `internal_error`: no token could be made.
    #[error("no token could be made")]
    Mint(#[source] MintError),
    /// 401 `refresh_invalid`: neither a cookie nor a field has a refresh token.
    #[error("there is no refresh token")]
    RefreshMissing,
    /// 401 `refresh_invalid` or `refresh_reused`, 503 `store_unavailable`.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// 401 `refresh_invalid`: the access token beside a refresh token is of no session of ours.
    #[error("the access token beside the refresh token belongs to no session")]
    NoSession,
    /// 401 `refresh_invalid`: `client_id` is not the client that the refresh token was given to (RFC 6749 section 5.2).
    #[error("the refresh token of session {session} was given to another client")]
    OtherClient {
        /// Which session.
        session: SessionId,
    },
    /// 400 `bad_request`: a parameter of the query is malformed, repeated, or has a value that means nothing.
    #[error("the parameter `{name}` of the query cannot be used")]
    Query {
        /// Its name.
        name: &'static str,
    },
    /// 404 `session_not_found`: not one of the caller's that is alive.
    #[error("it is no living session of the caller")]
    SessionUnknown,
    /// 401 `token_issuer`: a token of somebody else, whose subject is none of our accounts.
    #[error("the caller's token is of another issuer, and this endpoint is about our own accounts")]
    OtherIssuer,
    /// 400 `bad_request`, 503 `overloaded` or 500 `internal_error`: the new password cannot be set.
    #[error("the new password cannot be set")]
    NewPassword(#[source] NewPasswordError),
    /// 503 `store_unavailable`: the password is changed, but the other sessions go on.
    #[error("the password is changed, but the other sessions could not be ended")]
    OthersGoOn(#[source] StoreError),
    /// 409 `login_taken`
    #[error("somebody already logs in with that name or e-mail address")]
    LoginTaken,
    /// 400 `bad_request`: a new account's name, or the address, is not one that people could log in with.
    #[error("the `{field}` of a new account is too long, or has control characters or spaces at an end")]
    Unfit {
        /// Which.
        field: Field,
    },
}

/// Why `POST <prefix>/token` gave no token, to be answered by RFC 6749 section 5.2. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
pub enum OauthError {
    /// More than one `Authorization` header.
    #[error("the request has more than one `Authorization` header")]
    AuthorizationRepeated,
    /// `Authorization: Basic` that cannot be read, or another scheme than `Basic` and `Bearer`.
    #[error("the client's `Authorization` header cannot be used")]
    AuthorizationUnusable,
    /// `Authorization: Basic` with a secret, which nobody here could check.
    #[error("the client authenticated by `Basic`, and there is no client registry to check it against")]
    BasicSecret,
    /// The form names another client than `Authorization: Basic`.
    #[error("`client_id` is not the client of the `Authorization` header")]
    ClientMismatch,
    /// No `grant_type` (RFC 6749 section 4.3.2 requires it).
    #[error("there is no `grant_type`")]
    GrantTypeMissing,
    /// Another `grant_type` than `refresh_token` and `password`, or `login.password_grant` is off.
    #[error("the `grant_type` is not supported or switched off")]
    GrantTypeUnsupported,
    /// What refuses any login.
    #[error(transparent)]
    Login(#[from] IssuerError),
}

/// `error` of RFC 6749 section 5.2, and the two of section 4.1.2.1 that clients also know for an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OauthErrorCode {
    /// 400
    InvalidRequest,
    /// 401, with `WWW-Authenticate: Basic` if the client used the `Authorization` header.
    InvalidClient,
    /// 400
    InvalidGrant,
    /// 400
    UnsupportedGrantType,
    /// 400
    InvalidScope,
    /// 429, in the word for an outage: there is none for this.
    TooManyTries,
    /// 503
    TemporarilyUnavailable,
    /// 500
    ServerError,
}

impl IssuerError {
    /// What the client is told. The same for all causes of a failed login.
    pub fn sentence(&self) -> Cow<'static, str> {
        match self {
            Self::Form(error) => error.sentence(),
            Self::ClientId => {
                format!("`client_id` must be 1 to {MAX_CLIENT_ID_BYTES} visible ASCII characters.").into()
            }
            Self::ClientSecret => "Clients are not authenticated here: send no `client_secret`.".into(),
            Self::ScopeMalformed => "`scope` must be scopes separated by spaces.".into(),
            Self::ScopeNotGranted { subject: _ } => "`scope` names a scope that this account does not have.".into(),
            Self::LoginFailed(_) => "The username or the password is wrong.".into(),
            Self::Throttled { .. } => "Too many logins failed; wait before the next one.".into(),
            Self::Overloaded { retry_after: _ } => "Too many people are logging in; try again in a moment.".into(),
            Self::StoreUnavailable(_) => "Logins cannot be checked at the moment; try again later.".into(),
            Self::Mint(_) => "No token could be made for this account; tell the operator.".into(),
            Self::RefreshMissing => "There is no refresh token; log in.".into(),
            Self::Refresh(RefreshError::Reused { .. }) => {
                "This refresh token was used before, so its session is ended; log in again.".into()
            }
            Self::Refresh(RefreshError::Store(_) | RefreshError::Unreadable { .. }) => {
                "Sessions cannot be read at the moment; try again later.".into()
            }
            Self::Refresh(RefreshError::Invalid(_) | RefreshError::Account { .. }) => {
                "The refresh token is not valid, or its session is over; log in again.".into()
            }
            Self::NoSession => "The access token and the refresh token are not of the same session.".into(),
            Self::OtherClient { session: _ } => "The refresh token was given to another client.".into(),
            Self::Query { name } => format!("`{name}` in the query is malformed, repeated, or unknown.").into(),
            Self::SessionUnknown => "You have no such session, or it is over.".into(),
            Self::OtherIssuer => "This endpoint takes tokens of this gateway only.".into(),
            Self::NewPassword(error) => new_password_sentence(error),
            Self::OthersGoOn(_) => {
                "The password is changed, but other sessions could not be ended; log out of the others.".into()
            }
            Self::LoginTaken => "Somebody already logs in with that name or e-mail address.".into(),
            Self::Unfit { field } => format!(
                "`{field}` must have at most {MAX_NEW_BYTES} bytes, no control characters, and no spaces at its ends."
            )
            .into(),
        }
    }

    /// When to try again, for `Retry-After`. `None`: trying again does not help, or nobody knows when it will.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, reason: _ } | Self::Overloaded { retry_after } => Some(*retry_after),
            Self::Form(_)
            | Self::ClientId
            | Self::ClientSecret
            | Self::ScopeMalformed
            | Self::ScopeNotGranted { .. }
            | Self::LoginFailed(_)
            | Self::StoreUnavailable(_)
            | Self::Mint(_)
            | Self::RefreshMissing
            | Self::Refresh(_)
            | Self::NoSession
            | Self::OtherClient { .. }
            | Self::Query { .. }
            | Self::SessionUnknown
            | Self::OtherIssuer
            | Self::NewPassword(_)
            | Self::OthersGoOn(_)
            | Self::LoginTaken
            | Self::Unfit { .. } => None,
        }
    }
}

/// In the characters of RFC 6749 section 5.2, as all sentences here.
fn new_password_sentence(error: &NewPasswordError) -> Cow<'static, str> {
    let longer_than =
        |bytes: usize| format!("The new password is longer than {bytes} bytes; choose a shorter one.").into();
    match error {
        NewPasswordError::Empty => "The new password is empty; choose one.".into(),
        NewPasswordError::TooLong => longer_than(MAX_CREDENTIAL_BYTES),
        NewPasswordError::TooLongForBcrypt => longer_than(BCRYPT_BYTES),
        NewPasswordError::Nul => "The new password has a NUL character; choose one without.".into(),
        NewPasswordError::Overloaded => "Too many passwords are being checked; try again in a moment.".into(),
        NewPasswordError::System => "The new password cannot be set; tell the operator.".into(),
    }
}

impl From<LoginError> for IssuerError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::UnknownUser
            | LoginError::AmbiguousLogin
            | LoginError::WrongPassword { .. }
            | LoginError::Disabled { .. }
            | LoginError::MalformedRecord { .. } => Self::LoginFailed(error),
            LoginError::Throttled { retry_after, reason, subject: _ } => Self::Throttled { retry_after, reason },
            LoginError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            LoginError::Store(error) => Self::StoreUnavailable(error),
        }
    }
}

impl OauthError {
    /// The member `error`, which decides the status, too.
    pub const fn code(&self) -> OauthErrorCode {
        match self {
            Self::AuthorizationRepeated | Self::ClientMismatch | Self::GrantTypeMissing => {
                OauthErrorCode::InvalidRequest
            }
            Self::AuthorizationUnusable | Self::BasicSecret => OauthErrorCode::InvalidClient,
            Self::GrantTypeUnsupported => OauthErrorCode::UnsupportedGrantType,
            Self::Login(IssuerError::Form(_) | IssuerError::ClientId) => OauthErrorCode::InvalidRequest,
            Self::Login(IssuerError::ClientSecret) => OauthErrorCode::InvalidClient,
            Self::Login(IssuerError::ScopeMalformed | IssuerError::ScopeNotGranted { .. }) => {
                OauthErrorCode::InvalidScope
            }
            Self::Login(IssuerError::Throttled { .. }) => OauthErrorCode::TooManyTries,
            Self::Login(
                IssuerError::Refresh(RefreshError::Store(_) | RefreshError::Unreadable { .. })
                | IssuerError::Overloaded { .. }
                | IssuerError::StoreUnavailable(_)
                | IssuerError::OthersGoOn(_),
            ) => OauthErrorCode::TemporarilyUnavailable,
            Self::Login(
                IssuerError::LoginFailed(_)
                | IssuerError::RefreshMissing
                | IssuerError::Refresh(_)
                | IssuerError::NoSession
                | IssuerError::OtherClient { .. }
                | IssuerError::OtherIssuer,
            ) => OauthErrorCode::InvalidGrant,
            Self::Login(
                IssuerError::Query { .. }
                | IssuerError::SessionUnknown
                | IssuerError::NewPassword(_)
                | IssuerError::LoginTaken
                | IssuerError::Unfit { .. },
            ) => OauthErrorCode::InvalidRequest,
            Self::Login(IssuerError::Mint(_)) => OauthErrorCode::ServerError,
        }
    }

    /// The member `error_description`: printable ASCII without `"` and `\` (RFC 6749 section 5.2).
    pub fn description(&self) -> Cow<'static, str> {
        match self {
            Self::AuthorizationRepeated => "`Authorization` must not be sent twice.".into(),
            Self::AuthorizationUnusable => {
                "`Authorization` must be `Basic` with a client and no secret, or left out.".into()
            }
            Self::BasicSecret => {
                "Clients are not authenticated here: send an empty secret or no `Authorization`.".into()
            }
            Self::ClientMismatch => "`client_id` must be the client of the `Authorization` header.".into(),
            Self::GrantTypeMissing => "`grant_type` is missing: `password` or `refresh_token`.".into(),
            Self::GrantTypeUnsupported => "This `grant_type` is not supported here.".into(),
            Self::Login(error) => error.sentence(),
        }
    }

    /// Whether RFC 6749 section 5.2 asks for `WWW-Authenticate: Basic`: the client used the `Authorization` header.
    pub const fn asks_for_basic(&self) -> bool {
        matches!(self, Self::AuthorizationUnusable | Self::BasicSecret)
    }

    /// As [`IssuerError::retry_after`].
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Login(error) => error.retry_after(),
            Self::AuthorizationRepeated
            | Self::AuthorizationUnusable
            | Self::BasicSecret
            | Self::ClientMismatch
            | Self::GrantTypeMissing
            | Self::GrantTypeUnsupported => None,
        }
    }

    /// The body to answer with, as `application/json`.
    pub fn body(&self) -> serde_json::Value {
        serde_json::json!({ "error": self.code().name(), "error_description": self.description() })
    }
}

impl OauthErrorCode {
    /// The value of `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::TooManyTries | Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }
}
