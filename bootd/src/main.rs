//! The `bootd` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    bootd::main()
}
