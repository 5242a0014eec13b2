//! Every metric of the process: its name, its counter, and the Prometheus text of all.
//!
//! Each worker has counters of its own that only it writes, so counting takes no lock and shares no cache line; a scrape
//! adds them up. Labels come from bounded sets: the routes, upstreams and refusal codes of the configuration, the methods that
//! HTTP defines, and statuses. A path or a user never becomes a label.

mod keys;
mod page;
mod process;
mod revocation;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use keys::KeySourceMetrics;
pub use process::ProcessCounts;
pub use revocation::{FeedMode, RevocationMetrics};

/// What labels there are.
#[derive(Debug, Clone)]
pub struct Labels {
    /// Route names, in the order of their index.
    pub routes: Vec<Arc<str>>,
    /// Upstream names with their servers (`host:port`), in the order of their index.
    pub upstreams: Vec<(Arc<str>, Vec<String>)>,
    /// Every refusal code, in the order of its index.
    pub refusals: &'static [&'static str],
    /// Issuers whose keys are fetched, in the order of their index.
    pub key_sources: Vec<Arc<str>>,
    /// Every kind of audit event with each of its outcomes, in the order of their index.
    pub audit_events: &'static [(&'static str, &'static str)],
}

/// The counters of the whole process.
#[derive(Debug)]
pub struct Metrics {
    labels: Labels,
    workers: Vec<Arc<WorkerMetrics>>,
    /// Per upstream and server: 1 while requests are sent to it, 0 while it is passed over.
    healthy: Vec<Vec<AtomicU64>>,
    /// Logins by result, see [`LoginResult`].
    logins: [AtomicU64; LoginResult::ALL.len()],
    login_duration: Histogram,
    /// Refreshes by result, see [`RefreshResult`].
    refreshes: [AtomicU64; RefreshResult::ALL.len()],
    tokens_issued: [AtomicU64; Grant::ALL.len()],
    access_lines_dropped: Arc<AtomicU64>,
    revocation: RevocationMetrics,
    /// Audit events, by index.
    audit_events: Vec<AtomicU64>,
    process: ProcessCounts,
    key_sources: Vec<KeySourceMetrics>,
    /// When our own keys were last read from the store; `None`: they are in the file.
    keys_read_at: Mutex<Option<Instant>>,
}

/// The counters of one worker. Written by its thread only.
#[derive(Debug)]
pub struct WorkerMetrics {
    routes: Vec<RouteMetrics>,
    upstreams: Vec<UpstreamMetrics>,
    refusals: Vec<Count>,
    in_flight: Count,
    cache_hits: Count,
    cache_misses: Count,
    connections: Count,
    idle_connections: Count,
}

/// The place of a request in [`WorkerMetrics`]: a route, or one of two that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteIndex {
    /// A route of the configuration.
    Route(usize),
    /// The gateway's own endpoints, `(issuer)`.
    Issuer,
    /// No route was found, `(none)`.
    None,
}

/// How a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginResult {
    /// A token was issued.
    Ok,
    /// Login or password were wrong, or the account may not log in.
    Failed,
    /// The form could not be read.
    Refused,
    /// Too many failed before it.
    Throttled,
    /// The hashing queue was full.
    Overloaded,
    /// The store did not answer, or something of ours failed.
    Error,
}

/// What a token was issued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// `/auth/login`
    Login,
    /// `grant_type=password`
    Password,
    /// `/auth/refresh`
    Refresh,
    /// `grant_type=refresh_token`
    RefreshToken,
}

/// How a refresh ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshResult {
    /// Tokens were issued.
    Ok,
    /// The refresh token, or what came with it, is not good, or its session is over.
    Invalid,
    /// The refresh token had been replaced long ago; its session was ended.
    Reused,
    /// What was asked for could not be read or had.
    Refused,
    /// The store did not answer, or something of ours failed.
    Error,
}

impl RefreshResult {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Ok, "ok"),
        (Self::Invalid, "invalid"),
        (Self::Reused, "reused"),
        (Self::Refused, "refused"),
        (Self::Error, "error"),
    ];
}

/// One finished request.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// Which route.
    pub route: RouteIndex,
    /// Its method; `None` when its head could not be read.
    pub method: Option<&'a Method>,
    /// The status that the client got.
    pub status: StatusCode,
    /// From its head to its last byte.
    pub duration: Duration,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the response's body that were handed to the connection.
    pub bytes_out: u64,
}

impl LoginResult {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Ok, "ok"),
        (Self::Failed, "failed"),
        (Self::Refused, "refused"),
        (Self::Throttled, "throttled"),
        (Self::Overloaded, "overloaded"),
        (Self::Error, "error"),
    ];
}

impl Grant {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Login, "login"),
        (Self::Password, "password"),
        (Self::Refresh, "refresh"),
        (Self::RefreshToken, "refresh_token"),
    ];
}

