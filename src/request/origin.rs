//! Whether another site made a browser send a request: the decision about endpoints that act on a cookie.
//!
//! A browser adds its cookies also to what a foreign page asks for, so such a request must show that it is none of these. What
//! shows it are headers that a page cannot set: `Origin` (RFC 6454), `Sec-Fetch-Site` (W3C Fetch Metadata), and a JSON
//! `Content-Type`, which a page of another origin can send only after a preflight that we did not allow. From top to bottom,
//! the first row counts:
//!
//! | `Origin` | `Sec-Fetch-Site` | JSON | our cookie | |
//! |---|---|---|---|---|
//! | two values in either header | | | | refused |
//! | any | `same-origin` | any | any | taken |
//! | one of `login.allowed_origins` | any | any | any | taken |
//! | any other, or `null` | `cross-site` | any | any | refused |
//! | ours | any other, or none | any | any | taken |
//! | another, or `null` | any other, or none | any | any | refused |
//! | none | `same-site` | any | any | taken |
//! | none | `cross-site` | any | any | refused |
//! | none | `none`, or none at all | yes | any | taken |
//! | none | none at all | no | no | taken |
//! | none | all that is left | no | any | refused |
//!
//! The last but one is curl and scripts: without a cookie there is nothing that a foreign page could misuse, and every browser
//! sends `Origin` with a POST. "Ours" has the host and port of `Host`, and is not `http` where clients reach us by `https`:
//! then a page of `http` is not ours, but whatever someone on the way wanted it to be. A browser calls it another site, too.

use http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue};

use super::web_origin::AllowedOrigins;

/// The request may come from a foreign page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignPage {
    /// `Origin` or `Sec-Fetch-Site` stands twice.
    #[error("the request has more than one `Origin` or `Sec-Fetch-Site`")]
    Repeated,
    /// `Origin` is neither ours nor allowed.
    #[error("the `Origin` is not ours and not one of `login.allowed_origins`")]
    Origin,
    /// `Sec-Fetch-Site` says that another site made the browser ask.
    #[error("`Sec-Fetch-Site` says that the request was made by another site")]
    Site,
    /// It brings our cookie, and nothing says whose page it is of.
    #[error("the request has the refresh cookie, but neither `Origin`, `Sec-Fetch-Site` nor a JSON `Content-Type`")]
    Unknown,
}

/// Our own address, as far as it says which pages are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnScheme {
    /// Clients reach us by `https`.
    Https,
    /// By `http`, or nobody knows.
    Http,
}

impl OwnScheme {
    /// That of our own address, `tokens.issuer`; by a name that is no URL nobody knows.
    pub fn of(issuer: &str) -> Self {
        if issuer.starts_with("https://") { Self::Https } else { Self::Http }
    }
}

/// Decides by the table above.
///
/// # Errors
/// See [`ForeignPage`].
pub fn check_page(
    headers: &HeaderMap,
    has_cookie: bool,
    own_scheme: OwnScheme,
    allowed: &AllowedOrigins,
) -> Result<(), ForeignPage> {
    let origin = single(headers, &ORIGIN)?;
    let site = single(headers, &SEC_FETCH_SITE)?.map(HeaderValue::as_bytes);
    if site == Some(b"same-origin") {
        return Ok(());
    }
    if let Some(origin) = origin {
        if allowed.find(origin.as_bytes()).is_some() {
            return Ok(());
        }
        let origin = origin.to_str().map_err(|_| ForeignPage::Origin)?;
        return match site {
            // The browser knows better than we do which address the page saw.
            Some(b"cross-site") => Err(ForeignPage::Site),
            Some(_) | None if is_own(origin, headers, own_scheme) => Ok(()),
            Some(_) | None => Err(ForeignPage::Origin),
        };
    }
    match site {
        Some(b"same-site") => Ok(()),
        Some(b"cross-site") => Err(ForeignPage::Site),
        None if !has_cookie => Ok(()),
        Some(b"none") | None if is_json(headers) => Ok(()),
        Some(_) => Err(ForeignPage::Site),
        None => Err(ForeignPage::Unknown),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ForeignPage> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(ForeignPage::Repeated),
        (value, None) => Ok(value),
    }
}

/// Whether the origin is that of the address which the request was sent to.
fn is_own(origin: &str, headers: &HeaderMap, own_scheme: OwnScheme) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let same_host = |authority: &str, default_port: &str| {
        let plain = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
        !authority.is_empty() && plain(authority) == plain(host)
    };
    match origin.split_once("://") {
        Some(("https", authority)) => same_host(authority, ":443"),
        Some(("http", authority)) => own_scheme == OwnScheme::Http && same_host(authority, ":80"),
        Some(_) | None => false,
    }
}

