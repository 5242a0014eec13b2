//! Crowds of slow and silent clients: each is closed within its bound, and nobody else notices.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::support::client::{code, connect, exchange, read_to_end, read_until, status};
use crate::support::crowd::{Kind, Reading, origin, play, raise_descriptors};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, Then};

const BOUND: Duration = Duration::from_secs(4);
/// Slow clients of each kind.
const CROWD: usize = 400;
/// Clients that have asked once and say nothing more.
const IDLE: usize = 5000;
/// However late this test itself is on a busy machine, no more is granted for it.
const MOST_LATENESS: Duration = Duration::from_millis(500);
const LIMITS: &str = "header_timeout = \"4s\"\nbody_timeout = \"4s\"\nidle_timeout = \"4s\"\nsend_timeout = \"4s\"";

const fn kind(name: &'static str, opening: &'static str) -> Kind {
    Kind { name, opening, drips: false, reading: Reading::All }
}

const fn dripping(name: &'static str, opening: &'static str) -> Kind {
    Kind { name, opening, drips: true, reading: Reading::All }
}

const KINDS: [Kind; 10] = [
    kind("silent", ""),
    kind("half a preface", "PRI * HTTP/2.0\r\n"),
    kind("preface only", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    kind("half a head", "GET /a HTTP/1.1\r\nHos"),
    dripping("dripping head", "GET /a HTTP/1.1\r\nHost: a\r\nX: "),
    kind("head without body", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"),
    dripping("dripping body", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"),
    Kind {
        name: "reading nothing",
        opening: "GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
        drips: false,
        reading: Reading::Nothing,
    },
    Kind {
        name: "reading a byte a second",
        opening: "GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
        drips: false,
        reading: Reading::Drips,
    },
    kind("idle", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"),
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// How long requests took that were sent at a fixed rate, each timed from the moment at which it was due: who waits for an answer
/// that is late sends the next one late, and that counts, too. A second without an answer is some two hundred bad times.
#[derive(Debug, Clone, Copy)]
struct Times {
    percentile_99: Duration,
    /// Of each fifty requests in a row the slowest, and of these the upper quartile: in three quarters of the time nobody waits longer.
    usual_worst: Duration,
    worst: Duration,
    count: usize,
}

impl Times {
    /// Asks on one connection until `is_over` says so.
    fn of(gateway: SocketAddr, is_over: &AtomicBool) -> Self {
        let mut stream = connect(gateway);
        let mut times = Vec::new();
        let mut due = Instant::now();
        loop {
            let early = due.saturating_duration_since(Instant::now());
            // What is due is asked first, however late.
            if !early.is_zero() {
                if is_over.load(Relaxed) {
                    break;
                }
                std::thread::sleep(early);
            }
            stream.write_all(b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            read_until(&mut stream, "\r\n\r\nok");
            times.push(due.elapsed());
            due += INTERVAL;
        }
        assert!(times.len() > 300, "{} requests are too few to judge by", times.len());
        let mut slowest: Vec<Duration> = times.chunks(50).filter_map(|fifty| fifty.iter().max().copied()).collect();
        slowest.sort();
        times.sort();
        let (percentile_99, worst) = (times[times.len() * 99 / 100], times[times.len() - 1]);
        Self { percentile_99, usual_worst: slowest[slowest.len() * 3 / 4], worst, count: times.len() }
    }

    /// Of both gateways, at the same time and until `task` has ended, whose result is returned with them.
    fn of_both<T>(gateways: [SocketAddr; 2], task: impl FnOnce() -> T) -> ([Self; 2], T) {
        let is_over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let probes = gateways.map(|gateway| scope.spawn(move || Self::of(gateway, is_over)));
            let result = task();
            is_over.store(true, Relaxed);
            (probes.map(|probe| probe.join().unwrap()), result)
        })
    }

    /// Whether these are at most twice those of the control, up to what is never told from noise. On a machine with other work a
    /// stall of either gateway says nothing: where the p99 is too high, three quarters of the time must be as they should, and the
    /// p99 within a stall.
    fn are_undisturbed(&self, control: &Self) -> bool {
        let within = |mine: Duration, theirs: Duration, noise| mine <= (theirs * 2).max(theirs + noise);
        let is_usual = within(self.usual_worst, control.usual_worst, NOISE)
            && self.percentile_99 <= control.percentile_99 * 2 + STALL;
        (within(self.percentile_99, control.percentile_99, NOISE) || is_usual)
            && self.worst <= control.worst * 2 + LONGEST_STALL
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { percentile_99, usual_worst, worst, count } = self;
        write!(f, "p99 {percentile_99:?}, usual worst {usual_worst:?}, worst {worst:?} of {count}")
    }
}

/// Everything goes to this service, but for what a probe asks: a service that a crowd keeps busy would hide what its gateway does.
fn with_probes(service: SocketAddr) -> String {
    let quiet = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").address;
    let table = format!("[upstreams.quiet]\nservers = [\"http://{quiet}\"]\n");
    let route = "[[routes]]\npath = \"/probe\"\nupstream = \"quiet\"\nauth = \"public\"";
    public_route(&[service], &format!("{table}{route}"))
}

/// Between two requests of a probe.
const INTERVAL: Duration = Duration::from_millis(5);

/// Two gateways that nobody disturbs differ by as much.
const NOISE: Duration = Duration::from_micros(500);

/// For so long in some seconds one of two equal gateways waits for a processor of a machine that has other work.
const STALL: Duration = Duration::from_millis(50);

/// As long may a single request wait for it.
const LONGEST_STALL: Duration = Duration::from_millis(250);

/// Whether two of at most three rounds say yes. One can be spoiled by something else on the machine; one that holds by luck is not
/// enough.
fn holds_mostly(mut round: impl FnMut() -> bool) -> bool {
    let first = round();
    let second = round();
    first && second || {
        let third = round();
        (first || second) && third
    }
}

/// Opens as many descriptors as a test needs, or fails: with fewer clients it would show something else.
fn need_descriptors(needed: usize) {
    let most = raise_descriptors();
    assert!(most >= needed, "this test opens {needed} files, and `ulimit -Hn` is {most}: raise it");
}

/// What a crowd saw.
struct Stay {
    /// The longest that a client of each kind was left alone.
    longest: [Duration; KINDS.len()],
    /// The longest that a sleep took too long meanwhile: on a machine that is busy otherwise everybody is late.
    lateness: Duration,
}

/// Plays so many clients of each kind, who come within three seconds.
async fn play_all(crowd: usize, gateway: SocketAddr) -> Stay {
    let lateness = Arc::new(Mutex::new(Duration::ZERO));
    let watching = tokio::spawn(watch_lateness(Arc::clone(&lateness)));
    let mut clients = Vec::new();
    for _ in 0..crowd {
        clients.extend(KINDS.map(|kind| tokio::spawn(play(kind, gateway))));
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    let mut longest = [Duration::ZERO; KINDS.len()];
    for (index, client) in clients.into_iter().enumerate() {
        let open = client.await.unwrap();
        longest[index % KINDS.len()] = longest[index % KINDS.len()].max(open);
    }
    watching.abort();
    let lateness = *lateness.lock().unwrap();
    Stay { longest, lateness }
}

/// The tests with thousands of clients take turns: each would disturb the other.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn crowds_of_every_slow_kind_are_closed_in_time_and_nobody_else_notices() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Each client can need one descriptor here for itself and two for the service's side.
    need_descriptors(CROWD * KINDS.len() * 3);
    let runtime = runtime();
    let rest = with_probes(runtime.block_on(origin()));
    // A crowd takes the time of this machine's processors, wherever it goes. So the control is an equal gateway without one, which
    // is asked at the same time: whatever else happens on the machine happens to both.
    let [gateway, control] = [Gateway::start(LIMITS, &rest), Gateway::start(LIMITS, &rest)];
    let address = gateway.address;
    let is_held = holds_mostly(|| {
        let ([here, elsewhere], Stay { longest, lateness }) =
            Times::of_both([address, control.address], || runtime.block_on(play_all(CROWD, address)));
        println!("with a crowd: {here}; at the same time without one: {elsewhere}");
        println!(
            "processor time so far: {:?} of the one, {:?} of the other",
            gateway.processor_time(),
            control.processor_time()
        );
        println!("{CROWD} clients of each kind, the test itself late by up to {lateness:?}; longest open:");
        let most = BOUND + Duration::from_secs(1) + lateness.min(MOST_LATENESS) * 2;
        for (kind, longest) in KINDS.iter().zip(longest) {
            println!("{:>24} {longest:?}", kind.name);
            assert!(longest > Duration::ZERO && longest < most, "{}: {longest:?}", kind.name);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while gateway.metric("tollgate_connections{kind=\"client\"}") > 0 {
            assert!(Instant::now() < deadline, "connections are still counted as open");
            std::thread::sleep(Duration::from_millis(50));
        }
        here.are_undisturbed(&elsewhere)
    });
    assert!(is_held, "see above: others waited more than twice as long, in two rounds");
}

/// The longest that a sleep of this process took too long.
async fn watch_lateness(longest: Arc<Mutex<Duration>>) {
    loop {
        let due = Instant::now() + Duration::from_millis(50);
        tokio::time::sleep_until(due).await;
        let mut longest = longest.lock().unwrap();
        *longest = longest.max(due.elapsed());
    }
}

#[test]
fn five_thousand_idle_connections_disturb_nobody() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    need_descriptors(IDLE * 3);
    let runtime = runtime();
    let rest = with_probes(runtime.block_on(origin()));
    // The control has the same active clients, and no idle ones.
    let [gateway, control] = [Gateway::start("", &rest), Gateway::start("", &rest)];
    let address = gateway.address;
    let both = [address, control.address];
    let active: Vec<_> = both
        .into_iter()
        .flat_map(|address| (0..50).map(move |_| address))
        .map(|a| runtime.spawn(ask_now_and_then(a)))
        .collect();
    let open: Vec<_> = (0..IDLE)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            read_until(&mut stream, "\r\n\r\nok");
            stream
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(15);
    while gateway.metric("tollgate_connections{kind=\"client_idle\"}") < IDLE as u64 {
        assert!(Instant::now() < deadline, "not all that are idle are parked");
        std::thread::sleep(Duration::from_millis(50));
    }
    let is_held = holds_mostly(|| {
        let ([here, elsewhere], ()) = Times::of_both(both, || std::thread::sleep(Duration::from_secs(5)));
        println!("fifty active clients and {IDLE} idle ones: {here}; at the same time the fifty alone: {elsewhere}");
        here.are_undisturbed(&elsewhere)
    });
    for client in active {
        assert!(!client.is_finished(), "an active client lost its connection");
        client.abort();
    }
    assert!(is_held, "see above: others waited more than twice as long, in two rounds");
    println!("{IDLE} idle connections, {} KiB resident", gateway.resident() / 1024);
    assert!(gateway.metric("tollgate_connections{kind=\"client_idle\"}") >= IDLE as u64);
    assert_eq!(open.len(), IDLE);
}

async fn ask_now_and_then(gateway: SocketAddr) {
    let mut stream = tokio::net::TcpStream::connect(gateway).await.unwrap();
    let mut buffer = [0; 4096];
    loop {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_body_that_drips_is_refused_and_a_slow_one_is_not() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::public("body_timeout = \"1s\"\nmin_bytes_per_second = 100", origin.address);
    let upload = |bytes: &[u8], pieces: usize, pause: u64| {
        let mut stream = connect(gateway.address);
        let length = bytes.len() * pieces;
        write!(stream, "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n").unwrap();
        let start = Instant::now();
        for _ in 0..pieces {
            if stream.write_all(bytes).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(pause));
        }
        (read_to_end(&mut stream).0, start.elapsed())
    };
    // Ten bytes a second: never silent for a second, but behind by one after little more than that.
    let (response, _) = upload(b"x", 30, 100);
    assert_eq!((status(&response), code(&response).as_str()), (408, "request_timeout"));
    // Three hundred bytes a second, in pieces that are often late, for longer than the limit.
    let (response, time) = upload(&[b'x'; 90], 9, 300);
    assert_eq!(status(&response), 200, "{response}");
    assert!(time > Duration::from_secs(2));
}

#[test]
fn a_slow_upstream_cuts_nobody() {
    // An event every 300 ms, a pause of two seconds, and a request body that the upstream takes late.
    let origin = Origin::start(|request, stream| {
        if request.starts_with("POST") {
            std::thread::sleep(Duration::from_millis(2500));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            return Then::KeepAlive;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
        for number in 0..8 {
            let _ = stream.write_all(format!("data: {number}\n\n").as_bytes());
            std::thread::sleep(Duration::from_millis(if number == 4 { 2000 } else { 300 }));
        }
        Then::Close
    });
    let limits = "header_timeout = \"1s\"\nbody_timeout = \"1s\"\nidle_timeout = \"1s\"\nsend_timeout = \"1s\"\n\
                  min_bytes_per_second = 1000000";
    let rest = public_route(&[origin.address], "").replace("idle_timeout = \"1s\"", "idle_timeout = \"10s\"");
    let gateway = Gateway::start(limits, &rest);
    let events = exchange(gateway.address, b"GET /events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(events.contains("data: 0") && events.contains("data: 7"), "{events}");
    let upload = b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(status(&exchange(gateway.address, upload)), 200);
    assert!(gateway.access_lines(2).iter().all(|line| line["cut"].is_null()));
}
