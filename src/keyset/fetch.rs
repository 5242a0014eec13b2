//! Fetches one small document over HTTP, from a server that may do anything: bounded in bytes and in time, and never led elsewhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::url::KeyUrl;
use super::{KeyError, KeyUrlError, LeftOut};

/// The longest document. Key sets of real issuers have 1 to 30 KB.
pub(super) const MAX_DOCUMENT_BYTES: usize = 512 * 1024;
/// For each address of a name, so that one that swallows packets leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Fetches documents from servers that it trusts by TLS. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    tls: TlsConnector,
}

/// A document.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) body: Vec<u8>,
    /// How long it is good, by its `Cache-Control: max-age` (RFC 9111 section 5.2.2.1), its `Age` taken off.
    pub(super) max_age: Option<Duration>,
}

/// Why a file with certificates cannot be trusted by.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// No certificate, or a broken one.
    #[error("holds no certificate in PEM text (`-----BEGIN CERTIFICATE-----`)")]
    NotCertificates,
    /// A certificate that cannot be an authority.
    #[error("holds a certificate that cannot be read as that of an authority")]
    Authority(#[source] rustls::Error),
    /// The cryptographic library refused its own settings.
    #[error("TLS cannot be used")]
    Tls(#[source] rustls::Error),
}

/// Why no keys were fetched. No message holds any of the answer's bytes.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The name has no address.
    #[error("the name `{host}` cannot be resolved")]
    Name {
        /// The name.
        host: String,
    },
    /// No connection.
    #[error("connecting failed")]
    Connect(#[source] io::Error),
    /// No TLS that can be trusted: a certificate of another name, of an authority that is not trusted, expired.
    #[error("the server cannot be trusted by TLS")]
    Tls(#[source] io::Error),
    /// Not done within the time.
    #[error("not answered in full within {} s", .limit.as_secs())]
    TimedOut {
        /// For everything together.
        limit: Duration,
    },
    /// The connection broke, or the answer is not HTTP/1.1.
    #[error("the answer broke off or is not HTTP")]
    Http(#[source] hyper::Error),
    /// Any status but 200. Redirects are not followed: they could lead anywhere.
    #[error("the answer has the status {status}{}", if .status.is_redirection() { ", and redirects are not followed" } else { "" })]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// A compressed answer, which was not asked for, and may become very long.
    #[error("the answer is compressed, which was not asked for")]
    Compressed,
    /// A longer answer than any key set.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// The most that is read.
        limit: usize,
    },
    /// The answer is no key set.
    #[error("the answer cannot be used")]
    Keys(#[source] KeyError),
    /// A discovery document that is none.
    #[error("the discovery document {problem}")]
    Discovery {
        /// What is wrong with it.
        problem: String,
    },
    /// The discovery document of somebody else (OpenID Connect Discovery 1.0 section 4.3).
    #[error("the discovery document's `issuer` is not, to the letter, the one configured")]
    OtherIssuer,
    /// `jwks_uri` leads to where keys are not fetched from.
    #[error("the discovery document's `jwks_uri` {error}")]
    KeyUrl {
        /// Why not.
        error: KeyUrlError,
    },
    /// A document that came by TLS leads to keys that would not.
    #[error("the discovery document came by `https` and its `jwks_uri` is not `https`")]
    Downgrade,
    /// No key that can be used.
    #[error("the answer has no key that can verify with the allowed algorithms{}", reasons(.left_out))]
    NoKey {
        /// Those that it has.
        left_out: Vec<LeftOut>,
    },
    /// A defect of ours.
    #[error("fetching ended in a defect")]
    Defect,
}

/// Why the first of them were left out.
fn reasons(left_out: &[LeftOut]) -> String {
    let shown = left_out.iter().take(MAX_REASONS).map(|key| format!("; key {}: {}", key.name, key.error));
    shown.collect()
}

impl Fetcher {
    /// Trusts the authorities in `pem`, and nobody else; without it, those that Mozilla lists.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn new(pem: Option<&[u8]>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        match pem {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|_| TrustError::NotCertificates)?;
                    roots.add(certificate).map_err(TrustError::Authority)?;
                }
                if roots.is_empty() {
                    return Err(TrustError::NotCertificates);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.map_err(TrustError::Tls)?.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Gets the document at `url` on a connection of its own. Has no time limit; drop it to end it.
    pub(super) async fn get(&self, url: &KeyUrl) -> Result<Document, FetchError> {
        let stream = connect(url).await?;
        if !url.is_https() {
            return exchange(stream, url).await;
        }
        let name = ServerName::try_from(url.host().to_owned());
        let name = name.map_err(|_| FetchError::Name { host: url.host().to_owned() })?;
        let stream = self.tls.connect(name, stream).await.map_err(FetchError::Tls)?;
        exchange(stream, url).await
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

async fn connect(url: &KeyUrl) -> Result<TcpStream, FetchError> {
    let unknown = || FetchError::Name { host: url.host().to_owned() };
    let addresses = lookup_host((url.host(), url.port())).await.map_err(|_| unknown())?;
    let mut last = None;
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last.map_or_else(unknown, FetchError::Connect))
}

async fn exchange<S>(stream: S, url: &KeyUrl) -> Result<Document, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
    let request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Defect)?;
    let mut reading = std::pin::pin!(async {
        let response = sender.send_request(request).await.map_err(FetchError::Http)?;
        read(response).await
    });
    // The connection only moves while it is polled. What it ends with, the reader is told too.
    let mut connection = std::pin::pin!(connection);
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            result = &mut reading => return result,
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<Document, FetchError> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(FetchError::Status { status });
    }
    let encodings = response.headers().get_all(CONTENT_ENCODING);
    if encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(FetchError::Compressed);
    }
    let max_age = max_age(response.headers());
    let mut incoming = response.into_body();
    let too_long = || FetchError::TooLong { limit: MAX_DOCUMENT_BYTES };
    if incoming.size_hint().lower() > MAX_DOCUMENT_BYTES as u64 {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.map_err(FetchError::Http)?.into_data() {
            if body.len() + data.len() > MAX_DOCUMENT_BYTES {
                return Err(too_long());
            }
            body.extend_from_slice(&data);
        }
    }
    Ok(Document { body, max_age })
}

