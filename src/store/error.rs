//! Why the store did not do as it was asked. No variant carries the URI, a password hash or a key.

use std::path::PathBuf;

use rusqlite::ErrorCode;

use super::MalformedRecord;

/// Why the store did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be reached or did not answer in time. Worth another try later.
    #[error("the database does not answer: {reason}")]
    Unavailable {
        /// What happened, without address or credentials.
        reason: String,
    },
    /// The database will not let us in: credentials or certificates are wrong. Another try helps if that is so of one server only,
    /// and another becomes the primary.
    #[error("the database refuses the connection: {reason}")]
    NoAccess {
        /// What is wrong, without address or credentials.
        reason: String,
    },
    /// The database answered that it will not do it.
    #[error("the database refused: {reason}")]
    Refused {
        /// The database's code and its name.
        reason: String,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// A key is not in the store any more.
    #[error("the key `{kid}` is no longer in the store")]
    KeyGone {
        /// Its name.
        kid: String,
    },
    /// Nobody has that login.
    #[error("there is no user `{login}`")]
    NoAccount {
        /// The login asked for.
        login: String,
    },
    /// Several accounts have that login, so that none can be chosen.
    #[error("several users have the login `{login}`; give each its own in the database")]
    SeveralAccounts {
        /// The login asked for.
        login: String,
    },
    /// Somebody can already log in with that name or e-mail address.
    #[error("somebody already logs in as `{login}`")]
    LoginTaken {
        /// The login that is taken.
        login: String,
    },
    /// The account is there, but cannot be read.
    #[error(transparent)]
    Malformed(#[from] MalformedRecord),
    /// Something that the collection has no field for, by the settings.
    #[error("`store.users.fields.{field}` is not set, so it cannot be stored; set it or leave it out")]
    NotMapped {
        /// Key under `store.users.fields`.
        field: &'static str,
    },
    /// `store.url` cannot be used.
    #[error("`store.url` cannot be used: {reason}")]
    BadUri {
        /// What is wrong and what to do, without the URI.
        reason: String,
    },
    /// `store.users` cannot be used.
    #[error("`store.users.{key}` cannot be used: {reason}")]
    BadMapping {
        /// Key under `store.users`.
        key: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The SQLite file, or its folder, could not be made.
    #[error("cannot create `{}`", path.display())]
    Create {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no SQLite file, and none is to be made.
    #[error("there is no database file `{}`", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// An older Tollgate wrote the SQLite file, or nobody yet, and it is not to be changed.
    #[error("the database has layout {found}, not {known}; `tollgate run` brings it up to date when it starts")]
    OlderLayout {
        /// `user_version` of the file.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A newer Tollgate wrote the SQLite file.
    #[error("the database has layout {found}, but this Tollgate knows only up to {known}; use the newer Tollgate")]
    NewerLayout {
        /// `user_version` of the file.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// SQLite failed.
    #[error("the SQLite database failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl StoreError {
    /// Whether the database could not be asked, so that another try may succeed. Of SQLite also what a disk may be cured of while
    /// the process runs: it is full, fails, or was made read-only.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::NoAccess { .. } => true,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::CannotOpen
                        | ErrorCode::ReadOnly
                )
            ),
            Self::Refused { .. }
            | Self::Random
            | Self::KeyGone { .. }
            | Self::NoAccount { .. }
            | Self::SeveralAccounts { .. }
            | Self::LoginTaken { .. }
            | Self::Malformed(_)
            | Self::NotMapped { .. }
            | Self::BadUri { .. }
            | Self::BadMapping { .. }
            | Self::Create { .. }
            | Self::Missing { .. }
            | Self::OlderLayout { .. }
            | Self::NewerLayout { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_sick_file_is_an_outage_and_a_broken_one_is_none() {
        let is_outage =
            |code| StoreError::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).is_outage();
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_READONLY_DIRECTORY,
        ] {
            assert!(is_outage(code), "{code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_ERROR] {
            assert!(!is_outage(code), "{code}");
        }
        assert!(!StoreError::Sqlite(rusqlite::Error::QueryReturnedNoRows).is_outage());
        assert!(!StoreError::Random.is_outage() && !StoreError::KeyGone { kid: "k".to_owned() }.is_outage());
    }
}
