//! Users on standard output: a table for people, JSON for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::style::{self, table};
use crate::store::{Account, MalformedRecord};

/// A listing that is printed page by page.
#[derive(Debug)]
pub(super) struct Listing {
    json: bool,
    first: bool,
}

impl Listing {
    pub(super) fn begin(json: bool) -> io::Result<Self> {
        if json {
            write!(io::stdout().lock(), "[")?;
        }
        Ok(Self { json, first: true })
    }

    /// Prints one page; a record that cannot be read becomes a line that says so. Columns of a table are aligned
    /// within a page.
    pub(super) fn page(&mut self, page: &[Result<Account, MalformedRecord>]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            for record in page {
                let separator = if std::mem::take(&mut self.first) { "\n" } else { ",\n" };
                let shown = style::json_line(&record.as_ref().map_or_else(malformed, object));
                write!(out, "{separator}{shown}")?;
            }
            return Ok(());
        }
        let mut rows = Vec::with_capacity(page.len() + 1);
        if std::mem::take(&mut self.first) {
            rows.push(["LOGIN", "NAME", "EMAIL", "ROLES", "SCOPES", "STATE", "SUBJECT"].map(str::to_owned));
        }
        rows.extend(page.iter().map(|record| record.as_ref().map_or_else(malformed_row, row)));
        table(&mut out, &rows)
    }

    pub(super) fn end(self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match (self.json, self.first) {
            (true, true) => writeln!(out, "]"),
            (true, false) => writeln!(out, "\n]"),
            (false, true) => writeln!(io::stderr().lock(), "there are no users; add one with `tollgate user add`"),
            (false, false) => Ok(()),
        }
    }
}

/// Prints one account.
pub(super) fn account(out: &mut impl Write, account: &Account, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", style::json(&object(account)));
    }
    let [login, name, email, roles, scopes, state, subject] = row(account);
    let rows = [
        ["login".to_owned(), login],
        ["subject".to_owned(), subject],
        ["name".to_owned(), name],
        ["email".to_owned(), email],
        ["roles".to_owned(), roles],
        ["scopes".to_owned(), scopes],
        ["state".to_owned(), state],
    ];
    table(out, &rows)
}

/// The roles and scopes of an account, as the end of a sentence.
pub(super) fn grants(account: &Account) -> String {
    let words = |values: &[String]| if values.is_empty() { "none".to_owned() } else { values.join(" ") };
    format!("roles: {}; scopes: {}", words(&account.roles), words(&account.scopes))
}

fn object(account: &Account) -> Value {
    json!({
        "subject": account.subject,
        "login": account.login,
        "name": account.name,
        "email": account.email,
        "roles": account.roles,
        "scopes": account.scopes,
        "disabled": account.disabled,
    })
}

fn malformed(record: &MalformedRecord) -> Value {
    json!({ "subject": record.subject, "error": record.reason })
}

fn row(account: &Account) -> [String; 7] {
    let or_dash = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    [
        or_dash(Some(&account.login)),
        or_dash(account.name.as_deref()),
        or_dash(account.email.as_deref()),
        or_dash(Some(&account.roles.join(" "))),
        or_dash(Some(&account.scopes.join(" "))),
        if account.disabled { "disabled" } else { "enabled" }.to_owned(),
        account.subject.clone(),
    ]
}

fn malformed_row(record: &MalformedRecord) -> [String; 7] {
    let dash = || "-".to_owned();
    [dash(), dash(), dash(), dash(), dash(), format!("unusable: {}", record.reason), record.subject.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Account {
        Account {
            subject: "s1".to_owned(),
            login: "ada".to_owned(),
            name: Some("Ada\u{1b}[2J".to_owned()),
            email: None,
            roles: vec!["admin".to_owned()],
            scopes: vec!["read:x".to_owned(), "write:x".to_owned()],
            disabled: false,
        }
    }

    #[test]
    fn a_control_character_in_a_name_does_not_reach_the_terminal() {
        let mut out = Vec::new();
        account(&mut out, &ada(), false).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Ada\\u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("scopes   read:x write:x\n"), "{text}");
    }

    #[test]
    fn json_holds_the_account_and_no_password() {
        let mut out = Vec::new();
        account(&mut out, &ada(), true).unwrap();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["scopes"], json!(["read:x", "write:x"]));
        assert_eq!(value["email"], Value::Null);
        assert!(value.get("password").is_none());
    }
}
