//! What the store says of the session of a token. Gateways ask their own memory, which follows the store.

use crate::cause::chain;
use crate::cli::style::Mark;
use crate::config::Config;
use crate::store::{self, SessionId};
use crate::time::UnixSeconds;

use super::finding::Check;

/// Whether it has ended by `now`.
pub(super) async fn look_up(config: &Config, id: SessionId, now: UnixSeconds) -> Check {
    let found = async { store::open_to_look(&config.store).await?.find_session(id).await };
    let (mark, says) = match found.await {
        Err(error) => (Mark::Unknown, format!("its row is in the store, which cannot be read: {}", chain(&error))),
        Ok(None) => (Mark::Unknown, "the store has no row of it, or none any more".to_owned()),
        Ok(Some(row)) => match row.ended {
            Some(ended) if ended.at <= now => {
                (Mark::Refused, format!("`{id}` ended at {}: `{}`", ended.at, ended.reason.name()))
            }
            Some(_) | None => (Mark::Ok, format!("`{id}` has not ended")),
        },
    };
    Check::new("session", mark, says)
}
