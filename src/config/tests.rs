//! The files that Tollgate ships, held against the code; and what is read from disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::Value;
use toml::de::DeValue;

use super::comments::Comments;
use super::file::{Content, FILE, Shape};
use super::{DEFAULT_FILE, Loaded, Problem, from_text, load};
use crate::keyset::OwnKeys;
use crate::store::StoreLocation;

const MINIMAL_FILE: &str = include_str!("../../config/minimal.toml");

const SERVICE: &str =
    "[upstreams.app]\nservers = [\"http://127.0.0.1:9001\"]\n[[routes]]\npath = \"/{*rest}\"\nupstream = \"app\"\n";

/// The settings of a text that must be good.
#[track_caller]
fn good(text: &str) -> Loaded {
    from_text("test.toml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems of a text that must be bad.
#[track_caller]
fn bad(text: &str) -> String {
    from_text("test.toml", text).map(|_| ()).expect_err("the text is wrong").to_string()
}

/// Every key that can be used, as `upstreams.*.servers`, with its default.
fn keys(shape: &Shape, path: &str, all: &mut BTreeMap<String, Option<&'static str>>) {
    for key in shape.0 {
        let path = super::reader::join(path, key.name);
        match key.content {
            Content::Default(_, text) => drop(all.insert(path, Some(text))),
            Content::Required(_) | Content::Optional(_) => drop(all.insert(path, None)),
            Content::Table(shape) => keys(shape, &path, all),
            Content::Named(shape) | Content::List(shape) => keys(shape, &format!("{path}.*"), all),
            Content::Later => {}
        }
    }
}

#[test]
fn the_default_file_names_every_key_and_tells_its_default() {
    let mut all = BTreeMap::new();
    keys(&FILE, "", &mut all);
    let comments = Comments::read();
    for (path, default) in all {
        let values: Vec<&Value> = comments.values(&path).iter().map(|told| &told.value).collect();
        assert!(!values.is_empty(), "config/tollgate.toml does not name {path}");
        assert!(!comments.meaning(&path).is_empty(), "config/tollgate.toml does not say what {path} means");
        if let Some(default) = default {
            let default = super::store::to_json(DeValue::parse(default).unwrap().get_ref()).unwrap();
            // What an issuer's keys are left out for is in the second example only.
            assert!(
                values.contains(&&default) || path == "issuers.*.keys",
                "config/tollgate.toml says {values:?} of {path}, whose default is {default}"
            );
        }
    }
}

#[test]
fn the_page_of_keys_has_value_default_and_meaning_of_each() {
    let mut all = BTreeMap::new();
    keys(&FILE, "", &mut all);
    let mut section = String::new();
    let mut described = Vec::new();
    for line in super::reference().lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let title = title.trim_matches(['`', '[', ']']).replace("<name>", "*");
            section = match title.as_str() {
                "The file itself" => String::new(),
                "routes" | "login.aliases" => format!("{title}.*"),
                _ => title,
            };
        } else if let Some(row) = line.strip_prefix("| `") {
            let (name, cells) = row.split_once("` | ").unwrap();
            // A pipe in a cell has a backslash before it.
            let cells: Vec<&str> = cells.trim_end_matches(" |").split(" | ").collect();
            assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{line}");
            described.push(super::reader::join(&section, name));
        }
    }
    described.sort();
    assert_eq!(described, all.into_keys().collect::<Vec<_>>());
}

#[test]
fn the_schema_has_every_key_that_can_be_used_and_no_other() {
    fn names(shape: &Shape, schema: &Value) {
        let known: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(known, shape.names().collect::<Vec<_>>());
        assert_eq!(schema["additionalProperties"], false);
        for key in shape.0 {
            let below = &schema["properties"][key.name];
            match key.content {
                Content::Table(shape) => names(shape, below),
                Content::Named(shape) => names(shape, &below["additionalProperties"]),
                Content::List(shape) => names(shape, &below["items"]),
                Content::Default(..) | Content::Required(_) | Content::Optional(_) | Content::Later => {}
            }
        }
    }
    names(&FILE, &super::schema::schema());
}

#[test]
fn the_default_file_is_good_without_a_warning() {
    let loaded = good(DEFAULT_FILE);
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.routes.len(), 2);
}

#[test]
fn the_minimal_file_has_the_settings_of_the_default_file() {
    let (minimal, default) = (good(MINIMAL_FILE), good(DEFAULT_FILE));
    for section in ["server", "admin", "log", "store", "tokens", "login", "identity"] {
        assert_eq!(minimal.effective[section], default.effective[section], "{section}");
    }
    assert_eq!(minimal.config.server.header_timeout, Duration::from_secs(10));
    assert_eq!(minimal.config.tokens.cache_bytes, 32 * 1024 * 1024);
}

