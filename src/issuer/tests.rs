//! The endpoints' paths and methods, and what refusals say.

use super::metadata::Metadata;
use super::*;
use crate::account::LoginError;
use crate::keyset::Algorithm;
use crate::session::{InvalidRefresh, RefreshError, SessionId};
use std::error::Error as _;
use std::time::Duration;

use http::Method;

fn tokens(issuer: &str) -> TokenSettings {
    TokenSettings {
        issuer: issuer.into(),
        audience: Vec::new(),
        algorithm: Algorithm::ES256,
        access_ttl: Duration::from_secs(300),
        leeway: Duration::from_secs(30),
        max_token_bytes: 16_384,
        cache_bytes: 0,
    }
}

/// The settings of a file that says nothing of logins.
pub(super) fn login_settings() -> LoginSettings {
    LoginSettings {
        prefix: "/auth".into(),
        password_grant: true,
        client_id: "tollgate".into(),
        cookie: CookieSettings {
            name: "tollgate_refresh".into(),
            same_site: SameSite::Strict,
            is_secure: true,
            domain: None,
        },
        register: false,
        introspection_scope: None,
        store_patience: Duration::from_secs(10),
        aliases: Aliases::default(),
    }
}

#[track_caller]
fn check_endpoint(prefix: &str, issuer: &str, path: &str, expected: Option<Endpoint>) {
    let login = LoginSettings { prefix: prefix.into(), ..login_settings() };
    let endpoints = Endpoints::new(&login, &tokens(issuer));
    assert_eq!(endpoints.find(path), expected, "{path} under {prefix} of {issuer}");
}

#[test]
fn an_endpoint_is_found_by_its_exact_path() {
    for (path, endpoint) in [
        ("/auth/login", Endpoint::Login),
        ("/auth/token", Endpoint::Token),
        ("/auth/refresh", Endpoint::Refresh),
        ("/auth/logout", Endpoint::Logout),
        ("/auth/me", Endpoint::Me),
        ("/auth/sessions", Endpoint::Sessions),
        ("/auth/password", Endpoint::Password),
        ("/auth/revoke", Endpoint::Revoke),
        ("/auth/check", Endpoint::Check),
        ("/.well-known/jwks.json", Endpoint::Jwks),
        ("/.well-known/openid-configuration", Endpoint::OpenidConfiguration),
        ("/.well-known/oauth-authorization-server", Endpoint::OauthAuthorizationServer),
    ] {
        check_endpoint("/auth", "http://127.0.0.1:8080", path, Some(endpoint));
        for other in [format!("{path}/"), format!("{path}x"), format!("/x{path}"), path.to_uppercase()] {
            check_endpoint("/auth", "http://127.0.0.1:8080", &other, None);
        }
    }
    let others =
        ["/", "/auth", "/auth/", "/authlogin", "/.well-known/", "/datasets", "/auth/sessions/", "/auth/sessions/a/b"];
    for other in others.into_iter().chain(["/auth/register", "/auth/introspect"]) {
        check_endpoint("/auth", "http://127.0.0.1:8080", other, None);
    }
}

#[test]
fn a_session_is_named_in_the_path() {
    check_endpoint("/auth", "http://a.example", "/auth/sessions/AbC-_", Some(Endpoint::Session));
    let endpoints = Endpoints::new(&login_settings(), &tokens("http://a.example"));
    assert_eq!(endpoints.session_id("/auth/sessions/AbC-_"), Some("AbC-_"));
    assert_eq!(endpoints.session_id("/auth/sessions"), None);
}

#[test]
fn what_is_switched_on_is_found() {
    let login = LoginSettings { register: true, introspection_scope: Some("ask".into()), ..login_settings() };
    let endpoints = Endpoints::new(&login, &tokens("http://a.example"));
    assert_eq!(endpoints.find("/auth/register"), Some(Endpoint::Register));
    assert_eq!(endpoints.find("/auth/introspect"), Some(Endpoint::Introspect));
}

#[test]
fn the_prefix_moves_the_login_and_not_the_discovery() {
    check_endpoint("/gate/auth", "http://a.example", "/gate/auth/login", Some(Endpoint::Login));
    check_endpoint("/gate/auth", "http://a.example", "/auth/login", None);
    check_endpoint("/gate/auth", "http://a.example", "/.well-known/jwks.json", Some(Endpoint::Jwks));
    check_endpoint("/.well-known", "http://a.example", "/.well-known/login", Some(Endpoint::Login));
    check_endpoint("/.well-known", "http://a.example", "/.well-known/jwks.json", Some(Endpoint::Jwks));
}

#[test]
fn an_issuer_with_a_path_is_found_where_rfc_8414_puts_it() {
    let path = "/.well-known/oauth-authorization-server/lab/one";
    check_endpoint("/auth", "https://a.example/lab/one/", path, Some(Endpoint::OauthAuthorizationServer));
    check_endpoint("/auth", "https://a.example/lab", path, None);
    check_endpoint("/auth", "https://a.example", path, None);
}

#[test]
fn an_issuer_that_is_no_url_has_keys_but_no_discovery() {
    check_endpoint("/auth", "lab", "/.well-known/jwks.json", Some(Endpoint::Jwks));
    check_endpoint("/auth", "lab", "/.well-known/openid-configuration", None);
    check_endpoint("/auth", "lab", "/.well-known/oauth-authorization-server", None);
}

