//! A key that is accepted has an allowed kind and size, comes back from what we publish of it, and is no private one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tollgate::keyset::{
    Algorithm, KeyKind, KeySet, PublishedSet, SigningKey, VerificationKey, install_crypto_providers,
};

use super::json::check_strict;

/// The bytes as a JWK, a JWK set, a PEM file and a secret.
pub fn keys(data: &[u8]) {
    install_crypto_providers();
    check_strict(data);
    if let Ok(found) = VerificationKey::from_jwks(data, &Algorithm::ALL) {
        check_jwks(data, &found);
    }
    check_published(data);
    if let Ok(found) = VerificationKey::from_pem(data, &Algorithm::ALL) {
        let text = String::from_utf8_lossy(data);
        // Other text may stand around the one section, and may say what it likes; so may the parameters that openssl writes.
        let label = |line: &str| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----").map(str::to_owned);
        let labels: Vec<String> = text.lines().filter_map(label).filter(|label| label != "EC PARAMETERS").collect();
        assert!(labels == ["PUBLIC KEY"] || labels == ["RSA PUBLIC KEY"], "{labels:?} of {text}");
        check_public(&found);
    }
    for algorithm in [Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        if let Ok(key) = SigningKey::from_pem(data, algorithm) {
            check_private(&key, algorithm);
        }
    }
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let accepted = VerificationKey::from_secret(data, algorithm);
        let is_long_enough = data.len() >= usize::from(algorithm.name()[2..].parse::<u16>().unwrap()) / 8;
        assert!(accepted.is_err() || is_long_enough && data.len() <= 4096, "{} bytes for {algorithm}", data.len());
        assert!(accepted.is_err() || !data.trim_ascii().starts_with(b"-----BEGIN"), "a PEM text was taken as a secret");
        if let (Ok(key), Ok(signing)) = (accepted, SigningKey::from_secret(data, algorithm)) {
            let signature = signing.sign(b"message").unwrap();
            assert!(key.verify(b"message", &signature) && !key.verify(b"massage", &signature));
            assert_eq!(
                KeySet::new(vec![key], Vec::new()).jwks()["keys"],
                Value::Array(Vec::new()),
                "a secret was published"
            );
        }
    }
}

/// What another issuer publishes: whatever else is in it, a secret is never taken, and a set without a fault is read as from a file.
fn check_published(data: &[u8]) {
    let pairs: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()).collect();
    let name =
        |key: &VerificationKey| (key.thumbprint().to_owned(), key.algorithm(), key.declared_kid().map(str::to_owned));
    let published = PublishedSet::read(data, &pairs);
    if let Ok(set) = &published {
        assert!(set.keys.iter().all(|key| !key.algorithm().is_symmetric()), "a published secret verifies");
        assert!(set.refused.iter().chain(&set.passed_over).all(|key| !key.name.contains(char::is_control)));
    }
    let is_set = serde_json::from_slice::<Value>(data).is_ok_and(|document| document.get("kty").is_none());
    if let (true, Ok(strict)) = (is_set, VerificationKey::from_jwks(data, &pairs)) {
        let lenient = published.unwrap_or_else(|error| panic!("a good set is refused: {error}"));
        assert_eq!(lenient.keys.iter().map(name).collect::<Vec<_>>(), strict.iter().map(name).collect::<Vec<_>>());
    }
}

fn check_jwks(data: &[u8], found: &[VerificationKey]) {
    let document: Value = serde_json::from_slice(data).unwrap();
    let single = [document.clone()];
    let written: &[Value] =
        document["keys"].as_array().filter(|_| document.get("kty").is_none()).map_or(&single, Vec::as_slice);
    assert!(!found.is_empty() && written.len() <= 100 && found.len() <= written.len() * Algorithm::ALL.len());
    // A private key in a set that others publish is an accident that must not pass, wherever it stands.
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth"] {
        assert!(written.iter().all(|key| key.get(member).is_none()), "`{member}` was accepted");
    }
    for key in found {
        let declares = |jwk: &Value| key.declared_kid().is_none_or(|kid| jwk["kid"] == kid);
        let fits = |jwk: &Value| {
            let kind = match (jwk["kty"].as_str(), jwk["crv"].as_str()) {
                (Some("RSA"), _) => KeyKind::Rsa,
                (Some("oct"), _) => KeyKind::Secret,
                (Some("EC"), Some("P-256")) => KeyKind::P256,
                (Some("EC"), Some("P-384")) => KeyKind::P384,
                (Some("OKP"), Some("Ed25519")) => KeyKind::Ed25519,
                _ => return false,
            };
            kind == key.algorithm().key_kind()
                && jwk.get("alg").is_none_or(|alg| alg == key.algorithm().name())
                && jwk.get("use").is_none_or(|purpose| purpose == "sig")
        };
        assert!(written.iter().any(|jwk| declares(jwk) && fits(jwk)), "{key:?} is no key of {document}");
    }
    let public: Vec<_> = found.iter().filter(|key| !key.algorithm().is_symmetric()).cloned().collect();
    assert!(public.is_empty() || public.len() == found.len(), "secrets and public keys in one set");
    check_public(&public);
}

/// What we would publish has sizes of the RFCs and is read back as the same key.
fn check_public(found: &[VerificationKey]) {
    for key in found {
        assert!(!key.verify(b"message", "") && !key.verify(b"message", "AAAA"));
        let jwk = KeySet::new(vec![key.clone()], Vec::new()).jwks()["keys"][0].clone();
        let bytes = |member: &str| URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap();
        match key.algorithm().key_kind() {
            KeyKind::Rsa => {
                let (modulus, exponent) = (bytes("n"), bytes("e"));
                assert!(modulus[0] != 0 && exponent[0] != 0, "{jwk}: a leading zero");
                assert!(
                    (256..=1024).contains(&modulus.len()) && (modulus.len() > 256 || modulus[0] >= 0x80),
                    "{jwk}: its size"
                );
                assert!(
                    modulus.last().unwrap() & 1 == 1 && exponent.last().unwrap() & 1 == 1 && exponent != [1],
                    "{jwk}"
                );
            }
            KeyKind::P256 => {
                assert_eq!((bytes("x").len(), bytes("y").len(), &jwk["crv"]), (32, 32, &Value::from("P-256")))
            }
            KeyKind::P384 => {
                assert_eq!((bytes("x").len(), bytes("y").len(), &jwk["crv"]), (48, 48, &Value::from("P-384")))
            }
            KeyKind::Ed25519 => assert_eq!((bytes("x").len(), &jwk["crv"]), (32, &Value::from("Ed25519"))),
            KeyKind::Secret => panic!("a secret was published: {jwk}"),
        }
        for member in ["d", "p", "q", "k"] {
            assert!(jwk.get(member).is_none(), "`{member}` was published");
        }
        let again = VerificationKey::from_jwks(jwk.to_string().as_bytes(), &Algorithm::ALL).unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].thumbprint(), again[0].algorithm()), (key.thumbprint(), key.algorithm()), "{jwk}");
    }
}

fn check_private(key: &SigningKey, algorithm: Algorithm) {
    assert_eq!(key.algorithm(), algorithm);
    let signature = key.sign(b"message").unwrap();
    assert!(key.verification_key().verify(b"message", &signature), "{algorithm}: the two halves do not fit");
    assert!(!key.verification_key().verify(b"massage", &signature), "{algorithm}");
    check_public(&[key.verification_key()]);
    let again = SigningKey::from_stored(algorithm, &key.to_stored().1).unwrap();
    assert_eq!(again.kid(), key.kid(), "{algorithm}: another key came back from the store");
}
