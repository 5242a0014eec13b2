//! The audit trail: who did what to accounts, sessions and keys, from where, and how it ended. One line an event.
//!
//! An event is counted whether or not anybody wants its line. Names of accounts stand in a line only when the account exists:
//! people type passwords into the field of the name, so a name that is nobody's is never written.

mod event;

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::USER_AGENT;
use serde_json::{Map, Value};

use crate::log::{AuditLog, AuditWriter, LogError};
use crate::metrics::Metrics;
use crate::time::Moment;

pub use event::{Event, LoginFailure, LogoutScope, Throttle};

/// The `tracing` target of audit lines in the application log.
pub const TARGET: &str = crate::log::AUDIT_TARGET;

/// The most of a `User-Agent` that is kept, in bytes.
pub const MAX_USER_AGENT_BYTES: usize = 200;

/// The most of a name, a role or a scope that stands in a line, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// The most roles or scopes that one line lists.
const MAX_WORDS: usize = 100;

/// Writes audit lines and counts events. Shared by all that have something to tell.
#[derive(Debug)]
pub struct Audit {
    sink: Sink,
    /// `None`: a command, whose counters nobody would read.
    metrics: Option<Arc<Metrics>>,
}

#[derive(Debug)]
enum Sink {
    /// The application log, under [`TARGET`].
    Log,
    /// A file, or a command's standard error.
    Lines(AuditWriter),
    /// Nobody.
    None,
}

/// Whose account, session or key an event is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Whom<'a> {
    /// `sub` of the account; `None`: nobody's, or not known.
    pub subject: Option<&'a str>,
    /// The account's login. Never what somebody typed, unless an account has exactly that.
    pub login: Option<&'a str>,
    /// The session (`sid`). It is no secret: without the key of the refresh tokens it opens nothing.
    pub session: Option<&'a str>,
}

/// Who acts, and from where.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A request.
    Client(Client),
    /// A command on a machine that has the configuration.
    CommandLine,
    /// The gateway by itself: at its start, or on schedule.
    Gateway,
}

/// The client of a request.
#[derive(Debug, Clone)]
pub struct Client {
    /// The address that `server.trusted_proxies` leads to.
    pub address: IpAddr,
    /// `User-Agent`, printable and cut to [`MAX_USER_AGENT_BYTES`]. It is what the client says of itself and proves nothing.
    pub user_agent: Option<String>,
    /// `X-Request-Id`.
    pub request_id: String,
}

impl Client {
    /// The client at `address` whose request has these headers.
    pub fn new(address: IpAddr, headers: &HeaderMap, request_id: &str) -> Self {
        let user_agent = headers.get(USER_AGENT).map(|value| printable(value.as_bytes()));
        Self { address, user_agent, request_id: request_id.to_owned() }
    }
}

impl Audit {
    /// For a gateway.
    ///
    /// # Errors
    /// The file of `log.audit` cannot be opened, or there is no thread to write it.
    pub fn new(settings: &AuditLog, metrics: Arc<Metrics>) -> Result<Self, LogError> {
        let sink = match settings {
            AuditLog::Log => Sink::Log,
            AuditLog::File(path) => Sink::Lines(AuditWriter::start(path, Arc::clone(metrics.audit_lines_dropped()))?),
            AuditLog::Off => Sink::None,
        };
        Ok(Self { sink, metrics: Some(metrics) })
    }

    /// For a command that changes something. Its lines go into the file of `log.audit` if there is one. A command has no
    /// application log; where that is to have them, they go to standard error, in the same form. Open it before the change, so
    /// that nothing is changed that could not be written down.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn of_command(settings: &AuditLog) -> Result<Self, LogError> {
        let sink = match settings {
            AuditLog::File(path) => Sink::Lines(AuditWriter::direct(path)?),
            AuditLog::Log => Sink::Lines(AuditWriter::stderr()),
            AuditLog::Off => Sink::None,
        };
        Ok(Self { sink, metrics: None })
    }

    /// One that tells nobody, for tests and for parts that run without an audit.
    pub const fn silent() -> Self {
        Self { sink: Sink::None, metrics: None }
    }

    /// What opens the file anew, if there is one.
    pub const fn writer(&self) -> Option<&AuditWriter> {
        match &self.sink {
            Sink::Lines(writer) => Some(writer),
            Sink::Log | Sink::None => None,
        }
    }

    /// Writes the event down and counts it.
    pub fn record(&self, event: &Event<'_>, whom: Whom<'_>, origin: &Origin) {
        if let Some(metrics) = &self.metrics {
            metrics.audited(event.index());
        }
        match &self.sink {
            Sink::None => {}
            Sink::Log => log(&fields(event, whom, origin)),
            Sink::Lines(writer) => {
                let mut line = Map::new();
                line.insert("time".to_owned(), Moment::now().to_string().into());
                line.append(&mut fields(event, whom, origin));
                let mut text = unmistakable(&Value::Object(line).to_string());
                text.push('\n');
                writer.write(text.into_bytes());
            }
        }
    }
}

