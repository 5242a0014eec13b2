//! Connections to upstreams that nobody needs any more, and how many there are of them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::client::{connect, read_response, read_to_end, read_until, status, upload_until_stuck};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::raw;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Reads the head of a request, and of its body what comes with it.
fn read_head(stream: &mut TcpStream) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return String::new(),
            Ok(length) => seen.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    seen
}

/// A service that begins a response and falls silent; it says when its connection has ended.
fn falls_silent() -> (SocketAddr, mpsc::Receiver<()>) {
    let (sender, receiver) = mpsc::channel();
    let address = raw(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        while matches!(stream.read(&mut [0; 4096]), Ok(length) if length > 0) {}
        sender.send(()).unwrap();
    });
    (address, receiver)
}

#[test]
fn a_silent_upstream_s_connection_ends_with_the_client_that_leaves_in_its_response() {
    let (origin, ended) = falls_silent();
    // Longer than the test, so that only the client's leaving can end it.
    let gateway = Gateway::start("", &public_route(&[origin], "").replace("\"1s\"", "\"60s\""));
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut stream, "hello");
    drop(stream);
    ended.recv_timeout(Duration::from_secs(8)).unwrap();
    assert_eq!(gateway.access_lines(1).len(), 1);
}

#[test]
fn a_silent_upstream_s_connection_ends_with_its_idle_timeout() {
    let (origin, ended) = falls_silent();
    let gateway = Gateway::public("", origin);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_to_end(&mut stream);
    ended.recv_timeout(Duration::from_secs(5)).unwrap();
}

/// How many sockets and files it has open.
fn descriptors(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count()
}

#[test]
fn an_upload_that_nobody_takes_once_it_is_answered_does_not_stay() {
    let origin = raw(|mut stream| {
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
        // It neither reads nor closes.
        std::thread::sleep(Duration::from_secs(30));
    });
    let gateway = Gateway::public("", origin);
    gateway.metric("tollgate_connections");
    let before = descriptors(&gateway);
    let mut stream = connect(gateway.address);
    upload_until_stuck(&mut stream);
    assert_eq!(status(&read_response(&mut stream)), 200);
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(10);
    while gateway.metric("tollgate_connections{kind=\"client\"}") > 0 || descriptors(&gateway) > before + 1 {
        assert!(
            Instant::now() < deadline,
            "{} descriptors, {before} before, long after the client and `idle_timeout`",
            descriptors(&gateway)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn answers_to_head_do_not_pile_up_connections() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let origin = raw(move |mut stream| {
        seen.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
        stream.set_nodelay(true).unwrap();
        while read_head(&mut stream).starts_with("HEAD") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").unwrap();
        }
        open.fetch_sub(1, SeqCst);
    });
    let gateway = Gateway::public("", origin);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let address = gateway.address;
            std::thread::spawn(move || {
                let mut stream = connect(address);
                for _ in 0..250 {
                    stream.write_all(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                    assert_eq!(status(&read_until(&mut stream, "\r\n\r\n")), 200);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let most = most.load(SeqCst);
    println!("1000 answers to HEAD: at most {most} connections");
    assert!(most <= 80, "{most} connections for four clients");
}

#[test]
fn a_client_that_has_closed_its_sending_side_may_read_slowly() {
    const BYTES: usize = 40_000_000;
    let origin = raw(|mut stream| {
        while read_head(&mut stream).starts_with("GET") {
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").as_bytes());
            let _ = stream.write_all(&vec![b'x'; BYTES]);
        }
    });
    let gateway = Gateway::public("", origin);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    read_until(&mut stream, "\r\n\r\n");
    // Longer than a client is waited for that can be sent nothing.
    std::thread::sleep(Duration::from_secs(5));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > BYTES - 4096, "{} bytes came behind the first", rest.len());
}
