//! What others can make the gateway spend: descriptors, memory, processor time, room in logs and metrics.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::Instant;

use crate::support::client::{code, connect, exchange, read_response, read_to_end, read_until, status};
use crate::support::gateway::{Gateway, processor_time, public_route};
use crate::support::origin::{Origin, Then, raw};
use crate::support::tokens;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const MEBIBYTE: u64 = 1024 * 1024;

/// Processor time that the gateway uses while the caller waits for `time`.
fn spent_in(gateway: &Gateway, time: Duration) -> Duration {
    let before = gateway.processor_time();
    std::thread::sleep(time);
    gateway.processor_time() - before
}

#[test]
fn a_thousand_connections_on_256_descriptors_neither_stop_nor_starve_it() {
    let origin = Origin::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(OK.as_bytes()).unwrap();
        Then::KeepAlive
    });
    let mut gateway = Gateway::limited("ulimit -n 256 &&", "", &public_route(&[origin.address], ""));
    // So many find room, and the others wait in the kernel.
    let mut served: Vec<_> = (0..60).map(|_| connect(gateway.address)).collect();
    served.iter_mut().for_each(|stream| stream.write_all(GET).unwrap());
    served.iter_mut().for_each(|stream| drop(read_until(stream, "\r\n\r\nok")));
    let waiting: Vec<_> = (0..940).map(|_| connect(gateway.address)).collect();
    let spent = spent_in(&gateway, Duration::from_secs(2));
    println!("{spent:?} of processor time in 2 s with {} connections waiting", waiting.len());
    assert!(spent < Duration::from_millis(400), "{spent:?}");
    // All sixty at once, so that each needs a descriptor for the upstream as well.
    for _ in 0..3 {
        served.iter_mut().for_each(|stream| stream.write_all(GET).unwrap());
        for stream in &mut served {
            assert_eq!(status(&read_until(stream, "\r\n\r\nok")), 200);
        }
    }
    drop((served, waiting));
    let start = Instant::now();
    assert_eq!(status(&exchange(gateway.address, &closing("/after"))), 200);
    println!("served {:?} after they had left", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5) && gateway.is_running());
}

fn closing(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes()
}

#[test]
fn when_accepting_fails_it_waits_serves_whom_it_has_and_goes_on_later() {
    let origin = Origin::fixed(OK);
    let mut gateway = Gateway::public("", origin.address);
    let mut served = connect(gateway.address);
    served.write_all(GET).unwrap();
    read_until(&mut served, "\r\n\r\nok");
    // Not one descriptor more than it has.
    let pid = Pid::from_raw(gateway.pid().cast_signed()).unwrap();
    let used = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count() as u64;
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let usual = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(used), maximum }).unwrap();
    let mut waiting: Vec<_> = (0..200).map(|_| connect(gateway.address)).collect();
    waiting.iter_mut().for_each(|stream| stream.write_all(GET).unwrap());
    let spent = spent_in(&gateway, Duration::from_secs(3));
    println!("{spent:?} of processor time in 3 s while accepting fails");
    assert!(spent < Duration::from_millis(600), "{spent:?}");
    assert!(gateway.log().contains("Accepting failed"), "{}", gateway.log());
    assert!(gateway.log().matches("Accepting failed").count() < 20, "{}", gateway.log());
    served.write_all(GET).unwrap();
    assert_eq!(status(&read_until(&mut served, "\r\n\r\nok")), 200);

    prlimit(Some(pid), Resource::Nofile, usual).unwrap();
    for stream in &mut waiting {
        assert_eq!(status(&read_until(stream, "\r\n\r\nok")), 200);
    }
    assert!(gateway.is_running());
}

