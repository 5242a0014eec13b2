//! Runs the configuration's golden files while the gateway's test crate is being built.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[path = "gateway/config.rs"]
mod config;
