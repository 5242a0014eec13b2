//! `tollgate run`: serves until it is told to stop.

use std::path::Path;
use std::sync::Arc;

use crate::app::{App, StartError, Stopped};
use crate::log::LostLines;
use crate::metrics::ProcessCounts;
use crate::{config, log};

use super::CliError;

/// Serves what the file says.
///
/// # Errors
/// When the file has problems, the process cannot start, or a part of it ends by itself.
pub(super) fn run(file: &Path) -> Result<(), CliError> {
    let loaded = config::load(file).map_err(CliError::Config)?;
    let counts = ProcessCounts::default();
    let lost =
        LostLines { events: Arc::clone(&counts.log_lines_dropped), audit: Arc::clone(&counts.audit_lines_dropped) };
    let _log = log::start(&loaded.config.log, lost).map_err(StartError::Log)?;
    log::report_panics(Arc::clone(&counts.panics));
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let app = App::start_counting(loaded.config, counts)?;
    announce(&app);
    match app.wait_for_shutdown()? {
        Stopped::Drained => Ok(()),
        Stopped::AtOnce => Err(CliError::StoppedAtOnce),
    }
}

/// Says where the process serves. With port 0 in the file this is the only place that tells.
fn announce(app: &App) {
    let admin = app.admin_address().map(|address| address.to_string()).unwrap_or_default();
    for address in app.public_addresses() {
        tracing::info!(listen.addr = %address, admin.addr = %admin, version = env!("CARGO_PKG_VERSION"), "Listening");
    }
}
