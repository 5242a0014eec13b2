//! A data-plane thread: its listeners, its connections, its part of the gateway. Nothing of it leaves the thread but new
//! sockets that it hands to a less busy one.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::gateway::{self, Gateway};
use crate::request::Connection;

use super::ServerSettings;
use super::connection::serve;
use super::drain::{Drain, Registration};

/// What the process wants of its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Serve.
    Run,
    /// Take no new connection, finish the requests in flight, end.
    Drain,
}

/// What the workers share: how busy each is, and a way to hand each a socket.
#[derive(Debug)]
pub struct Crew {
    loads: Vec<AtomicUsize>,
    inboxes: Vec<mpsc::UnboundedSender<Accepted>>,
    /// Places for connections. Over the limit, one accepted connection a listener waits, and the others in the kernel.
    places: Arc<Semaphore>,
    /// Descriptors for more who wait for a place while the process drains.
    spare_descriptors: Arc<Semaphore>,
}

/// A client that has no place yet.
type Client = (TcpStream, SocketAddr);

/// One who waits for a place while the process drains.
struct Waiting {
    client: Client,
    /// Given back when the client has a place, which provides for its descriptor.
    spare: Option<OwnedSemaphorePermit>,
}

/// A socket with the place it holds.
#[derive(Debug)]
pub struct Accepted {
    stream: StdStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
}

/// One worker before it runs.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    crew: Arc<Crew>,
    inbox: mpsc::UnboundedReceiver<Accepted>,
    listeners: Vec<StdListener>,
    settings: ServerSettings,
    orders: watch::Receiver<Order>,
}

impl Worker {
    /// One worker for each set of listeners. While the process drains, as many clients wait for a place as there are
    /// `spare_descriptors`.
    pub fn crew(
        settings: &ServerSettings,
        listeners: Vec<Vec<StdListener>>,
        spare_descriptors: usize,
        orders: &watch::Receiver<Order>,
    ) -> Vec<Self> {
        let (inboxes, receivers): (Vec<_>, Vec<_>) = listeners.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let crew = Arc::new(Crew {
            loads: listeners.iter().map(|_| AtomicUsize::new(0)).collect(),
            inboxes,
            places: Arc::new(Semaphore::new(settings.max_connections)),
            spare_descriptors: Arc::new(Semaphore::new(spare_descriptors.min(Semaphore::MAX_PERMITS))),
        });
        let workers = listeners.into_iter().zip(receivers).enumerate();
        workers
            .map(|(index, (listeners, inbox))| Self {
                index,
                crew: Arc::clone(&crew),
                inbox,
                listeners,
                settings: settings.clone(),
                orders: orders.clone(),
            })
            .collect()
    }

    /// Serves until the order to drain has been carried out, or `drain_timeout` is over. Blocks its thread.
    ///
    /// # Errors
    /// When the system gives no event queue, or a listener cannot be watched.
    pub fn run(self, make_gateway: impl FnOnce() -> Gateway) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
        runtime.block_on(self.serve(make_gateway()))
    }

    async fn serve(self, gateway: Gateway) -> io::Result<()> {
        let Self { index, crew, mut inbox, listeners, settings, mut orders } = self;
        let drain_timeout = settings.drain_timeout;
        let desk = Rc::new(Desk {
            index,
            crew,
            gateway: Rc::new(gateway),
            settings: Rc::new(settings),
            drain: Rc::new(Drain::default()),
        });
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            accepting.spawn_local(accept_all(Rc::clone(&desk), listener, orders.clone()));
        }
        let mut waiting = VecDeque::new();
        let mut tick = tokio::time::interval(gateway::TICK);
        loop {
            tokio::select! {
                Some(accepted) = inbox.recv() => desk.take(accepted),
                _ = tick.tick() => desk.gateway.tick(),
                // They end with the order to drain; a worker that no longer accepts, and says nothing, must not go on.
                Some(accepted) = accepting.join_next() => match accepted {
                    Ok(accepted) => waiting.extend(accepted),
                    Err(_) => return Err(io::Error::other("accepting ended in a defect")),
                },
                // An error means that the process has dropped the sender, which it does at its very end.
                _ = orders.wait_for(|order| *order == Order::Drain) => break,
            }
        }
        // What another worker hands over from here on comes back to it, and is served there.
        inbox.close();
        while let Some(accepted) = inbox.recv().await {
            desk.take(accepted);
        }
        while let Some(accepted) = accepting.join_next().await {
            // A panic there has been reported by the panic hook.
            waiting.extend(accepted.unwrap_or_default());
        }
        desk.drain.begin();
        let is_finished = {
            let mut finishing = pin!(tokio::time::timeout(drain_timeout, finish(&desk, &mut waiting)));
            loop {
                tokio::select! {
                    finished = &mut finishing => break finished.is_ok(),
                    _ = tick.tick() => desk.gateway.tick(),
                }
            }
        };
        if !is_finished {
            let connections = desk.drain.connections() + waiting.len();
            tracing::warn!(connections, "Drain timeout reached, connections are cut");
        }
        desk.gateway.tick();
        Ok(())
    }
}

