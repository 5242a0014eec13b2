//! Routes: which upstream a request goes to, and what is asked of its caller.

pub mod pattern;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::request::path::NormalPath;
use pattern::{HostPattern, PathPattern, Rewrite};
use tree::{Parameters, Tree};

/// One `[[routes]]` table, checked.
#[derive(Debug, Clone)]
pub struct Route {
    /// For logs and metrics: the `name` of the file, or else its `path`. Unique.
    pub name: Arc<str>,
    /// Hosts it serves. Empty: all.
    pub hosts: Vec<HostPattern>,
    /// Paths it serves.
    pub path: PathPattern,
    /// Methods it serves. Empty: all but CONNECT and TRACE, which are never served.
    pub methods: Vec<Method>,
    /// Position in the list of upstreams.
    pub upstream: usize,
    /// What is asked of the caller.
    pub access: Access,
    /// What happens while it is not known which sessions have ended. Default lenient.
    pub revocation: Revocation,
    /// The path that the upstream gets.
    pub rewrite: Rewrite,
    /// Longest request body in bytes. 0: no limit.
    pub max_body_bytes: u64,
    /// Total time from the request's head to the response's last byte. `None` (default): no limit.
    pub timeout: Option<Duration>,
}

/// What a route asks of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// No token is read; one that is sent goes to the upstream as the upstream's `token.mode` says.
    Public,
    /// A token is verified when there is one, and a bad one refused.
    Optional,
    /// A good token is needed, and these rules must hold.
    Required(Rules),
}

/// What a route does while a gateway has had no word of ended sessions for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// It serves: a token counts until it expires.
    Lenient,
    /// It serves nobody who shows a token.
    Strict,
}

/// Conditions on a verified caller; all of them must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// All of these scopes.
    pub scopes: Vec<String>,
    /// At least one of these scopes. Empty: no condition.
    pub any_scope: Vec<String>,
    /// At least one of these roles. Empty: no condition.
    pub any_role: Vec<String>,
    /// Claims that must equal, or as an array contain, a value.
    pub claims: Vec<ClaimRule>,
}

/// One entry of `claims = { project = "{id}" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRule {
    /// Claim name; a dot reaches into an object.
    pub claim: String,
    /// What it must equal or contain.
    pub value: ClaimValue,
}

/// The value of a [`ClaimRule`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimValue {
    /// This text.
    Literal(String),
    /// The path parameter at this position in the route's pattern.
    Parameter(usize),
}

/// All routes, ready to be searched.
///
/// The most specific one wins: an exact host before a wildcard before none, then segment by segment a literal before a
/// parameter before the rest, then a named method before all methods. A path whose most specific pattern does not serve the
/// method is refused with 405; it never falls to a less specific pattern, which may ask less of the caller.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
    /// Most specific host first; the tree of all hosts last.
    hosts: Vec<(Option<HostPattern>, Tree)>,
}

/// A route that serves a request, with what its pattern took from the path.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'a> {
    /// Position among [`Routes::all`].
    pub index: usize,
    /// The route.
    pub route: &'a Route,
    parameters: Parameters<'a>,
}

/// Why no route serves a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No pattern matches.
    #[error("no route matches this host and path")]
    Path,
    /// The most specific pattern does not serve this method.
    #[error("the route of this path does not serve this method")]
    Method {
        /// The methods that it does serve, for `Allow`.
        allowed: Vec<Method>,
    },
}

/// Two routes of which neither is more specific.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Position of the earlier one.
    pub first: usize,
    /// Position of the later one.
    pub second: usize,
}

