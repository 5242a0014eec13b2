//! Who has a token of somebody: `<prefix>/revoke`, `<prefix>/introspect` and `<prefix>/check`.

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;
use secrecy::ExposeSecret;

use crate::gateway::Gateway;
use crate::gateway::record::Record;
use crate::gateway::refusal::Refusal;
use crate::issuer::{Answer, Demand, Freshness, OauthError};
use crate::policy::Denial;
use crate::token::Identity;
use crate::upstream::UpstreamError;

use super::Asked;

impl Gateway {
    /// Ends the session of a refresh token or of an access token (RFC 7009 section 2).
    pub(super) async fn revoke(
        &self,
        asked: Asked<'_>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let done = self.with_form(asked, None, incoming, record, |issuer, form, visit| {
            let token = issuer.asked_token(&form);
            let proven = token.as_ref().ok().and_then(|token| {
                let identity = self.identify_past(token.expose_secret(), visit.now()).ok()?;
                identity.session()?.parse().ok()
            });
            async move { issuer.revoke(&token?, proven, visit).await }
        });
        done.await?.map_err(|error| Refusal::Oauth(OauthError::Login(error)))
    }

    /// Says what an access token says, to callers whose own has the configured scope (RFC 7662 section 2).
    pub(super) async fn introspect(
        &self,
        asked: Asked<'_>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let caller = self.caller(asked, record).await?;
        let issuer = &self.shared.issuer;
        // Without a scope in the settings there is no such endpoint, and nobody has the empty one.
        demand_scopes(&caller, &[issuer.introspection_scope().unwrap_or_default()])?;
        let form = self.read_form(asked.headers, incoming, record).await?;
        let token = issuer.asked_token(&form)?;
        let uses = record.cache;
        let token = token.expose_secret();
        let identity = self.identify(token, record).ok().filter(|known| self.check_session(token, known).is_ok());
        // The access line tells how the caller's own token was checked.
        record.cache = uses;
        Ok(issuer.introspection(identity.as_deref()))
    }

    /// Whether a request with this token may pass, for proxies that ask before they forward (nginx `auth_request`, Traefik
    /// `forwardAuth`), and who makes it. What the proxy says of the request itself is not looked at: clients can say it too.
    pub(super) async fn check(&self, asked: Asked<'_>, record: &mut Record) -> Result<Answer, Refusal> {
        let demand = Demand::of_query(asked.query)?;
        let caller = self.caller(asked, record).await?;
        match demand.freshness {
            Freshness::Strict => self.shared.revocations.check_known(record.start)?,
            Freshness::Lenient => {}
        }
        demand_scopes(&caller, &demand.scopes.iter().map(String::as_str).collect::<Vec<_>>())?;
        if demand.role.is_some_and(|role| !caller.roles().iter().any(|known| **known == *role)) {
            return Err(Denial::Role.into());
        }
        let identity =
            self.upstreams.identity_headers(&caller).map_err(|error| UpstreamError::Identity(error.into()))?;
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(identity.iter().cloned());
        Ok(Answer { status: StatusCode::OK, headers, body: Bytes::new(), login: None })
    }
}

/// Asks that the caller has all of these scopes.
fn demand_scopes(caller: &Identity, needed: &[&str]) -> Result<(), Denial> {
    let has = |needed: &str| caller.scopes().iter().any(|scope| **scope == *needed);
    if needed.iter().all(|scope| has(scope)) { Ok(()) } else { Err(Denial::Scope { needed: needed.join(" ") }) }
}
