//! Tokens for upstreams: the verified caller in the words, and under the key, that one upstream understands.
//!
//! A token is made once for a caller and an upstream, and then handed out again until it is near its end.

mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value, json};

use crate::keyset::{Algorithm, KeyError, SigningKey};
use crate::time::UnixSeconds;

use super::Identity;
use template::{Facts, fill_all};

pub use template::{ClaimTemplate, Template, TemplateError, placeholder_names};

/// `[upstreams.<name>] token` of the mode `mint`.
#[derive(Debug, Clone)]
pub struct TranslationSettings {
    /// What signs.
    pub key: SigningKey,
    /// Longest life of a token. Default 1 min.
    pub lifetime: Duration,
    /// `iss`. `None`: there is none.
    pub issuer: Option<String>,
    /// `aud`. Empty (default): there is none.
    pub audience: Vec<String>,
    /// All other claims, in their order. One is the expiry.
    pub claims: Vec<(String, ClaimTemplate)>,
}

/// Makes the tokens for one upstream. `Debug` shows nothing of the key.
pub struct Translation {
    settings: TranslationSettings,
    /// The encoded header and the dot after it.
    header: String,
    /// Held by who makes a signature that takes long: others want the same one, or can wait.
    turn: tokio::sync::Mutex<()>,
}

/// Which upstream a token is for: its position among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// From 0.
    pub position: usize,
    /// How many upstreams there are.
    pub of: usize,
}

/// A token for one upstream. `Debug` hides it.
pub struct Minted {
    authorization: HeaderValue,
    /// When it was made: a clock that was set back since makes it invalid.
    from: UnixSeconds,
    renew_at: UnixSeconds,
}

