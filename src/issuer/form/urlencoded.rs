//! A login written as `application/x-www-form-urlencoded`.

use super::{Fields, FormError};

/// Reads the pairs into `fields`.
pub(super) fn read(text: &str, fields: &mut Fields) -> Result<(), FormError> {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let field = fields.name(&decode(name)?)?;
        let value = decode(value)?;
        if let Some(field) = field {
            fields.value(field, value);
        }
    }
    Ok(())
}

/// Undoes the encoding of a name or a value. Stricter than browsers' parsers, which keep a broken `%` as it is and put U+FFFD
/// for what is not UTF-8: then two different passwords would be one, or ours another than the client's.
pub(in super::super) fn decode(text: &str) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = rest.next().and_then(hex_digit).ok_or(FormError::PercentEncoding)?;
                let low = rest.next().and_then(hex_digit).ok_or(FormError::PercentEncoding)?;
                high << 4 | low
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| FormError::NotUtf8)
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
