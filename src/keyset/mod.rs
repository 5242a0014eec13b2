//! Keys: which key may verify which token, and which one signs ours.
//!
//! A key is loaded strictly once, gets one algorithm for life (RFC 8725 section 3.1), and is then only looked up. The
//! signatures themselves are made and checked by `jsonwebtoken` on AWS-LC.

mod algorithm;
mod der;
mod error;
mod fetch;
mod jwk;
mod pem;
mod published;
mod remote;
mod sealing;
mod secret;
mod set;
mod signing;
mod source;
pub mod strict_json;
mod url;
mod verification;
mod weak;

pub use algorithm::{Algorithm, KeyKind};
pub use error::KeyError;
pub use fetch::{FetchError, Fetcher, TrustError};
pub use published::{LeftOut, PublishedSet};
pub use remote::{FETCH_TIMEOUT, Fetched, KeyLocation, RemoteKeys};
pub use sealing::{EncryptionKey, Seal, SealError, Sealer};
pub use set::{IssuerKeys, KeyId, KeySet, SetKey};
pub use signing::{OwnKeys, SigningKey};
pub use source::{KeyChange, KeySource};
pub use url::{KeyUrl, KeyUrlError};
pub use verification::VerificationKey;

/// Makes AWS-LC the cryptography of `jsonwebtoken` and `rustls` in this process. Call it first thing in `main`: rustls
/// panics at its first use if it has no provider. Calling it again does nothing.
pub fn install_crypto_providers() {
    // Both return an error if a provider is installed already, which is what a second call wants.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests;
