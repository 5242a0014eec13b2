//! A client that sends exactly the bytes it is given.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

/// Connects, with a time limit on everything.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes and reads until the other side closes. The request should ask for that.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    read_to_end(&mut stream).0
}

/// What comes until the other side closes, and whether it closed cleanly.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> (String, bool) {
    let mut bytes = Vec::new();
    let is_clean = stream.read_to_end(&mut bytes).is_ok();
    (String::from_utf8_lossy(&bytes).into_owned(), is_clean)
}

/// What comes until it contains `end`.
#[track_caller]
pub(crate) fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.contains(end) {
            return text;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => panic!("`{end}` did not come, but:\n{text}"),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

/// One response with a `content-length`.
#[track_caller]
pub(crate) fn read_response(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return text,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

/// How long the other side takes to close.
pub(crate) fn time_to_close(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {}
    start.elapsed()
}

/// Sends more of a body than all buffers on the way hold, until nobody takes any more of it.
pub(crate) fn upload_until_stuck(stream: &mut TcpStream) {
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n").unwrap();
    let part = vec![b'z'; 1 << 20];
    while stream.write_all(&part).is_ok() {}
}

/// The status of a response.
#[track_caller]
pub(crate) fn status(response: &str) -> u16 {
    let digits = response.get(9..12).unwrap_or_else(|| panic!("no status line in {response:?}"));
    digits.parse().unwrap()
}

/// The code in a refusal's body.
#[track_caller]
pub(crate) fn code(response: &str) -> String {
    let (_, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no body in {response:?}"));
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON in {response:?}"));
    value["code"].as_str().unwrap_or_default().to_owned()
}
