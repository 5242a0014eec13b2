//! Tokens that are right, and the identities they become.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::gateway::refusal::Refusal;
use crate::token::TokenSession;
use crate::token::mint::{MintError, Minter};

#[test]
fn a_minted_token_of_every_algorithm_becomes_the_identity_it_was_minted_for() {
    for algorithm in Algorithm::ALL {
        let key = signing_key(algorithm);
        let keys = KeySet::new(vec![key.verification_key()], Vec::new());
        let minted = Minter::new(&settings(), key.clone()).mint(&grant(), NOW).unwrap();
        assert_eq!(minted.expires_in, Duration::from_secs(300));
        let identity = Verifier::new(&settings(), &[]).verify(&minted.token, &keys, NOW).unwrap();
        assert_eq!(identity.subject(), "65f0c2");
        assert_eq!(identity.name(), Some("Ada  Lovelace"));
        assert_eq!(identity.email(), Some("ada@example.org"));
        assert_eq!(identity.client_id(), Some("web"));
        assert_eq!(identity.issuer(), OURS);
        assert_eq!(identity.roles().join("|"), "lab head");
        assert_eq!(identity.scopes_text(), "read:datasets write:datasets");
        assert_eq!(identity.scopes().len(), 2);
        assert_eq!(identity.expires_at(), UnixSeconds(NOW.0 + 300));
        assert_eq!(identity.token_id().map(str::len), Some(22));
        assert_eq!(identity.claim("iat"), Some(&json!(NOW.0)));
        assert!(keys.contains(identity.key_id()));
    }
}

#[test]
fn only_a_token_of_our_own_belongs_to_a_session_of_ours() {
    let world = world();
    let sid = URL_SAFE_NO_PAD.encode([0xfb; 16]);
    let of_ours = world.own(&world.own_header(), &with(own_claims(), "sid", sid.as_str())).unwrap();
    assert_eq!(of_ours.belongs_to(), Some(&TokenSession { id: [0xfb; 16], issued_at: NOW }));
    assert_eq!(world.own(&world.own_header(), &own_claims()).unwrap().belongs_to(), None);
    let header = json!({ "alg": "RS256", "typ": "JWT" });
    let theirs = world.foreign(&header, &with(foreign_claims(), "sid", sid.as_str())).unwrap();
    assert_eq!(theirs.belongs_to(), None);
    // What could not be found among the ended ones is not taken for none.
    let wrong =
        [json!(""), json!("a"), json!(sid[..21]), json!(format!("{sid}A")), json!(5), json!([sid]), json!(null)];
    for wrong in wrong {
        world.claims_refused(&with(own_claims(), "sid", wrong), TokenErrorKind::Malformed);
    }
}

#[test]
fn a_minted_token_has_the_header_and_claims_of_rfc_9068() {
    let key = signing_key(Algorithm::EdDSA);
    let mut settings = settings();
    settings.audience.clear();
    let bare = AccessGrant { scopes: vec![], roles: vec![], name: None, email: Some("\n".to_owned()), ..grant() };
    let minted = Minter::new(&settings, key.clone()).mint(&bare, NOW).unwrap();
    let parts: Vec<_> = minted.token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    let header: Value = serde_json::from_slice(&parts[0]).unwrap();
    assert_eq!(header, json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": key.kid() }));
    let mut claims: Value = serde_json::from_slice(&parts[1]).unwrap();
    claims.as_object_mut().unwrap().remove("jti").unwrap();
    let expected = json!({
        "iss": OURS, "sub": "65f0c2", "aud": OURS, "exp": NOW.0 + 300, "iat": NOW.0, "client_id": "web",
    });
    assert_eq!(claims, expected);
    let keys = KeySet::new(vec![key.verification_key()], Vec::new());
    assert!(Verifier::new(&settings, &[]).verify(&minted.token, &keys, NOW).is_ok());
    assert!(!format!("{minted:?}").contains(&minted.token));
}

#[test]
fn a_grant_that_no_verifier_would_accept_is_not_minted() {
    let mut settings = settings();
    settings.max_token_bytes = 600;
    let minter = Minter::new(&settings, signing_key(Algorithm::EdDSA));
    let refusal = |grant: AccessGrant| minter.mint(&grant, NOW).unwrap_err();
    for subject in ["", "a\nb", "a\u{85}b", &"x".repeat(1025)] {
        let refused = refusal(AccessGrant { subject: subject.to_owned(), ..grant() });
        assert!(matches!(refused, MintError::Unfit { what: "subject" }), "{subject:?}");
    }
    let spaced = AccessGrant { scopes: vec!["a b".to_owned()], ..grant() };
    assert!(matches!(refusal(spaced), MintError::Unfit { what: "scope" }));
    let many = AccessGrant { roles: vec!["r".repeat(600)], ..grant() };
    assert!(matches!(refusal(many), MintError::TooLong { limit: 600, .. }));
}

#[test]
fn claims_of_a_foreign_issuer_are_found_under_their_names() {
    let world = world_with(|issuer| {
        issuer.claims.subject = "user.id".to_owned();
        issuer.claims.name = "https://sso.example.org/name".to_owned();
        issuer.claims.scopes = "permissions".to_owned();
    });
    let claims = json!({
        "iss": THEIRS, "aud": "science", "exp": NOW.0 as f64 + 0.5, "azp": "portal", "email": null,
        "user": { "id": "u-7" }, "https://sso.example.org/name": "Ada", "permissions": ["read", "write"],
        "realm_access": { "roles": ["scientist", "admin"] },
    });
    let identity = world.foreign(&json!({ "alg": "RS256" }), &claims).unwrap();
    assert_eq!(identity.subject(), "u-7");
    assert_eq!(identity.name(), Some("Ada"));
    assert_eq!(identity.email(), None);
    assert_eq!(identity.client_id(), Some("portal"));
    assert_eq!(identity.scopes_text(), "read write");
    assert_eq!(identity.roles().join(","), "scientist,admin");
    assert_eq!(identity.issuer(), THEIRS);
    assert_eq!(identity.claim("user.id"), Some(&json!("u-7")));
    assert_eq!(identity.claim("user.nothing"), None);
    let nameless = without(claims, "user");
    let refusal = world.foreign(&json!({ "alg": "RS256" }), &nameless).unwrap_err();
    assert_eq!(refusal, TokenError::ClaimMissing { claim: "user.id".to_owned() });
}

#[test]
fn headers_are_rendered_once() {
    let world = world();
    let identity = world.own(&world.own_header(), &own_claims()).unwrap();
    let name = http::HeaderName::from_static("x-forwarded-user");
    let render = |identity: &Identity| vec![(name.clone(), identity.subject().parse().unwrap())];
    assert_eq!(identity.headers(render)[0].1, "65f0c2");
    assert_eq!(identity.headers(|_| unreachable!("it is rendered")).len(), 1);
}

#[test]
fn every_kind_of_refusal_has_a_code_of_its_own() {
    let errors = [
        TokenError::Parts,
        TokenError::Signature,
        TokenError::Expired { expired_at: NOW },
        TokenError::NotYetValid { valid_from: NOW },
        TokenError::Issuer,
        TokenError::Audience,
        TokenError::KeyUnknown,
    ];
    let codes: std::collections::HashSet<_> = errors.map(|error| Refusal::Token(error).code().name()).into();
    assert_eq!(codes.len(), 7);
    assert!(codes.iter().all(|code| code.starts_with("token_")));
}
