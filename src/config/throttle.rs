//! `[login.throttle]`: how often a login may fail before the next one has to wait.

use std::time::Duration;

use crate::account::throttle::{Limit, ThrottleSettings};

use super::reader::{Findings, Section};
use super::value::{boolean, duration, integer};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// `Some(None)`: switched off.
pub(super) fn throttle(file: &Section<'_>, findings: &mut Findings) -> Option<Option<ThrottleSettings>> {
    // What is wrong with the table itself was noted with the endpoints.
    let section = file.table("login", &mut Findings::default())?.table("throttle", findings)?;
    let enabled = section.read("enabled", findings, boolean);
    let account = limit(&section, "account", findings);
    let account_and_address = limit(&section, "account_and_address", findings);
    let address = limit(&section, "address", findings);
    let known_for = section.read("known_for", findings, duration(Duration::ZERO..=365 * DAY));
    let settings = ThrottleSettings {
        account: account?,
        account_and_address: account_and_address?,
        address: address?,
        known_for: known_for?,
    };
    Some(enabled?.then_some(settings))
}

fn limit(section: &Section<'_>, name: &str, findings: &mut Findings) -> Option<Limit> {
    let section = section.table(name, findings)?;
    let free = section.read("free", findings, integer(1..=1_000_000));
    let max_delay = section.read("max_delay", findings, duration(SECOND..=DAY));
    let forget = section.read("forget", findings, duration(SECOND..=DAY));
    Some(Limit { free: free?, max_delay: max_delay?, forget: forget? })
}
