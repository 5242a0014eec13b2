//! What the set remembers, for how long, and what it does when there is too much of it.

use super::*;
use crate::metrics::Labels;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const LEEWAY: u64 = 30;
const PATIENCE: u64 = 10;
/// How long the slowest write takes.
const WRITE: u64 = 35;
/// The life of an access token, the leeway for both clocks, what an end may have waited for the store, and its write.
const LIFE: u64 = 300 + 2 * LEEWAY + PATIENCE + WRITE;

fn revocations(max_entries: usize) -> Revocations {
    let settings = RevocationSettings {
        feed: FeedChoice::Auto,
        poll_interval: Duration::from_millis(500),
        max_feed_age: Duration::from_secs(30),
        max_entries,
        access_ttl: Duration::from_secs(300),
        leeway: Duration::from_secs(LEEWAY),
        store_patience: Duration::from_secs(PATIENCE),
    };
    let labels =
        Labels { routes: Vec::new(), upstreams: Vec::new(), refusals: &[], key_sources: Vec::new(), audit_events: &[] };
    Revocations::new(&settings, Arc::new(Metrics::new(labels, 1)))
}

/// Ids that fall into all shards.
fn session(number: u32) -> SessionBytes {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    id[4..8].copy_from_slice(&number.to_be_bytes());
    id
}

fn later(seconds: u64) -> UnixSeconds {
    UnixSeconds(NOW.0 + seconds)
}

#[test]
fn a_session_is_revoked_from_its_end_until_its_last_token_has_expired() {
    let revocations = revocations(1000);
    assert_eq!(revocations.check(&session(1), NOW), Ok(()));
    assert_eq!(revocations.enter(&[(session(1), NOW)], NOW), [session(1)]);
    assert_eq!(revocations.check(&session(1), NOW), Err(Revoked::Ended));
    assert_eq!(revocations.check(&session(2), NOW), Ok(()), "another one in use");
    assert!(revocations.enter(&[(session(1), NOW)], NOW).is_empty(), "it is known");
    revocations.sweep(later(LIFE - 1));
    assert_eq!(revocations.check(&session(1), NOW), Err(Revoked::Ended));
    revocations.sweep(later(LIFE));
    assert_eq!(revocations.check(&session(1), NOW), Ok(()));
    assert!(!revocations.is_in_use.load(Ordering::Relaxed), "and a request reads nothing but that");
}

#[test]
fn what_ended_too_long_ago_is_not_kept_and_a_clock_that_is_ahead_keeps_nothing_for_long() {
    let revocations = revocations(1000);
    assert!(revocations.enter(&[(session(1), UnixSeconds(NOW.0 - LIFE))], NOW).is_empty());
    assert!(!revocations.is_in_use.load(Ordering::Relaxed));
    revocations.enter(&[(session(2), UnixSeconds(u64::MAX)), (session(3), UnixSeconds(NOW.0 - LIFE + 1))], NOW);
    assert_eq!(revocations.check(&session(2), NOW), Err(Revoked::Ended));
    assert_eq!(revocations.check(&session(3), NOW), Err(Revoked::Ended));
    revocations.sweep(later(LIFE + LEEWAY));
    assert_eq!(revocations.check(&session(2), NOW), Ok(()));
}

#[test]
fn an_end_that_a_clock_behind_dated_too_early_stays_for_its_time_when_the_clock_is_right() {
    let revocations = revocations(1000);
    let behind = UnixSeconds(NOW.0 - 600);
    // The database says when it ended, which is ahead for this clock.
    revocations.enter(&[(session(1), NOW)], behind);
    assert!(revocations.enter(&[(session(1), NOW)], later(5)).is_empty(), "it is known");
    revocations.sweep(later(LIFE - 1));
    assert_eq!(revocations.check(&session(1), NOW), Err(Revoked::Ended));
    revocations.sweep(later(LIFE));
    assert_eq!(revocations.check(&session(1), NOW), Ok(()));
}

