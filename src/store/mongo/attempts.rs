//! Failed logins in our own collection. A TTL index takes away what is of no use any more.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Collection, IndexModel};

use super::Mongo;
use super::call::{CallError, Calls, DUPLICATE_KEY, READ_LIMIT, refused};
use super::indexes::INDEX_LIMIT;
use crate::store::{AttemptKey, Attempts, Failure, MAX_AHEAD_SECONDS, StoreError};
use crate::time::UnixSeconds;

/// Our collection of failed logins.
pub(super) const COLLECTION: &str = "tollgate_attempts";

pub(super) async fn read(mongo: &Mongo, keys: &[AttemptKey]) -> Result<Vec<Attempts>, StoreError> {
    let ids: Vec<Binary> = keys.iter().map(id).collect();
    let attempts = mongo.attempts.clone();
    let documents: Vec<Document> = mongo
        .calls
        .run(READ_LIMIT, async move {
            attempts.find(doc! { "_id": { "$in": ids } }).max_time(READ_LIMIT).await?.try_collect().await
        })
        .await?;
    let found: HashMap<&[u8], Attempts> = documents.iter().filter_map(record).collect();
    Ok(keys.iter().map(|key| found.get(key.0.as_slice()).copied().unwrap_or_default()).collect())
}

pub(super) async fn count(mongo: &Mongo, failures: &[Failure], now: UnixSeconds) -> Result<(), StoreError> {
    keep_tidy(mongo);
    let now = now.0.cast_signed();
    let ahead = now.saturating_add(MAX_AHEAD_SECONDS.cast_signed());
    // A field that is not there is less than any number.
    let believed = |field: &str| doc! { "$cond": [{ "$gt": ["$failed_at", ahead] }, 0_i64, field] };
    let statements = failures.iter().map(|failure| {
        let (forget, most) = (failure.forget.cast_signed(), failure.most.cast_signed());
        let owes = doc! { "$add": [{ "$max": [believed("$owes_until"), now] }, forget] };
        let set = doc! {
            "owes_until": { "$min": [owes, now.saturating_add(most)] },
            "failed_at": { "$max": [believed("$failed_at"), now] },
        };
        // The second stage sees what the first has made.
        let last = doc! { "$max": ["$owes_until", "$known_until"] };
        let purge = doc! { "purge_at": { "$toDate": { "$multiply": [last, 1000_i64] } } };
        doc! { "q": { "_id": id(&failure.key) }, "u": [{ "$set": set }, { "$set": purge }], "upsert": true }
    });
    update(mongo, statements.collect()).await
}

pub(super) async fn succeed(mongo: &Mongo, key: AttemptKey, known_until: UnixSeconds) -> Result<(), StoreError> {
    keep_tidy(mongo);
    let known = known_until.0.cast_signed();
    let purge_at = DateTime::from_millis(known.saturating_mul(1000));
    let set = doc! { "owes_until": 0_i64, "failed_at": 0_i64, "known_until": known, "purge_at": purge_at };
    update(mongo, vec![doc! { "q": { "_id": id(&key) }, "u": { "$set": set }, "upsert": true }]).await
}

/// All statements in one command. Of two upserts of one new key at the same instant one may lose; it is then made again.
async fn update(mongo: &Mongo, statements: Vec<Document>) -> Result<(), StoreError> {
    let mut open = statements;
    for _ in 0..2 {
        let database = mongo.database.clone();
        let command =
            doc! { "update": COLLECTION, "updates": open.clone(), "ordered": false, "writeConcern": { "w": 1 } };
        let reply = mongo.calls.run(READ_LIMIT, async move { database.run_command(command).await }).await?;
        let Ok(errors) = reply.get_array("writeErrors") else { return Ok(()) };
        let mut lost = Vec::new();
        for error in errors.iter().filter_map(Bson::as_document) {
            let code = error.get_i32("code").unwrap_or_default();
            let statement = error.get_i32("index").ok().and_then(|index| open.get(usize::try_from(index).ok()?));
            match statement {
                Some(statement) if code == DUPLICATE_KEY => lost.push(statement.clone()),
                Some(_) | None => return Err(refused(code, "write error")),
            }
        }
        open = lost;
        if open.is_empty() {
            return Ok(());
        }
    }
    Err(StoreError::Refused { reason: format!("{DUPLICATE_KEY} write error") })
}

/// Makes the TTL index. Without it records only stay longer.
fn keep_tidy(mongo: &Mongo) {
    mongo.attempt_indexes.make(&mongo.calls, || {
        let (attempts, calls) = (mongo.attempts.clone(), mongo.calls.clone());
        move || Box::pin(make_index(attempts.clone(), calls.clone()))
    });
}

async fn make_index(attempts: Collection<Document>, calls: Calls) -> Result<(), CallError> {
    let options = IndexOptions::builder().expire_after(std::time::Duration::ZERO).build();
    let index = IndexModel::builder().keys(doc! { "purge_at": 1 }).options(options).build();
    calls.run(INDEX_LIMIT, async move { attempts.create_index(index).await }).await?;
    Ok(())
}

fn record(document: &Document) -> Option<(&[u8], Attempts)> {
    let seconds = |name: &str| UnixSeconds(document.get_i64(name).unwrap_or_default().max(0).cast_unsigned());
    let attempts = Attempts {
        owes_until: seconds("owes_until"),
        failed_at: seconds("failed_at"),
        known_until: seconds("known_until"),
    };
    Some((document.get_binary_generic("_id").ok()?.as_slice(), attempts))
}

fn id(key: &AttemptKey) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: key.0.to_vec() }
}
