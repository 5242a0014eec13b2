//! What each key serves for at a moment. Decided from the dates in the store and the clock, and from nothing else, so that all
//! gateways come to the same without a word between them.
//!
//! A key of another algorithm than before takes over as a successor does: until the first of its row begins, that of the other row
//! signs in its place.
//!
//! The keys of one algorithm form a row in the order in which they begin to sign. A key is published as soon as it is in the
//! store; it signs from its `active_from` until the next in the row begins; it verifies, and stays published, until the last
//! token that it signed has expired; then nobody needs it.

use std::time::Duration;

use crate::store::StoredKey;
use crate::time::UnixSeconds;
use crate::token::TokenSettings;

/// How long a new key is published before it signs, unless somebody is in a hurry: twice the time that verifiers may keep our key
/// set (`max-age` of its answer).
pub const PUBLISH_AHEAD: Duration = Duration::from_secs(600);

/// The same for somebody in a hurry: a verifier that fetches our key set anew when it meets an unknown key does so every 30 seconds
/// at most (PyJWT's `PyJWKClient`, `jose` for JavaScript), and has to meet it no earlier than that after it was published.
pub(super) const HURRIED_AHEAD: Duration = Duration::from_secs(45);

/// The least of all: three times [`FOLLOW_INTERVAL`], so that every gateway knows the key whose tokens it gets.
pub(super) const SHORTEST_AHEAD: Duration = Duration::from_secs(15);

/// How often a gateway looks for what happened to the keys in the store.
pub const FOLLOW_INTERVAL: Duration = Duration::from_secs(5);

/// How much longer than its tokens live a key is kept, for clocks that do not agree and gateways that heard of its successor late.
const KEEP_MARGIN: Duration = Duration::from_secs(60);

/// How long a key that nobody needs stays in the store: a gateway whose clock is fast must not remove what others need.
const REMOVE_AFTER: Duration = Duration::from_secs(3600);

/// What a key serves for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is published, and signs from then on.
    Next,
    /// It signs the tokens of its algorithm.
    Signs,
    /// What it signed may still live, until then at the latest.
    Verifies { until: UnixSeconds },
    /// Nobody needs it; what it signed is refused.
    Over { since: UnixSeconds },
}

/// How long keys are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// After it signed its last token of the ordinary life.
    after_last_token: Duration,
    leeway: Duration,
}

impl Keep {
    pub(super) const fn new(tokens: &TokenSettings) -> Self {
        let after_last_token = tokens.access_ttl.saturating_add(tokens.leeway).saturating_add(KEEP_MARGIN);
        Self { after_last_token, leeway: tokens.leeway.saturating_add(KEEP_MARGIN) }
    }

    /// Until when a key that signs no more since `stopped` has to verify.
    pub(super) fn until(self, key: &StoredKey, stopped: UnixSeconds) -> UnixSeconds {
        let long_lived = key.needed_until.map_or(UnixSeconds(0), |until| until.plus(self.leeway));
        stopped.plus(self.after_last_token).max(long_lived)
    }
}

/// The stage of each of `keys`, which are all keys of the store in its order.
pub(super) fn stages(keys: &[StoredKey], keep: Keep, now: UnixSeconds) -> Vec<Stage> {
    let early = if somebody_signs(keys, now) { Early::Wait } else { Early::Sign };
    keys.iter().map(|key| stage(key, &row(keys, &key.algorithm), early, keep, now)).collect()
}

/// Whether a key has begun to sign, of whatever algorithm. A first key of another one then waits for its date.
pub(super) fn somebody_signs(keys: &[StoredKey], now: UnixSeconds) -> bool {
    let signs = |key: &StoredKey| key.signs_tokens() && !was_withdrawn(key) && key.active_from <= now;
    keys.iter().any(|key| signs(key) && is_on_duty(key, now))
}

