//! The gateway's behaviour from outside: the real binary between real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod answers;
mod config;
mod connections;
mod cookies;
mod cors;
mod documents;
mod drain;
mod election;
mod faults;
mod forwarding;
mod framing;
mod golden;
mod headers;
mod hostile;
mod leaving;
mod limits;
mod logs;
mod panics;
mod session_ends;
mod session_model;
mod session_outage;
mod sessions;
mod silent;
mod slow;
mod store;
mod store_keys;
mod store_mongo;
mod support;
mod tools;
