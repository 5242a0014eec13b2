//! What a proxy in front of others asks of a token at `<prefix>/check`.

use super::IssuerError;
use super::issue::requested_scopes;
use super::query::parameter;

/// The parameters of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// `scope`: all of these, separated by spaces.
    pub scopes: Vec<String>,
    /// `role`: this one.
    pub role: Option<String>,
    /// `revocation`: what is said while it is not known which sessions have ended.
    pub freshness: Freshness,
}

/// How much a proxy must know of ended sessions before it lets somebody pass: as `revocation` of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Freshness {
    /// A token counts until it expires, whatever is known.
    #[default]
    Lenient,
    /// Nobody passes while a gateway has had no word of ended sessions for too long.
    Strict,
}

impl Demand {
    /// Reads the query.
    ///
    /// # Errors
    /// [`IssuerError::Query`]: what is written wrongly must not ask for less than was meant.
    pub fn of_query(query: Option<&str>) -> Result<Self, IssuerError> {
        let scope = parameter(query, "scope")?;
        let role = parameter(query, "role")?;
        let scopes = requested_scopes(scope.as_deref().unwrap_or_default());
        let scopes = scopes.map_err(|_| IssuerError::Query { name: "scope" })?;
        if scope.is_some() && scopes.is_empty() {
            return Err(IssuerError::Query { name: "scope" });
        }
        if role.as_deref() == Some("") {
            return Err(IssuerError::Query { name: "role" });
        }
        let freshness = match parameter(query, "revocation")?.as_deref() {
            None | Some("lenient") => Freshness::Lenient,
            Some("strict") => Freshness::Strict,
            Some(_) => return Err(IssuerError::Query { name: "revocation" }),
        };
        Ok(Self { scopes: scopes.into_iter().map(str::to_owned).collect(), role, freshness })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: Option<&str>, expected: Option<(&[&str], Option<&str>)>) {
        let demand = Demand::of_query(query).ok();
        let expected = expected.map(|(scopes, role)| Demand {
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            role: role.map(str::to_owned),
            freshness: Freshness::Lenient,
        });
        assert_eq!(demand, expected, "{query:?}");
    }

    #[test]
    fn a_demand_is_what_the_query_says() {
        check(None, Some((&[], None)));
        check(Some("scope=read%3Ax+write"), Some((&["read:x", "write"], None)));
        check(Some("role=lab+admin&scope=a"), Some((&["a"], Some("lab admin"))));
    }

    #[test]
    fn a_proxy_may_ask_for_as_much_as_a_strict_route() {
        let freshness = |query| Demand::of_query(Some(query)).ok().map(|demand| demand.freshness);
        assert_eq!(freshness("scope=a&revocation=strict"), Some(Freshness::Strict));
        assert_eq!(freshness("revocation=lenient"), Some(Freshness::Lenient));
    }

    #[test]
    fn a_demand_that_is_written_wrongly_does_not_become_none() {
        for query in ["scope=", "scope=%20", "scope=a%22", "role=", "scope=a&scope=b", "role=a&role=b", "scope=%zz"] {
            check(Some(query), None);
        }
        for query in ["revocation=", "revocation=Strict", "revocation=strict&revocation=lenient"] {
            check(Some(query), None);
        }
    }
}
