//! The `jamcast` binary: the door to `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    jamcast::cli::main()
}
