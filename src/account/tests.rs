//! Logins against a real SQLite store.

use tokio::time::Instant;

use super::*;
use crate::store::{self, Grants, NewAccount, StoreLocation, StoreSettings, UserFields, UserMapping};

const ATTEMPT: Attempt<'_> = Attempt {
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    session_of: None,
    now: crate::time::UnixSeconds(1_800_000_000),
};

const PASSWORD: &str = "correct horse ü";

/// pbkdf2_sha256.using(rounds=1000).hash([`PASSWORD`]): a thousandth of what bcrypt costs.
const OLD: &str = "$pbkdf2-sha256$1000$6F1LSSlFiHFu7T2n1Lq39g$8UzVGQHCkw8YrBZR.aw6P6tQrAuxtkehvQ/GgicsqP8";

/// Accounts in a fresh store: `ada` with [`PASSWORD`], `eve` disabled, `bad` with a broken hash, `old` with one of another
/// scheme.
async fn accounts(cost: u32) -> (tempfile::TempDir, Arc<Accounts>) {
    let folder = tempfile::tempdir().unwrap();
    let store = store::open(&settings(folder.path().join("tollgate.db"))).await.unwrap();
    let scheme = NewHash::Bcrypt { cost };
    for (login, password) in [
        ("ada", hash::make(PASSWORD, scheme).unwrap()),
        ("eve", hash::make(PASSWORD, scheme).unwrap()),
        ("bad", PasswordHash::new("$2b$31$broken")),
        ("old", PasswordHash::new(OLD)),
    ] {
        let new = NewAccount { login: login.to_owned(), name: None, email: None, grants: Grants::default(), password };
        store.add_account(&new).await.unwrap();
    }
    store.set_disabled("eve", true).await.unwrap();
    let settings = PasswordSettings {
        new_hash: scheme,
        long_password: LongPassword::Refuse,
        threads: 1,
        queue: 8,
        priority: Priority::Idle,
        upgrade: false,
    };
    (folder, Arc::new(Accounts::new(store, &settings)))
}

fn settings(path: std::path::PathBuf) -> StoreSettings {
    let fields = UserFields {
        login: vec!["username".to_owned()],
        password: "password".to_owned(),
        subject: "_id".to_owned(),
        name: None,
        email: None,
        roles: None,
        scopes: None,
        disabled: None,
    };
    let users = UserMapping { collection: "users".to_owned(), filter: serde_json::Map::new(), fields };
    StoreSettings { location: StoreLocation::Sqlite { path }, users }
}

#[tokio::test]
async fn a_login_gives_the_account_or_the_cause() {
    let (_folder, accounts) = accounts(4).await;
    let log_in =
        async |login: &str, password: &str| accounts.log_in(login, &SecretString::from(password), &ATTEMPT).await;
    assert_eq!(log_in("ada", PASSWORD).await.unwrap().account.login, "ada");
    assert_eq!(log_in("old", PASSWORD).await.unwrap().account.login, "old");
    assert!(matches!(log_in("ada", "").await, Err(LoginError::WrongPassword { .. })));
    assert!(matches!(log_in("ada", "wrong").await, Err(LoginError::WrongPassword { .. })));
    assert!(matches!(log_in("Ada", PASSWORD).await, Err(LoginError::UnknownUser)));
    assert!(matches!(log_in("eve", PASSWORD).await, Err(LoginError::Disabled { .. })));
    assert!(matches!(log_in("eve", "wrong").await, Err(LoginError::Disabled { .. })));
    assert!(matches!(log_in("bad", PASSWORD).await, Err(LoginError::MalformedRecord { .. })));
    assert!(matches!(log_in(&"a".repeat(1025), PASSWORD).await, Err(LoginError::UnknownUser)));
    assert!(matches!(log_in("ada", &"a".repeat(1025)).await, Err(LoginError::WrongPassword { subject: None })));
}

