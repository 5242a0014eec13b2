//! JWK and JWK sets (RFC 7517, RFC 7518 section 6, RFC 8037 section 2), read strictly.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, KeyKind};
use super::verification::{PublicNumbers, VerificationKey};
use super::{KeyError, pem, strict_json};

/// The most keys of one set. Real issuers publish two to ten.
pub(super) const MAX_KEYS: usize = 100;
/// The longest `kid`, as for tokens.
const MAX_KID_BYTES: usize = 256;
/// Members of private keys (RFC 7518 sections 6.2.2, 6.3.2). `k` of a secret is apart: it is all there is.
const PRIVATE_MEMBERS: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Why a key of a set is passed over; as a single key it is an error.
pub(super) enum Unusable {
    /// It is for something else.
    NotForUs(KeyError),
    /// It is wrong, and somebody must look.
    Broken(KeyError),
}

impl From<KeyError> for Unusable {
    fn from(error: KeyError) -> Self {
        Self::Broken(error)
    }
}

pub(super) fn read(json: &[u8], algorithms: &[Algorithm]) -> Result<Vec<VerificationKey>, KeyError> {
    if json.len() > pem::MAX_KEY_TEXT_BYTES {
        return Err(KeyError::TooLarge { bytes: json.len(), limit: pem::MAX_KEY_TEXT_BYTES });
    }
    let Value::Object(document) = strict_json::parse(json).map_err(|problem| KeyError::NotJson { problem })? else {
        return Err(KeyError::NotJwk);
    };
    if document.contains_key("kty") {
        return read_key(&document, algorithms).map_err(|unusable| match unusable {
            Unusable::NotForUs(error) | Unusable::Broken(error) => error,
        });
    }
    let Some(Value::Array(keys)) = document.get("keys") else { return Err(KeyError::NotJwk) };
    if keys.len() > MAX_KEYS {
        return Err(KeyError::TooManyKeys { keys: keys.len(), limit: MAX_KEYS });
    }
    read_set(keys, algorithms)
}

fn read_set(keys: &[Value], algorithms: &[Algorithm]) -> Result<Vec<VerificationKey>, KeyError> {
    let mut usable = Vec::new();
    let mut kids = HashSet::new();
    let mut secrets = 0;
    for key in keys {
        let Value::Object(members) = key else { return Err(KeyError::NotJwk) };
        if let Some(kid) = members.get("kid").and_then(Value::as_str)
            && !kids.insert(kid)
        {
            return Err(KeyError::DuplicateKid);
        }
        secrets += usize::from(members.get("kty").and_then(Value::as_str) == Some("oct"));
        match read_key(members, algorithms) {
            Ok(found) => usable.extend(found),
            Err(Unusable::NotForUs(_)) => {}
            Err(Unusable::Broken(error)) => return Err(error),
        }
    }
    if secrets != 0 && secrets != keys.len() {
        return Err(KeyError::MixedSet);
    }
    if usable.is_empty() {
        return Err(KeyError::NoUsableKey { algorithms: algorithms.to_vec() });
    }
    Ok(usable)
}

