//! Takes the token out of the request (RFC 6750 section 2.1).

use http::HeaderMap;

/// Why the request's credentials cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// More than one `Authorization` header.
    #[error("the request has more than one `Authorization` header")]
    Multiple,
    /// The scheme is `Bearer` but no token in RFC 6750's syntax follows.
    #[error("the `Authorization` header holds no bearer token")]
    Malformed,
}

/// The bearer token, or `None` if there is no `Authorization` header or it has another scheme.
///
/// # Errors
/// See [`BearerError`].
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, BearerError> {
    let _ = headers;
    unimplemented!()
}
