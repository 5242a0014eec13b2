//! A worker's connections to one server. They never leave the worker, so nothing here is locked.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::body::RequestBody;

use super::ServerAddress;
use super::wire::{Sent, UpstreamIo};

/// The idle connections of one worker to one server, the last used first: few stay warm and the others age out.
#[derive(Debug)]
pub(super) struct Pool {
    address: ServerAddress,
    connect_timeout: Duration,
    idle: RefCell<Vec<Idle>>,
    /// Advanced by [`Pool::tick`]; dates connections without reading a clock.
    ticks: Cell<u32>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    sent: Rc<Sent>,
    since: u32,
    /// It rests until this tick.
    usable_from: u32,
}

/// A connection in use. Dropped, it closes; given back, it waits for the next request.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    /// Whether it has carried a request before, so that its server may have closed it unseen.
    pub(super) is_reused: bool,
    /// Whether it rests before it carries another request.
    rests: bool,
    pub(super) sent: Rc<Sent>,
    pool: Rc<Pool>,
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Refused, unreachable, or the name is not known.
    #[error("connecting failed")]
    Failed(#[source] io::Error),
    /// No answer within `connect_timeout`.
    #[error("connecting took longer than `connect_timeout`")]
    TimedOut,
    /// The connection broke as soon as it was made.
    #[error("the connection broke at once")]
    Handshake(#[source] hyper::Error),
}

impl ConnectError {
    /// Whether this process is out of descriptors, or the system is: then the server is not to blame.
    pub fn is_ours(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        let ours = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
        error.raw_os_error().is_some_and(|code| ours.iter().any(|errno| errno.raw_os_error() == code))
    }
}

impl Pool {
    pub(super) const fn new(address: ServerAddress, connect_timeout: Duration) -> Self {
        Self { address, connect_timeout, idle: RefCell::new(Vec::new()), ticks: Cell::new(0) }
    }

    /// A waiting connection that can take a request now.
    pub(super) fn take(self: &Rc<Self>) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let mut position = idle.len();
        while position > 0 {
            position -= 1;
            let Idle { sender, usable_from, .. } = &idle[position];
            let is_rested = !(1..=REST_TICKS).contains(&usable_from.wrapping_sub(self.ticks.get()));
            if is_rested && sender.is_ready() {
                let Idle { sender, sent, .. } = idle.remove(position);
                return Some(Lease { sender, is_reused: true, rests: false, sent, pool: Rc::clone(self) });
            }
            // One that is neither ready nor closed still sends a body that its server did not wait for: it stays.
            if sender.is_closed() {
                idle.remove(position);
            }
        }
        None
    }

    /// A new connection.
    pub(super) async fn connect(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        let connecting = TcpStream::connect((&*self.address.host, self.address.port));
        let stream = match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(ConnectError::Failed(error)),
            Err(_) => return Err(ConnectError::TimedOut),
        };
        // Best effort: without it small requests are only slower.
        let _ = stream.set_nodelay(true);
        let (io, sent) = UpstreamIo::new(stream);
        let handshake = http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(io)).await;
        let (sender, connection) = handshake.map_err(ConnectError::Handshake)?;
        // Ends when the lease, or the pool with the idle connection in it, is dropped.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "Upstream connection ended");
            }
        });
        Ok(Lease { sender, is_reused: false, rests: false, sent, pool: Rc::clone(self) })
    }

    /// Called once in [`TICK`]: closes connections that have waited too long.
    pub(super) fn tick(&self) {
        let now = self.ticks.get().wrapping_add(1);
        self.ticks.set(now);
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| !idle.sender.is_closed() && now.wrapping_sub(idle.since) < IDLE_TICKS);
        idle.shrink_to(64);
    }
}

impl Lease {
    /// Lets the connection rest when it is given back, for at least a [`TICK`]. Some servers send the body of an answer to HEAD
    /// after its head, and whoever chose that body would answer the next request with it; it ends a connection that waits.
    pub(super) fn rest(&mut self) {
        self.rests = true;
    }

    /// Puts the connection back for the next request. Its response must have been read to the end.
    pub(super) fn give_back(self) {
        let Self { sender, sent, pool, rests, .. } = self;
        if !sender.is_closed() {
            let since = pool.ticks.get();
            let usable_from = since.wrapping_add(if rests { REST_TICKS } else { 0 });
            let mut idle = pool.idle.borrow_mut();
            // Requests for heads alone must not use up the descriptors: beyond some, a connection is closed instead.
            let is_resting = |idle: &&Idle| (1..=REST_TICKS).contains(&idle.usable_from.wrapping_sub(since));
            if !rests || idle.iter().filter(is_resting).count() < MOST_RESTING {
                idle.push(Idle { sender, sent, since, usable_from });
            }
        }
    }
}

/// How often `Upstreams::tick` is to be called.
pub const TICK: Duration = Duration::from_millis(250);

/// The first of them may be over at once.
const REST_TICKS: u32 = 2;

/// Connections of a pool that rest at once.
const MOST_RESTING: usize = 16;

/// An idle connection closes after 60 s.
const IDLE_TICKS: u32 = 240;

/// What hyper may hold of one upstream connection in each direction. Large enough that a download takes few reads, small
/// enough that twenty of them stay within a few megabytes.
const BUFFER_BYTES: usize = 96 * 1024;
