//! Strict JSON is JSON in which no member repeats and nothing is deep; both are counted here without a parser.

use serde_json::Value;
use tollgate::keyset::strict_json;

const MAX_DEPTH: usize = 24;

/// Asserts that `data` is accepted if and only if it is JSON, its members are all different, and its depth is bounded.
pub(super) fn check_strict(data: &[u8]) {
    let strict = strict_json::parse(data);
    let plain = serde_json::from_slice::<Value>(data);
    match (&strict, &plain) {
        (Ok(strict), Ok(plain)) => {
            assert_eq!(strict, plain);
            let counted = outline(data);
            assert_eq!(
                counted.members,
                members(plain),
                "a repeated member was accepted: {}",
                String::from_utf8_lossy(data)
            );
            assert!(counted.depth <= MAX_DEPTH, "{} levels were accepted", counted.depth);
        }
        (Ok(_), Err(error)) => panic!("{error}, and was accepted: {}", String::from_utf8_lossy(data)),
        (Err(message), Ok(plain)) => {
            let counted = outline(data);
            let is_bad = counted.members != members(plain) || counted.depth > MAX_DEPTH;
            assert!(is_bad, "refused without a reason ({message}): {}", String::from_utf8_lossy(data));
        }
        (Err(_), Err(_)) => {}
    }
}

pub(super) struct Outline {
    /// Colons outside of strings: as many as members were written.
    pub(super) members: usize,
    /// Of these, the ones in the outermost object.
    pub(super) outer_members: usize,
    /// Brackets open at once, at most.
    pub(super) depth: usize,
}

/// What can be counted in text that is known to be JSON.
pub(super) fn outline(json: &[u8]) -> Outline {
    let mut found = Outline { members: 0, outer_members: 0, depth: 0 };
    let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => {
                depth += 1;
                found.depth = found.depth.max(depth);
            }
            b'}' | b']' => depth -= 1,
            b':' => {
                found.members += 1;
                found.outer_members += usize::from(depth == 1);
            }
            _ => {}
        }
    }
    found
}

fn members(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(items) => items.iter().map(members).sum(),
        Value::Object(map) => map.len() + map.values().map(members).sum::<usize>(),
    }
}
