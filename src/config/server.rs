//! `[server]`, `[admin]` and `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::log::{AccessLog, AuditLog, LogFormat, LogSettings};
use crate::request::client::TrustedProxies;
use crate::server::{AdminSettings, ServerSettings};

use super::reader::{Fault, Findings, Section};
use super::value::{LONGEST, SHORTEST, boolean, choice, distinct, duration, integer, set, text, word};

/// Longest drain: a supervisor that waits longer has long killed the process.
const LONGEST_DRAIN: Duration = Duration::from_secs(24 * 3600);

pub(super) fn server(file: &Section<'_>, findings: &mut Findings) -> Option<ServerSettings> {
    let section = file.table("server", findings)?;
    let listen = section.read("listen", findings, set(text(socket_address)));
    let workers = section.read("workers", findings, integer(0..=1024));
    let pin_workers = section.read("pin_workers", findings, boolean);
    let trusted_proxies = section.read("trusted_proxies", findings, distinct(text(network)));
    let header_timeout = section.read("header_timeout", findings, duration(SHORTEST..=LONGEST));
    let idle_timeout = section.read("idle_timeout", findings, duration(SHORTEST..=LONGEST));
    let body_timeout = section.read("body_timeout", findings, duration(SHORTEST..=LONGEST));
    let send_timeout = section.read("send_timeout", findings, duration(SHORTEST..=LONGEST));
    let min_bytes_per_second = section.read("min_bytes_per_second", findings, integer(0..=1_000_000));
    let max_header_bytes = section.read("max_header_bytes", findings, integer(8192..=1024 * 1024));
    let max_connections = section.read("max_connections", findings, integer(1..=1_000_000));
    let drain_timeout = section.read("drain_timeout", findings, duration(Duration::ZERO..=LONGEST_DRAIN));
    Some(ServerSettings {
        listen: listen?,
        workers: workers?,
        pin_workers: pin_workers?,
        trusted_proxies: TrustedProxies(trusted_proxies?),
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        body_timeout: body_timeout?,
        send_timeout: send_timeout?,
        min_bytes_per_second: min_bytes_per_second?,
        max_header_bytes: max_header_bytes?,
        max_connections: max_connections?,
        drain_timeout: drain_timeout?,
    })
}

/// `public` is what `server.listen` says, which the administrative listener must not be.
pub(super) fn admin(
    file: &Section<'_>,
    public: Option<&ServerSettings>,
    findings: &mut Findings,
) -> Option<AdminSettings> {
    let section = file.table("admin", findings)?;
    let listen = section.read(
        "listen",
        findings,
        text(|text| if text.is_empty() { Ok(None) } else { socket_address(text).map(Some) }),
    )?;
    if let Some(address) = listen {
        if address.port() != 0 && public.is_some_and(|public| public.listen.contains(&address)) {
            let message = format!("`admin.listen` is {address}, which `server.listen` has already");
            return findings.refuse(section.problem("listen", message).hint("give it a port of its own"));
        }
        if !address.ip().is_loopback() {
            let message = format!("`admin.listen` is {address}: who can reach it reads metrics without a token");
            findings.warnings.push(section.problem("listen", message));
        }
    }
    Some(AdminSettings { listen })
}

pub(super) fn log(file: &Section<'_>, findings: &mut Findings) -> Option<LogSettings> {
    let section = file.table("log", findings)?;
    let access = section.read("access", findings, text(access_log));
    let audit = section.read("audit", findings, text(audit_log));
    let formats = [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)];
    let format = section.read("format", findings, text(choice(&formats)));
    let level = section.read("level", findings, text(log_level));
    Some(LogSettings { access: access?, audit: audit?, format: format?, level: level? })
}

fn access_log(text: &str) -> Result<AccessLog, Fault> {
    Ok(match text {
        "stdout" => AccessLog::Stdout,
        "off" => AccessLog::Off,
        "stderr" => {
            let fault = Fault::new("cannot be \"stderr\", where the application log is");
            return Err(fault.hint("write \"stdout\", \"off\" or the path of a file"));
        }
        path => AccessLog::File(PathBuf::from(word(path)?)),
    })
}

fn audit_log(text: &str) -> Result<AuditLog, Fault> {
    Ok(match text {
        "log" => AuditLog::Log,
        "off" => AuditLog::Off,
        "stdout" | "stderr" => {
            let fault =
                Fault::new(format!("cannot be {text:?}: audit lines go into the log or into a file of their own"));
            return Err(fault.hint("write \"log\", \"off\" or the path of a file"));
        }
        path => AuditLog::File(PathBuf::from(word(path)?)),
    })
}

fn log_level(text: &str) -> Result<String, Fault> {
    let level = word(text)?;
    match tracing_subscriber::EnvFilter::try_new(&level) {
        // Its parser takes any other single word as the name of a module to log everything of.
        Ok(_) if level.contains(['=', ',', '[']) || level.parse::<tracing::Level>().is_ok() || level == "off" => {
            Ok(level)
        }
        Ok(_) | Err(_) => Err(Fault::new("is no level")
            .hint("write error, warn, info, debug or trace, or directives such as \"info,tollgate::token=debug\"")),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let fault = Fault::new("is not an IP address with a port");
        match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            Ok(port) => fault.hint(format!("write \"0.0.0.0:{port}\" for all IPv4 addresses of this machine")),
            Err(_) if text.starts_with("localhost:") => fault.hint("write \"127.0.0.1\" for `localhost`"),
            Err(_) => fault.hint("write \"127.0.0.1:8080\" or \"[::1]:8080\""),
        }
    })
}

/// A network in CIDR notation, or one address.
fn network(text: &str) -> Result<IpNet, Fault> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => match text.parse::<std::net::IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => {
                return Err(Fault::new("is not a network").hint("write \"10.0.0.0/8\", \"fd00::/8\" or one address"));
            }
        },
    };
    if network.prefix_len() == 0 {
        return Err(Fault::new("would believe everybody about the client's address")
            .hint("name the networks of your own proxies only"));
    }
    if network.trunc() != network {
        return Err(Fault::new("has bits set after the prefix").hint(format!("write \"{}\"", network.trunc())));
    }
    Ok(network)
}
