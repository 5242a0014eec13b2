//! Runs the demo: the sample services, a store with one user, and the gateway before them.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use crate::account::{Accounts, NewPasswordError};
use crate::app::{App, RunError, StartError};
use crate::config::Problems;
use crate::store::{Grants, NewAccount, StoreError};

use super::folder::random_word;
use super::{Demo, Folder, Sample, datasets, files, guide, settings};

/// The user of the demo.
const LOGIN: &str = "ada";

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The port is taken.
    #[error("port {port} of loopback cannot be used; choose another with `--port`, or any free one with `--port 0`")]
    Port {
        /// Which.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// No folder, no thread, no runtime, no terminal to print to.
    #[error(transparent)]
    System(#[from] io::Error),
    /// Not in order: our own text.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// The user cannot be added.
    #[error("the demo's user cannot be added")]
    Store(#[source] StoreError),
    /// Its password cannot be hashed.
    #[error(transparent)]
    Password(#[from] NewPasswordError),
    /// The gateway does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The gateway ended badly.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Serves on that port of loopback (0: any free one) until Ctrl-C or SIGTERM.
///
/// # Errors
/// See [`DemoError`].
pub fn run(port: u16) -> Result<(), DemoError> {
    let public = free_address(port)?;
    let folder = Folder::new()?;
    let json = Sample::start("datasets", datasets)?;
    let large = Sample::start("files", files)?;
    let text = settings(public, &folder.path().join("tollgate.db"), json.address(), large.address());
    let config = crate::config::from_text("the demo's settings", &text)?.config;
    let password = random_word(16)?;
    add_user(&config, &password)?;

    let app = App::start(config)?;
    let samples = [("datasets", json.address()), ("files", large.address())];
    let demo = Demo { public, admin: app.admin_address(), samples: &samples, login: LOGIN, password: &password };
    let mut stdout = io::stdout().lock();
    stdout.write_all(guide(&demo).as_bytes())?;
    stdout.flush()?;
    drop(stdout);
    app.wait_for_shutdown()?;
    Ok(())
}

/// A free port must be known before the gateway starts, because it is part of the issuer's name. Binding it also tells of
/// another server on it, beside which the gateway would otherwise listen (`SO_REUSEPORT`).
fn free_address(port: u16) -> Result<SocketAddr, DemoError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| DemoError::Port { port, source })
}

fn add_user(config: &crate::config::Config, password: &str) -> Result<(), DemoError> {
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = crate::store::open(&config.store).await.map_err(DemoError::Store)?;
        let accounts = Accounts::new(Arc::clone(&store), &config.passwords);
        let account = NewAccount {
            login: LOGIN.into(),
            name: Some("Ada Lovelace".into()),
            email: Some("ada@example.org".into()),
            grants: Grants { roles: words(&["scientist"]), scopes: words(&["read:datasets", "read:files"]) },
            password: accounts.hash_password(&password.into()).await?,
        };
        store.add_account(&account).await.map_err(DemoError::Store)
    })?;
    Ok(())
}
