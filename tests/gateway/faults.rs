//! Upstreams that fail in every way, and what may be sent twice.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::time::Instant;

use crate::support::client::{code, connect, exchange, read_response, read_to_end, read_until, status};
use crate::support::gateway::{Gateway, public_route};
use crate::support::origin::{Origin, Then, header, raw};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Closes with a reset.
fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn an_upstream_that_fails_before_its_response_is_a_502_with_its_code() {
    let origin = Origin::start(|request, stream| {
        let part = request.split(' ').nth(1).unwrap();
        match part {
            "/reset" => reset(stream),
            "/reset-in-head" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap();
                std::thread::sleep(Duration::from_millis(100));
                reset(stream);
            }
            "/end-in-head" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(),
            "/half-close" => stream.shutdown(Shutdown::Write).unwrap(),
            "/garbage" => stream.write_all(b"\x00\x01\x02 not HTTP\r\n\r\n").unwrap(),
            "/switch" => stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").unwrap(),
            other => panic!("{other}"),
        }
        Then::Close
    });
    let gateway = Gateway::public("", origin.address);
    for path in ["/reset", "/reset-in-head", "/end-in-head", "/half-close", "/garbage", "/switch"] {
        let response = exchange(gateway.address, &get(path));
        assert_eq!((status(&response), code(&response).as_str()), (502, "upstream_failed"), "{path}");
    }
    assert_eq!(origin.requests().len(), 6, "on a new connection nothing is sent twice");
}

#[test]
fn a_response_that_is_reset_in_its_body_breaks_off() {
    let origin = Origin::start(|request, stream| {
        let framing = if request.contains("/chunked") { "Transfer-Encoding: chunked" } else { "Content-Length: 10" };
        let part = if request.contains("/chunked") { "5\r\nhello\r\n" } else { "hello" };
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{part}").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        reset(stream);
        Then::Close
    });
    let gateway = Gateway::public("", origin.address);
    for path in ["/chunked", "/sized"] {
        let response = exchange(gateway.address, &get(path));
        assert!(response.contains("hello") && !response.contains("0\r\n\r\n"), "{response}");
    }
    assert!(gateway.access_lines(2).iter().all(|line| line["cut"] == true));
}

#[test]
fn a_response_that_ends_with_its_connection_is_whole() {
    let origin = Origin::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        Then::Close
    });
    let gateway = Gateway::public("", origin.address);
    let response = exchange(gateway.address, &get("/"));
    assert!(response.contains("hello") && response.ends_with("0\r\n\r\n"), "{response}");
    assert!(gateway.access_lines(1)[0]["cut"].is_null());
}

