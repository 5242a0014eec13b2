//! Upstreams that answer what they should not: the client gets a refusal or a response that visibly breaks off, and the next
//! client nothing of it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::client::{code, connect, exchange, read_response, read_to_end, read_until, status};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Then, header};

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

/// An origin that answers `/good` well, and everything else with these bytes.
fn origin(bad: impl Into<Vec<u8>>, then: Then) -> Origin {
    let bad = bad.into();
    Origin::start(move |request, stream| {
        let is_good = request.starts_with("GET /good ");
        // The gateway may have closed in the middle of a long answer.
        let _ = stream.write_all(if is_good { GOOD } else { &bad });
        if is_good { Then::KeepAlive } else { then }
    })
}

fn ask(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Asks for `/good`, which must be answered on a connection of its own.
#[track_caller]
fn check_next_client(gateway: &Gateway, origin: &Origin, shown: &str) {
    let response = exchange(gateway.address, &ask("GET", "/good"));
    assert!(status(&response) == 200 && response.ends_with("\r\n\r\ngood"), "after {shown}: {response}");
    let connections = origin.connections();
    assert_eq!(connections.len(), 2, "after {shown}: {connections:?}");
    assert!(connections[1].starts_with("GET /good "), "after {shown}: {connections:?}");
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned()
}

#[test]
fn a_response_that_can_be_read_in_two_ways_is_a_refusal() {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}\r\n\r\n5\r\nhello\r\n0\r\n\r\n").into_bytes();
    let cases = [
        head("Content-Length: 5\r\nContent-Length: 6"),
        head("Content-Length: 5, 6"),
        head("Content-Length: +5"),
        head("Content-Length: -1"),
        head("Content-Length: 5x"),
        head("Content-Length:"),
        head("Content-Length: 18446744073709551616"),
        head("Content-Length: 3\r\nTransfer-Encoding: chunked"),
        head("Transfer-Encoding: chunked\r\nContent-Length: 15"),
        head("Transfer-Encoding: gzip, chunked"),
        head("Transfer-Encoding: chunked, chunked"),
        head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        head("Transfer-Encoding: gzip"),
        head("Transfer-Encoding: identity"),
        head("Transfer-Encoding: chunked;x=1"),
        head("X: 1\r\n folded"),
        head("X : 1"),
        head("X: \0"),
        head("X: 1\rY: 2"),
        head(": 1"),
        head(&"X: 1\r\n".repeat(10_000)),
        head(&format!("X: {}", "x".repeat(1 << 20))),
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
        b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 20 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 2000 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"<html>not even a head</html>\r\n\r\n".to_vec(),
        b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
    ];
    for bytes in cases {
        let shown = shown(&bytes);
        let origin = origin(bytes, Then::KeepAlive);
        let gateway = Gateway::public("", origin.address);
        let response = exchange(gateway.address, &ask("GET", "/bad"));
        assert_eq!(status(&response), 502, "{shown}: {response}");
        assert_eq!(code(&response), "upstream_failed", "{shown}: {response}");
        check_next_client(&gateway, &origin, &shown);
    }
}

#[test]
fn a_response_that_breaks_off_is_never_whole_and_its_connection_is_not_used_again() {
    let cases: [(&str, &str, Then); 9] = [
        ("Content-Length: 10", "hello", Then::Close),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n", Then::Close),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n5\r\nhe", Then::Close),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n", Then::Close),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\nzz\r\n", Then::KeepAlive),
        ("Transfer-Encoding: chunked", "5\r\nhelloXX5\r\nhello\r\n0\r\n\r\n", Then::KeepAlive),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n-1\r\n", Then::KeepAlive),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\nffffffffffffffff1\r\n", Then::KeepAlive),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX : 1\r\n\r\n", Then::KeepAlive),
    ];
    for (framing, body, then) in cases {
        let shown = format!("{framing}, {body:?}");
        let origin = origin(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}"), then);
        let gateway = Gateway::public("", origin.address);
        let response = exchange(gateway.address, &ask("GET", "/bad"));
        assert!(response.contains("hello"), "{shown}: {response}");
        assert!(!response.ends_with("0\r\n\r\n") && !response.ends_with("hellohello"), "{shown}: {response}");
        let lines = gateway.access_lines(1);
        assert_eq!(lines[0]["cut"], true, "{shown}: {lines:?}");

        // A client of HTTP/1.0 gets a chunked body up to the end of the connection: that end must be an error.
        let mut stream = connect(gateway.address);
        stream.write_all(b"GET /bad HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
        let (response, is_clean) = read_to_end(&mut stream);
        assert!(!is_clean || response.contains("content-length: 10"), "{shown}: {response}");
    }
}

#[test]
fn bytes_behind_a_response_reach_nobody() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let cases = [
        ("GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{evil}"), "\r\n\r\nok"),
        (
            "GET",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{evil}"),
            "0\r\n\r\n",
        ),
        ("GET", format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"), "\r\n\r\n"),
        ("GET", format!("HTTP/1.1 204 No Content\r\nContent-Length: 41\r\n\r\n{evil}"), "\r\n\r\n"),
        ("GET", format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 41\r\n\r\n{evil}"), "\r\n\r\n"),
        ("HEAD", format!("HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n{evil}"), "\r\n\r\n"),
        ("HEAD", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n29\r\n{evil}\r\n0\r\n\r\n"), "\r\n\r\n"),
        ("GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n\r\n{evil}"), "\r\n\r\n"),
    ];
    for (method, bytes, end) in cases {
        let origin = origin(bytes.clone(), Then::KeepAlive);
        let gateway = Gateway::public("", origin.address);
        let response = exchange(gateway.address, &ask(method, "/bad"));
        assert!(!response.contains("evil") && response.ends_with(end), "{method} {bytes:?}: {response}");
        check_next_client(&gateway, &origin, &format!("{method} {bytes:?}"));
    }
}

