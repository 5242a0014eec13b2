//! What is in the SQLite file, without making or changing it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access};
use tokio::runtime::Handle;

use super::{blocking, file, schema};
use crate::store::StoreError;

/// Layout and number of people and keys, in words.
pub(in crate::store) async fn survey(path: &Path) -> Result<String, StoreError> {
    let path = path.to_owned();
    blocking(&Handle::current(), move || look(&path)).await
}

fn look(path: &Path) -> Result<String, StoreError> {
    let version = rusqlite::version();
    if !path.exists() {
        may_write(existing_folder(path))?;
        return Ok(format!("SQLite {version}; there is no file yet, and the first start makes it"));
    }
    may_write(path)?;
    // SQLite makes its `-wal` and `-shm` files beside the database.
    may_write(existing_folder(path))?;
    // Not as `file::Use::Look`, whose connection moves the write-ahead file into the database when it is the last to close.
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(file::BUSY_TIMEOUT)?;
    let layout = schema::layout(&connection)?;
    if layout == 0 {
        return Ok(format!("SQLite {version}; the file is empty, and the first start lays it out"));
    }
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (people, keys) = (
        count("SELECT count(*) FROM accounts")?,
        count("SELECT count(*) FROM keys WHERE algorithm NOT LIKE 'tollgate-%'")?,
    );
    let people = if people == 1 { "1 person".to_owned() } else { format!("{people} people") };
    let keys = if keys == 1 { "1 signing key".to_owned() } else { format!("{keys} signing keys") };
    Ok(format!("SQLite {version}, layout {layout}; {people}; {keys}"))
}

/// The folder that the file is in, or the nearest one above that exists.
fn existing_folder(path: &Path) -> &Path {
    let here = Path::new(".");
    let above = path.ancestors().skip(1).map(|folder| if folder.as_os_str().is_empty() { here } else { folder });
    above.into_iter().find(|folder| folder.exists()).unwrap_or(here)
}

fn may_write(path: &Path) -> Result<(), StoreError> {
    access(path, Access::WRITE_OK)
        .map_err(|error| StoreError::Refused { reason: format!("`{}` cannot be written: {error}", path.display()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/tollgate.db");
        assert!(look(&path).unwrap().contains("there is no file yet"));
        assert!(!folder.path().join("a").exists());
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.db");
        std::fs::write(&path, "no database, but long enough to have a header of one ".repeat(20)).unwrap();
        assert!(matches!(look(&path), Err(StoreError::Sqlite(_))));
    }
}
