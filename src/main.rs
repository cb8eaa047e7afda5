//! The `sextant` command.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::quiet_contained_panics();
    cli::run()
}
