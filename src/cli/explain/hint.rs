//! What an operator can do about a refusal. Unlike the answer to the client, this may name routes, issuers and claims.

use serde_json::Value;

use crate::cli::MISSING_STORE;
use crate::cli::style::printable;
use crate::gateway::refusal::Refusal;
use crate::policy::Denial;
use crate::request::path::NormalPath;
use crate::route::{NoRoute, Route, Routes};
use crate::store::StoreError;
use crate::time::UnixSeconds;
use crate::token::{TokenError, Unverified};

use super::replay::{Replay, Walk};
use super::view::list;

/// Most routes that a hint names.
const NEAREST: usize = 3;

/// From this likeness on (Jaro and Winkler's, 0 to 1) a word may be a misspelling of another.
const NEAR: f64 = 0.85;

/// What to do about a store that cannot be read.
pub(super) fn about_store(missing: &StoreError) -> Vec<String> {
    match missing {
        StoreError::Missing { .. } => vec![MISSING_STORE.to_owned()],
        StoreError::Unavailable { .. }
        | StoreError::NoAccess { .. }
        | StoreError::Refused { .. }
        | StoreError::Random
        | StoreError::KeyGone { .. }
        | StoreError::NoAccount { .. }
        | StoreError::SeveralAccounts { .. }
        | StoreError::LoginTaken { .. }
        | StoreError::Malformed(_)
        | StoreError::NotMapped { .. }
        | StoreError::BadUri { .. }
        | StoreError::BadMapping { .. }
        | StoreError::Create { .. }
        | StoreError::OlderLayout { .. }
        | StoreError::NewerLayout { .. }
        | StoreError::Sqlite(_) => vec!["`tollgate key list` asks the store for keys by itself".to_owned()],
    }
}

pub(super) fn hints(refusal: &Refusal, replay: &Replay<'_>, walk: &Walk<'_>) -> Vec<String> {
    let hint = match refusal {
        Refusal::Route(NoRoute::Path) => return nearest(replay, walk),
        Refusal::Route(NoRoute::Method { allowed }) => {
            let allowed = list(allowed.iter().map(http::Method::as_str));
            format!(
                "the route of this path serves {allowed}; add the method to its `methods`, or ask with one of these"
            )
        }
        Refusal::Denied(Denial::Anonymous) => {
            "give a token with `-` (standard input) or `--token-file FILE`".to_owned()
        }
        Refusal::Denied(Denial::Scope { needed }) => {
            let scopes: String = needed.split(' ').map(|scope| format!(" --scope {scope}")).collect();
            granting(&scopes, replay, walk)
        }
        Refusal::Denied(Denial::AnyScope { any }) => {
            granting(&format!(" --scope {}", any.split(' ').next().unwrap_or_default()), replay, walk)
        }
        Refusal::Denied(Denial::Role) => granting(" --role ROLE", replay, walk),
        Refusal::Denied(Denial::Claim { .. }) => {
            "the `claims` of the route compare a claim of the token with a part of the path".to_owned()
        }
        Refusal::Token(error) => match token(error, replay, walk) {
            Some(hint) => hint,
            None => return Vec::new(),
        },
        Refusal::Revoked(_) => "whoever it was can log in again, and begins another session".to_owned(),
        Refusal::RevocationUnknown(_) => "`revocation.max_feed_age` is the limit".to_owned(),
        Refusal::ForeignPage(_) => {
            "docs/sessions.md has the table of what counts; a page of another site needs its place in \
             `login.allowed_origins`, a script `Content-Type: application/json`"
                .to_owned()
        }
        Refusal::Path(_)
        | Refusal::Target(_)
        | Refusal::Unparsed(_)
        | Refusal::EndpointMethod { .. }
        | Refusal::Bearer(_)
        | Refusal::KeysUnavailable { .. }
        | Refusal::Body(_)
        | Refusal::Upstream(_)
        | Refusal::RouteTimeout
        | Refusal::Cookie(_)
        | Refusal::Login(_)
        | Refusal::Oauth(_)
        | Refusal::OauthUnread(_)
        | Refusal::Internal(_) => return Vec::new(),
    };
    vec![hint]
}

/// How a caller comes to a scope or role, which depends on who issued the token.
fn granting(options: &str, replay: &Replay<'_>, walk: &Walk<'_>) -> String {
    let issuer = walk.explanation.caller.as_ref().map(|caller| caller.issuer.as_str()).unwrap_or_default();
    if issuer == replay.loaded.config.tokens.issuer {
        return format!("`tollgate user grant LOGIN{options}` gives it, from the next login on");
    }
    format!("scopes and roles of this token come from its issuer, `{}`", printable(issuer))
}

