//! The only reading of what the client sent.

pub mod client;
