//! The configuration file: read, checked, and turned into the settings of each part.


use crate::account::PasswordSettings;
use crate::issuer::LoginSettings;
use crate::keyset::OwnKeys;
use crate::log::LogSettings;
use crate::route::Route;
use crate::server::{AdminSettings, ServerSettings};
use crate::store::StoreSettings;
use crate::token::{TokenSettings, TrustedIssuer};
use crate::upstream::{IdentityHeaderNames, UpstreamSettings};

/// Everything the file says, checked and typed.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: ServerSettings,
    /// `[admin]`
    pub admin: AdminSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[store]`
    pub store: StoreSettings,
    /// `[tokens]`
    pub tokens: TokenSettings,
    /// `tokens.key`, `tokens.previous_keys`
    pub own_keys: OwnKeys,
    /// `[issuers.*]`
    pub issuers: Vec<TrustedIssuer>,
    /// `[login]`
    pub login: LoginSettings,
    /// `[login] hash`
    pub passwords: PasswordSettings,
    /// `[identity.headers]`
    pub identity_headers: IdentityHeaderNames,
    /// `[upstreams.*]`
    pub upstreams: Vec<UpstreamSettings>,
    /// `[[routes]]`
    pub routes: Vec<Route>,
}