/// Serves those who still wait for a place, as places become free, and then until the last connection is gone.
async fn finish(desk: &Rc<Desk>, waiting: &mut VecDeque<Waiting>) {
    while !waiting.is_empty() {
        let Ok(place) = Arc::clone(&desk.crew.places).acquire_owned().await else { return };
        desk.spawn_first(waiting, place);
    }
    desk.drain.finished().await;
}

/// What accepting and serving on one worker need.
struct Desk {
    index: usize,
    crew: Arc<Crew>,
    gateway: Rc<Gateway>,
    settings: Rc<ServerSettings>,
    drain: Rc<Drain>,
}

impl Desk {
    /// Serves a socket here, or hands it to a worker that is much less busy: the kernel spreads by hash, and few long
    /// connections can land unevenly.
    fn place(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let own_load = self.crew.loads[self.index].load(Relaxed);
        let least = self.crew.loads.iter().enumerate().min_by_key(|(_, load)| load.load(Relaxed));
        if let Some((other, load)) = least
            && own_load > load.load(Relaxed) + UNEVEN_BY
        {
            match stream.into_std() {
                Ok(stream) => {
                    // One that drains takes nothing any more.
                    if let Err(back) = self.crew.inboxes[other].send(Accepted { stream, peer, place }) {
                        self.take(back.0);
                    }
                }
                Err(error) => tracing::debug!(error = %error, "Socket could not be handed over"),
            }
            return;
        }
        self.spawn(stream, peer, place);
    }

    fn take(self: &Rc<Self>, accepted: Accepted) {
        let Accepted { stream, peer, place } = accepted;
        match TcpStream::from_std(stream) {
            Ok(stream) => self.spawn(stream, peer, place),
            Err(error) => tracing::debug!(error = %error, "Socket could not be taken over"),
        }
    }

    /// Serves the first who waits, and returns the descriptor that it was spared.
    fn spawn_first(
        self: &Rc<Self>,
        waiting: &mut VecDeque<Waiting>,
        place: OwnedSemaphorePermit,
    ) -> Option<OwnedSemaphorePermit> {
        let Waiting { client: (stream, peer), spare } = waiting.pop_front()?;
        self.spawn(stream, peer, place);
        spare
    }

    fn spawn(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        // Best effort: without the first small answers are only slower, without the second a peer that died unseen holds its
        // place until another limit ends it.
        let _ = stream.set_nodelay(true);
        let socket = socket2::SockRef::from(&stream);
        let _ = socket.set_tcp_keepalive(&super::keepalive());
        // Unlimited, what a client that hardly reads does not take would grow to megabytes in the kernel.
        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
        let open = Open::new(self, place);
        let connection = Rc::new(Connection::new(peer, &self.settings.trusted_proxies));
        let (gateway, settings, drain) = (Rc::clone(&self.gateway), Rc::clone(&self.settings), Rc::clone(&self.drain));
        // Owned by the drain's registration, which the worker waits for.
        tokio::task::spawn_local(async move {
            poll_fn(|context| {
                open.registration.set_waker(context.waker());
                Poll::Ready(())
            })
            .await;
            serve(stream, connection, gateway, settings, drain).await;
            drop(open);
        });
    }
}

