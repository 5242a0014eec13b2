//! Reads the bytes of one request as a connection would, for tools that replay a decision.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ServerSettings;
use super::connection::http1_builder;

/// The request that these bytes begin with, which must hold its whole head, read with the settings of a client's connection.
/// Nothing of its body is read.
///
/// # Errors
/// The status that the head would be refused with.
pub async fn read_request(bytes: &[u8], settings: &ServerSettings) -> Result<Request<Incoming>, StatusCode> {
    // Room for all of it, so that neither side waits for the other.
    let (mut client, server) = tokio::io::duplex(bytes.len() + 64 * 1024);
    client.write_all(bytes).await.map_err(|_| StatusCode::BAD_REQUEST)?;
    let slot = Cell::new(None);
    let service = service_fn(|request| {
        slot.set(Some(request));
        std::future::pending::<Result<Response<Empty<&[u8]>>, Infallible>>()
    });
    let mut http = http1_builder(settings).serve_connection(TokioIo::new(server), service);
    let outcome = poll_fn(|context| {
        let polled = Pin::new(&mut http).poll(context);
        match (slot.take(), polled) {
            (Some(request), _) => Poll::Ready(Ok(request)),
            (None, Poll::Ready(_)) => Poll::Ready(Err(())),
            (None, Poll::Pending) => Poll::Pending,
        }
    });
    // All bytes are there, so the limit is only for bytes that are no whole head after all.
    let outcome = tokio::time::timeout(READ_LIMIT, outcome).await.unwrap_or(Err(()));
    drop(http);
    match outcome {
        Ok(request) => Ok(request),
        Err(()) => Err(own_status(&mut client).await),
    }
}

/// The status of the answer that hyper makes by itself; 400 where it makes none, as in `connection`.
async fn own_status(client: &mut tokio::io::DuplexStream) -> StatusCode {
    let mut answer = [0; 12];
    let is_whole = client.read_exact(&mut answer).await.is_ok();
    let status = is_whole.then(|| StatusCode::from_bytes(&answer[9..12]).ok()).flatten();
    status.unwrap_or(StatusCode::BAD_REQUEST)
}

const READ_LIMIT: Duration = Duration::from_secs(5);
