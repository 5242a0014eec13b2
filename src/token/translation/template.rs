//! The claims of an upstream token as the file writes them: fixed values, and texts with placeholders.

use serde_json::{Map, Value};

use crate::token::Identity;

use super::TranslationError;

/// One claim.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimTemplate {
    /// A number, `true` or `false`.
    Fixed(Value),
    /// A text, with placeholders or without.
    Text(Template),
    /// Claims in a list; one that is left out leaves no gap.
    List(Vec<Self>),
    /// Claims under names.
    Object(Vec<(String, Self)>),
}

/// A text with placeholders: `{name}`, `{name?}`, and `{{`, `}}` for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Placeholder(Placeholder),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Placeholder {
    source: Source,
    /// `{name?}`: the claim is left out when the caller has none.
    is_optional: bool,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Subject,
    Name,
    Email,
    Issuer,
    ClientId,
    Session,
    Scope,
    Scopes,
    Roles,
    Expires,
    IssuedAt,
    TokenId,
    Claim(String),
}

/// What the placeholders are replaced by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) identity: &'a Identity,
    /// Of the token that is made, in seconds since 1970.
    pub(super) issued_at: u64,
    pub(super) expires_at: u64,
    pub(super) token_id: &'a str,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`.
    #[error("has a `{{` without a `}}`")]
    Unclosed,
    /// A `}` without its `{`.
    #[error("has a `}}` without a `{{`")]
    Unopened,
    /// No placeholder of that name.
    #[error("names the placeholder `{{{name}}}`, which there is not")]
    Unknown {
        /// As it stands there.
        name: String,
    },
    /// A list in the middle of a text.
    #[error("has `{{{name}}}` beside other text, and that is a list")]
    ListInText {
        /// Its name.
        name: &'static str,
    },
}

impl ClaimTemplate {
    /// The claims of a token for which the file names none: who it is, and until when.
    pub fn standard() -> Vec<(String, Self)> {
        let optional = |source| Placeholder { source, is_optional: true };
        let required = |source| Placeholder { source, is_optional: false };
        [
            ("sub", required(Source::Subject)),
            ("exp", required(Source::Expires)),
            ("iat", required(Source::IssuedAt)),
            ("name", optional(Source::Name)),
            ("email", optional(Source::Email)),
            ("scope", optional(Source::Scope)),
            ("roles", optional(Source::Roles)),
            ("client_id", optional(Source::ClientId)),
        ]
        .map(|(name, placeholder)| (name.to_owned(), Self::Text(Template(vec![Part::Placeholder(placeholder)]))))
        .into()
    }

    /// Whether it is the time at which the token expires, and nothing else.
    pub fn is_expiry(&self) -> bool {
        matches!(self, Self::Text(Template(parts))
            if matches!(parts.as_slice(), [Part::Placeholder(Placeholder { source: Source::Expires, .. })]))
    }

    /// The value. `None`: it is left out.
    pub(super) fn fill(&self, facts: &Facts<'_>) -> Result<Option<Value>, TranslationError> {
        match self {
            Self::Fixed(value) => Ok(Some(value.clone())),
            Self::Text(template) => template.fill(facts),
            Self::List(items) => {
                let filled = items.iter().filter_map(|item| item.fill(facts).transpose());
                Ok(Some(Value::Array(filled.collect::<Result<_, _>>()?)))
            }
            Self::Object(members) => Ok(Some(Value::Object(fill_all(members, facts)?))),
        }
    }
}

/// The members that are not left out, in their order.
pub(super) fn fill_all(
    members: &[(String, ClaimTemplate)],
    facts: &Facts<'_>,
) -> Result<Map<String, Value>, TranslationError> {
    let filled = members.iter().filter_map(|(name, claim)| {
        let value = claim.fill(facts).transpose()?;
        Some(value.map(|value| (name.clone(), value)))
    });
    filled.collect()
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(TemplateError::Unopened);
            }
            let (name, after) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Placeholder(Placeholder::parse(name)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if parts.len() > 1 {
            for part in &parts {
                if let Part::Placeholder(Placeholder { source: source @ (Source::Scopes | Source::Roles), .. }) = part {
                    return Err(TemplateError::ListInText { name: source.name() });
                }
            }
        }
        Ok(Self(parts))
    }

    /// A placeholder that stands alone keeps its type: a time is a number, roles are a list. All else is text.
    fn fill(&self, facts: &Facts<'_>) -> Result<Option<Value>, TranslationError> {
        if let [Part::Placeholder(placeholder)] = self.0.as_slice() {
            return placeholder.value(facts);
        }
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Placeholder(placeholder) => match placeholder.value(facts)? {
                    None => return Ok(None),
                    Some(Value::String(value)) => text.push_str(&value),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => text.push_str(&value.to_string()),
                    Some(Value::Null | Value::Array(_) | Value::Object(_)) => {
                        return Err(TranslationError::NotText { placeholder: placeholder.source.text() });
                    }
                },
            }
        }
        Ok(Some(Value::String(text)))
    }
}

