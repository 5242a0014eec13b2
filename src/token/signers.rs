//! Which key signs at which moment.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::keyset::SigningKey;
use crate::time::UnixSeconds;

/// The keys that sign our tokens, each from its moment on until that of the next. The caller's clock decides between them, so that
/// a change is on time on every gateway that knew of it before.
#[derive(Debug, Clone)]
pub struct Signers {
    now: Signer,
    /// In the order of their moments.
    later: Vec<(UnixSeconds, Signer)>,
}

/// A key with what every token of it begins with.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) key: SigningKey,
    /// The encoded header and the dot after it.
    pub(super) header: String,
}

impl Signers {
    /// `now` signs until the first of `later` begins.
    pub fn new(now: SigningKey, mut later: Vec<(UnixSeconds, SigningKey)>) -> Self {
        later.sort_by_key(|(from, _)| *from);
        let later = later.into_iter().map(|(from, key)| (from, Signer::new(key))).collect();
        Self { now: Signer::new(now), later }
    }

    /// The key that signs at `now`.
    pub fn key(&self, now: UnixSeconds) -> &SigningKey {
        &self.at(now).key
    }

    pub(super) fn at(&self, now: UnixSeconds) -> &Signer {
        self.later.iter().rfind(|(from, _)| *from <= now).map_or(&self.now, |(_, signer)| signer)
    }
}

impl Signer {
    fn new(key: SigningKey) -> Self {
        let header = json!({ "alg": key.algorithm().name(), "typ": "at+jwt", "kid": key.kid() });
        Self { header: format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string())), key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyset::Algorithm;

    #[test]
    fn the_clock_decides_which_key_signs() {
        let keys: Vec<SigningKey> = (0..3).map(|_| SigningKey::generate(Algorithm::ES256).unwrap()).collect();
        let later = vec![(UnixSeconds(200), keys[2].clone()), (UnixSeconds(100), keys[1].clone())];
        let signers = Signers::new(keys[0].clone(), later);
        for (now, expected) in [(0, 0), (99, 0), (100, 1), (199, 1), (200, 2), (u64::MAX, 2)] {
            assert_eq!(signers.key(UnixSeconds(now)).kid(), keys[expected].kid(), "at {now}");
        }
    }
}
