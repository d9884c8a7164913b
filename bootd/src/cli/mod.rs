//! The command line: one file per command. Each asks the daemon and prints what it says, as tables for people or
//! as JSON for programs.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use serde::Serialize;

use crate::control::api::Problem;

mod args;
mod bootprogram;
mod boots;
mod capture;
mod check;
mod client;
pub(crate) mod daemon;
mod documents;
mod explain;
mod image;
mod mirror;
mod paint;
mod progress;
mod register;
mod render;
mod serve;
mod site;
mod status;
mod storage;
mod table;
mod when;

use args::{Cli, Command};

/// What is printed where clients would be listed and there are none.
const NO_CLIENTS: &str = "no clients yet; add one with: bootd client add NAME --mac MAC --image IMAGE\n";

/// Runs what the command line asks for. The exit code is 0 when it is done, 1 when it failed; wrong usage never
/// comes back: it ends the process with 2.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(serve) => serve::run(&serve),
        Command::Check(check) => check::run(&check),
        Command::Client(command) => wait(client::run(command)),
        Command::Image(command) => wait(image::run(command)),
        Command::BootProgram(command) => wait(bootprogram::run(command)),
        Command::Mirror(command) => wait(mirror::run(command)),
        Command::Site(command) => wait(site::run(*command)),
        Command::Boots(boots) => wait(boots::run(boots)),
        Command::Capture(capture) => wait(capture::run(capture)),
        Command::Storage(command) => storage::run(&command),
        Command::Register(command) => wait(register::run(command)),
        Command::Explain(explain) => wait(explain::run(explain)),
        Command::Render(render) => wait(render::run(render)),
        Command::Status(status) => wait(status::run(status)),
        Command::Documents { directory } => documents::run(&directory),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = write!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command failed, for people. An empty one has been told already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    error: String,
    hint: Option<String>,
}

impl Failure {
    fn new(error: impl fmt::Display) -> Self {
        Self { error: error.to_string(), hint: None }
    }

    /// A failure that the output has told of already.
    fn told() -> Self {
        Self { error: String::new(), hint: None }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { error: problem.error, hint: problem.hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.error.is_empty() {
            return Ok(());
        }
        writeln!(f, "error: {}", self.error)?;
        self.hint.as_ref().map_or(Ok(()), |hint| writeln!(f, "hint: {hint}"))
    }
}

/// Runs a command that talks to the daemon.
fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::new)?
        .block_on(command)
}

/// Prints. A reader that has gone away (`| head`) is not an error, but the end.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Failure::told()),
        other => other.map_err(|e| Failure::new(format!("can't print: {e}"))),
    }
}

/// Prints `value` as JSON, or as the text that `text` makes of it.
fn show<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    if !json {
        return print(&text(value));
    }
    let mut out = serde_json::to_string_pretty(value).map_err(Failure::new)?;
    out.push('\n');
    print(&out)
}

/// A setting for people: `-` when there is none.
fn or_dash(value: Option<&impl fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}
