//! The ends of sessions in both stores: made twice and told once, page by page, and past rows that cannot be read. And what a
//! database does to them that is sick and not dead.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::{Client, Collection, Database};
use secrecy::ExposeSecret;
use tollgate::metrics::{Labels, Metrics};
use tollgate::revocation::{FeedChoice, RevocationSettings, Revocations};
use tollgate::session::{EndReason, SessionId, Sessions};
use tollgate::store::{self, Account, EndMark, EndPlace, Ending, MAX_SESSION_PAGE, Store, StoreError, StoreLocation};
use tollgate::time::UnixSeconds;

use crate::sessions::{self, NOW, service_with as service};
use crate::store::{default_mapping, mongo, on_both, person};
use crate::support::mongod::{Kind, Mongod};

const LATER: UnixSeconds = UnixSeconds(NOW.0 + 100_000);

async fn begin(sessions: &Sessions, account: &Account) -> SessionId {
    sessions::begin(sessions, account).await.session
}

/// What this gateway refuses.
fn revocations(sessions: &Sessions) -> Arc<Revocations> {
    let settings = RevocationSettings {
        feed: FeedChoice::Auto,
        poll_interval: Duration::from_millis(500),
        max_feed_age: Duration::from_secs(30),
        max_entries: 100_000,
        access_ttl: Duration::from_secs(300),
        leeway: Duration::from_secs(30),
        store_patience: Duration::from_secs(10),
    };
    let labels =
        Labels { routes: Vec::new(), upstreams: Vec::new(), refusals: &[], key_sources: Vec::new(), audit_events: &[] };
    let revocations = Arc::new(Revocations::new(&settings, Arc::new(Metrics::new(labels, 1))));
    sessions.set_revocations(Arc::clone(&revocations));
    revocations
}

fn ending(mark: EndMark, reason: EndReason) -> Ending {
    Ending { mark, at: NOW, reason, purge_at: LATER }
}

/// A server of the test's own, whose commands it may disturb.
struct Sick {
    server: Mongod,
    store: Arc<dyn Store>,
    database: Database,
}

impl Sick {
    async fn start() -> Self {
        let server = tokio::task::spawn_blocking(|| Mongod::start(Kind::Standalone)).await.unwrap();
        let uri = server.fresh_uri();
        let store = store::open(&mongo(&uri, default_mapping())).await.unwrap();
        let database = Client::with_uri_str(&uri).await.unwrap().default_database().unwrap();
        Self { server, store, database }
    }

    fn sessions(&self) -> Collection<Document> {
        self.database.collection("tollgate_sessions")
    }

    /// Does this to the commands of that name, so many times or always.
    async fn disturb(&self, command: &str, mode: impl Into<Bson>, how: Document) {
        let mut data = doc! { "failCommands": [command] };
        data.extend(how);
        let point = doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        // By a client of its own, so that the test's other one is disturbed like anybody.
        let admin = Client::with_uri_str(format!("mongodb://{}", self.server.host())).await.unwrap().database("admin");
        admin.run_command(point).await.unwrap();
    }
}

fn times(count: i32) -> Document {
    doc! { "times": count }
}

/// The next call was made, and nobody says so.
fn unconfirmed() -> Document {
    doc! { "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting timed out" } }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_made_twice_is_one_end_and_that_of_another_is_none() {
    on_both(async |settings| {
        let store = store::open(&settings).await.unwrap();
        let sessions = service(&store, Duration::ZERO);
        let account = store.add_account(&person("ada")).await.unwrap();
        let (one, many) = (begin(&sessions, &account).await, [begin(&sessions, &account).await; 1]);
        let [ours, others] = [0; 2].map(|_| EndMark::random().unwrap());
        let stranger = Some("somebody else");
        assert!(!store.end_session(one, stranger, &ending(ours, EndReason::Logout)).await.unwrap());
        for _ in 0..2 {
            assert!(store.end_session(one, None, &ending(ours, EndReason::Logout)).await.unwrap());
            assert_eq!(store.end_sessions(&many, &ending(ours, EndReason::Logout)).await.unwrap(), 1);
        }
        assert!(!store.end_session(one, stranger, &ending(ours, EndReason::Logout)).await.unwrap());
        // In the same second and for the same reason.
        assert!(!store.end_session(one, None, &ending(others, EndReason::Logout)).await.unwrap());
        assert_eq!(store.end_sessions(&many, &ending(others, EndReason::Logout)).await.unwrap(), 0);
        // An earlier try that comes after a later one, and an end of somebody else.
        let earlier = Ending { at: UnixSeconds(NOW.0 - 5), ..ending(ours, EndReason::Logout) };
        assert!(store.end_session(one, None, &earlier).await.unwrap());
        store.end_session(one, None, &ending(others, EndReason::Revoked)).await.unwrap();
        let ended = store.find_session(one).await.unwrap().unwrap().ended.unwrap();
        assert_eq!((ended.at, ended.reason), (NOW, EndReason::Logout));
    })
    .await;
}