#[test]
fn informational_responses_come_before_one_final_one() {
    let origin = Origin::start(|_, stream| {
        for head in ["100 Continue", "102 Processing", "103 Early Hints\r\nLink: </a.css>; rel=preload"] {
            stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
        stream.write_all(OK.as_bytes()).unwrap();
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    let mut stream = connect(gateway.address);
    for _ in 0..2 {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let response = read_until(&mut stream, "\r\n\r\nok");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
    }
}

#[test]
fn an_upstream_that_does_not_even_refuse_is_unreachable_in_time() {
    // Nobody accepts, and the queue is full: the kernel drops further handshakes.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address.into());
            client
        })
        .collect();
    let rest = public_route(&[address], "").replace("idle_timeout", "connect_timeout = \"500ms\"\nidle_timeout");
    let gateway = Gateway::start("", &rest);
    let start = Instant::now();
    let response = exchange(gateway.address, &get("/"));
    assert_eq!((status(&response), code(&response).as_str()), (502, "upstream_unreachable"));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    drop(waiting);
}

#[test]
fn an_upstream_that_takes_too_long_is_a_504_and_one_that_is_only_slow_is_not() {
    let origin = Origin::start(|request, stream| {
        let (pause, pieces) = if request.contains("/late") { (3000, 1) } else { (150, OK.len()) };
        for piece in OK.as_bytes().chunks(OK.len().div_ceil(pieces)) {
            std::thread::sleep(Duration::from_millis(pause));
            let _ = stream.write_all(piece);
        }
        Then::KeepAlive
    });
    let rest = |limit| {
        public_route(&[origin.address], "")
            .replace("idle_timeout", &format!("response_timeout = \"{limit}\"\nidle_timeout"))
    };
    let gateway = Gateway::start("", &rest("500ms"));
    for path in ["/late", "/dripping-head"] {
        let response = exchange(gateway.address, &get(path));
        assert_eq!((status(&response), code(&response).as_str()), (504, "upstream_timeout"), "{path}");
    }
    let gateway = Gateway::start("", &rest("30s"));
    let response = exchange(gateway.address, &get("/dripping-head-and-body"));
    assert!(response.ends_with("\r\n\r\nok"), "{response}");
}

/// An origin that answers the first request of each connection, and the second with its `end`.
fn once_only(end: impl Fn(&TcpStream) + Send + Sync + 'static) -> Origin {
    let seen = Mutex::new(HashMap::new());
    Origin::start(move |_, stream| {
        let is_second = {
            let mut seen = seen.lock().unwrap();
            let count = seen.entry(stream.peer_addr().unwrap()).or_insert(0);
            *count += 1;
            *count > 1
        };
        if is_second {
            end(stream);
            return Then::Close;
        }
        let _ = stream.write_all(OK.as_bytes());
        Then::KeepAlive
    })
}

/// What becomes of a second request on a kept connection that dies under it: the status, and how often the origin got it.
#[track_caller]
fn check_second(origin: &Origin, request: &str, expected: (u16, usize)) {
    let gateway = Gateway::public("", origin.address);
    let before = origin.requests().len();
    let mut stream = connect(gateway.address);
    stream.write_all(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_until(&mut stream, "\r\n\r\nok");
    stream.write_all(request.as_bytes()).unwrap();
    let (response, _) = read_to_end(&mut stream);
    let line = request.lines().next().unwrap();
    let times = origin.requests()[before..].iter().filter(|request| request.starts_with(line)).count();
    assert_eq!((status(&response), times), expected, "{line}: {response}");
}

#[test]
fn a_safe_request_under_which_a_kept_connection_dies_is_sent_once_more() {
    let closing = once_only(|_| {});
    let resetting = once_only(reset);
    for origin in [&closing, &resetting] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let request =
                format!("{method} /a?b=%2F HTTP/1.1\r\nHost: a\r\nX-Many: 1\r\nX-Many: 2\r\nConnection: close\r\n\r\n");
            check_second(origin, &request, (200, 2));
        }
        let requests = origin.requests();
        let again: Vec<_> = requests.iter().filter(|request| request.starts_with("GET /a?b")).collect();
        assert_eq!(again[0], again[1], "octet for octet");
        assert_eq!(header(again[0], "x-many"), Some("1"));
    }
}

