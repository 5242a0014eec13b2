//! `[upstreams.*] token`.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use toml::de::DeValue;

use crate::keyset::{Algorithm, KeyError, OwnKeys, SigningKey};
use crate::token::translation::{
    ClaimTemplate, Template, TemplateError, Translation, TranslationSettings, placeholder_names,
};
use crate::upstream::{TokenForwarding, UpstreamSettings};

use super::reader::{Fault, Findings, Node, Section, names, similar};
use super::secret::reference;
use super::store::to_json;
use super::tokens::{algorithm, unusable};
use super::value::{choice, distinct, duration, text, word, word_or_nothing};

/// Shortest and longest life of a token for an upstream. Shorter ones would expire on their way.
const LIFETIME: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3600);

/// Keys that mean something with `mode = "mint"` only.
const OF_MINTING: [&str; 7] = ["secret", "key", "algorithm", "lifetime", "issuer", "audience", "claims"];

/// Claims that settings of their own decide.
const OF_SETTINGS: [(&str, &str); 2] = [("iss", "issuer"), ("aud", "audience")];

/// Names that people know from tokens, and ours for the same.
const KNOWN_AS: [(&str, &str); 6] = [
    ("sub", "subject"),
    ("iss", "issuer"),
    ("sid", "session"),
    ("azp", "client_id"),
    ("groups", "roles"),
    ("expires", "exp"),
];

#[derive(Clone, Copy)]
enum Mode {
    Strip,
    Pass,
    Mint,
}

/// `upstreams.<name>.token`. `own_issuer` is `tokens.issuer`.
pub(super) fn forwarding(
    upstream: &Section<'_>,
    own_issuer: Option<&str>,
    findings: &mut Findings,
) -> Option<TokenForwarding> {
    let section = upstream.table("token", findings)?;
    let modes = [("strip", Mode::Strip), ("pass", Mode::Pass), ("mint", Mode::Mint)];
    let forwarding = match section.read("mode", findings, text(choice(&modes)))? {
        Mode::Mint => return minting(&section, own_issuer, findings),
        Mode::Strip => TokenForwarding::Strip,
        Mode::Pass => TokenForwarding::Pass,
    };
    let idle: Vec<&str> = OF_MINTING.into_iter().filter(|key| section.given(key).is_some()).collect();
    for key in &idle {
        let message = format!("`{}.{key}` has no effect, because nothing is minted", section.path);
        findings.problems.push(section.problem(key, message).hint("add `mode = \"mint\"`, or remove it"));
    }
    idle.is_empty().then_some(forwarding)
}

fn minting(section: &Section<'_>, own_issuer: Option<&str>, findings: &mut Findings) -> Option<TokenForwarding> {
    let key = key(section, findings);
    let lifetime = section.read("lifetime", findings, duration(LIFETIME));
    let issuer = section.optional("issuer", findings, text(word_or_nothing));
    let audience = section.read("audience", findings, distinct(text(word)));
    let claims = section.optional("claims", findings, claims);
    let settings = TranslationSettings {
        key: key?,
        lifetime: lifetime?,
        issuer: issuer?.unwrap_or_else(|| own_issuer.map(str::to_owned)),
        audience: audience?,
        claims: claims?.unwrap_or_else(ClaimTemplate::standard),
    };
    Some(TokenForwarding::Mint(Arc::new(Translation::new(settings))))
}

/// The secret or the private key that signs for the upstream.
fn key(section: &Section<'_>, findings: &mut Findings) -> Option<SigningKey> {
    let chosen = section.optional("algorithm", findings, text(algorithm))?;
    let path = &section.path;
    match (section.given("secret"), section.given("key")) {
        (Some(_), Some(_)) => {
            let message = format!("`{path}` has both a `secret` and a `key`");
            findings
                .refuse(section.problem("key", message).hint("HS256, HS384 and HS512 take a secret, all others a key"))
        }
        (None, None) => {
            let message = format!("`{path}` has nothing to sign with");
            let hint = "add `secret = { env = \"NAME\" }`, or `key = { file = \"private.pem\" }`";
            findings.refuse(section.problem("mode", message).hint(hint))
        }
        (Some(node), None) => {
            let algorithm = chosen.unwrap_or(Algorithm::HS256);
            if !algorithm.is_symmetric() {
                let message =
                    format!("`{path}.algorithm` is {algorithm}, which takes a `key`, and there is a `secret`");
                return findings.refuse(section.problem("algorithm", message));
            }
            let secret = reference(&node, findings)?;
            let key = SigningKey::from_weak_secret(secret.expose_secret().as_bytes(), algorithm);
            let (key, weakness) = findings.accept(&node, key.map_err(|error| unusable(&error)))?;
            if let Some(weakness) = weakness {
                warn_of(&node, &weakness, "whoever guesses it can be anybody at this upstream", findings);
            }
            Some(key)
        }
        (None, Some(node)) => {
            let algorithm = chosen.unwrap_or(Algorithm::ES256);
            if algorithm.is_symmetric() {
                let message =
                    format!("`{path}.algorithm` is {algorithm}, which takes a `secret`, and there is a `key`");
                return findings.refuse(section.problem("algorithm", message));
            }
            let pem = reference(&node, findings)?;
            let key = SigningKey::from_pem(pem.expose_secret().as_bytes(), algorithm);
            findings.accept(&node, key.map_err(|error| unusable(&error)))
        }
    }
}

