//! `tollgate token inspect`: what is in a token, and with `--verify` whether this gateway accepts it.

use std::io::{self, Write};
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::app::key_sources::with_published_keys;
use crate::app::keys;
use crate::cause::chain;
use crate::cli::credential::NeededToken;
use crate::cli::session::standing;
use crate::cli::style::{self, Mark, Style, printable};
use crate::cli::{CliError, own_keys, wait_for};
use crate::config;
use crate::gateway::code::Code;
use crate::gateway::refusal::Refusal;
use crate::revocation::Revoked;
use crate::store::SessionId;
use crate::time::UnixSeconds;
use crate::token::{TokenError, Unverified, Verifier};

use super::when;

/// Arguments of `token inspect`.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    #[command(flatten)]
    token: NeededToken,
    /// Verify it as the gateway of the configuration would; whether its session has ended, the store is asked
    #[arg(long)]
    verify: bool,
    /// With `--verify`: ask the issuer for its keys if it publishes them, instead of staying offline
    #[arg(long, requires = "verify")]
    fetch_keys: bool,
    /// Moment to look from, in RFC 3339 or seconds since 1970, instead of now
    #[arg(long, value_name = "TIME", value_parser = UnixSeconds::parse)]
    at: Option<UnixSeconds>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whether the token is good, as far as anybody looked.
enum Verdict {
    /// Nobody looked.
    NotAsked,
    Good {
        issuer: String,
        kid: Option<String>,
        algorithm: Option<&'static str>,
        /// What the store says of the session, if it belongs to one: that it lives, or why that is not known.
        session: Option<(Mark, String)>,
    },
    Bad {
        code: &'static str,
        cause: String,
    },
    /// Some keys could not be had.
    Unknown {
        cause: String,
    },
}

impl Inspect {
    pub(super) fn run(&self, file: &Path, out: &mut dyn Write, messages: &mut dyn Write) -> Result<bool, CliError> {
        let token = self.token.read()?;
        let now = self.at.unwrap_or_else(UnixSeconds::now);
        let verdict = if self.verify { verify(&token, file, now, self.fetch_keys)? } else { Verdict::NotAsked };
        let unverified = match Unverified::read(token.expose_secret()) {
            Ok(unverified) => unverified,
            Err(problem) => {
                writeln!(messages, "error: the token cannot be taken apart: {problem}")?;
                return Ok(false);
            }
        };
        if self.json {
            let value = json!({
                "header": unverified.header,
                "claims": unverified.claims,
                "times": Value::Object(times(&unverified.claims, now)),
                "verification": verdict.json(),
            });
            writeln!(out, "{}", style::json(&value))?;
        } else {
            writeln!(out, "header")?;
            members(out, &unverified.header, None)?;
            writeln!(out, "claims")?;
            members(out, &unverified.claims, Some(now))?;
            writeln!(out, "signature\n  {} bytes", unverified.signature_bytes)?;
        }
        verdict.say(messages, Style::of(&io::stderr()))?;
        Ok(matches!(verdict, Verdict::NotAsked | Verdict::Good { .. }))
    }
}

fn verify(token: &SecretString, file: &Path, now: UnixSeconds, fetch_keys: bool) -> Result<Verdict, CliError> {
    let config = config::load(file).map_err(CliError::Config)?.config;
    let own = own_keys(&config)?;
    let mut keys = keys::key_set(own.as_deref().unwrap_or_default(), &config.issuers);
    let verifier = Verifier::new(&config.tokens, &config.issuers);
    let text = token.expose_secret();
    let mut verified = verifier.verify(text, &keys, now);
    if let Err(error) = &verified {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let published = with_published_keys(error, text, &verifier, &keys, &config.issuers, fetch_keys);
        let published = runtime.block_on(published);
        // A name that is still looked up must not hold the answer back.
        runtime.shutdown_background();
        match published {
            None => {}
            Some(Err(cause)) => return Ok(Verdict::Unknown { cause }),
            Some(Ok(newer)) => {
                keys = newer;
                verified = verifier.verify(text, &keys, now);
            }
        }
    }
    Ok(match (verified, own) {
        (Ok(identity), _) => {
            let session = match identity.belongs_to() {
                Some(of) => Some(wait_for(standing(&config, SessionId(of.id), now))?),
                None => None,
            };
            if let Some((Mark::Refused, says)) = session {
                return Ok(Verdict::Bad {
                    code: Code::TokenRevoked.name(),
                    cause: format!("{}: {says}", Revoked::Ended),
                });
            }
            let key = keys.find(identity.key_id());
            Verdict::Good {
                session,
                issuer: identity.issuer().to_owned(),
                kid: key.and_then(|key| key.kid()).map(str::to_owned),
                algorithm: key.map(|key| key.key().algorithm().name()),
            }
        }
        (Err(TokenError::KeyUnknown), Err(missing)) if names_issuer(token, &config.tokens.issuer) => {
            let missing = chain(&missing);
            Verdict::Unknown { cause: format!("our own keys are in the store, which cannot be read: {missing}") }
        }
        (Err(error), _) => {
            let cause = error.to_string();
            Verdict::Bad { code: Refusal::Token(error).code().name(), cause }
        }
    })
}

