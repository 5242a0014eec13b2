//! The client's address, and whom to believe about it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// The proxies in front of us whose `X-Forwarded-For` and `Forwarded` are believed. Empty: nobody's are.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client's address as a trusted peer tells it: the hops are walked from the nearest to the farthest, and the first
    /// that is not a trusted proxy is the client. A hop that is no address ends the walk, because what lies behind it was
    /// written by somebody we do not know. `None` when the peer tells nothing.
    pub fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut farthest = None;
        for hop in hops(headers).into_iter().rev() {
            let Some(address) = hop else { break };
            farthest = Some(address);
            if !self.contains(address) {
                break;
            }
        }
        farthest
    }
}

/// The hops that `X-Forwarded-For`, or else `Forwarded` (RFC 7239 section 5.2), names; `None` for one that is no address.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let texts = |name: &HeaderName| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .flat_map(|value| {
                String::from_utf8_lossy(value.as_bytes()).split(',').map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    };
    let listed = texts(&X_FORWARDED_FOR);
    if !listed.is_empty() {
        return listed.iter().map(|hop| address(hop)).collect();
    }
    let elements = texts(&http::header::FORWARDED);
    elements
        .iter()
        .map(|element| {
            element.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then(|| address(value.trim().trim_matches('"')))?
            })
        })
        .collect()
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Some(bracketed) = text.strip_prefix('[') {
        return bracketed.split_once(']')?.0.parse().ok();
    }
    text.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

/// De facto standard; RFC 7239 section 1 describes it.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], expected: Option<&str>) {
        let proxies = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(proxies.client(&map), expected.map(|address| address.parse().unwrap()), "{headers:?}");
    }

    #[test]
    fn the_nearest_hop_that_is_no_proxy_of_ours_is_the_client() {
        check(&[], None);
        check(&[("x-forwarded-for", "203.0.113.9")], Some("203.0.113.9"));
        check(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.2")], Some("203.0.113.9"));
        check(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9,10.0.0.2")], Some("203.0.113.9"));
        check(&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], Some("10.0.0.3"));
        check(&[("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.2")], Some("10.0.0.2"));
        check(&[("x-forwarded-for", "203.0.113.9:4711")], Some("203.0.113.9"));
        check(&[("forwarded", "for=1.1.1.1, for=\"[2001:db9::1]:99\";proto=https, for=10.0.0.2")], Some("2001:db9::1"));
    }
}
