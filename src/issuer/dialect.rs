//! The words of other servers, which clients that were written for them go on using: `profile` of `[[login.aliases]]`.
//!
//! A dialect is a translation of what is sent and of what is answered. What is done in between, what is checked, and the cookie,
//! is the same for all. The refusals' half is in `gateway/dialect.rs`, because it picks statuses.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::time::UnixSeconds;

use super::form::Field;
use super::{Answer, Endpoint};

/// Whose words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Our own.
    #[default]
    Native,
    /// RFC 6749: a login is the token endpoint.
    Oauth2,
    /// FastAPI's tutorial and its `OAuth2PasswordRequestForm`.
    Fastapi,
    /// The starter of FastAPI, Beanie and JWT that is called fastapi-mongo.
    FastapiMongo,
    /// The npm package ra-in-memory-jwt, and the server that it was written for.
    RaInMemoryJwt,
    /// "The Ultimate Guide to handling JWTs on frontend clients", of 2019.
    Hasura,
}

/// How a form may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// `application/json`
    Json,
    /// `text/plain`, as `fetch` calls a text without being told: JSON all the same.
    JsonAsText,
    /// `application/x-www-form-urlencoded`
    UrlEncoded,
    /// `multipart/form-data`
    Multipart,
}

impl Writing {
    /// By the media type of a body. `None`: nothing that a form is written in.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if is("application/json") {
            Some(Self::Json)
        } else if is("application/x-www-form-urlencoded") {
            Some(Self::UrlEncoded)
        } else if is("multipart/form-data") {
            Some(Self::Multipart)
        } else if is("text/plain") {
            Some(Self::JsonAsText)
        } else {
            None
        }
    }
}

