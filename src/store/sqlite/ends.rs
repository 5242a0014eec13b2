//! Which sessions have ended, by their rows in the SQLite file. It tells nothing by itself.

use rusqlite::{Connection, params};

use super::Sqlite;
use crate::store::{EndPage, EndPlace, EndStream, MAX_END_PAGE, SessionEnd, SessionEnds, SessionId, StoreError};
use crate::time::{Moment, UnixSeconds};

#[async_trait::async_trait]
impl SessionEnds for Sqlite {
    async fn session_ends(&self, place: EndPlace, limit: usize) -> Result<EndPage, StoreError> {
        self.read(move |connection| page(connection, place, limit.clamp(1, MAX_END_PAGE))).await
    }

    async fn watch_session_ends(&self) -> Result<Option<Box<dyn EndStream>>, StoreError> {
        Ok(None)
    }
}

fn page(connection: &Connection, place: EndPlace, limit: usize) -> Result<EndPage, StoreError> {
    // The rows have whole seconds. No id is before the empty one.
    let at = place.at.seconds().0.cast_signed();
    let after = place.after.map_or_else(Vec::new, |id| id.0.to_vec());
    let mut statement = connection.prepare_cached(
        "SELECT id, ended_at FROM sessions \
         WHERE ended_at IS NOT NULL AND (ended_at, id) > (?1, ?2) ORDER BY ended_at, id LIMIT ?3",
    )?;
    let rows = statement.query_map(params![at, after, limit.cast_signed()], |row| {
        let at: Moment = UnixSeconds(row.get::<_, i64>(1)?.max(0).cast_unsigned()).into();
        Ok(SessionEnd { id: SessionId(row.get(0)?), at, written_at: None })
    })?;
    let ends = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let last = ends.last().filter(|_| ends.len() == limit);
    let next = last.map(|last| EndPlace { at: last.at, after: Some(last.id) });
    Ok(EndPage { ends, next })
}
