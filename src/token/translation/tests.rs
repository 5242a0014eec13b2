//! Upstream tokens: what is in them, and how long one serves.

use base64::Engine as _;
use serde_json::{Value, json};

use super::*;
use crate::keyset::{KeySet, VerificationKey};
use crate::token::{TokenSettings, TrustedIssuer, TrustedIssuerSettings, Verifier};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const LEEWAY: Duration = Duration::from_secs(30);
const SLOT: Slot = Slot { position: 1, of: 2 };

/// A caller with these claims besides the necessary ones, whose token has `life` left.
fn caller(claims: &Value, life: u64) -> Identity {
    let key = SigningKey::from_secret(b"Xn4vKb7QyT1rWc8ZsD3gMj6HpLf9AeUo", Algorithm::HS256).unwrap();
    let mut payload = json!({ "iss": "sso", "aud": "a", "sub": "u-1", "exp": NOW.0 + life });
    payload.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(payload.to_string()));
    let token = format!("{message}.{}", key.sign(message.as_bytes()).unwrap());
    let settings = TokenSettings {
        issuer: "https://gate.example.org".to_owned(),
        audience: Vec::new(),
        algorithm: Algorithm::ES256,
        access_ttl: Duration::from_secs(300),
        leeway: LEEWAY,
        max_token_bytes: 16_384,
        cache_bytes: 0,
    };
    let issuer = TrustedIssuer {
        settings: TrustedIssuerSettings {
            name: "sso".into(),
            issuer: Some("sso".to_owned()),
            audiences: vec!["a".to_owned()],
            claims: crate::token::ClaimNames::default(),
            types: TrustedIssuerSettings::default_types(),
        },
        keys: vec![key.verification_key()],
        remote: None,
    };
    let keys = KeySet::new(Vec::new(), vec![issuer.keys.clone()]);
    Verifier::new(&settings, &[issuer]).verify(&token, &keys, NOW).unwrap()
}

fn ada() -> Identity {
    let claims = json!({
        "name": "Ada \"Countess\" Lovelace", "email": "ada@example.org", "roles": ["lab head", "staff"], "scope": "read write",
        "sid": "s-1", "client_id": "web", "tenant": { "id": 7, "open": true, "tags": ["x"] }, "https://a.example/b": "c",
    });
    caller(&claims, 300)
}

fn settings(algorithm: Algorithm) -> TranslationSettings {
    TranslationSettings {
        key: SigningKey::generate(algorithm).unwrap(),
        lifetime: Duration::from_secs(60),
        issuer: Some("https://gate.example.org".to_owned()),
        audience: Vec::new(),
        claims: ClaimTemplate::standard(),
    }
}

