//! What the pages of other sites may send and see: the CORS protocol (<https://fetch.spec.whatwg.org/#http-cors-protocol>), for
//! every answer that leaves the gateway.
//!
//! A site is either allowed, by its exact origin and with its visitors' cookies, or nothing is said to it; there is no `*`. With
//! no site allowed the gateway takes no part in the protocol: upstreams may speak it themselves, and their words pass untouched.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::request::web_origin::{AllowedOrigins, WebOrigin};

/// What `[login]` says of other sites.
#[derive(Debug, Clone, Default)]
pub struct CorsSettings {
    /// The sites whose pages may act for their visitors. Empty: none; see the module.
    pub allowed_origins: AllowedOrigins,
    /// Response headers that scripts of those sites can read, besides the seven that they always can.
    pub exposed_headers: Vec<HeaderName>,
}

/// The CORS protocol with these settings.
#[derive(Debug)]
pub struct Cors {
    allowed: AllowedOrigins,
    /// `Access-Control-Expose-Headers`.
    exposed: Option<HeaderValue>,
}

/// With whom an answer may be shared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sharing<'a> {
    /// The gateway takes no part.
    Unsaid,
    /// With no other site; but an answer that a cache keeps must not be shown to one that may see it with more headers.
    Nobody,
    /// With this site.
    With(&'a WebOrigin),
}

impl Cors {
    /// The protocol for these sites.
    pub fn new(settings: &CorsSettings) -> Self {
        let exposed = settings.exposed_headers.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
        let exposed = HeaderValue::from_str(&exposed).ok().filter(|exposed| !exposed.is_empty());
        Self { allowed: settings.allowed_origins.clone(), exposed }
    }

    /// The sites that are allowed.
    pub const fn allowed(&self) -> &AllowedOrigins {
        &self.allowed
    }

    /// Whether the gateway answers this request as a preflight.
    pub fn is_preflight(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.preflight(self.sharing(headers), method, headers).is_some()
    }

    /// With whom the answer to a request with these headers may be shared. Looks for one header, and not even that when no site
    /// is allowed.
    pub(super) fn sharing(&self, headers: &HeaderMap) -> Sharing<'_> {
        if self.allowed.is_empty() {
            return Sharing::Unsaid;
        }
        self.allowed.of(headers).map_or(Sharing::Nobody, Sharing::With)
    }

    /// As [`Self::sharing`], of a head that is not whole or could not be parsed: as far as its lines have come.
    pub(super) fn sharing_unread(&self, head: &[u8]) -> Sharing<'_> {
        if self.allowed.is_empty() {
            return Sharing::Unsaid;
        }
        origin_line(head).and_then(|origin| self.allowed.find(origin)).map_or(Sharing::Nobody, Sharing::With)
    }

    /// Lets the browser show an answer to the site that asked, and to no other, and caches know that it depends on who asked. What
    /// an upstream said of the same goes, as two values count as none; the headers that it exposes are exposed besides ours.
    /// What it says to preflights means nothing here: no preflight of an allowed site gets there.
    pub(super) fn mark(&self, sharing: Sharing<'_>, headers: &mut HeaderMap) {
        let site = match sharing {
            Sharing::Unsaid => return,
            Sharing::Nobody => None,
            Sharing::With(site) => Some(site),
        };
        if let Some(site) = site {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, site.header().clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            if let Some(exposed) = &self.exposed {
                headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
            }
        } else {
            // The list is the gateway's: no upstream adds to it, least of all `*`.
            headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
            headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        }
        if !headers.get_all(VARY).iter().any(names_origin) {
            headers.append(VARY, HeaderValue::from_name(ORIGIN));
        }
    }

    /// The answer to a preflight of an allowed site: yes, to whatever the request that follows is going to be. That request is
    /// then judged as any other. `None`: it is no preflight, or not of an allowed site. [`Self::mark`] does the rest.
    pub(super) fn preflight(
        &self,
        sharing: Sharing<'_>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Response<Bytes>> {
        let Sharing::With(_) = sharing else { return None };
        if method != Method::OPTIONS {
            return None;
        }
        let asked_method = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        // What is no method or no list of headers was not asked by a browser, and is not said back.
        if asked_method.len() <= MAX_METHOD_BYTES && is_token(asked_method.as_bytes()) {
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, asked_method.clone());
        }
        let lists: Vec<&HeaderValue> = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().collect();
        if lists.iter().map(|list| list.len()).sum::<usize>() <= MAX_HEADER_LIST_BYTES
            && lists.iter().all(|list| is_list_of_tokens(list))
        {
            for list in lists {
                answer.append(ACCESS_CONTROL_ALLOW_HEADERS, list.clone());
            }
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(PREFLIGHT_MAX_AGE_SECONDS));
        for name in [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_REQUEST_HEADERS] {
            answer.append(VARY, HeaderValue::from_name(name));
        }
        Some(response)
    }
}

