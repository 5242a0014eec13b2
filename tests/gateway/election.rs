//! S4: a primary that is killed in the middle of refreshes and logins, with nobody logged out by it.

#![expect(clippy::unwrap_used, reason = "whoever is logged out is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use tokio::time::Instant;
use tollgate::session::{Begin, RefreshClaim, RefreshKeys, SeenFrom, SessionId, SessionSettings, Sessions};
use tollgate::store::{self, Account, Patience, Store};
use tollgate::time::{Arrival, Moment, UnixSeconds};

use crate::store::{default_mapping, mongo, person};
use crate::support::mongod::Mongod;

const CLIENTS: usize = 50;
const REFRESHES: u32 = 40;
const LOGINS: usize = 500;
/// Far from now, so that the server deletes nothing by its own clock.
const BEGINNING: UnixSeconds = UnixSeconds(4_000_000_000);
const KEY: [u8; 32] = [3; 32];
/// Longer than an election takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of what comes now, by a clock that goes on.
fn arrival() -> Arrival {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Arrival::new(Moment::from(BEGINNING).plus(BEGUN.elapsed()), Instant::now())
}

async fn gateway(uri: &str) -> (Arc<dyn Store>, Arc<Sessions>) {
    let store = store::open(&mongo(uri, default_mapping())).await.unwrap();
    let settings = SessionSettings {
        refresh_ttl: Duration::from_secs(3600),
        session_ttl: Duration::from_secs(86_400),
        refresh_grace: Duration::from_secs(10),
        access_life: Duration::from_secs(330),
    };
    let sessions = Sessions::new(Arc::clone(&store), settings, Patience::new(PATIENCE));
    sessions.set_keys(RefreshKeys::new(&KEY, &[]));
    (store, Arc::new(sessions))
}

async fn log_in(sessions: &Sessions, account: &Account) -> String {
    let session = SessionId::random().unwrap();
    let begin = Begin { session, account, client_id: "test", scope: "", seen: SeenFrom::default() };
    sessions.begin(begin, arrival()).await.unwrap().token.expose().to_owned()
}

async fn refresh(sessions: &Sessions, token: &str) -> String {
    let candidate = sessions.look_up(token, None, arrival()).await.unwrap();
    sessions.rotate(candidate, SeenFrom::default()).await.unwrap().token.expose().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_under_logins_and_refreshes_logs_nobody_out() {
    let mut members = tokio::task::spawn_blocking(Mongod::start_three).await.unwrap();
    let uri = Mongod::uri_of(&members, "election");
    let gateways = [gateway(&uri).await, gateway(&uri).await, gateway(&uri).await];
    let account = Arc::new(gateways[0].0.add_account(&person("ada")).await.unwrap());

    let refreshes = Arc::new(AtomicUsize::new(0));
    let slowest = Arc::new(std::sync::Mutex::new(Duration::ZERO));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut token = log_in(&gateways[0].1, &account).await;
        let (refreshes, slowest) = (Arc::clone(&refreshes), Arc::clone(&slowest));
        let all = gateways.each_ref().map(|(_, sessions)| Arc::clone(sessions));
        clients.push(tokio::spawn(async move {
            for round in 0..REFRESHES {
                // Each time by another gateway.
                let sessions = &all[(number + round as usize) % all.len()];
                let begun = Instant::now();
                let next = refresh(sessions, &token).await;
                // Now and then the answer is lost, also one that came after an election.
                if round % 4 == 3 {
                    assert_eq!(refresh(&all[(number + 1) % all.len()], &token).await, next);
                }
                token = next;
                let mut slowest = slowest.lock().unwrap();
                *slowest = begun.elapsed().max(*slowest);
                refreshes.fetch_add(1, Ordering::Relaxed);
            }
            token
        }));
    }
    let mut logins = Vec::new();
    for part in 0..10 {
        let (sessions, account) = (Arc::clone(&gateways[part % 3].1), Arc::clone(&account));
        logins.push(tokio::spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..LOGINS / 10 {
                tokens.push(log_in(&sessions, &account).await);
            }
            tokens
        }));
    }

    // In the middle of it all.
    while refreshes.load(Ordering::Relaxed) < 300 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    members[0].kill();
    let at_the_kill = refreshes.load(Ordering::Relaxed);
    let tokens: Vec<String> = join_all(clients).await.into_iter().map(Result::unwrap).collect();
    let begun: Vec<String> = join_all(logins).await.into_iter().flat_map(Result::unwrap).collect();
    println!(
        "primary killed after {at_the_kill} of {} refreshes, beside {LOGINS} logins: none refused, the slowest refresh took {:.1?}",
        CLIENTS * REFRESHES as usize,
        slowest.lock().unwrap(),
    );
    assert!(at_the_kill < CLIENTS * REFRESHES as usize / 2, "the kill must hit some");

    // Every refresh was made once, and no row is lost or doubled.
    let keys = RefreshKeys::new(&KEY, &[]);
    let claims: Vec<RefreshClaim> = tokens.iter().map(|token| keys.read(token).unwrap()).collect();
    assert!(claims.iter().all(|claim| claim.counter == REFRESHES), "{claims:?}");
    let survivors = Mongod::uri_of(&members[1..], "election");
    let rows = Client::with_uri_str(survivors).await.unwrap().default_database().unwrap();
    let rows = rows.collection::<Document>("tollgate_sessions");
    assert_eq!(rows.count_documents(doc! {}).await.unwrap(), (CLIENTS + LOGINS) as u64);
    let ended: Vec<Document> =
        rows.find(doc! { "ended_at": { "$ne": null } }).await.unwrap().try_collect().await.unwrap();
    assert!(ended.is_empty(), "{ended:?}");
    for claim in claims {
        let row = gateways[1].0.find_session(claim.session).await.unwrap().unwrap();
        assert_eq!(row.counter, REFRESHES);
    }
    for token in begun {
        let session = keys.read(&token).unwrap().session;
        assert!(gateways[2].0.find_session(session).await.unwrap().is_some(), "a login that was answered is there");
    }
}
