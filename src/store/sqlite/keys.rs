//! Keys in the SQLite file. The order of the rows is the order of the keys: whoever adds one holds the write lock.

use rusqlite::{Connection, OptionalExtension, Row, params};
use secrecy::{ExposeSecret, SecretString};

use super::Sqlite;
use crate::store::{KeyStore, StoreError, StoredKey};
use crate::time::UnixSeconds;

const COLUMNS: &str = "kid, algorithm, material, created_at, active_from, retired_at, needed_until";

#[async_trait::async_trait]
impl KeyStore for Sqlite {
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.read(all).await
    }

    async fn add_key_if_absent(&self, key: &StoredKey) -> Result<StoredKey, StoreError> {
        let key = key.clone();
        self.write(move |transaction| {
            if let Some(standing) = first(transaction, &key.algorithm)? {
                return Ok(standing);
            }
            insert(transaction, &key)?;
            Ok(key)
        })
        .await
    }

    async fn add_successor(&self, predecessor: &str, key: &StoredKey) -> Result<Option<StoredKey>, StoreError> {
        let (predecessor, key) = (predecessor.to_owned(), key.clone());
        self.write(move |transaction| {
            let newest = newest(transaction, &key.algorithm)?;
            if newest.as_ref().is_none_or(|newest| newest.kid != predecessor) {
                return Ok(newest);
            }
            insert(transaction, &key)?;
            Ok(Some(key))
        })
        .await
    }

    async fn bring_forward_key(&self, kid: &str, from: UnixSeconds) -> Result<bool, StoreError> {
        let sql = "UPDATE keys SET active_from = ?2 WHERE kid = ?1 AND coalesce(active_from, created_at) > ?2";
        self.set_date(sql, kid, from).await
    }

    async fn retire_key(&self, kid: &str, at: UnixSeconds) -> Result<bool, StoreError> {
        self.set_date("UPDATE keys SET retired_at = ?2 WHERE kid = ?1 AND retired_at IS NULL", kid, at).await
    }

    async fn need_key_until(&self, kid: &str, until: UnixSeconds) -> Result<bool, StoreError> {
        let sql = "UPDATE keys SET needed_until = max(coalesce(needed_until, 0), ?2) WHERE kid = ?1";
        self.set_date(sql, kid, until).await
    }

    async fn replace_material(
        &self,
        kid: &str,
        former: &SecretString,
        material: &SecretString,
    ) -> Result<bool, StoreError> {
        let (kid, former, material) = (kid.to_owned(), former.clone(), material.clone());
        self.write(move |transaction| {
            let changed = transaction.execute(
                "UPDATE keys SET material = ?3 WHERE kid = ?1 AND material = ?2",
                params![kid, former.expose_secret(), material.expose_secret()],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    async fn remove_key(&self, kid: &str) -> Result<bool, StoreError> {
        let kid = kid.to_owned();
        self.write(move |transaction| Ok(transaction.execute("DELETE FROM keys WHERE kid = ?1", [kid])? > 0)).await
    }

    /// What is overwritten is cleared in the pages (`secure_delete`), but stands in the write-ahead file until that is emptied.
    async fn clear_traces(&self) -> Result<(), StoreError> {
        self.checkpoint().await
    }
}

impl Sqlite {
    async fn set_date(&self, sql: &'static str, kid: &str, date: UnixSeconds) -> Result<bool, StoreError> {
        let kid = kid.to_owned();
        self.write(move |transaction| Ok(transaction.execute(sql, params![kid, date.0.cast_signed()])? > 0)).await
    }
}

fn all(connection: &Connection) -> Result<Vec<StoredKey>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys ORDER BY created_at, rowid"))?;
    let keys = statement.query_map([], key)?.collect::<Result<_, _>>()?;
    Ok(keys)
}

fn first(connection: &Connection, algorithm: &str) -> Result<Option<StoredKey>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE algorithm = ?1 ORDER BY created_at, rowid LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.query_row([algorithm], key).optional()?)
}

fn newest(connection: &Connection, algorithm: &str) -> Result<Option<StoredKey>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE algorithm = ?1 ORDER BY rowid DESC LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.query_row([algorithm], key).optional()?)
}

fn insert(connection: &Connection, new: &StoredKey) -> Result<(), StoreError> {
    let date = |date: Option<UnixSeconds>| date.map(|date| date.0.cast_signed());
    connection.execute(
        &format!("INSERT INTO keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"),
        params![
            new.kid,
            new.algorithm,
            new.material.expose_secret(),
            new.created_at.0.cast_signed(),
            new.active_from.0.cast_signed(),
            date(new.retired_at),
            date(new.needed_until),
        ],
    )?;
    Ok(())
}

fn key(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    let date = |index: usize| {
        let date: rusqlite::Result<Option<i64>> = row.get(index);
        date.map(|date| date.map(|seconds| UnixSeconds(seconds.cast_unsigned())))
    };
    let created_at = UnixSeconds(row.get::<_, i64>(3)?.cast_unsigned());
    Ok(StoredKey {
        kid: row.get(0)?,
        algorithm: row.get(1)?,
        material: SecretString::from(row.get::<_, String>(2)?),
        created_at,
        active_from: date(4)?.unwrap_or(created_at),
        retired_at: date(5)?,
        needed_until: date(6)?,
    })
}
