//! `tollgate config`: the commented default file, the schema of the file, and the settings in effect.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::config;

/// Print the default configuration file, its JSON Schema, or the settings in effect.
#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print a commented file with every key and its default.
    Default,
    /// Print a JSON Schema of the file, by which editors complete and check it.
    Schema,
    /// Print every setting in effect, defaults included; secrets are replaced.
    Show {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE", env = "TOLLGATE_CONFIG", default_value = "config/tollgate.toml")]
        config: PathBuf,
        /// Print JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
}

impl Config {
    /// Writes the text to `out`, and problems and warnings of the file to `messages`. Gives whether the file is good.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn run(&self, out: &mut dyn Write, messages: &mut dyn Write) -> io::Result<bool> {
        match &self.verb {
            Verb::Default => {
                out.write_all(config::DEFAULT_FILE.as_bytes())?;
                Ok(true)
            }
            Verb::Schema => {
                out.write_all(config::schema().as_bytes())?;
                Ok(true)
            }
            Verb::Show { config: file, json } => match config::load(file) {
                Ok(loaded) => {
                    for warning in &loaded.warnings {
                        writeln!(messages, "warning: {warning}\n")?;
                    }
                    let text = if *json { loaded.effective_json() } else { loaded.effective_toml() };
                    writeln!(out, "{}", text.trim_end())?;
                    Ok(true)
                }
                Err(problems) => {
                    writeln!(messages, "{problems}")?;
                    Ok(false)
                }
            },
        }
    }
}