/// Claims as the file would give them.
fn templates(claims: &Value) -> Vec<(String, ClaimTemplate)> {
    fn template(value: &Value) -> ClaimTemplate {
        match value {
            Value::String(text) => ClaimTemplate::Text(Template::parse(text).unwrap()),
            Value::Array(items) => ClaimTemplate::List(items.iter().map(template).collect()),
            Value::Object(_) => ClaimTemplate::Object(templates(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => ClaimTemplate::Fixed(value.clone()),
        }
    }
    claims.as_object().unwrap().iter().map(|(name, value)| (name.clone(), template(value))).collect()
}

/// What a token says for the caller.
#[track_caller]
fn filled(identity: &Identity, claims: &Value) -> Result<Value, TranslationError> {
    let claims = templates(claims);
    let translation = Translation::new(TranslationSettings { claims, issuer: None, ..settings(Algorithm::HS256) });
    translation.claims(identity, NOW).map(Value::Object)
}

/// Header and claims of an `Authorization`, whose signature must be the key's.
#[track_caller]
fn read(authorization: &HeaderValue, key: &VerificationKey) -> (Value, Value) {
    let token = authorization.to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { panic!("three parts: {token}") };
    assert!(key.verify(format!("{header}.{payload}").as_bytes(), signature), "the signature");
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (json(header), json(payload))
}

#[test]
fn a_placeholder_that_stands_alone_keeps_its_type_and_all_else_is_text() {
    let claims = json!({
        "sub": "{subject}", "user": "{name} <{email}>", "roles": "{roles}", "scopes": "{scopes}", "scope": "{scope}",
        "sid": "{session}", "azp": "{client_id}", "by": "{issuer}", "exp": "{exp}", "iat": "{iat}", "until": "at {exp}",
        "tenant": "{claims.tenant.id}", "text": "t-{claims.tenant.id}-{claims.tenant.open}", "all": "{claims.tenant}",
        "dotted": "{claims.https://a.example/b}", "braces": "{{subject}} }}{{", "fixed": 2, "no": false, "empty": "",
        "https://hasura.io/jwt/claims": { "x-hasura-user-id": "{subject}", "x-hasura-allowed-roles": "{roles}" },
        "list": ["{subject}", "x"],
    });
    let expected = json!({
        "sub": "u-1", "user": "Ada \"Countess\" Lovelace <ada@example.org>", "roles": ["lab head", "staff"],
        "scopes": ["read", "write"], "scope": "read write", "sid": "s-1", "azp": "web", "by": "sso",
        "exp": NOW.0 + 60, "iat": NOW.0 - 5, "until": format!("at {}", NOW.0 + 60), "tenant": 7, "text": "t-7-true",
        "all": { "id": 7, "open": true, "tags": ["x"] }, "dotted": "c", "braces": "{subject} }{", "fixed": 2, "no": false,
        "empty": "", "https://hasura.io/jwt/claims": {
            "x-hasura-user-id": "u-1", "x-hasura-allowed-roles": ["lab head", "staff"]
        },
        "list": ["u-1", "x"],
    });
    assert_eq!(filled(&ada(), &claims).unwrap(), expected);
}

#[test]
fn what_a_caller_does_not_have_refuses_or_is_left_out() {
    let nobody = caller(&json!({}), 300);
    for (text, missing) in [
        ("{email}", "email"),
        ("mailto:{email}", "email"),
        ("{name}", "name"),
        ("{session}", "session"),
        ("{client_id}", "client_id"),
        ("{claims.tenant.id}", "claims.tenant.id"),
    ] {
        let expected = Err(TranslationError::Missing { placeholder: missing.to_owned() });
        assert_eq!(filled(&nobody, &json!({ "a": text })), expected, "{text}");
        let optional = text.replace('}', "?}");
        let claims = json!({ "a": optional, "b": { "c": optional, "d": 1 }, "e": [optional, "f"] });
        assert_eq!(filled(&nobody, &claims).unwrap(), json!({ "b": { "d": 1 }, "e": ["f"] }), "{optional}");
    }
    // A list without elements is one; who wants no claim then says so.
    let claims =
        json!({ "a": "{roles}", "b": "{scopes}", "c": "{scope}", "d": "{roles?}", "e": "{scopes?}", "f": "{scope?}" });
    assert_eq!(filled(&nobody, &claims).unwrap(), json!({ "a": [], "b": [], "c": "" }));
}

#[test]
fn a_list_or_object_of_the_callers_token_is_no_part_of_a_text() {
    for path in ["claims.tenant", "claims.tenant.tags", "claims.roles"] {
        let expected = Err(TranslationError::NotText { placeholder: path.to_owned() });
        assert_eq!(filled(&ada(), &json!({ "a": format!("x-{{{path}}}") })), expected);
    }
}

#[test]
fn each_token_has_an_id_of_its_own() {
    let id = || filled(&ada(), &json!({ "jti": "{jti}" })).unwrap()["jti"].as_str().unwrap().to_owned();
    let (one, other) = (id(), id());
    assert!(one.len() == 22 && other.len() == 22 && one != other, "{one} {other}");
}

#[test]
fn a_text_that_is_no_template_says_why() {
    let unknown = |name: &str| TemplateError::Unknown { name: name.to_owned() };
    for (text, expected) in [
        ("{", TemplateError::Unclosed),
        ("a {email", TemplateError::Unclosed),
        ("{{{", TemplateError::Unclosed),
        ("}", TemplateError::Unopened),
        ("{email}}", TemplateError::Unopened),
        ("{}", unknown("")),
        ("{?}", unknown("")),
        ("{Email}", unknown("Email")),
        ("{ email }", unknown(" email ")),
        ("{claims}", unknown("claims")),
        ("{claims.?}", unknown("claims.")),
        ("a{roles}", TemplateError::ListInText { name: "roles" }),
        ("{scopes?}b", TemplateError::ListInText { name: "scopes" }),
    ] {
        assert_eq!(Template::parse(text), Err(expected), "{text}");
    }
}

#[test]
fn only_the_bare_time_is_an_expiry() {
    let is_expiry = |text: &str| ClaimTemplate::Text(Template::parse(text).unwrap()).is_expiry();
    assert!(is_expiry("{exp}"));
    assert!(!is_expiry("at {exp}") && !is_expiry("{iat}") && !is_expiry("exp") && !is_expiry("{{exp}}"));
    assert!(ClaimTemplate::standard().iter().any(|(_, claim)| claim.is_expiry()));
}

#[test]
fn a_token_says_by_default_who_calls_and_until_when() {
    for algorithm in Algorithm::ALL {
        if algorithm.key_kind() == crate::keyset::KeyKind::Rsa {
            continue; // Its keys take long to make; PyJWT verifies them in tests/interop.
        }
        let settings = settings(algorithm);
        let (key, kid) = (settings.key.verification_key(), settings.key.kid().to_owned());
        let authorization = Translation::new(settings).authorization(&ada(), SLOT, NOW).unwrap();
        let (header, claims) = read(&authorization, &key);
        let named = if algorithm.is_symmetric() { Value::Null } else { kid.into() };
        assert_eq!((&header["alg"], &header["typ"], &header["kid"]), (&algorithm.name().into(), &"JWT".into(), &named));
        let expected = json!({
            "iss": "https://gate.example.org", "sub": "u-1", "exp": NOW.0 + 60, "iat": NOW.0 - 5,
            "name": "Ada \"Countess\" Lovelace", "email": "ada@example.org", "scope": "read write",
            "roles": ["lab head", "staff"], "client_id": "web",
        });
        assert_eq!(claims, expected);
    }
    let bare = Translation::new(settings(Algorithm::HS256)).claims(&caller(&json!({}), 300), NOW).unwrap();
    assert_eq!(bare.keys().collect::<Vec<_>>(), ["iss", "sub", "exp", "iat"]);
}

#[test]
fn an_audience_is_there_only_where_one_is_configured() {
    for (audience, expected) in
        [(vec![], None), (vec!["a"], Some(json!("a"))), (vec!["a", "b"], Some(json!(["a", "b"])))]
    {
        let audience = audience.into_iter().map(str::to_owned).collect();
        let translation = Translation::new(TranslationSettings { audience, ..settings(Algorithm::HS256) });
        assert_eq!(translation.claims(&ada(), NOW).unwrap().get("aud"), expected.as_ref());
    }
}

#[test]
fn one_token_serves_until_a_quarter_of_its_life_is_left() {
    let translation = Translation::new(settings(Algorithm::ES256));
    let ada = ada();
    let first = translation.authorization(&ada, SLOT, NOW).unwrap();
    // A signature of ES256 is another each time, so the same text is the same token.
    let at = |seconds: u64| translation.authorization(&ada, SLOT, UnixSeconds(NOW.0 + seconds)).unwrap();
    assert_eq!(at(0), first);
    assert_eq!(at(44), first);
    let second = at(45);
    assert_ne!(second, first);
    assert_eq!(at(46), second);
    // A clock that was set back makes it one from the future.
    assert_ne!(at(10), second);
}

#[test]
fn another_caller_or_upstream_gets_another_token() {
    let (one, other) = (Translation::new(settings(Algorithm::HS256)), Translation::new(settings(Algorithm::HS256)));
    let (ada, bob) = (ada(), caller(&json!({ "sub": "bob" }), 300));
    let first = one.authorization(&ada, SLOT, NOW).unwrap();
    assert_ne!(one.authorization(&bob, SLOT, NOW).unwrap(), first);
    let elsewhere = other.authorization(&ada, Slot { position: 0, of: 2 }, NOW).unwrap();
    assert_ne!(elsewhere, first);
    assert_eq!(one.authorization(&ada, SLOT, NOW).unwrap(), first);
    assert_eq!(other.authorization(&ada, Slot { position: 0, of: 2 }, NOW).unwrap(), elsewhere);
}

#[test]
fn a_token_ends_no_later_than_its_callers_is_accepted() {
    let settings = settings(Algorithm::ES256);
    let key = settings.key.verification_key();
    let translation = Translation::new(settings);
    let brief = caller(&json!({}), 10);
    let first = translation.authorization(&brief, SLOT, NOW).unwrap();
    assert_eq!(read(&first, &key).1["exp"], NOW.0 + 10 + LEEWAY.as_secs());
    // A new one would end no later, so this one serves to its end.
    assert_eq!(translation.authorization(&brief, SLOT, UnixSeconds(NOW.0 + 39)).unwrap(), first);
}

#[test]
fn no_debug_shows_a_token_or_a_key() {
    let key = SigningKey::from_secret(b"canary-Xn4vKb7QyT1rWc8ZsD3gMj6HpLf9AeUo", Algorithm::HS256).unwrap();
    let translation = Translation::new(TranslationSettings { key, ..settings(Algorithm::HS256) });
    let kid = translation.key().kid().to_owned();
    let ada = ada();
    let authorization = translation.authorization(&ada, SLOT, NOW).unwrap();
    let shown = format!("{translation:?} {authorization:?} {ada:?}");
    let token = authorization.to_str().unwrap().trim_start_matches("Bearer ");
    assert!(
        !shown.contains("canary") && !shown.contains(&kid) && !shown.contains(&token[token.len() - 20..]),
        "{shown}"
    );
}

#[tokio::test]
async fn requests_that_come_together_wait_for_one_slow_signature() {
    let translation = Arc::new(Translation::new(settings(Algorithm::ES384)));
    let ada = Arc::new(ada());
    assert!(translation.is_slow_for(&ada, SLOT, NOW));
    let together: Vec<_> = (0..16)
        .map(|_| {
            let (translation, ada) = (Arc::clone(&translation), Arc::clone(&ada));
            tokio::spawn(async move {
                Arc::clone(&translation).prepare(Arc::clone(&ada), SLOT, NOW).await.unwrap();
                assert!(!translation.is_slow_for(&ada, SLOT, NOW), "it is there");
                translation.authorization(&ada, SLOT, NOW).unwrap()
            })
        })
        .collect();
    let mut tokens = Vec::new();
    for one in together {
        tokens.push(one.await.unwrap());
    }
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert!(!Translation::new(settings(Algorithm::ES256)).is_slow_for(&ada, SLOT, NOW), "quick enough for a worker");
}
