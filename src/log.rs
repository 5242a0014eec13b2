//! The access log's writer and the application log's set-up.

use std::path::PathBuf;

/// `[log]`.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Where access lines go.
    pub access: AccessLog,
    /// Form of the application log on stderr.
    pub format: LogFormat,
    /// `tracing` directives. Default `info`.
    pub level: String,
}

/// Where access lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output (default).
    Stdout,
    /// Appended to a file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// Form of the application log on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere (default).
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}
