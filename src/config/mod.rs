//! The configuration file: read, checked, and turned into the settings of each part.
//!
//! [`load`] walks the file by the shape in `file.rs`, one function a section, and notes every problem with its place
//! instead of stopping at the first. Only this module knows TOML.

mod aliases;
mod comments;
mod cookie;
mod effective;
mod error;
mod file;
mod include;
mod key_source;
mod kind;
mod login;
mod origins;
mod reader;
mod reference;
mod revocation;
mod routes;
mod schema;
mod secret;
mod server;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod throttle;
mod tokens;
mod upstream_tokens;
mod upstreams;
mod value;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use crate::account::PasswordSettings;
use crate::account::throttle::ThrottleSettings;
use crate::gateway::CorsSettings;
use crate::issuer::LoginSettings;
use crate::keyset::{OwnKeys, Sealer};
use crate::log::LogSettings;
use crate::revocation::RevocationSettings;
use crate::route::Route;
use crate::server::{AdminSettings, ServerSettings};
use crate::session::SessionSettings;
use crate::store::StoreSettings;
use crate::token::{TokenSettings, TrustedIssuer};
use crate::upstream::{IdentityHeaderNames, UpstreamSettings};

pub use error::{Problem, Problems};
pub use tokens::{access_ttl, algorithm_name, rotation_delay};

use error::{MAX_SHOWN, printable};
use reader::{Findings, Section};
use source::Source;

/// The commented file that `tollgate config default` prints: every key, and every default.
pub const DEFAULT_FILE: &str = include_str!("../../config/tollgate.toml");

