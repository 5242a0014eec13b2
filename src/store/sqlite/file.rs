//! Making and opening the database file.

use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::time::Instant;

use crate::store::StoreError;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
    /// Nothing is made or changed, not even the layout: for commands that only look.
    Look,
}

/// How long SQLite waits for the writer of another process.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries of what SQLite does not wait for itself.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Makes the file and its folder when missing, readable by this user only: it holds password hashes and private keys.
/// SQLite gives its `-wal` and `-shm` files the mode of the database. What exists already keeps the mode it has.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| StoreError::Create { path: folder.to_owned(), source })?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StoreError::Create { path: path.to_owned(), source }),
    }
}

/// Opens a connection with the settings that all share.
pub(super) fn connect(path: &Path, what_for: Use) -> Result<Connection, StoreError> {
    // Without CREATE: a file that somebody removed must not come back empty. Without URI: the path is taken literally.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if what_for == Use::Look {
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        return Ok(connection);
    }
    // WAL lets readers go on while one writes; FULL makes a commit survive a power loss.
    write_ahead(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    match what_for {
        // What is overwritten or removed, such as a key or a password hash, is not to be read in the file any more.
        Use::Write => connection.pragma_update(None, "secure_delete", true)?,
        Use::Read | Use::Look => connection.pragma_update(None, "query_only", true)?,
    }
    Ok(connection)
}

/// Puts the file into write-ahead mode, in which it then stays. Of several processes that do so at once on a new file, SQLite
/// tells all but one that it is busy without waiting for `busy_timeout`, because each holds a lock that another waits for.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline => {
                std::thread::sleep(BUSY_PAUSE);
            }
            outcome => return outcome,
        }
    }
}
