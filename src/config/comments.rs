//! What the commented default file says of each key: its comments are the documentation that the schema and
//! docs/configuration.md repeat.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::de::DeValue;

use super::DEFAULT_FILE;
use super::reader::join;

/// What the default file says, by the path of a key or table, such as `server.listen` or `upstreams.*.servers`.
#[derive(Debug, Default)]
pub(super) struct Comments {
    meanings: BTreeMap<String, String>,
    values: BTreeMap<String, Vec<Told>>,
}

/// A value that the file shows for a key.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) value: Value,
    /// As the file writes it.
    pub(super) text: String,
}

impl Comments {
    /// Reads the default file. A comment belongs to the line below it; a blank line ends it. A line that begins with `#` and
    /// no space is an example, and is read as if it were in effect.
    pub(super) fn read() -> Self {
        let mut comments = Self::default();
        let mut section = String::new();
        let mut comment = String::new();
        for line in DEFAULT_FILE.lines() {
            if let Some(text) = line.strip_prefix("# ") {
                comment = if comment.is_empty() { text.to_owned() } else { format!("{comment} {text}") };
                continue;
            }
            let line = line.strip_prefix('#').unwrap_or(line);
            if let Some(header) = line.strip_prefix('[') {
                section = general(header.trim_matches(['[', ']']));
                comments.note(&section, &mut comment);
            } else if let Some((key, text)) = line.split_once(" = ") {
                let path = join(&section, key);
                comments.note(&path, &mut comment);
                comments.show(&path, text);
            }
            comment.clear();
        }
        comments
    }

    /// What the file says of a key or a table. A key of a table that is written in one line has the comment of the line.
    pub(super) fn meaning(&self, path: &str) -> &str {
        let path = path.strip_suffix(".*").unwrap_or(path);
        match (self.meanings.get(path), path.rsplit_once('.')) {
            (Some(meaning), _) => meaning,
            (None, Some((table, _))) if self.values.contains_key(path) => self.meaning(table),
            (None, Some(_) | None) => "",
        }
    }

    /// The values that the file shows for a key, all of its lines read: a key that is there twice has two.
    pub(super) fn values(&self, path: &str) -> &[Told] {
        self.values.get(path).map_or(&[], Vec::as_slice)
    }

    /// The first comment of a path counts: what comes later is one more example.
    fn note(&mut self, path: &str, comment: &mut String) {
        let comment = std::mem::take(comment);
        let path = path.strip_suffix(".*").unwrap_or(path);
        if !comment.is_empty() {
            self.meanings.entry(path.to_owned()).or_insert(comment);
        }
    }

    fn show(&mut self, path: &str, text: &str) {
        let value = DeValue::parse(text).ok().and_then(|value| super::store::to_json(value.get_ref()).ok());
        let Some(value) = value else { return };
        if let Value::Object(members) = &value {
            for (name, value) in members {
                let told = Told { value: value.clone(), text: value.to_string() };
                self.values.entry(join(path, name)).or_default().push(told);
            }
        }
        self.values.entry(path.to_owned()).or_default().push(Told { value, text: text.to_owned() });
    }
}

/// `upstreams.datasets` is one of `upstreams.*`, and `routes` is the list `routes.*`, as `login.aliases` is.
fn general(header: &str) -> String {
    let mut parts: Vec<&str> = header.split('.').collect();
    match parts.as_mut_slice() {
        ["upstreams" | "issuers", name, ..] => *name = "*",
        ["routes"] | ["login", "aliases"] => parts.push("*"),
        _ => {}
    }
    parts.join(".")
}
