//! Help texts, refusals and the files that the program makes, word for word. `UPDATE_GOLDEN=1` writes them anew.

use std::path::Path;
use std::process::Command;

use crate::support::client::{connect, read_response};
use crate::support::gateway::{Gateway, public_route};

/// Files of the project that the program makes, from one list of keys and the comments of the default file.
#[test]
fn the_schema_and_the_page_of_keys_are_as_the_program_makes_them() {
    check("../../config/tollgate.schema.json", &tollgate::config::schema());
    check("../../docs/configuration.md", &tollgate::config::reference());
    let printed = Command::new(env!("CARGO_BIN_EXE_tollgate")).args(["config", "schema"]).output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), tollgate::config::schema());
}

#[track_caller]
pub(super) fn check(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{file} differs; UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn help_texts_are_as_they_were() {
    for words in [
        "",
        "run",
        "demo",
        "check",
        "config",
        "config default",
        "config schema",
        "config show",
        "healthcheck",
        "completions",
        "man",
        "user",
        "user add",
        "user list",
        "user show",
        "user password",
        "user enable",
        "user disable",
        "user grant",
        "user revoke",
        "user remove",
        "key rotate",
        "key retire",
        "session",
        "session list",
        "session revoke",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(words.split_whitespace())
            .arg("--help")
            .env_remove("TOLLGATE_CONFIG")
            .env_remove("COLUMNS")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}");
        let name = format!("help/tollgate {words}").trim_end().replace(' ', "-");
        check(&format!("{name}.txt"), &String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn refusals_are_as_they_were() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rest = public_route(&[dead], "[[routes]]\npath = \"/closed\"\nupstream = \"origin\"\nmethods = [\"GET\"]");
    let gateway = Gateway::start("", &rest);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(150));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9_000));
    let cases = [
        ("bad_path", "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("bad_request", "GET / HTTP/1.1\r\n\r\n"),
        ("headers_too_large", &many),
        ("method_not_allowed", "POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        (
            "multiple_tokens",
            "GET /closed HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a.b.c\r\nAuthorization: Bearer a.b.c\r\n\r\n",
        ),
        ("not_http", "NOT HTTP\x01\r\n\r\n"),
        (
            "not_one_chunked",
            "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        ),
        ("token_malformed", "GET /closed HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a.b.c\r\n\r\n"),
        ("token_missing", "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("two_content_types", "GET /open HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\n"),
        ("upstream_unreachable", "GET /open HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("uri_too_long", &long),
    ];
    for (name, request) in cases {
        let mut stream = connect(gateway.address);
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        let id = response.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
        let lines = response.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n");
        check(&format!("refusals/{name}.txt"), &format!("{}\n", lines.replace(&id, "REQUEST-ID")));
    }
}
