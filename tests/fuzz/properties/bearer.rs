//! A bearer token is what stands behind the scheme of the one `Authorization` header, in the characters of RFC 6750.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tollgate::token::bearer::{BearerError, bearer as read};

/// Each line is an `Authorization` header.
pub fn bearer(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(AUTHORIZATION, value);
        }
    }
    headers.append("proxy-authorization", HeaderValue::from_static("Bearer not.this.one"));
    let values: Vec<&[u8]> = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    let expected = match values[..] {
        [] => Ok(None),
        [value] => oracle(value),
        _ => Err(BearerError::Multiple),
    };
    assert_eq!(read(&headers), expected, "{values:?}");
}

/// `credentials = "Bearer" 1*SP b64token`, the scheme in any case.
fn oracle(value: &[u8]) -> Result<Option<&str>, BearerError> {
    let Some(scheme) = value.split(|byte| matches!(byte, b' ' | b'\t')).next() else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    let text = std::str::from_utf8(&value[scheme.len()..]).map_err(|_| BearerError::Malformed)?;
    let token = text.trim_start_matches(' ');
    let body = token.trim_end_matches('=');
    let is_good = token.len() < text.len()
        && !body.is_empty()
        && body.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
    if is_good { Ok(Some(token)) } else { Err(BearerError::Malformed) }
}
