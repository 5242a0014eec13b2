//! Walks the parsed file by its shape, so that one mistake does not hide the next: each value that cannot be used is
//! noted with its place, and the walk goes on.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::file::{Content, Shape};
use super::source::Source;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The file cannot be used.
    pub(super) problems: Vec<Problem>,
    /// The text is no TOML here.
    pub(super) syntax: Vec<Problem>,
    /// It can be used, but someone should look.
    pub(super) warnings: Vec<Problem>,
}

/// One value of a file.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub(super) source: &'a Source,
    /// What messages call it: `server.listen`.
    pub(super) path: String,
    pub(super) value: &'a DeValue<'a>,
    /// Where to point at. For a default: the table that could have said otherwise.
    pub(super) span: Range<usize>,
}

/// What is wrong with one value, to be said after its name: "`server.workers` …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    message: String,
    hint: Option<String>,
}

/// A table of a file, of a known shape.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    pub(super) source: &'a Source,
    /// What messages call it; empty for the file itself.
    pub(super) path: String,
    shape: &'static Shape,
    /// `None`: left out, so that defaults count.
    table: Option<&'a DeTable<'a>>,
    pub(super) span: Range<usize>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What is wrong, and behind it what to do.
impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "it {}; {hint}", self.message),
            None => write!(f, "it {}", self.message),
        }
    }
}

impl Findings {
    /// Notes a problem and gives nothing, for the end of a function that found it.
    pub(super) fn refuse<T>(&mut self, problem: Problem) -> Option<T> {
        self.problems.push(problem);
        None
    }

    /// The value, or the fault noted at `node`.
    pub(super) fn accept<T>(&mut self, node: &Node<'_>, result: Result<T, Fault>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                let problem = node.problem(format!("`{}` {}", node.path, fault.message));
                self.refuse(match fault.hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                })
            }
        }
    }
}

impl<'a> Node<'a> {
    pub(super) fn new(source: &'a Source, path: String, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { source, path, value: value.get_ref(), span: value.span() }
    }

