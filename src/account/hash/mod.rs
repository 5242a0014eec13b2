//! Password hashes: checking what passlib and Django write, and making new ones.
//!
//! Everything inside a stored hash is bounded before it costs anything: whoever can write to the collection must not be
//! able to make one login use gigabytes or minutes.

mod argon2;
mod bcrypt;
mod encoding;
mod pbkdf2;
mod scrypt;
mod sha_crypt;

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine;

use self::argon2::Argon2Hash;
use self::bcrypt::{Bcrypt, Digest};
use self::encoding::BCRYPT_BASE64;
use self::pbkdf2::Pbkdf2;
use self::scrypt::Scrypt;
use self::sha_crypt::ShaCryptHash;
use super::{LongPassword, MAX_CREDENTIAL_BYTES, NewHash, NewPasswordError};
use crate::store::PasswordHash;

pub(crate) use self::bcrypt::BCRYPT_BYTES;

/// The longest text of a hash that is looked at; real ones have 60 to 150 bytes.
const MAX_HASH_BYTES: usize = 512;

/// A stored hash that was read, and costs no more than it may. `Debug` shows nothing of it.
pub(super) enum Stored {
    Bcrypt(Bcrypt),
    BcryptOfDigest(Bcrypt, Digest),
    Argon2(Argon2Hash),
    Scrypt(Scrypt),
    Pbkdf2(Pbkdf2),
    ShaCrypt(ShaCryptHash),
}

/// What a check costs. Checks of the same work take the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Bcrypt { cost: u32 },
    Argon2 { memory: u32, passes: u32, lanes: u32 },
    Scrypt { log_n: u8, block: u32, passes: u32 },
    Pbkdf2 { sha: Sha, rounds: u32 },
    ShaCrypt { sha: Sha, rounds: u32, length: usize },
}

/// A digest of the SHA family that a scheme is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sha {
    One,
    Two256,
    Two512,
}

impl Sha {
    /// The length of the digest.
    const fn bytes(self) -> usize {
        match self {
            Self::One => 20,
            Self::Two256 => 32,
            Self::Two512 => 64,
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stored([redacted])")
    }
}

impl Stored {
    /// Reads a hash by the scheme that it names.
    ///
    /// # Errors
    /// What is wrong with the hash, as the end of a sentence that begins with it. Nothing of the hash itself.
    pub(super) fn parse(stored: &PasswordHash) -> Result<Self, &'static str> {
        let text = stored.expose();
        if text.is_empty() {
            return Err("is empty");
        }
        if text.len() > MAX_HASH_BYTES || !text.is_ascii() {
            return Err("is too long or not ASCII");
        }
        // passlib's names begin with `$`, Django's do not.
        let (ident, rest) = match text.strip_prefix('$') {
            Some(text) => text.split_once('$').map(|(ident, rest)| (("$", ident), rest)),
            None => text.split_once('$').map(|(ident, rest)| (("", ident), rest)),
        }
        .ok_or("is of a scheme that is not supported")?;
        match ident {
            ("$", "2a" | "2b" | "2y") => Bcrypt::parse(text).map(Self::Bcrypt),
            ("", "bcrypt") => Bcrypt::parse(rest).map(Self::Bcrypt),
            ("$", "bcrypt-sha256") => {
                bcrypt::parse_passlib_digest(rest).map(|(hash, digest)| Self::BcryptOfDigest(hash, digest))
            }
            ("", "bcrypt_sha256") => Bcrypt::parse(rest).map(|hash| Self::BcryptOfDigest(hash, Digest::Hexadecimal)),
            ("$", "argon2i" | "argon2d" | "argon2id") => Argon2Hash::parse(text).map(Self::Argon2),
            // Django puts its own name before the `$` of the hash.
            ("", "argon2") => Argon2Hash::parse(&text["argon2".len()..]).map(Self::Argon2),
            ("$", "scrypt") => Scrypt::parse_passlib(rest).map(Self::Scrypt),
            ("", "scrypt") => Scrypt::parse_django(rest).map(Self::Scrypt),
            ("$", "pbkdf2") => Pbkdf2::parse_passlib(Sha::One, rest).map(Self::Pbkdf2),
            ("$", "pbkdf2-sha256") => Pbkdf2::parse_passlib(Sha::Two256, rest).map(Self::Pbkdf2),
            ("$", "pbkdf2-sha512") => Pbkdf2::parse_passlib(Sha::Two512, rest).map(Self::Pbkdf2),
            ("", "pbkdf2_sha1") => Pbkdf2::parse_django(Sha::One, rest).map(Self::Pbkdf2),
            ("", "pbkdf2_sha256") => Pbkdf2::parse_django(Sha::Two256, rest).map(Self::Pbkdf2),
            ("$", "5" | "6") => ShaCryptHash::parse(text).map(Self::ShaCrypt),
            (_, _) => Err("is of a scheme that is not supported"),
        }
    }

