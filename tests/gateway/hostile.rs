//! Heads that are refused, and how.

use std::io::Write;

use crate::support::client::{code, connect, exchange, read_response, status};
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

#[test]
fn what_is_not_one_clear_request_is_refused_with_a_code() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::public("max_header_bytes = 16384", origin.address);
    let huge = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(150));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9_000));
    let cases: &[(&str, u16, &str)] = &[
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "bad_request"),
        ("GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        ("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        ("GET admin HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        ("GET /%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        ("GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        ("GET //a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        ("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        ("GET /..;/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        ("GARBAGE\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
        (&huge, 431, "headers_too_large"),
        (&many, 431, "headers_too_large"),
        (&long, 414, "uri_too_long"),
    ];
    for (bytes, expected_status, expected_code) in cases {
        let mut stream = connect(gateway.address);
        stream.write_all(bytes.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        let shown = &bytes[..bytes.len().min(80)];
        assert!(!response.is_empty(), "{shown:?} got no answer");
        assert_eq!((status(&response), code(&response).as_str()), (*expected_status, *expected_code), "{shown:?}");
        assert!(response.contains("application/problem+json"), "{shown:?}: {response}");
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    let lines = gateway.access_lines(cases.len());
    assert_eq!(lines.len(), cases.len(), "each has its access line");
    assert!(lines.iter().all(|line| line["refusal.code"].is_string()));
}

#[test]
fn a_good_request_behind_a_refused_one_is_still_answered() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::public("", origin.address);
    let both = b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\nGET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let response = exchange(gateway.address, both);
    assert_eq!(status(&response), 400);
    assert!(response.ends_with("\r\n\r\nok"), "{response}");
    assert_eq!(origin.requests().len(), 1);
}
