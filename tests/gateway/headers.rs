//! Names, hosts and methods that are meant to be taken for others.

use crate::support::client::{code, exchange, status};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, header};
use crate::support::tokens;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").into_bytes()
}

#[test]
fn headers_that_would_mislead_an_upstream_do_not_pass() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let names = [
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded-Server",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Forwarded-Access-Token",
        "Proxy-Authorization",
        "Upgrade",
        "HTTP2-Settings",
        "TE",
        "Keep-Alive",
        "Proxy-Connection",
    ];
    let spellings: [fn(&str) -> String; 4] = [
        str::to_owned,
        |name| name.to_lowercase().replace('-', "_"),
        |name| name.to_uppercase().replace('-', "."),
        |name| name.replacen('-', "_", 1),
    ];
    let sent: String =
        spellings.iter().flat_map(|spell| names.iter().map(move |name| format!("{}: evil\r\n", spell(name)))).collect();
    let response = exchange(
        gateway.address,
        &get("/a", &format!("Host: a\r\nConnection: Upgrade, HTTP2-Settings, X-Forwarded-For\r\n{sent}")),
    );
    assert_eq!(status(&response), 200, "{response}");
    let request = &origin.requests()[0];
    assert!(!request.contains("evil"), "{request}");
    assert_eq!(header(request, "x-forwarded-for"), Some("127.0.0.1"), "{request}");
}

#[test]
fn the_state_of_a_trace_goes_with_the_trace() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (parent, expected) in [(trace, Some("vendor=1")), ("00-broken-01", None)] {
        exchange(gateway.address, &get("/a", &format!("Host: a\r\nTraceparent: {parent}\r\nTracestate: vendor=1\r\n")));
        assert_eq!(header(origin.requests().last().unwrap(), "tracestate"), expected, "{parent}");
    }
    exchange(gateway.address, &get("/a", "Host: a\r\nTracestate: vendor=1\r\n"));
    assert_eq!(header(origin.requests().last().unwrap(), "tracestate"), None);
}

#[test]
fn a_host_is_the_same_host_in_every_spelling() {
    let origin = Origin::fixed(OK);
    let closed =
        "[[routes]]\nname = \"closed\"\npath = \"/{*rest}\"\nhosts = [\"closed.example\"]\nupstream = \"origin\"";
    let gateway = Gateway::start("", &public_route(&[origin.address], closed));
    let spellings = [
        ("/a", "closed.example"),
        ("/a", "CLOSED.example"),
        ("/a", "closed.example."),
        ("/a", "closed.example:80"),
        ("/a", "Closed.Example.:8080"),
        ("http://closed.example/a", "closed.example"),
        ("HTTP://CLOSED.EXAMPLE:80/a", "closed.example"),
    ];
    for (target, host) in spellings {
        let response = exchange(gateway.address, &get(target, &format!("Host: {host}\r\n")));
        assert_eq!(status(&response), 401, "{target} {host}: {response}");
    }
    let others = [
        ("http://closed.example/a", "open.example"),
        ("http://open.example/a", "closed.example"),
        ("http://open.example@closed.example/a", "open.example"),
        ("/a", "closed.example@open.example"),
        ("/a", "open.example, closed.example"),
        ("/a", "closed\u{e9}.example"),
    ];
    for (target, host) in others {
        let response = exchange(gateway.address, &get(target, &format!("Host: {host}\r\n")));
        assert_eq!(status(&response), 400, "{target} {host}: {response}");
    }
    assert!(origin.connections().is_empty(), "{:?}", origin.connections());
    assert_eq!(status(&exchange(gateway.address, &get("/a", "Host: open.example\r\n"))), 200);
}

#[test]
fn a_method_is_what_the_request_line_says() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::start("", &format!("{}methods = [\"GET\"]\n", public_route(&[origin.address], "")));
    let overrides = "Host: a\r\nX-HTTP-Method-Override: GET\r\nX-Method-Override: GET\r\n";
    for method in ["get", "Get", "POST", "OPTIONS", "GETT", "DELETE"] {
        let request = format!("{method} /a?_method=GET HTTP/1.1\r\n{overrides}Connection: close\r\n\r\n");
        let response = exchange(gateway.address, request.as_bytes());
        assert_eq!((status(&response), code(&response).as_str()), (405, "method_not_allowed"), "{method}");
        assert_eq!(header(&response, "allow").map(|allowed| allowed.contains("GET")), Some(true), "{response}");
    }
    assert!(origin.connections().is_empty());
}

