//! Hashes that passlib 1.7.4 (with bcrypt 4.3) and Django 5.2 made, and hashes that nobody should compute. Many more of each are
//! made and checked in tests/interop.

use tokio::time::Instant;

use super::*;

/// What the hashes below were made of.
const PASSWORD: &str = "correct horse ü";

/// Cheap enough for tests: the settings allow 10 to 16, the code 4 to 16.
const CHEAP: NewHash = NewHash::Bcrypt { cost: 5 };

fn verify(stored: &str, password: &str, long_password: LongPassword) -> Result<bool, &'static str> {
    Stored::parse(&PasswordHash::new(stored))?.verify(password, long_password)
}

#[track_caller]
fn check(stored: &str, password: &str, expected: bool) {
    assert_eq!(verify(stored, password, LongPassword::Refuse), Ok(expected), "{stored}");
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
        // the same with type="i" and type="d"
        "$argon2i$v=19$m=1024,t=2,p=2$XYuRsrb2/p+TUkqJUYqx9g$z4NHeacDQD7p+tmlcNjvb4s5HOyPv6ruY253h7GDIK8",
        "$argon2d$v=19$m=1024,t=2,p=2$i1GKcY6RkhKi9D6ndA7hXA$QhoAqllYAz6QbCSFXySYAfdHmMVqqV4ch+rzIxI2tKM",
        // argon2-cffi's hash_secret(p, b"0123456789abcdef", 2, 1024, 2, 32, Type.I, version=16), and without its version
        "$argon2i$v=16$m=1024,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$nokGGrsD/xTTghXDqeD2mXFahaV+E5Nbjww6hgQOfTE",
        "$argon2i$m=1024,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$nokGGrsD/xTTghXDqeD2mXFahaV+E5Nbjww6hgQOfTE",
        // scrypt.using(rounds=10).hash(p)
        "$scrypt$ln=10,r=8,p=1$XSuFMIbQWgvhXCslJKQ0xg$Q8WCWaU1ynVrdAPeNfl2FjubayDMf2NzqNtMwfhe5fY",
        // pbkdf2_sha1, pbkdf2_sha256, pbkdf2_sha512, each .using(rounds=1000).hash(p)
        "$pbkdf2$1000$q5WS8p7TmjPm3HvvvRfi3A$a2kjQdV5D0axc5dIKCTlFmHv0U8",
        "$pbkdf2-sha256$1000$6F1LSSlFiHFu7T2n1Lq39g$8UzVGQHCkw8YrBZR.aw6P6tQrAuxtkehvQ/GgicsqP8",
        "$pbkdf2-sha512$1000$9z4nROjd.987B.Ac4xxDiA$RA57p.zFNA/rXzJcjDlpc3DMVMEfSChejN2.wnAkWeIM9KebnRMfYb1IsPFENSugC0YthZ4oQezOStBz2/s5MQ",
        // sha256_crypt and sha512_crypt with rounds=1000, and with rounds=5000, which is not written down
        "$5$rounds=1000$PFuTiMpBk2I8qO6R$WjtzUyI8hyhpild6bcnJzEPBVRnP02jyvV4QF8d/Z0C",
        "$5$Pkl9kq/xVfd6a34p$wxGqQSd8NIpKyAHub/C6tecOh81TGtdLa//TqhKdRV1",
        "$6$rounds=1000$k8qkWAwvjUVNw5UL$bxi/5OXzX6PdUgutnz7ZikEO8Vd64Ivbc.Nx/f9gHwjfBTGhMDWiuBzRJxBDEQgKnREnQaKv3esSwV1w2cjCu/",
        "$6$tYEnzYdL3Kl9FoBT$Vle59EUoHYJgoU99N9NTgQV.UfrF2oLZhfEVkxM7VUngqRRKzgm1YH.FY8PZry2/3ExXNNgvDJz0PhJssFSO..",
    ] {
        check(stored, PASSWORD, true);
        check(stored, "correct horse u", false);
        check(stored, "correct horse ü\0", false);
        check(stored, "", false);
    }
}