    /// What [`Self::verify`] will cost with this password.
    pub(super) const fn work(&self, password: &str) -> Work {
        match self {
            Self::Bcrypt(hash) | Self::BcryptOfDigest(hash, _) => hash.work(),
            Self::Argon2(hash) => hash.work(),
            Self::Scrypt(hash) => hash.work(),
            Self::Pbkdf2(hash) => hash.work(),
            Self::ShaCrypt(hash) => hash.work(password),
        }
    }

    /// Whether `password` is the one. An empty password never is, though it is hashed as any other.
    ///
    /// # Errors
    /// As [`Self::parse`], for what shows only now.
    pub(super) fn verify(&self, password: &str, long_password: LongPassword) -> Result<bool, &'static str> {
        let matches = match self {
            Self::Bcrypt(hash) => hash.verify(password, long_password),
            Self::BcryptOfDigest(hash, digest) => hash.verify_digest(password, digest),
            Self::Argon2(hash) => hash.verify(password)?,
            // HMAC fills a key up with NUL, so to these two `abc` and `abc` with a NUL behind it are one password.
            Self::Scrypt(hash) => hash.verify(password)? && !password.ends_with('\0'),
            Self::Pbkdf2(hash) => hash.verify(password) && !password.ends_with('\0'),
            Self::ShaCrypt(hash) => hash.verify(password),
        };
        Ok(matches && !password.is_empty())
    }
}

/// Whether a new password may be set.
pub(super) fn check_new(password: &str, scheme: NewHash) -> Result<(), NewPasswordError> {
    match password.len() {
        0 => return Err(NewPasswordError::Empty),
        length if length > MAX_CREDENTIAL_BYTES => return Err(NewPasswordError::TooLong),
        _ => {}
    }
    if password.contains('\0') {
        return Err(NewPasswordError::Nul);
    }
    match scheme {
        NewHash::Bcrypt { .. } if password.len() > BCRYPT_BYTES => Err(NewPasswordError::TooLongForBcrypt),
        NewHash::Bcrypt { .. } | NewHash::Argon2id => Ok(()),
    }
}

/// Whether a hash that this password fits is of another scheme than new ones, or cheaper, and can be replaced by a new one.
pub(super) fn needs_upgrade(old: &PasswordHash, password: &str, new: NewHash) -> bool {
    let Ok(stored) = Stored::parse(old) else { return false };
    // Of a password over 72 bytes a bcrypt hash has proved only the beginning, and a new one would keep only that.
    let is_proved = !matches!(stored, Stored::Bcrypt(_)) || password.len() <= BCRYPT_BYTES;
    let is_enough = match (&stored, stored.work(password), new) {
        (Stored::Bcrypt(_), Work::Bcrypt { cost }, NewHash::Bcrypt { cost: wanted }) => cost >= wanted,
        (Stored::Argon2(hash), _, NewHash::Argon2id) => hash.is_as_strong_as_new(),
        (_, _, NewHash::Bcrypt { .. } | NewHash::Argon2id) => false,
    };
    is_proved && !is_enough && check_new(password, new).is_ok()
}

/// Hashes a password that [`check_new`] let through.
pub(super) fn make(password: &str, scheme: NewHash) -> Result<PasswordHash, NewPasswordError> {
    match scheme {
        NewHash::Bcrypt { cost } => {
            ::bcrypt::hash(password, cost).map(PasswordHash::new).map_err(|_| NewPasswordError::System)
        }
        NewHash::Argon2id => argon2::make(password).ok_or(NewPasswordError::System),
    }
}

/// A hash of the scheme that costs what a real one costs and that no password is known for. If the system has no
/// randomness its checksum is zeros, which serves as well.
pub(super) fn of_nobody(scheme: NewHash) -> Stored {
    let mut bytes = [0; 48];
    let _ = rand::fill(&mut bytes);
    let (salt, checksum) = bytes.split_at(16);
    let text = match scheme {
        NewHash::Bcrypt { cost } => PasswordHash::new(format!(
            "$2b${cost:02}${}{}",
            BCRYPT_BASE64.encode(salt),
            BCRYPT_BASE64.encode(&checksum[..23])
        )),
        NewHash::Argon2id => argon2::text(salt, checksum),
    };
    Stored::parse(&text).expect("a hash as we write it is one that we read")
}

#[cfg(test)]
mod tests;
