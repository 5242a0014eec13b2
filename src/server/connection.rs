//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::gateway::{Gateway, ResponseBody};
use crate::request::Connection;

use super::ServerSettings;
use super::drain::Drain;
use super::io::{ClientIo, Stage, Watch};

/// Serves one client until it leaves, falls silent, or the process drains.
pub(super) async fn serve(
    stream: TcpStream,
    connection: Rc<Connection>,
    gateway: Rc<Gateway>,
    settings: Rc<ServerSettings>,
    drain: Rc<Drain>,
) {
    if !super::clock_is_usable() {
        return;
    }
    let watch = Rc::new(Watch::new(Rc::clone(&connection)));
    let service =
        ClientService { gateway: Rc::clone(&gateway), connection: Rc::clone(&connection), watch: Rc::clone(&watch) };
    let mut io = ClientIo::new(stream, Rc::clone(&watch));
    let mut session = Session {
        connection: Rc::clone(&connection),
        watch,
        settings,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        told_to_drain: false,
        grace_over: None,
    };
    session.set_timer();
    let end = loop {
        // Boxed, so that a parked connection does not keep its room.
        let mut http = Box::new(http1_builder(&session.settings).serve_connection(io, service.clone()));
        let end = poll_fn(|context| session.poll(context, &mut http, &drain)).await;
        let parts = http.into_parts();
        io = parts.io;
        if end != End::Park {
            // What hyper has read and left is as unread as a body.
            if !parts.read_buf.is_empty() {
                connection.leave_unread();
            }
            break end;
        }
        if parts.read_buf.is_empty() {
            gateway.metrics().connection_parked();
            let is_awake = poll_fn(|context| session.poll_parked(context, &io, &drain)).await;
            gateway.metrics().connection_unparked();
            if !is_awake {
                return;
            }
            session.watch.enter(Stage::Head);
            session.set_timer();
        } else {
            io.rewind(parts.read_buf);
        }
    };
    let answer = match end {
        End::Refused(status) => gateway.refuse_unread(&connection, status),
        End::HeadTimeout => gateway.refuse_unread(&connection, StatusCode::REQUEST_TIMEOUT),
        End::Closed if connection.leaves_unread() => Bytes::new(),
        End::Broken | End::Cut if connection.ends_by_closing() => return reset(&io.into_stream()),
        End::Broken if connection.leaves_unread() => Bytes::new(),
        End::Closed | End::Broken | End::Cut | End::Park => return,
    };
    linger(io.into_stream(), &answer).await;
}