impl Metrics {
    /// Counters for `workers` workers, all zero.
    pub fn new(labels: Labels, workers: usize) -> Self {
        let workers = (0..workers).map(|_| Arc::new(WorkerMetrics::new(&labels))).collect();
        let healthy = labels.upstreams.iter().map(|(_, servers)| servers.iter().map(|_| AtomicU64::new(1)).collect());
        Self {
            healthy: healthy.collect(),
            key_sources: labels.key_sources.iter().map(|_| KeySourceMetrics::default()).collect(),
            workers,
            audit_events: labels.audit_events.iter().map(|_| AtomicU64::new(0)).collect(),
            process: ProcessCounts::default(),
            labels,
            logins: Default::default(),
            login_duration: Histogram::default(),
            refreshes: Default::default(),
            tokens_issued: Default::default(),
            access_lines_dropped: Arc::default(),
            revocation: RevocationMetrics::default(),
            keys_read_at: Mutex::default(),
        }
    }

    /// The counters of one worker.
    pub fn worker(&self, index: usize) -> Option<&Arc<WorkerMetrics>> {
        self.workers.get(index)
    }

    /// Counts a login.
    pub fn login(&self, result: LoginResult, duration: Duration) {
        self.logins[result as usize].fetch_add(1, Relaxed);
        // Logins are rare and slow; several control threads may end one at once, so this histogram is shared.
        self.login_duration.observe_shared(duration);
    }

    /// Counts a refresh.
    pub fn refreshed(&self, result: RefreshResult) {
        self.refreshes[result as usize].fetch_add(1, Relaxed);
    }

    /// Counts an issued token.
    pub fn token_issued(&self, grant: Grant) {
        self.tokens_issued[grant as usize].fetch_add(1, Relaxed);
    }

    /// Counts an audit event by its index.
    pub fn audited(&self, event: usize) {
        if let Some(count) = self.audit_events.get(event) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Notes whether requests are sent to a server.
    pub fn set_healthy(&self, upstream: usize, server: usize, is_healthy: bool) {
        if let Some(gauge) = self.healthy.get(upstream).and_then(|servers| servers.get(server)) {
            gauge.store(u64::from(is_healthy), Relaxed);
        }
    }

    /// What is known of ended sessions.
    pub const fn revocation(&self) -> &RevocationMetrics {
        &self.revocation
    }

    /// Where the log adds the access lines that were lost.
    pub const fn access_lines_dropped(&self) -> &Arc<AtomicU64> {
        &self.access_lines_dropped
    }

    /// Where the log adds the audit lines that were lost.
    pub const fn audit_lines_dropped(&self) -> &Arc<AtomicU64> {
        &self.process.audit_lines_dropped
    }
}

impl WorkerMetrics {
    fn new(labels: &Labels) -> Self {
        Self {
            routes: (0..labels.routes.len() + 2).map(|_| RouteMetrics::default()).collect(),
            upstreams: labels.upstreams.iter().map(|_| UpstreamMetrics::default()).collect(),
            refusals: labels.refusals.iter().map(|_| Count::default()).collect(),
            in_flight: Count::default(),
            cache_hits: Count::default(),
            cache_misses: Count::default(),
            connections: Count::default(),
            idle_connections: Count::default(),
        }
    }

    /// Counts a request that begins.
    pub fn request_begun(&self) {
        self.in_flight.add(1);
    }

    /// Counts a request that ends, however it ends.
    pub fn request_finished(&self, finished: Finished<'_>) {
        self.in_flight.subtract(1);
        let index = match finished.route {
            RouteIndex::Route(index) => index,
            RouteIndex::Issuer => self.routes.len() - 2,
            RouteIndex::None => self.routes.len() - 1,
        };
        let Some(route) = self.routes.get(index) else { return };
        count_status(&route.requests[method_index(finished.method)], finished.status);
        route.duration.observe(finished.duration);
        route.bytes_in.add(finished.bytes_in);
        route.bytes_out.add(finished.bytes_out);
    }

    /// Counts a refusal by the index of its code.
    pub fn refused(&self, code: usize) {
        if let Some(count) = self.refusals.get(code) {
            count.add(1);
        }
    }

    /// Counts an upstream's answer.
    pub fn upstream_answered(&self, upstream: usize, status: StatusCode, duration: Duration) {
        if let Some(metrics) = self.upstreams.get(upstream) {
            count_status(&metrics.requests, status);
            metrics.duration.observe(duration);
        }
    }

    /// Counts a token found verified.
    pub fn cache_hit(&self) {
        self.cache_hits.add(1);
    }

    /// Counts a token that had to be verified.
    pub fn cache_missed(&self) {
        self.cache_misses.add(1);
    }

    /// Counts a connection that opens.
    pub fn connection_opened(&self) {
        self.connections.add(1);
    }

    /// Counts a connection that closes.
    pub fn connection_closed(&self) {
        self.connections.subtract(1);
    }

    /// Counts a connection that is put aside without a request.
    pub fn connection_parked(&self) {
        self.idle_connections.add(1);
    }

