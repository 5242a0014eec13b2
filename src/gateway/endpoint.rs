//! The gateway's own endpoints: what they need is gathered here, and what may wait is done on the control runtime.

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;

use crate::body::RequestBody;
use crate::issuer::{Answer, Endpoint, FormRequest, IssuerError, OauthError};
use crate::metrics::{Grant, LoginResult};
use crate::request::{RequestId, X_REQUEST_ID};
use crate::session::SeenFrom;

use super::record::Record;
use super::refusal::Refusal;
use super::{Gateway, chain, decision};

impl Gateway {
    /// Answers a request to an endpoint of ours.
    pub(super) async fn answer(
        &self,
        endpoint: Endpoint,
        method: &Method,
        headers: &HeaderMap,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Response<Bytes>, Refusal> {
        let answer = self.answer_plainly(endpoint, method, headers, incoming, record).await;
        answer.map_err(|refusal| decision::in_the_words_of(endpoint, refusal))
    }

    async fn answer_plainly(
        &self,
        endpoint: Endpoint,
        method: &Method,
        headers: &HeaderMap,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Response<Bytes>, Refusal> {
        record.endpoint = Some(endpoint.name());
        decision::endpoint_takes(endpoint, method)?;
        let issuer = &self.shared.issuer;
        let missing = Refusal::Internal("the endpoint has no document");
        let answer = match endpoint {
            Endpoint::Login => Box::pin(self.log_in(Grant::Login, headers, incoming, record)).await?,
            Endpoint::Token => Box::pin(self.log_in(Grant::Password, headers, incoming, record)).await?,
            Endpoint::Me => {
                let access = decision::endpoint_access(endpoint);
                issuer.me(&*decision::known(self.authenticate(&access, headers, record)?)?)
            }
            Endpoint::Jwks => issuer.jwks(&self.shared.keys.load(), headers),
            Endpoint::OpenidConfiguration => issuer.openid_configuration(headers).ok_or(missing)?,
            Endpoint::OauthAuthorizationServer => issuer.oauth_authorization_server(headers).ok_or(missing)?,
        };
        Ok(respond(answer, &record.request_id))
    }

    /// Reads a login's form and lets the control runtime check it: hashing and the store take their time there. A login whose
    /// client has left goes on to its end, because dropping a database call midway harms its connection.
    async fn log_in(
        &self,
        grant: Grant,
        headers: &HeaderMap,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let limits = decision::form_limits(self.shared.body_pace);
        let (body, watch) = RequestBody::new(incoming, limits, record.connection.open_bodies())?;
        record.watch = Some(watch);
        // Each part of the body has its own limits; a form, unlike an upload, has one for all of it.
        let collected = tokio::time::timeout(self.shared.body_pace.patience, body.collect()).await;
        let form = FormRequest::new(headers, collected.map_err(|_| crate::body::BodyFault::Silent)??);
        let now = record.time.seconds();
        let seen = seen_from(headers, record);
        let issuer = std::sync::Arc::clone(&self.shared.issuer);
        let task = self.shared.control.spawn(async move {
            match grant {
                Grant::Login => issuer.log_in(form, seen, now).await.map_err(Refusal::Login),
                Grant::Password => issuer.token(form, seen, now).await.map_err(Refusal::Oauth),
            }
        });
        let result = task.await.unwrap_or(Err(Refusal::Internal("a login ended in a defect")));
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
}

/// Where a request comes from, as far as its sender says.
fn seen_from(headers: &HeaderMap, record: &Record) -> SeenFrom {
    let user_agent =
        headers.get(http::header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    SeenFrom { address: Some(record.client), user_agent }
}

fn respond(answer: Answer, request_id: &RequestId) -> Response<Bytes> {
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().insert(X_REQUEST_ID, request_id.header().clone());
    response
}

fn login_result(result: &Result<Answer, Refusal>) -> LoginResult {
    let error = match result {
        Ok(_) => return LoginResult::Ok,
        Err(Refusal::Login(error) | Refusal::Oauth(OauthError::Login(error))) => error,
        Err(Refusal::Oauth(_)) => return LoginResult::Refused,
        Err(_) => return LoginResult::Error,
    };
    match error {
        IssuerError::LoginFailed(_) => LoginResult::Failed,
        IssuerError::Overloaded { .. } => LoginResult::Overloaded,
        IssuerError::StoreUnavailable(_) | IssuerError::Mint(_) => LoginResult::Error,
        IssuerError::Form(_)
        | IssuerError::ClientId
        | IssuerError::ClientSecret
        | IssuerError::ScopeMalformed
        | IssuerError::ScopeNotGranted { .. } => LoginResult::Refused,
    }
}
