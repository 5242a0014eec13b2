//! Password hashes: checking the schemes that passlib writes, and making new ones.
//!
//! Everything inside a stored hash is bounded before it costs anything: whoever can write to the collection must not be
//! able to make one login use gigabytes or minutes.

use argon2::{Algorithm, Argon2, Params, PasswordVerifier, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::zeroize::Zeroizing;

use super::{LongPassword, MAX_CREDENTIAL_BYTES, NewHash, NewPasswordError};
use crate::store::PasswordHash;

/// What a password is to a hash.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the one.
    Match,
    /// It is not the one.
    Mismatch,
    /// The hash cannot be checked. Found out at once, before anything costly.
    Unusable {
        /// What is wrong with the hash, as the end of a sentence that begins with it.
        reason: &'static str,
    },
}

/// bcrypt reads no more bytes than this.
const BCRYPT_BYTES: usize = 72;
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=16;
const MAX_ARGON2_KIBIBYTES: u32 = 256 * 1024;
const MAX_ARGON2_PASSES: u32 = 16;
const MAX_ARGON2_LANES: u32 = 16;
const MAX_PBKDF2_ROUNDS: u32 = 2_000_000;
/// The longest text of a hash that is looked at; real ones have 60 to 150 bytes.
const MAX_HASH_BYTES: usize = 512;
/// The length of every `$pbkdf2-sha256$` checksum that passlib writes.
const PBKDF2_BYTES: usize = 32;
/// Memory in KiB, passes and lanes of new hashes: the minimum that OWASP names, and the defaults of the crate.
const ARGON2_NEW: (u32, u32, u32) = (19 * 1024, 2, 1);

/// Lenient where passlib is: spare bits of the last character count for nothing, instead of making the hash invalid.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::RequireNone)
    .with_decode_allow_trailing_bits(true);
const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, LENIENT);
const PLAIN_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// Checks `password` against `stored`, by the scheme that `stored` names.
pub(super) fn verify(password: &str, stored: &PasswordHash, long_password: LongPassword) -> Verdict {
    let stored = stored.expose();
    if stored.len() > MAX_HASH_BYTES || !stored.is_ascii() {
        return Verdict::Unusable { reason: "is too long or not ASCII" };
    }
    let outcome = if let Some(rest) = stored.strip_prefix("$bcrypt-sha256$") {
        BcryptSha256::parse(rest).map(|hash| hash.verify(password))
    } else if let Some(rest) = stored.strip_prefix("$pbkdf2-sha256$") {
        pbkdf2_sha256(password, rest)
    } else if stored.starts_with("$argon2id$") {
        argon2id(password, stored)
    } else if let Some(rest) = ["$2a$", "$2b$", "$2y$"].into_iter().find_map(|ident| stored.strip_prefix(ident)) {
        Bcrypt::parse(rest).map(|hash| hash.verify(password, long_password))
    } else {
        Err("is of a scheme that is not supported")
    };
    match outcome {
        Ok(true) => Verdict::Match,
        Ok(false) => Verdict::Mismatch,
        Err(reason) => Verdict::Unusable { reason },
    }
}

/// The part of a bcrypt hash after its ident.
struct Bcrypt {
    cost: u32,
    salt: [u8; 16],
    checksum: [u8; 23],
}

impl Bcrypt {
    /// Reads `12$<22 characters of salt><31 of checksum>`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (cost, rest) = text.split_once('$').ok_or("is cut off")?;
        if cost.len() != 2 {
            return Err("has no two-digit cost");
        }
        let (salt, checksum) = rest.split_at_checked(22).ok_or("is cut off")?;
        Self::from_parts(cost, salt, checksum)
    }

    fn from_parts(cost: &str, salt: &str, checksum: &str) -> Result<Self, &'static str> {
        let cost = decimal(cost).ok_or("has a cost that is not a number")?;
        if !BCRYPT_COSTS.contains(&cost) {
            return Err("asks for a bcrypt cost outside 4 to 16");
        }
        let salt = decode(&BCRYPT_BASE64, salt).ok_or("has a salt that is not 16 bytes of bcrypt's base64")?;
        let checksum =
            decode(&BCRYPT_BASE64, checksum).ok_or("has a checksum that is not 23 bytes of bcrypt's base64")?;
        Ok(Self { cost, salt, checksum })
    }

    /// A password that bcrypt cannot read whole is hashed all the same, so that its refusal takes as long.
    fn verify(&self, password: &str, long_password: LongPassword) -> bool {
        let password = password.as_bytes();
        let readable = !password.contains(&0)
            && match long_password {
                LongPassword::Refuse => password.len() <= BCRYPT_BYTES,
                LongPassword::Truncate => true,
            };
        self.matches(password) && readable
    }

    fn matches(&self, key: &[u8]) -> bool {
        // As C's string: with its terminating NUL, cut at 72 bytes.
        let mut padded = Zeroizing::new([0; BCRYPT_BYTES]);
        let length = key.len().min(BCRYPT_BYTES);
        padded[..length].copy_from_slice(&key[..length]);
        let used = (length + 1).min(BCRYPT_BYTES);
        let output = bcrypt::bcrypt(self.cost, self.salt, &padded[..used]);
        verify_slices_are_equal(&output[..23], &self.checksum).is_ok()
    }
}

/// passlib's `bcrypt_sha256`: bcrypt over a digest, so that long passwords and NUL count in full.
struct BcryptSha256 {
    bcrypt: Bcrypt,
    version: BcryptSha256Version,
}

enum BcryptSha256Version {
    /// The digest is SHA-256 of the password.
    One,
    /// The digest is HMAC-SHA-256 of the password, keyed with the salt's text.
    Two,
}

