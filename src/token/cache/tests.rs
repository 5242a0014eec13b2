//! What is remembered, and for how long.

use std::time::Duration;

use super::*;
use crate::keyset::{Algorithm, SigningKey};
use crate::token::mint::{AccessGrant, Minter};
use crate::token::{TokenSettings, Verifier};

struct World {
    minter: Minter,
    verifier: Verifier,
    keys: KeySet,
}

fn world() -> World {
    let settings = TokenSettings {
        issuer: "https://gateway.example.org".to_owned(),
        audience: Vec::new(),
        algorithm: Algorithm::ES256,
        access_ttl: Duration::from_secs(300),
        leeway: Duration::from_secs(30),
        max_token_bytes: 16_384,
        cache_bytes: 1 << 20,
    };
    let key = SigningKey::generate(Algorithm::ES256).unwrap();
    World {
        keys: KeySet::new(vec![key.verification_key()], Vec::new()),
        verifier: Verifier::new(&settings, &[]),
        minter: Minter::new(&settings, key),
    }
}

impl World {
    /// A token that begins at `now`, and its identity.
    fn token(&self, subject: &str, now: UnixSeconds) -> (String, Arc<Identity>) {
        let grant = AccessGrant {
            subject: subject.to_owned(),
            client_id: "web".to_owned(),
            session: None,
            scopes: vec!["read".to_owned()],
            roles: Vec::new(),
            name: None,
            email: None,
        };
        let token = self.minter.mint(&grant, now).unwrap().token;
        let identity = self.verifier.verify(&token, &self.keys, now).unwrap();
        (token, Arc::new(identity))
    }
}

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

#[test]
fn only_the_very_same_token_is_found() {
    let world = world();
    let cache = TokenCache::new(1 << 20);
    let (token, identity) = world.token("ada", NOW);
    assert!(cache.get(&token, &world.keys, NOW).is_none());
    cache.insert(&token, Arc::clone(&identity), NOW);
    let found = cache.get(&token, &world.keys, NOW).unwrap();
    assert!(Arc::ptr_eq(&found, &identity));
    // The hash looks at the tail alone; these have the same tail, the same head, or all but the last byte.
    let (head, tail) = token.split_at(token.len() - 43);
    let other_head = format!("{}{}", head.replacen('e', "f", 1), tail);
    for other in [other_head.as_str(), &token[..token.len() - 1], tail, &format!("{token}A"), ""] {
        assert!(cache.get(other, &world.keys, NOW).is_none(), "{other}");
    }
}

#[test]
fn a_token_is_not_found_once_it_has_expired() {
    let world = world();
    let cache = TokenCache::new(1 << 20);
    let (token, identity) = world.token("ada", NOW);
    cache.insert(&token, identity, NOW);
    assert!(cache.get(&token, &world.keys, UnixSeconds(NOW.0 + 299)).is_some());
    assert!(cache.get(&token, &world.keys, UnixSeconds(NOW.0 + 300)).is_none());
    // It was dropped, so that even a clock set back does not bring it back.
    assert!(cache.get(&token, &world.keys, NOW).is_none());
}

#[test]
fn a_token_that_lives_only_by_the_leeway_is_not_remembered() {
    let world = world();
    let cache = TokenCache::new(1 << 20);
    let (token, identity) = world.token("ada", NOW);
    cache.insert(&token, identity, UnixSeconds(NOW.0 + 300));
    assert!(cache.get(&token, &world.keys, NOW).is_none());
}

#[test]
fn an_entry_lives_until_exp_in_the_eyes_of_moka_too() {
    let world = world();
    let (_, identity) = world.token("ada", NOW);
    let entry = Entry { life: identity.expires_at().since(NOW), identity };
    #[expect(clippy::disallowed_types, reason = "moka's trait names the type")]
    let now = std::time::Instant::now();
    assert_eq!(AtExpiry.expire_after_create(&"".into(), &entry, now), Some(Duration::from_secs(300)));
    assert_eq!(AtExpiry.expire_after_update(&"".into(), &entry, now, None), Some(Duration::from_secs(300)));
}

