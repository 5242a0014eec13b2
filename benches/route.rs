//! What finding a route costs: among few and among many, by a literal, by parameters, and when there is none.
#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::Method;
use tollgate::request::path::NormalPath;
use tollgate::route::pattern::{PathPattern, Rewrite};
use tollgate::route::{Access, Revocation, Route, Routes};

fn route(path: &str) -> Route {
    Route {
        name: path.into(),
        hosts: Vec::new(),
        path: PathPattern::parse(path).unwrap(),
        methods: vec![Method::GET, Method::HEAD],
        upstream: 0,
        access: Access::Public,
        rewrite: Rewrite::Keep,
        revocation: Revocation::Lenient,
        max_body_bytes: 0,
        timeout: None,
    }
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route/find");
    for count in [10, 200] {
        let services = (0..count / 2)
            .flat_map(|number| [format!("/service{number}/items"), format!("/service{number}/items/{{id}}/{{*rest}}")]);
        let routes = Routes::new(services.map(|path| route(&path)).collect()).unwrap();
        for (name, path) in
            [("literal", "/service3/items"), ("parameters", "/service3/items/42/a/b/c"), ("none", "/other/items")]
        {
            group.bench_function(format!("{count}/{name}"), |bencher| {
                bencher.iter(|| {
                    let path = NormalPath::parse(black_box(path)).unwrap();
                    routes.find(&Method::GET, "api.example.org", &path).is_ok()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, find);
criterion_main!(benches);
