//! A TCP stream as hyper wants it, with little writes sent as one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connected stream. hyper hands over a head and its body as two pieces; while they are small it is cheaper to copy them together and
/// to send them with a plain `send`, whose way through the kernel is shorter than that of `writev`.
#[derive(Debug)]
pub(crate) struct Socket(TokioIo<TcpStream>);

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(TokioIo::new(stream))
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.0.inner()
    }

    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        self.0.inner_mut()
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.0.into_inner()
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = Pin::new(&mut self.0);
        if let [piece] = pieces {
            return socket.poll_write(context, piece);
        }
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if length > COPIED_BYTES {
            return socket.poll_write_vectored(context, pieces);
        }
        let mut together = [0; COPIED_BYTES];
        let mut end = 0;
        for piece in pieces {
            together[end..end + piece.len()].copy_from_slice(piece);
            end += piece.len();
        }
        socket.poll_write(context, &together[..end])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Above this a copy costs more than it saves.
const COPIED_BYTES: usize = 2048;
