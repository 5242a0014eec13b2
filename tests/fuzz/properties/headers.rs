//! No name that the gateway vouches for passes from a client to an upstream, in no spelling; nor any that frames a message.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tollgate::keyset::{Algorithm, KeySet, SigningKey, install_crypto_providers};
use tollgate::policy::Caller;
use tollgate::request::client::TrustedProxies;
use tollgate::request::{Connection, RequestId, RequestIds};
use tollgate::time::UnixSeconds;
use tollgate::token::mint::{AccessGrant, Minter};
use tollgate::token::{Identity, TokenSettings, Verifier};
use tollgate::upstream::{Credential, IdentityHeaderNames, Origin, ReservedNames, for_client, for_upstream};

use super::head::header_lines;

/// What docs/operations.md promises to remove, whatever is configured.
const NEVER_FROM_A_CLIENT: [&str; 28] = [
    "x-forwarded-user",
    "x-forwarded-preferred-username",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-scopes",
    "x-forwarded-access-token",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-server",
    "forwarded",
    "x-real-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "content-length",
    "expect",
];
const MINTED: &str = "Bearer made.for.it";
const HOP_BY_HOP: [&str; 4] = ["proxy-connection", "proxy-authenticate", "proxy-authorization", "upgrade"];

/// The first line says under which circumstances (any of `trusted`, `known`, `pass`, `mint`, `own-names`), each further one is a header. The
/// same headers are then read as an upstream's.
pub fn headers(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let circumstances = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let is = |word: &str| circumstances.split(' ').any(|one| one == word);
    let sent = header_lines(lines);
    let world = world(is("own-names"));
    let proxies = TrustedProxies(if is("trusted") { vec!["192.0.2.0/24".parse().unwrap()] } else { Vec::new() });
    let connection = Connection::new("192.0.2.1:4711".parse().unwrap(), &proxies);
    let request_id = RequestId::of(&sent, &connection, &RequestIds::new([3, 5]));
    let host = HeaderValue::from_static("api.example.org");
    let caller = if is("known") { Caller::Known(Arc::clone(&world.identity)) } else { Caller::Anonymous };
    let minted = is("known").then(|| HeaderValue::from_static(MINTED));
    let credential = match (is("mint"), is("pass")) {
        (true, _) => Credential::Replaced(minted),
        (false, true) => Credential::Passed,
        (false, false) => Credential::Stripped,
    };
    let token = if is("mint") {
        Token::Minted
    } else if is("pass") {
        Token::Passed
    } else {
        Token::Stripped
    };
    let origin = Origin { connection: &connection, host: &host, request_id: &request_id };

    let mut forwarded = sent.clone();
    for_upstream(&mut forwarded, &origin, &caller, &world.names, &world.reserved, credential).unwrap();
    let case = Case { world, sent: &sent, forwarded: &forwarded, is_known: is("known"), is_trusted: is("trusted") };
    case.check_vouched();
    case.check_the_rest(token, &request_id);

    for (is_head, status) in [(false, StatusCode::OK), (true, StatusCode::OK), (false, StatusCode::NOT_MODIFIED)] {
        let mut answered = sent.clone();
        for_client(&mut answered, is_head, status, &request_id, &world.reserved);
        check_answer(&sent, &answered, world, is_head || status == StatusCode::NOT_MODIFIED, &request_id);
    }
}

/// What becomes of `Authorization`.
#[derive(Clone, Copy, PartialEq)]
enum Token {
    Stripped,
    Passed,
    Minted,
}

/// The settings, and a caller.
struct World {
    names: IdentityHeaderNames,
    reserved: ReservedNames,
    identity: Arc<Identity>,
}

struct Case<'a> {
    world: &'a World,
    sent: &'a HeaderMap,
    forwarded: &'a HeaderMap,
    is_known: bool,
    is_trusted: bool,
}

impl World {
    /// Each identity header with the only value that it may have.
    fn vouched(&self) -> Vec<(&HeaderName, &'static str)> {
        let names = [&self.names.subject, &self.names.name, &self.names.email, &self.names.roles, &self.names.scopes];
        let values = ["u%25%C3%A9 1", "Ada L%C3%A9", "ada@example.org", "lab%2C head,b", "read write"];
        names.into_iter().zip(values).filter_map(|(name, value)| Some((name.as_ref()?, value))).collect()
    }
}

