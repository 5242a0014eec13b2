//! The login form, whatever it is written in: JSON, `application/x-www-form-urlencoded` or `multipart/form-data`.
//!
//! The fields are those of FastAPI's `OAuth2PasswordRequestForm`: `username`, `password`, `scope`, `grant_type`, `client_id`,
//! `client_secret`. As there, unknown fields are ignored and an empty field counts as missing, but for the
//! password: an empty one is wrong, and is refused like any other wrong one. Unlike there, a field that
//! stands twice is refused instead of the last one winning: a log, a firewall or a proxy in front may have read the first one,
//! and then it has seen another person log in than we do (RFC 6749 section 3.2 forbids the repetition, too).

mod json;
mod multipart;
mod urlencoded;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

pub(super) use urlencoded::decode as decode_form_text;

use super::dialect::{Dialect, Writing};

/// Longest body of a login, in bytes. Whoever collects it answers 413 `body_too_large` above this.
pub const MAX_FORM_BYTES: usize = 64 * 1024;

/// Most fields of one form, unknown ones included.
const MAX_FIELDS: usize = 32;

/// A request to log in, as it came: its whole body and the headers that say how to read it. `Debug` hides the contents.
pub struct FormRequest {
    content_type: HeaderCount,
    content_encoding: HeaderCount,
    pub(super) authorization: HeaderCount,
    body: Bytes,
    dialect: Dialect,
}

/// A header that may stand once only.
#[derive(Clone)]
pub(super) enum HeaderCount {
    None,
    One(HeaderValue),
    Several,
}

/// The fields of a login that could be read. `Debug` hides the secrets.
#[derive(Debug)]
pub struct LoginForm {
    /// Never empty.
    pub username: String,
    /// Empty if the client sent it so; then it is nobody's.
    pub password: SecretString,
    /// Never empty.
    pub scope: Option<String>,
    /// Never empty.
    pub client_id: Option<String>,
    /// Never empty.
    pub client_secret: Option<SecretString>,
}

/// Which ways of writing a form an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Both kinds of form, and JSON.
    FormsAndJson,
    /// Both kinds of form: OAuth's token endpoint (RFC 6749 section 4.3.2).
    Forms,
}

/// A field that means something to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Who logs in.
    Username,
    /// The proof.
    Password,
    /// `password`, at the token endpoint.
    GrantType,
    /// The scopes that the token shall be narrowed to.
    Scope,
    /// What the client calls itself.
    ClientId,
    /// Not supported: there is no client registry.
    ClientSecret,
    /// What a refresh changes for the next.
    RefreshToken,
    /// What is revoked or asked about (RFC 7009 section 2.1).
    Token,
    /// The password until now.
    CurrentPassword,
    /// The password from now on.
    NewPassword,
    /// A new person's display name.
    Name,
    /// A new person's e-mail address.
    Email,
}

/// The fields of a login. What else a form has is passed over.
pub(super) const LOGIN_FIELDS: &[Field] =
    &[Field::Username, Field::Password, Field::GrantType, Field::Scope, Field::ClientId, Field::ClientSecret];

/// Why a form cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// There is no `Content-Type`, or several.
    #[error("the request has no `Content-Type`, or several")]
    ContentTypeMissing,
    /// The body is written in something else, or in JSON where only forms are taken.
    #[error("the `Content-Type` is none that a login is read from")]
    ContentTypeUnknown,
    /// `charset` is there and not UTF-8.
    #[error("the `charset` is not UTF-8")]
    Charset,
    /// The body is compressed.
    #[error("the body has a `Content-Encoding`")]
    Compressed,
    /// The body is longer than [`MAX_FORM_BYTES`].
    #[error("the body has {bytes} bytes")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than `MAX_FIELDS` fields.
    #[error("the form has too many fields")]
    TooManyFields,
    /// Not UTF-8.
    #[error("the form is not UTF-8")]
    NotUtf8,
    /// Not one JSON object.
    #[error("not a JSON object: line {line}, column {column}")]
    Json {
        /// Counted from 1; 0 for the whole body.
        line: usize,
        /// Counted from 1; 0 for the whole line.
        column: usize,
    },
    /// A `%` without two hexadecimal digits.
    #[error("a `%` without two hexadecimal digits")]
    PercentEncoding,
    /// The multipart body does not follow RFC 7578.
    #[error("the multipart body is malformed")]
    Multipart,
    /// A part of the multipart body is a file.
    #[error("the form has a file in it")]
    FilePart,
    /// A field stands twice. `None`: one that means nothing to a login.
    #[error("a field stands twice: {}", field.map_or("an unknown one", Field::name))]
    Duplicate {
        /// Which.
        field: Option<Field>,
    },
    /// A JSON member is a number, an object … where text belongs: `{"username": {"$ne": ""}}`.
    #[error("`{field}` is not a string")]
    NotText {
        /// Which.
        field: Field,
    },
    /// A login says another `grant_type` than `password`, to a client's server that looks at it.
    #[error("the `grant_type` of a login is not `password`")]
    GrantType,
    /// Neither a username nor a password is there, and the client is told both at once.
    #[error("`username` and `password` are missing")]
    MissingBoth,
    /// A field is not there, or empty. An empty password is not missing.
    #[error("`{field}` is missing")]
    Missing {
        /// Which.
        field: Field,
    },
}

