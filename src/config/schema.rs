//! The JSON Schema of the file, by which editors complete and check it: `tollgate config schema`.
//!
//! Draft 7, which the TOML plugins of editors read. It is made of the shape in `file.rs`, so it cannot forget a key; what
//! depends on more than one key, or on the world outside, `tollgate check` alone knows.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use super::comments::Comments;
use super::file::{Content, FILE, Key, Shape};
use super::kind::{DURATION, DURATION_ABOVE_ZERO, DURATION_OR_NONE, Form, Kind, List};
use super::reader::join;

/// The schema of the whole file. A file that another one includes is good by it too.
pub(super) fn schema() -> Value {
    let mut root = Map::new();
    root.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    root.insert("title".to_owned(), "Tollgate's configuration".into());
    root.append(&mut table(&FILE, "", &Comments::read()));
    Value::Object(root)
}

fn table(shape: &Shape, path: &str, comments: &Comments) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in shape.0 {
        if let Content::Required(_) = key.content {
            required.push(key.name);
        }
        if let Some(schema) = property(key, &join(path, key.name), comments) {
            properties.insert(key.name.to_owned(), Value::Object(schema));
        }
    }
    let mut table = Map::new();
    table.insert("type".to_owned(), "object".into());
    table.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        table.insert("required".to_owned(), required.into());
    }
    table.insert("additionalProperties".to_owned(), false.into());
    table
}

/// The schema of one key. `None`: a key of a part that is not built.
fn property(key: &Key, path: &str, comments: &Comments) -> Option<Map<String, Value>> {
    let below = format!("{path}.*");
    let (kind, default) = match key.content {
        Content::Default(kind, text) => (kind, Some(text)),
        Content::Required(kind) | Content::Optional(kind) => (kind, None),
        Content::Table(shape) => return Some(described(path, comments, table(shape, path, comments))),
        Content::Named(shape) => {
            let tables = json!({ "type": "object", "additionalProperties": table(shape, &below, comments) });
            return Some(described(path, comments, members(tables)));
        }
        Content::List(shape) => {
            let tables = json!({ "type": "array", "items": table(shape, &below, comments) });
            return Some(described(path, comments, members(tables)));
        }
        Content::Later => return None,
    };
    let mut schema = described(path, comments, value(kind));
    let default = default.and_then(|text| {
        let value = DeValue::parse(text).ok()?;
        super::store::to_json(value.get_ref()).ok()
    });
    let examples =
        comments.values(path).iter().map(|told| &told.value).filter(|value| Some(*value) != default.as_ref());
    let examples: Vec<Value> = examples.cloned().collect();
    if let Some(default) = default {
        schema.insert("default".to_owned(), default);
    }
    if !examples.is_empty() {
        schema.insert("examples".to_owned(), examples.into());
    }
    Some(schema)
}

/// The comment of the default file comes first, for people who read the schema.
fn described(path: &str, comments: &Comments, mut schema: Map<String, Value>) -> Map<String, Value> {
    let meaning = comments.meaning(path);
    if !meaning.is_empty() {
        schema.shift_insert(0, "description".to_owned(), meaning.into());
    }
    schema
}

fn value(kind: Kind) -> Map<String, Value> {
    members(match kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::BooleanOr(word) => json!({ "anyOf": [{ "type": "boolean" }, { "const": word }] }),
        // JSON has no number as large as TOML's largest, so neither does the schema.
        Kind::Integer(least, most) if most == i64::MAX.unsigned_abs() => json!({ "type": "integer", "minimum": least }),
        Kind::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Duration("0s", _) => json!({ "type": "string", "pattern": DURATION }),
        Kind::Duration(..) => json!({ "type": "string", "pattern": DURATION_ABOVE_ZERO }),
        Kind::DurationOrNone => json!({ "type": "string", "pattern": DURATION_OR_NONE }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Text(form) => text(form),
        Kind::TextOrOneOf(form, shape) => json!({ "anyOf": [text(form), one_of(shape)] }),
        Kind::OneOf(shape) => one_of(shape),
        Kind::List(of) => list(of),
        Kind::OneOrList(of) => json!({ "anyOf": [value(*of.of), list(of)] }),
        Kind::Texts => json!({ "type": "object", "additionalProperties": { "type": "string", "minLength": 1 } }),
        Kind::Table => json!({ "type": "object" }),
    })
}

fn text(form: Form) -> Value {
    match form.pattern {
        Some(pattern) => json!({ "type": "string", "pattern": pattern }),
        None => json!({ "type": "string" }),
    }
}

fn list(list: List) -> Value {
    let mut schema = members(json!({ "type": "array", "items": value(*list.of) }));
    if list.least > 0 {
        schema.insert("minItems".to_owned(), list.least.into());
    }
    if list.is_distinct {
        schema.insert("uniqueItems".to_owned(), true.into());
    }
    Value::Object(schema)
}

/// A table with exactly one of the shape's keys.
fn one_of(shape: &Shape) -> Value {
    let described = |key: &Key| {
        let (Content::Default(kind, _) | Content::Required(kind) | Content::Optional(kind)) = key.content else {
            return None;
        };
        let mut schema = value(kind);
        schema.shift_insert(0, "description".to_owned(), kind.words().into());
        Some((key.name.to_owned(), Value::Object(schema)))
    };
    let properties: Map<String, Value> = shape.0.iter().filter_map(described).collect();
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    })
}

fn members(value: Value) -> Map<String, Value> {
    if let Value::Object(members) = value { members } else { Map::new() }
}
