//! Every way to be wrong that docs/security.md's case map names (its numbers in brackets).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const RSA_PUBLIC: &[u8] = include_bytes!("../../keyset/fixtures/rsa-public.pem");

/// [J1, J2, J3, J17]
#[test]
fn the_algorithm_is_that_of_the_key() {
    let world = world();
    for alg in ["none", "None", "NONE", "nOnE", "HS256", "ES512", "Ed25519", "eddsa", ""] {
        let expected = if alg == "HS256" { TokenErrorKind::KeyUnknown } else { TokenErrorKind::Malformed };
        world.header_refused(&with(world.own_header(), "alg", alg), expected);
    }
    world.header_refused(&with(world.own_header(), "alg", json!(["EdDSA"])), TokenErrorKind::Malformed);
    world.header_refused(&without(world.own_header(), "alg"), TokenErrorKind::Malformed);
    world.header_refused(&with(world.own_header(), "kid", "../../dev/null"), TokenErrorKind::KeyUnknown);
    for kid in [json!(5), json!(null), json!(""), json!("k".repeat(257)), json!({})] {
        world.header_refused(&with(world.own_header(), "kid", kid), TokenErrorKind::Malformed);
    }
    // A token signed with the public key as if it were a secret.
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(foreign_claims().to_string())
    );
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, RSA_PUBLIC);
    let tag = aws_lc_rs::hmac::sign(&secret, message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(world.verify(&token).unwrap_err(), TokenError::KeyUnknown);
    // The same RSA key with another algorithm.
    let pss = signing_key(Algorithm::PS256);
    let token = sign(&pss, r#"{"alg":"PS256"}"#, foreign_claims().to_string());
    assert_eq!(world.verify(&token).unwrap_err(), TokenError::KeyUnknown);
    let token = sign(&pss, r#"{"alg":"RS256"}"#, foreign_claims().to_string());
    assert_eq!(world.verify(&token).unwrap_err(), TokenError::Signature);
}

/// [J4, J5, J6, J16]
#[test]
fn extensions_and_compression_are_refused_and_keys_in_the_header_ignored() {
    let world = world();
    for crit in [json!(["x"]), json!([]), json!("x"), json!([null]), json!(null)] {
        world.header_refused(&with(world.own_header(), "crit", crit), TokenErrorKind::Malformed);
    }
    world.header_refused(&with(world.own_header(), "b64", false), TokenErrorKind::Malformed);
    world.header_refused(&with(world.own_header(), "zip", "DEF"), TokenErrorKind::Malformed);
    // Its own key does not help a forger, and does not harm who signed rightly.
    let forger = SigningKey::generate(Algorithm::EdDSA).unwrap();
    let jwk = KeySet::new(vec![forger.verification_key()], vec![]).jwks()["keys"][0].clone();
    let header = with(with(world.own_header(), "jwk", jwk), "jku", "http://127.0.0.1:9/");
    let forged = sign(&forger, header.to_string(), own_claims().to_string());
    assert_eq!(world.verify(&forged).unwrap_err(), TokenError::Signature);
    assert!(world.own(&header, &own_claims()).is_ok());
}

/// [J11]
#[test]
fn only_access_tokens_are_accepted() {
    let world = world();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert!(world.own(&with(world.own_header(), "typ", typ), &own_claims()).is_ok(), "{typ}");
    }
    for typ in ["JWT", "", "at+jwt ", "application/", "application/application/at+jwt", "logout+jwt", "text/at+jwt"] {
        world.header_refused(&with(world.own_header(), "typ", typ), TokenErrorKind::Malformed);
    }
    world.header_refused(&with(world.own_header(), "typ", 5), TokenErrorKind::Malformed);
    world.header_refused(&without(world.own_header(), "typ"), TokenErrorKind::Malformed);

    for header in [json!({ "alg": "RS256" }), json!({ "alg": "RS256", "typ": "JWT" })] {
        assert!(world.foreign(&header, &foreign_claims()).is_ok(), "{header}");
    }
    let logout = json!({ "alg": "RS256", "typ": "logout+jwt" });
    assert_eq!(world.foreign(&logout, &foreign_claims()).unwrap_err(), TokenError::Type);
    let strict = world_with(|issuer| issuer.types = vec!["application/AT+jwt".to_owned()]);
    assert!(strict.foreign(&json!({ "alg": "RS256", "typ": "at+JWT" }), &foreign_claims()).is_ok());
    assert_eq!(strict.foreign(&json!({ "alg": "RS256" }), &foreign_claims()).unwrap_err(), TokenError::Type);
}

/// [J7, J8]
#[test]
fn times_are_checked_with_leeway_and_wrong_types_are_refused() {
    let world = world();
    let at = |exp: Value| world.own(&world.own_header(), &with(own_claims(), "exp", exp));
    for exp in [json!(NOW.0 - 29), json!(NOW.0 as f64 - 28.5), json!(253_402_300_799_u64)] {
        assert!(at(exp.clone()).is_ok(), "{exp}");
    }
    for exp in [json!(NOW.0 - 30), json!(NOW.0 - 31), json!(0), json!(NOW.0 as f64 - 29.5)] {
        assert_eq!(at(exp.clone()).unwrap_err().kind(), TokenErrorKind::Expired, "{exp}");
    }
    for exp in [
        json!(null),
        json!("1900000000"),
        json!(-1),
        json!(-0.5),
        json!(1e300),
        json!(u64::MAX),
        json!([1]),
        json!(true),
    ] {
        assert_eq!(at(exp.clone()).unwrap_err().kind(), TokenErrorKind::Malformed, "{exp}");
    }
    world.claims_refused(&without(own_claims(), "exp"), TokenErrorKind::Malformed);
    assert!(world.own(&world.own_header(), &with(own_claims(), "nbf", NOW.0 + 30)).is_ok());
    world.claims_refused(&with(own_claims(), "nbf", NOW.0 + 31), TokenErrorKind::NotYetValid);
    world.claims_refused(&with(own_claims(), "nbf", NOW.0 as f64 + 30.5), TokenErrorKind::NotYetValid);
    world.claims_refused(&with(own_claims(), "nbf", "0"), TokenErrorKind::Malformed);
    assert!(world.own(&world.own_header(), &with(own_claims(), "iat", NOW.0 + 3600)).is_ok());
    world.claims_refused(&with(own_claims(), "iat", "0"), TokenErrorKind::Malformed);
    let text = own_claims().to_string().replace(&(NOW.0 + 300).to_string(), "1e400");
    let refusal = world.verify(&sign(&world.own, world.own_header().to_string(), text)).unwrap_err();
    assert_eq!(refusal.kind(), TokenErrorKind::Malformed);
}

/// [J9, K9]
#[test]
fn the_issuer_is_compared_octet_for_octet_and_brings_only_its_own_keys() {
    let world = world();
    for issuer in [
        "",
        "https://gateway.example.org/",
        "https://gateway.example.org.evil",
        "HTTPS://gateway.example.org",
        "https://gateway",
    ] {
        world.claims_refused(&with(own_claims(), "iss", issuer), TokenErrorKind::Issuer);
    }
    world.claims_refused(&without(own_claims(), "iss"), TokenErrorKind::Issuer);
    for issuer in [json!(5), json!({}), json!(null), json!([OURS])] {
        world.claims_refused(&with(own_claims(), "iss", issuer), TokenErrorKind::Malformed);
    }
    // Our key, their name.
    let header = json!({ "alg": "EdDSA", "kid": world.own.kid() });
    assert_eq!(world.own(&header, &foreign_claims()).unwrap_err(), TokenError::KeyUnknown);
    let header = json!({ "alg": "RS256", "typ": "at+jwt" });
    assert_eq!(world.foreign(&header, &own_claims()).unwrap_err(), TokenError::KeyUnknown);
}

/// [J10]
#[test]
fn the_audience_must_contain_ours() {
    let world = world();
    assert!(world.own(&world.own_header(), &with(own_claims(), "aud", json!(["x", "tollgate"]))).is_ok());
    for audience in [json!("other"), json!([]), json!(["other"]), json!("tollgate "), json!("")] {
        world.claims_refused(&with(own_claims(), "aud", audience), TokenErrorKind::Audience);
    }
    world.claims_refused(&without(own_claims(), "aud"), TokenErrorKind::Audience);
    for audience in [json!(5), json!(null), json!([null, "tollgate"]), json!(["tollgate", 5]), json!({})] {
        world.claims_refused(&with(own_claims(), "aud", audience), TokenErrorKind::Malformed);
    }
}

/// [J12]
#[test]
fn a_subject_that_could_split_a_header_is_refused() {
    let world = world();
    let long = "x".repeat(1025);
    for subject in [json!(""), json!(5), json!(null), json!("a\r\nX: y"), json!("a\0"), json!("a\u{85}b"), json!(long)]
    {
        world.claims_refused(&with(own_claims(), "sub", subject), TokenErrorKind::Malformed);
    }
    let lone_surrogate = own_claims().to_string().replace("65f0c2", "\\ud800");
    let token = sign(&world.own, world.own_header().to_string(), lone_surrogate);
    assert_eq!(world.verify(&token).unwrap_err().kind(), TokenErrorKind::Malformed);
    for claim in ["sub", "jti", "client_id", "iat"] {
        world.claims_refused(&without(own_claims(), claim), TokenErrorKind::Malformed);
    }
    for (claim, value) in [
        ("jti", json!(5)),
        ("jti", json!("")),
        ("name", json!(5)),
        ("email", json!("a\nb")),
        ("roles", json!([5])),
        ("roles", json!({})),
        ("scope", json!(["a b"])),
        ("scope", json!("a\tb")),
    ] {
        world.claims_refused(&with(own_claims(), claim, value), TokenErrorKind::Malformed);
    }
}

/// [J13, J15]
#[test]
fn json_that_two_parsers_could_read_differently_is_refused() {
    let world = world();
    let header = world.own_header().to_string();
    let claims = own_claims().to_string();
    let payloads = [
        claims.replace("\"sub\"", "\"sub\":\"admin\",\"sub\""),
        claims.replace("\"sub\"", "\"\\u0073ub\":\"admin\",\"sub\""),
        claims.replace("{", "{\"x\":{\"a\":1,\"a\":2},"),
        format!("\u{feff}{claims}"),
        format!("{claims}x"),
        format!("[{claims}]"),
        claims.replace("{", &format!("{{\"x\":{}1{},", "[".repeat(30), "]".repeat(30))),
        "[".repeat(8000),
        String::new(),
    ];
    for payload in payloads {
        let refusal = world.verify(&sign(&world.own, &header, &payload)).unwrap_err();
        assert!(matches!(refusal, TokenError::Json { part: "payload", .. }), "{payload}: {refusal}");
        assert!(!refusal.to_string().contains("admin"));
    }
    let twice = header.replace("\"alg\"", "\"alg\":\"EdDSA\",\"alg\"");
    let refusal = world.verify(&sign(&world.own, twice, &claims)).unwrap_err();
    assert!(matches!(refusal, TokenError::Json { part: "header", .. }));
}

/// [J14, J15]
#[test]
fn anything_but_three_canonical_parts_is_refused() {
    let world = world();
    let token = sign(&world.own, world.own_header().to_string(), own_claims().to_string());
    assert!(world.verify(&token).is_ok());
    let (message, signature) = token.rsplit_once('.').unwrap();
    // 64 bytes leave four unused bits in the last character.
    let mut stray = token.clone();
    let last = stray.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    stray.push(alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap());
    let variants = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        ".".repeat(16_000),
        message.to_owned(),
        format!("{message}."),
        format!("{token}."),
        format!("{token}.x"),
        format!("{token}=="),
        format!("{token} "),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{message}.{signature}.{signature}.{signature}"),
        token.replacen('.', "=.", 1),
        token.replacen('.', "+.", 1),
        stray,
        format!("{}é", &token[..token.len() - 1]),
        json!({ "payload": "x", "signatures": [] }).to_string(),
    ];
    for variant in variants {
        let refusal = world.verify(&variant).unwrap_err();
        assert_eq!(refusal.kind(), TokenErrorKind::Malformed, "{variant}: {refusal}");
    }
    let long = "a".repeat(16_385);
    assert_eq!(world.verify(&long).unwrap_err(), TokenError::TooLong { bytes: 16_385, limit: 16_384 });
}

