//! A client's socket under hyper, watched: what the client was last seen doing, and since when.
//!
//! hyper keeps silent clients open for ever and answers what it cannot parse without a body. Knowing the stage of a connection
//! lets one lazy timer a connection end the first, and lets us answer the second with a refusal of ours.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::body::{Lag, Pace};
use crate::request::Connection;
use crate::socket::poll_write_together;

/// A client's socket.
#[derive(Debug)]
pub(super) struct ClientIo {
    stream: TokioIo<TcpStream>,
    /// Bytes that were read before and are to be read again.
    rewound: Bytes,
    watch: Rc<Watch>,
}

/// What is known of a connection, shared by its socket, its service and its timer.
#[derive(Debug)]
pub(super) struct Watch {
    connection: Rc<Connection>,
    stage: Cell<Stage>,
    /// When a head began. For other stages, when the timer first saw them: it looks twice a second, which is near enough, and
    /// a request then reads the clock once less.
    since: Cell<Option<Instant>>,
    /// How slowly the client takes a response.
    lag: Cell<Lag>,
    pace: Pace,
    /// Since when nothing was read of a request's body whose response has left: its upstream may have stopped taking it.
    untaken: Cell<Option<Instant>>,
    /// Since when the client has been sent nothing, once it has closed its sending side with a request in work.
    half_closed: Cell<Option<Instant>>,
    /// Of the connection's task, which is to see the end when the request in work is answered.
    end_waker: RefCell<Option<Waker>>,
    /// The status of an answer that hyper made by itself, which was kept from the client.
    withheld: Cell<Option<u16>>,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has sent nothing yet.
    Silent,
    /// It has sent a part of a request's head.
    Head,
    /// It has a request in work, whose response has not left entirely.
    Busy,
    /// It has its response and may send another request.
    Idle,
}

