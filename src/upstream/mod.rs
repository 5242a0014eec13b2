//! Upstreams: the services behind the gateway.

mod balance;
mod body;
mod credential;
mod headers;
mod identity;
mod pool;
mod wire;

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::{BodyFault, BodyWatch, CleanTrailers, RequestBody};
use crate::metrics::{Metrics, WorkerMetrics};
use crate::policy::{Caller, Permit};
use crate::request::{Connection, RequestId};
use crate::time::UnixSeconds;
use crate::token::Identity;
use crate::token::translation::Slot;
pub use balance::{MAX_SERVERS, Servers};
pub use body::{ResponseBodyError, UpstreamBody};
pub use credential::{Credential, IdentityFault, TokenForwarding};
pub use headers::{Origin, ReservedNames, announce_body, for_client, for_upstream};
pub use identity::IdentityTooLarge;
pub use pool::{ConnectError, TICK};
use pool::{Lease, Pool};

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

/// All upstreams as one worker sees them: connections of its own, knowledge shared with the others.
#[derive(Debug)]
pub struct Upstreams {
    upstreams: Vec<Upstream>,
    identity_headers: IdentityHeaderNames,
    reserved: Rc<ReservedNames>,
    clean_trailers: CleanTrailers,
    metrics: Arc<Metrics>,
    worker: Arc<WorkerMetrics>,
}

#[derive(Debug)]
struct Upstream {
    settings: UpstreamSettings,
    servers: Arc<Servers>,
    pools: Vec<Rc<Pool>>,
}

/// A request that is ready to leave, but for its headers, which [`Upstreams::forward`] cleans and completes.
#[derive(Debug)]
pub struct Outbound<'a> {
    /// The method.
    pub method: Method,
    /// Path, rewritten if the route says so, and query.
    pub target: PathAndQuery,
    /// The client's headers, all of them.
    pub headers: HeaderMap,
    /// The client's body.
    pub body: RequestBody,
    /// What becomes of `body`.
    pub watch: &'a BodyWatch,
    /// The client's `Host`.
    pub host: &'a HeaderValue,
    /// The client's connection.
    pub connection: &'a Connection,
    /// Its name.
    pub request_id: &'a RequestId,
    /// When it began.
    pub now: UnixSeconds,
    /// For the access record.
    pub exchange: &'a mut Exchange,
}

/// A request as its upstream will get it.
#[derive(Debug)]
struct Prepared<'a> {
    index: usize,
    upstream: &'a Upstream,
    /// `None` once it was sent.
    request: Option<Request<RequestBody>>,
    is_head: bool,
    /// RFC 9110 section 9.2.1, and without a body: it may be sent a second time.
    is_repeatable: bool,
    watch: &'a BodyWatch,
    request_id: &'a RequestId,
    exchange: &'a mut Exchange,
}

/// What the access record says of the upstream's side.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Upstream and server, once one was chosen.
    pub server: Option<(usize, usize)>,
    /// The upstream's own status.
    pub status: Option<StatusCode>,
    /// From sending the request to the response's head.
    pub duration: Option<Duration>,
}

