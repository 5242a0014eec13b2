//! `[login]`: its endpoints, and how passwords are checked.

use std::time::Duration;

use crate::account::{LongPassword, NewHash, PasswordSettings, Priority};
use crate::issuer::{Aliases, LoginSettings};

use super::cookie::cookie;
use super::reader::{Fault, Findings, Section};
use super::routes::scope;
use super::value::{boolean, choice, duration, integer, text, word};

/// Longest wait for a store that does not answer: clients and proxies give up before.
const LONGEST_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
enum Scheme {
    Bcrypt,
    Argon2id,
}

pub(super) fn login(file: &Section<'_>, is_development: bool, findings: &mut Findings) -> Option<LoginSettings> {
    let section = file.table("login", findings)?;
    let prefix = section.read("prefix", findings, text(plain_path));
    let password_grant = section.read("password_grant", findings, boolean);
    let client_id = section.read("client_id", findings, text(word));
    // The aliases are read when it is known what else there is.
    let aliases = Aliases::default();
    let cookie = cookie(&section, is_development, findings);
    let register = section.read("register", findings, boolean);
    let introspection_scope = section.optional("introspection_scope", findings, text(scope));
    let store_patience = section.read("store_patience", findings, duration(Duration::ZERO..=LONGEST_PATIENCE));
    Some(LoginSettings {
        prefix: prefix?,
        password_grant: password_grant?,
        client_id: client_id?,
        cookie: cookie?,
        register: register?,
        introspection_scope: introspection_scope?,
        aliases,
        store_patience: store_patience?,
    })
}

pub(super) fn passwords(file: &Section<'_>, findings: &mut Findings) -> Option<PasswordSettings> {
    // What is wrong with the table itself was noted with the endpoints.
    let login = file.table("login", &mut Findings::default())?;
    let long = [("refuse", LongPassword::Refuse), ("truncate", LongPassword::Truncate)];
    let long_password = login.read("long_password", findings, text(choice(&long)));
    let hash = login.table("hash", findings)?;
    let schemes = [("bcrypt", Scheme::Bcrypt), ("argon2id", Scheme::Argon2id)];
    let scheme = hash.read("scheme", findings, text(choice(&schemes)));
    let cost = hash.read("cost", findings, integer(10..=16));
    let threads = hash.read("threads", findings, integer(0..=256));
    let queue = hash.read("queue", findings, integer(1..=100_000));
    let priorities = [("idle", Priority::Idle), ("low", Priority::Low)];
    let priority = hash.read("priority", findings, text(choice(&priorities)));
    let upgrade = hash.read("upgrade", findings, boolean);
    let new_hash = match scheme? {
        Scheme::Bcrypt => NewHash::Bcrypt { cost: cost? },
        Scheme::Argon2id => {
            if hash.given("cost").is_some() {
                let message = "`login.hash.cost` is bcrypt's, and `login.hash.scheme` is \"argon2id\"";
                return findings.refuse(hash.problem("cost", message).hint("remove `cost`"));
            }
            NewHash::Argon2id
        }
    };
    let (threads, queue, priority) = (threads?, queue?, priority?);
    Some(PasswordSettings { new_hash, long_password: long_password?, threads, queue, priority, upgrade: upgrade? })
}

/// A path of letters, digits and `-._~`, which nothing on the way needs to encode.
pub(super) fn plain_path(text: &str) -> Result<String, Fault> {
    let plain = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    match text.strip_prefix('/') {
        Some(path) if path.split('/').all(plain) => Ok(text.to_owned()),
        Some(_) | None => {
            Err(Fault::new("is not a path that begins with `/`, does not end with it, and has nothing to encode")
                .hint("write \"/auth\""))
        }
    }
}
