//! The access record: one struct and one line a request, and what the metrics learn of it.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{Method, StatusCode, Uri};
use tokio::time::Instant;

use crate::body::BodyWatch;
use crate::metrics::{Finished, RouteIndex};
use crate::request::{Connection, RequestId};
use crate::time::{Moment, UnixSeconds};
use crate::token::Identity;
use crate::upstream::Exchange;

use super::Gateway;
use super::refusal::Code;

/// What is known of a request so far. Dropped when its response has left or its client has gone, it becomes one access line.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) gateway: Rc<Gateway>,
    pub(super) connection: Rc<Connection>,
    pub(super) start: Instant,
    pub(super) time: Moment,
    pub(super) request_id: RequestId,
    pub(super) client: IpAddr,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) route: RouteIndex,
    /// The endpoint's name when `route` is the issuer's.
    pub(super) endpoint: Option<&'static str>,
    /// `None`: the client left before there was one.
    pub(super) status: Option<StatusCode>,
    pub(super) refusal: Option<Code>,
    pub(super) caller: Option<Arc<Identity>>,
    pub(super) cache: CacheUse,
    pub(super) exchange: Exchange,
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

impl Record {
    fn bytes_in(&self) -> u64 {
        self.watch.as_ref().map_or(0, BodyWatch::bytes)
    }

    /// Writes the line. Fields that do not apply are left out; the path is cut and carries no query, where tokens hide.
    fn write(&self, line: &mut Vec<u8>, status: StatusCode, milliseconds: f64) -> std::io::Result<()> {
        self.gateway.second_text.with(self.time, |second| {
            write!(
                line,
                "{{\"time\":\"{second}.{:03}Z\",\"request.id\":\"{}\"",
                self.time.millisecond(),
                self.request_id
            )
        })?;
        line.extend_from_slice(b",\"client.addr\":\"");
        if self.client == self.connection.peer.ip() {
            line.extend_from_slice(self.connection.peer_text().as_bytes());
        } else {
            write!(line, "{}", self.client)?;
        }
        line.extend_from_slice(b"\",\"method\":");
        text(line, self.method.as_str())?;
        line.extend_from_slice(b",\"path\":");
        text(line, cut(self.uri.path()))?;
        let shared = &self.gateway.shared;
        let route = match self.route {
            RouteIndex::Route(index) => shared.routes.all().get(index).map(|route| &*route.name),
            RouteIndex::Issuer => self.endpoint,
            RouteIndex::None => None,
        };
        if let Some(route) = route {
            line.extend_from_slice(b",\"route.name\":");
            text(line, route)?;
        }
        write!(line, ",\"status\":{}", status.as_u16())?;
        if let Some(code) = self.refusal {
            write!(line, ",\"refusal.code\":\"{}\"", code.name())?;
        }
        if let Some(identity) = &self.caller {
            line.extend_from_slice(b",\"subject\":");
            text(line, cut(identity.subject()))?;
        }
        if let Some((upstream, server)) = self.exchange.server
            && let Some((name, servers)) = shared.upstream_names.get(upstream)
        {
            line.extend_from_slice(b",\"upstream.name\":");
            text(line, name)?;
            line.extend_from_slice(b",\"upstream.server\":");
            text(line, servers.get(server).map_or("", String::as_str))?;
        }
        if let Some(status) = self.exchange.status {
            write!(line, ",\"upstream.status\":{}", status.as_u16())?;
        }
        write!(
            line,
            ",\"bytes.in\":{},\"bytes.out\":{},\"duration_ms\":{milliseconds:.3}",
            self.bytes_in(),
            self.bytes_out
        )?;
        if let Some(duration) = self.exchange.duration {
            write!(line, ",\"upstream.duration_ms\":{:.3}", duration.as_secs_f64() * 1e3)?;
        }
        let cache = match self.cache {
            CacheUse::None => "none",
            CacheUse::Hit => "hit",
            CacheUse::Miss => "miss",
        };
        write!(line, ",\"token.cache\":\"{cache}\"")?;
        if self.is_cut {
            line.extend_from_slice(b",\"cut\":true");
        }
        line.extend_from_slice(b"}\n");
        Ok(())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connection.end();
        let duration = self.start.elapsed();
        let status = self.status.unwrap_or(CLIENT_LEFT);
        let gateway = &self.gateway;
        gateway.metrics.request_finished(Finished {
            route: self.route,
            method: &self.method,
            status,
            duration,
            bytes_in: self.bytes_in(),
            bytes_out: self.bytes_out,
        });
        if gateway.access.is_on() {
            let lost = gateway.access.add(|line| {
                // Writing to memory cannot fail.
                let _ = self.write(line, status, duration.as_secs_f64() * 1e3);
            });
            if lost > 0 {
                gateway.shared.metrics.access_lines_dropped(lost);
            }
        }
    }
}

/// Writes text as a JSON string. Text of the ordinary kind is copied as it is.
fn text(line: &mut Vec<u8>, value: &str) -> std::io::Result<()> {
    serde_json::to_writer(line, value).map_err(Into::into)
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

const MAX_FIELD_BYTES: usize = 2048;
