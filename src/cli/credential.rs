//! A token given to a command: by argument, by file, or on standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// Where a command's token comes from.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct TokenSource {
    /// Read the token from standard input
    #[arg(value_name = "-", value_parser = dash)]
    standard_input: Option<Dash>,
    /// The token. Others on this machine can read the arguments of a process: prefer `-` or `--token-file`
    #[arg(long, value_name = "TOKEN", value_parser = secret)]
    token: Option<SecretString>,
    /// Read the token from this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Where the token to look into comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct NeededToken {
    /// The token, or `-` for standard input. Others on this machine can read the arguments of a process: prefer `-` or
    /// `--token-file`
    #[arg(value_name = "TOKEN", value_parser = secret)]
    token: Option<SecretString>,
    /// Read the token from this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The argument `-`.
#[derive(Debug, Clone, Copy)]
pub struct Dash;

/// Why no token could be read. Never holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file, or standard input.
    #[error("the token cannot be read from {from}")]
    Unreadable {
        /// "`FILE`" or "standard input".
        from: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than any token.
    #[error("{from} holds more than {MAX_TOKEN_BYTES} bytes, which is no token")]
    TooLong {
        /// "`FILE`" or "standard input".
        from: String,
    },
    /// Nothing, or bytes that are no text.
    #[error("{from} holds no token: it is {what}")]
    NotText {
        /// "`FILE`" or "standard input".
        from: String,
        /// "empty" or "not text".
        what: &'static str,
    },
}

impl TokenSource {
    /// The token, if one was given.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn read(&self) -> Result<Option<SecretString>, CredentialError> {
        if self.standard_input.is_some() {
            return from_standard_input().map(Some);
        }
        if let Some(file) = &self.token_file {
            return from_file(file).map(Some);
        }
        Ok(self.token.clone())
    }
}

impl NeededToken {
    /// The token.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub fn read(&self) -> Result<SecretString, CredentialError> {
        match (&self.token, &self.token_file) {
            (Some(token), _) if token.expose_secret() != "-" => Ok(token.clone()),
            (None, Some(file)) => from_file(file),
            (Some(_) | None, _) => from_standard_input(),
        }
    }
}

fn from_standard_input() -> Result<SecretString, CredentialError> {
    read(io::stdin().lock(), "standard input".to_owned())
}

fn from_file(path: &Path) -> Result<SecretString, CredentialError> {
    let from = format!("`{}`", path.display());
    match File::open(path) {
        Ok(file) => read(file, from),
        Err(source) => Err(CredentialError::Unreadable { from, source }),
    }
}

/// Without blanks and line ends around it, which editors and `echo` leave.
fn read(input: impl Read, from: String) -> Result<SecretString, CredentialError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = u64::try_from(MAX_TOKEN_BYTES + 1).unwrap_or(u64::MAX);
    if let Err(source) = input.take(limit).read_to_end(&mut bytes) {
        return Err(CredentialError::Unreadable { from, source });
    }
    if bytes.len() > MAX_TOKEN_BYTES {
        return Err(CredentialError::TooLong { from });
    }
    match std::str::from_utf8(&bytes).map(str::trim) {
        Ok("") => Err(CredentialError::NotText { from, what: "empty" }),
        Ok(text) => Ok(SecretString::from(text)),
        Err(_) => Err(CredentialError::NotText { from, what: "not text" }),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a value parser of clap gives a result")]
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

fn dash(text: &str) -> Result<Dash, &'static str> {
    if text == "-" { Ok(Dash) } else { Err("only `-` can stand here; give a token with `--token` or `--token-file`") }
}

/// The most that `tokens.max_token_bytes` can allow is 1 MiB, and there may be line ends around it.
const MAX_TOKEN_BYTES: usize = 1024 * 1024 + 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_around_a_token_are_cut_off() {
        let token = read(b" a.b.c\r\n".as_slice(), String::new()).unwrap();
        assert_eq!(token.expose_secret(), "a.b.c");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_in_bounded_memory() {
        assert!(matches!(read(io::repeat(b'a'), String::new()), Err(CredentialError::TooLong { .. })));
        assert!(matches!(read(b"\n".as_slice(), String::new()), Err(CredentialError::NotText { what: "empty", .. })));
        assert!(matches!(read([0xff].as_slice(), String::new()), Err(CredentialError::NotText { .. })));
    }
}