impl Case<'_> {
    /// A header whose name some server could take for one that we vouch for has our value, or is not there.
    fn check_vouched(&self) {
        for (name, value) in self.forwarded {
            let canonical = canonical(name);
            let identity = self.world.vouched().into_iter().find(|(vouched, _)| self::canonical(vouched) == canonical);
            if let Some((vouched, expected)) = identity {
                assert!(self.is_known && name == vouched && value == expected, "{name}: {value:?} of {:?}", self.sent);
                assert_eq!(self.forwarded.get_all(name).iter().count(), 1, "{name} of {:?}", self.sent);
                continue;
            }
            let ours = match canonical.as_str() {
                // A trusted proxy's list is continued, anybody else's is gone.
                "x-forwarded-for" => is_list(value, "192.0.2.1", self.is_trusted),
                "forwarded" => {
                    let own = |scheme: &str| format!("for=192.0.2.1;host=\"api.example.org\";proto={scheme}");
                    is_list(value, &own("http"), self.is_trusted)
                        || self.is_trusted && is_list(value, &own("https"), true)
                }
                "x-forwarded-proto" => value == "http" || self.is_trusted && value == "https",
                "x-forwarded-host" => {
                    value == "api.example.org" || self.is_trusted && self.sent.get(name) == Some(value)
                }
                "x-request-id" => true,
                "te" => value == "trailers",
                other => !NEVER_FROM_A_CLIENT.contains(&other) && !HOP_BY_HOP.contains(&other),
            };
            assert!(ours, "{name}: {value:?} of {:?}", self.sent);
            if NEVER_FROM_A_CLIENT.contains(&canonical.as_str()) {
                assert_eq!(name.as_str(), canonical, "a spelling of it passed: {:?}", self.sent);
                assert_eq!(self.forwarded.get_all(name).iter().count(), 1, "{name} of {:?}", self.sent);
            }
        }
        if self.is_known {
            assert!(
                self.world.names.subject.as_ref().is_none_or(|name| self.forwarded.contains_key(name)),
                "{:?}",
                self.sent
            );
        }
    }

    /// What is not ours passes untouched, but for what `Connection` names and the token.
    fn check_the_rest(&self, token: Token, request_id: &RequestId) {
        if token == Token::Minted {
            let expected: &[&str] = if self.is_known { &[MINTED] } else { &[] };
            assert_eq!(self.forwarded.get_all("authorization").iter().collect::<Vec<_>>(), expected, "{:?}", self.sent);
        }
        assert_eq!(self.forwarded.get_all("host").iter().collect::<Vec<_>>(), ["api.example.org"]);
        assert_eq!(self.forwarded.get_all("x-request-id").iter().collect::<Vec<_>>(), [request_id.header()]);
        assert_eq!(self.forwarded.get_all("traceparent").iter().count(), 1);
        assert_eq!(self.forwarded.get_all("via").iter().next_back().unwrap(), "1.1 tollgate");
        let named = named_by_connection(self.sent);
        for name in self.sent.keys() {
            let is_ours = ["host", "via", "traceparent"].contains(&name.as_str()) || is_reserved(name, self.world);
            let (before, after) = (values_of(name, self.sent), values_of(name, self.forwarded));
            if is_ours || name == "authorization" && token == Token::Minted {
                continue;
            }
            if named.contains(name.as_str()) {
                assert!(after.is_empty(), "{name} was named by `Connection` and passed: {:?}", self.sent);
            } else if name == "authorization" && token == Token::Stripped {
                let is_bearer = |value: &HeaderValue| {
                    value.as_bytes().to_ascii_lowercase().trim_ascii_start().starts_with(b"bearer")
                };
                assert!(!after.iter().any(is_bearer), "{:?}", self.sent);
                assert!(after == before || before.iter().any(is_bearer), "{:?}", self.sent);
            } else if name == "tracestate"
                && values_of("traceparent", self.sent) != values_of("traceparent", self.forwarded)
            {
                // It belongs to the `traceparent` beside it (W3C Trace Context section 3.3).
                assert!(after.is_empty(), "{name} outlived its `traceparent`: {:?}", self.sent);
            } else {
                assert_eq!(after, before, "{name} was changed: {:?}", self.sent);
            }
        }
    }
}