/// Why no response came from an upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// None of the servers could be connected to.
    #[error("no server of the upstream can be reached")]
    Unreachable(#[source] ConnectError),
    /// A server took the request, or a part of it, and gave no response.
    #[error("the upstream broke off before its response")]
    Failed(#[source] hyper::Error),
    /// A server answered 101, which nobody asked for.
    #[error("the upstream switched protocols unasked")]
    SwitchedProtocols,
    /// Its status means nothing, or where its body ends could be read in two ways.
    #[error("the upstream's response is not clear: {0}")]
    Unclear(&'static str),
    /// No response head within `response_timeout`.
    #[error("the upstream gave no response within `response_timeout`")]
    TimedOut,
    /// The client's body could not be read to its end.
    #[error("the request could not be sent to its end")]
    RequestBody(#[source] BodyFault),
    /// The caller's identity does not fit.
    #[error(transparent)]
    Identity(#[from] IdentityFault),
}

impl Upstreams {
    /// The upstreams of `settings`, with what the workers share of each in `servers`.
    pub fn new(
        settings: &[UpstreamSettings],
        servers: &[Arc<Servers>],
        identity_headers: &IdentityHeaderNames,
        refresh_cookie: &str,
        metrics: Arc<Metrics>,
        worker: Arc<WorkerMetrics>,
    ) -> Self {
        let upstreams = settings.iter().zip(servers).map(|(settings, servers)| {
            let pool = |address: &ServerAddress| Rc::new(Pool::new(address.clone(), settings.connect_timeout));
            let pools = settings.servers.iter().map(pool).collect();
            Upstream { settings: settings.clone(), servers: Arc::clone(servers), pools }
        });
        let reserved = Rc::new(ReservedNames::new(identity_headers).with_cookie(refresh_cookie));
        let in_trailers = Rc::clone(&reserved);
        Self {
            upstreams: upstreams.collect(),
            clean_trailers: CleanTrailers::new(move |trailers| in_trailers.remove_from(trailers)),
            reserved,
            identity_headers: identity_headers.clone(),
            metrics,
            worker,
        }
    }

    /// Makes the token that a permitted request needs, if that takes too long for a worker: on `elsewhere`, and waited for.
    /// `None`, as nearly always: there is nothing to be made.
    pub fn token_made_elsewhere(
        &self,
        permit: &Permit<'_>,
        now: UnixSeconds,
        elsewhere: &tokio::runtime::Handle,
    ) -> Option<impl Future<Output = Result<(), UpstreamError>> + use<>> {
        let index = permit.route().upstream;
        let TokenForwarding::Mint(translation) = &self.upstreams[index].settings.token else { return None };
        let Caller::Known(identity) = permit.caller() else { return None };
        let slot = self.slot(index);
        let preparing = translation
            .is_slow_for(identity, slot, now)
            .then(|| elsewhere.spawn(Arc::clone(translation).prepare(Arc::clone(identity), slot, now)))?;
        // A task that broke off has kept no token, and the worker then makes it itself.
        Some(async move { preparing.await.unwrap_or(Ok(())).map_err(|error| UpstreamError::Identity(error.into())) })
    }

    const fn slot(&self, index: usize) -> Slot {
        Slot { position: index, of: self.upstreams.len() }
    }

    /// The headers by which upstreams learn of a caller.
    ///
    /// # Errors
    /// When they would be longer than servers accept.
    pub fn identity_headers<'a>(
        &self,
        identity: &'a Identity,
    ) -> Result<&'a [(HeaderName, HeaderValue)], IdentityTooLarge> {
        identity::identity_headers(identity, &self.identity_headers, 0)
    }

    /// Sends a permitted request and returns the response, whose body streams.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub fn forward<'a>(
        &'a self,
        outbound: Outbound<'a>,
        permit: &Permit<'_>,
    ) -> impl Future<Output = Result<Response<UpstreamBody>, UpstreamError>> + use<'a> {
        // What needs no waiting is done at once, so that the future holds no more than it must.
        let mut prepared = self.prepare(outbound, permit);
        async move {
            match &mut prepared {
                Ok(prepared) => self.exchange(prepared).await,
                Err(fault) => Err(UpstreamError::Identity(fault.clone())),
            }
        }
    }

    /// Makes the upstream's request of the client's.
    fn prepare<'a>(&'a self, outbound: Outbound<'a>, permit: &Permit<'_>) -> Result<Prepared<'a>, IdentityFault> {
        let index = permit.route().upstream;
        let upstream = &self.upstreams[index];
        let Outbound { method, target, mut headers, mut body, watch, host, connection, request_id, now, exchange } =
            outbound;
        body.clean_trailers(&self.clean_trailers);
        let origin = Origin { connection, host, request_id };
        let credential = upstream.settings.token.credential(permit.caller(), self.slot(index), now)?;
        for_upstream(&mut headers, &origin, permit.caller(), &self.identity_headers, &self.reserved, credential)?;
        announce_body(&mut headers, &method, &body);
        let is_head = method == Method::HEAD;
        let is_repeatable = method.is_safe() && !watch.is_some();
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(target);
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Ok(Prepared { index, upstream, request: Some(request), is_head, is_repeatable, watch, request_id, exchange })
    }

    /// Has a request answered.
    async fn exchange(&self, prepared: &mut Prepared<'_>) -> Result<Response<UpstreamBody>, UpstreamError> {
        let start = Instant::now();
        let settings = &prepared.upstream.settings;
        let watch = prepared.watch;
        let (response, mut lease, server) = {
            // Pinned here and awaited by reference: each move would make the future of every request larger.
            let mut sending = std::pin::pin!(self.send(prepared, start));
            match (settings.response_timeout, settings.idle_timeout) {
                (None, None) => sending.await?,
                (None, Some(_)) if !watch.is_some() => sending.await?,
                // Boxed, because it is large and most requests have no body.
                (response, idle) => Box::pin(within(response, idle, start, watch, &mut sending)).await?,
            }
        };
        let duration = start.elapsed();
        let Prepared { index, upstream, is_head, request_id, ref mut exchange, .. } = *prepared;
        exchange.status = Some(response.status());
        exchange.duration = Some(duration);
        self.worker.upstream_answered(index, response.status(), duration);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(UpstreamError::SwitchedProtocols);
        }
        headers::check_clear(response.status(), response.headers()).map_err(UpstreamError::Unclear)?;
        let (mut parts, incoming) = response.into_parts();
        parts.version = Version::HTTP_11;
        for_client(&mut parts.headers, is_head, parts.status, request_id, &self.reserved);
        if is_head {
            lease.rest();
        }
        let in_flight = upstream.servers.begin(server);
        let reserved = Rc::clone(&self.reserved);
        let body = UpstreamBody::new(incoming, lease, upstream.settings.idle_timeout, in_flight, reserved);
        Ok(Response::from_parts(parts, body))
    }

    /// To be called once every [`TICK`].
    pub fn tick(&self) {
        self.upstreams.iter().flat_map(|upstream| &upstream.pools).for_each(|pool| pool.tick());
    }

    /// Tries servers and connections until one takes the request. A try that sent a byte is the last, but for one case: a
    /// server may close a kept connection at the moment at which a request leaves. RFC 9112 section 9.3.1 lets a safe one be
    /// sent again then, which is done once, on a new connection.
    async fn send(
        &self,
        prepared: &mut Prepared<'_>,
        start: Instant,
    ) -> Result<(Response<Incoming>, Lease, usize), UpstreamError> {
        let (index, upstream) = (prepared.index, prepared.upstream);
        let mut tried = balance::Tried::default();
        let mut last_error = None;
        let mut was_repeated = false;
        while let Some(server) = upstream.servers.choose(&mut tried) {
            prepared.exchange.server = Some((index, server));
            let _in_flight = upstream.servers.begin(server);
            loop {
                let kept = if was_repeated { None } else { upstream.pools[server].take() };
                let mut lease = match kept {
                    Some(lease) => lease,
                    None => match Box::pin(upstream.pools[server].connect()).await {
                        Ok(lease) => lease,
                        Err(error) => {
                            self.note_failure(index, upstream, server, &error);
                            last_error = Some(error);
                            break;
                        }
                    },
                };
                if !lease.is_reused && upstream.servers.connected(server) {
                    self.note_recovery(index, upstream, server);
                }
                let Some(request) = prepared.request.take() else {
                    return Err(UpstreamError::Unreachable(last_error.unwrap_or(ConnectError::TimedOut)));
                };
                lease.sent.begin(lease.is_reused && prepared.is_repeatable && !was_repeated);
                match lease.sender.try_send_request(request).await {
                    Ok(response) => {
                        lease.sent.head_came();
                        if lease.is_reused && upstream.servers.answered(server) {
                            self.note_recovery(index, upstream, server);
                        }
                        return Ok((response, lease, server));
                    }
                    Err(mut error) => {
                        prepared.request = error.take_message();
                        if prepared.request.is_none() && start.elapsed() < REPEAT_WITHIN {
                            prepared.request = lease.sent.unanswered();
                            was_repeated = prepared.request.is_some();
                        }
                        if prepared.request.is_none() {
                            return Err(match prepared.watch.fault() {
                                Some(fault) => UpstreamError::RequestBody(fault),
                                None => UpstreamError::Failed(error.into_error()),
                            });
                        }
                        // A connection that was closed while it waited is replaced by the pool's next, and at last a new one.
                        if !lease.is_reused {
                            last_error = Some(ConnectError::Handshake(error.into_error()));
                            break;
                        }
                    }
                }
            }
        }
        // `servers` is never empty, so at least one connection was tried.
        Err(UpstreamError::Unreachable(last_error.unwrap_or(ConnectError::TimedOut)))
    }

    fn note_failure(&self, index: usize, upstream: &Upstream, server: usize, error: &ConnectError) {
        if error.is_ours() {
            tracing::warn!(error = %error, "No descriptor left for a connection to an upstream");
            return;
        }
        if upstream.servers.failed(server) {
            self.metrics.set_healthy(index, server, false);
            let address = &upstream.settings.servers[server];
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                upstream.name = %upstream.settings.name,
                upstream.server = %address,
                error = %format_args!("{error}: {cause}"),
                "Upstream server is passed over"
            );
        }
    }

    fn note_recovery(&self, index: usize, upstream: &Upstream, server: usize) {
        self.metrics.set_healthy(index, server, true);
        let address = &upstream.settings.servers[server];
        tracing::info!(upstream.name = %upstream.settings.name, upstream.server = %address, "Upstream server is back");
    }
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Ends `sending` when no response has come for `response` since the request's last byte was sent, or when the upstream has
/// taken no byte of the request's body for `idle`. While the client is the one that is waited for, the body's own limit counts.
async fn within<T>(
    response: Option<Duration>,
    idle: Option<Duration>,
    start: Instant,
    watch: &BodyWatch,
    mut sending: impl Future<Output = Result<T, UpstreamError>> + Unpin,
) -> Result<T, UpstreamError> {
    let mut taken = watch.bytes();
    let mut last_taken = start;
    loop {
        let limit = match watch.ended(start) {
            Some(ended) => response.map(|limit| ended + limit),
            None => idle.map(|limit| last_taken + limit),
        };
        // Without a limit now there may be one when the body has ended; it is looked at again after a while.
        let now = Instant::now();
        if limit.is_some_and(|limit| limit <= now) {
            return Err(UpstreamError::TimedOut);
        }
        let next_look = now + LOOK_AGAIN;
        let deadline =
            limit.map_or(next_look, |limit| if watch.ended(start).is_some() { limit } else { limit.min(next_look) });
        if let Ok(sent) = tokio::time::timeout_at(deadline, &mut sending).await {
            return sent;
        }
        if watch.bytes() != taken || watch.waits_for_client() {
            taken = watch.bytes();
            last_taken = Instant::now();
        }
    }
}

/// A kept connection that its server was closing breaks at once. What breaks later was in work, and may be what broke it.
const REPEAT_WITHIN: Duration = Duration::from_secs(2);

/// How often an upload's progress is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
