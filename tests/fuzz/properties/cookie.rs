//! Of the cookies of a request one is ours, by its octets, or none; what is forwarded has nothing of it, and all others as they were.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tollgate::policy::Caller;
use tollgate::request::client::TrustedProxies;
use tollgate::request::cookie::{CookieError, cookie as read, remove_cookie, remove_set_cookie};
use tollgate::request::{Connection, RequestId, RequestIds};
use tollgate::upstream::{Credential, IdentityHeaderNames, Origin, ReservedNames, for_client, for_upstream};

/// The first line is the name of our cookie if it is one of these, and `__Host-tollgate_refresh` else.
const NAMES: [&str; 3] = ["tollgate_refresh", "__Secure-session", "a"];

/// Each further line is the value of a `Cookie` header, and then of a `Set-Cookie`; `@` in it stands for the name.
pub fn cookie(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let name = NAMES.into_iter().find(|name| name.as_bytes() == first).unwrap_or("__Host-tollgate_refresh");
    let values: Vec<HeaderValue> =
        lines.filter_map(|line| HeaderValue::from_bytes(&with_name(line, name)).ok()).collect();
    check_request(name, &values);
    check_answer(name, &values);
}

fn check_request(name: &str, values: &[HeaderValue]) {
    let sent = headers(&COOKIE, values);
    let pairs: Vec<Vec<u8>> = values.iter().flat_map(|value| pairs(value.as_bytes())).collect();

    let ours: Vec<&[u8]> = pairs.iter().filter_map(|pair| value_of(pair, name)).collect();
    let expected = match ours[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [_, ..] => Err(CookieError::Duplicate),
    };
    assert_eq!(read(&sent, name), expected, "{name} in {values:?}");

    let mut left = sent.clone();
    remove_cookie(&mut left, name);
    let pairs_left: Vec<Vec<u8>> =
        left.get_all(COOKIE).iter().flat_map(|value| self::pairs(value.as_bytes())).collect();
    let others: Vec<Vec<u8>> = pairs.iter().filter(|pair| !is_like_ours(pair, name)).cloned().collect();
    assert_eq!(pairs_left, others, "{name} taken out of {values:?}");
    assert_eq!(read(&left, name), Ok(None), "{name} is still in {left:?}");
    if others.len() == pairs.len() {
        assert_eq!(left, sent, "there was no {name}, and something was changed");
    }
    let mut again = left.clone();
    remove_cookie(&mut again, name);
    assert_eq!(again, left, "taken out twice: {values:?}");

    let mut forwarded = sent;
    let connection = Connection::new("192.0.2.1:4711".parse().unwrap(), &TrustedProxies(Vec::new()));
    let request_id = RequestId::of(&forwarded, &connection, &RequestIds::new([3, 5]));
    let host = HeaderValue::from_static("api.example.org");
    let origin = Origin { connection: &connection, host: &host, request_id: &request_id };
    let (caller, credential) = (Caller::Anonymous, Credential::Stripped);
    for_upstream(&mut forwarded, &origin, &caller, &NOTHING, &reserved(name), credential).unwrap();
    assert_eq!(all(&forwarded, &COOKIE), all(&left, &COOKIE), "{name} on the way to an upstream: {values:?}");
}

fn check_answer(name: &str, values: &[HeaderValue]) {
    let sent = headers(&SET_COOKIE, values);
    let mut left = sent.clone();
    remove_set_cookie(&mut left, name);
    let others: Vec<&HeaderValue> = values.iter().filter(|value| !sets_ours(value.as_bytes(), name)).collect();
    assert_eq!(all(&left, &SET_COOKIE), others, "{name} taken out of {values:?}");
    for value in others {
        let Some(returned) = returned_by_a_browser(value.as_bytes()) else { continue };
        let returned = headers(&COOKIE, &[HeaderValue::from_bytes(&returned).unwrap()]);
        assert_eq!(read(&returned, name), Ok(None), "{value:?} comes back as ours");
    }
    let mut answered = sent;
    let connection = Connection::new("192.0.2.1:4711".parse().unwrap(), &TrustedProxies(Vec::new()));
    let request_id = RequestId::of(&answered, &connection, &RequestIds::new([3, 5]));
    for_client(&mut answered, false, StatusCode::OK, &request_id, &reserved(name));
    assert_eq!(all(&answered, &SET_COOKIE), all(&left, &SET_COOKIE), "{name} on the way to a client: {values:?}");
}

// ── The oracle ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What stands between semicolons, without the white space before it and without what is blank.
fn pairs(value: &[u8]) -> Vec<Vec<u8>> {
    let mut pairs = vec![Vec::new()];
    for byte in value {
        match byte {
            b';' => pairs.push(Vec::new()),
            byte => pairs.last_mut().unwrap().push(*byte),
        }
    }
    for pair in &mut pairs {
        while pair.first().is_some_and(is_blank) {
            pair.remove(0);
        }
    }
    pairs.retain(|pair| !pair.is_empty());
    pairs
}

/// The value, if all that stands before the first `=` is the name.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let mut value = &pair[equals + 1..];
    while value.last().is_some_and(is_blank) {
        value = &value[..value.len() - 1];
    }
    (&pair[..equals] == name.as_bytes()).then_some(value)
}

/// As a lenient server reads the name: without white space around it, and a pair without `=` being a name.
fn is_like_ours(pair: &[u8], name: &str) -> bool {
    let until = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    without_blanks(&pair[..until]) == name.as_bytes()
}

fn sets_ours(value: &[u8], name: &str) -> bool {
    let pair = value.split(|byte| *byte == b';').next().unwrap();
    let mut rest = without_blanks(pair);
    if rest.first() == Some(&b'=') {
        rest = &rest[1..];
    }
    is_like_ours(rest, name)
}

/// RFC 6265bis sections 5.6 and 5.7.3: what comes back of a `Set-Cookie`, if it is kept.
fn returned_by_a_browser(value: &[u8]) -> Option<Vec<u8>> {
    let pair = value.split(|byte| *byte == b';').next().unwrap();
    let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
        Some(equals) => (without_blanks(&pair[..equals]), without_blanks(&pair[equals + 1..])),
        None => (&b""[..], without_blanks(pair)),
    };
    match (name.is_empty(), value.is_empty()) {
        (true, true) => None,
        (true, false) => Some(value.to_vec()),
        (false, _) => Some([name, b"=", value].concat()),
    }
}

fn is_blank(byte: &u8) -> bool {
    *byte == b' ' || *byte == b'\t'
}

fn without_blanks(mut text: &[u8]) -> &[u8] {
    while text.first().is_some_and(is_blank) {
        text = &text[1..];
    }
    while text.last().is_some_and(is_blank) {
        text = &text[..text.len() - 1];
    }
    text
}

// ── Headers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const NOTHING: IdentityHeaderNames =
    IdentityHeaderNames { subject: None, name: None, email: None, roles: None, scopes: None };

fn reserved(name: &str) -> ReservedNames {
    ReservedNames::new(&NOTHING).with_cookie(name)
}

fn with_name(line: &[u8], name: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in line {
        match byte {
            b'@' => text.extend_from_slice(name.as_bytes()),
            byte => text.push(*byte),
        }
    }
    text
}

fn headers(name: &HeaderName, values: &[HeaderValue]) -> HeaderMap {
    values.iter().map(|value| (name.clone(), value.clone())).fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

fn all<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a HeaderValue> {
    headers.get_all(name).iter().collect()
}
