//! One request: from its head to its answer. Read `Gateway::walk` first; it is what happens to a request, top to bottom.

mod body;
pub mod code;
mod cors;
pub mod decision;
mod dialect;
mod endpoint;
mod newer_keys;
mod record;
pub mod refusal;
mod refusal_answer;

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONNECTION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::{BodyLimits, BodyWatch, Pace, RequestBody};
use crate::cause::chain;
use crate::issuer::Issuer;
use crate::keyset::{KeySet, KeySource};
use crate::log::AccessBuffer;
use crate::metrics::{Metrics, RouteIndex, WorkerMetrics};
use crate::policy::{self, Caller};
use crate::request::client::TrustedProxies;
use crate::request::{Connection, RequestHead, RequestId, RequestIds, X_REQUEST_ID};
use crate::revocation::{Revocations, Revoked};
use crate::route::{Access, Routes};
use crate::time::{Moment, UnixSeconds};
use crate::token::cache::{RecentTokens, TokenCache};
use crate::token::{Identity, TokenError, Verifier};
use crate::upstream::{Exchange, Outbound, UpstreamBody, UpstreamError, Upstreams};

pub use crate::upstream::TICK;
pub use body::{BrokenResponse, ResponseBody};
use cors::Sharing;
pub use cors::{Cors, CorsSettings, PREFLIGHT};
use endpoint::Asked;
pub use newer_keys::UnsupportedAlgorithms;
pub use record::LogNames;
use record::{CacheUse, Record, SecondText};
use refusal::Refusal;

/// What all workers share: immutable, or made to be shared.
#[derive(Debug)]
pub struct Shared {
    /// The routes.
    pub routes: Routes,
    /// What a good token is.
    pub verifier: Verifier,
    /// The keys of this moment, swapped whole.
    pub keys: ArcSwap<KeySet>,
    /// Where issuers publish their keys, in the order of the verifier's; `None` for one whose keys the file names.
    pub key_sources: Vec<Option<Arc<KeySource>>>,
    /// What the operator was told of tokens that cannot be verified.
    pub unsupported_algorithms: UnsupportedAlgorithms,
    /// Tokens that were verified.
    pub cache: TokenCache,
    /// Sessions that have ended.
    pub revocations: Arc<Revocations>,
    /// Our own endpoints.
    pub issuer: Arc<Issuer>,
    /// What the pages of other sites may see.
    pub cors: Cors,
    /// Runs what may wait: logins.
    pub control: tokio::runtime::Handle,
    /// Whose word about a client counts.
    pub trusted_proxies: TrustedProxies,
    /// How slow a client may be in a body.
    pub body_pace: Pace,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What the access lines call routes and servers.
    pub log_names: LogNames,
}

impl Shared {
    /// Swaps the key set for what `change` makes of it, and lets go of the tokens whose keys are no longer in it. Several parts
    /// change keys of theirs; none overwrites what another did meanwhile.
    pub fn change_keys(&self, change: impl Fn(&KeySet) -> KeySet) {
        self.keys.rcu(|keys| change(keys));
        self.cache.retain(&self.keys.load());
    }
}

/// One worker's part of the gateway.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    upstreams: Upstreams,
    access: AccessBuffer,
    recent: RecentTokens,
    metrics: Arc<WorkerMetrics>,
    request_ids: RequestIds,
    second_text: SecondText,
}

/// A response before its body has got the request's record.
enum Reply {
    /// An upstream's, which may stream until the deadline.
    Forwarded(Response<UpstreamBody>, Option<Instant>),
    /// Ours.
    Own(Response<Bytes>),
}

impl Gateway {
    /// A worker's part. `seed` of the request ids should be random.
    pub fn new(
        shared: Arc<Shared>,
        upstreams: Upstreams,
        access: AccessBuffer,
        metrics: Arc<WorkerMetrics>,
        seed: [u64; 2],
    ) -> Self {
        let (request_ids, second_text) = (RequestIds::new(seed), SecondText::new());
        Self { shared, upstreams, access, recent: RecentTokens::new(), metrics, request_ids, second_text }
    }