/// A majority that was too slow: the write is there, and its first try failed.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_made_and_not_confirmed_is_told_as_made_and_known_at_once() {
    let sick = Sick::start().await;
    let sessions = service(&sick.store, Duration::from_secs(20));
    let revocations = revocations(&sessions);
    let account = sick.store.add_account(&person("ada")).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(begin(&sessions, &account).await);
    }
    sick.disturb("update", times(1), unconfirmed()).await;
    assert!(sessions.end(ids[0], Some(&account.subject), EndReason::Revoked, NOW).await.unwrap());
    assert!(revocations.check(&ids[0].0, NOW).is_err() && revocations.check(&ids[1].0, NOW).is_ok());
    assert!(!sessions.end(ids[0], Some(&account.subject), EndReason::Revoked, NOW).await.unwrap());

    sick.disturb("update", times(1), unconfirmed()).await;
    let others = sessions.end_others(&account.subject, ids[1], EndReason::LogoutOthers, NOW);
    assert_eq!(others.await.unwrap(), 2);
    assert!(ids[2..].iter().all(|id| revocations.check(&id.0, NOW).is_err()));
    assert!(revocations.check(&ids[1].0, NOW).is_ok());

    sick.disturb("update", times(1), unconfirmed()).await;
    assert_eq!(sessions.end_all(None, EndReason::Revoked, NOW).await.unwrap(), 1);
    assert!(revocations.check(&ids[1].0, NOW).is_err());
}

/// What is ended late must not be dated by when it was asked for: the set of every gateway forgets it so much too early.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_waits_for_the_store_has_the_time_at_which_it_is_made() {
    let sick = Sick::start().await;
    let sessions = service(&sick.store, Duration::from_secs(60));
    let account = sick.store.add_account(&person("ada")).await.unwrap();
    let id = begin(&sessions, &account).await;
    // Longer than a try is waited for, so that the first one is made after the second.
    sick.disturb("update", times(1), doc! { "blockConnection": true, "blockTimeMS": 5000 }).await;
    assert!(sessions.end(id, None, EndReason::Logout, NOW).await.unwrap());
    let ended = sick.store.find_session(id).await.unwrap().unwrap().ended.unwrap();
    assert!(ended.at.0 >= NOW.0 + 3 && ended.reason == EndReason::Logout, "{ended:?}");
    // And is not set back when that is made after all.
    let under_way = doc! { "currentOp": 1, "command.update": "tollgate_sessions" };
    let admin = Client::with_uri_str(format!("mongodb://{}", sick.server.host())).await.unwrap().database("admin");
    while !admin.run_command(under_way.clone()).await.unwrap().get_array("inprog").unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let again = sick.store.find_session(id).await.unwrap().unwrap().ended.unwrap();
    assert!(again.at >= ended.at, "{again:?}");
}

