//! Builds every part from the configuration, starts the threads, and runs until it is told to stop.

pub mod key_sources;
pub mod keys;
mod limits;
mod sessions;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::account::Accounts;
use crate::account::throttle::Throttle;
use crate::audit::{self, Audit};
use crate::cause::chain;
use crate::config::Config;
use crate::gateway::code::Code;
use crate::gateway::{Cors, Gateway, LogNames, Shared, UnsupportedAlgorithms};
use crate::issuer::Issuer;
use crate::keyset::{KeyError, SealError};
use crate::log::{AccessLog, AccessWriter, AuditWriter, LogError, Reopener};
use crate::metrics::{Labels, Metrics};
use crate::revocation::{Feed, Revocations};
use crate::route::{Conflict, Routes};
use crate::server::admin::{self, Readiness};
use crate::server::worker::{Order, Worker};
use crate::server::{self, ServerSettings};
use crate::store::{self, Patience, StoreError};
use crate::token::Verifier;
use crate::token::cache::TokenCache;
use crate::token::mint::Minter;
use crate::upstream::{Servers, TokenForwarding, UpstreamSettings, Upstreams};

/// The running process.
#[derive(Debug)]
pub struct App {
    /// Runs what may wait. Declared first among what it feeds, so that it outlives nothing that needs it.
    control: Runtime,
    workers: Vec<JoinHandle<io::Result<()>>>,
    /// Told by each worker when it ends.
    ended: mpsc::UnboundedReceiver<()>,
    orders: watch::Sender<Order>,
    readiness: Arc<Readiness>,
    access: Option<AccessWriter>,
    audit: Arc<Audit>,
    public_addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    drain_timeout: Duration,
}

/// How the process was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Requests in flight were finished, or cut at `drain_timeout`.
    Drained,
    /// By a second signal, with requests in flight.
    AtOnce,
}

