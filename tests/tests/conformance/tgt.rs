//! The peer: tgt, as Debian ships it.

use std::path::Path;
use std::process::{Child, Stdio};

use support::{Context, Namespace, Result, SOON, wait_for};

const TARGET: &str = "iqn.2026-01.internal.lab.peer:tgt";
const PORTAL: &str = "127.0.0.1:3261";
const CONTROL: &str = "61";

/// A running tgt with one disk.
pub(crate) struct Tgt {
    child: Child,
}

impl Tgt {
    pub(crate) fn start(namespace: &Namespace, disk: &Path) -> Result<Self> {
        std::fs::create_dir_all("/var/run")?;
        let child = namespace
            .command("tgtd")
            .args(["-f", "-C", CONTROL, "--iscsi", &format!("portal={PORTAL}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("tgtd does not start (package tgt)")?;
        let this = Self { child };
        let adm = |words: &[&str]| {
            namespace.sh(&[&["tgtadm", "-C", CONTROL, "--lld", "iscsi"], words].concat()).map(drop)
        };
        wait_for("tgtd's control socket", SOON, || {
            Ok(adm(&["--op", "show", "--mode", "target"]).is_ok().then_some(()))
        })?;
        let disk = disk.to_string_lossy();
        adm(&["--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET])?;
        adm(&["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", &disk])?;
        adm(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"])?;
        Ok(this)
    }

    pub(crate) fn url(&self) -> String {
        format!("iscsi://{PORTAL}/{TARGET}/1")
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        // It ignores SIGTERM while it has targets.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