impl Placeholder {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let (name, is_optional) = text.strip_suffix('?').map_or((text, false), |name| (name, true));
        let source = match name.strip_prefix("claims.") {
            Some(path) if !path.is_empty() => Source::Claim(path.to_owned()),
            Some(_) | None => Source::NAMED
                .into_iter()
                .find(|source| source.name() == name)
                .ok_or_else(|| TemplateError::Unknown { name: name.to_owned() })?,
        };
        Ok(Self { source, is_optional })
    }

    fn value(&self, facts: &Facts<'_>) -> Result<Option<Value>, TranslationError> {
        let value = self.source.value(facts);
        let is_empty = match &value {
            None => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => false,
        };
        match value {
            _ if self.is_optional && is_empty => Ok(None),
            None => Err(TranslationError::Missing { placeholder: self.source.text() }),
            Some(value) => Ok(Some(value)),
        }
    }
}

impl Source {
    /// All that have a fixed name.
    const NAMED: [Self; 12] = [
        Self::Subject,
        Self::Name,
        Self::Email,
        Self::Issuer,
        Self::ClientId,
        Self::Session,
        Self::Scope,
        Self::Scopes,
        Self::Roles,
        Self::Expires,
        Self::IssuedAt,
        Self::TokenId,
    ];

    const fn name(&self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Name => "name",
            Self::Email => "email",
            Self::Issuer => "issuer",
            Self::ClientId => "client_id",
            Self::Session => "session",
            Self::Scope => "scope",
            Self::Scopes => "scopes",
            Self::Roles => "roles",
            Self::Expires => "exp",
            Self::IssuedAt => "iat",
            Self::TokenId => "jti",
            Self::Claim(_) => "claims",
        }
    }

    /// As the file writes it.
    fn text(&self) -> String {
        match self {
            Self::Claim(path) => format!("claims.{path}"),
            Self::Subject
            | Self::Name
            | Self::Email
            | Self::Issuer
            | Self::ClientId
            | Self::Session
            | Self::Scope
            | Self::Scopes
            | Self::Roles
            | Self::Expires
            | Self::IssuedAt
            | Self::TokenId => self.name().to_owned(),
        }
    }

    /// `None`: the caller has none.
    fn value(&self, facts: &Facts<'_>) -> Option<Value> {
        let identity = facts.identity;
        let list = |items: &[Box<str>]| Value::from(items.iter().map(ToString::to_string).collect::<Vec<_>>());
        match self {
            Self::Subject => Some(identity.subject().into()),
            Self::Name => identity.name().map(Value::from),
            Self::Email => identity.email().map(Value::from),
            Self::Issuer => Some(identity.issuer().into()),
            Self::ClientId => identity.client_id().map(Value::from),
            Self::Session => identity.claim("sid").filter(|session| session.is_string()).cloned(),
            Self::Scope => Some(identity.scopes_text().into()),
            Self::Scopes => Some(list(identity.scopes())),
            Self::Roles => Some(list(identity.roles())),
            Self::Expires => Some(facts.expires_at.into()),
            Self::IssuedAt => Some(facts.issued_at.into()),
            Self::TokenId => Some(facts.token_id.into()),
            Self::Claim(path) => identity.claim(path).filter(|value| !value.is_null()).cloned(),
        }
    }
}

/// The names of all placeholders, for messages; `claims.` needs the path of a claim behind it.
pub fn placeholder_names() -> impl Iterator<Item = &'static str> {
    Source::NAMED.iter().map(Source::name).chain(["claims."])
}
