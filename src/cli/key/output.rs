//! Keys on standard output: a table for people, JSON for programs. No private part is in either.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::app::keys::{KeyRole, OwnKey};
use crate::cli::style;
use crate::gateway::chain;

pub(super) fn list(out: &mut (dyn Write + '_), messages: &mut dyn Write, own: &[OwnKey], json: bool) -> io::Result<()> {
    if json {
        let keys: Vec<Value> = own.iter().map(object).collect();
        return writeln!(out, "{}", style::json(&Value::Array(keys)));
    }
    if own.is_empty() {
        return writeln!(messages, "there are no keys yet; `tollgate run` makes the first when it starts");
    }
    let mut rows = vec![["KID", "ALGORITHM", "CREATED", "STATE"].map(str::to_owned)];
    rows.extend(own.iter().map(|key| {
        let state = match problem(key) {
            Some(problem) => format!("{}: {problem}", state(key)),
            None => state(key).to_owned(),
        };
        let created = key.created_at.map_or_else(|| "-".to_owned(), |created| created.to_string());
        [key.kid.clone(), key.algorithm.clone(), created, state]
    }));
    style::table(out, &rows)
}

fn object(key: &OwnKey) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": key.algorithm,
        "created": key.created_at.map(|created| created.to_string()),
        "state": state(key),
        "problem": problem(key),
    })
}

const fn state(key: &OwnKey) -> &'static str {
    match key.role {
        KeyRole::Signs(_) => "signs",
        KeyRole::Verifies(_) => "verifies",
        KeyRole::Unusable(_) => "unusable",
    }
}

fn problem(key: &OwnKey) -> Option<String> {
    match &key.role {
        KeyRole::Unusable(error) => Some(chain(error)),
        KeyRole::Signs(_) | KeyRole::Verifies(_) => None,
    }
}
