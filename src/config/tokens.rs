//! `[tokens]` and `[issuers.*]`.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::keyset::{Algorithm, KeyError, OwnKeys, SigningKey, VerificationKey};
use crate::session::SessionSettings;
use crate::token::{ClaimNames, TokenSettings, TrustedIssuer, TrustedIssuerSettings};

use super::key_source::{self, key_source};
use super::reader::{Fault, Findings, Node, Section};
use super::secret::{PublicKeyFile, public_key_file, reference};
use super::upstream_tokens;
use super::value::{LONGEST, boolean, distinct, duration, integer, list, parse_duration, set, text, within, word};

/// Shortest life of an access token: a shorter one expires in transit.
const SHORTEST_ACCESS_TTL: Duration = Duration::from_secs(30);

/// Longest life of an access token, and with it the longest time that a disabled person keeps access.
const LONGEST_ACCESS_TTL: Duration = Duration::from_secs(24 * 3600);

/// Shortest time between two rotations: several times as long as a new key is published before it signs.
const SHORTEST_ROTATION: Duration = Duration::from_secs(3600);

/// How soon all gateways know a new key; `app::keys` has the reason.
const SHORTEST_DELAY: Duration = Duration::from_secs(15);

/// Longer than any verifier keeps a key set.
const LONGEST_DELAY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Shortest life of a session, and of a refresh token.
const SHORTEST_SESSION: Duration = Duration::from_secs(60);

/// Longest time between two refreshes.
const LONGEST_REFRESH_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Longest life of a session.
const LONGEST_SESSION_TTL: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Longest time for which a refresh token that was replaced gives its successor again: as long, a thief may use it unnoticed.
const LONGEST_GRACE: Duration = Duration::from_secs(300);

/// Most clock skew that is forgiven.
const MOST_LEEWAY: Duration = Duration::from_secs(60);

/// A life of a token, as `tokens.access_ttl` takes it.
///
/// # Errors
/// What is wrong with it.
pub fn access_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).and_then(|ttl| within(ttl, &(SHORTEST_ACCESS_TTL..=LONGEST_ACCESS_TTL)));
    ttl.map_err(|fault| fault.to_string())
}

/// How long a new key is published before it signs, 15 seconds to 30 days: no gateway knows of it earlier.
///
/// # Errors
/// What is wrong with it.
pub fn rotation_delay(text: &str) -> Result<Duration, String> {
    let delay = parse_duration(text).and_then(|delay| within(delay, &(SHORTEST_DELAY..=LONGEST_DELAY)));
    delay.map_err(|fault| fault.to_string())
}

/// The name of an algorithm, as `tokens.algorithm` takes it.
///
/// # Errors
/// What is wrong with it.
pub fn algorithm_name(text: &str) -> Result<Algorithm, String> {
    algorithm(text).map_err(|fault| fault.to_string())
}

pub(super) fn tokens(file: &Section<'_>, findings: &mut Findings) -> Option<TokenSettings> {
    let section = file.table("tokens", findings)?;
    let issuer = section.read("issuer", findings, text(own_issuer));
    let audience = section.read("audience", findings, distinct(text(word)));
    let algorithm = section.read("algorithm", findings, text(algorithm));
    let access_ttl = section.read("access_ttl", findings, duration(SHORTEST_ACCESS_TTL..=LONGEST_ACCESS_TTL));
    let leeway = section.read("leeway", findings, duration(Duration::ZERO..=MOST_LEEWAY));
    let max_token_bytes = section.read("max_token_bytes", findings, integer(1024..=1024 * 1024));
    let cache_bytes = section.read("cache_bytes", findings, integer(0..=1 << 40));
    Some(TokenSettings {
        issuer: issuer?,
        audience: audience?,
        algorithm: algorithm?,
        access_ttl: access_ttl?,
        leeway: leeway?,
        max_token_bytes: max_token_bytes?,
        cache_bytes: cache_bytes?,
    })
}

