//! `[revocation]`: how gateways learn which sessions have ended.

use std::time::Duration;

use crate::issuer::LoginSettings;
use crate::revocation::{FeedChoice, RevocationSettings};
use crate::token::TokenSettings;

use super::reader::{Findings, Section};
use super::value::{choice, duration, integer, text};

/// Asking more often burdens the database and gains nothing that a person notices.
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// With a longer pause, what is promised would not hold.
const LONGEST_POLL: Duration = Duration::from_secs(2);

/// Less could pass between two words from a database that is well.
const LEAST_FEED_AGE: Duration = Duration::from_secs(5);

const MOST_FEED_AGE: Duration = Duration::from_secs(3600);

pub(super) fn revocation(
    file: &Section<'_>,
    tokens: Option<&TokenSettings>,
    login: Option<&LoginSettings>,
    findings: &mut Findings,
) -> Option<RevocationSettings> {
    let section = file.table("revocation", findings)?;
    let feeds = [("auto", FeedChoice::Auto), ("polling", FeedChoice::Polling)];
    let feed = section.read("feed", findings, text(choice(&feeds)));
    let poll_interval = section.read("poll_interval", findings, duration(SHORTEST_POLL..=LONGEST_POLL));
    let max_feed_age = section.read("max_feed_age", findings, duration(LEAST_FEED_AGE..=MOST_FEED_AGE));
    let max_entries = section.read("max_entries", findings, integer(1000..=100_000_000));
    let (tokens, login) = (tokens?, login?);
    Some(RevocationSettings {
        feed: feed?,
        poll_interval: poll_interval?,
        max_feed_age: max_feed_age?,
        max_entries: max_entries?,
        access_ttl: tokens.access_ttl,
        leeway: tokens.leeway,
        store_patience: login.store_patience,
    })
}
