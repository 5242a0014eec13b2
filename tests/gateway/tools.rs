//! The operator's commands: `explain` agrees with the gateway that it explains, and says so in the words it is known by.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use tollgate::keyset::{Algorithm, SigningKey};
use tollgate::store;

use crate::golden::check;
use crate::support::client::{code, exchange, status};
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What differs from one request to the next, or is not told.
const NOT_COMPARED: [&str; 4] = ["x-request-id", "traceparent", "authorization", "cookie"];

/// One request, and the token that it carries.
struct Asked {
    method: &'static str,
    target: String,
    headers: Vec<String>,
    body: &'static str,
}

fn asked(method: &'static str, target: &str, headers: &[&str]) -> Asked {
    Asked { method, target: target.to_owned(), headers: headers.iter().map(ToString::to_string).collect(), body: "" }
}

impl Asked {
    fn token(mut self, token: &str) -> Self {
        self.headers.push(format!("Authorization: Bearer {token}"));
        self
    }

    fn body(mut self, body: &'static str) -> Self {
        self.headers.push(format!("Content-Length: {}", body.len()));
        self.body = body;
        self
    }

    fn chunked(mut self) -> Self {
        self.headers.push("Transfer-Encoding: chunked".to_owned());
        self.body = "4\r\nwxyz\r\n0\r\n\r\n";
        self
    }

    fn sent(&self) -> Vec<u8> {
        let headers: String = self.headers.iter().map(|header| format!("{header}\r\n")).collect();
        let Self { method, target, body, .. } = self;
        format!("{method} {target} HTTP/1.1\r\nHost: api.example.org\r\nConnection: close\r\n{headers}\r\n{body}")
            .into_bytes()
    }

    fn explained(&self, gateway: &Gateway) -> (Value, Option<i32>) {
        let mut arguments = vec!["explain", self.method, &self.target, "--json"];
        for header in
            ["Host: api.example.org", "Connection: close"].into_iter().chain(self.headers.iter().map(|h| &**h))
        {
            arguments.extend(["-H", header]);
        }
        let output = gateway.command(&arguments, "");
        let text = String::from_utf8(output.stdout).unwrap();
        let value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        (value, output.status.code())
    }
}

/// Every header as `name: value`, sorted; of some only the name.
fn comparable<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>, left_out: &[&str]) -> Vec<String> {
    let kept = headers.filter(|(name, _)| !left_out.contains(name));
    let text = |(name, value): (&str, &str)| {
        if NOT_COMPARED.contains(&name) { name.to_owned() } else { format!("{name}: {value}") }
    };
    let mut all: Vec<String> = kept.map(text).collect();
    all.sort();
    all
}

fn lines(text: &str) -> Vec<(String, &str)> {
    let head = text.split("\r\n\r\n").next().unwrap();
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim())).collect()
}

fn told(headers: &Value) -> Vec<String> {
    let pairs = headers.as_array().unwrap().iter();
    comparable(
        pairs.map(|header| (header["name"].as_str().unwrap(), header["value"].as_str().unwrap_or_default())),
        &[],
    )
}

/// Sends the request and explains it; both must come to the same.
#[track_caller]
fn agree(gateway: &Gateway, origin: &Origin, asked: &Asked) -> Value {
    let before = origin.requests().len();
    let response = exchange(gateway.address, &asked.sent());
    let forwarded = origin.requests().get(before).cloned();
    let (explained, exit) = asked.explained(gateway);
    let what = format!("{} {} {:?}\n{response}\n{explained:#}", asked.method, asked.target, asked.headers);

    let Some(request) = forwarded else {
        if status(&response) < 300 {
            assert!(explained["endpoint"].is_string() && explained["outcome"] == "allowed", "{what}");
            assert_eq!(exit, Some(0), "{what}");
            return explained;
        }
        let refusal = &explained["refusal"];
        assert_eq!((refusal["status"].as_u64(), exit), (Some(status(&response).into()), Some(1)), "{what}");
        assert_eq!(refusal["code"], code(&response), "{what}");
        let received = lines(&response);
        let received = received.iter().map(|(name, value)| (&**name, *value));
        let left_out = ["date", "content-length", "connection"];
        assert_eq!(told(&refusal["headers"]), comparable(received, &left_out), "{what}");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["request_id"] = Value::Null;
        assert_eq!(refusal["body"], body, "{what}");
        return explained;
    };
    assert_eq!((explained["outcome"].as_str(), exit), (Some("allowed"), Some(0)), "{what}");
    let told_request = &explained["forwarded"];
    let line =
        format!("{} {} HTTP/1.1", told_request["method"].as_str().unwrap(), told_request["target"].as_str().unwrap());
    assert_eq!(request.lines().next().unwrap(), line, "{what}");
    let received = lines(&request);
    let received = received.iter().map(|(name, value)| (&**name, *value));
    assert_eq!(told(&told_request["headers"]), comparable(received, &[]), "{what}\n{request}");
    explained
}

