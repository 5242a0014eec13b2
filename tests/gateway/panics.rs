//! A defect in one request, or in a task, provoked in a gateway of this very process: whoever takes its events panics at one of
//! them.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;
use tollgate::app::{App, RunError};
use tollgate::config::Config;
use tollgate::log::{AccessLog, AuditLog, LogFormat, LogSettings, LostLines};
use tollgate::metrics::ProcessCounts;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::support::client::{connect, exchange, read_to_end, read_until, status};
use crate::support::gateway::public_route;
use crate::support::origin::{Origin, Then};

/// The id of the requests that meet the defect. It is taken over from a trusted proxy, so a client can choose it.
const FATAL: &str = "panic-now";

struct Fatal;

impl<S: tracing::Subscriber> Layer<S> for Fatal {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let mut id = FatalId(false);
        event.record(&mut id);
        assert!(!id.0, "{DEFECT}");
    }
}

const DEFECT: &str = "a defect that the test makes up";

/// Counts the panics that are provoked here; those of other tests are theirs to tell.
fn count_defects(counts: &ProcessCounts) {
    let (panics, usual) = (Arc::clone(&counts.panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<String>().is_some_and(|message| message == DEFECT) {
            panics.fetch_add(1, Relaxed);
        } else {
            usual(panic);
        }
    }));
}

struct FatalId(bool);

impl Visit for FatalId {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 |= field.name() == "request.id" && format!("{value:?}") == FATAL;
    }
}

fn config(folder: &Path, routes: &str) -> Config {
    let file = folder.join("tollgate.toml");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sqlite://{}/users.db\"\n[log]\naccess = \"off\"\n{routes}",
        folder.display(),
    );
    std::fs::write(&file, text).unwrap();
    tollgate::config::load(&file).unwrap().config
}

/// Runs a test of this file in a process whose log and hook of panics are its own. `None`: this is that process.
fn alone(test: &str) -> Option<Output> {
    const MARK: &str = "TOLLGATE_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return None;
    }
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", &format!("panics::{test}"), "--nocapture"]).env(MARK, "1");
    Some(process.output().unwrap())
}

#[test]
fn a_panic_is_one_line_of_the_log_with_nothing_that_it_quotes() {
    let Some(output) = alone("a_panic_is_one_line_of_the_log_with_nothing_that_it_quotes") else {
        let level = "info".to_owned();
        let settings = LogSettings { access: AccessLog::Off, audit: AuditLog::Off, format: LogFormat::Json, level };
        let _log = tollgate::log::start(&settings, LostLines::default()).unwrap();
        let counts = ProcessCounts::default();
        tollgate::log::report_panics(Arc::clone(&counts.panics));
        let password = "not for the log";
        for _ in 0..3 {
            let thread = std::thread::Builder::new().name("a part of it".to_owned());
            let broken = thread.spawn(move || assert_eq!(password, "another", "it went wrong")).unwrap();
            broken.join().unwrap_err();
        }
        assert_eq!(counts.panics.load(Relaxed), 3);
        return;
    };
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !text.contains("not for the log"), "{text}");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for line in lines {
        assert_eq!(line["message"], "A thread panicked, which is a defect");
        assert_eq!((&line["level"], &line["panic.thread"]), (&"ERROR".into(), &"a part of it".into()));
        assert!(line["panic.location"].as_str().unwrap().contains("panics.rs:"), "{line}");
        assert!(line["panic.message"].as_str().unwrap().starts_with("assertion"), "{line}");
    }
}

/// Panics in the task that follows ended sessions.
struct FatalFeed;

impl<S: tracing::Subscriber> Layer<S> for FatalFeed {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        assert!(event.metadata().target() != "tollgate::revocation::feed", "{DEFECT}");
    }
}

#[test]
fn a_gateway_that_no_longer_hears_of_ended_sessions_stops() {
    let Some(output) = alone("a_gateway_that_no_longer_hears_of_ended_sessions_stops") else {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(FatalFeed)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let app = App::start(config(folder.path(), "")).unwrap();
        let ended = app.wait_for_shutdown();
        assert!(matches!(ended, Err(RunError::Task { name: "ended sessions" })), "{ended:?}");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn metric(admin: SocketAddr, name: &str) -> u64 {
    let page = exchange(admin, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap()
}

#[test]
fn a_panic_ends_its_own_connection_and_no_other() {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Fatal)).unwrap();
    let origin = Origin::start(|request, stream| {
        if request.contains("/stream") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n").unwrap();
            std::thread::sleep(Duration::from_millis(1500));
            stream.write_all(b"5\r\nended\r\n0\r\n\r\n").unwrap();
        } else if request.contains("/broken") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun").unwrap();
            return Then::Close;
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
        Then::KeepAlive
    });
    let folder = tempfile::tempdir().unwrap();
    let routes = public_route(&[origin.address], "").replace("idle_timeout = \"1s\"", "idle_timeout = \"10s\"");
    let counts = ProcessCounts::default();
    count_defects(&counts);
    let app = App::start_counting(config(folder.path(), &routes), counts).unwrap();
    let (address, admin) = (app.public_addresses()[0], app.admin_address().unwrap());

    let mut stream = connect(address);
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    read_until(&mut stream, "begun");
    let mut kept = connect(address);
    let mut ask = || {
        kept.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_until(&mut kept, "\r\n\r\nok")
    };
    assert_eq!(status(&ask()), 200);
    // Before its answer, with a body unread, and in the middle of a response.
    let requests = [
        format!("GET /%00 HTTP/1.1\r\nHost: a\r\nX-Request-Id: {FATAL}\r\n\r\n"),
        format!("POST /%00 HTTP/1.1\r\nHost: a\r\nX-Request-Id: {FATAL}\r\nContent-Length: 9\r\n\r\nabc"),
        format!("GET /broken HTTP/1.1\r\nHost: a\r\nX-Request-Id: {FATAL}\r\n\r\n"),
    ];
    for (number, request) in requests.iter().enumerate() {
        assert_eq!(metric(admin, "tollgate_panics_total"), number as u64);
        let mut failing = connect(address);
        failing.write_all(request.as_bytes()).unwrap();
        let mut received = Vec::new();
        let _ = failing.read_to_end(&mut received);
        assert!(!received.starts_with(b"HTTP/1.1 4"), "the connection ended in the defect");
        assert_eq!(status(&ask()), 200, "another connection of the same worker");
    }
    assert_eq!(metric(admin, "tollgate_panics_total"), 3);
    assert!(read_to_end(&mut stream).0.ends_with("5\r\nended\r\n0\r\n\r\n"), "a response in work goes on");
    let left =
        || (metric(admin, "tollgate_connections{kind=\"client\"}"), metric(admin, "tollgate_requests_in_flight"));
    let deadline = Instant::now() + Duration::from_secs(5);
    while left() != (1, 0) {
        assert!(Instant::now() < deadline, "besides the kept connection there are {:?}", left());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(app);
}
