//! An upstream's response body on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::body::IdleTimer;

use super::balance::InFlight;
use super::headers::ReservedNames;
use super::pool::Lease;

/// Streams one response. At its end the connection waits for the next request; dropped before, the connection closes and
/// with it the request at the upstream.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
    idle: IdleTimer,
    _in_flight: Option<InFlight>,
    reserved: std::rc::Rc<ReservedNames>,
}

/// Why a response body broke off. The client sees its connection close before the announced end.
#[derive(Debug, thiserror::Error)]
pub enum ResponseBodyError {
    /// The upstream closed, or its framing broke.
    #[error("the upstream's response broke off")]
    Broken(#[source] hyper::Error),
    /// No byte for `idle_timeout`.
    #[error("the upstream sent no byte of its response for `idle_timeout`")]
    Silent,
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: Incoming,
        lease: Lease,
        idle_timeout: Option<Duration>,
        in_flight: Option<InFlight>,
        reserved: std::rc::Rc<ReservedNames>,
    ) -> Self {
        let mut body =
            Self { incoming, lease: Some(lease), idle: IdleTimer::new(idle_timeout), _in_flight: in_flight, reserved };
        body.give_back_at_end();
        body
    }

    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = ResponseBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseBodyError>>> {
        let body = self.get_mut();
        match Pin::new(&mut body.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                body.idle.progressed();
                body.give_back_at_end();
                if let Some(trailers) = frame.trailers_mut() {
                    body.reserved.remove_from(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                body.lease = None;
                Poll::Ready(Some(Err(ResponseBodyError::Broken(error))))
            }
            Poll::Ready(None) => {
                body.give_back();
                Poll::Ready(None)
            }
            Poll::Pending => match body.idle.poll_expired(context) {
                Poll::Ready(()) => {
                    body.lease = None;
                    Poll::Ready(Some(Err(ResponseBodyError::Silent)))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