    /// Counts a connection that is taken up again, or closes.
    pub fn connection_unparked(&self) {
        self.idle_connections.subtract(1);
    }
}

#[derive(Debug, Default)]
struct RouteMetrics {
    /// By method; made when a method first comes, because most routes see two or three.
    requests: [OnceLock<Statuses>; METHODS.len()],
    duration: Histogram,
    bytes_in: Count,
    bytes_out: Count,
}

#[derive(Debug, Default)]
struct UpstreamMetrics {
    requests: OnceLock<Statuses>,
    duration: Histogram,
}

/// Counts by status, 100 to 599.
type Statuses = Box<[Count]>;

fn count_status(counts: &OnceLock<Statuses>, status: StatusCode) {
    let counts = counts.get_or_init(|| (0..STATUSES).map(|_| Count::default()).collect());
    if let Some(count) = counts.get(usize::from(status.as_u16()).wrapping_sub(100)) {
        count.add(1);
    }
}

fn method_index(method: Option<&Method>) -> usize {
    METHODS.iter().position(|name| method.is_some_and(|method| *name == method.as_str())).unwrap_or(METHODS.len() - 1)
}

/// A counter that one thread writes and any thread reads: a load and a store, without a bus lock.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    fn subtract(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(amount), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Durations in buckets.
#[derive(Debug, Default)]
struct Histogram {
    /// One for each of [`BUCKETS`], and one for what is longer.
    buckets: [Count; BUCKETS.len() + 1],
    micros: Count,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BUCKETS.partition_point(|&(bound, _)| bound < micros)].add(1);
        self.micros.add(micros);
    }

    fn observe_shared(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BUCKETS.partition_point(|&(bound, _)| bound < micros)].0.fetch_add(1, Relaxed);
        self.micros.0.fetch_add(micros, Relaxed);
    }
}

/// The methods that have a label of their own; any other is counted as the last.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

const STATUSES: usize = 500;

/// Upper bounds in microseconds, with their text in seconds. From a cache hit on loopback to a long computation.
const BUCKETS: [(u64, &str); 14] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
    (30_000_000, "30"),
    (300_000_000, "300"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up() {
        let labels = Labels {
            routes: vec!["a\"b".into()],
            upstreams: vec![("u".into(), vec!["h:1".into()])],
            refusals: &["bad_path"],
            key_sources: vec!["lab".into(), "down".into()],
            audit_events: &[("login", "ok"), ("login", "failed")],
        };
        let metrics = Metrics::new(labels, 2);
        for index in 0..2 {
            let worker = metrics.worker(index).unwrap();
            worker.request_begun();
            worker.request_finished(Finished {
                route: RouteIndex::Route(0),
                method: Some(&Method::GET),
                status: StatusCode::OK,
                duration: Duration::from_millis(3),
                bytes_in: 1,
                bytes_out: 2,
            });
            worker.refused(0);
            worker.upstream_answered(0, StatusCode::OK, Duration::from_secs(999));
        }
        metrics.set_healthy(0, 0, false);
        metrics.jwks_refreshed(0, true);
        metrics.jwks_refreshed(1, false);
        metrics.audited(1);
        metrics.audited(2);
        assert!(!metrics.encode().contains("tollgate_keys_age_seconds"), "keys of the file have no age");
        metrics.keys_read();
        metrics.process.panics.fetch_add(3, Relaxed);
        let page = metrics.encode();
        for line in [
            "tollgate_keys_age_seconds 0",
            "tollgate_requests_total{route=\"a\\\"b\",method=\"GET\",code=\"200\"} 2",
            "tollgate_request_duration_seconds_bucket{route=\"a\\\"b\",le=\"0.0025\"} 0",
            "tollgate_request_duration_seconds_bucket{route=\"a\\\"b\",le=\"0.005\"} 2",
            "tollgate_request_duration_seconds_sum{route=\"a\\\"b\"} 0.006000",
            "tollgate_response_bytes_total{route=\"a\\\"b\"} 4",
            "tollgate_requests_in_flight 0",
            "tollgate_refusals_total{code=\"bad_path\"} 2",
            "tollgate_upstream_duration_seconds_bucket{upstream=\"u\",le=\"300\"} 0",
            "tollgate_upstream_duration_seconds_count{upstream=\"u\"} 2",
            "tollgate_upstream_healthy{upstream=\"u\",server=\"h:1\"} 0",
            "tollgate_jwks_refreshes_total{issuer=\"lab\",result=\"ok\"} 1",
            "tollgate_jwks_refreshes_total{issuer=\"down\",result=\"failed\"} 1",
            "tollgate_jwks_age_seconds{issuer=\"lab\"} 0",
            "tollgate_audit_events_total{event=\"login\",outcome=\"ok\"} 0",
            "tollgate_audit_events_total{event=\"login\",outcome=\"failed\"} 1",
            "tollgate_panics_total 3",
            "tollgate_log_lines_dropped_total 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("age_seconds{issuer=\"down\"}"), "keys that were never fetched have no age");
    }
}
