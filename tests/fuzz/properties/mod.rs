//! What must hold for any bytes that a stranger may send: one plain function a target, which panics where it does not hold.
//!
//! `cargo test --test fuzz` calls them with the seeds of fuzz/seeds/ and a fixed number of mutations; the fuzzer of `scripts/fuzz`
//! calls the same functions without end. Where there is an oracle, it is written to be obvious instead of fast, and shares
//! no code with what it judges.

mod bearer;
mod config;
mod cookie;
mod head;
mod headers;
mod json;
mod keys;
mod login;
mod path;
mod refresh;
mod route;
mod token;

pub use bearer::bearer;
pub use config::config;
pub use cookie::cookie;
pub use head::head;
pub use headers::headers;
pub use keys::keys;
pub use login::login;
pub use path::path;
pub use refresh::refresh;
pub use route::route;
pub use token::{accepted, token};

/// A property, and what it is called in fuzz/seeds/ and on the command line of `scripts/fuzz`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 11] = [
    ("path", path),
    ("route", route),
    ("bearer", bearer),
    ("token", token),
    ("keys", keys),
    ("login", login),
    ("refresh", refresh),
    ("head", head),
    ("headers", headers),
    ("cookie", cookie),
    ("config", config),
];
