//! scrypt, as passlib and as Django write it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scrypt::Params;
use secrecy::zeroize::Zeroizing;

use super::Work;
use super::encoding::{PLAIN_BASE64, decimal, decode, named, parts};

/// Of memory that one pass needs: 128 bytes times `r` times N.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Of memory that all passes together go through.
const MAX_WORK_BYTES: u64 = 4 * MAX_BYTES;
const MAX_BLOCK: u32 = 64;
const MAX_PASSES: u32 = 16;

/// A hash that can be computed.
pub(in crate::account) struct Scrypt {
    params: Params,
    salt: Vec<u8>,
    checksum: Checksum,
}

/// Of the one length that each of the two writes.
enum Checksum {
    Passlib([u8; 32]),
    Django([u8; 64]),
}

impl Scrypt {
    /// Reads what follows `$scrypt$` of passlib's form: `ln=16,r=8,p=1$<salt>$<checksum>`.
    pub(super) fn parse_passlib(text: &str) -> Result<Self, &'static str> {
        let [settings, salt, checksum] = parts(text).ok_or("has not the parts of scrypt")?;
        let mut settings = settings.split(',');
        let (Some(log_n), Some(block), Some(passes), None) = (
            settings.next().and_then(|text| named("ln", text)),
            settings.next().and_then(|text| named("r", text)),
            settings.next().and_then(|text| named("p", text)),
            settings.next(),
        ) else {
            return Err("has other parameters than scrypt's `ln`, `r` and `p`");
        };
        let params = params(log_n, block, passes)?;
        let salt = PLAIN_BASE64.decode(salt).map_err(|_| "has a salt that is not base64")?;
        let checksum = decode(&PLAIN_BASE64, checksum).ok_or("has a checksum that is not 32 bytes of base64")?;
        Ok(Self { params, salt, checksum: Checksum::Passlib(checksum) })
    }

    /// Reads what follows `scrypt$` of Django's form: `16384$<salt as text>$8$5$<checksum>`.
    pub(super) fn parse_django(text: &str) -> Result<Self, &'static str> {
        let [n, salt, block, passes, checksum] = parts(text).ok_or("has not the parts of Django's scrypt")?;
        let not_a_number = "has a parameter that is not a number";
        let n = decimal(n).ok_or(not_a_number)?;
        if !n.is_power_of_two() {
            return Err("has a work factor that is not a power of two");
        }
        let params = params(n.ilog2(), decimal(block).ok_or(not_a_number)?, decimal(passes).ok_or(not_a_number)?)?;
        let checksum = decode(&STANDARD, checksum).ok_or("has a checksum that is not 64 bytes of base64")?;
        Ok(Self { params, salt: salt.as_bytes().to_vec(), checksum: Checksum::Django(checksum) })
    }

    pub(super) const fn work(&self) -> Work {
        Work::Scrypt { log_n: self.params.log_n(), block: self.params.r(), passes: self.params.p() }
    }

    pub(super) fn verify(&self, password: &str) -> Result<bool, &'static str> {
        // The library would end the process for memory that it does not get.
        let mut attempt: Vec<u8> = Vec::new();
        let bytes = usize::try_from(bytes(self.params.log_n().into(), self.params.r())).unwrap_or(usize::MAX);
        attempt.try_reserve_exact(bytes).map_err(|_| "needs more memory than there is")?;
        drop(std::hint::black_box(attempt));
        let expected: &[u8] = match &self.checksum {
            Checksum::Passlib(checksum) => checksum,
            Checksum::Django(checksum) => checksum,
        };
        let mut output = Zeroizing::new(vec![0; expected.len()]);
        let is_computed = scrypt::scrypt(password.as_bytes(), &self.salt, &self.params, &mut output).is_ok();
        Ok(is_computed && verify_slices_are_equal(&output, expected).is_ok())
    }
}

/// The memory of one pass, for `log_n` up to 24.
const fn bytes(log_n: u32, block: u32) -> u64 {
    (128 * block as u64) << log_n
}

fn params(log_n: u32, block: u32, passes: u32) -> Result<Params, &'static str> {
    let too_much = "asks for more than 256 MiB, 1 GiB in all passes, blocks of 64 or 16 passes of scrypt";
    if !(1..=24).contains(&log_n) || block > MAX_BLOCK || passes > MAX_PASSES {
        return Err(too_much);
    }
    let bytes = bytes(log_n, block);
    if bytes > MAX_BYTES || bytes * u64::from(passes) > MAX_WORK_BYTES {
        return Err(too_much);
    }
    let log_n = u8::try_from(log_n).map_err(|_| too_much)?;
    Params::new(log_n, block, passes).map_err(|_| "has parameters that scrypt does not allow")
}