#[test]
fn bytes_that_come_while_a_connection_waits_end_it() {
    let origin = Origin::start(|request, stream| {
        stream.write_all(GOOD).unwrap();
        if request.starts_with("GET /bad ") {
            std::thread::sleep(Duration::from_millis(100));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        }
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    assert_eq!(status(&exchange(gateway.address, &ask("GET", "/bad"))), 200);
    std::thread::sleep(Duration::from_millis(500));
    check_next_client(&gateway, &origin, "late bytes");
}

#[test]
fn a_late_body_of_an_answer_to_head_is_not_the_next_answer() {
    let origin = Origin::start(|request, stream| {
        if request.starts_with("HEAD ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        } else {
            stream.write_all(GOOD).unwrap();
        }
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    let mut stream = connect(gateway.address);
    stream.write_all(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\n");
    check_next_client(&gateway, &origin, "HEAD");
    // Who sends no body gets the next request when the connection has rested.
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::public("", origin.address);
    for _ in 0..2 {
        exchange(gateway.address, &ask("HEAD", "/a"));
        std::thread::sleep(Duration::from_millis(1500));
    }
    assert_eq!(origin.connections().len(), 1);
}

#[test]
fn interim_responses_are_passed_over_and_tell_the_client_nothing() {
    let interim =
        "HTTP/1.1 103 Early Hints\r\nX-Forwarded-User: evil\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n".repeat(5_000);
    let origin = origin(format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Then::KeepAlive);
    let gateway = Gateway::public("", origin.address);
    let response = exchange(gateway.address, &ask("GET", "/bad"));
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("\r\n\r\nok"), "{response}");
    assert!(!response.contains("evil"), "{response}");
    assert_eq!(status(&exchange(gateway.address, &ask("GET", "/good"))), 200);
}

#[test]
fn a_response_without_a_length_ends_with_its_connection() {
    let origin = origin("HTTP/1.1 200 OK\r\n\r\nto the end", Then::Close);
    let gateway = Gateway::public("", origin.address);
    let response = exchange(gateway.address, &ask("GET", "/bad"));
    assert!(response.ends_with("A\r\nto the end\r\n0\r\n\r\n"), "{response}");
    check_next_client(&gateway, &origin, "a response without a length");
}

#[test]
fn a_connection_whose_request_was_answered_too_early_carries_no_other() {
    // `Origin` waits for whole requests; this one answers whatever comes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::public("", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for (index, mut stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length) = stream.read(&mut buffer)
                    && length > 0
                    && sender.send((index, String::from_utf8_lossy(&buffer[..length]).into_owned())).is_ok()
                {
                    stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nearly").unwrap();
                }
            });
        }
    });
    let mut stream = connect(gateway.address);
    stream.write_all(b"POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    assert!(read_until(&mut stream, "early").starts_with("HTTP/1.1 401 "));
    for _ in 0..3 {
        let response = exchange(gateway.address, &ask("GET", "/good"));
        assert!(response.ends_with("\r\n\r\nearly"), "{response}");
    }
    let came: Vec<_> = receiver.try_iter().collect();
    let first: String = came.iter().filter(|(index, _)| *index == 0).map(|(_, text)| text.as_str()).collect();
    assert!(first.starts_with("POST /bad ") && first.ends_with("\r\n\r\nhalf"), "{came:?}");
    assert_eq!(came.iter().filter(|(_, text)| text.starts_with("GET /good ")).count(), 3, "{came:?}");
}

#[test]
fn what_belongs_to_the_connection_does_not_reach_the_client() {
    let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Dropped\r\nX-Dropped: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
                Proxy-Authenticate: Basic\r\nTE: gzip\r\nUpgrade: h2c\r\nX-Forwarded-User: evil\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                Content-Length: 2\r\nX-Kept: 1\r\n\r\nok";
    let origin = origin(head, Then::KeepAlive);
    let gateway = Gateway::public("", origin.address);
    let response = exchange(gateway.address, &ask("GET", "/bad"));
    for name in
        ["x-dropped", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "upgrade", "x-forwarded-user"]
    {
        assert_eq!(header(&response, name), None, "{response}");
    }
    assert_eq!(header(&response, "x-kept"), Some("1"));
    assert_eq!(header(&response, "connection"), Some("close"));
    assert_eq!(response.matches("set-cookie: ").count(), 2, "{response}");
}

#[test]
fn nobody_gets_the_answer_of_another_while_an_upstream_says_too_much() {
    let origin = Origin::start(|request, stream| {
        let path = request.split(' ').nth(1).unwrap();
        let answer = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let extra = if path.contains("bad") { answer("evil") } else { String::new() };
        let _ = stream.write_all(format!("{}{extra}", answer(path)).as_bytes());
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    let address = gateway.address;
    let clients: Vec<_> = (0..4)
        .map(|client| {
            std::thread::spawn(move || {
                let mut stream = connect(address);
                for number in 0..200 {
                    let kind = if number % 3 == client % 3 { "bad" } else { "good" };
                    let path = format!("/{kind}/{client}/{number}/");
                    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                    let response = read_response(&mut stream);
                    assert!(response.ends_with(&format!("\r\n\r\n{path}")), "{path}: {response}");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}
