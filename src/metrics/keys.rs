//! How fresh keys are: our own in the store, and those of other issuers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::Metrics;
use super::page::Page;

/// Of one issuer whose keys are fetched.
#[derive(Debug, Default)]
pub(super) struct KeySourceMetrics {
    fetched: AtomicU64,
    failed: AtomicU64,
    /// When its keys were last fetched.
    fetched_at: Mutex<Option<Instant>>,
}

impl Metrics {
    /// Counts an attempt to fetch the keys of an issuer.
    pub fn jwks_refreshed(&self, source: usize, is_fetched: bool) {
        let Some(source) = self.key_sources.get(source) else { return };
        if is_fetched {
            source.fetched.fetch_add(1, Relaxed);
            *source.fetched_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        } else {
            source.failed.fetch_add(1, Relaxed);
        }
    }

    /// Notes that our own keys have been read from the store now.
    pub fn keys_read(&self) {
        *self.keys_read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Nothing where the file has the keys.
    pub(super) fn encode_own_keys(&self, page: &mut Page) {
        let read_at = *self.keys_read_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read_at) = read_at {
            let age = "tollgate_keys_age_seconds";
            page.family(age, "gauge", "Time since the gateway's own keys were last read from the store.");
            page.sample(age, &[], read_at.elapsed().as_secs());
        }
    }

    /// Nothing where no keys are fetched.
    pub(super) fn encode_key_sources(&self, page: &mut Page) {
        if self.key_sources.is_empty() {
            return;
        }
        let sources = || self.labels.key_sources.iter().zip(&self.key_sources);
        page.family("tollgate_jwks_refreshes_total", "counter", "Attempts to fetch the keys of an issuer.");
        for (issuer, source) in sources() {
            for (result, count) in [("ok", &source.fetched), ("failed", &source.failed)] {
                let labels = [("issuer", &**issuer), ("result", result)];
                page.sample("tollgate_jwks_refreshes_total", &labels, count.load(Relaxed));
            }
        }
        page.family("tollgate_jwks_age_seconds", "gauge", "Time since the keys of an issuer were last fetched.");
        for (issuer, source) in sources() {
            let fetched_at = *source.fetched_at.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(fetched_at) = fetched_at {
                page.sample("tollgate_jwks_age_seconds", &[("issuer", issuer)], fetched_at.elapsed().as_secs());
            }
        }
    }
}