fn token(error: &TokenError, replay: &Replay<'_>, walk: &Walk<'_>) -> Option<String> {
    let config = &replay.loaded.config;
    let claims = walk.claimed.as_ref().map(|claimed| &claimed.claims);
    let claim = |name: &str| claims.and_then(|claims| claims.get(name)).map_or_else(|| "none".to_owned(), shown);
    let issuer = claims.and_then(|claims| claims.get("iss")).and_then(Value::as_str);
    let trusted = config.issuers.iter().find(|trusted| trusted.settings.issuer.as_deref() == issuer);
    Some(match error {
        TokenError::Issuer => {
            let issuers = config.issuers.iter().filter_map(|trusted| trusted.settings.issuer.as_deref());
            let known = list(std::iter::once(config.tokens.issuer.as_str()).chain(issuers));
            format!("the token's `iss` is {}; trusted are {known}", claim("iss"))
        }
        TokenError::Audience => {
            let own = config.tokens.audiences();
            let accepted = trusted.map_or(own, |trusted| &trusted.settings.audiences);
            if accepted.is_empty() {
                return Some(format!("the token's `aud` is {}; tokens of this issuer have none", claim("aud")));
            }
            format!(
                "the token's `aud` is {}; one of {} is needed",
                claim("aud"),
                list(accepted.iter().map(String::as_str))
            )
        }
        TokenError::KeyUnknown => {
            let header = |name| walk.claimed.as_ref().and_then(|token: &Unverified| token.header_text(name));
            let asked = format!(
                "the token asks for the key `{}` ({})",
                printable(header("kid").unwrap_or("without a name")),
                printable(header("alg").unwrap_or("?")),
            );
            match trusted {
                Some(trusted) => format!("{asked}; see `issuers.{}.keys` and `algorithms`", trusted.settings.name),
                None if walk.known_keys.is_empty() => format!("{asked}; there is no key of our own yet"),
                None => format!("{asked}; our own are {}", walk.known_keys.join(", ")),
            }
        }
        TokenError::Expired { expired_at } => {
            format!(
                "`--at TIME` replays another moment, such as `--at {}`",
                UnixSeconds(expired_at.0.saturating_sub(1))
            )
        }
        TokenError::NotYetValid { valid_from } => {
            format!("compare the clocks of both machines; `--at {valid_from}` replays that moment")
        }
        TokenError::Type => {
            let typ = walk.claimed.as_ref().and_then(|claimed| claimed.header.get("typ"));
            let types = trusted.map_or_else(
                || "`at+jwt`".to_owned(),
                |trusted| list(trusted.settings.types.iter().map(String::as_str)),
            );
            format!("the token's `typ` is {}; accepted is {types}", typ.map_or_else(|| "none".to_owned(), shown))
        }
        TokenError::TooLong { .. } => "`tokens.max_token_bytes` is the limit".to_owned(),
        TokenError::Parts
        | TokenError::Encoding { .. }
        | TokenError::Json { .. }
        | TokenError::Algorithm
        | TokenError::AlgorithmUnsupported { .. }
        | TokenError::Critical
        | TokenError::Compressed
        | TokenError::KeyIdentifier
        | TokenError::ClaimMissing { .. }
        | TokenError::ClaimInvalid { .. } => "`tollgate token inspect` shows what is in the token".to_owned(),
        TokenError::Signature => return None,
    })
}

fn shown(value: &Value) -> String {
    format!("`{}`", printable(&value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
}

/// Routes that would serve the path for another host, or else those whose pattern begins as the path does.
fn nearest(replay: &Replay<'_>, walk: &Walk<'_>) -> Vec<String> {
    let Some(path) = walk.explanation.request.path.as_deref() else { return Vec::new() };
    let named = |route: &Route| format!("`{}` (`{}`)", route.name, route.path.as_str());
    let elsewhere: Vec<&Route> = replay.routes.all().iter().filter(|route| serves_path(route, path)).collect();
    if let [first, ..] = elsewhere.as_slice() {
        let hosts: Vec<String> = first.hosts.iter().map(ToString::to_string).collect();
        let hosts = list(hosts.iter().map(String::as_str));
        return vec![format!("{} serves this path for the host {hosts}", named(first))];
    }
    let mut near: Vec<(usize, &Route)> = replay
        .routes
        .all()
        .iter()
        .map(|route| (common_segments(route.path.as_str(), path), route))
        .filter(|(common, _)| *common > 0)
        .collect();
    near.sort_by_key(|(common, _)| std::cmp::Reverse(*common));
    let near: Vec<String> = near.into_iter().take(NEAREST).map(|(_, route)| named(route)).collect();
    if near.is_empty() {
        let all: Vec<String> = replay.routes.all().iter().take(NEAREST).map(named).collect();
        let more = if replay.routes.all().len() > NEAREST { ", …" } else { "" };
        return vec![format!("no route begins like this path; there are {}{more}", all.join(", "))];
    }
    let is_one = near.len() == 1;
    vec![format!("the nearest {} {}", if is_one { "route is" } else { "routes are" }, near.join(", "))]
}

/// Whether the route serves the path when its hosts are left out.
fn serves_path(route: &Route, path: &str) -> bool {
    let anywhere = Route { hosts: Vec::new(), methods: Vec::new(), ..route.clone() };
    let (Ok(routes), Ok(path)) = (Routes::new(vec![anywhere]), NormalPath::parse(path)) else { return false };
    routes.find(&http::Method::GET, "", &path).is_ok()
}

/// How many first segments of a path fit a pattern, or nearly do; a parameter fits any, but is worth nothing by itself.
fn common_segments(pattern: &str, path: &str) -> usize {
    let is_near = |wanted: &str, found: &str| wanted == found || strsim::jaro_winkler(wanted, found) >= NEAR;
    let pairs = pattern.split('/').zip(path.split('/')).skip(1);
    let fitting = pairs.take_while(|(wanted, found)| wanted.starts_with('{') || is_near(wanted, found));
    fitting.filter(|(wanted, _)| !wanted.starts_with('{')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_near_by_its_first_literal_segments() {
        assert_eq!(common_segments("/datasets/{id}/rows", "/datasets/7/columns"), 1);
        assert_eq!(common_segments("/datasets/{id}/rows", "/datasets/7/rows/1"), 2);
        assert_eq!(common_segments("/{*rest}", "/datasets"), 0);
        assert_eq!(common_segments("/other", "/datasets"), 0);
        assert_eq!(common_segments("/datasets/{id}", "/dataset/7"), 1);
    }
}