    /// This worker's counters.
    pub fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
    }

    /// To be called once every [`TICK`]: closes connections that have waited too long, hands access lines to their writer.
    pub fn tick(&self) {
        self.upstreams.tick();
        self.recent.sweep(&self.shared.keys.load(), UnixSeconds::now());
        self.access.flush();
    }

    /// Answers a request. The record begins with the call, not with the first poll.
    pub fn handle(
        gateway: &Rc<Self>,
        request: Request<Incoming>,
        connection: &Rc<Connection>,
    ) -> impl Future<Output = Response<ResponseBody>> + use<> {
        let (mut parts, incoming) = request.into_parts();
        let mut record = gateway.begin(connection, &parts.headers, Some((parts.method.clone(), parts.uri.clone())));
        async move {
            let gateway = Rc::clone(&record.gateway);
            let connection = Rc::clone(&record.connection);
            if http_body::Body::is_end_stream(&incoming) {
                record.watch = Some(BodyWatch::nothing());
            }
            let sharing = gateway.shared.cors.sharing(&parts.headers);
            let walked = gateway.walk(&mut parts, incoming, &connection, sharing, &mut record).await;
            let had_trailers = record.watch.as_ref().is_some_and(BodyWatch::had_trailers);
            let mut response = match walked {
                Ok(Reply::Forwarded(mut response, deadline)) => {
                    record.status = Some(response.status());
                    let length = http_body::Body::size_hint(response.body()).exact();
                    if parts.version == Version::HTTP_10 && length.is_none() {
                        // Such a body ends with the connection; hyper would promise to keep it.
                        *response.version_mut() = Version::HTTP_10;
                        connection.end_by_closing();
                    }
                    response.map(|body| ResponseBody::upstream(body, deadline, record))
                }
                Ok(Reply::Own(response)) => {
                    record.status = Some(response.status());
                    if !record.has_read_body() {
                        // An endpoint that takes no body has not read it.
                        connection.leave_unread();
                    }
                    response.map(|body| ResponseBody::fixed(body, record))
                }
                Err(refusal) => {
                    let has_read_body = record.has_read_body();
                    let mut response = gateway.refuse(&refusal, record);
                    if !has_read_body {
                        // What is left of the body is not read to the end; RFC 9112 section 9.6.
                        connection.leave_unread();
                        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    response
                }
            };
            if had_trailers {
                // Trailers with a bare line feed swallow what stands behind them: a request there is not read as one, and its
                // client is not to wait for the answer.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            gateway.shared.cors.mark(sharing, response.headers_mut());
            response
        }
    }

    /// The walk of a request. Each step returns what the next one demands.
    async fn walk(
        &self,
        parts: &mut Parts,
        incoming: Incoming,
        connection: &Connection,
        sharing: Sharing<'_>,
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let Parts { method, uri, headers, .. } = parts;
        let head = RequestHead::read(method, uri, headers)?;
        if let Some(response) = self.preflight(sharing, method, headers, record) {
            return Ok(Reply::Own(response));
        }
        if let Some(endpoint) = self.shared.issuer.endpoint(head.path.decoded()) {
            record.route = RouteIndex::Issuer;
            record.spoken = self.shared.issuer.spoken(head.path.decoded());
            // Boxed, because it is rare and large.
            let asked = Asked { endpoint, method, path: head.path.decoded(), query: uri.query(), headers };
            let answering = Box::pin(self.answer(asked, incoming, record));
            return answering.await.map(Reply::Own);
        }
        let matched = self.shared.routes.find(method, head.host.name(), &head.path)?;
        record.route = RouteIndex::Route(matched.index);
        let route = matched.route;
        let caller = self.authenticate(&route.access, headers, record).await?;
        if decision::must_know_sessions(route, &caller) {
            self.shared.revocations.check_known(record.start)?;
        }
        let permit = policy::permit(caller, matched)?;
        let now = record.time.seconds();
        let deadline = route.timeout.map(|timeout| record.start + timeout);
        if let Some(making) = self.upstreams.token_made_elsewhere(&permit, now, &self.shared.control) {
            Box::pin(until(deadline, making)).await?;
        }

        let target = decision::forwarded_target(&route.rewrite, &head.path, uri)?;
        let limits = BodyLimits { bytes: route.max_body_bytes, pace: self.shared.body_pace };
        let (body, watch) = RequestBody::new(incoming, limits, connection.open_bodies())?;
        record.watch = Some(watch.clone());
        connection.set_deadline(deadline);
        let outbound = Outbound {
            method: method.clone(),
            target,
            headers: std::mem::take(headers),
            body,
            watch: &watch,
            host: &head.host.header,
            connection,
            request_id: &record.request_id,
            now,
            exchange: &mut record.exchange,
        };
        // Pinned here and awaited by reference: each move would make the future of every request larger.
        let mut forwarding = std::pin::pin!(self.upstreams.forward(outbound, &permit));
        let response = match deadline {
            None => forwarding.await?,
            Some(deadline) => {
                let timed = tokio::time::timeout_at(deadline, &mut forwarding);
                Box::pin(timed).await.map_err(|_| Refusal::RouteTimeout)??
            }
        };
        Ok(Reply::Forwarded(response, deadline))
    }

    /// The answer to a browser that asks whether a page of another site may send a request. Before routes and tokens: it asks
    /// without one (<https://fetch.spec.whatwg.org/#cors-preflight-fetch>), and of methods that an upstream need not know.
    fn preflight(
        &self,
        sharing: Sharing<'_>,
        method: &Method,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Option<Response<Bytes>> {
        let mut response = self.shared.cors.preflight(sharing, method, headers)?;
        record.route = RouteIndex::Issuer;
        record.endpoint = Some(PREFLIGHT);
        response.headers_mut().insert(X_REQUEST_ID, record.request_id.header().clone());
        Some(response)
    }

    /// Who sends a request, as far as its route wants to know. Waits only for a key that is not known yet.
    async fn authenticate(&self, access: &Access, headers: &HeaderMap, record: &mut Record) -> Result<Caller, Refusal> {
        let Some(token) = decision::presented(access, headers)? else { return Ok(Caller::Anonymous) };
        let identity = match self.identify(token, record) {
            Ok(identity) => identity,
            // Boxed, because it is rare.
            Err(refused) => Box::pin(self.identify_with_newer_keys(token, refused, record)).await?,
        };
        self.check_session(token, &identity)?;
        record.caller = Some(Arc::clone(&identity));
        Ok(Caller::Known(identity))
    }

    /// Whether the session of a good token, remembered or not, still goes on.
    fn check_session(&self, token: &str, identity: &Identity) -> Result<(), Revoked> {
        let Some(session) = identity.belongs_to() else { return Ok(()) };
        let standing = self.shared.revocations.check(&session.id, session.issued_at);
        if standing.is_err() {
            self.recent.forget(token);
            self.shared.cache.forget(token);
        }
        standing
    }

    /// The identity that a token proves, from the cache or by verifying it. A refused token is never remembered.
    fn identify(&self, token: &str, record: &mut Record) -> Result<Arc<Identity>, TokenError> {
        let shared = &self.shared;
        let now = record.time.seconds();
        let keys = shared.keys.load();
        if let Some(identity) = self.recent.get(token, &keys, now).or_else(|| {
            let identity = shared.cache.get(token, &keys, now)?;
            self.recent.insert(token, &identity);
            Some(identity)
        }) {
            record.cache = CacheUse::Hit;
            self.metrics.cache_hit();
            return Ok(identity);
        }
        record.cache = CacheUse::Miss;
        self.metrics.cache_missed();
        let identity = Arc::new(shared.verifier.verify(token, &keys, now)?);
        shared.cache.insert(token, Arc::clone(&identity), now);
        Ok(identity)
    }

    fn refuse(&self, refusal: &Refusal, mut record: Box<Record>) -> Response<ResponseBody> {
        let answer = self.note_refusal(refusal, &mut record);
        let mut response = Response::new(ResponseBody::fixed(answer.body, record));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }

    /// The bytes that answer a head which could not be read, with a record of it. `head` is what has come of it, as far as it
    /// was kept.
    pub fn refuse_unread(self: &Rc<Self>, connection: &Rc<Connection>, status: StatusCode, head: &[u8]) -> Bytes {
        let mut record = self.begin(connection, &HeaderMap::new(), None);
        let mut answer = self.note_refusal(&Refusal::Unparsed(status), &mut record);
        let cors = &self.shared.cors;
        cors.mark(cors.sharing_unread(head), &mut answer.headers);
        record.bytes_out = answer.body.len() as u64;
        answer.to_http1()
    }

    fn note_refusal(&self, refusal: &Refusal, record: &mut Record) -> refusal::RefusalAnswer {
        let code = refusal.code();
        record.refusal = Some(code);
        self.metrics.refused(code as usize);
        if refusal.is_fault() {
            tracing::warn!(request.id = %record.request_id, refusal.code = code.name(), error = %chain(refusal), "Request failed");
        } else {
            tracing::debug!(request.id = %record.request_id, refusal.code = code.name(), error = %chain(refusal), "Request refused");
        }
        let mut answer = refusal.answer_to(&record.request_id, record.spoken);
        if let Some(cookie) = record.set_cookie.take() {
            answer.headers.append(SET_COOKIE, cookie);
        }
        record.status = Some(answer.status);
        answer
    }

    fn begin(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        headers: &HeaderMap,
        asked: Option<(Method, Uri)>,
    ) -> Box<Record> {
        connection.begin();
        self.metrics.request_begun();
        Box::new(Record {
            gateway: Rc::clone(self),
            connection: Rc::clone(connection),
            start: Instant::now(),
            time: Moment::now(),
            request_id: RequestId::of(headers, connection, &self.request_ids),
            client: connection.client_address(headers, &self.shared.trusted_proxies),
            asked,
            route: RouteIndex::None,
            endpoint: None,
            spoken: None,
            set_cookie: None,
            status: None,
            refusal: None,
            caller: None,
            cache: CacheUse::None,
            exchange: Exchange::default(),
            watch: None,
            bytes_out: 0,
            is_cut: false,
        })
    }
}

/// Waits, but not beyond the route's deadline.
async fn until(
    deadline: Option<Instant>,
    making: impl Future<Output = Result<(), UpstreamError>>,
) -> Result<(), Refusal> {
    match deadline {
        None => making.await?,
        Some(deadline) => tokio::time::timeout_at(deadline, making).await.map_err(|_| Refusal::RouteTimeout)??,
    }
    Ok(())
}
