//! `login.cookie`: the refresh cookie, and which of its settings go together.

use std::net::IpAddr;

use crate::issuer::{CookieSettings, SameSite};
use crate::server::ServerSettings;

use super::reader::{Fault, Findings, Node, Section};
use super::value::{boolean, choice, text, word};

/// `login.cookie.secure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secure {
    /// Secure, unless everything is on plain `http` of this machine.
    Auto,
    /// As it says.
    Fixed(bool),
}

/// `is_development`: whether `tokens.issuer` is a plain `http` address of loopback, and every listener is on loopback, too.
pub(super) fn cookie(login: &Section<'_>, is_development: bool, findings: &mut Findings) -> Option<CookieSettings> {
    let section = login.table("cookie", findings)?;
    let name = section.read("name", findings, text(cookie_name));
    let sites = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let same_site = section.read("same_site", findings, text(choice(&sites)));
    let secure = section.read("secure", findings, secure);
    let domain = section.read("domain", findings, text(cookie_domain));
    let (name, same_site, secure, domain) = (name?, same_site?, secure?, domain?);
    let is_secure = match secure {
        Secure::Auto => !is_development,
        Secure::Fixed(is_secure) => is_secure,
    };
    if !is_secure && same_site == SameSite::None {
        let message = "`login.cookie.same_site` is \"none\", and browsers refuse such a cookie without `Secure`";
        let hint = "set `secure = true` and serve `https`, or choose \"strict\" or \"lax\"";
        return findings.refuse(section.problem("same_site", message).hint(hint));
    }
    if secure == Secure::Fixed(false) && !is_development {
        let message = "`login.cookie.secure` is false: who listens on the way can take over sessions";
        let hint = "remove it where clients use `https`; it is for plain `http` in a network that you trust";
        findings.warnings.push(section.problem("secure", message).hint(hint));
    }
    Some(CookieSettings { name, same_site, is_secure, domain })
}

/// Whether nobody but this machine can reach the gateway, by plain `http`: then a browser that refuses `Secure` there still gets
/// its cookie.
pub(super) fn is_development(issuer: &str, server: &ServerSettings) -> bool {
    let is_loopback_address = |host: &str| host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let host = issuer.strip_prefix("http://").map(|rest| {
        let authority = rest.split('/').next().unwrap_or_default();
        match authority.strip_prefix('[') {
            Some(address) => address.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        }
    });
    host.is_some_and(|host| host.eq_ignore_ascii_case("localhost") || is_loopback_address(host))
        && server.listen.iter().all(|address| address.ip().to_canonical().is_loopback())
}

fn secure(node: &Node<'_>, findings: &mut Findings) -> Option<Secure> {
    if node.value.as_str() == Some("auto") {
        return Some(Secure::Auto);
    }
    if node.value.as_bool().is_some() {
        return boolean(node, findings).map(Secure::Fixed);
    }
    findings.accept(node, Err(node.wrong_type("`true`, `false` or \"auto\"")))
}

/// A token of RFC 9110 section 5.6.2, without the prefixes that mean something to browsers.
fn cookie_name(name: &str) -> Result<String, Fault> {
    let name = word(name)?;
    for prefix in ["__host-", "__secure-"] {
        if name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            let bare = &name[prefix.len()..];
            let fault = Fault::new(
                "has a prefix, which comes by itself: `__Host-` where the cookie is `Secure` and has no domain, `__Secure-` where it has one",
            );
            return Err(fault.hint(format!("write \"{bare}\"")));
        }
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) || name.starts_with('$') || name.len() > 64 {
        return Err(Fault::new(
            "is no name of a cookie: 1 to 64 letters, digits and `!#$%&'*+-.^_|~`, the first not `$`",
        ));
    }
    Ok(name)
}

/// A name of at least two labels, in lower case. Nothing for the empty text.
fn cookie_domain(domain: &str) -> Result<Option<String>, Fault> {
    if domain.is_empty() {
        return Ok(None);
    }
    if let Some(rest) = domain.strip_prefix('.') {
        return Err(Fault::new("must not begin with `.`").hint(format!("write \"{rest}\": its hosts are meant anyway")));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.parse::<IpAddr>().is_ok() || !domain.contains('.') || !domain.split('.').all(label) {
        return Err(Fault::new("is no domain with hosts below it, such as \"example.org\"")
            .hint("leave it out for a cookie of this host only"));
    }
    Ok(Some(domain.to_ascii_lowercase()))
}
