//! One suite for both stores: SQLite, and a real mongod.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tollgate::store::{
    self, Found, Grants, NewAccount, PasswordHash, Store, StoreError, StoreLocation, StoreSettings, StoredKey,
    UserFields, UserMapping,
};
use tollgate::time::UnixSeconds;

use crate::support::mongod::{Kind, Mongod};

/// The mapping that the configuration has by default.
pub(crate) fn default_mapping() -> UserMapping {
    let some = |name: &str| Some(name.to_owned());
    UserMapping {
        collection: "users".to_owned(),
        filter: serde_json::Map::new(),
        fields: UserFields {
            login: vec!["username".to_owned(), "email".to_owned()],
            password: "password".to_owned(),
            subject: "_id".to_owned(),
            name: some("name"),
            email: some("email"),
            roles: some("roles"),
            scopes: some("scopes"),
            disabled: some("disabled"),
        },
    }
}

fn sqlite(path: &Path) -> StoreSettings {
    StoreSettings { location: StoreLocation::Sqlite { path: path.to_owned() }, users: default_mapping() }
}

pub(crate) fn mongo(uri: &str, users: UserMapping) -> StoreSettings {
    StoreSettings { location: StoreLocation::Mongo { uri: SecretString::from(uri) }, users }
}

/// Runs `check` with the settings of an empty SQLite file, and with those of an empty database of a real mongod.
pub(crate) async fn on_both(check: impl AsyncFn(StoreSettings)) {
    let folder = tempfile::tempdir().unwrap();
    check(sqlite(&folder.path().join("data/tollgate.db"))).await;
    let mongod = Mongod::shared();
    check(mongo(&mongod.fresh_uri(), default_mapping())).await;
}

pub(crate) async fn open(settings: &StoreSettings) -> Arc<dyn Store> {
    store::open(settings).await.unwrap()
}

pub(crate) fn person(login: &str) -> NewAccount {
    NewAccount {
        login: login.to_owned(),
        name: None,
        email: None,
        grants: Grants::default(),
        password: PasswordHash::new(format!("hash of {login}")),
    }
}

fn grants(roles: &[&str], scopes: &[&str]) -> Grants {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Grants { roles: owned(roles), scopes: owned(scopes) }
}

