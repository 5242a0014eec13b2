//! Problems of configuration files as `tollgate check` prints them, one golden file a case.
//!
//! A case is `tests/golden/config/NAME.txt`: the file, a line of dashes, the text expected. `UPDATE_GOLDEN=1` rewrites the
//! latter.

use std::path::Path;

const DASHES: &str = "----------\n";

#[test]
fn every_problem_is_told_with_its_place_and_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let mut cases: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut differing = Vec::new();
    for case in &cases {
        let text = std::fs::read_to_string(case).unwrap();
        let (input, expected) = text.split_once(DASHES).unwrap_or_else(|| panic!("{case:?} has no line of dashes"));
        let shown = match tollgate::config::from_text("tollgate.toml", input) {
            Ok(loaded) if loaded.warnings.is_empty() => "good\n".to_owned(),
            Ok(loaded) => loaded.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect(),
            Err(problems) => format!("{problems}\n"),
        };
        if shown == expected {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(case, format!("{input}{DASHES}{shown}")).unwrap();
        } else {
            differing.push(format!("{}\nexpected:\n{expected}\nshown:\n{shown}", case.display()));
        }
    }
    assert!(cases.len() >= 45, "golden files are missing from {}", folder.display());
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