/// Rows without number: each of them is a copy of `model` with an id and a subject of its own.
async fn fill(store: &Arc<dyn Store>, location: &StoreLocation, model: SessionId, count: u32) {
    let id = |number: u32| {
        let mut id = [0x55; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        SessionId(id)
    };
    assert!(store.find_session(model).await.unwrap().is_some());
    match location {
        StoreLocation::Sqlite { path } => {
            let mut connection = rusqlite::Connection::open(path).unwrap();
            let transaction = connection.transaction().unwrap();
            for number in 0..count {
                let copy = "INSERT INTO sessions SELECT ?2, subject, login, client_id, scope, created_at, used_at, counter, \
                            rotated_at, expires_at, ends_at, purge_at, address, user_agent, NULL, NULL, NULL \
                            FROM sessions WHERE id = ?1";
                transaction.execute(copy, rusqlite::params![model.0, id(number).0]).unwrap();
            }
            transaction.commit().unwrap();
        }
        StoreLocation::Mongo { uri } => {
            let database = Client::with_uri_str(uri.expose_secret()).await.unwrap().default_database().unwrap();
            let rows = database.collection::<Document>("tollgate_sessions");
            let row = rows.find_one(doc! { "_id": model.to_string() }).await.unwrap().unwrap();
            let copies = (0..count).map(|number| {
                let mut copy = row.clone();
                copy.insert("_id", id(number).to_string());
                copy
            });
            rows.insert_many(copies).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_a_page_are_ended_in_steps_but_the_one_to_keep() {
    on_both(async |settings| {
        let store = store::open(&settings).await.unwrap();
        let sessions = service(&store, Duration::ZERO);
        let revocations = revocations(&sessions);
        let account = store.add_account(&person("ada")).await.unwrap();
        let other = store.add_account(&person("bob")).await.unwrap();
        let (kept, bobs) = (begin(&sessions, &account).await, begin(&sessions, &other).await);
        let count = u32::try_from(2 * MAX_SESSION_PAGE).unwrap() + 7;
        fill(&store, &settings.location, kept, count).await;

        let page = store.unended_sessions(Some(&account.subject), None, usize::MAX).await.unwrap();
        assert_eq!(page.len(), MAX_SESSION_PAGE);
        assert!(store.unended_sessions(None, None, 0).await.unwrap().is_empty());
        let ended = sessions.end_others(&account.subject, kept, EndReason::LogoutOthers, NOW).await.unwrap();
        assert_eq!(ended, u64::from(count));
        let alive = sessions.list(Some(&account.subject), None, NOW).await.unwrap();
        assert_eq!(alive.iter().map(|row| row.id).collect::<Vec<_>>(), [kept]);
        assert!(page.iter().all(|id| revocations.check(&id.0, NOW).is_err() != (*id == kept)));

        assert_eq!(sessions.end_all(None, EndReason::Revoked, NOW).await.unwrap(), 2);
        assert!([kept, bobs].iter().all(|id| revocations.check(&id.0, NOW).is_err()));
        assert_eq!(sessions.end_all(None, EndReason::Revoked, NOW).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_read_hide_no_end_and_no_session_behind_them() {
    let sick = Sick::start().await;
    let sessions = service(&sick.store, Duration::ZERO);
    let account = sick.store.add_account(&person("ada")).await.unwrap();
    let (ended, alive) = (begin(&sessions, &account).await, begin(&sessions, &account).await);
    assert!(sessions.end(ended, None, EndReason::Logout, NOW.plus(Duration::from_secs(1))).await.unwrap());
    let date = DateTime::from_millis(i64::try_from(NOW.0 * 1000).unwrap());
    let mut strange: Vec<Document> =
        (0..25).map(|number| doc! { "_id": format!("!{number}"), "ended_at": date }).collect();
    strange.extend((0..25).map(|number| doc! { "_id": number, "ended_at": date }));
    strange.extend((0..25).map(|_| doc! { "ended_at": date }));
    // Of this person, not ended, and no sessions; their ids come before all others.
    strange.extend((0..25).map(|number| {
        doc! { "_id": format!("!!{number}"), "subject": &account.subject, "ended_at": Bson::Null,
        "expires_at": DateTime::from_millis(i64::MAX), "ends_at": DateTime::from_millis(i64::MAX) }
    }));
    sick.sessions().insert_many(strange).await.unwrap();

    let (mut place, mut seen, mut pages) = (Some(EndPlace { at: NOW.into(), after: None }), Vec::new(), 0);
    while let Some(from) = place {
        let page = sick.store.session_ends(from, 10).await.unwrap();
        seen.extend(page.ends.iter().map(|end| end.id));
        (place, pages) = (page.next, pages + 1);
        assert!(pages < 10, "it must come to an end");
    }
    assert_eq!(seen, [ended]);
    for limit in [1, 10, 1000] {
        let listed = sick.store.live_sessions(Some(&account.subject), None, limit, NOW).await.unwrap();
        assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), [alive], "{limit}");
        assert_eq!(sick.store.unended_sessions(None, None, limit).await.unwrap(), [alive], "{limit}");
    }
    assert_eq!(sessions.end_all(Some(&account.subject), EndReason::LogoutGlobal, NOW).await.unwrap(), 1);
}

async fn indexes(rows: &Collection<Document>) -> usize {
    rows.list_indexes().await.unwrap().try_collect::<Vec<_>>().await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_indexes_that_cannot_be_made() {
    let sick = Sick::start().await;
    let sessions = service(&sick.store, Duration::ZERO);
    let account = sick.store.add_account(&person("ada")).await.unwrap();
    // As a server does that waits for a lock; much longer than a login takes.
    sick.disturb("createIndexes", "alwaysOn", doc! { "blockConnection": true, "blockTimeMS": 60_000 }).await;
    for _ in 0..5 {
        begin(&sessions, &account).await;
    }
    assert_eq!(indexes(&sick.sessions()).await, 1, "they began without");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_were_refused_are_tried_again_without_a_login() {
    let sick = Sick::start().await;
    let sessions = service(&sick.store, Duration::ZERO);
    let account = sick.store.add_account(&person("ada")).await.unwrap();
    sick.disturb("createIndexes", times(2), doc! { "errorCode": 13 }).await;
    begin(&sessions, &account).await;
    while indexes(&sick.sessions()).await < 4 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Codes that a server answers with while something passes: each is waited out like a lost connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_in_passing_is_an_outage() {
    let sick = Sick::start().await;
    let id = SessionId([7; 16]);
    for code in [6, 7, 89, 9001, 262, 134, 133, 50, 10107, 91] {
        sick.disturb("find", "alwaysOn", doc! { "errorCode": code }).await;
        let error = sick.store.find_session(id).await.unwrap_err();
        assert!(error.is_outage(), "{code}: {error}");
    }
    sick.disturb("find", "alwaysOn", doc! { "errorCode": 13 }).await;
    let error = sick.store.find_session(id).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");

    // Thrice, since the driver tries once more by itself.
    sick.disturb("find", times(3), doc! { "errorCode": 262 }).await;
    let patient = service(&sick.store, Duration::from_secs(20));
    assert!(patient.list(None, None, NOW).await.unwrap().is_empty());
}
