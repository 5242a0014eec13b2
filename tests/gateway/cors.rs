//! Pages of other sites: an allowed one can read every answer of the gateway, any other reads nothing of the gateway's own.

use std::io::Write;

use crate::support::client::{connect, exchange, read_to_end, status};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Then};

const APP: &str = "https://app.example.org";
const ALLOWED: &str = "[login]\nallowed_origins = [\"https://app.example.org\", \"HTTP://localhost:80\"]";

/// A service that speaks CORS itself, and badly.
fn origin() -> Origin {
    Origin::fixed(
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nVary: Accept\r\nAccess-Control-Allow-Origin: *\r\n\
         Access-Control-Allow-Origin: https://evil.example\r\nAccess-Control-Expose-Headers: X-Own\r\n\r\ngood",
    )
}

fn gateway(login: &str, origin: &Origin) -> Gateway {
    let address = origin.address;
    Gateway::start(
        "header_timeout = \"400ms\"\nmax_header_bytes = 8192",
        &format!(
            "{login}\n[upstreams.origin]\nservers = [\"http://{address}\"]\n[upstreams.down]\nservers = [\"http://127.0.0.1:9\"]\n\
             [[routes]]\npath = \"/open/{{*rest}}\"\nupstream = \"origin\"\nauth = \"public\"\nmax_body_bytes = 3\n\
             [[routes]]\npath = \"/get\"\nmethods = [\"GET\"]\nupstream = \"origin\"\n\
             [[routes]]\npath = \"/down\"\nupstream = \"down\"\nauth = \"public\"\n"
        ),
    )
}

/// The values of a header, in their order; the name in lower case.
fn values<'a>(response: &'a str, name: &str) -> Vec<&'a str> {
    let head = response.split("\r\n\r\n").next().unwrap();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// A request with this `Origin`, and a body if there is one.
fn request(line: &str, origin: &str, more: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nConnection: close\r\n{more}\r\n").into_bytes()
}

/// Each answer of the gateway that a page could get, with its status. A login may not even be tried by a site that is not allowed.
fn answers(gateway: &Gateway, origin: &str, login: u16) -> Vec<(&'static str, u16, String)> {
    let cookie = format!("Cookie: {}\r\n", "x".repeat(20_000));
    let form = "Content-Type: application/json\r\nContent-Length: 30\r\n\r\n{\"username\":\"a\",\"password\":\"\"}";
    let cases: [(&str, u16, Vec<u8>); 14] = [
        ("forwarded", 200, request("GET /open/a", origin, "")),
        ("endpoint", 401, request("GET /auth/me", origin, "")),
        ("login", login, request("POST /auth/login", origin, form)),
        ("token", 400, request("POST /auth/token", origin, "Content-Length: 0\r\n")),
        ("keys", 200, request("GET /.well-known/jwks.json", origin, "")),
        ("no route", 404, request("GET /nowhere", origin, "")),
        ("no method", 405, request("PUT /get", origin, "")),
        ("no token", 401, request("GET /get", origin, "")),
        ("bad token", 401, request("GET /get", origin, "Authorization: Bearer x\r\n")),
        ("bad path", 400, request("GET /open//a", origin, "")),
        ("too large", 413, request("POST /open/a", origin, "Content-Length: 4\r\n\r\nbody")),
        ("unreachable", 502, request("GET /down", origin, "")),
        ("head too large", 431, request("GET /open/a", origin, &cookie)),
        ("head not whole", 408, format!("GET /open/a HTTP/1.1\r\nOrigin: {origin}\r\nHo").into_bytes()),
    ];
    let answer = |(name, status, bytes): (&'static str, u16, Vec<u8>)| {
        // A head that is refused early is answered before all of it was sent.
        let mut stream = connect(gateway.address);
        let _ = stream.write_all(&bytes);
        (name, status, read_to_end(&mut stream).0)
    };
    cases.into_iter().map(answer).collect()
}