/// A connection that is counted until it is dropped, however it ends.
struct Open {
    desk: Rc<Desk>,
    registration: Registration,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(desk: &Rc<Desk>, place: OwnedSemaphorePermit) -> Self {
        desk.crew.loads[desk.index].fetch_add(1, Relaxed);
        desk.gateway.metrics().connection_opened();
        Self { desk: Rc::clone(desk), registration: desk.drain.register(), _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.desk.crew.loads[self.desk.index].fetch_sub(1, Relaxed);
        self.desk.gateway.metrics().connection_closed();
    }
}

/// Accepts until the order to drain. An error backs off and never ends the loop: out of descriptors passes. Returns the
/// clients that have no place yet when the listener closes.
async fn accept_all(desk: Rc<Desk>, listener: TcpListener, mut orders: watch::Receiver<Order>) -> VecDeque<Waiting> {
    let mut pause = FIRST_PAUSE;
    let mut accepted_last = None;
    loop {
        let accepted = tokio::select! {
            accepted = accept(&desk, &listener, &mut accepted_last) => accepted,
            _ = orders.wait_for(|order| *order == Order::Drain) => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                pause = FIRST_PAUSE;
                desk.place(stream, peer, place);
            }
            Err(error) => {
                tracing::warn!(error = %error, "Accepting failed");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = orders.wait_for(|order| *order == Order::Drain) => break,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    if let Err(error) = super::take_no_new(&listener) {
        tracing::debug!(error = %error, "Handshakes go on until the listener closes");
    }
    // Handshakes that have begun end meanwhile. Who is left in the kernel's queue is reset when the listener closes: who finds no
    // place waits for one as an open socket, while there are descriptors, and in the queue, while there is time.
    let until = tokio::time::Instant::now() + HANDSHAKE_TIME;
    let mut waiting: VecDeque<Waiting> =
        accepted_last.into_iter().map(|client| Waiting { client, spare: None }).collect();
    for _ in 0..MOST_LATE_CLIENTS {
        let client = match tokio::time::timeout_at(until, listener.accept()).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "Accepting failed, clients that have just connected are reset");
                break;
            }
            Err(_) => break,
        };
        while !waiting.is_empty()
            && let Ok(place) = Arc::clone(&desk.crew.places).try_acquire_owned()
        {
            desk.spawn_first(&mut waiting, place);
        }
        if waiting.is_empty() {
            // Needs none to spare: while it serves, each listener has one who waits.
            waiting.push_back(Waiting { client, spare: None });
        } else if let Ok(spare) = Arc::clone(&desk.crew.spare_descriptors).try_acquire_owned() {
            waiting.push_back(Waiting { client, spare: Some(spare) });
        } else {
            let place = tokio::time::timeout_at(until, Arc::clone(&desk.crew.places).acquire_owned()).await;
            let Ok(Ok(place)) = place else {
                // The last one: a client that is in the queue already would be accepted after the time, too.
                waiting.push_back(Waiting { client, spare: None });
                break;
            };
            let spare = desk.spawn_first(&mut waiting, place);
            waiting.push_back(Waiting { client, spare });
        }
        // Else the runtime would stop a long row of these at some point, and the queue would seem empty.
        tokio::task::yield_now().await;
    }
    waiting
}

/// Accepted first, so that a listener without clients holds no place that another one needs. `accepted` keeps the socket while
/// it waits for its place, also when this is cancelled.
async fn accept(
    desk: &Desk,
    listener: &TcpListener,
    accepted: &mut Option<Client>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    if accepted.is_none() {
        *accepted = Some(listener.accept().await?);
    }
    let place = Arc::clone(&desk.crew.places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = accepted.take().ok_or(io::ErrorKind::NotConnected)?;
    Ok((stream, peer, place))
}

/// How long the handshakes that have begun may take when the process drains.
const HANDSHAKE_TIME: Duration = Duration::from_millis(250);

/// Clients of one listener that are accepted once the process drains: as many as the kernel can hold. Where it cannot be told
/// to take no new ones, this is the end of it.
const MOST_LATE_CLIENTS: usize = 2 * super::BACKLOG;

/// What the kernel may hold of a response that it cannot send yet.
const UNSENT_BYTES: u32 = 256 * 1024;

/// A worker hands a new socket over when it has more than this many more connections than the least busy one.
const UNEVEN_BY: usize = 2;

/// After accepting failed.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
