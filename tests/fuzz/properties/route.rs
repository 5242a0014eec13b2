//! The search finds the route that a comparison of every route with every other finds, and a rewritten path is a normal path.

use std::cmp::Ordering;
use std::net::Ipv6Addr;

use http::Method;
use tollgate::request::path::NormalPath;
use tollgate::route::pattern::{HostPattern, PathPattern, Rewrite};
use tollgate::route::{Access, NoRoute, Revocation, Route, Routes};

const MOST_ROUTES: usize = 12;
const MOST_REQUESTS: usize = 16;

/// Lines of routes, an empty line, lines of requests:
///
/// ```text
/// GET,PUT a.example,*.b.example /a/{id}/{*rest} strip:/a
/// - - /{*all} to:/v2/{*all}
///
/// GET a.example /a/b
/// ```
pub fn route(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (routes, requests) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut kept: Vec<Route> = Vec::new();
    for line in routes.lines().take(MOST_ROUTES) {
        let Some(route) = read_route(line) else { continue };
        let rivals: Vec<usize> = (0..kept.len()).filter(|other| are_rivals(&kept[*other], &route)).collect();
        kept.push(route);
        match Routes::new(kept.clone()) {
            Ok(_) => assert!(rivals.is_empty(), "{line:?} and {rivals:?} are of equal right: {text:?}"),
            Err(conflicts) => {
                let found: Vec<usize> = conflicts.iter().map(|conflict| conflict.first).collect();
                assert!(conflicts.iter().all(|conflict| conflict.second + 1 == kept.len()), "{text:?}");
                assert!(
                    rivals.iter().all(|rival| found.contains(rival)),
                    "{line:?}: {rivals:?}, not {found:?}: {text:?}"
                );
                assert!(
                    found.iter().all(|rival| rivals.contains(rival)),
                    "{line:?}: {rivals:?}, not {found:?}: {text:?}"
                );
                kept.pop();
            }
        }
    }
    let Ok(routes) = Routes::new(kept) else { panic!("rivals were left out: {text:?}") };
    for line in requests.lines().take(MOST_REQUESTS) {
        request(&routes, line);
    }
}

fn read_route(line: &str) -> Option<Route> {
    let mut words = line.split(' ');
    let methods = list(words.next()?).map(|name| Method::from_bytes(name.as_bytes()).ok()).collect::<Option<_>>()?;
    let hosts = list(words.next()?).map(|host| HostPattern::parse(host).ok()).collect::<Option<_>>()?;
    let path = PathPattern::parse(words.next()?).ok()?;
    let rewrite = match words.next().and_then(|word| word.split_once(':')) {
        Some(("strip", prefix)) => Rewrite::strip_prefix(prefix, &path).ok()?,
        Some(("to", template)) => Rewrite::template(template, &path).ok()?,
        Some(_) | None => Rewrite::Keep,
    };
    let access = Access::Public;
    Some(Route {
        name: line.into(),
        hosts,
        path,
        methods,
        upstream: 0,
        access,
        rewrite,
        revocation: Revocation::Lenient,
        max_body_bytes: 0,
        timeout: None,
    })
}

/// `-` is the empty list.
fn list(word: &str) -> impl Iterator<Item = &str> {
    word.split(',').filter(move |_| word != "-")
}

fn request(routes: &Routes, line: &str) {
    let mut words = line.split(' ');
    let (Some(method), Some(host), Some(path)) = (words.next(), words.next(), words.next()) else { return };
    let (Ok(method), Ok(path)) = (Method::from_bytes(method.as_bytes()), NormalPath::parse(path)) else { return };
    let host = host.to_ascii_lowercase();
    let found = routes.find(&method, &host, &path);
    let expected = oracle(routes.all(), &method, &host, path.decoded());
    match (&found, &expected) {
        (Ok(matched), Ok((index, values))) => {
            assert_eq!(matched.index, *index, "{line:?} of {:#?}", names(routes));
            for (position, value) in values.iter().enumerate() {
                assert_eq!(matched.parameter(position), *value, "{line:?} of {:#?}", names(routes));
            }
            assert_eq!(matched.parameter(values.len()), "");
            let name = |position: usize| matched.route.path.parameters().nth(position);
            assert!((0..values.len()).all(|position| {
                name(position).is_some_and(|name| matched.route.path.parameter(name) == Some(position))
            }));
            check_rewrite(&matched.route.rewrite, &path, line);
        }
        (Err(NoRoute::Path), Err(allowed)) if allowed.is_empty() => {}
        (Err(NoRoute::Method { allowed }), Err(expected)) => {
            assert!(!allowed.contains(&method), "{line:?}");
            assert!(
                allowed.iter().all(|method| expected.contains(method))
                    && expected.iter().all(|method| allowed.contains(method))
            );
        }
        _ => panic!("{line:?} of {:#?}\nfound {found:?}\ninstead of {expected:?}", names(routes)),
    }
    // What is decided on the path that is sent is decided alike by whoever reads that path again.
    let again = NormalPath::parse(path.as_str()).unwrap();
    let once_more = routes.find(&method, &host, &again);
    assert_eq!(found.map(|matched| matched.index), once_more.map(|matched| matched.index), "{line:?}");
}