/// The key that signs where `tokens.algorithm` is that one: of its row, or while the first of that waits, the last of another.
pub(super) fn signs_for<'a>(keys: &'a [StoredKey], stages: &[Stage], algorithm: &str) -> Option<&'a StoredKey> {
    let is_ours = |key: &StoredKey| key.algorithm == algorithm;
    let staged = || keys.iter().zip(stages).filter(|(key, _)| key.signs_tokens());
    let signs = staged().filter(|(_, stage)| **stage == Stage::Signs).map(|(key, _)| key);
    let (own, others): (Vec<_>, Vec<_>) = signs.partition(|key| is_ours(key));
    let has_next = staged().any(|(key, stage)| *stage == Stage::Next && is_ours(key));
    let stand_in = others.into_iter().max_by_key(|key| key.active_from).filter(|_| has_next);
    own.into_iter().next().or(stand_in)
}

/// What the keys of a row do of which none has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Early {
    /// They wait: another row signs.
    Wait,
    /// The first signs, as on a machine whose clock is behind.
    Sign,
}

/// Whether the store may forget a key.
pub(super) fn may_be_removed(stage: Stage, now: UnixSeconds) -> bool {
    matches!(stage, Stage::Over { since } if now >= since.plus(REMOVE_AFTER))
}

/// The keys of an algorithm in the order in which they begin to sign, without those that were withdrawn before.
fn row<'a>(keys: &'a [StoredKey], algorithm: &str) -> Vec<&'a StoredKey> {
    let mut row: Vec<&StoredKey> =
        keys.iter().filter(|key| key.algorithm == algorithm && !was_withdrawn(key)).collect();
    // Of two with the same date the later of the store comes later here, because the sort is stable.
    row.sort_by_key(|key| key.active_from);
    row
}

fn was_withdrawn(key: &StoredKey) -> bool {
    key.retired_at.is_some_and(|retired| retired <= key.active_from)
}

fn stage(key: &StoredKey, row: &[&StoredKey], early: Early, keep: Keep, now: UnixSeconds) -> Stage {
    let Some(place) = row.iter().position(|other| other.kid == key.kid) else {
        return Stage::Over { since: key.retired_at.unwrap_or(now) };
    };
    if signer(row, early, now).is_some_and(|signer| signer.kid == key.kid) {
        return Stage::Signs;
    }
    if key.active_from > now {
        return Stage::Next;
    }
    let replaced = row.get(place + 1).map(|next| next.active_from);
    let stopped = [key.retired_at, replaced].into_iter().flatten().min().unwrap_or(now);
    let until = keep.until(key, stopped);
    if now < until { Stage::Verifies { until } } else { Stage::Over { since: until } }
}

/// The last that has begun and was not retired. If none has begun, perhaps the first that will.
fn signer<'a>(row: &[&'a StoredKey], early: Early, now: UnixSeconds) -> Option<&'a StoredKey> {
    let on_duty: Vec<&'a StoredKey> = row.iter().copied().filter(|key| is_on_duty(key, now)).collect();
    let begun = on_duty.iter().rfind(|key| key.active_from <= now);
    match early {
        Early::Wait => begun.copied(),
        Early::Sign => begun.or_else(|| on_duty.first()).copied(),
    }
}

