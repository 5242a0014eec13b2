//! The end of the process: what is in work ends well, and no client notices more than it must.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::client::{connect, read_response, read_to_end, read_until, status};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, Then, raw};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Waits until so many requests are in work.
#[track_caller]
fn until_in_flight(gateway: &Gateway, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while gateway.metric("tollgate_requests_in_flight") < count {
        assert!(Instant::now() < deadline, "they are not all in work");
    }
}

#[test]
fn two_hundred_requests_and_twenty_streams_in_work_end_well() {
    let origin = Origin::start(|request, stream| {
        if request.contains("/stream") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            for _ in 0..10 {
                stream.write_all(b"5\r\npiece\r\n").unwrap();
                std::thread::sleep(Duration::from_millis(200));
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        } else {
            std::thread::sleep(Duration::from_millis(1500));
            stream.write_all(OK.as_bytes()).unwrap();
        }
        Then::KeepAlive
    });
    let rest = public_route(&[origin.address], "").replace("idle_timeout = \"1s\"", "idle_timeout = \"10s\"");
    let mut gateway = Gateway::start("drain_timeout = \"10s\"", &rest);
    let mut streams: Vec<_> = (0..20).map(|_| connect(gateway.address)).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_until(stream, "piece");
    }
    let mut clients: Vec<_> = (0..200).map(|_| connect(gateway.address)).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap());
    until_in_flight(&gateway, 220);
    gateway.terminate();
    for mut client in clients {
        let (response, is_clean) = read_to_end(&mut client);
        assert!(is_clean && response.ends_with("\r\n\r\nok"), "{response}");
        assert!(response.contains("connection: close\r\n"), "{response}");
    }
    for mut stream in streams {
        let (response, is_clean) = read_to_end(&mut stream);
        // One piece has been read before.
        assert!(is_clean && response.ends_with("0\r\n\r\n"), "{response}");
    }
    assert_eq!(gateway.exit_code(Duration::from_secs(5)), Some(0));
    assert_eq!(gateway.access_lines(220).iter().filter(|line| line["status"] == 200).count(), 220);
}

/// What some clients saw that asked without a pause until the gateway told them to go.
#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    answers: AtomicUsize,
    /// Requests that were sent and not answered.
    lost: AtomicUsize,
}

