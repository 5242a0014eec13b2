//! Builds every part from the configuration, starts the threads, and runs until it is told to stop.

pub mod key_sources;
pub mod keys;
mod limits;
mod sessions;
mod sockets;
mod tasks;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::keys::Keys;
use self::sockets::Sockets;
use self::tasks::Tasks;
use self::workers::{Workers, worker_count};
use crate::account::Accounts;
use crate::account::throttle::Throttle;
use crate::audit::{self, Audit};
use crate::cause::chain;
use crate::config::Config;
use crate::gateway::code::Code;
use crate::gateway::{Cors, LogNames, Shared, UnsupportedAlgorithms};
use crate::issuer::Issuer;
use crate::keyset::{KeyError, KeySource, SealError};
use crate::log::{AccessLog, AccessWriter, AuditWriter, LogError, Reopener};
use crate::metrics::{Labels, Metrics, ProcessCounts};
use crate::revocation::{Feed, Revocations};
use crate::route::{Conflict, Routes};
use crate::server;
use crate::server::admin::{self, Readiness};
use crate::server::worker::Order;
use crate::session::Sessions;
use crate::store::{self, Patience, Store, StoreError};
use crate::token::Verifier;
use crate::token::cache::TokenCache;
use crate::token::mint::Minter;
use crate::upstream::{TokenForwarding, UpstreamSettings};

/// The running process.
#[derive(Debug)]
pub struct App {
    /// Runs what may wait. First, so that it is shut down before what its tasks use is dropped.
    control: Runtime,
    tasks: Tasks,
    workers: Workers,
    signals: Signals,
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
    /// A defect in a task of the control runtime.
    #[error("the task `{name}` ended in a defect")]
    Task {
        /// What it does.
        name: &'static str,
    },
}

