//! `tollgate key`: our own keys as the gateway uses them, new ones for the file, and public halves for others.

mod change;
mod output;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use secrecy::ExposeSecret;

use crate::app::keys::{self, OwnKey, RotationError, When};
use crate::config::{self, Config};
use crate::keyset::{Algorithm, EncryptionKey, KeyError, SealError, SigningKey};
use crate::log::LogError;
use crate::store::StoreError;

use super::{CliError, own_keys};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List our own keys: those of `tokens.key` and `tokens.previous_keys`, or else those in the store
    List {
        /// Print a JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Make a new private key for `tokens.key`, or one for `store.encryption_key`; the store and the configuration stay as they are
    Generate {
        /// What it signs with, as `tokens.algorithm`
        #[arg(long, value_name = "ALGORITHM", default_value = "ES256", value_parser = config::algorithm_name)]
        algorithm: Algorithm,
        /// Make a key for `store.encryption_key` instead, which encrypts the keys in the store
        #[arg(long, conflicts_with = "algorithm")]
        encryption: bool,
        /// Write it to this new file, which only its owner can read; without it, to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print our own public keys
    Export {
        /// One JWK set, or a PEM section for each key
        #[arg(long, value_enum, default_value_t = Format::Jwks)]
        format: Format,
        /// Only the key of this name
        // In base64url one name of 64 begins with `-`.
        #[arg(long, value_name = "KID", allow_hyphen_values = true)]
        kid: Option<String>,
    },
    /// Put a new key into the store, which begins to sign in 10 minutes, when everybody knows it. The old one verifies until its
    /// last token has expired, and goes then
    Rotate {
        /// Sign with the new key after this time, 15s to 30d, instead of 10 minutes
        #[arg(long, value_name = "DURATION", value_parser = config::rotation_delay, conflicts_with = "now")]
        after: Option<Duration>,
        /// Sign with the new key in 45 seconds: who fetches our key set when it meets an unknown key knows it by then
        #[arg(long)]
        now: bool,
    },
    /// Take a key of the store out of service: the one that signs makes room for its successor, one that waits is withdrawn
    Retire {
        /// The name of the key, as `key list` shows it; `refresh` for the one behind refresh tokens, which it does not show
        // In base64url one name of 64 begins with `-`.
        #[arg(value_name = "KID", allow_hyphen_values = true)]
        kid: String,
        /// Refuse at once every token that it signed, as for a key that somebody has stolen
        #[arg(long)]
        now: bool,
    },
}

/// How public keys are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// RFC 7517.
    Jwks,
    /// `PUBLIC KEY` of RFC 7468.
    Pem,
}

