//! A configuration that loads can be built, and what `config show` prints of it loads again as the same settings.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, COOKIE, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate::audit;
use tollgate::config::{self, Config, Loaded};
use tollgate::gateway::Cors;
use tollgate::gateway::code::Code;
use tollgate::issuer::{Endpoint, Endpoints};
use tollgate::keyset::{Algorithm, KeySet, KeySource, OwnKeys, SigningKey, install_crypto_providers};
use tollgate::metrics::{Labels, Metrics};
use tollgate::request::cookie::cookie;
use tollgate::request::path::NormalPath;
use tollgate::request::{Connection, RequestId, RequestIds};
use tollgate::revocation::Revocations;
use tollgate::route::Routes;
use tollgate::time::UnixSeconds;
use tollgate::token::Verifier;
use tollgate::token::mint::{AccessGrant, Minter};
use tollgate::token::translation::{Slot, TranslationError};
use tollgate::upstream::{ReservedNames, Servers, TokenForwarding};

/// Longer ones only cost time.
const MOST_BYTES: usize = 8192;

/// The text of a file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A device is read when a file names it, and some devices never end or wait for somebody to type.
    // What other files say depends on where the test runs.
    if text.len() > MOST_BYTES || ["/dev", "/proc", "include"].iter().any(|word| text.contains(word)) {
        return;
    }
    install_crypto_providers();
    match config::from_text("fuzz.toml", text) {
        Ok(loaded) => {
            check_settings(&loaded, text);
            check_shown(&loaded, text);
            build(&loaded, text);
        }
        Err(problems) => {
            let shown = problems.to_string();
            assert!(!shown.is_empty() && problems.iter().count() > 0, "refused without a reason: {text:?}");
            let lines = text.lines().count().max(1) + 1;
            assert!(
                problems.iter().filter_map(|problem| problem.line()).all(|line| (1..=lines).contains(&line)),
                "{shown}"
            );
            assert!(!shown.contains(['\u{1b}', '\0', '\r']), "{shown:?}");
        }
    }
}

/// What docs/operations.md and the commented file promise about values.
fn check_settings(loaded: &Loaded, text: &str) {
    let config = &loaded.config;
    assert!(!config.server.listen.is_empty(), "{text:?}");
    assert!(
        config.tokens.leeway.as_secs() <= 60 && (30..=86_400).contains(&config.tokens.access_ttl.as_secs()),
        "{text:?}"
    );
    assert!((1024..=1024 * 1024).contains(&config.tokens.max_token_bytes), "{text:?}");
    assert!(!config.tokens.issuer.is_empty(), "{text:?}");
    for upstream in &config.upstreams {
        assert!(!upstream.servers.is_empty(), "{text:?}");
    }
    for route in &config.routes {
        assert!(route.upstream < config.upstreams.len(), "{text:?}");
    }
    for issuer in &config.issuers {
        assert!(!issuer.keys.is_empty() || issuer.remote.is_some(), "{text:?}");
        assert_ne!(
            issuer.settings.issuer.as_ref(),
            Some(&config.tokens.issuer),
            "an issuer with our own name: {text:?}"
        );
        let is_secret = |algorithm: Algorithm| algorithm.is_symmetric();
        assert!(
            issuer.keys.iter().all(|key| is_secret(key.algorithm()) == is_secret(issuer.keys[0].algorithm())),
            "secrets beside public keys: {text:?}"
        );
    }
}

fn check_shown(loaded: &Loaded, text: &str) {
    let shown = loaded.effective_toml();
    // What is secret is not shown, so it cannot come back.
    if shown.contains("[redacted]") {
        return;
    }
    let again = config::from_text("fuzz.toml", &shown)
        .unwrap_or_else(|problems| panic!("{problems}\nof\n{shown}\nof {text:?}"));
    assert_eq!(again.effective, loaded.effective, "{text:?}");
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config), "{text:?}");
    let json: serde_json::Value = serde_json::from_str(&loaded.effective_json()).unwrap();
    assert_eq!(json, loaded.effective);
}

