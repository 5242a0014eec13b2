//! From a login or a refresh to the tokens: what both give, whichever endpoint words it.

use std::collections::HashSet;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::account::throttle::Attempt;
use crate::account::{Account, LoginError};
use crate::audit::{Event, LoginFailure, Origin, Whom};
use crate::session::{Begin, EndReason, Granted, RefreshError, RefreshToken, SessionId};
use crate::time::UnixSeconds;
use crate::token::mint::{AccessGrant, MintError, MintedToken};

use super::form::LoginForm;
use super::{Issuer, IssuerError, Visit};

/// What a client gets for a login or a refresh. `Debug` hides the tokens.
#[derive(Debug)]
pub struct Issued {
    /// The access token.
    pub access: MintedToken,
    /// The scopes of the access token, separated by spaces. Empty: none.
    pub scope: String,
    /// The session that both tokens belong to.
    pub session: SessionId,
    /// With which name or address the person logged in.
    pub login: String,
    /// The refresh token, which takes the place of any earlier one of the session.
    pub refresh: RefreshToken,
    /// The life of the refresh token from now, unless it is used before: for the `Max-Age` of a cookie.
    pub refresh_expires_in: Duration,
}

/// An access token that is made before its session is changed, so that what cannot get a token changes nothing.
struct Made {
    grant: AccessGrant,
    token: MintedToken,
    at: UnixSeconds,
}

/// An access token that was made this long before its session was changed is made anew. Within it nobody notices the difference,
/// and a second signature costs.
const MAX_LOST_LIFE: Duration = Duration::from_secs(1);

/// What a client asks for with a refresh token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal<'a> {
    /// The refresh token.
    pub(super) token: &'a str,
    /// The session of an access token that was presented besides, which must be the same.
    pub(super) access_session: Option<SessionId>,
    /// `scope`: what the access token shall be narrowed to (RFC 6749 section 6).
    pub(super) scope: Option<&'a str>,
    /// `client_id`, which must be the one of the session.
    pub(super) client_id: Option<&'a str>,
}

