//! A real gateway as a process of its own, and real sockets on both of its sides.

pub mod client;
pub mod gateway;
pub(crate) mod mongod;
pub mod origin;
