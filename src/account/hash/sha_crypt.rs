//! SHA-crypt, the `$5$` and `$6$` of Linux's `/etc/shadow`.

use secrecy::{ExposeSecret, SecretString};
use sha_crypt::{PasswordVerifier, ShaCrypt};

use super::encoding::{decimal, parts};
use super::{Sha, Work};

/// By its definition there are 1,000 to 999,999,999; passlib makes hashes of 656,000.
const ROUNDS: std::ops::RangeInclusive<u32> = 1000..=1_000_000;
/// Rounds of a hash that does not say.
const DEFAULT_ROUNDS: u32 = 5000;
const MAX_SALT_BYTES: usize = 16;

/// A hash that can be computed.
pub(in crate::account) struct ShaCryptHash {
    sha: Sha,
    rounds: u32,
    /// The whole hash, which the library reads again.
    text: SecretString,
}

impl ShaCryptHash {
    /// Reads `$6$rounds=656000$<salt as text>$<checksum>`, or without rounds. What the definition would change silently, such
    /// as a longer salt, is refused, as in passlib.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let malformed = "has not the parts of sha-crypt";
        let (sha, length, rest) = if let Some(rest) = text.strip_prefix("$5$") {
            (Sha::Two256, 43, rest)
        } else if let Some(rest) = text.strip_prefix("$6$") {
            (Sha::Two512, 86, rest)
        } else {
            return Err(malformed);
        };
        let (rounds, rest) = match rest.strip_prefix("rounds=").map(|rest| rest.split_once('$')) {
            None => (DEFAULT_ROUNDS, rest),
            Some(None) => return Err(malformed),
            Some(Some((rounds, rest))) => (decimal(rounds).ok_or("has a number of rounds that is not a number")?, rest),
        };
        if !ROUNDS.contains(&rounds) {
            return Err("asks for a number of rounds outside 1,000 to 1,000,000");
        }
        let [salt, checksum] = parts(rest).ok_or(malformed)?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte));
        if salt.len() > MAX_SALT_BYTES || !is_plain(salt) || checksum.len() != length || !is_plain(checksum) {
            return Err("has a salt or a checksum that sha-crypt does not allow");
        }
        Ok(Self { sha, rounds, text: SecretString::from(text) })
    }

    /// Each round digests the password anew, so its length counts.
    pub(super) const fn work(&self, password: &str) -> Work {
        Work::ShaCrypt { sha: self.sha, rounds: self.rounds, length: password.len() / 64 }
    }

    pub(super) fn verify(&self, password: &str) -> bool {
        ShaCrypt::default().verify_password(password.as_bytes(), self.text.expose_secret()).is_ok()
    }
}
