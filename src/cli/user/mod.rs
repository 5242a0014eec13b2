//! `tollgate user`: the people in the configured store, while the gateway runs or not.

mod output;
mod password;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::session;
use super::style::{Heard, printable};
use crate::account::{Accounts, NewPasswordError, PasswordSettings};
use crate::audit::{Audit, Event, Origin, Whom};
use crate::config::Config;
use crate::log::LogError;
use crate::session::EndReason;
use crate::store::{
    self, Account, Found, Grants, MAX_PAGE, NewAccount, Store, StoreError, StoreLocation, StoreSettings,
};
use crate::time::UnixSeconds;

/// What to do with the users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; asks for the password
    Add(Add),
    /// List all users
    List {
        /// Print a JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show one user
    Show {
        /// Login of the user
        name: String,
        /// Print a JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Set a new password, and end the sessions of the user; asks for it
    Password {
        /// Login of the user
        name: String,
        /// Where the password comes from
        #[command(flatten)]
        source: PasswordSource,
    },
    /// Allow a disabled user to log in again
    Enable {
        /// Login of the user
        name: String,
    },
    /// Refuse logins of a user, and end the sessions; tokens of no session stay valid until they expire
    Disable {
        /// Login of the user
        name: String,
    },
    /// Give roles and scopes to a user, from the next login on
    Grant {
        /// Login of the user
        name: String,
        /// What to give or take
        #[command(flatten)]
        grants: RequiredGrants,
    },
    /// Take roles and scopes from a user, from the next login on
    Revoke {
        /// Login of the user
        name: String,
        /// What to give or take
        #[command(flatten)]
        grants: RequiredGrants,
    },
    /// Remove a user for good, and end the sessions
    Remove {
        /// Login of the user
        name: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

/// Arguments of `user add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Login of the new user
    login: String,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// E-mail address; the user can log in with it too
    #[arg(long)]
    email: Option<String>,
    /// Role to give; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = word)]
    roles: Vec<String>,
    /// Scope to give; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", value_parser = word)]
    scopes: Vec<String>,
    #[command(flatten)]
    source: PasswordSource,
}

/// Where a new password comes from. Never an argument: others on the machine can read those.
#[derive(Debug, Clone, Copy, Args)]
pub struct PasswordSource {
    /// Read the password from standard input (one trailing newline is cut off) instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

/// At least one role or scope.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct RequiredGrants {
    /// Role; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = word)]
    roles: Vec<String>,
    /// Scope; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", value_parser = word)]
    scopes: Vec<String>,
}

impl From<RequiredGrants> for Grants {
    fn from(grants: RequiredGrants) -> Self {
        Self { roles: grants.roles, scopes: grants.scopes }
    }
}

/// Why a `user` command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked for is done, and the sessions are not ended.
    #[error("the sessions of the user are not ended; try `tollgate session revoke --user`")]
    Sessions(#[source] StoreError),
    /// The new password must not be set.
    #[error(transparent)]
    Password(#[from] NewPasswordError),
    /// The two passwords typed differ.
    #[error("the passwords differ; nothing was changed")]
    PasswordsDiffer,
    /// There is nobody to ask.
    #[error("there is no terminal to ask for the password; pass it with `--password-stdin`")]
    NoTerminal,
    /// Standard input did not hold a password.
    #[error("standard input is not a password: it must be UTF-8 and at most 1024 bytes")]
    BadStandardInput,
    /// A removal was not confirmed.
    #[error("not removed; confirm by typing the login, or pass `--yes`")]
    NotConfirmed,
    /// The file of `log.audit` cannot be written, and so nothing is changed.
    #[error(transparent)]
    Audit(#[from] LogError),
    /// Reading or writing failed.
    #[error("standard input or output failed")]
    Io(#[from] io::Error),
}

/// Runs the command. Data goes to standard output, messages to standard error.
///
/// # Errors
/// What stopped it; the caller prints the chain and exits with 1.
pub async fn run(command: UserCommand, config: &Config) -> Result<ExitCode, UserError> {
    let (store, passwords) = (opened(&command, &config.store).await?, &config.passwords);
    // Before anything is changed.
    let audit = match &command {
        UserCommand::List { .. } | UserCommand::Show { .. } => Audit::silent(),
        UserCommand::Add(_)
        | UserCommand::Password { .. }
        | UserCommand::Enable { .. }
        | UserCommand::Disable { .. }
        | UserCommand::Grant { .. }
        | UserCommand::Revoke { .. }
        | UserCommand::Remove { .. } => Audit::of_command(&config.log.audit)?,
    };
    let tell = |event: &Event<'_>, subject: Option<&str>, login: &str| {
        audit.record(event, Whom { subject, login: Some(login), session: None }, &Origin::CommandLine);
    };
    match command {
        UserCommand::Add(add) => {
            let account = add_user(store, passwords, add).await?;
            tell(&Event::UserAdded, Some(&account.subject), &account.login);
            message(&format!("user `{}` added with subject `{}`", account.login, account.subject))?;
        }
        UserCommand::List { json } => match list(store.as_ref(), json).await {
            // The reader of a pipe has gone, which is its right.
            Err(UserError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            listed => listed?,
        },
        UserCommand::Show { name, json } => {
            let account = match store.find_login(&name).await? {
                Found::One(record) => record.account,
                Found::Nobody => return Err(StoreError::NoAccount { login: name }.into()),
                Found::Several => return Err(StoreError::SeveralAccounts { login: name }.into()),
                Found::Malformed(record) => return Err(StoreError::Malformed(record).into()),
            };
            output::account(&mut Heard(io::stdout().lock()), &account, json)?;
        }
        UserCommand::Password { name, source } => {
            // Before asking, so that a mistyped name is noticed first.
            let subject = subject_of(&*store, &name).await?;
            let hash = new_password(&store, passwords, source).await?;
            store.set_password(&name, &hash).await?;
            tell(&Event::PasswordChanged, subject.as_deref(), &name);
            message(&format!("password of `{name}` set"))?;
            end_sessions(config, store, &audit, &name, subject, EndReason::PasswordChanged).await?;
        }
        UserCommand::Enable { name } => {
            let subject = subject_of(&*store, &name).await?;
            store.set_disabled(&name, false).await?;
            tell(&Event::UserEnabled, subject.as_deref(), &name);
            message(&format!("user `{name}` enabled"))?;
        }
        UserCommand::Disable { name } => {
            let subject = subject_of(&*store, &name).await?;
            store.set_disabled(&name, true).await?;
            tell(&Event::UserDisabled, subject.as_deref(), &name);
            message(&format!("user `{name}` disabled; tokens of no session stay valid until they expire"))?;
            end_sessions(config, store, &audit, &name, subject, EndReason::AccountDisabled).await?;
        }
        UserCommand::Grant { name, grants } => {
            let grants = Grants::from(grants);
            let account = store.grant(&name, &grants).await?;
            let event = Event::UserGranted { roles: &grants.roles, scopes: &grants.scopes };
            tell(&event, Some(&account.subject), &name);
            message(&format!("user `{name}` now has {}", output::grants(&account)))?;
        }
        UserCommand::Revoke { name, grants } => {
            let grants = Grants::from(grants);
            let account = store.revoke(&name, &grants).await?;
            let event = Event::UserRevoked { roles: &grants.roles, scopes: &grants.scopes };
            tell(&event, Some(&account.subject), &name);
            message(&format!("user `{name}` now has {}", output::grants(&account)))?;
        }
        UserCommand::Remove { name, yes } => {
            if !yes {
                confirm(&name)?;
            }
            let subject = subject_of(&*store, &name).await?;
            store.remove_account(&name).await?;
            tell(&Event::UserRemoved, subject.as_deref(), &name);
            message(&format!("user `{name}` removed"))?;
            end_sessions(config, store, &audit, &name, subject, EndReason::AccountRemoved).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Only who adds somebody may make the database: elsewhere a new, empty one would hide that the command runs in the wrong folder.
async fn opened(command: &UserCommand, settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    match (command, &settings.location) {
        (UserCommand::List { .. } | UserCommand::Show { .. }, _) => store::open_to_look(settings).await,
        (UserCommand::Add(_), _) | (_, StoreLocation::Mongo { .. }) => store::open(settings).await,
        (_, StoreLocation::Sqlite { path }) if !path.is_file() => Err(StoreError::Missing { path: path.clone() }),
        (_, StoreLocation::Sqlite { .. }) => store::open(settings).await,
    }
}

/// Whose record it is, and whose sessions are to end; `None`: it is so broken that there can be none.
async fn subject_of(store: &dyn Store, login: &str) -> Result<Option<String>, StoreError> {
    match store.find_login(login).await? {
        Found::One(record) => Ok(Some(record.account.subject)),
        Found::Malformed(record) => Ok(Some(record.subject).filter(|subject| subject != "?")),
        Found::Nobody => Err(StoreError::NoAccount { login: login.to_owned() }),
        Found::Several => Err(StoreError::SeveralAccounts { login: login.to_owned() }),
    }
}

/// After the change, so that nobody begins a session in between.
async fn end_sessions(
    config: &Config,
    store: Arc<dyn Store>,
    audit: &Audit,
    login: &str,
    subject: Option<String>,
    reason: EndReason,
) -> Result<(), UserError> {
    let Some(subject) = subject else { return Ok(()) };
    let sessions = session::of_command(config, store);
    let ended = sessions.end_all(Some(&subject), reason, UnixSeconds::now()).await.map_err(UserError::Sessions)?;
    if ended > 0 {
        let whom = Whom { subject: Some(&subject), login: Some(login), session: None };
        audit.record(&Event::SessionsRevoked { reason: reason.name(), sessions: ended }, whom, &Origin::CommandLine);
        message(&format!("{} ended", session::counted(ended)))?;
    }
    Ok(())
}

async fn add_user(store: Arc<dyn Store>, passwords: &PasswordSettings, add: Add) -> Result<Account, UserError> {
    let Add { login, name, email, roles, scopes, source } = add;
    let password = new_password(&store, passwords, source).await?;
    let new = NewAccount { login, name, email, grants: Grants { roles, scopes }, password };
    Ok(store.add_account(&new).await?)
}

async fn new_password(
    store: &Arc<dyn Store>,
    settings: &PasswordSettings,
    source: PasswordSource,
) -> Result<store::PasswordHash, UserError> {
    let password = if source.password_stdin { password::from_standard_input()? } else { password::from_terminal()? };
    let one_thread = PasswordSettings { threads: 1, queue: 1, ..settings.clone() };
    Ok(Accounts::new(Arc::clone(store), &one_thread).hash_password(&password).await?)
}

/// Prints page after page, so that memory stays bounded whatever the number of users.
async fn list(store: &dyn Store, json: bool) -> Result<(), UserError> {
    let mut listing = output::Listing::begin(json)?;
    let mut skip = 0;
    loop {
        let page = store.accounts(skip, MAX_PAGE).await?;
        if page.is_empty() {
            return Ok(listing.end()?);
        }
        skip += u64::try_from(page.len()).unwrap_or(u64::MAX);
        listing.page(&page)?;
    }
}

fn confirm(name: &str) -> Result<(), UserError> {
    if !io::stdin().is_terminal() {
        return Err(UserError::NotConfirmed);
    }
    let mut standard_error = io::stderr().lock();
    write!(standard_error, "Type `{name}` to remove this user for good: ")?;
    standard_error.flush()?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    if typed.trim_end_matches(['\r', '\n']) == name { Ok(()) } else { Err(UserError::NotConfirmed) }
}

fn message(text: &str) -> io::Result<()> {
    writeln!(Heard(io::stderr().lock()), "{}", printable(text))
}

/// A role or scope: one word, because tokens and headers separate them with spaces and commas.
pub(super) fn word(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err("it must be one word without spaces");
    }
    if text.contains([',', '"', '\\']) {
        return Err("it must not contain a comma, a quotation mark or a backslash");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: UserCommand,
    }

    #[track_caller]
    fn check(line: &str, accepted: bool) {
        let parsed = Line::command().try_get_matches_from(line.split(' ')).and_then(|m| Line::from_arg_matches(&m));
        assert_eq!(parsed.is_ok(), accepted, "{line}: {parsed:?}");
    }

    #[test]
    fn the_arguments_fit_together() {
        Line::command().debug_assert();
    }

    #[test]
    fn grants_need_a_role_or_a_scope_of_one_word() {
        check("user grant ada --role r --role q --scope read:x", true);
        check("user revoke ada --scope read:x", true);
        check("user grant ada", false);
        check("user grant ada --role a,b", false);
        check("user add ada --email a@b.c --role r", true);
    }

    #[test]
    fn a_password_is_never_an_argument() {
        check("user add ada --password secret", false);
        check("user password ada secret", false);
        check("user password ada --password-stdin", true);
    }
}
