//! What kind of value a key takes, as data: what `tollgate config schema` and docs/configuration.md say of it.
//!
//! The functions that read a value decide alone whether it is good. Tests hold the two together: the bounds and the words
//! that a reader names in its message are the ones that stand here.

/// What kind of value a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `true` or `false`.
    Boolean,
    /// `true`, `false`, or this word.
    BooleanOr(&'static str),
    /// A whole number, both bounds included.
    Integer(u64, u64),
    /// A text such as "30s", both bounds included.
    Duration(&'static str, &'static str),
    /// A duration above zero, or "none".
    DurationOrNone,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text of a form.
    Text(Form),
    /// A text of a form, or the reference to a secret that is one.
    TextOrOneOf(Form, &'static super::file::Shape),
    /// A table that has exactly one of the shape's keys.
    OneOf(&'static super::file::Shape),
    /// A list of values.
    List(List),
    /// A value, or a list of them.
    OneOrList(List),
    /// A table of texts under any names.
    Texts,
    /// Any table.
    Table,
}

/// A list of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    pub(super) of: &'static Kind,
    pub(super) least: u64,
    /// Whether no value may be there twice.
    pub(super) is_distinct: bool,
}

/// The form of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// As documentation calls it: "address with a port".
    pub(super) name: &'static str,
    /// A regular expression that every good text matches. Some texts that match are refused all the same: an editor that
    /// knows only this must not call anything wrong that is right.
    pub(super) pattern: Option<&'static str>,
}

/// A list that must have a value, and none twice.
pub(super) const fn set(of: &'static Kind) -> Kind {
    Kind::List(List { of, least: 1, is_distinct: true })
}

/// A list without a value that is there twice.
pub(super) const fn distinct(of: &'static Kind) -> Kind {
    Kind::List(List { of, least: 0, is_distinct: true })
}

/// Any list.
pub(super) const fn list(of: &'static Kind) -> Kind {
    Kind::List(List { of, least: 0, is_distinct: false })
}

/// A text; an empty one only if the pattern says so.
pub(super) const fn text(name: &'static str, pattern: &'static str) -> Kind {
    Kind::Text(Form { name, pattern: Some(pattern) })
}

/// Any text but the empty one.
pub(super) const WORD: Kind = text("text", "^.");

/// What matches a duration, which may be zero.
pub(super) const DURATION: &str = "^[0-9]+(ms|s|m|h|d)$";

/// What matches a duration above zero.
pub(super) const DURATION_ABOVE_ZERO: &str = "^0*[1-9][0-9]*(ms|s|m|h|d)$";

/// What matches a duration above zero, or "none".
pub(super) const DURATION_OR_NONE: &str = "^(none|0*[1-9][0-9]*(ms|s|m|h|d))$";

impl Kind {
    /// The kind in a few words, for people; words of the file stand in backticks.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::BooleanOr(word) => format!("`true`, `false` or `\"{word}\"`"),
            Self::Integer(least, most) if *most == i64::MAX.unsigned_abs() => format!("whole number, from {least}"),
            Self::Integer(least, most) => format!("whole number, {least} to {most}"),
            Self::Duration(least, most) => format!("duration, `\"{least}\"` to `\"{most}\"`"),
            Self::DurationOrNone => "duration, or `\"none\"`".to_owned(),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Self::Text(form) => form.name.to_owned(),
            Self::TextOrOneOf(form, shape) => format!("{}, or {}", form.name, forms(shape)),
            Self::OneOf(shape) => forms(shape),
            Self::List(list) => list.words(),
            Self::OneOrList(list) => format!("{}, or a {}", list.of.words(), list.words()),
            Self::Texts => "table of texts".to_owned(),
            Self::Table => "table".to_owned(),
        }
    }
}

impl List {
    fn words(self) -> String {
        let some = if self.least > 0 { ", at least one" } else { "" };
        match self.of {
            Kind::Choice(_) | Kind::OneOf(_) => format!("list{some}, each {}", self.of.words()),
            Kind::Boolean
            | Kind::BooleanOr(_)
            | Kind::Integer(..)
            | Kind::Duration(..)
            | Kind::DurationOrNone
            | Kind::Text(_)
            | Kind::TextOrOneOf(..)
            | Kind::List(_)
            | Kind::OneOrList(_)
            | Kind::Texts
            | Kind::Table => format!("list{some}: {}", self.of.words()),
        }
    }
}

/// `{ env = "…" }` or `{ file = "…" }`
fn forms(shape: &super::file::Shape) -> String {
    let forms: Vec<String> = shape.names().map(|name| format!("`{{ {name} = \"…\" }}`")).collect();
    forms.join(" or ")
}
