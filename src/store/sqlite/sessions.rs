//! Sessions in the SQLite file.

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, Statement, params};

use super::Sqlite;
use crate::store::{
    EndReason, Ended, Ending, MAX_SESSION_PAGE, NewSession, Rotation, SeenFrom, SessionId, SessionRow, SessionStore,
    StoreError,
};
use crate::time::UnixSeconds;

const COLUMNS: &str = "id, subject, login, client_id, scope, created_at, used_at, counter, rotated_at, expires_at, ends_at, \
                       address, user_agent, ended_at, ended_reason";

/// An earlier try may come after a later one, which it does not set back.
const END: &str = "UPDATE sessions SET ended_at = max(coalesce(ended_at, 0), ?3), ended_reason = ?4, purge_at = ?5, ended_by = ?6 \
                   WHERE id = ?1 AND (ended_at IS NULL OR ended_by = ?6) AND (?2 IS NULL OR subject = ?2)";

#[async_trait::async_trait]
impl SessionStore for Sqlite {
    async fn add_session(&self, new: &NewSession) -> Result<(), StoreError> {
        let new = new.clone();
        self.write(move |transaction| {
            // One conflict only: an id that is there is this session, added before.
            let mut statement = transaction.prepare_cached(
                "INSERT INTO sessions (id, subject, login, client_id, scope, created_at, used_at, counter, rotated_at, \
                 expires_at, ends_at, purge_at, address, user_agent) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 0, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING",
            )?;
            statement.execute(params![
                new.id.0,
                new.subject,
                new.login,
                new.client_id,
                new.scope,
                number(new.created_at),
                number(new.expires_at),
                number(new.ends_at),
                number(new.purge_at),
                address(&new.seen),
                new.seen.user_agent,
            ])?;
            Ok(())
        })
        .await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1"))?;
            Ok(statement.query_row([id.0], session).optional()?)
        })
        .await
    }

    async fn rotate_session(&self, rotation: &Rotation) -> Result<Option<SessionRow>, StoreError> {
        let rotation = rotation.clone();
        self.write(move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "UPDATE sessions SET counter = ?2 + 1, used_at = ?3, rotated_at = ?3, expires_at = ?4, purge_at = ?5, \
                 address = ?6, user_agent = ?7 \
                 WHERE id = ?1 AND ended_at IS NULL AND counter <= ?2 RETURNING {COLUMNS}"
            ))?;
            let values = params![
                rotation.id.0,
                rotation.presented,
                number(rotation.at),
                number(rotation.expires_at),
                number(rotation.purge_at),
                address(&rotation.seen),
                rotation.seen.user_agent,
            ];
            Ok(statement.query_row(values, session).optional()?)
        })
        .await
    }

    async fn renew_grace(&self, sessions: &[(SessionId, u32)], now: UnixSeconds) -> Result<(), StoreError> {
        let sessions = sessions.to_vec();
        self.write(move |transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE sessions SET rotated_at = max(rotated_at, ?3) \
                 WHERE id = ?1 AND counter = ?2 AND ended_at IS NULL",
            )?;
            for (id, counter) in sessions {
                statement.execute(params![id.0, counter, number(now)])?;
            }
            Ok(())
        })
        .await
    }

    async fn end_session(&self, id: SessionId, subject: Option<&str>, ending: &Ending) -> Result<bool, StoreError> {
        let (subject, ending) = (subject.map(str::to_owned), *ending);
        self.write(move |transaction| {
            let mut statement = transaction.prepare_cached(END)?;
            end(&mut statement, id, subject.as_deref(), &ending)
        })
        .await
    }

    async fn end_sessions(&self, sessions: &[SessionId], ending: &Ending) -> Result<u64, StoreError> {
        let (sessions, ending) = (sessions.to_vec(), *ending);
        self.write(move |transaction| {
            let mut statement = transaction.prepare_cached(END)?;
            let mut ended = 0;
            for id in sessions {
                ended += u64::from(end(&mut statement, id, None, &ending)?);
            }
            Ok(ended)
        })
        .await
    }

    async fn unended_sessions(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, StoreError> {
        let subject = subject.map(str::to_owned);
        self.read(move |connection| {
            let whose = if subject.is_some() { "subject = ?1" } else { "?1 IS NULL" };
            let mut statement = connection.prepare_cached(&format!(
                "SELECT id FROM sessions WHERE {whose} AND (?2 IS NULL OR id > ?2) AND ended_at IS NULL ORDER BY id LIMIT ?3"
            ))?;
            let ids = statement
                .query_map(params![subject, after.map(|id| id.0), page(limit)], |row| Ok(SessionId(row.get(0)?)))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn live_sessions(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        limit: usize,
        now: UnixSeconds,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let subject = subject.map(str::to_owned);
        self.read(move |connection| {
            let whose = if subject.is_some() { "subject = ?1" } else { "?1 IS NULL" };
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM sessions WHERE {whose} AND (?2 IS NULL OR id > ?2) AND ended_at IS NULL \
                 AND expires_at > ?3 AND ends_at > ?3 ORDER BY id LIMIT ?4"
            ))?;
            let values = params![subject, after.map(|id| id.0), number(now), page(limit)];
            Ok(statement.query_map(values, session)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn purge_sessions(&self, now: UnixSeconds) -> Result<u64, StoreError> {
        self.write(move |transaction| {
            let purged =
                transaction.prepare_cached("DELETE FROM sessions WHERE purge_at <= ?1")?.execute([number(now)])?;
            Ok(u64::try_from(purged).unwrap_or(u64::MAX))
        })
        .await
    }
}

/// Whether the session has ended by this mark.
fn end(
    statement: &mut Statement<'_>,
    id: SessionId,
    subject: Option<&str>,
    ending: &Ending,
) -> Result<bool, StoreError> {
    let (at, purge_at) = (number(ending.at), number(ending.purge_at));
    let values = params![id.0, subject, at, ending.reason.name(), purge_at, ending.mark.0];
    Ok(statement.execute(values)? == 1)
}

fn session(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let address = match row.get::<_, Option<String>>(11)? {
        None => None,
        Some(text) => {
            let unreadable = |error| rusqlite::Error::FromSqlConversionFailure(11, Type::Text, Box::new(error));
            Some(text.parse().map_err(unreadable)?)
        }
    };
    let ended = match row.get::<_, Option<String>>(14)? {
        None => None,
        Some(reason) => Some(Ended { at: moment(row, 13)?, reason: EndReason::from_name(&reason) }),
    };
    Ok(SessionRow {
        id: SessionId(row.get(0)?),
        subject: row.get(1)?,
        login: row.get(2)?,
        client_id: row.get(3)?,
        scope: row.get(4)?,
        created_at: moment(row, 5)?,
        used_at: moment(row, 6)?,
        counter: row.get(7)?,
        rotated_at: moment(row, 8)?,
        expires_at: moment(row, 9)?,
        ends_at: moment(row, 10)?,
        seen: SeenFrom { address, user_agent: row.get(12)? },
        ended,
    })
}

fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<UnixSeconds> {
    row.get::<_, i64>(column).map(|seconds| UnixSeconds(seconds.max(0).cast_unsigned()))
}

/// SQLite's integers have a sign; what is later than they reach is the end of time.
fn number(moment: UnixSeconds) -> i64 {
    i64::try_from(moment.0).unwrap_or(i64::MAX)
}

fn address(seen: &SeenFrom) -> Option<String> {
    seen.address.map(|address| address.to_string())
}

fn page(limit: usize) -> i64 {
    i64::try_from(limit.min(MAX_SESSION_PAGE)).unwrap_or(0)
}
