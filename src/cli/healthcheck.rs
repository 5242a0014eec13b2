//! `tollgate healthcheck`: asks a running gateway whether it is well, for containers and scripts.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cause::chain;
use crate::config;

/// Ask a running gateway whether it takes requests. Exits 0 when it does, 1 when it does not.
///
/// Asks `/readyz` of `admin.listen`, which the configuration file names; nothing else of the file matters. An address that
/// stands for all addresses of the machine is asked on loopback.
#[derive(Debug, clap::Args)]
pub struct Healthcheck {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", env = "TOLLGATE_CONFIG", default_value = "config/tollgate.toml")]
    config: PathBuf,
    /// Ask whether the process lives (`/livez`), also while it drains.
    #[arg(long)]
    live: bool,
    /// Ask this address, such as `http://127.0.0.1:9090/readyz`, and read no file.
    #[arg(long, value_name = "URL", conflicts_with = "live")]
    url: Option<Uri>,
}

/// For the whole exchange. A container's own limit is larger, so that it is us who say what is wrong.
const LIMIT: Duration = Duration::from_secs(3);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("connecting failed")]
    Connect(#[source] io::Error),
    #[error("the answer is no HTTP")]
    Http(#[from] hyper::Error),
    #[error("the address cannot be asked")]
    Request(#[from] http::Error),
    #[error("no answer within {} s", LIMIT.as_secs())]
    TimedOut,
}

impl Healthcheck {
    /// Writes `ok` to `out`, or what is wrong to `messages`. Gives whether the gateway is well.
    ///
    /// # Errors
    /// When the output cannot be written, or the system refuses an event queue.
    pub fn run(&self, out: &mut dyn Write, messages: &mut dyn Write) -> io::Result<bool> {
        let url = match self.url() {
            Ok(url) => url,
            Err(problem) => {
                writeln!(messages, "{problem}")?;
                return Ok(false);
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer =
            runtime.block_on(async { tokio::time::timeout(LIMIT, ask(&url)).await.unwrap_or(Err(NoAnswer::TimedOut)) });
        // A name that is still looked up must not hold the answer back.
        runtime.shutdown_background();
        let is_well = answer.as_ref().is_ok_and(StatusCode::is_success);
        match answer {
            Ok(_) if is_well => writeln!(out, "ok")?,
            Ok(status) => writeln!(messages, "error: `{url}` answers {}", status.as_u16())?,
            Err(error) => writeln!(
                messages,
                "error: `{url}` does not answer: {}\nhint: is the gateway running, and `admin.listen` what the file says?",
                chain(&error)
            )?,
        }
        Ok(is_well)
    }

    /// What to ask.
    fn url(&self) -> Result<Uri, String> {
        if let Some(url) = &self.url {
            if url.scheme_str() != Some("http") || url.host().is_none() {
                return Err("error: `--url` must begin with `http://` and name a host".to_owned());
            }
            // What follows names the URL in messages.
            if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
                return Err("error: `--url` must not hold a user or a password".to_owned());
            }
            return Ok(url.clone());
        }
        let admin = config::admin_listener(&self.config).map_err(|problems| problems.to_string())?;
        let address = match admin.listen.map(reachable) {
            Some(address) if address.port() != 0 => address,
            Some(_) => {
                return Err("error: `admin.listen` takes any free port, which the file does not know\nhint: name it \
                            with `--url`"
                    .to_owned());
            }
            None => {
                return Err("error: `admin.listen` is \"\", so nothing can be asked\nhint: give it an address, such \
                            as \"127.0.0.1:9090\""
                    .to_owned());
            }
        };
        let path = if self.live { "livez" } else { "readyz" };
        format!("http://{address}/{path}").parse().map_err(|_| format!("error: `{address}` cannot be asked"))
    }
}

/// An address to listen on, as one to connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(url: &Uri) -> Result<StatusCode, NoAnswer> {
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(NoAnswer::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, format!("{host}:{port}"))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async { Ok(sender.send_request(request).await?.status()) };
    tokio::select! {
        status = exchange => status,
        // Ends first only when it breaks.
        Err(error) = connection => Err(NoAnswer::Http(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn what_listens_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.1:9090", "10.0.0.1:9090"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
