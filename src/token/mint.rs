//! Signs our access tokens.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::keyset::{KeyError, SigningKey};
use crate::time::UnixSeconds;

use super::signers::Signers;
use super::{TokenSettings, claims};

/// Random bytes of a `jti`: so many that no two are ever the same (RFC 7519 section 4.1.7).
const TOKEN_ID_BYTES: usize = 16;

/// The claims that every token of ours gets, or may get, from its grant and the settings.
pub const OUR_CLAIMS: [&str; 12] =
    ["iss", "sub", "aud", "exp", "iat", "jti", "sid", "client_id", "scope", "roles", "name", "email"];

/// What an access token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessGrant {
    /// `sub`: 1 to 1024 bytes, no control characters.
    pub subject: String,
    /// `client_id`, not empty.
    pub client_id: String,
    /// `sid`: the session that the token belongs to; `None`: to none, as one of the command line.
    pub session: Option<String>,
    /// `scope`, joined by spaces. None may have a space inside.
    pub scopes: Vec<String>,
    /// `roles`, left out when empty.
    pub roles: Vec<String>,
    /// `name`. Control characters become spaces.
    pub name: Option<String>,
    /// `email`. Control characters become spaces.
    pub email: Option<String>,
}

/// Makes access tokens (RFC 9068).
#[derive(Debug)]
pub struct Minter {
    signers: ArcSwap<Signers>,
    issuer: String,
    audiences: Vec<String>,
    life: Duration,
    max_token_bytes: usize,
}

/// A signed token. `Debug` hides it.
pub struct MintedToken {
    /// The compact JWS.
    pub token: String,
    /// Its life from now.
    pub expires_in: Duration,
}

/// Why no token could be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Something of the grant that no verifier would accept.
    #[error(
        "an account's {what} cannot be put into a token: it is empty, too long, or has control characters or spaces"
    )]
    Unfit {
        /// `subject`, `client_id`, `session`, `scope` or `role`.
        what: &'static str,
    },
    /// Longer than verifiers accept.
    #[error(
        "the token would have {bytes} bytes, more than `max_token_bytes` = {limit}; give the account fewer roles and scopes"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most accepted.
        limit: usize,
    },
    /// A further claim that the grant or the settings decide.
    #[error("the claim `{claim}` is made from the account and the settings, and cannot be given another value")]
    OurClaim {
        /// Its name.
        claim: &'static str,
    },
    /// The system gave no random bytes for `jti`.
    #[error("the system's random source failed")]
    Random,
    /// The signature could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// In the order in which RFC 9068 section 2.2 names them; `sid` is of OpenID Connect Front-Channel Logout 1.0 section 3.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: Audience<'a>,
    exp: u64,
    iat: u64,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    client_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(flatten)]
    further: &'a Map<String, Value>,
}

/// One audience is a plain string, which every library reads (RFC 7519 section 4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(&'a [String]),
}

impl Minter {
    /// A minter for the configured issuer, audience and lifetime, with one key.
    pub fn new(settings: &TokenSettings, key: SigningKey) -> Self {
        Self::with_signers(settings, Signers::new(key, Vec::new()))
    }

    /// As [`Self::new`], with keys that follow each other.
    pub fn with_signers(settings: &TokenSettings, signers: Signers) -> Self {
        Self {
            signers: ArcSwap::from_pointee(signers),
            issuer: settings.issuer.clone(),
            audiences: settings.audiences().to_vec(),
            life: settings.access_ttl,
            max_token_bytes: settings.max_token_bytes,
        }
    }

    /// The key that signs at `now`.
    pub fn key(&self, now: UnixSeconds) -> SigningKey {
        self.signers.load().key(now).clone()
    }

    /// Signs with other keys from now on. Tokens that are being made are finished with the former.
    pub fn replace_signers(&self, signers: Signers) {
        self.signers.store(Arc::new(signers));
    }

    /// Signs a token that begins now.
    ///
    /// # Errors
    /// When our own verifier would not accept it, or signing fails.
    pub fn mint(&self, grant: &AccessGrant, now: UnixSeconds) -> Result<MintedToken, MintError> {
        self.mint_with(grant, &Map::new(), now)
    }

    /// As [`Self::mint`], with claims of one's own besides.
    ///
    /// # Errors
    /// As [`Self::mint`]; also when a further claim is one of [`OUR_CLAIMS`].
    pub fn mint_with(
        &self,
        grant: &AccessGrant,
        further: &Map<String, Value>,
        now: UnixSeconds,
    ) -> Result<MintedToken, MintError> {
        check(grant)?;
        if let Some(claim) = OUR_CLAIMS.into_iter().find(|claim| further.contains_key(*claim)) {
            return Err(MintError::OurClaim { claim });
        }
        let mut token_id = [0; TOKEN_ID_BYTES];
        rand::fill(&mut token_id).map_err(|_| MintError::Random)?;
        let aud = match self.audiences.as_slice() {
            [one] => Audience::One(one),
            several => Audience::Several(several),
        };
        let claims = Claims {
            iss: &self.issuer,
            sub: &grant.subject,
            aud,
            exp: now.plus(self.life).0,
            iat: now.0,
            jti: &URL_SAFE_NO_PAD.encode(token_id),
            sid: grant.session.as_deref(),
            client_id: &grant.client_id,
            scope: &grant.scopes.join(" "),
            roles: &grant.roles,
            name: profile(grant.name.as_deref()),
            email: profile(grant.email.as_deref()),
            further,
        };
        let payload = serde_json::to_vec(&claims).expect("strings and numbers always become JSON");
        let signers = self.signers.load();
        let signer = signers.at(now);
        let mut token = signer.header.clone();
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = signer.key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&signature);
        if token.len() > self.max_token_bytes {
            return Err(MintError::TooLong { bytes: token.len(), limit: self.max_token_bytes });
        }
        Ok(MintedToken { token, expires_in: self.life })
    }
}

fn check(grant: &AccessGrant) -> Result<(), MintError> {
    let fit = |text: &String| !text.is_empty() && claims::is_clean(text);
    let unfit = if !claims::is_subject(&grant.subject) {
        "subject"
    } else if !fit(&grant.client_id) {
        "client_id"
    } else if !grant.session.as_ref().is_none_or(fit) {
        "session"
    } else if !grant.scopes.iter().all(|scope| fit(scope) && !scope.contains(' ')) {
        "scope"
    } else if !grant.roles.iter().all(fit) {
        "role"
    } else {
        return Ok(());
    };
    Err(MintError::Unfit { what: unfit })
}

/// A person whose stored name has a line end in it must still be able to log in.
fn profile(text: Option<&str>) -> Option<String> {
    let clean = text?.replace(char::is_control, " ");
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

impl std::fmt::Debug for MintedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MintedToken").field("token", &"[redacted]").field("expires_in", &self.expires_in).finish()
    }
}