#[test]
fn the_tokens_of_a_removed_key_are_gone() {
    let (world, other) = (world(), world());
    let both = [&world, &other].map(|world| world.minter.key(NOW).verification_key()).to_vec();
    let keys = KeySet::new(both, Vec::new());
    let cache = TokenCache::new(1 << 20);
    let (token, identity) = world.token("ada", NOW);
    let (kept, kept_identity) = other.token("bob", NOW);
    cache.insert(&token, Arc::clone(&identity), NOW);
    cache.insert(&kept, kept_identity, NOW);
    assert!(cache.get(&token, &keys, NOW).is_some());
    // Rotated out: refused at the next hit.
    assert!(cache.get(&token, &other.keys, NOW).is_none());
    cache.insert(&token, Arc::clone(&identity), NOW);
    cache.retain(&other.keys);
    assert!(cache.get(&token, &keys, NOW).is_none());
    assert!(cache.get(&kept, &keys, NOW).is_some());
}

#[test]
fn the_cache_stays_within_its_bytes() {
    let world = world();
    let limit = 64 * 1024;
    let cache = TokenCache::new(limit);
    for number in 0..300 {
        let (token, identity) = world.token(&format!("user-{number}"), NOW);
        assert!(identity.weight() > token.len() / 2);
        cache.insert(&token, identity, NOW);
    }
    cache.settle();
    assert!(cache.weight() <= limit, "{}", cache.weight());
    assert!(cache.weight() > limit / 2, "{}", cache.weight());
}

#[test]
fn what_will_be_minted_for_a_token_counts_from_the_start() {
    let world = world();
    let weight = |minted: usize| {
        let cache = TokenCache::with_minted(1 << 20, minted);
        let (token, identity) = world.token("ada", NOW);
        cache.insert(&token, identity, NOW);
        cache.settle();
        (cache.weight(), token.len() as u64)
    };
    let ((none, _), (two, length)) = (weight(0), weight(2));
    // Signatures of ES256 have one length, and a number in a token may have a digit more.
    assert!(two.abs_diff(none + 2 * (length + 512)) <= 64, "{none} {two} {length}");
}

#[test]
fn a_cache_of_no_bytes_remembers_nothing() {
    let world = world();
    let cache = TokenCache::new(0);
    let (token, identity) = world.token("ada", NOW);
    cache.insert(&token, identity, NOW);
    cache.retain(&world.keys);
    assert!(cache.get(&token, &world.keys, NOW).is_none());
    assert_eq!(cache.weight(), 0);
}

#[test]
fn a_recent_token_is_its_whole_text_and_goes_with_its_time_and_key() {
    let (world, other) = (world(), world());
    let recent = RecentTokens::new();
    let (token, identity) = world.token("ada", NOW);
    recent.insert(&token, &identity);
    assert!(recent.get(&token, &world.keys, NOW).is_some());
    let mut forged = token.clone();
    forged.replace_range(10..11, if &token[10..11] == "A" { "B" } else { "A" });
    assert!(recent.get(&forged, &world.keys, NOW).is_none());
    assert!(recent.get(&token, &other.keys, NOW).is_none());
    assert!(recent.get(&token, &world.keys, identity.expires_at()).is_none());
    let holders = Arc::strong_count(&identity);
    for _ in 0..16 {
        recent.sweep(&world.keys, identity.expires_at());
    }
    assert_eq!(Arc::strong_count(&identity), holders - 1);
    assert!(recent.get(&token, &world.keys, NOW).is_none());
}

#[test]
fn a_forgotten_token_is_forgotten_alone() {
    let world = world();
    let (cache, recent) = (TokenCache::new(1 << 20), RecentTokens::new());
    recent.forget("before the first");
    let [(ended, first), (other, second)] = ["ada", "bob"].map(|subject| world.token(subject, NOW));
    for (token, identity) in [(&ended, &first), (&other, &second)] {
        cache.insert(token, Arc::clone(identity), NOW);
        recent.insert(token, identity);
    }
    cache.forget(&ended);
    recent.forget(&ended);
    assert!(cache.get(&ended, &world.keys, NOW).is_none() && recent.get(&ended, &world.keys, NOW).is_none());
    assert!(cache.get(&other, &world.keys, NOW).is_some() && recent.get(&other, &world.keys, NOW).is_some());
}

#[test]
fn a_full_set_forgets_its_oldest_token() {
    let world = world();
    let recent = RecentTokens::new();
    let (_, identity) = world.token("ada", NOW);
    let known: Vec<_> = (0..20_000)
        .map(|number| format!("{}{number:05}", "x".repeat(40)))
        .inspect(|token| recent.insert(token, &identity))
        .collect();
    let kept = known.iter().filter(|token| recent.get(token, &world.keys, NOW).is_some()).count();
    assert!((6000..=8192).contains(&kept), "{kept}");
    let long = "x".repeat(5000);
    recent.insert(&long, &identity);
    assert!(recent.get(&long, &world.keys, NOW).is_none());
}
