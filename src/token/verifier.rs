//! The checks that make a token an identity.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::keyset::{IssuerKeys, KeyId, KeySet, SetKey, strict_json};
use crate::time::UnixSeconds;

use super::check::Check;
use super::claims::Registered;
use super::header::{Header, plain_type};
use super::{ClaimNames, Identity, TokenError, TokenSettings, TrustedIssuer, claims};

/// The longest signature in base64url: that of an RSA key of 8192 bits.
const MAX_SIGNATURE_BYTES: usize = 1366;

/// Verifies tokens of our own and of the trusted issuers. A [`super::cache::TokenCache`] belongs to one verifier: other
/// settings need a new one of both.
#[derive(Debug)]
pub struct Verifier {
    profiles: Vec<Profile>,
    max_token_bytes: usize,
    leeway: Duration,
}

/// What is expected of one issuer's tokens.
#[derive(Debug)]
struct Profile {
    /// `None`: its tokens have no `iss`.
    issuer: Option<Arc<str>>,
    /// What an identity's issuer is called.
    name: Arc<str>,
    keys: IssuerKeys,
    audiences: Vec<Box<str>>,
    types: Vec<Box<str>>,
    claims: ClaimNames,
    /// `iat`, `jti` and `client_id` too (RFC 9068 section 2.2).
    strict_profile: bool,
}

impl Verifier {
    /// A verifier for our own tokens and those of `issuers`, whose keys are in the key set in the same order.
    pub fn new(settings: &TokenSettings, issuers: &[TrustedIssuer]) -> Self {
        let boxed = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        let own_name: Arc<str> = settings.issuer.as_str().into();
        let own = Profile {
            issuer: Some(Arc::clone(&own_name)),
            name: own_name,
            keys: IssuerKeys::Own,
            audiences: boxed(settings.audiences()),
            types: vec!["at+jwt".into()],
            claims: ClaimNames::default(),
            strict_profile: true,
        };
        let identifier = |issuer: &TrustedIssuer| issuer.settings.issuer.as_deref().map(Arc::from);
        let foreign = issuers.iter().enumerate().map(|(position, issuer)| Profile {
            issuer: identifier(issuer),
            name: identifier(issuer).unwrap_or_else(|| Arc::clone(&issuer.settings.name)),
            keys: IssuerKeys::Foreign(position),
            audiences: boxed(&issuer.settings.audiences),
            types: issuer.settings.types.iter().map(|typ| plain_type(typ).into()).collect(),
            claims: issuer.settings.claims.clone(),
            strict_profile: false,
        });
        Self {
            profiles: std::iter::once(own).chain(foreign).collect(),
            max_token_bytes: settings.max_token_bytes,
            leeway: settings.leeway,
        }
    }

