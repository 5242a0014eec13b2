//! The gateway's binary on free ports, stopped when dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::time::Instant;

use tempfile::TempDir;

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    folder: TempDir,
    log: Arc<Mutex<String>>,
}

impl Gateway {
    /// Starts the binary with `[server]` keys and the rest of a file. `{}` keys that every test needs are added here.
    pub(crate) fn start(server: &str, rest: &str) -> Self {
        Self::limited("", server, rest)
    }

    /// As `start`, after a shell command that limits what it may use, such as `ulimit -n 256 &&`.
    pub(crate) fn limited(limit: &str, server: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.toml");
        let workers = if server.contains("workers = ") { "" } else { "workers = 1" };
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n{workers}\n{server}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [store]\nurl = \"sqlite://users.db\"\n[tokens]\nissuer = \"http://127.0.0.1\"\n\
             [log]\naccess = \"access.log\"\nformat = \"json\"\n{rest}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut process = Command::new("sh")
            .args(["-c", &format!("{limit} exec \"$0\" run --config \"$1\""), env!("CARGO_BIN_EXE_tollgate")])
            .arg(&file)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::default();
        let (address, admin) = listening(&mut process, &log);
        Self { process, address, admin, folder, log }
    }

    /// All requests of one public upstream go to `origin`.
    pub(crate) fn public(server: &str, origin: SocketAddr) -> Self {
        Self::start(server, &public_route(&[origin], ""))
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.process.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Its exit code, if it ends within `limit`.
    pub(crate) fn exit_code(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(exit) = self.process.try_wait().unwrap() {
                return exit.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Whether its process has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Processor time that it has used, in steps of 10 ms.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&format!("/proc/{}/stat", self.process.id()))
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// What it has written to its application log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A file in the folder that it runs in.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Access lines so far, once there are `count`.
    pub(crate) fn access_lines(&self, count: usize) -> Vec<serde_json::Value> {
        let path: PathBuf = self.folder.path().join("access.log");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if lines.len() >= count || Instant::now() > deadline {
                return lines;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command of the binary on this gateway's file, in its folder. `arguments` begin with the command's words.
    pub(crate) fn command(&self, arguments: &[&str], stdin: &str) -> std::process::Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(arguments)
            .args(["--config", "tollgate.toml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may have ended.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// The value of a metric's sample, 0 if it is not there.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let page =
            super::client::exchange(self.admin, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The processor time in a `stat` file of `/proc`, whose clock ticks are 10 ms on Linux (proc(5)).
pub(crate) fn processor_time(stat: &str) -> Duration {
    let text = std::fs::read_to_string(stat).unwrap();
    let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// A route that asks nothing of anybody, to these servers.
pub(crate) fn public_route(servers: &[SocketAddr], route_keys: &str) -> String {
    let servers: Vec<_> = servers.iter().map(|server| format!("\"http://{server}\"")).collect();
    format!(
        "[upstreams.origin]\nservers = [{}]\nbalance = \"round_robin\"\nidle_timeout = \"1s\"\n\
         [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"origin\"\nauth = \"public\"\n{route_keys}\n",
        servers.join(", ")
    )
}

/// Waits for the line that tells the addresses, and goes on reading so that the process never blocks on its log.
fn listening(process: &mut Child, log: &Arc<Mutex<String>>) -> (SocketAddr, SocketAddr) {
    let stderr = BufReader::new(process.stderr.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    let seen = Arc::clone(log);
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"] == "Listening" {
                let address = |field: &str| value[field].as_str().unwrap().parse().unwrap();
                let _ = sender.send(Ok((address("listen.addr"), address("admin.addr"))));
            }
            let mut seen = seen.lock().unwrap();
            seen.push_str(&line);
            seen.push('\n');
        }
        let _ = sender.send(Err(()));
    });
    match receiver.recv_timeout(Duration::from_secs(30)) {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(())) => panic!("the gateway did not start:\n{}", log.lock().unwrap()),
        Err(_) => panic!("the gateway did not start within 30 s"),
    }
}
