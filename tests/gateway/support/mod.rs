//! A real gateway as a process of its own, and real sockets on both of its sides.

pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod gateway;
pub(crate) mod mongod;
pub(crate) mod origin;
pub(crate) mod sick_store;
pub(crate) mod tokens;
