//! A JWK set as another issuer publishes it: each key is judged by itself, so that a bad one does not take the good ones away.

use serde_json::Value;

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
        let mut judged = Vec::new();
        for (position, entry) in entries.iter().enumerate() {
            if !entries[..position].contains(entry) {
                judged.push((entry, shown_name(entry, position), read_one(entry, algorithms)));
            }
        }
        // What is for something else does not make a name ambiguous: some issuers call their encryption key as their signing key.
        let named: Vec<&Value> = judged
            .iter()
            .filter(|(_, _, judgement)| !matches!(judgement, Err(Unusable::NotForUs(_))))
            .filter_map(|(entry, _, _)| entry.get("kid"))
            .collect();
        let is_shared =
            |entry: &Value| entry.get("kid").is_some_and(|kid| named.iter().filter(|other| **other == kid).count() > 1);
        let shared: Vec<bool> = judged.iter().map(|(entry, _, _)| is_shared(entry)).collect();
        let mut set = Self { keys: Vec::new(), refused: Vec::new(), passed_over: Vec::new() };
        for ((_, name, judgement), is_shared) in judged.into_iter().zip(shared) {
            match judgement {
                Ok(_) if is_shared => set.refused.push(LeftOut { name, error: KeyError::DuplicateKid }),
                Ok(keys) => set.keys.extend(keys),
                Err(Unusable::NotForUs(error)) => set.passed_over.push(LeftOut { name, error }),
                Err(Unusable::Broken(error)) => set.refused.push(LeftOut { name, error }),
            }
        }
        Ok(set)
    }
}

fn read_one(entry: &Value, algorithms: &[Algorithm]) -> Result<Vec<VerificationKey>, Unusable> {
    let Value::Object(members) = entry else { return Err(KeyError::NotJwk.into()) };
    // Whatever else it says: who publishes a secret has none.
    if members.get("kty").and_then(Value::as_str) == Some("oct") {
        return Err(KeyError::PublishedSecret.into());
    }
    read_key(members, algorithms)
}

/// What a log may say of a key.
fn shown_name(entry: &Value, position: usize) -> String {
    match entry.get("kid").and_then(Value::as_str) {
        Some(kid) => shown_kid(kid),
        None => format!("number {}, without a `kid`", position + 1),
    }
}

/// The beginning of a `kid`, on one line.
pub(super) fn shown_kid(kid: &str) -> String {
    let clean = kid.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character });
    clean.take(SHOWN_KID_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::keyset::{Algorithm, SigningKey};

    fn key(kid: &str) -> Value {
        let key = SigningKey::generate(Algorithm::ES256).unwrap();
        key.verification_key().jwk(kid).unwrap()
    }

    fn read(keys: &Value) -> PublishedSet {
        let text = json!({ "keys": keys, "other": 1 }).to_string();
        PublishedSet::read(text.as_bytes(), &[Algorithm::ES256, Algorithm::RS256]).unwrap()
    }

    fn names(keys: &[VerificationKey]) -> Vec<Option<&str>> {
        keys.iter().map(VerificationKey::declared_kid).collect()
    }

    #[test]
    fn keys_of_one_name_are_refused_unless_they_are_one_key() {
        let (one, other, third) = (key("a"), key("a"), key("b"));
        let set = read(&json!([one, other, third]));
        assert_eq!(names(&set.keys), [Some("b")]);
        let refused = LeftOut { name: "a".to_owned(), error: KeyError::DuplicateKid };
        assert_eq!(set.refused, [refused.clone(), refused]);
        let set = read(&json!([one, one, third]));
        assert_eq!((names(&set.keys), set.refused.len()), (vec![Some("a"), Some("b")], 0));
        // A broken one leaves open which of them is meant, one for encryption does not.
        let with = |member: &str, value: &str| {
            let mut changed = other.clone();
            changed[member] = value.into();
            changed
        };
        let counts = |set: PublishedSet| (set.keys.len(), set.refused.len(), set.passed_over.len());
        assert_eq!(counts(read(&json!([one, with("x", "AAAA")]))), (0, 2, 0));
        assert_eq!(counts(read(&json!([one, with("use", "enc")]))), (1, 0, 1));
    }

    #[test]
    fn a_secret_is_refused_and_no_reason_to_refuse_the_rest() {
        let secret = json!({ "kty": "oct", "kid": "s", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTMyLWJ5dGVz", "alg": "HS256" });
        let text = json!({ "keys": [secret, key("a"), null, 7] }).to_string();
        let set = PublishedSet::read(text.as_bytes(), &Algorithm::ALL).unwrap();
        assert_eq!(names(&set.keys), [Some("a")]);
        let errors: Vec<_> = set.refused.iter().map(|key| key.error.clone()).collect();
        assert_eq!(errors, [KeyError::PublishedSecret, KeyError::NotJwk, KeyError::NotJwk]);
    }

    #[test]
    fn what_is_no_set_is_an_error_and_names_are_cut_and_clean() {
        for text in ["", "[]", "7", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(PublishedSet::read(text.as_bytes(), &Algorithm::ALL).is_err(), "{text}");
        }
        let many = json!({ "keys": vec![json!({}); MAX_KEYS + 1] }).to_string();
        assert!(matches!(
            PublishedSet::read(many.as_bytes(), &Algorithm::ALL),
            Err(KeyError::TooManyKeys { keys: 101, limit: 100 })
        ));
        let set = read(&json!([{ "kty": "EC", "kid": format!("a\n\u{1b}[31m{}", "b".repeat(500)) }]));
        assert_eq!(set.refused[0].name.chars().count(), SHOWN_KID_CHARACTERS);
        assert!(!set.refused[0].name.contains(char::is_control));
        assert!(read(&json!([])).keys.is_empty());
    }
}
