//! Tokens of an issuer that a test makes up.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A token of the issuer `theirs` for `us`, signed with `secret`.
pub(crate) fn hs256(secret: &[u8], subject: &str) -> String {
    let now = tollgate::time::UnixSeconds::now().0;
    let claims = serde_json::json!({ "iss": "theirs", "aud": "us", "sub": subject, "exp": now + 300 });
    let signed = encoded(&claims.to_string());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
}

/// A token with these claims and a signature that is none.
pub(crate) fn unsigned(claims: &str) -> String {
    format!("{}.AAAA", encoded(claims))
}

fn encoded(claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(claims))
}
