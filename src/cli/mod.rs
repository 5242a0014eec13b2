//! The command line: one file a verb.

pub mod check;
pub mod completions;
pub mod config;
mod connect;
pub mod credential;
pub mod demo;
pub mod explain;
pub mod healthcheck;
pub mod key;
mod run;
pub mod session;
pub mod style;
pub mod token;
pub mod user;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

use crate::app::keys::{self, OwnKey};
use crate::app::{RunError, StartError};
use crate::cause::chain;
use crate::config::Config;
use crate::store::StoreError;

use style::Heard;

/// A stateless API gateway that issues and enforces JWTs.
///
/// Logs people in against the users that are in a MongoDB or in an embedded store, issues short access tokens, verifies
/// bearer tokens, and forwards authorized requests to the upstreams that a TOML file names.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; a second signal stops at once.
    Run {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE", env = "TOLLGATE_CONFIG", default_value = "config/tollgate.toml")]
        config: PathBuf,
    },
    /// Serve a demonstration on loopback, with a user and two sample services, and print how to use it.
    Demo {
        /// The port to listen on; 0 takes a free one.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    Check(check::Check),
    /// The people in the configured store, while the gateway runs or not.
    User {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: user::UserCommand,
    },
    /// Who is logged in, and ending that, while the gateway runs or not.
    Session {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: session::SessionCommand,
    },
    Config(config::Config),
    Explain(explain::Explain),
    /// Our own keys: what signs and verifies tokens.
    Key {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Make an access token, or look into one.
    Token {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    Healthcheck(healthcheck::Healthcheck),
    Completions(completions::Completions),
    #[command(name = "man")]
    Manual(completions::Manual),
}

/// The file that a command with commands of its own reads; it may stand behind any of them.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(
        id = "config",
        short = 'c',
        long = "config",
        global = true,
        value_name = "FILE",
        env = "TOLLGATE_CONFIG",
        default_value = "config/tollgate.toml"
    )]
    path: PathBuf,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration has problems, which are all listed.
    #[error("{0}")]
    Config(crate::config::Problems),
    /// What was asked for is not so; the reason has been printed.
    #[error("")]
    Said,
    /// The process could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ended badly.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The demo could not start.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    /// A user was not changed or shown.
    #[error(transparent)]
    User(#[from] user::UserError),
    /// A session was not shown or ended.
    #[error(transparent)]
    Session(#[from] session::SessionError),
    /// No token could be read.
    #[error(transparent)]
    Credential(#[from] credential::CredentialError),
    /// A key was not shown or made.
    #[error(transparent)]
    Key(#[from] key::KeyCommandError),
    /// A token was not made.
    #[error(transparent)]
    Token(#[from] token::TokenCommandError),
    /// It was called wrongly, in a way that clap does not see.
    #[error("{0}")]
    Usage(String),
    /// Output or input failed.
    #[error("the terminal or a pipe failed")]
    Terminal(#[from] io::Error),
    /// A second signal, or a worker that does not end.
    #[error("stopped at once, with requests in flight: a second signal came, or a worker did not end in time")]
    StoppedAtOnce,
}

/// Parses the arguments, runs the command, and says on stderr why it failed. Exits 0 when done, 1 when it failed, and, by way
/// of clap, 2 when it was called wrongly.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| without_secrets(error).exit());
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Said) => ExitCode::FAILURE,
        Err(error) => {
            // Without stderr there is nowhere to say it; the exit code does.
            let _ = if let CliError::Config(problems) = &error {
                writeln!(io::stderr(), "{problems}")
            } else {
                let hint = hint(&error).map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                writeln!(io::stderr(), "error: {}{hint}", style::printable_lines(&chain(&error)))
            };
            if let CliError::Usage(_) = error { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// clap repeats the word that it does not understand. Where that may be a password or a token in the wrong place, it is not
/// repeated: the arguments of a script may come from variables, and what it writes is often kept.
fn without_secrets(mut error: clap::Error) -> clap::Error {
    let said = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let (argument, value) = (said(ContextKind::InvalidArg), said(ContextKind::InvalidValue));
    let command = std::env::args_os().nth(1).unwrap_or_default();
    let takes_secrets = ["explain", "token", "user"].iter().any(|name| command == *name);
    let redacted = || ContextValue::String("[redacted]".to_owned());
    if error.kind() == ErrorKind::UnknownArgument && takes_secrets && !argument.starts_with('-') {
        error.insert(ContextKind::InvalidArg, redacted());
    }
    let holds_secret = argument == "[-]" || argument.starts_with("--header") || value.contains('@');
    if error.kind() == ErrorKind::ValueValidation && holds_secret {
        error.insert(ContextKind::InvalidValue, redacted());
    }
    error
}

/// What to do about an error, where its own words do not say it.
fn hint(error: &CliError) -> Option<&'static str> {
    // Transparent errors pass over themselves on the way to their source.
    if let CliError::User(user::UserError::Store(StoreError::Missing { .. }))
    | CliError::Session(session::SessionError::Store(StoreError::Missing { .. })) = error
    {
        return Some(MISSING_STORE);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(StoreError::Missing { .. }) = error.downcast_ref() {
            return Some(MISSING_STORE);
        }
        cause = error.source();
    }
    None
}

/// For commands that only look into the store.
pub(crate) const MISSING_STORE: &str =
    "`tollgate run` makes it; a relative path in `store.url` starts from the current folder";

fn execute(command: Command) -> Result<(), CliError> {
    let (mut out, mut messages) = (Heard(io::stdout()), Heard(io::stderr()));
    let is_good = match command {
        Command::Run { config } => return run::run(&config),
        Command::Demo { port } => return Ok(demo::run(port)?),
        Command::User { config, command } => return run_user(&config.path, command),
        Command::Session { config, command } => return session::run(&config.path, command),
        Command::Check(check) => check.run(&mut out, &mut messages)?,
        Command::Config(config) => config.run(&mut out, &mut messages)?,
        Command::Explain(explain) => explain.run(&mut out, &mut messages)?,
        Command::Key { config, command } => return key::run(&command, &config.path, &mut out, &mut messages),
        Command::Token { config, command } => token::run(&command, &config.path, &mut out, &mut messages)?,
        Command::Healthcheck(check) => check.run(&mut out, &mut messages)?,
        Command::Completions(completions) => completions.run(&mut out)?,
        Command::Manual(manual) => manual.run(&mut out, &mut messages)?,
    };
    if is_good { Ok(()) } else { Err(CliError::Said) }
}

/// Our own keys, as far as they exist; `Err` inside: the store would have them and cannot be read.
fn own_keys(config: &Config) -> io::Result<Result<Vec<OwnKey>, StoreError>> {
    wait_for(keys::existing(config))
}

/// Runs what a command does in the store.
fn wait_for<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A store call that nobody waits for any more is not worth waiting for.
    runtime.shutdown_background();
    Ok(outcome)
}

/// Needs the file's `[store]`, `[log] audit` and `[login] hash` only, but a file with problems is not half believed.
fn run_user(file: &Path, command: user::UserCommand) -> Result<(), CliError> {
    let config = crate::config::load(file).map_err(CliError::Config)?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let done = runtime.block_on(user::run(command, &config))?;
    if done == ExitCode::SUCCESS { Ok(()) } else { Err(CliError::Said) }
}
