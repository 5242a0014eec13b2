//! PEM text (RFC 7468): exactly one key, strictly delimited.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::KeyError;

/// The most key text that is read, in bytes. An RSA key of 8192 bits has 6400; a JWK set of some dozen keys fits too.
pub(super) const MAX_KEY_TEXT_BYTES: usize = 256 * 1024;

const LINE_LENGTH: usize = 64;

/// What a PEM section says it holds. The bytes are DER.
pub(super) enum Section {
    /// `PUBLIC KEY`: a `SubjectPublicKeyInfo`.
    Public(Vec<u8>),
    /// `RSA PUBLIC KEY`: PKCS#1.
    RsaPublic(Vec<u8>),
    /// `PRIVATE KEY`: PKCS#8.
    Private(Vec<u8>),
    /// `RSA PRIVATE KEY`: PKCS#1.
    RsaPrivate(Vec<u8>),
    /// `EC PRIVATE KEY`: SEC 1.
    EcPrivate(Vec<u8>),
}

/// The one key of a PEM text. Text around it is ignored, as RFC 7468 section 2 wants, and so is the `EC PARAMETERS`
/// section that openssl puts before a key.
pub(super) fn read(pem: &[u8]) -> Result<Section, KeyError> {
    if pem.len() > MAX_KEY_TEXT_BYTES {
        return Err(KeyError::TooLarge { bytes: pem.len(), limit: MAX_KEY_TEXT_BYTES });
    }
    let text = std::str::from_utf8(pem).map_err(|_| KeyError::NotPem)?;
    let mut lines = text.lines().map(str::trim);
    let mut found = None;
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let mut body = String::new();
        loop {
            let line = lines.next().ok_or(KeyError::NotPem)?;
            if let Some(end) = line.strip_prefix("-----END ") {
                if end.strip_suffix("-----") != Some(label) {
                    return Err(KeyError::NotPem);
                }
                break;
            }
            body.push_str(line);
        }
        if label == "EC PARAMETERS" {
            continue;
        }
        if found.is_some() {
            return Err(KeyError::SeveralSections);
        }
        found = Some(section(label, &body)?);
    }
    found.ok_or(KeyError::NotPem)
}

fn section(label: &str, body: &str) -> Result<Section, KeyError> {
    let kind = match label {
        "PUBLIC KEY" => Section::Public,
        "RSA PUBLIC KEY" => Section::RsaPublic,
        "PRIVATE KEY" => Section::Private,
        "RSA PRIVATE KEY" => Section::RsaPrivate,
        "EC PRIVATE KEY" => Section::EcPrivate,
        "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => return Err(KeyError::Certificate),
        other => return Err(KeyError::UnknownSection { label: other.chars().take(40).collect() }),
    };
    // The old form of encryption says so inside the section (RFC 1421 section 4.6.1.1).
    if body.starts_with("Proc-Type:") {
        return Err(KeyError::Encrypted);
    }
    Ok(kind(STANDARD.decode(body).map_err(|_| KeyError::PemBody)?))
}

/// PEM text of a DER key.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, remainder) = rest.split_at(rest.len().min(LINE_LENGTH));
        pem.push_str(line);
        pem.push('\n');
        rest = remainder;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}