pub(super) fn read_key(members: &Map<String, Value>, allowed: &[Algorithm]) -> Result<Vec<VerificationKey>, Unusable> {
    let key_type = string(members, "kty")?;
    // First of all, so that a private key is noticed whatever else it is.
    if let Some(member) = PRIVATE_MEMBERS.into_iter().find(|member| members.contains_key(*member)) {
        return Err(KeyError::PrivateMember { member }.into());
    }
    if key_type != "oct" && members.contains_key("k") {
        return Err(KeyError::PrivateMember { member: "k" }.into());
    }
    check_purpose(members)?;
    let kind = match key_type {
        "RSA" => KeyKind::Rsa,
        "oct" => KeyKind::Secret,
        "EC" => match string(members, "crv")? {
            "P-256" => KeyKind::P256,
            "P-384" => KeyKind::P384,
            _ => return Err(Unusable::NotForUs(KeyError::UnsupportedKind)),
        },
        "OKP" => match string(members, "crv")? {
            "Ed25519" => KeyKind::Ed25519,
            _ => return Err(Unusable::NotForUs(KeyError::UnsupportedKind)),
        },
        _ => return Err(Unusable::NotForUs(KeyError::UnsupportedKind)),
    };
    let chosen = choose(members, kind, allowed)?;
    let kid: Option<Box<str>> = match members.get("kid") {
        None => None,
        Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= MAX_KID_BYTES => Some(kid.as_str().into()),
        Some(_) => return Err(KeyError::Member { member: "kid" }.into()),
    };
    let numbers = match kind {
        KeyKind::Secret => {
            let secret = bytes(members, "k")?;
            let keys = chosen
                .into_iter()
                .map(|algorithm| VerificationKey::from_named_secret(&secret, algorithm, kid.clone()))
                .collect::<Result<_, _>>()?;
            return Ok(keys);
        }
        KeyKind::Rsa => PublicNumbers::rsa(&number(members, "n")?, &number(members, "e")?)?,
        KeyKind::P256 | KeyKind::P384 => PublicNumbers::point(kind, &bytes(members, "x")?, &bytes(members, "y")?)?,
        KeyKind::Ed25519 => PublicNumbers::ed25519(&bytes(members, "x")?)?,
    };
    let key = |algorithm| VerificationKey::from_numbers(numbers.clone(), algorithm, kid.clone());
    Ok(chosen.into_iter().map(key).collect())
}

/// `use` and `key_ops`.
fn check_purpose(members: &Map<String, Value>) -> Result<(), Unusable> {
    match members.get("use") {
        None => {}
        Some(Value::String(purpose)) if purpose == "sig" => {}
        Some(Value::String(_)) => return Err(Unusable::NotForUs(KeyError::Use)),
        Some(_) => return Err(KeyError::Member { member: "use" }.into()),
    }
    match members.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().all(Value::is_string) => {
            if operations.iter().any(|operation| operation == "verify") {
                Ok(())
            } else {
                Err(Unusable::NotForUs(KeyError::KeyOperations))
            }
        }
        Some(_) => Err(KeyError::Member { member: "key_ops" }.into()),
    }
}

/// The algorithms that the key gets: the one it names, or else all of its kind that are allowed.
fn choose(members: &Map<String, Value>, kind: KeyKind, allowed: &[Algorithm]) -> Result<Vec<Algorithm>, Unusable> {
    let chosen = kind.algorithms(allowed);
    match members.get("alg") {
        None if chosen.is_empty() => {
            Err(Unusable::NotForUs(KeyError::WrongKind { kind, algorithms: allowed.to_vec() }))
        }
        None => Ok(chosen),
        Some(Value::String(name)) => {
            let mismatch = KeyError::AlgorithmMismatch { kind, algorithms: allowed.to_vec() };
            match Algorithm::from_name(name) {
                Some(algorithm) if algorithm.key_kind() != kind => Err(Unusable::Broken(mismatch)),
                Some(algorithm) if chosen.contains(&algorithm) => Ok(vec![algorithm]),
                Some(_) | None => Err(Unusable::NotForUs(mismatch)),
            }
        }
        Some(_) => Err(KeyError::Member { member: "alg" }.into()),
    }
}

fn string<'a>(members: &'a Map<String, Value>, member: &'static str) -> Result<&'a str, KeyError> {
    members.get(member).and_then(Value::as_str).ok_or(KeyError::Member { member })
}

/// A member in base64url without padding (RFC 7515 section 2); stray bits at the end are refused.
fn bytes(members: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, KeyError> {
    let text = string(members, member)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Member { member })
}

/// A `Base64urlUInt` (RFC 7518 section 2). It must have no leading zeros, but some issuers write one: that is let pass,
/// because it does not change the number.
fn number(members: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, KeyError> {
    let bytes = bytes(members, member)?;
    let start = bytes.iter().position(|byte| *byte != 0).ok_or(KeyError::Member { member })?;
    Ok(bytes[start..].to_vec())
}
