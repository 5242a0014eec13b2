//! Who has a session: `<prefix>/refresh`, `<prefix>/logout`, `<prefix>/sessions` and `<prefix>/password`.

use std::sync::Arc;

use hyper::body::Incoming;
use secrecy::SecretString;

use crate::gateway::Gateway;
use crate::gateway::record::Record;
use crate::gateway::refusal::Refusal;
use crate::issuer::{Answer, IssuerError, OauthError};
use crate::metrics::{Grant, RefreshResult};
use crate::session::{RefreshError, SessionId};
use crate::token::Identity;
use crate::token::bearer::bearer;

use super::{Asked, visit};

impl Gateway {
    /// A refresh token becomes the next one.
    pub(super) async fn refresh(
        &self,
        asked: Asked<'_>,
        cookie: Option<SecretString>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let form = self.read_form(asked.headers, incoming, record).await?;
        let result = match self.session_besides(asked, record) {
            Ok(session) => {
                let visit = visit(asked.headers, cookie, record);
                let done = self.on_control(|issuer| async move { issuer.refresh(form, session, visit).await }).await;
                done.and_then(|answer| answer.map_err(Refusal::Login))
            }
            Err(refusal) => Err(refusal),
        };
        self.note_refresh(Grant::Refresh, result, record)
    }

    /// The session of an access token that comes with a refresh. Clients that refresh before they lack a token send the one
    /// they have, or have had, so that its end does not matter. `None`: none came, as after a page was loaded anew.
    fn session_besides(&self, asked: Asked<'_>, record: &mut Record) -> Result<Option<SessionId>, Refusal> {
        let Some(token) = bearer(asked.headers)? else { return Ok(None) };
        let identity = Arc::new(self.identify_past(token, record)?);
        let session = identity.session().and_then(|session| session.parse().ok());
        record.caller = Some(identity);
        session.map(Some).ok_or(Refusal::Login(IssuerError::NoSession))
    }

    /// Ends sessions. Nobody is kept from leaving by a token that is no good.
    pub(super) async fn log_out(
        &self,
        asked: Asked<'_>,
        cookie: Option<SecretString>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let form = self.read_form(asked.headers, incoming, record).await?;
        let bearer = bearer(asked.headers).ok().flatten();
        let caller = bearer.and_then(|token| self.identify_past(token, record).ok());
        let is_good = bearer.is_some_and(|token| self.is_let_in(token, record));
        let (query, visit) = (asked.query.map(str::to_owned), visit(asked.headers, cookie, record));
        let done = self.on_control(|issuer| async move {
            issuer.log_out(form, query.as_deref(), caller.as_ref(), is_good, visit).await
        });
        done.await?.map_err(Refusal::Login)
    }

    /// Whether a token would be let in now: it has not expired, and its session has not ended.
    fn is_let_in(&self, token: &str, record: &mut Record) -> bool {
        self.identify(token, record).is_ok_and(|identity| self.check_session(token, &identity).is_ok())
    }

    /// The caller's sessions.
    pub(super) async fn sessions(&self, asked: Asked<'_>, record: &mut Record) -> Result<Answer, Refusal> {
        let (caller, now) = (self.caller(asked, record).await?, record.time.seconds());
        self.on_control(|issuer| async move { issuer.sessions_of(&caller, now).await }).await?.map_err(Refusal::Login)
    }

    /// Ends one of the caller's sessions.
    pub(super) async fn end_session(&self, asked: Asked<'_>, record: &mut Record) -> Result<Answer, Refusal> {
        let caller = self.caller(asked, record).await?;
        let id = self.shared.issuer.session_id(asked.path).unwrap_or_default().to_owned();
        let visit = visit(asked.headers, None, record);
        let done = self.on_control(|issuer| async move { issuer.end_session(&caller, &id, visit).await });
        done.await?.map_err(Refusal::Login)
    }

    /// Sets the caller's password anew.
    pub(super) async fn change_password(
        &self,
        asked: Asked<'_>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let caller: Arc<Identity> = self.caller(asked, record).await?;
        let form = self.read_form(asked.headers, incoming, record).await?;
        let visit = visit(asked.headers, None, record);
        let done = self.on_control(|issuer| async move { issuer.change_password(&caller, form, visit).await });
        done.await?.map_err(Refusal::Login)
    }
}

pub(super) fn refresh_result(result: &Result<Answer, Refusal>) -> RefreshResult {
    let error = match result {
        Ok(_) => return RefreshResult::Ok,
        Err(Refusal::Login(error) | Refusal::Oauth(OauthError::Login(error))) => error,
        Err(Refusal::Bearer(_) | Refusal::Token(_)) => return RefreshResult::Invalid,
        Err(_) => return RefreshResult::Error,
    };
    match error {
        IssuerError::Refresh(RefreshError::Reused { .. }) => RefreshResult::Reused,
        IssuerError::Refresh(RefreshError::Invalid(_) | RefreshError::Account { .. })
        | IssuerError::RefreshMissing
        | IssuerError::NoSession
        | IssuerError::OtherClient { .. } => RefreshResult::Invalid,
        IssuerError::Refresh(RefreshError::Store(_) | RefreshError::Unreadable { .. })
        | IssuerError::StoreUnavailable(_)
        | IssuerError::Mint(_)
        | IssuerError::Overloaded { .. }
        | IssuerError::OthersGoOn(_) => RefreshResult::Error,
        IssuerError::Form(_)
        | IssuerError::ClientId
        | IssuerError::ClientSecret
        | IssuerError::ScopeMalformed
        | IssuerError::ScopeNotGranted { .. }
        | IssuerError::LoginFailed(_)
        | IssuerError::Throttled { .. }
        | IssuerError::Query { .. }
        | IssuerError::SessionUnknown
        | IssuerError::OtherIssuer
        | IssuerError::NewPassword(_)
        | IssuerError::LoginTaken
        | IssuerError::Unfit { .. } => RefreshResult::Refused,
    }
}
