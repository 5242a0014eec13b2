//! The request target and `Host`: one reading of where a request wants to go (RFC 9112 section 3.2).

use std::net::Ipv6Addr;

use http::header::{CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Uri};

/// Why a target or `Host` was refused with `bad_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// RFC 9112 section 3.2: refused with 400 also for HTTP/1.0, where it was optional.
    #[error("the request has no `Host` header")]
    HostMissing,
    /// RFC 9112 section 3.2.
    #[error("the request has more than one `Host` header")]
    HostTwice,
    /// RFC 9110 section 7.2: `uri-host [ ":" port ]`, nothing else.
    #[error("the `Host` header is not a host name with an optional port")]
    HostMalformed,
    /// RFC 9112 section 3.2.2: we refuse instead of preferring one of the two.
    #[error("the request target names another host than the `Host` header")]
    HostMismatch,
    /// RFC 9112 section 6.1: of the codings, only `chunked` once is understood here. A server behind could read others in
    /// another way.
    #[error("`Transfer-Encoding` is not exactly one `chunked`")]
    TransferEncoding,
    /// RFC 9110 section 5.3: of two, one server would take the first and another the last.
    #[error("the request has more than one `Content-Type` header")]
    ContentTypeTwice,
    /// Neither `/path` nor `http://host/path`.
    #[error("the request target is neither a path nor an `http` URI")]
    Form,
    /// CONNECT and TRACE.
    #[error("the method is not served")]
    Method,
}

/// The host that the client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The header as it came, for `Host` and `X-Forwarded-Host` of the forwarded request.
    pub header: HeaderValue,
    /// How much of the header is the name.
    length: usize,
    /// The name in the form of [`Self::name`], when it did not come so.
    canonical: Option<Box<str>>,
}

impl Host {
    /// Lower case, without port and final dot, an address of IPv6 as RFC 5952 writes it, for the choice of the route.
    pub fn name(&self) -> &str {
        let as_sent = self.header.to_str().ok().and_then(|text| text.get(..self.length));
        self.canonical.as_deref().or(as_sent).unwrap_or_default()
    }
}

/// Reads and checks method, target form and `Host`.
///
/// # Errors
/// See [`TargetError`].
pub fn read_host(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Host, TargetError> {
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(TargetError::Method);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|coding| !is_chunked(coding)) || codings.next().is_some() {
        return Err(TargetError::TransferEncoding);
    }
    if headers.get_all(CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(TargetError::ContentTypeTwice);
    }
    let mut values = headers.get_all(HOST).iter();
    let header = values.next().ok_or(TargetError::HostMissing)?;
    if values.next().is_some() {
        return Err(TargetError::HostTwice);
    }
    let text = header.to_str().map_err(|_| TargetError::HostMalformed)?;
    let name = host_name(text).ok_or(TargetError::HostMalformed)?;
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => {}
        // Authority form without CONNECT, or a target without a slash, which the parser reads as one.
        (None, Some(_)) => return Err(TargetError::Form),
        (Some(scheme), Some(authority)) if scheme.eq_ignore_ascii_case("http") => {
            if !without_default_port(authority.as_str()).eq_ignore_ascii_case(without_default_port(text)) {
                return Err(TargetError::HostMismatch);
            }
        }
        (Some(_), _) => return Err(TargetError::Form),
    }
    Ok(Host { header: header.clone(), length: name.len(), canonical: canonical(name) })
}

/// A host's name as routes know it; `None`: it is so already.
fn canonical(name: &str) -> Option<Box<str>> {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    if let Some(address) = address.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        let canonical = format!("[{address}]");
        return (canonical != name).then(|| canonical.into());
    }
    name.bytes().any(|byte| byte.is_ascii_uppercase()).then(|| name.to_ascii_lowercase().into())
}

/// The host of `uri-host [ ":" port ]`, without a final dot; `None` if the text is anything else.
fn host_name(text: &str) -> Option<&str> {
    if text.len() > MAX_HOST_BYTES {
        return None;
    }
    let (host, port) = if text.starts_with('[') {
        let (address, after) = text.split_once(']')?;
        address[1..].parse::<Ipv6Addr>().ok()?;
        (&text[..=address.len()], after)
    } else {
        let position = text.find(':').unwrap_or(text.len());
        let (host, after) = text.split_at(position);
        let is_name = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'));
        if !is_name {
            return None;
        }
        (host, after)
    };
    match port.strip_prefix(':') {
        None if !port.is_empty() => return None,
        Some(digits) if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.parse::<u16>().is_err() => {
            return None;
        }
        None | Some(_) => {}
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    (!name.is_empty()).then_some(name)
}

fn without_default_port(authority: &str) -> &str {
    authority.strip_suffix(":80").unwrap_or(authority)
}

/// RFC 1035 allows 253 bytes for a name; a port takes six more.
const MAX_HOST_BYTES: usize = 260;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, hosts: &[&str], expected: Result<&str, TargetError>) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        let uri: Uri = target.parse().unwrap();
        assert_eq!(
            read_host(&Method::GET, &uri, &headers).map(|host| host.name().to_owned()),
            expected.map(String::from)
        );
    }

    #[test]
    fn one_well_formed_host_is_needed() {
        check("/", &["Example.org:8080"], Ok("example.org"));
        check("/", &["example.org."], Ok("example.org"));
        check("/", &["[::1]:80"], Ok("[::1]"));
        check("/", &["[2001:DB8:0:0:0:0:0:1]:80"], Ok("[2001:db8::1]"));
        check("/", &["127.0.0.1"], Ok("127.0.0.1"));
        check("/", &[], Err(TargetError::HostMissing));
        check("/", &["a", "a"], Err(TargetError::HostTwice));
        let long = "a".repeat(300);
        for host in
            ["", "a,b", "u@a", "a/b", "a b", "[::1", "[::1]x", "a:99999", "a:+1", "a:b", ".", ":80", "a=b", &long]
        {
            check("/", &[host], Err(TargetError::HostMalformed));
        }
    }

    #[test]
    fn the_target_must_be_a_path_or_name_the_same_host() {
        check("http://a/x", &["a"], Ok("a"));
        check("http://A:80/x", &["a"], Ok("a"));
        check("http://evil/x", &["a"], Err(TargetError::HostMismatch));
        check("http://u@a/x", &["a"], Err(TargetError::HostMismatch));
        check("https://a/x", &["a"], Err(TargetError::Form));
        check("admin", &["a"], Err(TargetError::Form));
    }

    #[test]
    fn connect_and_trace_are_refused() {
        for method in [Method::CONNECT, Method::TRACE] {
            let headers = HeaderMap::new();
            let refused = read_host(&method, &Uri::from_static("/"), &headers);
            assert_eq!(refused, Err(TargetError::Method));
        }
    }
}
