//! A short run of every fuzzing property: the seeds of fuzz/seeds/, each named by its case, and a fixed number of mutations of them.
//!
//! `scripts/fuzz` runs the same properties for long, led by coverage. What it finds becomes a seed with a name.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a property that does not hold is a failed test")]
#![expect(unreachable_pub, reason = "the same files are a library of the fuzzer's package")]

mod mutate;
mod properties;

use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutate::{Numbers, mutated};
use properties::TARGETS;

/// Fewer than this, and somebody has emptied the folder.
const LEAST_SEEDS: usize = 5;

#[test]
fn a_path_is_read_as_the_rules_say_and_is_its_own_normal_path() {
    run("path", 20_000);
}

#[test]
fn the_search_of_a_route_finds_what_a_comparison_of_all_finds() {
    run("route", 60_000);
}

#[test]
fn a_bearer_token_is_a_part_of_its_header_in_the_characters_of_rfc_6750() {
    run("bearer", 300_000);
}

#[test]
fn an_accepted_token_is_signed_and_says_nothing_forbidden() {
    run("token", 50_000);
}

#[test]
fn an_accepted_key_has_an_allowed_kind_and_size_and_is_no_private_one() {
    run("keys", 60_000);
}

#[test]
fn an_accepted_login_has_the_username_and_password_that_another_parser_reads() {
    run("login", 300_000);
}

#[test]
fn an_accepted_refresh_token_is_one_that_a_key_of_ours_made() {
    run("refresh", 100_000);
}

#[test]
fn an_accepted_head_names_one_host_and_one_normal_path() {
    run("head", 200_000);
}

#[test]
fn no_name_that_the_gateway_vouches_for_passes_from_a_client() {
    run("headers", 30_000);
}

#[test]
fn one_cookie_is_ours_by_its_octets_or_none_and_all_others_pass_as_they_were() {
    run("cookie", 200_000);
}

#[test]
fn a_configuration_that_loads_can_be_built_and_shown_and_loaded_again() {
    run("config", 8_000);
}

#[test]
fn every_target_has_seeds_and_a_program_for_the_fuzzer() {
    for (target, _) in TARGETS {
        assert!(seeds(target).len() >= LEAST_SEEDS, "fuzz/seeds/{target} has too few seeds");
        let program = fs::read_to_string(root().join(format!("fuzz/targets/{target}.rs"))).unwrap();
        assert!(
            program.contains(&format!("properties::{target}(data)")),
            "fuzz/targets/{target}.rs runs another property"
        );
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        assert!(
            manifest.contains(&format!("path = \"targets/{target}.rs\"")),
            "fuzz/Cargo.toml does not name {target}"
        );
    }
}

/// What the tests against PyJWT ask for: every accepted token of the short run, one JSON object a line, in the file that the
/// environment names. Without it, it counts them: a run that accepts none would prove nothing.
#[test]
fn accepted_tokens_are_told_to_whoever_judges_them() {
    let mut accepted = Vec::new();
    for input in inputs("token", 30_000) {
        if let Some(found) = properties::accepted(&input) {
            let line = serde_json::json!({
                "token": found.token, "algorithm": found.algorithm, "issuer": found.issuer, "audience": found.audience,
                "key": found.key, "now": found.now,
            });
            accepted.push(line.to_string());
        }
    }
    assert!(accepted.len() >= 100, "only {} tokens were accepted", accepted.len());
    if let Some(file) = std::env::var_os("TOLLGATE_ACCEPTED_TOKENS") {
        fs::write(file, accepted.join("\n") + "\n").unwrap();
    }
}

// ── Running ──────────────────────────────────────────────────────────────────────────────────────────────────────────

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every seed, then `mutations` of them; the first one that breaks the property fails the test and is kept.
#[track_caller]
fn run(target: &str, mutations: usize) {
    let (_, property) = TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    for (name, seed) in seeds(target) {
        if catch_unwind(AssertUnwindSafe(|| property(&seed))).is_err() {
            panic!("the seed {} breaks the property `{target}`", name.display());
        }
    }
    for input in inputs(target, mutations) {
        if catch_unwind(AssertUnwindSafe(|| property(&input))).is_err() {
            let kept = root().join("target").join(format!("fuzz-{target}-failed"));
            fs::File::create(&kept).and_then(|mut file| file.write_all(&input)).unwrap();
            panic!(
                "an input breaks the property `{target}`:\n{}\nit is kept in {}; when its cause is known, give it a name in fuzz/seeds/{target}/",
                input.escape_ascii(),
                kept.display()
            );
        }
    }
}

/// The seeds of a target with their files.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("fuzz/seeds").join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut seeds: Vec<_> = files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    if target == "config" {
        seeds.extend(configurations());
    }
    seeds
}

/// The files that are shipped, and those with a mistake each, whose problems other tests know.
fn configurations() -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = vec![root().join("config/minimal.toml"), root().join("config/tollgate.toml")];
    files.extend(fs::read_dir(root().join("tests/golden/config")).unwrap().map(|entry| entry.unwrap().path()));
    files.sort();
    let text =
        |file: &Path| fs::read_to_string(file).unwrap().split("\n----------\n").next().unwrap().as_bytes().to_vec();
    files.into_iter().map(|file| (file.clone(), text(&file))).collect()
}

fn inputs(target: &str, mutations: usize) -> impl Iterator<Item = Vec<u8>> {
    let seeds: Vec<Vec<u8>> = seeds(target).into_iter().map(|(_, seed)| seed).collect();
    let mut numbers = Numbers(0x0070_6174_6873 ^ u64::try_from(target.len()).unwrap());
    let whole = seeds.clone().into_iter();
    whole.chain((0..mutations).map(move |_| mutated(&seeds, &mut numbers)))
}
