//! PBKDF2, as passlib and as Django write it.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::encoding::{PLAIN_BASE64, decimal, parts};
use super::{Sha, Work};

/// Django 5.2 makes hashes of 1,000,000 rounds, and each of its releases of some more.
const MAX_ROUNDS: u32 = 5_000_000;

/// A hash that can be computed.
pub(in crate::account) struct Pbkdf2 {
    sha: Sha,
    rounds: NonZeroU32,
    salt: Vec<u8>,
    checksum: Vec<u8>,
}

impl Pbkdf2 {
    /// Reads what follows `$pbkdf2-sha256$` and its like of passlib: `29000$<salt>$<checksum>`, in base64 with `.` for `+`. Not
    /// the PHC form that other libraries write.
    pub(super) fn parse_passlib(sha: Sha, text: &str) -> Result<Self, &'static str> {
        let [count, salt, checksum] = parts(text).ok_or("has not the parts of pbkdf2")?;
        if salt.contains('+') || checksum.contains('+') {
            return Err("is not in passlib's base64");
        }
        let salt = PLAIN_BASE64.decode(salt.replace('.', "+")).map_err(|_| "has a salt that is not base64")?;
        let checksum = PLAIN_BASE64.decode(checksum.replace('.', "+"));
        Self::new(sha, count, salt, checksum)
    }

    /// Reads what follows `pbkdf2_sha256$` or `pbkdf2_sha1$` of Django: `1000000$<salt as text>$<checksum>`.
    pub(super) fn parse_django(sha: Sha, text: &str) -> Result<Self, &'static str> {
        let [count, salt, checksum] = parts(text).ok_or("has not the parts of Django's pbkdf2")?;
        Self::new(sha, count, salt.as_bytes().to_vec(), STANDARD.decode(checksum))
    }

    /// The checksum must be whole: both write exactly what the digest gives.
    fn new(
        sha: Sha,
        count: &str,
        salt: Vec<u8>,
        checksum: Result<Vec<u8>, base64::DecodeError>,
    ) -> Result<Self, &'static str> {
        let rounds = decimal(count).ok_or("has a number of rounds that is not a number")?;
        let rounds = NonZeroU32::new(rounds)
            .filter(|rounds| rounds.get() <= MAX_ROUNDS)
            .ok_or("asks for a number of rounds outside 1 to 5,000,000")?;
        match checksum {
            Ok(checksum) if checksum.len() == sha.bytes() => Ok(Self { sha, rounds, salt, checksum }),
            Ok(_) | Err(_) => Err("has a checksum that is not base64 of the digest's length"),
        }
    }

    pub(super) const fn work(&self) -> Work {
        Work::Pbkdf2 { sha: self.sha, rounds: self.rounds.get() }
    }

    pub(super) fn verify(&self, password: &str) -> bool {
        let algorithm = match self.sha {
            Sha::One => pbkdf2::PBKDF2_HMAC_SHA1,
            Sha::Two256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Sha::Two512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        pbkdf2::verify(algorithm, self.rounds, &self.salt, password.as_bytes(), &self.checksum).is_ok()
    }
}