#[test]
fn hashes_of_django_match_their_password_and_no_other() {
    for stored in [
        // PBKDF2PasswordHasher and PBKDF2SHA1PasswordHasher, encode(p, salt, 1000)
        "pbkdf2_sha256$1000$ibJnQA8SaO1M7l2gglis07$gYmy6J9bVVL3f5PniykjXyYa6X99Tw62ihx9OmnRV/o=",
        "pbkdf2_sha1$1000$DLQubhoto5G3f2gm5KcchO$uxjz+mKsxNrR0AnFUABQjgSYiws=",
        // BCryptPasswordHasher and BCryptSHA256PasswordHasher with rounds = 5
        "bcrypt$$2b$05$yjXXu9Epi6GTtuqcb5Gcn.1DyAEN1f58yfYZgn5kNnvT6D3Tc13Ya",
        "bcrypt_sha256$$2b$05$TocMfGFIBnQNepzptpBqReTkvgh3r74Eo39qSYBLKYjp4uTwERq9W",
        // Argon2PasswordHasher with memory_cost = 1024, parallelism = 2
        "argon2$argon2id$v=19$m=1024,t=2,p=2$VElUWUNPTktyYXdZSnBrcXhsWVRmQQ$A4rEv8+D+/Ps/CRVBVrczSNtL1GTtnuiJLMav5JPT3g",
        // ScryptPasswordHasher, encode(p, salt, n=1024)
        "scrypt$1024$k6GnBQLfaUbwmnmNKoX5bq$8$5$ce6aLTxwgZxENBB72LSWMzhuV4ddE44qvjggHtPbq7Z3pMdFLJsK0CdxFYIGZWhBb4kPxYoo5HFe9DUnrTt7FA==",
    ] {
        check(stored, PASSWORD, true);
        check(stored, "correct horse u", false);
        check(stored, "correct horse ü\0", false);
        check(stored, "", false);
    }
}

#[test]
fn a_hash_of_the_empty_password_matches_nothing() {
    // bcrypt.using(rounds=5).hash(""), sha256_crypt.using(rounds=1000).hash("")
    for stored in [
        "$2b$05$mLKYt.bIbpa4X/jtV/nnouOXNcPCHdi.ZoQg42m/dzymSzDPTF9xu",
        "$5$rounds=1000$396tSKTU5Q5dff7d$Dp/aw3j84sR9eegTCpbx/Y.pYIqjzRRV3vFCk87KPoD",
    ] {
        check(stored, "", false);
    }
}

#[test]
fn spare_bits_of_the_base64_are_repaired_as_passlib_does() {
    // bcrypt.using(rounds=5).hash(p) with the lowest bit of the salt's and the checksum's last character set;
    // bcrypt.verify(p, h) is True
    check("$2b$05$UL3f4j/sqnGIbCVQxcCwWPx4vpO.1TfELSFLQihAZt2hjtq6AwdMT", PASSWORD, true);
    // bcrypt_sha256.using(rounds=5).hash(p) with the lowest bit of the salt's last character set
    let stored = "$bcrypt-sha256$v=2,t=2b,r=5$8m0QtuKSsrL9gY7DCNJwTv$DXuSpjGoWFWEYMUDaPnX.3sO5833iBq";
    check(stored, PASSWORD, true);
}

#[test]
fn bytes_after_the_72nd_are_refused_or_cut_by_the_setting() {
    // bcrypt.using(rounds=5).hash("a" * 72), and the same as Django stores it
    let plain = "$2b$05$G8/ixS/73n.GYQUnchcyJ.rXs0VPODvvOe5nZYvkkDm.BF1MBRsGO";
    let (exact, longer) = ("a".repeat(72), "a".repeat(72) + "X");
    for stored in [plain.to_owned(), format!("bcrypt${plain}")] {
        assert_eq!(verify(&stored, &exact, LongPassword::Refuse), Ok(true));
        assert_eq!(verify(&stored, &longer, LongPassword::Refuse), Ok(false));
        assert_eq!(verify(&stored, &longer, LongPassword::Truncate), Ok(true));
    }
    // bcrypt_sha256.using(rounds=5).hash("a" * 73)
    let digested = "$bcrypt-sha256$v=2,t=2b,r=5$rHpaVZPavRsEIFpiudKbdu$/S0zW5kGD0E19exaY3hFjMpzhiIeSce";
    check(digested, &"a".repeat(73), true);
    check(digested, &"a".repeat(74), false);
}

