//! Downstream: from socket to request.

use std::net::SocketAddr;
use std::time::Duration;

use crate::request::client::TrustedProxies;

/// `[server]`.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Plain HTTP/1.1. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Data-plane threads. 0 (default): one per core.
    pub workers: usize,
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
    /// Longest request head in bytes; above: 431. Default 65536, at least 8192.
    pub max_header_bytes: usize,
    /// Connections open at once; above, new ones wait. Default 10000.
    pub max_connections: usize,
    /// For requests in flight when the process is told to stop. Default 30 s.
    pub drain_timeout: Duration,
}

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Where `/livez`, `/readyz` and `/metrics` are. `None` (`""` in the file): nowhere.
    pub listen: Option<SocketAddr>,
}
