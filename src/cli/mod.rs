//! The command line: one file a verb.

mod run;

use std::process::ExitCode;

use crate::app::{RunError, StartError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The process could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ended badly.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A second signal.
    #[error("stopped at once by a second signal, with requests in flight")]
    StoppedAtOnce,
}

/// Runs the command.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
