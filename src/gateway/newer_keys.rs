//! A token whose key is not known here may be signed with one that its issuer has published meanwhile.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::token::{Identity, TokenError};

use super::Gateway;
use super::record::Record;
use super::refusal::Refusal;

impl Gateway {
    /// Looks at a refused token again when its issuer could be asked for newer keys. The source decides whether it is asked: any
    /// number of requests wait for one answer, and after it there is none for a while. Other refusals stay as they are.
    pub(super) async fn identify_with_newer_keys(
        &self,
        token: &str,
        refused: TokenError,
        record: &mut Record,
    ) -> Result<Arc<Identity>, Refusal> {
        let shared = &self.shared;
        if let TokenError::AlgorithmUnsupported { name } = refused {
            shared.unsupported_algorithms.note(name);
        }
        if !matches!(refused, TokenError::KeyUnknown | TokenError::Signature) {
            return Err(refused.into());
        }
        let position = shared.verifier.asks_for_key(token, &shared.keys.load());
        let source = position.and_then(|position| shared.key_sources.get(position)).and_then(Option::as_ref);
        let Some(source) = source else { return Err(refused.into()) };
        let asked = source.ask().await;
        let result = if asked { self.identify(token, record) } else { Err(refused) };
        match result {
            // Nothing can be said of the token: the fault is not the client's.
            Err(TokenError::KeyUnknown) if !source.has_keys() => {
                Err(Refusal::KeysUnavailable { issuer: Arc::clone(source.name()) })
            }
            result => result.map_err(Refusal::Token),
        }
    }
}

/// Algorithms that tokens came with and that are not supported, each told to the operator once: an issuer that changes to one shuts
/// its users out, and only the operator can do something about it.
#[derive(Debug, Default)]
pub struct UnsupportedAlgorithms(Mutex<BTreeSet<&'static str>>);

impl UnsupportedAlgorithms {
    fn note(&self, name: &'static str) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            tracing::warn!(
                token.alg = name,
                "A token was refused because its `alg` is not supported; told once for each algorithm"
            );
        }
    }
}
