//! The values of a decision as findings.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use serde_json::{Value, json};

use crate::body::RequestBody;
use crate::cause::chain;
use crate::cli::style::printable;
use crate::config::Loaded;
use crate::gateway::refusal::Refusal;
use crate::issuer::Spoken;
use crate::keyset::KeySet;
use crate::policy::{self, Rule};
use crate::request::RequestId;
use crate::route::{Access, Matched};
use crate::token::{Identity, Unverified};

use super::finding::{self, Header};

/// Headers that may hold a secret of the client.
const SECRET_HEADERS: [HeaderName; 2] = [AUTHORIZATION, COOKIE];

pub(super) fn route(matched: &Matched<'_>, loaded: &Loaded) -> finding::Route {
    let route = matched.route;
    let place = loaded.route_places.get(matched.index);
    finding::Route {
        name: route.name.to_string(),
        path: route.path.as_str().to_owned(),
        file: place.map_or_else(String::new, |place| place.file.clone()),
        line: place.map_or(0, |place| place.line),
        auth: match route.access {
            Access::Public => "public",
            Access::Optional => "optional",
            Access::Required(_) => "required",
        },
        upstream: loaded.config.upstreams[route.upstream].name.to_string(),
    }
}

pub(super) fn caller(identity: &Identity, keys: &KeySet) -> finding::Caller {
    let texts = |texts: &[Box<str>]| texts.iter().map(ToString::to_string).collect();
    let key = keys.find(identity.key_id());
    finding::Caller {
        subject: identity.subject().to_owned(),
        name: identity.name().map(str::to_owned),
        email: identity.email().map(str::to_owned),
        scopes: texts(identity.scopes()),
        roles: texts(identity.roles()),
        issuer: identity.issuer().to_owned(),
        client_id: identity.client_id().map(str::to_owned),
        expires_at: identity.expires_at().to_string(),
        kid: key.and_then(|key| key.kid()).map(str::to_owned),
        algorithm: key.map(|key| key.key().algorithm().name()),
    }
}

/// What counts in a token that was refused, so that a person sees what was meant.
pub(super) fn claimed(token: &Unverified) -> Value {
    let pick = |members: &serde_json::Map<String, Value>, names: &[&str]| {
        let found = names.iter().filter_map(|name| Some(((*name).to_owned(), members.get(*name)?.clone())));
        Value::Object(found.collect())
    };
    json!({
        "header": pick(&token.header, &["alg", "typ", "kid"]),
        "claims": pick(&token.claims, &["iss", "aud", "sub", "iat", "nbf", "exp", "scope", "roles"]),
    })
}

pub(super) fn rule(rule: &Rule<'_>, identity: &Identity, matched: &Matched<'_>) -> (&'static str, String) {
    let held = |held: &[Box<str>]| list(held.iter().map(|one| &**one));
    let asked = |asked: &[String]| list(asked.iter().map(String::as_str));
    match rule {
        Rule::Scopes(scopes) => {
            ("scopes", format!("all of {}; the token has {}", asked(scopes), held(identity.scopes())))
        }
        Rule::AnyScope(scopes) => {
            ("any_scope", format!("one of {}; the token has {}", asked(scopes), held(identity.scopes())))
        }
        Rule::AnyRole(roles) => {
            ("any_role", format!("one of {}; the token has {}", asked(roles), held(identity.roles())))
        }
        Rule::Claim(rule) => {
            let (claim, wanted) = (printable(&rule.claim), printable(policy::wanted(rule, matched)));
            let found = identity
                .claim(&rule.claim)
                .map_or_else(|| "nothing".to_owned(), |value| format!("`{}`", printable(&value.to_string())));
            ("claims", format!("`{claim}` is or contains `{wanted}`; the token has {found}"))
        }
    }
}

/// "`a`, `b`", or "none".
pub(super) fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{}`", printable(word))).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

pub(super) fn body(body: &RequestBody, limit: u64) -> String {
    let length = match (body.is_end_stream(), body.size_hint().exact()) {
        (true, _) => return "the request has none".to_owned(),
        (false, Some(length)) => format!("{length} bytes are announced"),
        (false, None) => "its length is not announced".to_owned(),
    };
    let limit = if limit == 0 { "there is no limit".to_owned() } else { format!("{limit} are allowed") };
    format!("{length}, {limit}")
}

/// The headers as they would leave, a minted token among them or not. `new_id` is the request's name if the gateway made it:
/// another one each time.
pub(super) fn headers(
    headers: &HeaderMap,
    body: &RequestBody,
    new_id: Option<&RequestId>,
    is_minted: bool,
) -> Vec<Header> {
    let mut shown: Vec<Header> = headers.iter().map(|(name, value)| header(name, value, new_id)).collect();
    if is_minted {
        for header in shown.iter_mut().filter(|header| header.name == AUTHORIZATION.as_str()) {
            header.note = Some("made for this upstream");
        }
    }
    // hyper writes the length when it sends.
    if !body.is_end_stream()
        && let Some(length) = body.size_hint().exact()
    {
        shown.push(Header { name: CONTENT_LENGTH.to_string(), value: Some(length.to_string()), note: None });
    }
    shown
}

fn header(name: &HeaderName, value: &HeaderValue, new_id: Option<&RequestId>) -> Header {
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let name_text = name.to_string();
    if SECRET_HEADERS.contains(name) {
        return Header { name: name_text, value: None, note: Some("as the client sent it") };
    }
    if new_id.is_some_and(|id| text.contains(id.as_str())) {
        return Header { name: name_text, value: None, note: Some("new for each request") };
    }
    Header { name: name_text, value: Some(text), note: None }
}

pub(super) fn refusal(refusal: &Refusal, request_id: &RequestId, spoken: Option<Spoken>) -> finding::Refusal {
    let answer = refusal.answer_to(request_id, spoken);
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = [&body["detail"], &body["message"], &body["error_description"]];
    let detail = said.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned();
    if body.get("request_id").is_some() {
        body["request_id"] = Value::Null;
    }
    finding::Refusal {
        status: answer.status.as_u16(),
        code: refusal.code().name(),
        detail,
        cause: chain(refusal),
        headers: answer.headers.iter().map(|(name, value)| header(name, value, Some(request_id))).collect(),
        body,
    }
}
