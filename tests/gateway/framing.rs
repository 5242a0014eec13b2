//! Where one request ends and the next begins: bodies that nobody reads, expectations, and heads of every length. That the
//! upstream reads the same is what tests/interop/test_framing.py asks three other parsers.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::support::client::{code, connect, exchange, read_response, read_to_end, read_until, status};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, Then, header, raw};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// `/{*rest}` is open, `/closed` wants a token.
fn gateway(origin: &Origin) -> Gateway {
    Gateway::start("", &public_route(&[origin.address], "[[routes]]\npath = \"/closed\"\nupstream = \"origin\""))
}

/// `inner` as a body with the head that announces it, in both framings.
fn with_body(method: &str, path: &str, inner: &str) -> [String; 2] {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n");
    let length = inner.len();
    [
        format!("{head}Content-Length: {length}\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{inner}\r\n0\r\n\r\n"),
    ]
}

#[test]
fn a_body_that_nobody_expects_is_never_the_next_request() {
    let origin = Origin::fixed(OK);
    let gateway = gateway(&origin);
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "BREW"] {
        for path in ["/open", "/closed", "/auth/me", "/.well-known/jwks.json", "/a//b"] {
            for request in with_body(method, path, inner) {
                let behind = "GET /behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                let responses = exchange(gateway.address, format!("{request}{behind}").as_bytes());
                let count = responses.matches("HTTP/1.1 ").count();
                assert!((1..=2).contains(&count), "{method} {path}: {responses}");
            }
        }
    }
    let paths: Vec<_> = gateway.access_lines(70).iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    assert!(paths.len() >= 70 && paths.iter().all(|path| path != "/smuggled"), "{paths:?}");
    for connection in origin.connections() {
        let starts = connection.split("\r\n\r\n").filter(|part| part.starts_with("GET /smuggled"));
        // As the body of a request to `/open` it may stand there, but then its length was announced.
        assert_eq!(starts.count(), connection.matches(&format!("content-length: {}\r\n", inner.len())).count());
    }
}

