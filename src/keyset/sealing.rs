//! Keys at rest: private keys are sealed with AES-256-GCM before they go into the store, each bound to its name and algorithm.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretString};

/// Bytes of an encryption key.
const KEY_BYTES: usize = 32;

/// How a sealed text begins: what it is, and the version of its form, which is
/// `tollgate-sealed:1:<name of the encryption key>:<base64 of nonce, ciphertext and tag>`.
const PREFIX: &str = "tollgate-sealed:1:";

/// What all versions begin with.
const ANY_VERSION: &str = "tollgate-sealed:";

/// A key that encrypts other keys: 32 random bytes. `Debug` shows its name only.
pub struct EncryptionKey {
    /// The first 8 hexadecimal digits of a hash: tells which key it was, and nothing of the key.
    name: String,
    bytes: SecretBox<[u8; KEY_BYTES]>,
}

/// What seals keys for the store, and opens those that are sealed there. Without an encryption key it does neither.
#[derive(Debug, Default, Clone)]
pub struct Sealer {
    current: Option<EncryptionKey>,
    previous: Vec<EncryptionKey>,
}

/// How a key stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// In the clear.
    None,
    /// Sealed with another encryption key than the current one.
    Former,
    /// Sealed with the current encryption key.
    Current,
}

/// Why a sealed key was not opened, or one not sealed. None says anything of a key but names.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The text of an encryption key is no encryption key.
    #[error("is not 32 bytes in base64; `tollgate key generate --encryption` makes one")]
    NotAKey,
    /// There is no encryption key.
    #[error(
        "the key `{kid}` in the store is encrypted with the encryption key `{sealed_with}`, and `store.encryption_key` is not set; \
         set it to that key"
    )]
    NoKey {
        /// Of the sealed key.
        kid: String,
        /// Name of the encryption key.
        sealed_with: String,
    },
    /// There are only others.
    #[error(
        "the key `{kid}` in the store is encrypted with the encryption key `{sealed_with}`, and `store.encryption_key` is \
         `{current}`; set it to the former key, or add that to `store.previous_encryption_keys`"
    )]
    OtherKey {
        /// Of the sealed key.
        kid: String,
        /// Name of the encryption key that sealed it.
        sealed_with: String,
        /// Name of the encryption key that there is.
        current: String,
    },
    /// The encryption key is the right one, and what is sealed was changed, or belongs to another key.
    #[error(
        "the key `{kid}` in the store is encrypted, and was damaged or changed; restore it from a copy of the store"
    )]
    Damaged {
        /// Of the sealed key.
        kid: String,
    },
    /// A newer Tollgate sealed it in another way.
    #[error(
        "the key `{kid}` in the store is encrypted in a way that this Tollgate does not know; use the newer Tollgate"
    )]
    NewerForm {
        /// Of the sealed key.
        kid: String,
    },
    /// The system gave no random bytes, or the cipher failed.
    #[error("the key `{kid}` could not be encrypted")]
    Failed {
        /// Of the key.
        kid: String,
    },
}

impl EncryptionKey {
    /// A key as [`Self::generate`] writes it: 32 bytes in base64 (RFC 4648 section 4, with padding). Nothing else is taken, so that
    /// nobody uses a password, which could be guessed without end by whoever has a copy of the store.
    ///
    /// # Errors
    /// [`SealError::NotAKey`]
    pub fn from_text(text: &str) -> Result<Self, SealError> {
        let decoded = Zeroizing::new(STANDARD.decode(text).map_err(|_| SealError::NotAKey)?);
        let mut bytes = Box::new([0; KEY_BYTES]);
        if decoded.len() != KEY_BYTES || decoded.iter().all(|byte| Some(byte) == decoded.first()) {
            return Err(SealError::NotAKey);
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self { name: name(&decoded), bytes: SecretBox::new(bytes) })
    }

    /// The text of a new key.
    ///
    /// # Errors
    /// [`SealError::Failed`] when the system's random source fails.
    pub fn generate() -> Result<SecretString, SealError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(&mut *bytes).map_err(|_| SealError::Failed { kid: "encryption".to_owned() })?;
        Ok(STANDARD.encode(*bytes).into())
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn cipher(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, self.bytes.expose_secret()).ok()
    }
}