/// What a line says, in its order.
fn fields(event: &Event<'_>, whom: Whom<'_>, origin: &Origin) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(key.to_owned(), value);
        }
    };
    put("audit.event", Some(event.name().into()));
    put("audit.outcome", Some(event.outcome().into()));
    put("audit.reason", event.reason().map(Into::into));
    put("subject", whom.subject.map(text));
    put("login", whom.login.map(text));
    put("session.id", whom.session.map(text));
    match event {
        Event::LoginSucceeded { client_id } => put("client.id", Some(text(client_id))),
        Event::LoggedOut { scope, sessions } => {
            put("logout.scope", Some(scope.name().into()));
            put("sessions", Some((*sessions).into()));
        }
        Event::SessionsRevoked { reason: _, sessions } => put("sessions", Some((*sessions).into())),
        Event::UserGranted { roles, scopes } | Event::UserRevoked { roles, scopes } => {
            put("roles", words(roles));
            put("scopes", words(scopes));
        }
        Event::KeyGenerated { kid, algorithm }
        | Event::KeyRotated { kid, algorithm }
        | Event::KeyRetired { kid, algorithm } => {
            put("key.id", Some(text(kid)));
            put("key.algorithm", Some(text(algorithm)));
        }
        Event::LoginFailed { reason: _ }
        | Event::LoginThrottled { reason: _ }
        | Event::Refreshed
        | Event::RefreshReplayed
        | Event::PasswordChanged
        | Event::PasswordChangeFailed
        | Event::HashUpgraded
        | Event::Registered
        | Event::UserAdded
        | Event::UserEnabled
        | Event::UserDisabled
        | Event::UserRemoved => {}
    }
    match origin {
        Origin::Client(client) => {
            put("by", Some("client".into()));
            put("client.addr", Some(client.address.to_string().into()));
            put("client.agent", client.user_agent.as_deref().map(Into::into));
            put("request.id", Some(text(&client.request_id)));
        }
        Origin::CommandLine => {
            put("by", Some("command_line".into()));
            put("os.uid", Some(rustix::process::getuid().as_raw().into()));
        }
        Origin::Gateway => put("by", Some("gateway".into())),
    }
    fields
}

/// The names of `tracing` fields stand in the source, so each is taken out of the line by its name.
fn log(fields: &Map<String, Value>) {
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let list = |key: &str| fields.get(key).map(Value::to_string);
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    tracing::info!(
        target: TARGET,
        {
            audit.event = text("audit.event"),
            audit.outcome = text("audit.outcome"),
            audit.reason = text("audit.reason"),
            subject = text("subject"),
            login = text("login"),
            session.id = text("session.id"),
            client.id = text("client.id"),
            logout.scope = text("logout.scope"),
            sessions = number("sessions"),
            roles = list("roles"),
            scopes = list("scopes"),
            key.id = text("key.id"),
            key.algorithm = text("key.algorithm"),
            by = text("by"),
            client.addr = text("client.addr"),
            client.agent = text("client.agent"),
            request.id = text("request.id"),
            os.uid = number("os.uid"),
        },
        "Audit"
    );
}

fn text(text: &str) -> Value {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].into()
}

/// `None` for an empty list.
fn words(words: &[String]) -> Option<Value> {
    (!words.is_empty()).then(|| words.iter().take(MAX_WORDS).map(|word| text(word)).collect())
}

/// What a client says of itself, cut, and with `?` for what is not printable ASCII.
fn printable(bytes: &[u8]) -> String {
    let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '?' };
    bytes.iter().take(MAX_USER_AGENT_BYTES).map(shown).collect()
}

/// JSON that moves nothing on a terminal: control characters beyond ASCII, line separators and marks of writing direction are
/// escaped. All of them can stand in strings only.
fn unmistakable(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 1);
    for character in json.chars() {
        match character {
            '\u{7F}'..='\u{9F}'
            | '\u{061C}'
            | '\u{200E}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2066}'..='\u{2069}'
            | '\u{FEFF}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests;