#[test]
fn the_answer_to_a_body_that_nobody_reads_arrives() {
    let origin = Origin::fixed(OK);
    let gateway = gateway(&origin);
    for (path, expected) in [("/closed", 401), ("/.well-known/jwks.json", 200), ("/auth/me", 401)] {
        let mut stream = connect(gateway.address);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n").unwrap();
        stream.write_all(&vec![b'x'; 3_000_000]).unwrap();
        let (response, is_clean) = read_to_end(&mut stream);
        assert_eq!((status(&response), is_clean), (expected, true), "{path}: {response}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_refused_request_whose_body_was_read_keeps_its_connection() {
    // Its upstream reads every body and gives an answer that is none.
    let origin = Origin::fixed("HTTP/1.1 700 Odd\r\nContent-Length: 0\r\n\r\n");
    let gateway =
        Gateway::start("", &format!("[login]\nhash = {{ cost = 10 }}\n{}", public_route(&[origin.address], "")));
    let login = "{\"username\":\"nobody\",\"password\":\"wrong\"}";
    let cases = [
        ("/auth/login", login, "login_failed"),
        ("/auth/login", login, "login_failed"),
        ("/auth/refresh", "{\"refresh_token\":\"none\"}", "refresh_invalid"),
        ("/a", "{}", "upstream_failed"),
    ];
    let mut stream = connect(gateway.address);
    let mut ask = |path: &str, body: &str, framing: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n");
        stream.write_all(format!("{head}{framing}\r\n\r\n{body}").as_bytes()).unwrap();
        read_response(&mut stream)
    };
    for (path, body, expected) in cases {
        let length = body.len();
        let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
        for response in
            [ask(path, body, &format!("Content-Length: {length}")), ask(path, &chunks, "Transfer-Encoding: chunked")]
        {
            assert_eq!(code(&response), expected, "{response}");
            assert_eq!(header(&response, "connection"), None, "{response}");
        }
    }
    // What nobody has read ends it.
    let response = ask("/auth/me", "{}", "Content-Length: 2");
    assert_eq!(
        (code(&response).as_str(), header(&response, "connection")),
        ("method_not_allowed", Some("close")),
        "{response}"
    );
    assert_eq!(read_to_end(&mut stream), (String::new(), true));
}

#[test]
fn both_lengths_at_once_are_chunks_and_the_end_of_the_connection() {
    let origin = Origin::fixed(OK);
    let gateway = gateway(&origin);
    for lengths in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
    {
        let request = format!("POST /a HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let behind = "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";
        let responses = exchange(gateway.address, format!("{request}{behind}").as_bytes());
        assert_eq!(responses.matches("HTTP/1.1 ").count(), 1, "{responses}");
        let seen = origin.requests().pop().unwrap();
        assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
        assert_eq!(header(&seen, "content-length"), None, "{seen}");
    }
}

#[test]
fn a_broken_chunk_is_refused_and_its_upstream_connection_dropped() {
    let origin = Origin::fixed(OK);
    let gateway = gateway(&origin);
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(1 << 20));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(4096)).repeat(1000));
    let cases = [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\r;x\r\nhello\r\n0\r\n\r\n",
        "5;x\rhello\r\n0\r\n\r\n",
        "5;x\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
        &long,
        &many,
    ];
    for body in cases {
        let mut stream = connect(gateway.address);
        // The gateway may answer and close while the rest is sent.
        let _ = write!(
            stream,
            "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let (response, _) = read_to_end(&mut stream);
        let shown = &body[..body.len().min(60)];
        assert_eq!((status(&response), code(&response).as_str()), (400, "bad_request"), "{shown:?}: {response}");
        let response = exchange(gateway.address, b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(response.ends_with("\r\n\r\nok"), "{shown:?}: {response}");
    }
    assert!(origin.requests().iter().all(|request| request.starts_with("GET /good ")), "{:?}", origin.requests());
    for connection in origin.connections() {
        let mut bad = connection.split("POST /bad ").skip(1);
        assert!(bad.all(|rest| !rest.contains("GET /") && !rest.ends_with("0\r\n\r\n")), "{connection}");
    }
}

#[test]
fn an_expectation_changes_nothing_but_the_hundred() {
    let origin = Origin::start(|request, stream| {
        let response = if request.starts_with("POST /twice ") {
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n{OK}")
        } else if request.starts_with("POST /failed ") {
            "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno".to_owned()
        } else {
            OK.to_owned()
        };
        stream.write_all(response.as_bytes()).unwrap();
        Then::KeepAlive
    });
    let gateway = gateway(&origin);
    for expectation in ["100-continue", "100-Continue", "y 100-continue", "x", "100-continue\r\nExpect: 100-continue"] {
        for (path, expected) in [("/a", 200), ("/twice", 200), ("/failed", 417)] {
            for framed in with_body("POST", path, "hello") {
                let request = framed.replace("Host: a\r\n", &format!("Host: a\r\nExpect: {expectation}\r\n"));
                let behind = "GET /behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                let responses = exchange(gateway.address, format!("{request}{behind}").as_bytes());
                let finals: Vec<_> =
                    responses.split("HTTP/1.1 ").skip(1).filter(|one| !one.starts_with("100 ")).collect();
                assert_eq!(finals.len(), 2, "{expectation} {path}: {responses}");
                assert!(finals[0].starts_with(&expected.to_string()) && finals[1].ends_with("ok"), "{responses}");
            }
        }
    }
    let mut behind = 0;
    for request in origin.requests() {
        assert_eq!(header(&request, "expect"), None, "{request}");
        behind += usize::from(request.starts_with("GET /behind "));
    }
    assert_eq!((behind, origin.requests().len()), (30, 60));
}

#[test]
fn a_head_has_exactly_its_limit() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("max_header_bytes = 10000", origin.address);
    let head = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    for (length, expected) in [(9_999, 200), (10_000, 200), (10_001, 431), (10_100, 431), (16_000, 431), (40_000, 431)]
    {
        // At once, and with an end that comes later.
        for cut in [0, 1, 5, 100] {
            let mut stream = connect(gateway.address);
            let (first, second) = (&head(length)[..length - cut], &head(length)[length - cut..]);
            stream.write_all(first.as_bytes()).unwrap();
            if cut > 0 {
                std::thread::sleep(Duration::from_millis(20));
                // It may be too long already.
                let _ = stream.write_all(second.as_bytes());
            }
            let response = read_response(&mut stream);
            assert_eq!(status(&response), expected, "{length} bytes, the last {cut} of them later: {response}");
        }
    }
}

#[test]
fn what_could_not_be_read_has_no_path_in_the_log() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let mut stream = connect(gateway.address);
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").unwrap();
    let response = read_response(&mut stream);
    let body = response.split_once("\r\n\r\n").unwrap().1;
    let line = &gateway.access_lines(1)[0];
    assert!(line["path"].is_null() && line["method"].is_null(), "{line}");
    assert_eq!((line["status"].as_u64(), line["bytes.out"].as_u64()), (Some(400), Some(body.len() as u64)), "{line}");
    assert_eq!(gateway.metric("tollgate_requests_total{route=\"-\",method=\"GET\",code=\"400\"}"), 0);
}