    /// Checks everything about `token` (RFC 7515 section 5.2, RFC 7519 section 7.2, RFC 8725, RFC 9068 section 4):
    ///
    /// 1. It is not longer than `max_token_bytes`.
    /// 2. It has exactly three parts, and each is canonical base64url without padding.
    /// 3. The header is a JSON object, nested at most 24 deep, in which no member repeats on any level. `alg` names an
    ///    algorithm that we know; no `crit`, `b64` or `zip`; `kid`, if any, is a short string. Keys that the header brings or
    ///    points to are never looked at.
    /// 4. The payload is such a JSON object too.
    /// 5. `iss` is, octet for octet, that of a trusted issuer. A token without `iss` is of the one issuer that is declared to
    ///    name none, if there is one; to that issuer belongs no token with an `iss`.
    /// 6. `typ` is one that this issuer puts on access tokens: on ours exactly `at+jwt`.
    /// 7. This issuer has a key of this `kid` and `alg`. Without `kid`, at most four keys of the algorithm are tried.
    /// 8. The signature is right.
    /// 9. `exp`, `nbf`, `iat`, `jti`, `sub`, `aud`, where there, have their types; `exp`, or the claim that stands for it, is
    ///    there; now is before both plus leeway and not before `nbf` minus leeway; `aud` contains one of ours, or is not there
    ///    where none is expected. `iat` in the future is no reason to refuse.
    /// 10. The subject is 1 to 1024 bytes without control characters; name, email, roles and scopes, where there, are clean
    ///     text; our own tokens also have `iat`, `jti` and `client_id`, and their `sid`, where there, is the id of a session.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(&self, token: &str, keys: &KeySet, now: UnixSeconds) -> Result<Identity, TokenError> {
        self.verify_noting(token, keys, now, |_| {})
    }

    /// As [`Self::verify`], as if the token had not expired: for what is about its session, and never to let somebody in.
    ///
    /// # Errors
    /// As [`Self::verify`], but for [`TokenError::Expired`].
    pub fn verify_past(&self, token: &str, keys: &KeySet, now: UnixSeconds) -> Result<Identity, TokenError> {
        match self.verify(token, keys, now) {
            // Everything else is checked as of its last second.
            Err(TokenError::Expired { expired_at }) => {
                self.verify(token, keys, UnixSeconds(expired_at.0.saturating_sub(1)))
            }
            verified => verified,
        }
    }

    /// As [`Self::verify`], and tells `passed` each check that the token has passed, in their order. The one that it did not
    /// pass is the next.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_noting(
        &self,
        token: &str,
        keys: &KeySet,
        now: UnixSeconds,
        mut passed: impl FnMut(Check),
    ) -> Result<Identity, TokenError> {
        if token.len() > self.max_token_bytes {
            return Err(TokenError::TooLong { bytes: token.len(), limit: self.max_token_bytes });
        }
        passed(Check::Length);
        let parts = Parts::split(token)?;
        let (header, payload) = (decoded(parts.header, "header")?, decoded(parts.payload, "payload")?);
        passed(Check::Parts);
        let header = Header::read(object(&header, "header")?)?;
        passed(Check::Header);
        let members = object(&payload, "payload")?;
        passed(Check::Payload);
        let profile = self.profile(&members)?;
        passed(Check::Issuer);
        if !header.has_type(&profile.types) {
            return Err(TokenError::Type);
        }
        passed(Check::Type);
        let candidates = candidates(&header, keys, profile.keys)?;
        passed(Check::Key);
        let key_id = check_signature(&parts, candidates)?;
        passed(Check::Signature);
        let expires = &profile.claims.expires;
        let registered = claims::registered(&members, expires, &profile.audiences, self.leeway, now)?;
        passed(Check::Claims);
        let accepted_until = registered.expires_at.plus(self.leeway);
        let identity = identity(members, profile, key_id, registered, accepted_until)?;
        passed(Check::Identity);
        Ok(identity)
    }

    /// The position of the trusted issuer that should be asked for a newer key, for a token that [`Self::verify`] refused for its
    /// key or its signature. `None`: its key is there under its name and did not sign this, or a secret verifies it, or it is
    /// ours. A set whose keys have no names, or a token that names none, leaves open which key was meant, so these ask too.
    pub fn asks_for_key(&self, token: &str, keys: &KeySet) -> Option<usize> {
        let parts = Parts::split(token).ok()?;
        let header = Header::read(object(&decoded(parts.header, "header").ok()?, "header").ok()?).ok()?;
        let members = object(&decoded(parts.payload, "payload").ok()?, "payload").ok()?;
        let IssuerKeys::Foreign(position) = self.profile(&members).ok()?.keys else { return None };
        let is_named = |key: &SetKey| header.kid.is_some() && key.kid() == header.kid.as_deref();
        let has_key =
            keys.candidates(IssuerKeys::Foreign(position), header.kid.as_deref(), header.algorithm).any(is_named);
        (!has_key && !header.algorithm.is_symmetric()).then_some(position)
    }

    /// The issuer that the token names. What follows trusts nothing else of it before the signature is checked.
    fn profile(&self, members: &Map<String, Value>) -> Result<&Profile, TokenError> {
        let issuer = match members.get("iss") {
            None => None,
            Some(Value::String(issuer)) => Some(issuer.as_str()),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(claims::invalid("iss"));
            }
        };
        self.profiles.iter().find(|profile| profile.issuer.as_deref() == issuer).ok_or(TokenError::Issuer)
    }
}

