//! The threads of the data plane: how many there are, where they run, and the gateway that each makes for itself.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::gateway::{Gateway, Shared};
use crate::log::AccessWriter;
use crate::server::ServerSettings;
use crate::server::worker::{Order, Worker};
use crate::upstream::{Servers, UpstreamSettings, Upstreams};

use super::StartError;

/// The running threads.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) threads: Vec<JoinHandle<io::Result<()>>>,
    /// Told by each worker when it ends.
    pub(super) ended: mpsc::UnboundedReceiver<()>,
    pub(super) orders: watch::Sender<Order>,
}

impl Workers {
    /// Starts a worker for each set of listeners. `spare_descriptors` are left beside those for connections.
    pub(super) fn start(
        config: &Config,
        listeners: Vec<Vec<TcpListener>>,
        spare_descriptors: usize,
        shared: &Arc<Shared>,
        access: Option<&AccessWriter>,
    ) -> Result<Self, StartError> {
        let cores = worker_cores(&config.server, listeners.len());
        let servers: Vec<Arc<Servers>> = config.upstreams.iter().map(servers).collect();
        let (orders, order) = watch::channel(Order::Run);
        let (end, ended) = mpsc::unbounded_channel();
        let mut threads = Vec::with_capacity(listeners.len());
        for (index, worker) in
            Worker::crew(&config.server, listeners, spare_descriptors, &order).into_iter().enumerate()
        {
            let Some(counters) = shared.metrics.worker(index).cloned() else { continue };
            let buffer = AccessWriter::buffer(access);
            let (shared, metrics) = (Arc::clone(shared), Arc::clone(&shared.metrics));
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
            threads.push(thread.spawn(run).map_err(StartError::System)?);
        }
        Ok(Self { threads, ended, orders })
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

pub(super) fn worker_count(settings: &ServerSettings) -> usize {
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