impl Issuer {
    /// Checks the password, begins a session and makes its tokens. Runs on the control runtime.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub async fn issue(&self, form: &LoginForm, client_id: Option<&str>, visit: &Visit) -> Result<Issued, IssuerError> {
        let origin = visit.origin();
        let requested = form.scope.as_deref().map_or(Ok(Vec::new()), requested_scopes)?;
        // A device where the person is logged in is not slowed down by strangers who guess elsewhere.
        let session_of = match &visit.cookie {
            Some(cookie) => self.sessions.owner_of(cookie.expose_secret(), visit.now()).await,
            None => None,
        };
        let attempt = Attempt { address: visit.client.address, session_of: session_of.as_deref(), now: visit.now() };
        let proven = self.accounts.log_in(&form.username, &form.password, &attempt).await;
        let proven = proven.inspect_err(|error| self.tell_of_failure(error, &form.username, &origin))?;
        let account = &proven.account;
        let (subject, login) = (account.subject.clone(), account.login.clone());
        let whom = Whom { subject: Some(&subject), login: Some(&login), session: None };
        let scopes = narrow(&requested, account).inspect_err(|_| {
            self.audit.record(&Event::LoginFailed { reason: LoginFailure::ScopeNotGranted }, whom, &origin);
        })?;
        let client_id = client_id.unwrap_or(&self.settings.client_id);
        // Before the session begins, so that what cannot get a token leaves no session.
        let session = SessionId::random().map_err(IssuerError::StoreUnavailable)?;
        let access = self.access_token(account, client_id, session, scopes, visit).map_err(IssuerError::Mint)?;
        let begin = Begin { session, account, client_id, scope: &requested.join(" "), seen: visit.seen() };
        let granted = self.sessions.begin(begin, visit.arrival).await.map_err(IssuerError::StoreUnavailable)?;
        if let Err(error) = self.accounts.still_proven(&proven, &form.password).await {
            self.tell_of_failure(&error, &form.username, &origin);
            // Nobody has a token of it, so that it only stands in lists until it expires, should this fail.
            let _ = self.sessions.end(session, None, overtaken_by(&error), visit.now()).await;
            return Err(error.into());
        }
        let session = session.to_string();
        self.audit.record(&Event::LoginSucceeded { client_id }, Whom { session: Some(&session), ..whom }, &origin);
        Ok(self.issued(access, login, granted))
    }

    /// Tells the audit of a failed login.
    fn tell_of_failure(&self, error: &LoginError, typed: &str, origin: &Origin) {
        if let Some((event, subject)) = failure(error) {
            // Who is somebody has that login; what is nobody's may be a password in the wrong field.
            let login = subject.map(|_| typed);
            self.audit.record(&event, Whom { subject, login, session: None }, origin);
        }
    }

    /// Changes a refresh token for the next, with an access token that has the roles and scopes that the account has now. Runs
    /// on the control runtime.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub(super) async fn renew(&self, renewal: Renewal<'_>, visit: &Visit) -> Result<Issued, IssuerError> {
        let asked = renewal.scope.map_or(Ok(Vec::new()), requested_scopes)?;
        let found = self.sessions.look_up(renewal.token, renewal.access_session, visit.arrival).await;
        let candidate = found.inspect_err(|error| self.tell_of(error, visit))?;
        let (account, row) = (&candidate.account, &candidate.row);
        if renewal.client_id.is_some_and(|client| client != row.client_id) {
            return Err(IssuerError::OtherClient { session: row.id });
        }
        let requested: Vec<&str> = row.scope.split(' ').filter(|scope| !scope.is_empty()).collect();
        let scopes = narrowed_again(still_granted(&requested, account), &asked, account)?;
        let access = self.access_token(account, &row.client_id, row.id, scopes, visit).map_err(IssuerError::Mint)?;
        let (subject, login) = (account.subject.clone(), account.login.clone());
        let rotated = self.sessions.rotate(candidate, visit.seen()).await;
        let granted = rotated.inspect_err(|error| self.tell_of(error, visit))?;
        let session = granted.session.to_string();
        let whom = Whom { subject: Some(&subject), login: Some(&login), session: Some(&session) };
        self.audit.record(&Event::Refreshed, whom, &visit.origin());
        Ok(self.issued(access, login, granted))
    }

    /// Tells the audit of a session that a refresh ended. Of two that meet only one did.
    pub(super) fn tell_of(&self, error: &RefreshError, visit: &Visit) {
        let (event, subject, session) = match error {
            RefreshError::Reused { subject, session, ended: true } => (Event::RefreshReplayed, subject, session),
            RefreshError::Account { subject, session, reason } => {
                (Event::SessionsRevoked { reason: reason.name(), sessions: 1 }, subject, session)
            }
            RefreshError::Reused { ended: false, .. }
            | RefreshError::Invalid(_)
            | RefreshError::Unreadable { .. }
            | RefreshError::Store(_) => return,
        };
        let session = session.to_string();
        let whom = Whom { subject: Some(subject), login: None, session: Some(&session) };
        self.audit.record(&event, whom, &visit.origin());
    }

    /// Signs an access token.
    fn access_token(
        &self,
        account: &Account,
        client_id: &str,
        session: SessionId,
        scopes: Vec<String>,
        visit: &Visit,
    ) -> Result<Made, MintError> {
        let grant = AccessGrant {
            subject: account.subject.clone(),
            client_id: client_id.to_owned(),
            session: Some(session.to_string()),
            scopes,
            roles: account.roles.clone(),
            name: account.name.clone(),
            email: account.email.clone(),
        };
        let at = visit.now();
        Ok(Made { token: self.minter.mint(&grant, at)?, grant, at })
    }

    /// What the client gets. Where the store made it wait, the access token is made anew, or it would come with a part of its life
    /// over.
    fn issued(&self, Made { grant, token, at }: Made, login: String, granted: Granted) -> Issued {
        let lost = granted.at.since(at);
        let anew = (lost > MAX_LOST_LIFE).then(|| self.minter.mint(&grant, granted.at));
        Issued {
            // Should it not work out this time, the first one is still good.
            access: anew.and_then(Result::ok).unwrap_or(token),
            scope: grant.scopes.join(" "),
            session: granted.session,
            login,
            refresh: granted.token,
            refresh_expires_in: granted.expires_at.since(granted.at),
        }
    }
}

