//! Whether a caller may do what it asks for.

use std::sync::Arc;

use serde_json::Value;

use crate::route::{Access, ClaimRule, ClaimValue, Matched, Route, Rules};
use crate::token::Identity;

/// Who sends a request.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Nobody said, or nobody asked.
    Anonymous,
    /// A verified token says.
    Known(Arc<Identity>),
}

/// That a caller may use a route: only [`permit`] makes one, and forwarding demands it.
#[derive(Debug, Clone)]
pub struct Permit<'a> {
    caller: Caller,
    matched: Matched<'a>,
}

/// Which rule a caller did not meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The route needs a token.
    #[error("the route needs a token")]
    Anonymous,
    /// `scopes` or `any_scope`.
    #[error("the token lacks a scope that the route needs")]
    Scope {
        /// The route's scopes, as `WWW-Authenticate` names them (RFC 6750 section 3).
        needed: String,
    },
    /// `any_role`.
    #[error("the token has none of the roles that the route needs")]
    Role,
    /// `claims`.
    #[error("the claim `{claim}` does not allow this path")]
    Claim {
        /// The claim's name in the route.
        claim: String,
    },
}

/// Checks the route's rules.
///
/// # Errors
/// The first rule that does not hold, in the order of [`Rules`].
pub fn permit<'a>(caller: Caller, matched: Matched<'a>) -> Result<Permit<'a>, Denial> {
    match &matched.route.access {
        Access::Public | Access::Optional => {}
        Access::Required(rules) => match &caller {
            Caller::Anonymous => return Err(Denial::Anonymous),
            Caller::Known(identity) => check(rules, identity, &matched)?,
        },
    }
    Ok(Permit { caller, matched })
}

impl<'a> Permit<'a> {
    /// Who.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What.
    pub const fn route(&self) -> &'a Route {
        self.matched.route
    }
}

fn check(rules: &Rules, identity: &Identity, matched: &Matched<'_>) -> Result<(), Denial> {
    let has = |held: &[Box<str>], wanted: &String| held.iter().any(|one| **one == **wanted);
    let scopes = identity.scopes();
    let has_all = rules.scopes.iter().all(|scope| has(scopes, scope));
    let has_one = rules.any_scope.is_empty() || rules.any_scope.iter().any(|scope| has(scopes, scope));
    if !has_all || !has_one {
        let needed = if has_all { &rules.any_scope } else { &rules.scopes };
        return Err(Denial::Scope { needed: needed.join(" ") });
    }
    if !rules.any_role.is_empty() && !rules.any_role.iter().any(|role| has(identity.roles(), role)) {
        return Err(Denial::Role);
    }
    match rules.claims.iter().find(|rule| !holds(rule, identity, matched)) {
        Some(rule) => Err(Denial::Claim { claim: rule.claim.clone() }),
        None => Ok(()),
    }
}

/// A claim that is absent, or of a type that cannot hold text, matches nothing.
fn holds(rule: &ClaimRule, identity: &Identity, matched: &Matched<'_>) -> bool {
    let wanted = match &rule.value {
        ClaimValue::Literal(text) => text,
        ClaimValue::Parameter(position) => matched.parameter(*position),
    };
    match identity.claim(&rule.claim) {
        Some(Value::Array(values)) => values.iter().any(|value| equals(value, wanted)),
        Some(value) => equals(value, wanted),
        None => false,
    }
}

/// Text equals itself; an integer equals its decimal digits, because a path has only text.
fn equals(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(number) => (number.is_u64() || number.is_i64()) && number.to_string() == wanted,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}
