//! The refresh cookie and the pages that may act on it, byte for byte: what is read, what is refused, and what an upstream sees.

use crate::support::client::{code, exchange, status};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, header};

const COOKIE: &str = "tollgate_refresh";
const PASSWORD: &str = "correct horse";

/// A gateway with `ada` in its store, before an origin.
fn gateway(server: &str, rest: &str) -> (Gateway, Origin) {
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: tollgate_refresh=evil; Path=/\r\n\
         Set-Cookie: =tollgate_refresh=evil\r\n\r\nok",
    );
    let login = "[login]\nhash = { cost = 10 }\n";
    let gateway = Gateway::start(server, &format!("{}{login}{rest}", public_route(&[origin.address], "")));
    let added = gateway.command(&["user", "add", "ada", "--password-stdin"], PASSWORD);
    assert!(added.status.success(), "{added:?}");
    (gateway, origin)
}

fn request(gateway: &Gateway, line: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", gateway.address);
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    exchange(gateway.address, text.as_bytes())
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";
const LOGIN: &str = "username=ada&password=correct+horse";

/// The refresh token of a new session.
#[track_caller]
fn log_in(gateway: &Gateway) -> String {
    let response = request(gateway, "POST /auth/login", &[FORM], LOGIN);
    assert_eq!(status(&response), 200, "{response}");
    refresh_token(&response)
}

#[track_caller]
fn refresh_token(response: &str) -> String {
    let cookie = header(response, "set-cookie").unwrap_or_else(|| panic!("no cookie in {response}"));
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict; Max-Age=3600", "{response}");
    let token = pair.strip_prefix("tollgate_refresh=").unwrap();
    assert!(token.len() > 60, "{response}");
    token.to_owned()
}

#[test]
fn a_session_goes_on_by_its_cookie_until_it_is_logged_out() {
    let (gateway, _origin) = gateway("", "");
    let first = log_in(&gateway);
    let refreshed = request(&gateway, "GET /auth/refresh", &[JSON, &format!("Cookie: {COOKIE}={first}")], "");
    assert_eq!(status(&refreshed), 200, "{refreshed}");
    let second = refresh_token(&refreshed);
    assert_ne!(first, second);
    let cookie = format!("Cookie: {COOKIE}={second}");
    let out = request(&gateway, "POST /auth/logout", &[JSON, &cookie], "");
    assert_eq!(status(&out), 200, "{out}");
    let deleted = header(&out, "set-cookie").unwrap();
    assert_eq!(deleted, "tollgate_refresh=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    let over = request(&gateway, "POST /auth/refresh", &[JSON, &cookie], "");
    assert_eq!((status(&over), code(&over).as_str()), (401, "refresh_invalid"));
    assert!(header(&over, "www-authenticate").is_some() && header(&over, "set-cookie").is_none(), "{over}");
    // Again, and without anything.
    for headers in [&[JSON, cookie.as_str()][..], &[]] {
        let again = request(&gateway, "GET /auth/logout", headers, "");
        assert!(status(&again) == 200 && again.contains("\"sessions_ended\":0"), "{again}");
    }
    assert_eq!(gateway.metric("tollgate_refreshes_total{result=\"ok\"}"), 1);
    assert_eq!(gateway.metric("tollgate_refreshes_total{result=\"invalid\"}"), 1);
    assert_eq!(gateway.metric("tollgate_tokens_issued_total{grant=\"refresh\"}"), 1);
    let log = gateway.log();
    assert!(!log.contains(&first) && !log.contains(&second), "a refresh token is in the log");
}

#[test]
fn a_useless_token_in_the_form_does_not_hide_the_cookie_from_a_logout() {
    let (gateway, _origin) = gateway("", "");
    for query in ["", "?scope=global"] {
        let cookie = format!("Cookie: {COOKIE}={}", log_in(&gateway));
        let line = format!("POST /auth/logout{query}");
        let out = request(&gateway, &line, &[JSON, &cookie], "{\"refresh_token\":\"undefined\"}");
        assert!(status(&out) == 200 && out.contains("\"sessions_ended\":1"), "{out}");
        assert_eq!(status(&request(&gateway, "POST /auth/refresh", &[JSON, &cookie], "")), 401);
    }
}

#[test]
fn a_logout_ends_the_session_of_its_cookie_whatever_else_the_form_names() {
    let (gateway, _origin) = gateway("", "");
    let (program, browser) = (log_in(&gateway), log_in(&gateway));
    let cookie = |token: &str| format!("Cookie: {COOKIE}={token}");
    let body = format!("{{\"refresh_token\":\"{program}\"}}");
    let out = request(&gateway, "POST /auth/logout", &[JSON, &cookie(&browser)], &body);
    assert!(status(&out) == 200 && out.contains("\"sessions_ended\":2"), "{out}");
    for token in [&program, &browser] {
        assert_eq!(status(&request(&gateway, "POST /auth/refresh", &[JSON, &cookie(token)], "")), 401);
    }
}

#[test]
fn only_one_cookie_of_exactly_that_name_counts() {
    let (gateway, _origin) = gateway("", "");
    let refresh = |cookies: &[u8]| {
        let head =
            format!("POST /auth/refresh HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{JSON}\r\n", gateway.address);
        let bytes = [head.as_bytes(), b"Content-Length: 0\r\nCookie: ", cookies, b"\r\n\r\n"].concat();
        let response = exchange(gateway.address, &bytes);
        (status(&response), if response.starts_with("HTTP/1.1 200") { String::new() } else { code(&response) })
    };
    let token = log_in(&gateway);
    let invalid = || (401, "refresh_invalid".to_owned());
    for other in [
        format!("Tollgate_Refresh={token}"),
        format!("__Host-tollgate_refresh={token}"),
        format!("\u{2000}tollgate_refresh={token}"),
        format!("tollgate_refresh =\"{token}\""),
        format!("tollgate_refresh=\"{token}\""),
        format!("x=1, tollgate_refresh={token}"),
        "tollgate_refresh=".to_owned(),
    ] {
        assert_eq!(refresh(other.as_bytes()), invalid(), "{other}");
    }
    for twice in [
        format!("tollgate_refresh={token}; tollgate_refresh={token}"),
        format!("tollgate_refresh={token}\r\nCookie: tollgate_refresh=x"),
        format!("$Version=1; tollgate_refresh={token}; $Path=/; tollgate_refresh=x"),
    ] {
        assert_eq!(refresh(twice.as_bytes()), (400, "bad_request".to_owned()), "{twice}");
    }
    let many: String = (0..100).map(|number| format!("c{number}={number}; ")).collect();
    let long = format!("{many}long={}; $Version=1; tollgate_refresh={token}; $Path=/", "x".repeat(16 * 1024));
    assert_eq!(refresh(long.as_bytes()), (200, String::new()));
}

#[test]
fn the_cookie_neither_reaches_an_upstream_nor_comes_from_one() {
    let (gateway, origin) = gateway("", "");
    let token = log_in(&gateway);
    let cookies = format!("Cookie: a=\"1, 2\";b=%20 x; {COOKIE}={token};c=d=e");
    let response = request(&gateway, "GET /app", &[&cookies, &format!("Cookie: {COOKIE}={token}")], "");
    assert_eq!(status(&response), 200, "{response}");
    let seen = &origin.requests()[0];
    assert!(!seen.contains(&token), "{seen}");
    assert_eq!(header(seen, "cookie"), Some("a=\"1, 2\";b=%20 x;c=d=e"), "{seen}");
    let set: Vec<&str> = response.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie")).collect();
    assert_eq!(set.len(), 1, "{response}");
    assert!(set[0].ends_with("a=1"), "{response}");
}

#[test]
fn a_login_replaces_a_planted_cookie_and_ends_its_session() {
    let (gateway, _origin) = gateway("", "");
    let planted = log_in(&gateway);
    let cookie = format!("Cookie: {COOKIE}={planted}");
    let response = request(&gateway, "POST /auth/login", &[FORM, "Sec-Fetch-Site: same-origin", &cookie], LOGIN);
    let own = refresh_token(&response);
    assert_ne!(own.get(..24), planted.get(..24), "it is a new session");
    let attacker = request(&gateway, "POST /auth/refresh", &[JSON, &cookie], "");
    assert_eq!((status(&attacker), code(&attacker).as_str()), (401, "refresh_invalid"));
    let victim = request(&gateway, "POST /auth/refresh", &[JSON, &format!("Cookie: {COOKIE}={own}")], "");
    assert_eq!(status(&victim), 200, "{victim}");
}

#[test]
fn pages_of_other_sites_can_neither_log_in_nor_refresh_nor_log_out() {
    let (gateway, _origin) = gateway("", "allowed_origins = [\"https://app.example.org\"]\n");
    let own = format!("Origin: http://{}", gateway.address);
    let token = log_in(&gateway);
    let cookie = format!("Cookie: {COOKIE}={token}");
    let text = "Content-Type: text/plain";
    let refused: [&[&str]; 10] = [
        &["Origin: https://evil.example"],
        &[&own, "Sec-Fetch-Site: cross-site"],
        &["Origin: https://evil.example", "Sec-Fetch-Site: same-site"],
        &["Origin: https://evil.example", JSON],
        &["Origin: null"],
        &["Origin: null", "Sec-Fetch-Site: cross-site"],
        &["Sec-Fetch-Site: cross-site"],
        &["Sec-Fetch-Site: none"],
        &["Origin: https://app.example.org", "Origin: https://evil.example"],
        &[text, "Sec-Fetch-Site: cross-site"],
    ];
    for headers in refused {
        for line in
            ["POST /auth/login", "POST /auth/refresh", "GET /auth/refresh", "POST /auth/logout", "GET /auth/logout"]
        {
            for with_cookie in [true, false] {
                let extra: &[&str] = if with_cookie { &[&cookie] } else { &[] };
                let response = request(&gateway, line, &[headers, extra].concat(), "");
                let answer = (status(&response), code(&response));
                assert_eq!(answer, (403, "csrf_refused".to_owned()), "{line} {headers:?} {with_cookie}");
                assert!(header(&response, "set-cookie").is_none(), "{response}");
            }
        }
    }
    // With the cookie, silence is not enough, nor is what a form can send.
    for headers in [&[cookie.as_str()][..], &[&cookie, text], &[&cookie, FORM]] {
        for line in ["POST /auth/refresh", "GET /auth/logout"] {
            assert_eq!(code(&request(&gateway, line, headers, "")), "csrf_refused", "{line} {headers:?}");
        }
    }
    let taken: [&[&str]; 5] = [
        &[&own],
        &["Sec-Fetch-Site: same-origin"],
        &["Sec-Fetch-Site: same-site"],
        &["Origin: https://app.example.org"],
        &[JSON],
    ];
    let mut current = token;
    for headers in taken {
        let cookie = format!("Cookie: {COOKIE}={current}");
        let response = request(&gateway, "POST /auth/refresh", &[headers, &[&cookie]].concat(), "");
        assert_eq!(status(&response), 200, "{headers:?}: {response}");
        current = refresh_token(&response);
    }
}

#[test]
fn a_replayed_token_ends_its_session() {
    let (gateway, _origin) = gateway("", "");
    let first = log_in(&gateway);
    let refresh =
        |token: &str| request(&gateway, "POST /auth/refresh", &[JSON, &format!("Cookie: {COOKIE}={token}")], "");
    let second = refresh_token(&refresh(&first));
    // A predecessor within the grace gets the same successor.
    assert_eq!(refresh_token(&refresh(&first)), second);
    let third = refresh_token(&refresh(&second));
    let replayed = refresh(&first);
    assert_eq!((status(&replayed), code(&replayed).as_str()), (401, "refresh_reused"));
    assert_eq!(code(&refresh(&third)), "refresh_invalid");
    assert_eq!(gateway.metric("tollgate_refreshes_total{result=\"reused\"}"), 1);
}

#[test]
fn the_methods_and_parameters_of_the_endpoints_are_what_they_say() {
    let (gateway, _origin) = gateway("", "");
    for (line, allow) in [
        ("HEAD /auth/refresh", "GET, POST"),
        ("PUT /auth/logout", "GET, POST"),
        ("POST /auth/sessions", "GET, HEAD"),
        ("GET /auth/sessions/x", "DELETE"),
        ("GET /auth/password", "POST"),
        ("POST /auth/check", "GET, HEAD"),
    ] {
        let response = request(&gateway, line, &[], "");
        assert_eq!((status(&response), header(&response, "allow")), (405, Some(allow)), "{line}: {response}");
    }
    for query in ["scope=all", "scope=", "scope=local&scope=local", "scope=%zz"] {
        let response = request(&gateway, &format!("GET /auth/logout?{query}"), &[], "");
        assert_eq!((status(&response), code(&response).as_str()), (400, "bad_request"), "{query}");
    }
    for line in ["GET /auth/sessions", "DELETE /auth/sessions/x", "GET /auth/check", "POST /auth/password"] {
        let response = request(&gateway, line, &[], "");
        assert_eq!((status(&response), code(&response).as_str()), (401, "token_missing"), "{line}");
    }
    // Off unless the file says otherwise: the route, which takes all paths, gets it.
    for line in ["POST /auth/register", "POST /auth/introspect"] {
        assert!(request(&gateway, line, &[], "").ends_with("\r\n\r\nok"), "{line}");
    }
}

#[test]
fn on_loopback_start_says_that_the_cookie_is_not_secure_and_elsewhere_it_is() {
    let (gateway, _origin) = gateway("", "");
    assert!(gateway.log().contains("Refresh cookie without `Secure`"), "{}", gateway.log());
    let (gateway, _origin) = self::gateway("", "cookie = { secure = true }\n");
    assert!(!gateway.log().contains("Refresh cookie without"), "{}", gateway.log());
    let response = request(&gateway, "POST /auth/login", &[FORM], LOGIN);
    let cookie = header(&response, "set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-tollgate_refresh=")
            && cookie.contains("; Path=/; Secure; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    // A page that could keep it came by https, whatever `tokens.issuer` is.
    for (scheme, expected) in [("http", 403), ("https", 200)] {
        let origin = format!("Origin: {scheme}://{}", gateway.address);
        let response = request(&gateway, "POST /auth/login", &[FORM, &origin], LOGIN);
        assert_eq!(status(&response), expected, "{scheme}: {response}");
    }
}