fn routes(origin: &Origin) -> String {
    let upstream =
        |name: &str, more: &str| format!("[upstreams.{name}]\nservers = [\"http://{}\"]\n{more}\n", origin.address);
    let route = |path: &str, upstream: &str, more: &str| {
        format!("[[routes]]\npath = \"{path}\"\nupstream = \"{upstream}\"\n{more}\n")
    };
    [
        upstream("plain", ""),
        upstream("passing", "token = { mode = \"pass\" }"),
        route("/public/{*rest}", "plain", "auth = \"public\"\nmethods = [\"GET\", \"POST\"]\nmax_body_bytes = 10"),
        route("/optional/{*rest}", "plain", "auth = \"optional\""),
        route("/any/{*rest}", "plain", "strip_prefix = \"/any\""),
        route("/scoped/{*rest}", "passing", "scopes = [\"read:x\", \"write:x\"]"),
        route("/one-of", "plain", "any_scope = [\"read:x\", \"read:y\"]\nany_role = [\"admin\"]"),
        route("/projects/{id}/{*rest}", "plain", "claims = { project = \"{id}\" }\nrewrite = \"/v2/{*rest}\""),
        route("/cut/{a}/{b}", "plain", "auth = \"public\"\nrewrite = \"/{a}{b}\""),
        route("/elsewhere", "plain", "auth = \"public\"\nhosts = [\"*.other.example\"]"),
    ]
    .concat()
}

