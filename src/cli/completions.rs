//! `tollgate completions` and `tollgate man`: what shells and `man` know of the command line, made of its own description.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// Print the completions of a shell.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

/// Print the manual page, or write one for every command into a folder.
#[derive(Debug, clap::Args)]
pub struct Manual {
    /// Write `tollgate.1` and a page for every command into this folder, which must exist.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Completions {
    /// Writes the script to `out`.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> io::Result<bool> {
        // By way of memory: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tollgate", &mut script);
        out.write_all(&script)?;
        Ok(true)
    }
}

impl Manual {
    /// Writes the page to `out`, or all pages into the folder. Gives whether it did; `messages` says why not.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn run(&self, out: &mut dyn Write, messages: &mut dyn Write) -> io::Result<bool> {
        let Some(folder) = &self.folder else {
            // As the folder has no page of `help`.
            Man::new(Cli::command().disable_help_subcommand(true)).render(out)?;
            return Ok(true);
        };
        match write_all(folder) {
            Ok(()) => Ok(true),
            Err(error) => {
                writeln!(messages, "error: cannot write manual pages into `{}`: {error}", folder.display())?;
                Ok(false)
            }
        }
    }
}

fn write_all(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)
}
