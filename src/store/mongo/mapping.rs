//! How a document of somebody's collection maps to an account: reading it, and laying out a new one.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};

use crate::store::record::{uuid_bytes, uuid_text};
use crate::store::{
    Account, LoginRecord, MalformedRecord, NewAccount, PasswordHash, StoreError, UserFields, UserMapping,
};

/// The settings of `store.users`, checked.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    fields: UserFields,
    /// Extra condition; empty: none.
    filter: Document,
}

impl Mapping {
    /// # Errors
    /// A field name or a filter that MongoDB would not take.
    pub(super) fn new(settings: &UserMapping) -> Result<Self, StoreError> {
        let bad = |key, reason: String| Err(StoreError::BadMapping { key, reason });
        if settings.collection.is_empty() || settings.collection.contains(['$', '\0']) {
            return bad("collection", "it must be the name of a collection, without `$`".to_owned());
        }
        let fields = settings.fields.clone();
        if fields.login.is_empty() {
            return bad("fields", "`login` must name at least one field".to_owned());
        }
        for path in paths(&fields) {
            if path.split('.').any(|name| name.is_empty() || name.starts_with('$') || name.contains('\0')) {
                return bad("fields", format!("`{path}` is not the name of a field"));
            }
        }
        let filter = serde_json::from_value::<Document>(serde_json::Value::Object(settings.filter.clone()));
        let Ok(filter) = filter else {
            return bad("filter", "it is not a MongoDB condition in extended JSON".to_owned());
        };
        Ok(Self { fields, filter })
    }

    pub(super) fn fields(&self) -> &UserFields {
        &self.fields
    }

    /// The condition that an account belongs to.
    pub(super) fn everybody(&self) -> Document {
        self.filter.clone()
    }

    /// The condition for one login. The login is always a string value, so that it can never act as an operator.
    pub(super) fn by_login(&self, login: &str) -> Document {
        let any: Vec<Document> =
            self.fields.login.iter().map(|path| doc! { path.as_str(): Bson::String(login.to_owned()) }).collect();
        self.with_filter(doc! { "$or": any })
    }

    /// The condition for one subject: a document whose subject has this text, whatever its type, by as many equalities as there
    /// are types with such a text.
    pub(super) fn by_subject(&self, subject: &str) -> Document {
        self.with_filter(doc! { self.fields.subject.as_str(): { "$in": subjects_of(subject) } })
    }

    fn with_filter(&self, condition: Document) -> Document {
        if self.filter.is_empty() {
            condition
        } else {
            doc! { "$and": [self.filter.clone(), condition] }
        }
    }

    /// The fields to fetch: those of the mapping, `_id`, and what else the caller needs.
    pub(super) fn projection(&self, with_password: Option<&str>, more: Option<&str>) -> Document {
        let mut wanted: Vec<&str> = paths(&self.fields).filter(|path| *path != self.fields.password).collect();
        wanted.push("_id");
        wanted.extend(with_password.into_iter().chain(more));
        let mut projection = Document::new();
        for path in &wanted {
            // MongoDB refuses a field together with a field inside it; the outer one brings the inner along.
            let within = |outer: &&str| path.strip_prefix(*outer).is_some_and(|rest| rest.starts_with('.'));
            if !wanted.iter().any(within) {
                projection.insert(*path, 1);
            }
        }
        projection
    }

    /// Reads an account with its hash. `login` is what the person typed.
    pub(super) fn login_record(&self, document: &Document, login: &str) -> Result<LoginRecord, MalformedRecord> {
        self.record(document, Account { login: login.to_owned(), ..self.account(document)? })
    }

    /// Reads an account with its hash, if it has this subject and not only a number that MongoDB takes for equal.
    pub(super) fn subject_record(&self, document: &Document, subject: &str) -> Result<LoginRecord, MalformedRecord> {
        let account = self.account(document)?;
        if account.subject != subject {
            return Err(malformed(account.subject, &self.fields.subject, "is not the subject that was asked for"));
        }
        self.record(document, account)
    }

