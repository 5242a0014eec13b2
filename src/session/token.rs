//! The refresh token: what a client holds of its session. It is checked before the store is asked, and the store holds
//! nothing of it.
//!
//! base64url of version (1 byte), session id (16), counter (4, big endian) and HMAC-SHA-256 (32) over these, with a key that the
//! whole fleet has. The same session and counter always give the same token, so that whoever asks twice gets the same
//! successor.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

use crate::store::SessionId;

/// The only layout so far.
const VERSION: u8 = 1;
const CLAIM_BYTES: usize = 1 + 16 + 4;
const MAC_BYTES: usize = 32;
const TOKEN_BYTES: usize = CLAIM_BYTES + MAC_BYTES;
/// Bytes of a key: as many as the hash has (RFC 2104 section 3).
const KEY_BYTES: usize = 32;

/// A refresh token. `Debug` hides it.
#[derive(Clone)]
pub struct RefreshToken(SecretString);

impl RefreshToken {
    /// 71 characters of base64url.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken([redacted])")
    }
}

/// What a token that we made says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshClaim {
    /// Which session.
    pub session: SessionId,
    /// Which of its tokens.
    pub counter: u32,
}

/// The keys that make refresh tokens. `Debug` hides them.
pub struct RefreshKeys {
    current: hmac::Key,
    previous: Vec<hmac::Key>,
}

impl RefreshKeys {
    /// The key that makes tokens, and those that made the ones that are still about.
    pub fn new(current: &[u8; KEY_BYTES], previous: &[[u8; KEY_BYTES]]) -> Self {
        let key = |bytes: &[u8; KEY_BYTES]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Self { current: key(current), previous: previous.iter().map(key).collect() }
    }

    /// The token of this session with this counter.
    pub fn token(&self, claim: RefreshClaim) -> RefreshToken {
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&claim.session.0);
        bytes.extend_from_slice(&claim.counter.to_be_bytes());
        let mac = hmac::sign(&self.current, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        RefreshToken(URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// What the token says, if one of the keys made it. Neither length nor time of the answer says how wrong it is.
    pub fn read(&self, token: &str) -> Option<RefreshClaim> {
        let mut bytes = [0; TOKEN_BYTES];
        // The buffer is not larger than a token, so that what is longer is refused unread.
        if !matches!(URL_SAFE_NO_PAD.decode_slice(token, &mut bytes), Ok(TOKEN_BYTES)) {
            return None;
        }
        let (claim, mac) = bytes.split_at(CLAIM_BYTES);
        let is_ours = |key| hmac::verify(key, claim, mac).is_ok();
        if claim.first() != Some(&VERSION) || !(is_ours(&self.current) || self.previous.iter().any(is_ours)) {
            return None;
        }
        let session = SessionId(claim.get(1..17)?.try_into().ok()?);
        Some(RefreshClaim { session, counter: u32::from_be_bytes(claim.get(17..)?.try_into().ok()?) })
    }
}

impl fmt::Debug for RefreshKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshKeys").field("previous", &self.previous.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> RefreshKeys {
        RefreshKeys::new(&[1; 32], &[])
    }

    const CLAIM: RefreshClaim = RefreshClaim { session: SessionId([7; 16]), counter: 0x0102_0304 };

    #[test]
    fn a_token_is_read_as_it_was_made_and_made_again_the_same() {
        let keys = keys();
        let token = keys.token(CLAIM);
        assert_eq!(token.expose().len(), 71);
        assert_eq!(keys.read(token.expose()), Some(CLAIM));
        assert_eq!(keys.token(CLAIM).expose(), token.expose());
        let next = RefreshClaim { counter: CLAIM.counter + 1, ..CLAIM };
        assert_ne!(keys.token(next).expose(), token.expose());
    }

    #[test]
    fn a_token_with_any_bit_flipped_is_refused() {
        let keys = keys();
        let token = URL_SAFE_NO_PAD.decode(keys.token(CLAIM).expose()).unwrap();
        for bit in 0..token.len() * 8 {
            let mut flipped = token.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.read(&URL_SAFE_NO_PAD.encode(flipped)), None, "bit {bit}");
        }
    }

    #[test]
    fn a_token_in_any_other_spelling_is_refused() {
        let keys = keys();
        let token = keys.token(CLAIM).expose().to_owned();
        let unused_bits = |last: &str| format!("{}{last}", &token[..70]);
        let aliases: Vec<String> = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            .chars()
            .map(|last| unused_bits(&last.to_string()))
            .filter(|alias| *alias != token)
            .collect();
        assert_eq!(aliases.len(), 63);
        let others = [
            "",
            "a",
            &token[1..],
            &token[..70],
            &format!("{token}A"),
            &format!("{token}="),
            &format!(" {token}"),
            &token.repeat(2),
        ];
        for wrong in others.into_iter().chain(aliases.iter().map(String::as_str)) {
            assert_eq!(keys.read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_token_of_another_version_or_key_is_refused() {
        let keys = keys();
        let mut claim = URL_SAFE_NO_PAD.decode(keys.token(CLAIM).expose()).unwrap()[..CLAIM_BYTES].to_vec();
        claim[0] = 2;
        let mac = hmac::sign(&keys.current, &claim);
        claim.extend_from_slice(mac.as_ref());
        assert_eq!(keys.read(&URL_SAFE_NO_PAD.encode(claim)), None);
        assert_eq!(RefreshKeys::new(&[2; 32], &[]).read(keys.token(CLAIM).expose()), None);
    }

    #[test]
    fn a_token_of_a_previous_key_is_read_and_its_successor_is_of_the_current_one() {
        let before = RefreshKeys::new(&[1; 32], &[]);
        let after = RefreshKeys::new(&[2; 32], &[[1; 32]]);
        let token = before.token(CLAIM);
        assert_eq!(after.read(token.expose()), Some(CLAIM));
        assert_ne!(after.token(CLAIM).expose(), token.expose());
        assert_eq!(before.read(after.token(CLAIM).expose()), None);
    }

    #[test]
    fn debug_output_holds_no_token_and_no_key() {
        let token = keys().token(CLAIM);
        assert_eq!(format!("{token:?}"), "RefreshToken([redacted])");
        assert_eq!(format!("{:?}", keys()), "RefreshKeys { previous: 0, .. }");
    }
}
