//! Health and metrics, on a listener of their own: `/livez`, `/readyz`, `/metrics`.
//!
//! Never on a public listener: metrics tell who uses what, and health what is broken. Runs on the control runtime.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

/// What `/readyz` tells.
#[derive(Debug, Default)]
pub struct Readiness {
    is_draining: AtomicBool,
    has_revocations: AtomicBool,
    /// Whether the time is over in which first keys are waited for.
    is_patience_over: AtomicBool,
    /// Issuers whose published keys are not here.
    without_keys: Mutex<BTreeSet<Arc<str>>>,
}

impl Readiness {
    /// From now on the process is not ready: a balancer is to send nothing new.
    pub fn drain(&self) {
        self.is_draining.store(true, Relaxed);
    }

    /// It is known which sessions have ended: before that, a token of one of them would be accepted.
    pub fn know_revocations(&self) {
        self.has_revocations.store(true, Relaxed);
    }

    /// The process is not ready before it has the keys of this issuer, or [`Self::stop_waiting`] is called.
    pub fn wait_for(&self, issuer: &Arc<str>) {
        self.lacks(issuer);
    }

    /// The keys of an issuer are there.
    pub fn has(&self, issuer: &str) {
        self.without_keys().remove(issuer);
    }

    /// The keys of an issuer are gone, or not there yet.
    pub fn lacks(&self, issuer: &Arc<str>) {
        self.without_keys().insert(Arc::clone(issuer));
    }

    /// From now on keys that are not there are told, and no reason to be not ready: all other tokens are good.
    pub fn stop_waiting(&self) {
        self.is_patience_over.store(true, Relaxed);
    }

    /// Whether the process takes requests, and what there is to say of it. Once it does, an outage of the store does not change
    /// it: tokens are verified without it.
    pub fn state(&self) -> (bool, String) {
        if self.is_draining.load(Relaxed) {
            return (false, "draining\n".to_owned());
        }
        if !self.has_revocations.load(Relaxed) {
            return (false, "waiting for the store: it is not known yet which sessions have ended\n".to_owned());
        }
        let missing: Vec<String> = self.without_keys().iter().map(|issuer| format!("`{issuer}`")).collect();
        match (missing.join(", "), self.is_patience_over.load(Relaxed)) {
            (missing, _) if missing.is_empty() => (true, "ok\n".to_owned()),
            (missing, true) => (true, format!("ok, without the keys of {missing}\n")),
            (missing, false) => (false, format!("waiting for the keys of {missing}\n")),
        }
    }

    fn without_keys(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.without_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until its task is aborted.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, readiness: Arc<Readiness>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = %error, "Accepting on the admin listener failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (metrics, readiness) = (Arc::clone(&metrics), Arc::clone(&readiness));
        if !super::clock_is_usable() {
            continue;
        }
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = respond(&request, &metrics, &readiness);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 * 1024);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(error = %error, "Admin connection ended");
            }
            drop(place);
        });
    }
}

fn respond(request: &Request<Incoming>, metrics: &Metrics, readiness: &Readiness) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" | "/healthz" => {
            let (is_ready, says) = readiness.state();
            text(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, says)
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.encode());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "here are /livez, /readyz and /metrics\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Scrapers and probes are few.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