#[test]
fn a_gigabyte_each_way_passes_in_constant_memory() {
    const SIZE: u64 = 1 << 30;
    let block = vec![b'x'; 256 * 1024];
    let uploads = raw(|mut stream| {
        let mut buffer = vec![0; 256 * 1024];
        let mut left = SIZE;
        // Its head is one read away from the body.
        let length = stream.read(&mut buffer).unwrap();
        let head = buffer[..length].windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        left -= (length - head) as u64;
        while left > 0 {
            left -= stream.read(&mut buffer).unwrap() as u64;
        }
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let downloads = raw(|mut stream| {
        let block = vec![b'x'; 256 * 1024];
        let _ = stream.read(&mut [0; 4096]).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").unwrap();
        (0..SIZE / block.len() as u64).for_each(|_| stream.write_all(&block).unwrap());
    });
    let rest = format!(
        "{}[upstreams.down]\nservers = [\"http://{downloads}\"]\n[[routes]]\npath = \"/down/x\"\nupstream = \"down\"\nauth = \"public\"\n",
        public_route(&[uploads], "")
    );
    // 200 MiB of its own memory are all that it may ever ask for.
    let gateway = Gateway::limited("ulimit -d 204800 &&", "", &rest);
    let address = gateway.address;
    exchange(address, &closing("/%00"));
    let first = gateway.resident();
    let down = std::thread::spawn(move || {
        let mut stream = connect(address);
        stream.write_all(&closing("/down/x")).unwrap();
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        while let length @ 1.. = stream.read(&mut buffer).unwrap() {
            total += length as u64;
        }
        total
    });
    let up = std::thread::spawn(move || {
        let mut stream = connect(address);
        write!(stream, "POST /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n").unwrap();
        (0..SIZE / block.len() as u64).for_each(|_| stream.write_all(&block).unwrap());
        read_to_end(&mut stream).0
    });
    let mut most = first;
    while !down.is_finished() || !up.is_finished() {
        most = most.max(gateway.resident());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(down.join().unwrap() > SIZE, "the head and a gigabyte");
    assert_eq!(status(&up.join().unwrap()), 200);
    println!("resident {} KiB before and at most {} KiB during a gigabyte each way", first / 1024, most / 1024);
    assert!(most - first < 16 * MEBIBYTE, "{} bytes more", most - first);
}

#[test]
fn no_refusal_costs_a_hundred_times_what_it_cost_its_client() {
    const TIMES: u32 = 300;
    const FORWARDED: &str = "forwarded, for comparison";
    let origin = Origin::fixed(OK);
    let closed = "[[routes]]\npath = \"/closed\"\nupstream = \"origin\"\n[[routes]]\npath = \"/small\"\nupstream = \"origin\"\nauth = \"public\"\nmax_body_bytes = 10";
    let gateway = Gateway::start("", &public_route(&[origin.address], closed));
    let with_token = |token: &str| format!("GET /closed HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let deep = tokens::unsigned(&format!("{}1{}", "[".repeat(4000), "]".repeat(4000)));
    let cases = [
        (FORWARDED, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200),
        ("bad path", "GET /%2e%2e/a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("longest path, to be normalized", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "%2e".repeat(2600)), 200),
        ("no host", "GET /a HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("not HTTP", "\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        (
            "head of 60 kB and a bad path",
            format!("GET //a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(60_000)),
            400,
        ),
        ("99 headers and a bad path", format!("GET //a HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(98)), 400),
        ("head too large", format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200_000)), 431),
        ("no token", "GET /closed HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 401),
        ("token of dots", with_token(&".".repeat(16_000)), 401),
        ("token of 16 kB of nothing", with_token(&"e".repeat(16_000)), 401),
        ("token nested deeply", with_token(&deep), 401),
        ("forged token", with_token(&tokens::hs256(b"thirty-two bytes are the least!!", "eve")), 401),
        (
            "announced body too large",
            "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".to_owned(),
            413,
        ),
        ("wrong method", "TRACE /a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        ("login without a form", "POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(), 400),
    ];
    println!("{:>30} {:>9} {:>12} {:>12} {:>9}", "case", "bytes", "client", "gateway", "KiB more");
    let mut forwarded = Duration::ZERO;
    for (name, request, expected) in cases {
        let (client, own, memory) =
            (processor_time("/proc/thread-self/stat"), gateway.processor_time(), gateway.resident());
        for _ in 0..TIMES {
            let mut stream = connect(gateway.address);
            // A refusal may come, and the connection end, before all of it was sent.
            let _ = stream.write_all(request.as_bytes());
            let response = read_response(&mut stream);
            assert_eq!(status(&response), expected, "{name}");
        }
        let client = (processor_time("/proc/thread-self/stat") - client).max(Duration::from_millis(10));
        let own = gateway.processor_time() - own;
        let memory = gateway.resident().saturating_sub(memory);
        println!("{name:>30} {:>9} {client:>12?} {own:>12?} {:>9}", request.len(), memory / 1024);
        if name == FORWARDED {
            forwarded = own.max(Duration::from_millis(20));
        }
        assert!(own <= forwarded * 10, "{name}: {own:?}, and {forwarded:?} for requests that are forwarded");
        assert!(own < client * 100, "{name}: {own:?} for {client:?} of its client's");
        let sent = request.len() as u64 * u64::from(TIMES);
        assert!(memory < (sent * 100).clamp(MEBIBYTE, 32 * MEBIBYTE), "{name}: {memory} bytes");
    }
}

#[test]
fn metrics_do_not_grow_with_what_clients_make_up() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::start("", &public_route(&[origin.address], "methods = [\"GET\"]"));
    let made_up = |range: std::ops::Range<u32>| {
        let mut stream = connect(gateway.address);
        for number in range {
            let method = if number % 3 == 0 { format!("M{number}") } else { "GET".to_owned() };
            write!(
                stream,
                "{method} /p{number}/q HTTP/1.1\r\nHost: h{number}.example\r\nUser-Agent: u{number}\r\nX-{number}: 1\r\n\r\n"
            )
            .unwrap();
            read_response(&mut stream);
        }
    };
    let page = || exchange(gateway.admin, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    made_up(0..50);
    std::thread::sleep(Duration::from_millis(100));
    let few = page();
    made_up(50..3000);
    std::thread::sleep(Duration::from_millis(100));
    let many = page();
    let names = |page: &str| -> Vec<String> {
        let lines = page.lines().filter(|line| line.starts_with("tollgate_"));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    println!("{} series after 50 made-up requests and {} after 3,000", names(&few).len(), names(&many).len());
    assert_eq!(names(&few), names(&many));
    assert!(!many.contains("M3") && !many.contains("h2999"));
    let counted = gateway.metric("tollgate_requests_total{route=\"(none)\",method=\"other\",code=\"405\"}");
    assert_eq!(counted, 1000);
}

/// `text` in gzip's format (RFC 1952), stored and not compressed (RFC 1951 section 3.2.4). The sum at its end is of no use here.
fn gzip(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut bytes = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF, 1];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&(!length).to_le_bytes());
    bytes.extend_from_slice(text);
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    bytes.extend_from_slice(&u32::from(length).to_le_bytes());
    bytes
}

#[test]
fn compressed_bodies_pass_as_they_are() {
    let packed = gzip(b"hello");
    let answer = packed.clone();
    let (sender, received) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let origin = raw(move |mut stream| {
        let mut request = Vec::new();
        while !request.ends_with(&answer) {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..length]);
        }
        sender.lock().unwrap().send(request).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let gateway = Gateway::public("", origin);
    let mut stream = connect(gateway.address);
    let head =
        "POST /a HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br\r\nContent-Encoding: gzip\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n", packed.len()).unwrap();
    stream.write_all(&packed).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response_head = String::from_utf8_lossy(&response).to_lowercase();
    assert!(response.ends_with(&packed) && response_head.contains("content-encoding: gzip"), "{response_head}");
    let request = received.recv_timeout(Duration::from_secs(5)).unwrap();
    let request_head = String::from_utf8_lossy(&request).to_lowercase();
    assert!(request.ends_with(&packed) && request_head.contains("content-encoding: gzip"), "{request_head}");
    assert!(request_head.contains("accept-encoding: gzip, br"), "{request_head}");
}

#[test]
fn a_compressed_login_is_refused_unread() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("", origin.address);
    let log_in = |path: &str, body: &[u8], encoding: &str| {
        let mut stream = connect(gateway.address);
        let head = "Host: a\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        write!(
            stream,
            "POST {path} HTTP/1.1\r\n{head}Content-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        read_to_end(&mut stream).0
    };
    for encoding in ["gzip", "br", "identity, gzip", "x"] {
        let response = log_in("/auth/login", &gzip(b"username=a&password=b"), encoding);
        assert_eq!((status(&response), code(&response).as_str()), (415, "unsupported_encoding"), "{response}");
        assert!(response.contains("accept-encoding: identity\r\n"), "{response}");
    }
    // OAuth has no 415: RFC 6749 section 5.2.
    let response = log_in("/auth/token", &gzip(b"grant_type=password&username=a&password=b"), "gzip");
    assert!(status(&response) == 400 && response.contains("\"invalid_request\""), "{response}");
}

#[test]
fn strangers_cannot_fill_memory_with_tokens() {
    let secret = b"thirty-two bytes are the least!!";
    let origin = Origin::fixed(OK);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let rest = format!(
        "{}[issuers.theirs]\nissuer = \"theirs\"\naudiences = [\"us\"]\nalgorithms = [\"HS256\"]\nsecret = {{ file = {file:?} }}\n",
        public_route(&[origin.address], "").replace("\"public\"", "\"required\"")
    );
    let gateway = Gateway::start("", &rest);
    let mut stream = connect(gateway.address);
    let mut ask = |token: &str| {
        write!(stream, "GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
        status(&read_response(&mut stream))
    };
    let filling = "x".repeat(8000);
    for number in 0..20 {
        assert_eq!(
            ask(&tokens::hs256(b"another secret of thirty-two byte", &format!("{number}{}", &filling[..900]))),
            401
        );
    }
    let first = gateway.resident();
    // Some 40 MB of tokens, each another one, signed by nobody who is trusted; and each of them twice.
    let header = tokens::unsigned(&filling);
    for number in 0..2000 {
        let token = format!("{header}{number}");
        assert_eq!((ask(&token), ask(&token)), (401, 401));
    }
    let growth = gateway.resident().saturating_sub(first);
    println!("{} KiB more after 2,000 refused tokens of 11 kB, each sent twice", growth / 1024);
    assert!(growth < 8 * MEBIBYTE, "{growth} bytes");
    assert_eq!(gateway.metric("tollgate_token_cache_hits_total"), 0, "a refused token is never remembered");
    let good = tokens::hs256(secret, "ada");
    assert_eq!((ask(&good), ask(&good)), (200, 200));
    assert_eq!(gateway.metric("tollgate_token_cache_hits_total"), 1);
}

#[test]
fn whatever_a_client_sends_is_one_clean_line_of_each_log() {
    let secret = b"thirty-two bytes are the least!!";
    let origin = Origin::fixed(OK);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let rest = format!(
        "level = \"debug\"\n{}[issuers.theirs]\nissuer = \"theirs\"\naudiences = [\"us\"]\nalgorithms = [\"HS256\"]\nsecret = {{ file = {file:?} }}\n",
        public_route(&[origin.address], "").replace("\"public\"", "\"optional\"")
    );
    let gateway = Gateway::start("max_header_bytes = 1048576", &rest);
    let evil = "\u{1b}[31m\u{9b}2J\u{202e}\u{2028}\u{85}\u{7f}\",\"status\":200}";
    let long = "x".repeat(900_000);
    let with_token = |token: String| {
        format!("GET /t HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n")
    };
    let requests = [
        format!("GET /a%0d%0aX:%201 HTTP/1.1\r\nHost: a\r\nUser-Agent: {evil}\r\nConnection: close\r\n\r\n"),
        format!("GET /{evil} HTTP/1.1\r\nHost: a\r\n\r\n"),
        "GET /\"\\{} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /ua HTTP/1.1\r\nHost: a\r\nUser-Agent: {long}\r\nConnection: close\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: {evil}\r\n\r\n"),
        format!("{} /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "M".repeat(5000)),
        format!("POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: {evil}\r\nContent-Length: 0\r\n\r\n"),
        with_token(tokens::hs256(secret, "bob\r\n{\"status\":200}")),
        with_token(tokens::hs256(secret, evil)),
        with_token(tokens::hs256(secret, &"s".repeat(1000))),
        with_token(tokens::hs256(secret, "J\u{f6}rg \u{202e}\"\\")),
        with_token("\u{1b}[31m".to_owned()),
    ];
    for request in &requests {
        let mut stream = connect(gateway.address);
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = read_to_end(&mut stream);
    }
    let lines = gateway.access_lines(requests.len());
    assert_eq!(lines.len(), requests.len(), "one line each: {lines:#?}");
    let access = std::fs::read_to_string(gateway.file("access.log")).unwrap();
    let log = gateway.log();
    for (name, text) in [("access.log", &access), ("the application log", &log)] {
        for line in text.lines() {
            assert!(line.len() < 16_384, "{name}: a line of {} bytes", line.len());
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value.is_object(), "{name}: {line}");
            let dirty = line.chars().find(|character| {
                character.is_control() || matches!(character, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
            });
            assert!(dirty.is_none(), "{name}: {dirty:?} in {line:?}");
            assert!(!line.contains('\u{1b}') && !line.contains('\u{9b}'), "{name}: an escape in {line:?}");
        }
    }
    assert!(!access.contains("\"status\":200}"), "a field was made up: {access}");
}

#[test]
fn a_log_for_people_has_no_commands_for_their_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = folder.path().join("tollgate.toml");
    let text = format!(
        "[server]\nlisten = [\"{address}\"]\n[admin]\nlisten = \"\"\n[store]\nurl = \"sqlite://users.db\"\n\
         [log]\nlevel = \"debug\"\naccess = \"off\"\nformat = \"text\"\n{}",
        public_route(&[address], "")
    );
    std::fs::write(&file, text).unwrap();
    let log = folder.path().join("log");
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["run", "--config"])
        .arg(&file)
        .current_dir(folder.path())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(address).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let evil = "\u{1b}[31mred\u{9b}2J";
    for request in [
        format!("GET /x HTTP/1.1\r\nHost: {evil}\r\n\r\n"),
        format!("GET /{evil} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {evil}\r\nConnection: close\r\n\r\n"),
        format!(
            "POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: {evil}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
    ] {
        read_response(&mut {
            let mut stream = connect(address);
            stream.write_all(request.as_bytes()).unwrap();
            stream
        });
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().count() > 3 && text.contains("Request refused"), "{text}");
    let dirty = text.chars().find(|character| character.is_control() && *character != '\n');
    assert!(dirty.is_none(), "{dirty:?} in {text:?}");
}

#[test]
fn with_few_places_each_worker_still_serves() {
    let origin = Origin::fixed(OK);
    let gateway = Gateway::public("workers = 2\nmax_connections = 1", origin.address);
    for attempt in 0..12 {
        let mut stream = connect(gateway.address);
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let (response, _) = read_to_end(&mut stream);
        assert!(response.starts_with("HTTP/1.1 200"), "connection {attempt}, alone at its time, got {response:?}");
    }
}
