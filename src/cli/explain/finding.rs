//! What a replay finds out, as data: `text` shows it to people, and serialized it is what `--json` prints.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::style::Mark;

/// The replay of one decision.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub(super) outcome: Outcome,
    pub(super) request: Request,
    /// Every check, in the order in which the gateway makes them.
    pub(super) checks: Vec<Check>,
    /// An endpoint of the gateway's own that answers.
    pub(super) endpoint: Option<&'static str>,
    pub(super) route: Option<Route>,
    pub(super) caller: Option<Caller>,
    /// What a token that was not verified says of itself.
    pub(super) claimed: Option<Value>,
    pub(super) forwarded: Option<Forwarded>,
    pub(super) refusal: Option<Refusal>,
    /// What could not be judged, and why.
    pub(super) undecided: Option<String>,
    pub(super) hints: Vec<String>,
}

/// How the decision ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Allowed,
    Refused,
    Undecided,
}

/// What was asked.
#[derive(Debug, Serialize)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) url: String,
    /// Lower case, without port; as soon as it was read.
    pub(super) host: Option<String>,
    /// Normalized, as routes see it; as soon as it was read.
    pub(super) path: Option<String>,
    pub(super) client: String,
    /// The clock of the replay.
    pub(super) at: String,
}

/// One check with its outcome.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) outcome: Mark,
    pub(super) says: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<Self>,
}

/// The route that matched.
#[derive(Debug, Serialize)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) auth: &'static str,
    pub(super) upstream: String,
}

/// The verified caller.
#[derive(Debug, Serialize)]
pub(super) struct Caller {
    pub(super) subject: String,
    pub(super) name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) issuer: String,
    pub(super) client_id: Option<String>,
    pub(super) expires_at: String,
    /// `None`: the issuer's tokens do not name it.
    pub(super) kid: Option<String>,
    pub(super) algorithm: Option<&'static str>,
}

/// What the upstream would receive.
#[derive(Debug, Serialize)]
pub(super) struct Forwarded {
    pub(super) upstream: String,
    pub(super) servers: Vec<String>,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<Header>,
    /// What the token says that is made for the upstream. The token itself is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) minted: Option<Minted>,
}

/// A token for the upstream.
#[derive(Debug, Serialize)]
pub(super) struct Minted {
    pub(super) algorithm: &'static str,
    pub(super) claims: Map<String, Value>,
}

/// One header of the forwarded request.
#[derive(Debug, Serialize)]
pub(super) struct Header {
    pub(super) name: String,
    /// `None`: it is not shown, `note` says why.
    pub(super) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<&'static str>,
}

/// The gateway's own answer.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    /// What the client is told.
    pub(super) detail: String,
    /// What the log says.
    pub(super) cause: String,
    pub(super) headers: Vec<Header>,
    pub(super) body: Value,
}

impl Check {
    pub(super) fn new(name: impl Into<String>, outcome: Mark, says: impl Into<String>) -> Self {
        Self { name: name.into(), outcome, says: says.into(), parts: Vec::new() }
    }

    pub(super) fn ok(name: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(name, Mark::Ok, says)
    }
}

impl Explanation {
    pub(super) fn pass(&mut self, name: &str, says: impl Into<String>) {
        self.checks.push(Check::ok(name, says));
    }
}