impl FormRequest {
    /// Keeps of a request what a login is read from. `body` is complete and at most [`MAX_FORM_BYTES`] long.
    pub fn new(headers: &HeaderMap, body: Bytes) -> Self {
        Self {
            content_type: HeaderCount::of(headers, &CONTENT_TYPE),
            content_encoding: HeaderCount::of(headers, &CONTENT_ENCODING),
            authorization: HeaderCount::of(headers, &AUTHORIZATION),
            body,
            dialect: Dialect::Native,
        }
    }

    /// The same, read as clients of another server write it.
    pub fn in_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Reads the form.
    ///
    /// # Errors
    /// See [`FormError`].
    pub fn read(&self, accepted: Accepted) -> Result<LoginForm, FormError> {
        self.read_fields(accepted, LOGIN_FIELDS)?.finish()
    }

    /// In whose words it is written.
    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether nothing was sent, as by a GET.
    pub(super) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Reads these fields of the form, but does not ask yet that anything is in it.
    pub(super) fn read_fields(&self, accepted: Accepted, known: &'static [Field]) -> Result<Fields, FormError> {
        if self.body.len() > MAX_FORM_BYTES {
            return Err(FormError::TooLong { bytes: self.body.len() });
        }
        if !matches!(self.content_encoding, HeaderCount::None) {
            return Err(FormError::Compressed);
        }
        let HeaderCount::One(content_type) = &self.content_type else {
            return Err(FormError::ContentTypeMissing);
        };
        let content_type = content_type.to_str().map_err(|_| FormError::ContentTypeUnknown)?;
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let writing = Writing::of(kind.trim()).filter(|writing| self.dialect.takes(*writing));

        let mut fields = Fields::of(known, self.dialect);
        match (writing.ok_or(FormError::ContentTypeUnknown)?, accepted) {
            (Writing::Json | Writing::JsonAsText, Accepted::FormsAndJson) => {
                check_charset(parameters)?;
                json::read(self.text()?, &mut fields)?;
            }
            (Writing::Json | Writing::JsonAsText, Accepted::Forms) => return Err(FormError::ContentTypeUnknown),
            (Writing::UrlEncoded, Accepted::FormsAndJson | Accepted::Forms) => {
                check_charset(parameters)?;
                urlencoded::read(self.text()?, &mut fields)?;
            }
            (Writing::Multipart, Accepted::FormsAndJson | Accepted::Forms) => {
                multipart::read(parameters, &self.body, &mut fields)?;
            }
        }
        Ok(fields)
    }

    fn text(&self) -> Result<&str, FormError> {
        std::str::from_utf8(&self.body).map_err(|_| FormError::NotUtf8)
    }
}

impl fmt::Debug for FormRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormRequest").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl HeaderCount {
    fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::None,
            (Some(value), None) => Self::One(value.clone()),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

impl Field {
    const COUNT: usize = Self::Email as usize + 1;

    /// The name of the field in all three forms. Case counts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Password => "password",
            Self::GrantType => "grant_type",
            Self::Scope => "scope",
            Self::ClientId => "client_id",
            Self::ClientSecret => "client_secret",
            Self::RefreshToken => "refresh_token",
            Self::Token => "token",
            Self::CurrentPassword => "current_password",
            Self::NewPassword => "new_password",
            Self::Name => "name",
            Self::Email => "email",
        }
    }

    /// Whether an empty text is a value, and not the same as none: it is a wrong password like any other.
    const fn may_be_empty(self) -> bool {
        matches!(self, Self::Password | Self::CurrentPassword | Self::NewPassword)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FormError {
    /// What the client is told: what to do, in characters that RFC 6749 section 5.2 allows in `error_description`.
    pub fn sentence(&self) -> Cow<'static, str> {
        match self {
            Self::ContentTypeMissing | Self::ContentTypeUnknown => {
                "Send one `Content-Type`: `application/x-www-form-urlencoded`, `multipart/form-data`, or, except at the token \
                 endpoint, `application/json`."
                    .into()
            }
            Self::Charset => "The `charset` must be `utf-8`.".into(),
            Self::Compressed => "The body must not be compressed: send it without `Content-Encoding`.".into(),
            Self::TooLong { bytes: _ } => {
                format!("The body is longer than {MAX_FORM_BYTES} bytes; send only the form's fields.").into()
            }
            Self::TooManyFields => {
                format!("The body has more than {MAX_FIELDS} fields; send only the form's own.").into()
            }
            Self::NotUtf8 => "The body is not UTF-8; send it in this encoding.".into(),
            Self::Json { line: _, column: _ } => "The body is not one JSON object; send one with the form's fields.".into(),
            Self::PercentEncoding => "A `%` in a form is followed by two hexadecimal digits; write `%25` for itself.".into(),
            Self::Multipart => {
                "The body is not complete `multipart/form-data` with a name in each part; send it so, or as another kind of form."
                    .into()
            }
            Self::FilePart => "The form must not have files in it.".into(),
            Self::Duplicate { field: Some(field) } => format!("`{field}` must not be sent twice.").into(),
            Self::Duplicate { field: None } => "A field must not be sent twice.".into(),
            Self::NotText { field } => format!("`{field}` must be a string.").into(),
            Self::GrantType => "`grant_type` must be `password`, or left out.".into(),
            Self::MissingBoth => "`username` and `password` are missing or empty; send both.".into(),
            Self::Missing { field } => format!("`{field}` is missing or empty; send it.").into(),
        }
    }
}

