//! A service behind the gateway that does exactly what a test wants, byte for byte, and remembers what it got.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A listening origin. Its thread ends with the process of the test.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Connections,
}

/// What came on each connection, in the order of their being made.
type Connections = Arc<Mutex<Vec<Vec<u8>>>>;

/// What an origin does after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Waits for the next request on the same connection.
    KeepAlive,
    /// Closes without having said so.
    Close,
}

impl Origin {
    /// Answers every request with what `answer` makes of its text.
    pub(crate) fn start(answer: impl Fn(&str, &mut TcpStream) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Connections::default();
        let answer = Arc::new(answer);
        let origin = Self { address, requests: Arc::clone(&requests), connections: Arc::clone(&connections) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, requests, connections) =
                    (Arc::clone(&answer), Arc::clone(&requests), Arc::clone(&connections));
                let index = connections.lock().unwrap().len();
                connections.lock().unwrap().push(Vec::new());
                std::thread::spawn(move || {
                    let record = |bytes: &[u8]| connections.lock().unwrap()[index].extend_from_slice(bytes);
                    serve(stream, &record, &*answer, &requests);
                });
            }
        });
        origin
    }

    /// Answers every request with these bytes and keeps the connection.
    pub(crate) fn fixed(response: &'static str) -> Self {
        Self::start(move |_, stream| {
            stream.write_all(response.as_bytes()).unwrap();
            Then::KeepAlive
        })
    }

    /// One that listens there, is served by somebody else, and is known to get nothing.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, requests: Arc::default(), connections: Connections::default() }
    }

    /// Every byte so far, connection by connection.
    pub(crate) fn connections(&self) -> Vec<String> {
        self.connections.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// The requests so far, heads and bodies as they came.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A service that does as `serve` says with each connection, in a thread of its own.
pub(crate) fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The value of a header in a request's text.
pub(crate) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let head = request.split("\r\n\r\n").next()?;
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn serve(
    mut stream: TcpStream,
    record: &dyn Fn(&[u8]),
    answer: &dyn Fn(&str, &mut TcpStream) -> Then,
    requests: &Mutex<Vec<String>>,
) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut buffered = Vec::new();
    while let Some(request) = read_request(&mut stream, record, &mut buffered) {
        requests.lock().unwrap().push(request.clone());
        if answer(&request, &mut stream) == Then::Close {
            return;
        }
    }
}

/// One request with its body, by `Content-Length` or chunked; `None` at the end of the connection.
fn read_request(stream: &mut TcpStream, record: &dyn Fn(&[u8]), buffered: &mut Vec<u8>) -> Option<String> {
    let mut buffer = [0; 64 * 1024];
    loop {
        let text = String::from_utf8_lossy(buffered).into_owned();
        if let Some(length) = request_length(&text) {
            let rest = buffered.split_off(length);
            let request = std::mem::replace(buffered, rest);
            return Some(String::from_utf8_lossy(&request).into_owned());
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => {
                record(&buffer[..length]);
                buffered.extend_from_slice(&buffer[..length]);
            }
        }
    }
}

fn request_length(text: &str) -> Option<usize> {
    let head = text.find("\r\n\r\n")? + 4;
    if header(text, "transfer-encoding").is_some() {
        let end = text[head..].find("0\r\n")?;
        return text[head + end..].find("\r\n\r\n").map(|trailers| head + end + trailers + 4);
    }
    let body: usize = header(text, "content-length").map_or(0, |length| length.parse().unwrap());
    (text.len() >= head + body).then_some(head + body)
}
