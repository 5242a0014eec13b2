//! What a MongoDB says of itself, and whether what logins and starts read can be read.

use mongodb::bson::{Document, doc};

use super::call::READ_LIMIT;
use super::{KEYS_COLLECTION, Mongo, accounts};
use crate::store::{KeyStore, StoreError, StoredKey};

/// Version, topology and what is in the collections, in words without addresses. Writes nothing.
pub(super) async fn survey(mongo: &Mongo) -> Result<String, StoreError> {
    let hello = command(mongo, doc! { "hello": 1 }).await?;
    let build = command(mongo, doc! { "buildInfo": 1 }).await?;
    let people = accounts::list(mongo, 0, 1).await?;
    let mut keys = mongo.keys().await?;
    keys.retain(StoredKey::signs_tokens);
    let version = build.get_str("version").unwrap_or("of unknown version");
    let users = mongo.users.name();
    let people = match people.first() {
        None => format!("nobody in `{users}` yet"),
        Some(Ok(_)) => format!("people in `{users}`"),
        Some(Err(_)) => format!("people in `{users}`, the first of whom cannot be read (see `tollgate user list`)"),
    };
    let keys = match keys.len() {
        0 => format!("no signing key in `{KEYS_COLLECTION}` yet"),
        1 => format!("1 signing key in `{KEYS_COLLECTION}`"),
        count => format!("{count} signing keys in `{KEYS_COLLECTION}`"),
    };
    Ok(format!("MongoDB {version}, {}; {people}; {keys}", topology(&hello)))
}

async fn command(mongo: &Mongo, command: Document) -> Result<Document, StoreError> {
    let database = mongo.database.clone();
    Ok(mongo.calls.run(READ_LIMIT, async move { database.run_command(command).await }).await?)
}

/// What a server's `hello` says of the deployment that it belongs to.
fn topology(hello: &Document) -> String {
    if hello.get_str("msg").is_ok_and(|text| text == "isdbgrid") {
        return "a sharded cluster".to_owned();
    }
    let Ok(name) = hello.get_str("setName") else { return "a single server".to_owned() };
    let members = ["hosts", "passives", "arbiters"].map(|kind| hello.get_array(kind).map_or(0, Vec::len));
    let members: usize = members.into_iter().sum();
    let noun = if members == 1 { "member" } else { "members" };
    let has_primary = hello.get_str("primary").is_ok() || hello.get_bool("isWritablePrimary").unwrap_or(false);
    let primary = if has_primary { "with a primary" } else { "without a primary" };
    format!("replica set `{name}` of {members} {noun}, {primary}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_told_in_words() {
        let member = doc! { "setName": "rs0", "hosts": ["a:1", "b:1"], "arbiters": ["c:1"], "primary": "a:1" };
        for (hello, expected) in [
            (doc! { "isWritablePrimary": true }, "a single server"),
            (doc! { "msg": "isdbgrid", "isWritablePrimary": true }, "a sharded cluster"),
            (member, "replica set `rs0` of 3 members, with a primary"),
            (doc! { "setName": "rs0", "hosts": ["a:1"] }, "replica set `rs0` of 1 member, without a primary"),
        ] {
            assert_eq!(topology(&hello), expected);
        }
    }
}
