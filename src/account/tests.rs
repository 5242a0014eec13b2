//! Logins against a real SQLite store, and hashes that passlib 1.7.4 with bcrypt 4.1.2 made.

use tokio::time::Instant;

use super::*;
use crate::store::{self, Grants, NewAccount, StoreLocation, StoreSettings, UserFields, UserMapping};

/// What the hashes below were made of.
const PASSWORD: &str = "correct horse ü";

/// Cheap enough for tests: the settings allow 10 to 16, the code 4 to 16.
const CHEAP: NewHash = NewHash::Bcrypt { cost: 5 };

#[track_caller]
fn check(stored: &str, password: &str, expected: &Verdict) {
    let verdict = hash::verify(password, &PasswordHash::new(stored), LongPassword::Refuse);
    assert_eq!(verdict, *expected, "{stored}");
}

#[test]
fn hashes_of_passlib_match_their_password_and_no_other() {
    for stored in [
        // bcrypt.using(rounds=5).hash(p), and with ident="2a", ident="2y"
        "$2b$05$BUb7qhoommKf1X8SKzNn8uF0zN5S.WY9TlwZ.BJRlKzmFrv9rmBue",
        "$2a$05$Zx2PnAN.Pc.vb3UnOL6HFORkBmQYun0zl.NsErdmnVt3HH/Q8dHdy",
        "$2y$05$EYTUfTQQeO14cVXXZAiTiOZcg3lhx0BSfElGkbUAGdDMv13pPNjQa",
        // bcrypt_sha256.using(rounds=5).hash(p), with version=1, and with version=1, ident="2a"
        "$bcrypt-sha256$v=2,t=2b,r=5$yHLJLVmQtGq3zaHAFtIjye$6666MpWa3ZKUhYVtKAb4qPKzOoCLx.2",
        "$bcrypt-sha256$2b,5$C95PRrs6WSAf4muraNd8vu$52iUVcrQFbDxLHDBaIPx93bI4aaZz0W",
        "$bcrypt-sha256$2a,5$YwEluDRvLmNNZWRndwxUNe$S9pwAF25CjYucC6fnWYzOZfzgIka5OS",
        // argon2.using(memory_cost=1024, rounds=2, parallelism=2).hash(p)
        "$argon2id$v=19$m=1024,t=2,p=2$WmsNgdC61zonZKyV0rq39g$2FwjXApghLL4/Lh9bPWrNeJ8x2osvDh+kOjr7oQwKcw",
        // pbkdf2_sha256.using(rounds=1000).hash(p)
        "$pbkdf2-sha256$1000$6F1LSSlFiHFu7T2n1Lq39g$8UzVGQHCkw8YrBZR.aw6P6tQrAuxtkehvQ/GgicsqP8",
    ] {
        check(stored, PASSWORD, &Verdict::Match);
        check(stored, "correct horse u", &Verdict::Mismatch);
        check(stored, "", &Verdict::Mismatch);
    }
}

#[test]
fn spare_bits_of_the_base64_are_repaired_as_passlib_does() {
    // bcrypt.using(rounds=5).hash(p) with the lowest bit of the salt's and the checksum's last character set;
    // bcrypt.verify(p, h) is True
    check("$2b$05$UL3f4j/sqnGIbCVQxcCwWPx4vpO.1TfELSFLQihAZt2hjtq6AwdMT", PASSWORD, &Verdict::Match);
    // bcrypt_sha256.using(rounds=5).hash(p) with the lowest bit of the salt's last character set
    let stored = "$bcrypt-sha256$v=2,t=2b,r=5$8m0QtuKSsrL9gY7DCNJwTv$DXuSpjGoWFWEYMUDaPnX.3sO5833iBq";
    check(stored, PASSWORD, &Verdict::Match);
}