/// Closes so that the client sees an error: where the close is the end of a response, a plain one would make half of it whole.
fn reset(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Makes the response's last bytes arrive: a socket that closes over unread input resets, and the reset can overtake them.
/// Reads what still comes, within bounds, until the client closes.
async fn linger(mut stream: TcpStream, answer: &[u8]) {
    let lingering = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        let mut discarded = vec![0; 16 * 1024];
        let mut total = 0;
        while total < LINGER_BYTES {
            match stream.read(&mut discarded).await? {
                0 => break,
                length => total += length,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Whether the client got it or not, the connection ends here.
    let _ = tokio::time::timeout(LINGER_TIME, lingering).await;
}

pub(super) fn http1_builder(settings: &ServerSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // hyper's own header timeout would make a timer a request; `Session` watches with one a connection.
    // The buffer's limit is looked at between reads, the head's once it is whole: only both together are exact.
    builder
        .header_read_timeout(None)
        .max_buf_size(settings.max_header_bytes)
        .max_header_size(settings.max_header_bytes);
    builder
}

/// How a connection ended, or was put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By the client, or because one side wanted no further request.
    Closed,
    /// In the middle of a request or of its response.
    Broken,
    /// Its head could not be parsed.
    Refused(StatusCode),
    /// Its head did not come in time.
    HeadTimeout,
    /// Too silent to be worth an answer.
    Cut,
    /// Idle: its buffers are freed until it speaks again.
    Park,
}

/// What watches over a connection.
struct Session {
    connection: Rc<Connection>,
    watch: Rc<Watch>,
    settings: Rc<ServerSettings>,
    /// Set to the next moment that could matter; moved when it fires, not at each request.
    timer: Pin<Box<Sleep>>,
    told_to_drain: bool,
    /// When a silent connection is told to drain.
    grace_over: Option<Instant>,
}

impl Session {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        http: &mut http1::Connection<ClientIo, ClientService>,
        drain: &Drain,
    ) -> Poll<End> {
        if let Poll::Ready(result) = Pin::new(&mut *http).poll(context) {
            return Poll::Ready(self.ended(result));
        }
        // One that has only just connected may have its first request on the way.
        let has_grace = self.watch.stage() == Stage::Silent && self.grace_over.is_none_or(|over| Instant::now() < over);
        if drain.is_draining() && has_grace {
            let over = *self.grace_over.get_or_insert_with(|| Instant::now() + DRAIN_GRACE);
            self.timer.as_mut().reset(over);
        } else if drain.is_draining() && !self.told_to_drain {
            self.told_to_drain = true;
            Pin::new(&mut *http).graceful_shutdown();
            if let Poll::Ready(result) = Pin::new(http).poll(context) {
                return Poll::Ready(self.ended(result));
            }
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if let Some(end) = self.overdue() {
                return Poll::Ready(end);
            }
            self.set_timer();
        }
        Poll::Pending
    }

    /// Ready with whether the parked client has spoken; otherwise it is to be closed.
    fn poll_parked(&mut self, context: &mut Context<'_>, io: &ClientIo, drain: &Drain) -> Poll<bool> {
        if io.stream().poll_read_ready(context).is_ready() {
            return Poll::Ready(true);
        }
        if drain.is_draining() {
            return Poll::Ready(false);
        }
        let deadline = self.watch.since(Instant::now()) + self.settings.idle_timeout;
        if self.timer.deadline() < deadline {
            self.timer.as_mut().reset(deadline);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }

    fn ended(&self, result: hyper::Result<()>) -> End {
        let Err(error) = result else { return End::Closed };
        tracing::debug!(error = %error, "Client connection ended");
        match self.watch.withheld().and_then(|status| StatusCode::from_u16(status).ok()) {
            Some(status) => End::Refused(status),
            // hyper gives no answer at all to some heads, such as the preface of HTTP/2.
            None if error.is_parse() && self.watch.stage() == Stage::Head => End::Refused(StatusCode::BAD_REQUEST),
            None => End::Broken,
        }
    }

    /// What is overdue now.
    fn overdue(&self) -> Option<End> {
        let now = Instant::now();
        if self.watch.write_blocked().is_some_and(|since| since + self.settings.send_timeout <= now) {
            return Some(End::Cut);
        }
        if self.connection.deadline().is_some_and(|deadline| deadline <= now) && self.watch.write_blocked().is_some() {
            return Some(End::Cut);
        }
        if self.watch.half_closed().is_some_and(|since| since + HALF_CLOSE_GRACE <= now) {
            return Some(End::Cut);
        }
        let elapsed = now.saturating_duration_since(self.watch.since(now));
        match self.watch.stage() {
            Stage::Silent if elapsed >= self.settings.header_timeout => Some(End::Cut),
            Stage::Head if elapsed >= self.settings.header_timeout => Some(End::HeadTimeout),
            Stage::Idle if elapsed >= self.settings.idle_timeout => Some(End::Cut),
            Stage::Idle if elapsed >= PARK_AFTER => Some(End::Park),
            Stage::Silent | Stage::Head | Stage::Busy | Stage::Idle => None,
        }
    }

    /// A request in work has no deadline of the connection's; it is looked at again after a while for what comes after it.
    fn set_timer(&mut self) {
        let now = Instant::now();
        let since = self.watch.since(now);
        let by_stage = match self.watch.stage() {
            Stage::Silent | Stage::Head => (since + self.settings.header_timeout).min(now + LOOK_AGAIN),
            Stage::Busy => now + LOOK_AGAIN,
            Stage::Idle => since + PARK_AFTER.min(self.settings.idle_timeout),
        };
        let deadline = match self.watch.write_blocked() {
            Some(since) => by_stage.min(since + self.settings.send_timeout),
            None => by_stage,
        };
        // At least a little later than now, so that a clock that stands still cannot spin.
        self.timer.as_mut().reset(deadline.max(now + Duration::from_millis(1)));
    }
}

/// Hands a connection's requests to the gateway.
#[derive(Clone)]
struct ClientService {
    gateway: Rc<Gateway>,
    connection: Rc<Connection>,
    watch: Rc<Watch>,
}

impl Service<Request<Incoming>> for ClientService {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.watch.enter(Stage::Busy);
        let handling = Gateway::handle(&self.gateway, request, &self.connection);
        Box::pin(async move { Ok(handling.await) })
    }
}

/// An idle connection's buffers are freed after this long. A client that asks again sooner finds them warm.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// A connection is looked at this often while it is not idle, for what comes after.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A client that has closed its sending side is taken for gone when it was sent nothing for this long. A client that is gone
/// altogether looks the same until something is sent to it.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(1);

/// How long a connection without a request yet may still send one when the process drains.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// Bounds of a lingering close.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;
