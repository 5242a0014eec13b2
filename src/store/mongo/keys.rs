//! Keys in our own collection. `_id` names the algorithm and the place in its row of keys, so that the unique index that every
//! collection has makes one of several new keys win.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use secrecy::{ExposeSecret, SecretString};

use super::Mongo;
use super::call::{READ_LIMIT, WRITE_LIMIT};
use crate::store::{KeyStore, MalformedRecord, StoreError, StoredKey};
use crate::time::UnixSeconds;

#[async_trait::async_trait]
impl KeyStore for Mongo {
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let documents = load(self, doc! {}).await?;
        let mut unreadable = BTreeSet::new();
        let readable = documents.iter().filter_map(|document| {
            key(document).map_err(|error| unreadable.insert((id(document), error.to_string()))).ok()
        });
        let keys = readable.collect();
        self.tell_of_unreadable(unreadable);
        Ok(keys)
    }

    async fn add_key_if_absent(&self, new: &StoredKey) -> Result<StoredKey, StoreError> {
        let same_algorithm = doc! { "algorithm": new.algorithm.as_str() };
        if let Some(standing) = standing(&load(self, same_algorithm.clone()).await?)? {
            return Ok(standing);
        }
        if insert(self, new, 1).await? {
            return Ok(new.clone());
        }
        standing(&load(self, same_algorithm).await?)?.ok_or_else(taken_away)
    }

    async fn add_successor(&self, predecessor: &str, new: &StoredKey) -> Result<Option<StoredKey>, StoreError> {
        let same_algorithm = doc! { "algorithm": new.algorithm.as_str() };
        let place = match newest(&load(self, same_algorithm.clone()).await?) {
            Some((place, document)) if document.get_str("kid").is_ok_and(|kid| kid == predecessor) => place,
            standing => return standing.map(|(_, document)| key(document)).transpose(),
        };
        if insert(self, new, place.saturating_add(1)).await? {
            return Ok(Some(new.clone()));
        }
        newest(&load(self, same_algorithm).await?)
            .map_or_else(|| Err(taken_away()), |(_, document)| key(document).map(Some))
    }

    async fn bring_forward_key(&self, kid: &str, from: UnixSeconds) -> Result<bool, StoreError> {
        let later = doc! { "kid": kid, "active_from": { "$gt": date(from) } };
        update(self, later, doc! { "$set": { "active_from": date(from) } }).await
    }

    async fn retire_key(&self, kid: &str, at: UnixSeconds) -> Result<bool, StoreError> {
        // Null stands for a field that is not there, too.
        update(self, doc! { "kid": kid, "retired_at": Bson::Null }, doc! { "$set": { "retired_at": date(at) } }).await
    }

    async fn need_key_until(&self, kid: &str, until: UnixSeconds) -> Result<bool, StoreError> {
        update(self, doc! { "kid": kid }, doc! { "$max": { "needed_until": date(until) } }).await
    }

    async fn replace_material(
        &self,
        kid: &str,
        former: &SecretString,
        material: &SecretString,
    ) -> Result<bool, StoreError> {
        let same = doc! { "kid": kid, "material": former.expose_secret() };
        update(self, same, doc! { "$set": { "material": material.expose_secret() } }).await
    }

    async fn remove_key(&self, kid: &str) -> Result<bool, StoreError> {
        let (keys, of_that_name) = (self.keys.clone(), doc! { "kid": kid });
        let removed = self.calls.run(WRITE_LIMIT, async move { keys.delete_one(of_that_name).await }).await?;
        Ok(removed.deleted_count > 0)
    }

    /// The files are the server's, which writes them anew in its own time.
    async fn clear_traces(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Mongo {
    /// Tells each once, and again when it was well in between.
    fn tell_of_unreadable(&self, unreadable: BTreeSet<(String, String)>) {
        let mut told = self.unreadable_keys.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, error) in &unreadable {
            if !told.contains(id) {
                tracing::warn!(key = id, error, "Key in the store cannot be read");
            }
        }
        *told = unreadable.into_iter().map(|(id, _)| id).collect();
    }
}

