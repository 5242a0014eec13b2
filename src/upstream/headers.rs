//! What an upstream sees of a request's headers, and the client of a response's.
//!
//! In this order, so that nothing a client sends can undo it: hop-by-hop headers go, with those that `Connection` names (RFC 9110
//! section 7.6.1); reserved names go, in every spelling; then ours are set.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::policy::Caller;
use crate::request::client::X_FORWARDED_FOR;
use crate::request::cookie::{remove_cookie, remove_set_cookie};
use crate::request::{Connection, RequestId, X_REQUEST_ID};

use super::identity::{IdentityTooLarge, identity_headers};
use super::{Credential, IdentityHeaderNames};

/// Names that only we may set, compared as a server would that takes `_` and `.` for `-` and ignores case.
#[derive(Debug)]
pub struct ReservedNames {
    /// Lower case with `-`; index is the length, so that most names are passed after one look.
    by_length: Vec<Vec<Box<[u8]>>>,
    /// The identity headers, which no upstream may send to a client either.
    identity: Vec<HeaderName>,
    /// The refresh cookie, which no upstream may see or set.
    cookie: Option<Box<str>>,
}

/// What our headers say of a request.
#[derive(Debug)]
pub struct Origin<'a> {
    /// The client's connection.
    pub connection: &'a Connection,
    /// The client's `Host`.
    pub host: &'a HeaderValue,
    /// The request's name.
    pub request_id: &'a RequestId,
}

impl ReservedNames {
    /// The names that we set or that would mislead an upstream, and those of the identity headers.
    pub fn new(names: &IdentityHeaderNames) -> Self {
        let configured = [&names.subject, &names.name, &names.email, &names.roles, &names.scopes];
        let identity: Vec<HeaderName> = configured.into_iter().flatten().cloned().collect();
        let configured = identity.iter().map(HeaderName::as_str);
        let mut reserved = Self { by_length: Vec::new(), identity: identity.clone(), cookie: None };
        for name in configured.chain(RESERVED).chain(HOP_BY_HOP) {
            let canonical: Box<[u8]> = name.bytes().map(canonical).collect();
            if reserved.by_length.len() <= canonical.len() {
                reserved.by_length.resize(canonical.len() + 1, Vec::new());
            }
            let same_length = &mut reserved.by_length[canonical.len()];
            if !same_length.contains(&canonical) {
                same_length.push(canonical);
            }
        }
        reserved
    }

    /// With the name of the refresh cookie, as browsers know it.
    #[must_use]
    pub fn with_cookie(mut self, name: &str) -> Self {
        self.cookie = Some(name.into());
        self
    }

    /// Whether a server could take `name` for one of them.
    pub fn contains(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        let Some(same_length) = self.by_length.get(name.len()) else { return false };
        same_length
            .iter()
            .any(|reserved| name.iter().zip(reserved).all(|(byte, expected)| canonical(*byte) == *expected))
    }

    /// Removes them all.
    pub fn remove_from(&self, headers: &mut HeaderMap) {
        remove_where(headers, |name| self.contains(name));
    }
}

