//! Which sessions have ended: by their documents, and by a change stream over them.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::{TryStreamExt, poll};
use mongodb::bson::{DateTime, Document, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ResumeToken;
use mongodb::error::{Error, ErrorKind};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Mongo;
use super::call::{CallError, READ_LIMIT};
use crate::store::{EndPage, EndPlace, EndStream, MAX_END_PAGE, SessionEnd, SessionEnds, SessionId, StoreError, Told};
use crate::time::Moment;

/// How long the server waits for an event before it says that there is none: each such answer shows that both are there.
const MAX_AWAIT: Duration = Duration::from_secs(1);
/// How long an answer may take. Behind it the server is taken for gone, which the driver may take longer to find out.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Code of a server that is no member of a replica set, and has no change streams.
const NO_CHANGE_STREAMS: i32 = 40573;

/// From where the next stream goes on.
pub(super) type Bookmark = Arc<Mutex<Option<ResumeToken>>>;

#[async_trait::async_trait]
impl SessionEnds for Mongo {
    async fn session_ends(&self, place: EndPlace, limit: usize) -> Result<EndPage, StoreError> {
        let limit = limit.clamp(1, MAX_END_PAGE);
        let (mut at, mut after) = (date(place.at), place.after.map(|id| id.to_string()));
        loop {
            let documents = self.ended_after(at, after.as_deref(), limit).await?;
            let ends: Vec<SessionEnd> = documents.iter().filter_map(end_of_document).collect();
            if let Some(last) = ends.last() {
                let next = (documents.len() == limit).then_some(EndPlace { at: last.at, after: Some(last.id) });
                return Ok(EndPage { ends, next });
            }
            // A whole page that cannot be read hides nothing that is behind it.
            match documents.last().map(|last| (last.get_datetime("ended_at"), last.get_str("_id"))) {
                Some((Ok(last_at), Ok(last_id))) if documents.len() == limit => {
                    (at, after) = (*last_at, Some(last_id.to_owned()));
                }
                Some(_) | None => return Ok(EndPage { ends, next: None }),
            }
        }
    }

    async fn watch_session_ends(&self) -> Result<Option<Box<dyn EndStream>>, StoreError> {
        let bookmark = self.bookmark.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let opened = match self.open_stream(bookmark.clone()).await {
            // The server does not have the place any more. What was missed is in the documents.
            Err(error) if bookmark.is_some() && is_refusal(&error) => self.open_stream(None).await,
            opened => opened,
        };
        match opened {
            Ok(stream) => Ok(Some(Box::new(Stream {
                events: stream,
                bookmark: Arc::clone(&self.bookmark),
                losses: self.calls.losses(),
                answered_at: Instant::now(),
            }))),
            Err(CallError::Driver(error)) if has_code(&error, NO_CHANGE_STREAMS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Mongo {
    /// The documents that ended after this place, in the order of their ends. Ids of other types than ours are left out.
    async fn ended_after(&self, at: DateTime, after: Option<&str>, limit: usize) -> Result<Vec<Document>, StoreError> {
        let mut filter = doc! { "ended_at": { "$gte": at }, "_id": { "$gte": "" } };
        if let Some(after) = after {
            filter.insert("$or", [doc! { "ended_at": { "$gt": at } }, doc! { "_id": { "$gt": after } }].to_vec());
        }
        let sessions = self.sessions.clone();
        let documents = self.calls.run(READ_LIMIT, async move {
            let found = sessions.find(filter).projection(doc! { "ended_at": 1 }).sort(doc! { "ended_at": 1, "_id": 1 });
            found.limit(i64::try_from(limit).unwrap_or(1)).max_time(READ_LIMIT).await?.try_collect().await
        });
        Ok(documents.await?)
    }

    async fn open_stream(&self, bookmark: Option<ResumeToken>) -> Result<ChangeStream<Document>, CallError> {
        let has_ended = "updateDescription.updatedFields.ended_at";
        let ends =
            doc! { "$or": [{ has_ended: { "$type": "date" } }, { "fullDocument.ended_at": { "$type": "date" } }] };
        let told = doc! {
            "operationType": 1, "ns": 1, "documentKey": 1, "wallTime": 1, has_ended: 1, "fullDocument.ended_at": 1,
        };
        let pipeline = [doc! { "$match": ends }, doc! { "$project": told }];
        let sessions = self.sessions.clone();
        let open = async move {
            let stream = sessions.watch().pipeline(pipeline).max_await_time(MAX_AWAIT);
            let stream = match bookmark {
                Some(bookmark) => stream.start_after(bookmark).await?,
                None => stream.await?,
            };
            Ok(stream.with_type())
        };
        self.calls.run(READ_LIMIT, open).await
    }
}

struct Stream {
    events: ChangeStream<Document>,
    bookmark: Bookmark,
    /// Changes when the driver has found a server gone.
    losses: watch::Receiver<()>,
    /// When the server last answered.
    answered_at: Instant,
}

#[async_trait::async_trait]
impl EndStream for Stream {
    async fn next(&mut self) -> Result<Told, StoreError> {
        let gone = |reason: &str| Err(StoreError::Unavailable { reason: reason.to_owned() });
        if !self.events.is_alive() {
            // As when the collection is dropped. There is no going on from there.
            self.keep(None);
            return gone("the change stream was closed");
        }
        let (event, complete_at) = {
            let mut event = pin!(self.events.next_if_any());
            match poll!(&mut event) {
                // One that came with an earlier answer.
                Poll::Ready(event) => (event, None),
                // All that came with the last answer was told, so that the server is asked.
                Poll::Pending => {
                    let event = tokio::select! {
                        event = timeout(ANSWER_LIMIT, event) => event,
                        _ = self.losses.changed() => return gone("a server is gone"),
                    };
                    let Ok(event) = event else { return gone("no answer to a change stream") };
                    let answered_at = std::mem::replace(&mut self.answered_at, Instant::now());
                    (event, Some(answered_at))
                }
            }
        };
        let event = event.map_err(|error| {
            if is_command(&error) {
                self.bookmark.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            StoreError::from(CallError::Driver(error))
        })?;
        self.keep(self.events.resume_token());
        Ok(match event {
            Some(event) => Told { end: end_of_event(&event), complete_at },
            None => Told { end: None, complete_at: Some(self.answered_at) },
        })
    }
}

impl Stream {
    fn keep(&self, token: Option<ResumeToken>) {
        *self.bookmark.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

fn end_of_document(document: &Document) -> Option<SessionEnd> {
    let id: SessionId = document.get_str("_id").ok()?.parse().ok()?;
    Some(SessionEnd { id, at: moment(document.get_datetime("ended_at").ok()?), written_at: None })
}

/// Of an update, or of a document that was put in its place.
fn end_of_event(event: &Document) -> Option<SessionEnd> {
    let id: SessionId = event.get_document("documentKey").ok()?.get_str("_id").ok()?.parse().ok()?;
    let updated = event.get_document("updateDescription").and_then(|update| update.get_document("updatedFields"));
    let whole = || event.get_document("fullDocument");
    let at = updated.and_then(|fields| fields.get_datetime("ended_at"));
    let at = at.or_else(|_| whole().and_then(|fields| fields.get_datetime("ended_at"))).ok()?;
    let written_at = event.get_datetime("wallTime").ok().map(moment);
    Some(SessionEnd { id, at: moment(at), written_at })
}

fn is_refusal(error: &CallError) -> bool {
    matches!(error, CallError::Driver(error) if is_command(error))
}

fn is_command(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(_))
}

fn has_code(error: &Error, code: i32) -> bool {
    matches!(&*error.kind, ErrorKind::Command(command) if command.code == code)
}

fn moment(date: &DateTime) -> Moment {
    Moment::from_millis(date.timestamp_millis().max(0).cast_unsigned())
}

fn date(moment: Moment) -> DateTime {
    DateTime::from_millis(i64::try_from(moment.as_millis()).unwrap_or(i64::MAX))
}