/// The oldest of these that can be read. An error if none can: another is not to take their place.
fn standing(documents: &[Document]) -> Result<Option<StoredKey>, StoreError> {
    let mut unreadable = None;
    for document in documents {
        match key(document) {
            Ok(key) => return Ok(Some(key)),
            Err(error) => unreadable = unreadable.or(Some(error)),
        }
    }
    unreadable.map_or(Ok(None), Err)
}

/// The documents, oldest first; those of the same second as they follow each other.
async fn load(mongo: &Mongo, filter: Document) -> Result<Vec<Document>, StoreError> {
    let keys = mongo.keys.clone();
    let documents = mongo
        .calls
        .run(READ_LIMIT, async move { keys.find(filter).max_time(READ_LIMIT).await?.try_collect::<Vec<_>>().await });
    let mut documents = documents.await?;
    documents.sort_by_key(|document| (document.get_datetime("created_at").ok().copied(), place(document)));
    Ok(documents)
}

/// The last in the row of keys, and its place.
fn newest(documents: &[Document]) -> Option<(u64, &Document)> {
    documents.iter().map(|document| (place(document), document)).max_by_key(|(place, _)| *place)
}

/// The place in the row of keys; 0 if somebody else wrote the document.
fn place(document: &Document) -> u64 {
    let number = document.get_str("_id").ok().and_then(|id| id.rsplit_once('/'));
    number.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// `false`: the place is taken.
async fn insert(mongo: &Mongo, new: &StoredKey, place: u64) -> Result<bool, StoreError> {
    let mut document = doc! {
        "_id": format!("{}/{place}", new.algorithm),
        "kid": new.kid.as_str(),
        "algorithm": new.algorithm.as_str(),
        "material": new.material.expose_secret(),
        "created_at": date(new.created_at),
        "active_from": date(new.active_from),
    };
    for (name, value) in [("retired_at", new.retired_at), ("needed_until", new.needed_until)] {
        if let Some(value) = value {
            document.insert(name, date(value));
        }
    }
    let keys = mongo.keys.clone();
    match mongo.calls.run(WRITE_LIMIT, async move { keys.insert_one(document).await }).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_duplicate() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn update(mongo: &Mongo, filter: Document, change: Document) -> Result<bool, StoreError> {
    let keys = mongo.keys.clone();
    let done = mongo.calls.run(WRITE_LIMIT, async move { keys.update_one(filter, change).await }).await?;
    Ok(done.matched_count > 0)
}

fn key(document: &Document) -> Result<StoredKey, StoreError> {
    let text = |name: &str| document.get_str(name).ok();
    let date = |name: &str| {
        let moment = document.get_datetime(name).ok()?;
        Some(UnixSeconds((moment.timestamp_millis().max(0) / 1000).cast_unsigned()))
    };
    match (text("kid"), text("algorithm"), text("material"), date("created_at")) {
        (Some(kid), Some(algorithm), Some(material), Some(created_at)) => Ok(StoredKey {
            kid: kid.to_owned(),
            algorithm: algorithm.to_owned(),
            material: SecretString::from(material),
            created_at,
            active_from: date("active_from").unwrap_or(created_at),
            retired_at: date("retired_at"),
            needed_until: date("needed_until"),
        }),
        _ => Err(StoreError::Malformed(MalformedRecord {
            subject: id(document),
            reason: format!("a document of `{}` is not a signing key", super::KEYS_COLLECTION),
        })),
    }
}

fn id(document: &Document) -> String {
    document.get_str("_id").unwrap_or("?").to_owned()
}

fn date(seconds: UnixSeconds) -> DateTime {
    DateTime::from_millis(seconds.0.cast_signed().saturating_mul(1000))
}

fn taken_away() -> StoreError {
    StoreError::Unavailable { reason: "another gateway's key was taken away at once".to_owned() }
}
