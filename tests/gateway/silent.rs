//! Clients that fall silent, each kind closed within its bound.

use std::io::Write;
use std::time::Duration;

use crate::support::client::{code, connect, read_to_end, read_until, status, time_to_close};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Then};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LIMITS: &str = "header_timeout = \"1s\"\nbody_timeout = \"1s\"\nidle_timeout = \"2s\"\nsend_timeout = \"1s\"";

#[track_caller]
fn check_between(time: Duration, least: u64, most: u64) {
    assert!((Duration::from_millis(least)..Duration::from_millis(most)).contains(&time), "{time:?}");
}

#[test]
fn each_kind_of_silence_has_its_bound() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public(LIMITS, origin.address);

    let mut nothing = connect(gateway.address);
    let mut half_head = connect(gateway.address);
    half_head.write_all(b"GET / HTTP/1.1\r\nHos").unwrap();
    let mut half_preface = connect(gateway.address);
    half_preface.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    let mut no_body = connect(gateway.address);
    no_body.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    let mut idle = connect(gateway.address);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut idle, "\r\n\r\nok");

    check_between(time_to_close(&mut nothing), 700, 2500);
    let (response, _) = read_to_end(&mut half_head);
    assert_eq!((status(&response), code(&response).as_str()), (408, "request_timeout"));
    time_to_close(&mut half_preface);
    let (response, _) = read_to_end(&mut no_body);
    assert_eq!((status(&response), code(&response).as_str()), (408, "request_timeout"));
    check_between(time_to_close(&mut idle), 0, 3500);
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let origin = Origin::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        let block = vec![b'x'; 1 << 20];
        while stream.write_all(&block).is_ok() {}
        Then::Close
    });
    let gateway = Gateway::public(LIMITS, origin.address);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let lines = gateway.access_lines(1);
    assert_eq!(lines.len(), 1, "the request ended although the client read nothing");
    assert!(lines[0]["duration_ms"].as_f64().unwrap() < 6000.0, "{}", lines[0]);
}

#[test]
fn a_slow_head_cannot_buy_time_byte_by_byte() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::public(LIMITS, origin.address);
    let mut stream = connect(gateway.address);
    let mut sent = 0;
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: 0123456789012345678901234567890123456789\r\n\r\n" {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(sent < 40, "{sent} bytes at ten a second were taken");
}

#[test]
fn silent_clients_of_the_admin_listener_make_room_for_a_probe() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let silent: Vec<_> = (0..64).map(|_| connect(gateway.admin)).collect();
    let mut probe = connect(gateway.admin);
    probe.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (response, _) = read_to_end(&mut probe);
    assert!(response.starts_with("HTTP/1.1 200"), "no answer in 15 s: {response:?}");
    drop(silent);
}

#[test]
fn a_head_that_begins_after_a_pause_has_the_header_timeout() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("header_timeout = \"1s\"\nidle_timeout = \"10s\"", origin.address);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\nok");
    std::thread::sleep(Duration::from_millis(2500));
    stream.write_all(b"G").unwrap();
    let time = time_to_close(&mut stream);
    assert!(time < Duration::from_secs(4), "open for {time:?}");
}