#[test]
fn every_one_of_many_is_found_and_nothing_else() {
    let revocations = revocations(100_000);
    let many: Vec<_> = (0..20_000).map(|number| (session(number), NOW)).collect();
    assert_eq!(revocations.enter(&many, NOW).len(), 20_000);
    for number in 0..20_000 {
        assert_eq!(revocations.check(&session(number), NOW), Err(Revoked::Ended), "{number}");
        assert_eq!(revocations.check(&session(number + 20_000), NOW), Ok(()), "{number}");
    }
    assert!(revocations.enter(&many, NOW).is_empty());
}

#[test]
fn when_there_are_too_many_all_tokens_from_before_are_refused_and_newer_ones_are_not() {
    let revocations = revocations(1000);
    // One a second, the first ones 100 s ago.
    let ended = |number: u32| UnixSeconds(NOW.0 - 100 + u64::from(number) / 10);
    let many: Vec<_> = (0..1001).map(|number| (session(number), ended(number))).collect();
    revocations.enter(&many, NOW);
    // The older half, up to 50 s ago, is gone, and what was issued until then, with the leeway and the writes, is refused.
    let cut = UnixSeconds(NOW.0 - 50 + LEEWAY + PATIENCE + WRITE);
    for (session, ended_at) in &many {
        let issued_at = UnixSeconds(ended_at.0 - 1);
        assert!(revocations.check(session, issued_at).is_err(), "a token of an ended session is refused in any case");
    }
    assert_eq!(revocations.check(&session(5000), cut), Err(Revoked::Early));
    assert_eq!(revocations.check(&session(5000), UnixSeconds(cut.0 + 1)), Ok(()));
    assert_eq!(revocations.check(&session(1000), later(100)), Err(Revoked::Ended), "the newer half is remembered");
    // The next reading brings the same rows, and does not begin again.
    let again = revocations.enter(&many, NOW);
    assert!(again.is_empty(), "{}", again.len());
    revocations.sweep(cut.plus(Duration::from_secs(LIFE)));
    assert_eq!(revocations.check(&session(5000), cut), Ok(()), "by then they have expired");
}

#[test]
fn sessions_that_all_end_in_one_second_are_covered_too() {
    let revocations = revocations(1000);
    let many: Vec<_> = (0..3000).map(|number| (session(number), NOW)).collect();
    for page in many.chunks(1000) {
        revocations.enter(page, NOW);
    }
    for (session, _) in &many {
        assert!(revocations.check(session, NOW).is_err());
    }
    assert_eq!(revocations.check(&session(9000), later(LEEWAY + PATIENCE + WRITE + 1)), Ok(()));
}

#[test]
fn nothing_is_known_before_the_first_word_and_after_too_long_without_one() {
    let revocations = revocations(1000);
    let start = Instant::now();
    let after = |seconds: f64| revocations.check_known(start + Duration::from_secs_f64(seconds));
    assert_eq!(after(0.0), Err(Unknown));
    revocations.know_until(start);
    assert_eq!(after(0.0), Ok(()));
    assert_eq!(after(29.9), Ok(()));
    assert_eq!(after(30.1), Err(Unknown));
    revocations.know_until(start + Duration::from_secs(20));
    assert_eq!(after(49.9), Ok(()));
    revocations.know_until(start);
    assert_eq!(after(49.9), Ok(()), "what was known is not forgotten");
    assert_eq!(after(50.1), Err(Unknown));
}

#[test]
fn readers_and_writers_do_not_wait_for_each_other_and_lose_nothing() {
    let revocations = Arc::new(revocations(1_000_000));
    std::thread::scope(|scope| {
        for writer in 0..4_u32 {
            let revocations = &revocations;
            scope.spawn(move || {
                for number in (writer * 1000)..(writer + 1) * 1000 {
                    revocations.enter(&[(session(number), NOW)], NOW);
                    assert_eq!(revocations.check(&session(number), NOW), Err(Revoked::Ended));
                    revocations.sweep(NOW);
                }
            });
        }
    });
    for number in 0..4000 {
        assert_eq!(revocations.check(&session(number), NOW), Err(Revoked::Ended), "{number}");
    }
}
