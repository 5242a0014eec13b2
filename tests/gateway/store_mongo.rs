//! The MongoDB store on documents that other applications wrote.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::{Client, Collection};
use secrecy::SecretString;
use serde_json::json;
use tokio::time::Instant;
use tollgate::store::{self, Account, Found, Grants, PasswordHash, Store, StoreError, UserMapping};

use crate::store::{default_mapping, mongo, person};
use crate::support::mongod::Mongod;

/// A collection with documents of somebody else, and our store on it.
struct Foreign {
    documents: Collection<Document>,
    store: Arc<dyn Store>,
    _mongod: Arc<Mongod>,
}

async fn foreign(documents: Vec<Document>, users: UserMapping) -> Foreign {
    let mongod = Mongod::shared();
    let uri = mongod.fresh_uri();
    let database = Client::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    let collection = database.collection(&users.collection);
    if !documents.is_empty() {
        collection.insert_many(documents).await.unwrap();
    }
    let store = store::open(&mongo(&uri, users)).await.unwrap();
    Foreign { documents: collection, store, _mongod: mongod }
}

async fn account(store: &Arc<dyn Store>, login: &str) -> Account {
    match store.find_login(login).await.unwrap() {
        Found::One(record) => record.account,
        other @ (Found::Nobody | Found::Several | Found::Malformed(_)) => panic!("`{login}` led to {other:?}"),
    }
}

async fn malformed(store: &Arc<dyn Store>, login: &str) -> String {
    match store.find_login(login).await.unwrap() {
        Found::Malformed(record) => format!("{record}"),
        other @ (Found::Nobody | Found::Several | Found::One(_)) => panic!("`{login}` led to {other:?}"),
    }
}

fn uuid(bytes: [u8; 16]) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: bytes.to_vec() })
}

