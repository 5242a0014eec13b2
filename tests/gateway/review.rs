//! What a review by fresh eyes found broken from outside; each test is one finding.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::client::{code, connect, exchange, read_to_end, read_until, status, time_to_close};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, header};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin that answers as soon as it has a request's head, and then reads on without answering again.
fn early_origin() -> SocketAddr {
    hand_made_origin(|mut stream| {
        let mut buffer = [0; 4096];
        if stream.read(&mut buffer).is_ok() && stream.write_all(OK.as_bytes()).is_ok() {
            while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {}
        }
    })
}

/// An origin that serves each connection with `serve` in a thread of its own.
fn hand_made_origin(serve: impl Fn(TcpStream) + Copy + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

#[test]
fn the_rest_of_a_body_after_an_early_response_is_never_read_as_a_request() {
    let gateway = Gateway::public("header_timeout = \"1s\"", early_origin());
    let mut stream = connect(gateway.address);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let length = smuggled.len() + 4;
    stream
        .write_all(format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n1234").as_bytes())
        .unwrap();
    read_until(&mut stream, "\r\n\r\nok");
    // Longer than an idle connection keeps its buffers.
    std::thread::sleep(Duration::from_millis(2500));
    // The gateway may have closed by now, which is right too.
    let _ = stream.write_all(smuggled.as_bytes());
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (second, _) = read_to_end(&mut stream);
    assert!(!second.contains("HTTP/1.1"), "the body was answered: {second}");
    let lines = gateway.access_lines(1);
    assert!(lines.iter().all(|line| line["path"] != "/smuggled"), "{lines:?}");
}

#[test]
fn an_upload_that_goes_on_after_its_response_is_not_a_late_head() {
    let gateway = Gateway::public("header_timeout = \"1s\"", early_origin());
    let mut stream = connect(gateway.address);
    stream.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").unwrap();
    for _ in 0..16 {
        std::thread::sleep(Duration::from_millis(200));
        if stream.write_all(b"0123456789").is_err() {
            break;
        }
    }
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (responses, _) = read_to_end(&mut stream);
    assert_eq!(responses.matches("HTTP/1.1").count(), 1, "{responses}");
}

#[test]
fn a_head_that_begins_after_a_pause_has_the_header_timeout() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("header_timeout = \"1s\"\nidle_timeout = \"10s\"", origin.address);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\nok");
    std::thread::sleep(Duration::from_millis(2500));
    stream.write_all(b"G").unwrap();
    let time = time_to_close(&mut stream);
    assert!(time < Duration::from_secs(4), "open for {time:?}");
}

#[test]
fn trailers_of_a_request_carry_no_identity() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let request = "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
                   Trailer: X-Forwarded-User, X_Forwarded_Groups, X-Sum\r\n\r\n3\r\nabc\r\n0\r\n\
                   X-Forwarded-User: evil\r\nX_Forwarded_Groups: evil\r\nX-Sum: 7\r\n\r\n";
    assert_eq!(status(&exchange(gateway.address, request.as_bytes())), 200);
    let seen = origin.requests()[0].to_lowercase();
    assert!(!seen.contains("evil"), "{seen}");
    assert!(seen.contains("x-sum: 7"), "an ordinary trailer is forwarded: {seen}");
}

#[test]
fn a_malformed_request_behind_a_good_one_gets_our_refusal_too() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let responses = exchange(gateway.address, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nNOT HTTP\x01\r\n\r\n");
    let second = responses.rsplit("HTTP/1.1 ").next().unwrap();
    assert!(second.starts_with("400"), "{responses}");
    assert_eq!(code(second), "bad_request", "{responses}");
    assert_eq!(gateway.access_lines(2).len(), 2);
}

/// Sends more of a body than all buffers on the way hold.
fn stuck_upload(stream: &mut TcpStream) {
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n").unwrap();
    let part = vec![b'z'; 1 << 20];
    while stream.write_all(&part).is_ok() {}
}

