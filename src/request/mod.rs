//! The only reading of what the client sent.

pub mod client;
pub mod path;
pub mod target;

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use client::TrustedProxies;
use path::{NormalPath, PathError};
use target::{Host, TargetError};

/// What the socket told about the other end.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The other end: a client, or a proxy in front of us.
    pub peer: SocketAddr,
    /// Whether `peer` is a proxy whose word about the client counts.
    pub is_trusted: bool,
}

/// A request's head, read once. From here on nobody reads the URI again: decision and forwarded request use these.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The host asked for.
    pub host: Host<'a>,
    /// The path, normalized.
    pub path: NormalPath<'a>,
    /// The query without `?`, byte for byte.
    pub query: Option<&'a str>,
}

/// Why a head was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The target or `Host`.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl<'a> RequestHead<'a> {
    /// Reads a head.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn read(parts: &'a Parts) -> Result<Self, HeadError> {
        let host = target::read_host(&parts.method, &parts.uri, &parts.headers)?;
        let path = NormalPath::parse(parts.uri.path())?;
        Ok(Self { method: &parts.method, host, path, query: parts.uri.query() })
    }
}

impl Connection {
    /// The connection of `peer`.
    pub fn new(peer: SocketAddr, proxies: &TrustedProxies) -> Self {
        Self { peer, is_trusted: proxies.contains(peer.ip()) }
    }

    /// The client's address: the peer's, or what a trusted peer says.
    pub fn client_address(&self, headers: &HeaderMap, proxies: &TrustedProxies) -> IpAddr {
        let told = if self.is_trusted { proxies.client(headers) } else { None };
        told.unwrap_or_else(|| self.peer.ip()).to_canonical()
    }
}

/// Names one request in logs, answers and upstreams: 32 hexadecimal digits, or what a trusted proxy sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id of a request: a trusted peer's `X-Request-Id` if it is 1 to 128 letters, digits and `-_.:/+=`, or else a new one.
    pub fn of(headers: &HeaderMap, connection: &Connection, ids: &RequestIds) -> Self {
        let told = if connection.is_trusted { headers.get(X_REQUEST_ID) } else { None };
        match told {
            Some(value) if is_request_id(value.as_bytes()) => Self(value.clone()),
            Some(_) | None => ids.next(),
        }
    }

    /// As a header.
    pub const fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes request ids, one source a worker. They are unlikely to meet, not hard to guess: nothing rests on them.
#[derive(Debug)]
pub struct RequestIds {
    state: Cell<[u64; 2]>,
}

impl RequestIds {
    /// A source that begins at `seed`, which should be random.
    pub const fn new(seed: [u64; 2]) -> Self {
        Self { state: Cell::new(seed) }
    }

    /// A new id.
    pub fn next(&self) -> RequestId {
        let [first, second] = self.state.get();
        self.state.set([first.wrapping_add(GOLDEN_GAMMA), second.wrapping_add(GOLDEN_GAMMA)]);
        let mut digits = [0; 32];
        for (half, number) in digits.chunks_exact_mut(16).zip([mix(first), mix(second)]) {
            for (digit, byte) in half.chunks_exact_mut(2).zip(number.to_be_bytes()) {
                digit[0] = LOWER_HEX[usize::from(byte >> 4)];
                digit[1] = LOWER_HEX[usize::from(byte & 0x0F)];
            }
        }
        RequestId(HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("none")))
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014).
const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

fn is_request_id(text: &[u8]) -> bool {
    (1..=128).contains(&text.len()) && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte))
}

/// The increment of SplitMix64.
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
const LOWER_HEX: &[u8; 16] = b"0123456789abcdef";

/// De facto standard.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ_and_are_32_digits() {
        let ids = RequestIds::new([1, 2]);
        let (first, second) = (ids.next(), ids.next());
        assert_ne!(first, second);
        assert!(first.as_str().len() == 32 && first.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn only_a_trusted_peer_names_a_request() {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("theirs"));
        let ids = RequestIds::new([1, 2]);
        let peer = "127.0.0.1:1".parse().unwrap();
        let stranger = Connection { peer, is_trusted: false };
        let proxy = Connection { peer, is_trusted: true };
        assert_ne!(RequestId::of(&headers, &stranger, &ids).as_str(), "theirs");
        assert_eq!(RequestId::of(&headers, &proxy, &ids).as_str(), "theirs");
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("a\"b"));
        assert_ne!(RequestId::of(&headers, &proxy, &ids).as_str(), "a\"b");
    }
}
