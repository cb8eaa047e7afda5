//! The `sextant` command.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    sextant::kernel::share_one_heap();
    cli::quiet_contained_panics();
    cli::run()
}