/// The value of the only line `Origin` of a head, among the lines that have come to their end.
fn origin_line(head: &[u8]) -> Option<&[u8]> {
    let mut found = None;
    let mut lines = head.split(|byte| *byte == b'\n');
    // What follows the last line feed is not a line yet: it may have been cut in the middle of a name.
    lines.next_back();
    for line in lines.skip(1) {
        if line.trim_ascii().is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if line[..colon].eq_ignore_ascii_case(b"origin") && found.replace(line[colon + 1..].trim_ascii()).is_some() {
            return None;
        }
    }
    found
}

/// Whether a `Vary` says that the answer depends on `Origin`, or on anything.
fn names_origin(vary: &HeaderValue) -> bool {
    let mut names = vary.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
}

fn is_list_of_tokens(list: &HeaderValue) -> bool {
    list.is_empty() || list.as_bytes().split(|byte| *byte == b',').all(|name| is_token(name.trim_ascii()))
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_allowed)
}

/// What stands for a route's name where the gateway answered a preflight.
pub const PREFLIGHT: &str = "tollgate:preflight";

/// How long a browser may remember a preflight. Chromium takes at most two hours of it, Firefox a day.
const PREFLIGHT_MAX_AGE_SECONDS: u32 = 600;

/// Longest method that a preflight may ask for. `BASELINE-CONTROL`, the longest registered one in use, has 16.
const MAX_METHOD_BYTES: usize = 32;

