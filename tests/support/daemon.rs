//! The daemon under test: the built program, in a lab's server namespace, with a data directory of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{
    Context, Failure, Lab, Manager, Ran, Result, SERVER_INTERFACE, SOON, bootd_binary, ensure, run, wait_for,
};

/// How many lines of its log are shown with a failure.
const TAIL: usize = 60;

/// A running `bootd serve`. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    command: Command,
    child: Child,
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    tells: bool,
}

/// How to start one.
#[derive(Debug, Default, Clone)]
pub struct DaemonOptions {
    /// A configuration file's text.
    pub config: Option<String>,
    /// More words for `bootd serve`.
    pub arguments: Vec<String>,
    /// The data directory; `None`: one in the lab's scratch directory.
    pub data: Option<PathBuf>,
    /// Where it tells how it is: [`Manager::path`].
    pub notify: Option<PathBuf>,
    /// More for its environment.
    pub environment: Vec<(String, String)>,
}

/// One step of a boot, as `bootd status --json` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How long after the boot began.
    pub after: Duration,
    /// What.
    pub what: String,
    /// What of it.
    pub detail: String,
}

impl Daemon {
    /// Starts it in the lab, and waits until it serves.
    ///
    /// # Errors
    /// When it can't be built, does not start, or does not get ready.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::start_with(lab, &DaemonOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As for [`Daemon::start`].
    pub fn start_with(lab: &Lab, options: &DaemonOptions) -> Result<Self> {
        let (binary, mut command) = serve_command(lab, options)?;
        let log = lab.dir().join("bootd.log");
        let child = spawn(silent(&mut command), &log)?;
        Self::ready(lab, options, command, child, binary)
    }

    /// The same, with the sockets that were held open for it.
    ///
    /// # Errors
    /// As for [`Daemon::start`].
    pub fn start_given(lab: &Lab, options: &DaemonOptions, manager: &mut Manager) -> Result<Self> {
        let (binary, command) = serve_command(lab, options)?;
        let child = spawn(&mut manager.hand_over(&command)?, &lab.dir().join("bootd.log"))?;
        Self::ready(lab, options, command, child, binary)
    }

    fn ready(
        lab: &Lab,
        options: &DaemonOptions,
        command: Command,
        child: Child,
        binary: PathBuf,
    ) -> Result<Self> {
        let data = options.data.clone().unwrap_or_else(|| default_data(lab));
        let log = lab.dir().join("bootd.log");
        let mut daemon = Self { command, child, binary, data, log, tells: lab.tells() };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// Runs `bootd` with these words against this daemon.
    ///
    /// # Errors
    /// When it can't be started. That it failed is for the caller to see.
    pub fn cli(&self, words: &[&str]) -> Result<Ran> {
        run(Command::new(&self.binary).args(words).env("BOOTD_DATA", &self.data))
    }

    /// Runs `bootd` with these words and `--json`, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, or prints no JSON.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let words = [words, &["--json"]].concat();
        let text = self.cli(&words)?.success()?;
        serde_json::from_str(&text).context(format!("bootd {} printed no JSON: {text}", words.join(" ")))
    }

