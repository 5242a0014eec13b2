//! A refusal as it is sent.

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, StatusCode};

/// An answer of ours, ready to be sent.
#[derive(Debug)]
pub struct RefusalAnswer {
    /// Its status.
    pub status: StatusCode,
    /// All but the framing.
    pub headers: HeaderMap,
    /// JSON.
    pub body: Bytes,
}

impl RefusalAnswer {
    /// The answer as it is written where hyper does not: to a head that it could not parse. Closes the connection.
    pub fn to_http1(&self) -> Bytes {
        let reason = self.status.canonical_reason().unwrap_or("Refused");
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status.as_u16()).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(
            format!("{CONNECTION}: close\r\ncontent-length: {}\r\n\r\n", self.body.len()).as_bytes(),
        );
        head.extend_from_slice(&self.body);
        head.into()
    }
}