/// [J18]
#[test]
fn ecdsa_signatures_of_another_form_are_refused() {
    let key = signing_key(Algorithm::ES256);
    let keys = KeySet::new(vec![key.verification_key()], vec![]);
    let verifier = Verifier::new(&settings(), &[]);
    let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": key.kid() }).to_string();
    let token = sign(&key, header, own_claims().to_string());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let good = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let der = [&[0x30, 68, 2, 32], &good[..32], &[2, 32], &good[32..]].concat();
    let cases = [
        vec![0; 64],
        [&order[..], &good[32..]].concat(),
        [&good[..32], &order[..]].concat(),
        [&good[..], &good[..]].concat(),
        good[..63].to_vec(),
        der,
    ];
    for signature in cases {
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature));
        assert_eq!(verifier.verify(&token, &keys, NOW).unwrap_err(), TokenError::Signature, "{signature:?}");
    }
}

proptest! {
    /// One changed character, anywhere, to any other: never accepted.
    #[test]
    fn a_changed_token_is_never_accepted(place in 0_usize..10_000, replacement in any::<char>()) {
        let world = world();
        let token = sign(&world.own, world.own_header().to_string(), own_claims().to_string());
        let place = place % token.len();
        prop_assume!(!token[place..].starts_with(replacement));
        let changed = format!("{}{replacement}{}", &token[..place], &token[place + 1..]);
        prop_assert!(world.verify(&changed).is_err());
    }

    /// One flipped bit of what the parts decode to.
    #[test]
    fn a_flipped_bit_is_never_accepted(part in 0_usize..3, place in 0_usize..10_000, bit in 0_u8..8) {
        let world = world();
        let token = sign(&world.own, world.own_header().to_string(), own_claims().to_string());
        let mut parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        let length = parts[part].len();
        parts[part][place % length] ^= 1 << bit;
        let changed: Vec<_> = parts.iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
        prop_assert!(world.verify(&changed.join(".")).is_err());
    }

    /// No input makes it panic, and none that is not ours gets in.
    #[test]
    fn arbitrary_text_is_refused(text in "\\PC{0,40}(\\.\\PC{0,40}){0,3}") {
        prop_assert!(world().verify(&text).is_err());
    }
}

