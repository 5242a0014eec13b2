//! What the store hands out and takes in: accounts and password hashes.

use std::fmt;

use aws_lc_rs::rand;
use secrecy::{ExposeSecret, SecretString};

use super::StoreError;

/// The most accounts that one page of a listing holds.
pub const MAX_PAGE: usize = 1000;

/// A person as the store knows them, without the password hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Stable identifier in text form; becomes `sub`.
    pub subject: String,
    /// The name that the person logs in with.
    pub login: String,
    /// Display name.
    pub name: Option<String>,
    /// E-mail address, unverified.
    pub email: Option<String>,
    /// Roles, in the store's order.
    pub roles: Vec<String>,
    /// Scopes, in the store's order.
    pub scopes: Vec<String>,
    /// Whether logging in is refused.
    pub disabled: bool,
}

/// What a login led to.
#[derive(Debug)]
pub enum Found {
    /// Nobody has it.
    Nobody,
    /// More than one has it.
    Several,
    /// One account has it, but its record cannot be used.
    Malformed(MalformedRecord),
    /// One account has it.
    One(LoginRecord),
}

/// An account with what proves its password.
#[derive(Debug)]
pub struct LoginRecord {
    /// The person.
    pub account: Account,
    /// The stored hash, in whatever scheme.
    pub password: PasswordHash,
}

/// A record that cannot be used. Concerns this account only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record of `{subject}` cannot be used: {reason}")]
pub struct MalformedRecord {
    /// The subject, or what of it could be read.
    pub subject: String,
    /// Which field, and what is wrong with it; never its value.
    pub reason: String,
}

/// A password hash. Its value never shows in `Debug`.
#[derive(Clone)]
pub struct PasswordHash(SecretString);

impl PasswordHash {
    /// Wraps the text of a hash.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text of the hash.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

/// An account to add. The store makes the subject.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The name to log in with.
    pub login: String,
    /// Display name.
    pub name: Option<String>,
    /// E-mail address; the person can log in with it too.
    pub email: Option<String>,
    /// What the person may do from the start.
    pub grants: Grants,
    /// The hash of the first password.
    pub password: PasswordHash,
}

/// Roles and scopes to give or to take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Roles.
    pub roles: Vec<String>,
    /// Scopes.
    pub scopes: Vec<String>,
}

/// 128 random bits.
///
/// # Errors
/// The system has no randomness.
pub(super) fn random_bytes() -> Result<[u8; 16], StoreError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| StoreError::Random)?;
    Ok(bytes)
}

/// A new random UUID (RFC 9562 section 5.4), as bytes.
///
/// # Errors
/// The system has no randomness.
pub(super) fn random_uuid() -> Result<[u8; 16], StoreError> {
    let mut bytes = random_bytes()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Ok(bytes)
}

/// The canonical text of a UUID (RFC 9562 section 4): lower case, with hyphens.
pub(super) fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 0x0f), 16).unwrap_or('0'));
    }
    text
}

/// The bytes of a UUID in its canonical text; `None` for any other text.
pub(super) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    (uuid_text(bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        assert!(!format!("{:?}", PasswordHash::new("very private")).contains("very private"));
    }

    #[test]
    fn a_uuid_has_its_canonical_text() {
        let bytes = [0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x42, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x0f];
        assert_eq!(uuid_text(bytes), "123e4567-e89b-42d3-a456-42661417400f");
        assert_eq!(uuid_bytes("123e4567-e89b-42d3-a456-42661417400f"), Some(bytes));
        for other in ["123E4567-e89b-42d3-a456-42661417400f", "123e4567e89b42d3a45642661417400f", "+1", "", "é"] {
            assert_eq!(uuid_bytes(other), None, "{other}");
        }
    }

    #[test]
    fn a_random_uuid_says_version_4() {
        let text = uuid_text(random_uuid().unwrap());
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
