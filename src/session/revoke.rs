//! What ends here is refused here at once; the other gateways hear of it from the store.

use std::sync::Arc;

use crate::revocation::Revocations;
use crate::store::{EndPlace, MAX_END_PAGE, SessionId};
use crate::time::UnixSeconds;

use super::Sessions;

impl Sessions {
    /// From now on the access tokens of sessions that end here are refused here at once. Does nothing the second time.
    pub fn set_revocations(&self, revocations: Arc<Revocations>) {
        // The first one stays.
        let _ = self.revocations.set(revocations);
    }

    /// This session has ended.
    pub(super) fn revoke(&self, session: SessionId, now: UnixSeconds) {
        if let Some(revocations) = self.revocations.get() {
            revocations.enter(&[(session.0, now)], now);
        }
    }

    /// Some sessions have ended; the store knows which. When it does not say, they come with the feed as everywhere.
    pub(super) async fn revoke_many(&self, now: UnixSeconds) {
        let Some(revocations) = self.revocations.get() else { return };
        let mut place = Some(EndPlace { at: now.into(), after: None });
        while let Some(from) = place {
            let Ok(page) = self.store.session_ends(from, MAX_END_PAGE).await else { return };
            let ends: Vec<_> = page.ends.iter().map(|end| (end.id.0, end.at.seconds())).collect();
            revocations.enter(&ends, now);
            place = page.next;
        }
    }
}