impl Dialect {
    /// Every dialect, by the name that the file uses.
    pub const ALL: [(&'static str, Self); 6] = [
        ("native", Self::Native),
        ("oauth2", Self::Oauth2),
        ("fastapi", Self::Fastapi),
        ("fastapi-mongo", Self::FastapiMongo),
        ("ra-in-memory-jwt", Self::RaInMemoryJwt),
        ("hasura", Self::Hasura),
    ];

    /// As the file calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Oauth2 => "oauth2",
            Self::Fastapi => "fastapi",
            Self::FastapiMongo => "fastapi-mongo",
            Self::RaInMemoryJwt => "ra-in-memory-jwt",
            Self::Hasura => "hasura",
        }
    }

    /// Whether a form may be written so, as far as its endpoint takes it at all. JSON that calls itself text can be sent by a
    /// page of any site without asking, so only those whose clients know no better take it.
    pub(super) const fn takes(self, writing: Writing) -> bool {
        match writing {
            Writing::UrlEncoded | Writing::Multipart => match self {
                Self::Native | Self::Oauth2 | Self::Fastapi | Self::RaInMemoryJwt | Self::Hasura => true,
                Self::FastapiMongo => false,
            },
            Writing::Json => match self {
                Self::Native | Self::Oauth2 | Self::FastapiMongo | Self::RaInMemoryJwt | Self::Hasura => true,
                Self::Fastapi => false,
            },
            Writing::JsonAsText => match self {
                Self::Hasura => true,
                Self::Native | Self::Oauth2 | Self::Fastapi | Self::FastapiMongo | Self::RaInMemoryJwt => false,
            },
        }
    }

    /// Whether a `null` in JSON is a value like any other, and a wrong one, as pydantic has it; elsewhere clients write it for what
    /// they leave out. Fields that the other server does not have are none of its business.
    pub(super) const fn takes_null_for_a_value(self, field: Field) -> bool {
        match self {
            Self::FastapiMongo => matches!(field, Field::Username | Field::Password),
            Self::Native | Self::Oauth2 | Self::Fastapi | Self::RaInMemoryJwt | Self::Hasura => false,
        }
    }

    /// Whether a login that says another `grant_type` than `password` is refused, as by `OAuth2PasswordRequestForm`.
    pub(super) const fn checks_grant_type(self) -> bool {
        match self {
            Self::Fastapi => true,
            // At OAuth's own endpoint it decides what is done.
            Self::Native | Self::Oauth2 | Self::FastapiMongo | Self::RaInMemoryJwt | Self::Hasura => false,
        }
    }

    /// Whether a form without username and password is refused for both, as pydantic does.
    pub(super) const fn tells_all_that_is_missing(self) -> bool {
        match self {
            Self::Fastapi | Self::FastapiMongo => true,
            Self::Native | Self::Oauth2 | Self::RaInMemoryJwt | Self::Hasura => false,
        }
    }

    /// Our name for a field.
    pub(super) fn own_name(self, field: &str) -> &str {
        match self {
            Self::Hasura if field == "email" => "username",
            Self::Native | Self::Oauth2 | Self::Fastapi | Self::FastapiMongo | Self::RaInMemoryJwt | Self::Hasura => {
                field
            }
        }
    }

    /// A success in these words; `own` is the endpoint's own. `None`: it is said as it is.
    pub(super) fn translate(self, endpoint: Endpoint, own: &Answer, now: UnixSeconds) -> Option<Bytes> {
        let told = match endpoint {
            Endpoint::Login | Endpoint::Refresh => self.tokens(&object(&own.body)?, own.login.as_deref(), now)?,
            Endpoint::Logout => self.logged_out()?,
            Endpoint::Me => self.me(object(&own.body)?)?,
            // OAuth's own words, and what no alias leads to.
            Endpoint::Token
            | Endpoint::Revoke
            | Endpoint::Introspect
            | Endpoint::Sessions
            | Endpoint::Session
            | Endpoint::Password
            | Endpoint::Register
            | Endpoint::Check
            | Endpoint::Jwks
            | Endpoint::OpenidConfiguration
            | Endpoint::OauthAuthorizationServer => return None,
        };
        Some(told.to_string().into())
    }

    fn tokens(self, own: &Map<String, Value>, login: Option<&str>, now: UnixSeconds) -> Option<Value> {
        let token = own.get("access_token")?;
        let lifetime = own.get("expires_in")?.as_u64()?;
        match self {
            Self::Native | Self::Oauth2 => None,
            Self::Fastapi => Some(json!({ "access_token": token, "token_type": "bearer" })),
            Self::FastapiMongo => Some(json!({ "access_token": token })),
            Self::RaInMemoryJwt => {
                let lifetime = lifetime.clamp(LEAST_TOKEN_EXPIRY_SECONDS, MOST_TOKEN_EXPIRY_SECONDS);
                let mut told = json!({ "token": token, "tokenExpiry": lifetime });
                if let Some(login) = login {
                    told["username"] = login.into();
                }
                Some(told)
            }
            // A moment, which its clients read with `new Date(…)`.
            Self::Hasura => {
                let expires_at = UnixSeconds(now.0.saturating_add(lifetime));
                Some(json!({ "jwt_token": token, "jwt_token_expiry": expires_at.to_string() }))
            }
        }
    }

    fn logged_out(self) -> Option<Value> {
        match self {
            Self::RaInMemoryJwt => Some(json!({ "message": "logout" })),
            Self::Native | Self::Oauth2 | Self::Fastapi | Self::FastapiMongo | Self::Hasura => None,
        }
    }

    /// react-admin's identity has names of its own, which are added to ours.
    fn me(self, mut own: Map<String, Value>) -> Option<Value> {
        match self {
            Self::RaInMemoryJwt => {
                let subject = own.get("subject")?.clone();
                let name = own.get("name").filter(|name| !name.is_null()).unwrap_or(&subject).clone();
                own.insert("id".to_owned(), subject);
                own.insert("fullName".to_owned(), name);
                Some(own.into())
            }
            Self::Native | Self::Oauth2 | Self::Fastapi | Self::FastapiMongo | Self::Hasura => None,
        }
    }
}

/// An endpoint's answer. `None`: it is empty, as to a condition.
fn object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

/// ra-in-memory-jwt sets its timer 5 s before this, so that 5 or less makes it ask without end.
const LEAST_TOKEN_EXPIRY_SECONDS: u64 = 6;

