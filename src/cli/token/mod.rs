//! `tollgate token`: tokens for service accounts and tests, and a look into any token.

mod inspect;
mod mint;
mod when;

use std::io::Write;
use std::path::Path;

use crate::app::keys::KeyRole;
use crate::store::StoreError;
use crate::token::TokenError;
use crate::token::mint::MintError;

use super::CliError;

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Sign an access token with the key that the gateway signs with. Only the token goes to standard output
    Mint(mint::Mint),
    /// Show what is in a token. Without `--verify` nothing of it is checked, and nothing of it may be believed
    Inspect(inspect::Inspect),
}

/// Why a `token` command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    /// The key is in the store, and it does not give it.
    #[error("our own keys are in the store, which cannot be read")]
    Store(#[from] StoreError),
    /// There is no key that signs.
    #[error("there is no key for {algorithm} yet\nhint: `tollgate run` makes it when it starts")]
    NoKey {
        /// `tokens.algorithm`.
        algorithm: &'static str,
    },
    /// There is one, and it is broken.
    #[error("the key `{kid}`, which would sign, cannot be used\nhint: `tollgate key list` says why")]
    UnusableKey {
        /// Its name.
        kid: String,
    },
    /// The key would not be kept for as long as the token lives.
    #[error("no token was made, because the store could not note that its key has to verify for so long")]
    NotNoted(#[source] StoreError),
    /// The token cannot be made.
    #[error("no token was made")]
    Mint(#[from] MintError),
    /// Our own verifier does not take it.
    #[error("no token was made, because no gateway would accept it")]
    Unusable(#[from] TokenError),
}

/// Runs the command. Data goes to `out`, messages to `messages`. Gives whether what was asked for is so.
///
/// # Errors
/// What stopped it.
pub fn run(
    command: &TokenCommand,
    file: &Path,
    out: &mut (dyn Write + '_),
    messages: &mut dyn Write,
) -> Result<bool, CliError> {
    match command {
        TokenCommand::Mint(mint) => mint.run(file, out, messages).map(|()| true),
        TokenCommand::Inspect(inspect) => inspect.run(file, out, messages),
    }
}

/// Whether a key signs.
const fn signs(role: &KeyRole) -> bool {
    matches!(role, KeyRole::Signs(_))
}