/// What is told of the checks is what the documentation numbers, and the one that fails is the next.
#[test]
fn the_check_that_fails_is_the_next_after_those_that_passed() {
    let world = world();
    let own = |header: &Value, claims: &Value| sign(&world.own, header.to_string(), claims.to_string());
    let good = own(&world.own_header(), &own_claims());
    let other_signature = format!("{}.{}", good.rsplit_once('.').unwrap().0, "A".repeat(86));
    let cases = [
        ("x".repeat(20_000), Check::Length),
        ("a.b".to_owned(), Check::Parts),
        (format!("{}.=.AA", URL_SAFE_NO_PAD.encode("{}")), Check::Parts),
        (sign(&world.own, world.own_header().to_string(), "[]"), Check::Payload),
        // The first by number, although the payload is wrong too.
        (sign(&world.own, r#"{"alg":"none"}"#, "[]"), Check::Header),
        (own(&with(world.own_header(), "alg", "none"), &own_claims()), Check::Header),
        (own(&world.own_header(), &with(own_claims(), "iss", "https://evil.example")), Check::Issuer),
        (own(&with(world.own_header(), "typ", "jwt"), &own_claims()), Check::Type),
        (own(&with(world.own_header(), "kid", "another"), &own_claims()), Check::Key),
        (other_signature, Check::Signature),
        (own(&world.own_header(), &with(own_claims(), "exp", 1)), Check::Claims),
        (own(&world.own_header(), &without(own_claims(), "client_id")), Check::Identity),
    ];
    for (token, failed) in cases {
        let mut passed = Vec::new();
        let error = world.verifier.verify_noting(&token, &world.keys, NOW, |check| passed.push(check)).unwrap_err();
        assert_eq!(passed, Check::ALL[..failed.number() - 1], "{error}");
        assert_eq!(world.verify(&token).unwrap_err(), error);
    }
    let mut passed = Vec::new();
    world.verifier.verify_noting(&good, &world.keys, NOW, |check| passed.push(check)).unwrap();
    assert_eq!(passed, Check::ALL);
}