#[track_caller]
fn minted(gateway: &Gateway, arguments: &[&str]) -> String {
    let output = gateway.command(&[&["token", "mint"], arguments].concat(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn explain_agrees_with_the_gateway_that_it_explains() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::start("max_header_bytes = 20000", &routes(&origin));
    let bare = minted(&gateway, &["--subject", "ada"]);
    let full = minted(
        &gateway,
        &[
            "--subject",
            "Ada é, 100%",
            "--name",
            "Ada L.",
            "--email",
            "ada@example.org",
            "--scope",
            "read:x",
            "--scope",
            "write:x",
            "--role",
            "admin",
            "--role",
            "lab-head",
            "--claim",
            "project=7",
        ],
    );
    let elsewhere = minted(&gateway, &["--subject", "ada", "--audience", "another"]);
    let early = minted(&gateway, &["--subject", "ada", "--claim", "nbf=4000000000"]);
    let many: Vec<String> = (0..400).map(|number| format!("--scope=scope-number-{number}")).collect();
    let large = minted(&gateway, &[&["--subject", "ada"], &*many.iter().map(|s| &**s).collect::<Vec<_>>()].concat());
    let (head, signature) = full.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    let of_another_key = SigningKey::generate(Algorithm::ES256).unwrap();
    let unknown = token(&of_another_key, &json!({ "iss": "http://127.0.0.1", "aud": "tollgate" }));
    let untrusted = token(&of_another_key, &json!({ "iss": "https://evil.example", "aud": "tollgate" }));

    let many_headers: Vec<String> = (0..120).map(|number| format!("X-Number-{number}: 1")).collect();
    let long_header = format!("X-Long: {}", "x".repeat(25_000));
    let evil = [
        "X-Forwarded-User: evil",
        "x_forwarded_groups: evil",
        "X-Forwarded-For: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "TE: trailers",
        "Keep-Alive: 5",
        "Via: 1.0 somebody",
        "X-Request-Id: mine",
        "Accept: a/b",
        "Cookie: a=b",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ];
    let requests = [
        asked("GET", "/public/a%20b/%7Ec?x=%2F&x=&y[]=1", &evil),
        asked("GET", "/public/", &["Connection: X-Drop", "X-Drop: 1", "X-Keep: 1", "X-Keep: 2"]),
        asked("POST", "/public/x", &[]),
        asked("POST", "/public/x", &[]).body("short"),
        asked("POST", "/public/x", &[]).body("longer than ten"),
        asked("PUT", "/public/x", &[]).body("x"),
        asked("GET", "/public/x", &["Authorization: Bearer anything"]),
        asked("GET", "/public/x", &["Authorization: Basic dTpw"]),
        asked("GET", "/public/x", &["X-Bad Name: 1"]),
        asked("GET", "/public/x", &[&long_header]),
        asked("GET", "/public/x", &["Host: second.example.org"]),
        asked("GET", "/public/x", &["Transfer-Encoding: gzip", "Content-Length: 3"]),
        asked("GET", "/optional/x", &[]),
        asked("GET", "/optional/x", &[]).token(&full),
        asked("GET", "/optional/x", &[]).token(&forged),
        asked("PUT", "/any/x/y", &[]).token(&bare).body("wxyz"),
        asked("PATCH", "/any/x/y?z", &[]).token(&full),
        asked("DELETE", "/any/", &[]).token(&full),
        asked("GET", "/any/x", &[]),
        asked("GET", "/any/x", &["Authorization: Basic dTpw"]),
        asked("GET", "/any/x", &["Authorization: Bearer"]),
        asked("GET", "/any/x", &[]).token("not.a.token"),
        asked("GET", "/any/x", &[]).token(&full).token(&full),
        asked("GET", "/any/x", &[]).token(&elsewhere),
        asked("GET", "/any/x", &[]).token(&early),
        asked("GET", "/any/x", &[]).token(&unknown),
        asked("GET", "/any/x", &[]).token(&untrusted),
        asked("GET", "/any/x", &[]).token(&large),
        asked("GET", "/scoped/x", &[]).token(&full),
        asked("GET", "/scoped/x", &[]).token(&bare),
        asked("GET", "/one-of", &[]).token(&full),
        asked("GET", "/one-of", &[]).token(&bare),
        asked("GET", "/one-of", &[]).token(&minted(&gateway, &["--subject", "ada", "--scope", "read:y"])),
        asked("GET", "/projects/7/rows/1?q", &[]).token(&full),
        asked("GET", "/projects/8/rows/1", &[]).token(&full),
        asked("GET", "/cut/a/b", &[]),
        asked("GET", "/cut/%2e/b", &[]),
        asked("GET", "/cut/x..;/b", &[]),
        asked("GET", "/public/../any/x", &[]),
        asked("GET", "/public//x", &[]),
        asked("GET", "/public/%2e%2e/x", &[]),
        asked("GET", "/public/%zz", &[]),
        asked("GET", "/elsewhere", &[]),
        asked("GET", "/nowhere", &[]),
        asked("POST", "/public/x", &[]).chunked(),
        asked("GET", "/public/x", &[]).chunked(),
        asked("POST", "/public/x", &["Content-Length: 5"]).body("short"),
        asked("POST", "/public/x", &["Content-Length: 4"]).body("short"),
        asked("POST", "/auth/login", &["Content-Length: 100000"]),
        asked("GET", &format!("/public/{}", "x".repeat(9000)), &[]),
        asked("GET", "/public/x", &many_headers.iter().map(|header| &**header).collect::<Vec<_>>()),
        asked("GET", "/public/x", &["Authorization: Bearer a", "Connection: Authorization"]),
        asked("GET", "/scoped/x", &["Authorization: basic dTpw"]),
        asked("get", "/public/x", &[]),
        asked("TRACE", "/public/x", &[]),
        asked("OPTIONS", "*", &[]),
        asked("G@T", "/public/x", &[]),
        asked("GET", "/auth/me", &[]),
        asked("GET", "/auth/me", &[]).token(&full),
        asked("POST", "/auth/me", &[]),
        asked("GET", "/auth/login", &[]),
        asked("GET", "/.well-known/jwks.json", &[]),
        asked("HEAD", "/.well-known/openid-configuration", &[]),
    ];
    let mut codes = BTreeSet::new();
    let mut allowed = 0;
    for request in &requests {
        let explained = agree(&gateway, &origin, request);
        allowed += usize::from(explained["outcome"] == "allowed");
        codes.extend(explained["refusal"]["code"].as_str().map(str::to_owned));
        let text = explained.to_string();
        for secret in [&full, &bare, &forged, &unknown] {
            assert!(!text.contains(&**secret), "the token is shown: {text}");
        }
    }
    // Who needs one of several scopes is not told to need them all.
    let refused = agree(&gateway, &origin, &asked("GET", "/one-of", &[]).token(&bare));
    let told = "The token has none of the scopes of which this route needs one: read:x read:y.";
    assert_eq!(refused["refusal"]["body"]["detail"], told);
    // The list is only worth something when it goes everywhere.
    assert!(requests.len() >= 50 && allowed >= 15, "{allowed} of {}", requests.len());
    let expected = [
        "bad_path",
        "bad_request",
        "body_too_large",
        "claim_mismatch",
        "headers_too_large",
        "method_not_allowed",
        "multiple_tokens",
        "role_missing",
        "route_not_found",
        "scope_missing",
        "token_audience",
        "token_issuer",
        "token_key_unknown",
        "token_malformed",
        "token_missing",
        "token_not_yet_valid",
        "token_signature",
        "uri_too_long",
    ];
    assert_eq!(codes, expected.map(str::to_owned).into());
}

/// An unexpired token of `key` with our own profile.
fn token(key: &SigningKey, claims: &Value) -> String {
    use base64::Engine as _;
    let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let mut all = json!({ "sub": "ada", "exp": 4_000_000_000_u64, "iat": 1, "jti": "j", "client_id": "c" });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let message =
        format!("{}.{}", part(&json!({ "alg": key.algorithm().name(), "typ": "at+jwt", "kid": "lab-1" })), part(&all));
    let signature = key.sign(message.as_bytes()).unwrap();
    format!("{message}.{signature}")
}

#[tokio::test]
async fn a_store_that_is_looked_at_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tollgate.db");
    let settings = store::StoreSettings {
        location: store::StoreLocation::Sqlite { path: path.clone() },
        users: crate::store::default_mapping(),
    };
    let missing = store::open_to_look(&settings).await.unwrap_err();
    assert!(matches!(missing, store::StoreError::Missing { .. }) && !path.exists(), "{missing}");

    let key = |kid: &str, algorithm: &str| {
        store::StoredKey::new(kid.to_owned(), algorithm, "m".into(), tollgate::time::UnixSeconds(1))
    };
    let gateway = store::open(&settings).await.unwrap();
    gateway.add_key_if_absent(&key("first", "ES256")).await.unwrap();
    let looking = store::open_to_look(&settings).await.unwrap();
    looking.add_key_if_absent(&key("second", "EdDSA")).await.unwrap_err();
    looking.remove_account("ada").await.unwrap_err();
    // What the gateway writes meanwhile is seen.
    gateway.add_key_if_absent(&key("third", "RS256")).await.unwrap();
    let kids: Vec<String> = looking.keys().await.unwrap().into_iter().map(|key| key.kid).collect();
    assert_eq!(kids, ["first", "third"]);
}

#[test]
fn what_a_trusted_proxy_says_counts_in_an_explanation_too() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::start("trusted_proxies = [\"127.0.0.0/8\"]", &routes(&origin));
    let headers = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Request-Id: from-the-proxy"];
    let explained = agree(&gateway, &origin, &asked("GET", "/public/x", &headers));
    assert_eq!(explained["request"]["client"], "203.0.113.9");
    agree(&gateway, &origin, &asked("GET", "/nowhere", &headers));
    let output = gateway.command(
        &["explain", "GET", "/public/x", "--from", "198.51.100.1", "--json", "-H", "X-Forwarded-For: 203.0.113.9"],
        "",
    );
    let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(explained["request"]["client"], "198.51.100.1", "a stranger is not believed");
}

