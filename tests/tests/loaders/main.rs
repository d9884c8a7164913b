//! What boots beside iPXE: PXELINUX and GRUB on whole machines, each with a menu made for its client; and what they and
//! installers fetch, with stock programs as the judges of it.

mod installer;
mod machines;
mod served;
mod wim;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use support::{Context, Daemon, Lab, Result, ensure};

/// Puts a template into the site.
pub(crate) fn put_template(daemon: &Daemon, name: &str, text: &str) -> Result {
    let path = daemon.data().join("menus").join(name);
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    fs::write(&path, text).context(path.display())
}

/// What happened in the client's last boot, in this order.
pub(crate) fn check_steps(daemon: &Daemon, client: &str, wanted: &[&str]) -> Result {
    let steps = daemon.steps(client)?;
    let mut rest = steps.iter();
    for what in wanted {
        ensure!(rest.any(|step| step.what.contains(what)), "no {what:?} in its place: {steps:#?}");
    }
    Ok(())
}

/// Another server, in the namespace of bootd's. Ended when dropped.
pub(crate) struct Upstream {
    child: Child,
    /// What it serves.
    pub(crate) files: PathBuf,
}

impl Upstream {
    pub(crate) fn start(lab: &Lab, words: &[&str]) -> Result<Self> {
        let files = lab.dir().join("upstream");
        fs::create_dir_all(files.join("pub"))?;
        let (program, rest) = words.split_first().context("no program")?;
        let mut command = lab.server().command(program);
        command
            .args(rest)
            .current_dir(&files)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self { child: command.spawn().context("can't start the upstream")?, files })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
