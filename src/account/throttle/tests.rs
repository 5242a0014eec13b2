//! Against a real SQLite store.

use super::*;
use crate::store::{StoreLocation, StoreSettings, UserFields, UserMapping};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const HERE: &str = "192.0.2.1";
const THERE: &str = "198.51.100.7";

const fn limit(free: u32, max_delay: u64, forget: u64) -> Limit {
    Limit { free, max_delay: Duration::from_secs(max_delay), forget: Duration::from_secs(forget) }
}

async fn store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
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
    let location = StoreLocation::Sqlite { path: folder.path().join("tollgate.db") };
    crate::store::open(&StoreSettings { location, users }).await.unwrap()
}

/// Two gateways on one store.
async fn fleet() -> (tempfile::TempDir, [Throttle; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let settings = ThrottleSettings {
        account: limit(5, 5, 60),
        account_and_address: limit(2, 600, 600),
        address: limit(7, 60, 30),
        known_for: Duration::from_secs(86_400),
    };
    let mut gateways = Vec::new();
    for _ in 0..2 {
        gateways.push(Throttle::new(settings.clone(), store(&folder).await, b"secret of the fleet"));
    }
    (folder, gateways.try_into().unwrap())
}

/// A try at that time: `Ok` when it is looked at, and then it fails.
async fn guess(
    throttle: &Throttle,
    login: &str,
    address: &str,
    now: UnixSeconds,
) -> Result<(), (u64, audit::Throttle)> {
    let ticket = throttle.begin(login, address.parse().unwrap(), now);
    let judged = throttle.judge(ticket).await.unwrap();
    judged.check().map_err(|early| (early.retry_after.as_secs(), early.reason))?;
    judged.failed();
    throttle.count(&judged).await;
    Ok(())
}

async fn succeed(throttle: &Throttle, login: &str, address: &str, now: UnixSeconds) {
    let judged = throttle.judge(throttle.begin(login, address.parse().unwrap(), now)).await.unwrap();
    judged.check().unwrap();
    throttle.forgive(&judged).await;
}

#[tokio::test]
async fn all_ways_to_write_a_login_are_one() {
    let (_folder, [a, b]) = fleet().await;
    for login in ["ada@example.org", "Ada@Example.org", "ADA@EXAMPLE.ORG"] {
        assert_eq!(guess(&a, login, HERE, NOW).await, Ok(()));
    }
    assert_eq!(guess(&b, "aDA@example.org", HERE, NOW).await, Err((1, audit::Throttle::AccountAndAddress)));
    assert_eq!(guess(&b, "ada", HERE, NOW).await, Ok(()));
}

#[tokio::test]
async fn one_client_waits_longer_and_longer_on_all_gateways() {
    let (_folder, [a, b]) = fleet().await;
    for throttle in [&a, &b, &a] {
        assert_eq!(guess(throttle, "ada", HERE, NOW).await, Ok(()));
    }
    assert_eq!(guess(&a, "ada", HERE, NOW).await, Err((1, audit::Throttle::AccountAndAddress)));
    assert_eq!(guess(&b, "ada", HERE, NOW).await, Err((1, audit::Throttle::AccountAndAddress)));
    let later = NOW.plus(Duration::from_secs(1));
    assert_eq!(guess(&b, "ada", HERE, later).await, Ok(()));
    assert_eq!(guess(&a, "ada", HERE, later).await, Err((2, audit::Throttle::AccountAndAddress)));
}

#[tokio::test]
async fn a_stranger_slows_the_owner_by_the_bound_at_most_and_a_known_address_not_at_all() {
    let (_folder, [a, b]) = fleet().await;
    succeed(&a, "ada", "203.0.113.5", NOW).await;
    let mut tried = 0;
    for host in 0..200 {
        tried += u32::from(guess(&a, "ada", &format!("10.1.{host}.9"), NOW).await.is_ok());
    }
    assert_eq!(tried, 6, "many addresses get no more than the account's limit");
    let early = guess(&b, "ada", THERE, NOW).await.unwrap_err();
    assert_eq!(early, (1, audit::Throttle::Account));
    // Even under an attack that takes every chance, nobody has to wait longer than the bound.
    let mut now = NOW;
    for _ in 0..30 {
        now = now.plus(Duration::from_secs(5));
        assert_eq!(guess(&a, "ada", &format!("10.2.0.{}", now.0 % 250), now).await, Ok(()));
        let (seconds, reason) = guess(&b, "ada", THERE, now).await.unwrap_err();
        assert!(seconds <= 5 && reason == audit::Throttle::Account, "{seconds} {reason:?}");
    }
    succeed(&b, "ada", "203.0.113.5", now).await;
}

#[tokio::test]
async fn a_session_counts_as_a_known_address() {
    let (_folder, [a, _]) = fleet().await;
    for host in 0..6 {
        guess(&a, "ada", &format!("10.1.{host}.9"), NOW).await.unwrap();
    }
    let mut judged = a.judge(a.begin("ada", THERE.parse().unwrap(), NOW)).await.unwrap();
    assert!(judged.check().is_err());
    judged.trust_session();
    assert_eq!(judged.check(), Ok(()));
}

#[tokio::test]
async fn one_guess_on_each_of_many_accounts_is_stopped_by_the_address() {
    let (_folder, [a, b]) = fleet().await;
    let mut tried = 0;
    for number in 0..40 {
        let throttle = if number % 2 == 0 { &a } else { &b };
        tried += u32::from(guess(throttle, &format!("user{number}"), HERE, NOW).await.is_ok());
    }
    assert_eq!(tried, 8);
    assert_eq!(guess(&a, "user99", HERE, NOW).await, Err((1, audit::Throttle::Address)));
    assert_eq!(guess(&a, "user99", THERE, NOW).await, Ok(()));
}

#[tokio::test]
async fn a_success_forgets_the_failures_from_its_address_only() {
    let (_folder, [a, b]) = fleet().await;
    for address in [HERE, HERE, THERE, THERE] {
        guess(&a, "ada", address, NOW).await.unwrap();
    }
    succeed(&b, "ada", HERE, NOW).await;
    for _ in 0..3 {
        assert_eq!(guess(&a, "ada", HERE, NOW).await, Ok(()));
    }
    assert_eq!(guess(&a, "ada", HERE, NOW).await, Err((1, audit::Throttle::AccountAndAddress)));
    assert!(guess(&a, "ada", THERE, NOW).await.is_err(), "the account as a whole has not been forgiven");
}

#[tokio::test]
async fn guesses_that_come_at_once_are_held_against_each_other() {
    let (_folder, [a, _]) = fleet().await;
    let mut judged = Vec::new();
    for _ in 0..20 {
        judged.push(a.judge(a.begin("ada", HERE.parse().unwrap(), NOW)).await.unwrap());
    }
    let mut tried = 0;
    for one in &judged {
        assert!(judged[0].ticket.counters[OWN].key == one.ticket.counters[OWN].key);
        if one.check().is_ok() {
            one.failed();
            tried += 1;
        }
    }
    assert_eq!(tried, 3, "no more than one after the other");
}

#[tokio::test]
async fn a_failure_that_its_check_did_not_count_is_counted_once() {
    let (_folder, [a, _]) = fleet().await;
    for number in 0..5 {
        // As a disabled account, whose password is right.
        let judged = a.judge(a.begin("eve", HERE.parse().unwrap(), NOW)).await.unwrap();
        assert_eq!(judged.check().is_ok(), number < 3, "{number}");
        if number % 2 == 0 {
            judged.failed();
        }
        a.count(&judged).await;
    }
    let tallies = a.begin("eve", HERE.parse().unwrap(), NOW).counters.map(|counter| *counter.recent.tally());
    assert_eq!(tallies, [Tally { failed: 5, settled: 5, lost: Attempts::default() }; KINDS.len()]);
}

/// Makes the store refuse to count, as a database does whose user may only read.
fn forbid_counting(folder: &tempfile::TempDir) {
    let file = rusqlite::Connection::open(folder.path().join("tollgate.db")).unwrap();
    for (name, event) in [("added", "INSERT"), ("changed", "UPDATE")] {
        file.execute_batch(&format!(
            "CREATE TRIGGER not_{name} BEFORE {event} ON attempts BEGIN SELECT raise(ABORT, 'read only'); END"
        ))
        .unwrap();
    }
}

#[tokio::test]
async fn failures_that_the_store_does_not_take_slow_and_never_lock() {
    let (folder, [a, b]) = fleet().await;
    forbid_counting(&folder);
    let mut now = NOW;
    for _ in 0..3 {
        assert_eq!(guess(&a, "ada", HERE, now).await, Ok(()));
    }
    // Each further one doubles the wait, and that passes.
    for wait in [1, 2, 4, 8, 16] {
        assert_eq!(guess(&a, "ada", HERE, now).await, Err((wait, audit::Throttle::AccountAndAddress)));
        now = now.plus(Duration::from_secs(wait - 1));
        assert_eq!(guess(&a, "ada", HERE, now).await, Err((1, audit::Throttle::AccountAndAddress)));
        now = now.plus(Duration::from_secs(1));
        assert_eq!(guess(&a, "ada", HERE, now).await, Ok(()));
    }
    assert_eq!(guess(&b, "ada", HERE, now).await, Ok(()), "the others cannot know");
    // They are forgotten as those in the store are, one after the other.
    let later = now.plus(Duration::from_secs(8 * 600));
    for _ in 0..3 {
        assert_eq!(guess(&a, "ada", HERE, later).await, Ok(()));
    }
}

#[tokio::test]
async fn a_failure_whose_login_ends_in_a_defect_does_not_stay_under_way() {
    let (_folder, [a, _]) = fleet().await;
    for _ in 0..4 {
        let judged = a.judge(a.begin("ada", HERE.parse().unwrap(), NOW)).await.unwrap();
        judged.failed();
    }
    assert_eq!(guess(&a, "ada", HERE, NOW).await, Err((2, audit::Throttle::AccountAndAddress)));
    assert_eq!(guess(&a, "ada", HERE, NOW.plus(Duration::from_secs(2))).await, Ok(()));
}

#[tokio::test]
async fn a_gateway_whose_clock_is_ahead_keeps_nobody_out_at_the_others() {
    let (_folder, [a, ahead]) = fleet().await;
    let future = NOW.plus(Duration::from_secs(7200));
    for _ in 0..3 {
        assert_eq!(guess(&ahead, "ada", HERE, future).await, Ok(()));
    }
    assert_eq!(guess(&ahead, "ada", HERE, future).await, Err((1, audit::Throttle::AccountAndAddress)));
    // What the right clocks count begins anew, and counts among them.
    for _ in 0..3 {
        assert_eq!(guess(&a, "ada", HERE, NOW).await, Ok(()));
    }
    assert_eq!(guess(&a, "ada", HERE, NOW).await, Err((1, audit::Throttle::AccountAndAddress)));
    assert_eq!(guess(&a, "ada", HERE, NOW.plus(Duration::from_secs(1))).await, Ok(()));
}

#[tokio::test]
async fn who_guesses_at_all_who_are_known_at_an_address_waits_there_at_last_and_a_session_does_not() {
    let (_folder, [a, b]) = fleet().await;
    let people: Vec<String> = (0..60).map(|number| format!("colleague{number}")).collect();
    for name in &people {
        succeed(&a, name, HERE, NOW).await;
    }
    let mut tried = 0;
    for round in 0..3 {
        for (number, name) in people.iter().enumerate() {
            let throttle = if (number + round) % 2 == 0 { &a } else { &b };
            tried += u32::from(guess(throttle, name, HERE, NOW).await.is_ok());
        }
    }
    assert_eq!(tried, 71, "ten times the address's limit and one more, not three times as many as there are people");
    assert_eq!(guess(&b, &people[0], HERE, NOW).await, Err((1, audit::Throttle::Address)));
    let mut judged = a.judge(a.begin("colleague0", HERE.parse().unwrap(), NOW)).await.unwrap();
    judged.trust_session();
    assert_eq!(judged.check(), Ok(()));
}

#[tokio::test]
async fn what_is_stored_tells_no_name_and_depends_on_the_secret() {
    let (folder, [a, _]) = fleet().await;
    guess(&a, "a password in the wrong field", HERE, NOW).await.unwrap();
    let keys = |throttle: &Throttle| {
        throttle.begin("ada", HERE.parse().unwrap(), NOW).counters.map(|counter| counter.key.0).to_vec()
    };
    let other = Throttle::new(a.settings.clone(), store(&folder).await, b"another secret");
    assert!(keys(&a).iter().all(|key| !keys(&other).contains(key)));
    let bytes: Vec<u8> = std::fs::read_dir(folder.path())
        .unwrap()
        .flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(bytes.windows(8).any(|window| window == b"attempts"), "the files were read");
    assert!(!bytes.windows(11).any(|window| window == b"wrong field"));
}

#[test]
fn an_address_is_one_of_ipv4_or_a_network_of_ipv6() {
    let of = |text: &str| network(text.parse().unwrap());
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
}