async fn password_of(store: &dyn Store, login: &str) -> Option<String> {
    match store.find_login(login).await.unwrap() {
        Found::One(record) => Some(record.password.expose().to_owned()),
        Found::Nobody | Found::Several | Found::Malformed(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_account_is_found_by_its_login_and_its_email() {
    on_both(async |settings| {
        let store = open(&settings).await;
        let new = NewAccount {
            name: Some("Ada L.".to_owned()),
            email: Some("ada@example.org".to_owned()),
            grants: grants(&["admin", "admin", "science"], &["read:x"]),
            ..person("ada")
        };
        let added = store.add_account(&new).await.unwrap();
        assert_eq!((added.login.as_str(), added.disabled), ("ada", false));
        assert_eq!(added.roles, ["admin", "science"]);
        for login in ["ada", "ada@example.org"] {
            let Found::One(record) = store.find_login(login).await.unwrap() else {
                panic!("`{login}` was not found in {store:?}");
            };
            assert_eq!(record.account.subject, added.subject);
            assert_eq!(record.account.name.as_deref(), Some("Ada L."));
            assert_eq!(record.account.scopes, ["read:x"]);
            assert_eq!(record.password.expose(), "hash of ada");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_matched_byte_for_byte_and_never_as_an_operator() {
    on_both(async |settings| {
        let store = open(&settings).await;
        store.add_account(&person("ada")).await.unwrap();
        for login in ["Ada", "ada ", " ada", "", "%", "a*", "/a/", r#"{"$ne":""}"#, "$where", "ada\0", "' OR '1'='1"] {
            assert!(matches!(store.find_login(login).await.unwrap(), Found::Nobody), "{login:?} in {store:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_take_the_login_or_the_email_of_another() {
    on_both(async |settings| {
        let store = open(&settings).await;
        let ada = NewAccount { email: Some("ada@example.org".to_owned()), ..person("ada") };
        store.add_account(&ada).await.unwrap();
        for taken in [
            person("ada"),
            person("ada@example.org"),
            NewAccount { email: Some("ada".to_owned()), ..person("eve") },
            NewAccount { email: Some("ada@example.org".to_owned()), ..person("eve") },
        ] {
            let error = store.add_account(&taken).await.unwrap_err();
            assert!(matches!(error, StoreError::LoginTaken { .. }), "{error}");
        }
        // People without an e-mail address do not stand in each other's way.
        store.add_account(&person("bob")).await.unwrap();
        store.add_account(&person("eve")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_additions_of_one_login_one_succeeds() {
    on_both(async |settings| {
        let store = open(&settings).await;
        // Makes the collection, with its unique index.
        store.add_account(&person("first")).await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.add_account(&person("ada")).await })
            })
            .collect();
        let mut added = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => added += 1,
                Err(error) => assert!(matches!(error, StoreError::LoginTaken { .. }), "{error}"),
            }
        }
        assert_eq!(added, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_are_given_once_and_taken_back() {
    on_both(async |settings| {
        let store = open(&settings).await;
        store.add_account(&person("ada")).await.unwrap();
        store.grant("ada", &grants(&["admin", "science"], &["read:x"])).await.unwrap();
        let account = store.grant("ada", &grants(&["science", "guest"], &[])).await.unwrap();
        assert_eq!(account.roles, ["admin", "science", "guest"]);
        let account = store.revoke("ada", &grants(&["admin", "never had"], &["read:x"])).await.unwrap();
        assert_eq!(account.roles, ["science", "guest"]);
        assert!(account.scopes.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_touches_its_own_account_and_field_only() {
    on_both(async |settings| {
        let store = open(&settings).await;
        store.add_account(&person("ada")).await.unwrap();
        store.add_account(&person("bob")).await.unwrap();
        store.set_password("ada", &PasswordHash::new("another")).await.unwrap();
        store.set_disabled("ada", true).await.unwrap();
        assert_eq!(password_of(store.as_ref(), "ada").await.unwrap(), "another");
        assert_eq!(password_of(store.as_ref(), "bob").await.unwrap(), "hash of bob");
        let all: Vec<_> = store.accounts(0, 10).await.unwrap().into_iter().map(Result::unwrap).collect();
        let disabled: Vec<_> = all.iter().map(|account| (account.login.as_str(), account.disabled)).collect();
        assert_eq!(disabled, [("ada", true), ("bob", false)]);
        store.set_disabled("ada", false).await.unwrap();
        store.remove_account("bob").await.unwrap();
        assert!(password_of(store.as_ref(), "bob").await.is_none());
        assert!(password_of(store.as_ref(), "ada").await.is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_nobody_says_so() {
    on_both(async |settings| {
        let store = open(&settings).await;
        let nobody = [
            store.set_password("ada", &PasswordHash::new("x")).await,
            store.set_disabled("ada", true).await,
            store.remove_account("ada").await,
            store.grant("ada", &grants(&["r"], &[])).await.map(drop),
            store.revoke("ada", &grants(&["r"], &[])).await.map(drop),
        ];
        for outcome in nobody {
            assert!(matches!(outcome, Err(StoreError::NoAccount { .. })), "{outcome:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_listing_hold_every_account_once() {
    on_both(async |settings| {
        let store = open(&settings).await;
        for number in 0..7 {
            store.add_account(&person(&format!("user{number}"))).await.unwrap();
        }
        let mut seen = BTreeSet::new();
        for page in 0..3 {
            for account in store.accounts(page * 3, 3).await.unwrap() {
                assert!(seen.insert(account.unwrap().login));
            }
        }
        assert_eq!(seen.len(), 7);
        assert!(store.accounts(9, 3).await.unwrap().is_empty());
        assert!(store.accounts(0, 0).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_start_together_on_an_empty_database_share_one_key() {
    on_both(async |settings| {
        let key = |number: u64, algorithm: &str| {
            let material = SecretString::from(format!("private {number}"));
            StoredKey::new(format!("{algorithm}-{number}"), algorithm, material, UnixSeconds(1_700_000_000 + number))
        };
        let mut tasks = Vec::new();
        for number in 0..8 {
            let (settings, key) = (settings.clone(), key(number, "ES256"));
            tasks.push(tokio::spawn(async move { open(&settings).await.add_key_if_absent(&key).await.unwrap() }));
        }
        let mut standing = BTreeSet::new();
        for task in tasks {
            let key = task.await.unwrap();
            standing.insert((key.kid, key.material.expose_secret().to_owned()));
        }
        assert_eq!(standing.len(), 1, "{standing:?}");
        let store = open(&settings).await;
        store.add_key_if_absent(&key(9, "RS256")).await.unwrap();
        let all = store.keys().await.unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].kid.as_str(), all[1].created_at), ("RS256-9", UnixSeconds(1_700_000_009)));
        assert_eq!(all[1].material.expose_secret(), "private 9");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_takes_the_same_calls() {
    let mongod = Mongod::start(Kind::ReplicaSet);
    let store = open(&mongo(&mongod.fresh_uri(), default_mapping())).await;
    store.add_account(&person("ada")).await.unwrap();
    store.grant("ada", &grants(&["admin"], &[])).await.unwrap();
    let Found::One(record) = store.find_login("ada").await.unwrap() else {
        panic!("`ada` was not found");
    };
    assert_eq!(record.account.roles, ["admin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_file_is_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/tollgate.db");
    let store = open(&sqlite(&path)).await;
    store.add_account(&person("ada")).await.unwrap();
    for (name, expected) in [("new/tollgate.db", 0o600), ("new/tollgate.db-wal", 0o600), ("new", 0o700)] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{name} has mode {mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_openings_of_one_sqlite_file_see_each_other_and_survive_both_writing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = sqlite(&folder.path().join("tollgate.db"));
    let (gateway, command) = (open(&settings).await, open(&settings).await);
    let adding = async |store: &Arc<dyn Store>, prefix: &str| {
        for number in 0..20 {
            store.add_account(&person(&format!("{prefix}{number}"))).await.unwrap();
        }
    };
    tokio::join!(adding(&gateway, "a"), adding(&command, "b"));
    assert_eq!(gateway.accounts(0, 100).await.unwrap().len(), 40);
    command.remove_account("a0").await.unwrap();
    assert!(matches!(gateway.find_login("a0").await.unwrap(), Found::Nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_sqlite_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tollgate.db");
    std::fs::write(&path, "this is certainly not a database file, but rather some text of enough bytes".repeat(20))
        .unwrap();
    assert!(matches!(store::open(&sqlite(&path)).await, Err(StoreError::Sqlite(_))));
}
