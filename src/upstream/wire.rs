//! An upstream's socket under hyper. It remembers the head of a request that may be sent again.
//!
//! hyper keeps nothing of a request that it has written, and keeping a copy of its headers would cost each request dozens of
//! reference counts. Its written bytes are one copy of some hundred bytes into memory that the connection keeps.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::{fmt, io};

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::body::RequestBody;
use crate::socket::poll_write_together;

/// An upstream's socket.
#[derive(Debug)]
pub(super) struct UpstreamIo {
    stream: TcpStream,
    sent: Rc<Sent>,
}

/// What passed on a connection since a request was handed to it. `Debug` hides the head, in which a token may be.
#[derive(Default)]
pub(super) struct Sent {
    is_kept: Cell<bool>,
    /// What was first written. A request without a body is written at once.
    head: RefCell<Vec<u8>>,
    has_answer: Cell<bool>,
    /// What has come of the answer while its final head is waited for; `None`: that one is there.
    before_head: Cell<Option<usize>>,
}

impl Sent {
    /// A request is about to be handed to the connection; `is_kept` says whether its head shall be remembered.
    pub(super) fn begin(&self, is_kept: bool) {
        self.is_kept.set(is_kept);
        self.has_answer.set(false);
        self.before_head.set(Some(0));
        if is_kept {
            let mut head = self.head.borrow_mut();
            head.clear();
            head.shrink_to(MOST_KEPT_BYTES);
        }
    }

    /// The final head of the answer has come. What follows is its body, which has limits of its own.
    pub(super) fn head_came(&self) {
        self.before_head.set(None);
    }

    /// Notes bytes of an answer. hyper passes over interim responses (RFC 9110 section 15.2) by itself, however many come, so
    /// that what they take together is bounded here.
    fn came(&self, bytes: usize) -> io::Result<()> {
        self.has_answer.set(true);
        let Some(before) = self.before_head.get() else { return Ok(()) };
        let all = before.saturating_add(bytes);
        self.before_head.set(Some(all));
        if all > MOST_BYTES_BEFORE_HEAD { Err(io::Error::other(EndlessInterim)) } else { Ok(()) }
    }

    /// The request that was handed over, if its head was remembered and not a byte of an answer has come.
    pub(super) fn unanswered(&self) -> Option<Request<RequestBody>> {
        let is_open = self.is_kept.replace(false) && !self.has_answer.get();
        if is_open { read_back(&self.head.borrow()) } else { None }
    }

    fn note(&self, parts: &[io::IoSlice<'_>]) {
        if self.is_kept.get() {
            let mut head = self.head.borrow_mut();
            if head.is_empty() {
                parts.iter().for_each(|part| head.extend_from_slice(part));
            }
        }
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent").field("is_kept", &self.is_kept).finish_non_exhaustive()
    }
}

/// The request that hyper wrote as `head`: a request line and headers with one line each. `None`: it is not whole.
fn read_back(head: &[u8]) -> Option<Request<RequestBody>> {
    let text = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii_start()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

impl UpstreamIo {
    pub(super) fn new(stream: TcpStream) -> (Self, Rc<Sent>) {
        let sent = Rc::new(Sent::default());
        (Self { stream, sent: Rc::clone(&sent) }, sent)
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        let room = buffer.remaining();
        let read = Pin::new(&mut io.stream).poll_read(context, buffer);
        match room - buffer.remaining() {
            0 => read,
            bytes => io.sent.came(bytes).map_or_else(|error| Poll::Ready(Err(error)), |()| read),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        io.sent.note(&[io::IoSlice::new(bytes)]);
        Pin::new(&mut io.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        io.sent.note(buffers);
        poll_write_together(&mut io.stream, context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Why an answer is given up before its final head.
#[derive(Debug, thiserror::Error)]
#[error("more than {MOST_BYTES_BEFORE_HEAD} bytes came before the final head of the response")]
struct EndlessInterim;

/// Memory for a head that a connection keeps from one request to the next.
const MOST_KEPT_BYTES: usize = 4096;

/// Interim responses and the final head together, with what hyper may read ahead of its body (some `pool::BUFFER_BYTES`).
const MOST_BYTES_BEFORE_HEAD: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_as_it_was_written() {
        let head = b"GET /a?b=%20 HTTP/1.1\r\nhost: x\r\nvia: 1.0 a\r\nvia: 1.1 b\r\nx-empty: \r\nx-time: 1:2\r\n\r\n";
        let request = read_back(head).unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::GET, "/a?b=%20"));
        let headers: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 5] =
            [("host", b"x"), ("via", b"1.0 a"), ("via", b"1.1 b"), ("x-empty", b""), ("x-time", b"1:2")];
        assert_eq!(headers, expected);
        for length in 0..head.len() {
            assert!(read_back(&head[..length]).is_none(), "{length} bytes are not the whole");
        }
    }

    #[test]
    fn only_what_comes_before_the_final_head_is_bounded() {
        let sent = Sent::default();
        sent.begin(false);
        assert!(sent.came(MOST_BYTES_BEFORE_HEAD).is_ok());
        assert!(sent.came(1).is_err());
        sent.begin(false);
        assert!(sent.came(MOST_BYTES_BEFORE_HEAD).is_ok(), "each request anew");
        sent.head_came();
        assert!(sent.came(MOST_BYTES_BEFORE_HEAD).is_ok(), "a body is as long as it likes");
    }

    #[test]
    fn a_request_with_an_answer_or_that_was_not_kept_is_not_given_back() {
        let sent = Sent::default();
        let bytes = [io::IoSlice::new(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")];
        sent.begin(false);
        sent.note(&bytes);
        assert!(sent.unanswered().is_none());
        sent.begin(true);
        sent.note(&bytes);
        sent.has_answer.set(true);
        assert!(sent.unanswered().is_none());
        sent.begin(true);
        sent.note(&bytes);
        assert!(sent.unanswered().is_some());
        assert!(sent.unanswered().is_none(), "once");
        assert!(!format!("{sent:?}").contains("71"), "the head is not shown: {sent:?}");
    }
}
