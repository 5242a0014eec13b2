//! A new password from a person at a terminal, or from a pipe.

use std::io::{self, BufRead, IsTerminal, Read};

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::UserError;
use crate::account::MAX_CREDENTIAL_BYTES;

/// Asks twice, without echo.
pub(super) fn from_terminal() -> Result<SecretString, UserError> {
    if !io::stdin().is_terminal() {
        return Err(UserError::NoTerminal);
    }
    let first = Zeroizing::new(rpassword::prompt_password("New password: ")?);
    let second = Zeroizing::new(rpassword::prompt_password("Again: ")?);
    if *first != *second {
        return Err(UserError::PasswordsDiffer);
    }
    Ok(SecretString::from(first.as_str()))
}

/// Everything on standard input, without one trailing newline.
pub(super) fn from_standard_input() -> Result<SecretString, UserError> {
    read(io::stdin().lock())
}

fn read(input: impl BufRead) -> Result<SecretString, UserError> {
    // Two more than the longest: its newline, and one byte that shows that there is more.
    let limit = MAX_CREDENTIAL_BYTES + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    input.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| UserError::BadStandardInput)?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.len() > MAX_CREDENTIAL_BYTES {
        return Err(UserError::BadStandardInput);
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[track_caller]
    fn check(input: &str, expected: &str) {
        assert_eq!(read(input.as_bytes()).unwrap().expose_secret(), expected);
    }

    #[test]
    fn one_trailing_newline_is_cut_off() {
        check("secret", "secret");
        check("secret\n", "secret");
        check("secret\r\n", "secret");
        check(" two words \n\n", " two words \n");
    }

    #[test]
    fn an_endless_input_is_refused() {
        assert!(matches!(read(io::BufReader::new(io::repeat(b'a'))), Err(UserError::BadStandardInput)));
        assert!(matches!(read([0xff, 0xfe].as_slice()), Err(UserError::BadStandardInput)));
    }
}