/// Asks on one connection until an answer says that it closes.
fn ask_on_one(gateway: SocketAddr, seen: &Seen) {
    let mut stream = connect(gateway);
    while !seen.is_over.load(Ordering::Relaxed) {
        let sent = stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = sent.map(|()| read_response(&mut stream)).unwrap_or_default();
        if !response.ends_with("\r\n\r\nok") {
            seen.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        seen.answers.fetch_add(1, Ordering::Relaxed);
        if response.contains("connection: close") {
            return;
        }
    }
}

/// Asks on one connection after the other until there is nobody to connect to.
fn ask_on_many(gateway: SocketAddr, seen: &Seen) {
    while !seen.is_over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect_timeout(&gateway, Duration::from_secs(5)) else { return };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut response = Vec::new();
        let is_read = stream
            .write_all(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .and_then(|()| stream.read_to_end(&mut response));
        if is_read.is_err() || !response.ends_with(b"\r\n\r\nok") {
            seen.lost.fetch_add(1, Ordering::Relaxed);
        }
        seen.answers.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn clients_that_ask_without_a_pause_lose_no_request_to_a_drain() {
    let origin = Origin::fixed(OK);
    for round in 0..4 {
        let server = "drain_timeout = \"10s\"";
        let mut gateway = Gateway::start(server, &public_route(&[origin.address], ""));
        let address = gateway.address;
        let seen = Arc::new(Seen::default());
        let clients: Vec<_> = (0..24)
            .map(|number| {
                let seen = Arc::clone(&seen);
                let ask = if number % 2 == 0 { ask_on_one } else { ask_on_many };
                std::thread::spawn(move || ask(address, &seen))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        gateway.terminate();
        assert_eq!(gateway.exit_code(Duration::from_secs(12)), Some(0));
        clients.into_iter().for_each(|client| client.join().unwrap());
        let (answers, lost) = (seen.answers.load(Ordering::Relaxed), seen.lost.load(Ordering::Relaxed));
        println!("round {round}: {answers} answers, {lost} lost");
        assert!(answers > 100 && lost == 0, "of {answers} requests {lost} were lost");
    }
}

/// An origin that answers `/held` once it is told to.
fn holding() -> (mpsc::Sender<()>, Origin) {
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let origin = Origin::start(move |request, stream| {
        if request.starts_with("GET /held ") {
            receiver.lock().unwrap().recv().unwrap();
        }
        stream.write_all(OK.as_bytes()).unwrap();
        Then::KeepAlive
    });
    (sender, origin)
}

/// Clients of a gateway with one place, who ask with one more header line. One of those who wait is accepted without the place, the
/// others are in the kernel's queue.
fn one_in_work_and_eight_who_wait(gateway: &Gateway, line: &str) -> Vec<TcpStream> {
    let ask = |path: &str| {
        let mut client = connect(gateway.address);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").as_bytes()).unwrap();
        client
    };
    let mut clients = vec![ask("/held")];
    until_in_flight(gateway, 1);
    clients.extend((0..8).map(|_| ask("/a")));
    clients
}

#[test]
fn who_waits_for_a_place_when_the_drain_begins_is_served() {
    let (sender, origin) = holding();
    let mut gateway = Gateway::public("max_connections = 1\ndrain_timeout = \"1m\"", origin.address);
    let clients = one_in_work_and_eight_who_wait(&gateway, "Accept: */*");
    gateway.terminate();
    let deadline = Instant::now() + Duration::from_secs(15);
    let is_refused = |address| match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    };
    while !is_refused(gateway.address) {
        assert!(Instant::now() < deadline, "the listener does not close");
    }
    sender.send(()).unwrap();
    for mut client in clients {
        let (response, is_clean) = read_to_end(&mut client);
        assert!(is_clean && response.ends_with("\r\n\r\nok"), "{response:?}");
        assert!(response.contains("connection: close\r\n"), "{response}");
    }
    assert_eq!(gateway.exit_code(Duration::from_secs(15)), Some(0));
}

#[test]
fn without_descriptors_to_spare_those_are_served_who_find_a_place_in_time() {
    // When the place becomes free, and how many of nine are served then: the one in work, one who was accepted, and one more;
    // in time also who comes after them.
    for (held_for, served_then) in [(Duration::from_millis(20), 5..=9), (Duration::from_millis(800), 3..=3)] {
        let (sender, origin) = holding();
        let limits = "max_connections = 1\ndrain_timeout = \"1m\"";
        // Twice the connections and 128: none is left.
        let mut gateway = Gateway::limited("ulimit -n 130;", limits, &public_route(&[origin.address], ""));
        let clients = one_in_work_and_eight_who_wait(&gateway, "Connection: close");
        gateway.terminate();
        std::thread::sleep(held_for);
        sender.send(()).unwrap();
        let answered = clients.into_iter().map(|mut client| read_to_end(&mut client));
        let served = answered.filter(|(response, is_clean)| *is_clean && response.ends_with("\r\n\r\nok")).count();
        println!("{served} of 9 served after {held_for:?}");
        assert!(served_then.contains(&served), "{served}");
        assert_eq!(gateway.exit_code(Duration::from_secs(15)), Some(0));
    }
}

#[test]
fn an_idle_connection_is_kept_for_a_moment_and_told_to_go() {
    let origin = Origin::fixed(OK);
    let mut gateway = Gateway::public("drain_timeout = \"10s\"", origin.address);
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_response(stream)
    };
    let (mut parked, mut quiet) = (connect(gateway.address), connect(gateway.address));
    for stream in [&mut parked, &mut quiet] {
        assert!(!ask(stream).contains("connection: close"));
    }
    // Until both are parked.
    std::thread::sleep(Duration::from_millis(1500));
    let start = Instant::now();
    gateway.terminate();
    std::thread::sleep(Duration::from_millis(350));
    let response = ask(&mut parked);
    assert!(status(&response) == 200 && response.contains("connection: close\r\n"), "{response}");
    assert_eq!(read_to_end(&mut quiet), (String::new(), true), "closed, not reset");
    assert_eq!(gateway.exit_code(Duration::from_secs(5)), Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_request_that_is_cut_when_the_drain_ends_has_an_access_line() {
    let origin = raw(|stream| {
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let mut gateway = Gateway::public("drain_timeout = \"1s\"", origin);
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until_in_flight(&gateway, 1);
    gateway.terminate();
    assert_eq!(gateway.exit_code(Duration::from_secs(15)), Some(0));
    let lines = gateway.access_lines(1);
    assert!(lines.iter().any(|line| line["path"] == "/cut"), "{lines:?}");
}
