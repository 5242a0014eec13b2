//! A JWK set as another issuer publishes it: each key is judged by itself, so that a bad one does not take the good ones away.

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::jwk::{MAX_KEYS, Unusable, read_key};
use super::verification::VerificationKey;
use super::{KeyError, strict_json};

/// How much of a `kid` is shown; real ones have up to 90 bytes.
const SHOWN_KID_CHARACTERS: usize = 100;

/// What a published set holds for us.
#[derive(Debug)]
pub struct PublishedSet {
    /// The keys to verify with. May be empty.
    pub keys: Vec<VerificationKey>,
    /// Keys that somebody must look at: broken, weak, private, or of one name.
    pub refused: Vec<LeftOut>,
    /// Keys that are for something else (RFC 7517 section 5): another `use`, kind, curve or algorithm.
    pub passed_over: Vec<LeftOut>,
}

/// A key of a set that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its `kid`, cut and without control characters; or its place in the set.
    pub name: String,
    /// Why.
    pub error: KeyError,
}

impl PublishedSet {
    /// Reads a set. `algorithms` are those that the issuer's keys may be used with; a key that names none comes back once for each
    /// that fits its kind. A key that is there twice, in the same words, counts once; of different keys with one `kid` none is
    /// used, because nothing says which is meant.
    ///
    /// # Errors
    /// When the text is not strict JSON, not a set, or has too many keys.
    pub fn read(json: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        let document = strict_json::parse(json).map_err(|problem| KeyError::NotJson { problem })?;
        let Some(Value::Array(entries)) = document.get("keys") else { return Err(KeyError::NotJwk) };
        if entries.len() > MAX_KEYS {
            return Err(KeyError::TooManyKeys { keys: entries.len(), limit: MAX_KEYS });
        }
        let mut set = Self { keys: Vec::new(), refused: Vec::new(), passed_over: Vec::new() };
        for (position, entry) in entries.iter().enumerate() {
            if entries[..position].contains(entry) {
                continue;
            }
            let name = shown_name(entry, position);
            match read_one(entry, entries, algorithms) {
                Ok(keys) => set.keys.extend(keys),
                Err(Unusable::NotForUs(error)) => set.passed_over.push(LeftOut { name, error }),
                Err(Unusable::Broken(error)) => set.refused.push(LeftOut { name, error }),
            }
        }
        Ok(set)
    }
}

fn read_one(entry: &Value, all: &[Value], algorithms: &[Algorithm]) -> Result<Vec<VerificationKey>, Unusable> {
    let Value::Object(members) = entry else { return Err(KeyError::NotJwk.into()) };
    // Whatever else it says: who publishes a secret has none.
    if members.get("kty").and_then(Value::as_str) == Some("oct") {
        return Err(KeyError::PublishedSecret.into());
    }
    let keys = read_key(members, algorithms)?;
    let is_same_name = |other: &&Value| kid_of(other).is_some_and(|kid| Some(kid) == members.get("kid"));
    if all.iter().filter(is_same_name).any(|other| other != entry) {
        return Err(KeyError::DuplicateKid.into());
    }
    Ok(keys)
}

fn kid_of(entry: &Value) -> Option<&Value> {
    entry.as_object().and_then(|members: &Map<String, Value>| members.get("kid"))
}

/// What a log may say of a key.
fn shown_name(entry: &Value, position: usize) -> String {
    match kid_of(entry).and_then(Value::as_str) {
        Some(kid) => {
            let clean = kid.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character });
            clean.take(SHOWN_KID_CHARACTERS).collect()
        }
        None => format!("number {}, without a `kid`", position + 1),
    }
}
