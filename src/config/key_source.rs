//! Where an issuer of `[issuers.*]` publishes its keys: `jwks_url`, `discovery`, `discovery_url`, and what goes with them.

use std::sync::Arc;
use std::time::Duration;

use crate::keyset::{Algorithm, Fetcher, KeyLocation, KeyUrl, KeyUrlError, RemoteKeys};

use super::file::{Content, ISSUER};
use super::reader::{Fault, Findings, Node, Section};
use super::secret::read_named_file;
use super::value::{boolean, duration, text};

/// Keys that mean something only where keys are fetched.
const NEED_SOURCE: [&str; 4] = ["jwks_refresh", "jwks_cooldown", "jwks_max_stale", "tls_ca"];

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST_REFRESH: Duration = Duration::from_secs(24 * 3600);
const LONGEST_COOLDOWN: Duration = Duration::from_secs(3600);
const LONGEST_STALE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The keys of the file by which an issuer's keys are fetched; more than one is a mistake.
pub(super) fn given(section: &Section<'_>) -> Vec<&'static str> {
    let is_on = |name: &&str| match section.given(name) {
        None => false,
        Some(node) => node.value.as_bool() != Some(false),
    };
    ["jwks_url", "discovery", "discovery_url"].into_iter().filter(is_on).collect()
}

/// Reads how the keys of an issuer are fetched. The outer `None`: it is wrong, and was noted; the inner: they are not fetched.
pub(super) fn key_source(
    section: &Section<'_>,
    issuer: Option<&str>,
    algorithms: &[Algorithm],
    findings: &mut Findings,
) -> Option<Option<RemoteKeys>> {
    let sources = given(section);
    let Some(source) = sources.first() else {
        section.read("discovery", findings, boolean)?;
        if let Some(name) = NEED_SOURCE.into_iter().find(|name| says_something(section, name)) {
            let message = format!("`{0}.{name}` is of no use: the keys of `{0}` are not fetched", section.path);
            let hint = "add `jwks_url` or `discovery = true`, or remove it";
            return findings.refuse(section.problem(name, message).hint(hint));
        }
        return Some(None);
    };
    if let Some(second) = sources.get(1) {
        let message = format!("`{0}.{source}` and `{0}.{second}` both say where the keys are", section.path);
        return findings.refuse(section.problem(second, message).hint("keep one of them"));
    }
    if section.given("keys").is_some_and(|keys| !keys.is_empty()) {
        let message = format!("`{0}.keys` and `{0}.{source}` both say what the keys are", section.path);
        let hint = "keep one of them: a key of a file would fit tokens whose key has to be fetched";
        return findings.refuse(section.problem("keys", message).hint(hint));
    }
    if algorithms.is_empty() {
        let message = format!("`{0}.{source}` is of no use to the algorithms in `{0}.algorithms`", section.path);
        let hint = "published keys serve RS*, PS*, ES* and EdDSA; HS* verify with a `secret`";
        return findings.refuse(section.problem(source, message).hint(hint));
    }
    if issuer.is_none() && *source != "jwks_url" {
        let message = format!("`{0}.{source}` needs `{0}.issuer`: the document has to name it", section.path);
        let hint = "add `issuer`, or name the keys with `jwks_url`";
        return findings.refuse(section.problem(source, message).hint(hint));
    }
    let discovery = section.read("discovery", findings, discovery(issuer.unwrap_or_default()));
    let discovery_url = section.optional("discovery_url", findings, text(key_url));
    let jwks_url = section.optional("jwks_url", findings, text(key_url));
    let refresh = section.read("jwks_refresh", findings, duration(SHORTEST..=LONGEST_REFRESH));
    let cooldown = section.read("jwks_cooldown", findings, duration(SHORTEST..=LONGEST_COOLDOWN));
    let max_stale = section.read("jwks_max_stale", findings, duration(SHORTEST..=LONGEST_STALE));
    let fetcher = fetcher(section, findings);
    let location = jwks_url?.map(KeyLocation::Set).or(discovery_url?.or(discovery?).map(KeyLocation::Discovery))?;
    let (refresh, max_stale) = (refresh?, max_stale?);
    if max_stale < refresh {
        let message = format!("`{0}.jwks_max_stale` is shorter than `{0}.jwks_refresh`", section.path);
        let hint = "the keys would be too old before they are fetched again";
        return findings.refuse(section.problem("jwks_max_stale", message).hint(hint));
    }
    Some(Some(RemoteKeys {
        issuer: issuer.map(Arc::from),
        location,
        algorithms: algorithms.to_vec(),
        refresh,
        cooldown: cooldown?,
        max_stale,
        fetcher: fetcher?,
    }))
}

/// Whether the file gives the key another value than its default; `config show` writes out all defaults, also of what is not used.
fn says_something(section: &Section<'_>, name: &str) -> bool {
    let default = match ISSUER.key(name).map(|key| key.content) {
        Some(Content::Default(_, text)) => text.trim_matches('"'),
        Some(
            Content::Required(_)
            | Content::Optional(_)
            | Content::Table(_)
            | Content::Named(_)
            | Content::List(_)
            | Content::Later,
        )
        | None => return section.given(name).is_some(),
    };
    section.given(name).is_some_and(|node| node.value.as_str() != Some(default))
}

/// `discovery = true`: the address follows from the issuer's name.
fn discovery(issuer: &str) -> impl FnOnce(&Node<'_>, &mut Findings) -> Option<Option<KeyUrl>> {
    move |node, findings| {
        if !boolean(node, findings)? {
            return Some(None);
        }
        let url = KeyUrl::discovery(issuer).map_err(|error| {
            let fault =
                Fault::new(format!("needs an `issuer` that is the address of its documents, and this one {error}"));
            fault.hint("name the document with `discovery_url`, or the keys with `jwks_url`")
        });
        findings.accept(node, url).map(Some)
    }
}

fn key_url(text: &str) -> Result<KeyUrl, Fault> {
    KeyUrl::parse(text).map_err(|error: KeyUrlError| Fault::new(error.to_string()))
}

/// What trusts the servers by `tls_ca`, or by the authorities that Mozilla lists.
fn fetcher(section: &Section<'_>, findings: &mut Findings) -> Option<Fetcher> {
    let authorities = section.optional("tls_ca", findings, |node, findings| {
        let pem = read_named_file(node, findings)?;
        let fetcher = Fetcher::new(Some(&pem)).map_err(|error| Fault::new(format!("names a file that {error}")));
        findings.accept(node, fetcher)
    });
    match authorities? {
        Some(fetcher) => Some(fetcher),
        None => match Fetcher::new(None) {
            Ok(fetcher) => Some(fetcher),
            Err(error) => findings.refuse(section.problem("", format!("`{}`: {error}", section.path))),
        },
    }
}
