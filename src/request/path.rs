//! The path, normalized once; refuses what two parsers could read differently.
//!
//! The decision and the forwarded request use the same [`NormalPath`]. The rule, in order:
//!
//! 1. It begins with `/` and is at most 8 KiB long.
//! 2. Its bytes are those of a path (RFC 3986 section 3.3) or one of `[ ] { } | ^`, which every server reads alike.
//!    Raw `\`, control bytes, spaces, quotes and bytes above 0x7F are refused; so is a raw `;`, where Tomcat and its like cut a
//!    segment and others do not (`/admin;x`, `/..;/`): it is sent as `%3B`.
//! 3. A `%` is followed by two hexadecimal digits; what it encodes is no `/`, `\`, control byte, and no `%` that would
//!    begin another encoded byte (`%252e`). Decoded, the path is UTF-8, so an overlong `%c0%ae` is refused.
//! 4. Decoded, no segment is empty (`//`) but the last, none is `.` or `..`, also not in front of an encoded `;`.
//!
//! What passes is normalized as RFC 3986 section 6.2.2 says: encoded unreserved bytes are decoded, hexadecimal digits are
//! upper case. Routes are matched on the decoded segments, so `/%61dmin` is `/admin` for the decision too.

use std::borrow::Cow;

/// A path that any two servers read alike: forwarded as [`NormalPath::as_str`], matched as [`NormalPath::decoded`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a> {
    encoded: Cow<'a, str>,
    /// `None` when it equals `encoded`, as in almost every request.
    decoded: Option<String>,
}

/// Why a path was refused with `bad_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Rule 1.
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// Rule 1.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// Rule 2.
    #[error("the path holds a byte that must be percent-encoded")]
    RawByte,
    /// Rule 2.
    #[error("the path holds a `;`, at which some servers cut a segment; send it as `%3B`")]
    Semicolon,
    /// Rule 3.
    #[error("the path holds a `%` without two hexadecimal digits")]
    BrokenEncoding,
    /// Rule 3.
    #[error("the path holds an encoded slash, backslash or control byte, or is encoded twice")]
    DangerousEncoding,
    /// Rule 3.
    #[error("the path is not UTF-8 once decoded")]
    NotUtf8,
    /// Rule 4.
    #[error("the path holds an empty segment (`//`)")]
    EmptySegment,
    /// Rule 4.
    #[error("the path holds a `.` or `..` segment")]
    DotSegment,
}

impl<'a> NormalPath<'a> {
    /// Reads the path of a request target, without its query.
    ///
    /// # Errors
    /// The first rule of the [module](self) that it breaks.
    pub fn parse(path: &'a str) -> Result<Self, PathError> {
        if !path.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        let mut is_encoded = false;
        for byte in path.bytes() {
            match BYTE_CLASS[usize::from(byte)] {
                Class::Plain => {}
                Class::Percent => is_encoded = true,
                Class::Semicolon => return Err(PathError::Semicolon),
                Class::Refused => return Err(PathError::RawByte),
            }
        }
        let normal = if is_encoded { decode(path)? } else { Self { encoded: Cow::Borrowed(path), decoded: None } };
        check_segments(normal.decoded())?;
        Ok(normal)
    }

    /// The path as it is forwarded.
    pub fn as_str(&self) -> &str {
        &self.encoded
    }

    /// The path as routes and rules see it. As many slashes as [`Self::as_str`], in the same places of meaning.
    pub fn decoded(&self) -> &str {
        self.decoded.as_deref().unwrap_or(&self.encoded)
    }

    /// Whether [`Self::as_str`] is the very text that the client sent.
    pub const fn is_as_sent(&self) -> bool {
        matches!(self.encoded, Cow::Borrowed(_))
    }

    /// The forwarded path from its segment `index` on, slash included; `/` when there are fewer. Index 0 is the first segment.
    pub fn from_segment(&self, index: usize) -> &str {
        match self.encoded.match_indices('/').nth(index) {
            Some((position, _)) => &self.encoded[position..],
            None => "/",
        }
    }

    /// The segment `index` as it is forwarded, without slashes; empty when there are fewer.
    pub fn segment(&self, index: usize) -> &str {
        self.encoded.split('/').nth(index + 1).unwrap_or_default()
    }
}

/// Rule 4.
fn check_segments(decoded: &str) -> Result<(), PathError> {
    let mut segments = decoded[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        // A server that decodes first and cuts at `;` afterwards must not find dots either.
        let name = match segment.bytes().position(|byte| byte == b';') {
            Some(position) => &segment[..position],
            None => segment,
        };
        match name {
            "" if segment.is_empty() && segments.peek().is_none() => {}
            "" => return Err(PathError::EmptySegment),
            "." | ".." => return Err(PathError::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

/// Rule 3 and the normalization, for a path with at least one `%`.
fn decode(path: &str) -> Result<NormalPath<'_>, PathError> {
    let bytes = path.as_bytes();
    let mut encoded = String::with_capacity(path.len());
    let mut decoded = Vec::with_capacity(path.len());
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        if byte != b'%' {
            encoded.push(char::from(byte));
            decoded.push(byte);
            position += 1;
            continue;
        }
        let value = encoded_byte(&bytes[position + 1..]).ok_or(PathError::BrokenEncoding)?;
        position += 3;
        if matches!(value, b'/' | b'\\') || value.is_ascii_control() {
            return Err(PathError::DangerousEncoding);
        }
        if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(value));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX_DIGITS[usize::from(value >> 4)]));
            encoded.push(char::from(HEX_DIGITS[usize::from(value & 0x0F)]));
        }
        decoded.push(value);
    }
    // Looked for in what is decoded: the digits may have been encoded too (`%25%32%65`), and are not any more.
    if decoded.windows(3).any(|three| three[0] == b'%' && encoded_byte(&three[1..]).is_some()) {
        return Err(PathError::DangerousEncoding);
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathError::NotUtf8)?;
    Ok(NormalPath { encoded: Cow::Owned(encoded), decoded: Some(decoded) })
}

