//! A gateway with a key of its own and one foreign issuer, for the tests of the verifier and the minter.

mod accepted;
mod hostile;
mod mapped;
mod refused;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::mint::AccessGrant;
use super::*;
use crate::keyset::{KeyKind, KeySet, SigningKey};
use crate::time::UnixSeconds;

const RSA: &[u8] = include_bytes!("../../keyset/fixtures/rsa.pem");
const ED25519: &[u8] = include_bytes!("../../keyset/fixtures/ed25519.pem");
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const OURS: &str = "https://gateway.example.org";
const THEIRS: &str = "https://sso.example.org/realms/lab";

fn settings() -> TokenSettings {
    TokenSettings {
        issuer: OURS.to_owned(),
        audience: vec!["tollgate".to_owned()],
        algorithm: Algorithm::EdDSA,
        access_ttl: Duration::from_secs(300),
        leeway: Duration::from_secs(30),
        max_token_bytes: 16_384,
        cache_bytes: 1 << 20,
    }
}

fn grant() -> AccessGrant {
    AccessGrant {
        subject: "65f0c2".to_owned(),
        client_id: "web".to_owned(),
        session: None,
        scopes: vec!["read:datasets".to_owned(), "write:datasets".to_owned()],
        roles: vec!["lab head".to_owned()],
        name: Some("Ada\r\nLovelace".to_owned()),
        email: Some("ada@example.org".to_owned()),
    }
}

fn signing_key(algorithm: Algorithm) -> SigningKey {
    match algorithm.key_kind() {
        KeyKind::Rsa => SigningKey::from_pem(RSA, algorithm).unwrap(),
        KeyKind::Ed25519 => SigningKey::from_pem(ED25519, algorithm).unwrap(),
        KeyKind::Secret | KeyKind::P256 | KeyKind::P384 => SigningKey::generate(algorithm).unwrap(),
    }
}

/// Our own tokens signed with Ed25519, and a foreign issuer with RS256.
struct World {
    own: SigningKey,
    foreign: SigningKey,
    keys: KeySet,
    verifier: Verifier,
}

fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut TrustedIssuerSettings)) -> World {
    let own = signing_key(Algorithm::EdDSA);
    let foreign = signing_key(Algorithm::RS256);
    let mut theirs = TrustedIssuerSettings {
        name: "lab-sso".into(),
        issuer: Some(THEIRS.to_owned()),
        audiences: vec!["science".to_owned()],
        claims: ClaimNames { roles: "realm_access.roles".to_owned(), ..ClaimNames::default() },
        types: TrustedIssuerSettings::default_types(),
    };
    change(&mut theirs);
    let issuer = TrustedIssuer { settings: theirs, keys: vec![foreign.verification_key()], remote: None };
    let keys = KeySet::new(vec![own.verification_key()], vec![issuer.keys.clone()]);
    World { own, foreign, keys, verifier: Verifier::new(&settings(), &[issuer]) }
}

fn sign(key: &SigningKey, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = key.sign(message.as_bytes()).unwrap();
    format!("{message}.{signature}")
}

fn own_claims() -> Value {
    json!({
        "iss": OURS, "sub": "65f0c2", "aud": "tollgate", "exp": NOW.0 + 300, "iat": NOW.0, "jti": "j", "client_id": "web",
    })
}

fn foreign_claims() -> Value {
    json!({ "iss": THEIRS, "sub": "u", "aud": ["account", "science"], "exp": NOW.0 + 300 })
}

fn with(mut object: Value, member: &str, value: impl Into<Value>) -> Value {
    object[member] = value.into();
    object
}

fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().unwrap().remove(member).unwrap();
    object
}

impl World {
    fn own_header(&self) -> Value {
        json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": self.own.kid() })
    }

    fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        self.verifier.verify(token, &self.keys, NOW)
    }

    fn own(&self, header: &Value, claims: &Value) -> Result<Identity, TokenError> {
        self.verify(&sign(&self.own, header.to_string(), claims.to_string()))
    }

    fn foreign(&self, header: &Value, claims: &Value) -> Result<Identity, TokenError> {
        self.verify(&sign(&self.foreign, header.to_string(), claims.to_string()))
    }

    #[track_caller]
    fn header_refused(&self, header: &Value, expected: TokenErrorKind) {
        assert_eq!(self.own(header, &own_claims()).unwrap_err().kind(), expected, "{header}");
    }

    #[track_caller]
    fn claims_refused(&self, claims: &Value, expected: TokenErrorKind) {
        let refusal = self.own(&self.own_header(), claims).unwrap_err();
        assert_eq!(refusal.kind(), expected, "{claims}: {refusal}");
    }
}
