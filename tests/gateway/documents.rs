//! docs/security.md held against the tests that it names: each exists, and every case of the catalogue has its row.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The cases of the map: a letter, and its numbers. What is left out belongs to parts that do not exist yet (rate limits,
/// reload, TLS, HTTP/2, WebSockets).
const CASES: &[(char, &[u32])] = &[
    ('J', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]),
    ('K', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ('L', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ('H', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ('S', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
    ('P', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
    ('N', &[1, 2, 3, 4, 5, 6]),
    ('D', &[1, 2, 3, 4, 5, 6, 7, 8]),
    ('C', &[1, 3, 4, 5, 6, 7]),
    ('M', &[1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14]),
];

/// A reason shorter than this says nothing.
const LEAST_REASON_BYTES: usize = 12;

#[test]
fn every_test_that_the_security_document_names_exists() {
    let page = page();
    let named: Vec<&str> = tests_named_in(&page).collect();
    assert!(named.len() >= 100, "only {} names of tests were found in docs/security.md", named.len());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let complaints = missing_tests(&named, |file| fs::read_to_string(root.join(file)).ok());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_case_has_one_row_with_its_state_and_its_tests() {
    let page = page();
    let (complaints, totals) = case_map_complaints(section(&page, "## Case map"));
    println!("case map: {}", shown(&totals));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_item_of_asvs_has_its_state_and_every_point_of_rfc_8725_its_tests() {
    let page = page();
    let (mut complaints, totals) = asvs_complaints(section(&page, "## OWASP ASVS 5.0"));
    println!("ASVS 5.0: {}", shown(&totals));
    let points: Vec<_> = rows(section(&page, "## RFC 8725")).collect();
    assert_eq!(points.len(), 12, "RFC 8725 has twelve points, 3.1 to 3.12");
    for (number, cells) in points.iter().enumerate() {
        if cells[0] != format!("3.{}", number + 1) || tests_named_in(cells[3]).next().is_none() {
            complaints.push(format!("RFC 8725, {}: no test, or not in its place", cells[0]));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap()
}

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What stands below the heading that begins so, up to the next one of its level.
#[track_caller]
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n{heading}")).unwrap_or_else(|| panic!("no `{heading}` in docs/security.md"));
    let rest = &page[start + 1..];
    rest[2..].find("\n## ").map_or(rest, |end| &rest[..end + 3])
}

/// The cells of every row of every table, without the heads.
fn rows(section: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines: Vec<&str> = section.lines().collect();
    let is_head = |index: usize| lines.get(index + 1).is_some_and(|next| next.starts_with("|---"));
    let body: Vec<Vec<&str>> = lines
        .iter()
        .enumerate()
        .filter(|(index, line)| line.starts_with('|') && !line.starts_with("|---") && !is_head(*index))
        .map(|(_, line)| line.trim().trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    body.into_iter()
}

/// Every `file::test` in backticks.
fn tests_named_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|code| code.contains(".rs::") || code.contains(".py::"))
}

// ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn missing_tests(named: &[&str], read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut files: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let mut complaints = Vec::new();
    for name in named {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        match files.entry(file).or_insert_with(|| read(file)) {
            None => complaints.push(format!("`{name}`: there is no such file")),
            Some(text) if !has_test(file, text, test) => {
                complaints.push(format!("`{name}`: there is no such test in the file"));
            }
            Some(_) => {}
        }
    }
    complaints
}

/// Whether the text defines `test` as a test, not merely as a function.
fn has_test(file: &str, text: &str, test: &str) -> bool {
    let defines = |line: &str, prefix: &str| {
        line.trim_start()
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix(test))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let lines: Vec<&str> = text.lines().collect();
    let places = (0..lines.len())
        .filter(|at| ["fn ", "async fn ", "def ", "async def "].iter().any(|prefix| defines(lines[*at], prefix)));
    if file.ends_with(".py") {
        return test.starts_with("test_") && places.count() == 1;
    }
    let is_test = |at: usize| {
        let above = lines[..at].iter().rev().map(|line| line.trim());
        let mut attributes = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        attributes.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    places.filter(|at| is_test(*at)).count() == 1
}

type Totals = BTreeMap<String, usize>;

fn case_map_complaints(map: &str) -> (Vec<String>, Totals) {
    let mut open: Vec<String> = CASES
        .iter()
        .flat_map(|(letter, numbers)| numbers.iter().map(move |number| format!("{letter}{number}")))
        .collect();
    let mut complaints = Vec::new();
    let mut totals = Totals::new();
    for cells in rows(map) {
        let [id, state, tests, outcome] = cells[..] else {
            complaints.push(format!("`{}` has {} cells instead of 4", cells.join(" | "), cells.len()));
            continue;
        };
        match open.iter().position(|case| case == id) {
            Some(position) => drop(open.remove(position)),
            None => complaints.push(format!("{id} stands twice, or is no case of the catalogue")),
        }
        *totals.entry(state.to_owned()).or_default() += 1;
        let has_tests = tests_named_in(tests).next().is_some();
        if !matches!(state, "held" | "in part" | "not held") {
            complaints.push(format!("{id}: `{state}` is no state"));
        }
        if matches!(state, "held" | "in part") && !has_tests {
            complaints.push(format!("{id} is {state} by no test"));
        }
        if outcome.len() < LEAST_REASON_BYTES {
            complaints.push(format!("{id} does not say what happens"));
        }
    }
    complaints.extend(open.iter().map(|id| format!("{id} has no row")));
    (complaints, totals)
}

fn asvs_complaints(section: &str) -> (Vec<String>, Totals) {
    let mut complaints = Vec::new();
    let mut totals = Totals::new();
    let mut before: Vec<u32> = Vec::new();
    for cells in rows(section) {
        let [item, level, wish, state, how] = cells[..] else {
            complaints.push(format!("`{}` has {} cells instead of 5", cells.join(" | "), cells.len()));
            continue;
        };
        let numbers: Vec<u32> = item.split('.').filter_map(|number| number.parse().ok()).collect();
        if numbers.len() != 3 || numbers <= before {
            complaints.push(format!("{item} is no item, or stands twice or out of order"));
        }
        before = numbers;
        *totals.entry(state.to_owned()).or_default() += 1;
        if !matches!(level, "1" | "2" | "3") || wish.is_empty() || how.is_empty() {
            complaints.push(format!("{item} lacks its level, its wish or what is done"));
        }
        match state {
            "held" if tests_named_in(how).next().is_none() && !how.contains("](") => {
                complaints.push(format!("{item} is held by no test and no document"));
            }
            "held" | "in part" | "not held" | "not applicable" => {}
            other => complaints.push(format!("{item}: `{other}` is no state")),
        }
    }
    (complaints, totals)
}

fn shown(totals: &Totals) -> String {
    let all: usize = totals.values().sum();
    let parts: Vec<String> = totals.iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("{}, of {all}", parts.join(", "))
}

// ── The rules, on text that breaks them ──────────────────────────────────────────────────────────────────────────────

#[test]
fn a_name_that_is_no_test_is_found() {
    let source = "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test(flavor = \"x\")]\nasync fn two() {}\n";
    let read = |file: &str| match file {
        "a.rs" => Some(source.to_owned()),
        "b.py" => Some("def test_it(x):\n    pass\ndef other():\n    pass\n".to_owned()),
        _ => None,
    };
    assert_eq!(missing_tests(&["a.rs::one", "a.rs::two", "b.py::test_it"], read), Vec::<String>::new());
    assert_eq!(missing_tests(&["a.rs::on", "a.rs::helper", "b.py::other", "c.rs::one", "a.rs::"], read).len(), 5);
}

#[test]
fn a_broken_map_is_found() {
    let whole: String = CASES
        .iter()
        .flat_map(|(letter, numbers)| {
            numbers.iter().map(move |number| format!("| {letter}{number} | held | `a.rs::b` | Something happens. |\n"))
        })
        .collect();
    let complaints =
        |map: &str| case_map_complaints(&format!("| id | state | tests | what |\n|---|---|---|---|\n{map}")).0;
    assert_eq!(complaints(&whole), Vec::<String>::new());
    for (good, bad) in [
        ("| J2 |", "| J1 |"),
        ("| J3 | held |", "| J3 | nearly |"),
        ("| J4 | held | `a.rs::b` |", "| J4 | held | |"),
        ("| J5 | held | `a.rs::b` | Something happens. |", "| J5 | held | `a.rs::b` | |"),
        ("| M14 | held | `a.rs::b` |", "| M14 | held |"),
    ] {
        assert!(whole.contains(good));
        assert!(!complaints(&whole.replacen(good, bad, 1)).is_empty(), "{bad}");
    }
}
