//! Tollgate: an API gateway that logs people in, issues and verifies JWTs, and forwards what is allowed.
//!
//! # The walk of a request
//!
//! A worker thread ([`server::worker`]) accepts a connection and serves it with hyper. Each request comes to
//! [`gateway::Gateway::handle`], which begins its access record and calls `walk`: plain calls, one after the other, each of
//! which gives what the next one demands.
//!
//! 1. [`request::RequestHead::read`] reads target and `Host` once. The decision and the forwarded request use the same
//!    [`request::path::NormalPath`].
//! 2. [`issuer::Issuer::endpoint`] knows our own paths. A login is handed to the control runtime, where [`account`] checks the
//!    password against the [`store`] and [`token::mint`] signs a token.
//! 3. [`route::Routes::find`] finds the route, which says what is asked of the caller.
//! 4. [`token::bearer`] takes out the token; [`token::cache`] knows it, or [`token::Verifier::verify`] checks it with the keys of
//!    [`keyset`].
//! 5. [`policy::permit`] gives a [`policy::Permit`], without which nothing is forwarded.
//! 6. [`upstream::Upstreams::forward`] cleans the headers, adds who asks, and sends; both bodies stream.
//!
//! Whatever goes wrong on the way becomes a [`gateway::refusal::Refusal`], the one place that picks a status. The record is written
//! when the response's last byte has left.
//!
//! [`config`] turns the file into the settings of every part, and [`app`] builds the parts and runs them until it is told to stop.
//! ARCHITECTURE.md has the threads, the code map, the import table and the invariants.

pub mod cli;

pub mod app;
pub mod config;

pub mod server;

pub mod gateway;

pub mod request;
pub mod route;
pub mod token;

pub mod keyset;
pub mod policy;
pub mod upstream;

pub mod issuer;

pub mod account;
pub mod revocation;
pub mod session;
pub mod store;

pub mod audit;
pub mod body;
mod cause;
pub mod log;
pub mod metrics;
mod socket;
pub mod time;
