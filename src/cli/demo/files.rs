//! The demo's file service: a large file that honors conditions and ranges (RFC 9110 sections 13 and 14), and a slow stream.

use std::convert::Infallible;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};

use super::Body;

/// Size of the file, which is made while it is sent.
const FILE_BYTES: u64 = 256 * 1024 * 1024;
const FILE_TAG: &str = "\"demo-256m-1\"";
const CHUNK_BYTES: u64 = 64 * 1024;

const STREAM_LINES: u32 = 25;
const STREAM_INTERVAL: Duration = Duration::from_millis(200);

/// `/files/large.bin` and `/files/stream`.
pub fn files<B>(request: &Request<B>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return respond(StatusCode::METHOD_NOT_ALLOWED, &[], empty());
    }
    match request.uri().path() {
        "/files/large.bin" => large_file(request.headers()),
        "/files/stream" => respond(StatusCode::OK, &[(CONTENT_TYPE, "text/plain")], slow_stream()),
        _ => respond(StatusCode::NOT_FOUND, &[], empty()),
    }
}

/// Conditions in the order of RFC 9110 section 13.2.2, as far as a file that never changes needs them. The body is the same
/// for HEAD, where the server leaves it out.
fn large_file(headers: &HeaderMap) -> Response<Body> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_known = |list: &str| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == FILE_TAG)
    };
    if text(IF_NONE_MATCH).is_some_and(is_known) {
        return respond(StatusCode::NOT_MODIFIED, &[(ETAG, FILE_TAG)], empty());
    }
    let range = text(RANGE).filter(|_| text(IF_RANGE).is_none_or(|tag| tag == FILE_TAG));
    let (status, bytes) = match range.map_or(Requested::All, requested) {
        Requested::All => (StatusCode::OK, 0..FILE_BYTES),
        Requested::Part(bytes) => (StatusCode::PARTIAL_CONTENT, bytes),
        Requested::Unsatisfiable => {
            let content_range = format!("bytes */{FILE_BYTES}");
            return respond(StatusCode::RANGE_NOT_SATISFIABLE, &[(CONTENT_RANGE, &content_range)], empty());
        }
    };
    let length = (bytes.end - bytes.start).to_string();
    let content_range = format!("bytes {}-{}/{FILE_BYTES}", bytes.start, bytes.end - 1);
    let mut fields = vec![
        (CONTENT_TYPE, "application/octet-stream"),
        (ACCEPT_RANGES, "bytes"),
        (ETAG, FILE_TAG),
        (CONTENT_LENGTH, &length),
    ];
    if status == StatusCode::PARTIAL_CONTENT {
        fields.push((CONTENT_RANGE, &content_range));
    }
    respond(status, &fields, contents(bytes))
}

#[derive(Debug, PartialEq, Eq)]
enum Requested {
    All,
    Part(Range<u64>),
    Unsatisfiable,
}

/// One range of bytes; several, or another unit, are answered with the whole file, as RFC 9110 section 14.2 allows.
fn requested(range: &str) -> Requested {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Requested::All;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Requested::All,
        (Ok(first), _) if first >= FILE_BYTES && (last.is_empty() || last.parse::<u64>().is_ok()) => {
            Requested::Unsatisfiable
        }
        (Ok(first), Ok(last)) => Requested::Part(first..FILE_BYTES.min(last.saturating_add(1))),
        (Ok(first), Err(_)) if last.is_empty() => Requested::Part(first..FILE_BYTES),
        (Err(_), Ok(0)) if first.is_empty() => Requested::Unsatisfiable,
        (Err(_), Ok(suffix)) if first.is_empty() => Requested::Part(FILE_BYTES.saturating_sub(suffix)..FILE_BYTES),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Requested::All,
    }
}

/// The file's bytes in that range: the number of each 8-byte word, so that a piece in the wrong place is seen.
fn contents(bytes: Range<u64>) -> Body {
    let chunks = stream::unfold(bytes, |rest| async move {
        if rest.is_empty() {
            return None;
        }
        let end = rest.end.min(rest.start + CHUNK_BYTES);
        let chunk: Bytes = (rest.start..end).map(byte_at).collect();
        Some((Ok::<_, Infallible>(Frame::data(chunk)), end..rest.end))
    });
    StreamBody::new(chunks).boxed_unsync()
}

fn byte_at(offset: u64) -> u8 {
    (offset / 8).to_be_bytes()[usize::from(offset.to_be_bytes()[7] % 8)]
}

fn slow_stream() -> Body {
    let lines = stream::unfold(0, |sent| async move {
        if sent == STREAM_LINES {
            return None;
        }
        if sent > 0 {
            tokio::time::sleep(STREAM_INTERVAL).await;
        }
        let line = format!("measurement {} of {STREAM_LINES}\n", sent + 1);
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), sent + 1))
    });
    StreamBody::new(lines).boxed_unsync()
}

fn empty() -> Body {
    Empty::new().boxed_unsync()
}

fn respond(status: StatusCode, fields: &[(HeaderName, &str)], body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).expect("constants and numbers are header values");
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_file() {
        for (range, expected) in [
            ("bytes=0-9", Requested::Part(0..10)),
            ("bytes=10-", Requested::Part(10..FILE_BYTES)),
            ("bytes=-5", Requested::Part(FILE_BYTES - 5..FILE_BYTES)),
            ("bytes=-99999999999", Requested::Part(0..FILE_BYTES)),
            ("bytes=0-18446744073709551615", Requested::Part(0..FILE_BYTES)),
            ("bytes=268435456-", Requested::Unsatisfiable),
            ("bytes=268435456-268435460", Requested::Unsatisfiable),
            ("bytes=-0", Requested::Unsatisfiable),
            ("bytes=9-0", Requested::All),
            ("bytes=0-1,5-6", Requested::All),
            ("bytes=-", Requested::All),
            ("lines=1-2", Requested::All),
        ] {
            assert_eq!(requested(range), expected, "{range}");
        }
    }

    fn get(fields: &[(HeaderName, &str)]) -> Response<Body> {
        let mut request = Request::get("/files/large.bin").body(()).unwrap();
        for (name, value) in fields {
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        files(&request)
    }

    #[tokio::test]
    async fn two_ranges_are_the_pieces_of_one_file() {
        let piece = async |range: &str| {
            let response = get(&[(RANGE, range)]);
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
            response.into_body().collect().await.unwrap().to_bytes()
        };
        let whole = piece("bytes=65500-65599").await;
        let halves = [piece("bytes=65500-65549").await, piece("bytes=65550-65599").await].concat();
        assert_eq!(whole, halves);
        assert_eq!(piece("bytes=8-15").await.as_ref(), [0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn conditions_come_before_ranges() {
        assert_eq!(get(&[(IF_NONE_MATCH, FILE_TAG), (RANGE, "bytes=0-1")]).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get(&[(IF_RANGE, "\"old\""), (RANGE, "bytes=0-1")]).status(), StatusCode::OK);
        assert_eq!(get(&[(IF_RANGE, FILE_TAG), (RANGE, "bytes=0-1")]).headers()[CONTENT_RANGE], "bytes 0-1/268435456");
        assert_eq!(get(&[(RANGE, "bytes=268435456-")]).headers()[CONTENT_RANGE], "bytes */268435456");
        assert_eq!(get(&[]).headers()[CONTENT_LENGTH], "268435456");
    }

    #[tokio::test]
    async fn the_stream_comes_a_line_at_a_time() {
        let mut stream = slow_stream();
        for expected in ["measurement 1 of 25\n", "measurement 2 of 25\n"] {
            let frame = stream.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), expected);
        }
    }
}
