//! The JOSE header (RFC 7515 section 4): which key and algorithm the token claims, and what it may not demand.

use serde_json::{Map, Value};

use crate::keyset::Algorithm;

use super::TokenError;

/// The longest `kid`, in bytes. Real ones have up to 90.
const MAX_KID_BYTES: usize = 256;

/// Signature algorithms that issuers use and that are not supported here, although some are another's under a new name: a key has
/// one algorithm under one name.
const UNSUPPORTED: [&str; 4] = ["ES512", "ES256K", "Ed25519", "Ed448"];

/// What the header says. `jwk`, `jku`, `x5c`, `x5u` and their relatives are ignored (RFC 7515 section 4.1.2 to 4.1.8):
/// a token never brings its own key.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// Lower case and without `application/`; `None` if there is no `typ`.
    typ: Option<String>,
}

impl Header {
    pub(super) fn read(mut members: Map<String, Value>) -> Result<Self, TokenError> {
        // `none`, in any spelling, is not the name of an algorithm here.
        let algorithm = match members.get("alg") {
            Some(Value::String(name)) => Algorithm::from_name(name).ok_or_else(|| unknown_algorithm(name))?,
            Some(_) | None => return Err(TokenError::Algorithm),
        };
        if members.contains_key("crit") || members.contains_key("b64") {
            return Err(TokenError::Critical);
        }
        if members.contains_key("zip") {
            return Err(TokenError::Compressed);
        }
        let kid = match members.remove("kid") {
            None => None,
            Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= MAX_KID_BYTES => Some(kid),
            Some(_) => return Err(TokenError::KeyIdentifier),
        };
        let typ = match members.remove("typ") {
            None => None,
            Some(Value::String(typ)) if !typ.is_empty() => Some(plain_type(&typ)),
            Some(_) => return Err(TokenError::Type),
        };
        Ok(Self { algorithm, kid, typ })
    }

    /// Whether `typ` is one of `types`, which are lower case; the empty one stands for a header without `typ`.
    pub(super) fn has_type(&self, types: &[Box<str>]) -> bool {
        let typ = self.typ.as_deref().unwrap_or_default();
        types.iter().any(|accepted| **accepted == *typ)
    }
}

fn unknown_algorithm(name: &str) -> TokenError {
    let known = UNSUPPORTED.into_iter().find(|unsupported| *unsupported == name);
    known.map_or(TokenError::Algorithm, |name| TokenError::AlgorithmUnsupported { name })
}

/// A media type without the prefix that RFC 7515 section 4.1.9 lets producers leave out. Its case does not count.
pub(super) fn plain_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        // Only a type without parameters or further slashes may lose its prefix.
        Some(plain) if !plain.is_empty() && !plain.contains('/') => plain.to_owned(),
        Some(_) | None => lower,
    }
}
