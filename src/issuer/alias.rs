//! `[[login.aliases]]`: the paths at which existing clients expect a login, and in whose words they are answered there.

use bytes::Bytes;

use crate::time::UnixSeconds;

use super::dialect::Dialect;
use super::{Answer, Endpoint};

/// One alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// An exact path, below neither `login.prefix` nor `/.well-known/`.
    pub path: String,
    /// What is there.
    pub does: Deed,
    /// Whose field names, statuses and errors its clients know.
    pub profile: Dialect,
}

/// What an alias does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A username and a password become tokens.
    Login,
    /// A refresh token, from the cookie or the body, becomes the next and an access token.
    Refresh,
    /// The session ends.
    Logout,
    /// Says who the caller is.
    Me,
}

/// An endpoint that was found by an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// Which.
    pub endpoint: Endpoint,
    /// In whose words it is spoken to.
    pub dialect: Dialect,
}

/// All aliases.
#[derive(Debug, Clone, Default)]
pub struct Aliases(Box<[Alias]>);

impl Aliases {
    /// These aliases.
    pub fn new(aliases: Vec<Alias>) -> Self {
        Self(aliases.into())
    }

    /// The alias at this path, which must be normalized. Asked for every request: there are few, and most differ in length.
    pub fn find(&self, path: &str) -> Option<&Alias> {
        self.0.iter().find(|alias| alias.path == path)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Alias> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Aliases {
    type Item = &'a Alias;
    type IntoIter = std::slice::Iter<'a, Alias>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Spoken {
    /// A success of the endpoint in these words, given our own. `None`: it is said as it is.
    pub fn translate(self, own: &Answer, now: UnixSeconds) -> Option<Bytes> {
        self.dialect.translate(self.endpoint, own, now)
    }
}

impl Alias {
    /// The endpoint with its words.
    pub const fn spoken(&self) -> Spoken {
        Spoken { endpoint: self.endpoint(), dialect: self.profile }
    }

    /// The endpoint that answers. Clients of OAuth have one for all grants.
    pub const fn endpoint(&self) -> Endpoint {
        match (self.does, self.profile) {
            (Deed::Login | Deed::Refresh, Dialect::Oauth2) => Endpoint::Token,
            (
                Deed::Login,
                Dialect::Native | Dialect::Fastapi | Dialect::FastapiMongo | Dialect::RaInMemoryJwt | Dialect::Hasura,
            ) => Endpoint::Login,
            (
                Deed::Refresh,
                Dialect::Native | Dialect::Fastapi | Dialect::FastapiMongo | Dialect::RaInMemoryJwt | Dialect::Hasura,
            ) => Endpoint::Refresh,
            (Deed::Logout, Dialect::Oauth2) => Endpoint::Revoke,
            (
                Deed::Logout,
                Dialect::Native | Dialect::Fastapi | Dialect::FastapiMongo | Dialect::RaInMemoryJwt | Dialect::Hasura,
            ) => Endpoint::Logout,
            (Deed::Me, _) => Endpoint::Me,
        }
    }
}
