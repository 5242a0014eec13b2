//! `tollgate key rotate` and `tollgate key retire`: what happens to the keys in the store, and what that means for tokens.

use std::io::Write;
use std::time::Duration;

use crate::app::keys::{self, Retired, When};
use crate::audit::{Audit, Event, Origin, Whom};
use crate::cli::{CliError, wait_for};
use crate::config::Config;

use super::KeyCommandError;

/// Only the new key's name goes to `out`.
pub(super) fn rotate(
    config: &Config,
    after: Option<Duration>,
    out: &mut (dyn Write + '_),
    messages: &mut dyn Write,
) -> Result<(), CliError> {
    let audit = Audit::of_command(&config.log.audit).map_err(KeyCommandError::Audit)?;
    let rotated = wait_for(keys::rotate(config, after))?.map_err(KeyCommandError::Rotation)?;
    let event = Event::KeyRotated { kid: &rotated.kid, algorithm: &rotated.algorithm };
    audit.record(&event, Whom::default(), &Origin::CommandLine);
    writeln!(out, "{}", rotated.kid)?;
    let what = if rotated.is_brought_forward { "the key that was waiting" } else { "the new key" };
    writeln!(messages, "{what} is published, and signs from {} on", rotated.signs_from)?;
    writeln!(messages, "the old key verifies until its last token has expired; nothing has to be restarted")?;
    Ok(())
}

pub(super) fn retire(config: &Config, kid: &str, when: When, messages: &mut dyn Write) -> Result<(), CliError> {
    let audit = Audit::of_command(&config.log.audit).map_err(KeyCommandError::Audit)?;
    let (retired, algorithm) = wait_for(keys::retire(config, kid, when))?.map_err(KeyCommandError::Rotation)?;
    audit.record(&Event::KeyRetired { kid, algorithm: &algorithm }, Whom::default(), &Origin::CommandLine);
    match retired {
        Retired::Withdrawn => writeln!(messages, "the key `{kid}` is withdrawn; it has signed nothing")?,
        Retired::Replaced { successor, from } => {
            writeln!(messages, "the key `{successor}` signs from {from} on")?;
            writeln!(messages, "the key `{kid}` verifies until its last token has expired")?;
        }
        Retired::Verifies { until } => {
            writeln!(messages, "the key `{kid}` signs no more, and verifies until {until}")?;
        }
        Retired::BehindRefresh => {
            writeln!(messages, "the key behind refresh tokens is gone")?;
            writeln!(
                messages,
                "hint: restart all gateways now; the first makes a new key, and everybody has to log in again"
            )?;
        }
        Retired::Refused { successor } => {
            let within = keys::FOLLOW_INTERVAL.as_secs();
            writeln!(messages, "the key `{kid}` is gone; every gateway refuses its tokens within {within} s")?;
            if let Some(successor) = successor {
                writeln!(messages, "the key `{successor}` signs now")?;
            }
        }
    }
    Ok(())
}
