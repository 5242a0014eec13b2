//! A head that is accepted names one host and one normal path, whatever else it says; nothing in it makes a reader panic.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tollgate::request::client::TrustedProxies;
use tollgate::request::path::NormalPath;
use tollgate::request::{Connection, RequestHead, RequestId, RequestIds};

/// `METHOD TARGET`, then a line for each header.
pub fn head(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let mut words = first.splitn(2, |byte| *byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) else { return };
    let headers = header_lines(lines);

    whom_it_names(&headers);
    if let Ok(head) = RequestHead::read(&method, &uri, &headers) {
        check(&method, &uri, &headers, &head);
    }
}

/// Each line is `name: value`; one that is no header is left out, as the server leaves out the whole request.
pub(super) fn header_lines<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

fn check(method: &Method, uri: &Uri, headers: &HeaderMap, head: &RequestHead<'_>) {
    assert!(*method != Method::CONNECT && *method != Method::TRACE, "{method} was accepted");
    let hosts: Vec<&HeaderValue> = headers.get_all(HOST).iter().collect();
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    assert_eq!(hosts[0], head.host.header);
    let text = hosts[0].to_str().unwrap().to_ascii_lowercase();
    assert!(!text.contains(['@', ',', '/', '\\', ' ', '"', '?', '#', '%', '=']), "{text:?} was accepted as a host");
    let name = head.host.name();
    // The name of an address is its canonical form, however it was written.
    let written = if text.starts_with('[') { &text[..=text.find(']').unwrap()] } else { name };
    assert!(!name.is_empty() && text.starts_with(written), "{text:?} was read as {name:?}");
    let after = &text[written.len()..];
    let port = after.strip_prefix('.').unwrap_or(after);
    assert!(port.is_empty() || port == ":" || port[1..].parse::<u16>().is_ok() && port.starts_with(':'), "{text:?}");
    if name.starts_with('[') {
        let address: Ipv6Addr = written.trim_matches(['[', ']']).parse().unwrap();
        assert_eq!(name, format!("[{address}]"), "{text:?}");
    } else {
        assert!(!name.contains([':', '[', ']']) && name.is_ascii(), "{text:?}");
    }
    // A target that names a host names this one.
    if let Some(authority) = uri.authority() {
        assert_eq!(uri.scheme_str().map(str::to_ascii_lowercase).as_deref(), Some("http"), "{uri}");
        let (told, said) = (authority.as_str().to_ascii_lowercase(), text.clone());
        assert_eq!(told.trim_end_matches(":80"), said.trim_end_matches(":80"), "{uri}");
    }
    let codings: Vec<&HeaderValue> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    assert!(
        codings.len() <= 1 && codings.iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")),
        "{codings:?}"
    );

    // The path is that of the target, and no other part of it plays a role.
    let target = uri.to_string();
    let without_origin = match uri.authority() {
        Some(authority) => {
            target.split_once("://").and_then(|(_, rest)| rest.strip_prefix(authority.as_str())).unwrap()
        }
        None => &target,
    };
    let path = without_origin.split('?').next().unwrap();
    let path = if path.is_empty() { "/" } else { path };
    assert_eq!(NormalPath::parse(path).unwrap().as_str(), head.path.as_str(), "{target}");
}

/// The readings of what a proxy says, for a peer that is trusted and for one that is not.
fn whom_it_names(headers: &HeaderMap) {
    let proxies = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    let ids = RequestIds::new([1, 2]);
    for (peer, is_trusted) in [("10.1.2.3:4711", true), ("192.0.2.1:4711", false), ("[::1]:80", true)] {
        let connection = Connection::new(peer.parse().unwrap(), &proxies);
        assert_eq!(connection.is_trusted, is_trusted);
        let client = connection.client_address(headers, &proxies);
        let id = RequestId::of(headers, &connection, &ids);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
        assert!((1..=128).contains(&id.as_str().len()) && id.as_str().bytes().all(is_plain), "{id}");
        if !is_trusted {
            assert_eq!(client, "192.0.2.1".parse::<IpAddr>().unwrap(), "a stranger's word counted");
            assert!(id.as_str().len() == 32 && id.as_str().bytes().all(|digit| digit.is_ascii_hexdigit()));
        }
    }
}
