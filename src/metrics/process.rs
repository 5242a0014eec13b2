//! What is counted beside the parts that metrics are made for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Metrics;

/// Counters of the process, which are there before its parts: its log and its hook of panics add to them.
#[derive(Debug, Clone, Default)]
pub struct ProcessCounts {
    /// Panics, wherever they happened.
    pub panics: Arc<AtomicU64>,
    /// Lines of the application log that were lost, but for those of the audit.
    pub log_lines_dropped: Arc<AtomicU64>,
    /// Audit lines that were lost, in the application log or in a file.
    pub audit_lines_dropped: Arc<AtomicU64>,
}

impl Metrics {
    /// As these, but with the process's own counters.
    #[must_use]
    pub fn with_process_counts(mut self, counts: ProcessCounts) -> Self {
        self.process = counts;
        self
    }
}