#[test]
fn a_bare_line_feed_ends_a_line_for_both_sides() {
    // RFC 9112 section 2.2 allows it. What counts is that the upstream gets lines that end in one way only.
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let request = "POST /a HTTP/1.1\nHost: a\nX: 1\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n";
    let mut stream = connect(gateway.address);
    stream.write_all(request.as_bytes()).unwrap();
    read_until(&mut stream, "\r\n\r\nok");
    let seen = &origin.requests()[0];
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
    assert_eq!(seen.matches('\n').count(), seen.matches("\r\n").count(), "{seen:?}");
    // Not in the lines between chunks, where it would move the border of a body.
    let mut stream = connect(gateway.address);
    stream.write_all(request.replace("5\r\n", "5\n").as_bytes()).unwrap();
    assert_eq!(status(&read_response(&mut stream)), 400);
}

#[test]
fn a_connection_ends_after_a_request_with_trailers() {
    // Behind `X: 1\n\r\n` hyper drops what comes up to an empty line, here a request. Its client must learn of it.
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    for trailers in ["X: 1\n\r\n", "X: 1\r\n\r\n"] {
        let request = format!("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}");
        let behind = "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";
        let responses = exchange(gateway.address, format!("{request}{behind}").as_bytes());
        assert_eq!(responses.matches("HTTP/1.1 200 ").count(), 1, "{responses}");
        assert_eq!(header(&responses, "connection"), Some("close"), "{responses}");
    }
    assert!(origin.requests().iter().all(|request| request.starts_with("POST /a ")), "{:?}", origin.requests());
}

#[test]
fn other_protocols_on_the_port_are_refused_and_closed() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("header_timeout = \"2s\"", origin.address);
    let cases: [&[u8]; 8] = [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0aGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
    ];
    for bytes in cases {
        let mut stream = connect(gateway.address);
        stream.write_all(bytes).unwrap();
        let mut response = Vec::new();
        let closed = stream.read_to_end(&mut response);
        let text = String::from_utf8_lossy(&response);
        assert!(closed.is_ok() && status(&text) == 400, "{:?}: {text}", String::from_utf8_lossy(bytes));
    }
    assert!(origin.connections().is_empty());
}

/// An origin that answers as soon as it has a request's head, and then reads on without answering again.
fn early_origin() -> SocketAddr {
    raw(|mut stream| {
        let mut buffer = [0; 4096];
        if stream.read(&mut buffer).is_ok() && stream.write_all(OK.as_bytes()).is_ok() {
            while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {}
        }
    })
}

#[test]
fn the_rest_of_a_body_after_an_early_response_is_never_read_as_a_request() {
    let gateway = Gateway::public("header_timeout = \"1s\"", early_origin());
    let mut stream = connect(gateway.address);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let length = smuggled.len() + 4;
    stream
        .write_all(format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n1234").as_bytes())
        .unwrap();
    read_until(&mut stream, "\r\n\r\nok");
    // Longer than an idle connection keeps its buffers.
    std::thread::sleep(Duration::from_millis(2500));
    // The gateway may have closed by now, which is right too.
    let _ = stream.write_all(smuggled.as_bytes());
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (second, _) = read_to_end(&mut stream);
    assert!(!second.contains("HTTP/1.1"), "the body was answered: {second}");
    let lines = gateway.access_lines(1);
    assert!(lines.iter().all(|line| line["path"] != "/smuggled"), "{lines:?}");
}

#[test]
fn an_upload_that_goes_on_after_its_response_is_not_a_late_head() {
    let gateway = Gateway::public("header_timeout = \"1s\"", early_origin());
    let mut stream = connect(gateway.address);
    stream.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").unwrap();
    for _ in 0..16 {
        std::thread::sleep(Duration::from_millis(200));
        if stream.write_all(b"0123456789").is_err() {
            break;
        }
    }
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (responses, _) = read_to_end(&mut stream);
    assert_eq!(responses.matches("HTTP/1.1").count(), 1, "{responses}");
}

#[test]
fn a_malformed_request_behind_a_good_one_gets_our_refusal_too() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let responses = exchange(gateway.address, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nNOT HTTP\x01\r\n\r\n");
    let second = responses.rsplit("HTTP/1.1 ").next().unwrap();
    assert!(second.starts_with("400"), "{responses}");
    assert_eq!(code(second), "bad_request", "{responses}");
    assert_eq!(gateway.access_lines(2).len(), 2);
}
