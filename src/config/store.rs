//! `[store]`.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use toml::de::DeValue;

use crate::keyset::Sealer;
use crate::store::{StoreLocation, StoreSettings, UserFields, UserMapping};

use super::reader::{Fault, Findings, Node, Section};
use super::secret::{encryption_key, inline_or_reference};
use super::value::{list, set, text, word, word_or_nothing};

pub(super) fn store(file: &Section<'_>, findings: &mut Findings) -> Option<StoreSettings> {
    let section = file.table("store", findings)?;
    let location = section.read("url", findings, location);
    let users = users(&section, findings);
    if matches!(location, Some(StoreLocation::Sqlite { .. }))
        && let Some(users) = section.given("users")
    {
        let message = "`store.users` describes a MongoDB collection, and `store.url` names a SQLite file";
        let hint = "remove `store.users`, or name the MongoDB database in `store.url`";
        return findings.refuse(users.problem(message).hint(hint));
    }
    Some(StoreSettings { location: location?, users: users? })
}

/// `store.encryption_key` and `store.previous_encryption_keys`.
pub(super) fn sealer(file: &Section<'_>, findings: &mut Findings) -> Option<Sealer> {
    let section = file.table("store", &mut Findings::default())?;
    let current = section.optional("encryption_key", findings, encryption_key);
    let previous = section.read("previous_encryption_keys", findings, list(encryption_key));
    match (current?, previous?) {
        (Some(current), previous) => Some(Sealer::new(current, previous)),
        (None, previous) if previous.is_empty() => Some(Sealer::default()),
        (None, _) => {
            let message =
                "`store.previous_encryption_keys` needs `store.encryption_key`: what they encrypted is encrypted anew";
            findings.refuse(section.problem("previous_encryption_keys", message))
        }
    }
}

fn users(store: &Section<'_>, findings: &mut Findings) -> Option<UserMapping> {
    let section = store.table("users", findings)?;
    let collection = section.read("collection", findings, text(collection));
    let filter = section.read("filter", findings, filter);
    let fields = fields(&section, findings);
    Some(UserMapping { collection: collection?, filter: filter?, fields: fields? })
}

fn fields(users: &Section<'_>, findings: &mut Findings) -> Option<UserFields> {
    let section = users.table("fields", findings)?;
    let login = section.read("login", findings, |node, findings| {
        // One field is common enough to be written without brackets.
        if node.value.is_str() {
            text(field)(node, findings).map(|name| vec![name])
        } else {
            set(text(field))(node, findings)
        }
    });
    let password = section.read("password", findings, text(field));
    let subject = section.read("subject", findings, text(field));
    let name = section.read("name", findings, text(field_or_nothing));
    let email = section.read("email", findings, text(field_or_nothing));
    let roles = section.read("roles", findings, text(field_or_nothing));
    let scopes = section.read("scopes", findings, text(field_or_nothing));
    let disabled = section.read("disabled", findings, text(field_or_nothing));
    Some(UserFields {
        login: login?,
        password: password?,
        subject: subject?,
        name: name?,
        email: email?,
        roles: roles?,
        scopes: scopes?,
        disabled: disabled?,
    })
}

fn location(node: &Node<'_>, findings: &mut Findings) -> Option<StoreLocation> {
    let url = inline_or_reference(node, findings)?;
    let location = findings.accept(node, parse_location(&url))?;
    if node.value.is_str() && matches!(location, StoreLocation::Mongo { .. }) && has_password(url.expose_secret()) {
        let message = format!("`{}` has a password in it, which everybody who reads this file then knows", node.path);
        findings.warnings.push(node.problem(message).hint("write { env = \"NAME\" } or { file = \"path\" } instead"));
    }
    Some(location)
}

/// Says nothing of the URL's text, which may hold a password.
fn parse_location(url: &SecretString) -> Result<StoreLocation, Fault> {
    let text = url.expose_secret();
    if let Some(path) = text.strip_prefix("sqlite://") {
        if path.is_empty() || path.ends_with('/') {
            return Err(Fault::new("names no file").hint("write \"sqlite://data/tollgate.db\""));
        }
        if path.contains(['?', '#']) {
            return Err(Fault::new("has options after the path, which SQLite URLs have none of here"));
        }
        return Ok(StoreLocation::Sqlite { path: PathBuf::from(word(path)?) });
    }
    if text.starts_with("mongodb+srv://") {
        return Err(Fault::new("begins with `mongodb+srv://`, which is not supported yet")
            .hint("name the servers: \"mongodb://host1,host2/database?replicaSet=name&tls=true\""));
    }
    let Some(rest) = text.strip_prefix("mongodb://") else {
        return Err(Fault::new("must begin with `sqlite://` or `mongodb://`"));
    };
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    if hosts.rsplit('@').next().is_none_or(str::is_empty) {
        return Err(Fault::new("names no server").hint("write \"mongodb://host:27017/database\""));
    }
    if database.split('?').next().is_none_or(str::is_empty) {
        return Err(
            Fault::new("names no database").hint("write it after the servers: \"mongodb://host:27017/database\"")
        );
    }
    Ok(StoreLocation::Mongo { uri: url.clone() })
}

/// Whether a MongoDB URI has a password for its user.
fn has_password(uri: &str) -> bool {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

fn collection(text: &str) -> Result<String, Fault> {
    let name = word(text)?;
    if name.contains('$') || name.starts_with("system.") {
        return Err(Fault::new("is no name that MongoDB allows"));
    }
    Ok(name)
}

/// A field of a document; a dot reaches into a sub-document.
fn field(text: &str) -> Result<String, Fault> {
    let name = word(text)?;
    if name.split('.').any(|part| part.is_empty() || part.starts_with('$')) {
        return Err(Fault::new("is no name of a field")
            .hint("write \"name\", or \"profile.name\" for a field of a sub-document"));
    }
    Ok(name)
}

fn field_or_nothing(text: &str) -> Result<Option<String>, Fault> {
    Ok(match word_or_nothing(text)? {
        Some(text) => Some(field(&text)?),
        None => None,
    })
}

/// A table as MongoDB extended JSON.
fn filter(node: &Node<'_>, findings: &mut Findings) -> Option<Map<String, Value>> {
    let result = match to_json(node.value) {
        Ok(Value::Object(filter)) => Ok(filter),
        Ok(_) => Err(node.wrong_type("a table")),
        Err(fault) => Err(fault),
    };
    findings.accept(node, result)
}

/// A value of the file as JSON. A date has no counterpart there.
pub(super) fn to_json(value: &DeValue<'_>) -> Result<Value, Fault> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::from)
            .map_err(|_| Fault::new("holds a number that is too large"))?,
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| Fault::new("holds a number that is not finite"))?,
        DeValue::Datetime(_) => {
            return Err(Fault::new("holds a date").hint("write { \"$date\" = \"2026-01-31T00:00:00Z\" }"));
        }
        DeValue::Array(array) => {
            Value::Array(array.iter().map(|element| to_json(element.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let members = table.iter().map(|(key, value)| Ok((key.get_ref().to_string(), to_json(value.get_ref())?)));
            Value::Object(members.collect::<Result<_, Fault>>()?)
        }
    })
}