impl BcryptSha256 {
    /// Reads `v=2,t=2b,r=12$<salt>$<checksum>`, or `2b,12$<salt>$<checksum>` of version 1.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split('$');
        let (Some(settings), Some(salt), Some(checksum), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("has not the parts of bcrypt-sha256");
        };
        let (version, cost) = if let Some(cost) = settings.strip_prefix("v=2,t=2b,r=") {
            (BcryptSha256Version::Two, cost)
        } else if let Some(cost) = settings.strip_prefix("2b,").or_else(|| settings.strip_prefix("2a,")) {
            (BcryptSha256Version::One, cost)
        } else {
            return Err("is a version of bcrypt-sha256 that is not supported");
        };
        Ok(Self { bcrypt: Bcrypt::from_parts(cost, salt, checksum)?, version })
    }

    fn verify(&self, password: &str) -> bool {
        let text = match self.version {
            BcryptSha256Version::One => STANDARD.encode(digest::digest(&digest::SHA256, password.as_bytes())),
            BcryptSha256Version::Two => {
                // Encoded anew, because passlib clears the spare bits of the salt before it uses the text.
                let salt = BCRYPT_BASE64.encode(self.bcrypt.salt);
                let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
                STANDARD.encode(hmac::sign(&key, password.as_bytes()))
            }
        };
        self.bcrypt.matches(Zeroizing::new(text).as_bytes())
    }
}

/// Checks `29000$<salt>$<checksum>`, in base64 with `.` for `+`. Not the PHC form that other libraries write.
fn pbkdf2_sha256(password: &str, text: &str) -> Result<bool, &'static str> {
    let mut parts = text.split('$');
    let (Some(rounds), Some(salt), Some(checksum), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("has not the parts of pbkdf2-sha256");
    };
    let rounds = decimal(rounds).ok_or("has a number of rounds that is not a number")?;
    if !(1..=MAX_PBKDF2_ROUNDS).contains(&rounds) {
        return Err("asks for a number of rounds outside 1 to 2,000,000");
    }
    if salt.contains('+') || checksum.contains('+') {
        return Err("is not in passlib's base64");
    }
    let salt = PLAIN_BASE64.decode(salt.replace('.', "+")).map_err(|_| "has a salt that is not base64")?;
    let checksum: [u8; PBKDF2_BYTES] =
        decode(&PLAIN_BASE64, &checksum.replace('.', "+")).ok_or("has a checksum that is not 32 bytes of base64")?;
    let mut output = Zeroizing::new([0; PBKDF2_BYTES]);
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), &salt, rounds, output.as_mut());
    Ok(verify_slices_are_equal(output.as_ref(), &checksum).is_ok())
}

/// Checks a PHC string.
fn argon2id(password: &str, text: &str) -> Result<bool, &'static str> {
    let parsed = argon2::PasswordHash::new(text).map_err(|_| "is not a PHC string")?;
    let (Some(_), Some(_)) = (&parsed.salt, &parsed.hash) else {
        return Err("has no salt or no checksum");
    };
    let params = Params::try_from(&parsed).map_err(|_| "has parameters that argon2 does not allow")?;
    if params.m_cost() > MAX_ARGON2_KIBIBYTES
        || params.t_cost() > MAX_ARGON2_PASSES
        || params.p_cost() > MAX_ARGON2_LANES
    {
        return Err("asks for more than 256 MiB, 16 passes or 16 lanes of argon2");
    }
    Ok(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
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

/// Hashes a password that [`check_new`] let through.
pub(super) fn make(password: &str, scheme: NewHash) -> Result<PasswordHash, NewPasswordError> {
    match scheme {
        NewHash::Bcrypt { cost } => {
            bcrypt::hash(password, cost).map(PasswordHash::new).map_err(|_| NewPasswordError::System)
        }
        NewHash::Argon2id => {
            let (memory, passes, lanes) = ARGON2_NEW;
            let params = Params::new(memory, passes, lanes, None).map_err(|_| NewPasswordError::System)?;
            let (mut salt, mut output) = ([0; 16], [0; 32]);
            rand::fill(&mut salt).map_err(|_| NewPasswordError::System)?;
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(password.as_bytes(), &salt, &mut output)
                .map_err(|_| NewPasswordError::System)?;
            Ok(argon2_text(&salt, &output))
        }
    }
}

/// A valid hash of the scheme that costs what a real one costs and that no password is known for. If the system has no
/// randomness its checksum is zeros, which serves as well.
pub(super) fn of_nobody(scheme: NewHash) -> PasswordHash {
    let mut bytes = [0; 48];
    let _ = rand::fill(&mut bytes);
    let (salt, checksum) = bytes.split_at(16);
    match scheme {
        NewHash::Bcrypt { cost } => PasswordHash::new(format!(
            "$2b${cost:02}${}{}",
            BCRYPT_BASE64.encode(salt),
            BCRYPT_BASE64.encode(&checksum[..23])
        )),
        NewHash::Argon2id => argon2_text(salt, checksum),
    }
}

fn argon2_text(salt: &[u8], checksum: &[u8]) -> PasswordHash {
    let (memory, passes, lanes) = ARGON2_NEW;
    let (salt, checksum) = (PLAIN_BASE64.encode(salt), PLAIN_BASE64.encode(checksum));
    PasswordHash::new(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${checksum}"))
}

/// Digits only, without leading zeros unless two digits are the form, and small enough.
fn decimal(text: &str) -> Option<u32> {
    (!text.is_empty() && text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

fn decode<const N: usize>(engine: &GeneralPurpose, text: &str) -> Option<[u8; N]> {
    engine.decode(text).ok()?.try_into().ok()
}
