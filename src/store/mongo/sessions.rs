//! Sessions in our own collection: one document each, under its id as text.
//!
//! Every change is one conditional write that a majority has in its journal before it is answered, and what is read is read from
//! the primary.

use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use mongodb::options::{IndexOptions, ReturnDocument};
use mongodb::{Collection, Database, IndexModel};

use super::call::{CallError, Calls, READ_LIMIT};
use super::indexes::INDEX_LIMIT;
use super::{Mongo, SESSIONS_COLLECTION};
use crate::store::{
    EndMark, EndReason, Ended, Ending, MAX_SESSION_PAGE, MalformedRecord, NewSession, Rotation, SeenFrom, SessionId,
    SessionRow, SessionStore, StoreError,
};
use crate::time::UnixSeconds;

/// How long one write of a session is waited for before it is tried again, which is harmless. Less than the patience, so that a
/// server that is cut off does not use it up.
const SESSION_WRITE_LIMIT: Duration = Duration::from_secs(3);
/// How long the change of a page of sessions may take.
const PAGE_LIMIT: Duration = Duration::from_secs(10);

#[async_trait::async_trait]
impl SessionStore for Mongo {
    async fn add_session(&self, new: &NewSession) -> Result<(), StoreError> {
        self.session_indexes.make(&self.calls, || self.index_maker());
        let document = doc! {
            "_id": new.id.to_string(),
            "subject": new.subject.as_str(),
            "login": new.login.as_str(),
            "client_id": new.client_id.as_str(),
            "scope": new.scope.as_str(),
            "created_at": date(new.created_at),
            "used_at": date(new.created_at),
            "counter": 0_i64,
            "rotated_at": date(new.created_at),
            "expires_at": date(new.expires_at),
            "ends_at": date(new.ends_at),
            "purge_at": date(new.purge_at),
            "address": new.seen.address.map(|address| address.to_string()),
            "user_agent": new.seen.user_agent.as_deref(),
            // Present from the start: the condition of every change names it, and an index that a null is in serves it.
            "ended_at": Bson::Null,
            "ended_reason": Bson::Null,
        };
        let sessions = self.sessions.clone();
        match self.calls.run(SESSION_WRITE_LIMIT, async move { sessions.insert_one(document).await }).await {
            Ok(_) => Ok(()),
            // An earlier try was made after all: nobody else draws the same 128 bits.
            Err(error) if error.is_duplicate() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        let sessions = self.sessions.clone();
        let filter = doc! { "_id": id.to_string() };
        let found =
            self.calls.run(READ_LIMIT, async move { sessions.find_one(filter).max_time(READ_LIMIT).await }).await?;
        found.as_ref().map(session).transpose()
    }

    async fn rotate_session(&self, rotation: &Rotation) -> Result<Option<SessionRow>, StoreError> {
        let presented = i64::from(rotation.presented);
        let filter = doc! { "_id": rotation.id.to_string(), "ended_at": Bson::Null, "counter": { "$lte": presented } };
        let update = doc! { "$set": {
            "counter": presented + 1,
            "used_at": date(rotation.at),
            "rotated_at": date(rotation.at),
            "expires_at": date(rotation.expires_at),
            "purge_at": date(rotation.purge_at),
            "address": rotation.seen.address.map(|address| address.to_string()),
            "user_agent": rotation.seen.user_agent.as_deref(),
        } };
        let sessions = self.sessions.clone();
        let rotated = self
            .calls
            .run(SESSION_WRITE_LIMIT, async move {
                sessions.find_one_and_update(filter, update).return_document(ReturnDocument::After).await
            })
            .await?;
        rotated.as_ref().map(session).transpose()
    }

    async fn renew_grace(&self, sessions: &[(SessionId, u32)], now: UnixSeconds) -> Result<(), StoreError> {
        let each = |(id, counter): &(SessionId, u32)| doc! { "_id": id.to_string(), "counter": i64::from(*counter) };
        let filter = doc! { "$or": sessions.iter().map(each).collect::<Vec<_>>(), "ended_at": Bson::Null };
        let update = doc! { "$max": { "rotated_at": date(now) } };
        let sessions = self.sessions.clone();
        self.calls.run(SESSION_WRITE_LIMIT, async move { sessions.update_many(filter, update).await }).await?;
        Ok(())
    }

    async fn end_session(&self, id: SessionId, subject: Option<&str>, ending: &Ending) -> Result<bool, StoreError> {
        let mut filter = doc! { "_id": id.to_string(), "$or": not_ended_but_by(ending.mark) };
        if let Some(subject) = subject {
            filter.insert("subject", subject);
        }
        let (sessions, update) = (self.sessions.clone(), end(ending));
        let ended =
            self.calls.run(SESSION_WRITE_LIMIT, async move { sessions.update_one(filter, update).await }).await?;
        Ok(ended.matched_count == 1)
    }

    async fn end_sessions(&self, sessions: &[SessionId], ending: &Ending) -> Result<u64, StoreError> {
        let ids: Vec<String> = sessions.iter().map(ToString::to_string).collect();
        let filter = doc! { "_id": { "$in": ids }, "$or": not_ended_but_by(ending.mark) };
        let (sessions, update) = (self.sessions.clone(), end(ending));
        let ended = self.calls.run(PAGE_LIMIT, async move { sessions.update_many(filter, update).await }).await?;
        Ok(ended.matched_count)
    }

    async fn unended_sessions(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, StoreError> {
        let mut filter = doc! { "ended_at": Bson::Null };
        if let Some(subject) = subject {
            filter.insert("subject", subject);
        }
        self.rows(filter, Some(doc! { "_id": 1 }), after, limit, id).await
    }

    async fn live_sessions(
        &self,
        subject: Option<&str>,
        after: Option<SessionId>,
        limit: usize,
        now: UnixSeconds,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let now = date(now);
        let mut filter = doc! { "ended_at": Bson::Null, "expires_at": { "$gt": now }, "ends_at": { "$gt": now } };
        if let Some(subject) = subject {
            filter.insert("subject", subject);
        }
        self.rows(filter, None, after, limit, read_session).await
    }

    /// The index over `purge_at` makes the server do it.
    async fn purge_sessions(&self, _: UnixSeconds) -> Result<u64, StoreError> {
        Ok(0)
    }
}

impl Mongo {
    /// Makes the indexes. Without them sessions work, slower, and their documents stay.
    fn index_maker(&self) -> impl Fn() -> BoxFuture<'static, Result<(), CallError>> + Send + 'static {
        let (sessions, database, calls) = (self.sessions.clone(), self.database.clone(), self.calls.clone());
        move || Box::pin(make_indexes(sessions.clone(), database.clone(), calls.clone()))
    }

    /// What `read` makes of the documents in the order of their ids, after `after`; fewer than `limit` are the end. One that cannot
    /// be read is told and passed over.
    async fn rows<T>(
        &self,
        mut filter: Document,
        projection: Option<Document>,
        after: Option<SessionId>,
        limit: usize,
        read: impl Fn(&Document) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let limit = limit.min(MAX_SESSION_PAGE);
        let mut rows = Vec::new();
        // Before all ids of ours, and behind ids of other types.
        let mut after = after.map_or_else(String::new, |id| id.to_string());
        // To MongoDB a limit of zero is no limit.
        while rows.len() < limit {
            let wanted = limit - rows.len();
            filter.insert("_id", doc! { "$gt": after.as_str() });
            let documents = self.page(filter.clone(), projection.clone(), wanted).await?;
            for document in &documents {
                match read(document) {
                    Some(row) => rows.push(row),
                    None => {
                        let id = document.get_str("_id").unwrap_or("?");
                        tracing::warn!(session = id, "Session in the store cannot be read");
                    }
                }
            }
            match documents.last().and_then(|last| last.get_str("_id").ok()) {
                Some(last) if documents.len() == wanted => after = last.to_owned(),
                Some(_) | None => break,
            }
        }
        Ok(rows)
    }

    async fn page(
        &self,
        filter: Document,
        projection: Option<Document>,
        limit: usize,
    ) -> Result<Vec<Document>, StoreError> {
        let sessions = self.sessions.clone();
        let documents = self.calls.run(READ_LIMIT, async move {
            let mut found = sessions.find(filter).sort(doc! { "_id": 1 }).limit(i64::try_from(limit).unwrap_or(1));
            if let Some(projection) = projection {
                found = found.projection(projection);
            }
            found.max_time(READ_LIMIT).await?.try_collect().await
        });
        Ok(documents.await?)
    }
}

async fn make_indexes(sessions: Collection<Document>, database: Database, calls: Calls) -> Result<(), CallError> {
    let index =
        |keys: Document, options: Option<IndexOptions>| IndexModel::builder().keys(keys).options(options).build();
    // Only what has ended, in the order in which the gateways ask for it.
    let ended = doc! { "ended_at": { "$gte": date(UnixSeconds(0)) } };
    let ended = IndexOptions::builder().partial_filter_expression(ended).build();
    let plain = [index(doc! { "subject": 1, "_id": 1 }, None), index(doc! { "ended_at": 1, "_id": 1 }, Some(ended))];
    let collection = sessions.clone();
    calls.run(INDEX_LIMIT, async move { collection.create_indexes(plain).await }).await?;
    let at_the_moment = IndexOptions::builder().expire_after(Duration::ZERO).build();
    let purge = index(doc! { "purge_at": 1 }, Some(at_the_moment));
    match calls.run(INDEX_LIMIT, async move { sessions.create_index(purge).await }).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_other_index() => {
            let change = doc! {
                "collMod": SESSIONS_COLLECTION,
                "index": { "keyPattern": { "purge_at": 1 }, "expireAfterSeconds": 0_i64 },
            };
            calls.run(INDEX_LIMIT, async move { database.run_command(change).await }).await?;
            tracing::info!(
                "Index of `{SESSIONS_COLLECTION}` over `purge_at` changed, so that sessions go at their time"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// What has not ended, or has by this mark at an earlier try.
fn not_ended_but_by(mark: EndMark) -> Vec<Document> {
    vec![doc! { "ended_at": Bson::Null }, doc! { "ended_by": binary(mark) }]
}

/// An earlier try may come after a later one, which it does not set back.
fn end(ending: &Ending) -> Document {
    let (at, reason, purge_at) = (date(ending.at), ending.reason.name(), date(ending.purge_at));
    let set = doc! { "ended_reason": reason, "purge_at": purge_at, "ended_by": binary(ending.mark) };
    doc! { "$max": { "ended_at": at }, "$set": set }
}

fn binary(mark: EndMark) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: mark.0.to_vec() }
}

fn session(document: &Document) -> Result<SessionRow, StoreError> {
    read_session(document).ok_or_else(|| malformed(document))
}

fn read_session(document: &Document) -> Option<SessionRow> {
    let text = |name: &str| document.get_str(name).ok().map(str::to_owned);
    let optional = |name: &str| match document.get(name) {
        None | Some(Bson::Null) => Some(None),
        Some(value) => value.as_str().map(|text| Some(text.to_owned())),
    };
    let address = match optional("address")? {
        None => None,
        Some(text) => Some(text.parse().ok()?),
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of which few variants matter")]
    let counter = match document.get("counter")? {
        Bson::Int64(counter) => u32::try_from(*counter).ok()?,
        Bson::Int32(counter) => u32::try_from(*counter).ok()?,
        _ => return None,
    };
    Some(SessionRow {
        id: id(document)?,
        subject: text("subject")?,
        login: text("login")?,
        client_id: text("client_id")?,
        scope: text("scope")?,
        created_at: moment(document, "created_at")?,
        used_at: moment(document, "used_at")?,
        counter,
        rotated_at: moment(document, "rotated_at")?,
        expires_at: moment(document, "expires_at")?,
        ends_at: moment(document, "ends_at")?,
        seen: SeenFrom { address, user_agent: optional("user_agent")? },
        ended: match document.get("ended_at") {
            None | Some(Bson::Null) => None,
            Some(_) => Some(ended(document)?),
        },
    })
}

fn ended(document: &Document) -> Option<Ended> {
    let reason = document.get_str("ended_reason").unwrap_or_default();
    Some(Ended { at: moment(document, "ended_at")?, reason: EndReason::from_name(reason) })
}

fn id(document: &Document) -> Option<SessionId> {
    document.get_str("_id").ok()?.parse().ok()
}

fn moment(document: &Document, name: &str) -> Option<UnixSeconds> {
    let milliseconds = document.get_datetime(name).ok()?.timestamp_millis();
    Some(UnixSeconds(milliseconds.max(0).cast_unsigned() / 1000))
}

fn date(moment: UnixSeconds) -> DateTime {
    DateTime::from_millis(i64::try_from(moment.0.saturating_mul(1000)).unwrap_or(i64::MAX))
}

fn malformed(document: &Document) -> StoreError {
    StoreError::Malformed(MalformedRecord {
        subject: document.get_str("subject").unwrap_or("?").to_owned(),
        reason: format!("a document of `{SESSIONS_COLLECTION}` is not a session"),
    })
}
