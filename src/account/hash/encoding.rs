//! How hashes write numbers and bytes.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Lenient where passlib is: spare bits of the last character count for nothing, instead of making the hash invalid.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::RequireNone)
    .with_decode_allow_trailing_bits(true);

/// bcrypt's own order of the letters.
pub(super) const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, LENIENT);
/// The usual one, without padding.
pub(super) const PLAIN_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// A decimal number of at most eight digits without leading zeros.
pub(super) fn decimal(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    (is_plain && (1..=8).contains(&text.len())).then(|| text.parse().ok())?
}

/// A number that stands behind its name: `m=65536`.
pub(super) fn named(name: &str, text: &str) -> Option<u32> {
    decimal(text.strip_prefix(name)?.strip_prefix('=')?)
}

/// Exactly `N` bytes.
pub(super) fn decode<const N: usize>(engine: &GeneralPurpose, text: &str) -> Option<[u8; N]> {
    engine.decode(text).ok()?.try_into().ok()
}

/// As many parts as are asked for, between `$`, and no more.
pub(super) fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    let mut split = text.split('$');
    let mut parts = [""; N];
    for part in &mut parts {
        *part = split.next()?;
    }
    split.next().is_none().then_some(parts)
}
