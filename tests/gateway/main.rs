//! The gateway's behaviour from outside: the real binary between real sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod config;
mod drain;
mod faults;
mod forwarding;
mod golden;
mod hostile;
mod limits;
mod logs;
mod panics;
mod review;
mod silent;
mod slow;
mod store;
mod store_mongo;
mod support;
