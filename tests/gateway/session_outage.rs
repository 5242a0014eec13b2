//! S4: what a client had to wait for is not held against it. No session ends because the store, or a request, took its time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "whoever is logged out is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::Instant;
use tollgate::session::{GrantKind, Granted, RefreshError, SeenFrom, SessionId, Sessions};
use tollgate::store::{self, Store};
use tollgate::time::{Arrival, UnixSeconds};

use crate::sessions::{NOW, at, begin, database, refresh, refresh_by, service_with};
use crate::store::{on_both, person};
use crate::support::sick_store::{Fault, Sick, SickStore};

/// No machine is so slow that this is over in a test.
const LONG: Duration = Duration::from_secs(600);
/// How long the predecessor of a token gets the same successor, in these tests.
const GRACE: Duration = Duration::from_secs(10);

fn later(seconds: u64) -> UnixSeconds {
    NOW.plus(Duration::from_secs(seconds))
}

/// A request that came that long after `NOW`, and has waited for that long.
fn waiting(came: u64, waited: u64) -> Arrival {
    Arrival::new(later(came).into(), Instant::now() - Duration::from_secs(waited))
}

async fn rotated_at(store: &Arc<dyn Store>, session: SessionId) -> UnixSeconds {
    let row = store.find_session(session).await.unwrap().unwrap();
    assert_eq!(row.ended, None, "the session goes on");
    row.rotated_at
}

fn same(answer: Result<Granted, RefreshError>, as_before: &Granted) {
    let answer = answer.unwrap_or_else(|error| panic!("logged out: {error}"));
    assert_eq!((answer.kind, answer.token.expose()), (GrantKind::SameSuccessor, as_before.token.expose()));
}

/// A gateway whose store is sick when it is told to be, one whose store is well, and that store.
struct Pair {
    sick: Arc<SickStore>,
    unlucky: Arc<Sessions>,
    other: Sessions,
    store: Arc<dyn Store>,
}

impl Pair {
    fn over(store: Arc<dyn Store>, patience: Duration) -> Self {
        let sick = SickStore::over(&store);
        let as_store: Arc<dyn Store> = Arc::clone(&sick) as _;
        let unlucky = Arc::new(service_with(&as_store, patience));
        Self { sick, unlucky, other: service_with(&store, Duration::ZERO), store }
    }

    async fn begin(&self) -> Granted {
        let account = self.store.add_account(&person(&SessionId::random().unwrap().to_string())).await.unwrap();
        begin(&self.other, &account).await
    }
}

