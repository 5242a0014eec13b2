//! Argon2 in its three kinds and both versions, and making new hashes of it.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine;
use secrecy::zeroize::Zeroizing;

use super::Work;
use super::encoding::{PLAIN_BASE64, named, parts};
use crate::store::PasswordHash;

const MAX_KIBIBYTES: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;
/// RFC 9106 section 3.1 asks for 4 bytes of checksum at least; so few would be guessed.
const CHECKSUM_BYTES: std::ops::RangeInclusive<usize> = 12..=128;
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=256;
/// Memory in KiB, passes and lanes of new hashes: the minimum that OWASP names, and the defaults of the crate.
const NEW: (u32, u32, u32) = (19 * 1024, 2, 1);

/// A hash that can be computed.
pub(in crate::account) struct Argon2Hash {
    context: Argon2<'static>,
    algorithm: Algorithm,
    version: Version,
    salt: Vec<u8>,
    checksum: Vec<u8>,
}

impl Argon2Hash {
    /// Reads `$argon2id$v=19$m=65536,t=3,p=4$<salt>$<checksum>`. Without `v` it is version 16, the one before versions were
    /// written down. `keyid` and `data` need what only the application has.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let malformed = "has not the parts of argon2";
        let (kind, rest) = text.strip_prefix('$').and_then(|text| text.split_once('$')).ok_or(malformed)?;
        let algorithm = match kind {
            "argon2i" => Algorithm::Argon2i,
            "argon2d" => Algorithm::Argon2d,
            "argon2id" => Algorithm::Argon2id,
            _ => return Err("is a kind of argon2 that is not supported"),
        };
        let (version, rest) = match rest.strip_prefix("v=").and_then(|rest| rest.split_once('$')) {
            None => (Version::V0x10, rest),
            Some(("16", rest)) => (Version::V0x10, rest),
            Some(("19", rest)) => (Version::V0x13, rest),
            Some(_) => return Err("is a version of argon2 that is not supported"),
        };
        let [settings, salt, checksum] = parts(rest).ok_or(malformed)?;
        let mut settings = settings.split(',');
        let (Some(memory), Some(passes), Some(lanes), None) = (
            settings.next().and_then(|text| named("m", text)),
            settings.next().and_then(|text| named("t", text)),
            settings.next().and_then(|text| named("p", text)),
            settings.next(),
        ) else {
            return Err("has other parameters than argon2's `m`, `t` and `p`");
        };
        if memory > MAX_KIBIBYTES || passes > MAX_PASSES || lanes > MAX_LANES {
            return Err("asks for more than 256 MiB, 16 passes or 16 lanes of argon2");
        }
        let params =
            Params::new(memory, passes, lanes, None).map_err(|_| "has parameters that argon2 does not allow")?;
        let salt = PLAIN_BASE64.decode(salt).map_err(|_| "has a salt that is not base64")?;
        let checksum = PLAIN_BASE64.decode(checksum).map_err(|_| "has a checksum that is not base64")?;
        if !SALT_BYTES.contains(&salt.len()) || !CHECKSUM_BYTES.contains(&checksum.len()) {
            return Err("has a salt or a checksum of a length that is not supported");
        }
        Ok(Self { context: Argon2::new(algorithm, version, params), algorithm, version, salt, checksum })
    }

    pub(super) const fn work(&self) -> Work {
        let params = self.context.params();
        Work::Argon2 { memory: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }

    /// Whether it is of the kind of new hashes, and moves as much memory as often.
    pub(super) fn is_as_strong_as_new(&self) -> bool {
        let (memory, passes, _) = NEW;
        let params = self.context.params();
        let moved = |memory: u32, passes: u32| u64::from(memory) * u64::from(passes);
        self.algorithm == Algorithm::Argon2id
            && self.version == Version::V0x13
            && moved(params.m_cost(), params.t_cost()) >= moved(memory, passes)
    }

    pub(super) fn verify(&self, password: &str) -> Result<bool, &'static str> {
        let mut output = Zeroizing::new(vec![0; self.checksum.len()]);
        // All that could be wrong with the parameters was found when they were read.
        self.context
            .hash_password_into(password.as_bytes(), &self.salt, &mut output)
            .map_err(|_| "needs more memory than there is")?;
        Ok(verify_slices_are_equal(&output, &self.checksum).is_ok())
    }
}

/// Hashes a password. `None`: the system has no randomness or no memory.
pub(super) fn make(password: &str) -> Option<PasswordHash> {
    let (memory, passes, lanes) = NEW;
    let params = Params::new(memory, passes, lanes, None).ok()?;
    let (mut salt, mut output) = ([0; 16], [0; 32]);
    rand::fill(&mut salt).ok()?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), &salt, &mut output)
        .ok()?;
    Some(text(&salt, &output))
}

/// The text of a hash as [`make`] makes it.
pub(super) fn text(salt: &[u8], checksum: &[u8]) -> PasswordHash {
    let (memory, passes, lanes) = NEW;
    let (salt, checksum) = (PLAIN_BASE64.encode(salt), PLAIN_BASE64.encode(checksum));
    PasswordHash::new(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${checksum}"))
}
