//! Signing keys in our own collection.

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};
use secrecy::{ExposeSecret, SecretString};

use super::Mongo;
use super::call::{READ_LIMIT, WRITE_LIMIT};
use crate::store::{MalformedRecord, StoreError, StoredKey};
use crate::time::UnixSeconds;

pub(super) async fn all(mongo: &Mongo) -> Result<Vec<StoredKey>, StoreError> {
    load(mongo, doc! {}).await
}

/// `_id` names the algorithm and the place in its row of keys, so that the unique index that every collection has makes
/// one of several first keys win.
pub(super) async fn add_if_absent(mongo: &Mongo, new: &StoredKey) -> Result<StoredKey, StoreError> {
    let same_algorithm = doc! { "algorithm": new.algorithm.as_str() };
    if let Some(standing) = load(mongo, same_algorithm.clone()).await?.into_iter().next() {
        return Ok(standing);
    }
    let document = doc! {
        "_id": format!("{}/1", new.algorithm),
        "kid": new.kid.as_str(),
        "algorithm": new.algorithm.as_str(),
        "material": new.material.expose_secret(),
        "created_at": DateTime::from_millis(new.created_at.0.cast_signed().saturating_mul(1000)),
    };
    let keys = mongo.keys.clone();
    match mongo.calls.run(WRITE_LIMIT, async move { keys.insert_one(document).await }).await {
        Ok(_) => Ok(new.clone()),
        Err(error) if error.is_duplicate() => load(mongo, same_algorithm).await?.into_iter().next().ok_or_else(|| {
            StoreError::Unavailable { reason: "another gateway's key was taken away at once".to_owned() }
        }),
        Err(error) => Err(error.into()),
    }
}

async fn load(mongo: &Mongo, filter: Document) -> Result<Vec<StoredKey>, StoreError> {
    let keys = mongo.keys.clone();
    let documents: Vec<Document> = mongo
        .calls
        .run(READ_LIMIT, async move {
            keys.find(filter).sort(doc! { "created_at": 1, "_id": 1 }).max_time(READ_LIMIT).await?.try_collect().await
        })
        .await?;
    documents.iter().map(key).collect()
}

fn key(document: &Document) -> Result<StoredKey, StoreError> {
    let text = |name: &str| document.get_str(name).ok();
    let seconds = document.get_datetime("created_at").ok().map(|moment| moment.timestamp_millis().max(0) / 1000);
    match (text("kid"), text("algorithm"), text("material"), seconds) {
        (Some(kid), Some(algorithm), Some(material), Some(seconds)) => Ok(StoredKey {
            kid: kid.to_owned(),
            algorithm: algorithm.to_owned(),
            material: SecretString::from(material),
            created_at: UnixSeconds(seconds.cast_unsigned()),
        }),
        _ => Err(StoreError::Malformed(MalformedRecord {
            subject: document.get_str("_id").unwrap_or("?").to_owned(),
            reason: format!("a document of `{}` is not a signing key", super::KEYS_COLLECTION),
        })),
    }
}