    fn record(&self, document: &Document, account: Account) -> Result<LoginRecord, MalformedRecord> {
        match value_at(document, &self.fields.password) {
            Some(Bson::String(hash)) => Ok(LoginRecord { account, password: PasswordHash::new(hash.as_str()) }),
            None => Err(malformed(account.subject, &self.fields.password, "is missing")),
            Some(_) => Err(malformed(account.subject, &self.fields.password, "is not a string")),
        }
    }

    /// Reads an account; its login is the first login field that has one.
    pub(super) fn account(&self, document: &Document) -> Result<Account, MalformedRecord> {
        let fields = &self.fields;
        let subject = match value_at(document, &fields.subject).map(subject_text) {
            Some(Some(subject)) if !subject.is_empty() => subject,
            Some(_) => return Err(malformed("?", &fields.subject, "has a type without one stable text form")),
            None => return Err(malformed("?", &fields.subject, "is missing")),
        };
        let text = |path| match field(document, path) {
            None => Ok(None),
            Some((_, Bson::String(text))) => Ok(Some(text.clone())),
            Some((path, _)) => Err(malformed(subject.as_str(), path, "is not a string")),
        };
        let list = |path| match field(document, path) {
            None => Ok(Vec::new()),
            Some((path, value)) => strings(value)
                .ok_or_else(|| malformed(subject.as_str(), path, "is neither a list of strings nor one string")),
        };
        let disabled = match field(document, &fields.disabled) {
            None => false,
            Some((_, Bson::Boolean(disabled))) => *disabled,
            Some((path, _)) => return Err(malformed(subject.as_str(), path, "is not a boolean")),
        };
        let login = fields.login.iter().find_map(|path| value_at(document, path)?.as_str()).unwrap_or_default();
        Ok(Account {
            login: login.to_owned(),
            name: text(&fields.name)?,
            email: text(&fields.email)?,
            roles: list(&fields.roles)?,
            scopes: list(&fields.scopes)?,
            disabled,
            subject,
        })
    }

    /// The document of a new account: the login in the first login field, and the rest by the mapping.
    ///
    /// # Errors
    /// A part of the account that the mapping has no place for, or two parts that share one place.
    pub(super) fn document(&self, new: &NewAccount, subject: String) -> Result<Document, StoreError> {
        let fields = &self.fields;
        // What the extra condition asks for must hold for the new document too, or nobody would find it.
        let mut document = Document::new();
        for (path, value) in &self.filter {
            let operator = path.starts_with('$')
                || value.as_document().is_some_and(|inner| inner.keys().any(|key| key.starts_with('$')))
                || matches!(value, Bson::RegularExpression(_));
            if operator {
                return Err(StoreError::BadMapping {
                    key: "filter",
                    reason: "a user cannot be added under a condition with operators; add it where the others are \
                             made"
                        .to_owned(),
                });
            }
            put(&mut document, path, value.clone())?;
        }
        let mut put_optional = |key: &'static str, path: &Option<String>, value: Option<Bson>| match (path, value) {
            (_, None) => Ok(()),
            (Some(path), Some(value)) => put(&mut document, path, value),
            (None, Some(_)) => Err(StoreError::NotMapped { field: key }),
        };
        let list = |values: &[String]| {
            let mut once: Vec<Bson> = Vec::with_capacity(values.len());
            for value in values {
                let value = Bson::String(value.clone());
                if !once.contains(&value) {
                    once.push(value);
                }
            }
            (!once.is_empty()).then_some(Bson::Array(once))
        };
        put_optional("login", &fields.login.first().cloned(), Some(Bson::String(new.login.clone())))?;
        put_optional("name", &fields.name, new.name.clone().map(Bson::String))?;
        put_optional("email", &fields.email, new.email.clone().map(Bson::String))?;
        put_optional("roles", &fields.roles, list(&new.grants.roles))?;
        put_optional("scopes", &fields.scopes, list(&new.grants.scopes))?;
        put(&mut document, &fields.password, Bson::String(new.password.expose().to_owned()))?;
        if let Some(disabled) = &fields.disabled {
            put(&mut document, disabled, Bson::Boolean(false))?;
        }
        // `_id` is the driver's to make.
        if fields.subject != "_id" && value_at(&document, &fields.subject).is_none() {
            put(&mut document, &fields.subject, Bson::String(subject))?;
        }
        Ok(document)
    }
}