impl Watch {
    pub(super) fn new(connection: Rc<Connection>, pace: Pace) -> Self {
        Self {
            connection,
            pace,
            stage: Cell::new(Stage::Silent),
            since: Cell::new(Some(Instant::now())),
            lag: Cell::default(),
            untaken: Cell::new(None),
            half_closed: Cell::new(None),
            end_waker: RefCell::new(None),
            withheld: Cell::new(None),
        }
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Since when it is in its stage, as far as is known at `now`.
    pub(super) fn since(&self, now: Instant) -> Instant {
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        since
    }

    /// When a client that takes no more of a response is too slow. `None`: it takes all that there is.
    pub(super) fn send_deadline(&self) -> Option<Instant> {
        let mut lag = self.lag.get();
        lag.is_waiting().then(|| lag.wait(self.pace))
    }

    /// Since when nobody takes the rest of a body whose request was answered.
    pub(super) const fn untaken(&self) -> Option<Instant> {
        self.untaken.get()
    }

    /// Since when a client that has closed its sending side has been sent nothing.
    pub(super) const fn half_closed(&self) -> Option<Instant> {
        self.half_closed.get()
    }

    /// The status of an answer that hyper made by itself and the client did not get.
    pub(super) const fn withheld(&self) -> Option<u16> {
        self.withheld.get()
    }

    pub(super) fn enter(&self, stage: Stage) {
        if self.stage.replace(stage) != stage {
            self.untaken.set(None);
            self.since.set((stage == Stage::Head).then(Instant::now));
        }
    }
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, watch: Rc<Watch>) -> Self {
        Self { stream: TokioIo::new(stream), rewound: Bytes::new(), watch }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.stream.inner()
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// Lets `bytes` be read again before anything else.
    pub(super) fn rewind(&mut self, bytes: Bytes) {
        self.rewound = bytes;
    }

    /// Whether these bytes are hyper's own answer to a head that it could not parse: no request is in work then.
    fn withholds(&self, bytes: &[u8]) -> bool {
        if self.watch.withheld.get().is_some() {
            return true;
        }
        if self.watch.stage.get() == Stage::Busy {
            return false;
        }
        let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        self.watch.withheld.set(status);
        status.is_some()
    }

    /// Reads while a request is in work and has come entirely: what comes is the next request, or the client's end. The end
    /// may be that of one direction only, so hyper, which would give the request up, learns of it when that is answered.
    fn poll_read_ahead(&mut self, context: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut room = [const { MaybeUninit::<u8>::uninit() }; READ_AHEAD_BYTES];
        let length = room.len().min(buffer.remaining());
        let mut ahead = ReadBuf::uninit(&mut room[..length]);
        let read = Pin::new(self.stream.inner_mut()).poll_read(context, &mut ahead);
        if matches!(read, Poll::Ready(Ok(()))) && ahead.filled().is_empty() && length > 0 {
            if self.watch.half_closed.get().is_none() {
                self.watch.half_closed.set(Some(Instant::now()));
                self.watch.end_waker.replace(Some(context.waker().clone()));
            }
            return Poll::Pending;
        }
        buffer.put_slice(ahead.filled());
        read
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        if self.watch.half_closed.get().is_some() && written.is_ready() {
            self.watch.half_closed.set(Some(Instant::now()));
        }
        let mut lag = self.watch.lag.get();
        match written {
            Poll::Pending => {
                lag.wait(self.watch.pace);
            }
            Poll::Ready(Ok(length)) => lag.progressed(*length as u64, self.watch.pace),
            Poll::Ready(Err(_)) => return,
        }
        self.watch.lag.set(lag);
    }
}

impl Read for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        if io.rewound.has_remaining() {
            let length = io.rewound.len().min(buffer.remaining());
            buffer.put_slice(&io.rewound.split_to(length));
            io.watch.enter(Stage::Head);
            return Poll::Ready(Ok(()));
        }
        if io.watch.stage.get() == Stage::Busy && !io.watch.connection.has_open_body() {
            return io.poll_read_ahead(context, buffer);
        }
        let read = Pin::new(&mut io.stream).poll_read(context, buffer);
        if read.is_ready() && io.watch.untaken.get().is_some() {
            io.watch.untaken.set(Some(Instant::now()));
        }
        // The end of the stream is ready too; the connection ends with it, whatever its stage.
        if read.is_ready() && io.watch.stage.get() != Stage::Busy {
            // A token of any age would be a good one on a kept connection when the clock has jumped back that far.
            if io.watch.stage.get() != Stage::Head && !super::clock_is_usable() {
                return Poll::Ready(Err(io::Error::other("the clock stands before 1970")));
            }
            io.watch.enter(Stage::Head);
        }
        read
    }
}

impl Write for ClientIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        if io.withholds(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut io.stream).poll_write(context, bytes);
        io.note_write(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        if buffers.first().is_some_and(|first| io.withholds(first)) {
            return Poll::Ready(Ok(buffers.iter().map(|buffer| buffer.len()).sum()));
        }
        let written = poll_write_together(io.stream.inner_mut(), context, buffers);
        io.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper calls this when it has written all it holds; a TCP stream itself holds nothing back.
        let watch = &self.watch;
        if watch.stage.get() == Stage::Busy && !watch.connection.is_busy() {
            watch.lag.set(Lag::default());
            watch.enter(Stage::Idle);
            if watch.half_closed.take().is_some()
                && let Some(waker) = watch.end_waker.take()
            {
                waker.wake();
            }
        } else if watch.untaken.get().is_none() && watch.connection.awaits_body_only() {
            watch.untaken.set(Some(Instant::now()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        if io.watch.stage.get() == Stage::Head || io.watch.withheld.get().is_some() {
            // hyper gives up on a head; the answer to it is still to come, and the shutdown with it.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut io.stream).poll_shutdown(context)
    }
}

/// How much of the next requests is read while one is in work.
const READ_AHEAD_BYTES: usize = 4096;
