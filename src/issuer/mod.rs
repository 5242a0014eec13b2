//! The authorization-server half: the endpoints under `/auth` and `/.well-known`.

/// `[login]`.
#[derive(Debug, Clone)]
pub struct LoginSettings {
    /// Where the endpoints are. Begins with `/`, does not end with it. Default `/auth`.
    pub prefix: String,
    /// Whether `POST <prefix>/token` takes `grant_type=password`. Default true.
    pub password_grant: bool,
    /// `client_id` of tokens from a login that names no client. Default `tollgate`.
    pub client_id: String,
}
