//! Who has a session: `<prefix>/refresh`, `<prefix>/logout`, `<prefix>/sessions` and `<prefix>/password`.

use std::sync::Arc;

use hyper::body::Incoming;
use secrecy::SecretString;

use crate::gateway::Gateway;
use crate::gateway::record::Record;
use crate::gateway::refusal::Refusal;
use crate::issuer::{AccessToken, Answer, IssuerError, LogoutError, LogoutRefused, OauthError};
use crate::metrics::{Grant, RefreshResult};
use crate::session::{RefreshError, SessionId};
use crate::token::bearer::{BearerError, bearer};
use crate::token::{Identity, TokenError, Unverified};

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
        let result = match self.session_besides(asked, record) {
            Ok(session) => {
                let done = self.with_form(asked, cookie, incoming, record, |issuer, form, visit| async move {
                    issuer.refresh(form, session, visit).await
                });
                done.await.and_then(|answer| answer.map_err(Refusal::Login))
            }
            Err(refusal) => Err(refusal),
        };
        self.note_refresh(Grant::Refresh, result, record)
    }

    /// The session of an access token that comes with a refresh. Clients that refresh before they lack a token send the one
    /// they have, or have had, so that its end does not matter. `None`: none came, as after a page was loaded anew.
    ///
    /// What cannot be verified because its key is gone counts as none: keys rotate, and that is no reason to log its owner out.
    /// Whoever stole a refresh token gains nothing by it, because the header could as well have been left out. For the same reason
    /// it does no harm to believe such a token when it says that it is of another session: then its client has mixed up two.
    fn session_besides(&self, asked: Asked<'_>, record: &mut Record) -> Result<Option<SessionId>, Refusal> {
        let Some(token) = presented(asked)? else { return Ok(None) };
        let identity = match self.identify_past(token, record.time.seconds()) {
            Ok(identity) => Arc::new(identity),
            // `null` or `undefined`, as pages send it that have lost theirs.
            Err(TokenError::Parts) => return Ok(None),
            Err(TokenError::KeyUnknown) => return Ok(claimed_session(token)),
            Err(error) => return Err(error.into()),
        };
        let session = session_of(&identity);
        record.caller = Some(identity);
        session.map(Some).ok_or(Refusal::Login(IssuerError::NoSession))
    }

    /// Ends sessions. Nobody who shows a refresh token is kept from leaving by an access token that is no good.
    pub(super) async fn log_out(
        &self,
        asked: Asked<'_>,
        cookie: Option<SecretString>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let (access, query) = (self.access_token(asked, record), asked.query.map(str::to_owned));
        let done = self.with_form(asked, cookie, incoming, record, |issuer, form, visit| async move {
            issuer.log_out(form, query.as_deref(), access, visit).await
        });
        done.await?.map_err(|LogoutRefused { error, cookie }| {
            record.set_cookie = cookie;
            match error {
                LogoutError::AccessToken(refusal) => refusal,
                LogoutError::Issuer(error) => Refusal::Login(error),
            }
        })
    }

    /// The access token that comes with a logout. It is good if it would be let in now: it has not expired, and its session has
    /// not ended.
    fn access_token(&self, asked: Asked<'_>, record: &mut Record) -> AccessToken<Refusal> {
        let token = match presented(asked) {
            Ok(Some(token)) => token,
            Ok(None) => return AccessToken::None,
            Err(error) => return AccessToken::Refused(error.into()),
        };
        if let Ok(identity) = self.identify(token, record)
            && self.check_session(token, &identity).is_ok()
        {
            return AccessToken::Good(identity);
        }
        match self.identify_past(token, record.time.seconds()) {
            Ok(identity) => AccessToken::Past(identity.into()),
            Err(TokenError::Parts) => AccessToken::None,
            Err(error) => AccessToken::Refused(error.into()),
        }
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
        let done = self.with_form(asked, None, incoming, record, |issuer, form, visit| async move {
            issuer.change_password(&caller, form, visit).await
        });
        done.await?.map_err(Refusal::Login)
    }
}

/// The token beside a refresh or a logout. `Bearer` with nothing behind it is none: pages send it that have lost theirs.
fn presented(asked: Asked<'_>) -> Result<Option<&str>, BearerError> {
    match bearer(asked.headers) {
        Err(BearerError::Malformed) => Ok(None),
        found @ (Ok(_) | Err(BearerError::Multiple)) => found,
    }
}

fn session_of(identity: &Identity) -> Option<SessionId> {
    identity.session()?.parse().ok()
}

/// The session that a token names which nobody can verify. Good for a refusal only.
fn claimed_session(token: &str) -> Option<SessionId> {
    Unverified::read(token).ok()?.claim_text("sid")?.parse().ok()
}

pub(super) fn refresh_result(result: &Result<Answer, Refusal>) -> RefreshResult {
    let error = match result {
        Ok(_) => return RefreshResult::Ok,
        Err(Refusal::Login(error) | Refusal::Oauth(OauthError::Login(error))) => error,
        Err(Refusal::Bearer(_) | Refusal::Token(_)) => return RefreshResult::Invalid,
        // A form that did not come to its end is the client's own fault.
        Err(Refusal::Body(_)) => return RefreshResult::Refused,
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
