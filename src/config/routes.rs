//! `[[routes]]`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::Method;

use crate::route::pattern::{HostPattern, PathPattern, Rewrite};
use crate::route::{Access, ClaimRule, ClaimValue, Revocation, Route, Routes, Rules};

use super::RoutePlace;
use super::file::{COMMON_METHODS, METHODS};
use super::reader::{Fault, Findings, Node, Section, names, similar};
use super::value::{choice, distinct, duration_or_none, integer, text, word};

#[derive(Clone, Copy, PartialEq)]
enum Auth {
    Required,
    Optional,
    Public,
}

/// The routes of every file, in the order of the files. `upstreams` are the names of all upstreams, good or bad.
pub(super) fn routes(files: &[Section<'_>], upstreams: &[&str], findings: &mut Findings) -> Option<Vec<Route>> {
    let sections: Vec<Section<'_>> = files.iter().flat_map(|file| file.list("routes", findings)).collect();
    let names = route_names(&sections, findings);
    let read: Vec<Option<(usize, Route)>> = sections
        .iter()
        .zip(names)
        .enumerate()
        .map(|(index, (section, name))| Some((index, route(section, name, upstreams, findings)?)))
        .collect();
    // Routes are compared even when some cannot be read, so that a conflict among the others shows in the same run.
    let complete = read.iter().all(Option::is_some);
    let (positions, routes): (Vec<usize>, Vec<Route>) = read.into_iter().flatten().unzip();
    let conflicts = Routes::new(routes.clone()).err().unwrap_or_default();
    for conflict in &conflicts {
        let (first, second) = (&sections[positions[conflict.first]], &sections[positions[conflict.second]]);
        let (first_name, second_name) = (&routes[conflict.first].name, &routes[conflict.second].name);
        let message =
            format!("route `{second_name}` answers requests that route `{first_name}` answers with equal right");
        let at = format!("{}:{}", first.source.name, first.source.line(first.span.start));
        let hint = format!("`{first_name}` is in {at}; let the paths, the methods or the hosts of the two differ");
        findings.problems.push(second.problem("path", message).hint(hint));
    }
    (complete && conflicts.is_empty()).then_some(routes)
}

/// Where each route stands, in the order of [`routes`].
pub(super) fn places(files: &[Section<'_>]) -> Vec<RoutePlace> {
    let sections = files.iter().flat_map(|file| file.list("routes", &mut Findings::default()));
    sections
        .map(|section| RoutePlace { file: section.source.name.clone(), line: section.source.line(section.span.start) })
        .collect()
}

/// A name for each route: the one it has, or its path. A path that several have gets a number.
fn route_names(sections: &[Section<'_>], findings: &mut Findings) -> Vec<Arc<str>> {
    let mut names: Vec<Option<String>> = Vec::new();
    let mut taken: HashSet<String> = HashSet::new();
    for section in sections {
        let name = section.optional("name", findings, text(word)).flatten();
        if let Some(name) = &name
            && !taken.insert(name.clone())
        {
            findings.problems.push(section.problem("name", format!("there is a route `{name}` already")));
        }
        names.push(name);
    }
    let mut finished = Vec::new();
    // The number to try next for a path.
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for (section, name) in sections.iter().zip(names) {
        let name = name.unwrap_or_else(|| {
            let path = section.given("path").and_then(|node| node.value.as_str().map(str::to_owned));
            let path = path.unwrap_or_else(|| section.path.clone());
            let mut unique = path.clone();
            while !taken.insert(unique.clone()) {
                let number = numbers.entry(path.clone()).or_insert(2);
                unique = format!("{path}#{number}");
                *number += 1;
            }
            unique
        });
        finished.push(Arc::from(name));
    }
    finished
}

fn route(section: &Section<'_>, name: Arc<str>, upstreams: &[&str], findings: &mut Findings) -> Option<Route> {
    let path =
        section.read("path", findings, text(|text| PathPattern::parse(text).map_err(|error| no_pattern(&error))));
    let hosts = section.read(
        "hosts",
        findings,
        distinct(text(|text| HostPattern::parse(text).map_err(|error| no_pattern(&error)))),
    );
    let methods = section.read("methods", findings, distinct(text(method)));
    let upstream = section.read("upstream", findings, |node, findings| upstream(node, &name, upstreams, findings));
    let access = access(section, path.as_ref(), findings);
    let revocation = revocation(section, findings);
    let rewrite = rewrite(section, path.as_ref(), findings);
    let max_body_bytes = section.read("max_body_bytes", findings, integer(0..=i64::MAX.unsigned_abs()));
    let timeout = section.read("timeout", findings, duration_or_none);
    Some(Route {
        name,
        hosts: hosts?,
        path: path?,
        methods: methods?,
        upstream: upstream?,
        access: access?,
        revocation: revocation?,
        rewrite: rewrite?,
        max_body_bytes: max_body_bytes?,
        timeout: timeout?,
    })
}

/// Upstreams that a hint compares with and names.
const MAX_NAMED: usize = 20;

fn upstream(node: &Node<'_>, route: &str, upstreams: &[&str], findings: &mut Findings) -> Option<usize> {
    let name = text(word)(node, findings)?;
    if let Some(position) = upstreams.iter().position(|known| *known == name) {
        return Some(position);
    }
    let problem = node.problem(format!("route `{route}` forwards to `{name}`, which is not an upstream"));
    let named = upstreams.iter().copied().take(MAX_NAMED);
    let hint = match (similar(&name, named.clone()), upstreams) {
        (Some(meant), [_, _, ..]) => format!("did you mean `{meant}`?"),
        (_, []) => format!("add `[upstreams.{name}]` with `servers = [\"http://host:port\"]`"),
        (_, known) if known.len() > MAX_NAMED => format!("the upstreams are {} and others", names(named)),
        (_, _) => format!("the upstreams are {}", names(named)),
    };
    findings.refuse(problem.hint(hint))
}

fn access(section: &Section<'_>, path: Option<&PathPattern>, findings: &mut Findings) -> Option<Access> {
    let auths = [("required", Auth::Required), ("optional", Auth::Optional), ("public", Auth::Public)];
    let auth = section.read("auth", findings, text(choice(&auths)));
    let scopes = section.read("scopes", findings, distinct(text(scope)));
    let any_scope = section.read("any_scope", findings, distinct(text(scope)));
    let any_role = section.read("any_role", findings, distinct(text(word)));
    let claims = section.read("claims", findings, |node, findings| claims(node, path, findings));
    let auth = auth?;
    if auth != Auth::Required {
        let mut good = true;
        for key in ["scopes", "any_scope", "any_role", "claims"] {
            if let Some(node) = section.given(key).filter(|node| !node.is_empty()) {
                let (auth, why) = match auth {
                    Auth::Public => ("public", "nobody has to show a token"),
                    Auth::Optional | Auth::Required => ("optional", "a caller without a token would pass"),
                };
                let message = format!("`{}` cannot hold with `auth = \"{auth}\"`, where {why}", node.path);
                let hint = format!("remove `{key}`, or write `auth = \"required\"`");
                findings.problems.push(node.problem(message).hint(hint));
                good = false;
            }
        }
        if !good {
            return None;
        }
    }
    let rules = Rules { scopes: scopes?, any_scope: any_scope?, any_role: any_role?, claims: claims? };
    Some(match auth {
        Auth::Required => Access::Required(rules),
        Auth::Optional => Access::Optional,
        Auth::Public => Access::Public,
    })
}

/// `claims = { project = "{id}" }`
fn claims(node: &Node<'_>, path: Option<&PathPattern>, findings: &mut Findings) -> Option<Vec<ClaimRule>> {
    let entries = findings.accept(node, node.entries())?;
    let rules = entries.into_iter().map(|(claim, value)| {
        if claim.is_empty() {
            return findings.accept(&value, Err(Fault::new("has no name of a claim")));
        }
        let value = text(|text| claim_value(text, path))(&value, findings)?;
        Some(ClaimRule { claim: claim.to_owned(), value })
    });
    let rules: Vec<Option<ClaimRule>> = rules.collect();
    rules.into_iter().collect()
}

fn claim_value(text: &str, path: Option<&PathPattern>) -> Result<ClaimValue, Fault> {
    let text = word(text)?;
    if !text.contains(['{', '}']) {
        return Ok(ClaimValue::Literal(text));
    }
    let name = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(name) = name.filter(|name| !name.contains(['{', '}'])) else {
        return Err(Fault::new("must be a text without braces, or one parameter of the path such as \"{id}\""));
    };
    let name = name.strip_prefix('*').unwrap_or(name);
    // What is wrong with the path itself is noted there; the value may be right.
    let Some(path) = path else { return Ok(ClaimValue::Literal(text.clone())) };
    path.parameter(name).map(ClaimValue::Parameter).ok_or_else(|| {
        let fault = Fault::new(format!("names the parameter `{name}`, which the path does not have"));
        let known: Vec<&str> = path.parameters().collect();
        if known.is_empty() {
            fault.hint("the path has no parameters; write one as `{name}`")
        } else {
            fault.hint(format!("the path's parameters are {}", names(known)))
        }
    })
}

fn revocation(section: &Section<'_>, findings: &mut Findings) -> Option<Revocation> {
    let choices = [("lenient", Revocation::Lenient), ("strict", Revocation::Strict)];
    let revocation = section.read("revocation", findings, text(choice(&choices)))?;
    let is_public = section.given("auth").and_then(|node| node.value.as_str().map(|auth| auth == "public"));
    if revocation == Revocation::Strict && is_public == Some(true) {
        let message =
            format!("`{}.revocation` cannot be strict with `auth = \"public\"`, where no token is read", section.path);
        let hint = "remove `revocation`, or write `auth = \"required\"`";
        return findings.refuse(section.problem("revocation", message).hint(hint));
    }
    Some(revocation)
}

fn rewrite(section: &Section<'_>, path: Option<&PathPattern>, findings: &mut Findings) -> Option<Rewrite> {
    if let (Some(_), Some(_)) = (section.given("strip_prefix"), section.given("rewrite")) {
        let message = format!("`{}` has both `strip_prefix` and `rewrite`", section.path);
        return findings.refuse(section.problem("rewrite", message).hint("`rewrite` alone can say both"));
    }
    let path = path?;
    let strip = section.optional(
        "strip_prefix",
        findings,
        text(|text| Rewrite::strip_prefix(text, path).map_err(|error| no_pattern(&error))),
    );
    let template = section.optional(
        "rewrite",
        findings,
        text(|text| Rewrite::template(text, path).map_err(|error| no_pattern(&error))),
    );
    Some(strip?.or(template?).unwrap_or(Rewrite::Keep))
}

/// A pattern's own message says what to do.
fn no_pattern(error: &crate::route::pattern::PatternError) -> Fault {
    Fault::new(format!("cannot be used: {error}"))
}

fn method(text: &str) -> Result<Method, Fault> {
    if text == "CONNECT" || text == "TRACE" {
        return Err(Fault::new(format!("is {text}, which is never served")));
    }
    if METHODS.contains(&text) {
        return text.parse().map_err(|_| Fault::new("is no method"));
    }
    let fault = Fault::new("is no method");
    let upper = text.to_ascii_uppercase();
    Err(match similar(&upper, METHODS) {
        Some(meant) if meant == upper => fault.hint(format!("write \"{meant}\": case counts")),
        Some(meant) => fault.hint(format!("did you mean `{meant}`?")),
        None => fault.hint(format!("the methods are {}", names(METHODS.into_iter().take(COMMON_METHODS)))),
    })
}

/// RFC 6749 section 3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`.
pub(super) fn scope(text: &str) -> Result<String, Fault> {
    let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if !text.is_empty() && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    let fault = Fault::new("is no scope: it needs visible ASCII characters other than `\"` and `\\`");
    Err(if text.contains(' ') { fault.hint("write each scope as an element of its own") } else { fault })
}
