//! The DHCP server of somebody else: Debian's dnsmasq, which gives addresses and knows nothing of bootd.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::{Context, Lab, Namespace, Result, SOON, fail, wait_for};

/// A running dnsmasq. Killed when dropped.
#[derive(Debug)]
pub struct Dnsmasq {
    child: Child,
    log: PathBuf,
}

impl Dnsmasq {
    /// Starts it in a namespace of the lab, with these words of its command line, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(lab: &Lab, place: &Namespace, words: &[&str]) -> Result<Self> {
        let log = lab.dir().join(format!("{}-dnsmasq.log", place.name()));
        let file = File::create(&log)?;
        let mut command = place.command("dnsmasq");
        command.args(["--conf-file=/dev/null", "--port=0", "--keep-in-foreground", "--log-facility=-"]);
        command.args(["--log-dhcp", "--no-ping", "--leasefile-ro", "--pid-file=", "--user=root"]).args(words);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("can't start dnsmasq")?;
        let mut this = Self { child, log };
        wait_for("dnsmasq to get ready", SOON, || {
            if let Some(status) = this.child.try_wait()? {
                fail!("dnsmasq ended, {status}:\n{}", this.log());
            }
            Ok(this.log().contains("started, version").then_some(()))
        })?;
        Ok(this)
    }

    /// All that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
