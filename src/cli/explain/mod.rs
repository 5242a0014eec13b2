//! `tollgate explain`: what the gateway would decide about one request, and why, without a gateway.

mod finding;
mod hint;
mod replay;
mod request;
mod text;
mod view;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use secrecy::ExposeSecret;

use crate::config;
use crate::time::UnixSeconds;

use super::CliError;
use super::credential::TokenSource;
use super::style::{self, Style};

use finding::{Explanation, Outcome};
use replay::Replay;
use request::{Address, HeaderLine};

/// Replay the decision about one request, offline: each check with its outcome.
///
/// Shows what the upstream would receive, or what the client would be told. Nothing is sent, and the token is never shown; keys
/// that an issuer publishes are only fetched with `--fetch-keys`. Our own keys are those in the store now, whatever `--at`
/// says. Exits 0 when the request is allowed, 1 when it is refused or cannot be judged, 2 when called wrongly.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// Method of the request
    #[arg(value_parser = request::method)]
    method: String,
    /// URL of the request; a path alone is asked of the first address of `server.listen`
    #[arg(value_parser = address, value_name = "URL")]
    url: (String, Address),
    #[command(flatten)]
    token: TokenSource,
    /// Header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = HeaderLine::parse)]
    headers: Vec<HeaderLine>,
    /// Moment to decide at, in RFC 3339 or seconds since 1970, instead of now
    #[arg(long, value_name = "TIME", value_parser = UnixSeconds::parse)]
    at: Option<UnixSeconds>,
    /// Address that the request comes from: the client, or the proxy in front of the gateway
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    from: IpAddr,
    /// Ask the token's issuer for its keys if it publishes them, instead of staying offline
    #[arg(long)]
    fetch_keys: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "TOLLGATE_CONFIG", default_value = "config/tollgate.toml")]
    config: PathBuf,
}

impl Explain {
    /// Writes the explanation to `out`, and warnings of the file to `messages`. Gives whether the request is allowed.
    ///
    /// # Errors
    /// When the file has problems, the token cannot be read, or the output not be written.
    pub fn run(&self, out: &mut dyn Write, messages: &mut dyn Write) -> Result<bool, CliError> {
        let loaded = config::load(&self.config).map_err(CliError::Config)?;
        for warning in &loaded.warnings {
            writeln!(messages, "warning: {warning}\n")?;
        }
        let token = self.token.read()?;
        if token.as_ref().is_some_and(|token| token.expose_secret().contains(['\r', '\n', '\0'])) {
            return Err(CliError::Usage(
                "the token has a line end or a NUL in it, which no header can hold".to_owned(),
            ));
        }
        let now = self.at.unwrap_or_else(UnixSeconds::now);
        let peer = SocketAddr::new(self.from, 0);
        let (url, address) = &self.url;
        let default_host = loaded.config.server.listen.first().map(ToString::to_string).unwrap_or_default();
        let bytes = request::head(&self.method, address, &default_host, &self.headers, token.as_ref());
        let mut explanation = Explanation::new(&self.method, url, now, peer);
        let replay = Replay::new(&loaded, now, peer, self.fetch_keys).map_err(|_| CliError::Said)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(replay.run(&bytes, &mut explanation));
        // A store call that nobody waits for any more is not worth waiting for.
        runtime.shutdown_background();

        let shown = if self.json {
            let value = serde_json::to_value(&explanation).map_err(io::Error::other)?;
            format!("{}\n", style::json(&value))
        } else {
            let mut shown = Vec::new();
            text::write(&mut shown, &explanation, Style::of(&io::stdout()))?;
            String::from_utf8(shown).map_err(io::Error::other)?
        };
        // A token can stand in a URL or in another header, too.
        let shown = match &token {
            Some(token) if token.expose_secret().len() >= LEAST_SECRET_BYTES => {
                shown.replace(token.expose_secret(), "[redacted]")
            }
            Some(_) | None => shown,
        };
        out.write_all(shown.as_bytes())?;
        Ok(explanation.outcome == Outcome::Allowed)
    }
}

fn address(text: &str) -> Result<(String, Address), &'static str> {
    Ok((text.to_owned(), Address::parse(text)?))
}

/// Shorter texts are no tokens, and would be found where they mean nothing.
const LEAST_SECRET_BYTES: usize = 16;
