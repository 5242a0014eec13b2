//! A verified caller.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::keyset::KeyId;
use crate::keyset::strict_json::reach;
use crate::time::UnixSeconds;

use super::translation::{Minted, Slot};

/// A verified caller: only [`super::Verifier::verify`] makes one. `Debug` shows who issued it and when it ends.
pub struct Identity {
    pub(super) subject: Box<str>,
    pub(super) name: Option<Box<str>>,
    pub(super) email: Option<Box<str>>,
    pub(super) roles: Box<[Box<str>]>,
    pub(super) scopes: Box<[Box<str>]>,
    pub(super) scopes_text: Box<str>,
    pub(super) issuer: Arc<str>,
    pub(super) expires_at: UnixSeconds,
    pub(super) token_id: Option<Box<str>>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) belongs_to: Option<TokenSession>,
    pub(super) session: Option<Box<str>>,
    pub(super) key_id: KeyId,
    pub(super) claims: Map<String, Value>,
    /// Made by the first request that forwards, and then the same for all that follow.
    pub(super) rendered: OnceLock<Box<[(HeaderName, HeaderValue)]>>,
    /// `expires_at` and the leeway with which it was verified.
    pub(super) accepted_until: UnixSeconds,
    /// For each upstream the token that was made for it last. Made with the first.
    pub(super) minted: OnceLock<Box<[ArcSwapOption<Minted>]>>,
}

/// The session that a token of ours belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSession {
    /// `sid`, decoded.
    pub id: [u8; 16],
    /// `iat`
    pub issued_at: UnixSeconds,
}

impl Identity {
    /// `sub`: 1 to 1024 bytes, no control characters.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// `name`, not empty, no control characters.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// `email`, not empty, no control characters.
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// Roles, each not empty and without control characters; spaces and commas may be in them.
    pub fn roles(&self) -> &[Box<str>] {
        &self.roles
    }

    /// Scopes, each not empty and without spaces and control characters.
    pub fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// The scopes as one text, joined by single spaces.
    pub fn scopes_text(&self) -> &str {
        &self.scopes_text
    }

    /// `iss`; for an issuer whose tokens name none, its name in the file.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `exp`, leeway not included.
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// From when on the token is refused: `exp` and the leeway.
    pub fn accepted_until(&self) -> UnixSeconds {
        self.accepted_until
    }

    /// `jti`. Always there in our own tokens.
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// `client_id`, or the `azp` of issuers that came before RFC 9068. Always there in our own tokens.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// The session that it belongs to. `None`: to none, as the tokens of other issuers and those of the command line.
    pub fn belongs_to(&self) -> Option<&TokenSession> {
        self.belongs_to.as_ref()
    }

    /// `sid`, if one of our own tokens has it: the session that it belongs to. Whatever another issuer says there is none of ours.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The key that verified it.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Any claim of the token; a dot reaches into an object.
    pub fn claim(&self, path: &str) -> Option<&Value> {
        reach(&self.claims, path)
    }

    /// The headers that tell an upstream who calls. `render` runs once for a verified token: whoever gets it from the cache
    /// gets the same headers. `render` must therefore depend on nothing but the identity and settings that live as long as
    /// the cache.
    pub fn headers(
        &self,
        render: impl FnOnce(&Self) -> Vec<(HeaderName, HeaderValue)>,
    ) -> &[(HeaderName, HeaderValue)] {
        self.rendered.get_or_init(|| render(self).into())
    }

    /// Where the token for an upstream is kept. Each call must name the same number of upstreams.
    pub(super) fn minted(&self, slot: Slot) -> Option<&ArcSwapOption<Minted>> {
        let slots = self.minted.get_or_init(|| (0..slot.of).map(|_| ArcSwapOption::empty()).collect());
        slots.get(slot.position)
    }

    /// About how much memory it takes, in bytes, with the headers that it will be rendered to, but without minted tokens.
    pub fn weight(&self) -> usize {
        let list = |items: &[Box<str>]| items.iter().map(|item| item.len() + size_of::<Box<str>>()).sum::<usize>();
        let optional = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        let texts = self.subject.len()
            + self.scopes_text.len()
            + list(&self.roles)
            + list(&self.scopes)
            + optional(&self.name)
            + optional(&self.email);
        // Each header value is a copy in a buffer of its own with a shared counter.
        let headers = texts + 5 * (size_of::<(HeaderName, HeaderValue)>() + 64);
        let identifiers = optional(&self.token_id) + optional(&self.client_id) + optional(&self.session);
        size_of::<Self>() + texts + identifiers + headers + object_weight(&self.claims)
    }
}

fn object_weight(members: &Map<String, Value>) -> usize {
    // An ordered map keeps hash, name and value, and an index of some words per member.
    members.iter().map(|(name, value)| 48 + name.len() + value_weight(value)).sum()
}

fn value_weight(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(items) => items.iter().map(value_weight).sum(),
        Value::Object(members) => object_weight(members),
    };
    size_of::<Value>() + inner
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("issuer", &self.issuer)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