impl Routes {
    /// Builds the table.
    ///
    /// # Errors
    /// Every pair of routes that would answer the same request with equal right.
    pub fn new(routes: Vec<Route>) -> Result<Self, Vec<Conflict>> {
        let mut hosts: Vec<(Option<HostPattern>, Tree)> = Vec::new();
        let mut conflicts = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let named = route.hosts.iter().cloned().map(Some);
            let all = route.hosts.is_empty().then_some(None);
            for host in named.chain(all) {
                let position = match hosts.iter().position(|(known, _)| *known == host) {
                    Some(position) => position,
                    None => {
                        hosts.push((host, Tree::default()));
                        hosts.len() - 1
                    }
                };
                let leaf = hosts[position].1.leaf(&route.path);
                // One rival tells enough; of many equal routes, all pairs would be too many.
                let rival = leaf.iter().find(|&&other| other != index && are_equal(&routes[other], route));
                conflicts.extend(rival.map(|&first| Conflict { first, second: index }));
                if leaf.last() != Some(&index) {
                    leaf.push(index);
                }
            }
        }
        hosts.sort_by_key(|(host, _)| std::cmp::Reverse(host.as_ref().map(HostPattern::rank)));
        conflicts.dedup();
        if conflicts.is_empty() { Ok(Self { routes, hosts }) } else { Err(conflicts) }
    }

    /// All routes, in the file's order.
    pub fn all(&self) -> &[Route] {
        &self.routes
    }

    /// The route that serves a request. `host` is lower case, without port and final dot.
    ///
    /// # Errors
    /// See [`NoRoute`].
    pub fn find<'a>(&'a self, method: &Method, host: &str, path: &'a NormalPath<'_>) -> Result<Matched<'a>, NoRoute> {
        let decoded = path.decoded();
        for (pattern, tree) in &self.hosts {
            if pattern.as_ref().is_some_and(|pattern| !pattern.matches(host)) {
                continue;
            }
            let mut parameters = Parameters::default();
            if let Some(candidates) = tree.find(decoded, &mut parameters) {
                return self.by_method(method, candidates, parameters);
            }
        }
        Err(NoRoute::Path)
    }

    fn by_method<'a>(
        &'a self,
        method: &Method,
        candidates: &[usize],
        parameters: Parameters<'a>,
    ) -> Result<Matched<'a>, NoRoute> {
        let mut all_methods = None;
        for &index in candidates {
            let route = &self.routes[index];
            if route.methods.contains(method) {
                return Ok(Matched { index, route, parameters });
            }
            if route.methods.is_empty() {
                all_methods = Some(Matched { index, route, parameters });
            }
        }
        all_methods.ok_or_else(|| {
            let mut allowed = Vec::new();
            for method in candidates.iter().flat_map(|&index| &self.routes[index].methods) {
                if !allowed.contains(method) {
                    allowed.push(method.clone());
                }
            }
            NoRoute::Method { allowed }
        })
    }
}

impl<'a> Matched<'a> {
    /// The decoded value of the path parameter at this position of the pattern; empty for a position that it has not.
    pub fn parameter(&self, position: usize) -> &'a str {
        self.parameters.values[..self.parameters.count].get(position).copied().unwrap_or_default()
    }
}