impl Clone for EncryptionKey {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), bytes: SecretBox::new(Box::new(*self.bytes.expose_secret())) }
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Seals with `current`; opens what any of them sealed.
    pub fn new(current: EncryptionKey, previous: Vec<EncryptionKey>) -> Self {
        Self { current: Some(current), previous }
    }

    /// The encryption key; `None`: keys are stored in the clear.
    pub fn current(&self) -> Option<&EncryptionKey> {
        self.current.as_ref()
    }

    /// How that text stands in the store.
    pub fn seal_of(&self, stored: &SecretString) -> Seal {
        let text = stored.expose_secret();
        if !text.starts_with(ANY_VERSION) {
            return Seal::None;
        }
        let sealed_with = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')).map(|(name, _)| name);
        match &self.current {
            Some(current) if sealed_with == Some(&current.name) => Seal::Current,
            Some(_) | None => Seal::Former,
        }
    }

    /// The text to store for a key. Unchanged if there is no encryption key.
    ///
    /// # Errors
    /// [`SealError::Failed`]
    pub fn seal(&self, kid: &str, algorithm: &str, plain: &SecretString) -> Result<SecretString, SealError> {
        let Some(key) = &self.current else { return Ok(plain.clone()) };
        let failed = || SealError::Failed { kid: kid.to_owned() };
        let cipher = key.cipher().ok_or_else(failed)?;
        let plain = plain.expose_secret().as_bytes();
        // With room for the tag: to grow would leave a copy behind.
        let mut sealed = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(plain);
        let nonce =
            cipher.seal_in_place_append_tag(Aad::from(context(kid, algorithm)), &mut sealed).map_err(|_| failed())?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.extend_from_slice(&sealed);
        Ok(format!("{PREFIX}{}:{}", key.name, STANDARD.encode(bytes)).into())
    }

    /// The key itself, of a text in the store, sealed or not.
    ///
    /// # Errors
    /// When it is sealed, and there is not the right encryption key, or it was not sealed for this name and algorithm.
    pub fn open(&self, kid: &str, algorithm: &str, stored: &SecretString) -> Result<SecretString, SealError> {
        let text = stored.expose_secret();
        if !text.starts_with(ANY_VERSION) {
            return Ok(stored.clone());
        }
        let kid = kid.to_owned();
        let Some(rest) = text.strip_prefix(PREFIX) else { return Err(SealError::NewerForm { kid }) };
        let Some((name, sealed)) = rest.split_once(':') else { return Err(SealError::Damaged { kid }) };
        let key = self.current.iter().chain(&self.previous).find(|key| key.name == name);
        let Some(key) = key else {
            let sealed_with = if is_name(name) { name } else { "?" }.to_owned();
            return Err(match &self.current {
                Some(current) => SealError::OtherKey { kid, sealed_with, current: current.name.clone() },
                None => SealError::NoKey { kid, sealed_with },
            });
        };
        let opened = open_with(key, context(&kid, algorithm), sealed);
        opened.ok_or(SealError::Damaged { kid })
    }
}

fn open_with(key: &EncryptionKey, context: Vec<u8>, sealed: &str) -> Option<SecretString> {
    let mut bytes = Zeroizing::new(STANDARD.decode(sealed).ok()?);
    let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let plain = key.cipher()?.open_in_place(nonce, Aad::from(context), sealed).ok()?;
    Some(SecretString::from(std::str::from_utf8(plain).ok()?.to_owned()))
}

/// What is authenticated besides: a sealed key that is put in another's place, or read for another algorithm, does not open.
/// Neither part has a line end in it: a `kid` of ours is base64url or made by us, an algorithm's name is looked up.
fn context(kid: &str, algorithm: &str) -> Vec<u8> {
    format!("{PREFIX}\n{algorithm}\n{kid}").into_bytes()
}

