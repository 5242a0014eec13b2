//! A small HTTP service on loopback, in a thread of its own, for the demo to forward to.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

/// The body of a sample's response.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A running sample service. Stops when dropped, cutting its connections.
#[derive(Debug)]
pub struct Sample {
    address: SocketAddr,
    /// Dropped before the thread is waited for, which is what ends it.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sample {
    /// Serves on a free port of loopback.
    ///
    /// # Errors
    /// If there is no port, or no thread.
    pub fn start(name: &str, answer: fn(&Request<Incoming>) -> Response<Body>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("demo-{name}")).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, answer) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A sample that panicked has told so on stderr already.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, answer: fn(&Request<Incoming>) -> Response<Body>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let service = service_fn(move |request| {
                        let response = answer(&request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // A client that leaves is no concern of a sample.
                    connections.spawn(async move { drop(connection.await) });
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{datasets, files};
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// Sends one request and reads until the connection ends.
    fn exchange(sample: &Sample, head: &str) -> String {
        let mut socket = TcpStream::connect(sample.address()).unwrap();
        socket.write_all(format!("{head}\r\nHost: demo\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn the_datasets_tell_who_asks_and_show_no_token() {
        let sample = Sample::start("datasets", datasets).unwrap();
        let head = "GET /datasets/co2 HTTP/1.1\r\nX-Forwarded-User: 7\r\nAuthorization: Bearer abc.def.ghi";
        let answer = exchange(&sample, head);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let seen = serde_json::json!({"x-forwarded-user": "7", "authorization": "(there is one)"});
        assert_eq!((&body["id"], &body["headers_seen"]), (&"co2".into(), &seen));
        assert!(exchange(&sample, "GET /datasets HTTP/1.1").contains("Mauna Loa"));
        assert!(exchange(&sample, "GET /datasets/none HTTP/1.1").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn head_has_the_length_of_the_file_and_no_body() {
        let sample = Sample::start("files", files).unwrap();
        let answer = exchange(&sample, "HEAD /files/large.bin HTTP/1.1");
        assert!(answer.contains("content-length: 268435456\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        let answer = exchange(&sample, "GET /files/large.bin HTTP/1.1\r\nRange: bytes=-1");
        assert!(answer.starts_with("HTTP/1.1 206") && answer.contains("content-length: 1\r\n"), "{answer}");
        assert!(exchange(&sample, "POST /files/large.bin HTTP/1.1").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn a_dropped_sample_no_longer_listens() {
        let sample = Sample::start("datasets", datasets).unwrap();
        let address = sample.address();
        drop(sample);
        assert!(TcpStream::connect(address).is_err());
    }
}
