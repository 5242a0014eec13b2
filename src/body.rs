//! The client's request body on its way: counted, limited, and cut off when it falls silent or trickles.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Collected};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// A request body as it streams to an upstream. A request without one costs nothing.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Streaming>>);

/// What became of a [`RequestBody`], seen by the request that it belongs to.
#[derive(Debug, Clone)]
pub struct BodyWatch(Option<Rc<State>>);

/// Why a request body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Longer than the route allows.
    #[error("the request body is longer than the route allows")]
    TooLarge,
    /// The client sent nothing, or next to nothing, for too long.
    #[error("the client stopped sending the request body, or sent it too slowly")]
    Silent,
    /// The connection broke, or the framing of the body did.
    #[error("the request body broke off")]
    Broken,
}

/// How far a request body may go.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// In bytes. 0: no limit.
    pub bytes: u64,
    /// How slow the client may be while the gateway waits for it.
    pub pace: Pace,
}

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    limits: BodyLimits,
    lag: Lag,
    /// Made at the first wait, and moved when it fires: a deadline of [`Lag`] never comes nearer.
    timer: Option<Pin<Box<Sleep>>>,
    clean_trailers: Option<CleanTrailers>,
    /// Dropped when the last byte was read, or nobody reads any more.
    open: Option<OpenBody>,
    state: Rc<State>,
}

/// One of the open bodies of a connection.
#[derive(Debug)]
struct OpenBody(Rc<Cell<u32>>);

impl OpenBody {
    fn new(count: &Rc<Cell<u32>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for OpenBody {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Takes out of trailers what must not reach an upstream.
#[derive(Clone)]
pub struct CleanTrailers(Rc<dyn Fn(&mut HeaderMap)>);

impl CleanTrailers {
    /// Lets `clean` see all trailers.
    pub fn new(clean: impl Fn(&mut HeaderMap) + 'static) -> Self {
        Self(Rc::new(clean))
    }
}

impl std::fmt::Debug for CleanTrailers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CleanTrailers")
    }
}

#[derive(Debug, Default)]
struct State {
    bytes: Cell<u64>,
    fault: Cell<Option<BodyFault>>,
    ended: Cell<Option<Instant>>,
    waits_for_client: Cell<bool>,
    had_trailers: Cell<bool>,
}

impl RequestBody {
    /// No body.
    pub const fn empty() -> Self {
        Self(None)
    }

    /// Takes the body that hyper reads, and counts it among the open ones until its last byte was read.
    ///
    /// # Errors
    /// [`BodyFault::TooLarge`] at once, when its announced length is over the limit.
    pub fn new(
        incoming: Incoming,
        limits: BodyLimits,
        open_bodies: &Rc<Cell<u32>>,
    ) -> Result<(Self, BodyWatch), BodyFault> {
        if incoming.is_end_stream() {
            return Ok((Self::empty(), BodyWatch::nothing()));
        }
        if limits.bytes > 0 && incoming.size_hint().lower() > limits.bytes {
            return Err(BodyFault::TooLarge);
        }
        let state = Rc::new(State::default());
        let streaming = Streaming {
            incoming,
            limits,
            lag: Lag::default(),
            timer: None,
            clean_trailers: None,
            open: Some(OpenBody::new(open_bodies)),
            state: Rc::clone(&state),
        };
        Ok((Self(Some(Box::new(streaming))), BodyWatch(Some(state))))
    }

    /// Lets `clean` see the trailers before they leave.
    pub fn clean_trailers(&mut self, clean: &CleanTrailers) {
        if let Some(body) = &mut self.0 {
            body.clean_trailers = Some(clean.clone());
        }
    }

    /// The whole body, which must not be longer than its limit.
    ///
    /// # Errors
    /// See [`BodyFault`].
    pub async fn collect(self) -> Result<Bytes, BodyFault> {
        BodyExt::collect(self).await.map(Collected::to_bytes)
    }
}

impl Streaming {
    /// Ready when the client, which is waited for now, has been too slow.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.lag.wait(self.limits.pace);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(context).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn end(&mut self) {
        self.state.ended.set(Some(Instant::now()));
        self.open = None;
    }
}

impl BodyWatch {
    /// Of a request without a body.
    pub const fn nothing() -> Self {
        Self(None)
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |state| state.bytes.get())
    }

    /// What went wrong with it.
    pub fn fault(&self) -> Option<BodyFault> {
        self.0.as_ref().and_then(|state| state.fault.get())
    }

    /// Whether there is a body at all.
    pub const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether more of it is asked for and the client has not sent it: then the client is waited for, nobody else.
    pub fn waits_for_client(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.waits_for_client.get())
    }

    /// Whether it ended with trailers.
    pub fn had_trailers(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.had_trailers.get())
    }

    /// When its last byte was read; `None` while there is more. A request without a body has ended at `start`.
    pub fn ended(&self, start: Instant) -> Option<Instant> {
        self.0.as_ref().map_or(Some(start), |state| state.ended.get())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Some(body) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let polled = Pin::new(&mut body.incoming).poll_frame(context);
        body.state.waits_for_client.set(polled.is_pending());
        let fault = match polled {
            // hyper makes one of what a bare line feed ends, with all that came behind it.
            Poll::Ready(Some(Ok(frame))) if frame.trailers_ref().is_some_and(HeaderMap::is_empty) => BodyFault::Broken,
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    body.state.had_trailers.set(true);
                    if let Some(clean) = &body.clean_trailers {
                        (clean.0)(trailers);
                    }
                }
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                body.lag.progressed(length, body.limits.pace);
                let bytes = body.state.bytes.get().saturating_add(length);
                body.state.bytes.set(bytes);
                if body.limits.bytes == 0 || bytes <= body.limits.bytes {
                    if body.incoming.is_end_stream() {
                        body.end();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                BodyFault::TooLarge
            }
            Poll::Ready(Some(Err(_))) => BodyFault::Broken,
            Poll::Ready(None) => {
                body.end();
                return Poll::Ready(None);
            }
            Poll::Pending if body.poll_overdue(context).is_ready() => BodyFault::Silent,
            Poll::Pending => return Poll::Pending,
        };
        body.state.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.incoming.size_hint())
    }
}

