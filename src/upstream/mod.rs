//! Upstreams: the services behind the gateway.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// One `[upstreams.<name>]` table, checked.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// The name in the file, for logs and metrics.
    pub name: Arc<str>,
    /// The servers that share its load. Never empty.
    pub servers: Vec<ServerAddress>,
    /// Which server gets the next request.
    pub balance: Balance,
    /// For a connection to be made. Default 5 s.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's head. `None` (default): no limit.
    pub response_timeout: Option<Duration>,
    /// Without a byte of a response body that has begun. `None`: no limit. Default 5 min.
    pub idle_timeout: Option<Duration>,
    /// What becomes of the client's bearer token.
    pub token: TokenForwarding,
}

/// `http://host:port` of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// A name, resolved for each new connection, or an IP address without brackets.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

/// How requests are spread over an upstream's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// The one with the fewest requests in flight (default).
    LeastRequests,
}

/// What becomes of the client's bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenForwarding {
    /// `Authorization` is removed (default): an upstream that logs its headers then logs no token.
    Strip,
    /// `Authorization` is passed on as it came.
    Pass,
}

/// `[identity.headers]`: what an upstream learns of the caller. `None`: that header is not sent.
#[derive(Debug, Clone)]
pub struct IdentityHeaderNames {
    /// Default `X-Forwarded-User`.
    pub subject: Option<HeaderName>,
    /// Default `X-Forwarded-Preferred-Username`.
    pub name: Option<HeaderName>,
    /// Default `X-Forwarded-Email`.
    pub email: Option<HeaderName>,
    /// Comma separated. Default `X-Forwarded-Groups`.
    pub roles: Option<HeaderName>,
    /// Space separated. Default `X-Forwarded-Scopes`.
    pub scopes: Option<HeaderName>,
}
