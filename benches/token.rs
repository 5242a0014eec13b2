//! What a token costs: to verify, per algorithm, and to find again among 2,000.
#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::keyset::{Algorithm, KeySet, SigningKey, install_crypto_providers};
use tollgate::metrics::{Labels, Metrics};
use tollgate::revocation::{FeedChoice, RevocationSettings, Revocations};
use tollgate::time::UnixSeconds;
use tollgate::token::cache::TokenCache;
use tollgate::token::mint::{AccessGrant, Minter};
use tollgate::token::{TokenSettings, Verifier};

const TOKENS: usize = 2000;

fn settings(algorithm: Algorithm) -> TokenSettings {
    TokenSettings {
        issuer: "https://gateway.example.org".to_owned(),
        audience: vec!["tollgate".to_owned()],
        algorithm,
        access_ttl: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
        max_token_bytes: 16_384,
        cache_bytes: 32 << 20,
    }
}

fn grant(number: usize) -> AccessGrant {
    AccessGrant {
        subject: format!("user-{number}"),
        client_id: "web".to_owned(),
        session: None,
        scopes: vec!["read:datasets".to_owned(), "write:datasets".to_owned()],
        roles: vec!["scientist".to_owned()],
        name: Some("Ada Lovelace".to_owned()),
        email: Some("ada@example.org".to_owned()),
    }
}

fn verify(criterion: &mut Criterion) {
    let now = UnixSeconds::now();
    let mut group = criterion.benchmark_group("token/verify");
    for algorithm in Algorithm::ALL {
        let key = SigningKey::generate(algorithm).unwrap();
        let keys = KeySet::new(vec![key.verification_key()], Vec::new());
        let verifier = Verifier::new(&settings(algorithm), &[]);
        let token = Minter::new(&settings(algorithm), key).mint(&grant(0), now).unwrap().token;
        group.bench_function(algorithm.name(), |bencher| {
            bencher.iter(|| verifier.verify(black_box(&token), &keys, now).unwrap());
        });
    }
    group.finish();
}

fn mint(criterion: &mut Criterion) {
    let now = UnixSeconds::now();
    let mut group = criterion.benchmark_group("token/mint");
    for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        let minter = Minter::new(&settings(algorithm), SigningKey::generate(algorithm).unwrap());
        group.bench_function(algorithm.name(), |bencher| bencher.iter(|| minter.mint(&grant(0), now).unwrap()));
    }
    group.finish();
}

fn cache(criterion: &mut Criterion) {
    let now = UnixSeconds::now();
    let key = SigningKey::generate(Algorithm::EdDSA).unwrap();
    let keys = KeySet::new(vec![key.verification_key()], Vec::new());
    let verifier = Verifier::new(&settings(Algorithm::EdDSA), &[]);
    let minter = Minter::new(&settings(Algorithm::EdDSA), key);
    let cache = TokenCache::new(32 << 20);
    let tokens: Vec<_> = (0..TOKENS).map(|number| minter.mint(&grant(number), now).unwrap().token).collect();
    for token in &tokens {
        cache.insert(token, Arc::new(verifier.verify(token, &keys, now).unwrap()), now);
    }
    let mut next = tokens.iter().cycle();
    criterion.bench_function("token/cache hit of 2000", |bencher| {
        bencher.iter(|| cache.get(black_box(next.next().unwrap()), &keys, now).unwrap());
    });
    let absent = "e".repeat(400);
    criterion.bench_function("token/cache miss", |bencher| {
        bencher.iter(|| assert!(cache.get(black_box(&absent), &keys, now).is_none()));
    });
}

/// What a request asks of the ended sessions: while there are none, and among many.
fn revocations(criterion: &mut Criterion) {
    let settings = RevocationSettings {
        feed: FeedChoice::Auto,
        poll_interval: Duration::from_millis(500),
        max_feed_age: Duration::from_secs(30),
        max_entries: 1_000_000,
        access_ttl: Duration::from_secs(300),
        leeway: Duration::from_secs(30),
        store_patience: Duration::from_secs(10),
    };
    let labels =
        Labels { routes: Vec::new(), upstreams: Vec::new(), refusals: &[], key_sources: Vec::new(), audit_events: &[] };
    let revocations = Revocations::new(&settings, Arc::new(Metrics::new(labels, 1)));
    let now = UnixSeconds::now();
    let session = |number: u64| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        id
    };
    let asked = session(u64::MAX);
    criterion.bench_function("token/session among none", |bencher| {
        bencher.iter(|| revocations.check(black_box(&asked), now).is_ok());
    });
    let ended: Vec<_> = (0..100_000).map(|number| (session(number), now)).collect();
    revocations.enter(&ended, now);
    criterion.bench_function("token/session among 100,000", |bencher| {
        bencher.iter(|| revocations.check(black_box(&asked), now).is_ok());
    });
    criterion.bench_function("token/session that ends among 100,000", |bencher| {
        let mut number = 100_000;
        bencher.iter(|| {
            number += 1;
            revocations.enter(&[(session(number), now)], now).len()
        });
    });
}

fn providers(_criterion: &mut Criterion) {
    install_crypto_providers();
}

criterion_group!(benches, providers, verify, mint, cache, revocations);
criterion_main!(benches);
