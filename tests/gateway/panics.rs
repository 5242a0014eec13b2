//! A defect in one request, provoked in a gateway of this very process: whoever takes its events panics at one of them.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;
use tollgate::app::App;
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
        assert!(!id.0, "a defect that the test makes up");
    }
}

struct FatalId(bool);

impl Visit for FatalId {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 |= field.name() == "request.id" && format!("{value:?}") == FATAL;
    }
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
    let file = folder.path().join("tollgate.toml");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[store]\nurl = \"sqlite://{}/users.db\"\n[log]\naccess = \"off\"\n{}",
        folder.path().display(),
        public_route(&[origin.address], "").replace("idle_timeout = \"1s\"", "idle_timeout = \"10s\"")
    );
    std::fs::write(&file, text).unwrap();
    let app = App::start(tollgate::config::load(&file).unwrap().config).unwrap();
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
