//! What the upstream gets, what the client gets, and what happens when one of the two leaves.

use std::io::{Read, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::client::{code, connect, exchange, read_to_end, read_until, status, upload_until_stuck};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, Then, header, raw};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: api.example.org\r\n{headers}Connection: close\r\n\r\n").into_bytes()
}

#[test]
fn the_upstream_gets_the_same_target_and_our_headers_only() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let headers = "X-Forwarded-User: evil\r\nx_forwarded_groups: evil\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
                   Keep-Alive: 5\r\nTE: gzip\r\nX-Drop: 1\r\nConnection: X-Drop, X-Forwarded-Host\r\nAccept: a/b\r\n\
                   Authorization: Bearer secret\r\n";
    let response = exchange(gateway.address, &get("/a%20b/c?x=%2F&x=&y[]=1", headers));
    assert_eq!(status(&response), 200, "{response}");
    let request = &origin.requests()[0];
    assert!(request.starts_with("GET /a%20b/c?x=%2F&x=&y[]=1 HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(request, "host"), Some("api.example.org"));
    assert_eq!(header(request, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(request, "x-forwarded-proto"), Some("http"));
    assert_eq!(header(request, "x-forwarded-host"), Some("api.example.org"));
    assert_eq!(header(request, "forwarded"), Some("for=127.0.0.1;host=\"api.example.org\";proto=http"));
    assert_eq!(header(request, "via"), Some("1.1 tollgate"));
    assert_eq!(header(request, "accept"), Some("a/b"));
    assert_eq!(header(request, "x-request-id").map(str::len), Some(32));
    assert_eq!(header(request, "traceparent").map(str::len), Some(55));
    let id = header(request, "x-request-id").unwrap();
    assert!(response.contains(id), "the client gets the same request id");
    for name in ["x-forwarded-user", "x_forwarded_groups", "keep-alive", "te", "x-drop", "connection", "authorization"]
    {
        assert_eq!(header(request, name), None, "{name} in {request}");
    }
}

#[test]
fn framing_is_made_anew_in_both_directions() {
    let origin = Origin::start(|_, stream| {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-Forwarded-User: evil\r\n\r\n";
        stream.write_all(chunked.as_bytes()).unwrap();
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    let body = "POST /u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: close\r\n\r\n4;ext=1\r\nwxyz\r\n0\r\n\r\n";
    let response = exchange(gateway.address, body.as_bytes());
    assert!(response.contains("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{response}");
    assert!(!response.to_lowercase().contains("evil"), "{response}");
    let request = &origin.requests()[0];
    assert!(request.ends_with("\r\n\r\n4\r\nwxyz\r\n0\r\n\r\n"), "{request}");

    let sized = "POST /u HTTP/1.1\r\nHost: a\r\nContent-Length: 004\r\nConnection: close\r\n\r\nwxyz";
    exchange(gateway.address, sized.as_bytes());
    let request = &origin.requests()[1];
    assert_eq!(header(request, "content-length"), Some("4"), "{request}");

    exchange(gateway.address, b"POST /u HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(header(&origin.requests()[2], "content-length"), Some("0"));
}

#[test]
fn a_body_of_unknown_length_arrives_whatever_the_method() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::public("", origin.address);
    for (index, method) in ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "SEARCH"].into_iter().enumerate() {
        let head =
            format!("{method} /u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n");
        exchange(gateway.address, format!("{head}4\r\nwxyz\r\n0\r\n\r\n").as_bytes());
        let request = &origin.requests()[index];
        assert!(request.ends_with("\r\n\r\n4\r\nwxyz\r\n0\r\n\r\n"), "{request}");
        assert_eq!(request.matches("transfer-encoding: chunked\r\n").count(), 1, "{request}");
    }
}

#[test]
fn answers_without_a_body_keep_what_they_say_about_one() {
    let origin = Origin::start(|request, stream| {
        let response = if request.starts_with("HEAD") {
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"e\"\r\n\r\n"
        } else {
            "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n"
        };
        stream.write_all(response.as_bytes()).unwrap();
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    let response = exchange(gateway.address, b"HEAD /f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(response.contains("content-length: 1234\r\n") && response.ends_with("\r\n\r\n"), "{response}");
    let response = exchange(gateway.address, &get("/f", "If-None-Match: \"e\"\r\n"));
    assert!(
        status(&response) == 304 && response.contains("etag: \"e\"") && response.ends_with("\r\n\r\n"),
        "{response}"
    );
}

#[test]
fn a_connection_is_kept_for_the_next_request_on_both_sides() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let mut stream = connect(gateway.address);
    for number in 0..3 {
        write!(stream, "GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_until(&mut stream, "\r\n\r\nok");
        // Longer than an idle connection keeps its buffers.
        std::thread::sleep(Duration::from_millis(if number == 1 { 2500 } else { 0 }));
    }
    // Two heads in one packet, and the second cut in two.
    stream.write_all(b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HT").unwrap();
    read_until(&mut stream, "\r\n\r\nok");
    stream.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\nok");
    let targets: Vec<_> =
        origin.requests().iter().map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(targets, ["/0", "/1", "/2", "/3", "/4"]);
}

#[test]
fn a_connection_that_its_server_closed_unseen_costs_no_request() {
    let origin = Origin::start(|_, stream| {
        stream.write_all(OK.as_bytes()).unwrap();
        Then::Close
    });
    let gateway = Gateway::public("", origin.address);
    let mut stream = connect(gateway.address);
    for _ in 0..20 {
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").unwrap();
        let response = read_until(&mut stream, "\r\n\r\nok");
        assert_eq!(status(&response), 200, "{response}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(origin.requests().len(), 20);
}

#[test]
fn a_request_that_was_sent_is_not_sent_again() {
    let origin = Origin::start(|_, _| Then::Close);
    let gateway = Gateway::public("", origin.address);
    let response =
        exchange(gateway.address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
    assert_eq!((status(&response), code(&response).as_str()), (502, "upstream_failed"));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_dead_server_is_passed_over() {
    let origin = Origin::fixed(OK);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start("", &public_route(&[dead, origin.address], ""));
    for _ in 0..6 {
        let response = exchange(gateway.address, &get("/", ""));
        assert_eq!(status(&response), 200, "{response}");
    }
    let sample = |server| format!("tollgate_upstream_healthy{{upstream=\"origin\",server=\"{server}\"}}");
    assert_eq!((gateway.metric(&sample(dead)), gateway.metric(&sample(origin.address))), (0, 1));
}

#[test]
fn without_a_living_server_the_refusal_names_no_address() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::public("", dead);
    let response = exchange(gateway.address, &get("/", ""));
    assert_eq!((status(&response), code(&response).as_str()), (502, "upstream_unreachable"));
    assert!(!response.contains(&dead.port().to_string()), "{response}");
}

#[test]
fn one_hundred_is_said_only_after_the_decision() {
    let origin = Origin::fixed(OK);
    let rest = public_route(&[origin.address], "[[routes]]\npath = \"/closed\"\nupstream = \"origin\"");
    let gateway = Gateway::start("", &rest);
    let expecting =
        |path| format!("PUT {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let mut stream = connect(gateway.address);
    stream.write_all(expecting("/open").as_bytes()).unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 100 "));
    stream.write_all(b"wxyz").unwrap();
    assert_eq!(status(&read_until(&mut stream, "\r\n\r\nok")), 200);
    assert_eq!(header(&origin.requests()[0], "expect"), None);

    let mut stream = connect(gateway.address);
    stream.write_all(expecting("/closed").as_bytes()).unwrap();
    let (response, is_clean) = read_to_end(&mut stream);
    assert_eq!((status(&response), is_clean), (401, true), "{response}");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_refused_upload_gets_its_answer_although_it_is_still_sending() {
    let origin = Origin::fixed(OK);
    let rest = public_route(&[origin.address], "[[routes]]\npath = \"/closed\"\nupstream = \"origin\"");
    let gateway = Gateway::start("", &rest);
    let mut stream = connect(gateway.address);
    stream.write_all(b"PUT /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n").unwrap();
    stream.write_all(&vec![b'x'; 2_000_000]).unwrap();
    let (response, is_clean) = read_to_end(&mut stream);
    assert_eq!((status(&response), is_clean), (401, true), "{response}");
}

#[test]
fn a_body_over_the_route_s_limit_is_refused() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::start("", &public_route(&[origin.address], "max_body_bytes = 10"));
    let sized = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nConnection: close\r\n\r\nhello world";
    assert_eq!(code(&exchange(gateway.address, sized)), "body_too_large");
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
    assert_eq!(code(&exchange(gateway.address, chunked)), "body_too_large");
    let fitting = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhelloworld";
    assert_eq!(status(&exchange(gateway.address, fitting)), 200);
}

#[test]
fn a_client_that_leaves_cancels_the_upstream_request() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let origin = Origin::start(move |_, stream| {
        // Only the end of the connection can end this.
        let mut byte = [0];
        let _ = Read::read(stream, &mut byte);
        sender.send(()).unwrap();
        Then::Close
    });
    let gateway = Gateway::public("", origin.address);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    while origin.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stream);
    receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(gateway.access_lines(1)[0]["status"], 499);
}

#[test]
fn a_response_that_breaks_off_never_looks_whole() {
    let origin = Origin::start(|request, stream| {
        let head = if request.contains("/chunked") {
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        } else {
            "Content-Length: 10\r\n\r\nhello"
        };
        write!(stream, "HTTP/1.1 200 OK\r\n{head}").unwrap();
        Then::Close
    });
    let gateway = Gateway::public("", origin.address);
    for path in ["/chunked", "/sized"] {
        let response = exchange(gateway.address, &get(path, ""));
        assert!(response.contains("hello") && !response.contains("0\r\n\r\n"), "{response}");
    }
    assert!(gateway.access_lines(2).iter().all(|line| line["cut"] == true));
}

#[test]
fn an_upstream_that_falls_silent_in_a_body_is_cut() {
    let origin = Origin::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        std::thread::sleep(Duration::from_secs(10));
        Then::Close
    });
    let gateway = Gateway::public("", origin.address);
    let start = Instant::now();
    let response = exchange(gateway.address, &get("/", ""));
    assert!(response.ends_with("hello"), "{response}");
    assert!(start.elapsed() < Duration::from_secs(4), "idle_timeout is 1 s, it took {:?}", start.elapsed());
}

#[test]
fn time_limits_of_route_and_upstream_answer_504() {
    let origin = Origin::start(|_, stream| {
        std::thread::sleep(Duration::from_secs(2));
        let _ = stream.write_all(OK.as_bytes());
        Then::KeepAlive
    });
    let gateway = Gateway::start("", &public_route(&[origin.address], "timeout = \"300ms\""));
    let response = exchange(gateway.address, &get("/", ""));
    assert_eq!((status(&response), code(&response).as_str()), (504, "upstream_timeout"));
    let rest =
        public_route(&[origin.address], "").replace("idle_timeout", "response_timeout = \"300ms\"\nidle_timeout");
    let gateway = Gateway::start("", &rest);
    let response = exchange(gateway.address, &get("/", ""));
    assert_eq!((status(&response), code(&response).as_str()), (504, "upstream_timeout"));
}

#[test]
fn an_upstream_that_stops_reading_an_upload_is_cut_at_its_idle_timeout() {
    let origin = raw(|stream| {
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let gateway = Gateway::start("", &public_route(&[origin], ""));
    let mut stream = connect(gateway.address);
    upload_until_stuck(&mut stream);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (response, _) = read_to_end(&mut stream);
    assert!(response.starts_with("HTTP/1.1 504"), "no answer 5 s after `idle_timeout = \"1s\"`: {response:?}");
}

#[test]
fn the_timeout_of_a_route_holds_for_a_client_that_stops_reading() {
    let origin = raw(|mut stream| {
        let mut buffer = [0; 4096];
        if stream.read(&mut buffer).is_ok()
            && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n").is_ok()
        {
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        }
    });
    let gateway = Gateway::start("", &public_route(&[origin], "timeout = \"1s\""));
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\n");
    let deadline = Instant::now() + Duration::from_secs(3);
    while gateway.metric("tollgate_requests_in_flight") > 0 {
        assert!(Instant::now() < deadline, "still in flight 3 s after its head");
        std::thread::sleep(Duration::from_millis(50));
    }
}