/// The value at a dotted path; `None` when missing or null. Does not look into lists.
pub(super) fn value_at<'document>(document: &'document Document, path: &str) -> Option<&'document Bson> {
    let (folders, name) = path.rsplit_once('.').map_or((None, path), |(folders, name)| (Some(folders), name));
    let mut folder = document;
    for step in folders.into_iter().flat_map(|folders| folders.split('.')) {
        folder = folder.get(step)?.as_document()?;
    }
    folder.get(name).filter(|value| !matches!(value, Bson::Null | Bson::Undefined))
}

/// The value at a path that may not be mapped, with the path.
fn field<'record>(document: &'record Document, path: &'record Option<String>) -> Option<(&'record str, &'record Bson)> {
    path.as_deref().and_then(|path| Some((path, value_at(document, path)?)))
}

/// Strings of a list, or the words of one string; `None` for anything else.
pub(super) fn strings(value: &Bson) -> Option<Vec<String>> {
    match value.as_str() {
        Some(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
        None => value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
    }
}

fn put(document: &mut Document, path: &str, value: Bson) -> Result<(), StoreError> {
    let clash = || StoreError::BadMapping {
        key: "fields",
        reason: format!("`{path}` would hold two different values; give them one field each, or the same value"),
    };
    let Some((first, rest)) = path.split_once('.') else {
        return match document.get(path) {
            Some(present) if *present != value => Err(clash()),
            Some(_) => Ok(()),
            None => {
                document.insert(path, value);
                Ok(())
            }
        };
    };
    if !document.contains_key(first) {
        document.insert(first, Document::new());
    }
    put(document.get_document_mut(first).map_err(|_| clash())?, rest, value)
}

fn paths(fields: &UserFields) -> impl Iterator<Item = &str> {
    let optional = [&fields.name, &fields.email, &fields.roles, &fields.scopes, &fields.disabled];
    let required = fields.login.iter().chain([&fields.password, &fields.subject]);
    required.chain(optional.into_iter().flatten()).map(String::as_str)
}

/// The one stable text form of an identifier, if its type has one.
fn subject_text(value: &Bson) -> Option<String> {
    // The driver's enum has some twenty types, of which only these are identifiers.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of which few variants matter")]
    match value {
        Bson::ObjectId(id) => Some(id.to_hex()),
        Bson::String(text) => Some(text.clone()),
        Bson::Int32(number) => Some(number.to_string()),
        Bson::Int64(number) => Some(number.to_string()),
        Bson::Binary(binary) if binary.subtype == BinarySubtype::Uuid => {
            binary.bytes.as_slice().try_into().ok().map(uuid_text)
        }
        _ => None,
    }
}

/// Every value that [`subject_text`] gives this text for.
fn subjects_of(text: &str) -> Vec<Bson> {
    let mut values = vec![Bson::String(text.to_owned())];
    values.extend(ObjectId::parse_str(text).map(Bson::ObjectId));
    // To MongoDB an Int32 is equal to the Int64 of the same value.
    values.extend(text.parse().map(Bson::Int64));
    values.extend(
        uuid_bytes(text).map(|bytes| Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: bytes.to_vec() })),
    );
    values.retain(|value| subject_text(value).as_deref() == Some(text));
    values
}

fn malformed(subject: impl Into<String>, path: &str, what: &str) -> MalformedRecord {
    MalformedRecord { subject: subject.into(), reason: format!("`{path}` {what}") }
}