/// Why the process could not start. Each names the key of the configuration that is at fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("`{key}`: cannot listen on {address}")]
    Listen {
        /// `server.listen` or `admin.listen`.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store cannot be opened, or is needed now and does not answer.
    #[error("`store.url`: the store cannot be used")]
    Store(#[source] StoreError),
    /// No key that signs tokens.
    #[error("`tokens.key`: there is no usable signing key")]
    Key(#[source] KeyError),
    /// The key in the store has another shape than this version writes.
    #[error("`tokens.key`: the store holds a key for `{algorithm}`, which is not known here")]
    StoredAlgorithm {
        /// As the store has it.
        algorithm: String,
    },
    /// No key may sign any more.
    #[error("all keys for {algorithm} in the store are retired; `tollgate key rotate --now` makes a new one")]
    AllRetired {
        /// `tokens.algorithm`
        algorithm: &'static str,
    },
    /// A key in the store is encrypted, and cannot be opened.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// The key behind refresh tokens has another shape than this version writes.
    #[error("the key `{kid}` behind refresh tokens in the store cannot be used; restore it from a copy of the store")]
    RefreshKey {
        /// Its name in the store.
        kid: String,
    },
    /// The system gave no random bytes.
    #[error("the system's random source failed")]
    Randomness,
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Two routes of equal right.
    #[error("`routes`: {first} and {second} serve the same requests")]
    Routes {
        /// The earlier route.
        first: String,
        /// The later route.
        second: String,
    },
    /// No token can be judged, and no `Date` be told.
    #[error("the system's clock stands before 1970; set it")]
    Clock,
    /// The system gave no thread or event queue.
    #[error("the system refused a thread or an event queue")]
    System(#[source] io::Error),
}

/// Why the process ended badly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A worker's event queue or listener broke.
    #[error("a worker ended")]
    Worker(#[source] io::Error),
    /// A defect.
    #[error("a worker ended in a defect")]
    Panicked,
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
}

impl App {
    /// Starts everything and returns when it serves. Blocks, so call it outside any runtime.
    ///
    /// # Errors
    /// See [`StartError`]; what was started before the error is stopped.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        if !server::clock_is_usable() {
            return Err(StartError::Clock);
        }
        config.server.max_connections = limits::raise_descriptors(config.server.max_connections);
        let worker_count = worker_count(&config.server);
        let control = control_runtime().map_err(StartError::System)?;
        // From here on SIGHUP no longer ends the process. What comes before it is answered waits in here.
        let hangups = {
            let _entered = control.enter();
            signal(SignalKind::hangup()).map_err(StartError::System)?
        };
        let (listeners, public_addresses) = bind_public(&config.server, worker_count)?;
        let admin_listener = bind_admin(config.admin.listen)?;
        let admin_address = admin_listener.as_ref().and_then(|listener| listener.local_addr().ok());

        let store = control.block_on(store::open(&config.store)).map_err(StartError::Store)?;
        let keys = control.block_on(keys::load(&config, &*store))?;
        let throttle = match config.throttle.clone() {
            Some(settings) => {
                let secret = control.block_on(keys::throttle_secret(&config, &*store))?;
                Some(Throttle::new(settings, Arc::clone(&store), secret.expose_secret()))
            }
            None => None,
        };
        let patience = Patience::new(config.login.store_patience);
        let sessions = control.block_on(sessions::start(&config, &store, &patience))?;
        let minter = Arc::new(Minter::with_signers(&config.tokens, keys.signers.clone()));
        tell_of_cookie(&config);
        let routes = routes(config.routes)?;
        let upstream_names = config.upstreams.iter().map(names).collect::<Vec<_>>();
        let log_names = LogNames::new(&routes, &upstream_names);
        let sources = key_sources::key_sources(&config.issuers);
        let labels = Labels {
            routes: routes.all().iter().map(|route| Arc::clone(&route.name)).collect(),
            upstreams: upstream_names,
            refusals: &Code::NAMES,
            key_sources: sources.iter().flatten().map(|source| Arc::clone(source.name())).collect(),
            audit_events: &audit::Event::ALL,
        };
        let metrics = Arc::new(Metrics::new(labels, worker_count));
        let access = AccessWriter::start(&config.log.access, Arc::clone(metrics.access_lines_dropped()))?;
        let audit = Arc::new(Audit::new(&config.log.audit, Arc::clone(&metrics))?);
        keys.tell_if_new(&audit);
        let accounts = Accounts::new(Arc::clone(&store), &config.passwords);
        let accounts =
            Arc::new(accounts.with_patience(patience).with_throttle(throttle).with_audit(Arc::clone(&audit)));
        let learning = Arc::clone(&accounts);
        control.spawn(async move { learning.learn_pace().await });
        let is_file = matches!(config.log.access, AccessLog::File(_));
        let revocations = Arc::new(Revocations::new(&config.revocation, Arc::clone(&metrics)));
        sessions.set_revocations(Arc::clone(&revocations));
        let reopeners = access.as_ref().filter(|_| is_file).map(AccessWriter::reopener);
        let reopeners = reopeners.into_iter().chain(audit.writer().and_then(AuditWriter::reopener)).collect();
        control.spawn(reopen_at_hangups(hangups, reopeners));
        let shared = Arc::new(Shared {
            routes,
            verifier: Verifier::new(&config.tokens, &config.issuers),
            keys: arc_swap::ArcSwap::new(Arc::clone(&keys.set)),
            key_sources: sources,
            unsupported_algorithms: UnsupportedAlgorithms::default(),
            revocations: Arc::clone(&revocations),
            cache: TokenCache::with_minted(config.tokens.cache_bytes, config.upstreams.iter().filter(mints).count()),
            issuer: Arc::new(Issuer::new(
                &config.login,
                &config.tokens,
                accounts,
                sessions,
                Arc::clone(&minter),
                Arc::clone(&audit),
            )),
            cors: Cors::new(&config.cors),
            control: control.handle().clone(),
            trusted_proxies: config.server.trusted_proxies.clone(),
            body_pace: config.server.body_pace(),
            metrics: Arc::clone(&metrics),
            log_names,
        });
        let feed = Feed::new(&config.revocation, Arc::clone(&store), revocations, Arc::clone(&metrics));
        control.spawn(keys::follow(keys, store, minter, Arc::clone(&shared), Arc::clone(&audit)));
        let readiness = Arc::new(Readiness::default());
        follow_revocations(&control, feed, &readiness);
        key_sources::follow_all(control.handle(), &config.issuers, &shared, &readiness);
        if let Some(listener) = admin_listener {
            let _entered = control.enter();
            let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::System)?;
            control.spawn(admin::serve(listener, Arc::clone(&metrics), Arc::clone(&readiness)));
        }

        let servers: Vec<Arc<Servers>> = config.upstreams.iter().map(servers).collect();
        let (orders, order) = watch::channel(Order::Run);
        let (end, ended) = mpsc::unbounded_channel();
        let cores = worker_cores(&config.server, worker_count);
        let mut workers = Vec::with_capacity(worker_count);
        for (index, worker) in Worker::crew(&config.server, listeners, &order).into_iter().enumerate() {
            let Some(counters) = metrics.worker(index).cloned() else { continue };
            let buffer = AccessWriter::buffer(access.as_ref());
            let (shared, metrics) = (Arc::clone(&shared), Arc::clone(&metrics));
            let (upstreams, servers) = (config.upstreams.clone(), servers.clone());
            let (headers, end) = (config.identity_headers.clone(), end.clone());
            let cookie = config.login.cookie.wire_name();
            let make_gateway = move || {
                let upstreams = Upstreams::new(&upstreams, &servers, &headers, &cookie, metrics, Arc::clone(&counters));
                Gateway::new(shared, upstreams, buffer, counters, random_seed())
            };
            let core = cores.get(index).copied();
            let run = move || {
                let _end = SendOnDrop(end);
                core.into_iter().for_each(stay_on);
                worker.run(make_gateway)
            };
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            workers.push(thread.spawn(run).map_err(StartError::System)?);
        }
        let drain_timeout = config.server.drain_timeout;
        Ok(Self {
            control,
            workers,
            ended,
            orders,
            readiness,
            access,
            audit,
            public_addresses,
            admin_address,
            drain_timeout,
        })
    }

    /// Where clients connect; for port 0, the port that was free.
    pub fn public_addresses(&self) -> &[SocketAddr] {
        &self.public_addresses
    }

    /// Where health and metrics are.
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Serves until SIGTERM or SIGINT, drains, and returns when all requests in flight are finished or `drain_timeout` is over.
    /// A second signal returns at once.
    ///
    /// # Errors
    /// When a worker ended by itself.
    pub fn wait_for_shutdown(mut self) -> Result<Stopped, RunError> {
        let stopped = self.control.block_on(async {
            let mut signals = Signals::new().map_err(RunError::Signals)?;
            // A write beyond the limit of a file's size is then an error as any other, not the end of the process.
            let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
            let _too_large = signal(too_large).map_err(RunError::Signals)?;
            tokio::select! {
                name = signals.next() => tracing::info!(signal = name, "Draining"),
                _ = self.ended.recv() => tracing::error!("A worker ended by itself, stopping"),
            }
            self.readiness.drain();
            // The workers hold receivers until they end.
            let _ = self.orders.send(Order::Drain);
            // Workers stop by themselves at `drain_timeout`; a little more is for a worker that cannot.
            let patience = self.drain_timeout + Duration::from_secs(1);
            let all_ended = async { while self.ended.recv().await.is_some() {} };
            Ok(tokio::select! {
                _ = signals.next() => Stopped::AtOnce,
                result = tokio::time::timeout(patience, all_ended) => match result {
                    Ok(()) => Stopped::Drained,
                    Err(_) => Stopped::AtOnce,
                },
            })
        })?;
        if stopped == Stopped::AtOnce {
            self.control.shutdown_background();
            return Ok(stopped);
        }
        let results: Vec<_> = self.workers.drain(..).map(JoinHandle::join).collect();
        if let Some(access) = self.access.take() {
            access.finish();
        }
        if let Some(writer) = self.audit.writer() {
            writer.settle();
        }
        // Database calls that nobody waits for are not worth waiting for either.
        self.control.shutdown_timeout(Duration::from_millis(500));
        for result in results {
            result.map_err(|_| RunError::Panicked)?.map_err(RunError::Worker)?;
        }
        tracing::info!("Stopped");
        Ok(stopped)
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Reads which sessions have ended, so that no request comes before it is known, and follows them. A store that does not answer
/// keeps nobody from starting: the gateway is not ready until it does.
fn follow_revocations(control: &Runtime, mut feed: Feed, readiness: &Arc<Readiness>) {
    match control.block_on(feed.load()) {
        Ok(()) => readiness.know_revocations(),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "Ended sessions not read, not ready before they are");
        }
    }
    let readiness = Arc::clone(readiness);
    control.spawn(feed.run(move || readiness.know_revocations()));
}