/// A secret that can be guessed, but that another service has.
pub(super) fn warn_of(node: &Node<'_>, weakness: &KeyError, consequence: &str, findings: &mut Findings) {
    let problem = node.problem(format!("`{}` is weak: {weakness}", node.path));
    findings.warnings.push(problem.hint(format!("{consequence}; change it here and there")));
}

/// A secret of ours in the hands of an upstream would let it make our tokens.
pub(super) fn refuse_own_key(
    upstreams: &[(&str, Section<'_>, Option<UpstreamSettings>)],
    own: &OwnKeys,
    findings: &mut Findings,
) {
    let OwnKeys::Configured { signing, previous } = own else { return };
    let ours: Vec<String> = std::iter::once(signing.verification_key())
        .chain(previous.iter().cloned())
        .map(|key| key.thumbprint().to_owned())
        .collect();
    for (name, section, settings) in upstreams {
        let Some(TokenForwarding::Mint(translation)) = settings.as_ref().map(|settings| &settings.token) else {
            continue;
        };
        if ours.iter().any(|own| own == translation.key().verification_key().thumbprint()) {
            let message = format!("`upstreams.{name}.token` signs with a key of `[tokens]`");
            let hint = "give the upstream a key of its own: whoever holds the gateway's can make its tokens";
            findings.problems.push(section.problem("token", message).hint(hint));
        }
    }
}

/// `claims`: all of the token's claims but those that settings of their own decide.
fn claims(node: &Node<'_>, findings: &mut Findings) -> Option<Vec<(String, ClaimTemplate)>> {
    let entries = findings.accept(node, node.entries())?;
    let mut good = true;
    let mut claims = Vec::new();
    for (name, node) in &entries {
        if let Some((_, setting)) = OF_SETTINGS.into_iter().find(|(claim, _)| claim == name) {
            let fault = Fault::new("is a claim with a setting of its own");
            findings.accept::<()>(node, Err(fault.hint(format!("write `{setting} = …` beside `claims`"))));
            good = false;
            continue;
        }
        match claim(node, findings) {
            Some(claim) => claims.push(((*name).to_owned(), claim)),
            None => good = false,
        }
    }
    if good && !claims.iter().any(|(_, claim)| claim.is_expiry()) {
        let fault = Fault::new("has no claim that says when the token expires");
        return findings.accept(node, Err(fault.hint("add `exp = \"{exp}\"`, or the name that the upstream reads")));
    }
    good.then_some(claims)
}

fn claim(node: &Node<'_>, findings: &mut Findings) -> Option<ClaimTemplate> {
    match node.value {
        DeValue::String(text) => {
            let template = Template::parse(text).map_err(|error| misread(&error));
            findings.accept(node, template).map(ClaimTemplate::Text)
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
            findings.accept(node, to_json(node.value)).map(ClaimTemplate::Fixed)
        }
        DeValue::Array(_) => {
            let nodes = findings.accept(node, node.elements())?;
            let items: Vec<_> = nodes.iter().map(|node| claim(node, findings)).collect();
            items.into_iter().collect::<Option<_>>().map(ClaimTemplate::List)
        }
        DeValue::Table(_) => {
            let entries = findings.accept(node, node.entries())?;
            let members: Vec<_> =
                entries.iter().map(|(name, node)| Some(((*name).to_owned(), claim(node, findings)?))).collect();
            members.into_iter().collect::<Option<_>>().map(ClaimTemplate::Object)
        }
        DeValue::Datetime(_) => {
            findings.accept(node, Err(Fault::new("is a date").hint("write it as a text or a number")))
        }
    }
}

fn misread(error: &TemplateError) -> Fault {
    let fault = Fault::new(error.to_string());
    match error {
        TemplateError::Unclosed => fault.hint("write `{{` for a brace that is meant as it is"),
        TemplateError::Unopened => fault.hint("write `}}` for a brace that is meant as it is"),
        TemplateError::ListInText { name: "scopes" } => {
            fault.hint("`{scope}` is the text, and `{scopes}` alone the list")
        }
        TemplateError::ListInText { .. } => fault.hint("write it alone, as the whole claim"),
        TemplateError::Unknown { name } => {
            let name = name.trim_end_matches('?');
            let meant = KNOWN_AS.into_iter().find(|(known, _)| *known == name).map(|(_, ours)| ours);
            match meant.or_else(|| similar(name, placeholder_names().filter(|known| !known.ends_with('.')))) {
                Some(meant) => fault.hint(format!("did you mean `{{{meant}}}`?")),
                None => fault.hint(format!(
                    "the placeholders are {}; `claims.` with the path of a claim of the caller's token",
                    names(placeholder_names())
                )),
            }
        }
    }
}
