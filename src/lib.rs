//! Tollgate: a stateless API gateway that issues and enforces JWTs.

pub mod body;
pub mod log;
pub mod metrics;
pub mod time;

pub mod account;
pub mod app;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod issuer;
pub mod keyset;
pub mod policy;
pub mod request;
pub mod route;
pub mod server;
pub mod store;
pub mod token;
pub mod upstream;