#[test]
fn a_nul_in_a_password_never_matches_a_bcrypt_hash() {
    // C implementations stop at the NUL, so this password would otherwise pass for `abc`.
    let made = make("abc", CHEAP).unwrap();
    assert_eq!(verify(made.expose(), "abc", LongPassword::Refuse), Ok(true));
    assert_eq!(verify(made.expose(), "abc\0abc", LongPassword::Truncate), Ok(false));
}

#[track_caller]
fn check_refused(stored: &str, reason: &str) {
    match Stored::parse(&PasswordHash::new(stored)) {
        Ok(_) => panic!("{stored} is taken"),
        Err(told) => assert!(told.contains(reason), "{stored}: {told}"),
    }
}

#[test]
fn a_hash_that_asks_for_too_much_is_refused_before_it_costs() {
    let bcrypt = "BUb7qhoommKf1X8SKzNn8u";
    let checksum = "u5bFz0N5S.WY9TlwZ.BJRlKzmFrv9rm";
    let argon2 = "WmsNgdC61zonZKyV0rq39g$2FwjXApghLL4/Lh9bPWrNeJ8x2osvDh+kOjr7oQwKcw";
    let bytes = "6F1LSSlFiHFu7T2n1Lq39g$8UzVGQHCkw8YrBZR.aw6P6tQrAuxtkehvQ/GgicsqP8";
    let (sha, django) = ("s".repeat(43), "gYmy6J9bVVL3f5PniykjXyYa6X99Tw62ihx9OmnRV/o=");
    let start = Instant::now();
    for (stored, reason) in [
        (format!("$2b$17${bcrypt}{checksum}"), "cost outside"),
        (format!("$2b$31${bcrypt}{checksum}"), "cost outside"),
        (format!("$2b$03${bcrypt}{checksum}"), "cost outside"),
        (format!("$2b$99${bcrypt}{checksum}"), "cost outside"),
        (format!("$bcrypt-sha256$v=2,t=2b,r=31${bcrypt}${checksum}"), "cost outside"),
        (format!("bcrypt$$2b$31${bcrypt}{checksum}"), "cost outside"),
        (format!("bcrypt_sha256$$2b$31${bcrypt}{checksum}"), "cost outside"),
        (format!("$argon2id$v=19$m=4194304,t=2,p=1${argon2}"), "256 MiB"),
        (format!("$argon2d$v=16$m=4194304,t=2,p=1${argon2}"), "256 MiB"),
        (format!("$argon2id$v=19$m=1024,t=4000000,p=1${argon2}"), "16 passes"),
        (format!("$argon2i$m=1024,t=17,p=1${argon2}"), "16 passes"),
        (format!("$argon2id$v=19$m=1024,t=2,p=17${argon2}"), "16 lanes"),
        (format!("argon2$argon2id$v=19$m=4194304,t=2,p=1${argon2}"), "256 MiB"),
        (format!("$argon2id$v=19$m=4294967296,t=2,p=1${argon2}"), "other parameters"),
        (format!("$scrypt$ln=19,r=8,p=1${argon2}"), "256 MiB"),
        (format!("$scrypt$ln=63,r=8,p=1${argon2}"), "256 MiB"),
        (format!("$scrypt$ln=18,r=8,p=5${argon2}"), "1 GiB"),
        (format!("$scrypt$ln=1,r=4294967,p=1${argon2}"), "blocks of 64"),
        (format!("$scrypt$ln=10,r=8,p=10000000${argon2}"), "16 passes"),
        (format!("scrypt$67108864$salt$8$1${django}"), "256 MiB"),
        (format!("$pbkdf2-sha256$5000001${bytes}"), "rounds outside"),
        (format!("$pbkdf2-sha512$99999999${bytes}"), "rounds outside"),
        (format!("pbkdf2_sha256$99999999$salt${django}"), "rounds outside"),
        (format!("$5$rounds=1000001$salt${sha}"), "rounds outside"),
        (format!("$6$rounds=99999999$salt${sha}{sha}"), "rounds outside"),
        (format!("$5$rounds=999999999$salt${sha}"), "not a number"),
        (format!("$2b$05${}", "u".repeat(4096)), "too long"),
    ] {
        check_refused(&stored, reason);
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(1), "took {:?}", start.elapsed());
}

