//! Tollgate: a stateless API gateway that issues and enforces JWTs.

pub mod time;
pub mod body;
pub mod metrics;
pub mod log;

pub mod request;
pub mod route;
pub mod keyset;
pub mod store;
pub mod token;
pub mod account;
pub mod policy;
pub mod upstream;
pub mod issuer;
pub mod gateway;
pub mod server;
pub mod config;
pub mod app;
pub mod cli;
