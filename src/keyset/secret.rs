//! HMAC secrets: long enough, and known to nobody else.

use super::KeyError;
use super::algorithm::Algorithm;

/// The longest secret accepted, in bytes.
const MAX_SECRET_BYTES: usize = 4096;

/// Secrets of at least 32 bytes that stand in documentation which people copy from. Shorter ones fail by their length.
/// They are compared without regard to case, and a secret that only repeats one of them is refused too.
const PUBLISHED_SECRETS: [&str; 6] = [
    // FastAPI's tutorial on OAuth2 with JWT
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    // jwt.io's debugger, per algorithm
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    // jwt.io's earlier one, and Hasura's sample
    "qwertyuiopasdfghjklzxcvbnm123456",
    "this-is-a-generic-hs256-secret-key-and-you-should-really-change-it",
];

/// Refuses a secret that does not protect.
pub(super) fn check(secret: &[u8], algorithm: Algorithm) -> Result<(), KeyError> {
    if !algorithm.is_symmetric() {
        return Err(KeyError::SecretForAsymmetric { algorithm });
    }
    let needed = algorithm.hash_bytes();
    if secret.len() < needed {
        return Err(KeyError::SecretTooShort { algorithm, bytes: secret.len(), needed });
    }
    if secret.len() > MAX_SECRET_BYTES {
        return Err(KeyError::SecretTooLong { bytes: secret.len() });
    }
    let text = secret.trim_ascii();
    if text.starts_with(b"-----BEGIN") || text.starts_with(b"ssh-") || is_jwk(text) {
        return Err(KeyError::SecretIsKey);
    }
    let published = PUBLISHED_SECRETS.iter().any(|known| {
        let mut pieces = text.chunks(known.len());
        pieces.all(|piece| piece.eq_ignore_ascii_case(known.as_bytes()))
    });
    if published || secret.windows(2).all(|pair| pair[0] == pair[1]) {
        return Err(KeyError::SecretKnown);
    }
    Ok(())
}

fn is_jwk(text: &[u8]) -> bool {
    text.starts_with(b"{")
        && (text.windows(5).any(|window| window == b"\"kty\"") || text.windows(6).any(|window| window == b"\"keys\""))
}
