//! A real mongod on a free port with a folder of its own, ended when dropped.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that has no database must fail loudly")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use tempfile::TempDir;

/// How long a mongod may take to answer, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A running mongod.
#[derive(Debug)]
pub(crate) struct Mongod {
    child: Child,
    port: u16,
    kind: Kind,
    databases: AtomicU32,
    _folder: TempDir,
}

/// How the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Standalone,
    /// One member, which transactions and change streams need.
    ReplicaSet,
    /// One of several members, which somebody else makes a set of.
    Member,
}

impl Mongod {
    /// The standalone server that all tests running at the moment share; it ends with the last of them.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Mongod>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start(Kind::Standalone));
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// Starts a server and waits until it takes writes.
    pub(crate) fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program());
        command.arg("--dbpath").arg(folder.path()).arg("--port").arg(port.to_string());
        command.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]);
        // Fail points, by which a server can be made sick.
        command.args(["--setParameter", "enableTestCommands=1"]);
        if kind != Kind::Standalone {
            command.args(["--replSet", "rs0", "--oplogSize", "64"]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // From here on a panic ends the server, through `drop`.
        let mut mongod = Self { child, port, kind, databases: AtomicU32::new(0), _folder: folder };
        mongod.wait_until_it_listens();
        if kind == Kind::ReplicaSet {
            mongod.initiate(doc! { "_id": "rs0", "members": [{ "_id": 0, "host": mongod.host() }] });
        }
        mongod
    }

    /// Starts a replica set of three that elects a new primary within some seconds.
    pub(crate) fn start_three() -> Vec<Self> {
        let members: Vec<Self> = (0..3).map(|_| Self::start(Kind::Member)).collect();
        let hosts = (0..).zip(&members).map(|(id, member)| doc! { "_id": id, "host": member.host() });
        let hosts: Vec<Document> = hosts.collect();
        let settings = doc! { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 };
        members[0].initiate(doc! { "_id": "rs0", "members": hosts, "settings": settings });
        members
    }

    /// The URI of a database of such a set.
    pub(crate) fn uri_of(members: &[Self], database: &str) -> String {
        let hosts: Vec<String> = members.iter().map(Self::host).collect();
        format!("mongodb://{}/{database}?replicaSet=rs0", hosts.join(","))
    }

    /// Where it listens.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a machine that loses its power.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The URI of a database that no other test has, with room for options after `?`.
    pub(crate) fn fresh_uri(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let options = match self.kind {
            Kind::Standalone => "",
            Kind::ReplicaSet | Kind::Member => "?replicaSet=rs0",
        };
        format!("mongodb://127.0.0.1:{}/test{number}{options}", self.port)
    }

    fn wait_until_it_listens(&mut self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        for _ in 0..START_LIMIT.as_millis() / POLL_INTERVAL.as_millis() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("mongod ended at once with {status}");
            }
            if TcpStream::connect(address).is_ok() {
                return;
            }
            thread::sleep(POLL_INTERVAL);
        }
        panic!("mongod did not listen within {START_LIMIT:?}");
    }

    /// Makes a replica set of this configuration, and waits until this server is its primary, from a runtime of its own, because callers are inside one.
    fn initiate(&self, set: Document) {
        let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port);
        let work = move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let admin = Client::with_uri_str(uri).await.unwrap().database("admin");
                admin.run_command(doc! { "replSetInitiate": set }).await.unwrap();
                for _ in 0..START_LIMIT.as_millis() / POLL_INTERVAL.as_millis() {
                    let hello: Document = admin.run_command(doc! { "hello": 1 }).await.unwrap();
                    if hello.get_bool("isWritablePrimary").unwrap() {
                        return;
                    }
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                panic!("the replica set elected no primary within {START_LIMIT:?}");
            });
        };
        thread::spawn(work).join().unwrap();
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        // Its data is thrown away, so it need not end gracefully.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program: `$TOLLGATE_TEST_MONGOD`, or `mongod` on the path.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("TOLLGATE_TEST_MONGOD") {
        let program = PathBuf::from(program);
        assert!(program.is_file(), "TOLLGATE_TEST_MONGOD names `{}`, which is not a file", program.display());
        return program;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("mongod"))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("these tests need mongod: put it on the PATH, or its path into TOLLGATE_TEST_MONGOD"))
}