/// Why there is no token for an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranslationError {
    /// A placeholder that is not optional, of which the caller has nothing.
    #[error("the caller has no `{placeholder}`, which the upstream's token needs")]
    Missing {
        /// As the file names it.
        placeholder: String,
    },
    /// A list or an object of the caller's token, in the middle of a text.
    #[error("the caller's `{placeholder}` is no text, and the upstream's token needs one")]
    NotText {
        /// As the file names it.
        placeholder: String,
    },
    /// The system gave no random bytes for `jti`.
    #[error("the system's random source failed")]
    Random,
    /// The signature could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Translation {
    /// Tokens by these settings.
    pub fn new(settings: TranslationSettings) -> Self {
        let mut header = json!({ "alg": settings.key.algorithm().name(), "typ": "JWT" });
        if !settings.key.algorithm().is_symmetric() {
            // The name of a secret would confirm a guess of it.
            header["kid"] = settings.key.kid().into();
        }
        let header = format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string()));
        Self { settings, header, turn: tokio::sync::Mutex::default() }
    }

    /// The one algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.settings.key.algorithm()
    }

    /// The key that signs.
    pub fn key(&self) -> &SigningKey {
        &self.settings.key
    }

    /// `Authorization` for the upstream at `slot`: the last one as long as it is good, or else a new one. `slot` must name the
    /// same upstreams in each call.
    ///
    /// # Errors
    /// See [`TranslationError`].
    pub fn authorization(
        &self,
        identity: &Identity,
        slot: Slot,
        now: UnixSeconds,
    ) -> Result<HeaderValue, TranslationError> {
        let kept = identity.minted(slot);
        if let Some(minted) = kept.map(ArcSwapOption::load).as_deref().and_then(Option::as_ref)
            && minted.serves(now)
        {
            return Ok(minted.authorization.clone());
        }
        let minted = self.mint(identity, now)?;
        let authorization = minted.authorization.clone();
        if let Some(kept) = kept {
            kept.store(Some(Arc::new(minted)));
        }
        Ok(authorization)
    }

    /// Whether [`Self::authorization`] would make a signature that keeps a thread for long.
    pub fn is_slow_for(&self, identity: &Identity, slot: Slot, now: UnixSeconds) -> bool {
        let is_kept =
            || identity.minted(slot).is_some_and(|kept| kept.load().as_ref().is_some_and(|minted| minted.serves(now)));
        self.algorithm().signs_slowly() && !is_kept()
    }

    /// As [`Self::authorization`], on a thread that may be kept, and one signature at a time: requests of one caller that come
    /// together wait for the same token, and a crowd of callers takes no more than one core.
    ///
    /// # Errors
    /// See [`TranslationError`].
    pub async fn prepare(
        self: Arc<Self>,
        identity: Arc<Identity>,
        slot: Slot,
        now: UnixSeconds,
    ) -> Result<(), TranslationError> {
        let _turn = self.turn.lock().await;
        if !self.is_slow_for(&identity, slot, now) {
            return Ok(());
        }
        let translation = Arc::clone(&self);
        let made = tokio::task::spawn_blocking(move || translation.authorization(&identity, slot, now).map(drop)).await;
        // A thread that ended otherwise has signed nothing.
        made.unwrap_or_else(|_| Err(TranslationError::Key(KeyError::Signing { algorithm: self.algorithm() })))
    }

    /// The claims of a token that is made now.
    ///
    /// # Errors
    /// See [`TranslationError`].
    pub fn claims(&self, identity: &Identity, now: UnixSeconds) -> Result<Map<String, Value>, TranslationError> {
        let mut token_id = [0; TOKEN_ID_BYTES];
        rand::fill(&mut token_id).map_err(|_| TranslationError::Random)?;
        let facts = Facts {
            identity,
            // A service whose clock is a little late would refuse a token from the future.
            issued_at: now.0.saturating_sub(BACKDATED.as_secs()),
            expires_at: self.expiry(identity, now).0,
            token_id: &URL_SAFE_NO_PAD.encode(token_id),
        };
        let mut claims = Map::new();
        if let Some(issuer) = &self.settings.issuer {
            claims.insert("iss".to_owned(), issuer.as_str().into());
        }
        match self.settings.audience.as_slice() {
            [] => {}
            // One audience is a plain string, which every library reads (RFC 7519 section 4.1.3).
            [one] => drop(claims.insert("aud".to_owned(), one.as_str().into())),
            several => drop(claims.insert("aud".to_owned(), several.into())),
        }
        claims.extend(fill_all(&self.settings.claims, &facts)?);
        Ok(claims)
    }

    /// Never later than the caller's own token is accepted here, so that a proof does not outlive what it was made from.
    fn expiry(&self, identity: &Identity, now: UnixSeconds) -> UnixSeconds {
        now.plus(self.settings.lifetime).min(identity.accepted_until())
    }

    fn mint(&self, identity: &Identity, now: UnixSeconds) -> Result<Minted, TranslationError> {
        let claims = self.claims(identity, now)?;
        let mut token = self.header.clone();
        URL_SAFE_NO_PAD.encode_string(Value::Object(claims).to_string(), &mut token);
        let signature = self.settings.key.sign(token.as_bytes())?;
        let value = Bytes::from(format!("Bearer {token}.{signature}"));
        let mut authorization = HeaderValue::from_maybe_shared(value).expect("base64url is a header value");
        authorization.set_sensitive(true);
        let expires_at = self.expiry(identity, now);
        // What ends with the caller's token would end no later if it were made anew.
        let is_cut = expires_at < now.plus(self.settings.lifetime);
        let margin = if is_cut { Duration::ZERO } else { margin(self.settings.lifetime) };
        let renew_at = UnixSeconds(expires_at.0.saturating_sub(margin.as_secs()));
        Ok(Minted { authorization, from: now, renew_at })
    }
}

impl Minted {
    /// Whether it is good for one more request.
    fn serves(&self, now: UnixSeconds) -> bool {
        self.from <= now && now < self.renew_at
    }
}

/// What of its life a token must have left when it is handed out: a quarter, so that an upstream whose clock goes ahead takes it
/// too, but no more than helps.
fn margin(lifetime: Duration) -> Duration {
    (lifetime / 4).clamp(Duration::from_secs(1), Duration::from_secs(30))
}

impl fmt::Debug for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Translation")
            .field("algorithm", &self.algorithm())
            .field("lifetime", &self.settings.lifetime)
            .field("issuer", &self.settings.issuer)
            .field("audience", &self.settings.audience)
            .field("claims", &self.settings.claims)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("renew_at", &self.renew_at).finish_non_exhaustive()
    }
}

/// `iat` is so much before the moment at which a token is made.
const BACKDATED: Duration = Duration::from_secs(5);

/// Random bytes of a `jti`.
const TOKEN_ID_BYTES: usize = 16;
