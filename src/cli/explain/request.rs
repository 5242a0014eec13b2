//! The bytes of the request that is replayed, as a client would send them for this method, URL and these headers.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// A header as it is to be sent: `Name: value`.
#[derive(Clone)]
pub(super) struct HeaderLine {
    name: String,
    value: SecretString,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// What `Host` says unless a header does; `None`: the URL names no host.
    pub(super) host: Option<String>,
    /// The request target, byte for byte.
    pub(super) target: String,
}

impl HeaderLine {
    /// Reads `Name: value`. What is in name and value is for the gateway to judge; only what would be another line is not a
    /// header.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, value) = text.split_once(':').ok_or("a header is written `Name: value`")?;
        if name.is_empty() {
            return Err("a header is written `Name: value`");
        }
        if text.contains(['\r', '\n', '\0']) {
            return Err("a header has no line ends in it");
        }
        Ok(Self { name: name.to_owned(), value: SecretString::from(value.trim_matches([' ', '\t'])) })
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl std::fmt::Debug for HeaderLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeaderLine").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads a method: one word. Whether it is one is for the gateway to judge.
pub(super) fn method(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.contains(is_gap) {
        return Err("a method is one word, such as `GET`");
    }
    Ok(text.to_owned())
}

impl Address {
    /// Splits a URL as clients do: the host goes into `Host`, path and query are the target, the fragment stays behind.
    /// Whatever does not begin with `http://` or `https://` is taken as the target itself.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        if url.is_empty() || url.contains(is_gap) {
            return Err("a URL has no spaces and control characters; percent-encode them (a space is `%20`)");
        }
        let Some(rest) = scheme(url) else { return Ok(Self { host: None, target: url.to_owned() }) };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.is_empty() {
            return Err("a URL that begins with a scheme names a host: `http://host/path`");
        }
        if authority.contains('@') {
            return Err("a URL with a user name in it is not sent like that; give `-H 'Authorization: …'` instead");
        }
        let default_port =
            if url.len() > "https://".len() && url[..5].eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        let host = authority.strip_suffix(default_port).unwrap_or(authority).to_owned();
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { host: Some(host), target: format!("{slash}{target}") })
    }
}

/// What follows `http://` or `https://`.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

fn is_gap(character: char) -> bool {
    character.is_ascii_control() || character == ' '
}

/// A whole head in HTTP/1.1. `Host` is sent once more only if a header says so.
pub(super) fn head(
    method: &str,
    address: &Address,
    default_host: &str,
    headers: &[HeaderLine],
    token: Option<&SecretString>,
) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(format!("{method} {} HTTP/1.1\r\n", address.target).into_bytes());
    let mut add = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    };
    if !headers.iter().any(|header| header.is("host")) {
        add("Host", address.host.as_deref().unwrap_or(default_host));
    }
    for header in headers {
        add(&header.name, header.value.expose_secret());
    }
    if let Some(token) = token {
        add("Authorization", &format!("Bearer {}", token.expose_secret()));
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Option<(Option<&str>, &str)>) {
        let found = Address::parse(url).ok();
        let expected =
            expected.map(|(host, target)| Address { host: host.map(str::to_owned), target: target.to_owned() });
        assert_eq!(found, expected, "{url}");
    }

    #[test]
    fn a_url_becomes_host_and_target_as_clients_make_them() {
        check("http://a.example:8080/x/y?q=%2F#part", Some((Some("a.example:8080"), "/x/y?q=%2F")));
        check("HTTPS://a.example:443", Some((Some("a.example"), "/")));
        check("http://a.example:80?x=1", Some((Some("a.example"), "/?x=1")));
        check("https://a.example:80/", Some((Some("a.example:80"), "/")));
        check("/x/../y", Some((None, "/x/../y")));
        check("/x?next=http://b/", Some((None, "/x?next=http://b/")));
        check("*", Some((None, "*")));
        check("a.example:443", Some((None, "a.example:443")));
        for url in ["", "/a b", "/a\r\nX: y", "http:///x", "http://u:p@a/x"] {
            check(url, None);
        }
    }

    #[test]
    fn a_header_is_one_line() {
        assert!(HeaderLine::parse("X: a: b").is_ok());
        for text in ["", "X", ": a", "X: a\r\nY: b", "X: a\0"] {
            assert!(HeaderLine::parse(text).is_err(), "{text:?}");
        }
        assert!(method("GET").is_ok() && method("GET /").is_err() && method("").is_err());
    }

    #[test]
    fn host_is_not_sent_twice_unasked() {
        let address = Address::parse("http://a/x").unwrap();
        let sent = |headers: &[&str]| {
            let headers: Vec<_> = headers.iter().map(|header| HeaderLine::parse(header).unwrap()).collect();
            String::from_utf8(head("GET", &address, "d", &headers, None).to_vec()).unwrap()
        };
        assert_eq!(sent(&[]), "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(sent(&["host: b", "X:"]), "GET /x HTTP/1.1\r\nhost: b\r\nX: \r\n\r\n");
    }
}
