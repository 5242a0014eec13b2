//! One cookie among those of a request: found, taken out, and kept out of a response (RFC 6265 section 5.4).
//!
//! A name counts only if it is equal octet for octet. Nothing is decoded, unquoted or folded, and `$Version` of RFC 2965 is a name
//! like any other: wherever two readings of a `Cookie` header are possible, a server behind or before us might take the other.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// Why a cookie cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// It stands twice, in one header or in two: one of them may be somebody else's.
    #[error("the cookie stands twice")]
    Duplicate,
}

/// The value of the cookie of this name, quotes and all. `None`: there is none.
///
/// # Errors
/// See [`CookieError`].
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, CookieError> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let mut found = pairs.filter_map(|pair| value_of(pair, name));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(CookieError::Duplicate),
        (value, _) => Ok(value),
    }
}

/// Takes the cookie of this name out of what an upstream gets. Other cookies stay as they are, byte for byte.
pub fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let is_meant =
        |header: &HeaderValue| header.as_bytes().split(|byte| *byte == b';').any(|pair| is_named(pair, name));
    if !headers.get_all(COOKIE).iter().any(is_meant) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| if is_meant(header) { without(header, name) } else { Some(header.clone()) })
        .collect();
    headers.remove(COOKIE);
    for header in kept {
        headers.append(COOKIE, header);
    }
}

/// Takes out of an upstream's response what would set the cookie of this name.
pub fn remove_set_cookie(headers: &mut HeaderMap, name: &str) {
    let is_meant = |header: &HeaderValue| {
        let pair = header.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        // A cookie without a name comes back as its bare value, which then reads as a name and a value.
        is_named(pair.trim_ascii_start().strip_prefix(b"=").unwrap_or(pair), name)
    };
    if !headers.get_all(SET_COOKIE).iter().any(is_meant) {
        return;
    }
    let kept: Vec<HeaderValue> =
        headers.get_all(SET_COOKIE).iter().filter(|header| !is_meant(header)).cloned().collect();
    headers.remove(SET_COOKIE);
    for header in kept {
        headers.append(SET_COOKIE, header);
    }
}

/// The value of a pair with exactly this name; only a blank or a tab before the name and behind the value does not count.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = trimmed(pair).strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    Some(value)
}

/// Whether any server could take the pair for the cookie of this name: with white space before the `=`, too.
fn is_named(pair: &[u8], name: &str) -> bool {
    pair.trim_ascii_start()
        .strip_prefix(name.as_bytes())
        .is_some_and(|rest| rest.trim_ascii_start().first().is_none_or(|byte| *byte == b'='))
}

/// All pairs but those of the name. `None`: nothing is left.
fn without(header: &HeaderValue, name: &str) -> Option<HeaderValue> {
    let pairs = header.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_named(pair, name));
    let kept = pairs.collect::<Vec<_>>().join(&b';');
    let kept = kept.trim_ascii_start();
    if kept.is_empty() { None } else { HeaderValue::from_bytes(kept).ok() }
}