/// A file whose keys are all in it, in a folder of its own, so that every word of an answer is known.
fn fixed_world() -> (tempfile::TempDir, SigningKey) {
    const SECRET: &str = "a secret of the test that is long enough for HS256";
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("lab.secret");
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = "[store]\nurl = \"sqlite://never-made.db\"\n[tokens]\nissuer = \"https://gate.example.org\"\n\
        [issuers.lab]\nissuer = \"https://sso.example.org/realms/lab\"\naudiences = [\"science\"]\nalgorithms = [\"HS256\"]\n\
        secret = { file = \"lab.secret\" }\n\
        [upstreams.datasets]\nservers = [\"http://127.0.0.1:9001\", \"http://127.0.0.1:9002\"]\n\
        [[routes]]\nname = \"datasets\"\npath = \"/datasets/{id}/{*rest}\"\nupstream = \"datasets\"\n\
        scopes = [\"read:datasets\"]\nclaims = { project = \"{id}\" }\nstrip_prefix = \"/datasets\"\n";
    std::fs::write(folder.path().join("tollgate.toml"), text).unwrap();
    (folder, SigningKey::from_secret(SECRET.as_bytes(), Algorithm::HS256).unwrap())
}

const AT: u64 = 1_800_000_000;

fn lab_token(key: &SigningKey, claims: &Value) -> String {
    let mut all =
        json!({ "iss": "https://sso.example.org/realms/lab", "aud": "science", "exp": AT + 300, "iat": AT - 60 });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    token(key, &all)
}

