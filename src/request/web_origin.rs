//! Web origins: the sites whose pages may use the gateway in their visitors' names (`login.allowed_origins`).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue};

/// One site, written as browsers write it into `Origin`: scheme and host in lower case, no default port (RFC 6454 section 6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin {
    header: HeaderValue,
    /// Whether everyone on the way to the site can put words into its pages' mouths.
    is_in_the_clear: bool,
}

/// The sites that are trusted with their visitors' sessions. Empty: none, and nothing is said of other origins.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Box<[WebOrigin]>);

/// Why a text is no web origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// `*`, alone or in a host: whoever may read with credentials must be named.
    #[error("has a `*`, and sites that may act for people logged in are named one by one")]
    Wildcard,
    /// `null`: the origin of every sandboxed frame and local file alike.
    #[error("is `null`, which any page can make itself")]
    Null,
    /// No `://`.
    #[error("has no scheme")]
    NoScheme,
    /// Not one of [`SCHEMES`].
    #[error("has a scheme that no page has")]
    Scheme,
    /// A path, a query, a fragment, or a name before `@`; also a mere `/` at the end.
    #[error("has more than a scheme, a host and a port")]
    More,
    /// Not a host as browsers write it.
    #[error("has a host that no browser would write so")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("has a port that is none")]
    Port,
}

impl WebOrigin {
    /// As browsers send it.
    pub const fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// As browsers send it.
    pub fn as_str(&self) -> &str {
        self.header.to_str().unwrap_or_default()
    }

    /// Whether it is reached without TLS over a network, where others can answer in its place.
    pub const fn is_in_the_clear(&self) -> bool {
        self.is_in_the_clear
    }
}

impl AllowedOrigins {
    /// These sites.
    pub fn new(origins: Vec<WebOrigin>) -> Self {
        Self(origins.into())
    }

    /// Whether no site is allowed.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sites, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, WebOrigin> {
        self.0.iter()
    }

    /// The site that sent a request with these headers, if it is allowed. Two `Origin` headers are nobody's: browsers send one,
    /// and two readers could choose different ones. Costs one look into `headers`, and none if no site is allowed.
    pub fn of(&self, headers: &HeaderMap) -> Option<&WebOrigin> {
        if self.0.is_empty() {
            return None;
        }
        let mut values = headers.get_all(ORIGIN).into_iter();
        match (values.next(), values.next()) {
            (Some(value), None) => self.find(value.as_bytes()),
            (Some(_), Some(_)) | (None, _) => None,
        }
    }

    /// The site of this `Origin`, compared byte for byte: there is one way to write each.
    pub fn find(&self, origin: &[u8]) -> Option<&WebOrigin> {
        self.0.iter().find(|known| known.header.as_bytes() == origin)
    }
}

impl<'a> IntoIterator for &'a AllowedOrigins {
    type Item = &'a WebOrigin;
    type IntoIter = std::slice::Iter<'a, WebOrigin>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromStr for WebOrigin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        if text.contains('*') {
            return Err(OriginError::Wildcard);
        }
        if text.eq_ignore_ascii_case("null") {
            return Err(OriginError::Null);
        }
        let (scheme, rest) = text.split_once("://").ok_or(OriginError::NoScheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if !SCHEMES.contains(&scheme.as_str()) {
            return Err(OriginError::Scheme);
        }
        if rest.contains(['/', '?', '#', '@', '\\']) {
            return Err(OriginError::More);
        }
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match rest.rfind(':').filter(|colon| !rest[*colon..].contains(']')) {
            Some(colon) => (&rest[..colon], Some(port(&rest[colon + 1..])?)),
            None => (rest, None),
        };
        let (host, is_loopback) = host_as_browsers_write_it(host).ok_or(OriginError::Host)?;
        let default_port = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let text = match port.filter(|port| Some(*port) != default_port) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        let header = HeaderValue::from_str(&text).map_err(|_| OriginError::Host)?;
        Ok(Self { header, is_in_the_clear: scheme == "http" && !is_loopback })
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The host in a browser's writing, and whether it is this machine.
fn host_as_browsers_write_it(host: &str) -> Option<(String, bool)> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().ok()?;
        // Rust writes mapped addresses with dots, the URL standard all of them without.
        let text = match (address.to_ipv4_mapped(), address.segments()) {
            (Some(_), [.., high, low]) => format!("[::ffff:{high:x}:{low:x}]"),
            (None, _) => format!("[{address}]"),
        };
        return Some((text, address.is_loopback()));
    }
    let host = host.to_ascii_lowercase();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if host.is_empty()
        || host.len() > MAX_HOST_BYTES
        || !host.bytes().all(is_plain)
        || host.split('.').any(str::is_empty)
    {
        return None;
    }
    // A browser takes a host whose last label is a number for an address, and writes all four of its numbers.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        let address: Ipv4Addr = host.parse().ok()?;
        return Some((address.to_string(), address.is_loopback()));
    }
    let is_loopback = host == "localhost" || host.ends_with(".localhost");
    Some((host, is_loopback))
}

