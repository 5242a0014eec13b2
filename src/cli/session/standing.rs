//! What the store says of the session of a token. Gateways ask their own memory, which follows the store.

use crate::cause::chain;
use crate::cli::style::Mark;
use crate::config::Config;
use crate::store::{self, SessionId};
use crate::time::UnixSeconds;

/// Whether it has ended by `now`: [`Mark::Refused`] if so, [`Mark::Unknown`] where nobody can tell; and the same in words.
pub(in crate::cli) async fn standing(config: &Config, id: SessionId, now: UnixSeconds) -> (Mark, String) {
    let found = async { store::open_to_look(&config.store).await?.find_session(id).await };
    match found.await {
        Err(error) => (Mark::Unknown, format!("its row is in the store, which cannot be read: {}", chain(&error))),
        Ok(None) => (Mark::Unknown, "the store has no row of it, or none any more".to_owned()),
        Ok(Some(row)) => match row.ended {
            Some(ended) if ended.at <= now => {
                (Mark::Refused, format!("`{id}` ended at {}: `{}`", ended.at, ended.reason.name()))
            }
            Some(_) | None => (Mark::Ok, format!("`{id}` has not ended")),
        },
    }
}
