//! Just enough strict DER (X.690) to find the numbers of a public key.

use super::KeyError;
use super::algorithm::KeyKind;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1, `rsaEncryption` (RFC 8017 appendix C)
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1, `id-ecPublicKey` (RFC 5480 section 2.1.1)
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7, `secp256r1` (RFC 5480 section 2.1.1.1)
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34, `secp384r1`
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// 1.3.101.112, `id-Ed25519` (RFC 8410 section 3)
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A `SubjectPublicKeyInfo` (RFC 5280 section 4.1): the kind of key and the content of its bit string.
pub(super) fn subject_public_key(der: &[u8]) -> Result<(KeyKind, &[u8]), KeyError> {
    let mut outer = Reader(der);
    let mut info = Reader(outer.value(SEQUENCE)?);
    outer.end()?;
    let mut algorithm = Reader(info.value(SEQUENCE)?);
    let bits = info.value(BIT_STRING)?;
    info.end()?;
    let kind = kind(&mut algorithm)?;
    match bits {
        // The first byte counts the unused bits at the end; a key is whole bytes.
        [0, key @ ..] => Ok((kind, key)),
        _ => Err(KeyError::Encoding),
    }
}

/// The kind of key in a PKCS#8 `PrivateKeyInfo` (RFC 5208 section 5). What follows the kind is left to AWS-LC.
pub(super) fn private_key_kind(der: &[u8]) -> Result<KeyKind, KeyError> {
    let mut outer = Reader(der);
    let mut info = Reader(outer.value(SEQUENCE)?);
    outer.end()?;
    info.value(INTEGER)?;
    kind(&mut Reader(info.value(SEQUENCE)?))
}

fn kind(algorithm: &mut Reader<'_>) -> Result<KeyKind, KeyError> {
    match algorithm.value(OBJECT_IDENTIFIER)? {
        RSA_ENCRYPTION => Ok(KeyKind::Rsa),
        ED25519 => Ok(KeyKind::Ed25519),
        EC_PUBLIC_KEY => match algorithm.value(OBJECT_IDENTIFIER)? {
            P256 => Ok(KeyKind::P256),
            P384 => Ok(KeyKind::P384),
            _ => Err(KeyError::UnsupportedKind),
        },
        _ => Err(KeyError::UnsupportedKind),
    }
}

/// An `RSAPublicKey` (RFC 8017 appendix A.1.1): modulus and exponent, big-endian, without leading zeros.
pub(super) fn rsa_public_key(der: &[u8]) -> Result<(&[u8], &[u8]), KeyError> {
    let mut outer = Reader(der);
    let mut key = Reader(outer.value(SEQUENCE)?);
    outer.end()?;
    let modulus = key.positive()?;
    let exponent = key.positive()?;
    key.end()?;
    Ok((modulus, exponent))
}

/// The `RSAPublicKey` of two big-endian numbers without leading zeros.
pub(super) fn write_rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::with_capacity(modulus.len() + exponent.len() + 16);
    for number in [modulus, exponent] {
        // A first bit of one would make the number negative.
        let sign = usize::from(number.first().is_some_and(|byte| byte & 0x80 != 0));
        write_head(&mut numbers, INTEGER, number.len() + sign);
        numbers.extend(std::iter::repeat_n(0, sign));
        numbers.extend_from_slice(number);
    }
    let mut der = Vec::with_capacity(numbers.len() + 6);
    write_head(&mut der, SEQUENCE, numbers.len());
    der.extend_from_slice(&numbers);
    der
}

fn write_head(der: &mut Vec<u8>, tag: u8, length: usize) {
    der.push(tag);
    let bytes = length.to_be_bytes();
    let leading_zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = &bytes[leading_zeros..];
    match significant {
        [] => der.push(0),
        [short] if *short < 0x80 => der.push(*short),
        long => {
            der.push(0x80 | u8::try_from(long.len()).expect("a usize has at most 8 bytes"));
            der.extend_from_slice(long);
        }
    }
}

/// Reads one element after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element, which must have this tag.
    fn value(&mut self, expected: u8) -> Result<&'a [u8], KeyError> {
        let (tag, rest) = self.0.split_first().ok_or(KeyError::Encoding)?;
        let (first, rest) = rest.split_first().ok_or(KeyError::Encoding)?;
        if *tag != expected {
            return Err(KeyError::Encoding);
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            // Two length bytes reach 64 KiB, more than any key here. DER wants the shortest form.
            0x81 => match rest {
                [length, rest @ ..] if *length >= 0x80 => (usize::from(*length), rest),
                _ => return Err(KeyError::Encoding),
            },
            0x82 => match rest {
                [high, low, rest @ ..] if *high != 0 => (usize::from(*high) << 8 | usize::from(*low), rest),
                _ => return Err(KeyError::Encoding),
            },
            _ => return Err(KeyError::Encoding),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(KeyError::Encoding)?;
        self.0 = rest;
        Ok(content)
    }

    /// The next element, a positive INTEGER, without its sign byte.
    fn positive(&mut self) -> Result<&'a [u8], KeyError> {
        match self.value(INTEGER)? {
            [0, number @ ..] if number.first().is_some_and(|first| *first >= 0x80) => Ok(number),
            number @ [1..=0x7f, ..] => Ok(number),
            _ => Err(KeyError::Encoding),
        }
    }

    fn end(&self) -> Result<(), KeyError> {
        if self.0.is_empty() { Ok(()) } else { Err(KeyError::Encoding) }
    }
}
