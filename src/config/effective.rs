//! The settings in effect, under the file's own names: what the file says, and the defaults where it says nothing.

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::account::NewHash;
use crate::store::StoreLocation;
use crate::upstream::TokenForwarding;

use super::Config;
use super::file::{Content, FILE, INCLUDED, Shape};
use super::source::{REDACTED, has_password, is_secret_key, names_a_place};

/// The settings of all files as one tree, in the order of the shape. `files` are the file and those that it includes.
pub(super) fn effective<'a>(files: impl Iterator<Item = &'a DeTable<'a>>, config: &Config) -> Value {
    let mut tree = Map::new();
    for (index, file) in files.enumerate() {
        let shape = if index == 0 { &FILE } else { &INCLUDED };
        merge(&mut tree, table(shape, Some(file)));
    }
    // What is included is part of the tree already.
    tree.shift_remove("include");
    // What has no effect is not told: it would be refused, if it stood in a file.
    if let (StoreLocation::Sqlite { .. }, Some(Value::Object(store))) = (&config.store.location, tree.get_mut("store"))
    {
        store.shift_remove("users");
    }
    if let (NewHash::Argon2id, Some(Value::Object(hash))) =
        (config.passwords.new_hash, tree.get_mut("login").and_then(|login| login.get_mut("hash")))
    {
        hash.shift_remove("cost");
    }
    for upstream in config.upstreams.iter().filter(|upstream| !matches!(upstream.token, TokenForwarding::Mint(_))) {
        let settings = tree.get_mut("upstreams").and_then(|upstreams| upstreams.get_mut(&*upstream.name));
        if let Some(Value::Object(token)) = settings.and_then(|settings| settings.get_mut("token")) {
            token.retain(|key, _| key == "mode");
        }
    }
    // A route's name is part of what metrics and logs show, so it is told also where the path gave it.
    if let Some(Value::Array(routes)) = tree.get_mut("routes") {
        for (tree, route) in routes.iter_mut().zip(&config.routes) {
            if let Value::Object(tree) = tree {
                tree.shift_insert(0, "name".to_owned(), Value::from(route.name.as_ref()));
            }
        }
    }
    Value::Object(tree)
}

/// Adds the upstreams and routes of a further file.
fn merge(tree: &mut Map<String, Value>, further: Map<String, Value>) {
    for (name, value) in further {
        match (tree.get_mut(&name), value) {
            (Some(Value::Object(tables)), Value::Object(more)) => tables.extend(more),
            (Some(Value::Array(tables)), Value::Array(more)) => tables.extend(more),
            (_, value) => {
                tree.insert(name, value);
            }
        }
    }
}

/// A table of the file, or one of defaults.
fn table(shape: &Shape, given: Option<&DeTable<'_>>) -> Map<String, Value> {
    let mut tree = Map::new();
    for key in shape.0 {
        let value = given.and_then(|table| table.get(key.name)).map(toml::Spanned::get_ref);
        if let Some(value) = content(key.name, key.content, value) {
            tree.insert(key.name.to_owned(), value);
        }
    }
    tree
}

fn content(name: &str, content: Content, given: Option<&DeValue<'_>>) -> Option<Value> {
    match (content, given) {
        (Content::Default(..) | Content::Required(_) | Content::Optional(_), Some(value)) => {
            Some(shown(value, is_secret_key(name)))
        }
        (Content::Default(_, text), None) => DeValue::parse(text).ok().map(|value| shown(value.get_ref(), false)),
        (Content::Required(_) | Content::Optional(_), None) | (Content::Later, _) => None,
        (Content::Table(shape), given) => Some(Value::Object(table(shape, given.and_then(DeValue::as_table)))),
        (Content::Named(shape), given) => {
            let tables = given.and_then(DeValue::as_table).into_iter().flatten();
            let tables = tables.map(|(name, value)| {
                (name.get_ref().to_string(), Value::Object(table(shape, value.get_ref().as_table())))
            });
            Some(Value::Object(tables.collect()))
        }
        (Content::List(shape), given) => {
            let tables = given.and_then(DeValue::as_array).into_iter().flat_map(|array| array.iter());
            Some(Value::Array(tables.map(|value| Value::Object(table(shape, value.get_ref().as_table()))).collect()))
        }
    }
}

/// A value as JSON, without what must stay secret.
fn shown(value: &DeValue<'_>, secret: bool) -> Value {
    match value {
        DeValue::String(_) if secret => Value::from(REDACTED),
        DeValue::String(text) if has_password(text) => {
            let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
            Value::from(format!("{scheme}://{REDACTED}"))
        }
        DeValue::Array(array) => array.iter().map(|element| shown(element.get_ref(), secret)).collect(),
        DeValue::Table(table) => {
            let members = table.iter().map(|(key, value)| {
                let key = key.get_ref();
                (key.to_string(), shown(value.get_ref(), (secret || is_secret_key(key)) && !names_a_place(key)))
            });
            Value::Object(members.collect())
        }
        DeValue::Integer(_) | DeValue::Float(_) if secret => Value::from(REDACTED),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            super::store::to_json(value).unwrap_or(Value::Null)
        }
    }
}
