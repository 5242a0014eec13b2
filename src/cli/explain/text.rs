//! An explanation for people.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::style::{Mark, Style, printable};

use super::finding::{Caller, Check, Explanation, Header, Outcome};

/// Columns for the names of checks, those of parts included.
const NAME_COLUMNS: usize = 16;

pub(super) fn write(out: &mut dyn Write, explanation: &Explanation, style: Style) -> io::Result<()> {
    let request = &explanation.request;
    let (method, url) = (printable(&request.method), printable(&request.url));
    writeln!(out, "{method} {url}\nat {}, from {}\n", request.at, request.client)?;
    for check in &explanation.checks {
        line(out, check, "", style)?;
        for part in &check.parts {
            line(out, part, "  ", style)?;
        }
        if check.name == "authentication" {
            if let Some(caller) = &explanation.caller {
                write_caller(out, caller)?;
            }
            if let Some(claimed) = &explanation.claimed {
                write_claimed(out, claimed)?;
            }
        }
    }
    writeln!(out)?;
    match explanation.outcome {
        Outcome::Allowed => write_allowed(out, explanation, style)?,
        Outcome::Refused => write_refusal(out, explanation, style)?,
        Outcome::Undecided => {
            let reason = explanation.undecided.as_deref().unwrap_or_default();
            writeln!(out, "{}: {reason}", style.verdict("cannot be judged", Mark::Unknown))?;
        }
    }
    for hint in &explanation.hints {
        writeln!(out, "hint: {hint}")?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, check: &Check, indent: &str, style: Style) -> io::Result<()> {
    let name = format!("{indent}{}", check.name);
    writeln!(out, "{}  {name:NAME_COLUMNS$}  {}", style.mark(check.outcome), check.says)
}

fn detail(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    let name = format!("  {name}");
    writeln!(out, "    {name:NAME_COLUMNS$}  {value}")
}

fn write_caller(out: &mut dyn Write, caller: &Caller) -> io::Result<()> {
    detail(out, "subject", &printable(&caller.subject))?;
    detail(out, "scopes", &printable(&caller.scopes.join(" ")))?;
    detail(out, "roles", &printable(&caller.roles.join(", ")))?;
    detail(out, "expires", &caller.expires_at)
}

fn write_claimed(out: &mut dyn Write, claimed: &Value) -> io::Result<()> {
    for part in ["header", "claims"] {
        let members = claimed[part].as_object().into_iter().flatten();
        let shown: Vec<String> =
            members.map(|(name, value)| format!("{}={}", printable(name), printable(&value.to_string()))).collect();
        let name = if part == "header" { "unverified" } else { "" };
        if !shown.is_empty() {
            let name = format!("  {name}");
            writeln!(out, "    {name:NAME_COLUMNS$}  {}", shown.join(" "))?;
        }
    }
    Ok(())
}

fn write_allowed(out: &mut dyn Write, explanation: &Explanation, style: Style) -> io::Result<()> {
    let allowed = style.verdict("allowed", Mark::Ok);
    if let Some(endpoint) = explanation.endpoint {
        return writeln!(out, "{allowed}: the gateway itself answers, as `{endpoint}`");
    }
    let Some(forwarded) = &explanation.forwarded else { return writeln!(out, "{allowed}") };
    let servers: Vec<String> = forwarded.servers.iter().map(|server| format!("`{server}`")).collect();
    writeln!(out, "{allowed}: the upstream `{}` ({}) would receive\n", forwarded.upstream, servers.join(" or "))?;
    writeln!(out, "{} {} HTTP/1.1", printable(&forwarded.method), printable(&forwarded.target))?;
    headers(out, &forwarded.headers)?;
    let Some(minted) = &forwarded.minted else { return Ok(()) };
    writeln!(out, "\nits token, {}, says", minted.algorithm)?;
    for (name, value) in &minted.claims {
        writeln!(out, "  {}: {}", printable(name), printable(&value.to_string()))?;
    }
    Ok(())
}

fn write_refusal(out: &mut dyn Write, explanation: &Explanation, style: Style) -> io::Result<()> {
    let Some(refusal) = &explanation.refusal else { return Ok(()) };
    let refused = style.verdict("refused", Mark::Refused);
    writeln!(out, "{refused}: {} `{}`: {}\n", refusal.status, refusal.code, refusal.detail)?;
    headers(out, &refusal.headers)?;
    if explanation.hints.is_empty() { Ok(()) } else { writeln!(out) }
}

fn headers(out: &mut dyn Write, headers: &[Header]) -> io::Result<()> {
    for header in headers {
        match (&header.value, header.note) {
            (Some(value), _) => writeln!(out, "{}: {}", header.name, printable(value))?,
            (None, note) => writeln!(out, "{}: ({})", header.name, note.unwrap_or("not shown"))?,
        }
    }
    Ok(())
}
