//! The ends of sessions, each for good. What ends here is refused here at once; the other gateways hear of it from the store.

use std::sync::Arc;

use tokio::time::Instant;

use crate::revocation::Revocations;
use crate::store::{EndMark, EndReason, Ending, MAX_SESSION_PAGE, Ride, SessionId, StoreError};
use crate::time::{Arrival, UnixSeconds};

use super::Sessions;

impl Sessions {
    /// From now on the access tokens of sessions that end here are refused here at once. Does nothing the second time.
    pub fn set_revocations(&self, revocations: Arc<Revocations>) {
        // The first one stays.
        let _ = self.revocations.set(revocations);
    }

    /// Ends a session, of `subject` when one is given. Whether this call ended it; false: it had ended before, or there is none.
    ///
    /// # Errors
    /// When the store does not do it within the patience.
    pub async fn end(
        &self,
        session: SessionId,
        subject: Option<&str>,
        reason: EndReason,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        self.end_one(&self.patience.ride(), session, subject, reason, from_now_on(now)).await
    }

    /// Ends all sessions of a person but `keep`, and returns how many.
    ///
    /// # Errors
    /// When the store does not do it within the patience; some may be ended then.
    pub async fn end_others(
        &self,
        subject: &str,
        keep: SessionId,
        reason: EndReason,
        now: UnixSeconds,
    ) -> Result<u64, StoreError> {
        self.end_many(Some(subject), Some(keep), reason, now).await
    }

    /// Ends all sessions of a person (`None`: of everybody), and returns how many.
    ///
    /// # Errors
    /// As [`Self::end_others`].
    pub async fn end_all(&self, subject: Option<&str>, reason: EndReason, now: UnixSeconds) -> Result<u64, StoreError> {
        self.end_many(subject, None, reason, now).await
    }

    pub(super) async fn end_one(
        &self,
        ride: &Ride,
        session: SessionId,
        subject: Option<&str>,
        reason: EndReason,
        arrival: Arrival,
    ) -> Result<bool, StoreError> {
        let mark = EndMark::random()?;
        let attempt = || {
            // Dated by when it is written, and not by when it was asked for: tokens may have been issued in between.
            let ending = self.ending(mark, reason, arrival.now());
            async move { self.store.end_session(session, subject, &ending).await }
        };
        let ended = ride.out(attempt).await?;
        if ended {
            self.revoke(&[session], arrival.now());
        }
        Ok(ended)
    }

    /// Ends page by page, so that each step is a small one and is known here before the next, however many there are.
    async fn end_many(
        &self,
        subject: Option<&str>,
        keep: Option<SessionId>,
        reason: EndReason,
        now: UnixSeconds,
    ) -> Result<u64, StoreError> {
        let arrival = from_now_on(now);
        let (mut after, mut count) = (None, 0);
        loop {
            let ride = self.patience.ride();
            let page = ride.out(|| self.store.unended_sessions(subject, after, MAX_SESSION_PAGE)).await?;
            let others: Vec<SessionId> = page.iter().copied().filter(|id| Some(*id) != keep).collect();
            if !others.is_empty() {
                let mark = EndMark::random()?;
                let attempt = || {
                    let ending = self.ending(mark, reason, arrival.now());
                    let others = &others;
                    async move { self.store.end_sessions(others, &ending).await }
                };
                count += ride.out(attempt).await?;
                // Also those that somebody else has ended since.
                self.revoke(&others, arrival.now());
            }
            match page.last() {
                Some(last) if page.len() == MAX_SESSION_PAGE => after = Some(*last),
                Some(_) | None => return Ok(count),
            }
        }
    }

    fn ending(&self, mark: EndMark, reason: EndReason, now: UnixSeconds) -> Ending {
        Ending { mark, at: now, reason, purge_at: self.purge_at(now) }
    }

    /// These sessions have ended.
    fn revoke(&self, sessions: &[SessionId], now: UnixSeconds) {
        if let Some(revocations) = self.revocations.get() {
            let ended: Vec<_> = sessions.iter().map(|session| (session.0, now)).collect();
            revocations.enter(&ended, now);
        }
    }
}

/// What is asked for at `now`, and may have to wait from here on.
fn from_now_on(now: UnixSeconds) -> Arrival {
    Arrival::new(now.into(), Instant::now())
}