#[test]
fn what_is_no_hash_is_refused_with_its_reason() {
    let argon2 = "WmsNgdC61zonZKyV0rq39g$2FwjXApghLL4/Lh9bPWrNeJ8x2osvDh+kOjr7oQwKcw";
    let bytes = "6F1LSSlFiHFu7T2n1Lq39g$8UzVGQHCkw8YrBZR.aw6P6tQrAuxtkehvQ/GgicsqP8";
    let bcrypt = "BUb7qhoommKf1X8SKzNn8uF0zN5S.WY9TlwZ.BJRlKzmFrv9rmBue";
    let (sha, django) = ("s".repeat(43), "gYmy6J9bVVL3f5PniykjXyYa6X99Tw62ihx9OmnRV/o=");
    for (stored, reason) in [
        (String::new(), "is empty"),
        ("$".to_owned(), "not supported"),
        ("plain text".to_owned(), "not supported"),
        ("ü".repeat(30), "not ASCII"),
        (format!("$2x$05${bcrypt}"), "not supported"),
        (format!("$2$05${bcrypt}"), "not supported"),
        (format!("bcrypt$$2x$05${bcrypt}"), "version of bcrypt"),
        (format!("bcrypt$2b$05${bcrypt}"), "parts of bcrypt"),
        (format!("$2b$5${bcrypt}"), "two-digit cost"),
        (format!("$2b$+5${bcrypt}"), "not a number"),
        (format!("$2b$05${bcrypt}$"), "parts of bcrypt"),
        ("$2b$05$tooshort".to_owned(), "is cut off"),
        (format!("$2b$05${}", bcrypt.replace('F', "!")), "checksum that is not 23 bytes"),
        ("!cannot-log-in".to_owned(), "not supported"),
        ("md5$salt$5f4dcc3b5aa765d61d8327deb882cf99".to_owned(), "not supported"),
        (format!("$argon2id$v=19$m=1024,t=2,p=2${}", &argon2[..22]), "parts of argon2"),
        (format!("$argon2id$v=17$m=1024,t=2,p=2${argon2}"), "version of argon2"),
        (format!("$argon2x$v=19$m=1024,t=2,p=2${argon2}"), "not supported"),
        (format!("$argon2id$v=19$m=1024,t=2,p=2,keyid=AAAA${argon2}"), "other parameters"),
        (format!("$argon2id$v=19$m=1024,t=2${argon2}"), "other parameters"),
        (format!("$argon2id$v=19$m=7,t=2,p=1${argon2}"), "does not allow"),
        (format!("$argon2id$v=19$m=1024,t=0,p=1${argon2}"), "does not allow"),
        (format!("$argon2id$v=19$m=1024,t=2,p=0${argon2}"), "does not allow"),
        ("$argon2id$v=19$m=1024,t=2,p=2$c2FsdA$2FwjXApghLL4".to_owned(), "length"),
        (format!("$scrypt$ln=0,r=8,p=1${argon2}"), "scrypt"),
        (format!("$scrypt$ln=10,r=0,p=1${argon2}"), "does not allow"),
        (format!("$scrypt$ln=10,r=8,p=0${argon2}"), "does not allow"),
        (format!("$scrypt$ln=10,p=1,r=8${argon2}"), "other parameters"),
        (format!("scrypt$1000$salt$8$1${django}"), "power of two"),
        (format!("scrypt$0$salt$8$1${django}"), "power of two"),
        (format!("scrypt$1024$salt$8$1${django}"), "64 bytes"),
        (format!("$pbkdf2-sha256$0${bytes}"), "rounds outside"),
        (format!("$pbkdf2-sha256$01000${bytes}"), "not a number"),
        (format!("$pbkdf2-sha512$1000${bytes}"), "digest's length"),
        ("$pbkdf2-sha256$1000$6F1LSSlFiHFu7T2n1Lq39g$".to_owned(), "digest's length"),
        (format!("$pbkdf2-sha256$1000${}", bytes.replace('.', "+")), "passlib's base64"),
        (format!("pbkdf2_sha1$1000$salt${django}"), "digest's length"),
        (format!("$5$rounds=999$salt${sha}"), "rounds outside"),
        (format!("$5$rounds=5000${sha}"), "parts of sha-crypt"),
        (format!("$5$seventeen-letters${sha}"), "does not allow"),
        (format!("$6$salt${sha}"), "does not allow"),
    ] {
        check_refused(&stored, reason);
    }
}