/// Standard output and what follows it on standard error, with the exit code.
fn run(folder: &tempfile::TempDir, arguments: &[&str], token: &str) -> String {
    std::fs::write(folder.path().join("token"), token).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .args(["--token-file", "token", "--config", "tollgate.toml"])
        .env("TZ", "UTC")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let errors = text(output.stderr);
    let errors = if errors.is_empty() { errors } else { format!("-- stderr\n{errors}") };
    format!("{}{errors}-- exit {}\n", text(output.stdout), output.status.code().unwrap())
}

#[test]
fn explanations_are_as_they_were() {
    let (folder, key) = fixed_world();
    let good = json!({ "scope": "read:datasets", "project": ["7", "8"] });
    let at = AT.to_string();
    let explain =
        |claims: &Value, url: &str| run(&folder, &["explain", "GET", url, "--at", &at], &lab_token(&key, claims));
    check("explain/allowed.txt", &explain(&good, "https://api.example.org/datasets/7/rows?limit=10"));
    let expired = json!({ "scope": "read:datasets", "exp": AT - 100 });
    check("explain/token_expired.txt", &explain(&expired, "https://api.example.org/datasets/7/rows"));
    let weak = json!({ "scope": "read:models", "project": "9" });
    check("explain/scope_missing.txt", &explain(&weak, "https://api.example.org/datasets/7/rows"));
    check("explain/route_not_found.txt", &explain(&good, "https://api.example.org/dataset/7/rows"));
    let ours = json!({ "iss": "https://gate.example.org", "aud": "tollgate" });
    check("explain/undecided.txt", &explain(&ours, "https://api.example.org/datasets/7/rows"));
    assert!(!folder.path().join("never-made.db").exists(), "a command that looks made a store");
}

#[test]
fn a_look_into_a_token_is_as_it_was() {
    let (folder, key) = fixed_world();
    let at = AT.to_string();
    let token = lab_token(&key, &json!({ "exp": AT - 185, "nbf": AT - 7200, "name": "Ada\u{1b}[2J\u{202e}" }));
    check("token/inspect.txt", &run(&folder, &["token", "inspect", "--at", &at], &token));
    check("token/inspect_refused.txt", &run(&folder, &["token", "inspect", "--verify", "--json", "--at", &at], &token));
    let good = lab_token(&key, &json!({}));
    check("token/inspect_verified.txt", &run(&folder, &["token", "inspect", "--verify", "--at", &at], &good));
}

#[test]
fn help_texts_of_the_tools_are_as_they_were() {
    for words in ["explain", "key", "key list", "key generate", "key export", "token", "token mint", "token inspect"] {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(words.split(' '))
            .arg("--help")
            .env_remove("TOLLGATE_CONFIG")
            .env_remove("COLUMNS")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}");
        check(&format!("help/tollgate-{}.txt", words.replace(' ', "-")), &String::from_utf8(output.stdout).unwrap());
    }
}