/// `application/json`, whatever its parameters: not one of the types that a page can send without a preflight (Fetch section
/// 2.2.2). The header stands once, because `RequestHead::read` refuses two.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return false };
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// W3C Fetch Metadata Request Headers, section 2.4.
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &str = "https://app.example.org";

    fn allowed() -> AllowedOrigins {
        AllowedOrigins::new(vec![ALLOWED.parse().unwrap()])
    }

    #[track_caller]
    fn check(sent: &[(HeaderName, &'static str)], has_cookie: bool, expected: Result<(), ForeignPage>) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("gate.example.org"));
        for (name, value) in sent {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        let decided = check_page(&headers, has_cookie, OwnScheme::Https, &allowed());
        assert_eq!(decided, expected, "{sent:?}, cookie: {has_cookie}");
    }

    /// With the cookie and without.
    #[track_caller]
    fn check_both(sent: &[(HeaderName, &'static str)], expected: Result<(), ForeignPage>) {
        check(sent, true, expected);
        check(sent, false, expected);
    }

    #[test]
    fn our_own_pages_and_the_allowed_ones_pass() {
        check_both(&[(SEC_FETCH_SITE, "same-origin")], Ok(()));
        check_both(&[(SEC_FETCH_SITE, "same-origin"), (ORIGIN, "null")], Ok(()));
        check_both(&[(SEC_FETCH_SITE, "same-site")], Ok(()));
        check_both(&[(ORIGIN, "https://gate.example.org")], Ok(()));
        check_both(&[(ORIGIN, "https://gate.example.org:443")], Ok(()));
        check_both(&[(ORIGIN, ALLOWED), (SEC_FETCH_SITE, "cross-site")], Ok(()));
        check_both(&[(CONTENT_TYPE, "Application/JSON; charset=utf-8")], Ok(()));
    }

    #[test]
    fn pages_of_others_do_not() {
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://gate.example.org",
            "https://gate.example.org.evil.example",
            "https://gate.example.org:8443",
            "https://gate.example.org/",
            "https://app.example.org:8443",
            "https://APP.example.org.",
            "gate.example.org",
            "https://",
        ] {
            let foreign = Err(ForeignPage::Origin);
            check_both(&[(ORIGIN, origin)], foreign);
            check_both(&[(ORIGIN, origin), (SEC_FETCH_SITE, "cross-site")], Err(ForeignPage::Site));
            check_both(&[(ORIGIN, origin), (SEC_FETCH_SITE, "same-site")], foreign);
            check_both(&[(ORIGIN, origin), (CONTENT_TYPE, "application/json")], foreign);
        }
        check_both(&[(SEC_FETCH_SITE, "cross-site")], Err(ForeignPage::Site));
        check_both(&[(SEC_FETCH_SITE, "cross-site"), (CONTENT_TYPE, "application/json")], Err(ForeignPage::Site));
        check_both(&[(SEC_FETCH_SITE, "none")], Err(ForeignPage::Site));
        check_both(&[(SEC_FETCH_SITE, "something new")], Err(ForeignPage::Site));
        check_both(&[(SEC_FETCH_SITE, "Same-Origin")], Err(ForeignPage::Site));
    }

    #[test]
    fn a_request_that_says_nothing_passes_only_without_the_cookie() {
        check(&[], false, Ok(()));
        check(&[], true, Err(ForeignPage::Unknown));
        for simple in
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; x=application/json"]
        {
            check(&[(CONTENT_TYPE, simple)], false, Ok(()));
            check(&[(CONTENT_TYPE, simple)], true, Err(ForeignPage::Unknown));
        }
    }

    #[test]
    fn what_stands_twice_is_not_chosen_from() {
        let repeated = Err(ForeignPage::Repeated);
        check_both(&[(ORIGIN, ALLOWED), (ORIGIN, "https://evil.example")], repeated);
        check_both(&[(SEC_FETCH_SITE, "same-origin"), (SEC_FETCH_SITE, "cross-site")], repeated);
    }

    /// Behind a proxy for TLS that keeps `Host`, and with `tokens.issuer` a mere name, `http://gate…` looks like ours.
    #[test]
    fn what_the_browser_calls_another_site_is_one_even_if_it_looks_like_ours() {
        let own = (ORIGIN, "https://gate.example.org");
        check_both(&[own.clone(), (SEC_FETCH_SITE, "cross-site")], Err(ForeignPage::Site));
        check_both(&[own.clone(), (SEC_FETCH_SITE, "same-site")], Ok(()));
        check_both(&[own, (SEC_FETCH_SITE, "none")], Ok(()));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("gate.example.org"));
        headers.insert(ORIGIN, HeaderValue::from_static("http://gate.example.org"));
        headers.insert(SEC_FETCH_SITE, HeaderValue::from_static("cross-site"));
        assert_eq!(check_page(&headers, true, OwnScheme::Http, &allowed()), Err(ForeignPage::Site));
    }

    #[test]
    fn plain_http_is_ours_only_where_our_address_is() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8080"));
        headers.insert(ORIGIN, HeaderValue::from_static("http://127.0.0.1:8080"));
        let none = AllowedOrigins::default();
        assert_eq!(check_page(&headers, true, OwnScheme::Http, &none), Ok(()));
        assert_eq!(check_page(&headers, true, OwnScheme::Https, &none), Err(ForeignPage::Origin));
    }
}
