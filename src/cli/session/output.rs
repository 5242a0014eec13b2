//! Sessions on standard output: a table for people, JSON for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::style::{self, table};
use crate::session::SessionRow;

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

    /// Prints one page. Columns of a table are aligned within a page.
    pub(super) fn page(&mut self, page: &[SessionRow]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            for session in page {
                let separator = if std::mem::take(&mut self.first) { "\n" } else { ",\n" };
                write!(out, "{separator}{}", style::json_line(&object(session)))?;
            }
            return Ok(());
        }
        let mut rows = Vec::with_capacity(page.len() + 1);
        if std::mem::take(&mut self.first) {
            rows.push(
                ["ID", "LOGIN", "CREATED", "USED", "EXPIRES", "ADDRESS", "CLIENT", "USER AGENT"].map(str::to_owned),
            );
        }
        rows.extend(page.iter().map(row));
        table(&mut out, &rows)
    }

    pub(super) fn end(self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match (self.json, self.first) {
            (true, true) => writeln!(out, "]"),
            (true, false) => writeln!(out, "\n]"),
            (false, true) => writeln!(io::stderr().lock(), "there are no sessions"),
            (false, false) => Ok(()),
        }
    }
}

fn object(session: &SessionRow) -> Value {
    json!({
        "id": session.id.to_string(),
        "subject": session.subject,
        "login": session.login,
        "client_id": session.client_id,
        "scope": session.scope,
        "created_at": session.created_at.to_string(),
        "used_at": session.used_at.to_string(),
        "expires_at": session.expires_at.to_string(),
        "ends_at": session.ends_at.to_string(),
        "address": session.seen.address.map(|address| address.to_string()),
        "user_agent": session.seen.user_agent,
    })
}

fn row(session: &SessionRow) -> [String; 8] {
    let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    [
        session.id.to_string(),
        session.login.clone(),
        session.created_at.to_string(),
        session.used_at.to_string(),
        session.expires_at.to_string(),
        or_dash(session.seen.address.map(|address| address.to_string())),
        session.client_id.clone(),
        or_dash(session.seen.user_agent.clone()),
    ]
}
