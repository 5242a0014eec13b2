//! docs/configuration.md: every key with its kind, default and meaning, made of the shape and the default file's comments.

use super::comments::Comments;
use super::file::{Content, FILE, Key, Shape};
use super::reader::join;

/// What stands above the tables.
const HEAD: &str = "\
# Configuration

Every key of the configuration file. This page is made of [config/tollgate.toml](../config/tollgate.toml), the commented default
file that `tollgate config default` prints, and of the list of keys in the program. Change those; a test then fails until
`UPDATE_GOLDEN=1 cargo test --test gateway golden` has written this page anew.

A file is one TOML document, named with `-c FILE` or `TOLLGATE_CONFIG`; without either, it is `config/tollgate.toml`.
`tollgate check` reports every problem of a file at once, `tollgate check --connect` also tries the store and every upstream server, and
`tollgate config show` prints the settings in effect.

**In an editor.** `tollgate config schema > tollgate.schema.json` writes a JSON Schema. With `#:schema ./tollgate.schema.json` as the
first line of the file, editors that use Taplo (\"Even Better TOML\" in Visual Studio Code, and others) complete keys, show their
meaning and mark what is wrong; `taplo check` does the same in a shell. The schema knows keys, types, words and bounds. What depends on
several keys, on other files or on the environment, only `check` knows.

**Values.** Durations are texts with a unit: `\"500ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`, `\"30d\"`; `\"none\"`, where it is possible, means no
limit. Sizes end in `_bytes`. Where `{ env = \"…\" }` or `{ file = \"…\" }` is possible, the value is a secret that stands in an
environment variable or a file. Paths of secrets, keys and included files start from the folder of the configuration file; paths of the
database and the access log start from the folder that Tollgate runs in.

A key that is not here is refused, by name and with what was probably meant. Keys of parts that are not built yet are refused as
\"not supported yet\".
";

/// The whole page.
pub(super) fn page() -> String {
    let comments = Comments::read();
    let mut page = HEAD.to_owned();
    section(&FILE, "", &comments, &mut page);
    page
}

/// The table of a shape's own keys, then the tables below it.
fn section(shape: &Shape, path: &str, comments: &Comments, page: &mut String) {
    let rows: Vec<String> = shape.0.iter().filter_map(|key| row(key, &join(path, key.name), comments)).collect();
    if !rows.is_empty() {
        let (title, about) = if path.is_empty() {
            ("The file itself".to_owned(), String::new())
        } else {
            (format!("`{}`", header(path)), escaped(comments.meaning(path)))
        };
        page.push_str(&format!("\n## {title}\n\n"));
        if !about.is_empty() {
            page.push_str(&format!("{about}\n\n"));
        }
        page.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
        rows.iter().for_each(|row| page.push_str(row));
    }
    for key in shape.0 {
        let path = join(path, key.name);
        match key.content {
            Content::Table(shape) => section(shape, &path, comments, page),
            Content::Named(shape) | Content::List(shape) => section(shape, &format!("{path}.*"), comments, page),
            Content::Default(..) | Content::Required(_) | Content::Optional(_) | Content::Later => {}
        }
    }
}

/// The line of a key that has a value.
fn row(key: &Key, path: &str, comments: &Comments) -> Option<String> {
    let (kind, default) = match key.content {
        Content::Default(kind, text) => (kind, format!("`{text}`")),
        Content::Required(kind) => (kind, "**required**".to_owned()),
        Content::Optional(kind) => (kind, "none".to_owned()),
        Content::Table(_) | Content::Named(_) | Content::List(_) | Content::Later => return None,
    };
    let mut meaning = escaped(comments.meaning(path));
    // Of a default, the file shows the default itself too.
    if let Some(told) = comments.values(path).iter().find(|told| default != format!("`{}`", told.text)) {
        meaning.push_str(&format!(" Example: `{}`.", told.text));
    }
    let cells = [format!("`{}`", key.name), kind.words(), default, meaning].map(|cell| cell.replace('|', "\\|"));
    Some(format!("| {} |\n", cells.join(" | ")))
}

/// `[server]`, `[upstreams.<name>]`, `[[routes]]`
fn header(path: &str) -> String {
    match path {
        "routes.*" | "login.aliases.*" => format!("[[{}]]", path.trim_end_matches(".*")),
        path => format!("[{}]", path.replace('*', "<name>")),
    }
}

/// `*` and `<` are Markdown's outside of backticks.
fn escaped(text: &str) -> String {
    let part = |(index, part): (usize, &str)| match index % 2 {
        0 => part.replace('*', "\\*").replace('<', "\\<").replace('_', "\\_"),
        _ => part.to_owned(),
    };
    text.split('`').enumerate().map(part).collect::<Vec<_>>().join("`")
}