/// Whether two routes of one host and one path shape would answer the same request with equal right.
fn are_equal(first: &Route, second: &Route) -> bool {
    if first.methods.is_empty() || second.methods.is_empty() {
        return first.methods.is_empty() && second.methods.is_empty();
    }
    first.methods.iter().any(|method| second.methods.contains(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, path: &str, hosts: &[&str], methods: &[Method]) -> Route {
        Route {
            name: name.into(),
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            path: PathPattern::parse(path).unwrap(),
            methods: methods.to_vec(),
            upstream: 0,
            revocation: Revocation::Lenient,
            access: Access::Public,
            rewrite: Rewrite::Keep,
            max_body_bytes: 0,
            timeout: None,
        }
    }

    #[track_caller]
    fn check(routes: &Routes, method: Method, host: &str, path: &str, expected: Result<&str, NoRoute>) {
        let path = NormalPath::parse(path).unwrap();
        assert_eq!(routes.find(&method, host, &path).map(|matched| &*matched.route.name), expected);
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let routes = Routes::new(vec![
            route("rest", "/{*rest}", &[], &[]),
            route("one", "/datasets/{id}", &[], &[]),
            route("mine", "/datasets/mine", &[], &[]),
            route("parts", "/datasets/{id}/parts/{*part}", &[], &[]),
            route("mine-deep", "/datasets/mine/deep", &[], &[]),
        ])
        .unwrap();
        check(&routes, Method::GET, "h", "/datasets/mine", Ok("mine"));
        check(&routes, Method::GET, "h", "/datasets/7", Ok("one"));
        check(&routes, Method::GET, "h", "/datasets/mine/parts/x", Ok("parts"));
        check(&routes, Method::GET, "h", "/datasets/mine/deep", Ok("mine-deep"));
        check(&routes, Method::GET, "h", "/datasets/7/parts/", Ok("parts"));
        check(&routes, Method::GET, "h", "/datasets/7/parts", Ok("rest"));
        check(&routes, Method::GET, "h", "/datasets/", Ok("rest"));
        check(&routes, Method::GET, "h", "/", Ok("rest"));
        check(&routes, Method::GET, "h", "/%64atasets/min%65", Ok("mine"));
    }

    #[test]
    fn parameters_are_decoded() {
        let routes = Routes::new(vec![route("r", "/d/{id}/{*rest}", &[], &[])]).unwrap();
        let path = NormalPath::parse("/d/a%20b/c/d").unwrap();
        let matched = routes.find(&Method::GET, "h", &path).unwrap();
        assert_eq!((matched.parameter(0), matched.parameter(1), matched.parameter(2)), ("a b", "c/d", ""));
    }

    #[test]
    fn a_method_that_the_most_specific_pattern_does_not_serve_is_refused() {
        let routes = Routes::new(vec![
            route("read", "/a", &[], &[Method::GET, Method::HEAD]),
            route("write", "/a", &[], &[Method::POST]),
            route("rest", "/{*rest}", &[], &[]),
        ])
        .unwrap();
        check(&routes, Method::GET, "h", "/a", Ok("read"));
        check(&routes, Method::POST, "h", "/a", Ok("write"));
        let allowed = vec![Method::GET, Method::HEAD, Method::POST];
        check(&routes, Method::DELETE, "h", "/a", Err(NoRoute::Method { allowed }));
    }

    #[test]
    fn an_exact_host_comes_before_a_wildcard_before_none() {
        let routes = Routes::new(vec![
            route("any", "/{*rest}", &[], &[]),
            route("wild", "/{*rest}", &["*.example.org"], &[]),
            route("longer", "/{*rest}", &["*.a.example.org"], &[]),
            route("exact", "/x", &["b.example.org"], &[]),
        ])
        .unwrap();
        check(&routes, Method::GET, "b.example.org", "/x", Ok("exact"));
        check(&routes, Method::GET, "b.example.org", "/y", Ok("wild"));
        check(&routes, Method::GET, "c.a.example.org", "/y", Ok("longer"));
        check(&routes, Method::GET, "example.org", "/y", Ok("any"));
    }

    #[test]
    fn routes_of_equal_right_are_refused() {
        let conflicts = Routes::new(vec![
            route("a", "/d/{id}", &[], &[]),
            route("b", "/d/{name}", &[], &[]),
            route("c", "/d/{id}", &[], &[Method::GET]),
            route("d", "/d/{id}", &["h"], &[]),
        ])
        .unwrap_err();
        assert_eq!(conflicts, [Conflict { first: 0, second: 1 }]);
    }

    #[test]
    fn without_a_route_nothing_is_served() {
        let routes = Routes::new(vec![route("a", "/a", &["h"], &[])]).unwrap();
        check(&routes, Method::GET, "other", "/a", Err(NoRoute::Path));
        check(&routes, Method::GET, "h", "/administrator", Err(NoRoute::Path));
    }
}