fn names(routes: &Routes) -> Vec<&str> {
    routes.all().iter().map(|route| &*route.name).collect()
}

fn check_rewrite(rewrite: &Rewrite, path: &NormalPath<'_>, line: &str) {
    let Ok(rewritten) = rewrite.apply(path) else { return };
    let normal =
        NormalPath::parse(&rewritten).unwrap_or_else(|error| panic!("{line:?} becomes {rewritten:?}: {error}"));
    let again = NormalPath::parse(normal.as_str()).unwrap();
    assert_eq!(again.decoded(), normal.decoded(), "{line:?}");
    if *rewrite == Rewrite::Keep {
        assert_eq!(rewritten, path.as_str());
    }
}

// ── The oracle ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// How specific a segment is: a literal before a parameter before the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Literal,
    Parameter,
    Rest,
}

fn kinds(pattern: &str) -> Vec<(Kind, &str)> {
    let kind = |segment: &str| match segment {
        rest if rest.starts_with("{*") => Kind::Rest,
        parameter if parameter.starts_with('{') => Kind::Parameter,
        _ => Kind::Literal,
    };
    pattern[1..].split('/').map(|segment| (kind(segment), segment)).collect()
}

/// The values of the parameters, if the pattern matches the decoded path.
fn values<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut values = Vec::new();
    let mut rest = Some(path.strip_prefix('/')?);
    for (kind, literal) in kinds(pattern) {
        let remaining = rest?;
        let (segment, after) =
            remaining.split_once('/').map_or((remaining, None), |(segment, after)| (segment, Some(after)));
        match kind {
            Kind::Literal if segment == literal => {}
            Kind::Parameter if !segment.is_empty() => values.push(segment),
            Kind::Rest => {
                values.push(remaining);
                return Some(values);
            }
            Kind::Literal | Kind::Parameter => return None,
        }
        rest = after;
    }
    rest.is_none().then_some(values)
}

/// The route and its parameters, or the methods that are allowed instead; none when there is no route.
fn oracle<'a>(
    routes: &[Route],
    method: &Method,
    host: &str,
    path: &'a str,
) -> Result<(usize, Vec<&'a str>), Vec<Method>> {
    let mut fitting: Vec<(usize, (bool, usize))> = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        if values(route.path.as_str(), path).is_none() {
            continue;
        }
        let ranks = written_hosts(route).filter(|pattern| host_fits(pattern, host)).map(|pattern| {
            match pattern.strip_prefix("*.") {
                Some(below) => (false, 1 + below.len()),
                None if pattern.is_empty() => (false, 0),
                None => (true, 0),
            }
        });
        fitting.extend(ranks.max().map(|rank| (index, rank)));
    }
    let Some(best_host) = fitting.iter().map(|(_, rank)| *rank).max() else { return Err(Vec::new()) };
    fitting.retain(|(_, rank)| *rank == best_host);
    let specific = |one: usize, other: usize| -> Ordering {
        let kinds =
            |index: usize| kinds(routes[index].path.as_str()).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
        kinds(one).cmp(&kinds(other))
    };
    let first = fitting.iter().map(|(index, _)| *index).min_by(|one, other| specific(*one, *other)).unwrap();
    let best: Vec<usize> =
        fitting.iter().map(|(index, _)| *index).filter(|index| specific(*index, first) == Ordering::Equal).collect();
    let named = best.iter().find(|index| routes[**index].methods.contains(method));
    match named.or_else(|| best.iter().find(|index| routes[**index].methods.is_empty())) {
        Some(index) => Ok((*index, values(routes[*index].path.as_str(), path).unwrap())),
        None => Err(best.iter().flat_map(|index| routes[*index].methods.clone()).collect()),
    }
}

/// The hosts of a route as they were written, in lower case and addresses in one form; the empty one stands for all.
fn written_hosts(route: &Route) -> impl Iterator<Item = String> {
    let word = route.name.split(' ').nth(1).unwrap().to_ascii_lowercase();
    let hosts: Vec<String> = if word == "-" { vec![String::new()] } else { word.split(',').map(in_one_form).collect() };
    hosts.into_iter()
}

fn in_one_form(host: &str) -> String {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = address.and_then(|address| address.parse::<Ipv6Addr>().ok());
    address.map_or_else(|| host.to_owned(), |address| format!("[{address}]"))
}

fn host_fits(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(below) => host.len() > below.len() + 1 && host.ends_with(&format!(".{below}")),
        None => pattern.is_empty() || pattern == host,
    }
}

/// Whether one request could be answered by both with equal right: a host in common, one shape, a method in common.
fn are_rivals(one: &Route, other: &Route) -> bool {
    let shape = |route: &Route| -> Vec<(Kind, String)> {
        let shape = kinds(route.path.as_str()).into_iter();
        shape.map(|(kind, text)| (kind, if kind == Kind::Literal { text.to_owned() } else { String::new() })).collect()
    };
    let same_host = written_hosts(one).any(|host| written_hosts(other).any(|another| host == another));
    let same_method = match (one.methods.is_empty(), other.methods.is_empty()) {
        (true, true) => true,
        (false, false) => one.methods.iter().any(|method| other.methods.contains(method)),
        (true, false) | (false, true) => false,
    };
    same_host && shape(one) == shape(other) && same_method
}