#[test]
fn no_other_request_is_ever_sent_twice() {
    let origin = once_only(reset);
    check_second(&origin, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", (502, 1));
    check_second(&origin, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", (502, 1));
    check_second(&origin, "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", (502, 1));
    check_second(&origin, "DELETE /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", (502, 1));
    check_second(&origin, "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", (502, 1));
    // A byte of an answer came.
    let begun = once_only(|mut stream| drop(stream.write_all(b"H")));
    check_second(&begun, "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", (502, 1));
    // It was in work for a while, and may be what broke the service.
    let worked = once_only(|_| std::thread::sleep(Duration::from_millis(2500)));
    check_second(&worked, "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", (502, 1));
}

#[test]
fn a_request_that_kills_every_connection_is_sent_twice_at_most() {
    let origin = Origin::start(|request, stream| {
        if request.contains("/poison") {
            reset(stream);
            return Then::Close;
        }
        stream.write_all(OK.as_bytes()).unwrap();
        Then::KeepAlive
    });
    check_second(&origin, "GET /poison HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", (502, 2));
}

/// The id in a request's target.
fn id(request: &str) -> String {
    request.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn hundreds_of_requests_to_an_upstream_that_closes_at_random_are_answered_and_posts_arrive_at_most_once() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 60;
    // Each connection is closed some tens of microseconds to milliseconds after an answer, in which time the next request comes;
    // or at the very moment in which it has come.
    let origin = Origin::start(|request, stream| {
        stream.write_all(OK.as_bytes()).unwrap();
        let number = id(request).bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        if number % 7 == 0 {
            let _ = stream.peek(&mut [0]);
            return Then::Close;
        }
        if number % 3 == 0 {
            std::thread::sleep(Duration::from_micros(number / 3 % 40 * 25));
            return Then::Close;
        }
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    let address = gateway.address;
    let ask = move |client: usize| {
        let mut statuses = Vec::new();
        let mut stream = connect(address);
        for number in 0..REQUESTS {
            let (method, body) = if number % 2 == 0 { ("POST", "Content-Length: 1\r\n\r\nx") } else { ("GET", "\r\n") };
            let target = format!("/{method}/{client}/{number}");
            stream.write_all(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{body}").as_bytes()).unwrap();
            let response = read_response(&mut stream);
            statuses.push((target, status(&response)));
            if response.contains("connection: close") {
                stream = connect(address);
            }
        }
        statuses
    };
    let clients: Vec<_> = (0..CLIENTS).map(|client| std::thread::spawn(move || ask(client))).collect();
    let answers: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(answers.len(), CLIENTS * REQUESTS);
    let mut delivered = HashMap::new();
    for request in origin.requests() {
        *delivered.entry(id(&request)).or_insert(0) += 1;
    }
    let mut failed_posts = 0;
    for (target, status) in &answers {
        let times = delivered.get(target).copied().unwrap_or(0);
        if target.starts_with("/POST") {
            assert!(times <= 1, "{target} was delivered {times} times");
            assert!(*status == 502 || (*status, times) == (200, 1), "{target}: {status}, delivered {times} times");
            failed_posts += usize::from(*status == 502);
        } else {
            assert_eq!(*status, 200, "{target}");
            assert!(times <= 2, "{target} was delivered {times} times");
        }
    }
    println!("of {} POSTs {failed_posts} met a closing connection", answers.len() / 2);
    assert!(failed_posts > 0, "no POST met a closing connection, so nothing was shown");
}

/// How a POST can be framed.
const POSTS: [&str; 3] = [
    "Content-Length: 3\r\n\r\nabc",
    "Content-Length: 0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
];

/// Sends POSTs of each framing to an upstream of two servers, and gives their statuses, each with how often which server got it.
fn post_to_both(servers: [&Origin; 2]) -> Vec<(u16, [usize; 2])> {
    const EACH: usize = 20;
    let gateway = Gateway::start("", &public_route(&servers.map(|server| server.address), ""));
    let posts = (0..EACH * POSTS.len()).map(|number| {
        let request = format!("POST /{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}", POSTS[number % 3]);
        (format!("/{number}"), status(&exchange(gateway.address, request.as_bytes())))
    });
    let posts: Vec<_> = posts.collect();
    let got = servers.map(|server| server.requests().iter().map(|request| id(request)).collect::<Vec<_>>());
    let times = |target: &String| got.each_ref().map(|ids| ids.iter().filter(|id| *id == target).count());
    posts.into_iter().map(|(target, status)| (status, times(&target))).collect()
}

#[test]
fn a_post_that_one_server_got_is_given_to_no_other() {
    let resetting = Origin::start(|_, stream| {
        reset(stream);
        Then::Close
    });
    let closing = Origin::start(|_, _| Then::Close);
    for failing in [&resetting, &closing] {
        let posts = post_to_both([failing, &Origin::fixed(OK)]);
        // Both take their turns; which of them a POST came to, nobody can choose.
        let at_the_failing = posts.iter().filter(|post| **post == (502, [1, 0])).count();
        let at_the_other = posts.iter().filter(|post| **post == (200, [0, 1])).count();
        assert_eq!(at_the_failing + at_the_other, posts.len(), "{posts:?}");
        assert!(at_the_failing > posts.len() / 4 && at_the_other > posts.len() / 4, "{posts:?}");
    }
}

#[test]
fn a_post_that_no_server_read_arrives_at_most_once() {
    // Its connections are reset as soon as they are made, so a part of the POSTs leaves before that is seen and is lost.
    let (sender, accepted) = std::sync::mpsc::channel();
    let address = raw(move |stream| {
        reset(&stream);
        let _ = sender.send(());
    });
    let deaf = Origin::at(address);
    let posts = post_to_both([&deaf, &Origin::fixed(OK)]);
    let is_once = |post: &(u16, [usize; 2])| matches!(post, (200, [0, 1]) | (502, [0, 0]));
    assert!(posts.iter().all(is_once), "{posts:?}");
    assert!(accepted.try_iter().count() > 0, "the server that resets was never tried");
    assert!(posts.iter().any(|post| post.0 == 200), "{posts:?}");
}

#[test]
fn a_post_under_which_a_kept_connection_closes_goes_to_nobody_else() {
    const ROUNDS: usize = 10;
    let got = Arc::new(Mutex::new(Vec::new()));
    // Answers the first request of a connection, waits until the second has begun to come, and closes without reading it.
    let servers = [(); 2].map(|()| {
        let got = Arc::clone(&got);
        raw(move |mut stream| {
            let mut buffer = [0; 4096];
            let mut count = stream.read(&mut buffer).unwrap_or(0);
            if count > 0 && stream.write_all(OK.as_bytes()).is_ok() {
                got.lock().unwrap().push(id(&String::from_utf8_lossy(&buffer[..count])));
                count = stream.peek(&mut buffer).unwrap_or(0);
                if count > 0 {
                    got.lock().unwrap().push(id(&String::from_utf8_lossy(&buffer[..count])));
                }
            }
        })
    });
    let gateway = Gateway::start("", &public_route(&servers, ""));
    for round in 0..ROUNDS {
        // Two turns leave a kept connection to each server: on the client's connection each request waits for the one before.
        let mut client = connect(gateway.address);
        for turn in 0..2 {
            write!(client, "GET /kept/{round}/{turn} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(status(&read_response(&mut client)), 200);
        }
        let framing = POSTS[round % POSTS.len()];
        write!(client, "POST /lost/{round} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}").unwrap();
        let (response, _) = read_to_end(&mut client);
        assert_eq!((status(&response), code(&response).as_str()), (502, "upstream_failed"), "{framing}");
    }
    let got = got.lock().unwrap();
    for round in 0..ROUNDS {
        let times = got.iter().filter(|target| **target == format!("/lost/{round}")).count();
        assert_eq!(times, 1, "POST {round} was begun to be sent so often");
    }
}

#[test]
fn interim_responses_without_end_are_given_up() {
    let origin = Origin::start(|request, stream| {
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
        let mut count = 0;
        while (request.contains("/endless") || count < 50) && stream.write_all(interim.as_bytes()).is_ok() {
            count += 1;
        }
        let _ = stream.write_all(OK.as_bytes());
        Then::KeepAlive
    });
    let gateway = Gateway::public("", origin.address);
    // Five thousand are many, and pass.
    assert_eq!(status(&exchange(gateway.address, &get("/many"))), 200);
    let response = exchange(gateway.address, &get("/endless"));
    assert_eq!((status(&response), code(&response).as_str()), (502, "upstream_failed"));
    assert_eq!(origin.requests().len(), 2, "it is not sent again");
}

#[test]
fn an_answer_on_an_old_connection_does_not_make_a_failing_server_healthy() {
    // It takes two connections and then no new ones; on `/slow` it answers late.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let failing = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let streams = [listener.accept().unwrap().0, listener.accept().unwrap().0];
        drop(listener);
        for mut stream in streams {
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {
                    if buffer.starts_with(b"GET /slow") {
                        std::thread::sleep(Duration::from_millis(500));
                    }
                    let _ = stream.write_all(OK.as_bytes());
                }
            });
        }
    });
    let gateway = Gateway::public("", failing);
    let sample = format!("tollgate_upstream_healthy{{upstream=\"origin\",server=\"{failing}\"}}");
    let mut busy = [connect(gateway.address), connect(gateway.address)];
    busy.iter_mut().for_each(|stream| stream.write_all(&get("/slow")).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(code(&exchange(gateway.address, &get("/third"))), "upstream_unreachable");
    let failed = Instant::now();
    for mut stream in busy {
        assert_eq!(status(&read_to_end(&mut stream).0), 200);
    }
    assert_eq!(status(&exchange(gateway.address, &get("/kept"))), 200);
    // On a very busy machine the pause of a second may be over by now.
    assert!(
        gateway.metric(&sample) == 0 || failed.elapsed() > Duration::from_millis(900),
        "in its pause only a new connection counts"
    );
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(status(&exchange(gateway.address, &get("/kept-again"))), 200);
    assert_eq!(gateway.metric(&sample), 1);
}
