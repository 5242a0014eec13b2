//! Vectors that others published, through our own code for keys, signatures and tokens.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "how many vectors ran is a table to read")]

mod rfc;
mod wycheproof;
