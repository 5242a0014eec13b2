//! The sessions of the gateway: with the key of their refresh tokens, as soon as the store gives it, and without those that are
//! long over.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

use crate::cause::chain;
use crate::config::Config;
use crate::session::{RefreshKeys, Sessions};
use crate::store::{Patience, SessionStore, Store};
use crate::time::UnixSeconds;

use super::tasks::Tasks;
use super::{StartError, keys};

/// Between two tries to read the key from a store that was down at the start.
const KEY_INTERVAL: Duration = Duration::from_secs(1);
/// How often the sessions that are long over are deleted, where the database does not do so by itself.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);

/// The sessions in this store. When it does not answer, logins and refreshes wait for the key as for the store itself.
///
/// # Errors
/// A key in the store that cannot be used: another one would end all sessions.
pub(super) async fn start(
    config: &Config,
    store: &Arc<dyn Store>,
    patience: &Arc<Patience>,
    tasks: &mut Tasks,
) -> Result<Arc<Sessions>, StartError> {
    let sessions = Arc::new(Sessions::new(Arc::clone(store), config.sessions.clone(), Arc::clone(patience)));
    match keys::refresh_key(config, &**store).await {
        Ok(key) => sessions.set_keys(RefreshKeys::new(key.expose_secret(), &[])),
        Err(StartError::Store(error)) => {
            tracing::warn!(error = %chain(&error), "Key of refresh tokens not read, so that nobody can log in yet");
            let (config, store, sessions) = (config.clone(), Arc::clone(store), Arc::clone(&sessions));
            tasks.spawn("key of refresh tokens", async move { set_key_later(&config, &*store, &sessions).await });
        }
        Err(error) => return Err(error),
    }
    let purged = Arc::clone(store);
    tasks.spawn("old sessions", async move { purge(&*purged).await });
    Ok(sessions)
}

async fn set_key_later(config: &Config, store: &dyn Store, sessions: &Sessions) {
    let mut said = String::new();
    loop {
        tokio::time::sleep(KEY_INTERVAL).await;
        match keys::refresh_key(config, store).await {
            Ok(key) => {
                sessions.set_keys(RefreshKeys::new(key.expose_secret(), &[]));
                tracing::info!("Key of refresh tokens read");
                return;
            }
            Err(error @ StartError::Store(_)) => {
                tracing::debug!(error = %chain(&error), "Key of refresh tokens not read");
            }
            // What ends a start when the store is there. Here others' tokens are served already, and it may be put right meanwhile.
            Err(error) => {
                let says = chain(&error);
                if says != said {
                    tracing::error!(error = %says, "Key of refresh tokens cannot be used, nobody can log in or refresh");
                    said = says;
                }
            }
        }
    }
}

async fn purge(store: &(impl SessionStore + ?Sized)) {
    let mut interval = tokio::time::interval(PURGE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match store.purge_sessions(UnixSeconds::now()).await {
            Ok(0) => {}
            Ok(sessions) => tracing::debug!(sessions, "Sessions deleted that were long over"),
            Err(error) => tracing::warn!(error = %chain(&error), "Sessions that are long over not deleted"),
        }
    }
}
