//! A path is accepted if and only if the rules of docs/operations.md say so, and a normal path is its own normal path.

use tollgate::request::path::{MAX_PATH_BYTES, NormalPath, PathError};

/// The bytes as a path.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let normal = NormalPath::parse(text);
    match (&normal, oracle(text)) {
        (Ok(normal), Ok((encoded, decoded))) => {
            assert_eq!((normal.as_str(), normal.decoded()), (&*encoded, &*decoded), "{text:?}");
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(rule)) => panic!("{text:?} breaks the rule `{rule}` and was accepted"),
        (Err(error), Ok(_)) => panic!("{text:?} breaks no rule and was refused: {error}"),
    }
    match normal {
        Ok(normal) => check(text, &normal),
        Err(error) => assert_eq!(error == PathError::TooLong, text.starts_with('/') && text.len() > MAX_PATH_BYTES),
    }
}

fn check(text: &str, normal: &NormalPath<'_>) {
    let again = NormalPath::parse(normal.as_str()).unwrap();
    assert_eq!(
        (again.as_str(), again.decoded()),
        (normal.as_str(), normal.decoded()),
        "{text:?}: not its own normal path"
    );
    assert!(again.is_as_sent() || normal.as_str().contains('%'), "{text:?}");
    assert!(normal.as_str().len() <= text.len() && normal.as_str().is_ascii(), "{text:?}");

    let segments: Vec<&str> = normal.as_str()[1..].split('/').collect();
    assert_eq!(segments.len(), normal.decoded()[1..].split('/').count(), "{text:?}: a slash came or went");
    // Of a long path only the first ones: to compare them all would take its square.
    for (index, segment) in segments.iter().enumerate().take(24) {
        assert_eq!(normal.segment(index), *segment);
        assert_eq!(normal.from_segment(index), format!("/{}", segments[index..].join("/")));
    }
    assert_eq!((normal.segment(segments.len()), normal.from_segment(segments.len())), ("", "/"));

    // How servers read it: nothing is left that one of them would resolve, merge, cut or decode once more.
    let decoded = normal.decoded();
    assert_eq!(without_dot_segments(decoded), decoded, "{text:?}: a server that resolves dots sees another path");
    assert!(!decoded.contains("//") && !decoded.contains('\\'), "{text:?}");
    let cut: Vec<&str> = decoded.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
    assert_eq!(
        without_dot_segments(&cut.join("/")),
        cut.join("/"),
        "{text:?}: a server that cuts at `;` sees another path"
    );
    assert!(!cut[1..cut.len() - 1].contains(&""), "{text:?}: a server that cuts at `;` sees an empty segment");
    assert!(!decoded.chars().any(|character| character.is_ascii_control()), "{text:?}");
}

/// The rules one after the other, on a list of bytes with the note whether each was encoded.
fn oracle(text: &str) -> Result<(String, String), &'static str> {
    if !text.starts_with('/') || text.len() > 8192 {
        return Err("begins with a slash, at most 8 KiB");
    }
    const PLAIN: &str = "-._~!$&'()*+,=:@/[]{}|^%";
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || PLAIN.contains(char::from(byte))) {
        return Err("bytes of a path");
    }
    let mut bytes: Vec<(u8, bool)> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '%' {
            let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            bytes.push((u8::from_str_radix(digits.ok_or("two digits follow")?, 16).unwrap(), true));
            rest = &rest[3..];
        } else {
            bytes.push((first as u8, false));
            rest = &rest[1..];
        }
    }
    for (index, (byte, encoded)) in bytes.iter().enumerate() {
        if *encoded && (matches!(byte, b'/' | b'\\' | 0..=31 | 127)) {
            return Err("nothing dangerous is encoded");
        }
        // `%25` and then two digits, whether or not these are encoded themselves: they are not any more in the normal path.
        let digits = bytes.get(index + 1..index + 3).unwrap_or_default();
        if *byte == b'%' && digits.len() == 2 && digits.iter().all(|(digit, _)| digit.is_ascii_hexdigit()) {
            return Err("not encoded twice");
        }
    }
    let decoded = String::from_utf8(bytes.iter().map(|(byte, _)| *byte).collect()).map_err(|_| "UTF-8")?;
    let segments: Vec<&str> = decoded[1..].split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let name = segment.split(';').next().unwrap();
        if matches!(name, "." | "..") || name.is_empty() && (index + 1 < segments.len() || !segment.is_empty()) {
            return Err("no segment of dots or of nothing");
        }
    }
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = bytes
        .iter()
        .map(
            |(byte, encoded)| {
                if *encoded && !is_unreserved(*byte) { format!("%{byte:02X}") } else { char::from(*byte).to_string() }
            },
        )
        .collect();
    Ok((encoded, decoded))
}

/// RFC 3986 section 5.2.4, for a path that begins with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path[1..].split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match *segment {
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}
