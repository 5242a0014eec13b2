//! `tollgate run`: serves until it is told to stop.

use crate::app::{App, StartError, Stopped};
use crate::config::Config;
use crate::log;

use super::CliError;

/// Serves what the configuration says.
///
/// # Errors
/// When the process cannot start, or a part of it ends by itself.
pub(super) fn run(config: Config) -> Result<(), CliError> {
    log::start(&config.log).map_err(StartError::Log)?;
    let app = App::start(config)?;
    announce(&app);
    match app.wait_for_shutdown()? {
        Stopped::Drained => Ok(()),
        Stopped::AtOnce => Err(CliError::StoppedAtOnce),
    }
}

/// Says where the process serves. With port 0 in the file this is the only place that tells.
pub(super) fn announce(app: &App) {
    let admin = app.admin_address().map(|address| address.to_string()).unwrap_or_default();
    for address in app.public_addresses() {
        tracing::info!(listen.addr = %address, admin.addr = %admin, version = env!("CARGO_PKG_VERSION"), "Listening");
    }
}
