//! What commands have in common when they write: marks in color where a person reads them, and text that is safe to show.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

/// Whether to write in color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For files, pipes, and people who set `NO_COLOR`.
    Plain,
    /// For terminals.
    Color,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It holds.
    Ok,
    /// It does not.
    Refused,
    /// Nobody can say.
    Unknown,
    /// It was not asked, because an earlier one did not hold.
    NotReached,
}

impl Style {
    /// For this stream, as <https://no-color.org> asks: a `NO_COLOR` that is not empty wins.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stream.is_terminal() && !is_unwanted { Self::Color } else { Self::Plain }
    }

    /// The mark as a column of text.
    pub fn mark(self, mark: Mark) -> String {
        let (word, code) = match mark {
            Mark::Ok => ("ok", "32"),
            Mark::Refused => ("no", "31"),
            Mark::Unknown => ("?", "33"),
            Mark::NotReached => ("-", "2"),
        };
        self.paint(&format!("{word:<2}"), code)
    }

    /// The word that sums a command's answer up.
    pub fn verdict(self, word: &str, mark: Mark) -> String {
        let code = match mark {
            Mark::Ok => "1;32",
            Mark::Refused => "1;31",
            Mark::Unknown | Mark::NotReached => "1;33",
        };
        self.paint(word, code)
    }

    fn paint(self, text: &str, code: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Color => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// A key in a sentence.
pub fn key(kid: Option<&str>, algorithm: Option<&str>) -> String {
    let algorithm = algorithm.unwrap_or("?");
    match kid {
        Some(kid) => format!("the key `{}` ({algorithm})", printable(kid)),
        None => format!("a key without a name ({algorithm})"),
    }
}

/// Prints rows with aligned columns. Control characters are shown escaped: names come from databases and files that others
/// write, and must not reach the terminal as commands.
///
/// # Errors
/// When `out` cannot be written.
pub fn table<const COLUMNS: usize>(out: &mut (impl Write + ?Sized), rows: &[[String; COLUMNS]]) -> io::Result<()> {
    let rows: Vec<[String; COLUMNS]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Text that others wrote, with control characters escaped: it must not reach the terminal as commands.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// As [`printable`], for a text of several lines.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// An output whose reader may leave, which is its right: what it would have read is dropped, and the command goes on, so that its
/// exit code tells what it found. A health check must not pass because nobody reads why it failed.
#[derive(Debug)]
pub struct Heard<W>(pub W);

impl<W: Write> Write for Heard<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if_left(self.0.write(bytes), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if_left(self.0.flush(), ())
    }
}

fn if_left<T>(outcome: io::Result<T>, done: T) -> io::Result<T> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(done),
        outcome => outcome,
    }
}

/// JSON for people and programs. What `serde_json` leaves raw and a terminal would obey is escaped as JSON escapes it.
pub fn json(value: &Value) -> String {
    escaped(&format!("{value:#}"))
}

/// As [`json`], in one line.
pub fn json_line(value: &Value) -> String {
    escaped(&value.to_string())
}

/// JSON means the same with any character of its texts escaped.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if (character.is_control() && character != '\n') || is_invisible(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Marks that turn the direction of what follows, or take no room: two texts that look alike must not differ.
const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("a\u{1b}[2J\u{9b}b\u{202e}c\u{61c} é"), "a\\u{1b}[2J\\u{9b}b\\u{202e}c\\u{61c} é");
        let value = serde_json::json!({ "a": "\u{9b}\u{202e}\u{1b}\u{e0041}é" });
        let text = json(&value);
        assert_eq!(text, "{\n  \"a\": \"\\u009b\\u202e\\u001b\\udb40\\udc41é\"\n}");
        assert_eq!(json_line(&value), "{\"a\":\"\\u009b\\u202e\\u001b\\udb40\\udc41é\"}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn color_is_for_terminals_only() {
        assert_eq!(Style::Plain.mark(Mark::Refused), "no");
        assert!(Style::Color.mark(Mark::Ok).contains("ok"));
    }
}
