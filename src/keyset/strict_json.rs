//! JSON as signatures need it: a repeated member is an error, and so is deep nesting.
//!
//! RFC 7515 section 4 and RFC 7519 section 4 let a parser take the last of two members with one name; then two parsers
//! can read one token differently. Here it is refused, on every level.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Objects and arrays inside each other. Real tokens have 3 or 4 levels.
const MAX_DEPTH: usize = 24;

/// Reads one JSON value that fills `json` and repeats no member.
///
/// # Errors
/// A sentence on what is wrong and where; it never holds any of the text.
pub fn parse(json: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer).map_err(|error| describe(&error))?;
    deserializer.end().map_err(|error| describe(&error))?;
    Ok(value)
}

/// Reads one JSON object, as [`parse`] does.
///
/// # Errors
/// As [`parse`]; also if it is no object.
pub fn parse_object(json: &[u8]) -> Result<Map<String, Value>, String> {
    match parse(json)? {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err("it is not an object".to_owned())
        }
    }
}

/// The value at `path`. A member of exactly that name comes first, then each dot reaches into an object.
pub fn reach<'a>(members: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = members.get(path) {
        return Some(value);
    }
    // `https://example.org/claims.roles` is a name with dots of its own, so every dot may be the one that divides.
    path.match_indices('.').find_map(|(dot, _)| match members.get(&path[..dot]) {
        Some(Value::Object(inner)) => reach(inner, &path[dot + 1..]),
        Some(_) | None => None,
    })
}

/// `serde_json` quotes unexpected values in some messages, and these may be secret; category and place are not.
fn describe(error: &serde_json::Error) -> String {
    let place = format!("line {} column {}", error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => format!("wrong syntax at {place}"),
        serde_json::error::Category::Eof => "it ends too early".to_owned(),
        serde_json::error::Category::Data => format!("a repeated member or deeper than {MAX_DEPTH} levels at {place}"),
    }
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom("too deep")) } else { Ok(self.depth + 1) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self { depth })? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self { depth })?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("repeated member"));
            }
        }
        Ok(Value::Object(map))
    }
}
