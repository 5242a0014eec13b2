//! Takes the token out of the request (RFC 6750 section 2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

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

/// The bearer token, or `None` if there is no `Authorization` header or it has another scheme. Tokens in the query, a form
/// or a cookie are never looked at.
///
/// # Errors
/// See [`BearerError`].
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, BearerError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BearerError::Multiple);
    }
    let bytes = value.as_bytes();
    let scheme_end = bytes.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    // The scheme's case does not count (RFC 9110 section 11.1).
    if !bytes[..scheme_end].eq_ignore_ascii_case(b"Bearer") {
        return Ok(None);
    }
    // 1*SP, not a tab; hyper has cut off spaces at the end.
    let spaces = bytes[scheme_end..].iter().take_while(|byte| **byte == b' ').count();
    let token = &bytes[scheme_end + spaces..];
    if !is_b64token(token) {
        return Err(BearerError::Malformed);
    }
    std::str::from_utf8(token).map(Some).map_err(|_| BearerError::Malformed)
}

/// `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let text = &token[..token.len() - padding];
    // Without a branch or an early end, so that it is done for many bytes at once: tokens are long, and few are wrong.
    !text.is_empty() && text.iter().fold(true, |is_good, byte| is_good & is_b64token_byte(*byte))
}

const fn is_b64token_byte(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    // `-`, `.`, `/` and the digits follow each other.
    let is_mark_or_digit = byte.wrapping_sub(b'-') < 13;
    is_letter | is_mark_or_digit | (byte == b'_') | (byte == b'~') | (byte == b'+')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(values: &[&str], expected: Result<Option<&str>, BearerError>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        assert_eq!(bearer(&headers), expected, "{values:?}");
    }

    #[test]
    fn a_bearer_token_is_found_whatever_the_case_of_its_scheme() {
        check(&[], Ok(None));
        check(&["Bearer a.b.c"], Ok(Some("a.b.c")));
        check(&["bEARER a.b.c"], Ok(Some("a.b.c")));
        check(&["Bearer   a-._~+/=="], Ok(Some("a-._~+/==")));
    }

    #[test]
    fn another_scheme_is_no_bearer_token() {
        check(&["Basic dTpw"], Ok(None));
        check(&["Bearerx a.b.c"], Ok(None));
        check(&[""], Ok(None));
    }

    #[test]
    fn what_only_looks_like_a_bearer_token_is_refused() {
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer\ta.b.c",
            "Bearer \ta",
            "Bearer Bearer a",
            "Bearer a,b",
            "Bearer =",
            "Bearer a=b",
            "Bearer é",
        ] {
            check(&[value], Err(BearerError::Malformed));
        }
    }

    #[test]
    fn every_byte_is_sorted_as_the_grammar_does() {
        for byte in 0..=u8::MAX {
            let is_named = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert_eq!(is_b64token_byte(byte), is_named, "{byte:#x}");
        }
    }

    #[test]
    fn two_credentials_are_refused_even_if_they_are_the_same() {
        check(&["Bearer a.b.c", "Bearer a.b.c"], Err(BearerError::Multiple));
        check(&["Basic dTpw", "Bearer a.b.c"], Err(BearerError::Multiple));
    }
}
