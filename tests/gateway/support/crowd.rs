//! Crowds of clients that waste a gateway's time, and a service that thousands of connections cost little.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// A kind of client that wastes time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Sent at once.
    pub(crate) opening: &'static str,
    /// Whether a byte follows every second.
    pub(crate) drips: bool,
    pub(crate) reading: Reading,
}

/// What such a client does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    All,
    Nothing,
    /// A byte a second.
    Drips,
}

/// Plays one client, and returns how long it was left alone after its opening.
pub(crate) async fn play(kind: Kind, gateway: SocketAddr) -> Duration {
    let socket = TcpSocket::new_v4().unwrap();
    // Little room, so that what is not read soon stays with the gateway.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(gateway).await.unwrap();
    stream.write_all(kind.opening.as_bytes()).await.unwrap();
    if kind.name == "idle" {
        let mut answer = [0; 4096];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
    }
    let start = Instant::now();
    let mut buffer = [0; 4096];
    loop {
        let step = if kind.drips || kind.reading != Reading::All { 1 } else { 60 };
        let has_ended = match kind.reading {
            Reading::All => {
                let read = timeout(Duration::from_secs(step), stream.read(&mut buffer)).await;
                matches!(read, Ok(Ok(0) | Err(_)))
            }
            Reading::Nothing | Reading::Drips => is_reset(&stream).await,
        };
        if has_ended || start.elapsed() > Duration::from_secs(60) {
            return start.elapsed();
        }
        if kind.drips {
            let _ = stream.try_write(b"x");
        }
        if kind.reading == Reading::Drips {
            let _ = stream.try_read(&mut buffer[..1]);
        }
    }
}

/// Whether the connection is reset within a second. Reading would tell, but also take what was sent.
async fn is_reset(stream: &TcpStream) -> bool {
    for _ in 0..4 {
        if SockRef::from(stream).take_error().unwrap().is_some() {
            return true;
        }
        sleep(Duration::from_millis(250)).await;
    }
    false
}

/// A service that answers `/large` with as much as is taken and everything else with two bytes.
pub(crate) async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    // Megabytes that wait here for a client that takes nothing would only cost this machine time.
    SockRef::from(&stream).set_send_buffer_size(64 * 1024).unwrap();
    let mut request = Vec::new();
    while let Ok(length) = stream.read_buf(&mut request).await {
        if length == 0 {
            return;
        }
        let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        if request.starts_with(b"GET /large") {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
            let block = vec![b'x'; 64 * 1024];
            let mut sent = stream.write_all(head).await;
            while sent.is_ok() {
                sent = stream.write_all(&block).await;
            }
            return;
        }
        if request.starts_with(b"POST") {
            // Its body never ends.
            request.truncate(end + 4);
            request.insert(0, b'.');
            continue;
        }
        if request.starts_with(b"GET") {
            request.drain(..end + 4);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}

/// Lets this process open as many descriptors as the system allows, and returns how many that is.
pub(crate) fn raise_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).unwrap())
}