fn is_on_duty(key: &StoredKey, now: UnixSeconds) -> bool {
    key.retired_at.is_none_or(|retired| now < retired)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { after_last_token: Duration::from_secs(400), leeway: Duration::from_secs(90) };

    fn key(kid: &str, active_from: u64) -> StoredKey {
        let mut key = StoredKey::new(kid.to_owned(), "ES256", "m".into(), UnixSeconds(0));
        key.active_from = UnixSeconds(active_from);
        key
    }

    fn at(keys: &[StoredKey], now: u64) -> Vec<Stage> {
        stages(keys, KEEP, UnixSeconds(now))
    }

    const fn verifies(until: u64) -> Stage {
        Stage::Verifies { until: UnixSeconds(until) }
    }

    const fn over(since: u64) -> Stage {
        Stage::Over { since: UnixSeconds(since) }
    }

    #[test]
    fn a_key_is_published_then_signs_then_verifies_then_goes() {
        let keys = [key("a", 0), key("b", 1000), key("c", 2000)];
        assert_eq!(at(&keys, 999), [Stage::Signs, Stage::Next, Stage::Next]);
        assert_eq!(at(&keys, 1000), [verifies(1400), Stage::Signs, Stage::Next]);
        assert_eq!(at(&keys, 1399), [verifies(1400), Stage::Signs, Stage::Next]);
        assert_eq!(at(&keys, 1400), [over(1400), Stage::Signs, Stage::Next]);
        assert_eq!(at(&keys, 2000), [over(1400), verifies(2400), Stage::Signs]);
        assert!(!may_be_removed(over(1400), UnixSeconds(4999)) && may_be_removed(over(1400), UnixSeconds(5000)));
        assert!(!may_be_removed(verifies(1), UnixSeconds(99_999)));
    }

    #[test]
    fn exactly_one_key_signs_at_every_moment_whatever_the_order_in_the_store() {
        let keys = [key("c", 2000), key("a", 100), key("b", 1000)];
        for now in 0..2500 {
            let signing: Vec<usize> = (0..3).filter(|index| at(&keys, now)[*index] == Stage::Signs).collect();
            let expected = match now {
                0..1000 => 1,
                1000..2000 => 2,
                _ => 0,
            };
            assert_eq!(signing, [expected], "at {now}");
        }
    }

    #[test]
    fn a_token_of_a_long_life_keeps_its_key() {
        let mut keys = [key("a", 0), key("b", 1000)];
        keys[0].needed_until = Some(UnixSeconds(9000));
        assert_eq!(at(&keys, 1500)[0], verifies(9090));
        keys[0].needed_until = Some(UnixSeconds(1100));
        assert_eq!(at(&keys, 1100)[0], verifies(1400));
    }

    #[test]
    fn a_withdrawn_key_changes_nothing_for_the_others() {
        let mut keys = [key("a", 0), key("b", 1000), key("c", 2000)];
        keys[1].retired_at = Some(UnixSeconds(900));
        assert_eq!(at(&keys, 1500), [Stage::Signs, over(900), Stage::Next]);
        assert_eq!(at(&keys, 2100), [verifies(2400), over(900), Stage::Signs]);
    }

    #[test]
    fn a_key_that_was_retired_without_a_successor_verifies_what_it_signed() {
        let mut keys = [key("a", 0)];
        keys[0].retired_at = Some(UnixSeconds(500));
        assert_eq!(at(&keys, 499), [Stage::Signs]);
        assert_eq!(at(&keys, 500), [verifies(900)]);
        assert_eq!(at(&keys, 900), [over(900)]);
    }

    #[test]
    fn algorithms_do_not_replace_each_other() {
        let mut keys = [key("a", 0), key("b", 1000)];
        keys[1].algorithm = "EdDSA".to_owned();
        assert_eq!(at(&keys, 5000), [Stage::Signs, Stage::Signs]);
    }

    #[test]
    fn a_first_key_of_another_algorithm_waits_for_its_date_while_somebody_signs() {
        let mut keys = [key("refresh", 0), key("a", 100), key("b", 1000)];
        keys[0].algorithm = "tollgate-refresh".to_owned();
        keys[2].algorithm = "EdDSA".to_owned();
        assert_eq!(at(&keys, 999)[1..], [Stage::Signs, Stage::Next]);
        assert_eq!(at(&keys, 1000)[1..], [Stage::Signs, Stage::Signs]);
        // On a machine whose clock is behind each row has one that signs.
        assert_eq!(at(&keys, 50)[1..], [Stage::Signs, Stage::Signs]);
        keys[1].retired_at = Some(UnixSeconds(500));
        assert_eq!(at(&keys, 499)[1..], [Stage::Signs, Stage::Next]);
        assert_eq!(at(&keys, 500)[1..], [verifies(900), Stage::Signs], "there is nobody to wait for");
    }

    #[test]
    fn until_the_first_key_of_an_algorithm_begins_the_last_of_another_signs() {
        let mut keys = [key("a", 0), key("b", 500), key("c", 1000)];
        keys[0].algorithm = "RS256".to_owned();
        keys[2].algorithm = "EdDSA".to_owned();
        let signs = |now: u64, algorithm: &str| {
            signs_for(&keys, &at(&keys, now), algorithm).map(|key| key.kid.clone()).unwrap_or_default()
        };
        assert_eq!((signs(999, "EdDSA"), signs(1000, "EdDSA")), ("b".to_owned(), "c".to_owned()));
        assert_eq!((signs(999, "ES256"), signs(1000, "RS256")), ("b".to_owned(), "a".to_owned()));
        assert_eq!(signs(1000, "PS256"), "", "nobody signs in the place of a key that is not to come");
    }
}
