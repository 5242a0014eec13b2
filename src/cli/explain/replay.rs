//! Takes one request through the steps of `Gateway::walk`, in its order and by its own functions, and notes how each ends.
//!
//! What is different from a gateway: the time and the client's address are given, no verified token is remembered, keys are read
//! and never made, and nothing is sent.

use std::fmt;
use std::net::SocketAddr;

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, Method};
use hyper::body::Incoming;

use crate::app::key_sources::with_published_keys;
use crate::app::keys::{self, OwnKey};
use crate::body::{BodyLimits, RequestBody};
use crate::cause::chain;
use crate::cli::session::standing;
use crate::cli::style::{Mark, key, printable};
use crate::config::Loaded;
use crate::gateway::refusal::Refusal;
use crate::gateway::{Cors, PREFLIGHT, decision};
use crate::issuer::{Endpoint, Endpoints, Spoken};
use crate::keyset::KeySet;
use crate::policy::{self, Caller, Rule};
use crate::request::cookie::cookie;
use crate::request::{Connection, RequestHead, RequestId, RequestIds};
use crate::revocation::Revoked;
use crate::route::{Access, Conflict, Matched, Routes};
use crate::server;
use crate::store::{SessionId, StoreError};
use crate::time::UnixSeconds;
use crate::token::translation::Slot;
use crate::token::{Check as TokenCheck, Identity, TokenError, Unverified, Verifier};
use crate::upstream::{
    IdentityFault, Origin, ReservedNames, TokenForwarding, UpstreamError, announce_body, for_upstream,
};

use super::finding::{self, Check, Explanation, Forwarded, Outcome};
use super::{hint, view};

/// A gateway's decisions without the gateway.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) routes: Routes,
    pub(super) verifier: Verifier,
    endpoints: Endpoints,
    cors: Cors,
    now: UnixSeconds,
    peer: SocketAddr,
    /// Whether issuers may be asked for their keys.
    fetch_keys: bool,
}

/// Where a request is on its walk.
pub(super) struct Walk<'a> {
    pub(super) explanation: &'a mut Explanation,
    step: &'static str,
    /// Parts of the step that have been checked.
    parts: Vec<Check>,
    request_id: RequestId,
    /// What the token says, when there is one that can be read.
    pub(super) claimed: Option<Unverified>,
    pub(super) known_keys: Vec<String>,
    /// In whose words the answer is, when an alias was asked.
    spoken: Option<Spoken>,
}

/// Why a walk ended early.
enum Stop {
    Refused(Box<Refusal>),
    Undecided(Missing),
}

/// Keys that cannot be had without a gateway.
enum Missing {
    /// Our own.
    Own(StoreError),
    /// Those that an issuer publishes; a sentence about it.
    Published(String),
}

fn refused<E>(error: E) -> Stop
where
    Refusal: From<E>,
{
    Stop::Refused(Box::new(error.into()))
}

impl<'a> Replay<'a> {
    /// Decisions at `now` about what comes from `peer`.
    ///
    /// # Errors
    /// Routes of equal right, which a file that was loaded has none of.
    pub(super) fn new(
        loaded: &'a Loaded,
        now: UnixSeconds,
        peer: SocketAddr,
        fetch_keys: bool,
    ) -> Result<Self, Vec<Conflict>> {
        let config = &loaded.config;
        Ok(Self {
            loaded,
            routes: Routes::new(config.routes.clone())?,
            verifier: Verifier::new(&config.tokens, &config.issuers),
            endpoints: Endpoints::new(&config.login, &config.tokens),
            cors: Cors::new(&config.cors),
            now,
            peer,
            fetch_keys,
        })
    }