#[test]
fn a_new_hash_is_of_the_configured_scheme_and_matches() {
    for (scheme, start) in [(CHEAP, "$2b$05$"), (NewHash::Argon2id, "$argon2id$v=19$m=19456,t=2,p=1$")] {
        let made = make(PASSWORD, scheme).unwrap();
        assert!(made.expose().starts_with(start));
        check(made.expose(), PASSWORD, true);
        check(made.expose(), "other", false);
    }
}

#[test]
fn the_hash_of_nobody_costs_what_a_new_one_costs_and_matches_nothing() {
    for scheme in [CHEAP, NewHash::Argon2id] {
        let nobody = of_nobody(scheme);
        for password in [PASSWORD, ""] {
            assert_eq!(nobody.verify(password, LongPassword::Refuse), Ok(false));
        }
        let new = Stored::parse(&make(PASSWORD, scheme).unwrap()).unwrap();
        assert_eq!(nobody.work(""), new.work(PASSWORD));
    }
}

#[test]
fn debug_shows_nothing_of_a_hash() {
    assert_eq!(format!("{:?}", of_nobody(CHEAP)), "Stored([redacted])");
}

#[test]
fn a_new_password_that_could_not_be_used_is_refused() {
    let refused = |password: &str, scheme| check_new(password, scheme).unwrap_err();
    assert!(matches!(refused("", NewHash::Argon2id), NewPasswordError::Empty));
    assert!(matches!(refused("a\0b", NewHash::Argon2id), NewPasswordError::Nul));
    assert!(matches!(refused(&"a".repeat(1025), NewHash::Argon2id), NewPasswordError::TooLong));
    assert!(matches!(refused(&"a".repeat(73), CHEAP), NewPasswordError::TooLongForBcrypt));
    check_new(&"a".repeat(72), CHEAP).unwrap();
    check_new(&"a".repeat(1024), NewHash::Argon2id).unwrap();
}

#[test]
fn a_hash_is_upgraded_when_it_is_cheaper_or_of_another_scheme_and_never_cut() {
    let of = |scheme| make("pass", scheme).unwrap();
    let (bcrypt, argon2) = (NewHash::Bcrypt { cost: 5 }, NewHash::Argon2id);
    let needs = |old: &PasswordHash, new| needs_upgrade(old, "pass", new);
    for (old, new, expected) in [
        (of(NewHash::Bcrypt { cost: 4 }), bcrypt, true),
        (of(bcrypt), bcrypt, false),
        (of(NewHash::Bcrypt { cost: 6 }), bcrypt, false),
        (of(argon2), bcrypt, true),
        (of(bcrypt), argon2, true),
        (of(argon2), argon2, false),
        (PasswordHash::new("$argon2id$v=19$m=8192,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"), argon2, true),
        (PasswordHash::new("$argon2i$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"), argon2, true),
        (PasswordHash::new("$argon2id$m=65536,t=3,p=4$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"), argon2, true),
        (PasswordHash::new("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"), argon2, false),
        (PasswordHash::new("nothing"), bcrypt, false),
    ] {
        assert_eq!(needs(&old, new), expected, "{} to {new:?}", old.expose());
    }
    let long = "x".repeat(73);
    let cut = make(&long[..72], NewHash::Bcrypt { cost: 4 }).unwrap();
    assert!(!needs_upgrade(&cut, &long, argon2), "only 72 bytes of it are proved");
    assert!(!needs_upgrade(&of(argon2), &long, bcrypt), "bcrypt would keep only 72 bytes of it");
    assert!(!needs_upgrade(&of(argon2), "a\0b", bcrypt));
}