fn trimmed(pair: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(*byte, b' ' | b'\t');
    let start = pair.iter().position(|byte| !is_space(byte)).unwrap_or(pair.len());
    let end = pair.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &pair[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "__Host-tollgate_refresh";

    fn headers(name: http::HeaderName, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[track_caller]
    fn check(sent: &[&[u8]], expected: Result<Option<&str>, CookieError>) {
        assert_eq!(cookie(&headers(COOKIE, sent), NAME), expected.map(|value| value.map(str::as_bytes)), "{sent:?}");
    }

    #[test]
    fn exactly_one_cookie_of_exactly_this_name_is_read() {
        check(&[], Ok(None));
        check(&[b"__Host-tollgate_refresh=abc"], Ok(Some("abc")));
        check(&[b"a=1; __Host-tollgate_refresh=abc; b=2"], Ok(Some("abc")));
        check(&[b"a=1;__Host-tollgate_refresh=abc;b=2"], Ok(Some("abc")));
        check(&[b"a=1", b"__Host-tollgate_refresh=abc"], Ok(Some("abc")));
        check(&[b"__Host-tollgate_refresh=a=b"], Ok(Some("a=b")));
        check(&[b"__Host-tollgate_refresh="], Ok(Some("")));
    }

    #[test]
    fn other_spellings_are_other_cookies() {
        for sent in [
            b"__host-tollgate_refresh=x".as_slice(),
            b"__Host-Tollgate_Refresh=x",
            b"tollgate_refresh=x",
            b"__Secure-tollgate_refresh=x",
            b"__Host-tollgate_refresh2=x",
            b"x__Host-tollgate_refresh=x",
            b"__Host-tollgate_refresh =x",
            b"__Host-tollgate_refresh",
            b"__Host-tollgate%5Frefresh=x",
            b"\"__Host-tollgate_refresh\"=x",
            // U+2000, which some servers trim, U+0085 as Latin-1, and a no-break space.
            b"\xE2\x80\x80__Host-tollgate_refresh=x",
            b"\x85__Host-tollgate_refresh=x",
            b"\xA0__Host-tollgate_refresh=x",
            // RFC 2965 parted cookies by commas, too.
            b"a=1, __Host-tollgate_refresh=x",
        ] {
            check(&[sent], Ok(None));
        }
    }

    #[test]
    fn legacy_syntax_has_no_meaning() {
        check(&[b"$Version=1; __Host-tollgate_refresh=abc; $Path=/; $Domain=a"], Ok(Some("abc")));
        // A quote does not hide a semicolon, and is not taken off.
        check(&[b"a=\"x; __Host-tollgate_refresh=abc\""], Ok(Some("abc\"")));
        check(&[b"__Host-tollgate_refresh=\"abc\""], Ok(Some("\"abc\"")));
    }

    #[test]
    fn two_of_the_name_are_refused_even_if_they_are_equal() {
        let duplicate = Err(CookieError::Duplicate);
        check(&[b"__Host-tollgate_refresh=a; __Host-tollgate_refresh=b"], duplicate);
        check(&[b"__Host-tollgate_refresh=a; __Host-tollgate_refresh=a"], duplicate);
        check(&[b"__Host-tollgate_refresh=a", b"x=1; __Host-tollgate_refresh="], duplicate);
    }

    #[test]
    fn a_hundred_cookies_and_a_very_long_one_do_not_matter() {
        let mut sent: Vec<u8> = (0..100).flat_map(|number| format!("c{number}=v; ").into_bytes()).collect();
        sent.extend_from_slice(format!("long={}; ", "x".repeat(16 * 1024)).as_bytes());
        sent.extend_from_slice(b"__Host-tollgate_refresh=abc");
        check(&[&sent], Ok(Some("abc")));
    }

    #[track_caller]
    fn check_removed(sent: &[&[u8]], expected: &[&[u8]]) {
        let mut map = headers(COOKIE, sent);
        remove_cookie(&mut map, NAME);
        let left: Vec<&[u8]> = map.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(left, expected, "{sent:?}");
    }

    #[test]
    fn only_ours_is_taken_out() {
        check_removed(&[b"a=1; b=\"2 ,\";c=3"], &[b"a=1; b=\"2 ,\";c=3"]);
        check_removed(&[b"__Host-tollgate_refresh=x"], &[]);
        check_removed(&[b"__Host-tollgate_refresh=x; a=1"], &[b"a=1"]);
        check_removed(&[b"a=1; __Host-tollgate_refresh=x; b=\xE2\x82\xAC;c"], &[b"a=1; b=\xE2\x82\xAC;c"]);
        check_removed(&[b"a=1; __Host-tollgate_refresh=x; __Host-tollgate_refresh=y"], &[b"a=1"]);
        check_removed(&[b"a=1", b"__Host-tollgate_refresh=x", b"b=2"], &[b"a=1", b"b=2"]);
        check_removed(&[b"__host-tollgate_refresh=x"], &[b"__host-tollgate_refresh=x"]);
        // What we do not read is kept from a server that would.
        check_removed(&[b"a=1; __Host-tollgate_refresh =x; __Host-tollgate_refresh"], &[b"a=1"]);
    }

    #[test]
    fn an_upstream_cannot_set_ours() {
        let mut map = headers(
            SET_COOKIE,
            &[
                b"a=1; Path=/",
                b"__Host-tollgate_refresh=evil; Path=/; Secure",
                b" __Host-tollgate_refresh =evil",
                b"=__Host-tollgate_refresh=evil",
                b"__Host-tollgate_refresh; Max-Age=0",
                b"b=__Host-tollgate_refresh=2",
            ],
        );
        remove_set_cookie(&mut map, NAME);
        let left: Vec<&[u8]> = map.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(left, [b"a=1; Path=/".as_slice(), b"b=__Host-tollgate_refresh=2"]);
    }
}
