//! The examples of the JOSE RFCs (7515, 7516, 7517, 7519, 7520, 7797, 8037), as `rfc.json` has them with their sections: the
//! keys through `VerificationKey`, the tokens through `Verifier`.

use std::time::Duration;

use serde_json::Value;
use tollgate::keyset::{Algorithm, KeySet, VerificationKey, install_crypto_providers};
use tollgate::time::UnixSeconds;
use tollgate::token::{ClaimNames, TokenError, TokenSettings, TrustedIssuer, TrustedIssuerSettings, Verifier};

/// A second before the `exp` of the RFCs' claims.
const NOW: UnixSeconds = UnixSeconds(1_300_819_379);

fn vectors(list: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("rfc.json")).unwrap();
    all[list].as_array().unwrap().clone()
}

fn algorithm(vector: &Value) -> Algorithm {
    Algorithm::from_name(vector["alg"].as_str().unwrap()).unwrap()
}

fn token(vector: &Value) -> &str {
    vector["token"].as_str().unwrap()
}

fn keys(vector: &Value, algorithms: &[Algorithm]) -> Vec<VerificationKey> {
    VerificationKey::from_jwks(vector["key"].to_string().as_bytes(), algorithms).unwrap_or_default()
}

/// A verifier that trusts the issuer `joe` of the RFCs with these keys.
fn verify(token: &str, keys: Vec<VerificationKey>) -> TokenError {
    install_crypto_providers();
    let settings = TokenSettings {
        issuer: "https://gateway.example.org".to_owned(),
        audience: Vec::new(),
        algorithm: Algorithm::ES256,
        access_ttl: Duration::from_secs(300),
        leeway: Duration::ZERO,
        max_token_bytes: 16_384,
        cache_bytes: 0,
    };
    let joe = TrustedIssuerSettings {
        name: "joe".into(),
        issuer: Some("joe".to_owned()),
        audiences: vec!["anybody".to_owned()],
        claims: ClaimNames::default(),
        types: TrustedIssuerSettings::default_types(),
    };
    let set = KeySet::new(Vec::new(), vec![keys.clone()]);
    Verifier::new(&settings, &[TrustedIssuer { settings: joe, keys, remote: None }])
        .verify(token, &set, NOW)
        .unwrap_err()
}

/// The token with another last but one character, whose bits all count.
fn with_another_signature(token: &str) -> String {
    let place = token.len() - 2;
    let other = if &token[place..=place] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..place], &token[place + 1..])
}

#[test]
fn signed_claims_pass_every_check_up_to_the_audience_that_they_do_not_have() {
    let vectors = vectors("claims");
    assert_eq!(vectors.len(), 3);
    for vector in &vectors {
        let rfc = &vector["rfc"];
        let keys = keys(vector, &[algorithm(vector)]);
        assert_eq!(verify(token(vector), keys.clone()), TokenError::Audience, "{rfc}");
        assert_eq!(verify(&with_another_signature(token(vector)), keys), TokenError::Signature, "{rfc}");
        // The right key under another algorithm is no key of this token.
        let other = if algorithm(vector) == Algorithm::RS256 { Algorithm::PS256 } else { Algorithm::RS256 };
        assert_eq!(verify(token(vector), self::keys(vector, &[other])), TokenError::KeyUnknown, "{rfc}");
    }
}

#[test]
fn signatures_over_text_verify_and_the_text_is_no_token() {
    install_crypto_providers();
    let vectors = vectors("texts");
    assert_eq!(vectors.len(), 6);
    for vector in &vectors {
        let rfc = &vector["rfc"];
        let keys = keys(vector, &[algorithm(vector)]);
        let (message, signature) = token(vector).rsplit_once('.').unwrap();
        assert!(keys[0].verify(message.as_bytes(), signature), "{rfc}");
        assert!(!keys[0].verify(&message.as_bytes()[1..], signature), "{rfc}");
        assert!(matches!(verify(token(vector), keys), TokenError::Json { part: "payload", .. }), "{rfc}");
    }
}

#[test]
fn tokens_of_forms_that_are_not_supported_are_refused() {
    let vectors = vectors("refused");
    assert_eq!(vectors.len(), 13);
    let every_key: Vec<_> = self::vectors("claims").iter().flat_map(|vector| keys(vector, &Algorithm::ALL)).collect();
    for vector in &vectors {
        let refusal = verify(token(vector), every_key.clone());
        let name = format!("{refusal:?}");
        let name = name.split([' ', '{', '(']).next().unwrap();
        assert_eq!(name, vector["error"].as_str().unwrap(), "{}: {refusal}", vector["rfc"]);
    }
}

#[test]
fn keys_load_for_what_they_are_and_private_or_foreign_ones_do_not() {
    let vectors = vectors("keys");
    assert_eq!(vectors.len(), 12);
    for vector in &vectors {
        let found: Vec<_> = keys(vector, &Algorithm::ALL).iter().map(|key| key.algorithm().name()).collect();
        let expected: Vec<_> =
            vector["accepted"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(found, expected, "{}", vector["rfc"]);
    }
}
