//! bcrypt, and the two ways to put a digest before it: passlib's and Django's.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

use super::encoding::{BCRYPT_BASE64, decimal, decode, parts};
use super::{LongPassword, Work};

/// bcrypt reads no more bytes than this.
pub(crate) const BCRYPT_BYTES: usize = 72;
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// A bcrypt hash without its ident.
pub(in crate::account) struct Bcrypt {
    cost: u32,
    salt: [u8; 16],
    checksum: [u8; 23],
}

/// What bcrypt is given instead of the password, so that long passwords and NUL count in full.
pub(in crate::account) enum Digest {
    /// passlib's `bcrypt_sha256` version 1: SHA-256 in base64.
    Base64,
    /// passlib's `bcrypt_sha256` version 2: HMAC-SHA-256, keyed with the salt's text, in base64.
    Keyed,
    /// Django's `bcrypt_sha256`: SHA-256 in hexadecimal.
    Hexadecimal,
}

impl Bcrypt {
    /// Reads `$2b$12$<22 characters of salt><31 of checksum>`, also with `2a` and `2y`. They differ in how old programs took
    /// long or non-ASCII passwords, not in what right ones make of them; `$2x$` is a hash of a program that took them wrong.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let [_, ident, cost, rest] = parts(text).ok_or("has not the parts of bcrypt")?;
        if !["2a", "2b", "2y"].contains(&ident) {
            return Err("is a version of bcrypt that is not supported");
        }
        if cost.len() != 2 {
            return Err("has no two-digit cost");
        }
        let (salt, checksum) = rest.split_at_checked(22).ok_or("is cut off")?;
        Self::from_parts(cost.strip_prefix('0').unwrap_or(cost), salt, checksum)
    }

    fn from_parts(cost: &str, salt: &str, checksum: &str) -> Result<Self, &'static str> {
        let cost = decimal(cost).ok_or("has a cost that is not a number")?;
        if !COSTS.contains(&cost) {
            return Err("asks for a bcrypt cost outside 4 to 16");
        }
        let salt = decode(&BCRYPT_BASE64, salt).ok_or("has a salt that is not 16 bytes of bcrypt's base64")?;
        let checksum =
            decode(&BCRYPT_BASE64, checksum).ok_or("has a checksum that is not 23 bytes of bcrypt's base64")?;
        Ok(Self { cost, salt, checksum })
    }

    pub(super) const fn work(&self) -> Work {
        Work::Bcrypt { cost: self.cost }
    }

    /// A password that bcrypt cannot read whole is hashed all the same, so that its refusal takes as long.
    pub(super) fn verify(&self, password: &str, long_password: LongPassword) -> bool {
        let password = password.as_bytes();
        let readable = !password.contains(&0)
            && match long_password {
                LongPassword::Refuse => password.len() <= BCRYPT_BYTES,
                LongPassword::Truncate => true,
            };
        self.matches(password) && readable
    }

    /// As [`Self::verify`], with a digest in the password's place.
    pub(super) fn verify_digest(&self, password: &str, kind: &Digest) -> bool {
        let password = password.as_bytes();
        let text = match kind {
            Digest::Base64 => STANDARD.encode(digest::digest(&digest::SHA256, password)),
            Digest::Keyed => {
                // Encoded anew, because passlib clears the spare bits of the salt before it uses the text.
                let key = hmac::Key::new(hmac::HMAC_SHA256, BCRYPT_BASE64.encode(self.salt).as_bytes());
                STANDARD.encode(hmac::sign(&key, password))
            }
            Digest::Hexadecimal => {
                let digest = digest::digest(&digest::SHA256, password);
                digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
            }
        };
        self.matches(Zeroizing::new(text).as_bytes())
    }

    fn matches(&self, key: &[u8]) -> bool {
        // As C's string: with its terminating NUL, cut at 72 bytes.
        let mut padded = Zeroizing::new([0; BCRYPT_BYTES]);
        let length = key.len().min(BCRYPT_BYTES);
        padded[..length].copy_from_slice(&key[..length]);
        let used = (length + 1).min(BCRYPT_BYTES);
        let output = ::bcrypt::bcrypt(self.cost, self.salt, &padded[..used]);
        verify_slices_are_equal(&output[..23], &self.checksum).is_ok()
    }
}

/// Reads what follows `$bcrypt-sha256$`: `v=2,t=2b,r=12$<salt>$<checksum>`, or `2b,12$<salt>$<checksum>` of version 1.
pub(super) fn parse_passlib_digest(text: &str) -> Result<(Bcrypt, Digest), &'static str> {
    let [settings, salt, checksum] = parts(text).ok_or("has not the parts of bcrypt-sha256")?;
    let (digest, cost) = if let Some(cost) = settings.strip_prefix("v=2,t=2b,r=") {
        (Digest::Keyed, cost)
    } else if let Some(cost) = settings.strip_prefix("2b,").or_else(|| settings.strip_prefix("2a,")) {
        (Digest::Base64, cost)
    } else {
        return Err("is a version of bcrypt-sha256 that is not supported");
    };
    Ok((Bcrypt::from_parts(cost, salt, checksum)?, digest))
}
