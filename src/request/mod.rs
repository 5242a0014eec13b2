//! The only reading of what the client sent.

pub mod client;
pub mod cookie;
pub mod origin;
pub mod path;
pub mod target;
pub mod web_origin;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::time::Instant;

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
    peer_text: HeaderValue,
    /// Requests whose response has not ended.
    in_work: Cell<u32>,
    /// Request bodies that are still being read; one may outlive the response to it.
    open_bodies: Rc<Cell<u32>>,
    /// When the route of the request in work wants it over.
    deadline: Cell<Option<Instant>>,
    leaves_unread: Cell<bool>,
    ends_by_closing: Cell<bool>,
    /// The last `Host` with the `Forwarded` element made for it: a client rarely changes it, so it is made once.
    forwarded: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

/// A request's head, read once: decision and forwarded request use these.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// The host asked for.
    pub host: Host,
    /// The path, normalized.
    pub path: NormalPath<'a>,
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
    pub fn read(method: &Method, uri: &'a Uri, headers: &HeaderMap) -> Result<Self, HeadError> {
        let host = target::read_host(method, uri, headers)?;
        let path = NormalPath::parse(uri.path())?;
        Ok(Self { host, path })
    }
}

impl Connection {
    /// The connection of `peer`.
    pub fn new(peer: SocketAddr, proxies: &TrustedProxies) -> Self {
        let peer_text = HeaderValue::from_str(&peer.ip().to_canonical().to_string());
        Self {
            peer,
            is_trusted: proxies.contains(peer.ip()),
            peer_text: peer_text.unwrap_or(HeaderValue::from_static("unknown")),
            in_work: Cell::new(0),
            open_bodies: Rc::default(),
            deadline: Cell::new(None),
            leaves_unread: Cell::new(false),
            ends_by_closing: Cell::new(false),
            forwarded: RefCell::new(None),
        }
    }

    /// Notes that a request has begun.
    pub fn begin(&self) {
        self.in_work.set(self.in_work.get() + 1);
    }

    /// Notes that a request's response has ended.
    pub fn end(&self) {
        self.in_work.set(self.in_work.get().saturating_sub(1));
        self.deadline.set(None);
    }

    /// Counts the request bodies that are open; a body that is being read adds itself and takes itself away.
    pub const fn open_bodies(&self) -> &Rc<Cell<u32>> {
        &self.open_bodies
    }

    /// Sets when the request in work is to be over, whether or not its client reads.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.deadline.set(deadline);
    }

    /// When the request in work is to be over.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Notes that a request's body was not read to its end, so that the connection closes with care.
    pub fn leave_unread(&self) {
        self.leaves_unread.set(true);
    }

    /// Whether a request's body was not read to its end.
    pub const fn leaves_unread(&self) -> bool {
        self.leaves_unread.get()
    }

    /// Notes that the end of the response in work is the end of the connection, as its client speaks HTTP/1.0.
    pub fn end_by_closing(&self) {
        self.ends_by_closing.set(true);
    }

    /// Whether the end of the connection is that of a response.
    pub const fn ends_by_closing(&self) -> bool {
        self.ends_by_closing.get()
    }

    /// Whether the body of a request still comes.
    pub fn has_open_body(&self) -> bool {
        self.open_bodies.get() > 0
    }

    /// Whether a request is in work, or the body of an answered one still comes. Until then the client's bytes are not the
    /// head of a new request.
    pub fn is_busy(&self) -> bool {
        self.in_work.get() > 0 || self.has_open_body()
    }

    /// Whether all requests have been answered, and the body of one still comes.
    pub fn awaits_body_only(&self) -> bool {
        self.in_work.get() == 0 && self.open_bodies.get() > 0
    }

    /// The peer's address, for `X-Forwarded-For`.
    pub const fn peer_text(&self) -> &HeaderValue {
        &self.peer_text
    }

    /// The `Forwarded` element for `host`, from `make` unless it was made before.
    pub fn forwarded(&self, host: &HeaderValue, make: impl FnOnce() -> HeaderValue) -> HeaderValue {
        let mut memo = self.forwarded.borrow_mut();
        match &*memo {
            Some((known, element)) if known == host => element.clone(),
            Some(_) | None => {
                let element = make();
                *memo = Some((host.clone(), element.clone()));
                element
            }
        }
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
        let stranger = Connection::new(peer, &TrustedProxies::default());
        let proxy = Connection::new(peer, &TrustedProxies(vec!["127.0.0.0/8".parse().unwrap()]));
        assert_ne!(RequestId::of(&headers, &stranger, &ids).as_str(), "theirs");
        assert_eq!(RequestId::of(&headers, &proxy, &ids).as_str(), "theirs");
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("a\"b"));
        assert_ne!(RequestId::of(&headers, &proxy, &ids).as_str(), "a\"b");
    }
}
