//! Sessions in both stores: many refreshes at once, what the database is asked and what it holds, and its indexes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::{Client, Database, IndexModel};
use tokio::time::Instant;
use tollgate::session::{
    Begin, EndReason, GrantKind, Granted, InvalidRefresh, RefreshClaim, RefreshError, RefreshKeys, SeenFrom, SessionId,
    SessionSettings, Sessions,
};
use tollgate::store::{
    self, Account, EndMark, EndPlace, Ending, NewSession, Patience, Store, StoreLocation, StoreSettings,
};
use tollgate::time::{Arrival, UnixSeconds};

use crate::store::{default_mapping, mongo, on_both, person};
use crate::support::mongod::Mongod;

pub(crate) const KEY: [u8; 32] = [9; 32];
/// Far from now, so that the server deletes nothing by its own clock.
pub(crate) const NOW: UnixSeconds = UnixSeconds(4_000_000_000);

/// What comes at `now`, and does not have to wait.
pub(crate) fn at(now: UnixSeconds) -> Arrival {
    Arrival::new(now.into(), Instant::now() + Duration::from_secs(86_400))
}

fn service(store: &Arc<dyn Store>) -> Sessions {
    service_with(store, Duration::ZERO)
}

pub(crate) fn service_with(store: &Arc<dyn Store>, patience: Duration) -> Sessions {
    let settings = SessionSettings {
        refresh_ttl: Duration::from_secs(3600),
        session_ttl: Duration::from_secs(86_400),
        refresh_grace: Duration::from_secs(10),
        access_life: Duration::from_secs(330),
    };
    let sessions = Sessions::new(Arc::clone(store), settings, Patience::new(patience));
    sessions.set_keys(RefreshKeys::new(&KEY, &[]));
    sessions
}

pub(crate) async fn begin(sessions: &Sessions, account: &Account) -> Granted {
    let session = SessionId::random().unwrap();
    let begin = Begin { session, account, client_id: "notebook", scope: "read:x", seen: SeenFrom::default() };
    sessions.begin(begin, at(NOW)).await.unwrap()
}

pub(crate) async fn refresh(sessions: &Sessions, token: &str, now: UnixSeconds) -> Result<Granted, RefreshError> {
    refresh_by(sessions, token, at(now)).await
}

pub(crate) async fn refresh_by(sessions: &Sessions, token: &str, arrival: Arrival) -> Result<Granted, RefreshError> {
    let candidate = sessions.look_up(token, None, arrival).await?;
    sessions.rotate(candidate, SeenFrom::default()).await
}

