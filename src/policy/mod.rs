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

/// One condition of a route.
#[derive(Debug, Clone, Copy)]
pub enum Rule<'a> {
    /// `scopes`: all of them.
    Scopes(&'a [String]),
    /// `any_scope`: at least one.
    AnyScope(&'a [String]),
    /// `any_role`: at least one.
    AnyRole(&'a [String]),
    /// One of `claims`.
    Claim(&'a ClaimRule),
}

/// Which rule a caller did not meet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The route needs a token.
    #[error("the route needs a token")]
    Anonymous,
    /// `scopes`.
    #[error("the token lacks a scope that the route needs")]
    Scope {
        /// The route's scopes, as `WWW-Authenticate` names them (RFC 6750 section 3).
        needed: String,
    },
    /// `any_scope`.
    #[error("the token has none of the scopes of which the route needs one")]
    AnyScope {
        /// The route's scopes, in the same form.
        any: String,
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
    match Rule::all(rules).find(|rule| !rule.holds(identity, matched)) {
        Some(rule) => Err(rule.denial()),
        None => Ok(()),
    }
}

impl<'a> Rule<'a> {
    /// The conditions that `rules` really make, in the order in which [`permit`] checks them.
    pub fn all(rules: &'a Rules) -> impl Iterator<Item = Self> {
        let named = [Self::Scopes(&rules.scopes), Self::AnyScope(&rules.any_scope), Self::AnyRole(&rules.any_role)];
        let claims = rules.claims.iter().map(Self::Claim);
        named.into_iter().filter(|rule| !rule.is_empty()).chain(claims)
    }

    /// Whether the caller meets it.
    pub fn holds(&self, identity: &Identity, matched: &Matched<'_>) -> bool {
        let has = |held: &[Box<str>], wanted: &String| held.iter().any(|one| **one == **wanted);
        match self {
            Self::Scopes(scopes) => scopes.iter().all(|scope| has(identity.scopes(), scope)),
            Self::AnyScope(scopes) => scopes.iter().any(|scope| has(identity.scopes(), scope)),
            Self::AnyRole(roles) => roles.iter().any(|role| has(identity.roles(), role)),
            Self::Claim(rule) => holds(rule, identity, matched),
        }
    }

    fn denial(&self) -> Denial {
        match self {
            Self::Scopes(scopes) => Denial::Scope { needed: scopes.join(" ") },
            Self::AnyScope(scopes) => Denial::AnyScope { any: scopes.join(" ") },
            Self::AnyRole(_) => Denial::Role,
            Self::Claim(rule) => Denial::Claim { claim: rule.claim.clone() },
        }
    }

    const fn is_empty(&self) -> bool {
        match self {
            Self::Scopes(words) | Self::AnyScope(words) | Self::AnyRole(words) => words.is_empty(),
            Self::Claim(_) => false,
        }
    }
}

/// What a claim must equal or contain.
pub fn wanted<'a>(rule: &'a ClaimRule, matched: &Matched<'a>) -> &'a str {
    match &rule.value {
        ClaimValue::Literal(text) => text,
        ClaimValue::Parameter(position) => matched.parameter(*position),
    }
}

/// A claim that is absent, or of a type that cannot hold text, matches nothing.
fn holds(rule: &ClaimRule, identity: &Identity, matched: &Matched<'_>) -> bool {
    let wanted = wanted(rule, matched);
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