/// The lives of sessions and of their refresh tokens.
pub(super) fn sessions(file: &Section<'_>, findings: &mut Findings) -> Option<SessionSettings> {
    // What is wrong with the table itself, or with the other keys, was noted with them.
    let section = file.table("tokens", &mut Findings::default())?;
    let quiet = &mut Findings::default();
    let refresh_ttl = section.read("refresh_ttl", findings, duration(SHORTEST_SESSION..=LONGEST_REFRESH_TTL));
    let session_ttl = section.read("session_ttl", findings, duration(SHORTEST_SESSION..=LONGEST_SESSION_TTL));
    let refresh_grace = section.read("refresh_grace", findings, duration(Duration::ZERO..=LONGEST_GRACE));
    let access_ttl = section.read("access_ttl", quiet, duration(SHORTEST_ACCESS_TTL..=LONGEST_ACCESS_TTL))?;
    let leeway = section.read("leeway", quiet, duration(Duration::ZERO..=MOST_LEEWAY))?;
    let (refresh_ttl, session_ttl) = (refresh_ttl?, session_ttl?);
    if section.given("refresh_ttl").is_some() && refresh_ttl < access_ttl {
        let message = "`tokens.refresh_ttl` is shorter than `tokens.access_ttl`, so that a refresh token is over before it is needed";
        return findings.refuse(section.problem("refresh_ttl", message).hint("make it longer than `access_ttl`"));
    }
    if section.given("refresh_ttl").is_some() && section.given("session_ttl").is_some() && session_ttl < refresh_ttl {
        let message = "`tokens.session_ttl` is shorter than `tokens.refresh_ttl`, which then means nothing";
        return findings
            .refuse(section.problem("session_ttl", message).hint("make it as long as `refresh_ttl` or longer"));
    }
    Some(SessionSettings { refresh_ttl, session_ttl, refresh_grace: refresh_grace?, access_life: access_ttl + leeway })
}

/// `tokens.key` and `tokens.previous_keys`.
pub(super) fn own_keys(file: &Section<'_>, findings: &mut Findings) -> Option<OwnKeys> {
    let section = file.table("tokens", &mut Findings::default())?;
    // A wrong algorithm was noted with the other settings; without one, no key can be judged.
    let algorithm = section.read("algorithm", &mut Findings::default(), text(algorithm))?;
    let signing = section.optional("key", findings, |node, findings| {
        let secret = reference(node, findings)?;
        findings.accept(node, signing_key(&secret, algorithm).map_err(|error| unusable(&error)))
    });
    let previous = section.read(
        "previous_keys",
        findings,
        list(|node: &Node<'_>, findings: &mut Findings| {
            let secret = reference(node, findings)?;
            findings.accept(node, previous_keys(&secret, algorithm).map_err(|error| unusable(&error)))
        }),
    );
    let previous: Vec<VerificationKey> = previous?.into_iter().flatten().collect();
    match signing? {
        Some(signing) => Some(OwnKeys::Configured { signing, previous }),
        None if previous.is_empty() => Some(OwnKeys::Stored),
        None => {
            let message =
                "`tokens.previous_keys` needs `tokens.key`: the store keeps the old keys of those that it generates";
            findings.refuse(section.problem("previous_keys", message))
        }
    }
}

/// `tokens.rotate_every`.
pub(super) fn rotate_every(
    file: &Section<'_>,
    own_keys: Option<&OwnKeys>,
    findings: &mut Findings,
) -> Option<Option<Duration>> {
    let section = file.table("tokens", &mut Findings::default())?;
    let every = section.read("rotate_every", findings, |node: &Node<'_>, findings: &mut Findings| {
        if node.value.as_str() == Some("none") {
            return Some(None);
        }
        duration(SHORTEST_ROTATION..=LONGEST)(node, findings).map(Some)
    })?;
    if every.is_some() && matches!(own_keys, Some(OwnKeys::Configured { .. })) {
        let message = "`tokens.rotate_every` rotates keys in the store, and `tokens.key` names the key that signs";
        let hint = "remove `tokens.key`, or change the keys in the file by hand";
        return findings.refuse(section.problem("rotate_every", message).hint(hint));
    }
    Some(every)
}

pub(super) fn issuers(
    file: &Section<'_>,
    own: Option<&TokenSettings>,
    findings: &mut Findings,
) -> Vec<Option<TrustedIssuer>> {
    let mut known: Vec<(String, String)> = Vec::new();
    known.extend(own.map(|own| (own.issuer.clone(), "tokens".to_owned())));
    let mut issuers = Vec::new();
    for (name, section) in file.named("issuers", findings) {
        let issuer = trusted_issuer(name, &section, findings);
        if let Some(issuer) = &issuer {
            // No `iss` is one more name that only one issuer can have; no name is empty.
            let identifier = issuer.settings.issuer.clone().unwrap_or_default();
            match known.iter().find(|(known, _)| *known == identifier) {
                Some((_, owner)) if identifier.is_empty() => {
                    let message = format!("neither `{}` nor `{owner}` has an `issuer`", section.path);
                    let hint = "a token without `iss` can be of one issuer only";
                    findings.problems.push(section.problem("", message).hint(hint));
                }
                Some((_, owner)) => {
                    let message = format!("`{}.issuer` is the same as `{owner}.issuer`", section.path);
                    let hint = "a token names its issuer only, so each issuer needs a name of its own";
                    findings.problems.push(section.problem("issuer", message).hint(hint));
                }
                None => known.push((identifier, section.path.clone())),
            }
        }
        issuers.push(issuer);
    }
    issuers
}

