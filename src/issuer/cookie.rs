//! The refresh cookie: what it is called, and how it is set and deleted (RFC 6265bis section 4.1).
//!
//! Of the two ways to keep a cookie from being planted or read by others, the prefix `__Host-` and a narrow `Path`, this one takes
//! the prefix: no other host of the domain and no page of plain `http` can set such a cookie, and the endpoints may lie
//! anywhere, also where `login.aliases` puts them. Its price is `Path=/`: the browser sends it to every route, and the gateway
//! takes it out of all that it forwards.

use std::fmt::Write as _;
use std::time::Duration;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// `login.cookie`, checked: combinations that a browser would refuse do not get here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieSettings {
    /// The name without its prefix. Default `tollgate_refresh`.
    pub name: String,
    /// Default [`SameSite::Strict`].
    pub same_site: SameSite,
    /// Whether browsers send it by `https` only. False in the development profile.
    pub is_secure: bool,
    /// The domain whose hosts all get it. `None` (default): only the host that set it.
    pub domain: Option<String>,
}

/// With which requests from other sites the browser sends the cookie (RFC 6265bis section 5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// With none.
    Strict,
    /// With links that are followed.
    Lax,
    /// With all.
    None,
}

/// Writes the cookie.
#[derive(Debug)]
pub(super) struct RefreshCookie {
    name: Box<str>,
    /// All attributes but `Max-Age`, the same at each writing: a browser deletes a cookie only if name, path and domain agree.
    attributes: String,
}

impl CookieSettings {
    /// The name that browsers know: `__Host-` before it where it is for this host only and secure, `__Secure-` where it is for a
    /// domain, nothing in the development profile, where a browser would refuse both.
    pub fn wire_name(&self) -> String {
        let prefix = match (self.is_secure, &self.domain) {
            (true, None) => "__Host-",
            (true, Some(_)) => "__Secure-",
            (false, _) => "",
        };
        format!("{prefix}{}", self.name)
    }
}

impl RefreshCookie {
    pub(super) fn new(settings: &CookieSettings) -> Self {
        let mut attributes = "; Path=/".to_owned();
        if let Some(domain) = &settings.domain {
            // Writing to a String cannot fail.
            let _ = write!(attributes, "; Domain={domain}");
        }
        if settings.is_secure {
            attributes.push_str("; Secure");
        }
        attributes.push_str("; HttpOnly; SameSite=");
        attributes.push_str(match settings.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        });
        Self { name: settings.wire_name().into(), attributes }
    }

    /// As browsers know it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `Set-Cookie` with this token, to be forgotten after `life`. Marked as sensitive, so that no `Debug` shows it.
    pub(super) fn set(&self, token: &SecretString, life: Duration) -> HeaderValue {
        self.header(token.expose_secret(), life.as_secs())
    }

    /// `Set-Cookie` that makes a browser forget it.
    pub(super) fn delete(&self) -> HeaderValue {
        self.header("", 0)
    }

    fn header(&self, value: &str, max_age: u64) -> HeaderValue {
        let text = format!("{}={value}{}; Max-Age={max_age}", self.name, self.attributes);
        let mut header = HeaderValue::try_from(text).expect("name, base64 and attributes are visible ASCII");
        header.set_sensitive(true);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(is_secure: bool, domain: Option<&str>) -> CookieSettings {
        CookieSettings {
            name: "tollgate_refresh".into(),
            same_site: SameSite::Strict,
            is_secure,
            domain: domain.map(str::to_owned),
        }
    }

    #[track_caller]
    fn check(settings: &CookieSettings, set: &str, deleted: &str) {
        let cookie = RefreshCookie::new(settings);
        assert_eq!(cookie.set(&"abc".into(), Duration::from_secs(3600)), set);
        assert_eq!(cookie.delete(), deleted);
    }

    #[test]
    fn a_cookie_of_one_host_has_the_prefix_and_what_it_demands() {
        check(
            &settings(true, None),
            "__Host-tollgate_refresh=abc; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=3600",
            "__Host-tollgate_refresh=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0",
        );
    }

    #[test]
    fn a_cookie_of_a_domain_has_the_lesser_prefix() {
        check(
            &CookieSettings { same_site: SameSite::None, ..settings(true, Some("example.org")) },
            "__Secure-tollgate_refresh=abc; Path=/; Domain=example.org; Secure; HttpOnly; SameSite=None; Max-Age=3600",
            "__Secure-tollgate_refresh=; Path=/; Domain=example.org; Secure; HttpOnly; SameSite=None; Max-Age=0",
        );
    }

    #[test]
    fn in_the_development_profile_prefix_and_secure_go_together() {
        check(
            &CookieSettings { same_site: SameSite::Lax, ..settings(false, None) },
            "tollgate_refresh=abc; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600",
            "tollgate_refresh=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0",
        );
    }

    #[test]
    fn a_cookie_does_not_show_in_debug_output() {
        let set = RefreshCookie::new(&settings(true, None)).set(&"abc".into(), Duration::ZERO);
        assert!(!format!("{set:?}").contains("abc"));
    }
}