/// Everything the file says, checked and typed.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: ServerSettings,
    /// `[admin]`
    pub admin: AdminSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[store]`
    pub store: StoreSettings,
    /// `store.encryption_key`, `store.previous_encryption_keys`
    pub sealer: Sealer,
    /// `[tokens]`
    pub tokens: TokenSettings,
    /// `tokens.refresh_ttl`, `tokens.session_ttl`, `tokens.refresh_grace`
    pub sessions: SessionSettings,
    /// `tokens.key`, `tokens.previous_keys`
    pub own_keys: OwnKeys,
    /// `tokens.rotate_every`: how long a key of the store signs; `None`: until an operator rotates it.
    pub rotate_every: Option<Duration>,
    /// `[issuers.*]`
    pub issuers: Vec<TrustedIssuer>,
    /// `[login]`
    pub login: LoginSettings,
    /// `login.allowed_origins`, `login.exposed_headers`
    pub cors: CorsSettings,
    /// `[login] hash`
    pub passwords: PasswordSettings,
    /// `[revocation]`
    pub revocation: RevocationSettings,
    /// `[login.throttle]`; `None`: switched off.
    pub throttle: Option<ThrottleSettings>,
    /// `[identity.headers]`
    pub identity_headers: IdentityHeaderNames,
    /// `[upstreams.*]`
    pub upstreams: Vec<UpstreamSettings>,
    /// `[[routes]]`
    pub routes: Vec<Route>,
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What someone should look at.
    pub warnings: Vec<Problem>,
    /// The files it was read from: the file itself, then those that it includes.
    pub sources: Vec<PathBuf>,
    /// Where each of `config.routes` stands, in their order.
    pub route_places: Vec<RoutePlace>,
    /// Every setting in effect, defaults included, under the file's own names; secrets are replaced.
    pub effective: serde_json::Value,
}

/// Where a route stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePlace {
    /// The file, as messages call it.
    pub file: String,
    /// The line of its `[[routes]]`, from 1.
    pub line: usize,
}

/// Reads the file at `path` and those that it includes.
///
/// # Errors
/// Every problem of the files, each with its place.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    match Source::read(path, &path.to_string_lossy()) {
        Ok(source) => read(source),
        Err(problem) => {
            let hint = "name another file with `-c FILE`, or print a commented one with `tollgate config default`";
            Err(Problems::new(vec![problem.or_hint(hint)]))
        }
    }
}

/// Reads a configuration that is not on disk. `name` is how messages call it; relative paths in it start from the current
/// folder.
///
/// # Errors
/// Every problem of the text, each with its place.
pub fn from_text(name: &str, text: &str) -> Result<Loaded, Problems> {
    read(Source::from_text(name, Path::new(""), text))
}

/// What the file says of the administrative listener, and nothing else: a problem elsewhere, or a secret that is not there,
/// does not matter to who only wants to know where it is.
///
/// # Errors
/// The file cannot be read, or its `[admin]` cannot be used.
pub fn admin_listener(path: &Path) -> Result<AdminSettings, Problems> {
    let mut source = Source::read(path, &path.to_string_lossy()).map_err(|problem| Problems::new(vec![problem]))?;
    source.note_secrets();
    let mut findings = Findings::default();
    let document = parse(&source, &mut findings);
    let file = Section::file(&source, document.table.get_ref(), &file::FILE, &mut Findings::default());
    let admin = server::admin(&file, None, &mut findings);
    findings.syntax.append(&mut findings.problems);
    match admin {
        Some(admin) if findings.syntax.is_empty() => Ok(admin),
        Some(_) | None => {
            findings.syntax.sort_by_key(Problem::offset);
            let mut problems = Problems::new(findings.syntax);
            problems.iter_mut().for_each(|problem| problem.show(&source));
            Err(problems)
        }
    }
}

/// The JSON Schema of the file.
pub fn schema() -> String {
    format!("{:#}\n", schema::schema())
}

/// docs/configuration.md: every key with its kind, default and meaning.
pub fn reference() -> String {
    reference::page()
}

impl Loaded {
    /// The settings in effect as TOML.
    pub fn effective_toml(&self) -> String {
        toml::to_string_pretty(&self.effective).expect("every value came from TOML")
    }

    /// The settings in effect as JSON.
    pub fn effective_json(&self) -> String {
        format!("{:#}", self.effective)
    }
}

/// A parsed file.
struct Document<'a> {
    source: &'a Source,
    table: Spanned<DeTable<'a>>,
    /// Whether the table can be trusted to be what the text means.
    usable: bool,
}

fn read(mut main: Source) -> Result<Loaded, Problems> {
    main.note_secrets();
    let mut findings = Findings::default();
    let document = parse(&main, &mut findings);
    let file = Section::file(&main, document.table.get_ref(), &file::FILE, &mut findings);
    let mut included = if document.usable { include::included(&file, &mut findings) } else { Vec::new() };
    included.iter_mut().for_each(Source::note_secrets);
    let documents: Vec<Document<'_>> = included.iter().map(|source| parse(source, &mut findings)).collect();
    let usable = document.usable && documents.iter().all(|document| document.usable);

    let mut files = vec![file.clone()];
    for document in &documents {
        files.push(Section::file(document.source, document.table.get_ref(), &file::INCLUDED, &mut findings));
    }
    let mut syntax = std::mem::take(&mut findings.syntax);
    let config = build(&file, &files, &mut findings);
    if !usable {
        findings.problems.clear();
    }
    // A line that could not be parsed has been told what is wrong with it already.
    let line_of = |problem: &Problem| Some((problem.file()?.to_owned(), problem.line()?));
    let told: HashSet<_> = syntax.iter().filter_map(line_of).collect();
    findings.problems.retain(|problem| line_of(problem).is_none_or(|line| !told.contains(&line)));
    syntax.append(&mut findings.problems);

    let names: Vec<String> = files.iter().map(|file| printable(&file.source.name)).collect();
    let file_of = |problem: &Problem| names.iter().position(|name| problem.file() == Some(name));
    let order = |problem: &Problem| (file_of(problem), problem.offset());
    syntax.sort_by_cached_key(order);
    findings.warnings.sort_by_cached_key(order);
    findings.warnings.truncate(MAX_SHOWN);
    let mut problems = Problems::new(syntax);
    for problem in problems.iter_mut().chain(&mut findings.warnings) {
        if let Some(file) = file_of(problem) {
            problem.show(files[file].source);
        }
    }
    let tables = std::iter::once(&document).chain(&documents).map(|document| document.table.get_ref());
    match config {
        Some(config) if problems.count() == 0 => Ok(Loaded {
            effective: effective::effective(tables, &config),
            route_places: routes::places(&files),
            config,
            warnings: findings.warnings,
            sources: files.iter().map(|file| PathBuf::from(&file.source.name)).collect(),
        }),
        Some(_) | None => Err(problems),
    }
}

/// Parses one file and notes all of its syntax errors.
fn parse<'a>(source: &'a Source, findings: &mut Findings) -> Document<'a> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let mut usable = true;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // After a broken `[header]`, the keys below it look as if they were in the table above it.
        let line_start = source.line_start(span.start);
        usable &= !source.text[line_start..].trim_start().starts_with('[');
        findings.syntax.push(Problem::at(source, &span, error.message()));
    }
    Document { source, table, usable }
}

/// Reads every section, whatever is wrong with the others. `None`: something is, and was noted.
fn build(file: &Section<'_>, files: &[Section<'_>], findings: &mut Findings) -> Option<Config> {
    let server = server::server(file, findings);
    let admin = server::admin(file, server.as_ref(), findings);
    let log = server::log(file, findings);
    let store = store::store(file, findings);
    let sealer = store::sealer(file, findings);
    let tokens = tokens::tokens(file, findings);
    let sessions = tokens::sessions(file, findings);
    let own_keys = tokens::own_keys(file, findings);
    let rotate_every = tokens::rotate_every(file, own_keys.as_ref(), findings);
    let issuers = tokens::issuers(file, tokens.as_ref(), findings);
    let is_development = tokens.as_ref().zip(server.as_ref());
    let is_development = is_development.is_some_and(|(tokens, server)| cookie::is_development(&tokens.issuer, server));
    let login = login::login(file, is_development, findings);
    let cors = origins::cors(file, findings);
    let passwords = login::passwords(file, findings);
    let revocation = revocation::revocation(file, tokens.as_ref(), login.as_ref(), findings);
    let throttle = throttle::throttle(file, findings);
    let identity_headers = upstreams::identity_headers(file, findings);
    let own_issuer = tokens.as_ref().map(|tokens| tokens.issuer.as_str());
    let upstreams = upstreams::upstreams(files, own_issuer, findings);
    if let Some(own) = &own_keys {
        upstream_tokens::refuse_own_key(&upstreams, own, findings);
    }
    if let Some(listener) = admin.as_ref().and_then(|admin| admin.listen) {
        upstreams::refuse_admin_listener(&upstreams, listener, findings);
    }
    let names: Vec<&str> = upstreams.iter().map(|(name, _, _)| *name).collect();
    let routes = routes::routes(files, &names, findings);
    let aliases = aliases::aliases(file, login.as_ref(), routes.as_deref(), findings);
    for (index, (name, section, _)) in upstreams.iter().enumerate() {
        if routes.as_ref().is_some_and(|routes| routes.iter().all(|route| route.upstream != index)) {
            findings.warnings.push(section.problem("", format!("no route forwards to the upstream `{name}`")));
        }
    }
    Some(Config {
        server: server?,
        admin: admin?,
        log: log?,
        store: store?,
        sealer: sealer?,
        tokens: tokens?,
        sessions: sessions?,
        own_keys: own_keys?,
        rotate_every: rotate_every?,
        issuers: issuers.into_iter().collect::<Option<_>>()?,
        login: LoginSettings { aliases: aliases?, ..login? },
        cors: cors?,
        passwords: passwords?,
        revocation: revocation?,
        throttle: throttle?,
        identity_headers: identity_headers?,
        upstreams: upstreams.into_iter().map(|(_, _, settings)| settings).collect::<Option<_>>()?,
        routes: routes?,
    })
}
