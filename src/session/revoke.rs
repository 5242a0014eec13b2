//! What ends here is refused here at once; the other gateways hear of it from the store.

use std::sync::Arc;

use crate::revocation::Revocations;
use crate::store::SessionId;
use crate::time::UnixSeconds;

use super::Sessions;

impl Sessions {
    /// From now on the access tokens of sessions that end here are refused here at once. Does nothing the second time.
    pub fn set_revocations(&self, revocations: Arc<Revocations>) {
        // The first one stays.
        let _ = self.revocations.set(revocations);
    }

    /// These sessions have ended.
    pub(super) fn revoke(&self, sessions: &[SessionId], now: UnixSeconds) {
        if let Some(revocations) = self.revocations.get() {
            let ended: Vec<_> = sessions.iter().map(|session| (session.0, now)).collect();
            revocations.enter(&ended, now);
        }
    }
}
