//! What a token says of itself, for people who look into one. Nothing here is checked, and nothing that lets somebody in may rest
//! on it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::keyset::strict_json;

/// A token taken apart, without any check of who made it.
#[derive(Clone)]
pub struct Unverified {
    /// The JOSE header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
    /// Bytes of the signature.
    pub signature_bytes: usize,
}

/// Why a text cannot be taken apart as a signed JWT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not three parts (RFC 7515 section 7.1).
    #[error("it has {count}, and a signed JWT has three with dots between")]
    Parts {
        /// "one part", "4 parts".
        count: String,
    },
    /// RFC 7516 section 7.1.
    #[error("it is encrypted (a JWE of five parts); only who has the key can read it, and it is not accepted here")]
    Encrypted,
    /// RFC 7515 section 2.
    #[error("its {part} is not base64url without padding")]
    Encoding {
        /// `header`, `payload` or `signature`.
        part: &'static str,
    },
    /// Not an object, a repeated member, or not JSON at all.
    #[error("its {part} is not the JSON of a JWT: {problem}")]
    Json {
        /// `header` or `payload`.
        part: &'static str,
        /// What is wrong, and where.
        problem: String,
    },
}

impl Unverified {
    /// Takes a token apart.
    ///
    /// # Errors
    /// See [`Unreadable`]. No message holds any of the text.
    pub fn read(token: &str) -> Result<Self, Unreadable> {
        let count = token.split('.').count();
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), 3) = (parts.next(), parts.next(), parts.next(), count)
        else {
            return Err(match count {
                5 => Unreadable::Encrypted,
                1 => Unreadable::Parts { count: "one part".to_owned() },
                _ => Unreadable::Parts { count: format!("{count} parts") },
            });
        };
        let signature_bytes =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_| Unreadable::Encoding { part: "signature" })?.len();
        Ok(Self { header: object(header, "header")?, claims: object(payload, "payload")?, signature_bytes })
    }

    /// A member of the header, if it is text.
    pub fn header_text(&self, member: &str) -> Option<&str> {
        self.header.get(member).and_then(Value::as_str)
    }

    /// A claim, if it is text.
    pub fn claim_text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }
}

fn object(encoded: &str, part: &'static str) -> Result<Map<String, Value>, Unreadable> {
    let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Unreadable::Encoding { part })?;
    strict_json::parse_object(&json).map_err(|problem| Unreadable::Json { part, problem })
}

/// Shows nothing of the token.
impl std::fmt::Debug for Unverified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unverified").finish_non_exhaustive()
    }
}