#[test]
fn bytes_after_the_72nd_are_refused_or_cut_by_the_setting() {
    // bcrypt.using(rounds=5).hash("a" * 72)
    let stored = PasswordHash::new("$2b$05$G8/ixS/73n.GYQUnchcyJ.rXs0VPODvvOe5nZYvkkDm.BF1MBRsGO");
    let (exact, longer) = ("a".repeat(72), "a".repeat(72) + "X");
    assert_eq!(hash::verify(&exact, &stored, LongPassword::Refuse), Verdict::Match);
    assert_eq!(hash::verify(&longer, &stored, LongPassword::Refuse), Verdict::Mismatch);
    assert_eq!(hash::verify(&longer, &stored, LongPassword::Truncate), Verdict::Match);
    // bcrypt_sha256.using(rounds=5).hash("a" * 73)
    let digested = "$bcrypt-sha256$v=2,t=2b,r=5$rHpaVZPavRsEIFpiudKbdu$/S0zW5kGD0E19exaY3hFjMpzhiIeSce";
    check(digested, &"a".repeat(73), &Verdict::Match);
    check(digested, &"a".repeat(74), &Verdict::Mismatch);
}

#[test]
fn a_nul_in_a_password_never_matches_a_bcrypt_hash() {
    // C implementations stop at the NUL, so this password would otherwise pass for `abc`.
    let made = hash::make("abc", CHEAP).unwrap();
    assert_eq!(hash::verify("abc", &made, LongPassword::Refuse), Verdict::Match);
    assert_eq!(hash::verify("abc\0abc", &made, LongPassword::Truncate), Verdict::Mismatch);
}

