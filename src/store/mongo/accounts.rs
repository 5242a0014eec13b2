//! The people in MongoDB. A change touches only the field that it is about, because the documents belong to others.

use futures_util::TryStreamExt;
use mongodb::IndexModel;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::options::{IndexOptions, ReadPreference, SelectionCriteria};

use super::Mongo;
use super::call::{CallError, READ_LIMIT, WRITE_LIMIT, is_unreadable};
use super::mapping::{strings, value_at};
use crate::store::record::{random_uuid, uuid_text};
use crate::store::{
    Account, Found, Grants, LoginRecord, MAX_PAGE, MalformedRecord, NewAccount, PasswordHash, StoreError,
};

/// Beanie's mark of a document's version: a stale `save()` of an application must notice our change.
const REVISION: &str = "revision_id";
/// Tries of a change that others make at the same time.
const MAX_TRIES: usize = 5;

/// Whether grants are given or taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Grant,
    Revoke,
}

pub(super) async fn find(mongo: &Mongo, login: &str) -> Result<Found, StoreError> {
    match two(mongo, mongo.mapping.by_login(login), None).await? {
        Two::Unreadable(malformed) => Ok(Found::Malformed(malformed)),
        Two::Read(documents) => Ok(only_one(&documents, |document| mongo.mapping.login_record(document, login))),
    }
}

/// From the primary: who was disabled a moment ago is to be refused.
pub(super) async fn find_subject(mongo: &Mongo, subject: &str) -> Result<Found, StoreError> {
    let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
    match two(mongo, mongo.mapping.by_subject(subject), Some(primary)).await? {
        Two::Unreadable(malformed) => Ok(Found::Malformed(malformed)),
        Two::Read(documents) => Ok(only_one(&documents, |document| mongo.mapping.subject_record(document, subject))),
    }
}

/// At most two documents, or why not even their bytes can be read.
enum Two {
    Unreadable(MalformedRecord),
    Read(Vec<Document>),
}

async fn two(mongo: &Mongo, filter: Document, criteria: Option<SelectionCriteria>) -> Result<Two, StoreError> {
    let users = mongo.users.clone();
    let projection = mongo.mapping.projection(Some(&mongo.mapping.fields().password), None);
    let answer = mongo
        .calls
        .run(READ_LIMIT, async move {
            let find = users.find(filter).projection(projection).limit(2).max_time(READ_LIMIT);
            let found = match criteria {
                Some(criteria) => find.selection_criteria(criteria).await?,
                None => find.await?,
            };
            // An answer that cannot be read is the server's fault; a document in it that cannot be, the person's.
            Ok(found.try_collect::<Vec<Document>>().await)
        })
        .await?;
    match answer {
        Ok(documents) => Ok(Two::Read(documents)),
        Err(error) if is_unreadable(&error) => {
            let reason = "the document is not valid BSON".to_owned();
            Ok(Two::Unreadable(MalformedRecord { subject: "?".to_owned(), reason }))
        }
        Err(error) => Err(CallError::Driver(error).into()),
    }
}

fn only_one(documents: &[Document], read: impl Fn(&Document) -> Result<LoginRecord, MalformedRecord>) -> Found {
    match documents {
        [] => Found::Nobody,
        [document] => match read(document) {
            Ok(record) => Found::One(record),
            Err(malformed) => Found::Malformed(malformed),
        },
        _ => Found::Several,
    }
}

pub(super) async fn list(
    mongo: &Mongo,
    skip: u64,
    limit: usize,
) -> Result<Vec<Result<Account, MalformedRecord>>, StoreError> {
    if limit == 0 {
        // To MongoDB a limit of zero is no limit.
        return Ok(Vec::new());
    }
    let users = mongo.users.clone();
    let filter = mongo.mapping.everybody();
    let projection = mongo.mapping.projection(None, None);
    let limit = i64::try_from(limit.min(MAX_PAGE)).expect("MAX_PAGE is small");
    let documents: Vec<Document> = mongo
        .calls
        .run(WRITE_LIMIT, async move {
            let sorted = users.find(filter).projection(projection).sort(doc! { "_id": 1 });
            sorted.skip(skip).limit(limit).max_time(WRITE_LIMIT).await?.try_collect().await
        })
        .await?;
    Ok(documents.iter().map(|document| mongo.mapping.account(document)).collect())
}

