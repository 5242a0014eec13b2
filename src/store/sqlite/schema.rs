//! The tables, and the steps from each older layout to the newest.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::StoreError;

/// Step `n` leads from layout `n` to `n + 1`. Only append: a released step never changes.
const STEPS: &[&str] = &[
    "
    CREATE TABLE accounts (
        subject    TEXT PRIMARY KEY NOT NULL,
        login      TEXT NOT NULL UNIQUE,
        name       TEXT,
        email      TEXT,
        password   TEXT NOT NULL,
        disabled   INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX accounts_email ON accounts (email) WHERE email IS NOT NULL;

    CREATE TABLE grants (
        number  INTEGER PRIMARY KEY,
        subject TEXT NOT NULL REFERENCES accounts (subject) ON DELETE CASCADE,
        kind    TEXT NOT NULL CHECK (kind IN ('role', 'scope')),
        value   TEXT NOT NULL,
        UNIQUE (subject, kind, value)
    ) STRICT;

    CREATE TABLE keys (
        kid        TEXT PRIMARY KEY NOT NULL,
        algorithm  TEXT NOT NULL,
        material   TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX keys_algorithm ON keys (algorithm);
",
    "
    CREATE TABLE attempts (
        key         BLOB PRIMARY KEY NOT NULL,
        owes_until  INTEGER NOT NULL,
        failed_at   INTEGER NOT NULL,
        known_until INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX attempts_purge ON attempts (max(owes_until, known_until));
",
    // Without a date, as older programs still write it, a key signs from `created_at`.
    "
    ALTER TABLE keys ADD COLUMN active_from INTEGER;
    ALTER TABLE keys ADD COLUMN retired_at INTEGER;
    ALTER TABLE keys ADD COLUMN needed_until INTEGER;
",
    "
    CREATE TABLE sessions (
        id           BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
        subject      TEXT NOT NULL,
        login        TEXT NOT NULL,
        client_id    TEXT NOT NULL,
        scope        TEXT NOT NULL,
        created_at   INTEGER NOT NULL,
        used_at      INTEGER NOT NULL,
        counter      INTEGER NOT NULL,
        rotated_at   INTEGER NOT NULL,
        expires_at   INTEGER NOT NULL,
        ends_at      INTEGER NOT NULL,
        purge_at     INTEGER NOT NULL,
        address      TEXT,
        user_agent   TEXT,
        ended_at     INTEGER,
        ended_reason TEXT,
        CHECK ((ended_at IS NULL) = (ended_reason IS NULL))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_subject ON sessions (subject);
    CREATE INDEX sessions_ended ON sessions (ended_at, id) WHERE ended_at IS NOT NULL;
    CREATE INDEX sessions_purge ON sessions (purge_at);
",
    // By which call it was ended.
    "
    ALTER TABLE sessions ADD COLUMN ended_by BLOB;
",
];

/// The layout of the file; 0: none yet.
///
/// # Errors
/// One that only a newer program knows.
pub(super) fn layout(connection: &Connection) -> Result<i64, StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = newest();
    if (0..=known).contains(&found) { Ok(found) } else { Err(StoreError::NewerLayout { found, known }) }
}

/// Brings the file to the newest layout, all or nothing. Several processes may do it at once.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = usize::try_from(layout(&transaction)?).unwrap_or_default();
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    if done < STEPS.len() {
        transaction.pragma_update(None, "user_version", newest())?;
    }
    transaction.commit()?;
    Ok(())
}

/// Refuses a file of another layout than the newest, for who may not change it.
pub(super) fn expect_newest(connection: &Connection) -> Result<(), StoreError> {
    let (found, known) = (layout(connection)?, newest());
    if found == known { Ok(()) } else { Err(StoreError::OlderLayout { found, known }) }
}

fn newest() -> i64 {
    i64::try_from(STEPS.len()).expect("there are few steps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_migration_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection
            .execute("INSERT INTO keys (kid, algorithm, material, created_at) VALUES ('k', 'ES256', 'm', 1)", [])
            .unwrap();
        migrate(&mut connection).unwrap();
        let keys: i64 = connection.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).unwrap();
        assert_eq!(keys, 1);
    }

    #[test]
    fn a_file_of_a_newer_program_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection).unwrap_err();
        assert!(matches!(error, StoreError::NewerLayout { found: 99, .. }), "{error}");
    }

    #[test]
    fn who_may_only_look_refuses_every_other_layout() {
        let mut connection = Connection::open_in_memory().unwrap();
        let error = expect_newest(&connection).unwrap_err();
        assert!(matches!(error, StoreError::OlderLayout { found: 0, .. }), "{error}");
        migrate(&mut connection).unwrap();
        expect_newest(&connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = expect_newest(&connection).unwrap_err();
        assert!(matches!(error, StoreError::NewerLayout { found: 99, .. }), "{error}");
    }
}