    /// A problem of this value.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::at(self.source, &self.span, message)
    }

    /// Whether this is a list or a table without anything in it.
    pub(super) fn is_empty(&self) -> bool {
        self.value.as_array().is_some_and(|array| array.iter().next().is_none())
            || self.value.as_table().is_some_and(|table| table.is_empty())
    }

    /// The fault of a value of another type than `expected`, such as "a list".
    pub(super) fn wrong_type(&self, expected: &str) -> Fault {
        Fault::new(format!("must be {expected}, and this is {}", type_of(self.value)))
    }

    /// The values of a list, each named by its position.
    pub(super) fn elements(&self) -> Result<Vec<Self>, Fault> {
        let DeValue::Array(array) = self.value else { return Err(self.wrong_type("a list")) };
        let source = self.source;
        let elements = array.iter().enumerate();
        Ok(elements.map(|(index, value)| Self::new(source, format!("{}[{index}]", self.path), value)).collect())
    }

    /// The values of a table, in the order of their names.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Self)>, Fault> {
        let DeValue::Table(table) = self.value else { return Err(self.wrong_type("a table")) };
        let entry = |(key, value): (&'a Spanned<std::borrow::Cow<'a, str>>, _)| {
            let key = key.get_ref().as_ref();
            (key, Self::new(self.source, join(&self.path, key), value))
        };
        Ok(table.iter().map(entry).collect())
    }
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn file(
        source: &'a Source,
        table: &'a DeTable<'a>,
        shape: &'static Shape,
        findings: &mut Findings,
    ) -> Self {
        let section = Self { source, path: String::new(), shape, table: Some(table), span: 0..0 };
        section.check_keys(findings);
        section
    }

    /// The table that `node` is.
    pub(super) fn open(node: &Node<'a>, shape: &'static Shape, findings: &mut Findings) -> Option<Self> {
        let DeValue::Table(table) = node.value else {
            return findings.accept(node, Err(node.wrong_type("a table")));
        };
        let section =
            Self { source: node.source, path: node.path.clone(), shape, table: Some(table), span: node.span.clone() };
        section.check_keys(findings);
        Some(section)
    }

    /// Refuses the keys that the shape does not have.
    fn check_keys(&self, findings: &mut Findings) {
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = join(&self.path, name);
            let problem = |message: String| Problem::at(self.source, &key.span(), message);
            match self.shape.key(name).map(|key| key.content) {
                None => {
                    let hint = similar(name, self.shape.names())
                        .map(|known| format!("did you mean `{known}`?"))
                        .unwrap_or_else(|| format!("the keys here are {}", names(self.shape.names())));
                    findings.problems.push(problem(format!("there is no key `{path}`")).hint(hint));
                }
                Some(Content::Later) => findings.problems.push(problem(format!("`{path}` is not supported yet"))),
                Some(
                    Content::Default(..)
                    | Content::Required(_)
                    | Content::Optional(_)
                    | Content::Table(_)
                    | Content::Named(_)
                    | Content::List(_),
                ) => {}
            }
        }
    }

    /// The value that the file gives.
    pub(super) fn given(&self, name: &str) -> Option<Node<'a>> {
        let (_, value) = self.table?.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(Node::new(self.source, join(&self.path, name), value))
    }

    /// Reads the value of a key, or else its default.
    pub(super) fn read<T>(
        &self,
        name: &str,
        findings: &mut Findings,
        convert: impl FnOnce(&Node<'_>, &mut Findings) -> Option<T>,
    ) -> Option<T> {
        if let Some(node) = self.given(name) {
            return convert(&node, findings);
        }
        let Some(Content::Default(_, text)) = self.shape.key(name).map(|key| key.content) else {
            let path = join(&self.path, name);
            // What cannot be parsed may have been this key.
            if findings.syntax.is_empty() {
                findings.problems.push(Problem::at(self.source, &self.span, format!("`{path}` is missing")));
            }
            return None;
        };
        let value = DeValue::parse(text).expect("a test reads every default");
        convert(
            &Node {
                source: self.source,
                path: join(&self.path, name),
                value: value.get_ref(),
                span: self.span.clone(),
            },
            findings,
        )
    }

    /// Reads the value of a key that may be left out. The outer `None`: it is there, and wrong.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        findings: &mut Findings,
        convert: impl FnOnce(&Node<'_>, &mut Findings) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.given(name) {
            Some(node) => convert(&node, findings).map(Some),
            None => Some(None),
        }
    }

    /// The table under a key; when left out, one with defaults only. `None`: it is something else than a table.
    pub(super) fn table(&self, name: &str, findings: &mut Findings) -> Option<Self> {
        let Some(Content::Table(shape)) = self.shape.key(name).map(|key| key.content) else { return None };
        match self.given(name) {
            Some(node) => Self::open(&node, shape, findings),
            None => Some(Self {
                source: self.source,
                path: join(&self.path, name),
                shape,
                table: None,
                span: self.span.clone(),
            }),
        }
    }

    /// The tables under a key, with the names that the user gave them.
    pub(super) fn named(&self, name: &str, findings: &mut Findings) -> Vec<(&'a str, Self)> {
        let Some(Content::Named(shape)) = self.shape.key(name).map(|key| key.content) else { return Vec::new() };
        let Some(node) = self.given(name) else { return Vec::new() };
        let entries = findings.accept(&node, node.entries()).unwrap_or_default();
        entries.into_iter().filter_map(|(key, node)| Some((key, Self::open(&node, shape, findings)?))).collect()
    }

    /// The list of tables under a key.
    pub(super) fn list(&self, name: &str, findings: &mut Findings) -> Vec<Self> {
        let Some(Content::List(shape)) = self.shape.key(name).map(|key| key.content) else { return Vec::new() };
        let Some(node) = self.given(name) else { return Vec::new() };
        let elements = findings.accept(&node, node.elements()).unwrap_or_default();
        elements.into_iter().filter_map(|node| Self::open(&node, shape, findings)).collect()
    }

    /// A problem of the value of a key, or of the table when the key is left out.
    pub(super) fn problem(&self, name: &str, message: impl Into<String>) -> Problem {
        let span = self.given(name).map_or_else(|| self.span.clone(), |node| node.span);
        Problem::at(self.source, &span, message)
    }
}

/// `server` and `listen` make `server.listen`.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Names for a sentence: "`a`, `b`".
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The known name that was probably meant.
pub(super) fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    let distance = |candidate: &str| strsim::damerau_levenshtein(name, candidate);
    let by_typing = |candidate: &&str| distance(candidate) <= allowed;
    known.into_iter().filter(by_typing).min_by_key(|candidate| distance(candidate))
}

/// What a value is, for messages.
fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
