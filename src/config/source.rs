//! One configuration file's text: how it is read, and how a stretch of it is shown without its secrets.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Place, Problem, Shown, printable};

/// Largest configuration file. Far above any real one; a mistaken path to a log or a device ends here.
pub(super) const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What is shown in place of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// Characters of a line that a message shows.
const MAX_EXCERPT_CHARACTERS: usize = 120;

/// A longer line is not shown at all.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// Keys whose inline text is a secret, wherever they stand: also where they are unknown or misplaced.
const SECRET_KEYS: [&str; 8] = [
    "secret",
    "key",
    "keys",
    "previous_keys",
    "encryption_key",
    "previous_encryption_keys",
    "passphrase",
    "client_secret",
];

/// The text of one file.
#[derive(Debug)]
pub(super) struct Source {
    /// As the user named it.
    pub(super) name: String,
    /// The folder that relative paths in it start from.
    pub(super) folder: PathBuf,
    /// Without a byte order mark.
    pub(super) text: String,
    /// Where the lines of `text` begin.
    lines: Vec<usize>,
    /// Stretches of `text` that no message may show.
    secrets: Vec<Range<usize>>,
}

impl Source {
    /// The text of a file that is not on disk.
    pub(super) fn from_text(name: &str, folder: &Path, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.to_owned(), folder: folder.to_owned(), text, lines, secrets: Vec::new() }
    }

    /// Reads the file at `path`; `name` is how messages call it.
    pub(super) fn read(path: &Path, name: &str) -> Result<Self, Problem> {
        let bytes = read_limited(path, MAX_FILE_BYTES)
            .map_err(|reason| Problem::without_place(format!("cannot read `{name}`: {reason}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
            Problem::without_place(format!("`{name}` is not UTF-8 text: line {line} holds other bytes"))
                .hint("save the file as UTF-8")
        })?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Ok(Self::from_text(name, folder, &text))
    }

    /// Parses the text, and notes which stretches of it are secret.
    pub(super) fn note_secrets(&mut self) {
        let mut secrets = Vec::new();
        let (document, _) = DeTable::parse_recoverable(&self.text);
        find_secrets(document.get_ref(), false, &mut secrets);
        self.secrets = secrets;
    }

    /// The line number, from 1, at a byte of the text.
    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at.min(self.text.len()))
    }

    /// Where the line of a byte of the text begins.
    pub(super) fn line_start(&self, at: usize) -> usize {
        self.lines[self.line(at) - 1]
    }

    /// Where `span` begins.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let start = self.boundary(span.start);
        let span = start..self.boundary(span.end).max(start);
        Place { file: printable(&self.name), line: self.line(start), span, shown: None }
    }

    /// What is shown of the place where `span` begins.
    pub(super) fn shown(&self, span: &Range<usize>) -> Shown {
        let line = self.line(span.start);
        let line_start = self.lines[line - 1];
        let line_end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        let column = self.text[line_start..span.start].chars().count() + 1;
        if line_end - line_start > MAX_LINE_BYTES {
            return Shown { column, excerpt: String::new(), underline: 0..0 };
        }
        let line = &self.text[line_start..line_end];
        let (excerpt, underline) = self.excerpt(line.trim_end(), line_start, span.start..span.end.min(line_end));
        Shown { column, excerpt, underline }
    }

    /// The line with secrets replaced, and which of its characters to underline.
    fn excerpt(&self, line: &str, line_start: usize, span: Range<usize>) -> (String, Range<usize>) {
        let hidden = self.hidden(line, line_start);
        let mut characters: Vec<char> = Vec::new();
        let mut underline: Option<Range<usize>> = None;
        let mut mark = |span_part: bool, from: usize, to: usize| {
            if span_part {
                underline = Some(underline.clone().map_or(from, |range| range.start)..to);
            }
        };
        let mut inside_secret = false;
        for (offset, character) in line.char_indices() {
            let at = line_start + offset;
            let in_span = span.contains(&at);
            if hidden.iter().any(|secret| secret.contains(&at)) {
                if !inside_secret {
                    characters.extend(REDACTED.chars());
                }
                mark(in_span, characters.len() - REDACTED.len(), characters.len());
                inside_secret = true;
            } else {
                inside_secret = false;
                characters.push(if character.is_control() { ' ' } else { character });
                mark(in_span, characters.len() - 1, characters.len());
            }
        }
        let underline = underline.unwrap_or(characters.len()..characters.len());
        cut(&characters, underline)
    }

    /// The stretches of one line that must not be shown. The tree of values tells most; the text itself is looked at too,
    /// because a file with a syntax error may have lost the value, not the line.
    fn hidden(&self, line: &str, line_start: usize) -> Vec<Range<usize>> {
        let line_end = line_start + line.len();
        let mut hidden: Vec<Range<usize>> = self
            .secrets
            .iter()
            .filter(|secret| secret.start < line_end && secret.end > line_start)
            .map(|secret| secret.start.max(line_start)..secret.end.min(line_end))
            .collect();
        let blank = |(at, character): (usize, char)| {
            let inside = hidden.iter().any(|secret| secret.contains(&(line_start + at)));
            if inside { " ".repeat(character.len_utf8()) } else { character.to_string() }
        };
        let rest: String = line.char_indices().map(blank).collect();
        let before = &self.text[..line_start];
        let inside_long_string = before.matches("\"\"\"").count() % 2 == 1 || before.matches("'''").count() % 2 == 1;
        if inside_long_string || line.contains("-----BEGIN") {
            hidden.push(line_start..line_end);
        } else if let Some((key, value)) = rest.split_once('=') {
            let value_start = line_start + rest.len() - value.trim_start().len();
            let key = key.trim().rsplit('.').next().unwrap_or_default().trim_matches(['"', '\'', ' ']);
            let plain = !value.trim_start().starts_with(['{', '[']);
            if (plain && is_secret_key(key)) || has_password(value) {
                hidden.push(value_start..line_end);
            }
        } else if has_password(&rest) {
            hidden.push(line_start..line_end);
        }
        hidden
    }

    /// The nearest character boundary at or before a byte.
    fn boundary(&self, at: usize) -> usize {
        self.text.floor_char_boundary(at.min(self.text.len()))
    }
}

