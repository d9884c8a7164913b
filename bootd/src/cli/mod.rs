//! The command line.

use std::process::ExitCode;

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
