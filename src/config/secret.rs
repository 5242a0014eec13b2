//! Secrets that the file names but does not hold: `{ env = "NAME" }`, `{ file = "path" }`.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::keyset::EncryptionKey;

use super::file::{PUBLIC_KEY, SECRET, Shape};
use super::reader::{Fault, Findings, Node, Section};
use super::source::read_limited;
use super::value::{text, word};

/// Longest secret or key file: an RSA key of 8192 bits takes 7 KB, a JWK set of 50 keys 30 KB.
const MAX_SECRET_BYTES: u64 = 256 * 1024;

/// A key or secret of tokens by reference: `{ env = … }` or `{ file = … }`.
pub(super) fn reference(node: &Node<'_>, findings: &mut Findings) -> Option<SecretString> {
    follow(node, "put the text of a private key there, or for HS* what `openssl rand -base64 64` prints", findings)
}

/// A key that encrypts others, by reference.
pub(super) fn encryption_key(node: &Node<'_>, findings: &mut Findings) -> Option<EncryptionKey> {
    let text = follow(node, "put there what `tollgate key generate --encryption` prints", findings)?;
    let key = EncryptionKey::from_text(text.expose_secret());
    findings.accept(node, key.map_err(|error| Fault::new(error.to_string())))
}

fn follow(node: &Node<'_>, if_empty: &str, findings: &mut Findings) -> Option<SecretString> {
    if node.value.is_str() {
        let fault = Fault::new("must not stand in the file itself");
        let hint = "write { env = \"NAME\" } or { file = \"path\" }";
        return findings.accept(node, Err(fault.hint(hint)));
    }
    let (name, value) = one_of(node, &SECRET, findings)?;
    let secret = if name == "env" { from_environment(&value, findings) } else { from_file(&value, findings) }?;
    if secret.is_empty() {
        return findings.accept(&value, Err(Fault::new("names an empty secret").hint(if_empty)));
    }
    Some(SecretString::from(secret))
}

/// A text that is secret in part: inline, `{ env = … }` or `{ file = … }`.
pub(super) fn inline_or_reference(node: &Node<'_>, findings: &mut Findings) -> Option<SecretString> {
    match node.value.as_str() {
        Some(inline) => Some(SecretString::from(inline.to_owned())),
        None => follow(node, "put the text itself there", findings),
    }
}

/// A public key file: `{ file = … }` for PEM, `{ jwk_file = … }` for a JWK or a set of them.
pub(super) enum PublicKeyFile {
    Pem(Vec<u8>),
    Jwk(Vec<u8>),
}

/// Reads the file of one entry of `issuers.<name>.keys`.
pub(super) fn public_key_file(node: &Node<'_>, findings: &mut Findings) -> Option<PublicKeyFile> {
    let (name, value) = one_of(node, &PUBLIC_KEY, findings)?;
    let bytes = read_named_file(&value, findings)?;
    Some(if name == "file" { PublicKeyFile::Pem(bytes) } else { PublicKeyFile::Jwk(bytes) })
}

/// The one key of a table that has to have exactly one of the shape's.
fn one_of<'a>(node: &Node<'a>, shape: &'static Shape, findings: &mut Findings) -> Option<(&'static str, Node<'a>)> {
    let before = findings.problems.len();
    let section = Section::open(node, shape, findings)?;
    let mut given: Vec<(&'static str, Node<'a>)> =
        shape.names().filter_map(|name| Some((name, section.given(name)?))).collect();
    if let (Some(one), true) = (given.pop(), given.is_empty()) {
        return Some(one);
    }
    if findings.problems.len() > before {
        return None;
    }
    let forms: Vec<String> = shape.names().map(|name| format!("{{ {name} = \"…\" }}")).collect();
    findings.accept(node, Err(Fault::new(format!("must be {}", forms.join(" or ")))))
}

fn from_environment(node: &Node<'_>, findings: &mut Findings) -> Option<String> {
    let name = text(word)(node, findings)?;
    let value = match std::env::var(&name) {
        Ok(value) => Ok(without_last_newline(value)),
        Err(std::env::VarError::NotPresent) => {
            Err(Fault::new(format!("names the environment variable `{name}`, which is not set")))
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Fault::new(format!("names the environment variable `{name}`, which is not UTF-8 text")))
        }
    };
    findings.accept(node, value)
}

fn from_file(node: &Node<'_>, findings: &mut Findings) -> Option<String> {
    let bytes = read_named_file(node, findings)?;
    if !bytes.starts_with(PUBLIC_PEM) {
        warn_if_open_to_all(node, findings);
    }
    let text = String::from_utf8(bytes).map_err(|_| Fault::new("names a file that is not UTF-8 text"));
    findings.accept(node, text).map(without_last_newline)
}

/// Where a public key serves as well as a private one, it is no secret.
const PUBLIC_PEM: &[u8] = b"-----BEGIN PUBLIC KEY-----";

pub(super) fn read_named_file(node: &Node<'_>, findings: &mut Findings) -> Option<Vec<u8>> {
    let name = text(word)(node, findings)?;
    let path = node.source.folder.join(&name);
    let bytes = read_limited(&path, MAX_SECRET_BYTES).map_err(|reason| {
        let fault = Fault::new(format!("names the file `{name}`, which cannot be read: {reason}"));
        if Path::new(&name).is_relative() {
            fault.hint("a relative path starts from the folder of the configuration file")
        } else {
            fault
        }
    });
    findings.accept(node, bytes)
}

/// A secret that every user of the machine can read is worth a warning, not a refusal: containers mount them so.
fn warn_if_open_to_all(node: &Node<'_>, findings: &mut Findings) {
    use std::os::unix::fs::PermissionsExt;
    let Some(name) = node.value.as_str() else { return };
    let readable_by_others = |metadata: std::fs::Metadata| metadata.permissions().mode() & 0o004 != 0;
    if std::fs::metadata(node.source.folder.join(name)).is_ok_and(readable_by_others) {
        let message = format!("every user of this machine can read the secret file `{name}`");
        findings.warnings.push(node.problem(message).hint("take the right away with `chmod o-r`"));
    }
}

/// Editors and `echo` end a file with a newline, which is no part of the secret.
fn without_last_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