/// Longest list of headers that a preflight may ask for.
const MAX_HEADER_LIST_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example.org";

    fn cors() -> Cors {
        let allowed_origins = AllowedOrigins::new(vec![APP.parse().unwrap()]);
        Cors::new(&CorsSettings { allowed_origins, exposed_headers: vec![HeaderName::from_static("x-total-count")] })
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// All values of a header, in their order.
    fn all(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[track_caller]
    fn marked(origin: &str, upstream: &[(&'static str, &str)]) -> HeaderMap {
        let cors = cors();
        let mut answer = headers(upstream);
        cors.mark(cors.sharing(&headers(&[("origin", origin)])), &mut answer);
        answer
    }

    #[test]
    fn an_allowed_site_is_named_once_whatever_the_upstream_said() {
        let answer = marked(
            APP,
            &[
                ("access-control-allow-origin", "*"),
                ("access-control-allow-origin", "https://other.example"),
                ("access-control-allow-credentials", "false"),
                ("access-control-expose-headers", "x-own"),
                ("vary", "accept-encoding"),
            ],
        );
        assert_eq!(all(&answer, ACCESS_CONTROL_ALLOW_ORIGIN), [APP]);
        assert_eq!(all(&answer, ACCESS_CONTROL_ALLOW_CREDENTIALS), ["true"]);
        assert_eq!(all(&answer, ACCESS_CONTROL_EXPOSE_HEADERS), ["x-own", "x-total-count"]);
        assert_eq!(all(&answer, VARY), ["accept-encoding", "origin"]);
        assert_eq!(answer.len(), 6);
    }

    #[test]
    fn another_site_is_told_nothing_whatever_the_upstream_said() {
        let said = [("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true"), ("x-own", "1")];
        let answer = marked("https://evil.example", &said);
        assert_eq!(all(&answer, VARY), ["origin"]);
        assert_eq!((answer.len(), all(&answer, HeaderName::from_static("x-own"))), (2, vec!["1"]));
        assert_eq!(marked("null", &[]).len(), 1);
    }

    #[test]
    fn vary_names_the_origin_once() {
        for vary in ["Origin", "accept, ORIGIN", "*"] {
            assert_eq!(all(&marked(APP, &[("vary", vary)]), VARY), [vary]);
        }
        assert_eq!(all(&marked(APP, &[("vary", "x-origin")]), VARY), ["x-origin", "origin"]);
    }

    #[test]
    fn without_allowed_sites_nothing_is_touched() {
        let cors = Cors::new(&CorsSettings::default());
        let mut answer = headers(&[("access-control-allow-origin", "*")]);
        let request = headers(&[("origin", APP), ("access-control-request-method", "GET")]);
        assert!(cors.preflight(cors.sharing(&request), &Method::OPTIONS, &request).is_none());
        cors.mark(cors.sharing(&request), &mut answer);
        assert_eq!(answer, headers(&[("access-control-allow-origin", "*")]));
    }

    /// What a preflight is told: methods and headers. `None`: it is none.
    fn preflight(method: &Method, lines: &[(&'static str, &str)]) -> Option<(Vec<String>, Vec<String>)> {
        let (cors, request) = (cors(), headers(lines));
        let answer = cors.preflight(cors.sharing(&request), method, &request)?;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let all = |name| all(answer.headers(), name).into_iter().map(str::to_owned).collect();
        Some((all(ACCESS_CONTROL_ALLOW_METHODS), all(ACCESS_CONTROL_ALLOW_HEADERS)))
    }

    #[test]
    fn a_preflight_is_told_what_it_asked_for() {
        let (origin, method) = (("origin", APP), ("access-control-request-method", "PATCH"));
        let asked = ("access-control-request-headers", "authorization,content-type");
        let (methods, allowed) = preflight(&Method::OPTIONS, &[origin, method, asked]).unwrap();
        assert_eq!((methods, allowed), (vec!["PATCH".to_owned()], vec!["authorization,content-type".to_owned()]));
        let (methods, allowed) = preflight(&Method::OPTIONS, &[origin, method]).unwrap();
        assert_eq!((methods, allowed), (vec!["PATCH".to_owned()], vec![]));
    }

    #[test]
    fn only_an_allowed_sites_options_with_a_method_is_a_preflight() {
        let (origin, method) = (("origin", APP), ("access-control-request-method", "GET"));
        assert!(preflight(&Method::OPTIONS, &[origin]).is_none());
        assert!(preflight(&Method::OPTIONS, &[method]).is_none());
        assert!(preflight(&Method::OPTIONS, &[("origin", "null"), method]).is_none());
        assert!(preflight(&Method::OPTIONS, &[("origin", "https://evil.example"), method]).is_none());
        assert!(preflight(&Method::OPTIONS, &[origin, origin, method]).is_none());
        assert!(preflight(&Method::GET, &[origin, method]).is_none());
    }

    #[test]
    fn what_no_browser_asks_is_not_said_back() {
        let origin = ("origin", APP);
        let method = ("access-control-request-method", "GET");
        for bad in ["a b", "a;b", "a,,b", &"a".repeat(MAX_HEADER_LIST_BYTES + 1)] {
            let answer = preflight(&Method::OPTIONS, &[origin, method, ("access-control-request-headers", bad)]);
            assert_eq!(answer, Some((vec!["GET".to_owned()], vec![])), "{bad}");
        }
        for bad in ["GET POST", "GET,POST", "", &"a".repeat(MAX_METHOD_BYTES + 1)] {
            assert_eq!(
                preflight(&Method::OPTIONS, &[origin, ("access-control-request-method", bad)]),
                Some((vec![], vec![]))
            );
        }
    }

    #[track_caller]
    fn check_unread(head: &str, expected: bool) {
        assert_eq!(matches!(cors().sharing_unread(head.as_bytes()), Sharing::With(_)), expected, "{head:?}");
    }

    #[test]
    fn the_origin_of_a_head_that_is_not_whole_counts_once_its_line_is() {
        check_unread(&format!("GET / HTTP/1.1\r\nHost: a\r\noRIGIN:  {APP} \r\nCookie: aaaa"), true);
        check_unread(&format!("GET / HTTP/1.1\nOrigin:{APP}\n"), true);
        check_unread(&format!("GET / HTTP/1.1\r\nOrigin: {APP}"), false);
        check_unread(&format!("Origin: {APP}\r\n"), false);
        check_unread(&format!("GET / HTTP/1.1\r\nOrigin: {APP}.evil.example\r\n"), false);
        check_unread(&format!("GET / HTTP/1.1\r\nX-Origin: {APP}\r\n"), false);
        check_unread(&format!("GET / HTTP/1.1\r\nOrigin: {APP}\r\nOrigin: {APP}\r\n"), false);
        check_unread(&format!("POST / HTTP/1.1\r\nHost: a\r\n\r\nOrigin: {APP}\r\n"), false);
        check_unread("", false);
    }
}
