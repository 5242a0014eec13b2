//! `tollgate token mint`: an access token for a service account or a test.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::app::keys::{self, KeyRole, OwnKey};
use crate::cli::style::printable;
use crate::cli::user::word;
use crate::cli::{CliError, own_keys, wait_for};
use crate::config;
use crate::time::UnixSeconds;
use crate::token::mint::{AccessGrant, Minter};
use crate::token::{TokenError, Verifier};

use super::{TokenCommandError, signs};

/// Arguments of `token mint`.
#[derive(Debug, clap::Args)]
pub struct Mint {
    /// Who the token is for; need not be a user of the store
    #[arg(long)]
    subject: String,
    /// Scope to give; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", value_parser = word)]
    scopes: Vec<String>,
    /// Role to give; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = word)]
    roles: Vec<String>,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// E-mail address
    #[arg(long)]
    email: Option<String>,
    /// Life of the token, 30s to 24h, instead of `tokens.access_ttl`. It cannot be taken back before its end
    #[arg(long, value_name = "DURATION", value_parser = config::access_ttl)]
    ttl: Option<Duration>,
    /// Audience instead of `tokens.audience`; may be repeated
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// `client_id` instead of `login.client_id`
    #[arg(long, value_name = "LABEL")]
    client_id: Option<String>,
    /// Further claim; may be repeated. The value is JSON, or else text
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
}

impl Mint {
    pub(super) fn run(&self, file: &Path, out: &mut dyn Write, messages: &mut dyn Write) -> Result<(), CliError> {
        let config = config::load(file).map_err(CliError::Config)?.config;
        let own = own_keys(&config)?.map_err(TokenCommandError::Store)?;
        let verifying = keys::key_set(&own, &config.issuers);
        let algorithm = config.tokens.algorithm.name();
        let is_broken = |key: &&OwnKey| key.algorithm == algorithm && matches!(key.role, KeyRole::Unusable(_));
        let no_key = match own.iter().find(is_broken) {
            Some(key) => TokenCommandError::UnusableKey { kid: key.kid.clone() },
            None => TokenCommandError::NoKey { algorithm },
        };
        let signing = match own.into_iter().map(|key| key.role).find(signs) {
            Some(KeyRole::Signs(key)) => key,
            Some(KeyRole::Next(_) | KeyRole::Verifies(..) | KeyRole::Over | KeyRole::Unusable(_)) | None => {
                return Err(no_key.into());
            }
        };

        let mut settings = config.tokens.clone();
        settings.access_ttl = self.ttl.unwrap_or(settings.access_ttl);
        if !self.audiences.is_empty() {
            settings.audience.clone_from(&self.audiences);
        }
        let grant = AccessGrant {
            subject: self.subject.clone(),
            client_id: self.client_id.clone().unwrap_or_else(|| config.login.client_id.clone()),
            session: None,
            scopes: self.scopes.clone(),
            roles: self.roles.clone(),
            name: self.name.clone(),
            email: self.email.clone(),
        };
        let mut further = Map::new();
        for (name, value) in &self.claims {
            if further.insert(name.clone(), value.clone()).is_some() {
                return Err(CliError::Usage(format!("the claim `{}` was given twice", printable(name))));
            }
        }
        let now = UnixSeconds::now();
        let (kid, algorithm) = (signing.kid().to_owned(), signing.algorithm());
        let minter = Minter::new(&settings, signing);
        let minted = minter.mint_with(&grant, &further, now).map_err(TokenCommandError::Mint)?;
        // What no gateway of these settings would take is not handed out.
        match Verifier::new(&settings, &[]).verify(&minted.token, &verifying, now) {
            Ok(_) | Err(TokenError::NotYetValid { .. }) => {}
            Err(error) => return Err(TokenCommandError::Unusable(error).into()),
        }

        let expires = now.plus(minted.expires_in);
        if settings.access_ttl > config.tokens.access_ttl {
            wait_for(keys::keep_until(&config, &kid, expires))?.map_err(TokenCommandError::NotNoted)?;
        }
        writeln!(out, "{}", minted.token)?;
        let subject = printable(&self.subject);
        writeln!(messages, "token for `{subject}`, signed with key `{kid}` ({algorithm}), expires at {expires}")?;
        if !self.audiences.is_empty()
            && !self.audiences.iter().any(|audience| config.tokens.audiences().contains(audience))
        {
            writeln!(
                messages,
                "warning: this gateway refuses it, because none of its audiences is in `tokens.audience`"
            )?;
        }
        Ok(())
    }
}

/// `name=value`
fn claim(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text.split_once('=').ok_or("a claim is written `name=value`")?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("a claim needs a name without control characters");
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_json_or_else_text() {
        for (text, expected) in [
            ("project=co2", json!("co2")),
            ("project=7", json!(7)),
            ("project=007", json!("007")),
            ("tags=[\"a\",\"b\"]", json!(["a", "b"])),
            ("eq=a=b", json!("a=b")),
            ("empty=", json!("")),
        ] {
            assert_eq!(claim(text).unwrap().1, expected, "{text}");
        }
        assert!(claim("project").is_err() && claim("=x").is_err() && claim("a\n=x").is_err());
    }
}