#[test]
fn an_upstream_that_stops_reading_an_upload_is_cut_at_its_idle_timeout() {
    let origin = hand_made_origin(|stream| {
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let gateway = Gateway::start("", &public_route(&[origin], ""));
    let mut stream = connect(gateway.address);
    stuck_upload(&mut stream);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (response, _) = read_to_end(&mut stream);
    assert!(response.starts_with("HTTP/1.1 504"), "no answer 5 s after `idle_timeout = \"1s\"`: {response:?}");
}

#[test]
fn a_client_that_leaves_an_upload_that_nobody_reads_ends_its_request() {
    let origin = hand_made_origin(|stream| {
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let gateway = Gateway::start("", &public_route(&[origin], ""));
    let mut stream = connect(gateway.address);
    stuck_upload(&mut stream);
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(5);
    while gateway.metric("tollgate_requests_in_flight") > 0 {
        assert!(Instant::now() < deadline, "the request is in flight 5 s after its client left");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A gateway whose process the test signals, and whose output it may leave unread.
struct Process {
    child: Child,
    address: SocketAddr,
    /// Kept open, and read no further than the address.
    _stderr: BufReader<std::process::ChildStderr>,
    folder: TempDir,
}

impl Process {
    fn start(server: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.toml");
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n{server}\n[admin]\nlisten = \"\"\n[store]\nurl = \"sqlite://users.db\"\n\
             [tokens]\nissuer = \"http://127.0.0.1\"\n{rest}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["run", "--config"])
            .arg(&file)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the gateway did not start");
            let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"] == "Listening" {
                break value["listen.addr"].as_str().unwrap().parse().unwrap();
            }
        };
        Self { child, address, _stderr: stderr, folder }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The exit code, if it ends within `limit`.
    fn exit_code(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(exit) = self.child.try_wait().unwrap() {
                return exit.code();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for `path` again and again on one connection, reading the answers meanwhile.
fn ask_often(address: SocketAddr, path: &str, times: usize) {
    let mut stream = connect(address);
    let mut reading = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while matches!(reading.read(&mut buffer), Ok(length) if length > 0) {}
    });
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    for _ in 0..times {
        if stream.write_all(request.as_bytes()).is_err() {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    let _ = stream.shutdown(std::net::Shutdown::Both);
    reader.join().unwrap();
}

#[test]
fn an_access_log_that_nobody_reads_does_not_keep_the_process_from_stopping() {
    let origin = Origin::fixed(OK);
    let log = "[log]\naccess = \"stdout\"\nformat = \"json\"\n";
    let server = "workers = 1\ndrain_timeout = \"1s\"";
    let mut process = Process::start(server, &format!("{log}{}", public_route(&[origin.address], "")));
    ask_often(process.address, &format!("/{}", "p".repeat(1500)), 500);
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(Duration::from_secs(6)), Some(0));
}

#[test]
fn an_application_log_that_nobody_reads_does_not_stop_the_workers() {
    let origin = Origin::fixed(OK);
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let routes = public_route(&[origin.address], "");
    let rest = format!(
        "[log]\naccess = \"off\"\nformat = \"json\"\n{routes}[upstreams.dead]\nservers = [\"http://{dead}\"]\n\
         [[routes]]\npath = \"/dead/x\"\nupstream = \"dead\"\nauth = \"public\"\n"
    );
    let process = Process::start("workers = 1", &rest);
    ask_often(process.address, "/dead/x", 1000);
    let mut stream = connect(process.address);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (response, _) = read_to_end(&mut stream);
    assert!(response.starts_with("HTTP/1.1 200"), "{response:?}");
}

#[test]
fn with_few_places_each_worker_still_serves() {
    let origin = Origin::fixed(OK);
    let log = "[log]\naccess = \"off\"\nformat = \"json\"\n";
    let rest = format!("{log}{}", public_route(&[origin.address], ""));
    let process = Process::start("workers = 2\nmax_connections = 1", &rest);
    for attempt in 0..12 {
        let mut stream = connect(process.address);
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let (response, _) = read_to_end(&mut stream);
        assert!(response.starts_with("HTTP/1.1 200"), "connection {attempt}, alone at its time, got {response:?}");
    }
}

/// A token of an issuer that shares `secret` with the gateway.
fn token(secret: &[u8], subject: &str) -> String {
    let now = tollgate::time::UnixSeconds::now().0;
    let claims = serde_json::json!({ "iss": "theirs", "aud": "us", "sub": subject, "exp": now + 300 });
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
}

#[test]
fn two_subjects_that_differ_by_a_space_are_not_one_to_the_upstream() {
    let origin = Origin::fixed(OK);
    let secret = b"thirty-two bytes are the least!!";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let routes = public_route(&[origin.address], "").replace("\"public\"", "\"required\"");
    let issuer = format!(
        "[issuers.theirs]\nissuer = \"theirs\"\naudiences = [\"us\"]\nalgorithms = [\"HS256\"]\nsecret = {{ file = {file:?} }}\n"
    );
    let gateway = Gateway::start("", &format!("{issuer}{routes}"));
    for subject in ["admin", " admin", "admin ", "\u{3000}admin"] {
        let bearer = token(secret, subject);
        let request =
            format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {bearer}\r\nConnection: close\r\n\r\n");
        let response = exchange(gateway.address, request.as_bytes());
        assert_eq!(status(&response), 200, "{response}");
    }
    let mut users: Vec<_> =
        origin.requests().iter().map(|request| header(request, "x-forwarded-user").unwrap().to_owned()).collect();
    users.sort();
    users.dedup();
    assert_eq!(users.len(), 4, "{users:?}");
}

#[test]
fn an_upstream_does_not_speak_of_identities_to_the_client() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nX-Forwarded-User: evil\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::public("", origin.address);
    let response = exchange(gateway.address, b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(!response.contains("evil"), "{response}");
}

#[test]
fn silent_clients_of_the_admin_listener_make_room_for_a_probe() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let silent: Vec<_> = (0..64).map(|_| connect(gateway.admin)).collect();
    let mut probe = connect(gateway.admin);
    probe.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (response, _) = read_to_end(&mut probe);
    assert!(response.starts_with("HTTP/1.1 200"), "no answer in 15 s: {response:?}");
    drop(silent);
}

#[test]
fn the_timeout_of_a_route_holds_for_a_client_that_stops_reading() {
    let origin = hand_made_origin(|mut stream| {
        let mut buffer = [0; 4096];
        if stream.read(&mut buffer).is_ok()
            && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n").is_ok()
        {
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        }
    });
    let gateway = Gateway::start("", &public_route(&[origin], "timeout = \"1s\""));
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\n");
    let deadline = Instant::now() + Duration::from_secs(3);
    while gateway.metric("tollgate_requests_in_flight") > 0 {
        assert!(Instant::now() < deadline, "still in flight 3 s after its head");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_request_that_is_cut_when_the_drain_ends_has_an_access_line() {
    let origin = hand_made_origin(|stream| {
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let rest = format!("[log]\naccess = \"access.log\"\nformat = \"json\"\n{}", public_route(&[origin], ""));
    let mut process = Process::start("workers = 1\ndrain_timeout = \"1s\"", &rest);
    let mut stream = connect(process.address);
    stream.write_all(b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(Duration::from_secs(5)), Some(0));
    let lines = std::fs::read_to_string(process.folder.path().join("access.log")).unwrap();
    assert!(lines.contains("\"path\":\"/cut\""), "{lines:?}");
}
