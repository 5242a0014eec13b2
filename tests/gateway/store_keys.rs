//! The keys in both stores: one successor however many make it, dates that stay, forms that are replaced once.

use std::collections::BTreeSet;

use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Client, Collection};
use secrecy::{ExposeSecret, SecretString};
use tollgate::store::{StoreError, StoreLocation, StoredKey};
use tollgate::time::UnixSeconds;

use crate::store::{default_mapping, mongo, on_both, open};
use crate::support::mongod::Mongod;

fn key(kid: &str, created_at: u64) -> StoredKey {
    StoredKey::new(kid.to_owned(), "ES256", SecretString::from(format!("private {kid}")), UnixSeconds(created_at))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_one_successor_however_many_gateways_make_it() {
    on_both(async |settings| {
        let store = open(&settings).await;
        store.add_key_if_absent(&key("first", 100)).await.unwrap();
        let mut tasks = Vec::new();
        for number in 0..8_u64 {
            let settings = settings.clone();
            let successor =
                StoredKey { active_from: UnixSeconds(900 + number), ..key(&format!("second-{number}"), 200) };
            tasks.push(tokio::spawn(async move {
                open(&settings).await.add_successor("first", &successor).await.unwrap().unwrap()
            }));
        }
        let mut standing = BTreeSet::new();
        for task in tasks {
            let key = task.await.unwrap();
            standing.insert((key.kid, key.active_from.0));
        }
        assert_eq!(standing.len(), 1, "{standing:?}");
        let (kid, active_from) = standing.pop_first().unwrap();
        let all = store.keys().await.unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(
            (&all[1].kid, all[1].active_from, all[1].created_at),
            (&kid, UnixSeconds(active_from), UnixSeconds(200))
        );

        // Ten in a row: the order is that of the numbers, not of their texts.
        let mut predecessor = kid;
        for number in 3..13 {
            let next = key(&format!("next-{number}"), 200);
            predecessor = store.add_successor(&predecessor, &next).await.unwrap().unwrap().kid;
            assert_eq!(predecessor, next.kid);
        }
        assert_eq!(store.keys().await.unwrap().last().unwrap().kid, "next-12");
        assert!(
            store
                .add_successor("first", &StoredKey { algorithm: "EdDSA".into(), ..key("x", 1) })
                .await
                .unwrap()
                .is_none()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_and_forms_of_a_key_change_as_they_are_meant_to() {
    on_both(async |settings| {
        let store = open(&settings).await;
        let future = StoredKey { active_from: UnixSeconds(5000), ..key("k", 100) };
        store.add_key_if_absent(&future).await.unwrap();
        let now = async || store.keys().await.unwrap().pop().unwrap();

        assert!(!store.bring_forward_key("k", UnixSeconds(6000)).await.unwrap(), "that would put it off");
        assert!(store.bring_forward_key("k", UnixSeconds(4000)).await.unwrap());
        assert_eq!(now().await.active_from, UnixSeconds(4000));
        assert!(store.retire_key("k", UnixSeconds(7000)).await.unwrap());
        assert!(!store.retire_key("k", UnixSeconds(8000)).await.unwrap());
        assert_eq!(now().await.retired_at, Some(UnixSeconds(7000)));
        for (until, kept) in [(9000, 9000), (8000, 9000), (9500, 9500)] {
            assert!(store.need_key_until("k", UnixSeconds(until)).await.unwrap());
            assert_eq!(now().await.needed_until, Some(UnixSeconds(kept)));
        }

        let (plain, sealed) = (SecretString::from("private k"), SecretString::from("sealed k"));
        assert!(store.replace_material("k", &plain, &sealed).await.unwrap());
        assert!(!store.replace_material("k", &plain, &SecretString::from("other")).await.unwrap());
        assert_eq!(now().await.material.expose_secret(), "sealed k");

        assert!(store.remove_key("k").await.unwrap() && !store.remove_key("k").await.unwrap());
        for gone in [
            store.bring_forward_key("k", UnixSeconds(1)).await,
            store.retire_key("k", UnixSeconds(1)).await,
            store.need_key_until("k", UnixSeconds(1)).await,
            store.replace_material("k", &sealed, &plain).await,
        ] {
            assert!(!gone.unwrap());
        }
        store.clear_traces().await.unwrap();
        assert!(store.keys().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_version_without_dates_signs_since_it_was_made() {
    on_both(async |settings| {
        let store = open(&settings).await;
        match &settings.location {
            StoreLocation::Sqlite { path } => {
                let connection = rusqlite::Connection::open(path).unwrap();
                let insert = "INSERT INTO keys (kid, algorithm, material, created_at) VALUES ('old', 'ES256', 'm', 77)";
                connection.execute(insert, []).unwrap();
            }
            StoreLocation::Mongo { uri } => {
                let client = Client::with_uri_str(uri.expose_secret()).await.unwrap();
                let document = doc! {
                    "_id": "ES256/1", "kid": "old", "algorithm": "ES256", "material": "m",
                    "created_at": DateTime::from_millis(77_000),
                };
                client.default_database().unwrap().collection("tollgate_keys").insert_one(document).await.unwrap();
            }
        }
        let old = store.keys().await.unwrap().pop().unwrap();
        assert_eq!((old.active_from, old.retired_at, old.needed_until), (UnixSeconds(77), None, None));
        assert!(store.retire_key("old", UnixSeconds(99)).await.unwrap());
        let next = StoredKey { active_from: UnixSeconds(90), ..key("next", 80) };
        assert_eq!(store.add_successor("old", &next).await.unwrap().unwrap().kid, "next");
    })
    .await;
}

/// One document that somebody spoilt is no reason to use a key that was retired meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_read_hides_no_other_and_nobody_takes_its_place() {
    let mongod = Mongod::shared();
    let uri = mongod.fresh_uri();
    let store = open(&mongo(&uri, default_mapping())).await;
    let documents: Collection<Document> =
        Client::with_uri_str(&uri).await.unwrap().default_database().unwrap().collection("tollgate_keys");
    store.add_key_if_absent(&key("first", 100)).await.unwrap();
    store.add_successor("first", &key("second", 200)).await.unwrap();
    documents.update_one(doc! { "kid": "first" }, doc! { "$unset": { "material": "" } }).await.unwrap();
    let names = async || store.keys().await.unwrap().into_iter().map(|key| key.kid).collect::<Vec<_>>();
    assert_eq!(names().await, ["second"]);
    assert_eq!(store.add_key_if_absent(&key("third", 300)).await.unwrap().kid, "second");
    assert!(store.retire_key("second", UnixSeconds(400)).await.unwrap());

    documents.update_one(doc! { "kid": "second" }, doc! { "$set": { "created_at": "yesterday" } }).await.unwrap();
    assert!(names().await.is_empty());
    let error = store.add_key_if_absent(&key("third", 300)).await.unwrap_err();
    assert!(matches!(error, StoreError::Malformed(_)), "{error}");
    assert_eq!(documents.count_documents(doc! {}).await.unwrap(), 2);
}