/// Why a session ends whose login no longer holds.
const fn overtaken_by(error: &LoginError) -> EndReason {
    match error {
        LoginError::WrongPassword { .. } => EndReason::PasswordChanged,
        LoginError::Disabled { .. } => EndReason::AccountDisabled,
        LoginError::UnknownUser | LoginError::AmbiguousLogin | LoginError::MalformedRecord { .. } => {
            EndReason::AccountRemoved
        }
        LoginError::Throttled { .. } | LoginError::Overloaded { .. } | LoginError::Store(_) => EndReason::Revoked,
    }
}

/// What the audit is told of a failed login, and of whom; `None`: it says nothing about an account.
fn failure(error: &LoginError) -> Option<(Event<'static>, Option<&str>)> {
    if let LoginError::Throttled { retry_after: _, reason, subject } = error {
        return Some((Event::LoginThrottled { reason: *reason }, subject.as_deref()));
    }
    let (reason, subject) = match error {
        LoginError::UnknownUser => (LoginFailure::UnknownUser, None),
        LoginError::AmbiguousLogin => (LoginFailure::AmbiguousLogin, None),
        LoginError::WrongPassword { subject } => (LoginFailure::WrongPassword, subject.as_deref()),
        LoginError::Disabled { subject } => (LoginFailure::Disabled, Some(subject.as_str())),
        LoginError::MalformedRecord { subject, reason: _ } => (LoginFailure::MalformedRecord, known(subject)),
        LoginError::Throttled { .. } | LoginError::Overloaded { .. } | LoginError::Store(_) => return None,
    };
    Some((Event::LoginFailed { reason }, subject))
}

/// `?` is how the store calls a record without a subject.
fn known(subject: &str) -> Option<&str> {
    (subject != "?").then_some(subject)
}

/// `scope-token *( SP scope-token )`, several spaces and spaces around allowed. Empty: all that the account has.
pub(super) fn requested_scopes(scope: &str) -> Result<Vec<&str>, IssuerError> {
    let scopes: Vec<&str> = scope.split(' ').filter(|scope| !scope.is_empty()).collect();
    if scopes.iter().all(|scope| is_scope_token(scope)) { Ok(scopes) } else { Err(IssuerError::ScopeMalformed) }
}

/// The account's scopes, or those of them that were asked for; in the account's order, each once.
fn narrow(requested: &[&str], account: &Account) -> Result<Vec<String>, IssuerError> {
    let scopes = still_granted(requested, account);
    // Distinct on both sides, so that as many are the same.
    if !requested.is_empty() && scopes.len() != requested.iter().collect::<HashSet<_>>().len() {
        return Err(IssuerError::ScopeNotGranted { subject: account.subject.clone() });
    }
    Ok(scopes)
}

/// Those of a session's scopes that were asked for this time; none asked for: all.
fn narrowed_again(mut scopes: Vec<String>, asked: &[&str], account: &Account) -> Result<Vec<String>, IssuerError> {
    let asked: HashSet<&str> = asked.iter().copied().collect();
    if !asked.is_empty() {
        scopes.retain(|scope| asked.contains(scope.as_str()));
        if scopes.len() != asked.len() {
            return Err(IssuerError::ScopeNotGranted { subject: account.subject.clone() });
        }
    }
    Ok(scopes)
}

