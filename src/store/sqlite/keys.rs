//! Signing keys in the SQLite file.

use rusqlite::{Connection, OptionalExtension, Row, params};
use secrecy::{ExposeSecret, SecretString};

use crate::store::{StoreError, StoredKey};
use crate::time::UnixSeconds;

pub(super) fn all(connection: &Connection) -> Result<Vec<StoredKey>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT kid, algorithm, material, created_at FROM keys ORDER BY created_at, rowid")?;
    let keys = statement.query_map([], key)?.collect::<Result<_, _>>()?;
    Ok(keys)
}

/// Runs in a transaction that holds the write lock from its start, so looking and inserting are one step.
pub(super) fn add_if_absent(connection: &Connection, new: StoredKey) -> Result<StoredKey, StoreError> {
    let standing = connection
        .prepare_cached(
            "SELECT kid, algorithm, material, created_at FROM keys WHERE algorithm = ?1 ORDER BY created_at, rowid LIMIT 1",
        )?
        .query_row([&new.algorithm], key)
        .optional()?;
    if let Some(standing) = standing {
        return Ok(standing);
    }
    connection.execute(
        "INSERT INTO keys (kid, algorithm, material, created_at) VALUES (?1, ?2, ?3, ?4)",
        params![new.kid, new.algorithm, new.material.expose_secret(), new.created_at.0.cast_signed()],
    )?;
    Ok(new)
}

fn key(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    Ok(StoredKey {
        kid: row.get(0)?,
        algorithm: row.get(1)?,
        material: SecretString::from(row.get::<_, String>(2)?),
        created_at: UnixSeconds(row.get::<_, i64>(3)?.cast_unsigned()),
    })
}
