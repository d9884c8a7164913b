//! A network namespace: a machine of its own, as far as the network goes.

use std::fs::File;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::leftovers::remove_namespace;
use crate::{Context, Failure, Ran, Result, run, sh};

/// A network namespace, removed when dropped together with what runs in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one, with its loopback up.
    ///
    /// # Errors
    /// When the kernel or the lack of rights forbids it.
    pub(crate) fn new(name: String) -> Result<Self> {
        sh(&["ip", "netns", "add", &name]).context("can't make a network namespace")?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name for `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ip` with these arguments, in it.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        sh(&[&["ip", "-n", &self.name], arguments].concat())
    }

    /// A command that will run in it. The process started is the program's own: its id is good for signals.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `words` in it.
    ///
    /// # Errors
    /// When the program can't be started. That it failed is for the caller to see.
    pub fn run(&self, words: &[&str]) -> Result<Ran> {
        let (program, arguments) = words.split_first().context("no command")?;
        run(self.command(program).args(arguments))
    }

    /// Runs `words` in it to success and returns what was printed.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn sh(&self, words: &[&str]) -> Result<String> {
        self.run(words)?.success()
    }

    /// Runs `work` on a thread that is in this namespace: the sockets it makes are there, and stay there.
    ///
    /// # Errors
    /// When the namespace can't be entered, or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).context(&path)?;
        let entered = thread::scope(|scope| {
            let inside = || setns(&file, CloneFlags::CLONE_NEWNET).map(|()| work());
            scope.spawn(inside).join()
        });
        let done = entered.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Failure::new(text.unwrap_or_else(|| "a panic".to_owned()))
        })?;
        Ok(done?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove_namespace(&self.name);
    }
}
