//! Keys on standard output: a table for people, JSON for programs. No private part is in either.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::app::keys::{KeyRole, OwnKey};
use crate::cause::chain;
use crate::cli::style;
use crate::keyset::Seal;
use crate::time::UnixSeconds;

pub(super) fn list(out: &mut (dyn Write + '_), messages: &mut dyn Write, own: &[OwnKey], json: bool) -> io::Result<()> {
    if json {
        let keys: Vec<Value> = own.iter().map(object).collect();
        return writeln!(out, "{}", style::json(&Value::Array(keys)));
    }
    if own.is_empty() {
        return writeln!(messages, "there are no keys yet; `tollgate run` makes the first when it starts");
    }
    let mut rows = vec![["KID", "ALGORITHM", "CREATED", "ENCRYPTED", "STATE"].map(str::to_owned)];
    rows.extend(own.iter().map(|key| {
        let created = key.created_at.map_or_else(|| "-".to_owned(), |created| created.to_string());
        [key.kid.clone(), key.algorithm.clone(), created, encrypted(key).to_owned(), described(key)]
    }));
    style::table(out, &rows)
}

fn object(key: &OwnKey) -> Value {
    let date = |date: Option<UnixSeconds>| date.map(|date| date.to_string());
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm,
        "created": date(key.created_at),
        "state": state(key),
        "signs_from": date(key.active_from),
        "verifies_until": date(until(key)),
        "encrypted": key.seal.map(|seal| seal != Seal::None),
        "problem": problem(key),
    })
}

const fn state(key: &OwnKey) -> &'static str {
    match key.role {
        KeyRole::Signs(_) => "signs",
        KeyRole::Next(_) => "next",
        KeyRole::Verifies(..) => "verifies",
        KeyRole::Over => "over",
        KeyRole::Unusable(_) => "unusable",
    }
}

/// The state with its date or its reason.
fn described(key: &OwnKey) -> String {
    let state = state(key);
    match (&key.role, key.active_from) {
        (KeyRole::Unusable(error), _) => format!("{state}: {}", chain(error)),
        (KeyRole::Next(_), Some(from)) => format!("{state}: signs from {from}"),
        (KeyRole::Verifies(_, Some(until)), _) => format!("{state} until {until}"),
        (KeyRole::Signs(_) | KeyRole::Next(_) | KeyRole::Verifies(..) | KeyRole::Over, _) => state.to_owned(),
    }
}

const fn until(key: &OwnKey) -> Option<UnixSeconds> {
    match key.role {
        KeyRole::Verifies(_, until) => until,
        KeyRole::Signs(_) | KeyRole::Next(_) | KeyRole::Over | KeyRole::Unusable(_) => None,
    }
}

const fn encrypted(key: &OwnKey) -> &'static str {
    match key.seal {
        None => "-",
        Some(Seal::None) => "no",
        Some(Seal::Former) => "by another key",
        Some(Seal::Current) => "yes",
    }
}

fn problem(key: &OwnKey) -> Option<String> {
    match &key.role {
        KeyRole::Unusable(error) => Some(chain(error)),
        KeyRole::Signs(_) | KeyRole::Next(_) | KeyRole::Verifies(..) | KeyRole::Over => None,
    }
}