fn port(text: &str) -> Result<u16, OriginError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| *port != 0);
    port.filter(|_| is_number).ok_or(OriginError::Port)
}

/// The schemes of pages with an origin of their own: the web's, and those of programs that show pages which they brought.
pub const SCHEMES: [&str; 8] =
    ["https", "http", "capacitor", "ionic", "tauri", "app", "chrome-extension", "moz-extension"];

/// RFC 1035 section 2.3.4.
const MAX_HOST_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, OriginError>) {
        let origin: Result<WebOrigin, _> = text.parse();
        assert_eq!(origin.as_ref().map(WebOrigin::as_str).map_err(|error| *error), expected, "{text}");
    }

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        check("https://app.example.org", Ok("https://app.example.org"));
        check("HTTPS://App.Example.ORG", Ok("https://app.example.org"));
        check("https://app.example.org:443", Ok("https://app.example.org"));
        check("http://app.example.org:80", Ok("http://app.example.org"));
        check("http://app.example.org:443", Ok("http://app.example.org:443"));
        check("http://localhost:3000", Ok("http://localhost:3000"));
        check("http://127.0.0.1:03000", Ok("http://127.0.0.1:3000"));
        check("http://[::1]:8080", Ok("http://[::1]:8080"));
        check("http://[0:0:0:0:0:0:0:1]", Ok("http://[::1]"));
        check("http://[::ffff:127.0.0.1]", Ok("http://[::ffff:7f00:1]"));
        check("capacitor://localhost", Ok("capacitor://localhost"));
        check("https://xn--mnchen-3ya.example", Ok("https://xn--mnchen-3ya.example"));
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        check("*", Err(OriginError::Wildcard));
        check("https://*.example.org", Err(OriginError::Wildcard));
        check("null", Err(OriginError::Null));
        check("NULL", Err(OriginError::Null));
        check("", Err(OriginError::NoScheme));
        check("app.example.org", Err(OriginError::NoScheme));
        check("file://", Err(OriginError::Scheme));
        check("wss://app.example.org", Err(OriginError::Scheme));
        check("https://app.example.org/", Err(OriginError::More));
        check("https://app.example.org/admin", Err(OriginError::More));
        check("https://app.example.org?a", Err(OriginError::More));
        check("https://user@app.example.org", Err(OriginError::More));
        check("https://", Err(OriginError::Host));
        check("https://a..b", Err(OriginError::Host));
        check("https://a b", Err(OriginError::Host));
        check("https://münchen.example", Err(OriginError::Host));
        check("http://127.1", Err(OriginError::Host));
        check("http://0x7f000001", Err(OriginError::Host));
        check("http://[::1", Err(OriginError::Host));
        check("http://::1", Err(OriginError::Host));
        check("http://localhost:", Err(OriginError::Port));
        check("http://localhost:0", Err(OriginError::Port));
        check("http://localhost:+80", Err(OriginError::Port));
        check("http://localhost:65536", Err(OriginError::Port));
    }

    #[test]
    fn only_an_origin_without_tls_that_is_elsewhere_is_in_the_clear() {
        let is_in_the_clear = |text: &str| text.parse::<WebOrigin>().unwrap().is_in_the_clear();
        assert!(is_in_the_clear("http://app.example.org"));
        assert!(is_in_the_clear("http://192.0.2.1"));
        for safe in [
            "https://app.example.org",
            "http://localhost",
            "http://a.localhost:1",
            "http://[::1]",
            "http://127.0.0.2:3",
        ] {
            assert!(!is_in_the_clear(safe), "{safe}");
        }
    }

    #[track_caller]
    fn check_sent(sent: &[&str], expected: Option<&str>) {
        let allowed = ["https://a.example", "http://localhost:3000"].map(|text| text.parse().unwrap());
        let allowed = AllowedOrigins::new(allowed.into());
        let mut headers = HeaderMap::new();
        for value in sent {
            headers.append(ORIGIN, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(allowed.of(&headers).map(WebOrigin::as_str), expected, "{sent:?}");
        assert_eq!(AllowedOrigins::default().of(&headers), None);
    }

    #[test]
    fn only_the_very_origin_is_allowed() {
        check_sent(&["https://a.example"], Some("https://a.example"));
        check_sent(&["http://localhost:3000"], Some("http://localhost:3000"));
        for other in [
            "http://a.example",
            "https://a.example:443",
            "https://A.example",
            "https://a.example.",
            "https://a.example.evil.example",
            "https://evil.example",
            "https://b.a.example",
            "https://a.example, https://evil.example",
            "http://localhost",
            "http://localhost:30000",
            "null",
            "",
        ] {
            check_sent(&[other], None);
        }
        check_sent(&[], None);
        check_sent(&["https://a.example", "https://evil.example"], None);
        check_sent(&["https://a.example", "https://a.example"], None);
    }
}
