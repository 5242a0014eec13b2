//! Parses the arguments, runs the command, and picks the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::keyset::install_crypto_providers();
    tollgate::cli::main()
}