/// As [`narrow`], without those that the account does not have (any more).
fn still_granted(requested: &[&str], account: &Account) -> Vec<String> {
    // By sets: whoever can write a record of a million scopes must not be able to make its login cost minutes.
    let mut known: HashSet<&str> = HashSet::new();
    let mut granted: Vec<String> = Vec::new();
    let mut left_out = 0_usize;
    for scope in &account.scopes {
        if !is_scope_token(scope) {
            // One with a space in it would be read as two scopes that nobody gave.
            left_out += 1;
        } else if known.insert(scope) {
            granted.push(scope.clone());
        }
    }
    if left_out > 0 {
        tracing::warn!(account.subject = %account.subject, scopes = left_out, "Left out scopes that are not one word of printable ASCII");
    }
    if !requested.is_empty() {
        let requested: HashSet<&str> = requested.iter().copied().collect();
        granted.retain(|scope| requested.contains(scope.as_str()));
    }
    granted
}

/// `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )` (RFC 6749 section 3.3).
fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn account(scopes: &[&str]) -> Account {
        Account {
            subject: "1".into(),
            login: "ada".into(),
            name: None,
            email: None,
            roles: Vec::new(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            disabled: false,
        }
    }

    /// The scopes of the token, or what stands for the error.
    fn narrowed(requested: &str, granted: &[&str]) -> String {
        match requested_scopes(requested).and_then(|requested| narrow(&requested, &account(granted))) {
            Ok(scopes) => scopes.join(" "),
            Err(IssuerError::ScopeMalformed) => "malformed".into(),
            Err(IssuerError::ScopeNotGranted { subject }) => format!("not granted to {subject}"),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn without_a_scope_the_token_has_all_of_the_account() {
        assert_eq!(narrowed("", &["a", "b"]), "a b");
        assert_eq!(narrowed("  ", &["a", "b"]), "a b");
        assert_eq!(narrowed("", &[]), "");
    }

    #[test]
    fn a_scope_narrows_in_the_order_of_the_account() {
        assert_eq!(narrowed("b", &["a", "b"]), "b");
        assert_eq!(narrowed(" b  a b ", &["a", "b", "c"]), "a b");
    }

    #[test]
    fn a_scope_that_the_account_lacks_is_refused() {
        assert_eq!(narrowed("a c", &["a", "b"]), "not granted to 1");
        assert_eq!(narrowed("A", &["a"]), "not granted to 1");
        assert_eq!(narrowed("a", &[]), "not granted to 1");
    }

    #[test]
    fn a_malformed_scope_is_refused() {
        for scope in ["a\tb", "a\"", "a\\", "ä", "a\nb", "a\0"] {
            assert_eq!(narrowed(scope, &["a", "b"]), "malformed", "{scope:?}");
        }
    }

    #[test]
    fn a_stored_scope_with_a_space_does_not_become_two() {
        assert_eq!(narrowed("", &["read admin", "read", "read"]), "read");
        assert_eq!(narrowed("admin", &["read admin"]), "not granted to 1");
    }

    #[test]
    fn many_scopes_cost_no_more_than_their_length() {
        let many: Vec<String> = (0..150_000).map(|number| format!("scope:{number}")).collect();
        let asked: Vec<&str> = many.iter().rev().take(7000).map(String::as_str).collect();
        let account = Account { scopes: many.clone(), ..account(&[]) };
        let start = Instant::now();
        assert_eq!(narrow(&asked, &account).unwrap().len(), 7000);
        // Each with each would be some 10^10 comparisons.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    fn a_scope_that_was_taken_away_is_left_out_of_a_refresh_and_never_means_all() {
        assert_eq!(still_granted(&["a", "b"], &account(&["b", "c"])), ["b"]);
        assert!(still_granted(&["a"], &account(&["b", "c"])).is_empty());
        assert_eq!(still_granted(&[], &account(&["b", "c"])), ["b", "c"]);
    }

    #[test]
    fn a_refresh_narrows_to_scopes_of_the_session_only() {
        let narrowed = |asked: &[&str]| narrowed_again(vec!["a".into(), "b".into()], asked, &account(&["a", "b", "c"]));
        assert_eq!(narrowed(&[]).unwrap(), ["a", "b"]);
        assert_eq!(narrowed(&["b", "b"]).unwrap(), ["b"]);
        assert!(matches!(narrowed(&["b", "c"]), Err(IssuerError::ScopeNotGranted { .. })));
    }
}
