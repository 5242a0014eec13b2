//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
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
    let watch = Rc::new(Watch::new(Rc::clone(&connection), settings.send_pace()));
    let service = ClientService {
        gateway: Rc::clone(&gateway),
        connection: Rc::clone(&connection),
        watch: Rc::clone(&watch),
        drain: Rc::clone(&drain),
    };
    let mut io = ClientIo::new(stream, Rc::clone(&watch));
    let mut session = Session {
        connection: Rc::clone(&connection),
        watch,
        settings,
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        grace_over: None,
    };
    session.set_timer();
    let (end, unread) = loop {
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
            break (end, parts.read_buf);
        }
        if parts.read_buf.is_empty() {
            gateway.metrics().connection_parked();
            let is_awake = poll_fn(|context| session.poll_parked(context, &io, &drain)).await;
            gateway.metrics().connection_unparked();
            if !is_awake || !super::clock_is_usable() {
                return;
            }
            session.watch.enter(Stage::Head);
            session.set_timer();
        } else {
            io.rewind(parts.read_buf);
        }
    };
    let answer = match end {
        End::Refused(status) => gateway.refuse_unread(&connection, status, &unread),
        End::HeadTimeout => gateway.refuse_unread(&connection, StatusCode::REQUEST_TIMEOUT, &unread),
        End::Closed if connection.leaves_unread() => Bytes::new(),
        End::Broken | End::Cut if connection.ends_by_closing() => return reset(&io.into_stream()),
        End::Broken if connection.leaves_unread() => Bytes::new(),
        // What it does not take would stay in the kernel for minutes after an ordinary close.
        End::TooSlow => return reset(&io.into_stream()),
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
    /// It does not take its response.
    TooSlow,
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
    /// While the process drains and nothing is in work: when the connection closes.
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
        if drain.is_draining() {
            self.keep_for_a_moment();
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
            self.keep_for_a_moment();
        }
        let deadline = self.watch.since(Instant::now()) + self.settings.idle_timeout;
        let deadline = self.grace_over.map_or(deadline, |over| over.min(deadline));
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }

    /// When the process drains, a connection that has nothing in work closes, but a little later: a request may be on its way,
    /// and closing now would reset it. Its response then says that the connection closes.
    fn keep_for_a_moment(&mut self) {
        match self.watch.stage() {
            Stage::Busy => self.grace_over = None,
            Stage::Silent | Stage::Head | Stage::Idle if self.grace_over.is_none() => {
                let over = Instant::now() + DRAIN_GRACE;
                self.grace_over = Some(over);
                self.timer.as_mut().reset(over);
            }
            Stage::Silent | Stage::Head | Stage::Idle => {}
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
        let send_deadline = self.watch.send_deadline();
        if send_deadline.is_some_and(|deadline| deadline <= now) {
            return Some(End::TooSlow);
        }
        if send_deadline.is_some() && self.connection.deadline().is_some_and(|deadline| deadline <= now) {
            return Some(End::TooSlow);
        }
        if self.grace_over.is_some_and(|over| over <= now) {
            return Some(End::Cut);
        }
        if self.watch.untaken().is_some_and(|since| since + UNTAKEN_TIME <= now) {
            return Some(End::Cut);
        }
        // One that only takes slowly what is sent has the limit of every slow client.
        if send_deadline.is_none() && self.watch.half_closed().is_some_and(|since| since + HALF_CLOSE_GRACE <= now) {
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
        let sooner = [self.watch.send_deadline(), self.grace_over];
        let deadline = sooner.into_iter().flatten().fold(by_stage, Instant::min);
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
    drain: Rc<Drain>,
}

impl Service<Request<Incoming>> for ClientService {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.watch.enter(Stage::Busy);
        let handling = Gateway::handle(&self.gateway, request, &self.connection);
        let drain = Rc::clone(&self.drain);
        Box::pin(async move {
            let mut response = handling.await;
            if drain.is_draining() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

/// An idle connection's buffers are freed after this long. A client that asks again sooner finds them warm.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// A connection is looked at this often while it is not idle, for what comes after.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A client that has closed its sending side is taken for gone when it was sent nothing for this long. A client that is gone
/// altogether looks the same until something is sent to it.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(3);

/// The rest of a body whose request was answered may stand still for this long. Its upstream will hardly take it then.
const UNTAKEN_TIME: Duration = Duration::from_secs(5);

/// How long a connection without a request in work may still send one when the process drains.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// Bounds of a lingering close.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;