/// A database of our own on the shared server, with a client that looks into it.
pub(crate) async fn database() -> (Arc<Mongod>, StoreSettings, Database) {
    let mongod = Mongod::shared();
    let uri = mongod.fresh_uri();
    let database = Client::with_uri_str(&uri).await.unwrap().default_database().unwrap();
    (mongod, mongo(&uri, default_mapping()), database)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_refreshes_at_once_by_three_gateways_one_rotates_and_all_get_its_successor() {
    on_both(async |settings| {
        let mut gateways = Vec::new();
        for _ in 0..3 {
            let store = store::open(&settings).await.unwrap();
            gateways.push((Arc::new(service(&store)), store));
        }
        let account = gateways[0].1.add_account(&person("ada")).await.unwrap();
        let first = begin(&gateways[0].0, &account).await;
        let mut token = first.token.expose().to_owned();
        for round in 1..=3 {
            let at_once = (0..64).map(|number| {
                let (sessions, token) = (Arc::clone(&gateways[number % 3].0), token.clone());
                tokio::spawn(async move { refresh(&sessions, &token, NOW).await.unwrap() })
            });
            let granted: Vec<Granted> = join_all(at_once).await.into_iter().map(Result::unwrap).collect();
            let rotated = granted.iter().filter(|granted| granted.kind == GrantKind::Successor).count();
            let tokens: BTreeSet<&str> = granted.iter().map(|granted| granted.token.expose()).collect();
            assert_eq!((rotated, tokens.len()), (1, 1), "{:?}", gateways[0].1);
            token = tokens.into_iter().next().unwrap().to_owned();
            let row = gateways[1].1.find_session(first.session).await.unwrap().unwrap();
            assert_eq!((row.counter, row.ended), (round, None));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_replays_at_once_one_ends_the_session() {
    on_both(async |settings| {
        let store = store::open(&settings).await.unwrap();
        let sessions = Arc::new(service(&store));
        let account = store.add_account(&person("ada")).await.unwrap();
        let first = begin(&sessions, &account).await;
        let later = NOW.plus(Duration::from_secs(11));
        refresh(&sessions, first.token.expose(), NOW).await.unwrap();
        let at_once = (0..16).map(|_| {
            let (sessions, token) = (Arc::clone(&sessions), first.token.clone());
            tokio::spawn(async move { refresh(&sessions, token.expose(), later).await.unwrap_err() })
        });
        let errors: Vec<RefreshError> = join_all(at_once).await.into_iter().map(Result::unwrap).collect();
        let endings = errors.iter().filter(|error| matches!(error, RefreshError::Reused { ended: true, .. })).count();
        assert_eq!(endings, 1, "{errors:?}");
        let row = store.find_session(first.session).await.unwrap().unwrap();
        assert_eq!(row.ended.map(|ended| ended.reason), Some(EndReason::Replay));
    })
    .await;
}

/// A write whose answer is lost is made again: nothing may come of that.
#[tokio::test(flavor = "multi_thread")]
async fn each_write_can_be_made_twice() {
    on_both(async |settings| {
        let store = store::open(&settings).await.unwrap();
        let sessions = service(&store);
        let account = store.add_account(&person("ada")).await.unwrap();
        let first = begin(&sessions, &account).await;
        let row = store.find_session(first.session).await.unwrap().unwrap();
        let again = NewSession {
            id: row.id,
            subject: row.subject.clone(),
            login: row.login.clone(),
            client_id: row.client_id.clone(),
            scope: row.scope.clone(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            ends_at: row.ends_at,
            purge_at: row.ends_at,
            seen: row.seen.clone(),
        };
        // The first try of a rotation was made, and the service, which does not know, makes another.
        let candidate = sessions.look_up(first.token.expose(), None, at(NOW)).await.unwrap();
        let second = refresh(&sessions, first.token.expose(), NOW).await.unwrap();
        let repeated = sessions.rotate(candidate, SeenFrom::default()).await.unwrap();
        assert_eq!((repeated.kind, repeated.token.expose()), (GrantKind::SameSuccessor, second.token.expose()));
        store.add_session(&again).await.unwrap();
        assert_eq!(store.find_session(first.session).await.unwrap().unwrap().counter, 1);
        // What an end is when its answer is lost: see `session_ends.rs`. Another call is another end, also for the same reason.
        assert!(sessions.end(first.session, None, EndReason::Logout, NOW).await.unwrap());
        assert!(!sessions.end(first.session, None, EndReason::Logout, NOW).await.unwrap());
        assert!(!sessions.end(first.session, None, EndReason::Revoked, NOW).await.unwrap());
        store.add_session(&again).await.unwrap();
        let ended = store.find_session(first.session).await.unwrap().unwrap().ended.unwrap();
        assert_eq!(ended.reason, EndReason::Logout);
    })
    .await;
}

/// S4: a change that was made although its client was told that the store does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_grace_of_a_change_that_nobody_confirmed_begins_again() {
    on_both(async |settings| {
        let store = store::open(&settings).await.unwrap();
        let sessions = service(&store);
        let account = store.add_account(&person("ada")).await.unwrap();
        let [first, other, over] = [0; 3].map(|_| begin(&sessions, &account));
        let (first, other, over) = (first.await, other.await, over.await);
        let second = refresh(&sessions, first.token.expose(), NOW).await.unwrap();
        refresh(&sessions, other.token.expose(), NOW).await.unwrap();
        sessions.end(over.session, None, EndReason::Logout, NOW).await.unwrap();
        let later = NOW.plus(Duration::from_secs(3000));
        let rotated_at = async |id| store.find_session(id).await.unwrap().unwrap().rotated_at;

        // The second has another counter, the third has ended, and of the last there is no row.
        let renewed = [(first.session, 1), (other.session, 2), (over.session, 0), (SessionId([1; 16]), 1)];
        store.renew_grace(&renewed, later).await.unwrap();
        assert_eq!(rotated_at(first.session).await, later);
        assert_eq!((rotated_at(other.session).await, rotated_at(over.session).await), (NOW, NOW));
        store.renew_grace(&renewed, NOW).await.unwrap();
        assert_eq!(rotated_at(first.session).await, later, "never back");

        let again = refresh(&sessions, first.token.expose(), later.plus(Duration::from_secs(10))).await.unwrap();
        assert_eq!((again.kind, again.token.expose()), (GrantKind::SameSuccessor, second.token.expose()));
        let error = refresh(&sessions, other.token.expose(), later).await.unwrap_err();
        assert!(matches!(error, RefreshError::Reused { ended: true, .. }), "{error}");
        let error = refresh(&sessions, first.token.expose(), later.plus(Duration::from_secs(11))).await.unwrap_err();
        assert!(matches!(error, RefreshError::Reused { ended: true, .. }), "{error}");
    })
    .await;
}

/// S4: a primary that is killed may take with it what it had already answered; a copy of the database is older still.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lost_its_last_moments_logs_nobody_out() {
    let (_mongod, settings, database) = database().await;
    let store = store::open(&settings).await.unwrap();
    let sessions = service(&store);
    let account = store.add_account(&person("ada")).await.unwrap();
    let mut token = begin(&sessions, &account).await.token;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(token.clone());
        token = refresh(&sessions, token.expose(), NOW).await.unwrap().token;
    }
    let rows = database.collection::<Document>("tollgate_sessions");
    rows.update_one(doc! {}, doc! { "$set": { "counter": 1_i64 } }).await.unwrap();
    let next = refresh(&sessions, token.expose(), NOW).await.unwrap();
    assert_eq!(RefreshKeys::new(&KEY, &[]).read(next.token.expose()).unwrap().counter, 5);
    // And what is old stays old.
    let error = refresh(&sessions, tokens[2].expose(), NOW).await.unwrap_err();
    assert!(matches!(error, RefreshError::Reused { ended: true, .. }), "{error}");
}

/// S13
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_purged_in_the_middle_of_a_refresh_is_an_unknown_session() {
    on_both(async |settings| {
        let store = store::open(&settings).await.unwrap();
        let sessions = service(&store);
        let account = store.add_account(&person("ada")).await.unwrap();
        let first = begin(&sessions, &account).await;
        let candidate = sessions.look_up(first.token.expose(), None, at(NOW)).await.unwrap();
        match &settings.location {
            StoreLocation::Sqlite { .. } => {
                assert_eq!(store.purge_sessions(UnixSeconds(5_000_000_000)).await.unwrap(), 1);
            }
            StoreLocation::Mongo { uri } => {
                let client = Client::with_uri_str(secrecy::ExposeSecret::expose_secret(uri)).await.unwrap();
                let rows = client.default_database().unwrap().collection::<Document>("tollgate_sessions");
                rows.delete_many(doc! {}).await.unwrap();
            }
        }
        let error = sessions.rotate(candidate, SeenFrom::default()).await.unwrap_err();
        assert!(matches!(error, RefreshError::Invalid(InvalidRefresh::Unknown(_))), "{error}");
        assert!(store.find_session(first.session).await.unwrap().is_none(), "a refresh brings no row back");
    })
    .await;
}

/// The commands that the server got for our collections, told by its profiler.
async fn commands(database: &Database) -> Vec<Document> {
    let profile = database.collection::<Document>("system.profile");
    let ours = doc! { "ns": { "$regex": "\\.(tollgate_sessions|users)$" } };
    profile.find(ours).await.unwrap().try_collect().await.unwrap()
}

/// Waits for the indexes, which are made beside the logins.
async fn until_indexed(database: &Database) {
    let rows = database.collection::<Document>("tollgate_sessions");
    let is_made = |index: &IndexModel| {
        // The one over `purge_at` may be there with another time, which is then changed.
        let time = index.options.as_ref().and_then(|options| options.expire_after);
        !index.keys.contains_key("purge_at") || time == Some(Duration::ZERO)
    };
    loop {
        let indexes: Vec<IndexModel> = rows.list_indexes().await.unwrap().try_collect().await.unwrap();
        if indexes.len() == 4 && indexes.iter().all(is_made) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn profile(database: &Database, level: i32) {
    database.run_command(doc! { "profile": level }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_is_three_round_trips_and_a_token_that_is_not_ours_none() {
    let (_mongod, settings, database) = database().await;
    let store = store::open(&settings).await.unwrap();
    let sessions = service(&store);
    let account = store.add_account(&person("ada")).await.unwrap();
    let first = begin(&sessions, &account).await;
    until_indexed(&database).await;
    profile(&database, 2).await;

    let genuine = URL_SAFE_NO_PAD.decode(first.token.expose()).unwrap();
    let mut forged: Vec<String> = vec![String::new(), "garbage".to_owned(), "A".repeat(71), "A".repeat(100_000)];
    for bit in 0..genuine.len() * 8 {
        let mut bytes = genuine.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        forged.push(URL_SAFE_NO_PAD.encode(bytes));
    }
    let claim = RefreshClaim { session: first.session, counter: 0 };
    forged.push(RefreshKeys::new(&[8; 32], &[]).token(claim).expose().to_owned());
    for token in &forged {
        let error = sessions.look_up(token, None, at(NOW)).await.unwrap_err();
        assert!(matches!(error, RefreshError::Invalid(InvalidRefresh::Foreign)), "{error}");
        assert_eq!(sessions.session_of(token), None);
    }
    let other = Some(SessionId([1; 16]));
    let error = sessions.look_up(first.token.expose(), other, at(NOW)).await.unwrap_err();
    assert!(matches!(error, RefreshError::Invalid(InvalidRefresh::OtherSession(_))), "{error}");
    assert!(commands(&database).await.is_empty(), "the store was asked about {} forged tokens", forged.len());

    refresh(&sessions, first.token.expose(), NOW).await.unwrap();
    profile(&database, 0).await;
    let asked: Vec<String> = commands(&database)
        .await
        .iter()
        .map(|command| {
            let name = command.get_document("command").unwrap().keys().next().unwrap().clone();
            format!("{name} {}", command.get_str("planSummary").unwrap_or("?"))
        })
        .collect();
    println!("a refresh asks: {asked:?}");
    assert_eq!(asked.len(), 3, "{asked:?}");
    for (command, name) in asked.iter().zip(["find", "find", "findAndModify"]) {
        let by_index = ["IDHACK", "EXPRESS", "IXSCAN"].iter().any(|plan| command.contains(plan));
        assert!(command.starts_with(name) && by_index, "{asked:?}");
    }
}

/// S13: what is asked of many sessions is found by an index, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn among_many_sessions_each_question_reads_only_what_it_answers() {
    let (_mongod, settings, database) = database().await;
    let store = store::open(&settings).await.unwrap();
    let sessions = service(&store);
    let account = store.add_account(&person("ada")).await.unwrap();
    let mine = begin(&sessions, &account).await;
    until_indexed(&database).await;
    let rows = database.collection::<Document>("tollgate_sessions");
    let model = rows.find_one(doc! {}).await.unwrap().unwrap();
    let date = |seconds: u64| DateTime::from_millis(i64::try_from(seconds * 1000).unwrap());
    let others = (0..20_000_u32).map(|number| {
        let mut row = model.clone();
        let mut id = [0xff; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        row.insert("_id", SessionId(id).to_string());
        row.insert("subject", format!("other-{}", number % 100));
        if number % 2 == 0 {
            row.insert("ended_at", date(NOW.0 - 1000 - u64::from(number)));
            row.insert("ended_reason", "logout");
        }
        row
    });
    rows.insert_many(others).await.unwrap();
    sessions.end(SessionId([0xff; 16]), None, EndReason::Logout, NOW).await.unwrap();

    profile(&database, 2).await;
    assert_eq!(sessions.list(Some(&account.subject), None, NOW).await.unwrap().len(), 1);
    let ends = async |back: u64, after| {
        let place = EndPlace { at: UnixSeconds(NOW.0 - back).into(), after };
        store.session_ends(place, 1000).await.unwrap().ends.len()
    };
    assert_eq!((ends(1005, None).await, ends(500, None).await), (3, 0));
    assert_eq!(ends(1004, Some(SessionId([0; 16]))).await, 3);
    assert_eq!(sessions.end_others(&account.subject, mine.session, EndReason::LogoutOthers, NOW).await.unwrap(), 0);
    assert_eq!(sessions.end_all(Some(&account.subject), EndReason::Revoked, NOW).await.unwrap(), 1);
    profile(&database, 0).await;
    let asked = commands(&database).await;
    // Each of the last two looks for sessions, and the last one ends one.
    assert_eq!(asked.len(), 7, "{asked:?}");
    for command in asked {
        let examined = ["docsExamined", "keysExamined"].map(|name| match command.get(name) {
            Some(Bson::Int32(count)) => i64::from(*count),
            Some(Bson::Int64(count)) => *count,
            other => panic!("{name} is {other:?}"),
        });
        assert!(examined.iter().all(|count| *count <= 10), "{examined:?} in {command:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_time_is_changed_and_rows_go_by_their_own_date() {
    let (_mongod, settings, database) = database().await;
    let rows = database.collection::<Document>("tollgate_sessions");
    let expire_after = Some(Duration::from_secs(3600));
    let options = mongodb::options::IndexOptions::builder().expire_after(expire_after).build();
    rows.create_index(IndexModel::builder().keys(doc! { "purge_at": 1 }).options(options).build()).await.unwrap();
    let store = store::open(&settings).await.unwrap();
    let account = store.add_account(&person("ada")).await.unwrap();
    let first = begin(&service(&store), &account).await;
    until_indexed(&database).await;
    let indexes: Vec<IndexModel> = rows.list_indexes().await.unwrap().try_collect().await.unwrap();
    let names: BTreeSet<String> = indexes.iter().map(|index| index.keys.to_string()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let purge = indexes.iter().find(|index| index.keys.contains_key("purge_at")).unwrap();
    assert_eq!(purge.options.as_ref().unwrap().expire_after, Some(Duration::ZERO));
    // The end of a session moves the date on which its row goes.
    let before = rows.find_one(doc! {}).await.unwrap().unwrap().get_datetime("purge_at").unwrap().timestamp_millis();
    assert_eq!(before / 1000, (NOW.0 + 3600 + 330 + 3600).cast_signed());
    let (mark, reason) = (EndMark::random().unwrap(), EndReason::Logout);
    let ending = Ending { mark, at: NOW, reason, purge_at: NOW.plus(Duration::from_secs(50)) };
    assert_eq!(store.end_sessions(&[first.session], &ending).await.unwrap(), 1);
    let after = rows.find_one(doc! {}).await.unwrap().unwrap().get_datetime("purge_at").unwrap().timestamp_millis();
    assert_eq!(after / 1000, (NOW.0 + 50).cast_signed());
}

/// S5: whoever has the database has no token: not as text, not as bytes, not what makes it one.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_holds_makes_no_refresh_token() {
    on_both(async |settings| {
        let store = store::open(&settings).await.unwrap();
        let sessions = service(&store);
        let account = store.add_account(&person("ada")).await.unwrap();
        let first = begin(&sessions, &account).await;
        let second = refresh(&sessions, first.token.expose(), NOW).await.unwrap();
        let dump = match &settings.location {
            StoreLocation::Sqlite { path } => {
                let folder = std::fs::read_dir(path.parent().unwrap()).unwrap();
                folder.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect::<Vec<u8>>()
            }
            StoreLocation::Mongo { uri } => {
                let client = Client::with_uri_str(secrecy::ExposeSecret::expose_secret(uri)).await.unwrap();
                let database = client.default_database().unwrap();
                let mut dump = Vec::new();
                for name in database.list_collection_names().await.unwrap() {
                    let documents = database.collection::<Document>(&name).find(doc! {}).await.unwrap();
                    for document in documents.try_collect::<Vec<_>>().await.unwrap() {
                        dump.extend(document.to_vec().unwrap());
                    }
                }
                dump
            }
        };
        let holds = |needle: &[u8]| dump.windows(needle.len()).any(|window| window == needle);
        assert!(holds(account.subject.as_bytes()), "the dump is one of the sessions");
        for token in [&first.token, &second.token] {
            let bytes = URL_SAFE_NO_PAD.decode(token.expose()).unwrap();
            let mac = &bytes[bytes.len() - 32..];
            for part in [token.expose().as_bytes(), &bytes, mac, URL_SAFE_NO_PAD.encode(mac).as_bytes()] {
                assert!(!holds(part), "{store:?}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ends_of_sessions_come_page_by_page_in_the_order_of_their_ends() {
    on_both(async |settings| {
        let store = store::open(&settings).await.unwrap();
        let sessions = service(&store);
        let account = store.add_account(&person("ada")).await.unwrap();
        let mut ids = Vec::new();
        for number in 0..25_u64 {
            let id = begin(&sessions, &account).await.session;
            let at = NOW.plus(Duration::from_secs(number / 10));
            sessions.end(id, None, EndReason::Logout, at).await.unwrap();
            ids.push((at, id));
        }
        ids.sort();
        let (mut place, mut seen) = (Some(EndPlace { at: NOW.into(), after: None }), Vec::new());
        while let Some(from) = place {
            let page = store.session_ends(from, 7).await.unwrap();
            assert!(page.ends.len() <= 7);
            seen.extend(page.ends.iter().map(|end| (end.at.seconds(), end.id)));
            place = page.next;
        }
        let text = |list: &[(UnixSeconds, SessionId)]| {
            let mut list: Vec<_> = list.iter().map(|(at, id)| (at.0, id.to_string())).collect();
            list.sort();
            list
        };
        assert_eq!(text(&seen), text(&ids));
        assert_eq!(seen.len(), 25);
        assert!(seen.is_sorted_by_key(|(at, _)| *at));
        let last = EndPlace { at: NOW.plus(Duration::from_secs(2)).into(), after: None };
        assert_eq!(store.session_ends(last, 100).await.unwrap().ends.len(), 5);
    })
    .await;
}
