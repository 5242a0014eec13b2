//! A refresh token that is accepted is one that its key made, letter for letter; of any other, and of any change of one, nothing
//! is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tollgate::session::{RefreshClaim, RefreshKeys, SessionId};

const CURRENT: [u8; 32] = [1; 32];
const PREVIOUS: [u8; 32] = [2; 32];

/// The first byte says what the rest is: a token as text; the bytes of a token as text; changes of a genuine token, each a place
/// and what is added there; a claim without its MAC, to be made by a key that is ours no more.
pub fn refresh(data: &[u8]) {
    let keys = RefreshKeys::new(&CURRENT, &[PREVIOUS]);
    let Some((kind, rest)) = data.split_first() else { return };
    let token = match kind % 4 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => URL_SAFE_NO_PAD.encode(rest),
        2 => {
            let mut token = keys.token(claim(rest)).expose().as_bytes().to_vec();
            for change in rest.chunks_exact(2) {
                let place = usize::from(change[0]) % token.len();
                token[place] = token[place].wrapping_add(change[1]);
            }
            String::from_utf8_lossy(&token).into_owned()
        }
        _ => {
            let foreign = RefreshKeys::new(&[3; 32], &[]).token(claim(rest)).expose().to_owned();
            assert!(keys.read(&foreign).is_none(), "a token of another key was believed");
            let old = RefreshKeys::new(&PREVIOUS, &[]).token(claim(rest));
            assert_eq!(keys.read(old.expose()), Some(claim(rest)));
            keys.token(claim(rest)).expose().to_owned()
        }
    };
    if let Some(claim) = keys.read(&token) {
        let ours = [CURRENT, PREVIOUS].map(|key| RefreshKeys::new(&key, &[]).token(claim).expose().to_owned());
        assert!(ours.contains(&token), "{token:?} was believed to be {claim:?}");
        assert_eq!(token.len(), 71);
    }
}

/// A claim out of the first bytes, the missing ones being zero.
fn claim(data: &[u8]) -> RefreshClaim {
    let mut bytes = [0; 20];
    for (slot, byte) in bytes.iter_mut().zip(data) {
        *slot = *byte;
    }
    let (session, counter) = bytes.split_at(16);
    let counter = u32::from_be_bytes(counter.try_into().unwrap());
    RefreshClaim { session: SessionId(session.try_into().unwrap()), counter }
}
