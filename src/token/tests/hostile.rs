//! What a forger sends to get past a check or to keep the gateway busy (numbers of docs/security.md's case map in brackets).

use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;

use super::*;

const RSA_PUBLIC: &str = include_str!("../../keyset/fixtures/rsa-public.pem");
/// The most that `max_token_bytes` can be.
const LARGEST: usize = 1 << 20;

/// As [`world`], for tokens as long as any setting allows.
fn patient_world() -> World {
    let mut world = world();
    let issuer = TrustedIssuer {
        settings: TrustedIssuerSettings {
            name: "lab-sso".into(),
            issuer: Some(THEIRS.to_owned()),
            audiences: vec!["science".to_owned()],
            claims: ClaimNames::default(),
            types: TrustedIssuerSettings::default_types(),
        },
        keys: vec![world.foreign.verification_key()],
        remote: None,
    };
    world.verifier = Verifier::new(&TokenSettings { max_token_bytes: LARGEST, ..settings() }, &[issuer]);
    world
}

fn encoded(value: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(value)
}

/// [J1]
#[test]
fn none_is_refused_with_any_signature_or_without_one() {
    let world = world();
    let good = sign(&world.own, world.own_header().to_string(), own_claims().to_string());
    let signature = good.rsplit_once('.').unwrap().1;
    for alg in ["none", "None", "NONE", "nOnE", "none ", "\0none"] {
        let text = format!(
            "{}.{}",
            encoded(with(world.own_header(), "alg", alg).to_string()),
            encoded(own_claims().to_string())
        );
        for token in [text.clone(), format!("{text}."), format!("{text}.{signature}"), format!("{text}.AA")] {
            let refusal = world.verify(&token).unwrap_err();
            assert_eq!(refusal.kind(), TokenErrorKind::Malformed, "{alg:?}: {refusal}");
        }
    }
}