/// Turns the client's headers into those that the upstream gets.
///
/// # Errors
/// When the caller's identity does not fit into headers.
pub fn for_upstream(
    headers: &mut HeaderMap,
    origin: &Origin<'_>,
    caller: &Caller,
    names: &IdentityHeaderNames,
    reserved: &ReservedNames,
    credential: Credential,
) -> Result<(), IdentityTooLarge> {
    let forwarded = Forwarded::of(headers, origin);
    let trace = headers.remove(&TRACEPARENT).filter(is_traceparent);
    let takes_trailers = headers.get(TE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_named_by_connection(headers);
    reserved.remove_from(headers);
    if let Some(cookie) = &reserved.cookie {
        remove_cookie(headers, cookie);
    }
    if trace.is_none() {
        // It belongs to the trace that is not continued (W3C Trace Context section 3.3.1.1).
        headers.remove(&TRACESTATE);
    }
    let mut minted_bytes = 0;
    match credential {
        Credential::Passed => {}
        Credential::Stripped => {
            if headers.get_all(AUTHORIZATION).iter().any(is_bearer) {
                headers.remove(AUTHORIZATION);
            }
        }
        Credential::Replaced(None) => drop(headers.remove(AUTHORIZATION)),
        Credential::Replaced(Some(minted)) => {
            minted_bytes = AUTHORIZATION.as_str().len() + minted.len();
            headers.insert(AUTHORIZATION, minted);
        }
    }

    // Grown once for all that follow.
    headers.reserve(OUR_HEADERS);
    headers.insert(HOST, origin.host.clone());
    headers.insert(X_FORWARDED_FOR, forwarded.address);
    headers.insert(X_FORWARDED_PROTO, forwarded.scheme);
    headers.insert(X_FORWARDED_HOST, forwarded.host);
    headers.insert(http::header::FORWARDED, forwarded.element);
    headers.append(VIA, HeaderValue::from_static("1.1 tollgate"));
    headers.insert(X_REQUEST_ID, origin.request_id.header().clone());
    headers.insert(TRACEPARENT, trace.unwrap_or_else(|| traceparent(origin.request_id)));
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Caller::Known(identity) = caller {
        for (name, value) in identity_headers(identity, names, minted_bytes)? {
            headers.insert(name, value.clone());
        }
    }
    Ok(())
}

/// Says how the body is framed, where hyper needs to be told: it would leave away the body of a GET or HEAD whose length is not
/// known. A method that expects a body says so when there is none (RFC 9110 section 8.6).
pub fn announce_body(headers: &mut HeaderMap, method: &Method, body: &impl http_body::Body) {
    if !body.is_end_stream() {
        if body.size_hint().exact().is_none() {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    } else if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Turns an upstream's headers into those that the client gets. hyper makes the framing anew, but for an answer without a
/// body its `Content-Length` is a statement about another one and stays (RFC 9110 section 8.6).
pub fn for_client(
    headers: &mut HeaderMap,
    is_head: bool,
    status: StatusCode,
    request_id: &RequestId,
    reserved: &ReservedNames,
) {
    remove_named_by_connection(headers);
    let keeps_length = is_head || status == StatusCode::NOT_MODIFIED;
    remove_where(headers, |name| {
        if *name == CONTENT_LENGTH {
            return !keeps_length;
        }
        HOP_BY_HOP.contains(&name.as_str()) || reserved.identity.contains(name)
    });
    if let Some(cookie) = &reserved.cookie {
        remove_set_cookie(headers, cookie);
    }
    headers.insert(X_REQUEST_ID, request_id.header().clone());
}

/// Checks that a response's status means something and that the end of its body can be read in one way only. hyper takes a
/// final `chunked` for the framing whatever stands before it, and the client would get a coding that nothing names.
pub(super) fn check_clear(status: StatusCode, headers: &HeaderMap) -> Result<(), &'static str> {
    if status.as_u16() > 599 {
        // RFC 9110 section 15.
        return Err("its status is above 599");
    }
    let Some(coding) = headers.get(TRANSFER_ENCODING) else { return Ok(()) };
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || headers.get_all(TRANSFER_ENCODING).iter().count() > 1 {
        return Err("its `Transfer-Encoding` is not exactly one `chunked`");
    }
    if headers.contains_key(CONTENT_LENGTH) {
        // RFC 9112 section 6.3, rule 3.
        return Err("it has both `Transfer-Encoding` and `Content-Length`");
    }
    Ok(())
}

/// `X-Forwarded-*` and `Forwarded` (RFC 7239) of one request. A trusted peer's list is continued, anybody else's replaced.
struct Forwarded {
    address: HeaderValue,
    scheme: HeaderValue,
    host: HeaderValue,
    element: HeaderValue,
}

impl Forwarded {
    fn of(headers: &HeaderMap, origin: &Origin<'_>) -> Self {
        let connection = origin.connection;
        if !connection.is_trusted {
            let address = connection.peer_text().clone();
            let element = connection.forwarded(origin.host, || element(connection.peer.ip(), origin.host, "http"));
            return Self { address, scheme: HeaderValue::from_static("http"), host: origin.host.clone(), element };
        }
        let told = |name: &HeaderName| headers.get(name).cloned();
        let scheme = told(&X_FORWARDED_PROTO).filter(|scheme| matches!(scheme.as_bytes(), b"http" | b"https"));
        let scheme = scheme.unwrap_or(HeaderValue::from_static("http"));
        let own = element(connection.peer.ip(), origin.host, scheme.to_str().unwrap_or("http"));
        Self {
            address: continued(headers, &X_FORWARDED_FOR, connection.peer_text()),
            host: told(&X_FORWARDED_HOST).unwrap_or_else(|| origin.host.clone()),
            element: continued(headers, &http::header::FORWARDED, &own),
            scheme,
        }
    }
}

/// All values of a list header with one more at its end.
fn continued(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    let values = headers.get_all(name).iter().chain([last]).map(HeaderValue::as_bytes);
    let joined = values.collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::from_bytes(&joined).unwrap_or_else(|_| last.clone())
}

/// RFC 7239 section 4. The host has been checked to hold no quote.
fn element(address: IpAddr, host: &HeaderValue, scheme: &str) -> HeaderValue {
    let host = host.to_str().unwrap_or_default();
    let text = match address.to_canonical() {
        IpAddr::V4(address) => format!("for={address};host=\"{host}\";proto={scheme}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\";host=\"{host}\";proto={scheme}"),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("for=unknown"))
}

/// Removes what `Connection` names; `Host`, which routing rests on, stays.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    // Mostly there is none, or one that speaks of the connection itself.
    let speaks_of_itself = |value: &HeaderValue| {
        [&b"keep-alive"[..], b"close"].iter().any(|option| value.as_bytes().eq_ignore_ascii_case(option))
    };
    if headers.get_all(CONNECTION).iter().all(speaks_of_itself) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Removes in one pass: most requests have nothing to remove, and looking each name up would cost more.
fn remove_where(headers: &mut HeaderMap, is_meant: impl Fn(&HeaderName) -> bool) {
    let mut found: [Option<HeaderName>; 4] = [const { None }; 4];
    loop {
        let mut count = 0;
        for (slot, name) in found.iter_mut().zip(headers.keys().filter(|name| is_meant(name))) {
            *slot = Some(name.clone());
            count += 1;
        }
        for name in found.iter_mut().filter_map(Option::take) {
            headers.remove(name);
        }
        if count < found.len() {
            return;
        }
    }
}

const fn canonical(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

fn is_bearer(value: &HeaderValue) -> bool {
    let value = value.as_bytes().trim_ascii_start();
    value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
}

/// W3C Trace Context section 3.2: version 00 with lower-case digits, neither id all zero.
fn is_traceparent(value: &HeaderValue) -> bool {
    let text = value.as_bytes();
    let is_shaped = text.len() == 55
        && text.iter().enumerate().all(|(index, byte)| match index {
            2 | 35 | 52 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    is_shaped
        && text.starts_with(b"00")
        && text[3..35].iter().any(|digit| *digit != b'0')
        && text[36..52].iter().any(|digit| *digit != b'0')
}

/// A trace that begins here. Its id is the request's, so that logs and traces meet; it is marked sampled, because a service
/// that follows its parent would otherwise never record.
fn traceparent(request_id: &RequestId) -> HeaderValue {
    let id = request_id.as_str().as_bytes();
    let mut text = *b"00-00000000000000000000000000000001-0000000000000001-01";
    if id.len() == 32 && id.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        text[3..35].copy_from_slice(id);
        text[36..52].copy_from_slice(&id[16..]);
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What `Connection` implies (RFC 9110 section 7.6.1), and the framing that hyper makes anew. `Trailer` stays: it announces
/// what follows a chunked body, which is forwarded. `Expect` goes: the gateway has answered it by then.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "content-length",
    "expect",
];

/// Names that tell an upstream who asks, from where, or for what else than the request line says: ours to set, or nobody's.
const RESERVED: [&str; 22] = [
    "x-forwarded-user",
    "x-forwarded-preferred-username",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-scopes",
    "x-forwarded-access-token",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-server",
    "forwarded",
    "x-real-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// What [`for_upstream`] sets, at most.
const OUR_HEADERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved() -> ReservedNames {
        ReservedNames::new(&IdentityHeaderNames {
            subject: Some(HeaderName::from_static("x-user-id")),
            name: None,
            email: None,
            roles: None,
            scopes: None,
        })
    }

    #[test]
    fn reserved_names_are_removed_in_every_spelling() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-user-id",
            "x_user_id",
            "x-user_id",
            "x.user.id",
            "x-forwarded-user",
            "X_FORWARDED_GROUPS",
            "Transfer_Encoding",
        ] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("evil"));
        }
        headers.append("x-user-idea", HeaderValue::from_static("good"));
        headers.append("accept", HeaderValue::from_static("good"));
        reserved().remove_from(&mut headers);
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert!(headers.values().all(|value| value == "good"));
    }

    #[test]
    fn what_connection_names_is_removed_but_never_the_host() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("close, X-Drop , host"));
        headers.append(CONNECTION, HeaderValue::from_static("x-also"));
        for name in ["x-drop", "x-also", "host", "x-keep"] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        remove_named_by_connection(&mut headers);
        assert!(headers.contains_key("host") && headers.contains_key("x-keep"));
        assert!(!headers.contains_key("x-drop") && !headers.contains_key("x-also"));
    }

    #[test]
    fn a_new_trace_is_well_formed() {
        let id = crate::request::RequestIds::new([1, 2]).next();
        assert!(is_traceparent(&traceparent(&id)));
        for bad in ["", "00-0-0-01", "00-00000000000000000000000000000000-0000000000000001-01"] {
            assert!(!is_traceparent(&HeaderValue::from_static(bad)), "{bad}");
        }
    }
}
