//! Issuers whose tokens say things in words of their own, as those of FastAPI starters do: `expires` for `exp`, `user_id` for
//! `sub`, and neither `iss` nor `aud`.

use super::*;

/// Ours, the foreign issuer that has a name, and one whose tokens name none.
struct Mapped {
    keys: KeySet,
    verifier: Verifier,
    students: SigningKey,
    foreign: SigningKey,
}

fn mapped() -> Mapped {
    let World { own, foreign, .. } = world();
    let secret = b"Xn4vKb7QyT1rWc8ZsD3gMj6HpLf9AeUo";
    let students = SigningKey::from_secret(secret, Algorithm::HS256).unwrap();
    let named = TrustedIssuerSettings {
        name: "lab-sso".into(),
        issuer: Some(THEIRS.to_owned()),
        audiences: vec!["science".to_owned()],
        claims: ClaimNames { expires: "token.until".to_owned(), ..ClaimNames::default() },
        types: TrustedIssuerSettings::default_types(),
    };
    let unnamed = TrustedIssuerSettings {
        name: "students".into(),
        issuer: None,
        audiences: Vec::new(),
        claims: ClaimNames {
            subject: "user_id".to_owned(),
            email: "user_id".to_owned(),
            expires: "expires".to_owned(),
            ..ClaimNames::default()
        },
        types: TrustedIssuerSettings::default_types(),
    };
    let issuers = [
        TrustedIssuer { settings: named, keys: vec![foreign.verification_key()], remote: None },
        TrustedIssuer { settings: unnamed, keys: vec![students.verification_key()], remote: None },
    ];
    let keys = KeySet::new(vec![own.verification_key()], issuers.iter().map(|issuer| issuer.keys.clone()).collect());
    Mapped { keys, verifier: Verifier::new(&settings(), &issuers), students, foreign }
}

/// What such an application signs: 40 minutes, as Python's `time.time()` counts them.
fn claims() -> Value {
    json!({ "user_id": "ada@example.org", "expires": 1_800_000_000.75 + 2400.0 })
}

