//! Problems of the configuration file: what is wrong, where, and what to do about it.

use std::fmt;
use std::ops::Range;

use super::source::Source;

/// One thing that is wrong, or worth a warning, in the configuration. Its text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    message: String,
    // Boxed, because problems travel in results whose good case is small.
    place: Option<Box<Place>>,
    hint: Option<String>,
}

/// A stretch of one line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Name of the file as the user gave it.
    pub(super) file: String,
    /// From 1.
    pub(super) line: usize,
    /// The bytes of the file's text that it is about.
    pub(super) span: Range<usize>,
    /// What is told of it. `None` until it is known to be shown, because a file can have many more problems than anybody
    /// wants to see, and each excerpt is looked through for secrets.
    pub(super) shown: Option<Shown>,
}

/// A place, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// In characters, from 1.
    pub(super) column: usize,
    /// The line, secrets replaced and cut to a length that a terminal can show. Empty: the line is too long.
    pub(super) excerpt: String,
    /// The characters of `excerpt` to underline.
    pub(super) underline: Range<usize>,
}

impl Problem {
    /// A problem of a stretch of `source`.
    pub(super) fn at(source: &Source, span: &Range<usize>, message: impl Into<String>) -> Self {
        Self { message: printable(&message.into()), place: Some(Box::new(source.place(span))), hint: None }
    }

    /// A problem that no line of a file shows, such as a file that cannot be read.
    pub(super) fn without_place(message: impl Into<String>) -> Self {
        Self { message: printable(&message.into()), place: None, hint: None }
    }

    /// The same problem with advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(printable(&hint.into()));
        self
    }

    /// The same problem with advice, unless it has some.
    pub(super) fn or_hint(self, hint: impl Into<String>) -> Self {
        if self.hint.is_some() { self } else { self.hint(hint) }
    }

    /// What is wrong, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The file that the problem is in, as the user named it. `None`: it is not about a place in a file.
    pub fn file(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.file.as_str())
    }

    /// The line of [`Self::file`], from 1.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.line)
    }

    /// The character of [`Self::line`], from 1.
    pub fn column(&self) -> Option<usize> {
        self.place.as_ref()?.shown.as_ref().map(|shown| shown.column)
    }

    /// Where in the file it is, for an order.
    pub(super) fn offset(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.span.start)
    }

    /// Makes the place ready to be shown; `source` is the file that it is in.
    pub(super) fn show(&mut self, source: &Source) {
        if let Some(place) = &mut self.place {
            place.shown = Some(source.shown(&place.span));
        }
    }
}

/// The form of rustc's messages, without color.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(Place { file, line, span: _, shown: Some(shown) }) = self.place.as_deref() {
            let line = line.to_string();
            let width = line.len();
            write!(f, "\n {:width$}--> {file}:{line}:{}", "", shown.column)?;
            if !shown.excerpt.is_empty() {
                write!(f, "\n {:width$} |\n {line} | {}", "", shown.excerpt)?;
                let underline = "^".repeat(shown.underline.len().max(1));
                write!(f, "\n {:width$} | {:start$}{underline}", "", "", start = shown.underline.start)?;
            }
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Why a configuration cannot be used: the problems found in it, in the order of the files. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    shown: Vec<Problem>,
    /// Further ones, which are only counted.
    unshown: usize,
}

impl Problems {
    /// All problems, already in order; the first [`MAX_SHOWN`] of them are kept.
    pub(super) fn new(mut all: Vec<Problem>) -> Self {
        let unshown = all.len().saturating_sub(MAX_SHOWN);
        all.truncate(MAX_SHOWN);
        Self { shown: all, unshown }
    }

    /// The first problems, in the order of the files.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.shown.iter()
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.shown.len() + self.unshown
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Problem> {
        self.shown.iter_mut()
    }
}

/// Problems that are shown. A file with more is mostly not the file that was meant.
pub(super) const MAX_SHOWN: usize = 100;

impl std::error::Error for Problems {}

/// One problem after the other, an empty line between them.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.shown.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        if self.unshown > 0 {
            write!(f, "\n\nand {} more problems, which are not shown", self.unshown)?;
        }
        Ok(())
    }
}

/// `text` with control characters spelled out, so that a file cannot write to the operator's terminal.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}
