//! Failed logins in the SQLite file.

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::{AttemptKey, Attempts, Failure, MAX_AHEAD_SECONDS, StoreError};
use crate::time::UnixSeconds;

/// Records that a write takes away at most when they are of no use any more.
const MAX_PURGED: i64 = 100;

pub(super) fn read(connection: &Connection, keys: &[AttemptKey]) -> Result<Vec<Attempts>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT owes_until, failed_at, known_until FROM attempts WHERE key = ?1")?;
    keys.iter()
        .map(|key| {
            let found = statement.query_row([key.0.as_slice()], |row| {
                let seconds =
                    |index| Ok::<_, rusqlite::Error>(UnixSeconds(row.get::<_, i64>(index)?.max(0).cast_unsigned()));
                Ok(Attempts { owes_until: seconds(0)?, failed_at: seconds(1)?, known_until: seconds(2)? })
            });
            Ok(found.optional()?.unwrap_or_default())
        })
        .collect()
}

pub(super) fn count(connection: &Connection, failures: &[Failure], now: UnixSeconds) -> Result<(), StoreError> {
    purge(connection, now)?;
    let now = now.0.cast_signed();
    let ahead = now.saturating_add(MAX_AHEAD_SECONDS.cast_signed());
    let mut statement = connection.prepare_cached(
        "INSERT INTO attempts (key, owes_until, failed_at, known_until) VALUES (?1, ?2 + ?3, ?2, 0)
         ON CONFLICT (key) DO UPDATE SET
            owes_until = min(max(iif(failed_at > ?5, 0, owes_until), ?2) + ?3, ?2 + ?4),
            failed_at = max(iif(failed_at > ?5, 0, failed_at), ?2)",
    )?;
    for failure in failures {
        let (forget, most) = (failure.forget.cast_signed(), failure.most.cast_signed());
        statement.execute(params![failure.key.0.as_slice(), now, forget, most, ahead])?;
    }
    Ok(())
}

pub(super) fn succeed(connection: &Connection, key: AttemptKey, known_until: UnixSeconds) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO attempts (key, owes_until, failed_at, known_until) VALUES (?1, 0, 0, ?2)
         ON CONFLICT (key) DO UPDATE SET owes_until = 0, failed_at = 0, known_until = ?2",
        params![key.0.as_slice(), known_until.0.cast_signed()],
    )?;
    Ok(())
}

fn purge(connection: &Connection, now: UnixSeconds) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "DELETE FROM attempts WHERE key IN
                (SELECT key FROM attempts WHERE max(owes_until, known_until) < ?1 LIMIT ?2)",
        )?
        .execute([now.0.cast_signed(), MAX_PURGED])?;
    Ok(())
}
