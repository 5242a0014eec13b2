//! Refusals in the words of other servers, for clients that were written for them: their statuses, their bodies. With
//! `refusal.rs` and `code.rs` the only place that picks a status. The half of successes is in `issuer/dialect.rs`.

use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::issuer::{Dialect, Endpoint, Field, FormError, IssuerError, Spoken};
use crate::request::RequestId;

use super::code::Code;
use super::refusal::{Refusal, RefusalAnswer};

impl Refusal {
    /// The answer to a client that expects it in other words than ours, if there are any.
    pub fn answer_to(&self, request_id: &RequestId, spoken: Option<Spoken>) -> RefusalAnswer {
        let answer = self.answer(request_id);
        match spoken {
            None => answer,
            Some(spoken) => translate(spoken, self, answer),
        }
    }
}

/// The answer to a refusal at an alias. `own` is how we would say it ourselves; its headers stay, but for those that the body has.
fn translate(spoken: Spoken, refusal: &Refusal, own: RefusalAnswer) -> RefusalAnswer {
    let Spoken { endpoint, dialect } = spoken;
    let (status, body) = match dialect {
        Dialect::Native | Dialect::Oauth2 | Dialect::Hasura => return own,
        Dialect::Fastapi => fastapi(endpoint, refusal, own.status),
        Dialect::FastapiMongo => fastapi_mongo(endpoint, refusal, own.status),
        Dialect::RaInMemoryJwt => ra_in_memory_jwt(endpoint, refusal, own.status),
    };
    let mut headers = own.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A challenge goes with 401 only (RFC 9110 section 11.6.1); FastAPI's has neither realm nor error.
    if status != StatusCode::UNAUTHORIZED {
        headers.remove(WWW_AUTHENTICATE);
    } else if dialect != Dialect::RaInMemoryJwt {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    RefusalAnswer { status, headers, body: body.to_string().into() }
}

/// FastAPI's tutorial, "OAuth2 with Password, Bearer with JWT tokens", and FastAPI itself.
fn fastapi(endpoint: Endpoint, refusal: &Refusal, own: StatusCode) -> (StatusCode, Value) {
    if let Some(error) = form_error(endpoint, refusal) {
        return invalid_form(error, Expected::Form);
    }
    match cause(endpoint, refusal.code()) {
        Cause::Password => (StatusCode::UNAUTHORIZED, detail("Incorrect username or password")),
        Cause::NoToken => (StatusCode::UNAUTHORIZED, detail("Not authenticated")),
        Cause::Token => (StatusCode::UNAUTHORIZED, detail("Could not validate credentials")),
        Cause::Method => (own, detail("Method Not Allowed")),
        Cause::Other => (own, detail(&refusal.sentence())),
    }
}

/// The starter's own, where it differs: 403 for whatever is wrong with a password or a token.
fn fastapi_mongo(endpoint: Endpoint, refusal: &Refusal, own: StatusCode) -> (StatusCode, Value) {
    if let Some(error) = form_error(endpoint, refusal) {
        return invalid_form(error, Expected::Json);
    }
    match cause(endpoint, refusal.code()) {
        Cause::Password => (StatusCode::FORBIDDEN, detail("Incorrect email or password")),
        Cause::NoToken => (StatusCode::UNAUTHORIZED, detail("Not authenticated")),
        Cause::Token => (StatusCode::FORBIDDEN, detail("Invalid token or expired token")),
        Cause::Method => (own, detail("Method Not Allowed")),
        Cause::Other => (own, detail(&refusal.sentence())),
    }
}

/// The server of the package's demonstration: everything is `status` and `message`.
fn ra_in_memory_jwt(endpoint: Endpoint, refusal: &Refusal, own: StatusCode) -> (StatusCode, Value) {
    let (status, message) = match cause(endpoint, refusal.code()) {
        Cause::Token if is_refresh(endpoint) => (StatusCode::BAD_REQUEST, "The refresh token is not valid.".into()),
        Cause::Password | Cause::NoToken | Cause::Token | Cause::Method | Cause::Other => (own, refusal.sentence()),
    };
    (status, json!({ "status": status.as_u16(), "message": message }))
}

/// What other servers tell apart.
enum Cause {
    Password,
    NoToken,
    Token,
    Method,
    Other,
}

/// `code` belongs to the endpoint: what is a wrong password for one is a wrong token for another.
fn cause(endpoint: Endpoint, code: Code) -> Cause {
    match code {
        Code::LoginFailed if is_refresh(endpoint) => Cause::Token,
        Code::LoginFailed => Cause::Password,
        Code::TokenMissing => Cause::NoToken,
        Code::RefreshInvalid
        | Code::RefreshReused
        | Code::TokenMalformed
        | Code::TokenSignature
        | Code::TokenExpired
        | Code::TokenNotYetValid
        | Code::TokenIssuer
        | Code::TokenAudience
        | Code::TokenKeyUnknown
        | Code::TokenRevoked => Cause::Token,
        Code::MethodNotAllowed => Cause::Method,
        Code::BadPath
        | Code::BadRequest
        | Code::InvalidScope
        | Code::MultipleTokens
        | Code::ScopeMissing
        | Code::RoleMissing
        | Code::ClaimMismatch
        | Code::CsrfRefused
        | Code::RouteNotFound
        | Code::SessionNotFound
        | Code::LoginTaken
        | Code::RequestTimeout
        | Code::BodyTooLarge
        | Code::UriTooLong
        | Code::UnsupportedEncoding
        | Code::HeadersTooLarge
        | Code::InternalError
        | Code::UpstreamUnreachable
        | Code::UpstreamFailed
        | Code::Overloaded
        | Code::StoreUnavailable
        | Code::LoginThrottled
        | Code::KeysUnavailable
        | Code::RevocationUnknown
        | Code::UpstreamTimeout => Cause::Other,
    }
}

fn is_refresh(endpoint: Endpoint) -> bool {
    endpoint == Endpoint::Refresh
}

fn detail(text: &str) -> Value {
    json!({ "detail": text })
}

/// What a FastAPI application declared its body to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// `OAuth2PasswordRequestForm`
    Form,
    /// A model of pydantic's.
    Json,
}