fn user(id: impl Into<Bson>, login: &str) -> Document {
    doc! { "_id": id.into(), "username": login, "password": "hash" }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_of_any_stable_type_becomes_the_subject() {
    let object_id = ObjectId::parse_str("65a1b2c3d4e5f60718293a4b").unwrap();
    let documents = vec![
        user(object_id, "object"),
        user(uuid([0x11; 16]), "uuid"),
        user("text id", "text"),
        user(-7_i32, "int"),
        user(9_007_199_254_740_993_i64, "long"),
        user(1.5_f64, "double"),
        user(doc! { "a": 1 }, "document"),
    ];
    let foreign = foreign(documents, default_mapping()).await;
    for (login, subject) in [
        ("object", "65a1b2c3d4e5f60718293a4b"),
        ("uuid", "11111111-1111-1111-1111-111111111111"),
        ("text", "text id"),
        ("int", "-7"),
        ("long", "9007199254740993"),
    ] {
        assert_eq!(account(&foreign.store, login).await.subject, subject);
    }
    for login in ["double", "document"] {
        assert!(malformed(&foreign.store, login).await.contains("`_id`"));
    }
    // And by the subject, the same account is found, whatever type it is of.
    for (login, subject) in [
        ("object", "65a1b2c3d4e5f60718293a4b"),
        ("uuid", "11111111-1111-1111-1111-111111111111"),
        ("text", "text id"),
        ("int", "-7"),
        ("long", "9007199254740993"),
    ] {
        match foreign.store.find_subject(subject).await.unwrap() {
            Found::One(record) => {
                assert_eq!((record.account.login.as_str(), record.account.subject.as_str()), (login, subject))
            }
            other @ (Found::Nobody | Found::Several | Found::Malformed(_)) => panic!("`{subject}` led to {other:?}"),
        }
    }
    // Other texts of the same value are other subjects.
    for other in ["65A1B2C3D4E5F60718293A4B", "-07", "+9007199254740993", "1.5", "11111111111111111111111111111111", ""]
    {
        let found = foreign.store.find_subject(other).await.unwrap();
        assert!(matches!(found, Found::Nobody), "`{other}` led to {found:?}");
    }
    let listed = foreign.store.accounts(0, 100).await.unwrap();
    assert_eq!((listed.len(), listed.iter().filter(|record| record.is_err()).count()), (7, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_a_list_or_words_and_anything_else_refuses_that_user_only() {
    let with = |login: &str, roles: Bson| {
        let mut document = user(login, login);
        document.insert("roles", roles);
        document
    };
    let documents = vec![
        with("list", Bson::from(vec!["a", "b"])),
        with("words", Bson::from(" a  b ")),
        with("null", Bson::Null),
        with("number", Bson::from(5)),
        with("mixed", Bson::Array(vec![Bson::from("a"), Bson::from(1)])),
        doc! { "_id": "no hash", "username": "no hash" },
        doc! { "_id": "null hash", "username": "null hash", "password": Bson::Null },
        doc! { "_id": "odd", "username": "odd", "password": "hash", "disabled": "yes" },
    ];
    let foreign = foreign(documents, default_mapping()).await;
    for (login, roles) in [("list", vec!["a", "b"]), ("words", vec!["a", "b"]), ("null", vec![])] {
        assert_eq!(account(&foreign.store, login).await.roles, roles);
    }
    for (login, field) in [
        ("number", "`roles`"),
        ("mixed", "`roles`"),
        ("no hash", "`password`"),
        ("null hash", "`password`"),
        ("odd", "`disabled`"),
    ] {
        let text = malformed(&foreign.store, login).await;
        assert!(text.contains(field) && text.contains(login), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_two_documents_have_is_refused() {
    let twice =
        vec![user(1, "ada"), user(2, "ada"), doc! { "_id": 3, "username": "bob", "email": "x", "password": "h" }];
    let foreign = foreign(twice, default_mapping()).await;
    assert!(matches!(foreign.store.find_login("ada").await.unwrap(), Found::Several));
    let outcome = foreign.store.set_disabled("ada", true).await;
    assert!(matches!(outcome, Err(StoreError::SeveralAccounts { .. })), "{outcome:?}");
    assert_eq!(account(&foreign.store, "x").await.subject, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_fields_another_subject_and_an_extra_condition_are_honored() {
    let mut mapping = default_mapping();
    mapping.collection = "admin".to_owned();
    mapping.filter = json!({ "active": true, "team": { "$in": ["a", "b"] }, "_id": { "$ne": { "$numberLong": "9" } } })
        .as_object()
        .unwrap()
        .clone();
    mapping.fields.login = vec!["contact.email".to_owned()];
    mapping.fields.subject = "contact.id".to_owned();
    mapping.fields.email = Some("contact.email".to_owned());
    mapping.fields.password = "secrets.hash".to_owned();
    let person = |id: i64, email: &str, active: bool, team: &str| {
        let contact = doc! { "email": email, "id": format!("s{id}") };
        doc! { "_id": id, "active": active, "team": team, "contact": contact, "secrets": { "hash": "h", "other": 1 } }
    };
    let documents = vec![
        person(1, "in", true, "a"),
        person(2, "off", false, "a"),
        person(3, "c", true, "c"),
        person(9, "n", true, "a"),
    ];
    let foreign = foreign(documents, mapping).await;
    let found = account(&foreign.store, "in").await;
    assert_eq!((found.subject.as_str(), found.email.as_deref()), ("s1", Some("in")));
    for login in ["off", "c", "n"] {
        assert!(matches!(foreign.store.find_login(login).await.unwrap(), Found::Nobody), "{login}");
    }
    assert_eq!(foreign.store.accounts(0, 10).await.unwrap().len(), 1);
    let refused = foreign.store.add_account(&crate::store::person("new")).await.unwrap_err();
    assert!(matches!(refused, StoreError::BadMapping { key: "filter", .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_user_fulfills_the_extra_condition() {
    let mut mapping = default_mapping();
    mapping.filter = json!({ "active": true, "tenant.name": "lab" }).as_object().unwrap().clone();
    let foreign = foreign(vec![], mapping).await;
    foreign.store.add_account(&person("ada")).await.unwrap();
    assert_eq!(account(&foreign.store, "ada").await.login, "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_leaves_other_fields_alone_and_bumps_the_revision_of_beanie() {
    let before = doc! {
        "_id": 1, "username": "ada", "password": "old", "roles": "reader guest", "scopes": Bson::Null,
        "revision_id": uuid([0x22; 16]), "extra": { "kept": [1, 2.5, "x"] },
    };
    let foreign = foreign(vec![before.clone()], default_mapping()).await;
    let now = async || foreign.documents.find_one(doc! { "_id": 1 }).await.unwrap().unwrap();
    let mut last = before.get("revision_id").cloned();
    let grants = Grants { roles: vec!["admin".to_owned(), "guest".to_owned()], scopes: vec!["read:x".to_owned()] };
    for step in 0..4 {
        match step {
            0 => foreign.store.set_password("ada", &PasswordHash::new("new")).await.unwrap(),
            1 => foreign.store.set_disabled("ada", true).await.unwrap(),
            2 => drop(foreign.store.grant("ada", &grants).await.unwrap()),
            _ => drop(foreign.store.revoke("ada", &grants).await.unwrap()),
        }
        let revision = now().await.get("revision_id").cloned();
        assert_ne!(revision, last, "step {step} did not change the revision");
        assert!(matches!(&revision, Some(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Uuid));
        last = revision;
        if step == 2 {
            assert_eq!(now().await.get_str("roles").unwrap(), "reader guest admin");
        }
    }
    let mut after = now().await;
    after.remove("revision_id");
    let scopes: Vec<Bson> = vec![];
    let expected = doc! {
        "_id": 1, "username": "ada", "password": "new", "roles": "reader", "scopes": scopes,
        "extra": { "kept": [1, 2.5, "x"] }, "disabled": true,
    };
    assert_eq!(after, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_a_revision_gets_none() {
    let foreign = foreign(vec![user(1, "ada")], default_mapping()).await;
    foreign.store.set_password("ada", &PasswordHash::new("new")).await.unwrap();
    let after = foreign.documents.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(after, doc! { "_id": 1, "username": "ada", "password": "new" });
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_collection_of_our_own_gets_indexes() {
    let theirs = foreign(vec![user(1, "ada")], default_mapping()).await;
    theirs.store.add_account(&person("bob")).await.unwrap();
    assert_eq!(theirs.documents.list_index_names().await.unwrap(), ["_id_"]);
    let ours = foreign(vec![], default_mapping()).await;
    ours.store.add_account(&person("bob")).await.unwrap();
    assert_eq!(ours.documents.list_index_names().await.unwrap(), ["_id_", "username_1", "email_1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_or_silent_is_an_error_within_the_limit_and_names_no_credentials() {
    // Accepts connections, as the backlog does, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let uri = format!("mongodb://gate:hunter2@{address}/people");
        let store = store::open(&mongo(&uri, default_mapping())).await.unwrap();
        let start = Instant::now();
        let error = store.find_login("ada").await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        let shown = format!("{error} {error:?} {store:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("gate:"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_refused_when_opened() {
    for (uri, needle) in [
        ("mongodb://gate:hunter2@127.0.0.1:27017", "must name a database"),
        ("mongodb://gate:hunter2@127.0.0.1:27017/?tls=false", "must name a database"),
        ("MongoDB+srv://gate:hunter2@cluster.example.org/people", "mongodb+srv"),
        ("mongodb://gate:hunter2@@127.0.0.1/people", "not a MongoDB URI"),
        ("mongodb://gate:hunter2@127.0.0.1/people?maxPoolSize=hunter2", "not a MongoDB URI"),
        ("https://gate:hunter2@127.0.0.1/people", "not a MongoDB URI"),
    ] {
        let error = store::open(&mongo(uri, default_mapping())).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(needle) && !shown.contains("hunter2"), "{shown}");
    }
    let with = |change: &dyn Fn(&mut UserMapping)| {
        let mut users = default_mapping();
        change(&mut users);
        mongo("mongodb://127.0.0.1/people", users)
    };
    for (settings, expected) in [
        (with(&|users| users.filter = json!({ "_id": { "$oid": "zz" } }).as_object().unwrap().clone()), "filter"),
        (with(&|users| users.fields.login = vec![]), "fields"),
        (with(&|users| users.fields.password = "$where".to_owned()), "fields"),
        (with(&|users| users.fields.roles = Some("a..b".to_owned())), "fields"),
        (with(&|users| users.collection = String::new()), "collection"),
    ] {
        let error = store::open(&settings).await.unwrap_err();
        assert!(matches!(error, StoreError::BadMapping { key, .. } if key == expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_not_mapped_cannot_be_changed() {
    let mut mapping = default_mapping();
    mapping.fields.disabled = None;
    mapping.fields.roles = None;
    let foreign = foreign(vec![user(1, "ada")], mapping).await;
    let disable = foreign.store.set_disabled("ada", true).await;
    assert!(matches!(disable, Err(StoreError::NotMapped { field: "disabled" })), "{disable:?}");
    let grants = Grants { roles: vec!["r".to_owned()], scopes: vec![] };
    let grant = foreign.store.grant("ada", &grants).await;
    assert!(matches!(grant, Err(StoreError::NotMapped { field: "roles" })), "{grant:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_do_not_show_the_uri() {
    let uri = SecretString::from("mongodb://gate:hunter2@127.0.0.1/people");
    let shown = format!("{:?}", store::StoreLocation::Mongo { uri });
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_two_documents_have_or_a_number_is_only_equal_to_is_nobodys() {
    let documents = vec![user("7", "text"), user(7_i32, "int"), user(8.0_f64, "double"), user(vec!["9"], "list")];
    let mut mapping = default_mapping();
    mapping.fields.subject = "number".to_owned();
    let documents = documents.into_iter().enumerate().map(|(index, mut document)| {
        let number = document.remove("_id").unwrap();
        document.insert("_id", i32::try_from(index).unwrap());
        document.insert("number", number);
        document
    });
    let foreign = foreign(documents.collect(), mapping).await;
    assert!(matches!(foreign.store.find_subject("7").await.unwrap(), Found::Several));
    for other in ["8", "9"] {
        let found = foreign.store.find_subject(other).await.unwrap();
        assert!(matches!(found, Found::Malformed(_)), "`{other}` led to {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_counts_only_where_the_extra_condition_holds() {
    let mut mapping = default_mapping();
    mapping.filter = json!({ "active": true }).as_object().unwrap().clone();
    let mut active = user("1", "ada");
    active.insert("active", true);
    let foreign = foreign(vec![active, user("2", "bob")], mapping).await;
    assert!(matches!(foreign.store.find_subject("1").await.unwrap(), Found::One(_)));
    assert!(matches!(foreign.store.find_subject("2").await.unwrap(), Found::Nobody));
}
