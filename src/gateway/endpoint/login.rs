//! Who comes with a password: `<prefix>/login`, `<prefix>/token` and `<prefix>/register`.

use hyper::body::Incoming;
use secrecy::SecretString;

use crate::cause::chain;
use crate::gateway::Gateway;
use crate::gateway::record::Record;
use crate::gateway::refusal::Refusal;
use crate::issuer::{Answer, IssuerError, OauthError};
use crate::metrics::{Grant, LoginResult};

use super::Asked;
use super::session::refresh_result;

impl Gateway {
    /// Reads a login's form and lets the control runtime check it: hashing and the store take their time there.
    pub(super) async fn log_in(
        &self,
        asked: Asked<'_>,
        cookie: Option<SecretString>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let done = self.with_form(asked, cookie, incoming, record, |issuer, form, visit| async move {
            issuer.log_in(form, visit).await
        });
        let result = done.await.and_then(|answer| answer.map_err(Refusal::Login));
        self.note_login(Grant::Login, result, record)
    }

    /// `<prefix>/token`: by a password, or by a refresh token.
    pub(super) async fn grant(
        &self,
        asked: Asked<'_>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let done = self.with_form(asked, None, incoming, record, |issuer, form, visit| async move {
            issuer.token(form, visit).await
        });
        match done.await {
            Ok((Some(Grant::RefreshToken), result)) => {
                self.note_refresh(Grant::RefreshToken, result.map_err(Refusal::Oauth), record)
            }
            Ok((_, result)) => self.note_login(Grant::Password, result.map_err(Refusal::Oauth), record),
            Err(refusal) => self.note_login(Grant::Password, Err(refusal), record),
        }
    }

    /// Makes an account.
    pub(super) async fn register(
        &self,
        asked: Asked<'_>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let done = self.with_form(asked, None, incoming, record, |issuer, form, visit| async move {
            issuer.register(form, visit).await
        });
        done.await?.map_err(Refusal::Login)
    }

    fn note_login(&self, grant: Grant, result: Result<Answer, Refusal>, record: &Record) -> Result<Answer, Refusal> {
        let metrics = &self.shared.metrics;
        metrics.login(login_result(&result), record.start.elapsed());
        match &result {
            Ok(_) => metrics.token_issued(grant),
            Err(refusal) => {
                tracing::info!(request.id = %record.request_id, client.addr = %record.client, error = %chain(refusal), "Login refused");
            }
        }
        result
    }

    /// As [`Self::note_login`], for a refresh by whichever endpoint.
    pub(super) fn note_refresh(
        &self,
        grant: Grant,
        result: Result<Answer, Refusal>,
        record: &Record,
    ) -> Result<Answer, Refusal> {
        let metrics = &self.shared.metrics;
        metrics.refreshed(refresh_result(&result));
        match &result {
            Ok(_) => metrics.token_issued(grant),
            Err(refusal) => {
                tracing::info!(request.id = %record.request_id, client.addr = %record.client, error = %chain(refusal), "Refresh refused");
            }
        }
        result
    }
}

fn login_result(result: &Result<Answer, Refusal>) -> LoginResult {
    let error = match result {
        Ok(_) => return LoginResult::Ok,
        Err(Refusal::Login(error) | Refusal::Oauth(OauthError::Login(error))) => error,
        // A form that did not come to its end is the client's own fault, too.
        Err(Refusal::Oauth(_) | Refusal::Body(_)) => return LoginResult::Refused,
        Err(_) => return LoginResult::Error,
    };
    match error {
        IssuerError::LoginFailed(_) => LoginResult::Failed,
        IssuerError::Throttled { .. } => LoginResult::Throttled,
        IssuerError::Overloaded { .. } => LoginResult::Overloaded,
        IssuerError::StoreUnavailable(_) | IssuerError::Mint(_) | IssuerError::OthersGoOn(_) => LoginResult::Error,
        IssuerError::Form(_)
        | IssuerError::ClientId
        | IssuerError::ClientSecret
        | IssuerError::ScopeMalformed
        | IssuerError::ScopeNotGranted { .. }
        | IssuerError::RefreshMissing
        | IssuerError::Refresh(_)
        | IssuerError::NoSession
        | IssuerError::OtherClient { .. }
        | IssuerError::Query { .. }
        | IssuerError::SessionUnknown
        | IssuerError::OtherIssuer
        | IssuerError::NewPassword(_)
        | IssuerError::LoginTaken
        | IssuerError::Unfit { .. } => LoginResult::Refused,
    }
}