fn names_issuer(token: &SecretString, issuer: &str) -> bool {
    Unverified::read(token.expose_secret())
        .is_ok_and(|token| token.claims.get("iss").is_some_and(|iss| *iss == *issuer))
}

impl Verdict {
    fn json(&self) -> Value {
        match self {
            Self::NotAsked => json!({ "outcome": "not_verified" }),
            Self::Good { issuer, kid, algorithm, session } => {
                let session = session.as_ref().map(|(mark, says)| {
                    json!({ "outcome": if *mark == Mark::Ok { "alive" } else { "unknown" }, "says": says })
                });
                json!({
                    "outcome": "verified", "issuer": issuer, "kid": kid, "algorithm": algorithm, "session": session,
                })
            }
            Self::Bad { code, cause } => json!({ "outcome": "refused", "code": code, "cause": cause }),
            Self::Unknown { cause } => json!({ "outcome": "undecided", "cause": cause }),
        }
    }

    fn say(&self, messages: &mut dyn Write, style: Style) -> io::Result<()> {
        match self {
            Self::NotAsked => {
                let not_verified = style.verdict("not verified", Mark::Unknown);
                writeln!(
                    messages,
                    "{not_verified}: anybody can have written this; `--verify` checks it as the gateway does"
                )
            }
            Self::Good { issuer, kid, algorithm, session } => {
                let key = style::key(kid.as_deref(), *algorithm);
                let (verified, issuer) = (style.verdict("verified", Mark::Ok), printable(issuer));
                writeln!(messages, "{verified}: issuer `{issuer}`, signed with {key}")?;
                let Some((mark, says)) = session else { return Ok(()) };
                let not = if *mark == Mark::Ok { "" } else { "not known whether it has ended: " };
                writeln!(messages, "{}: {not}{}", style.verdict("session", *mark), printable(says))
            }
            Self::Bad { code, cause } => {
                writeln!(messages, "{}: `{code}`: {cause}", style.verdict("refused", Mark::Refused))
            }
            Self::Unknown { cause } => {
                writeln!(messages, "{}: {cause}", style.verdict("cannot be judged", Mark::Unknown))
            }
        }
    }
}

/// One line a member; a time also as a date, when `now` is given.
fn members(out: &mut dyn Write, members: &Map<String, Value>, now: Option<UnixSeconds>) -> io::Result<()> {
    let names: Vec<String> = members.keys().map(|name| printable(name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().min(MAX_NAME_COLUMNS);
    for (name, (member, value)) in names.iter().zip(members) {
        let shown = printable(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let time = now.and_then(|now| Some((time(member, value)?, now)));
        match time {
            Some((time, now)) => {
                let meaning = when::meaning(member, time, now);
                writeln!(out, "  {name:width$}  {shown}  {} ({meaning})", time.local())?;
            }
            None => writeln!(out, "  {name:width$}  {shown}")?,
        }
    }
    Ok(())
}

fn times(claims: &Map<String, Value>, now: UnixSeconds) -> Map<String, Value> {
    let times = claims.iter().filter_map(|(name, value)| {
        let time = time(name, value)?;
        Some((name.clone(), json!({ "time": time.local(), "meaning": when::meaning(name, time, now) })))
    });
    times.collect()
}

/// A `NumericDate` (RFC 7519 section 2), fractions cut off.
fn time(claim: &str, value: &Value) -> Option<UnixSeconds> {
    if !TIME_CLAIMS.contains(&claim) {
        return None;
    }
    let seconds = value.as_u64().or_else(|| {
        let fraction = value.as_f64().filter(|seconds| (0.0..LAST_SECOND).contains(seconds))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range above")]
        Some(fraction as u64)
    })?;
    UnixSeconds::parse(&seconds.to_string()).ok()
}

/// RFC 7519 section 4.1, and `auth_time` of OpenID Connect.
const TIME_CLAIMS: [&str; 4] = ["exp", "nbf", "iat", "auth_time"];

/// The end of the year 9999.
const LAST_SECOND: f64 = 253_402_300_800.0;

/// Longer names do not widen the column.
const MAX_NAME_COLUMNS: usize = 24;