#[test]
fn what_no_route_serves_is_refused_and_what_says_nothing_wants_a_token() {
    let origin = Origin::fixed(OK);
    let rest = public_route(&[origin.address], "[[routes]]\npath = \"/silent\"\nupstream = \"origin\"")
        .replace("/{*rest}", "/public/{*rest}");
    let gateway = Gateway::start("", &rest);
    for path in ["/", "/publi", "/publicx", "/public-other/a", "/PUBLIC/a", "/admin", "/livez", "/metrics"] {
        let response = exchange(gateway.address, &get(path, "Host: a\r\n"));
        assert_eq!((status(&response), code(&response).as_str()), (404, "route_not_found"), "{path}: {response}");
    }
    let response = exchange(gateway.address, &get("/silent", "Host: a\r\n"));
    assert_eq!((status(&response), code(&response).as_str()), (401, "token_missing"), "{response}");
    assert!(origin.connections().is_empty());
    assert_eq!(status(&exchange(gateway.address, &get("/public/a", "Host: a\r\n"))), 200);
}

#[test]
fn nothing_in_a_request_makes_the_gateway_redirect() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::start("", &public_route(&[origin.address], "").replace("/{*rest}", "/public/{*rest}"));
    for next in ["//evil.example", "/%5Cevil.example", "https:evil.example", "%0d%0aLocation:%20x"] {
        for path in ["/auth/login", "/auth/token", "/auth/me", "/", "/public"] {
            let form = format!("username=a&password=b&next={next}");
            let request = format!(
                "POST {path}?next={next}&redirect_uri={next} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
                form.len()
            );
            let response = exchange(gateway.address, request.as_bytes());
            assert!((400..500).contains(&status(&response)), "{response}");
            assert_eq!(header(&response, "location"), None, "{response}");
            assert!(!response.contains("evil.example"), "{response}");
        }
    }
}

#[test]
fn trailers_of_a_request_carry_no_identity() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let request = "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
                   Trailer: X-Forwarded-User, X_Forwarded_Groups, X-Sum\r\n\r\n3\r\nabc\r\n0\r\n\
                   X-Forwarded-User: evil\r\nX_Forwarded_Groups: evil\r\nX-Sum: 7\r\n\r\n";
    assert_eq!(status(&exchange(gateway.address, request.as_bytes())), 200);
    let seen = origin.requests()[0].to_lowercase();
    assert!(!seen.contains("evil"), "{seen}");
    assert!(seen.contains("x-sum: 7"), "an ordinary trailer is forwarded: {seen}");
}

#[test]
fn two_subjects_that_differ_by_a_space_are_not_one_to_the_upstream() {
    let origin = Origin::fixed(OK);
    let secret = b"thirty-two bytes are the least!!";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let routes = public_route(&[origin.address], "").replace("\"public\"", "\"required\"");
    let issuer = format!(
        "[issuers.theirs]\nissuer = \"theirs\"\naudiences = [\"us\"]\nalgorithms = [\"HS256\"]\nsecret = {{ file = {file:?} }}\n"
    );
    let gateway = Gateway::start("", &format!("{issuer}{routes}"));
    for subject in ["admin", " admin", "admin ", "\u{3000}admin"] {
        let bearer = tokens::hs256(secret, subject);
        let request =
            format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {bearer}\r\nConnection: close\r\n\r\n");
        let response = exchange(gateway.address, request.as_bytes());
        assert_eq!(status(&response), 200, "{response}");
    }
    let mut users: Vec<_> =
        origin.requests().iter().map(|request| header(request, "x-forwarded-user").unwrap().to_owned()).collect();
    users.sort();
    users.dedup();
    assert_eq!(users.len(), 4, "{users:?}");
}

#[test]
fn an_upstream_does_not_speak_of_identities_to_the_client() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nX-Forwarded-User: evil\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::public("", origin.address);
    let response = exchange(gateway.address, b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(!response.contains("evil"), "{response}");
}