#[tokio::test]
async fn every_failed_login_takes_the_time_of_a_wrong_password() {
    let (_folder, accounts) = accounts(9).await;
    let long = "a".repeat(73);
    accounts.learn_pace().await;
    let kinds = [
        ("ada", "wrong"),
        ("nobody", "wrong"),
        ("eve", PASSWORD),
        ("bad", "wrong"),
        ("ada", "a\0b"),
        ("ada", &long),
        ("ada", ""),
        ("old", "wrong"),
    ];
    // One kind after the other, so that what else the machine does slows all of them.
    let medians = async || {
        let mut times = vec![Vec::new(); kinds.len()];
        for _ in 0..9 {
            for ((login, password), times) in kinds.iter().zip(&mut times) {
                let password = SecretString::from(*password);
                let start = Instant::now();
                accounts.log_in(login, &password, &ATTEMPT).await.unwrap_err();
                times.push(start.elapsed().as_secs_f64());
            }
        }
        times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        times.iter().map(|times| times[4]).collect::<Vec<_>>()
    };
    // By chance a round may fail; a difference that is there fails them all.
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let medians = medians().await;
        let is_even = medians.iter().all(|other| (0.67..1.5).contains(&(other / medians[0])));
        rounds.push(medians);
        if is_even {
            return;
        }
    }
    panic!("median seconds of {kinds:?}: {rounds:?}");
}

#[tokio::test]
async fn failures_of_every_kind_count_and_the_next_one_waits() {
    let (folder, accounts) = accounts(4).await;
    let limit = |free| throttle::Limit { free, max_delay: Duration::from_secs(60), forget: Duration::from_secs(60) };
    let throttling = throttle::ThrottleSettings {
        account: limit(1000),
        account_and_address: limit(3),
        address: limit(1000),
        known_for: Duration::from_secs(60),
    };
    let store = store::open(&settings(folder.path().join("tollgate.db"))).await.unwrap();
    let accounts = Arc::into_inner(accounts).unwrap().with_throttle(Some(Throttle::new(throttling, store, b"secret")));
    let accounts = Arc::new(accounts);
    for (login, password) in [("ada", "wrong"), ("eve", PASSWORD), ("bad", "wrong"), ("nobody", "wrong")] {
        let password = SecretString::from(password);
        for number in 0..6 {
            let failure = accounts.log_in(login, &password, &ATTEMPT).await.unwrap_err();
            let is_throttled = matches!(failure, LoginError::Throttled { .. });
            assert_eq!(is_throttled, number > 3, "{login} {number}: {failure}");
        }
    }
    // What is known of who was refused is for the audit only.
    let refused = accounts.log_in("ada", &SecretString::from(PASSWORD), &ATTEMPT).await.unwrap_err();
    assert!(matches!(
        &refused,
        LoginError::Throttled { subject: Some(_), reason: audit::Throttle::AccountAndAddress, .. }
    ));
    let elsewhere = Attempt { address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), ..ATTEMPT };
    accounts.log_in("ada", &SecretString::from(PASSWORD), &elsewhere).await.unwrap();
}

#[tokio::test]
async fn a_login_that_a_change_overtakes_no_longer_holds() {
    let (_folder, accounts) = accounts(4).await;
    let password = SecretString::from(PASSWORD);
    let store = &accounts.store;
    let proven = accounts.log_in("ada", &password, &ATTEMPT).await.unwrap();
    accounts.still_proven(&proven, &password).await.unwrap();
    // The same password in another hash, as an upgrade leaves it.
    store.set_password("ada", &hash::make(PASSWORD, NewHash::Bcrypt { cost: 5 }).unwrap()).await.unwrap();
    accounts.still_proven(&proven, &password).await.unwrap();
    store.set_password("ada", &hash::make("another", NewHash::Bcrypt { cost: 4 }).unwrap()).await.unwrap();
    assert!(matches!(accounts.still_proven(&proven, &password).await, Err(LoginError::WrongPassword { .. })));
    store.set_disabled("ada", true).await.unwrap();
    assert!(matches!(accounts.still_proven(&proven, &password).await, Err(LoginError::Disabled { .. })));
    store.remove_account("ada").await.unwrap();
    assert!(matches!(accounts.still_proven(&proven, &password).await, Err(LoginError::UnknownUser)));
}

#[tokio::test]
async fn a_change_of_password_does_not_undo_another_that_overtook_it() {
    let (_folder, accounts) = accounts(11).await;
    let password = SecretString::from(PASSWORD);
    let subject = accounts.log_in("ada", &password, &ATTEMPT).await.unwrap().account.subject;
    let change = async |new: &str| {
        let changed = accounts.change_password(&subject, &ATTEMPT, &password, &SecretString::from(new)).await;
        changed.is_ok()
    };
    // Both have read the old hash before either has checked it: there is one thread.
    let changed = tokio::join!(change("first"), change("second"));
    assert!(changed.0 != changed.1, "{changed:?}");
    let set = if changed.0 { "first" } else { "second" };
    accounts.log_in("ada", &SecretString::from(set), &ATTEMPT).await.unwrap();
}
