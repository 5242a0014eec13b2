//! The people in the SQLite file. A person logs in with the login or with the e-mail address.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::record::{random_uuid, uuid_text};
use crate::store::{
    Account, Found, Grants, LoginRecord, MAX_PAGE, MalformedRecord, NewAccount, PasswordHash, StoreError,
};
use crate::time::UnixSeconds;

pub(super) fn find(connection: &Connection, login: &str) -> Result<Found, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT subject, login, name, email, disabled, password FROM accounts WHERE login = ?1 OR email = ?1 LIMIT 2",
    )?;
    let mut found = statement.query_map([login], record)?.collect::<Result<Vec<_>, _>>()?;
    match (found.pop(), found.is_empty()) {
        (None, _) => Ok(Found::Nobody),
        (Some(_), false) => Ok(Found::Several),
        (Some(record), true) => found_one(connection, record),
    }
}

pub(super) fn find_subject(connection: &Connection, subject: &str) -> Result<Found, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT subject, login, name, email, disabled, password FROM accounts WHERE subject = ?1")?;
    match statement.query_row([subject], record).optional()? {
        None => Ok(Found::Nobody),
        Some(record) => found_one(connection, record),
    }
}

pub(super) fn list(
    connection: &Connection,
    skip: u64,
    limit: usize,
) -> Result<Vec<Result<Account, MalformedRecord>>, StoreError> {
    let skip = i64::try_from(skip).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit.min(MAX_PAGE)).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT subject, login, name, email, disabled FROM accounts ORDER BY login LIMIT ?1 OFFSET ?2",
    )?;
    let accounts = statement.query_map([limit, skip], account)?.collect::<Result<Vec<_>, _>>()?;
    accounts.into_iter().map(|account| Ok(Ok(with_grants(connection, account)?))).collect()
}

pub(super) fn add(connection: &Connection, new: NewAccount) -> Result<Account, StoreError> {
    for login in [Some(&new.login), new.email.as_ref()].into_iter().flatten() {
        let taken: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM accounts WHERE login = ?1 OR email = ?1)",
            [login],
            |row| row.get(0),
        )?;
        if taken {
            return Err(StoreError::LoginTaken { login: login.clone() });
        }
    }
    let account = Account {
        subject: uuid_text(random_uuid()?),
        login: new.login,
        name: new.name,
        email: new.email,
        roles: Vec::new(),
        scopes: Vec::new(),
        disabled: false,
    };
    connection.execute(
        "INSERT INTO accounts (subject, login, name, email, password, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            account.subject,
            account.login,
            account.name,
            account.email,
            new.password.expose(),
            UnixSeconds::now().0.cast_signed()
        ],
    )?;
    insert_grants(connection, &account.subject, &new.grants)?;
    with_grants(connection, account)
}

pub(super) fn set_password(connection: &Connection, login: &str, password: &PasswordHash) -> Result<(), StoreError> {
    let subject = only(connection, login)?.subject;
    connection.execute("UPDATE accounts SET password = ?2 WHERE subject = ?1", params![subject, password.expose()])?;
    Ok(())
}

pub(super) fn upgrade_password(
    connection: &Connection,
    login: &str,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<bool, StoreError> {
    let subject = only(connection, login)?.subject;
    let changed = connection.execute(
        "UPDATE accounts SET password = ?3 WHERE subject = ?1 AND password = ?2",
        params![subject, old.expose(), new.expose()],
    )?;
    Ok(changed == 1)
}

pub(super) fn set_disabled(connection: &Connection, login: &str, disabled: bool) -> Result<(), StoreError> {
    let subject = only(connection, login)?.subject;
    connection.execute("UPDATE accounts SET disabled = ?2 WHERE subject = ?1", params![subject, disabled])?;
    Ok(())
}

pub(super) fn grant(connection: &Connection, login: &str, grants: &Grants) -> Result<Account, StoreError> {
    let account = only(connection, login)?;
    insert_grants(connection, &account.subject, grants)?;
    with_grants(connection, account)
}

pub(super) fn revoke(connection: &Connection, login: &str, grants: &Grants) -> Result<Account, StoreError> {
    let account = only(connection, login)?;
    let mut statement =
        connection.prepare_cached("DELETE FROM grants WHERE subject = ?1 AND kind = ?2 AND value = ?3")?;
    for (kind, value) in kinds(grants) {
        statement.execute([&account.subject, kind, value])?;
    }
    with_grants(connection, account)
}

pub(super) fn remove(connection: &Connection, login: &str) -> Result<(), StoreError> {
    let subject = only(connection, login)?.subject;
    connection.execute("DELETE FROM accounts WHERE subject = ?1", [subject])?;
    Ok(())
}

/// The one account with this login, without its grants.
fn only(connection: &Connection, login: &str) -> Result<Account, StoreError> {
    match find(connection, login)? {
        Found::One(record) => Ok(record.account),
        Found::Nobody => Err(StoreError::NoAccount { login: login.to_owned() }),
        Found::Several => Err(StoreError::SeveralAccounts { login: login.to_owned() }),
        Found::Malformed(record) => Err(record.into()),
    }
}

fn insert_grants(connection: &Connection, subject: &str, grants: &Grants) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO grants (subject, kind, value) VALUES (?1, ?2, ?3)")?;
    for (kind, value) in kinds(grants) {
        statement.execute([subject, kind, value])?;
    }
    Ok(())
}

fn kinds(grants: &Grants) -> impl Iterator<Item = (&'static str, &str)> {
    let roles = grants.roles.iter().map(|role| ("role", role.as_str()));
    roles.chain(grants.scopes.iter().map(|scope| ("scope", scope.as_str())))
}

fn with_grants(connection: &Connection, mut account: Account) -> Result<Account, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT value FROM grants WHERE subject = ?1 AND kind = ?2 ORDER BY number")?;
    for (kind, values) in [("role", &mut account.roles), ("scope", &mut account.scopes)] {
        *values = statement.query_map([&account.subject, kind], |row| row.get(0))?.collect::<Result<_, _>>()?;
    }
    Ok(account)
}

fn found_one(connection: &Connection, record: LoginRecord) -> Result<Found, StoreError> {
    Ok(Found::One(LoginRecord { account: with_grants(connection, record.account)?, password: record.password }))
}

fn record(row: &Row<'_>) -> rusqlite::Result<LoginRecord> {
    Ok(LoginRecord { account: account(row)?, password: PasswordHash::new(row.get::<_, String>(5)?) })
}

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        subject: row.get(0)?,
        login: row.get(1)?,
        name: row.get(2)?,
        email: row.get(3)?,
        roles: Vec::new(),
        scopes: Vec::new(),
        disabled: row.get(4)?,
    })
}
