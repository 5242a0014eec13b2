//! The body of every response: ours or an upstream's, with the record that ends when it does.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::upstream::{ResponseBodyError, UpstreamBody};

use super::record::Record;

/// A response body. When it is dropped, read to its end or not, its request is recorded.
#[derive(Debug)]
pub struct ResponseBody {
    content: Content,
    /// The end of the route's `timeout`.
    deadline: Option<Pin<Box<Sleep>>>,
    record: Box<Record>,
}

#[derive(Debug)]
enum Content {
    /// Ours; `None` once it was taken.
    Fixed(Option<Bytes>),
    /// Streams.
    Upstream(UpstreamBody),
}

/// Why a response broke off.
#[derive(Debug, thiserror::Error)]
pub enum BrokenResponse {
    /// On the upstream's side.
    #[error(transparent)]
    Upstream(#[from] ResponseBodyError),
    /// The route's `timeout` is over.
    #[error("the route's `timeout` is over")]
    RouteTimeout,
}

impl ResponseBody {
    pub(super) fn fixed(content: Bytes, record: Box<Record>) -> Self {
        let content = (!content.is_empty()).then_some(content);
        Self { content: Content::Fixed(content), deadline: None, record }
    }

    pub(super) fn upstream(body: UpstreamBody, deadline: Option<Instant>, record: Box<Record>) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        Self { content: Content::Upstream(body), deadline, record }
    }

    fn poll_content(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenResponse>>> {
        match &mut self.content {
            Content::Fixed(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Content::Upstream(body) => {
                let polled = Pin::new(body).poll_frame(context);
                if polled.is_pending()
                    && let Some(deadline) = &mut self.deadline
                    && deadline.as_mut().poll(context).is_ready()
                {
                    return Poll::Ready(Some(Err(BrokenResponse::RouteTimeout)));
                }
                polled.map_err(BrokenResponse::Upstream)
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenResponse;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenResponse>>> {
        let body = self.get_mut();
        let polled = body.poll_content(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => body.record.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64,
            Poll::Ready(Some(Err(error))) => {
                body.record.is_cut = true;
                tracing::debug!(request.id = %body.record.request_id, error = %error, "Response cut");
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Fixed(content) => content.is_none(),
            Content::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Fixed(content) => SizeHint::with_exact(content.as_ref().map_or(0, Bytes::len) as u64),
            Content::Upstream(body) => body.size_hint(),
        }
    }
}
