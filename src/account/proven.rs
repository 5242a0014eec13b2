//! What a login has proved, and whether it still holds when its session has begun.

use std::sync::Arc;

use secrecy::SecretString;

use super::hash::Stored;
use super::{Account, Accounts, LoginError, NotChecked, unusable};
use crate::store::{Found, MalformedRecord, PasswordHash};

/// A login that was right. `Debug` hides the hash.
#[derive(Debug)]
pub struct Proven {
    /// Whose.
    pub account: Account,
    /// The one that the password fitted.
    pub(super) hash: PasswordHash,
}

impl Accounts {
    /// The account as the last write left it, if the password still fits. Whoever changes a password or disables an account
    /// ends its sessions after that; a login that read the account before, and whose session began behind them, would outlive
    /// both. To be asked once the session is in the store: a change that is not seen here sees the session.
    ///
    /// # Errors
    /// See [`LoginError`]: what the login would have failed of.
    pub async fn still_proven(&self, proven: &Proven, password: &SecretString) -> Result<Proven, LoginError> {
        let (subject, ride) = (&proven.account.subject, self.patience.ride());
        let record = match ride.out(|| self.store.find_subject(subject)).await.map_err(LoginError::Store)? {
            Found::One(record) => record,
            Found::Nobody => return Err(LoginError::UnknownUser),
            Found::Several => return Err(LoginError::AmbiguousLogin),
            Found::Malformed(MalformedRecord { subject, reason }) => {
                return Err(LoginError::MalformedRecord { subject, reason });
            }
        };
        let (account, hash) = (record.account, record.password);
        let subject = account.subject.clone();
        if account.disabled {
            return Err(LoginError::Disabled { subject });
        }
        if hash.expose() == proven.hash.expose() {
            return Ok(Proven { account, hash });
        }
        // Another hash may be of the same password: an upgrade by another login.
        let stored = Stored::parse(&hash).map_err(|reason| unusable(subject.clone(), reason))?;
        match self.check(Arc::new(stored), password, None).await {
            Ok((Ok(true), _)) => Ok(Proven { account, hash }),
            Ok((Err(reason), _)) => Err(unusable(subject, reason)),
            Err(NotChecked::Overloaded { retry_after }) => Err(LoginError::Overloaded { retry_after }),
            // Nobody is too soon whose failures are not asked for.
            Ok((Ok(false), _)) | Err(NotChecked::TooSoon(_)) => {
                Err(LoginError::WrongPassword { subject: Some(subject) })
            }
        }
    }
}