/// What is wrong with the form of a login. A refresh has no form that other servers declare.
fn form_error(endpoint: Endpoint, refusal: &Refusal) -> Option<&FormError> {
    let Refusal::Login(IssuerError::Form(error)) = refusal else { return None };
    // A compressed one has a status of its own.
    Some(error).filter(|error| endpoint == Endpoint::Login && **error != FormError::Compressed)
}

/// FastAPI's answer to a body that it cannot use: pydantic's list of errors. `input`, where FastAPI says back what was sent, is
/// `null`: that may be a password.
fn invalid_form(error: &FormError, expected: Expected) -> (StatusCode, Value) {
    let missing = |field: Field| entry("missing", json!(["body", field.name()]), "Field required");
    let both = || vec![missing(Field::Username), missing(Field::Password)];
    let errors = match error {
        FormError::Missing { field } => vec![missing(*field)],
        FormError::MissingBoth => both(),
        FormError::NotText { field } => {
            vec![entry("string_type", json!(["body", field.name()]), "Input should be a valid string")]
        }
        FormError::GrantType => {
            let message = format!("String should match pattern '{GRANT_TYPE_PATTERN}'");
            let mut error = entry("string_pattern_mismatch", json!(["body", Field::GrantType.name()]), &message);
            error["ctx"] = json!({ "pattern": GRANT_TYPE_PATTERN });
            vec![error]
        }
        // A form that is none has no fields.
        FormError::ContentTypeMissing | FormError::ContentTypeUnknown if expected == Expected::Form => both(),
        FormError::ContentTypeMissing | FormError::ContentTypeUnknown => {
            let message = "Input should be a valid dictionary or object to extract fields from";
            vec![entry("model_attributes_type", json!(["body"]), message)]
        }
        FormError::Json { line: _, column } => {
            vec![entry("json_invalid", json!(["body", column]), "JSON decode error")]
        }
        FormError::Duplicate { field: Some(field) } => {
            vec![entry("value_error", json!(["body", field.name()]), &error.sentence())]
        }
        FormError::Duplicate { field: None }
        | FormError::Charset
        | FormError::Compressed
        | FormError::TooLong { .. }
        | FormError::TooManyFields
        | FormError::NotUtf8
        | FormError::PercentEncoding
        | FormError::Multipart
        | FormError::FilePart => vec![entry("value_error", json!(["body"]), &error.sentence())],
    };
    (StatusCode::UNPROCESSABLE_ENTITY, json!({ "detail": errors }))
}

/// Of FastAPI's `OAuth2PasswordRequestForm`.
const GRANT_TYPE_PATTERN: &str = "^password$";

fn entry(kind: &str, place: Value, message: &str) -> Value {
    json!({ "type": kind, "loc": place, "msg": message, "input": null })
}