fn name(key: &[u8]) -> String {
    let mut text = b"tollgate encryption key\n".to_vec();
    text.extend_from_slice(key);
    let text = Zeroizing::new(text);
    let hash = digest::digest(&digest::SHA256, &text);
    hash.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_name(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> EncryptionKey {
        EncryptionKey::from_text(EncryptionKey::generate().unwrap().expose_secret()).unwrap()
    }

    fn secret() -> SecretString {
        SecretString::from("-----BEGIN PRIVATE KEY-----\nvery private\n")
    }

    #[test]
    fn what_is_sealed_opens_again_and_shows_nothing() {
        let sealer = Sealer::new(key(), Vec::new());
        let sealed = sealer.seal("k1", "ES256", &secret()).unwrap();
        assert!(!sealed.expose_secret().contains("PRIVATE") && sealed.expose_secret().starts_with(PREFIX));
        assert_eq!(sealer.open("k1", "ES256", &sealed).unwrap().expose_secret(), secret().expose_secret());
        assert_ne!(sealer.seal("k1", "ES256", &secret()).unwrap().expose_secret(), sealed.expose_secret(), "one nonce");
        assert_eq!(sealer.seal_of(&sealed), Seal::Current);
    }

    #[test]
    fn a_sealed_key_opens_in_its_own_place_only() {
        let sealer = Sealer::new(key(), Vec::new());
        let sealed = sealer.seal("k1", "ES256", &secret()).unwrap();
        for (kid, algorithm) in [("k2", "ES256"), ("k1", "EdDSA"), ("k1", "tollgate-refresh")] {
            let error = sealer.open(kid, algorithm, &sealed).unwrap_err();
            assert!(matches!(error, SealError::Damaged { .. }), "{kid} {algorithm}: {error}");
        }
    }

    #[test]
    fn every_change_of_a_sealed_key_is_noticed() {
        let sealer = Sealer::new(key(), Vec::new());
        let sealed = sealer.seal("k1", "ES256", &secret()).unwrap().expose_secret().to_owned();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = SecretString::from(String::from_utf8(changed).unwrap());
            match sealer.open("k1", "ES256", &changed) {
                // No longer sealed at all, and then no key either.
                Ok(_) => assert!(index < ANY_VERSION.len()),
                Err(error) => assert!(!error.to_string().contains("very private")),
            }
        }
        for end in PREFIX.len()..sealed.len() {
            sealer.open("k1", "ES256", &SecretString::from(&sealed[..end])).unwrap_err();
        }
    }

    #[test]
    fn without_the_right_encryption_key_nothing_opens_and_the_error_says_which() {
        let (old, new) = (key(), key());
        let sealed = Sealer::new(old.clone(), Vec::new()).seal("k1", "ES256", &secret()).unwrap();
        let missing = Sealer::default().open("k1", "ES256", &sealed).unwrap_err().to_string();
        assert!(missing.contains(old.name()) && missing.contains("`store.encryption_key` is not set"), "{missing}");
        let other = Sealer::new(new.clone(), Vec::new()).open("k1", "ES256", &sealed).unwrap_err().to_string();
        assert!(other.contains(old.name()) && other.contains(new.name()), "{other}");
        let rotating = Sealer::new(new, vec![old]);
        assert_eq!(rotating.open("k1", "ES256", &sealed).unwrap().expose_secret(), secret().expose_secret());
        assert_eq!(rotating.seal_of(&sealed), Seal::Former);
    }

    #[test]
    fn a_key_in_the_clear_is_read_as_it_is() {
        for sealer in [Sealer::default(), Sealer::new(key(), Vec::new())] {
            assert_eq!(sealer.open("k1", "ES256", &secret()).unwrap().expose_secret(), secret().expose_secret());
            assert_eq!(sealer.seal_of(&secret()), Seal::None);
        }
        let unsealed = Sealer::default().seal("k1", "ES256", &secret()).unwrap();
        assert_eq!(unsealed.expose_secret(), secret().expose_secret());
    }

    #[test]
    fn only_32_bytes_in_base64_are_an_encryption_key() {
        let text = EncryptionKey::generate().unwrap().expose_secret().to_owned();
        EncryptionKey::from_text(&text).unwrap();
        let short = STANDARD.encode([7; 31]);
        let zero = STANDARD.encode([0; 32]);
        for wrong in ["", "secret", &text[..43], &format!("{text}\n"), &format!(" {text}"), &short, &zero] {
            assert!(matches!(EncryptionKey::from_text(wrong), Err(SealError::NotAKey)), "{wrong:?}");
        }
        assert!(!format!("{:?}", EncryptionKey::from_text(&text).unwrap()).contains(&text[..8]));
    }
}
