//! Who calls, in the headers that an upstream reads.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::token::Identity;

use super::IdentityHeaderNames;

/// The identity of a caller does not fit into headers that servers accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the identity headers would take {bytes} bytes, more than {MAX_IDENTITY_BYTES}")]
pub struct IdentityTooLarge {
    /// What they would take.
    pub bytes: usize,
}

/// The headers that tell who calls, beside `further_bytes` that tell it, too.
///
/// # Errors
/// When they would be longer than servers accept.
pub(super) fn identity_headers<'a>(
    identity: &'a Identity,
    names: &IdentityHeaderNames,
    further_bytes: usize,
) -> Result<&'a [(HeaderName, HeaderValue)], IdentityTooLarge> {
    let rendered = identity.headers(|identity| render(identity, names));
    let bytes = further_bytes + rendered.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if bytes > MAX_IDENTITY_BYTES { Err(IdentityTooLarge { bytes }) } else { Ok(rendered) }
}

/// Identity headers as every server can read them: ASCII, and what is not visible ASCII or would end an element of a list
/// percent-encoded (RFC 3986 section 2.1), so that `unquote` gives the text back and no value can become two headers.
fn render(identity: &Identity, names: &IdentityHeaderNames) -> Vec<(HeaderName, HeaderValue)> {
    let mut text = String::new();
    let mut parts = Vec::with_capacity(5);
    let mut add = |name: &Option<HeaderName>, values: &mut dyn Iterator<Item = &str>, separator: char| {
        let Some(name) = name else { return };
        let start = text.len();
        for (index, value) in values.enumerate() {
            if index > 0 {
                text.push(separator);
            }
            percent_encode(value, separator, &mut text);
        }
        if text.len() > start {
            parts.push((name.clone(), start..text.len()));
        }
    };
    add(&names.subject, &mut std::iter::once(identity.subject()), ',');
    add(&names.name, &mut identity.name().into_iter(), '\n');
    add(&names.email, &mut identity.email().into_iter(), '\n');
    add(&names.roles, &mut identity.roles().iter().map(|role| &**role), ',');
    add(&names.scopes, &mut identity.scopes().iter().map(|scope| &**scope), ' ');
    // All values share one piece of memory: a request that copies them touches it, and its counter, once.
    let text = Bytes::from(text);
    let value = |(name, range)| Some((name, HeaderValue::from_maybe_shared(text.slice(range)).ok()?));
    parts.into_iter().filter_map(value).collect()
}

fn percent_encode(value: &str, separator: char, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        // A space at an end would be lost in a header, and make two texts one.
        let is_plain = byte.is_ascii_graphic() || byte == b' ' && index > 0 && index < last;
        if is_plain && byte != b'%' && char::from(byte) != separator {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// Servers commonly stop at 8 KiB for one header or all.
const MAX_IDENTITY_BYTES: usize = 6 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_values_are_one_clean_line() {
        let mut text = String::new();
        percent_encode("José, 100%\r\nX: 1 ", ',', &mut text);
        assert_eq!(text, "Jos%C3%A9%2C 100%25%0D%0AX: 1%20");
    }
}
