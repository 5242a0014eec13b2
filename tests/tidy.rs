//! The source rules that the compiler and clippy do not check: who may import whom, how long a file may be, what may not be
//! left lying around, and that refusal codes, metrics and fields of the access log are documented.
//!
//! A rule is a plain function from text to complaints, so that each one is also tested on text that breaks it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a file that cannot be read is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tollgate::audit::Event;
use tollgate::gateway::code::Code;
use tollgate::metrics::{Labels, Metrics};

/// Which modules a module may import, lowest layer first. ARCHITECTURE.md has the reasons.
const MAY_IMPORT: &[(&str, Imports)] = &[
    ("time", Imports::Only(&[])),
    ("cause", Imports::Only(&[])),
    ("body", Imports::Only(&[])),
    ("socket", Imports::Only(&[])),
    ("metrics", Imports::Only(&[])),
    ("log", Imports::Only(&["time"])),
    ("audit", Imports::Only(&["log", "metrics", "time"])),
    ("request", Imports::Only(&["time"])),
    ("route", Imports::Only(&["request"])),
    ("keyset", Imports::Only(&["cause", "time", "metrics"])),
    ("store", Imports::Only(&["time", "metrics"])),
    ("token", Imports::Only(&["keyset", "request", "time"])),
    ("account", Imports::Only(&["audit", "store", "time", "metrics"])),
    ("revocation", Imports::Only(&["store", "time", "metrics"])),
    ("session", Imports::Only(&["audit", "revocation", "store", "time", "metrics"])),
    ("policy", Imports::Only(&["route", "token"])),
    ("upstream", Imports::Only(&["body", "metrics", "policy", "request", "route", "socket", "time", "token"])),
    (
        "issuer",
        Imports::Only(&["audit", "account", "session", "token", "keyset", "request", "body", "time", "metrics"]),
    ),
    (
        "gateway",
        Imports::Only(&[
            "cause",
            "time",
            "body",
            "metrics",
            "log",
            "audit",
            "request",
            "route",
            "keyset",
            "store",
            "token",
            "account",
            "session",
            "policy",
            "upstream",
            "issuer",
            "revocation",
        ]),
    ),
    ("server", Imports::Only(&["gateway", "body", "metrics", "time", "request", "log", "socket"])),
    ("config", Imports::AllBut(&["app", "cli"])),
    ("app", Imports::AllBut(&["cli"])),
    ("cli", Imports::AllBut(&[])),
    ("main", Imports::AllBut(&[])),
    ("lib", Imports::AllBut(&[])),
];

const MAX_LINES: usize = 500;

/// Fewer fields than this means that the test no longer finds them, not that an access line says so little.
const LEAST_ACCESS_FIELDS: usize = 15;

enum Imports {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

impl Imports {
    fn contain(&self, module: &str) -> bool {
        match self {
            Self::Only(list) => list.contains(&module),
            Self::AllBut(list) => !list.contains(&module),
        }
    }
}

#[test]
fn a_module_imports_only_what_lies_below_it() {
    check_files(&rust_files(&["src"]), |path, text| import_complaints(path, text, MAY_IMPORT));
}

#[test]
fn a_file_says_in_its_first_line_what_it_is_for() {
    check_files(&rust_files(&["src", "tests", "benches"]), |_, text| first_line_complaints(text));
}

#[test]
fn a_file_is_short_enough_to_be_read() {
    check_files(&rust_files(&["src"]), |_, text| length_complaints(text));
}

#[test]
fn nothing_unfinished_or_switched_off_is_left() {
    check_files(&rust_files(&["src", "tests", "benches"]), |_, text| leftover_complaints(text));
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    let mut files =
        all_files(&["src", "tests", "benches", "config", "docs", "scripts", "fuzz", ".ci", "examples", "contrib"]);
    files.extend(
        fs::read_dir(root())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && !path.ends_with(".git")),
    );
    check_files(&files, |_, text| machine_path_complaints(text));
}