#[test]
fn a_hash_that_asks_for_too_much_is_refused_before_it_costs() {
    let checksum = "u5bFz0N5S.WY9TlwZ.BJRlKzmFrv9rm";
    let start = Instant::now();
    for stored in [
        format!("$2b$17$BUb7qhoommKf1X8SKzNn8u{checksum}"),
        format!("$2b$31$BUb7qhoommKf1X8SKzNn8u{checksum}"),
        format!("$2b$03$BUb7qhoommKf1X8SKzNn8u{checksum}"),
        format!("$bcrypt-sha256$v=2,t=2b,r=31$BUb7qhoommKf1X8SKzNn8u${checksum}"),
        format!("$2x$05$BUb7qhoommKf1X8SKzNn8u{checksum}"),
        "$argon2id$v=19$m=4194304,t=2,p=1$WmsNgdC61zonZKyV0rq39g$2FwjXApghLL4/Lh9bPWrNeJ8x2osvDh+kOjr7oQwKcw".into(),
        "$argon2id$v=19$m=1024,t=4000000,p=1$WmsNgdC61zonZKyV0rq39g$2FwjXApghLL4/Lh9bPWrNeJ8x2osvDh+kOjr7oQwKcw".into(),
        "$argon2id$v=19$m=1024,t=2,p=17$WmsNgdC61zonZKyV0rq39g$2FwjXApghLL4/Lh9bPWrNeJ8x2osvDh+kOjr7oQwKcw".into(),
        "$argon2id$v=19$m=1024,t=2,p=2$WmsNgdC61zonZKyV0rq39g".into(),
        "$pbkdf2-sha256$2000001$6F1LSSlFiHFu7T2n1Lq39g$8UzVGQHCkw8YrBZR.aw6P6tQrAuxtkehvQ/GgicsqP8".into(),
        "$pbkdf2-sha256$0$6F1LSSlFiHFu7T2n1Lq39g$8UzVGQHCkw8YrBZR.aw6P6tQrAuxtkehvQ/GgicsqP8".into(),
        "$pbkdf2-sha256$1000$6F1LSSlFiHFu7T2n1Lq39g$".into(),
        "plain text".into(),
        String::new(),
        "ü".repeat(30),
        format!("$2b$05${}", "u".repeat(4096)),
    ] {
        let verdict = hash::verify(PASSWORD, &PasswordHash::new(stored.as_str()), LongPassword::Refuse);
        assert!(matches!(verdict, Verdict::Unusable { .. }), "{stored}: {verdict:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
}

#[test]
fn a_new_hash_is_of_the_configured_scheme_and_matches() {
    for (scheme, start) in [(CHEAP, "$2b$05$"), (NewHash::Argon2id, "$argon2id$v=19$m=19456,t=2,p=1$")] {
        let made = hash::make(PASSWORD, scheme).unwrap();
        assert!(made.expose().starts_with(start));
        check(made.expose(), PASSWORD, &Verdict::Match);
        check(made.expose(), "other", &Verdict::Mismatch);
    }
}

#[test]
fn the_hash_of_nobody_is_valid_and_matches_nothing() {
    for scheme in [CHEAP, NewHash::Argon2id] {
        check(hash::of_nobody(scheme).expose(), PASSWORD, &Verdict::Mismatch);
        check(hash::of_nobody(scheme).expose(), "", &Verdict::Mismatch);
    }
}

#[test]
fn a_new_password_that_could_not_be_used_is_refused() {
    let refused = |password: &str, scheme| hash::check_new(password, scheme).unwrap_err();
    assert!(matches!(refused("", NewHash::Argon2id), NewPasswordError::Empty));
    assert!(matches!(refused("a\0b", NewHash::Argon2id), NewPasswordError::Nul));
    assert!(matches!(refused(&"a".repeat(1025), NewHash::Argon2id), NewPasswordError::TooLong));
    assert!(matches!(refused(&"a".repeat(73), CHEAP), NewPasswordError::TooLongForBcrypt));
    hash::check_new(&"a".repeat(72), CHEAP).unwrap();
    hash::check_new(&"a".repeat(1024), NewHash::Argon2id).unwrap();
}

/// Accounts in a fresh store: `ada` with [`PASSWORD`], `eve` disabled, `bad` with a broken hash.
async fn accounts(cost: u32) -> (tempfile::TempDir, Accounts) {
    let folder = tempfile::tempdir().unwrap();
    let store = store::open(&settings(folder.path().join("tollgate.db"))).await.unwrap();
    let scheme = NewHash::Bcrypt { cost };
    for (login, password) in [
        ("ada", hash::make(PASSWORD, scheme).unwrap()),
        ("eve", hash::make(PASSWORD, scheme).unwrap()),
        ("bad", PasswordHash::new("$2b$31$broken")),
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
    };
    (folder, Accounts::new(store, &settings))
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
    let log_in = async |login: &str, password: &str| accounts.log_in(login, &SecretString::from(password)).await;
    assert_eq!(log_in("ada", PASSWORD).await.unwrap().login, "ada");
    assert!(matches!(log_in("ada", "wrong").await, Err(LoginError::WrongPassword { .. })));
    assert!(matches!(log_in("Ada", PASSWORD).await, Err(LoginError::UnknownUser)));
    assert!(matches!(log_in("eve", PASSWORD).await, Err(LoginError::Disabled { .. })));
    assert!(matches!(log_in("eve", "wrong").await, Err(LoginError::Disabled { .. })));
    assert!(matches!(log_in("bad", PASSWORD).await, Err(LoginError::MalformedRecord { .. })));
    assert!(matches!(log_in(&"a".repeat(1025), PASSWORD).await, Err(LoginError::UnknownUser)));
    assert!(matches!(log_in("ada", &"a".repeat(1025)).await, Err(LoginError::WrongPassword { .. })));
}

#[tokio::test]
async fn every_failed_login_takes_the_time_of_a_wrong_password() {
    let (_folder, accounts) = accounts(9).await;
    let long = "a".repeat(73);
    let kinds =
        [("ada", "wrong"), ("nobody", "wrong"), ("eve", PASSWORD), ("bad", "wrong"), ("ada", "a\0b"), ("ada", &long)];
    // One kind after the other, so that what else the machine does slows all of them.
    let medians = async || {
        let mut times = vec![Vec::new(); kinds.len()];
        for _ in 0..9 {
            for ((login, password), times) in kinds.iter().zip(&mut times) {
                let password = SecretString::from(*password);
                let start = Instant::now();
                accounts.log_in(login, &password).await.unwrap_err();
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
