//! `[upstreams.*]` and `[identity.headers]`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::uri::Authority;

use crate::upstream::{Balance, IdentityHeaderNames, MAX_SERVERS, ServerAddress, UpstreamSettings};

use super::reader::{Fault, Findings, Section, names};
use super::upstream_tokens;
use super::value::{SHORTEST, choice, duration, duration_or_none, set, text};

/// Longest time for a connection to be made: the system gives up sooner.
const LONGEST_CONNECT: Duration = Duration::from_secs(600);

/// The word for a balance that needs state which is not kept yet.
const HASH_BALANCE: &str = "hash";

/// Headers that carry the request itself or its credentials, so that none of them may carry an identity.
const RESERVED_HEADERS: [&str; 16] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
];

/// The upstreams of every file, each with the table it comes from. An upstream that cannot be used keeps its name, so that
/// routes to it are not called wrong as well.
pub(super) fn upstreams<'a>(
    files: &[Section<'a>],
    own_issuer: Option<&str>,
    findings: &mut Findings,
) -> Vec<(&'a str, Section<'a>, Option<UpstreamSettings>)> {
    let mut upstreams: Vec<(&'a str, Section<'a>, Option<UpstreamSettings>)> = Vec::new();
    for file in files {
        for (name, section) in file.named("upstreams", findings) {
            if let Some((_, first, _)) = upstreams.iter().find(|(known, _, _)| *known == name) {
                let line = first.source.line(first.span.start);
                let message = format!("there is an upstream `{name}` already, in {}:{line}", first.source.name);
                findings.problems.push(section.problem("", message));
                continue;
            }
            let settings = upstream(name, &section, own_issuer, findings);
            upstreams.push((name, section, settings));
        }
    }
    upstreams
}

/// Metrics and health are for this machine; a route must not carry them outside.
pub(super) fn refuse_admin_listener(
    upstreams: &[(&str, Section<'_>, Option<UpstreamSettings>)],
    listener: SocketAddr,
    findings: &mut Findings,
) {
    for (name, section, settings) in upstreams {
        if settings.iter().flat_map(|settings| &settings.servers).any(|server| leads_to(server, listener)) {
            let message = format!("`upstreams.{name}.servers` has the address of `admin.listen`");
            let hint = "a route would show metrics and health to its clients; let them be scraped from this machine";
            findings.problems.push(section.problem("servers", message).hint(hint));
        }
    }
}

/// Whether connecting to the server reaches the listener, as far as the address itself tells.
fn leads_to(server: &ServerAddress, listener: SocketAddr) -> bool {
    let reaches = |address: IpAddr| {
        let this_machine = address.is_loopback() || address.is_unspecified();
        address == listener.ip() || (this_machine && listener.ip().is_unspecified()) || address.is_unspecified()
    };
    let listener_is_here = listener.ip().is_loopback() || listener.ip().is_unspecified();
    let by_name = server.host.trim_end_matches('.') == "localhost" && listener_is_here;
    // An IPv4 address may be written as an IPv6 one.
    let by_address = server.host.parse().is_ok_and(|address: IpAddr| reaches(address.to_canonical()));
    server.port == listener.port() && (by_name || by_address)
}

fn upstream(
    name: &str,
    section: &Section<'_>,
    own_issuer: Option<&str>,
    findings: &mut Findings,
) -> Option<UpstreamSettings> {
    let servers = section.read("servers", findings, |node, findings| {
        let servers = set(text(server_address))(node, findings)?;
        if servers.len() > MAX_SERVERS {
            return findings.accept(node, Err(Fault::new(format!("has more than {MAX_SERVERS} servers"))));
        }
        Some(servers)
    });
    let balances = [("round_robin", Balance::RoundRobin), ("least_requests", Balance::LeastRequests)];
    let balance = section.read(
        "balance",
        findings,
        text(|text| {
            if text == HASH_BALANCE {
                return Err(Fault::new("= \"hash\" is not supported yet")
                    .hint(format!("the balances are {}", names(balances.iter().map(|(name, _)| *name)))));
            }
            choice(&balances)(text)
        }),
    );
    let connect_timeout = section.read("connect_timeout", findings, duration(SHORTEST..=LONGEST_CONNECT));
    let response_timeout = section.read("response_timeout", findings, duration_or_none);
    let idle_timeout = section.read("idle_timeout", findings, duration_or_none);
    let token = upstream_tokens::forwarding(section, own_issuer, findings);
    Some(UpstreamSettings {
        name: Arc::from(name),
        servers: servers?,
        balance: balance?,
        connect_timeout: connect_timeout?,
        response_timeout: response_timeout?,
        idle_timeout: idle_timeout?,
        token: token?,
    })
}

/// `http://host:port`. Nothing of the text is repeated, because it may hold a password.
fn server_address(text: &str) -> Result<ServerAddress, Fault> {
    const FORM: &str = "write \"http://host:port\"";
    if text.starts_with("https://") {
        return Err(Fault::new("begins with `https://`, which is not supported yet"));
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(Fault::new("must begin with `http://`").hint(FORM));
    };
    if rest.contains('@') {
        return Err(Fault::new("must not hold a user or a password").hint(FORM));
    }
    if let Some(end) = rest.find(['/', '?', '#']) {
        let hint = if rest[end..].starts_with('/') && rest.len() > end + 1 {
            "a path belongs into the route: `rewrite = \"/path/{*rest}\"`"
        } else {
            FORM
        };
        return Err(Fault::new("must end after the port").hint(hint));
    }
    let authority: Authority = rest.parse().map_err(|_| Fault::new("has no valid host and port").hint(FORM))?;
    let host = authority.host();
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if rest.len() == host.len() => 80,
        None => return Err(Fault::new("has no valid port").hint(FORM)),
    };
    if port == 0 {
        return Err(Fault::new("has no valid port").hint(FORM));
    }
    let address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
        Some(_) => return Err(Fault::new("has no valid IPv6 address").hint("write \"http://[::1]:port\"")),
        None if is_host_name(host) => host,
        None => return Err(Fault::new("has no valid host").hint(FORM)),
    };
    Ok(ServerAddress { host: Arc::from(address.to_ascii_lowercase()), port })
}