/// What browsers would do with the refresh cookie elsewhere must not come as a surprise there.
fn tell_of_cookie(config: &Config) {
    let cookie = &config.login.cookie;
    if !cookie.is_secure {
        tracing::info!(cookie.name = %cookie.wire_name(), "Refresh cookie without `Secure` and `__Host-`, for plain http");
    }
}

/// SIGHUP is what log rotation sends after it has moved the file. The configuration is not read again while the process runs.
async fn reopen_at_hangups(mut hangups: Signal, files: Vec<Reopener>) {
    while hangups.recv().await.is_some() {
        files.iter().for_each(Reopener::reopen);
        if files.is_empty() {
            tracing::warn!(
                "SIGHUP ignored: no access log file to open anew, and the configuration is read at start only"
            );
        }
    }
}

/// Says that a thread has ended, also by a panic.
struct SendOnDrop(mpsc::UnboundedSender<()>);

impl Drop for SendOnDrop {
    fn drop(&mut self) {
        // Nobody listens any more when the process is at its end.
        let _ = self.0.send(());
    }
}

fn worker_count(settings: &ServerSettings) -> usize {
    match settings.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// The core of each worker; empty: they go where the scheduler sends them. Hashing is scheduled as idle, so the scheduler takes a
/// core that hashes for a free one and sends a worker there, where it then waits for the worker that is at home.
fn worker_cores(settings: &ServerSettings, count: usize) -> Vec<usize> {
    if settings.workers != 0 || !settings.pin_workers {
        return Vec::new();
    }
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    // With fewer workers than cores, as under a quota of a container, nobody knows which cores will be free.
    if cores.len() == count { cores } else { Vec::new() }
}

/// Keeps the calling thread on a core.
fn stay_on(core: usize) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
        tracing::debug!(%error, "Worker is not kept on a core");
    }
}

