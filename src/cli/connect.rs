//! `tollgate check --connect`: tries what the configuration names in the network, the store, every upstream server, and where
//! issuers publish their keys.

use std::future::Future;
use std::io::{self, ErrorKind, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::style::printable;
use crate::cause::chain;
use crate::config::Config;
use crate::keyset::{FetchError, Fetched, RemoteKeys};
use crate::store::{self, StoreError, StoreLocation, StoreSettings};
use crate::upstream::ServerAddress;

/// Connections that are tried at the same time.
const MAX_AT_ONCE: usize = 32;

/// What became of one try.
#[derive(Debug)]
struct Outcome {
    what: String,
    result: Result<String, Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    hint: &'static str,
}

type Try = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Tries everything, writes a line for each to `out` in the order of the file, and gives whether all went well.
///
/// # Errors
/// When the output cannot be written, or the system refuses an event queue.
pub(super) fn run(config: &Config, out: &mut dyn Write, messages: &mut dyn Write) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut tries: Vec<Try> = vec![Box::pin(try_store(config.store.clone()))];
    for upstream in &config.upstreams {
        for server in &upstream.servers {
            tries.push(Box::pin(try_server(Arc::clone(&upstream.name), server.clone(), upstream.connect_timeout)));
        }
    }
    for issuer in &config.issuers {
        if let Some(remote) = &issuer.remote {
            tries.push(Box::pin(try_keys(Arc::clone(&issuer.settings.name), remote.clone())));
        }
    }
    let total = tries.len();
    let failed = runtime.block_on(async {
        let mut outcomes = stream::iter(tries).buffered(MAX_AT_ONCE);
        let mut failed = 0;
        while let Some(Outcome { what, result }) = outcomes.next().await {
            // A database says its version and its own name for an error.
            match result {
                Ok(found) => writeln!(out, "ok: {what}: {}", printable(&found))?,
                Err(Failure { reason, hint }) => {
                    failed += 1;
                    writeln!(out, "failed: {what}: {}\n  hint: {hint}", printable(&reason))?;
                }
            }
        }
        io::Result::Ok(failed)
    });
    // A name that is still looked up must not hold the answer back.
    runtime.shutdown_background();
    let failed = failed?;
    if failed > 0 {
        writeln!(messages, "{failed} of {total} connections failed")?;
    }
    Ok(failed == 0)
}

async fn try_store(settings: StoreSettings) -> Outcome {
    let result = store::survey(&settings).await.map_err(|error| Failure {
        hint: match (&error, &settings.location) {
            (StoreError::Unavailable { .. } | StoreError::NoAccess { .. }, StoreLocation::Mongo { .. }) => {
                "is MongoDB running, and are address, credentials and options of `store.url` right?"
            }
            (StoreError::Refused { .. }, StoreLocation::Mongo { .. }) => {
                "may the user of `store.url` read the collections of its database?"
            }
            (_, StoreLocation::Sqlite { .. }) => "run this as the user that Tollgate runs as, in the same folder",
            (_, StoreLocation::Mongo { .. }) => "see `store` in the configuration file",
        },
        reason: chain(&error),
    });
    Outcome { what: "`store.url`".to_owned(), result }
}

async fn try_server(upstream: Arc<str>, server: ServerAddress, limit: Duration) -> Outcome {
    let start = Instant::now();
    let result = timeout(limit, connect(&server)).await.unwrap_or_else(|_| {
        Err(Failure {
            reason: format!("no answer within `connect_timeout`, {} ms", limit.as_millis()),
            hint: "is the address right, and does a firewall on the way let connections through?",
        })
    });
    let connected = |()| format!("connected within {} ms", start.elapsed().as_millis() + 1);
    Outcome { what: format!("upstream `{upstream}`, server `{server}`"), result: result.map(connected) }
}

/// Fetches an issuer's keys as the gateway does.
async fn try_keys(issuer: Arc<str>, remote: RemoteKeys) -> Outcome {
    let result = remote.fetch().await.map(|fetched| found_keys(&fetched)).map_err(|error| Failure {
        hint: match &error {
            FetchError::Name { .. } => "is the name right, and does this machine's or container's DNS know it?",
            FetchError::Connect(_) | FetchError::TimedOut { .. } => {
                "is the address right, and does a firewall on the way let connections through? no proxy is used"
            }
            FetchError::Tls(_) => "for an authority of your own, name its certificate with `tls_ca`",
            FetchError::OtherIssuer => "copy `issuer` from the document, to the letter",
            FetchError::NoKey { .. } => "do `algorithms` name what the issuer signs with?",
            FetchError::Http(_)
            | FetchError::Status { .. }
            | FetchError::Compressed
            | FetchError::TooLong { .. }
            | FetchError::Keys(_)
            | FetchError::Discovery { .. }
            | FetchError::KeyUrl { .. }
            | FetchError::Downgrade
            | FetchError::Defect => "is the address that of the issuer's JWK set, or of its discovery document?",
        },
        reason: chain(&error),
    });
    Outcome { what: format!("issuer `{issuer}`, keys at `{}`", remote.url()), result }
}

/// What a set has for us, and what of it somebody should look at.
fn found_keys(fetched: &Fetched) -> String {
    let count = fetched.set.keys.len();
    let mut says = format!("{count} {}", if count == 1 { "key" } else { "keys" });
    for key in &fetched.set.refused {
        says.push_str(&format!("; key {} is refused: {}", key.name, key.error));
    }
    says
}

/// Connects and closes at once, so the service sees a connection without a request.
async fn connect(server: &ServerAddress) -> Result<(), Failure> {
    let addresses = lookup_host((&*server.host, server.port)).await.map_err(|_| Failure {
        reason: format!("the name `{}` cannot be resolved", server.host),
        hint: "is the name right, and does this machine's or container's DNS know it?",
    })?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) if error.kind() == ErrorKind::ConnectionRefused => Failure {
            reason: "the connection was refused".to_owned(),
            hint: "nothing listens there: is the service running, and on this port?",
        },
        Some(error) => Failure {
            reason: format!("connecting failed: {error}"),
            hint: "is the address right, and is there a route to it?",
        },
        None => Failure {
            reason: format!("the name `{}` has no address", server.host),
            hint: "is the name right, and does this machine's or container's DNS know it?",
        },
    })
}