impl Mapped {
    fn student(&self, claims: &Value) -> Result<Identity, TokenError> {
        let token = sign(&self.students, r#"{"alg":"HS256","typ":"JWT"}"#, claims.to_string());
        self.verifier.verify(&token, &self.keys, NOW)
    }

    #[track_caller]
    fn refuses(&self, claims: &Value, expected: &TokenError) {
        assert_eq!(self.student(claims).unwrap_err(), *expected, "{claims}");
    }
}

fn claim_missing(claim: &str) -> TokenError {
    TokenError::ClaimMissing { claim: claim.to_owned() }
}

fn claim_invalid(claim: &str) -> TokenError {
    TokenError::ClaimInvalid { claim: claim.to_owned() }
}

#[test]
fn a_token_without_iss_is_of_the_issuer_that_names_none() {
    let identity = mapped().student(&claims()).unwrap();
    assert_eq!((identity.subject(), identity.email()), ("ada@example.org", Some("ada@example.org")));
    assert_eq!(identity.issuer(), "students", "the name in the file");
    assert_eq!(identity.expires_at(), UnixSeconds(NOW.0 + 2400));
    assert_eq!(identity.accepted_until(), UnixSeconds(NOW.0 + 2430), "with the leeway");
}

#[test]
fn the_claim_that_stands_for_the_expiry_is_required_and_a_number_in_the_future() {
    let world = mapped();
    world.refuses(&without(claims(), "expires"), &claim_missing("expires"));
    // `exp` does not stand in for it.
    let standard = with(without(claims(), "expires"), "exp", NOW.0 + 300);
    world.refuses(&standard, &claim_missing("expires"));
    for bad in
        [Value::Null, json!("1800000300"), json!(true), json!([1_800_000_300]), json!({}), json!(-1), json!(1e300)]
    {
        world.refuses(&with(claims(), "expires", bad), &claim_invalid("expires"));
    }
    let late = |seconds: f64| with(claims(), "expires", 1_800_000_000.0 - seconds);
    assert!(world.student(&late(29.0)).is_ok(), "within the leeway");
    world.refuses(&late(30.0), &TokenError::Expired { expired_at: UnixSeconds(NOW.0 - 30) });
    world.refuses(&late(1e6), &TokenError::Expired { expired_at: UnixSeconds(NOW.0 - 1_000_000) });
}

#[test]
fn an_exp_beside_it_counts_too() {
    let world = mapped();
    let both = |exp: Value| with(claims(), "exp", exp);
    assert_eq!(world.student(&both(json!(NOW.0 + 60))).unwrap().expires_at(), UnixSeconds(NOW.0 + 60), "the earlier");
    assert_eq!(world.student(&both(json!(NOW.0 + 9999))).unwrap().expires_at(), UnixSeconds(NOW.0 + 2400));
    world.refuses(&both(json!(NOW.0 - 60)), &TokenError::Expired { expired_at: UnixSeconds(NOW.0 - 60) });
    world.refuses(&both(json!("soon")), &claim_invalid("exp"));
}

#[test]
fn a_token_with_an_iss_is_never_of_the_issuer_that_names_none() {
    let world = mapped();
    for issuer in ["", "students", "somebody", "https://example.org"] {
        world.refuses(&with(claims(), "iss", issuer), &TokenError::Issuer);
    }
    world.refuses(&with(claims(), "iss", Value::Null), &claim_invalid("iss"));
    // Of the others neither the key nor anything else of this one counts.
    for issuer in [OURS, THEIRS] {
        let refusal = world.student(&with(claims(), "iss", issuer)).unwrap_err();
        assert!(matches!(refusal, TokenError::Type | TokenError::KeyUnknown), "{refusal}");
    }
    // And without it, no other issuer's key does.
    let token = sign(&world.foreign, r#"{"alg":"RS256"}"#, claims().to_string());
    assert_eq!(world.verifier.verify(&token, &world.keys, NOW).unwrap_err(), TokenError::KeyUnknown);
}

#[test]
fn a_token_without_iss_is_refused_where_every_issuer_has_a_name() {
    let world = world();
    assert_eq!(world.foreign(&json!({ "alg": "RS256" }), &claims()).unwrap_err(), TokenError::Issuer);
}

#[test]
fn an_audience_is_refused_where_none_is_expected() {
    let world = mapped();
    for audience in [json!("tollgate"), json!(""), json!([]), json!(["a"])] {
        world.refuses(&with(claims(), "aud", audience), &TokenError::Audience);
    }
    for audience in [Value::Null, json!(1), json!([1])] {
        world.refuses(&with(claims(), "aud", audience), &claim_invalid("aud"));
    }
}

#[test]
fn the_algorithm_stays_that_of_the_key() {
    let world = mapped();
    for header in [r#"{"alg":"HS512"}"#, r#"{"alg":"HS384"}"#, r#"{"alg":"RS256"}"#] {
        let token = sign(&world.students, header, claims().to_string());
        assert_eq!(world.verifier.verify(&token, &world.keys, NOW).unwrap_err(), TokenError::KeyUnknown, "{header}");
    }
    let token = sign(&world.students, r#"{"alg":"none"}"#, claims().to_string());
    assert_eq!(world.verifier.verify(&token, &world.keys, NOW).unwrap_err(), TokenError::Algorithm);
}

#[test]
fn the_expiry_may_stand_in_an_object() {
    let world = mapped();
    let token = |until: Value| {
        let claims = json!({ "iss": THEIRS, "sub": "u", "aud": "science", "token": { "until": until } });
        sign(&world.foreign, r#"{"alg":"RS256"}"#, claims.to_string())
    };
    let verify = |token: String| world.verifier.verify(&token, &world.keys, NOW);
    assert_eq!(verify(token(json!(NOW.0 + 5))).unwrap().expires_at(), UnixSeconds(NOW.0 + 5));
    assert_eq!(verify(token(json!("x"))).unwrap_err(), claim_invalid("token.until"));
}
