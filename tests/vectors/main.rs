//! Vectors that others published, through our own code for keys, signatures and tokens.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod rfc;
mod wycheproof;