#[test]
fn every_answer_names_the_allowed_site_and_no_other() {
    let origin = origin();
    let gateway = gateway(ALLOWED, &origin);
    for site in [APP, "http://localhost"] {
        for (name, expected, response) in answers(&gateway, site, 401) {
            assert_eq!(status(&response), expected, "{name}: {response}");
            assert_eq!(values(&response, "access-control-allow-origin"), [site], "{name}: {response}");
            assert_eq!(values(&response, "access-control-allow-credentials"), ["true"], "{name}: {response}");
            let exposed = values(&response, "access-control-expose-headers").join(", ");
            assert!(exposed.contains("x-total-count") && exposed.contains("content-range"), "{name}: {exposed}");
            assert!(values(&response, "vary").join(",").contains("origin"), "{name}: {response}");
        }
    }
}

#[test]
fn other_sites_are_told_nothing() {
    let origin = origin();
    let gateway = gateway(ALLOWED, &origin);
    for site in ["https://evil.example", "null", "http://app.example.org", "https://app.example.org:444"] {
        for (name, expected, response) in answers(&gateway, site, 403) {
            assert_eq!(status(&response), expected, "{name}: {response}");
            // Not even what the service itself says: the list is the gateway's.
            assert!(values(&response, "access-control-allow-origin").is_empty(), "{name}: {response}");
            assert!(values(&response, "access-control-allow-credentials").is_empty(), "{name}: {response}");
            assert_eq!(values(&response, "vary").last(), Some(&"origin"), "{name}: {response}");
        }
    }
    let twice =
        format!("GET /auth/me HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nOrigin: {APP}\r\nConnection: close\r\n\r\n");
    let response = exchange(gateway.address, twice.as_bytes());
    assert!(values(&response, "access-control-allow-origin").is_empty(), "{response}");
}

#[test]
fn without_allowed_sites_the_service_speaks_for_itself() {
    let origin = origin();
    let gateway = gateway("", &origin);
    for (name, expected, response) in answers(&gateway, APP, 403) {
        assert_eq!(status(&response), expected, "{name}: {response}");
        let (said, vary): (&[&str], &[&str]) =
            if name == "forwarded" { (&["*", "https://evil.example"], &["Accept"]) } else { (&[], &[]) };
        assert_eq!(values(&response, "access-control-allow-origin"), said, "{name}: {response}");
        assert_eq!(values(&response, "vary"), vary, "{name}: {response}");
    }
    let asks = "Access-Control-Request-Method: GET\r\n";
    assert_eq!(status(&exchange(gateway.address, &request("OPTIONS /open/a", APP, asks))), 200);
    assert!(origin.requests().last().unwrap().starts_with("OPTIONS /open/a"));
}

#[test]
fn a_preflight_of_an_allowed_site_is_answered_before_routes_and_tokens() {
    let origin = origin();
    let gateway = gateway(ALLOWED, &origin);
    let asks = "Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: authorization,content-type\r\n";
    for path in ["/open/a", "/get", "/down", "/nowhere", "/auth/login", "/auth/refresh"] {
        let response = exchange(gateway.address, &request(&format!("OPTIONS {path}"), APP, asks));
        assert_eq!(status(&response), 204, "{response}");
        assert_eq!(values(&response, "access-control-allow-origin"), [APP]);
        assert_eq!(values(&response, "access-control-allow-credentials"), ["true"]);
        assert_eq!(values(&response, "access-control-allow-methods"), ["PUT"]);
        assert_eq!(values(&response, "access-control-allow-headers"), ["authorization,content-type"]);
        assert_eq!(values(&response, "access-control-max-age"), ["600"]);
        let vary = ["origin", "access-control-request-method", "access-control-request-headers"];
        assert_eq!(values(&response, "vary"), vary);
        assert_eq!(values(&response, "x-request-id").len(), 1);
        assert!(response.ends_with("\r\n\r\n") && values(&response, "content-length").is_empty(), "{response}");
    }
    assert_eq!(origin.requests().len(), 0);
    let line = &gateway.access_lines(6)[5];
    assert_eq!((&line["route.name"], &line["status"]), (&"tollgate:preflight".into(), &204.into()));
}