pub(super) async fn add(mongo: &Mongo, new: &NewAccount) -> Result<Account, StoreError> {
    let mut document = mongo.mapping.document(new, uuid_text(random_uuid()?))?;
    for login in [Some(&new.login), new.email.as_ref()].into_iter().flatten() {
        match find(mongo, login).await? {
            Found::Nobody => {}
            Found::Several | Found::Malformed(_) | Found::One(_) => {
                return Err(StoreError::LoginTaken { login: login.clone() });
            }
        }
    }
    prepare_collection(mongo).await?;
    let users = mongo.users.clone();
    let inserting = document.clone();
    match mongo.calls.run(WRITE_LIMIT, async move { users.insert_one(inserting).await }).await {
        Ok(inserted) => {
            document.insert("_id", inserted.inserted_id);
            Ok(mongo.mapping.account(&document)?)
        }
        Err(error) if error.is_duplicate() => Err(StoreError::LoginTaken { login: new.login.clone() }),
        Err(error) => Err(error.into()),
    }
}

/// Makes the collection, with a unique index for each login field, if there is none. One that exists belongs to an
/// application, and its indexes are that application's business: Beanie, for one, may be told to drop unknown ones.
async fn prepare_collection(mongo: &Mongo) -> Result<(), StoreError> {
    let (database, name) = (mongo.database.clone(), mongo.users.name().to_owned());
    match mongo.calls.run(WRITE_LIMIT, async move { database.create_collection(name).await }).await {
        Ok(()) => {}
        Err(error) if error.is_existing_collection() => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let indexes: Vec<IndexModel> = mongo
        .mapping
        .fields()
        .login
        .iter()
        .map(|path| {
            // Partial, so that several people may have no e-mail address.
            let only_strings = doc! { path.as_str(): { "$type": "string" } };
            let options = IndexOptions::builder().unique(true).partial_filter_expression(only_strings).build();
            IndexModel::builder().keys(doc! { path.as_str(): 1 }).options(options).build()
        })
        .collect();
    let users = mongo.users.clone();
    mongo.calls.run(WRITE_LIMIT, async move { users.create_indexes(indexes).await }).await?;
    Ok(())
}

pub(super) async fn set_password(mongo: &Mongo, login: &str, password: &PasswordHash) -> Result<(), StoreError> {
    let path = mongo.mapping.fields().password.clone();
    change(mongo, login, |_| Ok(Some(Edit::set(&path, Bson::String(password.expose().to_owned()))))).await?;
    Ok(())
}

/// By compare-and-set, and without a wait for others: whoever changes the document at the same time goes first.
pub(super) async fn upgrade_password(
    mongo: &Mongo,
    login: &str,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<bool, StoreError> {
    let path = mongo.mapping.fields().password.clone();
    for _ in 0..MAX_TRIES {
        let document = only(mongo, login).await?;
        let same = doc! { path.as_str(): old.expose() };
        let edit = Edit { condition: same.clone(), ..Edit::set(&path, Bson::String(new.expose().to_owned())) };
        if apply(mongo, &document, edit).await? {
            return Ok(true);
        }
        // Either another field was changed in between, which asks for another try, or the password was.
        let users = mongo.users.clone();
        let filter = doc! { "$and": [{ "_id": id(&document) }, same] };
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let has_old = mongo.calls.run(READ_LIMIT, async move {
            users.find_one(filter).projection(doc! { "_id": 1 }).selection_criteria(primary).max_time(READ_LIMIT).await
        });
        if has_old.await?.is_none() {
            return Ok(false);
        }
    }
    Ok(false)
}

pub(super) async fn set_disabled(mongo: &Mongo, login: &str, disabled: bool) -> Result<(), StoreError> {
    let Some(path) = mongo.mapping.fields().disabled.clone() else {
        return Err(StoreError::NotMapped { field: "disabled" });
    };
    change(mongo, login, |_| Ok(Some(Edit::set(&path, Bson::Boolean(disabled))))).await?;
    Ok(())
}

pub(super) async fn change_grants(
    mongo: &Mongo,
    login: &str,
    grants: &Grants,
    direction: Change,
) -> Result<Account, StoreError> {
    let fields = mongo.mapping.fields();
    let parts = [("roles", &fields.roles, &grants.roles), ("scopes", &fields.scopes, &grants.scopes)];
    for (key, path, values) in parts {
        if values.is_empty() {
            continue;
        }
        let Some(path) = path else {
            return Err(StoreError::NotMapped { field: key });
        };
        change(mongo, login, |document| grant_edit(document, path, values, direction)).await?;
    }
    let document = only(mongo, login).await?;
    let account = mongo.mapping.account(&document)?;
    Ok(Account { login: login.to_owned(), ..account })
}

pub(super) async fn remove(mongo: &Mongo, login: &str) -> Result<(), StoreError> {
    let document = only(mongo, login).await?;
    let users = mongo.users.clone();
    let condition = doc! { "_id": id(&document) };
    let removed = mongo.calls.run(WRITE_LIMIT, async move { users.delete_one(condition).await }).await?;
    if removed.deleted_count == 0 {
        return Err(StoreError::NoAccount { login: login.to_owned() });
    }
    Ok(())
}

/// A change of one document.
struct Edit {
    /// What must still hold of the document, besides being the same one.
    condition: Document,
    update: Document,
}

impl Edit {
    fn set(path: &str, value: Bson) -> Self {
        Self { condition: Document::new(), update: doc! { "$set": { path: value } } }
    }
}

/// How to give or take grants, by how the document keeps them; `None`: nothing to do.
fn grant_edit(
    document: &Document,
    path: &str,
    values: &[String],
    direction: Change,
) -> Result<Option<Edit>, StoreError> {
    let Some(present) = value_at(document, path) else {
        return Ok(match direction {
            // To MongoDB `null` matches a missing field too.
            Change::Grant => {
                Some(Edit { condition: doc! { path: Bson::Null }, update: doc! { "$set": { path: distinct(values) } } })
            }
            Change::Revoke => None,
        });
    };
    let Some(mut words) = strings(present) else {
        let subject = id(document).to_string();
        let reason = format!("`{path}` is neither a list of strings nor one string");
        return Err(MalformedRecord { subject, reason }.into());
    };
    if present.as_str().is_none() {
        let update = match direction {
            Change::Grant => doc! { "$addToSet": { path: { "$each": distinct(values) } } },
            Change::Revoke => doc! { "$pullAll": { path: values } },
        };
        return Ok(Some(Edit { condition: Document::new(), update }));
    }
    match direction {
        Change::Grant => {
            for value in values {
                if !words.contains(value) {
                    words.push(value.clone());
                }
            }
        }
        Change::Revoke => words.retain(|word| !values.contains(word)),
    }
    Ok(Some(Edit { condition: doc! { path: present.clone() }, update: doc! { "$set": { path: words.join(" ") } } }))
}

fn distinct(values: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::with_capacity(values.len());
    for value in values {
        if !once.contains(value) {
            once.push(value.clone());
        }
    }
    once
}

/// Reads the document, lets `edit` say what to change, and changes it if it is still what `edit` saw.
async fn change(
    mongo: &Mongo,
    login: &str,
    edit: impl Fn(&Document) -> Result<Option<Edit>, StoreError>,
) -> Result<(), StoreError> {
    for _ in 0..MAX_TRIES {
        let document = only(mongo, login).await?;
        let Some(edit) = edit(&document)? else {
            return Ok(());
        };
        if apply(mongo, &document, edit).await? {
            return Ok(());
        }
    }
    Err(StoreError::Refused { reason: "the record kept being changed by others; try again".to_owned() })
}

/// Makes the change if the document is still what it was read as. False: it is not.
async fn apply(mongo: &Mongo, document: &Document, edit: Edit) -> Result<bool, StoreError> {
    let Edit { mut condition, mut update } = edit;
    condition.insert("_id", id(document));
    if let Some(Bson::Binary(revision)) = document.get(REVISION)
        && revision.subtype == BinarySubtype::Uuid
    {
        condition.insert(REVISION, revision.clone());
        let next = Binary { subtype: BinarySubtype::Uuid, bytes: random_uuid()?.to_vec() };
        match update.get_document_mut("$set") {
            Ok(set) => set.insert(REVISION, next),
            Err(_) => update.insert("$set", doc! { REVISION: next }),
        };
    }
    let users = mongo.users.clone();
    let changed = mongo.calls.run(WRITE_LIMIT, async move { users.update_one(condition, update).await }).await?;
    Ok(changed.matched_count == 1)
}

/// The one document with this login, read from the primary, because a change of it follows.
async fn only(mongo: &Mongo, login: &str) -> Result<Document, StoreError> {
    let users = mongo.users.clone();
    let filter = mongo.mapping.by_login(login);
    let projection = mongo.mapping.projection(None, Some(REVISION));
    let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
    let mut documents: Vec<Document> = mongo
        .calls
        .run(READ_LIMIT, async move {
            let found = users.find(filter).projection(projection).selection_criteria(primary);
            found.limit(2).max_time(READ_LIMIT).await?.try_collect().await
        })
        .await?;
    match (documents.pop(), documents.is_empty()) {
        (None, _) => Err(StoreError::NoAccount { login: login.to_owned() }),
        (Some(_), false) => Err(StoreError::SeveralAccounts { login: login.to_owned() }),
        (Some(document), true) => Ok(document),
    }
}

fn id(document: &Document) -> Bson {
    document.get("_id").cloned().unwrap_or(Bson::Null)
}