#[test]
fn only_what_must_be_is_taken_by_get() {
    for endpoint in [Endpoint::Login, Endpoint::Token, Endpoint::Password, Endpoint::Revoke, Endpoint::Introspect] {
        assert_eq!(endpoint.methods(), [Method::POST], "{endpoint:?}");
    }
    for endpoint in [Endpoint::Refresh, Endpoint::Logout] {
        assert_eq!(endpoint.methods(), [Method::GET, Method::POST], "{endpoint:?}");
    }
    assert_eq!(Endpoint::Session.methods(), [Method::DELETE]);
    for endpoint in [Endpoint::Me, Endpoint::Sessions, Endpoint::Check, Endpoint::Jwks, Endpoint::OpenidConfiguration] {
        assert_eq!(endpoint.methods(), [Method::GET, Method::HEAD], "{endpoint:?}");
    }
}

fn failed_logins() -> Vec<LoginError> {
    let subject = || "subject-7".to_owned();
    vec![
        LoginError::UnknownUser,
        LoginError::AmbiguousLogin,
        LoginError::WrongPassword { subject: Some(subject()) },
        LoginError::Disabled { subject: subject() },
        LoginError::MalformedRecord { subject: subject(), reason: "no hash".into() },
    ]
}

#[test]
fn failed_logins_look_the_same_to_the_client_and_different_in_the_log() {
    let mut log_lines = std::collections::HashSet::new();
    for cause in failed_logins() {
        let error = IssuerError::from(cause);
        assert!(matches!(error, IssuerError::LoginFailed(_)));
        assert_eq!(error.sentence(), "The username or the password is wrong.");
        assert!(log_lines.insert(error.source().unwrap().to_string()));
        let error = OauthError::from(error);
        let expected = serde_json::json!({
            "error": "invalid_grant",
            "error_description": "The username or the password is wrong.",
        });
        assert_eq!(error.body(), expected);
    }
    assert_eq!(log_lines.len(), 5);
}

#[test]
fn an_overload_says_when_to_try_again() {
    let error = IssuerError::from(LoginError::Overloaded { retry_after: Duration::from_secs(2) });
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    let error = OauthError::from(error);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    assert_eq!(error.code(), OauthErrorCode::TemporarilyUnavailable);
}

#[test]
fn descriptions_keep_to_the_characters_of_rfc_6749() {
    let forms = [
        FormError::ContentTypeMissing,
        FormError::Charset,
        FormError::Compressed,
        FormError::TooLong { bytes: 70_000 },
        FormError::TooManyFields,
        FormError::NotUtf8,
        FormError::Json { line: 1, column: 2 },
        FormError::PercentEncoding,
        FormError::Multipart,
        FormError::FilePart,
        FormError::Duplicate { field: Some(Field::Username) },
        FormError::Duplicate { field: None },
        FormError::NotText { field: Field::Password },
        FormError::GrantType,
        FormError::MissingBoth,
        FormError::Missing { field: Field::Username },
    ];
    let errors = forms.into_iter().map(|error| OauthError::Login(IssuerError::Form(error))).chain([
        OauthError::AuthorizationRepeated,
        OauthError::AuthorizationUnusable,
        OauthError::BasicSecret,
        OauthError::ClientMismatch,
        OauthError::GrantTypeMissing,
        OauthError::GrantTypeUnsupported,
        IssuerError::ClientId.into(),
        IssuerError::ClientSecret.into(),
        IssuerError::ScopeMalformed.into(),
        IssuerError::ScopeNotGranted { subject: "subject-7".into() }.into(),
        IssuerError::from(LoginError::UnknownUser).into(),
        IssuerError::RefreshMissing.into(),
        IssuerError::from(RefreshError::from(InvalidRefresh::Foreign)).into(),
        IssuerError::NoSession.into(),
        IssuerError::OtherClient { session: SessionId([7; 16]) }.into(),
        IssuerError::NewPassword(crate::account::NewPasswordError::TooLongForBcrypt).into(),
    ]);
    for error in errors {
        let description = error.description();
        let is_allowed = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        assert!(description.bytes().all(is_allowed), "{description}");
        assert!(description.ends_with('.') && !description.contains("subject-7"), "{description}");
    }
}

#[test]
fn the_documents_say_how_long_they_may_be_kept() {
    let login = login_settings();
    let metadata = Metadata::new(&login, &tokens("http://a.example")).unwrap();
    for document in [metadata.openid_configuration, metadata.oauth_authorization_server] {
        let answer = document.answer(&HeaderMap::new());
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers[CACHE_CONTROL], "public, max-age=300");
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["issuer"], "http://a.example");
    }
}

#[test]
fn a_token_answer_is_never_kept_and_never_shown() {
    let answer = Answer::not_stored(&serde_json::json!({"access_token": "abc.def.ghi"}));
    assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers[PRAGMA], "no-cache");
    assert!(!format!("{answer:?}").contains("abc"));
}

#[test]
fn a_caller_learns_what_the_token_says() {
    let roles: [Box<str>; 1] = ["scientist".into()];
    let profile = profile::Profile {
        sub: "7",
        subject: "7",
        name: Some("Ada"),
        email: None,
        roles: &roles,
        scopes: &[],
        issuer: "http://a.example",
        session: None,
        expires_at: UnixSeconds(1_700_000_000),
    };
    let answer = Answer::not_stored(&profile);
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let expected = serde_json::json!({
        "sub": "7", "subject": "7", "name": "Ada", "email": null, "roles": ["scientist"], "scopes": [],
        "issuer": "http://a.example", "session": null, "expires_at": 1_700_000_000,
    });
    assert_eq!(json, expected);
}
