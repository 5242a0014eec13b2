//! The client's request body on its way: counted, limited, and cut off when it falls silent.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
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
    /// The client sent nothing for too long.
    #[error("the client stopped sending the request body")]
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
    /// Longest silence of the client while the gateway waits for it.
    pub silence: Duration,
}

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    limits: BodyLimits,
    silence: IdleTimer,
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
            return Ok((Self(None), BodyWatch(None)));
        }
        if limits.bytes > 0 && incoming.size_hint().lower() > limits.bytes {
            return Err(BodyFault::TooLarge);
        }
        let state = Rc::new(State::default());
        let silence = IdleTimer::new(Some(limits.silence));
        let streaming = Streaming {
            incoming,
            limits,
            silence,
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
        match http_body_util::BodyExt::collect(self).await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(fault) => Err(fault),
        }
    }
}

impl Streaming {
    fn end(&mut self) {
        self.state.ended.set(Some(Instant::now()));
        self.open = None;
    }
}

impl BodyWatch {
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
                body.silence.progressed();
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
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
            Poll::Pending if body.silence.poll_expired(context).is_ready() => BodyFault::Silent,
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
