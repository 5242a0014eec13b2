//! Indexes of our own collections: made beside the calls that want them, none of which waits for them.

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::call::{CallError, Calls};
use crate::store::StoreError;

/// How long one attempt may take. On a large collection the server goes on by itself, and the next attempt finds it made.
pub(super) const INDEX_LIMIT: Duration = Duration::from_secs(10);
/// Between two attempts: this at first, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often it is told that they are still not made.
const TELL_AGAIN: Duration = Duration::from_secs(3600);

/// The indexes of one collection. They are made once in a process, from the first call on that wants them.
#[derive(Debug)]
pub(super) struct Indexes {
    collection: &'static str,
    task: OnceLock<Task>,
}

/// Ends with the store.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Indexes {
    /// Those of our own collection of this name. None is made yet.
    pub(super) const fn of(collection: &'static str) -> Self {
        Self { collection, task: OnceLock::new() }
    }

    /// Begins to make them by what `attempt` gives, if nobody has.
    pub(super) fn make<F>(&self, calls: &Calls, attempt: impl FnOnce() -> F)
    where
        F: Fn() -> BoxFuture<'static, Result<(), CallError>> + Send + 'static,
    {
        self.task
            .get_or_init(|| Task(calls.runtime().spawn(try_until_made(self.collection, attempt())).abort_handle()));
    }
}

async fn try_until_made(
    collection: &'static str,
    attempt: impl Fn() -> BoxFuture<'static, Result<(), CallError>> + Send,
) {
    let (mut pause, mut told_at) = (FIRST_PAUSE, None::<Instant>);
    while let Err(error) = attempt().await {
        let error = StoreError::from(error);
        if told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_AGAIN) {
            told_at = Some(Instant::now());
            tracing::warn!(%error, "Indexes of `{collection}` not made, trying again");
        } else {
            tracing::debug!(%error, "Indexes of `{collection}` not made, trying again");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if told_at.is_some() {
        tracing::info!("Indexes of `{collection}` made");
    }
}
