//! HMAC secrets: long enough, and known to nobody else.

use super::KeyError;
use super::algorithm::Algorithm;

/// The longest secret accepted, in bytes.
const MAX_SECRET_BYTES: usize = 4096;

/// Secrets of at least 32 bytes that stand in documentation which people copy from. Shorter ones fail by their length.
/// They are compared without regard to case, and a secret that only repeats one of them is refused too.
const PUBLISHED_SECRETS: [&str; 15] = [
    // FastAPI's tutorial on OAuth2 with JWT
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    // jwt.io's debugger, per algorithm
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    // jwt.io's earlier one, and Hasura's samples
    "qwertyuiopasdfghjklzxcvbnm123456",
    "this-is-a-generic-hs256-secret-key-and-you-should-really-change-it",
    "3EK6FD+o0+c7tzBNVfjpMkNDi2yARAAKzQlk8O2IKoxQu4nF7EdAh8s3TwpHwrdWT6R",
    // Supabase's local development, and its self-hosting file
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    // PostgREST's tutorial
    "reallyreallyreallyreallyverysafe",
    // A tutorial on Spring Security that hundreds of repositories follow
    "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
    // Two on ASP.NET Core and Node.js, as widespread
    "THIS IS USED TO SIGN AND VERIFY JWT TOKENS, REPLACE IT WITH YOUR OWN SECRET, IT CAN BE ANY STRING",
    "this is my custom Secret key for authentication",
    // RFC 7515 appendix A.1 and RFC 7520 section 3.5, taken for text
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
];

/// Refuses a secret that does not protect.
pub(super) fn check(secret: &[u8], algorithm: Algorithm) -> Result<(), KeyError> {
    check_usable(secret, algorithm)?;
    check_strong(secret, algorithm)
}

/// Refuses what is no secret at all: another kind of key, or a public one that every verifier's holder knows.
pub(super) fn check_usable(secret: &[u8], algorithm: Algorithm) -> Result<(), KeyError> {
    if !algorithm.is_symmetric() {
        return Err(KeyError::SecretForAsymmetric { algorithm });
    }
    if secret.is_empty() {
        return Err(KeyError::SecretTooShort { algorithm, bytes: 0, needed: algorithm.hash_bytes() });
    }
    if secret.len() > MAX_SECRET_BYTES {
        return Err(KeyError::SecretTooLong { bytes: secret.len() });
    }
    let text = secret.trim_ascii();
    if text.starts_with(b"-----BEGIN") || text.starts_with(b"ssh-") || is_jwk(text) {
        return Err(KeyError::SecretIsKey);
    }
    Ok(())
}

/// Refuses a secret that can be guessed.
pub(super) fn check_strong(secret: &[u8], algorithm: Algorithm) -> Result<(), KeyError> {
    let needed = algorithm.hash_bytes();
    if secret.len() < needed {
        return Err(KeyError::SecretTooShort { algorithm, bytes: secret.len(), needed });
    }
    let text = secret.trim_ascii();
    let published = PUBLISHED_SECRETS.iter().any(|known| {
        let mut pieces = text.chunks(known.len());
        pieces.all(|piece| piece.eq_ignore_ascii_case(known.as_bytes()))
    });
    if published || is_pattern(secret, needed) {
        return Err(KeyError::SecretKnown);
    }
    Ok(())
}

/// Whether the secret repeats something that would be too short by itself (`changeme`, four times), or is text that mostly
/// counts up or down (`abcdefgh…`). Chance makes neither.
fn is_pattern(secret: &[u8], needed: usize) -> bool {
    let repeats = |period: usize| secret.iter().zip(&secret[period..]).all(|(one, other)| one == other);
    let steps = secret.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 1).count();
    let counts = steps * 4 > secret.len() * 3 && secret.iter().all(u8::is_ascii_graphic);
    (1..needed.min(secret.len() / 2 + 1)).any(repeats) || counts
}

fn is_jwk(text: &[u8]) -> bool {
    text.starts_with(b"{")
        && (text.windows(5).any(|window| window == b"\"kty\"") || text.windows(6).any(|window| window == b"\"keys\""))
}
