//! The claims (RFC 7519 section 4.1, RFC 9068 section 2.2): each of its own type, or the token is refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Number, Value};

use crate::keyset::strict_json::reach;
use crate::time::UnixSeconds;

use super::{TokenError, TokenSession};

/// The longest `sub`, in bytes: it becomes a header.
pub(super) const MAX_SUBJECT_BYTES: usize = 1024;
/// 9999-12-31T23:59:59Z. Sums with any leeway stay far from overflow.
const MAX_NUMERIC_DATE: u64 = 253_402_300_799;

/// The registered claims that are always checked, whoever issued the token.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) expires_at: UnixSeconds,
    pub(super) token_id: Option<Box<str>>,
}

pub(super) fn missing(claim: &str) -> TokenError {
    TokenError::ClaimMissing { claim: claim.to_owned() }
}

pub(super) fn invalid(claim: &str) -> TokenError {
    TokenError::ClaimInvalid { claim: claim.to_owned() }
}

/// Checks the expiry, which `expires` names, `exp` in any case, `nbf`, `iat`, `aud`, `sub` and `jti`. Of each a wrong type is
/// refused, also where a claim is optional: to pass over what cannot be read is how checks get skipped (CVE-2026-25537).
pub(super) fn registered(
    claims: &Map<String, Value>,
    expires: &str,
    audiences: &[Box<str>],
    leeway: Duration,
    now: UnixSeconds,
) -> Result<Registered, TokenError> {
    let named = date(claims, expires, Rounding::Down)?.ok_or_else(|| missing(expires))?;
    let expires_at = date(claims, "exp", Rounding::Down)?.map_or(named, |standard| standard.min(named));
    let not_before = date(claims, "nbf", Rounding::Up)?;
    // Only its type: clocks differ by milliseconds, and `nbf` is there for what must not begin yet.
    date(claims, "iat", Rounding::Down)?;
    let token_id = text(claims, "jti")?;
    text(claims, "sub")?;
    if now >= expires_at.plus(leeway) {
        return Err(TokenError::Expired { expired_at: expires_at });
    }
    if let Some(valid_from) = not_before
        && valid_from > now.plus(leeway)
    {
        return Err(TokenError::NotYetValid { valid_from });
    }
    audience(claims, audiences)?;
    Ok(Registered { expires_at, token_id })
}

/// `aud`: a string, or an array of strings, one of which must be ours. Without audiences of ours there must be none.
fn audience(claims: &Map<String, Value>, audiences: &[Box<str>]) -> Result<(), TokenError> {
    let ours = |audience: &str| audiences.iter().any(|accepted| **accepted == *audience);
    let found = match claims.get("aud") {
        None => audiences.is_empty(),
        Some(Value::String(audience)) => ours(audience),
        Some(Value::Array(list)) => {
            let mut found = false;
            for audience in list {
                found |= ours(audience.as_str().ok_or_else(|| invalid("aud"))?);
            }
            found
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => return Err(invalid("aud")),
    };
    if found { Ok(()) } else { Err(TokenError::Audience) }
}

#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

/// A `NumericDate` (RFC 7519 section 2), which may have a fraction.
fn date(claims: &Map<String, Value>, claim: &str, rounding: Rounding) -> Result<Option<UnixSeconds>, TokenError> {
    match reach(claims, claim) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            seconds(number, rounding).map(|date| Some(UnixSeconds(date))).ok_or_else(|| invalid(claim))
        }
        Some(Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            Err(invalid(claim))
        }
    }
}

fn seconds(number: &Number, rounding: Rounding) -> Option<u64> {
    if let Some(whole) = number.as_u64() {
        return (whole <= MAX_NUMERIC_DATE).then_some(whole);
    }
    let fraction = number.as_f64()?;
    let whole = match rounding {
        Rounding::Up => fraction.ceil(),
        Rounding::Down => fraction.floor(),
    };
    if fraction < 0.0 || !(0.0..=253_402_300_799.0).contains(&whole) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number in the range above")]
    Some(whole as u64)
}

/// An optional string. It becomes a header or a log field, so it is one clean line: no control characters, among them the
/// line ends that other parsers see (U+0085).
pub(super) fn text(claims: &Map<String, Value>, path: &str) -> Result<Option<Box<str>>, TokenError> {
    match reach(claims, path) {
        None => Ok(None),
        Some(Value::String(text)) if is_clean(text) => Ok(Some(text.as_str().into())),
        Some(_) => Err(invalid(path)),
    }
}

/// An optional string, where `null` and the empty string mean the same as its absence.
pub(super) fn profile_text(claims: &Map<String, Value>, path: &str) -> Result<Option<Box<str>>, TokenError> {
    match reach(claims, path) {
        Some(Value::Null) => Ok(None),
        Some(_) | None => Ok(text(claims, path)?.filter(|text| !text.is_empty())),
    }
}

/// `sid` and `iat` of our own tokens. One that is no id of ours could not be found among the ended sessions, so that it is not
/// accepted as a token of none.
pub(super) fn belongs_to(claims: &Map<String, Value>) -> Result<Option<TokenSession>, TokenError> {
    let Some(text) = text(claims, "sid")? else { return Ok(None) };
    let issued_at = date(claims, "iat", Rounding::Down)?.ok_or_else(|| missing("iat"))?;
    let mut id = [0; 16];
    match URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), &mut id) {
        Ok(16) => Ok(Some(TokenSession { id, issued_at })),
        Ok(_) | Err(_) => Err(invalid("sid")),
    }
}

/// The subject: required, because it is who the caller is.
pub(super) fn subject(claims: &Map<String, Value>, path: &str) -> Result<Box<str>, TokenError> {
    let subject = text(claims, path)?.ok_or_else(|| missing(path))?;
    if is_subject(&subject) { Ok(subject) } else { Err(invalid(path)) }
}

/// Whether an account of that name can be the subject of a token.
pub(super) fn is_subject(subject: &str) -> bool {
    !subject.is_empty() && subject.len() <= MAX_SUBJECT_BYTES && is_clean(subject)
}

pub(super) fn is_clean(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Scopes or roles: an array of strings, or one string separated by spaces (RFC 8693 section 4.2). Order is kept.
pub(super) fn list(claims: &Map<String, Value>, path: &str) -> Result<Box<[Box<str>]>, TokenError> {
    let mut items: Vec<Box<str>> = Vec::new();
    match reach(claims, path) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if is_clean(text) => {
            items.extend(text.split(' ').filter(|item| !item.is_empty()).map(Into::into));
        }
        Some(Value::Array(array)) => {
            for item in array {
                let item = item.as_str().filter(|item| !item.is_empty() && is_clean(item));
                items.push(item.ok_or_else(|| invalid(path))?.into());
            }
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => return Err(invalid(path)),
    }
    Ok(items.into())
}

/// Scopes: as [`list`]; one with a space inside would read as two.
pub(super) fn scopes(claims: &Map<String, Value>, path: &str) -> Result<Box<[Box<str>]>, TokenError> {
    let scopes = list(claims, path)?;
    if scopes.iter().any(|scope| scope.contains(' ')) { Err(invalid(path)) } else { Ok(scopes) }
}