#[test]
fn every_refusal_code_is_documented_and_every_documented_one_exists() {
    let codes = Code::ALL.map(|code| (code.name(), code.status().as_u16()));
    let complaints = code_complaints(&codes, &page("docs/refusals.md"));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    // Some are there only where keys are fetched.
    let labels = Labels {
        routes: Vec::new(),
        upstreams: Vec::new(),
        refusals: &Code::NAMES,
        key_sources: vec!["issuer".into()],
        audit_events: &Event::ALL,
    };
    let metrics = Metrics::new(labels, 1);
    metrics.keys_read();
    let shown = metrics.encode();
    let made = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).map(owned).collect();
    let told = rows(section(&page("docs/operations.md"), "## Metrics"))
        .filter_map(|cells| Some((cells[0].strip_prefix('`')?.strip_suffix('`')?, *cells.get(1)?)))
        .map(owned)
        .collect();
    let complaints = differences("metric", &made, &told);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_field_of_the_access_log_is_documented_and_every_documented_one_exists() {
    let made = access_fields(&fs::read_to_string(root().join("src/gateway/record.rs")).unwrap());
    assert!(made.len() >= LEAST_ACCESS_FIELDS, "only {} fields were found in gateway/record.rs: {made:?}", made.len());
    let told = rows(section(&page("docs/operations.md"), "### Access log fields"))
        .flat_map(|cells| cells[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let complaints = differences("field of the access log", &made, &told);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

// ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// What stands below this heading, up to the next one of its level or above.
#[track_caller]
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
    let body = &page[start + 1 + heading.len()..];
    let level = heading.len() - heading.trim_start_matches('#').len();
    let ends = (2..=level).filter_map(|level| body.find(&format!("\n{} ", "#".repeat(level))));
    ends.min().map_or(body, |end| &body[..end])
}

/// The cells of every row of every table.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim().trim_matches('|').split('|').map(str::trim).collect())
}

/// Every file below these folders of the project that exist, sorted.
fn all_files(folders: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> =
        folders.iter().map(|folder| root().join(folder)).filter(|path| path.is_dir()).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | "node_modules" | "__pycache__") {
                    open.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let files: Vec<_> =
        all_files(folders).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
    assert!(!files.is_empty(), "no Rust file below {folders:?}");
    files
}

/// Applies a rule to every file that is text, and fails with all complaints at once.
#[track_caller]
fn check_files(files: &[PathBuf], rule: impl Fn(&str, &str) -> Vec<String>) {
    let mut complaints = Vec::new();
    for file in files {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap();
        if let Ok(text) = String::from_utf8(fs::read(file).unwrap()) {
            complaints.extend(rule(path, &text).into_iter().map(|complaint| format!("{path}: {complaint}")));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn import_complaints(path: &str, text: &str, table: &[(&str, Imports)]) -> Vec<String> {
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return Vec::new(); // As in `production_code`: a test may look up.
    }
    let mut parts: Vec<&str> = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs").split('/').collect();
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    let module = parts[0];
    let Some((_, allowed)) = table.iter().find(|(name, _)| *name == module) else {
        return vec![format!("the module `{module}` has no row in MAY_IMPORT of tests/tidy.rs")];
    };
    let mut complaints = Vec::new();
    for (line, imported) in imports(&production_code(text), parts.len()) {
        let known = table.iter().any(|(name, _)| *name == imported);
        if known && imported != module && !allowed.contain(&imported) {
            complaints.push(format!("line {line}: `{module}` may not import `{imported}`"));
        }
    }
    complaints
}

/// The text without comments and without `#[cfg(test)] mod … { … }`, every line at its place: what a test builds its world
/// from may lie above the module that it tests.
fn production_code(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let opens_tests = line.trim() == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if opens_tests {
            let end = format!("{indent}}}");
            kept.push('\n');
            for inner in lines.by_ref() {
                kept.push('\n');
                if inner == end {
                    break;
                }
            }
        } else {
            kept.push_str(if line.trim_start().starts_with("//") { "" } else { line });
            kept.push('\n');
        }
    }
    kept
}

/// What is reached from the crate's root: `crate::a`, `crate::{a, b::c}`, and as many `super::` as lead there from a module
/// that is `depth` folders down. With the number of the line.
fn imports(code: &str, depth: usize) -> Vec<(usize, String)> {
    let to_root = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", &to_root] {
        for (at, _) in code.match_indices(prefix) {
            let begins_a_path =
                !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$');
            if !begins_a_path {
                continue;
            }
            let line = code[..at].lines().count().max(1) + usize::from(code[..at].ends_with('\n'));
            let rest = &code[at + prefix.len()..];
            found.extend(heads(rest).into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// The first name of a path, or of each path in a group in braces.
fn heads(rest: &str) -> Vec<String> {
    let name =
        |text: &str| -> String { text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut names = vec![name(group)];
    let mut depth = 1;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn first_line_complaints(text: &str) -> Vec<String> {
    if text.starts_with("//! ") {
        Vec::new()
    } else {
        vec!["the first line must be `//! ` and what the file is for".into()]
    }
}

fn length_complaints(text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > MAX_LINES { vec![format!("{lines} lines, at most {MAX_LINES}: split it")] } else { Vec::new() }
}

fn leftover_complaints(text: &str) -> Vec<String> {
    // In two pieces, so that this file keeps its own rule.
    let leftovers =
        [("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("#[all", "ow("), ("#![all", "ow("), ("#[ign", "ore")];
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (one, two) in leftovers {
            let leftover = format!("{one}{two}");
            if line.contains(&leftover) {
                complaints.push(format!("line {}: `{leftover}`", number + 1));
            }
        }
    }
    complaints
}

fn machine_path_complaints(text: &str) -> Vec<String> {
    let places =
        [("/wor", "k/"), ("/roo", "t/"), ("/hom", "e/"), ("/User", "s/")].map(|(one, two)| format!("{one}{two}"));
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for place in &places {
            let begins_a_path =
                |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}'));
            if line.match_indices(place.as_str()).any(|(at, _)| begins_a_path(at)) {
                complaints.push(format!("line {}: a path below `{place}`", number + 1));
            }
        }
    }
    complaints
}

/// A code is documented by one row of its own that begins with it, says its status, and leaves no cell empty.
fn code_complaints(codes: &[(&str, u16)], page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (code, status) in codes {
        let own: Vec<Vec<&str>> = rows(page).filter(|cells| cells[0] == format!("`{code}`")).collect();
        match &own[..] {
            [] => complaints.push(format!("`{code}` has no row in docs/refusals.md")),
            [cells] if cells.len() != 5 || cells.iter().any(|cell| cell.is_empty()) => {
                complaints
                    .push(format!("the row of `{code}` in docs/refusals.md has not five cells with something in them"));
            }
            [cells] if cells[1] != status.to_string() => {
                complaints.push(format!("docs/refusals.md has status {} for `{code}`, and it is {status}", cells[1]));
            }
            [_] => {}
            [_, _, ..] => complaints.push(format!("`{code}` has several rows in docs/refusals.md")),
        }
    }
    for cells in rows(page) {
        let first = cells[0].strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        if let Some(invented) = first.filter(|first| codes.iter().all(|(code, _)| code != first)) {
            complaints.push(format!("docs/refusals.md describes `{invented}`, which the gateway never answers"));
        }
    }
    complaints
}

/// What is written into access lines under a name of its own: `,\"name\":`.
fn access_fields(text: &str) -> BTreeSet<String> {
    let code = production_code(text);
    let is_name =
        |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'));
    let parts = code.split("\\\"");
    let pairs = parts.clone().zip(parts.skip(1));
    let names = pairs.filter(|(name, after)| is_name(name) && after.starts_with(':')).map(|(name, _)| name.to_owned());
    names.collect()
}

fn owned((name, kind): (&str, &str)) -> (String, String) {
    (name.to_owned(), kind.to_owned())
}

fn differences<T: Ord + std::fmt::Debug>(what: &str, made: &BTreeSet<T>, told: &BTreeSet<T>) -> Vec<String> {
    let missing = made.difference(told).map(|one| format!("the {what} {one:?} has no row in docs/operations.md"));
    let invented =
        told.difference(made).map(|one| format!("docs/operations.md describes the {what} {one:?}, which there is not"));
    missing.chain(invented).collect()
}

// ── The rules, on text that breaks them ──────────────────────────────────────────────────────────────────────────────

#[track_caller]
fn check_imports(path: &str, text: &str, expected: &[&str]) {
    let complaints = import_complaints(path, text, MAY_IMPORT);
    assert_eq!(complaints, expected, "for {path}:\n{text}");
}

#[test]
fn an_import_of_a_higher_module_is_found() {
    check_imports(
        "src/keyset/jwk.rs",
        "//! x\nuse crate::token::Verifier;\n",
        &["line 2: `keyset` may not import `token`"],
    );
    check_imports("src/time.rs", "fn f() { crate::config::load() }\n", &["line 1: `time` may not import `config`"]);
    check_imports("src/server/tls.rs", "use crate::config::Config;\n", &["line 1: `server` may not import `config`"]);
    check_imports("src/app.rs", "use crate::cli::Arguments;\n", &["line 1: `app` may not import `cli`"]);
    check_imports("src/config/mod.rs", "use crate::app::App;\n", &["line 1: `config` may not import `app`"]);
}

#[test]
fn an_import_inside_a_group_is_found() {
    check_imports(
        "src/route/mod.rs",
        "use crate::{\n    request::{RequestHead, path},\n    policy::{self, token},\n    time,\n};\n",
        &["line 1: `route` may not import `policy`", "line 1: `route` may not import `time`"],
    );
}

#[test]
fn an_import_by_way_of_super_is_found() {
    check_imports("src/time.rs", "use super::log::Writer;\n", &["line 1: `time` may not import `log`"]);
    check_imports("src/policy/mod.rs", "use super::upstream::A;\n", &["line 1: `policy` may not import `upstream`"]);
    check_imports(
        "src/policy/rule.rs",
        "use super::super::upstream::A;\n",
        &["line 1: `policy` may not import `upstream`"],
    );
    check_imports("src/policy/rule.rs", "use super::Permit;\nuse super::upstream::A;\n", &[]);
}

#[test]
fn an_allowed_import_is_no_complaint() {
    check_imports("src/token/mod.rs", "use crate::keyset::KeySet;\nuse crate::token::mint;\nuse crate::time;\n", &[]);
    check_imports("src/token/mod.rs", "// crate::config does this\n/// See [`crate::gateway`].\n", &[]);
    check_imports("src/cli/demo.rs", "use crate::app;\nuse crate::store;\n", &[]);
    check_imports("src/token/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::config::load;\n}\n", &[]);
    check_imports("src/token/tests.rs", "use crate::config::load;\n", &[]);
}

#[test]
fn code_after_a_test_module_is_still_read() {
    let text = "#[cfg(test)]\nmod tests {\n    fn f() {\n    }\n}\nuse crate::config;\n";
    check_imports("src/token/mod.rs", text, &["line 6: `token` may not import `config`"]);
}

#[test]
fn a_module_without_a_row_is_found() {
    check_imports("src/helpers/mod.rs", "", &["the module `helpers` has no row in MAY_IMPORT of tests/tidy.rs"]);
}

#[test]
fn the_table_has_no_cycle_below_the_modules_that_see_everything() {
    for (position, (module, imports)) in MAY_IMPORT.iter().enumerate() {
        if let Imports::Only(list) = imports {
            for imported in *list {
                let below = MAY_IMPORT[..position].iter().any(|(name, _)| name == imported);
                assert!(below, "`{imported}` is not below `{module}`");
            }
        }
    }
}

#[test]
fn a_file_without_its_purpose_is_found() {
    assert_eq!(first_line_complaints("use std::fs;\n//! Late.\n").len(), 1);
    assert_eq!(first_line_complaints("//!\n").len(), 1);
    assert_eq!(first_line_complaints("//! Time.\n").len(), 0);
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(length_complaints(&"x\n".repeat(MAX_LINES + 1)), ["501 lines, at most 500: split it"]);
    assert_eq!(length_complaints(&"x\n".repeat(MAX_LINES)).len(), 0);
}

#[test]
fn leftovers_are_found() {
    for leftover in
        ["    to~do!(),", "unimpl~emented!()", "db~g!(x)", "#[al~low(dead_code)]", "#![al~low(x)]", "#[ig~nore]"]
    {
        assert_eq!(leftover_complaints(&leftover.replace('~', "")).len(), 1, "{leftover}");
    }
    assert_eq!(leftover_complaints("#[expect(clippy::panic, reason = \"r\")]\nlet allow = 1;\n").len(), 0);
}

#[test]
fn a_path_of_a_machine_is_found() {
    for path in ["\"/wo~rk/x\"", "in /ro~ot/.cargo", "(/ho~me/me/key.pem)", "/Us~ers/me"] {
        assert_eq!(machine_path_complaints(&path.replace('~', "")).len(), 1, "{path}");
    }
    let of_a_url = "https://example.org/ho~me/ and .github/wo~rk/ and {base}/ro~ot/".replace('~', "");
    assert_eq!(machine_path_complaints(&of_a_url).len(), 0);
}

#[test]
fn an_undocumented_code_and_an_invented_one_are_found() {
    let codes = [("bad_path", 400), ("login_failed", 401), ("overloaded", 503), ("twice", 400), ("empty", 400)];
    let page = "login_failed and `login_failed` outside a table\n| code | status | meaning | client | operator |\n|---|---|---|---|---|\n\
                | `bad_path` | 400 | not `login_failed` | y | z |\n| `overloaded` | 500 | x | y | z |\n| `twice` | 400 | x | y | z |\n\
                | `twice` | 400 | x | y | z |\n| `empty` | 400 | x | | z |\n| `invented` | 400 | x | y | z |\n";
    let expected = [
        "`login_failed` has no row in docs/refusals.md",
        "docs/refusals.md has status 500 for `overloaded`, and it is 503",
        "`twice` has several rows in docs/refusals.md",
        "the row of `empty` in docs/refusals.md has not five cells with something in them",
        "docs/refusals.md describes `invented`, which the gateway never answers",
    ];
    assert_eq!(code_complaints(&codes, page), expected);
}

#[test]
fn fields_of_access_lines_are_read_from_the_source() {
    let source = r#"
line.raw("{\"time\":\"");
line.raw("\",\"client.addr\":\"");
CacheUse::Hit => ",\"token.cache\":\"hit\"",
const ROUTE_NAME: &str = ",\"route.name\":";
// line.raw(",\"comment\":");
#[cfg(test)]
mod tests {
    fn f() { ",\"test\":"; }
}
"#;
    let fields: Vec<String> = access_fields(source).into_iter().collect();
    assert_eq!(fields, ["client.addr", "route.name", "time", "token.cache"]);
}

#[test]
fn what_only_one_side_has_is_found() {
    let [made, told] = [["a", "b"], ["b", "c"]].map(BTreeSet::from);
    assert_eq!(differences("metric", &made, &told).len(), 2);
    assert_eq!(rows(section("\n## One\n| a |\n### Two\n| b |\n## Three\n| c |\n", "## One")).count(), 2);
    assert_eq!(rows(section("\n## One\n| a |\n### Two\n| b |\n## Three\n| c |\n", "### Two")).count(), 1);
}
