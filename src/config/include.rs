//! `include`: further files with routes and upstreams, so that each team edits its own.

use std::ffi::OsStr;
use std::path::Path;

use super::reader::{Fault, Findings, Node, Section};
use super::source::Source;
use super::value::{text, word};

/// Most files that the patterns together may name.
const MAX_INCLUDED_FILES: usize = 1000;
/// Most text that these files together may hold, in bytes.
const MAX_INCLUDED_BYTES: usize = 8 * 1024 * 1024;

/// Reads the files that `include` names: pattern by pattern, each pattern's files in the order of their names.
pub(super) fn included(file: &Section<'_>, findings: &mut Findings) -> Vec<Source> {
    let Some(node) = file.given("include") else { return Vec::new() };
    let patterns = findings.accept(&node, node.elements()).unwrap_or_default();
    let mut names: Vec<(String, &Node<'_>)> = Vec::new();
    for pattern in &patterns {
        for name in matches(pattern, findings).unwrap_or_default() {
            if names.iter().any(|(known, _)| *known == name) {
                findings.problems.push(pattern.problem(format!("`{name}` is included already")));
            } else {
                names.push((name, pattern));
            }
        }
    }
    if names.len() > MAX_INCLUDED_FILES {
        let message = format!("`include` names {} files, more than {MAX_INCLUDED_FILES}", names.len());
        findings.problems.push(node.problem(message));
        names.truncate(MAX_INCLUDED_FILES);
    }
    let mut sources = Vec::new();
    let mut bytes = 0;
    for (name, pattern) in names {
        let path = node.source.folder.join(&name);
        match Source::read(&path, &path.to_string_lossy()) {
            Ok(source) => {
                bytes += source.text.len();
                if bytes > MAX_INCLUDED_BYTES {
                    let message = format!("the included files are longer than {MAX_INCLUDED_BYTES} bytes together");
                    findings.problems.push(pattern.problem(message));
                    break;
                }
                sources.push(source);
            }
            Err(problem) => findings.problems.push(pattern.problem(problem.message())),
        }
    }
    sources
}

/// The files of one pattern, relative to the folder of the file that includes them.
fn matches(node: &Node<'_>, findings: &mut Findings) -> Option<Vec<String>> {
    let pattern = text(word)(node, findings)?;
    let path = Path::new(&pattern);
    let (Some(file_pattern), parent) = (path.file_name().and_then(OsStr::to_str), path.parent()) else {
        return findings.accept(node, Err(Fault::new("must name a file")));
    };
    let parent = parent.unwrap_or_else(|| Path::new(""));
    if parent.to_string_lossy().contains(['*', '?']) {
        let fault = Fault::new("has a `*` or `?` in the name of a folder");
        return findings
            .accept(node, Err(fault.hint("only the name of the file may have one, as in \"routes.d/*.toml\"")));
    }
    if !file_pattern.contains(['*', '?']) {
        return Some(vec![pattern]);
    }
    let mut names: Vec<String> = Vec::new();
    let folder = node.source.folder.join(parent);
    // `read_dir("")` fails, where a join of nothing means the current folder.
    let folder = if folder.as_os_str().is_empty() { Path::new(".").to_owned() } else { folder };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        // As in a shell, `*` leaves hidden files alone: editors keep their own there.
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if let Some(name) = name.to_str()
            && !hidden
            && matches_pattern(file_pattern, name)
            && !entry.path().is_dir()
        {
            names.push(parent.join(name).to_string_lossy().into_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        findings.warnings.push(node.problem(format!("no file matches `{pattern}`")));
    }
    Some(names)
}

/// Whether a file's name matches: `*` stands for any characters, `?` for one.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at_pattern, mut at_name) = (0, 0);
    // Where to go on when what follows the last `*` did not match: that `*` takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some('*') => {
                retry = Some((at_pattern + 1, at_name));
                at_pattern += 1;
            }
            Some(expected) if *expected == '?' || *expected == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            Some(_) | None => {
                let Some((after_star, taken)) = retry else { return false };
                retry = Some((after_star, taken + 1));
                at_pattern = after_star;
                at_name = taken + 1;
            }
        }
    }
    pattern[at_pattern..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::matches_pattern;

    #[test]
    fn a_star_stands_for_any_characters_and_a_question_mark_for_one() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.tom", false),
            ("*.toml", "a.toml.bak", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("team-?.toml", "team-1.toml", true),
            ("team-?.toml", "team-12.toml", false),
            ("*", "", true),
            ("**", "x", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }
}