/// The byte that two hexadecimal digits at the start of `digits` stand for.
fn encoded_byte(digits: &[u8]) -> Option<u8> {
    let high = char::from(*digits.first()?).to_digit(16)?;
    let low = char::from(*digits.get(1)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// Longest path. Servers behind commonly stop at 8 KiB for the whole request line.
pub const MAX_PATH_BYTES: usize = 8 * 1024;

const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";

#[derive(Clone, Copy)]
enum Class {
    Plain,
    Percent,
    Semicolon,
    Refused,
}

/// Rule 2: `pchar` and `/` of RFC 3986, and the six bytes that are not `pchar` but read alike everywhere.
const BYTE_CLASS: [Class; 256] = {
    let mut classes = [Class::Refused; 256];
    let plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@/[]{}|^";
    let mut index = 0;
    while index < plain.len() {
        classes[plain[index] as usize] = Class::Plain;
        index += 1;
    }
    classes[b'%' as usize] = Class::Percent;
    classes[b';' as usize] = Class::Semicolon;
    classes
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_refused(path: &str, error: PathError) {
        assert_eq!(NormalPath::parse(path), Err(error), "{path}");
    }

    #[track_caller]
    fn check(path: &str, encoded: &str, decoded: &str) {
        let normal = NormalPath::parse(path).unwrap();
        assert_eq!((normal.as_str(), normal.decoded()), (encoded, decoded));
    }

    #[test]
    fn ordinary_paths_stay_as_they_are() {
        for path in ["/", "/a", "/a/", "/a/b.c/d~e", "/a:b@c", "/x[1]", "/...", "/a.", "/.well-known/jwks.json"] {
            check(path, path, path);
            assert!(NormalPath::parse(path).unwrap().is_as_sent());
        }
    }

    #[test]
    fn unreserved_bytes_are_decoded_and_hexadecimal_digits_are_upper_case() {
        check("/%61dmin", "/admin", "/admin");
        check("/a%20b", "/a%20b", "/a b");
        check("/caf%c3%a9", "/caf%C3%A9", "/café");
        check("/a%3bb%40", "/a%3Bb%40", "/a;b@");
        check("/100%25", "/100%25", "/100%");
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        check_refused("", PathError::NotAbsolute);
        check_refused("admin", PathError::NotAbsolute);
        check_refused("*", PathError::NotAbsolute);
        for path in ["/..", "/a/../b", "/a/./b", "/.", "/a/..", "/%2e%2e/admin", "/a/.%2E", "/%2e%2e%3b/a", "/..%3Bx/a"]
        {
            check_refused(path, PathError::DotSegment);
        }
        for path in ["//", "//a", "/a//b", "/a//", "/%3b/a"] {
            check_refused(path, PathError::EmptySegment);
        }
        for path in
            ["/a%2fb", "/a%2Fb", "/%5c", "/%00", "/%0d%0a", "/%7f", "/%252e%252e", "/%252f", "/%25%32%65", "/%252%65"]
        {
            check_refused(path, PathError::DangerousEncoding);
        }
        for path in ["/%", "/%2", "/%zz", "/a%2"] {
            check_refused(path, PathError::BrokenEncoding);
        }
        for path in ["/a;v=1/b", "/..;/admin", "/admin;x"] {
            check_refused(path, PathError::Semicolon);
        }
        for path in ["/a\\b", "/a b", "/\u{0}", "/é", "/a\"b", "/<a>", "/a\tb", "/a#b"] {
            check_refused(path, PathError::RawByte);
        }
        check_refused("/%c0%ae%c0%ae/", PathError::NotUtf8);
        check_refused("/%ff", PathError::NotUtf8);
        check_refused(&format!("/{}", "a".repeat(MAX_PATH_BYTES)), PathError::TooLong);
    }

    #[test]
    fn segments_are_counted_from_the_first() {
        let path = NormalPath::parse("/a/b%20c/d").unwrap();
        assert_eq!((path.segment(0), path.segment(1), path.segment(3)), ("a", "b%20c", ""));
        assert_eq!((path.from_segment(0), path.from_segment(1), path.from_segment(3)), ("/a/b%20c/d", "/b%20c/d", "/"));
    }

    proptest! {
        #[test]
        fn a_normal_path_is_its_own_normal_path(path in "/[a-c%2efEF0-9./;A ]{0,24}") {
            if let Ok(normal) = NormalPath::parse(&path) {
                let again = NormalPath::parse(normal.as_str()).unwrap();
                prop_assert_eq!(again.as_str(), normal.as_str());
                prop_assert_eq!(again.decoded(), normal.decoded());
                prop_assert_eq!(normal.as_str().matches('/').count(), normal.decoded().matches('/').count());
            }
        }
    }
}