/// `no-store` and its like are not looked at: keys are to be kept in memory, or nothing could be verified.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let seconds = directives.flat_map(|value| value.split(',')).find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let is_max_age = name.trim().eq_ignore_ascii_case("max-age");
        if is_max_age { value.trim().trim_matches('"').parse::<u64>().ok() } else { None }
    })?;
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(Duration::from_secs(seconds.saturating_sub(age)))
}

/// The longest head of an answer, and what is read of its body at once.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_REASONS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_found_among_other_directives() {
        let found = |values: &[(&'static str, &'static str)]| {
            let headers = values.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            max_age(&headers.collect::<HeaderMap>()).map(|age| age.as_secs())
        };
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("cache-control", "no-store")]), None);
        assert_eq!(found(&[("cache-control", "public, Max-Age=600, must-revalidate")]), Some(600));
        assert_eq!(found(&[("cache-control", "public"), ("cache-control", "max-age=\"60\"")]), Some(60));
        assert_eq!(found(&[("cache-control", "s-maxage=9"), ("age", "1")]), None);
        assert_eq!(found(&[("cache-control", "max-age=600"), ("age", "250")]), Some(350));
        assert_eq!(found(&[("cache-control", "max-age=6"), ("age", "250")]), Some(0));
        assert_eq!(found(&[("cache-control", "max-age=-1")]), None);
    }

    #[test]
    fn only_certificates_are_trusted_by() {
        assert!(Fetcher::new(None).is_ok());
        for text in [&b""[..], b"certificate", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(Fetcher::new(Some(text)).is_err());
        }
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(Fetcher::new(Some(broken)), Err(TrustError::Authority(_))));
    }
}
