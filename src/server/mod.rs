//! Downstream: from socket to request.

pub mod admin;
mod connection;
mod drain;
mod io;
mod replay;
pub mod worker;

pub use replay::read_request;

use std::io as system;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};

use crate::body::Pace;
use crate::request::client::TrustedProxies;
use crate::time::{Moment, UnixSeconds};

/// `[server]`.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Plain HTTP/1.1. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Data-plane threads. 0 (default): one per core.
    pub workers: usize,
    /// Whether each worker stays on a core of its own, when `workers` is 0. Default true.
    pub pin_workers: bool,
    /// Who may say where a request came from.
    pub trusted_proxies: TrustedProxies,
    /// From a connection's start, or from a request's first byte, to the end of its head. Default 10 s.
    pub header_timeout: Duration,
    /// A kept-alive connection without a request. Default 75 s.
    pub idle_timeout: Duration,
    /// Without a byte of a request body that the gateway waits for. Default 60 s.
    pub body_timeout: Duration,
    /// Without a byte of a response taken by the client. Default 5 min.
    pub send_timeout: Duration,
    /// Slowest average of both, which a client may fall behind by `body_timeout` and `send_timeout`. 0: none. Default 240.
    pub min_bytes_per_second: u32,
    /// Longest request head in bytes; above: 431. Default 65536, at least 8192.
    pub max_header_bytes: usize,
    /// Connections open at once; above, new ones wait. Default 10000.
    pub max_connections: usize,
    /// For requests in flight when the process is told to stop. Default 30 s.
    pub drain_timeout: Duration,
}

impl ServerSettings {
    /// How slow a client may be in a request's body.
    pub const fn body_pace(&self) -> Pace {
        Pace { patience: self.body_timeout, bytes_per_second: self.min_bytes_per_second }
    }

    /// How slowly a client may take a response.
    pub const fn send_pace(&self) -> Pace {
        Pace { patience: self.send_timeout, bytes_per_second: self.min_bytes_per_second }
    }
}

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Where `/livez`, `/readyz` and `/metrics` are. `None` (`""` in the file): nowhere.
    pub listen: Option<SocketAddr>,
}

/// A listening socket for each of `count` workers on one address. The kernel spreads new connections over them
/// (`SO_REUSEPORT`), so accepting takes no lock. Port 0 takes the same free port for all.
///
/// # Errors
/// What the system said: the address is in use, not ours, or a port below 1024 without the right to it.
pub fn bind(address: SocketAddr, count: usize) -> system::Result<Vec<TcpListener>> {
    // A second process on the same address would silently share it; one socket without the option finds that out.
    if address.port() != 0 {
        listener(address, Port::Alone)?;
    }
    let first = listener(address, Port::Shared)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listener(bound, Port::Shared)?);
    }
    Ok(listeners)
}

/// Whether other sockets may listen on the same port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Alone,
    Shared,
}

fn listener(address: SocketAddr, port: Port) -> system::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if port == Port::Shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // Each address of `listen` is what it says; IPv4 is not served by way of `[::]`.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Lets no new handshake begin on a listener, so that it can be closed without resetting a client whose handshake ends just
/// then. A client that comes later finds nobody at its second try, a second on.
fn take_no_new(listener: &impl std::os::fd::AsFd) -> system::Result<()> {
    // A classic BPF program sees a segment from its TCP header on: the flags are its 14th byte. One that has SYN and not ACK
    // is dropped (0 bytes of it are kept), any other is kept whole.
    let first_segments_only = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&first_segments_only)
}

/// Asks a silent peer whether it still lives, after a minute and then every fifteen seconds.
fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15))
}

/// Connections that the kernel holds for us; it cuts this to `net.core.somaxconn`.
const BACKLOG: usize = 4096;

/// Whether the clock stands after 1970 began. No token can be judged by an earlier one, and hyper panics over it when it makes its
/// first `Date`, so that such a time serves nobody: `app` does not start then, and a connection that comes then, or whose next
/// request does, is closed. Asked once a connection and once for each request that is read
/// from its socket.
pub fn clock_is_usable() -> bool {
    let is_usable = Moment::now().seconds() > UnixSeconds(0);
    if !is_usable {
        tracing::error!("The system's clock stands before 1970, so nothing can be served");
    }
    is_usable
}
