//! Addresses that keys may be fetched from: `https`, or `http` on this machine itself.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

/// An address that keys may be fetched from. Without TLS anybody on the way could put keys of their own in, so plain `http` is only
/// for `localhost`, 127.0.0.0/8 and `[::1]`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyUrl {
    is_https: bool,
    /// As `Host` and as TLS name it; an IPv6 address without its brackets.
    host: String,
    port: u16,
    /// `host:port` as it was written.
    authority: String,
    /// Path and query.
    target: String,
}

/// Why keys are not fetched from an address. To be said after the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyUrlError {
    /// No URL with a host.
    #[error("is not an address that starts with `https://`")]
    NotUrl,
    /// A name or a password in it, which the log would show.
    #[error("holds a user name or a password, which cannot be used here")]
    Credentials,
    /// A fragment, which is never sent.
    #[error("has a part behind `#`, which no server sees")]
    Fragment,
    /// `http` to another machine.
    #[error(
        "is not `https://`: on the way anybody could put other keys in; `http://` is for 127.0.0.1 and `localhost` only"
    )]
    Plain,
}

impl KeyUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// See [`KeyUrlError`].
    pub fn parse(text: &str) -> Result<Self, KeyUrlError> {
        if text.contains('#') {
            return Err(KeyUrlError::Fragment);
        }
        let uri: Uri = text.parse().map_err(|_| KeyUrlError::NotUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(KeyUrlError::NotUrl);
        };
        if authority.as_str().contains('@') {
            return Err(KeyUrlError::Credentials);
        }
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(KeyUrlError::NotUrl),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // A port that is none (`:x`, `:99999`) is not to become the default one.
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) if port != 0 => port,
            None if !has_port => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            Some(_) | None => return Err(KeyUrlError::NotUrl),
        };
        if host.is_empty() {
            return Err(KeyUrlError::NotUrl);
        }
        if !is_https && !is_this_machine(&host) {
            return Err(KeyUrlError::Plain);
        }
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { is_https, host, port, authority: authority.as_str().to_owned(), target })
    }

    /// Where an issuer has its discovery document (OpenID Connect Discovery 1.0 section 4.1).
    ///
    /// # Errors
    /// When the issuer is no address that keys may be fetched from.
    pub fn discovery(issuer: &str) -> Result<Self, KeyUrlError> {
        if issuer.contains('?') {
            return Err(KeyUrlError::NotUrl);
        }
        Self::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
    }

    /// Whether TLS protects it.
    pub const fn is_https(&self) -> bool {
        self.is_https
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Without the query, which may hold a key of its own.
impl fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

impl fmt::Debug for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_tls_or_from_this_machine() {
        for (text, port) in [
            ("https://sso.example.org/certs", 443),
            ("https://sso.example.org:8443/certs?a=b", 8443),
            ("HTTPS://sso.example.org", 443),
            ("http://127.0.0.1:99/keys", 99),
            ("http://127.8.8.8/keys", 80),
            ("http://localhost/keys", 80),
            ("http://[::1]:4000/keys", 4000),
            ("https://[2001:db8::1]/keys", 443),
        ] {
            assert_eq!(KeyUrl::parse(text).map(|url| url.port), Ok(port), "{text}");
        }
        for (text, error) in [
            ("", KeyUrlError::NotUrl),
            ("/certs", KeyUrlError::NotUrl),
            ("sso.example.org", KeyUrlError::NotUrl),
            ("ftp://sso.example.org/", KeyUrlError::NotUrl),
            ("file:///etc/passwd", KeyUrlError::NotUrl),
            ("https://:443/", KeyUrlError::NotUrl),
            ("https://sso.example.org:0/", KeyUrlError::NotUrl),
            ("https://sso.example.org:x/", KeyUrlError::NotUrl),
            ("https://sso.example.org:99999/", KeyUrlError::NotUrl),
            ("https://user:secret@sso.example.org/", KeyUrlError::Credentials),
            ("https://sso.example.org/#keys", KeyUrlError::Fragment),
            ("http://sso.example.org/certs", KeyUrlError::Plain),
            ("http://127.0.0.1.example.org/certs", KeyUrlError::Plain),
            ("http://localhost.example.org/certs", KeyUrlError::Plain),
            ("http://10.0.0.1/certs", KeyUrlError::Plain),
            ("http://0.0.0.0/certs", KeyUrlError::Plain),
            ("http://[::ffff:10.0.0.1]/certs", KeyUrlError::Plain),
        ] {
            assert_eq!(KeyUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_discovery_document_stands_below_the_issuer() {
        let found = |issuer| KeyUrl::discovery(issuer).map(|url| url.to_string());
        let expected = Ok("https://sso.example.org/realms/lab/.well-known/openid-configuration".to_owned());
        assert_eq!(found("https://sso.example.org/realms/lab"), expected);
        assert_eq!(found("https://sso.example.org/realms/lab/"), expected);
        assert_eq!(found("sso"), Err(KeyUrlError::NotUrl));
        assert_eq!(found("https://sso.example.org/?tenant=1"), Err(KeyUrlError::NotUrl));
    }

    #[test]
    fn a_query_is_sent_and_not_shown() {
        let url = KeyUrl::parse("https://sso.example.org/certs?key=s3cret").unwrap();
        assert_eq!(url.target(), "/certs?key=s3cret");
        assert_eq!(format!("{url} {url:?}"), "https://sso.example.org/certs KeyUrl(https://sso.example.org/certs)");
    }
}
