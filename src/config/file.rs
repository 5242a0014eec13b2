//! The file's shape, key for key: every name, every kind of value, and every default.
//!
//! A default is TOML text, read by the same code that reads the user's value. From this one list come `config show`, the
//! JSON Schema, docs/configuration.md, and "did you mean".

use crate::issuer::Dialect;
use crate::keyset::Algorithm;

use super::kind::Kind::{
    self, Boolean, Choice, Duration, DurationOrNone, Integer, OneOf, Table as AnyTable, Text, Texts,
};
use super::kind::{Form, List as ListOf, WORD, distinct, list, set, text};

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
    Default(Kind, &'static str),
    /// A value that must be there.
    Required(Kind),
    /// A value that may be left out, and then means something that no text says.
    Optional(Kind),
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
    key("include", Default(distinct(&PATTERN_OF_FILES), "[]")),
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
    key("revocation", Table(&REVOCATION)),
]);

/// A file that `include` names.
pub(super) static INCLUDED: Shape = Shape(&[key("upstreams", Named(&UPSTREAM)), key("routes", List(&ROUTE))]);

/// `[server]`
pub(super) static SERVER: Shape = Shape(&[
    key("listen", Default(set(&SOCKET_ADDRESS), r#"["127.0.0.1:8080"]"#)),
    key("workers", Default(Integer(0, 1024), "0")),
    key("pin_workers", Default(Boolean, "true")),
    key("trusted_proxies", Default(distinct(&NETWORK), "[]")),
    key("header_timeout", Default(Duration("1ms", "365d"), r#""10s""#)),
    key("idle_timeout", Default(Duration("1ms", "365d"), r#""75s""#)),
    key("body_timeout", Default(Duration("1ms", "365d"), r#""60s""#)),
    key("send_timeout", Default(Duration("1ms", "365d"), r#""5m""#)),
    key("min_bytes_per_second", Default(Integer(0, 1_000_000), "240")),
    key("max_header_bytes", Default(Integer(8192, 1_048_576), "65536")),
    key("max_connections", Default(Integer(1, 1_000_000), "10000")),
    key("drain_timeout", Default(Duration("0s", "1d"), r#""30s""#)),
    key("tls", Later),
]);

/// `[admin]`
pub(super) static ADMIN: Shape = Shape(&[key("listen", Default(SOCKET_ADDRESS_OR_NOTHING, r#""127.0.0.1:9090""#))]);

/// `[log]`
pub(super) static LOG: Shape = Shape(&[
    key("access", Default(ACCESS_LOG, r#""stdout""#)),
    key("audit", Default(AUDIT_LOG, r#""log""#)),
    key("format", Default(Choice(&["auto", "json", "text"]), r#""auto""#)),
    key("level", Default(LOG_LEVEL, r#""info""#)),
]);

/// `[store]`
pub(super) static STORE: Shape = Shape(&[
    key("url", Default(STORE_URL, r#""sqlite://data/tollgate.db""#)),
    key("encryption_key", Optional(OneOf(&SECRET))),
    key("previous_encryption_keys", Default(list(&OneOf(&SECRET)), "[]")),
    key("users", Table(&USERS)),
]);

/// `[store.users]`
pub(super) static USERS: Shape = Shape(&[
    key("collection", Default(COLLECTION, r#""users""#)),
    key("filter", Default(AnyTable, "{}")),
    key("fields", Table(&FIELDS)),
]);

/// `store.users.fields`
pub(super) static FIELDS: Shape = Shape(&[
    key("login", Default(LOGIN_FIELDS, r#"["username", "email"]"#)),
    key("password", Default(FIELD, r#""password""#)),
    key("subject", Default(FIELD, r#""_id""#)),
    key("name", Default(FIELD_OR_NOTHING, r#""name""#)),
    key("email", Default(FIELD_OR_NOTHING, r#""email""#)),
    key("roles", Default(FIELD_OR_NOTHING, r#""roles""#)),
    key("scopes", Default(FIELD_OR_NOTHING, r#""scopes""#)),
    key("disabled", Default(FIELD_OR_NOTHING, r#""disabled""#)),
]);

/// `[tokens]`
pub(super) static TOKENS: Shape = Shape(&[
    key("issuer", Default(OWN_ISSUER, r#""http://127.0.0.1:8080""#)),
    key("audience", Default(distinct(&WORD), r#"["tollgate"]"#)),
    key("algorithm", Default(ALGORITHM, r#""ES256""#)),
    key("access_ttl", Default(Duration("30s", "1d"), r#""5m""#)),
    key("leeway", Default(Duration("0s", "1m"), r#""30s""#)),
    key("max_token_bytes", Default(Integer(1024, 1_048_576), "16384")),
    key("cache_bytes", Default(Integer(0, 1 << 40), "33554432")),
    key("key", Optional(OneOf(&SECRET))),
    key("previous_keys", Default(list(&OneOf(&SECRET)), "[]")),
    key("rotate_every", Default(DurationOrNone, r#""none""#)),
    key("refresh_ttl", Default(Duration("1m", "365d"), r#""1h""#)),
    key("session_ttl", Default(Duration("1m", "3650d"), r#""30d""#)),
    key("refresh_grace", Default(Duration("0s", "5m"), r#""10s""#)),
]);

/// `[login]`
pub(super) static LOGIN: Shape = Shape(&[
    key("prefix", Default(PREFIX, r#""/auth""#)),
    key("password_grant", Default(Boolean, "true")),
    key("client_id", Default(WORD, r#""tollgate""#)),
    key("store_patience", Default(Duration("0s", "2m"), r#""10s""#)),
    key("hash", Table(&HASH)),
    key("throttle", Table(&THROTTLE)),
    key("long_password", Default(Choice(&["refuse", "truncate"]), r#""refuse""#)),
    key("cookie", Table(&COOKIE)),
    key("register", Default(Boolean, "false")),
    key("introspection_scope", Optional(SCOPE)),
    key("allowed_origins", Default(distinct(&ORIGIN), "[]")),
    key("exposed_headers", Default(distinct(&HEADER_NAME), EXPOSED_HEADERS)),
    key("aliases", List(&ALIAS)),
]);

/// `[[login.aliases]]`
pub(super) static ALIAS: Shape = Shape(&[
    key("path", Required(PREFIX)),
    key("does", Required(Choice(&["login", "refresh", "logout", "me"]))),
    key("profile", Default(Choice(&PROFILES), r#""native""#)),
]);

/// `login.cookie`
pub(super) static COOKIE: Shape = Shape(&[
    key("name", Default(COOKIE_NAME, r#""tollgate_refresh""#)),
    key("same_site", Default(Choice(&["strict", "lax", "none"]), r#""strict""#)),
    key("secure", Default(Kind::BooleanOr("auto"), r#""auto""#)),
    key("domain", Default(COOKIE_DOMAIN, r#""""#)),
]);

/// `login.hash`
pub(super) static HASH: Shape = Shape(&[
    key("scheme", Default(Choice(&["bcrypt", "argon2id"]), r#""bcrypt""#)),
    key("cost", Default(Integer(10, 16), "12")),
    key("threads", Default(Integer(0, 256), "0")),
    key("queue", Default(Integer(1, 100_000), "64")),
    key("priority", Default(Choice(&["idle", "low"]), r#""idle""#)),
    key("upgrade", Default(Boolean, "false")),
]);

/// `[login.throttle]`
pub(super) static THROTTLE: Shape = Shape(&[
    key("enabled", Default(Boolean, "true")),
    key("account", Table(&THROTTLE_ACCOUNT)),
    key("account_and_address", Table(&THROTTLE_BOTH)),
    key("address", Table(&THROTTLE_ADDRESS)),
    key("known_for", Default(Duration("0s", "365d"), r#""30d""#)),
]);

/// `login.throttle.account`
pub(super) static THROTTLE_ACCOUNT: Shape = Shape(&[
    key("free", Default(Integer(1, 1_000_000), "100")),
    key("max_delay", Default(Duration("1s", "1d"), r#""10s""#)),
    key("forget", Default(Duration("1s", "1d"), r#""1m""#)),
]);

/// `login.throttle.account_and_address`
pub(super) static THROTTLE_BOTH: Shape = Shape(&[
    key("free", Default(Integer(1, 1_000_000), "10")),
    key("max_delay", Default(Duration("1s", "1d"), r#""15m""#)),
    key("forget", Default(Duration("1s", "1d"), r#""10m""#)),
]);

/// `login.throttle.address`
pub(super) static THROTTLE_ADDRESS: Shape = Shape(&[
    key("free", Default(Integer(1, 1_000_000), "100")),
    key("max_delay", Default(Duration("1s", "1d"), r#""1m""#)),
    key("forget", Default(Duration("1s", "1d"), r#""30s""#)),
]);

/// `[issuers.<name>]`
pub(super) static ISSUER: Shape = Shape(&[
    key("issuer", Optional(WORD)),
    key("audiences", Required(distinct(&WORD))),
    key("algorithms", Required(set(&ALGORITHM))),
    key("keys", Default(list(&OneOf(&PUBLIC_KEY)), "[]")),
    key("secret", Optional(OneOf(&SECRET))),
    key("allow_weak_secret", Default(Boolean, "false")),
    key("claims", Table(&CLAIMS)),
    key("types", Default(set(&TOKEN_TYPE), r#"["at+jwt", "jwt", ""]"#)),
    key("jwks_url", Optional(KEY_URL)),
    key("discovery", Default(Boolean, "false")),
    key("discovery_url", Optional(KEY_URL)),
    key("jwks_refresh", Default(Duration("1s", "1d"), r#""5m""#)),
    key("jwks_cooldown", Default(Duration("1s", "1h"), r#""30s""#)),
    key("jwks_max_stale", Default(Duration("1s", "365d"), r#""1d""#)),
    key("tls_ca", Optional(FILE_NAME)),
]);

/// `issuers.<name>.claims`
pub(super) static CLAIMS: Shape = Shape(&[
    key("subject", Default(CLAIM, r#""sub""#)),
    key("name", Default(CLAIM, r#""name""#)),
    key("email", Default(CLAIM, r#""email""#)),
    key("scopes", Default(CLAIM, r#""scope""#)),
    key("roles", Default(CLAIM, r#""roles""#)),
    key("expires", Default(CLAIM, r#""exp""#)),
]);

/// `[identity]`
pub(super) static IDENTITY: Shape = Shape(&[key("headers", Table(&IDENTITY_HEADERS))]);

/// `[identity.headers]`
pub(super) static IDENTITY_HEADERS: Shape = Shape(&[
    key("subject", Default(HEADER, r#""X-Forwarded-User""#)),
    key("name", Default(HEADER, r#""X-Forwarded-Preferred-Username""#)),
    key("email", Default(HEADER, r#""X-Forwarded-Email""#)),
    key("roles", Default(HEADER, r#""X-Forwarded-Groups""#)),
    key("scopes", Default(HEADER, r#""X-Forwarded-Scopes""#)),
]);

/// `[upstreams.<name>]`
pub(super) static UPSTREAM: Shape = Shape(&[
    key("servers", Required(set(&SERVER_ADDRESS))),
    key("balance", Default(Choice(&["round_robin", "least_requests"]), r#""least_requests""#)),
    key("connect_timeout", Default(Duration("1ms", "10m"), r#""5s""#)),
    key("response_timeout", Default(DurationOrNone, r#""none""#)),
    key("idle_timeout", Default(DurationOrNone, r#""5m""#)),
    key("token", Table(&TOKEN)),
    key("health", Later),
]);

/// `upstreams.<name>.token`
pub(super) static TOKEN: Shape = Shape(&[
    key("mode", Default(Choice(&["strip", "pass", "mint"]), r#""strip""#)),
    key("secret", Optional(OneOf(&SECRET))),
    key("key", Optional(OneOf(&SECRET))),
    key("algorithm", Optional(ALGORITHM)),
    key("lifetime", Default(Duration("10s", "1h"), r#""1m""#)),
    key("issuer", Optional(WORD_OR_NOTHING)),
    key("audience", Default(distinct(&WORD), "[]")),
    key("claims", Optional(AnyTable)),
]);

/// `[[routes]]`
pub(super) static ROUTE: Shape = Shape(&[
    key("name", Optional(WORD)),
    key("path", Required(PATH_PATTERN)),
    key("methods", Default(distinct(&Choice(&METHODS)), "[]")),
    key("hosts", Default(distinct(&HOST), "[]")),
    key("upstream", Required(UPSTREAM_NAME)),
    key("auth", Default(Choice(&["required", "optional", "public"]), r#""required""#)),
    key("scopes", Default(distinct(&SCOPE), "[]")),
    key("any_scope", Default(distinct(&SCOPE), "[]")),
    key("any_role", Default(distinct(&WORD), "[]")),
    key("claims", Default(Texts, "{}")),
    key("strip_prefix", Optional(PATH_PREFIX)),
    key("rewrite", Optional(PATH_TEMPLATE)),
    key("max_body_bytes", Default(Integer(0, i64::MAX.unsigned_abs()), "0")),
    key("timeout", Default(DurationOrNone, r#""none""#)),
    key("limit", Later),
    key("limits", Later),
    key("rate_limit", Later),
    key("revocation", Default(Choice(&["lenient", "strict"]), r#""lenient""#)),
    key("websocket", Later),
]);

/// `[revocation]`
pub(super) static REVOCATION: Shape = Shape(&[
    key("feed", Default(Choice(&["auto", "polling"]), r#""auto""#)),
    key("poll_interval", Default(Duration("100ms", "2s"), r#""500ms""#)),
    key("max_feed_age", Default(Duration("5s", "1h"), r#""30s""#)),
    key("max_entries", Default(Integer(1000, 100_000_000), "1000000")),
]);

/// `{ env = … }` or `{ file = … }`, wherever a secret stands.
pub(super) static SECRET: Shape = Shape(&[key("env", Optional(VARIABLE)), key("file", Optional(FILE_NAME))]);

/// One of `issuers.<name>.keys`.
pub(super) static PUBLIC_KEY: Shape = Shape(&[key("file", Optional(FILE_NAME)), key("jwk_file", Optional(FILE_NAME))]);

const WORD_OR_NOTHING: Kind = Text(Form { name: "text, or `\"\"`", pattern: None });
const SOCKET_ADDRESS: Kind = text("IP address with a port", "^.+:[0-9]+$");
const SOCKET_ADDRESS_OR_NOTHING: Kind = text("IP address with a port, or `\"\"`", "^(.+:[0-9]+)?$");
const NETWORK: Kind = text("network or address", "^[0-9A-Fa-f:.]+(/[0-9]+)?$");
const ACCESS_LOG: Kind = text("`\"stdout\"`, `\"off\"` or a path", "^.");
const AUDIT_LOG: Kind = text("`\"log\"`, `\"off\"` or a path", "^.");
const LOG_LEVEL: Kind = text("level or directives", "^.");
const STORE_URL: Kind = Kind::TextOrOneOf(Form { name: "URL", pattern: Some("^(sqlite|mongodb)://.") }, &SECRET);
const COLLECTION: Kind = text("name of a collection", "^[^$]+$");
const FIELD: Kind = text("name of a field", "^.");
const FIELD_OR_NOTHING: Kind = Text(Form { name: "name of a field, or `\"\"`", pattern: None });
const LOGIN_FIELDS: Kind = Kind::OneOrList(ListOf { of: &FIELD, least: 1, is_distinct: true });
const OWN_ISSUER: Kind = text("address", "^https?://[^?#@ ]*[^?#@ /]$");
const PREFIX: Kind = text("path", "^(/[A-Za-z0-9._~-]+)+$");
const COOKIE_NAME: Kind = text("name of a cookie", "^[A-Za-z0-9!#%&'*+.^_`|~-][A-Za-z0-9!#$%&'*+.^_`|~-]*$");
const COOKIE_DOMAIN: Kind = text("domain, or `\"\"`", "^([A-Za-z0-9-]+([.][A-Za-z0-9-]+)+)?$");
const CLAIM: Kind = text("name of a claim", "^.");
const KEY_URL: Kind = text("address", "^https?://[^#@]+$");
const TOKEN_TYPE: Kind = text("media type, or `\"\"`", "^[!-~]*$");
const HEADER: Kind = text("name of a header, or `\"\"`", "^[A-Za-z0-9!#$%&'*+.^_`|~-]*$");
const HEADER_NAME: Kind = text("name of a header", "^[A-Za-z0-9!#$%&'+.^_`|~-]+$");
const ORIGIN: Kind = text("`\"https://host:port\"`", "^[a-zA-Z-]+://[^/?#@*]+$");
const SERVER_ADDRESS: Kind = text("`\"http://host:port\"`", "^http://[^/?#@]+$");
const PATH_PATTERN: Kind = text("path with parameters", "^/");
const PATH_PREFIX: Kind = text("path", "^/.");
const PATH_TEMPLATE: Kind = text("path with parameters", "^/");
const PATTERN_OF_FILES: Kind = text("path, with `*` and `?` in its last part", "^.");
const HOST: Kind = text("name of a host", "^[^/]+$");
const UPSTREAM_NAME: Kind = text("name of an upstream", "^.");
/// RFC 6749 section 3.3.
const SCOPE: Kind = text("scope", "^[!#-\\[\\]-~]+$");
const VARIABLE: Kind = text("name of an environment variable", "^.");
const FILE_NAME: Kind = text("path of a file", "^.");

const PROFILES: [&str; Dialect::ALL.len()] = {
    let mut names = [""; Dialect::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = Dialect::ALL[index].0;
        index += 1;
    }
    names
};

const ALGORITHM: Kind = Choice(&ALGORITHMS);

const ALGORITHMS: [&str; Algorithm::ALL.len()] = {
    let mut names = [""; Algorithm::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = Algorithm::ALL[index].name();
        index += 1;
    }
    names
};

/// The methods that can be served: those of RFC 9110 section 9 and RFC 5789, [`COMMON_METHODS`] in number; then WebDAV's (RFC 4918,
/// 3253, 5323, 3648, 3744), and QUERY, which are real, and not likely meant by a misspelling of others.
pub(super) const METHODS: [&str; 19] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "ACL",
    "CHECKOUT",
    "QUERY",
];

/// How many of [`METHODS`] a message lists.
pub(super) const COMMON_METHODS: usize = 7;

/// What clients of lists, of byte ranges (Zarr, GeoTIFF, PMTiles) and of refusals read, besides what they always can.
const EXPOSED_HEADERS: &str = r#"["Accept-Ranges", "Content-Disposition", "Content-Encoding", "Content-Range", "ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id", "X-Total-Count"]"#;

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
