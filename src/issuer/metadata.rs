//! What clients can find out about the issuer by themselves: RFC 8414 and OpenID Connect Discovery 1.0. Only what exists is in it.

use serde_json::{Value, json};

use crate::token::TokenSettings;

use super::LoginSettings;
use super::document::Document;

/// Both documents, made once.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) openid_configuration: Document,
    pub(super) oauth_authorization_server: Document,
    /// Path of the issuer without the last `/`; empty for most.
    pub(super) issuer_path: String,
}

impl Metadata {
    /// `None` if the issuer is not an `http` or `https` URL without query and fragment (RFC 8414 section 2): then nobody could
    /// find the documents, and the URLs in them would be wrong.
    pub(super) fn new(login: &LoginSettings, tokens: &TokenSettings) -> Option<Self> {
        let issuer_path = issuer_path(&tokens.issuer)?.to_owned();
        Some(Self {
            openid_configuration: Document::new(&openid_configuration(login, tokens)),
            oauth_authorization_server: Document::new(&oauth_authorization_server(login, tokens)),
            issuer_path,
        })
    }
}

/// RFC 8414 section 2, by its order.
fn oauth_authorization_server(login: &LoginSettings, tokens: &TokenSettings) -> Value {
    let base = base(tokens);
    let grants: &[&str] = if login.password_grant { &["password", "refresh_token"] } else { &["refresh_token"] };
    let mut document = json!({
        "issuer": tokens.issuer,
        "token_endpoint": format!("{base}{}/token", login.prefix),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        // Empty, against section 3.2, because it is required.
        "response_types_supported": [],
        "grant_types_supported": grants,
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint": format!("{base}{}/revoke", login.prefix),
        "revocation_endpoint_auth_methods_supported": ["none"],
    });
    if login.introspection_scope.is_some() {
        document["introspection_endpoint"] = format!("{base}{}/introspect", login.prefix).into();
        // A type of access tokens: section 2 allows it here.
        document["introspection_endpoint_auth_methods_supported"] = json!(["Bearer"]);
    }
    document
}

/// The same, and what OpenID Connect Discovery 1.0 section 3 adds. We issue no ID tokens; resource servers take from
/// `id_token_signing_alg_values_supported` what signs the access tokens, so that is what it says.
fn openid_configuration(login: &LoginSettings, tokens: &TokenSettings) -> Value {
    let mut document = oauth_authorization_server(login, tokens);
    document["userinfo_endpoint"] = format!("{}{}/me", base(tokens), login.prefix).into();
    document["subject_types_supported"] = json!(["public"]);
    document["id_token_signing_alg_values_supported"] = json!([tokens.algorithm.name()]);
    document
}

/// What our paths are appended to. `issuer` itself keeps its last `/`, because tokens are compared with it octet for octet.
fn base(tokens: &TokenSettings) -> &str {
    tokens.issuer.trim_end_matches('/')
}

fn issuer_path(issuer: &str) -> Option<&str> {
    let rest = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain =
        !authority.is_empty() && !rest.contains(['?', '#']) && rest.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::keyset::Algorithm;

    fn tokens(issuer: &str) -> TokenSettings {
        TokenSettings {
            issuer: issuer.into(),
            audience: Vec::new(),
            algorithm: Algorithm::RS256,
            access_ttl: Duration::from_secs(300),
            leeway: Duration::from_secs(30),
            max_token_bytes: 16_384,
            cache_bytes: 0,
        }
    }

    fn login(password_grant: bool) -> LoginSettings {
        LoginSettings { password_grant, ..super::super::tests::login_settings() }
    }

    #[test]
    fn the_documents_name_what_exists_and_nothing_else() {
        let tokens = tokens("https://gate.example.org");
        let common = json!({
            "issuer": "https://gate.example.org",
            "token_endpoint": "https://gate.example.org/auth/token",
            "jwks_uri": "https://gate.example.org/.well-known/jwks.json",
            "response_types_supported": [],
            "grant_types_supported": ["password", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint": "https://gate.example.org/auth/revoke",
            "revocation_endpoint_auth_methods_supported": ["none"],
        });
        assert_eq!(oauth_authorization_server(&login(true), &tokens), common);
        let mut openid = common;
        openid["userinfo_endpoint"] = "https://gate.example.org/auth/me".into();
        openid["subject_types_supported"] = json!(["public"]);
        openid["id_token_signing_alg_values_supported"] = json!(["RS256"]);
        assert_eq!(openid_configuration(&login(true), &tokens), openid);
    }

    #[test]
    fn a_password_grant_that_is_off_is_not_named() {
        let document = oauth_authorization_server(&login(false), &tokens("https://gate.example.org"));
        assert_eq!(document["grant_types_supported"], json!(["refresh_token"]));
    }

    #[test]
    fn introspection_is_named_where_it_is_switched_on() {
        let login = LoginSettings { introspection_scope: Some("ask".into()), ..login(true) };
        let document = oauth_authorization_server(&login, &tokens("https://gate.example.org"));
        assert_eq!(document["introspection_endpoint"], "https://gate.example.org/auth/introspect");
    }

    #[test]
    fn an_issuer_with_a_last_slash_stays_as_it_is_and_the_urls_have_one_slash() {
        let document = oauth_authorization_server(&login(true), &tokens("https://gate.example.org/lab/"));
        assert_eq!(document["issuer"], "https://gate.example.org/lab/");
        assert_eq!(document["token_endpoint"], "https://gate.example.org/lab/auth/token");
    }

    #[test]
    fn only_an_http_url_has_documents() {
        for (issuer, path) in [
            ("http://127.0.0.1:8080", Some("")),
            ("https://a.example/", Some("")),
            ("https://a.example/x/y/", Some("/x/y")),
            ("lab", None),
            ("https://", None),
            ("https:///x", None),
            ("https://a.example/?x", None),
            ("https://a.example#x", None),
            ("https://a.example/ b", None),
            ("urn:tollgate", None),
        ] {
            assert_eq!(issuer_path(issuer), path, "{issuer}");
            assert_eq!(Metadata::new(&login(true), &tokens(issuer)).is_some(), path.is_some(), "{issuer}");
        }
    }
}
