//! What people do with their own account: see and end their sessions, change the password, make an account.

use serde_json::json;

use crate::account::throttle::Attempt;
use crate::account::{ChangeError, LoginError, NewAccount};
use crate::audit::{Event, Whom};
use crate::session::{EndReason, SessionId, SessionRow};
use crate::time::UnixSeconds;
use crate::token::Identity;

use super::form::{Accepted, Field, FormRequest};
use super::{Answer, Issuer, IssuerError, Visit};

/// Longest login, name and e-mail address of a new account, in bytes: as much as a login is read.
pub(super) const MAX_NEW_BYTES: usize = crate::account::MAX_CREDENTIAL_BYTES;

impl Issuer {
    /// `GET <prefix>/sessions`: those of the caller that are alive, the one that was used last at first. Runs on the control
    /// runtime.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub async fn sessions_of(&self, caller: &Identity, now: UnixSeconds) -> Result<Answer, IssuerError> {
        let subject = self.own_subject(caller)?;
        let mut rows: Vec<SessionRow> = Vec::new();
        loop {
            let after = rows.last().map(|row| row.id);
            let page = self.sessions.list(Some(subject), after, now).await.map_err(IssuerError::StoreUnavailable)?;
            let is_last = page.is_empty() || rows.len() >= MAX_LISTED;
            rows.extend(page);
            if is_last {
                break;
            }
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.used_at));
        let sessions: Vec<_> = rows.iter().map(|row| session(row, caller.session())).collect();
        Ok(Answer::not_stored(&json!({ "sessions": sessions })))
    }

    /// `DELETE <prefix>/sessions/{id}`: ends one of the caller's sessions. Runs on the control runtime.
    ///
    /// # Errors
    /// See [`IssuerError`]: [`IssuerError::SessionUnknown`] for one of somebody else, so that nobody can try ids.
    pub async fn end_session(&self, caller: &Identity, id: &str, visit: Visit) -> Result<Answer, IssuerError> {
        let subject = self.own_subject(caller)?;
        let id: SessionId = id.parse().map_err(|_| IssuerError::SessionUnknown)?;
        let ended = self.sessions.end(id, Some(subject), EndReason::Revoked, visit.now()).await;
        if !ended.map_err(IssuerError::StoreUnavailable)? {
            return Err(IssuerError::SessionUnknown);
        }
        self.tell_of_end(EndReason::Revoked, 1, subject, Some(&id.to_string()), &visit);
        Ok(Answer::not_stored(&json!({ "sessions_ended": 1 })))
    }

    /// `POST <prefix>/password`: sets a new password for who knows the current one, and ends the other sessions. Runs on the
    /// control runtime.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub async fn change_password(
        &self,
        caller: &Identity,
        request: FormRequest,
        visit: Visit,
    ) -> Result<Answer, IssuerError> {
        let subject = self.own_subject(caller)?;
        let known = &[Field::CurrentPassword, Field::NewPassword];
        let mut fields = request.read_fields(Accepted::FormsAndJson, known).map_err(IssuerError::Form)?;
        let current = fields.need(Field::CurrentPassword).map_err(IssuerError::Form)?;
        let new = fields.need(Field::NewPassword).map_err(IssuerError::Form)?;
        let whom = Whom { subject: Some(subject), login: None, session: caller.session() };
        let attempt = Attempt { address: visit.client.address, session_of: Some(subject), now: visit.now() };
        let changed = self.accounts.change_password(subject, &attempt, &current, &new).await;
        if let Some(event) = changed.as_ref().err().and_then(refused_change) {
            self.audit.record(&event, whom, &visit.origin());
        }
        changed?;
        self.audit.record(&Event::PasswordChanged, whom, &visit.origin());
        let (current, now) = (caller.session().and_then(|session| session.parse::<SessionId>().ok()), visit.now());
        let ended = match current {
            Some(current) => self.sessions.end_others(subject, current, EndReason::PasswordChanged, now).await,
            None => self.sessions.end_all(Some(subject), EndReason::PasswordChanged, now).await,
        };
        let ended = ended.map_err(IssuerError::OthersGoOn)?;
        if ended > 0 {
            self.tell_of_end(EndReason::PasswordChanged, ended, subject, None, &visit);
        }
        Ok(Answer::not_stored(&json!({ "sessions_ended": ended })))
    }

    /// `POST <prefix>/register`: makes an account without roles and scopes. Nobody is logged in by it. Runs on the control
    /// runtime.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub async fn register(&self, request: FormRequest, visit: Visit) -> Result<Answer, IssuerError> {
        let known = &[Field::Username, Field::Password, Field::Name, Field::Email];
        let mut fields = request.read_fields(Accepted::FormsAndJson, known).map_err(IssuerError::Form)?;
        let password = fields.need(Field::Password).map_err(IssuerError::Form)?;
        let mut text = |field| fields.take_text(field).map(|text| plain(field, text)).transpose();
        let (login, name, email) = (text(Field::Username)?, text(Field::Name)?, text(Field::Email)?);
        let login = login.ok_or(IssuerError::Form(super::FormError::Missing { field: Field::Username }))?;
        let password = self.accounts.hash_password(&password).await.map_err(IssuerError::NewPassword)?;
        let new = NewAccount { login, name, email, grants: Default::default(), password };
        let account = self.accounts.add(&new).await?;
        let whom = Whom { subject: Some(&account.subject), login: Some(&account.login), session: None };
        self.audit.record(&Event::Registered, whom, &visit.origin());
        Ok(Answer::created(&json!({ "subject": account.subject, "username": account.login })))
    }

    pub(super) fn tell_of_end(
        &self,
        reason: EndReason,
        sessions: u64,
        subject: &str,
        session: Option<&str>,
        visit: &Visit,
    ) {
        let whom = Whom { subject: Some(subject), login: None, session };
        self.audit.record(&Event::SessionsRevoked { reason: reason.name(), sessions }, whom, &visit.origin());
    }

    /// The caller's subject, if our own token names it. Another issuer's subjects are not those of our accounts, whatever their
    /// text.
    fn own_subject<'a>(&self, caller: &'a Identity) -> Result<&'a str, IssuerError> {
        if caller.issuer() == self.issuer { Ok(caller.subject()) } else { Err(IssuerError::OtherIssuer) }
    }
}