    /// Decides about the request that `bytes` are the head of.
    pub(super) async fn run(&self, bytes: &[u8], explanation: &mut Explanation) {
        let request_id = RequestIds::new([0, 0]).next();
        let (parts, claimed, known_keys) = (Vec::new(), None, Vec::new());
        let mut walk = Walk { explanation, step: "request", parts, request_id, claimed, known_keys, spoken: None };
        let stop = match self.walk(bytes, &mut walk).await {
            Ok(()) => return,
            Err(stop) => stop,
        };
        let (mark, says) = match &stop {
            Stop::Refused(refusal) => (Mark::Refused, chain(&**refusal)),
            Stop::Undecided(missing) => (Mark::Unknown, missing.to_string()),
        };
        let parts = std::mem::take(&mut walk.parts);
        walk.explanation.checks.push(Check { parts, ..Check::new(walk.step, mark, says) });
        match stop {
            Stop::Refused(refusal) => {
                walk.explanation.outcome = Outcome::Refused;
                walk.explanation.refusal = Some(view::refusal(&refusal, &walk.request_id, walk.spoken));
                walk.explanation.hints = hint::hints(&refusal, self, &walk);
            }
            Stop::Undecided(missing) => {
                walk.explanation.outcome = Outcome::Undecided;
                walk.explanation.undecided = Some(missing.to_string());
                walk.explanation.hints = match &missing {
                    Missing::Own(error) => hint::about_store(error),
                    Missing::Published(_) => Vec::new(),
                };
            }
        }
    }

    /// `Gateway::walk`, step by step.
    async fn walk(&self, bytes: &[u8], walk: &mut Walk<'_>) -> Result<(), Stop> {
        let config = &self.loaded.config;
        let request = server::read_request(bytes, &config.server).await.map_err(Refusal::Unparsed).map_err(refused)?;
        let (Parts { method, uri, mut headers, .. }, incoming) = request.into_parts();
        let connection = Connection::new(self.peer, &config.server.trusted_proxies);
        let client = connection.client_address(&headers, &config.server.trusted_proxies);
        walk.explanation.request.client = client.to_string();
        let request_id = RequestId::of(&headers, &connection, &RequestIds::new([0, 0]));
        let is_new_id = request_id == walk.request_id;
        walk.request_id = request_id.clone();

        let head = RequestHead::read(&method, &uri, &headers).map_err(refused)?;
        walk.explanation.request.host = Some(head.host.name().to_owned());
        walk.explanation.request.path = Some(head.path.decoded().to_owned());
        let (host, path) = (printable(head.host.name()), printable(head.path.decoded()));
        walk.explanation.pass("request", format!("host `{host}`, path `{path}`"));
        if let Some(says) = self.origin(&headers) {
            walk.explanation.pass("origin", says);
        }
        if self.cors.is_preflight(&method, &headers) {
            walk.explanation.endpoint = Some(PREFLIGHT);
            walk.explanation.pass("route", "a preflight of an allowed site, which is answered for every path");
            return Ok(());
        }

        walk.step = "route";
        if let Some(endpoint) = self.endpoints.find(head.path.decoded()) {
            walk.spoken = self.endpoints.spoken(head.path.decoded());
            return self.answer(endpoint, &method, &headers, incoming, &connection, walk).await;
        }
        let matched = self.routes.find(&method, head.host.name(), &head.path).map_err(refused)?;
        let route = matched.route;
        let found = view::route(&matched, self.loaded);
        let place = format!("line {} of `{}`", found.line, found.file);
        walk.explanation.pass("route", format!("`{}`: `{}`, {place}", found.name, found.path));
        walk.explanation.route = Some(found);

        let caller = self.authenticate(&route.access, &headers, walk).await?;
        if decision::must_know_sessions(route, &caller) {
            let says = "a strict route, served while the gateway has word of ended sessions; that is not replayed";
            walk.explanation.checks.push(Check::new("revocation", Mark::Unknown, says));
        }

        walk.step = "policy";
        walk.parts = rules(&route.access, &caller, &matched);
        let permit = policy::permit(caller, matched).map_err(refused)?;
        let says = match &route.access {
            Access::Public => "a public route: everybody may",
            Access::Optional => "a token is optional: everybody may",
            Access::Required(_) if walk.parts.is_empty() => "any caller with a good token may",
            Access::Required(_) => "the caller meets every rule",
        };
        let parts = std::mem::take(&mut walk.parts);
        walk.explanation.checks.push(Check { parts, ..Check::ok("policy", says) });

        walk.step = "rewrite";
        let target = decision::forwarded_target(&route.rewrite, &head.path, &uri).map_err(refused)?;
        let says = if target.path() == uri.path() {
            "the path stays as it was sent".to_owned()
        } else {
            format!("the path becomes `{}`", printable(target.path()))
        };
        walk.explanation.pass("rewrite", says);

        walk.step = "body";
        let limits = BodyLimits { bytes: route.max_body_bytes, pace: config.server.body_pace() };
        let (body, _) = RequestBody::new(incoming, limits, connection.open_bodies()).map_err(refused)?;
        walk.explanation.pass("body", view::body(&body, limits.bytes));

        walk.step = "headers";
        let upstream = &config.upstreams[permit.route().upstream];
        let origin = Origin { connection: &connection, host: &head.host.header, request_id: &request_id };
        let names = &config.identity_headers;
        let reserved = ReservedNames::new(names).with_cookie(&config.login.cookie.wire_name());
        let slot = Slot { position: permit.route().upstream, of: config.upstreams.len() };
        let unfit = |fault: IdentityFault| refused(UpstreamError::Identity(fault));
        let credential =
            upstream.token.credential(permit.caller(), slot, self.now).map_err(|error| unfit(error.into()))?;
        let minted = match (&upstream.token, permit.caller()) {
            (TokenForwarding::Mint(translation), Caller::Known(identity)) => {
                let claims = translation.claims(identity, self.now).map_err(|error| unfit(error.into()))?;
                Some(finding::Minted { algorithm: translation.algorithm().name(), claims })
            }
            (TokenForwarding::Mint(_) | TokenForwarding::Strip | TokenForwarding::Pass, _) => None,
        };
        for_upstream(&mut headers, &origin, permit.caller(), names, &reserved, credential)
            .map_err(|error| unfit(error.into()))?;
        announce_body(&mut headers, &method, &body);
        walk.explanation.pass("headers", "cleaned, and the gateway's own set");
        let forwarded = Forwarded {
            upstream: upstream.name.to_string(),
            servers: upstream.servers.iter().map(|server| format!("http://{server}")).collect(),
            method: method.to_string(),
            target: target.to_string(),
            headers: view::headers(&headers, &body, is_new_id.then_some(&request_id), minted.is_some()),
            minted,
        };
        walk.explanation.forwarded = Some(forwarded);
        Ok(())
    }

