//! The access record: one struct and one line a request, and what the metrics learn of it.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Uri};
use tokio::time::Instant;

use crate::body::BodyWatch;
use crate::issuer::Spoken;
use crate::metrics::{Finished, RouteIndex};
use crate::request::{Connection, RequestId};
use crate::route::{Route, Routes};
use crate::time::{Moment, UnixSeconds};
use crate::token::Identity;
use crate::upstream::Exchange;

use super::Gateway;
use super::code::Code;

/// What is known of a request so far. Dropped when its response has left or its client has gone, it becomes one access line.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) gateway: Rc<Gateway>,
    pub(super) connection: Rc<Connection>,
    pub(super) start: Instant,
    pub(super) time: Moment,
    pub(super) request_id: RequestId,
    pub(super) client: IpAddr,
    /// Method and target; `None` when the head could not be read.
    pub(super) asked: Option<(Method, Uri)>,
    pub(super) route: RouteIndex,
    /// The endpoint's name when `route` is the issuer's.
    pub(super) endpoint: Option<&'static str>,
    /// In whose words it is answered, when it was found by an alias.
    pub(super) spoken: Option<Spoken>,
    /// `Set-Cookie` of a refusal.
    pub(super) set_cookie: Option<HeaderValue>,
    /// `None`: the client left before there was one.
    pub(super) status: Option<StatusCode>,
    pub(super) refusal: Option<Code>,
    pub(super) caller: Option<Arc<Identity>>,
    pub(super) cache: CacheUse,
    pub(super) exchange: Exchange,
    /// `None`: the request has a body, and nobody has begun to read it.
    pub(super) watch: Option<BodyWatch>,
    pub(super) bytes_out: u64,
    /// The response broke off.
    pub(super) is_cut: bool,
}

/// How the caller's token was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheUse {
    /// No token was looked at.
    None,
    /// It had been verified before.
    Hit,
    /// It was verified, or refused, now.
    Miss,
}

/// The last second's RFC 3339 text, because every line of a second begins alike.
#[derive(Debug)]
pub(super) struct SecondText(RefCell<(UnixSeconds, String)>);

impl SecondText {
    pub(super) const fn new() -> Self {
        Self(RefCell::new((UnixSeconds(0), String::new())))
    }

    /// Calls `write` with the second of `time` without its final `Z`.
    fn with<T>(&self, time: Moment, write: impl FnOnce(&str) -> T) -> T {
        let mut memo = self.0.borrow_mut();
        if memo.0 != time.seconds() || memo.1.is_empty() {
            let text = time.seconds().to_string();
            *memo = (time.seconds(), text.trim_end_matches('Z').to_owned());
        }
        write(&memo.1)
    }
}

/// The fields of access lines that the configuration fixes, as they stand in a line.
#[derive(Debug)]
pub struct LogNames {
    /// `route.name` of each route.
    routes: Vec<Vec<u8>>,
    /// `upstream.name` and `upstream.server` of each upstream's servers.
    servers: Vec<Vec<Vec<u8>>>,
}

impl LogNames {
    /// Of all `routes`, and of the upstreams by name with their servers.
    pub fn new(routes: &Routes, upstreams: &[(Arc<str>, Vec<String>)]) -> Self {
        let fields = |pairs: &[(&str, &str)]| {
            let mut text = Vec::new();
            pairs.iter().for_each(|(key, value)| Line(&mut text).text(key, value));
            text
        };
        let route = |route: &Route| fields(&[(ROUTE_NAME, &route.name)]);
        let server =
            |name: &str, server: &str| fields(&[(",\"upstream.name\":", name), (",\"upstream.server\":", server)]);
        Self {
            routes: routes.all().iter().map(route).collect(),
            servers: upstreams
                .iter()
                .map(|(name, servers)| servers.iter().map(|address| server(name, address)).collect())
                .collect(),
        }
    }
}

impl Record {
    fn bytes_in(&self) -> u64 {
        self.watch.as_ref().map_or(0, BodyWatch::bytes)
    }