/// Small: hashing has threads of its own, and the data plane does not run here.
fn control_runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build()
}

type Listeners = Vec<Vec<std::net::TcpListener>>;

/// For each worker a listener on each address.
fn bind_public(settings: &ServerSettings, workers: usize) -> Result<(Listeners, Vec<SocketAddr>), StartError> {
    let mut by_worker: Listeners = (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for &address in &settings.listen {
        let error = |source| StartError::Listen { key: "server.listen", address, source };
        let listeners = server::bind(address, workers).map_err(error)?;
        for (own, listener) in by_worker.iter_mut().zip(listeners) {
            own.push(listener);
        }
        let bound = by_worker.first().and_then(|own| own.last()).map(std::net::TcpListener::local_addr);
        addresses.push(bound.transpose().map_err(error)?.unwrap_or(address));
    }
    Ok((by_worker, addresses))
}

fn bind_admin(address: Option<SocketAddr>) -> Result<Option<std::net::TcpListener>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let error = |source| StartError::Listen { key: "admin.listen", address, source };
    let listener = std::net::TcpListener::bind(address).map_err(error)?;
    listener.set_nonblocking(true).map_err(error)?;
    Ok(Some(listener))
}

fn routes(routes: Vec<crate::route::Route>) -> Result<Routes, StartError> {
    let names: Vec<_> = routes.iter().map(|route| route.name.to_string()).collect();
    Routes::new(routes).map_err(|conflicts| match conflicts.first() {
        Some(Conflict { first, second }) => {
            StartError::Routes { first: names[*first].clone(), second: names[*second].clone() }
        }
        None => StartError::Routes { first: String::new(), second: String::new() },
    })
}

fn mints(settings: &&UpstreamSettings) -> bool {
    matches!(settings.token, TokenForwarding::Mint(_))
}

fn names(settings: &UpstreamSettings) -> (Arc<str>, Vec<String>) {
    (Arc::clone(&settings.name), settings.servers.iter().map(ToString::to_string).collect())
}

fn servers(settings: &UpstreamSettings) -> Arc<Servers> {
    Arc::new(Servers::new(settings.servers.len(), settings.balance))
}

/// Request ids need not be secret; without randomness they begin alike in every process, which only logs would notice.
fn random_seed() -> [u64; 2] {
    let mut bytes = [[0; 8]; 2];
    for part in &mut bytes {
        if let Err(error) = aws_lc_rs::rand::fill(part) {
            tracing::warn!(error = %error, "No randomness for request ids");
        }
    }
    bytes.map(u64::from_le_bytes)
}
