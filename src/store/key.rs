//! Keys in the store: what is kept of each, and the steps of their lives that several gateways may take at once.

use std::fmt;

use secrecy::SecretString;

use crate::time::UnixSeconds;

use super::StoreError;

/// Algorithm names that begin with this are of secrets that sign no tokens, such as the one behind refresh tokens.
const INTERNAL: &str = "tollgate-";

/// A key in the store.
#[derive(Clone)]
pub struct StoredKey {
    /// RFC 7638 thumbprint, or another name that no other key has.
    pub kid: String,
    /// JWA name, such as `ES256`; or a name of our own for a key that signs no tokens.
    pub algorithm: String,
    /// The private key as PEM, a shared secret in the text form that `keyset` gave it, or either of them sealed. The store
    /// does not look into it.
    pub material: SecretString,
    /// When the key was made.
    pub created_at: UnixSeconds,
    /// When it begins to sign. Keys of versions that did not write it sign from `created_at`.
    pub active_from: UnixSeconds,
    /// When it was told to stop; `None`: it signs until a later key of its algorithm begins.
    pub retired_at: Option<UnixSeconds>,
    /// The latest `exp` of a token that was made to live longer than `tokens.access_ttl`; `None`: there is none.
    pub needed_until: Option<UnixSeconds>,
}

impl StoredKey {
    /// A key that signs from now on.
    pub fn new(kid: String, algorithm: impl Into<String>, material: SecretString, now: UnixSeconds) -> Self {
        let (created_at, active_from) = (now, now);
        Self {
            kid,
            algorithm: algorithm.into(),
            material,
            created_at,
            active_from,
            retired_at: None,
            needed_until: None,
        }
    }

    /// Whether it is there to sign tokens. Others are never published.
    pub fn signs_tokens(&self) -> bool {
        !self.algorithm.starts_with(INTERNAL)
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .field("material", &format_args!("[redacted]"))
            .field("created_at", &self.created_at)
            .field("active_from", &self.active_from)
            .field("retired_at", &self.retired_at)
            .field("needed_until", &self.needed_until)
            .finish()
    }
}

/// The keys of a [`super::Store`]. Every step is one atomic write with its condition inside, so that any number of gateways
/// and commands may take it at once.
#[async_trait::async_trait]
pub trait KeyStore {
    /// All keys, oldest first; those that sign no tokens too.
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// Keeps `key` unless there is already a key for its algorithm, and returns the key that stands. Atomic: of several
    /// gateways that start together on an empty database one wins, and all get its key.
    async fn add_key_if_absent(&self, key: &StoredKey) -> Result<StoredKey, StoreError>;

    /// Keeps `key` if the newest key of its algorithm is the one named `predecessor`, and returns the newest key that then
    /// stands. Atomic: a key gets one successor, whoever makes it. `None`: there is no key of that algorithm any more.
    async fn add_successor(&self, predecessor: &str, key: &StoredKey) -> Result<Option<StoredKey>, StoreError>;

    /// Lets a key begin to sign at `from`, if it was to begin later. `false`: there is no such key, or it began already.
    async fn bring_forward_key(&self, kid: &str, from: UnixSeconds) -> Result<bool, StoreError>;

    /// Makes a key stop at `at`, if nothing did before. `false`: there is no such key, or it was retired already.
    async fn retire_key(&self, kid: &str, at: UnixSeconds) -> Result<bool, StoreError>;

    /// Notes that a token that the key signed lives until `until`. `false`: there is no such key.
    async fn need_key_until(&self, kid: &str, until: UnixSeconds) -> Result<bool, StoreError>;

    /// Puts another form of the same key in the place of `former`. `false`: somebody has done so before, or the key is gone.
    async fn replace_material(
        &self,
        kid: &str,
        former: &SecretString,
        material: &SecretString,
    ) -> Result<bool, StoreError>;

    /// Removes a key, its traces in the database file included as far as the database can. `false`: it was gone.
    async fn remove_key(&self, kid: &str) -> Result<bool, StoreError>;

    /// Clears what a replaced or removed key may have left in the files of the database, as far as it can.
    async fn clear_traces(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let key = StoredKey::new("k1".to_owned(), "ES256", SecretString::from("very private"), UnixSeconds(1));
        assert!(!format!("{key:?}").contains("very private"));
    }

    #[test]
    fn keys_of_our_own_purposes_sign_no_tokens() {
        let key = |algorithm: &str| StoredKey::new("k".to_owned(), algorithm, "m".into(), UnixSeconds(1));
        assert!(key("ES256").signs_tokens() && !key("tollgate-refresh").signs_tokens());
    }
}