async fn on_both_pairs(patience: Duration, check: impl AsyncFn(Pair)) {
    on_both(async |settings| check(Pair::over(store::open(&settings).await.unwrap(), patience)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_had_to_wait_is_dated_by_when_it_is_made() {
    on_both_pairs(Duration::ZERO, async |pair| {
        let first = pair.begin().await;
        // The client has given up meanwhile, and asks once more when the answer is on its way to nobody.
        let made = refresh_by(&pair.other, first.token.expose(), waiting(0, 9)).await.unwrap();
        let row = pair.store.find_session(first.session).await.unwrap().unwrap();
        assert!(row.rotated_at >= later(9), "{row:?}");
        assert_eq!((row.used_at, made.at), (row.rotated_at, row.rotated_at));
        assert_eq!(row.expires_at, row.rotated_at.plus(Duration::from_secs(3600)), "and has its whole life");
        same(refresh(&pair.other, first.token.expose(), later(12)).await, &made);
        same(refresh(&pair.other, first.token.expose(), row.rotated_at.plus(GRACE)).await, &made);
        let error = refresh(&pair.other, first.token.expose(), row.rotated_at.plus(GRACE * 2)).await.unwrap_err();
        assert!(matches!(error, RefreshError::Reused { ended: true, .. }), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tabs_that_wait_for_an_outage_longer_than_the_grace_get_one_successor_whichever_comes_first() {
    on_both_pairs(Duration::ZERO, async |pair| {
        for is_first_first in [true, false] {
            let first = pair.begin().await;
            // One asks when the outage begins, the other one after the grace, and both wait until it is over.
            let mut tabs = [waiting(0, 12), waiting(11, 1)];
            if !is_first_first {
                tabs.reverse();
            }
            let made = refresh_by(&pair.other, first.token.expose(), tabs[0]).await.unwrap();
            same(refresh_by(&pair.unlucky, first.token.expose(), tabs[1]).await, &made);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_expires_while_its_refresh_waits_goes_on() {
    on_both_pairs(Duration::ZERO, async |pair| {
        let first = pair.begin().await;
        let made = refresh_by(&pair.other, first.token.expose(), waiting(3599, 9)).await.unwrap();
        assert!(made.expires_at >= later(3600 + 3600));
    })
    .await;
}

/// The client was told 503, or nothing: its grace begins when the store is back, and not when it had asked.
#[tokio::test(flavor = "multi_thread")]
async fn the_grace_of_a_refused_change_begins_after_its_whole_wait() {
    on_both_pairs(Duration::ZERO, async |pair| {
        let first = pair.begin().await;
        pair.sick.writing(Sick::Once(Fault::After));
        let error = refresh_by(&pair.unlucky, first.token.expose(), waiting(0, 60)).await.unwrap_err();
        assert!(matches!(error, RefreshError::Store(_)), "{error}");
        pair.sick.renewed().await;
        assert!(rotated_at(&pair.store, first.session).await >= later(61));
        let again = refresh(&pair.other, first.token.expose(), later(71)).await.unwrap();
        assert_eq!(again.kind, GrantKind::SameSuccessor);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_behind_a_change_that_may_have_been_made_is_noted_too() {
    on_both_pairs(Duration::ZERO, async |pair| {
        let first = pair.begin().await;
        let candidate = pair.unlucky.look_up(first.token.expose(), None, at(NOW)).await.unwrap();
        // As an earlier try of its own would have left it.
        let made = refresh(&pair.other, first.token.expose(), NOW).await.unwrap();
        pair.sick.reading(Sick::Once(Fault::Before));
        let error = pair.unlucky.rotate(candidate, SeenFrom::default()).await.unwrap_err();
        assert!(matches!(error, RefreshError::Store(_)), "{error}");
        pair.sick.renewed().await;
        assert_eq!(rotated_at(&pair.store, first.session).await, later(1));
        same(refresh(&pair.other, first.token.expose(), later(11)).await, &made);
    })
    .await;
}

/// As on a primary whose majority is late: the change stands there, and nobody confirms it.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_while_the_first_request_still_waits_gets_its_successor() {
    on_both_pairs(LONG, async |pair| {
        let first = pair.begin().await;
        pair.sick.writing(Sick::Always(Fault::After));
        let (unlucky, token) = (Arc::clone(&pair.unlucky), first.token.clone());
        let waits = tokio::spawn(async move { refresh(&unlucky, token.expose(), NOW).await });
        pair.sick.asked_to_renew().await;
        assert_eq!(pair.store.find_session(first.session).await.unwrap().unwrap().counter, 1);
        // The change is older than the grace, and who made it still does not know that it has.
        let again = refresh(&pair.unlucky, first.token.expose(), later(30)).await.unwrap();
        pair.sick.writing(Sick::Never);
        same(waits.await.unwrap(), &again);
        // And its answer is as young as it can be: whoever loses it has the whole grace from here.
        pair.sick.renewed().await;
        assert!(rotated_at(&pair.store, first.session).await > NOW);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_of_a_change_whose_first_answer_was_lost_begins_with_the_answer() {
    on_both_pairs(LONG, async |pair| {
        let first = pair.begin().await;
        let held = pair.sick.hold_renewals().await;
        pair.sick.writing(Sick::Once(Fault::After));
        let answer = refresh(&pair.unlucky, first.token.expose(), NOW).await.unwrap();
        assert_eq!(answer.kind, GrantKind::SameSuccessor);
        drop(held);
        pair.sick.renewed().await;
        assert_eq!(rotated_at(&pair.store, first.session).await, later(1));
    })
    .await;
}

/// S6: not a replay, because the token was the current one when its request came.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_is_overtaken_by_several_gets_the_current_token() {
    on_both_pairs(Duration::ZERO, async |pair| {
        let first = pair.begin().await;
        let candidate = pair.unlucky.look_up(first.token.expose(), None, at(NOW)).await.unwrap();
        let mut last = refresh(&pair.other, first.token.expose(), later(1)).await.unwrap();
        for _ in 0..3 {
            last = refresh(&pair.other, last.token.expose(), later(2)).await.unwrap();
        }
        same(pair.unlucky.rotate(candidate, SeenFrom::default()).await, &last);
        // Whoever comes with it from now on is a replay as ever.
        let error = refresh(&pair.other, first.token.expose(), later(2)).await.unwrap_err();
        assert!(matches!(error, RefreshError::Reused { ended: true, .. }), "{error}");
    })
    .await;
}

/// A migration that writes what we cannot read, or a gateway with other `store.users.fields`, must not log people out for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_account_cannot_be_read_is_refused_and_goes_on_when_it_can() {
    let (_mongod, mut settings, database) = database().await;
    settings.users.fields.subject = "number".to_owned();
    let store = store::open(&settings).await.unwrap();
    let users = database.collection::<Document>("users");
    let user = doc! { "number": "7", "username": "ada", "password": "a hash" };
    users.insert_one(&user).await.unwrap();
    let found = store.find_login("ada").await.unwrap();
    let store::Found::One(record) = found else { panic!("{found:?}") };
    let sessions = service_with(&store, Duration::ZERO);
    let mut token = begin(&sessions, &record.account).await.token;

    let unreadable = async |token: &str| {
        let error = refresh(&sessions, token, NOW).await.unwrap_err();
        assert!(matches!(&error, RefreshError::Unreadable { subject, .. } if subject == "7"), "{error}");
        error
    };
    let all = doc! {};
    users.update_many(all.clone(), doc! { "$set": { "disabled": "canary" } }).await.unwrap();
    let error = unreadable(token.expose()).await;
    let told = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(told.contains("disabled") && !told.contains("canary"), "{told}");
    users.update_many(all.clone(), doc! { "$unset": { "disabled": "" } }).await.unwrap();
    token = refresh(&sessions, token.expose(), NOW).await.unwrap().token;

    users.insert_one(doc! { "number": "7", "username": "bob", "password": "a hash" }).await.unwrap();
    unreadable(token.expose()).await;
    users.delete_one(doc! { "username": "bob" }).await.unwrap();
    token = refresh(&sessions, token.expose(), NOW).await.unwrap().token;

    users.delete_many(all).await.unwrap();
    let error = refresh(&sessions, token.expose(), NOW).await.unwrap_err();
    assert!(matches!(error, RefreshError::Account { .. }), "who is gone is out: {error}");
}