/// Longest timer of browsers, 2^31 - 1 ms; a longer one fires at once.
const MOST_TOKEN_EXPIRY_SECONDS: u64 = 2_147_483;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn answer(body: &str) -> Answer {
        Answer { body: body.to_owned().into(), ..Answer::not_stored(&json!({})) }
    }

    #[track_caller]
    fn check_tokens(dialect: Dialect, lifetime: u64, expected: Option<Value>) {
        let own = json!({ "access_token": "a.b.c", "token_type": "bearer", "expires_in": lifetime, "session": "s" });
        for endpoint in [Endpoint::Login, Endpoint::Refresh] {
            let told = dialect.translate(endpoint, &answer(&own.to_string()), NOW);
            assert_eq!(told.map(|told| serde_json::from_slice(&told).unwrap()), expected, "{dialect:?}");
        }
    }

    #[test]
    fn tokens_have_the_names_that_clients_know() {
        check_tokens(Dialect::Native, 300, None);
        check_tokens(Dialect::Oauth2, 300, None);
        check_tokens(Dialect::Fastapi, 300, Some(json!({ "access_token": "a.b.c", "token_type": "bearer" })));
        check_tokens(Dialect::FastapiMongo, 300, Some(json!({ "access_token": "a.b.c" })));
        check_tokens(Dialect::RaInMemoryJwt, 300, Some(json!({ "token": "a.b.c", "tokenExpiry": 300 })));
        let expiry = "2027-01-15T08:05:00Z";
        check_tokens(Dialect::Hasura, 300, Some(json!({ "jwt_token": "a.b.c", "jwt_token_expiry": expiry })));
    }

    #[test]
    fn a_timer_of_ra_in_memory_jwt_never_fires_at_once() {
        for (lifetime, told) in [(0, 6), (5, 6), (6, 6), (30, 30), (2_147_483, 2_147_483), (2_592_000, 2_147_483)] {
            check_tokens(Dialect::RaInMemoryJwt, lifetime, Some(json!({ "token": "a.b.c", "tokenExpiry": told })));
        }
        check_tokens(Dialect::RaInMemoryJwt, u64::MAX, Some(json!({ "token": "a.b.c", "tokenExpiry": 2_147_483 })));
    }

    #[test]
    fn whose_tokens_they_are_is_told_where_the_other_server_tells_it() {
        let own = Answer {
            login: Some("ada".to_owned()),
            ..answer(&json!({ "access_token": "a.b.c", "expires_in": 300 }).to_string())
        };
        let told = |dialect: Dialect| -> Value {
            serde_json::from_slice(&dialect.translate(Endpoint::Login, &own, NOW).unwrap()).unwrap()
        };
        assert_eq!(told(Dialect::RaInMemoryJwt)["username"], "ada");
        assert_eq!(told(Dialect::FastapiMongo), json!({ "access_token": "a.b.c" }));
    }

    #[test]
    fn an_answer_that_is_no_object_stays() {
        for body in ["", "[]", "null", "{}", "{\"access_token\":\"a\"}"] {
            assert_eq!(Dialect::RaInMemoryJwt.translate(Endpoint::Login, &answer(body), NOW), None, "{body}");
        }
    }

    #[test]
    fn only_what_an_alias_leads_to_is_translated() {
        let own = json!({ "access_token": "a", "expires_in": 300 }).to_string();
        let told = |endpoint| Dialect::RaInMemoryJwt.translate(endpoint, &answer(&own), NOW);
        assert_eq!(told(Endpoint::Logout).as_deref(), Some(&br#"{"message":"logout"}"#[..]));
        for endpoint in [Endpoint::Token, Endpoint::Revoke, Endpoint::Jwks, Endpoint::OpenidConfiguration] {
            assert_eq!(told(endpoint), None, "{endpoint:?}");
        }
    }

    #[test]
    fn react_admin_gets_an_identity() {
        let me = |own: Value| {
            let told = Dialect::RaInMemoryJwt.translate(Endpoint::Me, &answer(&own.to_string()), NOW).unwrap();
            serde_json::from_slice::<Value>(&told).unwrap()
        };
        assert_eq!(
            me(json!({ "subject": "7", "name": "Ada" })),
            json!({ "subject": "7", "name": "Ada", "id": "7", "fullName": "Ada" })
        );
        assert_eq!(me(json!({ "subject": "7", "name": null }))["fullName"], "7");
    }

    #[test]
    fn names_are_those_of_the_file() {
        for (name, dialect) in Dialect::ALL {
            assert_eq!(dialect.name(), name);
        }
    }
}