/// How slow a client may be.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long it may be waited for without a byte, and how far it may fall behind `bytes_per_second`.
    pub patience: Duration,
    /// What it must send, or take, on average. 0: only a wait without any byte counts.
    pub bytes_per_second: u32,
}

/// How far a client is behind its pace: the time that it was waited for, less the time that its bytes are worth. What it
/// was fast before buys it nothing later, and time in which somebody else is waited for does not count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lag {
    behind: Duration,
    waiting_since: Option<Instant>,
}

impl Lag {
    /// The client is waited for. Returns when that has been too long. Until some bytes progress, it is the same moment, and
    /// then never an earlier one.
    pub fn wait(&mut self, pace: Pace) -> Instant {
        self.wait_from(pace, Instant::now)
    }

    fn wait_from(&mut self, pace: Pace, now: impl FnOnce() -> Instant) -> Instant {
        *self.waiting_since.get_or_insert_with(now) + pace.patience.saturating_sub(self.behind)
    }

    /// Whether the client is waited for.
    pub const fn is_waiting(&self) -> bool {
        self.waiting_since.is_some()
    }

    /// So many bytes were sent, or taken.
    pub fn progressed(&mut self, bytes: u64, pace: Pace) {
        self.progressed_at(bytes, pace, Instant::now);
    }

    fn progressed_at(&mut self, bytes: u64, pace: Pace, now: impl FnOnce() -> Instant) {
        let waited = self.waiting_since.take().map_or(Duration::ZERO, |since| now() - since);
        let behind = self.behind.saturating_add(waited);
        if behind > Duration::ZERO {
            let nanoseconds = bytes.saturating_mul(1_000_000_000).checked_div(pace.bytes_per_second.into());
            self.behind =
                nanoseconds.map_or(Duration::ZERO, |worth| behind.saturating_sub(Duration::from_nanos(worth)));
        }
    }
}

/// Tells when nothing has moved for too long. Makes its timer when it first has to wait, and moves it when it fires, not
/// at each step: a stream that never stalls pays nothing.
#[derive(Debug)]
pub struct IdleTimer {
    limit: Option<Duration>,
    timer: Option<(Pin<Box<Sleep>>, Instant)>,
}

impl IdleTimer {
    /// A timer that expires after `limit` without progress; `None`: never.
    pub const fn new(limit: Option<Duration>) -> Self {
        Self { limit, timer: None }
    }

    /// Something moved.
    pub fn progressed(&mut self) {
        if let Some((_, last)) = &mut self.timer {
            *last = Instant::now();
        }
    }

    /// Ready when nothing has moved for the limit, counted from the first wait.
    pub fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let (sleep, last) = self.timer.get_or_insert_with(|| (Box::pin(tokio::time::sleep(limit)), Instant::now()));
        while sleep.as_mut().poll(context).is_ready() {
            let deadline = *last + limit;
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { patience: Duration::from_secs(10), bytes_per_second: 100 };

    /// A client and a clock that stands still unless it is moved.
    struct Client {
        lag: Lag,
        pace: Pace,
        now: Instant,
    }

    impl Client {
        fn new(pace: Pace) -> Self {
            Self { lag: Lag::default(), pace, now: Instant::now() }
        }

        /// Is waited for so long; returns how much longer it would be.
        fn waits(&mut self, seconds: u64) -> Duration {
            let overdue = self.lag.wait_from(self.pace, || self.now);
            self.now += Duration::from_secs(seconds);
            overdue - self.now
        }

        fn sends(&mut self, bytes: u64) {
            self.lag.progressed_at(bytes, self.pace, || self.now);
        }
    }

    #[test]
    fn silence_and_trickling_use_up_the_same_patience() {
        let mut client = Client::new(PACE);
        assert_eq!(client.waits(4), Duration::from_secs(6));
        client.sends(100);
        assert_eq!(client.waits(0), Duration::from_secs(7), "a hundred bytes are worth a second");
        for _ in 0..6 {
            client.waits(1);
            client.sends(1);
        }
        assert_eq!(client.waits(0), Duration::from_millis(1060), "a byte a second is next to nothing");
    }

    #[test]
    fn haste_buys_nothing_and_time_without_waiting_costs_nothing() {
        let mut client = Client::new(PACE);
        client.sends(1_000_000_000);
        assert_eq!(client.waits(1), Duration::from_secs(9));
        client.sends(200);
        assert!(!client.lag.is_waiting());
        client.now += Duration::from_secs(3600);
        assert_eq!(client.waits(0), Duration::from_secs(10));
    }

    #[test]
    fn without_a_rate_any_byte_is_enough() {
        let mut client = Client::new(Pace { bytes_per_second: 0, ..PACE });
        for _ in 0..100 {
            assert_eq!(client.waits(9), Duration::from_secs(1));
            client.sends(1);
        }
    }
}
