//! A token that is accepted is signed by the key of its issuer, and says nothing that the rules of the verifier forbid.
//!
//! The tests against PyJWT judge the same accepted tokens once more.

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tollgate::keyset::{Algorithm, KeyKind, KeySet, SigningKey, install_crypto_providers};
use tollgate::time::UnixSeconds;
use tollgate::token::{ClaimNames, Identity, TokenSettings, TrustedIssuer, TrustedIssuerSettings, Verifier};

use super::json::{check_strict, outline};

/// The clock of the verifier. The seeds are written for it.
const NOW: u64 = 1_800_000_000;
const LEEWAY: u64 = 30;
const SECRET: &[u8] = b"f3Qm8sVw1LxZ0rTnYcKp5uHd7eJbGa2XoPiR9tCvE6MhNyWqSkUzBlDgFj4A-I_O";
const OURS: &str = "https://gateway.example.org";

/// Our own key, and those of three issuers, each of another kind.
const ISSUERS: [(&str, &str, &[Algorithm]); 4] = [
    (OURS, "tollgate", &[Algorithm::EdDSA]),
    ("https://secret.example.org", "science", &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]),
    ("https://rsa.example.org", "science", &[Algorithm::RS256, Algorithm::PS256]),
    ("https://curve.example.org", "science", &[Algorithm::ES256, Algorithm::ES384]),
];

/// A token that the verifier accepted, with what another library needs to judge it.
#[derive(Debug)]
pub struct Accepted {
    /// As it came.
    pub token: String,
    /// The name of the key's algorithm.
    pub algorithm: &'static str,
    /// Whose it is.
    pub issuer: &'static str,
    /// Whom it must be for.
    pub audience: &'static str,
    /// The key, as a JWK; of a secret with `k`.
    pub key: Value,
    /// The clock.
    pub now: u64,
}

/// Either a token, or the name of an algorithm, a header and a payload, each on a line of its own: these are signed.
pub fn token(data: &[u8]) {
    let _ = accepted(data);
}

/// As [`token`]; gives the token if it was accepted.
pub fn accepted(data: &[u8]) -> Option<Accepted> {
    let world = world();
    let signed = signed(data, world);
    let token = match &signed {
        Some((_, token)) => token,
        None => std::str::from_utf8(data).ok()?,
    };
    let identity = match world.verifier.verify(token, &world.keys, UnixSeconds(NOW)) {
        Ok(identity) => identity,
        Err(error) => {
            // What the log shows of it has one line and none of the token's secrets.
            let (shown, signature) = (error.to_string(), token.rsplit('.').next().unwrap_or_default());
            assert!(!shown.contains(['\n', '\r', '\0', '\u{1b}']), "{shown:?}");
            assert!(signature.len() < 16 || !shown.contains(signature), "{shown:?}");
            return None;
        }
    };
    let (position, algorithm) = check(token, &identity);
    if let Some((signer, _)) = signed {
        assert_eq!(signer, algorithm, "accepted under another algorithm than it was signed with: {token}");
    }
    let (issuer, audience, _) = ISSUERS[position];
    let key = world.signing(algorithm).verification_key();
    let public = KeySet::new(vec![key], Vec::new()).jwks()["keys"].get(0).cloned();
    let secret = || json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let (token, key) = (token.to_owned(), public.unwrap_or_else(secret));
    Some(Accepted { token, algorithm: algorithm.name(), issuer, audience, key, now: NOW })
}

/// Everything that the documentation of `Verifier::verify` promises, read with a parser that promises nothing. Gives the
/// position of the issuer and the algorithm.
fn check(token: &str, identity: &Identity) -> (usize, Algorithm) {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "{token}");
    let decoded: Vec<Vec<u8>> = parts.iter().map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    for (part, bytes) in parts.iter().zip(&decoded) {
        assert_eq!(*part, URL_SAFE_NO_PAD.encode(bytes), "not canonical: {token}");
    }
    let object = |bytes: &[u8]| -> Value {
        check_strict(bytes);
        assert!(outline(bytes).depth <= 24);
        serde_json::from_slice(bytes).unwrap()
    };
    let (header, claims) = (object(&decoded[0]), object(&decoded[1]));
    for member in ["crit", "b64", "zip"] {
        assert!(header.get(member).is_none(), "`{member}` was accepted: {header}");
    }
    assert!(
        header.get("kid").is_none_or(|kid| kid.as_str().is_some_and(|kid| (1..=256).contains(&kid.len()))),
        "{header}"
    );

    let position = ISSUERS.iter().position(|(issuer, _, _)| claims["iss"] == *issuer).unwrap();
    let (issuer, audience, algorithms) = ISSUERS[position];
    let algorithm = Algorithm::from_name(header["alg"].as_str().unwrap()).unwrap();
    assert!(algorithms.contains(&algorithm), "{algorithm} is no algorithm of {issuer}");
    let typ = header.get("typ").map(|typ| typ.as_str().unwrap().to_ascii_lowercase());
    let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
    assert!(typ == Some("at+jwt") || position > 0 && matches!(typ, None | Some("jwt")), "{header}");
    check_signature(&parts, algorithm);

    let expires = claims["exp"].as_f64().unwrap();
    assert!(expires >= 0.0 && (NOW as f64) < expires.floor() + LEEWAY as f64, "{claims}");
    assert!(claims.get("nbf").is_none_or(|nbf| nbf.as_f64().unwrap() <= (NOW + LEEWAY) as f64), "{claims}");
    assert!(claims.get("iat").is_none_or(Value::is_number), "{claims}");
    let audiences = claims["aud"].as_array().cloned().unwrap_or_else(|| vec![claims["aud"].clone()]);
    assert!(audiences.iter().all(Value::is_string) && audiences.iter().any(|one| one == audience), "{claims}");
    if position == 0 {
        let is_word = |claim: &str| claims[claim].as_str().is_some_and(|text| !text.is_empty());
        assert!(is_word("jti") && is_word("client_id") && claims.get("iat").is_some(), "{claims}");
    }
    check_identity(&claims, identity, issuer);
    (position, algorithm)
}