/// Check 10.
fn identity(
    members: Map<String, Value>,
    profile: &Profile,
    key_id: KeyId,
    registered: Registered,
    accepted_until: UnixSeconds,
) -> Result<Identity, TokenError> {
    let names = &profile.claims;
    let subject = claims::subject(&members, &names.subject)?;
    let mut client_id = claims::profile_text(&members, "client_id")?;
    let mut belongs_to = None;
    if profile.strict_profile {
        if client_id.is_none() {
            return Err(claims::missing("client_id"));
        }
        if !members.contains_key("iat") {
            return Err(claims::missing("iat"));
        }
        if registered.token_id.as_deref().is_none_or(str::is_empty) {
            return Err(claims::missing("jti"));
        }
        belongs_to = claims::belongs_to(&members)?;
    } else if client_id.is_none() {
        client_id = claims::profile_text(&members, "azp")?;
    }
    // Another issuer's sessions are none of ours, whatever they are called.
    let session = if profile.strict_profile { claims::profile_text(&members, "sid")? } else { None };
    let scopes = claims::scopes(&members, &names.scopes)?;
    Ok(Identity {
        subject,
        name: claims::profile_text(&members, &names.name)?,
        email: claims::profile_text(&members, &names.email)?,
        roles: claims::list(&members, &names.roles)?,
        scopes_text: scopes.join(" ").into(),
        scopes,
        issuer: Arc::clone(&profile.name),
        expires_at: registered.expires_at,
        token_id: registered.token_id,
        client_id,
        belongs_to,
        session,
        key_id,
        claims: members,
        rendered: OnceLock::new(),
        accepted_until,
        minted: OnceLock::new(),
    })
}

/// The three parts of a compact JWS, still encoded (RFC 7515 section 7.1).
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// Header and payload with the dot between: what is signed.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        let (header, rest) = token.split_once('.').ok_or(TokenError::Parts)?;
        let (payload, signature) = rest.split_once('.').ok_or(TokenError::Parts)?;
        if signature.contains('.') {
            return Err(TokenError::Parts);
        }
        // An empty signature is that of `none`.
        if signature.is_empty() || signature.len() > MAX_SIGNATURE_BYTES || URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(TokenError::Encoding { part: "signature" });
        }
        let signed = &token[..header.len() + 1 + payload.len()];
        Ok(Self { header, payload, signature, signed })
    }
}

fn decoded(encoded: &str, part: &'static str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Encoding { part })
}

fn object(json: &[u8], part: &'static str) -> Result<Map<String, Value>, TokenError> {
    strict_json::parse_object(json).map_err(|problem| TokenError::Json { part, problem })
}

/// At least one.
fn candidates<'a>(
    header: &'a Header,
    keys: &'a KeySet,
    issuer: IssuerKeys,
) -> Result<impl Iterator<Item = &'a SetKey>, TokenError> {
    let mut candidates = keys.candidates(issuer, header.kid.as_deref(), header.algorithm).peekable();
    if candidates.peek().is_none() { Err(TokenError::KeyUnknown) } else { Ok(candidates) }
}

fn check_signature<'a>(
    parts: &Parts<'_>,
    mut candidates: impl Iterator<Item = &'a SetKey>,
) -> Result<KeyId, TokenError> {
    candidates
        .find(|candidate| candidate.key().verify(parts.signed.as_bytes(), parts.signature))
        .map(SetKey::id)
        .ok_or(TokenError::Signature)
}
