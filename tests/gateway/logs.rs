//! Logs and stores that take nothing any more: requests go on, and what is lost is counted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::client::{connect, exchange, read_response, read_to_end, status};
use crate::support::gateway::{Gateway, processor_time, public_route};
use crate::support::origin::Origin;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const DROPPED: &str = "tollgate_access_lines_dropped_total";

/// A gateway whose access log was made by a shell command.
fn gateway(log: &str) -> Gateway {
    let origin = Origin::fixed(OK);
    Gateway::limited(log, "drain_timeout = \"2s\"", &public_route(&[origin.address], ""))
}

/// Has so many requests answered, each of which makes an access line of 1.7 kB.
fn ask(gateway: &Gateway, times: usize) {
    let mut stream = connect(gateway.address);
    let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(1400));
    for _ in 0..times {
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(status(&read_response(&mut stream)), 200);
    }
}

/// The number of lines that were dropped, once it is not zero.
#[track_caller]
fn dropped(gateway: &Gateway) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let count = gateway.metric(DROPPED);
        if count > 0 {
            return count;
        }
        assert!(Instant::now() < deadline, "no dropped line is counted");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_and_no_request() {
    // The gateway itself holds the reading end, and never reads.
    let mut gateway = gateway("mkfifo access.log && exec 3<>access.log &&");
    ask(&gateway, 4500);
    let lost = dropped(&gateway);
    println!("{lost} of 4500 lines dropped");
    // What the queue and the pipe hold is some 4 MiB.
    assert!((500..4500).contains(&lost), "{lost} of 4500");
    gateway.terminate();
    assert_eq!(gateway.exit_code(Duration::from_secs(8)), Some(0));
}

#[test]
fn a_pipe_whose_reader_has_gone_costs_lines_and_no_request() {
    let mut gateway = gateway("mkfifo access.log && (head -c 1 < access.log > /dev/null &) &&");
    ask(&gateway, 50);
    std::thread::sleep(Duration::from_millis(500));
    // The gateway keeps the pipe open for the next reader: what fills it waits for that one, and the rest is lost.
    ask(&gateway, 4500);
    let lost = dropped(&gateway);
    assert!((500..4500).contains(&lost), "{lost} of 4550");
    gateway.terminate();
    assert_eq!(gateway.exit_code(Duration::from_secs(8)), Some(0));
}

/// A gateway with the default logs, whose readers the test is: access lines on stdout, the others on stderr.
struct Piped {
    process: Child,
    stderr: Option<BufReader<ChildStderr>>,
    address: SocketAddr,
    admin: SocketAddr,
    _folder: TempDir,
}

impl Piped {
    fn start(rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [store]\nurl = \"sqlite://users.db\"\n[tokens]\nissuer = \"http://127.0.0.1\"\n{rest}\n"
        );
        std::fs::write(folder.path().join("tollgate.toml"), text).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["run", "--config", "tollgate.toml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stderr, address, admin) = announced(process.stderr.take().unwrap());
        Self { process, stderr: Some(stderr), address, admin, _folder: folder }
    }

    fn metric(&self, name: &str) -> u64 {
        let page = exchange(self.admin, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()).unwrap()
    }

    /// Has so many requests answered with that status.
    fn ask(&self, request: &[u8], times: usize, expected: u16) {
        let mut stream = connect(self.address);
        for _ in 0..times {
            stream.write_all(request).unwrap();
            assert_eq!(status(&read_response(&mut stream)), expected);
        }
    }

    /// Has so many logins refused without a look at a password, each of which makes an audit line.
    fn fail_to_log_in(&self, times: usize) {
        let body = format!("{{\"username\":\"ada\",\"password\":\"{}\"}}", "p".repeat(1025));
        let head = "POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        // Such an answer closes its connection.
        (0..times).for_each(|_| self.ask(request.as_bytes(), 1, 401));
    }