fn values_of(name: impl AsHeaderName, headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(name).iter().cloned().collect()
}

fn check_answer(sent: &HeaderMap, answered: &HeaderMap, world: &World, keeps_length: bool, request_id: &RequestId) {
    let named = named_by_connection(sent);
    for name in answered.keys() {
        let text = name.as_str();
        let is_framing = ["connection", "keep-alive", "te", "transfer-encoding", "expect"].contains(&text)
            || HOP_BY_HOP.contains(&text);
        assert!(!is_framing && (keeps_length || text != "content-length"), "{text} of {sent:?}");
        assert!(!world.vouched().iter().any(|(vouched, _)| *vouched == name), "{text} of {sent:?}");
        assert!(!named.contains(text) || ["x-request-id", "host"].contains(&text), "{text} of {sent:?}");
    }
    assert_eq!(answered.get_all("x-request-id").iter().collect::<Vec<_>>(), [request_id.header()]);
}

/// Whether `value` is the one element, or, where it may go on a list, ends with it.
fn is_list(value: &HeaderValue, last: &str, may_continue: bool) -> bool {
    let value = value.as_bytes();
    value == last.as_bytes() || may_continue && value.ends_with(format!(", {last}").as_bytes())
}

/// The names that `Connection` lists, by a reading of its own.
fn named_by_connection(headers: &HeaderMap) -> BTreeSet<String> {
    let values =
        headers.get_all("connection").iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    values.flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect::<Vec<_>>()).collect()
}

/// As a server may see it that puts headers into variables (RFC 3875 section 4.1.18 and its imitators).
fn canonical(name: &HeaderName) -> String {
    name.as_str().to_ascii_lowercase().replace(['_', '.'], "-")
}

fn is_reserved(name: &HeaderName, world: &World) -> bool {
    let canonical = canonical(name);
    NEVER_FROM_A_CLIENT.contains(&canonical.as_str())
        || HOP_BY_HOP.contains(&canonical.as_str())
        || world.vouched().iter().any(|(vouched, _)| self::canonical(vouched) == canonical)
}

fn world(has_own_names: bool) -> &'static World {
    static WORLDS: OnceLock<[World; 2]> = OnceLock::new();
    let [default, own] = WORLDS.get_or_init(|| {
        let name = |text: &str| Some(HeaderName::from_bytes(text.as_bytes()).unwrap());
        let default = IdentityHeaderNames {
            subject: name("X-Forwarded-User"),
            name: name("X-Forwarded-Preferred-Username"),
            email: name("X-Forwarded-Email"),
            roles: name("X-Forwarded-Groups"),
            scopes: name("X-Forwarded-Scopes"),
        };
        let own = IdentityHeaderNames {
            subject: name("X-User_Id"),
            name: None,
            email: name("Remote-Email"),
            roles: name("x.roles"),
            scopes: None,
        };
        // An identity keeps the headers that it was first rendered to, so each of the two has its own.
        [default, own].map(|names| World { reserved: ReservedNames::new(&names), names, identity: identity() })
    });
    if has_own_names { own } else { default }
}

fn identity() -> Arc<Identity> {
    install_crypto_providers();
    let settings = TokenSettings {
        issuer: "https://gateway.example.org".to_owned(),
        audience: vec!["tollgate".to_owned()],
        algorithm: Algorithm::EdDSA,
        access_ttl: Duration::from_secs(300),
        leeway: Duration::ZERO,
        max_token_bytes: 16_384,
        cache_bytes: 0,
    };
    let key = SigningKey::generate(Algorithm::EdDSA).unwrap();
    let keys = KeySet::new(vec![key.verification_key()], Vec::new());
    let grant = AccessGrant {
        subject: "u%é 1".to_owned(),
        client_id: "web".to_owned(),
        session: None,
        scopes: vec!["read".to_owned(), "write".to_owned()],
        roles: vec!["lab, head".to_owned(), "b".to_owned()],
        name: Some("Ada Lé".to_owned()),
        email: Some("ada@example.org".to_owned()),
    };
    let now = UnixSeconds(1_800_000_000);
    let token = Minter::new(&settings, key).mint(&grant, now).unwrap().token;
    Arc::new(Verifier::new(&settings, &[]).verify(&token, &keys, now).unwrap())
}
