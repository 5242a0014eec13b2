//! Whoever is disabled, removed or gets another password is logged out everywhere.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::{Audit, Event, Origin, Whom};
use crate::config::Config;
use crate::session::{EndReason, Sessions};
use crate::store::{Found, Patience, Store, StoreError};
use crate::time::UnixSeconds;

use super::UserError;

/// The subject of an account, if its record can be read.
pub(super) async fn subject(store: &dyn Store, login: &str) -> Result<Option<String>, StoreError> {
    Ok(match store.find_login(login).await? {
        Found::One(record) => Some(record.account.subject),
        // The change itself says what is wrong.
        Found::Nobody | Found::Several | Found::Malformed(_) => None,
    })
}

/// Ends all sessions of a person, and returns what to add to the message about the change.
pub(super) async fn end(
    store: &Arc<dyn Store>,
    config: &Config,
    audit: &Audit,
    (login, subject): (&str, Option<&str>),
    reason: EndReason,
) -> Result<String, UserError> {
    let Some(subject) = subject else {
        return Ok("; its record cannot be read, so that sessions go on until their next refresh".to_owned());
    };
    let sessions = Sessions::new(Arc::clone(store), config.sessions.clone(), Patience::new(Duration::ZERO));
    let ended = sessions.end_all(Some(subject), reason, UnixSeconds::now()).await;
    let ended = ended.map_err(|source| UserError::SessionsLeft { login: login.to_owned(), source })?;
    if ended == 0 {
        return Ok(String::new());
    }
    let whom = Whom { subject: Some(subject), login: Some(login), session: None };
    audit.record(&Event::SessionsRevoked { reason: reason.name(), sessions: ended }, whom, &Origin::CommandLine);
    let sessions = if ended == 1 { "1 session".to_owned() } else { format!("{ended} sessions") };
    Ok(format!("; {sessions} ended"))
}
