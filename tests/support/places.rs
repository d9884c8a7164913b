//! Where the built programs and the tests' cache lie.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{Context, Failure, Result, run, sh};

/// A directory for what tests make once and use often, below cargo's.
///
/// # Errors
/// When it can't be made.
pub fn cache_dir() -> Result<PathBuf> {
    let dir = profile_dir()?.parent().context("no target directory")?.join("bootd-tests");
    fs::create_dir_all(&dir).context(dir.display())?;
    Ok(dir)
}

/// The `bootd` to be tested: `BOOTD_BIN`, or the one of this workspace, built now if its sources are newer.
///
/// # Errors
/// When it can't be built.
pub fn bootd_binary() -> Result<PathBuf> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| match std::env::var_os("BOOTD_BIN") {
        Some(path) => {
            fs::canonicalize(&path).map_err(|error| format!("BOOTD_BIN {}: {error}", path.display()))
        }
        None => build().map_err(|error| error.to_string()),
    });
    found.clone().map_err(Failure::new)
}

/// The behavioural suite of the engines with the kernel's among them, built now if its sources are newer.
///
/// # Errors
/// When it can't be built. It takes more than bootd does: libdevmapper-dev and libclang-dev.
pub fn engine_suite() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["test", "--workspace", "--features", "bootd-lvm/faults"]);
    command.args(["--test", "engine", "--no-run", "--message-format", "json"]);
    let told = run(&mut command)?.success()?;
    let mut built = told.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")?.as_str()? == "engine";
        Some(PathBuf::from(message.get("executable").filter(|_| is_it)?.as_str()?))
    });
    built.next_back().context("cargo did not say where it built the suite")
}

/// A `bootd` with the kernel engine, built now if its sources are newer, and without what only debuggers read.
///
/// # Errors
/// When it can't be built.
pub fn bootd_with_kernel() -> Result<PathBuf> {
    run(build_command().args(["--features", "bootd/kernel"]))?.success()?;
    let built = profile_dir()?.with_file_name("debug").join("bootd");
    let ours = cache_dir()?.join("bootd-kernel");
    sh(&["strip", "-o", &ours.to_string_lossy(), &built.to_string_lossy()])?;
    // Under that name lies the one that all other tests are about.
    run(&mut build_command())?.success()?;
    Ok(ours)
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// What builds `bootd`, of the libraries that `cargo test --workspace` has built already: with a test of the package among
/// what is wanted, and with all packages, cargo gives them the same features, and so builds none of them a second time.
fn build_command() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace());
    command.args(["build", "--quiet", "--workspace", "--bin", "bootd", "--test", "cli"]);
    command
}

fn build() -> Result<PathBuf> {
    let dir = profile_dir()?;
    let mut command = build_command();
    if dir.ends_with("release") {
        command.arg("--release");
    }
    run(&mut command)?.success()?;
    Ok(dir.join("bootd"))
}

/// Where cargo put this program: `target/debug` or `target/release`.
fn profile_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let dir = program.parent().context("a program without a directory")?;
    let dir = if dir.ends_with("deps") { dir.parent().context("no target directory")? } else { dir };
    Ok(dir.to_owned())
}
