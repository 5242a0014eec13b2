//! What a line says, and what it never says.

use http::HeaderValue;

use super::*;

fn client(agent: &str) -> Origin {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_bytes(agent.as_bytes()).unwrap());
    Origin::Client(Client::new([192, 0, 2, 1].into(), &headers, "r1"))
}

fn line(event: &Event<'_>, whom: Whom<'_>, origin: &Origin) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    Audit::of_command(&AuditLog::File(path.clone())).unwrap().record(event, whom, origin);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_line_says_who_did_what_from_where() {
    let whom = Whom { subject: Some("42"), login: Some("ada"), session: Some("sid") };
    let written = line(&Event::LoginSucceeded { client_id: "web" }, whom, &client("curl/8"));
    let (begin, rest) = written.split_once(',').unwrap();
    assert!(begin.starts_with("{\"time\":\"20") && begin.ends_with("Z\""), "{begin}");
    let expected = concat!(
        r#""audit.event":"login","audit.outcome":"ok","subject":"42","login":"ada","session.id":"sid","client.id":"web","#,
        r#""by":"client","client.addr":"192.0.2.1","client.agent":"curl/8","request.id":"r1"}"#,
        "\n"
    );
    assert_eq!(rest, expected);
}

#[test]
fn a_change_by_command_names_its_user() {
    let roles = ["admin".to_owned()];
    let written = line(&Event::UserGranted { roles: &roles, scopes: &[] }, Whom::default(), &Origin::CommandLine);
    let value: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(value["roles"], serde_json::json!(["admin"]));
    assert_eq!(value["by"], "command_line");
    assert_eq!(value["os.uid"], rustix::process::getuid().as_raw());
    assert!(value.get("scopes").is_none(), "{value}");
}

#[test]
fn what_a_client_says_of_itself_is_short_and_moves_nothing_on_a_terminal() {
    let agent = format!("\u{9b}31m\t\u{202e}{}", "x".repeat(9000));
    let Origin::Client(client) = client(&agent) else { panic!("a client is a client") };
    let kept = client.user_agent.unwrap();
    assert_eq!(kept.len(), MAX_USER_AGENT_BYTES);
    assert!(kept.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{kept}");
    assert!(kept.starts_with("??31m????xxx"), "{kept}");
}

#[test]
fn a_name_of_the_store_stays_in_its_line_and_is_cut() {
    let login = format!("a\u{202e}\n\u{85}\"b{}", "é".repeat(1000));
    let whom = Whom { login: Some(&login), ..Whom::default() };
    let written = line(&Event::PasswordChanged, whom, &Origin::Gateway);
    assert_eq!(written.lines().count(), 1);
    assert!(written.contains(r#""login":"a\u202e\n\u0085\"bé"#), "{written}");
    assert!(written.len() < 1000, "{written}");
}

#[test]
fn each_name_and_outcome_is_there_once_and_where_its_index_says() {
    let (roles, kid, algorithm) = ([], "k", "ES256");
    let events = [
        Event::LoginSucceeded { client_id: "c" },
        Event::LoginFailed { reason: LoginFailure::WrongPassword },
        Event::LoginThrottled { reason: Throttle::Account },
        Event::Refreshed,
        Event::RefreshReplayed,
        Event::LoggedOut { scope: LogoutScope::Local, sessions: 1 },
        Event::SessionsRevoked { reason: "revoked", sessions: 1 },
        Event::PasswordChanged,
        Event::PasswordChangeFailed,
        Event::HashUpgraded,
        Event::Registered,
        Event::UserAdded,
        Event::UserEnabled,
        Event::UserDisabled,
        Event::UserRemoved,
        Event::UserGranted { roles: &roles, scopes: &roles },
        Event::UserRevoked { roles: &roles, scopes: &roles },
        Event::KeyGenerated { kid, algorithm },
        Event::KeyRotated { kid, algorithm },
        Event::KeyRetired { kid, algorithm },
    ];
    assert_eq!(events.iter().map(Event::index).collect::<Vec<_>>(), (0..Event::ALL.len()).collect::<Vec<_>>());
    let distinct: std::collections::HashSet<_> = Event::ALL.iter().collect();
    assert_eq!(distinct.len(), Event::ALL.len());
    assert_eq!((events[1].name(), events[1].outcome()), ("login", "failed"));
    assert_eq!((events[4].name(), events[4].outcome()), ("refresh", "replayed"));
    assert_eq!((events[19].name(), events[19].outcome()), ("key_retired", "ok"));
}
