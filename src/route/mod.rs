//! Routes: which upstream a request goes to, and what is asked of its caller.

pub mod pattern;

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use pattern::{HostPattern, PathPattern, Rewrite};

/// One `[[routes]]` table, checked.
#[derive(Debug, Clone)]
pub struct Route {
    /// For logs and metrics: the `name` of the file, or else its `path`. Unique.
    pub name: Arc<str>,
    /// Hosts it serves. Empty: all.
    pub hosts: Vec<HostPattern>,
    /// Paths it serves.
    pub path: PathPattern,
    /// Methods it serves. Empty: all but CONNECT and TRACE, which are never served.
    pub methods: Vec<Method>,
    /// Position in the list of upstreams.
    pub upstream: usize,
    /// What is asked of the caller.
    pub access: Access,
    /// The path that the upstream gets.
    pub rewrite: Rewrite,
    /// Longest request body in bytes. 0: no limit.
    pub max_body_bytes: u64,
    /// Total time from the request's head to the response's last byte. `None` (default): no limit.
    pub timeout: Option<Duration>,
}

/// What a route asks of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// No token is read; one that is sent goes to the upstream as the upstream's `token.mode` says.
    Public,
    /// A token is verified when there is one, and a bad one refused.
    Optional,
    /// A good token is needed, and these rules must hold.
    Required(Rules),
}

/// Conditions on a verified caller; all of them must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// All of these scopes.
    pub scopes: Vec<String>,
    /// At least one of these scopes. Empty: no condition.
    pub any_scope: Vec<String>,
    /// At least one of these roles. Empty: no condition.
    pub any_role: Vec<String>,
    /// Claims that must equal, or as an array contain, a value.
    pub claims: Vec<ClaimRule>,
}

/// One entry of `claims = { project = "{id}" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRule {
    /// Claim name; a dot reaches into an object.
    pub claim: String,
    /// What it must equal or contain.
    pub value: ClaimValue,
}

/// The value of a [`ClaimRule`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimValue {
    /// This text.
    Literal(String),
    /// The path parameter at this position in the route's pattern.
    Parameter(usize),
}

/// All routes, ready to be searched.
#[derive(Debug)]
pub struct Routes {}

/// Two routes of which neither is more specific.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Position of the earlier one.
    pub first: usize,
    /// Position of the later one.
    pub second: usize,
}

impl Routes {
    /// Builds the table.
    ///
    /// # Errors
    /// Every pair of routes that would answer the same request with equal right.
    pub fn new(routes: Vec<Route>) -> Result<Self, Vec<Conflict>> {
        let _ = routes;
        unimplemented!()
    }
}