#[test]
fn the_settings_in_effect_are_a_file_with_the_same_settings() {
    let loaded = good(DEFAULT_FILE);
    let again = good(&loaded.effective_toml());
    assert_eq!(again.effective, loaded.effective);
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
}

#[test]
fn no_password_or_secret_is_in_messages_settings_or_debug() {
    let url = "[store]\nurl = \"mongodb://root:canary@db:27017/people\"\n";
    let loaded = good(&format!("{url}{SERVICE}"));
    assert_eq!(loaded.warnings.len(), 1);
    for text in
        [format!("{loaded:?}"), loaded.effective_json(), loaded.effective_toml(), loaded.warnings[0].to_string()]
    {
        assert!(!text.contains("canary"), "{text}");
    }
    for text in [
        "[store]\nurl = \"mongodb+srv://root:canary@db/people\"\n",
        "[store]\nurl = \"postgres://root:canary@db/people\"\n",
        "[store]\nurl = mongodb://root:canary@db/people\n",
        "[store]\nulr = \"mongodb://root:canary@db/people\"\n",
        "[tokens]\nkey = \"canary\"\n",
        "[tokens]\nkey = canary\n",
        "[tokens]\nkey = { env = 1, value = \"canary\" }\n",
        "[tokens]\nkey = \"\"\"\ncanary \\q\n\"\"\"\n",
        "[issuers.a]\nsecret = 'canary'\n",
        "[upstreams.a]\nservers = [\"http://user:canary@host\"]\n",
    ] {
        let problems = bad(text);
        assert!(!problems.contains("canary"), "{text}\n{problems}");
    }
}

#[test]
fn secrets_come_from_files_without_their_last_newline() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("url"), "mongodb://root:pw@db/people\n").unwrap();
    let file = folder.path().join("tollgate.toml");
    std::fs::write(&file, format!("[store]\nurl = {{ file = \"url\" }}\n{SERVICE}")).unwrap();
    let loaded = load(&file).unwrap();
    let StoreLocation::Mongo { uri } = loaded.config.store.location else { panic!("a MongoDB database") };
    assert_eq!(uri.expose_secret(), "mongodb://root:pw@db/people");
    assert_eq!(loaded.effective["store"]["url"]["file"], "url");
}

#[test]
fn a_secret_file_that_everybody_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("url");
    std::fs::write(&secret, "mongodb://root:pw@db/people").unwrap();
    let file = folder.path().join("tollgate.toml");
    std::fs::write(&file, format!("[store]\nurl = {{ file = \"url\" }}\n{SERVICE}")).unwrap();
    for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load(&file).unwrap().warnings.len(), warnings, "{mode:o}");
    }
}

#[test]
fn included_files_add_upstreams_and_routes_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("routes.d")).unwrap();
    for name in ["b", "a"] {
        let text = format!(
            "[upstreams.{name}]\nservers = [\"http://h\"]\n[[routes]]\npath = \"/{name}\"\nupstream = \"{name}\"\n"
        );
        std::fs::write(folder.path().join(format!("routes.d/{name}.toml")), text).unwrap();
    }
    std::fs::write(folder.path().join("routes.d/.hidden.toml"), "no TOML").unwrap();
    let file = folder.path().join("tollgate.toml");
    std::fs::write(&file, "include = [\"routes.d/*.toml\"]\n").unwrap();
    let loaded = load(&file).unwrap();
    let names: Vec<&str> = loaded.config.routes.iter().map(|route| route.name.as_ref()).collect();
    assert_eq!(names, ["/a", "/b"]);
    assert_eq!(loaded.sources.len(), 3);
    assert_eq!(loaded.effective["upstreams"].as_object().unwrap().len(), 2);

    std::fs::write(folder.path().join("routes.d/b.toml"), "[server]\nworkers = 1\n").unwrap();
    let problems = load(&file).unwrap_err().to_string();
    assert!(problems.contains("there is no key `server`") && problems.contains("routes.d/b.toml:1:2"), "{problems}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    #[track_caller]
    fn check(path: &Path, expected: &str) {
        let problems = load(path).map(|_| ()).unwrap_err().to_string();
        assert!(problems.contains(expected), "{problems}");
    }
    check(&file, "there is no such file");
    check(folder.path(), "it is a folder");
    std::fs::write(&file, b"[server]\n# \xff\n").unwrap();
    check(&file, "is not UTF-8 text: line 2");
    std::fs::write(&file, "#".repeat(1024 * 1024 + 1)).unwrap();
    check(&file, "longer than 1048576 bytes");
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    good(&format!("\u{feff}{SERVICE}"));
}

#[test]
fn routes_without_a_name_are_called_by_their_path_and_a_number() {
    let text = format!(
        "{SERVICE}methods = [\"GET\"]\n[[routes]]\npath = \"/{{*rest}}\"\nupstream = \"app\"\nmethods = [\"PUT\"]\n"
    );
    let names: Vec<String> = good(&text).config.routes.iter().map(|route| route.name.to_string()).collect();
    assert_eq!(names, ["/{*rest}", "/{*rest}#2"]);
}

