//! What is known of ended sessions, and how fresh that is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::page::Page;

/// Gauges and counters of revocation. Written by the control runtime.
#[derive(Debug)]
pub struct RevocationMetrics {
    /// The moment from which `current_at` counts.
    origin: Instant,
    /// Microseconds after `origin` up to which every end of a session is known; 0: never yet.
    current_at: AtomicU64,
    /// See [`FeedMode`]; 0: none.
    mode: AtomicU64,
    entries: AtomicU64,
    overflows: AtomicU64,
    /// One for each of [`LAGS`], and one for what is longer.
    lags: [AtomicU64; LAGS.len() + 1],
    lag_micros: AtomicU64,
}

/// How a gateway learns which sessions have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedMode {
    /// The database tells it.
    ChangeStream,
    /// It asks again and again.
    Polling,
}

impl FeedMode {
    const ALL: [(Self, &'static str); 2] = [(Self::ChangeStream, "change_stream"), (Self::Polling, "polling")];

    /// What the log and the metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChangeStream => Self::ALL[0].1,
            Self::Polling => Self::ALL[1].1,
        }
    }
}

impl Default for RevocationMetrics {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            current_at: AtomicU64::new(0),
            mode: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
            lags: Default::default(),
            lag_micros: AtomicU64::new(0),
        }
    }
}

impl RevocationMetrics {
    /// Notes that every session that ended before `moment` is known.
    pub fn set_current(&self, moment: Instant) {
        let micros = moment.duration_since(self.origin).as_micros();
        self.current_at.fetch_max(u64::try_from(micros).unwrap_or(u64::MAX).max(1), Relaxed);
    }

    /// Notes how ends of sessions are learned; `None`: not at all.
    pub fn set_mode(&self, mode: Option<FeedMode>) {
        self.mode.store(mode.map_or(0, |mode| mode as u64 + 1), Relaxed);
    }

    /// Notes how many sessions are revoked.
    pub fn set_entries(&self, entries: usize) {
        self.entries.store(entries as u64, Relaxed);
    }

    /// Counts that more sessions ended than are remembered one by one.
    pub fn overflowed(&self) {
        self.overflows.fetch_add(1, Relaxed);
    }

    /// Counts a session of whose end was heard from elsewhere, `lag` after it.
    pub fn heard(&self, lag: Duration) {
        let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.lags[LAGS.partition_point(|&(bound, _)| bound < micros)].fetch_add(1, Relaxed);
        self.lag_micros.fetch_add(micros, Relaxed);
    }

    /// How old the knowledge is; `None`: there never was any.
    fn age(&self) -> Option<Duration> {
        let current_at = self.current_at.load(Relaxed);
        (current_at != 0).then(|| self.origin.elapsed().saturating_sub(Duration::from_micros(current_at)))
    }

    pub(super) fn encode(&self, page: &mut Page) {
        let age = "tollgate_revocation_feed_age_seconds";
        page.family(age, "gauge", "Time since every ended session was known here; +Inf before the first time.");
        page.name(age, &[]);
        match self.age() {
            Some(age) => page.line(format_args!("{:.3}", age.as_secs_f64())),
            None => page.line(format_args!("+Inf")),
        }
        let mode = "tollgate_revocation_feed_mode";
        page.family(mode, "gauge", "1 for the way in which ends of sessions are learned.");
        for (kind, name) in FeedMode::ALL {
            let is_used = self.mode.load(Relaxed) == kind as u64 + 1;
            page.sample(mode, &[("mode", name)], u64::from(is_used));
        }
        self.encode_lags(page);
        let entries = "tollgate_revoked_sessions";
        page.family(entries, "gauge", "Ended sessions whose access tokens are refused.");
        page.sample(entries, &[], self.entries.load(Relaxed));
        let overflows = "tollgate_revocation_overflows_total";
        page.family(overflows, "counter", "Times that more sessions had ended than are remembered one by one.");
        page.sample(overflows, &[], self.overflows.load(Relaxed));
    }

    fn encode_lags(&self, page: &mut Page) {
        let name = "tollgate_revocation_lag_seconds";
        page.family(name, "histogram", "From the end of a session elsewhere to its refusal here.");
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (count, bound) in self.lags.iter().zip(LAGS.iter().map(|&(_, text)| text).chain(["+Inf"])) {
            below += count.load(Relaxed);
            page.sample(&bucket, &[("le", bound)], below);
        }
        let micros = self.lag_micros.load(Relaxed);
        page.name(&format!("{name}_sum"), &[]);
        page.line(format_args!("{}.{:06}", micros / 1_000_000, micros % 1_000_000));
        page.sample(&format!("{name}_count"), &[], below);
    }
}

/// Upper bounds in microseconds, with their text in seconds; among them what is promised, 2 s.
const LAGS: [(u64, &str); 9] = [
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
    (10_000_000, "10"),
];
