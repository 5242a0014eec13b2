//! The keys that other issuers publish: one task for each of them, and what becomes of what it fetches.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::chain;
use crate::gateway::Shared;
use crate::keyset::{FETCH_TIMEOUT, KeyChange, KeySet, KeySource};
use crate::server::admin::Readiness;
use crate::token::{TokenError, TrustedIssuer, Verifier};

use super::tasks::Tasks;

/// How long readiness waits for keys that were never fetched: for one whole attempt. Then the others' tokens are to be served
/// all the same.
const PATIENCE: Duration = FETCH_TIMEOUT.saturating_add(Duration::from_secs(1));

/// A source for each issuer whose keys are fetched, in the order of the issuers.
pub(super) fn key_sources(issuers: &[TrustedIssuer]) -> Vec<Option<Arc<KeySource>>> {
    let source = |issuer: &TrustedIssuer| {
        let remote = issuer.remote.clone()?;
        Some(Arc::new(KeySource::new(Arc::clone(&issuer.settings.name), remote)))
    };
    issuers.iter().map(source).collect()
}

/// Follows every source for as long as the process runs. Readiness waits for the first keys of each.
pub(super) fn follow_all(
    tasks: &mut Tasks,
    issuers: &[TrustedIssuer],
    shared: &Arc<Shared>,
    readiness: &Arc<Readiness>,
) {
    let sources = shared.key_sources.iter().zip(issuers).enumerate();
    let sources = sources.filter_map(|(position, (source, issuer))| Some((position, source.clone()?, issuer.clone())));
    for (index, (position, source, issuer)) in sources.enumerate() {
        readiness.wait_for(source.name());
        let (shared, readiness) = (Arc::clone(shared), Arc::clone(readiness));
        let name = Arc::clone(source.name());
        let follow = source.follow(move |change| {
            let keys = match change {
                KeyChange::Fetched(keys) => {
                    shared.metrics.jwks_refreshed(index, true);
                    readiness.has(&name);
                    keys
                }
                KeyChange::Failed => return shared.metrics.jwks_refreshed(index, false),
                KeyChange::Withdrawn => {
                    shared.metrics.jwks_refreshed(index, false);
                    readiness.lacks(&name);
                    Vec::new()
                }
                KeyChange::TooOld => {
                    readiness.lacks(&name);
                    Vec::new()
                }
            };
            let all: Vec<_> = issuer.keys.iter().cloned().chain(keys).collect();
            let is_other = !shared.keys.load().with_foreign(position, all.clone()).has_same_keys(&shared.keys.load());
            if is_other {
                shared.change_keys(|set| set.with_foreign(position, all.clone()));
            }
        });
        tasks.spawn("keys of an issuer", follow);
    }
    let readiness = Arc::clone(readiness);
    tasks.spawn("patience for issuers", async move {
        tokio::time::sleep(PATIENCE).await;
        readiness.stop_waiting();
    });
}

/// For commands: the key set with the published keys of the issuer whose token was refused for want of them. They are fetched only
/// with `is_online`. `None`: the refusal does not hang on published keys.
///
/// # Errors
/// Why they are not here, as a sentence.
pub async fn with_published_keys(
    refused: &TokenError,
    token: &str,
    verifier: &Verifier,
    keys: &KeySet,
    issuers: &[TrustedIssuer],
    is_online: bool,
) -> Option<Result<KeySet, String>> {
    if !matches!(refused, TokenError::KeyUnknown | TokenError::Signature) {
        return None;
    }
    let position = verifier.asks_for_key(token, keys)?;
    let issuer = issuers.get(position)?;
    let remote = issuer.remote.as_ref()?;
    let (name, url) = (&issuer.settings.name, remote.url());
    if !is_online {
        let says = format!("the keys of the issuer `{name}` are published at {url}; `--fetch-keys` asks for them");
        return Some(Err(says));
    }
    Some(match remote.fetch().await {
        Ok(fetched) => {
            let all = issuer.keys.iter().cloned().chain(fetched.set.keys).collect();
            Ok(keys.with_foreign(position, all))
        }
        Err(error) => Err(format!("the keys of the issuer `{name}` cannot be fetched from {url}: {}", chain(&error))),
    })
}