    /// `bootd status --json`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Value> {
        self.json(&["status"])
    }

    /// Whether the site's database answers.
    ///
    /// # Errors
    /// When the daemon does not.
    pub fn is_online(&self) -> Result<bool> {
        let status = self.status()?;
        let state = status.pointer("/server/store/state").and_then(Value::as_str);
        Ok(state.context(format!("no state of the database: {status}"))? == "online")
    }

    /// One of its counters.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        let found = status.pointer("/server/counters").and_then(|all| all.get(name)).and_then(Value::as_u64);
        found.context(format!("no counter {name}: {status}"))
    }

    /// What `bootd status` knows of that client.
    ///
    /// # Errors
    /// When it knows no such client.
    pub fn client(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let clients = status.get("clients").and_then(Value::as_array).context("no clients")?;
        let found = clients.iter().find(|client| client.get("name").and_then(Value::as_str) == Some(name));
        found.cloned().context(format!("no client {name}: {status}"))
    }

    /// The epoch of that client's last boot.
    ///
    /// # Errors
    /// When it has not booted.
    pub fn epoch(&self, client: &str) -> Result<String> {
        let status = self.client(client)?;
        let epoch = status.pointer("/boot/epoch").and_then(Value::as_str);
        epoch.map(str::to_owned).context(format!("{client} has not booted: {status}"))
    }

    /// The steps of that client's last boot; none if there was none.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn steps(&self, client: &str) -> Result<Vec<Step>> {
        let status = self.client(client)?;
        let steps = status.pointer("/boot/steps").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |step: &Value, key| step.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let step = |step: &Value| Step {
            after: Duration::from_millis(step.get("after").and_then(Value::as_u64).unwrap_or_default()),
            what: text(step, "what"),
            detail: text(step, "detail"),
        };
        Ok(steps.iter().map(step).collect())
    }

    /// Takes in a disk image.
    ///
    /// # Errors
    /// When it is refused.
    pub fn add_image(&self, name: &str, file: &Path) -> Result {
        self.cli(&["image", "add", name, &file.to_string_lossy()])?.success()?;
        Ok(())
    }

    /// Adds a client that boots that image.
    ///
    /// # Errors
    /// When it is refused.
    pub fn add_client(&self, name: &str, mac: &str, image: &str) -> Result {
        self.cli(&["client", "add", name, "--mac", mac, "--image", image])?.success()?;
        Ok(())
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// All that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How much memory it holds, in KiB: what is its own, without the file pages that it maps.
    ///
    /// # Errors
    /// When it is no more.
    pub fn memory_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(&path).context(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse().ok());
        kib.context("the kernel does not say how much memory bootd holds")
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it does not: with its log's end.
    pub fn check_alive(&mut self) -> Result {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Asks it to end, as systemd does, and waits until it has.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub fn stop(&mut self) -> Result {
        self.signal(Signal::SIGTERM)?;
        let child = &mut self.child;
        let status = wait_for("bootd to end", SOON, || Ok(child.try_wait()?))?;
        ensure!(status.success(), "{}", self.ended(status));
        Ok(())
    }

    /// Ends it without asking, as a power cut does.
    ///
    /// # Errors
    /// When it is no more.
    pub fn kill(&mut self) -> Result {
        self.signal(Signal::SIGKILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again with the same data directory, after [`Daemon::stop`] or [`Daemon::kill`].
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_again(&mut self) -> Result {
        self.child = spawn(silent(&mut self.command), &self.log)?;
        self.wait_ready()
    }

    /// The same, with the sockets that were held open for it.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_again_with(&mut self, manager: &mut Manager) -> Result {
        self.child = spawn(&mut manager.hand_over(&self.command)?, &self.log)?;
        self.wait_ready()
    }

    fn signal(&self, signal: Signal) -> Result {
        Ok(kill(Pid::from_raw(i32::try_from(self.pid())?), signal)?)
    }

    fn wait_ready(&mut self) -> Result {
        let ready = wait_for("bootd to get ready", SOON, || {
            self.check_alive()?;
            Ok(self.cli(&["status", "--json"])?.ok().then_some(()))
        });
        ready.map_err(|failure| Failure::new(format!("{failure}\n{}", tail(&self.log()))))
    }

    fn ended(&self, status: ExitStatus) -> Failure {
        Failure::new(format!("bootd ended, {status}:\n{}", tail(&self.log())))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.tells {
            eprintln!("bootd's log:\n{}", tail(&self.log()));
        }
    }
}

/// Runs `bootd serve` as [`Daemon::start_with`] does, where it is expected to refuse: returns what it said.
///
/// # Errors
/// When it serves instead.
pub fn refused_start(lab: &Lab, options: &DaemonOptions) -> Result<Ran> {
    let (_, mut command) = serve_command(lab, options)?;
    refused(command.stdin(Stdio::null()).stdout(Stdio::piped()))
}

/// The same, with the sockets that were held open for it.
///
/// # Errors
/// When it serves instead.
pub fn refused_start_with(lab: &Lab, options: &DaemonOptions, manager: &mut Manager) -> Result<Ran> {
    let (_, command) = serve_command(lab, options)?;
    refused(&mut manager.hand_over(&command)?)
}

fn refused(command: &mut Command) -> Result<Ran> {
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let ended = wait_for("bootd to refuse", SOON, || Ok(child.try_wait()?));
    if ended.is_err() {
        let _ = child.kill();
    }
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let ran = Ran { command: "bootd serve".to_owned(), code: output.status.code(), stdout, stderr };
    ensure!(ended.is_ok(), "bootd served though it could not: {}", ran.failure());
    ensure!(!ran.ok(), "bootd ended as if all were well: {}", ran.failure());
    Ok(ran)
}

fn default_data(lab: &Lab) -> PathBuf {
    lab.dir().join("data")
}

fn serve_command(lab: &Lab, options: &DaemonOptions) -> Result<(PathBuf, Command)> {
    let binary = bootd_binary()?;
    let mut command = lab.server().command(&binary.to_string_lossy());
    command.arg("serve").arg("--data").arg(options.data.clone().unwrap_or_else(|| default_data(lab)));
    match &options.config {
        Some(text) => {
            let file = lab.dir().join("bootd.toml");
            fs::write(&file, text)?;
            command.arg("--config").arg(file);
        }
        None => {
            command.args(["--interface", SERVER_INTERFACE]);
        }
    }
    command.args(&options.arguments);
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    command.envs(options.notify.as_ref().map(|path| ("NOTIFY_SOCKET", path)));
    Ok((binary, command))
}

fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.stderr(log).spawn().context("can't start bootd")
}

/// It prints nothing, and reads nothing.
fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null())
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(TAIL)).map(|line| format!("    | {line}\n")).collect()
}