#[test]
fn an_options_request_that_is_no_preflight_goes_its_way() {
    let origin = origin();
    let gateway = gateway(ALLOWED, &origin);
    let asks = "Access-Control-Request-Method: GET\r\n";
    // No method asked for; another site; no site.
    assert_eq!(status(&exchange(gateway.address, &request("OPTIONS /open/a", APP, ""))), 200);
    assert_eq!(status(&exchange(gateway.address, &request("OPTIONS /open/a", "https://evil.example", asks))), 200);
    let plain = format!("OPTIONS /open/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{asks}\r\n");
    assert_eq!(status(&exchange(gateway.address, plain.as_bytes())), 200);
    assert_eq!(origin.requests().len(), 3);
    // What is no OPTIONS needs its token, whatever else it says.
    assert_eq!(status(&exchange(gateway.address, &request("GET /get", APP, asks))), 401);
    // As before: behind a token.
    assert_eq!(status(&exchange(gateway.address, &request("OPTIONS /get", "https://evil.example", asks))), 405);
    let response = exchange(gateway.address, &request("OPTIONS /auth/login", "https://evil.example", asks));
    assert_eq!(status(&response), 405);
    assert!(values(&response, "access-control-allow-origin").is_empty(), "{response}");
}

#[test]
fn the_body_of_a_preflight_is_not_taken_for_a_request() {
    let origin = origin();
    let gateway = gateway(ALLOWED, &origin);
    let smuggled = "GET /open/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = smuggled.len();
    let text = format!(
        "OPTIONS /open/a HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\nAccess-Control-Request-Method: GET\r\n\
         Content-Length: {length}\r\n\r\n{smuggled}GET /open/next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    );
    let response = exchange(gateway.address, text.as_bytes());
    assert_eq!(status(&response), 204, "{response}");
    assert!(origin.requests().iter().all(|request| !request.contains("smuggled")), "{:?}", origin.requests());
}

#[test]
fn a_stream_can_be_read_by_the_allowed_site() {
    let origin = Origin::start(|_, stream| {
        let head = "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 0-3/9\r\n\r\n";
        stream.write_all(format!("{head}4\r\ngood\r\n0\r\n\r\n").as_bytes()).unwrap();
        Then::KeepAlive
    });
    let gateway = gateway(ALLOWED, &origin);
    let response = exchange(gateway.address, &request("GET /open/a", APP, "Range: bytes=0-3\r\n"));
    assert_eq!(status(&response), 206, "{response}");
    assert_eq!(values(&response, "access-control-allow-origin"), [APP]);
    assert_eq!(values(&response, "content-range"), ["bytes 0-3/9"]);
}

#[test]
fn explain_says_what_a_page_of_another_site_is_told() {
    let origin = origin();
    let gateway = gateway(ALLOWED, &origin);
    let explain = |method: &str, path: &str, site: &str, more: &[&str]| {
        let (url, header) = (format!("http://{}{path}", gateway.address), format!("Origin: {site}"));
        let arguments = [&["explain", method, &url, "-H", &header], more].concat();
        String::from_utf8(gateway.command(&arguments, "").stdout).unwrap()
    };
    let asks = ["-H", "Access-Control-Request-Method: PUT"];
    let told = explain("OPTIONS", "/get", APP, &asks);
    assert!(told.contains("a preflight of an allowed site") && told.contains("`tollgate:preflight`"), "{told}");
    assert!(told.contains("allowed"), "{told}");
    let told = explain("OPTIONS", "/get", "https://evil.example", &asks);
    assert!(told.contains("`https://evil.example` is not in `login.allowed_origins`"), "{told}");
    assert!(told.contains("refused: 405"), "{told}");
    let told = explain("GET", "/open/a", APP, &[]);
    assert!(told.contains("pages of `https://app.example.org` can read the answer"), "{told}");
}