impl App {
    /// Starts everything and returns when it serves. Blocks, so call it outside any runtime.
    ///
    /// # Errors
    /// See [`StartError`]; what was started before the error is stopped.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_counting(config, ProcessCounts::default())
    }

    /// As [`Self::start`], in a process whose log and whose hook of panics count into these.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start_counting(mut config: Config, counts: ProcessCounts) -> Result<Self, StartError> {
        if !server::clock_is_usable() {
            return Err(StartError::Clock);
        }
        let descriptors = limits::raise_descriptors(config.server.max_connections);
        config.server.max_connections = descriptors.connections;
        let worker_count = worker_count(&config.server);
        let control = control_runtime().map_err(StartError::System)?;
        let mut tasks = Tasks::new(control.handle());
        // From here on SIGHUP no longer ends the process. What comes before it is answered waits in here.
        let hangups = {
            let _entered = control.enter();
            // Once taken, it stays so: a write beyond the limit of a file's size is an error as any other, not the end.
            let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
            let _taken = signal(too_large).map_err(StartError::System)?;
            signal(SignalKind::hangup()).map_err(StartError::System)?
        };
        let sockets = Sockets::bind(&config, worker_count)?;
        let admin_address = sockets.admin_address();
        let mut stored = control.block_on(Stored::open(&config, &mut tasks))?;
        tell_of_cookie(&config);
        let routes = routes(std::mem::take(&mut config.routes))?;
        let sources = key_sources::key_sources(&config.issuers);
        let labels = labels(&config, &routes, &sources);
        let metrics = Arc::new(Metrics::new(labels, worker_count).with_process_counts(counts));
        let access = AccessWriter::start(&config.log.access, Arc::clone(metrics.access_lines_dropped()))?;
        let audit = Arc::new(Audit::new(&config.log.audit, Arc::clone(&metrics))?);
        stored.keys.tell_if_new(&audit);
        tasks.spawn("log files", reopen_at_hangups(hangups, reopeners(&config, access.as_ref(), &audit)));

        let revocations = Arc::new(Revocations::new(&config.revocation, Arc::clone(&metrics)));
        stored.sessions.set_revocations(Arc::clone(&revocations));
        let readiness = Arc::new(Readiness::default());
        let feed =
            Feed::new(&config.revocation, Arc::clone(&stored.store), Arc::clone(&revocations), Arc::clone(&metrics));
        let issuer = Arc::new(stored.issuer(&config, &audit, &mut tasks));
        let shared = Arc::new(Shared {
            log_names: LogNames::new(&routes, &upstream_names(&config)),
            routes,
            verifier: Verifier::new(&config.tokens, &config.issuers),
            keys: arc_swap::ArcSwap::new(Arc::clone(&stored.keys.set)),
            key_sources: sources,
            unsupported_algorithms: UnsupportedAlgorithms::default(),
            revocations,
            cache: TokenCache::with_minted(config.tokens.cache_bytes, config.upstreams.iter().filter(mints).count()),
            issuer,
            cors: Cors::new(&config.cors),
            control: control.handle().clone(),
            trusted_proxies: config.server.trusted_proxies.clone(),
            body_pace: config.server.body_pace(),
            metrics: Arc::clone(&metrics),
        });
        let Stored { store, keys, minter, .. } = stored;
        tasks.spawn("signing keys", keys::follow(keys, store, minter, Arc::clone(&shared), Arc::clone(&audit)));
        follow_revocations(&control, feed, &readiness, &mut tasks);
        key_sources::follow_all(&mut tasks, &config.issuers, &shared, &readiness);
        // Before anybody can know that it serves: who stops it then has it stopped well.
        let signals = {
            let _entered = control.enter();
            Signals::new().map_err(StartError::System)?
        };
        if let Some(listener) = sockets.admin {
            let _entered = control.enter();
            let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::System)?;
            tasks.spawn("admin listener", admin::serve(listener, metrics, Arc::clone(&readiness)));
        }
        let workers = Workers::start(&config, sockets.public, descriptors.spare, &shared, access.as_ref())?;
        Ok(Self {
            control,
            tasks,
            workers,
            signals,
            readiness,
            access,
            audit,
            public_addresses: sockets.addresses,
            admin_address,
            drain_timeout: config.server.drain_timeout,
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
    /// When a worker ended by itself, or a task that cannot be done without.
    pub fn wait_for_shutdown(mut self) -> Result<Stopped, RunError> {
        let (control, tasks, workers, signals) = (&self.control, &mut self.tasks, &mut self.workers, &mut self.signals);
        let mut defect = None;
        let stopped = control.block_on(async {
            tokio::select! {
                name = signals.next() => tracing::info!(signal = name, "Draining"),
                _ = workers.ended.recv() => tracing::error!("A worker ended by itself, stopping"),
                name = tasks.defect() => {
                    tracing::error!(task = name, "A task ended in a defect, stopping");
                    defect = Some(RunError::Task { name });
                }
            }
            self.readiness.drain();
            // The workers hold receivers until they end.
            let _ = workers.orders.send(Order::Drain);
            // Workers stop by themselves at `drain_timeout`; a little more is for a worker that cannot.
            let patience = self.drain_timeout + Duration::from_secs(1);
            let all_ended = async { while workers.ended.recv().await.is_some() {} };
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
            return defect.map_or(Ok(stopped), Err);
        }
        let results: Vec<_> = self.workers.threads.drain(..).map(JoinHandle::join).collect();
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
        if let Some(error) = defect {
            return Err(error);
        }
        tracing::info!("Stopped");
        Ok(stopped)
    }
}

/// What stands on the store, which all of it was read from or waits for.
struct Stored {
    store: Arc<dyn Store>,
    keys: Keys,
    throttle: Option<Throttle>,
    patience: Arc<Patience>,
    sessions: Arc<Sessions>,
    minter: Arc<Minter>,
}

impl Stored {
    async fn open(config: &Config, tasks: &mut Tasks) -> Result<Self, StartError> {
        let store = store::open(&config.store).await.map_err(StartError::Store)?;
        let keys = keys::load(config, &*store).await?;
        let throttle = match config.throttle.clone() {
            Some(settings) => {
                let secret = keys::throttle_secret(config, &*store).await?;
                Some(Throttle::new(settings, Arc::clone(&store), secret.expose_secret()))
            }
            None => None,
        };
        let patience = Patience::new(config.login.store_patience);
        let sessions = sessions::start(config, &store, &patience, tasks).await?;
        let minter = Arc::new(Minter::with_signers(&config.tokens, keys.signers.clone()));
        Ok(Self { store, keys, throttle, patience, sessions, minter })
    }

    /// Our own endpoints.
    fn issuer(&mut self, config: &Config, audit: &Arc<Audit>, tasks: &mut Tasks) -> Issuer {
        let accounts = Accounts::new(Arc::clone(&self.store), &config.passwords)
            .with_patience(Arc::clone(&self.patience))
            .with_throttle(self.throttle.take())
            .with_audit(Arc::clone(audit));
        let accounts = Arc::new(accounts);
        let learning = Arc::clone(&accounts);
        tasks.spawn("pace of failed logins", async move { learning.learn_pace().await });
        let (sessions, minter) = (Arc::clone(&self.sessions), Arc::clone(&self.minter));
        Issuer::new(&config.login, &config.tokens, accounts, sessions, minter, Arc::clone(audit))
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
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
fn follow_revocations(control: &Runtime, mut feed: Feed, readiness: &Arc<Readiness>, tasks: &mut Tasks) {
    match control.block_on(feed.load()) {
        Ok(()) => readiness.know_revocations(),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "Ended sessions not read, not ready before they are");
        }
    }
    let readiness = Arc::clone(readiness);
    tasks.spawn("ended sessions", feed.run(move || readiness.know_revocations()));
}

/// What browsers would do with the refresh cookie elsewhere must not come as a surprise there.
fn tell_of_cookie(config: &Config) {
    let cookie = &config.login.cookie;
    if !cookie.is_secure {
        tracing::info!(cookie.name = %cookie.wire_name(), "Refresh cookie without `Secure` and `__Host-`, for plain http");
    }
}

/// What opens log files anew.
fn reopeners(config: &Config, access: Option<&AccessWriter>, audit: &Audit) -> Vec<Reopener> {
    let is_file = matches!(config.log.access, AccessLog::File(_));
    let access = access.filter(|_| is_file).map(AccessWriter::reopener);
    access.into_iter().chain(audit.writer().and_then(AuditWriter::reopener)).collect()
}

/// SIGHUP is what log rotation sends after it has moved the files. The configuration is not read again while the process runs.
async fn reopen_at_hangups(mut hangups: Signal, files: Vec<Reopener>) {
    while hangups.recv().await.is_some() {
        files.iter().for_each(Reopener::reopen);
        if files.is_empty() {
            tracing::warn!(
                "SIGHUP ignored: neither `log.access` nor `log.audit` is a file, and the configuration is read at start only"
            );
        }
    }
}

/// Small: hashing has threads of its own, and the data plane does not run here.
fn control_runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build()
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

fn upstream_names(config: &Config) -> Vec<(Arc<str>, Vec<String>)> {
    let names = |upstream: &UpstreamSettings| {
        (Arc::clone(&upstream.name), upstream.servers.iter().map(ToString::to_string).collect())
    };
    config.upstreams.iter().map(names).collect()
}

/// The labels of every metric.
fn labels(config: &Config, routes: &Routes, sources: &[Option<Arc<KeySource>>]) -> Labels {
    Labels {
        routes: routes.all().iter().map(|route| Arc::clone(&route.name)).collect(),
        upstreams: upstream_names(config),
        refusals: &Code::NAMES,
        key_sources: sources.iter().flatten().map(|source| Arc::clone(source.name())).collect(),
        audit_events: &audit::Event::ALL,
    }
}