/// By signing once more, where a signature of the same text is the same signature.
fn check_signature(parts: &[&str], algorithm: Algorithm) {
    let message = format!("{}.{}", parts[0], parts[1]);
    let key = world().signing(algorithm);
    match algorithm.key_kind() {
        KeyKind::Secret | KeyKind::Ed25519 => assert_eq!(key.sign(message.as_bytes()).unwrap(), parts[2], "{message}"),
        KeyKind::Rsa if algorithm == Algorithm::RS256 => assert_eq!(key.sign(message.as_bytes()).unwrap(), parts[2]),
        KeyKind::Rsa | KeyKind::P256 | KeyKind::P384 => {
            let key = key.verification_key();
            assert!(
                key.verify(message.as_bytes(), parts[2]) && !key.verify(parts[0].as_bytes(), parts[2]),
                "{message}"
            );
        }
    }
}

fn check_identity(claims: &Value, identity: &Identity, issuer: &str) {
    let is_clean = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    assert_eq!((claims["sub"].as_str(), identity.issuer()), (Some(identity.subject()), issuer));
    assert!(is_clean(identity.subject()) && identity.subject().len() <= 1024, "{claims}");
    for (name, value) in [("name", identity.name()), ("email", identity.email())] {
        assert_eq!(claims[name].as_str().filter(|text| !text.is_empty()), value, "{claims}");
        assert!(value.is_none_or(is_clean), "{claims}");
    }
    for (name, values) in [("scope", identity.scopes()), ("roles", identity.roles())] {
        let expected: Vec<&str> = match &claims[name] {
            Value::Array(items) => items.iter().map(|item| item.as_str().unwrap()).collect(),
            Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).collect(),
            Value::Null => Vec::new(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => panic!("{name} is {other}"),
        };
        assert_eq!(values.iter().map(|value| &**value).collect::<Vec<_>>(), expected, "{claims}");
        assert!(values.iter().all(|value| is_clean(value)), "{claims}");
    }
    assert!(identity.scopes().iter().all(|scope| !scope.contains(' ')), "{claims}");
}

/// The algorithm and the token, if the bytes say what to sign.
fn signed(data: &[u8], world: &World) -> Option<(Algorithm, String)> {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let algorithm = Algorithm::from_name(std::str::from_utf8(lines.next()?).ok()?)?;
    let (header, payload) = (lines.next()?, lines.next()?);
    let key = world.keys_that_sign.iter().find(|key| key.algorithm() == algorithm)?;
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    Some((algorithm, format!("{message}.{}", key.sign(message.as_bytes()).unwrap())))
}

struct World {
    keys_that_sign: Vec<SigningKey>,
    keys: KeySet,
    verifier: Verifier,
}

impl World {
    fn signing(&self, algorithm: Algorithm) -> &SigningKey {
        self.keys_that_sign.iter().find(|key| key.algorithm() == algorithm).unwrap()
    }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        install_crypto_providers();
        let keys_that_sign: Vec<SigningKey> =
            ISSUERS.iter().flat_map(|(_, _, algorithms)| algorithms.iter()).map(|one| signing_key(*one)).collect();
        let of = |algorithms: &[Algorithm]| {
            let own = keys_that_sign.iter().filter(|key| algorithms.contains(&key.algorithm()));
            own.map(SigningKey::verification_key).collect::<Vec<_>>()
        };
        let issuer = |(issuer, audience, algorithms): &(&str, &str, &[Algorithm])| {
            let settings = TrustedIssuerSettings {
                name: (*issuer).into(),
                issuer: Some((*issuer).to_owned()),
                audiences: vec![(*audience).to_owned()],
                claims: ClaimNames::default(),
                types: TrustedIssuerSettings::default_types(),
            };
            TrustedIssuer { settings, keys: of(algorithms), remote: None }
        };
        let issuers: Vec<TrustedIssuer> = ISSUERS[1..].iter().map(issuer).collect();
        let foreign = issuers.iter().map(|issuer| issuer.keys.clone()).collect();
        let settings = TokenSettings {
            issuer: OURS.to_owned(),
            audience: vec!["tollgate".to_owned()],
            algorithm: Algorithm::EdDSA,
            access_ttl: Duration::from_secs(300),
            leeway: Duration::from_secs(LEEWAY),
            max_token_bytes: 16_384,
            cache_bytes: 0,
        };
        let keys = KeySet::new(of(ISSUERS[0].2), foreign);
        World { keys, verifier: Verifier::new(&settings, &issuers), keys_that_sign }
    })
}

fn signing_key(algorithm: Algorithm) -> SigningKey {
    let pem: &[u8] = match algorithm.key_kind() {
        KeyKind::Secret => return SigningKey::from_secret(SECRET, algorithm).unwrap(),
        KeyKind::Rsa => include_bytes!("../../../src/keyset/fixtures/rsa.pem"),
        KeyKind::P256 => include_bytes!("../../../src/keyset/fixtures/p256-sec1.pem"),
        KeyKind::P384 => include_bytes!("../../../src/keyset/fixtures/p384.pem"),
        KeyKind::Ed25519 => include_bytes!("../../../src/keyset/fixtures/ed25519.pem"),
    };
    SigningKey::from_pem(pem, algorithm).unwrap()
}
