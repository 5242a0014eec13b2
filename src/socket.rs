//! Writing to a TCP stream with as few and as cheap system calls as will do.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Writes `pieces` as far as the stream takes them. hyper hands over a head and its body as two pieces; while they are small it is
/// cheaper to copy them together and to send them with a plain `send`, whose way through the kernel is shorter than that of
/// `writev`.
pub(crate) fn poll_write_together(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    if let [piece] = pieces {
        return stream.poll_write(context, piece);
    }
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if length > COPIED_BYTES {
        return stream.poll_write_vectored(context, pieces);
    }
    let mut together = [0; COPIED_BYTES];
    let mut end = 0;
    for piece in pieces {
        together[end..end + piece.len()].copy_from_slice(piece);
        end += piece.len();
    }
    stream.poll_write(context, &together[..end])
}

/// Above this a copy costs more than it saves.
const COPIED_BYTES: usize = 2048;