    /// Whether nothing of the request's body is left: it was read to its end, or there is none.
    pub(super) fn has_read_body(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.ended(self.start).is_some())
    }

    /// Writes the line. Fields that do not apply are left out; the path is cut and carries no query, where tokens hide.
    fn write(&self, line: &mut Line<'_>, status: StatusCode, duration: Duration) {
        line.raw("{\"time\":\"");
        self.gateway.second_text.with(self.time, |second| line.raw(second));
        line.raw(".");
        line.three_digits(self.time.millisecond());
        line.raw("Z\"");
        line.raw(",\"request.id\":\"");
        line.raw(self.request_id.as_str());
        line.raw("\",\"client.addr\":\"");
        if self.client == self.connection.peer.ip() {
            line.raw(self.connection.peer_text().to_str().unwrap_or_default());
        } else {
            line.raw(&self.client.to_string());
        }
        line.raw("\"");
        if let Some((method, uri)) = &self.asked {
            // A method is a token (RFC 9110 section 5.6.2): it has neither quotes nor backslashes.
            line.raw(",\"method\":\"");
            line.raw(method.as_str());
            line.raw("\"");
            line.text(",\"path\":", cut(uri.path()));
        }
        let names = &self.gateway.shared.log_names;
        match self.route {
            RouteIndex::Route(index) => line.fields(names.routes.get(index)),
            RouteIndex::Issuer => self.endpoint.into_iter().for_each(|endpoint| line.text(ROUTE_NAME, endpoint)),
            RouteIndex::None => {}
        }
        if let Some(spoken) = self.spoken {
            line.text(",\"login.profile\":", spoken.dialect.name());
        }
        line.number(",\"status\":", status.as_u16().into());
        if let Some(code) = self.refusal {
            line.text(",\"refusal.code\":", code.name());
        }
        if let Some(identity) = &self.caller {
            line.text(",\"subject\":", cut(identity.subject()));
        }
        if let Some((upstream, server)) = self.exchange.server {
            line.fields(names.servers.get(upstream).and_then(|servers| servers.get(server)));
        }
        if let Some(status) = self.exchange.status {
            line.number(",\"upstream.status\":", status.as_u16().into());
        }
        line.number(",\"bytes.in\":", self.bytes_in());
        line.number(",\"bytes.out\":", self.bytes_out);
        line.milliseconds(",\"duration_ms\":", duration);
        if let Some(duration) = self.exchange.duration {
            line.milliseconds(",\"upstream.duration_ms\":", duration);
        }
        line.raw(match self.cache {
            CacheUse::None => ",\"token.cache\":\"none\"",
            CacheUse::Hit => ",\"token.cache\":\"hit\"",
            CacheUse::Miss => ",\"token.cache\":\"miss\"",
        });
        if self.is_cut {
            line.raw(",\"cut\":true");
        }
        line.raw("}\n");
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connection.end();
        if self.watch.as_ref().is_some_and(|watch| watch.ended(self.start).is_none()) {
            self.connection.leave_unread();
        }
        let duration = self.start.elapsed();
        let status = self.status.unwrap_or(CLIENT_LEFT);
        let gateway = &self.gateway;
        gateway.metrics.request_finished(Finished {
            route: self.route,
            method: self.asked.as_ref().map(|(method, _)| method),
            status,
            duration,
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out,
        });
        if gateway.access.is_on() {
            gateway.access.add(|line| self.write(&mut Line(line), status, duration));
        }
    }
}

/// A line being written. Formatting machinery and floating point would cost more than all the rest of it.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Fields that were written before.
    fn fields(&mut self, fields: Option<&Vec<u8>>) {
        self.0.extend_from_slice(fields.map_or(&[], Vec::as_slice));
    }

    /// `key` with text as a JSON string. Text of the ordinary kind is copied as it is.
    fn text(&mut self, key: &str, value: &str) {
        self.raw(key);
        // Without an early end, so that it is done for many bytes at once.
        let is_ordinary = |byte: u8| (byte.wrapping_sub(b' ') < 0x5F) & (byte != b'"') & (byte != b'\\');
        if value.bytes().fold(true, |all, byte| all & is_ordinary(byte)) {
            self.raw("\"");
            self.raw(value);
            self.raw("\"");
        } else {
            self.escaped(value);
        }
    }

    /// Text as a JSON string that moves nothing on a terminal either: besides what JSON demands, control characters of all
    /// kinds, line separators and marks of writing direction are escaped.
    fn escaped(&mut self, value: &str) {
        self.raw("\"");
        for character in value.chars() {
            match character {
                '"' => self.raw("\\\""),
                '\\' => self.raw("\\\\"),
                '\u{061C}'
                | '\u{200E}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2066}'..='\u{2069}'
                | '\u{FEFF}' => self.escape(character),
                _ if character.is_control() => self.escape(character),
                _ => self.raw(character.encode_utf8(&mut [0; 4])),
            }
        }
        self.raw("\"");
    }

    fn escape(&mut self, character: char) {
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            self.raw("\\u");
            for shift in [12, 8, 4, 0] {
                self.0.push(b"0123456789abcdef"[usize::from(*unit >> shift & 0xF)]);
            }
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.raw(key);
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = value;
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[start..]);
    }

    /// Milliseconds with three decimals.
    fn milliseconds(&mut self, key: &str, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.number(key, micros / 1000);
        self.raw(".");
        self.three_digits((micros % 1000) as u32);
    }

    fn three_digits(&mut self, number: u32) {
        let digit = |place: u32| b'0' + (number / place % 10) as u8;
        self.0.extend_from_slice(&[digit(100), digit(10), digit(1)]);
    }
}

/// The first [`MAX_FIELD_BYTES`] of what a client sent.
fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_FIELD_BYTES)]
}

/// nginx's number for a client that closed before its answer; there is no registered one.
const CLIENT_LEFT: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

const ROUTE_NAME: &str = ",\"route.name\":";

const MAX_FIELD_BYTES: usize = 2048;