    /// What the answer is to the page that asked, if it was one of another site.
    fn origin(&self, headers: &HeaderMap) -> Option<String> {
        let sent = printable(&String::from_utf8_lossy(headers.get(ORIGIN)?.as_bytes()));
        Some(if self.cors.allowed().is_empty() {
            format!("no `login.allowed_origins`: only the upstream can let pages of `{sent}` read its answer")
        } else if self.cors.allowed().of(headers).is_some() {
            format!("pages of `{sent}` can read the answer, as `login.allowed_origins` says")
        } else {
            format!("`{sent}` is not in `login.allowed_origins`: its pages cannot read an answer of the gateway's own")
        })
    }

    /// `Gateway::answer`, up to where a form would be read.
    async fn answer(
        &self,
        endpoint: Endpoint,
        method: &Method,
        headers: &HeaderMap,
        incoming: Incoming,
        connection: &Connection,
        walk: &mut Walk<'_>,
    ) -> Result<(), Stop> {
        let refused = |refusal| refused(decision::in_the_words_of(endpoint, refusal));
        walk.explanation.endpoint = Some(endpoint.name());
        decision::endpoint_takes(endpoint, method).map_err(refused)?;
        let alias = walk.spoken.map(|spoken| format!(", found by an alias; profile `{}`", spoken.dialect.name()));
        let alias = alias.unwrap_or_default();
        walk.explanation.pass("route", format!("`{}`, an endpoint of the gateway itself{alias}", endpoint.name()));
        if endpoint.acts_on_cookie() {
            walk.step = "page";
            let config = &self.loaded.config;
            let found = cookie(headers, &config.login.cookie.wire_name());
            let cookies = decision::cookies(endpoint, found).map_err(|error| refused(error.into()))?;
            let own_scheme = config.login.own_scheme(&config.tokens.issuer);
            let allowed = &config.cors.allowed_origins;
            decision::page_may_act(endpoint, headers, cookies.have_come(), own_scheme, allowed)
                .map_err(|error| refused(error.into()))?;
            walk.explanation.pass("page", "it is no page of another site that asks");
        }
        if endpoint.takes_form() {
            walk.step = "body";
            let limits = decision::form_limits(self.loaded.config.server.body_pace());
            let (body, _) =
                RequestBody::new(incoming, limits, connection.open_bodies()).map_err(|fault| refused(fault.into()))?;
            let body = view::body(&body, limits.bytes);
            walk.explanation.pass("body", format!("{body}; what is in it, and the login, are not replayed"));
        }
        let access = decision::endpoint_access(endpoint);
        let caller = self.authenticate(&access, headers, walk).await?;
        if access != Access::Public {
            walk.step = "policy";
            decision::known(caller).map_err(|denial| refused(denial.into()))?;
            walk.explanation.pass("policy", "the caller is known");
        }
        Ok(())
    }

