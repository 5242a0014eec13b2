//! `tollgate demo`: the whole thing in one process, with nothing to install.

mod datasets;
mod files;
mod folder;
mod guide;
mod service;
mod settings;

pub use datasets::datasets;
pub use files::files;
pub use folder::Folder;
pub use guide::{Demo, guide};
pub use service::{Body, Sample};
pub use settings::settings;
