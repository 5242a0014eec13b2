//! A login written as `multipart/form-data` (RFC 7578), which browsers' `FormData` and Python's `requests` send.
//!
//! Read more strictly than the RFC allows, wherever parsers are known to differ: no text before the first delimiter or after the
//! last, no part with two dispositions or with a coding of its own, no escapes in a name. No client writes any of these.

use super::{Fields, FormError, check_charset};

/// Longest boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;

/// What may stand around a value. Other white space is part of it, so that `username` with a no-break space is another name.
const BLANKS: [char; 2] = [' ', '\t'];

/// Reads the parts of `body` into `fields`.
pub(super) fn read(parameters: &str, body: &[u8], fields: &mut Fields) -> Result<(), FormError> {
    let delimiter = [b"\r\n--", boundary(parameters).ok_or(FormError::Multipart)?.as_bytes()].concat();
    // Frameworks read the fields in this one; it is no part of RFC 7578.
    check_charset(parameters)?;
    // The first one begins the body, so there is no line before it to end.
    let mut rest = body.strip_prefix(&delimiter[2..]).ok_or(FormError::Multipart)?;
    loop {
        if matches!(rest, b"--" | b"--\r\n") {
            return Ok(());
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(FormError::Multipart)?;
        let (head, after) = split(part, b"\r\n\r\n").ok_or(FormError::Multipart)?;
        let (value, after) = split(after, &delimiter).ok_or(FormError::Multipart)?;
        let name = field_name(std::str::from_utf8(head).map_err(|_| FormError::NotUtf8)?)?;
        let field = fields.name(name)?;
        // Of every field, as in the other two ways of writing a form.
        let value = std::str::from_utf8(value).map_err(|_| FormError::NotUtf8)?;
        if let Some(field) = field {
            fields.value(field, value.to_owned());
        }
        rest = after;
    }
}

/// What stands before and behind the first `separator`.
fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

/// The one `boundary` among the parameters of the `Content-Type`.
fn boundary(parameters: &str) -> Option<&str> {
    let mut found = None;
    for (name, value) in pairs(parameters)? {
        if name.eq_ignore_ascii_case("boundary") && found.replace(value).is_some() {
            return None;
        }
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    found.filter(|boundary| {
        (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()) && boundary.bytes().all(is_plain) && !boundary.ends_with(' ')
    })
}

/// The name of the field that a part with this head is for.
fn field_name(head: &str) -> Result<&str, FormError> {
    let mut disposition = None;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(FormError::Multipart)?;
        // Also refuses a line that continues the one before, hides its name behind a space, or is a delimiter with a `:` in it.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !name.starts_with(|first: char| first.is_ascii_alphabetic()) || !name.bytes().all(is_name) {
            return Err(FormError::Multipart);
        }
        if value.chars().any(|character| character.is_control() && character != '\t') {
            return Err(FormError::Multipart);
        }
        let value = value.trim_matches(BLANKS);
        if name.eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some() {
            return Err(FormError::Multipart);
        }
        if name.eq_ignore_ascii_case("content-type") {
            check_charset(value.split_once(';').map_or("", |(_, parameters)| parameters))?;
        }
        let is_plain = ["7bit", "8bit", "binary"].iter().any(|coding| value.eq_ignore_ascii_case(coding));
        if name.eq_ignore_ascii_case("content-transfer-encoding") && !is_plain {
            return Err(FormError::Multipart);
        }
    }
    let (kind, parameters) = disposition.and_then(|value| value.split_once(';')).ok_or(FormError::Multipart)?;
    if !kind.trim_matches(BLANKS).eq_ignore_ascii_case("form-data") {
        return Err(FormError::Multipart);
    }
    let mut found = None;
    for (name, value) in pairs(parameters).ok_or(FormError::Multipart)? {
        if name.eq_ignore_ascii_case("filename") || name.eq_ignore_ascii_case("filename*") {
            return Err(FormError::FilePart);
        }
        if !name.eq_ignore_ascii_case("name") || found.replace(value).is_some() {
            return Err(FormError::Multipart);
        }
    }
    found.ok_or(FormError::Multipart)
}

/// `a=b; c="d e"`, without escapes. `None` for anything else.
fn pairs(parameters: &str) -> Option<Vec<(&str, &str)>> {
    let mut found = Vec::new();
    let mut rest = parameters.trim_matches(BLANKS);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => {
                let (value, after) = after.split_at(after.find(';').unwrap_or(after.len()));
                let value = value.trim_end_matches(BLANKS);
                // Some parsers end the value at a space, others do not.
                if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return None;
                }
                (value, after)
            }
        };
        // A space before or behind the `=` is in no grammar; some parsers take it, others do not.
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_word || value.starts_with([' ', '\t']) || value.contains(['\\', '"']) {
            return None;
        }
        found.push((name, value));
        rest = match after.trim_start_matches(BLANKS) {
            "" => "",
            after => after.strip_prefix(';')?.trim_start_matches(BLANKS),
        };
    }
    Some(found)
}