/// Letters, digits, hyphens and underscores between dots, as DNS and container networks name hosts.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// `[identity.headers]`
pub(super) fn identity_headers(file: &Section<'_>, findings: &mut Findings) -> Option<IdentityHeaderNames> {
    let section = file.table("identity", findings)?.table("headers", findings)?;
    let subject = section.read("subject", findings, text(header_name));
    let name = section.read("name", findings, text(header_name));
    let email = section.read("email", findings, text(header_name));
    let roles = section.read("roles", findings, text(header_name));
    let scopes = section.read("scopes", findings, text(header_name));
    let headers = [("subject", &subject), ("name", &name), ("email", &email), ("roles", &roles), ("scopes", &scopes)];
    let mut good = true;
    for (index, (key, header)) in headers.iter().enumerate() {
        let Some(Some(header)) = header else { continue };
        let same = |other: &&(&str, &Option<Option<HeaderName>>)| {
            other.1.as_ref().and_then(Option::as_ref).is_some_and(|other| spelled_alike(other, header))
        };
        if let Some((other, _)) = headers[..index].iter().find(same) {
            // One of the two may be a default; then the other is where to point at.
            let at = if section.given(key).is_some() { key } else { other };
            let message = format!("`identity.headers.{key}` and `identity.headers.{other}` are the same header");
            findings.problems.push(section.problem(at, message).hint("write \"\" for a header that is not sent"));
            good = false;
        }
    }
    if !good {
        return None;
    }
    Some(IdentityHeaderNames { subject: subject?, name: name?, email: email?, roles: roles?, scopes: scopes? })
}

/// Whether servers could take two headers for one: `X-User_Name` and `X-User-Name` are both `X_USER_NAME` to CGI.
fn spelled_alike(one: &HeaderName, other: &HeaderName) -> bool {
    one.as_str().replace('_', "-") == other.as_str().replace('_', "-")
}

fn header_name(text: &str) -> Result<Option<HeaderName>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let header: HeaderName = text.parse().map_err(|_| Fault::new("is no name of a header"))?;
    if RESERVED_HEADERS.contains(&header.as_str().replace('_', "-").as_str()) {
        return Err(Fault::new("is a header with a meaning of its own"));
    }
    Ok(Some(header))
}
