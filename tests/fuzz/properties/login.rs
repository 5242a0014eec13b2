//! A login form that is accepted has exactly one username and one password, and they are those that another parser reads.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::Value;
use tollgate::issuer::{Accepted, FormRequest, LoginForm, MAX_FORM_BYTES};

use super::json::outline;

/// The first line is the content type, the rest the body.
pub fn login(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (kind, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Ok(content_type) = HeaderValue::from_bytes(kind) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type.clone());
    let request = FormRequest::new(&headers, Bytes::copy_from_slice(body));
    let read = |accepted| request.read(accepted);
    let (any, forms) = (read(Accepted::FormsAndJson), read(Accepted::Forms));

    let kind = String::from_utf8_lossy(kind).to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap().trim().to_owned();
    match &any {
        Ok(form) => {
            assert!(body.len() <= MAX_FORM_BYTES);
            let pairs = match kind.as_str() {
                "application/json" => match json_pairs(body) {
                    Some(pairs) => pairs,
                    None => return,
                },
                "application/x-www-form-urlencoded" => form_urlencoded::parse(body).into_owned().collect(),
                "multipart/form-data" => multipart_pairs(content_type.to_str().unwrap(), body),
                other => panic!("{other:?} was read"),
            };
            check(form, &pairs);
        }
        Err(error) => {
            // What the client is told repeats nothing that it sent, and keeps to the characters of RFC 6749 section 5.2.
            let sentence = error.sentence();
            assert!(sentence.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{sentence}");
        }
    }
    // At the token endpoint JSON is no form, and every other kind is the same there.
    match (&any, &forms) {
        (_, Ok(_)) | (Ok(_), Err(_)) if kind == "application/json" => assert!(forms.is_err()),
        (Ok(one), Ok(other)) => assert_eq!(secrets(one), secrets(other)),
        (Err(one), Err(other)) if kind != "application/json" => assert_eq!(one, other),
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => panic!("{kind}: {error}"),
        (Err(error), Ok(_)) => panic!("{kind}: {error}, but not at the token endpoint"),
    }
}

fn check(form: &LoginForm, pairs: &[(String, String)]) {
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|two| two[0] != two[1]), "a field stands twice: {names:?}");
    let given = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let value = |wanted: &str| given(wanted).filter(|value| !value.is_empty());
    // An empty password is a wrong one, not a missing one.
    assert!(!form.username.is_empty());
    let [username, password, scope, client_id, client_secret] = secrets(form);
    assert_eq!(username, value("username"));
    assert_eq!(password, given("password"));
    assert_eq!(scope, value("scope"));
    assert_eq!(client_id, value("client_id"));
    assert_eq!(client_secret, value("client_secret"));
    let shown = format!("{form:?}");
    assert!(
        password.is_none_or(|password| password.len() < 8
            || username.is_some_and(|name| name.contains(password))
            || [scope, client_id].iter().flatten().any(|text| text.contains(password))
            || !shown.contains(password)),
        "{shown}"
    );
}

fn secrets(form: &LoginForm) -> [Option<&str>; 5] {
    let secret = form.client_secret.as_ref().map(|secret| secret.expose_secret());
    [
        Some(&form.username),
        Some(form.password.expose_secret()),
        form.scope.as_deref(),
        form.client_id.as_deref(),
        secret,
    ]
}

/// The members with text; `null` is what is left out. `None` for JSON that this parser has no values for, deep down in a member
/// that means nothing to a login: numbers out of range, half a surrogate pair, 128 levels. The reader skips it.
fn json_pairs(body: &[u8]) -> Option<Vec<(String, String)>> {
    let Value::Object(members) = serde_json::from_slice(body).ok()? else { panic!("no object was accepted") };
    assert_eq!(outline(body).outer_members, members.len(), "a member stands twice: {}", String::from_utf8_lossy(body));
    Some(members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect())
}

/// RFC 7578 and nothing else: delimiters at the start of a line, a head, an empty line, the value.
fn multipart_pairs(content_type: &str, body: &[u8]) -> Vec<(String, String)> {
    let lower = content_type.to_ascii_lowercase();
    let start = lower.find("boundary").unwrap();
    let after = content_type[start + "boundary".len()..].trim_start();
    let after = after.strip_prefix('=').unwrap().trim_start();
    let boundary = match after.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap(),
        None => after.split([';', ' ', '\t']).next().unwrap(),
    };
    // Each byte as one character, so that nothing has to be UTF-8 but what is kept.
    let text: String = body.iter().map(|byte| char::from(*byte)).collect();
    let kept = |text: &str| String::from_utf8(text.chars().map(|byte| byte as u8).collect());
    let delimiter = format!("\r\n--{boundary}");
    let whole = format!("\r\n{text}");
    let mut pieces = whole.split(delimiter.as_str()).skip(1);
    let mut pairs = Vec::new();
    for piece in pieces.by_ref() {
        if piece.starts_with("--") {
            return pairs;
        }
        let piece = piece
            .trim_start_matches([' ', '\t'])
            .strip_prefix("\r\n")
            .unwrap_or_else(|| panic!("{piece:?} begins no part of {text:?}"));
        let (head, value) = piece.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{piece:?} has no head in {text:?}"));
        let name = disposition_name(head).unwrap_or_else(|| panic!("{head:?} names no field in {text:?}"));
        pairs.push((kept(&name).unwrap(), kept(value).unwrap()));
    }
    panic!("a body without its last delimiter was accepted: {text:?}");
}

fn disposition_name(head: &str) -> Option<String> {
    let line = head.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let start = line.to_ascii_lowercase().find("name=")? + "name=".len();
    let value = &line[start..];
    let Some(quoted) = value.strip_prefix('"') else { return Some(value.split([';', ' ', '\t']).next()?.to_owned()) };
    let mut name = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(name),
            '\\' => name.extend(characters.next()),
            other => name.push(other),
        }
    }
    None
}
