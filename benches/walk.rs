//! The walk in memory: what a request costs from its parsed head to the permit, without sockets and without its upstream.
#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, Uri};
use tollgate::keyset::{Algorithm, KeySet, SigningKey, install_crypto_providers};
use tollgate::policy::{Caller, permit};
use tollgate::request::RequestHead;
use tollgate::route::pattern::{PathPattern, Rewrite};
use tollgate::route::{Access, Revocation, Route, Routes, Rules};
use tollgate::time::UnixSeconds;
use tollgate::token::bearer::bearer;
use tollgate::token::cache::RecentTokens;
use tollgate::token::mint::{AccessGrant, Minter};
use tollgate::token::{TokenSettings, Verifier};

fn settings() -> TokenSettings {
    TokenSettings {
        issuer: "https://gateway.example.org".to_owned(),
        audience: vec!["tollgate".to_owned()],
        algorithm: Algorithm::ES256,
        access_ttl: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
        max_token_bytes: 16_384,
        cache_bytes: 32 << 20,
    }
}

fn routes() -> Routes {
    let rules = Rules { scopes: vec!["read:datasets".to_owned()], ..Rules::default() };
    let route = |path: &str, access| Route {
        name: path.into(),
        hosts: Vec::new(),
        path: PathPattern::parse(path).unwrap(),
        methods: Vec::new(),
        upstream: 0,
        access,
        rewrite: Rewrite::Keep,
        revocation: Revocation::Lenient,
        max_body_bytes: 0,
        timeout: None,
    };
    Routes::new(vec![
        route("/public/{*rest}", Access::Public),
        route("/datasets/{id}/{*rest}", Access::Required(rules)),
    ])
    .unwrap()
}

fn walk(criterion: &mut Criterion) {
    install_crypto_providers();
    let now = UnixSeconds::now();
    let key = SigningKey::generate(Algorithm::ES256).unwrap();
    let keys = KeySet::new(vec![key.verification_key()], Vec::new());
    let grant = AccessGrant {
        subject: "ada".to_owned(),
        client_id: "web".to_owned(),
        session: None,
        scopes: vec!["read:datasets".to_owned()],
        roles: Vec::new(),
        name: None,
        email: None,
    };
    let token = Minter::new(&settings(), key).mint(&grant, now).unwrap().token;
    let verifier = Verifier::new(&settings(), &[]);
    let recent = RecentTokens::new();
    recent.insert(&token, &Arc::new(verifier.verify(&token, &keys, now).unwrap()));
    let routes = routes();
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("api.example.org"));
    headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());

    for (name, uri) in [("public", "/public/value?x=1"), ("verified", "/datasets/co2/2026/11?x=1")] {
        let uri: Uri = uri.parse().unwrap();
        criterion.bench_function(&format!("walk/{name}"), |bencher| {
            bencher.iter(|| {
                let head = RequestHead::read(&Method::GET, black_box(&uri), &headers).unwrap();
                let matched = routes.find(&Method::GET, head.host.name(), &head.path).unwrap();
                let caller = match &matched.route.access {
                    Access::Public => Caller::Anonymous,
                    Access::Optional | Access::Required(_) => {
                        let token = bearer(&headers).unwrap().unwrap();
                        Caller::Known(recent.get(token, &keys, now).unwrap())
                    }
                };
                permit(caller, matched).unwrap().route().upstream
            });
        });
    }
}

criterion_group!(benches, walk);
criterion_main!(benches);
