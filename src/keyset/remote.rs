//! Keys that another issuer publishes: where they are, and one attempt to get them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::algorithm::Algorithm;
use super::fetch::{FetchError, Fetcher};
use super::published::PublishedSet;
use super::strict_json;
use super::url::KeyUrl;

/// For all of an attempt: names, connections, TLS and bytes, the discovery document included. So long, too, waits a request whose
/// key is not known.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// An issuer's published keys: `issuers.<name>.jwks_url`, `discovery`, `discovery_url`.
#[derive(Debug, Clone)]
pub struct RemoteKeys {
    /// The exact `iss`, which a discovery document must name too. `None`: its tokens name none, and neither can a document.
    pub issuer: Option<Arc<str>>,
    /// Where they are.
    pub location: KeyLocation,
    /// What they may be used with. No HMAC.
    pub algorithms: Vec<Algorithm>,
    /// The longest time between two fetches, 1 s to 1 day. Default 5 min. A shorter `max-age` of the answer shortens it.
    pub refresh: Duration,
    /// The least time between two fetches for the sake of keys that are not known, 1 s to 1 h. Default 30 s.
    pub cooldown: Duration,
    /// How long keys serve since they were last fetched, 1 s to 365 days. Default 1 day.
    pub max_stale: Duration,
    /// What fetches them.
    pub fetcher: Fetcher,
}

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLocation {
    /// The JWK set itself.
    Set(KeyUrl),
    /// A discovery document that says where the set is (OpenID Connect Discovery 1.0, RFC 8414).
    Discovery(KeyUrl),
}

/// What an attempt brought.
#[derive(Debug)]
pub struct Fetched {
    /// At least one key.
    pub set: PublishedSet,
    /// How long the source wants it to be kept.
    pub max_age: Option<Duration>,
}

impl RemoteKeys {
    /// Fetches the keys, once and within [`FETCH_TIMEOUT`].
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(&self) -> Result<Fetched, FetchError> {
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.fetch_unbounded()).await;
        fetched.unwrap_or(Err(FetchError::TimedOut { limit: FETCH_TIMEOUT }))
    }

    /// The address that is asked first.
    pub const fn url(&self) -> &KeyUrl {
        match &self.location {
            KeyLocation::Set(url) | KeyLocation::Discovery(url) => url,
        }
    }

    async fn fetch_unbounded(&self) -> Result<Fetched, FetchError> {
        let document = match &self.location {
            KeyLocation::Set(url) => self.fetcher.get(url).await?,
            KeyLocation::Discovery(url) => {
                let metadata = self.fetcher.get(url).await?;
                let keys = self.key_url(&metadata.body, url)?;
                self.fetcher.get(&keys).await?
            }
        };
        let set = PublishedSet::read(&document.body, &self.algorithms).map_err(FetchError::Keys)?;
        if set.keys.is_empty() {
            return Err(FetchError::NoKey { left_out: set.refused.into_iter().chain(set.passed_over).collect() });
        }
        Ok(Fetched { set, max_age: document.max_age })
    }

    /// `jwks_uri` of a discovery document that is this issuer's own.
    fn key_url(&self, json: &[u8], from: &KeyUrl) -> Result<KeyUrl, FetchError> {
        let discovery = |problem: &str| FetchError::Discovery { problem: problem.to_owned() };
        let members = strict_json::parse_object(json)
            .map_err(|problem| FetchError::Discovery { problem: format!("is no JSON object: {problem}") })?;
        // RFC 8414 section 3.3: identical, or the document must not be used.
        let named = members.get("issuer").and_then(Value::as_str);
        if named.is_none() || named != self.issuer.as_deref() {
            return Err(FetchError::OtherIssuer);
        }
        let text = members.get("jwks_uri").and_then(Value::as_str).ok_or_else(|| discovery("has no `jwks_uri`"))?;
        let url = KeyUrl::parse(text).map_err(|error| FetchError::KeyUrl { error })?;
        if from.is_https() && !url.is_https() {
            return Err(FetchError::Downgrade);
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(issuer: &str) -> RemoteKeys {
        RemoteKeys {
            issuer: Some(issuer.into()),
            location: KeyLocation::Discovery(KeyUrl::discovery(issuer).unwrap()),
            algorithms: vec![Algorithm::RS256],
            refresh: Duration::from_secs(300),
            cooldown: Duration::from_secs(30),
            max_stale: Duration::from_secs(86400),
            fetcher: Fetcher::new(None).unwrap(),
        }
    }

    #[test]
    fn a_discovery_document_must_name_this_very_issuer() {
        let issuer = "https://sso.example.org/realms/lab";
        let remote = remote(issuer);
        let read = |json: &str| remote.key_url(json.as_bytes(), remote.url()).map(|url| url.to_string());
        let document = |issuer: &str, keys: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}"}}"#);
        assert_eq!(read(&document(issuer, "https://keys.example.org/a")).unwrap(), "https://keys.example.org/a");
        for other in ["https://sso.example.org/realms/lab/", "https://SSO.example.org/realms/lab", ""] {
            let refusal = read(&document(other, "https://keys.example.org/a"));
            assert!(matches!(refusal, Err(FetchError::OtherIssuer)), "{other}: {refusal:?}");
        }
        assert!(matches!(read(r#"{"jwks_uri":"https://a.example/"}"#), Err(FetchError::OtherIssuer)));
        assert!(matches!(read(&format!(r#"{{"issuer":"{issuer}"}}"#)), Err(FetchError::Discovery { .. })));
        assert!(matches!(read("[]"), Err(FetchError::Discovery { .. })));
        let twice = format!(r#"{{"issuer":"https://x.example","issuer":"{issuer}","jwks_uri":"https://a.example/"}}"#);
        assert!(matches!(read(&twice), Err(FetchError::Discovery { .. })));
        assert!(matches!(read(&document(issuer, "http://a.example/")), Err(FetchError::KeyUrl { .. })));
        assert!(matches!(read(&document(issuer, "http://127.0.0.1/")), Err(FetchError::Downgrade)));
        assert!(matches!(read(&document(issuer, "file:///etc/passwd")), Err(FetchError::KeyUrl { .. })));
    }
}
