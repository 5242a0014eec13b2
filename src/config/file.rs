//! The file's shape, key for key: every name, and every default.
//!
//! A default is TOML text, read by the same code that reads the user's value.

/// The keys that a table may have.
#[derive(Debug)]
pub(super) struct Shape(pub(super) &'static [Key]);

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) content: Content,
}

/// What stands behind a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// A value; left out, this TOML text counts.
    Default(&'static str),
    /// A value that must be there.
    Required,
    /// A value that may be left out, and then means something that no text says.
    Optional,
    /// A table, which may be left out as a whole.
    Table(&'static Shape),
    /// Tables under names that the user chooses: `[upstreams.<name>]`.
    Named(&'static Shape),
    /// A list of tables: `[[routes]]`.
    List(&'static Shape),
    /// A key of a part that is not built: refused by name.
    Later,
}

use Content::{Default, Later, List, Named, Optional, Required, Table};

/// The whole file.
pub(super) static FILE: Shape = Shape(&[
    key("include", Default("[]")),
    key("server", Table(&SERVER)),
    key("admin", Table(&ADMIN)),
    key("log", Table(&LOG)),
    key("store", Table(&STORE)),
    key("tokens", Table(&TOKENS)),
    key("login", Table(&LOGIN)),
    key("issuers", Named(&ISSUER)),
    key("identity", Table(&IDENTITY)),
    key("upstreams", Named(&UPSTREAM)),
    key("routes", List(&ROUTE)),
    key("limits", Later),
    key("revocation", Later),
]);

/// A file that `include` names.
pub(super) static INCLUDED: Shape = Shape(&[key("upstreams", Named(&UPSTREAM)), key("routes", List(&ROUTE))]);

/// `[server]`
pub(super) static SERVER: Shape = Shape(&[
    key("listen", Default(r#"["127.0.0.1:8080"]"#)),
    key("workers", Default("0")),
    key("trusted_proxies", Default("[]")),
    key("header_timeout", Default(r#""10s""#)),
    key("idle_timeout", Default(r#""75s""#)),
    key("body_timeout", Default(r#""60s""#)),
    key("send_timeout", Default(r#""5m""#)),
    key("min_bytes_per_second", Default("240")),
    key("max_header_bytes", Default("65536")),
    key("max_connections", Default("10000")),
    key("drain_timeout", Default(r#""30s""#)),
    key("tls", Later),
]);

/// `[admin]`
pub(super) static ADMIN: Shape = Shape(&[key("listen", Default(r#""127.0.0.1:9090""#))]);

/// `[log]`
pub(super) static LOG: Shape = Shape(&[
    key("access", Default(r#""stdout""#)),
    key("format", Default(r#""auto""#)),
    key("level", Default(r#""info""#)),
]);

/// `[store]`
pub(super) static STORE: Shape =
    Shape(&[key("url", Default(r#""sqlite://data/tollgate.db""#)), key("users", Table(&USERS))]);

/// `[store.users]`
pub(super) static USERS: Shape =
    Shape(&[key("collection", Default(r#""users""#)), key("filter", Default("{}")), key("fields", Table(&FIELDS))]);

/// `store.users.fields`
pub(super) static FIELDS: Shape = Shape(&[
    key("login", Default(r#"["username", "email"]"#)),
    key("password", Default(r#""password""#)),
    key("subject", Default(r#""_id""#)),
    key("name", Default(r#""name""#)),
    key("email", Default(r#""email""#)),
    key("roles", Default(r#""roles""#)),
    key("scopes", Default(r#""scopes""#)),
    key("disabled", Default(r#""disabled""#)),
]);

/// `[tokens]`
pub(super) static TOKENS: Shape = Shape(&[
    key("issuer", Default(r#""http://127.0.0.1:8080""#)),
    key("audience", Default(r#"["tollgate"]"#)),
    key("algorithm", Default(r#""ES256""#)),
    key("access_ttl", Default(r#""5m""#)),
    key("leeway", Default(r#""30s""#)),
    key("max_token_bytes", Default("16384")),
    key("cache_bytes", Default("33554432")),
    key("key", Optional),
    key("previous_keys", Default("[]")),
    key("refresh_ttl", Later),
    key("session_ttl", Later),
    key("refresh_grace", Later),
]);

/// `[login]`
pub(super) static LOGIN: Shape = Shape(&[
    key("prefix", Default(r#""/auth""#)),
    key("password_grant", Default("true")),
    key("client_id", Default(r#""tollgate""#)),
    key("hash", Table(&HASH)),
    key("long_password", Default(r#""refuse""#)),
    key("cookie", Later),
    key("allowed_origins", Later),
    key("aliases", Later),
]);

/// `login.hash`
pub(super) static HASH: Shape = Shape(&[
    key("scheme", Default(r#""bcrypt""#)),
    key("cost", Default("12")),
    key("threads", Default("0")),
    key("queue", Default("64")),
    key("priority", Default(r#""idle""#)),
    key("upgrade", Later),
]);

/// `[issuers.<name>]`
pub(super) static ISSUER: Shape = Shape(&[
    key("issuer", Required),
    key("audiences", Required),
    key("algorithms", Required),
    key("keys", Default("[]")),
    key("secret", Optional),
    key("claims", Table(&CLAIMS)),
    key("types", Default(r#"["at+jwt", "jwt", ""]"#)),
    key("jwks_url", Later),
]);

/// `issuers.<name>.claims`
pub(super) static CLAIMS: Shape = Shape(&[
    key("subject", Default(r#""sub""#)),
    key("name", Default(r#""name""#)),
    key("email", Default(r#""email""#)),
    key("scopes", Default(r#""scope""#)),
    key("roles", Default(r#""roles""#)),
    key("expires", Later),
]);

/// `[identity]`
pub(super) static IDENTITY: Shape = Shape(&[key("headers", Table(&IDENTITY_HEADERS))]);

/// `[identity.headers]`
pub(super) static IDENTITY_HEADERS: Shape = Shape(&[
    key("subject", Default(r#""X-Forwarded-User""#)),
    key("name", Default(r#""X-Forwarded-Preferred-Username""#)),
    key("email", Default(r#""X-Forwarded-Email""#)),
    key("roles", Default(r#""X-Forwarded-Groups""#)),
    key("scopes", Default(r#""X-Forwarded-Scopes""#)),
]);

/// `[upstreams.<name>]`
pub(super) static UPSTREAM: Shape = Shape(&[
    key("servers", Required),
    key("balance", Default(r#""least_requests""#)),
    key("connect_timeout", Default(r#""5s""#)),
    key("response_timeout", Default(r#""none""#)),
    key("idle_timeout", Default(r#""5m""#)),
    key("token", Table(&TOKEN)),
    key("health", Later),
]);

/// `upstreams.<name>.token`
pub(super) static TOKEN: Shape = Shape(&[key("mode", Default(r#""strip""#))]);

/// `[[routes]]`
pub(super) static ROUTE: Shape = Shape(&[
    key("name", Optional),
    key("path", Required),
    key("methods", Default("[]")),
    key("hosts", Default("[]")),
    key("upstream", Required),
    key("auth", Default(r#""required""#)),
    key("scopes", Default("[]")),
    key("any_scope", Default("[]")),
    key("any_role", Default("[]")),
    key("claims", Default("{}")),
    key("strip_prefix", Optional),
    key("rewrite", Optional),
    key("max_body_bytes", Default("0")),
    key("timeout", Default(r#""none""#)),
    key("limit", Later),
    key("limits", Later),
    key("rate_limit", Later),
    key("websocket", Later),
    key("revocation", Later),
]);

/// `{ env = … }` or `{ file = … }`, wherever a secret stands.
pub(super) static SECRET: Shape = Shape(&[key("env", Optional), key("file", Optional)]);

/// One of `issuers.<name>.keys`.
pub(super) static PUBLIC_KEY: Shape = Shape(&[key("file", Optional), key("jwk_file", Optional)]);

const fn key(name: &'static str, content: Content) -> Key {
    Key { name, content }
}

impl Shape {
    /// The key of that name.
    pub(super) fn key(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.name == name)
    }

    /// The names of the keys that can be used.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(|key| !matches!(key.content, Later)).map(|key| key.name)
    }
}