fn session(row: &SessionRow, current: Option<&str>) -> serde_json::Value {
    let id = row.id.to_string();
    json!({
        "current": current == Some(id.as_str()),
        "id": id,
        "created_at": row.created_at,
        "used_at": row.used_at,
        "expires_at": row.expires_at,
        "address": row.seen.address,
        "user_agent": row.seen.user_agent,
        "client_id": row.client_id,
    })
}

/// What the audit is told of a change of password that was refused; `None`: it says nothing about who asked for it.
const fn refused_change(error: &ChangeError) -> Option<Event<'static>> {
    match error {
        ChangeError::Login(LoginError::Throttled { reason, .. }) => Some(Event::LoginThrottled { reason: *reason }),
        ChangeError::Login(LoginError::Overloaded { .. } | LoginError::Store(_))
        | ChangeError::Password(_)
        | ChangeError::Taken
        | ChangeError::Store(_) => None,
        ChangeError::Login(
            LoginError::UnknownUser
            | LoginError::AmbiguousLogin
            | LoginError::WrongPassword { .. }
            | LoginError::Disabled { .. }
            | LoginError::MalformedRecord { .. },
        ) => Some(Event::PasswordChangeFailed),
    }
}

/// A text that people can type and that logs can show.
fn plain(field: Field, text: String) -> Result<String, IssuerError> {
    let is_plain = text.len() <= MAX_NEW_BYTES && text.trim() == text && !text.chars().any(char::is_control);
    if is_plain { Ok(text) } else { Err(IssuerError::Unfit { field }) }
}

impl From<ChangeError> for IssuerError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Login(error) => Self::from(error),
            ChangeError::Password(error) => Self::NewPassword(error),
            ChangeError::Taken => Self::LoginTaken,
            ChangeError::Store(error) => Self::from(LoginError::Store(error)),
        }
    }
}

/// Most sessions that are listed; whoever has more sees some of them.
const MAX_LISTED: usize = 4000;
