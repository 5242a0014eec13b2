//! What changes an account from outside: a new password, a new account.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use crate::store::{Account, Found, NewAccount, StoreError};

use super::throttle::Attempt;
use super::{Accounts, LoginError, MAX_CREDENTIAL_BYTES, NewPasswordError, Proven};

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The current password is wrong, or the account may not log in.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The new password cannot be set.
    #[error(transparent)]
    Password(#[from] NewPasswordError),
    /// Somebody already logs in by that name or address.
    #[error("somebody already logs in with that name or e-mail address")]
    Taken,
    /// The store did not do it.
    #[error("the store did not do it")]
    Store(#[source] StoreError),
}

/// An upgrade of the hash of the same password may come between, once.
const MAX_TRIES: u32 = 3;

impl Accounts {
    /// Sets a new password for the account of this subject, whose current one must be given. A wrong one takes as long as at a
    /// login. The new one is looked at first: who must choose another is told so before anything costs time.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change_password(
        self: &Arc<Self>,
        subject: &str,
        attempt: &Attempt<'_>,
        current: &SecretString,
        new: &SecretString,
    ) -> Result<(), ChangeError> {
        self.check_new_password(new)?;
        if current.expose_secret().len() > MAX_CREDENTIAL_BYTES {
            return Err(LoginError::WrongPassword { subject: Some(subject.to_owned()) }.into());
        }
        let ride = self.patience.ride();
        let found = ride.out(|| self.store.find_subject(subject)).await.map_err(ChangeError::Store)?;
        let login = match &found {
            Found::One(record) => record.account.login.clone(),
            Found::Nobody | Found::Several | Found::Malformed(_) => String::new(),
        };
        let mut judged = self.judge(&login, attempt, &ride).await?;
        if let Some(judged) = &mut judged {
            // Who has a token of the account is no stranger to it.
            judged.trust_session();
        }
        let mut proven = self.prove(&login, found, current, judged).await?;
        let hash = self.hash_password(new).await?;
        for _ in 0..MAX_TRIES {
            let Proven { account, hash: old } = &proven;
            // Not over what somebody else has set meanwhile, such as the operator who shuts an intruder out.
            if self.store.upgrade_password(&account.login, old, &hash).await.map_err(ChangeError::Store)? {
                return Ok(());
            }
            proven = self.still_proven(&proven, current).await?;
        }
        Err(LoginError::WrongPassword { subject: Some(proven.account.subject) }.into())
    }

    /// Adds an account.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add(&self, new: &NewAccount) -> Result<Account, ChangeError> {
        self.store.add_account(new).await.map_err(|error| {
            if matches!(error, StoreError::LoginTaken { .. }) { ChangeError::Taken } else { ChangeError::Store(error) }
        })
    }
}