fn trusted_issuer(name: &str, section: &Section<'_>, findings: &mut Findings) -> Option<TrustedIssuer> {
    let issuer = section.optional("issuer", findings, text(word));
    let audiences = section.read("audiences", findings, distinct(text(word)));
    let algorithms = section.read("algorithms", findings, set(text(algorithm)));
    let claims = claims(section, findings);
    let types = section.read("types", findings, set(text(token_type)));
    let pairs = |algorithms: &[Algorithm]| -> Vec<Algorithm> {
        algorithms.iter().copied().filter(|algorithm| !algorithm.is_symmetric()).collect()
    };
    let remote = algorithms
        .as_ref()
        .zip(issuer.as_ref())
        .and_then(|(algorithms, issuer)| key_source(section, issuer.as_deref(), &pairs(algorithms), findings));
    let keys = algorithms.and_then(|algorithms| issuer_keys(section, &algorithms, findings));
    Some(TrustedIssuer {
        remote: remote?,
        settings: TrustedIssuerSettings {
            name: Arc::from(name),
            issuer: issuer?,
            audiences: audiences?,
            claims: claims?,
            types: types?,
        },
        keys: keys?,
    })
}

fn claims(issuer: &Section<'_>, findings: &mut Findings) -> Option<ClaimNames> {
    let section = issuer.table("claims", findings)?;
    let subject = section.read("subject", findings, text(claim_path));
    let name = section.read("name", findings, text(claim_path));
    let email = section.read("email", findings, text(claim_path));
    let scopes = section.read("scopes", findings, text(claim_path));
    let roles = section.read("roles", findings, text(claim_path));
    let expires = section.read("expires", findings, text(claim_path));
    Some(ClaimNames {
        subject: subject?,
        name: name?,
        email: email?,
        scopes: scopes?,
        roles: roles?,
        expires: expires?,
    })
}

const ADD_KEYS: &str = "add `jwks_url = \"https://…\"` or `keys = [{ file = \"public.pem\" }]`";

/// The keys of an issuer: those of its files, and its secret once for each algorithm that takes one.
fn issuer_keys(
    section: &Section<'_>,
    algorithms: &[Algorithm],
    findings: &mut Findings,
) -> Option<Vec<VerificationKey>> {
    let of_pairs: Vec<Algorithm> = algorithms.iter().copied().filter(|algorithm| !algorithm.is_symmetric()).collect();
    let of_secrets: Vec<Algorithm> = algorithms.iter().copied().filter(|algorithm| algorithm.is_symmetric()).collect();
    // An empty list is what `config show` prints of an issuer that has a secret.
    let files = section.given("keys").filter(|keys| !keys.is_empty());
    let secret = section.given("secret");
    let is_fetched = !key_source::given(section).is_empty();
    if files.is_none() && secret.is_none() && !is_fetched {
        let hint = if of_pairs.is_empty() { "add `secret = { env = \"NAME\" }`" } else { ADD_KEYS };
        let message = format!("`{}` has no key to verify its tokens with", section.path);
        return findings.refuse(section.problem("algorithms", message).hint(hint));
    }
    let is_allowed_weak = section.given("allow_weak_secret").is_some_and(|node| node.value.as_bool() == Some(true));
    if secret.is_none() && is_allowed_weak {
        let message = format!("`{0}.allow_weak_secret` has no effect, because `{0}` has no `secret`", section.path);
        return findings.refuse(section.problem("allow_weak_secret", message));
    }
    if secret.is_some() && of_secrets.is_empty() {
        let message = format!("`{0}.secret` is of no use to the algorithms in `{0}.algorithms`", section.path);
        return findings.refuse(section.problem("secret", message).hint("HS256, HS384 and HS512 verify with a secret"));
    }
    if files.is_some() && of_pairs.is_empty() {
        let message = format!("`{0}.keys` are of no use to the algorithms in `{0}.algorithms`", section.path);
        return findings
            .refuse(section.problem("keys", message).hint("name the algorithms of the keys, such as \"RS256\""));
    }
    // An algorithm without a key would be ignored in silence, and its tokens refused.
    if secret.is_none()
        && let Some(algorithm) = of_secrets.first()
    {
        let message =
            format!("`{0}.algorithms` names {algorithm}, and `{0}` has no `secret` to verify it with", section.path);
        return findings
            .refuse(section.problem("algorithms", message).hint("add `secret = { env = \"NAME\" }`, or remove it"));
    }
    if files.is_none()
        && !is_fetched
        && let Some(algorithm) = of_pairs.first()
    {
        let message =
            format!("`{0}.algorithms` names {algorithm}, and `{0}` has no `keys` to verify it with", section.path);
        return findings.refuse(section.problem("algorithms", message).hint(format!("{ADD_KEYS}, or remove it")));
    }
    let keys = section.read(
        "keys",
        findings,
        list(|node: &Node<'_>, findings: &mut Findings| {
            let keys = match public_key_file(node, findings)? {
                PublicKeyFile::Pem(pem) => VerificationKey::from_pem(&pem, &of_pairs),
                PublicKeyFile::Jwk(json) => VerificationKey::from_jwks(&json, &of_pairs),
            };
            findings.accept(node, keys.map_err(|error| unusable(&error)))
        }),
    );
    let allows_weak = section.read("allow_weak_secret", findings, boolean)?;
    let secret = section.optional("secret", findings, |node, findings| {
        let secret = reference(node, findings)?;
        let bytes = secret.expose_secret().as_bytes();
        if allows_weak {
            let keys = of_secrets.iter().map(|algorithm| VerificationKey::from_weak_secret(bytes, *algorithm));
            let keys: Result<Vec<_>, _> = keys.collect();
            let keys = findings.accept(node, keys.map_err(|error| unusable(&error)))?;
            if let Some((_, Some(weakness))) = keys.first() {
                let consequence = "whoever guesses it can be anybody at this gateway";
                upstream_tokens::warn_of(node, weakness, consequence, findings);
            }
            return Some(keys.into_iter().map(|(key, _)| key).collect());
        }
        let keys = of_secrets.iter().map(|algorithm| VerificationKey::from_secret(bytes, *algorithm));
        findings.accept(node, keys.collect::<Result<Vec<_>, _>>().map_err(|error| unusable(&error)))
    });
    let mut keys: Vec<VerificationKey> = keys?.into_iter().flatten().collect();
    keys.extend(secret?.into_iter().flatten());
    if keys.is_empty() && !is_fetched {
        let message = format!("`{}` has no key to verify its tokens with", section.path);
        return findings.refuse(section.problem("keys", message));
    }
    Some(keys)
}

