//! A public document in memory, with a validator, so that clients that fetch it per token cost little.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

use super::Answer;

/// How long a client may use its copy. Short enough that a new key is known everywhere before the old one is gone.
const CACHE_POLICY: &str = "public, max-age=300";

/// JSON that everybody may read, and its strong `ETag`.
#[derive(Debug, Clone)]
pub struct Document {
    body: Bytes,
    etag: HeaderValue,
}

impl Document {
    /// The document with this value. Equal values have equal tags on every gateway.
    pub fn new(value: &serde_json::Value) -> Self {
        let body = Bytes::from(value.to_string());
        let hash = digest(&SHA256, &body);
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
        Self { body, etag: HeaderValue::try_from(etag).expect("base64 in quotes is a header value") }
    }

    /// 200, or 304 if the request has `If-None-Match` with our tag (RFC 9110 section 13.1.2).
    pub fn answer(&self, request: &HeaderMap) -> Answer {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHE_POLICY));
        headers.insert(ETAG, self.etag.clone());
        if self.is_known(request) {
            return Answer { status: StatusCode::NOT_MODIFIED, headers, body: Bytes::new(), login: None };
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Answer { status: StatusCode::OK, headers, body: self.body.clone(), login: None }
    }

    /// The comparison is the weak one: caches that compress make our tag weak. Our tags have no comma in them, so the list can
    /// be split at commas; a foreign tag with one falls apart into pieces that are not ours.
    fn is_known(&self, request: &HeaderMap) -> bool {
        request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
            list.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(if_none_match: &[&str], expected: StatusCode) {
        let document = Document::new(&serde_json::json!({"keys": []}));
        let tag = document.etag.to_str().unwrap();
        let mut headers = HeaderMap::new();
        for value in if_none_match {
            headers.append(IF_NONE_MATCH, HeaderValue::try_from(value.replace("TAG", tag)).unwrap());
        }
        let answer = document.answer(&headers);
        assert_eq!(answer.status, expected, "{if_none_match:?}");
        assert_eq!(answer.headers[ETAG], tag);
        assert_eq!(answer.headers[CACHE_CONTROL], "public, max-age=300");
        assert_eq!(answer.body.is_empty(), expected == StatusCode::NOT_MODIFIED);
        assert_eq!(answer.headers.contains_key(CONTENT_TYPE), expected == StatusCode::OK);
    }

    #[test]
    fn a_known_tag_is_answered_304() {
        for list in ["TAG", "W/TAG", "\"other\", TAG", "*", "\"a,b\",W/TAG"] {
            check(&[list], StatusCode::NOT_MODIFIED);
        }
        check(&["\"other\"", "TAG"], StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn an_unknown_tag_is_answered_with_the_document() {
        check(&[], StatusCode::OK);
        for list in ["\"other\"", "", ",", "TAGx", "w/TAG", "W/ TAG"] {
            check(&[list], StatusCode::OK);
        }
    }

    #[test]
    fn another_value_has_another_tag() {
        let tag = |value| Document::new(&value).etag;
        assert_ne!(tag(serde_json::json!({"keys": []})), tag(serde_json::json!({"keys": [1]})));
        assert_eq!(tag(serde_json::json!({"keys": []})), tag(serde_json::json!({"keys": []})));
    }
}