/// [J2]
#[test]
fn a_public_key_is_no_secret_in_whatever_writing() {
    use aws_lc_rs::hmac;
    let world = world();
    let der = STANDARD.decode(RSA_PUBLIC.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    let jwk = KeySet::new(vec![world.foreign.verification_key()], vec![]).jwks()["keys"][0].clone();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let writings: [&[u8]; 7] = [
        RSA_PUBLIC.as_bytes(),
        RSA_PUBLIC.trim_end().as_bytes(),
        &RSA_PUBLIC.replace('\n', "\r\n").into_bytes(),
        &der,
        &jwk.to_string().into_bytes(),
        &modulus,
        b"",
    ];
    for writing in writings {
        for (name, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            let header = json!({ "alg": name, "typ": "JWT", "kid": world.foreign.kid() }).to_string();
            let text = format!("{}.{}", encoded(header), encoded(foreign_claims().to_string()));
            let tag = hmac::sign(&hmac::Key::new(algorithm, writing), text.as_bytes());
            assert_eq!(world.verify(&format!("{text}.{}", encoded(tag))).unwrap_err(), TokenError::KeyUnknown);
        }
    }
}

/// [J4, J5]
#[test]
fn a_certificate_or_an_address_in_the_header_does_not_help_a_forger() {
    let world = world();
    let forger = SigningKey::generate(Algorithm::EdDSA).unwrap();
    let certificate = include_str!("../../keyset/fixtures/certificate.pem");
    let body: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    for (member, value) in [
        ("x5c", json!([body])),
        ("x5u", json!("http://127.0.0.1:9/chain.pem")),
        ("jku", json!("http://127.0.0.1:9/keys")),
        ("x5t#S256", json!("AAAA")),
    ] {
        let header = with(world.own_header(), member, value);
        let token = sign(&forger, header.to_string(), own_claims().to_string());
        assert_eq!(world.verify(&token).unwrap_err(), TokenError::Signature, "{member}");
    }
}

/// [J9]
#[test]
fn a_name_that_only_looks_like_the_issuers_is_refused() {
    let world = world();
    for name in [
        "https://gateway.example.org@evil.example",
        "https://gateway.example.org.evil.example",
        "https://gateway.example.org/..",
        "https://gateway.example.org:443",
        "https://gateway.example.org\u{0}",
        "https://gateway.example.org ",
        "https://g\u{430}teway.example.org",
        "http://gateway.example.org",
    ] {
        world.claims_refused(&with(own_claims(), "iss", name), TokenErrorKind::Issuer);
    }
}

/// [J12]
#[test]
fn a_subject_that_no_header_could_hold_safely_is_refused() {
    let world = world();
    for subject in ["a\rb", "a\nb", "a\u{7f}", "\u{1b}[31m", "a\u{9b}b", "\t", &"x".repeat(10_000)] {
        world.claims_refused(&with(own_claims(), "sub", subject), TokenErrorKind::Malformed);
    }
    // No control characters: it is passed on percent-encoded, which is one clean line.
    assert!(world.own(&world.own_header(), &with(own_claims(), "sub", "\u{202e}nimda")).is_ok());
}

/// [J15]
#[test]
fn deep_nesting_is_refused_wherever_it_stands() {
    let world = patient_world();
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let objects = r#"{"a":"#.repeat(100_000);
    for value in [&deep, &objects] {
        let header = world.own_header().to_string().replacen('{', &format!(r#"{{"x":{value},"#), 1);
        let claims = own_claims().to_string().replacen('{', &format!(r#"{{"x":{value},"#), 1);
        let in_header = world.verify(&sign(&world.own, &header, own_claims().to_string())).unwrap_err();
        assert!(matches!(in_header, TokenError::Json { part: "header", .. }), "{in_header}");
        let in_claims = world.verify(&sign(&world.own, world.own_header().to_string(), &claims)).unwrap_err();
        assert!(matches!(in_claims, TokenError::Json { part: "payload", .. }), "{in_claims}");
    }
}

/// [J16]
#[test]
fn nothing_is_inflated() {
    let world = patient_world();
    // RFC 1951: stored blocks of some claims; whoever inflates them would find good ones.
    let claims = own_claims().to_string();
    let length = u16::try_from(claims.len()).unwrap();
    let deflated = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), claims.as_bytes()].concat();
    for zip in [json!("DEF"), json!("GZ"), json!(null), json!(true)] {
        let header = with(world.own_header(), "zip", zip).to_string();
        assert_eq!(world.verify(&sign(&world.own, &header, &deflated)).unwrap_err(), TokenError::Compressed);
        assert_eq!(world.verify(&sign(&world.own, &header, &claims)).unwrap_err(), TokenError::Compressed);
    }
    let refusal = world.verify(&sign(&world.own, world.own_header().to_string(), &deflated)).unwrap_err();
    assert!(matches!(refusal, TokenError::Json { part: "payload", .. }), "{refusal}");
}

/// [J17]
#[test]
fn a_kid_is_only_ever_compared() {
    let world = patient_world();
    for kid in
        ["../../dev/null", "/proc/self/environ", "|sleep 10", "' OR '1'='1", "\u{0}", "%2e%2e", "http://127.0.0.1:9/"]
    {
        world.header_refused(&with(world.own_header(), "kid", kid), TokenErrorKind::KeyUnknown);
    }
    world.header_refused(&with(world.own_header(), "kid", "k".repeat(700_000)), TokenErrorKind::Malformed);
    for kid in [json!(7), json!(null), json!(["a"]), json!({ "a": 1 }), json!(true)] {
        world.header_refused(&with(world.own_header(), "kid", kid), TokenErrorKind::Malformed);
    }
}

/// [J18]
#[test]
fn an_ed25519_signature_whose_scalar_is_not_reduced_is_refused() {
    let world = world();
    let token = sign(&world.own, world.own_header().to_string(), own_claims().to_string());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let good = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // The order of the group, RFC 8032 section 5.1, lowest byte first.
    let mut order = [0; 32];
    order[..16].copy_from_slice(&27_742_317_777_372_353_535_851_937_790_883_648_493_u128.to_le_bytes());
    order[31] = 0x10;
    let mut larger = good.clone();
    let mut carry = 0;
    for (byte, added) in larger[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(added) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_ne!(larger, good);
    for signature in [larger, [&good[..32], &[0; 32]].concat(), [&[0; 32], &good[32..]].concat(), good[..63].to_vec()] {
        let refusal = world.verify(&format!("{message}.{}", encoded(&signature))).unwrap_err();
        assert_eq!(refusal, TokenError::Signature);
    }
}

/// The least time of some tries, which other work on the machine does not make longer for all of them.
fn shortest(mut work: impl FnMut()) -> Duration {
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..30).map(|_| time(&mut work)).min().unwrap()
}

/// [J14, J16, J17] A token of 64 KiB costs no more than a millisecond of an optimized program, whatever is in it.
#[test]
fn a_hostile_token_costs_little() {
    let world = patient_world();
    let header = world.own_header().to_string();
    let size = 64 * 1024;
    let list = |item: &str| format!(r#"{{"x":[{}1]}}"#, format!("{item},").repeat(size * 3 / 4 / (item.len() + 1)));
    let signature = "A".repeat(86);
    let pretending = |header: &str, claims: &str| format!("{}.{}.{signature}", encoded(header), encoded(claims));
    let cases = [
        ("dots", ".".repeat(size)),
        ("short parts", "e30.".repeat(size / 4)),
        ("one part", "e".repeat(size)),
        ("two parts", format!("{}.{}", "e".repeat(size / 2), "e".repeat(size / 2))),
        ("a long signature", format!("{}.e30.{}", encoded(&header), "A".repeat(size))),
        ("a header of numbers", pretending(&list("1"), "{}")),
        ("claims of numbers", pretending(&header, &list("1"))),
        ("claims of empty objects", pretending(&header, &list("{}"))),
        (
            "many members",
            pretending(&header, &format!("{{{}}}", (0..6000).map(|n| format!("\"{n}\":1,")).collect::<String>())),
        ),
        ("a long kid", pretending(&with(world.own_header(), "kid", "k".repeat(size * 3 / 4)).to_string(), "{}")),
        ("compressed", pretending(&with(world.own_header(), "zip", "DEF").to_string(), &"\0".repeat(size * 3 / 4))),
        ("a repeated member", pretending(&header, &format!("{{{}}}", r#""a":1,"#.repeat(size / 9)))),
    ];
    // Our own code is not optimized in tests, and the JSON of a token is read by generic code that becomes ours.
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 25 } else { 1 });
    for (name, token) in &cases {
        let time = shortest(|| assert!(world.verify(token).is_err()));
        println!("{name:<25} {:>7} bytes {:>8} us", token.len(), time.as_micros());
        assert!(time <= bound, "{name}: {time:?}");
    }
    // Nothing is made or looked at for each dot: a million cost what a thousand do.
    let few = ".".repeat(1000);
    let many = ".".repeat(LARGEST);
    let of_few = shortest(|| assert_eq!(world.verify(&few).unwrap_err(), TokenError::Parts));
    let of_many = shortest(|| assert_eq!(world.verify(&many).unwrap_err(), TokenError::Parts));
    assert!(of_many <= of_few * 20 + Duration::from_micros(50), "{of_few:?} for a thousand, {of_many:?} for a million");
}