/// Every part that is made of the settings without a socket, a thread or a store, in the order of the start.
fn build(loaded: &Loaded, text: &str) {
    let config = &loaded.config;
    let routes = Routes::new(config.routes.clone()).unwrap_or_else(|conflicts| panic!("{conflicts:?} of {text:?}"));
    let verifier = Verifier::new(&config.tokens, &config.issuers);
    let reserved = ReservedNames::new(&config.identity_headers).with_cookie(&config.login.cookie.wire_name());
    for upstream in &config.upstreams {
        let servers = Servers::new(upstream.servers.len(), upstream.balance);
        assert!(format!("{servers:?}").len() > 1);
    }
    let names = &config.identity_headers;
    for name in [&names.subject, &names.name, &names.email, &names.roles, &names.scopes].into_iter().flatten() {
        assert!(reserved.contains(name), "{name} passes from clients: {text:?}");
    }
    assert!(reserved.contains(&HeaderName::from_static("x-forwarded-user")), "{text:?}");

    // Of a new key only one algorithm is quick to make; the settings decide about the rest of the token.
    let signing = match &config.own_keys {
        OwnKeys::Configured { signing, .. } => signing.clone(),
        OwnKeys::Stored => SigningKey::generate(Algorithm::EdDSA).unwrap(),
    };
    let keys = KeySet::new(
        vec![signing.verification_key()],
        config.issuers.iter().map(|issuer| issuer.keys.clone()).collect(),
    );
    let grant = AccessGrant {
        subject: "ada".to_owned(),
        client_id: config.login.client_id.clone(),
        session: None,
        scopes: Vec::new(),
        roles: Vec::new(),
        name: None,
        email: None,
    };
    let now = UnixSeconds(1_800_000_000);
    let minted = Minter::new(&config.tokens, signing).mint(&grant, now);
    let minted = minted.unwrap_or_else(|error| panic!("no login could ever succeed: {error}: {text:?}"));
    let identity = verifier.verify(&minted.token, &keys, now);
    let identity = identity.unwrap_or_else(|error| panic!("our own token is refused: {error}: {text:?}"));
    assert_eq!((identity.subject(), identity.issuer()), ("ada", config.tokens.issuer.as_str()), "{text:?}");

    build_endpoints(config, text);
    build_cors(config, text);
    build_cookie(config, text);
    for (position, upstream) in config.upstreams.iter().enumerate() {
        let TokenForwarding::Mint(translation) = &upstream.token else { continue };
        let slot = Slot { position, of: config.upstreams.len() };
        match translation.authorization(&identity, slot, now) {
            Ok(header) => assert!(header.as_bytes().starts_with(b"Bearer "), "{text:?}"),
            // What the caller lacks is the caller's.
            Err(TranslationError::Missing { .. } | TranslationError::NotText { .. }) => {}
            Err(error) => panic!("no token for `{}`: {error}: {text:?}", upstream.name),
        }
    }
    for (issuer, remote) in config.issuers.iter().filter_map(|issuer| Some((issuer, issuer.remote.clone()?))) {
        let source = KeySource::new(Arc::clone(&issuer.settings.name), remote);
        assert!(!source.has_keys(), "{text:?}");
    }
    let labels = Labels {
        routes: routes.all().iter().map(|route| Arc::clone(&route.name)).collect(),
        upstreams: Vec::new(),
        refusals: &Code::NAMES,
        key_sources: Vec::new(),
        audit_events: &audit::Event::ALL,
    };
    let revocations = Revocations::new(&config.revocation, Arc::new(Metrics::new(labels, 1)));
    assert_eq!(revocations.enter(&[([1; 16], now)], now), [[1; 16]], "an end was forgotten at once: {text:?}");
    assert!(revocations.check(&[1; 16], now).is_err(), "{text:?}");

    let peer: IpAddr = "192.0.2.1".parse().unwrap();
    let connection = Connection::new((peer, 1).into(), &config.server.trusted_proxies);
    let mut headers = HeaderMap::new();
    headers.insert("x-request-id", HeaderValue::from_static("told"));
    assert!(!RequestId::of(&headers, &connection, &RequestIds::new([1, 2])).as_str().is_empty());
    for path in ["/", "/a", "/a/b/c", "/auth/login"] {
        let path = NormalPath::parse(path).unwrap();
        if let Ok(matched) = routes.find(&http::Method::GET, "api.example.org", &path) {
            let rewritten = matched.route.rewrite.apply(&path);
            assert!(rewritten.is_ok_and(|path| NormalPath::parse(&path).is_ok()), "{text:?}");
        }
    }
}

/// Each of our own paths is found, and is one that a request can have.
fn build_endpoints(config: &Config, text: &str) {
    let endpoints = Endpoints::new(&config.login, &config.tokens);
    let login = format!("{}/login", config.login.prefix);
    assert_eq!(endpoints.find(&login), Some(Endpoint::Login), "{text:?}");
    let aliases = config.login.aliases.iter();
    let found = aliases.clone().map(|alias| endpoints.find(&alias.path));
    assert!(found.eq(aliases.clone().map(|alias| Some(alias.endpoint()))), "{text:?}");
    for path in aliases.map(|alias| alias.path.as_str()).chain([login.as_str()]) {
        assert!(NormalPath::parse(path).is_ok_and(|normal| normal.as_str() == path), "{path} of {text:?}");
    }
}

/// A page of an allowed site may ask, and one of another may not.
fn build_cors(config: &Config, text: &str) {
    let cors = Cors::new(&config.cors);
    let is_answered = |origin: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        cors.is_preflight(&http::Method::OPTIONS, &headers)
    };
    for origin in cors.allowed().iter() {
        assert!(is_answered(origin.as_str()), "{} of {text:?}", origin.as_str());
    }
    for origin in ["null", "*", "https://nobody.allows.example"] {
        assert_eq!(is_answered(origin), cors.allowed().find(origin.as_bytes()).is_some(), "{origin} of {text:?}");
    }
    assert!(!is_answered("null") && !is_answered("*"), "{text:?}");
}

/// The cookie that we would set is the one that we would read.
fn build_cookie(config: &Config, text: &str) {
    let name = config.login.cookie.wire_name();
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(&format!("a=1; {name}=x; b=2")).unwrap());
    if name != "a" && name != "b" {
        assert_eq!(cookie(&headers, &name), Ok(Some(&b"x"[..])), "{name} of {text:?}");
    }
}
