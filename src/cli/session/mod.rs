//! `tollgate session`: who is logged in, and ending that, while the gateway runs or not.

mod output;
mod standing;

use std::io;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, Subcommand};

pub(super) use standing::standing;

use super::CliError;
use super::style::{Heard, printable};
use crate::audit::{Audit, Event, Origin, Whom};
use crate::config::Config;
use crate::log::LogError;
use crate::session::{EndReason, SessionId, Sessions};
use crate::store::{self, Found, Patience, Store, StoreError, StoreLocation};
use crate::time::UnixSeconds;

/// What to do with the sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List the sessions that are alive, those of all or of one user
    List {
        /// Login of the user
        login: Option<String>,
        /// Print a JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// End sessions for good: their refresh tokens are refused at once
    Revoke(Revoke),
}

/// Which sessions to end.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Revoke {
    /// Id of the session, as `session list` shows it
    // An id may begin with a hyphen.
    #[arg(allow_hyphen_values = true)]
    id: Option<SessionId>,
    /// All sessions of this user
    #[arg(long, value_name = "LOGIN")]
    user: Option<String>,
    /// All sessions of all users
    #[arg(long)]
    all: bool,
}

/// Why a `session` command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody knows the session.
    #[error("there is no session `{0}`; it may be long over")]
    Unknown(SessionId),
    /// The file of `log.audit` cannot be written, and so nothing is changed.
    #[error("nothing was changed, because it could not be written down")]
    Audit(#[from] LogError),
    /// Reading or writing failed.
    #[error("standard output or standard error failed")]
    Io(#[from] io::Error),
}

pub(super) fn run(file: &Path, command: SessionCommand) -> Result<(), CliError> {
    let config = crate::config::load(file).map_err(CliError::Config)?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    Ok(runtime.block_on(execute(command, &config))?)
}

async fn execute(command: SessionCommand, config: &Config) -> Result<(), SessionError> {
    let now = UnixSeconds::now();
    match command {
        SessionCommand::List { login, json } => {
            let store = store::open_to_look(&config.store).await?;
            let subject = match login {
                Some(login) => Some(subject_of(&*store, &login).await?),
                None => None,
            };
            match list(&of_command(config, store), subject.as_deref(), json, now).await {
                // The reader of a pipe has gone, which is its right.
                Err(SessionError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                listed => listed,
            }
        }
        SessionCommand::Revoke(revoke) => {
            let store = match &config.store.location {
                // A new, empty database would hide that the command runs in the wrong folder.
                StoreLocation::Sqlite { path } if !path.is_file() => {
                    return Err(StoreError::Missing { path: path.clone() }.into());
                }
                StoreLocation::Sqlite { .. } | StoreLocation::Mongo { .. } => store::open(&config.store).await?,
            };
            // Before anything is changed.
            let audit = Audit::of_command(&config.log.audit)?;
            self::revoke(&revoke, config, store, &audit, now).await
        }
    }
}

async fn revoke(
    which: &Revoke,
    config: &Config,
    store: Arc<dyn Store>,
    audit: &Audit,
    now: UnixSeconds,
) -> Result<(), SessionError> {
    let sessions = of_command(config, Arc::clone(&store));
    let reason = EndReason::Revoked;
    let tell = |sessions: u64, whom: Whom<'_>| {
        audit.record(&Event::SessionsRevoked { reason: reason.name(), sessions }, whom, &Origin::CommandLine);
    };
    let Some(id) = which.id else {
        let subject = match &which.user {
            Some(login) => Some(subject_of(&*store, login).await?),
            None => None,
        };
        let count = sessions.end_all(subject.as_deref(), reason, now).await?;
        tell(count, Whom { subject: subject.as_deref(), login: which.user.as_deref(), session: None });
        return Ok(message(&format!("{} ended", counted(count)))?);
    };
    let row = store.find_session(id).await?.ok_or(SessionError::Unknown(id))?;
    if !sessions.end(id, None, reason, now).await? {
        return Ok(message(&format!("session `{id}` had already ended"))?);
    }
    let (subject, session) = (Some(row.subject.as_str()), id.to_string());
    tell(1, Whom { subject, login: Some(&row.login), session: Some(&session) });
    Ok(message(&format!("session `{id}` of `{}` ended", row.login))?)
}

/// Prints page after page, so that memory stays bounded whatever the number of sessions.
async fn list(sessions: &Sessions, subject: Option<&str>, json: bool, now: UnixSeconds) -> Result<(), SessionError> {
    let mut listing = output::Listing::begin(json)?;
    let mut after = None;
    loop {
        let page = sessions.list(subject, after, now).await?;
        let Some(last) = page.last() else { return Ok(listing.end()?) };
        after = Some(last.id);
        listing.page(&page)?;
    }
}

/// The sessions for a command: it makes no tokens, and waits for nothing.
pub(super) fn of_command(config: &Config, store: Arc<dyn Store>) -> Sessions {
    Sessions::new(store, config.sessions.clone(), Patience::new(std::time::Duration::ZERO))
}

/// `2 sessions`
pub(super) fn counted(sessions: u64) -> String {
    if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") }
}

async fn subject_of(store: &dyn Store, login: &str) -> Result<String, StoreError> {
    match store.find_login(login).await? {
        Found::One(record) => Ok(record.account.subject),
        // Whose record cannot be used may still have sessions from before.
        Found::Malformed(record) if record.subject != "?" => Ok(record.subject),
        Found::Malformed(record) => Err(StoreError::Malformed(record)),
        Found::Nobody => Err(StoreError::NoAccount { login: login.to_owned() }),
        Found::Several => Err(StoreError::SeveralAccounts { login: login.to_owned() }),
    }
}

fn message(text: &str) -> io::Result<()> {
    use io::Write as _;
    writeln!(Heard(io::stderr().lock()), "{}", printable(text))
}