/// The bytes of a file that may not be longer than `limit`.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    // Looked at before it is opened: to open a pipe waits for somebody to write into it.
    let metadata = std::fs::metadata(path).map_err(|error| plain(&error))?;
    if metadata.is_dir() {
        return Err("it is a folder".to_owned());
    }
    if !metadata.is_file() {
        return Err("it is a pipe or a device, not a file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(|error| plain(&error))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| plain(&error))?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is longer than {limit} bytes"));
    }
    Ok(bytes)
}

/// What went wrong, in words that are the same on every system.
fn plain(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        return "there is no such file".to_owned();
    }
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return "permission denied".to_owned();
    }
    error.to_string()
}

/// Whether a text may hold a password of a URL. A MongoDB URI can have one in its query, so it counts as a whole.
pub(super) fn has_password(text: &str) -> bool {
    text.contains("mongodb") || text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Whether the text behind a key is a secret.
pub(super) fn is_secret_key(name: &str) -> bool {
    SECRET_KEYS.contains(&name)
}

/// Whether a key names where a secret is: a variable or a file, which a message is no good without.
pub(super) fn names_a_place(name: &str) -> bool {
    ["env", "file", "jwk_file"].contains(&name)
}

/// Collects where the secret texts of a table are.
fn find_secrets(table: &DeTable<'_>, secret: bool, secrets: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let key = key.get_ref();
        let secret = (secret || is_secret_key(key)) && !names_a_place(key);
        find_secrets_in_value(value, secret, secrets);
    }
}

fn find_secrets_in_value(value: &Spanned<DeValue<'_>>, secret: bool, secrets: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => find_secrets(table, secret, secrets),
        DeValue::Array(array) => array.iter().for_each(|element| find_secrets_in_value(element, secret, secrets)),
        DeValue::String(text) if secret || has_password(text) => secrets.push(value.span()),
        DeValue::Integer(_) | DeValue::Float(_) if secret => secrets.push(value.span()),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// Cuts a long line to the part around what is underlined.
fn cut(characters: &[char], underline: Range<usize>) -> (String, Range<usize>) {
    let start = if characters.len() <= MAX_EXCERPT_CHARACTERS {
        0
    } else {
        underline.start.saturating_sub(MAX_EXCERPT_CHARACTERS / 2)
    };
    let end = characters.len().min(start + MAX_EXCERPT_CHARACTERS);
    let mut excerpt: String = characters[start..end].iter().collect();
    let mut underline = underline.start - start..underline.end.min(end) - start;
    if start > 0 {
        excerpt.insert_str(0, "... ");
        underline = underline.start + 4..underline.end + 4;
    }
    if end < characters.len() {
        excerpt.push_str(" ...");
    }
    (excerpt, underline)
}