    /// `Gateway::authenticate`, with the keys that can be had without a gateway.
    async fn authenticate(&self, access: &Access, headers: &HeaderMap, walk: &mut Walk<'_>) -> Result<Caller, Stop> {
        walk.step = "authentication";
        let Some(token) = decision::presented(access, headers).map_err(refused)? else {
            walk.explanation.pass(
                "authentication",
                match access {
                    Access::Public => "no token is read here",
                    Access::Optional => "no token was sent, and none is needed",
                    Access::Required(_) => "no token was sent",
                },
            );
            return Ok(Caller::Anonymous);
        };
        let config = &self.loaded.config;
        walk.claimed = Unverified::read(token).ok();
        let own = keys::existing(config).await;
        let on_hand: &[OwnKey] = own.as_deref().unwrap_or_default();
        walk.known_keys =
            on_hand.iter().map(|key| format!("`{}` ({})", printable(&key.kid), printable(&key.algorithm))).collect();
        let mut keys = keys::key_set(on_hand, &config.issuers);
        let mut passed = 0;
        let mut verified = self.verifier.verify_noting(token, &keys, self.now, |check| passed = check.number());
        if let Err(error) = &verified {
            let (issuers, is_online) = (&config.issuers, self.fetch_keys);
            match with_published_keys(error, token, &self.verifier, &keys, issuers, is_online).await {
                None => {}
                Some(Ok(newer)) => {
                    keys = newer;
                    verified = self.verifier.verify_noting(token, &keys, self.now, |check| passed = check.number());
                }
                Some(Err(says)) => {
                    walk.parts = token_checks(passed, verified.as_ref().err());
                    walk.explanation.claimed = walk.claimed.as_ref().map(view::claimed);
                    leave_open(walk);
                    return Err(Stop::Undecided(Missing::Published(says)));
                }
            }
        }
        walk.parts = token_checks(passed, verified.as_ref().err());
        match verified {
            Ok(identity) => {
                let caller = accept(identity, &keys, walk);
                self.check_session(&caller, walk).await?;
                Ok(caller)
            }
            Err(error) => {
                walk.explanation.claimed = walk.claimed.as_ref().map(view::claimed);
                Err(self.unless_undecided(error, own.err(), walk))
            }
        }
    }

    /// `Gateway::identify`, by the store instead of what a gateway remembers of it.
    async fn check_session(&self, caller: &Caller, walk: &mut Walk<'_>) -> Result<(), Stop> {
        let Caller::Known(identity) = caller else { return Ok(()) };
        let Some(of) = identity.belongs_to() else { return Ok(()) };
        walk.step = "session";
        let (mark, says) = standing(&self.loaded.config, SessionId(of.id), self.now).await;
        let check = Check::new("session", mark, says);
        if mark == Mark::Refused {
            walk.parts = vec![check];
            return Err(refused(Revoked::Ended));
        }
        walk.explanation.checks.push(check);
        Ok(())
    }

