//! Forms as clients write them, and as attackers do.

use proptest::prelude::*;

use super::*;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const MULTIPART: &str = "multipart/form-data; boundary=XX";

fn read_with(headers: &[(HeaderName, &str)], body: &[u8], accepted: Accepted) -> Result<LoginForm, FormError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let request = FormRequest::new(&map, Bytes::copy_from_slice(body));
    request.read(accepted)
}

fn read(content_type: &str, body: impl AsRef<[u8]>) -> Result<LoginForm, FormError> {
    read_with(&[(CONTENT_TYPE, content_type)], body.as_ref(), Accepted::FormsAndJson)
}

#[track_caller]
fn check_login(content_type: &str, body: impl AsRef<[u8]>, username: &str, password: &str) {
    let form = read(content_type, body).unwrap();
    assert_eq!((form.username.as_str(), form.password.expose_secret()), (username, password));
}

#[track_caller]
fn check_refused(content_type: &str, body: impl AsRef<[u8]>, expected: FormError) {
    assert_eq!(read(content_type, body).map(|form| form.username), Err(expected));
}

/// A part of a multipart body.
fn part(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

#[test]
fn all_three_ways_of_writing_a_login_are_read() {
    check_login(FORM, "username=ada&password=p", "ada", "p");
    check_login(JSON, r#"{"username":"ada","password":"p"}"#, "ada", "p");
    let body = part("username", "ada") + &part("password", "p") + "--XX--\r\n";
    check_login(MULTIPART, body, "ada", "p");
}

#[test]
fn the_other_fields_are_read_and_unknown_ones_ignored() {
    let multipart = ["username", "password", "scope", "client_id", "client_secret", "remember", "grant_type"]
        .map(|name| part(name, name))
        .concat()
        + "--XX--";
    let form = "username=username&password=password&scope=scope&client_id=client_id&client_secret=client_secret&a=b&grant_type=x";
    let json = r#"{"username":"username","password":"password","scope":"scope","client_id":"client_id",
        "client_secret":"client_secret","remember":{"$ne":[1,true,null,"\ud83d\ude00"]},"grant_type":"x"}"#;
    for (content_type, body) in [(MULTIPART, multipart.as_str()), (FORM, form), (JSON, json)] {
        let form = read(content_type, body).unwrap();
        assert_eq!(form.scope.as_deref(), Some("scope"));
        assert_eq!(form.client_id.as_deref(), Some("client_id"));
        assert_eq!(form.client_secret.unwrap().expose_secret(), "client_secret");
    }
}

#[test]
fn a_password_is_taken_byte_for_byte() {
    check_login(FORM, "username=a+b&password=%20+%2B%25%26%3d%C3%a9%00", "a b", "  +%&=\u{e9}\0");
    check_login(FORM, "username=a&password=a=b=c", "a", "a=b=c");
    check_login(JSON, r#"{"username":" a ","password":"e\u0301\u0000+%41"}"#, " a ", "e\u{301}\0+%41");
    let body = part("username", " a") + &part("password", "a\r\nb%41+\u{e9}") + "--XX--";
    check_login(MULTIPART, body, " a", "a\r\nb%41+\u{e9}");
}

#[test]
fn a_long_password_is_left_to_the_account() {
    let password = "p".repeat(60_000);
    check_login(FORM, format!("username=a&password={password}"), "a", &password);
}

#[test]
fn an_operator_instead_of_a_string_is_refused() {
    for value in [r#"{"$ne":""}"#, r#"{"$gt":""}"#, "[]", r#"["ada"]"#, "1", "true", "{\"a\":{}}"] {
        let body = format!(r#"{{"username":{value},"password":"p"}}"#);
        check_refused(JSON, body, FormError::NotText { field: Field::Username });
    }
    check_refused(JSON, r#"{"username":"a","password":{"$ne":null}}"#, FormError::NotText { field: Field::Password });
    check_refused(JSON, r#"{"username":"a","password":"p","scope":["a"]}"#, FormError::NotText { field: Field::Scope });
    check_refused(FORM, "username[$ne]=x&password[$ne]=x", FormError::Missing { field: Field::Username });
    check_refused(FORM, "username=a&password[$ne]=x", FormError::Missing { field: Field::Password });
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let twice = || FormError::Duplicate { field: Some(Field::Username) };
    check_refused(FORM, "username=a&username=b&password=p", twice());
    check_refused(FORM, "username=&username=b&password=p", twice());
    check_refused(FORM, "username=a&user%6eame=b&password=p", twice());
    check_refused(JSON, r#"{"username":"a","username":"b","password":"p"}"#, twice());
    check_refused(JSON, r#"{"username":"a","user\u006eame":"b","password":"p"}"#, twice());
    check_refused(JSON, r#"{"username":null,"username":"b","password":"p"}"#, twice());
    let body = part("username", "a") + &part("username", "b") + &part("password", "p") + "--XX--";
    check_refused(MULTIPART, body, twice());
    check_refused(FORM, "x=1&x=2&username=a&password=p", FormError::Duplicate { field: None });
}

/// As the real servers do, which `tests/interop/test_dialects.py` asks.
#[test]
fn a_null_and_a_grant_type_are_read_as_the_clients_server_reads_them() {
    let read = |dialect: Dialect, content_type: &str, body: &str| {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        let request = FormRequest::new(&headers, Bytes::copy_from_slice(body.as_bytes())).in_dialect(dialect);
        request.read(Accepted::FormsAndJson).map(|form| form.username)
    };
    let null = r#"{"username":"a","password":null,"scope":null}"#;
    let password = Field::Password;
    assert_eq!(read(Dialect::FastapiMongo, JSON, null), Err(FormError::NotText { field: password }));
    assert_eq!(read(Dialect::RaInMemoryJwt, JSON, null), Err(FormError::Missing { field: password }));
    let null = r#"{"username":"a","password":"p","scope":null}"#;
    assert_eq!(read(Dialect::FastapiMongo, JSON, null), Ok("a".to_owned()));
    for (kind, fastapi) in [("", true), ("password", true), ("xpasswordx", false), ("refresh_token", false)] {
        let body = format!("username=a&password=p&grant_type={kind}");
        let expected = if fastapi { Ok("a".to_owned()) } else { Err(FormError::GrantType) };
        assert_eq!(read(Dialect::Fastapi, FORM, &body), expected, "{kind}");
        assert_eq!(read(Dialect::Hasura, FORM, &body), Ok("a".to_owned()), "{kind}");
    }
}

#[test]
fn what_is_empty_is_missing() {
    for (body, field) in [
        ("", Field::Username),
        ("&&", Field::Username),
        ("username=&password=p", Field::Username),
        ("username&password=p", Field::Username),
        ("Username=a&password=p", Field::Username),
        ("username=a", Field::Password),
    ] {
        check_refused(FORM, body, FormError::Missing { field });
    }
    check_refused(JSON, "{}", FormError::Missing { field: Field::Username });
    check_refused(JSON, r#"{"username":"a","password":null}"#, FormError::Missing { field: Field::Password });
    check_refused(JSON, r#"{"username":"","password":"p"}"#, FormError::Missing { field: Field::Username });
    check_refused(MULTIPART, "--XX--\r\n", FormError::Missing { field: Field::Username });
    let form = read(FORM, "username=a&password=p&scope=&client_secret=&client_id=").unwrap();
    assert!(form.scope.is_none() && form.client_secret.is_none() && form.client_id.is_none());
}

#[test]
fn an_empty_password_is_there() {
    for body in ["username=a&password=", "username=a&password"] {
        check_login(FORM, body, "a", "");
    }
    check_login(JSON, r#"{"username":"a","password":""}"#, "a", "");
    check_login(MULTIPART, part("username", "a") + &part("password", "") + "--XX--", "a", "");
}

#[test]
fn json_that_is_not_one_object_is_refused() {
    for body in [
        "",
        "null",
        "[]",
        "\"username\"",
        "{",
        r#"{"username":"a","password":"p"}x"#,
        r#"{"username":"a","password":"p"}{}"#,
        r#"{"username":"a","password":"p",}"#,
        r#"{"username":"a" "password":"p"}"#,
        r#"{"username":"\ud800","password":"p"}"#,
        "{\"username\":\"a\nb\",\"password\":\"p\"}",
        "\u{feff}{\"username\":\"a\",\"password\":\"p\"}",
        "{'username':'a','password':'p'}",
    ] {
        assert!(matches!(read(JSON, body), Err(FormError::Json { .. })), "{body:?}");
    }
}

#[test]
fn deep_json_is_refused_or_skipped_without_recursion() {
    let deep = "[".repeat(60_000);
    assert!(matches!(read(JSON, format!(r#"{{"username":{deep}"#)), Err(FormError::Json { .. })));
    assert!(matches!(read(JSON, format!(r#"{{"x":{deep}"#)), Err(FormError::Json { .. })));
    let closed = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert!(read(JSON, format!(r#"{{"x":{closed},"username":"a","password":"p"}}"#)).is_ok());
}

#[test]
fn what_is_not_utf_8_is_refused() {
    check_refused(FORM, b"username=a\xff&password=p", FormError::NotUtf8);
    check_refused(FORM, "username=a%ff&password=p", FormError::NotUtf8);
    check_refused(FORM, "username=a&password=%c0%80", FormError::NotUtf8);
    check_refused(FORM, "username=a&password=p&x=%ff", FormError::NotUtf8);
    check_refused(JSON, b"{\"username\":\"a\",\"password\":\"p\",\"x\":\"\xff\"}", FormError::NotUtf8);
    let mut body = part("username", "a").into_bytes();
    body.extend_from_slice(b"--XX\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n\xff\r\n--XX--\r\n");
    check_refused(MULTIPART, body, FormError::NotUtf8);
}

#[test]
fn a_broken_percent_is_refused() {
    for body in
        ["username=a&password=100%", "username=a&password=%4", "username=a&password=%zz", "user%=a", "username=%%41"]
    {
        check_refused(FORM, body, FormError::PercentEncoding);
    }
}

#[test]
fn a_broken_multipart_body_is_refused() {
    let good = part("username", "a") + &part("password", "p");
    for (content_type, body) in [
        ("multipart/form-data", good.clone() + "--XX--"),
        ("multipart/form-data; boundary=YY", good.clone() + "--XX--"),
        (MULTIPART, good),
        (MULTIPART, String::new()),
        (MULTIPART, "username=a&password=p".to_owned()),
        (MULTIPART, "--XX\r\n\r\na\r\n--XX--".to_owned()),
        (MULTIPART, "--XX\r\nContent-Disposition: form-data\r\n\r\na\r\n--XX--".to_owned()),
        (MULTIPART, "--XX\r\nContent-Disposition: form-data; name=\"username\"".to_owned()),
    ] {
        check_refused(content_type, body, FormError::Multipart);
    }
}

/// What the fuzzer found that one parser takes and another does not, or reads as something else.
#[test]
fn a_multipart_body_that_two_parsers_could_read_differently_is_refused() {
    let rest = part("password", "p") + "--XX--\r\n";
    let head = |lines: &str| format!("--XX\r\n{lines}\r\n\r\na\r\n{rest}");
    let good = "Content-Disposition: form-data; name=username";
    check_login(MULTIPART, head(&format!("{good}\r\nContent-Type: text/plain; charset=utf-8")), "a", "p");
    check_login("multipart/form-data; charset=utf-8; boundary=\"XX\"", head(good), "a", "p");
    for body in [
        format!("--{}", head(good)),
        format!("text\r\n{}", head(good)),
        format!("{}more", head(good)),
        head(good).replace("--XX--", "--XXX--"),
        head(&format!("{good}\r\nContent-Disposition: form-data; name=scope")),
        head(&format!("{good}; name=scope")),
        head(&format!("{good}; name*=utf-8''scope")),
        head("Content-Disposition: form-data; name =username"),
        head("Content-Disposition: form-data; name= username"),
        head("Content-Disposition: attachment; name=username"),
        head("Content-Disposition: form-data; name=\"user\\name\""),
        head("Content-Disposition: form-data; name=\"username\" x"),
        head(&format!("{good}\r\n folded: x")),
        head(&format!("{good}\r\nContent-Transfer-Encoding: base64")),
        head(&format!("{good}\nX: y")),
        head("Content-Disposition: form-data; name=user name"),
        head("Content-Disposition: form-data; name=username\u{a0}"),
        head("Content-Disposition: form-data;\u{a0}name=username"),
        head("Content-Disposition:\u{a0}form-data; name=username"),
    ] {
        check_refused(MULTIPART, body, FormError::Multipart);
    }
    // A line of the head that others take for the delimiter.
    let within = head(&format!("{good}\r\n--XX")).replace("XX", "X:X");
    check_refused("multipart/form-data; boundary=\"X:X\"", within, FormError::Multipart);
    check_login("multipart/form-data; boundary=\"X:X\"", head(good).replace("XX", "X:X"), "a", "p");
    check_refused("multipart/form-data; boundary=XX; charset=ibm037", head(good), FormError::Charset);
    check_refused(MULTIPART, head(&format!("{good}\r\nContent-Type: text/plain; charset=latin1")), FormError::Charset);
    for boundary in ["", "\"\"", "XX; boundary=YY", "\"X\\X\"", "X\u{e9}", &"X".repeat(71)] {
        let content_type = format!("multipart/form-data; boundary={boundary}");
        assert!(read(&content_type, head(good)).is_err(), "{content_type}");
    }
}

#[test]
fn a_file_in_a_form_is_refused() {
    let file = "--XX\r\nContent-Disposition: form-data; name=\"password\"; filename=\"p.txt\"\r\n\r\np\r\n--XX--";
    check_refused(MULTIPART, part("username", "a") + file, FormError::FilePart);
}

#[test]
fn too_many_fields_are_refused() {
    let many = (0..33).map(|number| format!("f{number}=&")).collect::<String>();
    check_refused(FORM, many, FormError::TooManyFields);
    let many = (0..33).map(|number| part(&format!("f{number}"), "")).collect::<String>() + "--XX--";
    check_refused(MULTIPART, many, FormError::TooManyFields);
    let many = (0..33).map(|number| format!("\"f{number}\":0,")).collect::<String>();
    check_refused(JSON, format!("{{{many}\"x\":1}}"), FormError::TooManyFields);
}

#[test]
fn the_content_type_decides_and_nothing_is_guessed() {
    let body = "username=a&password=p";
    for content_type in
        ["application/x-www-form-urlencoded;charset=UTF-8", "Application/X-WWW-Form-Urlencoded ; Charset=\"utf-8\""]
    {
        check_login(content_type, body, "a", "p");
    }
    check_login("application/json; charset=utf-8", r#"{"username":"a","password":"p"}"#, "a", "p");
    check_refused("application/json; charset=utf-16", "{}", FormError::Charset);
    check_refused("application/x-www-form-urlencoded; charset=latin1", body, FormError::Charset);
    for content_type in ["text/plain", "text/json", "", "application/jsonp", "application/ld+json", "*/*", ";", "json"]
    {
        check_refused(content_type, body, FormError::ContentTypeUnknown);
    }
    let read_none = |headers: &[(HeaderName, &str)]| read_with(headers, body.as_bytes(), Accepted::FormsAndJson).err();
    assert_eq!(read_none(&[]), Some(FormError::ContentTypeMissing));
    assert_eq!(read_none(&[(CONTENT_TYPE, FORM), (CONTENT_TYPE, FORM)]), Some(FormError::ContentTypeMissing));
    assert_eq!(read_none(&[(CONTENT_TYPE, FORM), (CONTENT_ENCODING, "gzip")]), Some(FormError::Compressed));
}

#[test]
fn the_token_endpoint_takes_no_json() {
    let json = br#"{"username":"a","password":"p"}"#;
    let read = |content_type, body| read_with(&[(CONTENT_TYPE, content_type)], body, Accepted::Forms);
    assert_eq!(read(JSON, json).err(), Some(FormError::ContentTypeUnknown));
    assert!(read(FORM, b"username=a&password=p").is_ok());
}

#[test]
fn a_body_over_the_limit_is_refused_unread() {
    let body = vec![b'a'; MAX_FORM_BYTES + 1];
    check_refused(FORM, &body, FormError::TooLong { bytes: MAX_FORM_BYTES + 1 });
    check_refused(FORM, &body[1..], FormError::Missing { field: Field::Username });
}

#[test]
fn debug_shows_no_secret() {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
    headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic hunter2"));
    let request = FormRequest::new(&headers, Bytes::from_static(b"username=ada&password=hunter2"));
    assert!(!format!("{request:?}").contains("hunter2"));
    let form = read(FORM, "username=ada&password=hunter2&client_secret=hunter2").unwrap();
    assert!(!format!("{form:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(kind in 0..3_usize, body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read([FORM, JSON, MULTIPART][kind], body);
    }

    #[test]
    fn no_nearly_good_body_makes_the_reader_panic(
        kind in 0..3_usize,
        pieces in prop::collection::vec(prop::sample::select(vec![
            "username", "password", "scope", "=", "&", "%", "%4", "%41", "+", "{", "}", "[", "]", "\"", ":", ",", "null", "\\u",
            "d800", "--XX", "--", "\r\n", "\r\n\r\n", "Content-Disposition: form-data; name=", "filename", ";", "\0", "\u{e9}",
        ]), 0..40),
    ) {
        let _ = read([FORM, JSON, MULTIPART][kind], pieces.concat());
    }

    #[test]
    fn what_an_encoder_wrote_is_read_back(username in ".{1,40}", password in ".{1,40}") {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("username", &username).append_pair("password", &password).finish();
        let json = serde_json::json!({"username": username, "password": password}).to_string();
        for (content_type, body) in [(FORM, form), (JSON, json)] {
            let read = read(content_type, body).unwrap();
            prop_assert_eq!(&read.username, &username);
            prop_assert_eq!(read.password.expose_secret(), &password);
        }
    }
}