/// Takes the fields as they are read. Every value is a secret until it is known not to be one.
pub(super) struct Fields {
    dialect: Dialect,
    /// The fields that mean something here.
    known: &'static [Field],
    names: Vec<String>,
    values: [Option<SecretString>; Field::COUNT],
}

impl Fields {
    /// None yet.
    pub(super) fn of(known: &'static [Field], dialect: Dialect) -> Self {
        Self { dialect, known, names: Vec::new(), values: Default::default() }
    }

    /// Notes that the form has a field of this name, before its value is looked at.
    fn name(&mut self, name: &str) -> Result<Option<Field>, FormError> {
        let name = self.dialect.own_name(name);
        let field = self.known.iter().copied().find(|field| field.name() == name);
        if self.names.iter().any(|known| known == name) {
            return Err(FormError::Duplicate { field });
        }
        if self.names.len() == MAX_FIELDS {
            return Err(FormError::TooManyFields);
        }
        self.names.push(name.to_owned());
        Ok(field)
    }

    /// Notes that a field that [`Self::name`] returned is `null`.
    fn null(&self, field: Field) -> Result<(), FormError> {
        if self.dialect.takes_null_for_a_value(field) { Err(FormError::NotText { field }) } else { Ok(()) }
    }

    /// Keeps the value of a field that [`Self::name`] returned. Empty counts as missing, unless it is the password.
    fn value(&mut self, field: Field, value: String) {
        let is_kept = field.may_be_empty() || !value.is_empty();
        self.values[field as usize] = Some(SecretString::from(value)).filter(|_| is_kept);
    }

    /// What the client asks for. `None`: it does not say.
    pub(super) fn grant_type(&self) -> Option<&str> {
        self.values[Field::GrantType as usize].as_ref().map(|value| value.expose_secret())
    }

    /// The value of a field, if it is there; a second time, none.
    pub(super) fn take(&mut self, field: Field) -> Option<SecretString> {
        self.values[field as usize].take()
    }

    /// The value of a field that is no secret.
    pub(super) fn take_text(&mut self, field: Field) -> Option<String> {
        self.take(field).map(|value| value.expose_secret().to_owned())
    }

    /// The value of a field that must be there.
    pub(super) fn need(&mut self, field: Field) -> Result<SecretString, FormError> {
        self.take(field).ok_or(FormError::Missing { field })
    }

    /// Asks that a username and a password are there, the password perhaps empty.
    pub(super) fn finish(mut self) -> Result<LoginForm, FormError> {
        let has = |field: Field| self.values[field as usize].is_some();
        if self.dialect.checks_grant_type() && self.grant_type().is_some_and(|kind| kind != "password") {
            return Err(FormError::GrantType);
        }
        if self.dialect.tells_all_that_is_missing() && !has(Field::Username) && !has(Field::Password) {
            return Err(FormError::MissingBoth);
        }
        Ok(LoginForm {
            username: self.need(Field::Username)?.expose_secret().to_owned(),
            password: self.need(Field::Password)?,
            scope: self.take_text(Field::Scope),
            client_id: self.take_text(Field::ClientId),
            client_secret: self.take(Field::ClientSecret),
        })
    }
}

/// Neither JSON (RFC 8259 section 11) nor forms have a `charset`, but clients send one.
fn check_charset(parameters: &str) -> Result<(), FormError> {
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.trim().eq_ignore_ascii_case("charset") {
            let value = value.trim().trim_matches('"');
            if !value.eq_ignore_ascii_case("utf-8") && !value.eq_ignore_ascii_case("utf8") {
                return Err(FormError::Charset);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
