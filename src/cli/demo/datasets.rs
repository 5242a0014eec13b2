//! The demo's JSON service: a few datasets, and who asked for them.

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};

use super::Body;

/// id, title, number of measurements.
const DATASETS: [(&str, &str, u32); 3] = [
    ("co2", "Carbon dioxide at Mauna Loa", 813),
    ("sst", "Sea surface temperature", 52_704),
    ("ice", "Arctic ice extent", 16_071),
];

/// `/`, `/datasets` and `/datasets/{id}`, the last with the headers that tell who the caller is.
pub fn datasets<B>(request: &Request<B>) -> Response<Body> {
    let (status, value) = match request.uri().path() {
        "/" => (StatusCode::OK, json!({"service": "datasets", "try": "/datasets/co2"})),
        "/datasets" | "/datasets/" => {
            (StatusCode::OK, DATASETS.map(|(id, title, _)| json!({"id": id, "title": title})).into())
        }
        path => match path.strip_prefix("/datasets/").and_then(|id| DATASETS.iter().find(|dataset| dataset.0 == id)) {
            Some((id, title, measurements)) => {
                let value = json!({
                    "id": id, "title": title, "measurements": measurements, "headers_seen": headers_seen(request),
                });
                (StatusCode::OK, value)
            }
            None => (StatusCode::NOT_FOUND, json!({"detail": "There is no such dataset."})),
        },
    };
    let mut response = Response::new(Full::from(format!("{value}\n")).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// What the gateway says about the caller and the way here, and whether a token came through.
fn headers_seen<B>(request: &Request<B>) -> Value {
    let mut seen = Map::new();
    for (name, value) in request.headers() {
        let name = name.as_str();
        if name == "authorization" {
            seen.insert(name.into(), "(there is one)".into());
        } else if name.starts_with("x-") || matches!(name, "forwarded" | "via" | "traceparent") {
            seen.insert(name.into(), String::from_utf8_lossy(value.as_bytes()).into());
        }
    }
    seen.into()
}