/// Why a `key` command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum KeyCommandError {
    /// The keys are in the store, and it does not give them.
    #[error("our own keys are in the store, which cannot be read")]
    Store(#[from] StoreError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An encryption key could not be made.
    #[error(transparent)]
    Encryption(#[from] SealError),
    /// The file of `log.audit` cannot be written, and so nothing is changed.
    #[error(transparent)]
    Audit(#[from] LogError),
    /// The keys of the store were not changed.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// The new file.
    #[error("`{}` cannot be written", path.display())]
    File {
        /// Its name.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A private key for a terminal.
    #[error("a private key is not shown on a terminal\nhint: write it to a file with `--out FILE`")]
    Terminal,
    /// No such key.
    #[error("there is no key of our own with the name `{kid}`\nhint: `tollgate key list` shows them")]
    NoSuchKey {
        /// What was asked for.
        kid: String,
    },
    /// A secret.
    #[error("the key `{kid}` is a shared secret ({algorithm}), which has no public half")]
    NothingPublic {
        /// What was asked for.
        kid: String,
        /// Its algorithm.
        algorithm: String,
    },
}

/// Runs the command. Data goes to `out`, messages to `messages`.
///
/// # Errors
/// What stopped it.
pub fn run(
    command: &KeyCommand,
    file: &Path,
    out: &mut (dyn Write + '_),
    messages: &mut dyn Write,
) -> Result<(), CliError> {
    match command {
        KeyCommand::List { json } => {
            let config = load(file)?;
            let own = existing(&config)?;
            output::list(out, messages, &own, *json)?;
        }
        KeyCommand::Generate { encryption: true, out: path, .. } => {
            generate_encryption_key(path.as_deref(), out, messages)?;
        }
        KeyCommand::Generate { algorithm, out: path, .. } => generate(*algorithm, path.as_deref(), out, messages)?,
        KeyCommand::Export { format, kid } => {
            let config = load(file)?;
            let own = existing(&config)?;
            export(own, *format, kid.as_deref(), out, messages)?;
        }
        KeyCommand::Rotate { after, now } => {
            let after = if *now { None } else { Some(after.unwrap_or(keys::PUBLISH_AHEAD)) };
            change::rotate(&load(file)?, after, out, messages)?;
        }
        KeyCommand::Retire { kid, now } => {
            let when = if *now { When::Now } else { When::AfterLastToken };
            change::retire(&load(file)?, kid, when, messages)?;
        }
    }
    Ok(())
}

fn load(file: &Path) -> Result<Config, CliError> {
    Ok(config::load(file).map_err(CliError::Config)?.config)
}

fn existing(config: &Config) -> Result<Vec<OwnKey>, CliError> {
    Ok(own_keys(config)?.map_err(KeyCommandError::Store)?)
}

fn generate(
    algorithm: Algorithm,
    path: Option<&Path>,
    out: &mut (dyn Write + '_),
    messages: &mut dyn Write,
) -> Result<(), CliError> {
    refuse_terminal(path)?;
    let key = SigningKey::generate(algorithm).map_err(KeyCommandError::Key)?;
    let (_, material) = key.to_stored();
    let mut text = material.expose_secret().to_owned();
    // A secret is kept in Base64, and the file's text as a whole is the secret then, so that it is named by that.
    let key = if algorithm.is_symmetric() {
        SigningKey::from_secret(text.as_bytes(), algorithm).map_err(KeyCommandError::Key)?
    } else {
        key
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let text = secrecy::zeroize::Zeroizing::new(text);
    let (kid, name) = (key.kid(), algorithm.name());
    match path {
        Some(path) => {
            write_new(path, text.as_bytes())?;
            writeln!(messages, "key `{kid}` for {name} written to `{}`", path.display())?;
            writeln!(
                messages,
                "hint: `tokens.algorithm = \"{name}\"` and `tokens.key = {{ file = \"{}\" }}` make the gateway sign with it",
                path.display()
            )?;
        }
        None => {
            out.write_all(text.as_bytes())?;
            writeln!(messages, "key `{kid}` for {name}")?;
        }
    }
    Ok(())
}

fn generate_encryption_key(
    path: Option<&Path>,
    out: &mut (dyn Write + '_),
    messages: &mut dyn Write,
) -> Result<(), CliError> {
    refuse_terminal(path)?;
    let text = EncryptionKey::generate().map_err(KeyCommandError::Encryption)?;
    let key = EncryptionKey::from_text(text.expose_secret()).map_err(KeyCommandError::Encryption)?;
    let line = secrecy::zeroize::Zeroizing::new(format!("{}\n", text.expose_secret()));
    match path {
        Some(path) => {
            write_new(path, line.as_bytes())?;
            writeln!(messages, "encryption key `{}` written to `{}`", key.name(), path.display())?;
            writeln!(
                messages,
                "hint: `store.encryption_key = {{ file = \"{}\" }}` makes every gateway of the store encrypt its keys with it; \
                 keep a copy, without it they are lost",
                path.display()
            )?;
        }
        None => {
            out.write_all(line.as_bytes())?;
            writeln!(messages, "encryption key `{}`", key.name())?;
        }
    }
    Ok(())
}

fn refuse_terminal(path: Option<&Path>) -> Result<(), KeyCommandError> {
    use std::io::IsTerminal;
    if path.is_none() && io::stdout().is_terminal() { Err(KeyCommandError::Terminal) } else { Ok(()) }
}

/// Never over something that is there: it may be the only copy of a key.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyCommandError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| KeyCommandError::File { path: path.to_owned(), source })
}

fn export(
    mut own: Vec<OwnKey>,
    format: Format,
    kid: Option<&str>,
    out: &mut (dyn Write + '_),
    messages: &mut dyn Write,
) -> Result<(), CliError> {
    if let Some(kid) = kid {
        own.retain(|key| key.kid == kid);
        let Some(key) = own.first() else {
            return Err(KeyCommandError::NoSuchKey { kid: kid.to_owned() }.into());
        };
        if key.verification_key().is_some_and(|key| key.algorithm().is_symmetric()) {
            let (kid, algorithm) = (kid.to_owned(), key.algorithm.clone());
            return Err(KeyCommandError::NothingPublic { kid, algorithm }.into());
        }
    }
    let pems: Vec<String> = own.iter().filter_map(|key| key.verification_key()?.public_pem()).collect();
    if pems.is_empty() {
        writeln!(messages, "there is no public key: tokens are signed with a shared secret, or there is no key yet")?;
    }
    match format {
        Format::Jwks => writeln!(out, "{:#}", keys::key_set(&own, &[]).jwks())?,
        Format::Pem => out.write_all(pems.concat().as_bytes())?,
    }
    Ok(())
}