#[test]
fn a_secret_in_a_file_signs_and_a_weak_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    let tokens = "[tokens]\nalgorithm = \"HS256\"\nkey = { file = \"secret\" }\nprevious_keys = [{ file = \"old\" }]\n";
    std::fs::write(&file, format!("{tokens}{SERVICE}")).unwrap();
    std::fs::write(folder.path().join("secret"), "qPz83hxuV0mBkT5nJw2LdRs7YcEa9GfH\n").unwrap();
    std::fs::write(folder.path().join("old"), "Xn4vKb7QyT1rWc8ZsD3gMj6HpLf9AeUo\n").unwrap();
    let OwnKeys::Configured { previous, .. } = load(&file).unwrap().config.own_keys else {
        panic!("a key of the file")
    };
    assert_eq!(previous.len(), 1);

    std::fs::write(folder.path().join("secret"), "short").unwrap();
    let problems = load(&file).map(|_| ()).unwrap_err().to_string();
    assert!(
        problems.starts_with("`tokens.key` cannot be used: ") && problems.contains("tollgate.toml:3:7"),
        "{problems}"
    );
    assert!(!problems.contains("short\""), "{problems}");
}

#[test]
fn a_secret_that_can_be_guessed_is_a_warning_where_another_service_has_chosen_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    std::fs::write(folder.path().join("secret"), "secret\n").unwrap();
    std::fs::set_permissions(folder.path().join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let issuer = "[issuers.students]\naudiences = []\nalgorithms = [\"HS256\"]\nsecret = { file = \"secret\" }\n";
    let minted = "token = { mode = \"mint\", secret = { file = \"secret\" } }\n";
    let service = SERVICE.replace("[[routes]]", &format!("{minted}[[routes]]"));
    for (text, warnings) in [
        (service.clone(), vec!["`upstreams.app.token.secret` is weak: the secret has 6 bytes"]),
        (
            format!("{issuer}allow_weak_secret = true\n{service}"),
            vec!["`issuers.students.secret` is weak", "`upstreams.app.token.secret` is weak"],
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let loaded = load(&file).unwrap();
        let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), warnings.len(), "{told:?}");
        assert!(told.iter().zip(&warnings).all(|(told, begin)| told.starts_with(begin)), "{told:?}");
        assert!(
            loaded.effective["upstreams"]["app"]["token"]["secret"]["file"] == "secret",
            "the place, not the secret"
        );
    }
    std::fs::write(&file, format!("{issuer}{service}")).unwrap();
    let problems = load(&file).map(|_| ()).unwrap_err().to_string();
    assert!(problems.starts_with("`issuers.students.secret` cannot be used: the secret has 6 bytes"), "{problems}");
    std::fs::write(folder.path().join("secret"), "-----BEGIN PUBLIC KEY-----\n").unwrap();
    std::fs::write(&file, service).unwrap();
    let problems = load(&file).map(|_| ()).unwrap_err().to_string();
    assert!(problems.contains("looks like a key file"), "whoever verifies knows that one: {problems}");
}

#[test]
fn a_file_that_holds_no_key_is_a_problem_of_the_issuer_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    let issuer = "[issuers.sso]\nissuer = \"sso\"\naudiences = [\"a\"]\nalgorithms = [\"RS256\"]\n";
    let keys = "keys = [{ file = \"key\" }, { jwk_file = \"key\" }]\n";
    std::fs::write(&file, format!("{issuer}{keys}{SERVICE}")).unwrap();
    std::fs::write(folder.path().join("key"), "no key").unwrap();
    let problems = load(&file).unwrap_err();
    let lines: Vec<Option<usize>> = problems.iter().map(Problem::line).collect();
    assert_eq!(lines, [Some(5), Some(5)], "{problems}");
}

#[test]
fn an_algorithm_that_no_key_of_its_issuer_fits_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.toml");
    let issuer = "[issuers.sso]\nissuer = \"sso\"\naudiences = [\"a\"]\nalgorithms = [\"RS256\", \"HS256\"]\n";
    std::fs::write(folder.path().join("key"), "Xn4vKb7QyT1rWc8ZsD3gMj6HpLf9AeUo\n").unwrap();
    for (key, expected) in [
        ("secret = { file = \"key\" }\n", "names RS256, and `issuers.sso` has no `keys`"),
        ("keys = [{ file = \"key\" }]\n", "names HS256, and `issuers.sso` has no `secret`"),
    ] {
        std::fs::write(&file, format!("{issuer}{key}{SERVICE}")).unwrap();
        let problems = load(&file).map(|_| ()).unwrap_err().to_string();
        assert!(problems.contains(expected) && problems.contains("tollgate.toml:4"), "{problems}");
    }
}
