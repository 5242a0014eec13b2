//! The gateway's own endpoints: what they need is gathered here, and what may wait is done on the control runtime.

mod login;
mod session;
mod token;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;
use secrecy::SecretString;

use crate::audit::Client;
use crate::body::{BodyFault, RequestBody};
use crate::issuer::{Answer, Endpoint, FormRequest, Issuer, Visit};
use crate::request::{RequestId, X_REQUEST_ID};
use crate::time::{Arrival, UnixSeconds};
use crate::token::{Identity, TokenError};

use super::record::Record;
use super::refusal::Refusal;
use super::{Gateway, decision};

/// A request to an endpoint of ours, but for its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) method: &'a Method,
    /// The path, normalized and decoded.
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
}

impl Gateway {
    /// Answers a request to an endpoint of ours.
    pub(super) async fn answer(
        &self,
        asked: Asked<'_>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Response<Bytes>, Refusal> {
        record.endpoint = Some(asked.endpoint.name());
        match self.answer_plainly(asked, incoming, record).await {
            Ok(answer) => Ok(respond(in_the_words_of_an_alias(answer, record), &record.request_id)),
            Err(refusal) => Err(decision::in_the_words_of(asked.endpoint, refusal)),
        }
    }

    async fn answer_plainly(
        &self,
        asked: Asked<'_>,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let Asked { endpoint, headers, .. } = asked;
        decision::endpoint_takes(endpoint, asked.method)?;
        let issuer = &self.shared.issuer;
        let cookies = decision::cookies(endpoint, issuer.cookie(headers))?;
        let has_cookie = cookies.have_come();
        decision::page_may_act(endpoint, headers, has_cookie, issuer.own_scheme(), self.shared.cors.allowed())?;
        let cookie = cookies.one();
        let missing = Refusal::Internal("the endpoint has no document");
        match endpoint {
            Endpoint::Login => Box::pin(self.log_in(asked, cookie, incoming, record)).await,
            Endpoint::Token => Box::pin(self.grant(asked, incoming, record)).await,
            Endpoint::Register => Box::pin(self.register(asked, incoming, record)).await,
            Endpoint::Refresh => Box::pin(self.refresh(asked, cookie, incoming, record)).await,
            Endpoint::Logout => Box::pin(self.log_out(asked, cookie, incoming, record)).await,
            Endpoint::Me => Ok(issuer.me(&*self.caller(asked, record).await?)),
            Endpoint::Sessions => Box::pin(self.sessions(asked, record)).await,
            Endpoint::Session => Box::pin(self.end_session(asked, record)).await,
            Endpoint::Password => Box::pin(self.change_password(asked, incoming, record)).await,
            Endpoint::Revoke => Box::pin(self.revoke(asked, incoming, record)).await,
            Endpoint::Introspect => Box::pin(self.introspect(asked, incoming, record)).await,
            Endpoint::Check => self.check(asked, record).await,
            Endpoint::Jwks => Ok(issuer.jwks(&self.shared.keys.load(), headers)),
            Endpoint::OpenidConfiguration => issuer.openid_configuration(headers).ok_or(missing),
            Endpoint::OauthAuthorizationServer => issuer.oauth_authorization_server(headers).ok_or(missing),
        }
    }

    /// The caller of an endpoint that is about its caller.
    async fn caller(&self, asked: Asked<'_>, record: &mut Record) -> Result<Arc<Identity>, Refusal> {
        let access = decision::endpoint_access(asked.endpoint);
        Ok(decision::known(self.authenticate(&access, asked.headers, record).await?)?)
    }

    /// Reads the form of a request to its end.
    async fn read_form(
        &self,
        headers: &HeaderMap,
        incoming: Incoming,
        record: &mut Record,
    ) -> Result<FormRequest, Refusal> {
        let limits = decision::form_limits(self.shared.body_pace);
        let (body, watch) = RequestBody::new(incoming, limits, record.connection.open_bodies())?;
        record.watch = Some(watch);
        // Each part of the body has its own limits; a form, unlike an upload, has one for all of it.
        let collected = tokio::time::timeout(self.shared.body_pace.patience, body.collect()).await;
        let form = FormRequest::new(headers, collected.map_err(|_| BodyFault::Silent)??);
        // Only logins have fields that others call otherwise.
        let spoken = record.spoken.filter(|spoken| spoken.endpoint == Endpoint::Login);
        Ok(form.in_dialect(spoken.map(|spoken| spoken.dialect).unwrap_or_default()))
    }

    /// Reads the form of a request, and lets the control runtime do with it what waits. `work` is called here, and what it returns
    /// runs there.
    async fn with_form<T, F>(
        &self,
        asked: Asked<'_>,
        cookie: Option<SecretString>,
        incoming: Incoming,
        record: &mut Record,
        work: impl FnOnce(Arc<Issuer>, FormRequest, Visit) -> F,
    ) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let form = self.read_form(asked.headers, incoming, record).await?;
        let visit = visit(asked.headers, cookie, record);
        self.on_control(|issuer| work(issuer, form, visit)).await
    }

    /// Lets the control runtime do what waits for the store or for a password check. What was begun goes on to its end when its
    /// client has left, because dropping a database call midway harms its connection.
    async fn on_control<T, F>(&self, work: impl FnOnce(Arc<Issuer>) -> F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let task = self.shared.control.spawn(work(Arc::clone(&self.shared.issuer)));
        task.await.map_err(|_| Refusal::Internal("an endpoint ended in a defect"))
    }

    /// What a token says although it may have expired: for what is about its session.
    fn identify_past(&self, token: &str, now: UnixSeconds) -> Result<Identity, TokenError> {
        self.shared.verifier.verify_past(token, &self.shared.keys.load(), now)
    }
}

/// To be called when the request has been read to its end, and not before: what it asks for is dated by that, and its body may
/// have taken a minute.
fn visit(headers: &HeaderMap, cookie: Option<SecretString>, record: &Record) -> Visit {
    let client = Client::new(record.client, headers, record.request_id.as_str());
    Visit { cookie, client, arrival: Arrival::begin() }
}

fn in_the_words_of_an_alias(mut answer: Answer, record: &Record) -> Answer {
    let told = record.spoken.and_then(|spoken| spoken.translate(&answer, UnixSeconds::now()));
    if let Some(body) = told {
        answer.body = body;
    }
    answer
}

fn respond(answer: Answer, request_id: &RequestId) -> Response<Bytes> {
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().insert(X_REQUEST_ID, request_id.header().clone());
    response
}
