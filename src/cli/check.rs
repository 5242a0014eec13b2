//! `tollgate check`: says every problem of the configuration, or that there is none.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::config;

use super::connect;

/// Validate the configuration file: every problem at once. Exits 0 when it is good, 1 when it is not.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", env = "TOLLGATE_CONFIG", default_value = "config/tollgate.toml")]
    pub config: PathBuf,
    /// Also try the store, every upstream server, and where issuers publish their keys. Writes nothing there; an upstream sees a
    /// connection without a request.
    #[arg(long)]
    pub connect: bool,
}

impl Check {
    /// Writes the verdict to `out`, and problems and warnings to `messages`. Gives whether the file is good.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn run(&self, out: &mut dyn Write, messages: &mut dyn Write) -> io::Result<bool> {
        match config::load(&self.config) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    writeln!(messages, "warning: {warning}\n")?;
                }
                let routes = counted(loaded.config.routes.len(), "route");
                let upstreams = counted(loaded.config.upstreams.len(), "upstream");
                writeln!(out, "`{}` is good: {routes}, {upstreams}", self.config.display())?;
                if self.connect { connect::run(&loaded.config, out, messages) } else { Ok(true) }
            }
            Err(problems) => {
                let count = counted(problems.count(), "problem");
                writeln!(messages, "{problems}\n\n`{}` cannot be used: {count}", self.config.display())?;
                Ok(false)
            }
        }
    }
}

/// "1 route", "2 routes".
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