    /// Reads its stderr, in which so many lines of logins are to come, and then stops it: no more may come.
    fn check_audit_lines(mut self, expected: usize) {
        let (sender, lines) = mpsc::channel();
        let stderr = self.stderr.take().unwrap();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let of_login = |line: &String| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["target"] == "tollgate::audit" && line["audit.event"] == "login"
        };
        let mut found = 0;
        while found < expected {
            let line = lines.recv_timeout(Duration::from_secs(20));
            let line = line.unwrap_or_else(|_| panic!("{found} of {expected} audit lines"));
            found += usize::from(of_login(&line));
        }
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(lines.iter().filter(of_login).count(), 0);
        assert!(self.process.wait().unwrap().success());
    }
}

/// Reads no further than the addresses.
fn announced(stderr: ChildStderr) -> (BufReader<ChildStderr>, SocketAddr, SocketAddr) {
    let mut stderr = BufReader::new(stderr);
    loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the gateway did not start");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if value["message"] == "Listening" {
            let address = |field: &str| value[field].as_str().unwrap().parse().unwrap();
            return (stderr, address("listen.addr"), address("admin.addr"));
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const ROUTE: &str = "[upstreams.gone]\nservers = [\"http://127.0.0.1:9\"]\n\
                     [[routes]]\npath = \"/gone/{*rest}\"\nupstream = \"gone\"\nauth = \"public\"\n";
const GONE: &[u8] = b"GET /gone/a HTTP/1.1\r\nHost: a\r\n\r\n";
const AUDIT_DROPPED: &str = "tollgate_audit_lines_dropped_total";

#[test]
fn audit_lines_of_a_log_that_nobody_reads_are_counted_when_they_are_lost() {
    let gateway = Piped::start("[log]\naccess = \"off\"\n");
    // What the pipe and the queue hold are some 1,300.
    gateway.fail_to_log_in(2000);
    let lost = gateway.metric(AUDIT_DROPPED);
    println!("{lost} of 2000 audit lines dropped");
    assert!((1..2000).contains(&lost), "{lost}");
    assert_eq!(gateway.metric("tollgate_audit_events_total{event=\"login\",outcome=\"failed\"}"), 2000);
    // Every line is written or counted.
    gateway.check_audit_lines(2000 - usize::try_from(lost).unwrap());
}

#[test]
fn a_flood_of_other_lines_takes_no_room_of_the_audit() {
    let gateway = Piped::start(&format!("[log]\naccess = \"off\"\n{ROUTE}"));
    gateway.ask(GONE, 2000, 502);
    assert!(gateway.metric("tollgate_log_lines_dropped_total") > 0, "the log is full");
    gateway.fail_to_log_in(300);
    assert_eq!(gateway.metric(AUDIT_DROPPED), 0);
    gateway.check_audit_lines(300);
}

#[test]
fn readers_of_stdout_and_stderr_that_go_away_cost_lines_and_no_request() {
    let mut gateway = Piped::start(ROUTE);
    gateway.ask(GONE, 20, 502);
    drop(gateway.process.stdout.take());
    drop(gateway.stderr.take());
    gateway.ask(GONE, 500, 502);
    gateway.fail_to_log_in(100);
    let deadline = Instant::now() + Duration::from_secs(10);
    while gateway.metric(DROPPED) < 400 || gateway.metric(AUDIT_DROPPED) < 100 {
        let lost = (gateway.metric(DROPPED), gateway.metric(AUDIT_DROPPED));
        assert!(Instant::now() < deadline, "{lost:?} access and audit lines are counted as lost");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(gateway.metric("tollgate_log_lines_dropped_total") >= 400);
    // Nobody tries again and again what cannot be written.
    let stat = format!("/proc/{}/stat", gateway.process.id());
    let is_calm = || {
        let before = processor_time(&stat);
        std::thread::sleep(Duration::from_millis(500));
        processor_time(&stat) - before < Duration::from_millis(50)
    };
    // What the logins left to do takes a moment.
    assert!((0..10).any(|_| is_calm()), "it is busy for seconds");
    gateway.ask(GONE, 1, 502);
    assert_eq!(gateway.process.try_wait().unwrap(), None, "it goes on");
}

#[test]
fn a_full_disk_costs_lines_and_no_request() {
    let mut gateway = gateway("ln -s /dev/full access.log &&");
    ask(&gateway, 100);
    let deadline = Instant::now() + Duration::from_secs(5);
    while gateway.metric(DROPPED) < 100 {
        assert!(Instant::now() < deadline, "{} of 100 lines are counted as dropped", gateway.metric(DROPPED));
        std::thread::sleep(Duration::from_millis(50));
    }
    gateway.terminate();
    assert_eq!(gateway.exit_code(Duration::from_secs(5)), Some(0));
}

#[test]
fn a_file_that_may_not_grow_costs_lines_until_there_is_room_again() {
    // In blocks of 512 bytes: 512 KiB for any file.
    let mut gateway = gateway("ulimit -f 1024 &&");
    ask(&gateway, 600);
    let lost = dropped(&gateway);
    assert!(lost < 600 && gateway.is_running(), "{lost} of 600");
    // As a rotation that copies and truncates.
    std::fs::File::options().write(true).truncate(true).open(gateway.file("access.log")).unwrap();
    let before = gateway.metric(DROPPED);
    ask(&gateway, 20);
    std::thread::sleep(Duration::from_secs(1));
    let text = std::fs::read_to_string(gateway.file("access.log")).unwrap();
    let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert!(whole >= 20 && gateway.metric(DROPPED) == before, "{whole} lines after there was room");
}

/// `tollgate` with the password on stdin, after a shell command.
fn tollgate(gateway: &Gateway, before: &str, arguments: &[&str]) -> Output {
    let mut process = Command::new("sh")
        .args(["-c", &format!("{before} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tollgate")])
        .args(arguments)
        .args(["--config", "tollgate.toml"])
        .current_dir(gateway.file("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that fails early reads nothing.
    let _ = process.stdin.take().unwrap().write_all(b"a secret of some length\n");
    process.wait_with_output().unwrap()
}

fn log_in(gateway: &Gateway, user: &str) -> u16 {
    let mut stream = connect(gateway.address);
    let body = format!("{{\"username\":\"{user}\",\"password\":\"a secret of some length\"}}");
    let head = "Host: a\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(stream, "POST /auth/login HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    status(&read_response(&mut stream))
}

#[test]
fn a_store_without_room_adds_nobody_and_takes_them_when_there_is_room() {
    let gateway = gateway("");
    let add = |before: &str, user: &str| tollgate(&gateway, before, &["user", "add", user, "--password-stdin"]);
    assert!(add("", "ada").status.success(), "{:?}", add("", "ada"));
    // No file may have a second block of 512 bytes, which none of SQLite's files does without.
    let refused = add("trap '' XFSZ; ulimit -f 1;", "bob");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(!told.is_empty() && !told.contains("a secret") && !told.contains("panicked"), "{told}");
    println!("told: {told}");
    assert_eq!((log_in(&gateway, "ada"), log_in(&gateway, "bob")), (200, 401));
    let list = String::from_utf8(tollgate(&gateway, "", &["user", "list"]).stdout).unwrap();
    assert!(list.contains("ada") && !list.contains("bob"), "{list}");
    assert!(add("", "bob").status.success());
    assert_eq!(log_in(&gateway, "bob"), 200);
}

/// A gateway whose output nobody reads.
struct Process {
    child: Child,
    address: SocketAddr,
    /// Kept open, and read no further than the address.
    _stderr: BufReader<ChildStderr>,
    _folder: TempDir,
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
        Self { child, address, _stderr: stderr, _folder: folder }
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
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
    process.terminate();
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