fn signing_key(secret: &SecretString, algorithm: Algorithm) -> Result<SigningKey, KeyError> {
    let bytes = secret.expose_secret().as_bytes();
    if algorithm.is_symmetric() {
        SigningKey::from_secret(bytes, algorithm)
    } else {
        SigningKey::from_pem(bytes, algorithm)
    }
}

/// The keys that signed before may be of other algorithms, because the algorithm may have changed with the key.
fn previous_keys(secret: &SecretString, algorithm: Algorithm) -> Result<Vec<VerificationKey>, KeyError> {
    let bytes = secret.expose_secret().as_bytes();
    if !secret.expose_secret().contains("-----BEGIN") && algorithm.is_symmetric() {
        return VerificationKey::from_secret(bytes, algorithm).map(|key| vec![key]);
    }
    let pairs: Vec<Algorithm> = Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()).collect();
    VerificationKey::from_pem(bytes, &pairs)
}

/// A key's own message says what to do.
pub(super) fn unusable(error: &KeyError) -> Fault {
    Fault::new(format!("cannot be used: {error}"))
}

pub(super) fn algorithm(text: &str) -> Result<Algorithm, Fault> {
    Algorithm::from_name(text).ok_or_else(|| {
        let fault = Fault::new("is no algorithm that can be used");
        match Algorithm::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(text)) {
            Some(meant) => fault.hint(format!("write \"{meant}\": case counts")),
            None => {
                let names = Algorithm::ALL.map(Algorithm::name).join(", ");
                fault.hint(format!("the algorithms are {names}"))
            }
        }
    })
}

/// Our own issuer is also the address of the discovery documents (RFC 8414 section 2: no query, no fragment).
fn own_issuer(text: &str) -> Result<String, Fault> {
    let issuer = word(text)?;
    let address = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://"));
    let is_url = address.is_some_and(|address| !address.is_empty() && !address.starts_with('/'))
        && issuer.parse::<http::Uri>().is_ok()
        && !issuer.contains(['?', '#', '@', ' ']);
    if !is_url {
        return Err(Fault::new(
            "is not an address that starts with `https://` or `http://`, without query or fragment",
        ));
    }
    if issuer.ends_with('/') {
        return Err(Fault::new("must not end with `/`").hint(format!("write \"{}\"", issuer.trim_end_matches('/'))));
    }
    Ok(issuer)
}

/// A claim's name; a dot reaches into an object. One whole name may hold dots and slashes too, as a URL does.
fn claim_path(text: &str) -> Result<String, Fault> {
    word(text)
}

/// A value of `typ`, compared without case and without `application/` (RFC 7515 section 4.1.9). Empty: no `typ`.
fn token_type(text: &str) -> Result<String, Fault> {
    if text.contains(|character: char| !character.is_ascii_graphic()) {
        return Err(Fault::new("is no media type"));
    }
    let lower = text.to_ascii_lowercase();
    Ok(lower.strip_prefix("application/").unwrap_or(&lower).to_owned())
}
