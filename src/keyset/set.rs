//! All keys of one moment, and which of them may verify a token.

use aws_lc_rs::digest;
use serde_json::{Value, json};

use super::VerificationKey;
use super::algorithm::Algorithm;

/// The most keys tried for one token. More than one fits only a token without `kid`, or keys that have none.
const MAX_CANDIDATES: usize = 4;

/// Whose keys: a key is only ever looked up under the issuer that the token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IssuerKeys {
    /// Our own.
    Own,
    /// Those of the trusted issuer at this position.
    Foreign(usize),
}

/// Names one key of one issuer with one algorithm. The same key loaded again has the same id, in any process, so that a
/// verified token stays known when the key set is read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u128);

impl KeyId {
    fn new(issuer: IssuerKeys, kid: Option<&str>, key: &VerificationKey) -> Self {
        let position = match issuer {
            IssuerKeys::Own => "own".to_owned(),
            IssuerKeys::Foreign(position) => position.to_string(),
        };
        let text = json!([position, key.algorithm().name(), key.thumbprint(), kid]).to_string();
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_ref()[..16]);
        Self(u128::from_be_bytes(half))
    }
}

/// A key in its place in the set.
#[derive(Debug, Clone)]
pub struct SetKey {
    id: KeyId,
    /// `None` fits every `kid`: a PEM file or secret of another issuer does not say what that issuer calls it.
    kid: Option<Box<str>>,
    key: VerificationKey,
}

impl SetKey {
    /// Names it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What tokens call it; `None` for a key that its issuer's tokens may call anything.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Verifies with it.
    pub fn key(&self) -> &VerificationKey {
        &self.key
    }
}

/// All keys of one moment: an immutable snapshot, swapped whole.
#[derive(Debug)]
pub struct KeySet {
    own: Vec<SetKey>,
    foreign: Vec<Vec<SetKey>>,
    /// Of all keys, sorted.
    ids: Vec<KeyId>,
}

impl KeySet {
    /// `own` are our keys; `foreign` holds the keys of each trusted issuer, in the order that the verifier was given them.
    pub fn new(own: Vec<VerificationKey>, foreign: Vec<Vec<VerificationKey>>) -> Self {
        let foreign = foreign.into_iter().enumerate().map(|(position, keys)| foreign_keys(position, keys)).collect();
        Self::of(own_keys(own), foreign)
    }

    /// This set with other keys of our own.
    #[must_use]
    pub fn with_own(&self, own: Vec<VerificationKey>) -> Self {
        Self::of(own_keys(own), self.foreign.clone())
    }

    /// This set with other keys of the trusted issuer at `position`.
    #[must_use]
    pub fn with_foreign(&self, position: usize, keys: Vec<VerificationKey>) -> Self {
        let mut foreign = self.foreign.clone();
        if let Some(place) = foreign.get_mut(position) {
            *place = foreign_keys(position, keys);
        }
        Self::of(self.own.clone(), foreign)
    }

    fn of(own: Vec<SetKey>, foreign: Vec<Vec<SetKey>>) -> Self {
        let mut ids: Vec<_> = own.iter().chain(foreign.iter().flatten()).map(|key: &SetKey| key.id).collect();
        ids.sort_unstable();
        ids.dedup();
        Self { own, foreign, ids }
    }

    /// Whether both sets hold the same keys under the same names.
    pub fn has_same_keys(&self, other: &Self) -> bool {
        self.ids == other.ids
    }

    /// Our public keys as a JWK set (RFC 7517 section 5); secrets are never in it.
    pub fn jwks(&self) -> Value {
        let mut keys: Vec<Value> = Vec::new();
        for key in &self.own {
            let jwk = key.kid.as_deref().and_then(|kid| key.key.jwk(kid));
            if let Some(jwk) = jwk
                && !keys.contains(&jwk)
            {
                keys.push(jwk);
            }
        }
        json!({ "keys": keys })
    }

    /// The key of that id.
    pub fn find(&self, id: KeyId) -> Option<&SetKey> {
        self.own.iter().chain(self.foreign.iter().flatten()).find(|key| key.id == id)
    }

    /// Whether the key of that id is (still) in the set.
    pub fn contains(&self, id: KeyId) -> bool {
        // A handful of keys is the rule, and then looking at each is quickest.
        if self.ids.len() <= 8 { self.ids.contains(&id) } else { self.ids.binary_search(&id).is_ok() }
    }

    /// The keys of `issuer` that may have signed a token with this `kid` and `algorithm`, at most 4. Without a `kid` they
    /// are all of that algorithm; with one, those of that name and those without any.
    pub fn candidates(
        &self,
        issuer: IssuerKeys,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &SetKey> {
        let keys = match issuer {
            IssuerKeys::Own => self.own.as_slice(),
            IssuerKeys::Foreign(position) => self.foreign.get(position).map_or(&[][..], Vec::as_slice),
        };
        let fits = move |key: &&SetKey| {
            let named = match (kid, key.kid.as_deref()) {
                (Some(wanted), Some(name)) => wanted == name,
                (None, _) | (_, None) => true,
            };
            named && key.key.algorithm() == algorithm
        };
        // Named keys first, so that keys without a name can never push out the right one.
        let exact = keys.iter().filter(move |key| kid.is_some() && key.kid.as_deref() == kid);
        let other = keys.iter().filter(move |key| kid.is_none() || key.kid.is_none());
        exact.chain(other).filter(fits).take(MAX_CANDIDATES)
    }
}

fn own_keys(keys: Vec<VerificationKey>) -> Vec<SetKey> {
    let own = keys.into_iter().map(|key| {
        let kid = key.declared_kid().unwrap_or_else(|| key.thumbprint());
        SetKey { id: KeyId::new(IssuerKeys::Own, Some(kid), &key), kid: Some(kid.into()), key }
    });
    own.collect()
}

fn foreign_keys(position: usize, keys: Vec<VerificationKey>) -> Vec<SetKey> {
    let foreign = keys.into_iter().map(|key| {
        let kid = key.declared_kid();
        SetKey { id: KeyId::new(IssuerKeys::Foreign(position), kid, &key), kid: kid.map(Into::into), key }
    });
    foreign.collect()
}
