//! Clients that leave, clients that only close their sending side, and clients of HTTP/1.0, for whom the end of the connection means something.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::client::{connect, exchange, read_to_end, read_until, status, upload_until_stuck};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, Then, header, raw};

#[test]
fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let origin = Origin::start(|_, stream| {
        // Time for the gateway to see the end, and far from the time for which it waits then.
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    for request in [
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ] {
        let mut stream = connect(gateway.address);
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let (response, is_clean) = read_to_end(&mut stream);
        assert!(is_clean && status(&response) == 200 && response.ends_with("\r\n\r\nok"), "{request:?}: {response}");
    }
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (responses, _) = read_to_end(&mut stream);
    assert_eq!(responses.matches("\r\n\r\nok").count(), 2, "{responses}");
}

#[test]
fn a_download_goes_on_for_a_client_that_has_closed_its_sending_side() {
    let origin = Origin::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n").unwrap();
        // Together longer than a client is waited for that can be sent nothing.
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(600));
            stream.write_all(b"x").unwrap();
        }
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (response, _) = read_to_end(&mut stream);
    assert!(response.ends_with("xxxxxxxx"), "{response}");
}

#[test]
fn a_client_that_has_closed_its_sending_side_is_not_waited_for_without_end() {
    let (sender, receiver) = mpsc::channel();
    let origin = Origin::start(move |_, stream| {
        // Only the end of the connection can end this.
        let _ = stream.read(&mut [0]);
        sender.send(()).unwrap();
        Then::Close
    });
    let gateway = Gateway::public("", origin.address);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    receiver.recv_timeout(Duration::from_secs(15)).unwrap();
    assert_eq!(gateway.access_lines(1)[0]["status"], 499);
}

#[test]
fn a_client_of_http_1_0_is_not_promised_a_connection_that_ends_with_the_body() {
    let origin = Origin::start(|request, stream| {
        let response: &[u8] = if request.starts_with("GET /sized ") {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        } else {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        };
        stream.write_all(response).unwrap();
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    let response = exchange(gateway.address, b"GET /chunked HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    assert!(response.starts_with("HTTP/1.0 200 ") && response.ends_with("\r\n\r\nok"), "{response}");
    assert_eq!(header(&response, "transfer-encoding"), None);
    assert_eq!(header(&response, "connection"), None);

    let mut stream = connect(gateway.address);
    for _ in 0..2 {
        stream.write_all(b"GET /sized HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let response = read_until(&mut stream, "\r\n\r\nok");
        assert_eq!(header(&response, "connection"), Some("keep-alive"), "{response}");
    }
    let response = exchange(gateway.address, b"GET /sized HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(response.ends_with("\r\n\r\nok"), "{response}");
}

#[test]
fn a_client_that_leaves_an_upload_that_nobody_reads_ends_its_request() {
    let origin = raw(|stream| {
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let gateway = Gateway::start("", &public_route(&[origin], ""));
    let mut stream = connect(gateway.address);
    upload_until_stuck(&mut stream);
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(5);
    while gateway.metric("tollgate_requests_in_flight") > 0 {
        assert!(Instant::now() < deadline, "the request is in flight 5 s after its client left");
        std::thread::sleep(Duration::from_millis(100));
    }
}