    /// A token of our own that no key fits is only refused when all of our keys were there.
    fn unless_undecided(&self, error: TokenError, keys_missing: Option<StoreError>, walk: &mut Walk<'_>) -> Stop {
        let issuer = walk.claimed.as_ref().and_then(|claimed| claimed.claims.get("iss"));
        let is_ours = issuer.is_some_and(|issuer| *issuer == *self.loaded.config.tokens.issuer);
        match keys_missing {
            Some(missing) if is_ours && error == TokenError::KeyUnknown => {
                leave_open(walk);
                Stop::Undecided(Missing::Own(missing))
            }
            Some(_) | None => refused(error),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(error) => {
                write!(f, "our own keys are in the store, which cannot be read: {}", chain(error))
            }
            Self::Published(says) => f.write_str(says),
        }
    }
}

/// Nothing is known of the checks that did not hold.
fn leave_open(walk: &mut Walk<'_>) {
    for part in walk.parts.iter_mut().filter(|part| part.outcome != Mark::Ok) {
        part.outcome = Mark::Unknown;
        part.says = TokenCheck::ALL
            .into_iter()
            .find(|check| part.name == part_name(*check))
            .map_or_else(String::new, |check| check.sentence().to_owned());
    }
}

fn accept(identity: Identity, keys: &KeySet, walk: &mut Walk<'_>) -> Caller {
    let caller = view::caller(&identity, keys);
    let (key, issuer) = (key(caller.kid.as_deref(), caller.algorithm), printable(&caller.issuer));
    let says = format!("a token of `{issuer}`, verified with {key}");
    let parts = std::mem::take(&mut walk.parts);
    walk.explanation.checks.push(Check { parts, ..Check::ok("authentication", says) });
    walk.explanation.caller = Some(caller);
    Caller::Known(identity.into())
}

fn part_name(check: TokenCheck) -> String {
    format!("{} {}", check.number(), check.name())
}

/// The numbered checks of a token, of which the first `passed` held.
fn token_checks(passed: usize, error: Option<&TokenError>) -> Vec<Check> {
    let check = |check: TokenCheck| match error {
        Some(error) if check.number() == passed + 1 => Check::new(part_name(check), Mark::Refused, error.to_string()),
        Some(_) if check.number() > passed => Check::new(part_name(check), Mark::NotReached, check.sentence()),
        Some(_) | None => Check::ok(part_name(check), check.sentence()),
    };
    TokenCheck::ALL.into_iter().map(check).collect()
}

/// Every rule of the route with its outcome; the gateway stops at the first that does not hold.
fn rules(access: &Access, caller: &Caller, matched: &Matched<'_>) -> Vec<Check> {
    let (Access::Required(rules), Caller::Known(identity)) = (access, caller) else { return Vec::new() };
    let check = |rule: Rule<'_>| {
        let mark = if rule.holds(identity, matched) { Mark::Ok } else { Mark::Refused };
        let (name, says) = view::rule(&rule, identity, matched);
        Check::new(name, mark, says)
    };
    Rule::all(rules).map(check).collect()
}

impl Explanation {
    /// Before anything is known.
    pub(super) fn new(method: &str, url: &str, now: UnixSeconds, peer: SocketAddr) -> Self {
        Self {
            outcome: Outcome::Allowed,
            request: finding::Request {
                method: method.to_owned(),
                url: url.to_owned(),
                host: None,
                path: None,
                client: peer.ip().to_string(),
                at: now.to_string(),
            },
            checks: Vec::new(),
            endpoint: None,
            route: None,
            caller: None,
            claimed: None,
            forwarded: None,
            refusal: None,
            undecided: None,
            hints: Vec::new(),
        }
    }
}
