//! An appserver: a virtual machine with Debian's kernel that has device-mapper and LIO, which this machine may lack. What
//! is tested runs inside of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::initramfs::{self, Kernel};
use crate::virtual_client::{acceleration, switch_on};
use crate::{Console, Context, Result, VmSlots, check_machine, ensure, fail};

const INIT: &str = include_str!("../fixtures/appserver-init");
/// What scripts do, for comparing.
const SHELL_DISKS: &str = include_str!("../fixtures/shell-disks");
const MEMORY_MIB: &str = "1024";

/// An appserver that is switched on. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Appserver {
    child: Child,
    console: Console,
    _dir: tempfile::TempDir,
    _slot: VmSlots,
}

impl Appserver {
    /// As [`start`](Self::start) for a test; `None` where this machine can't run one, which is said on the terminal.
    /// Under `CI=true` that is a failure.
    ///
    /// # Errors
    /// As there.
    pub fn for_test(
        programs: &[(&str, PathBuf)],
        tools: &[(&str, &str)],
        without: Option<&str>,
    ) -> Result<Option<Self>> {
        match check_machine() {
            Ok(()) => Self::start(programs, tools, without).map(Some),
            Err(failure) if std::env::var("CI").is_ok_and(|ci| ci == "true") => Err(failure),
            Err(failure) => {
                eprintln!("skipped: {failure}");
                Ok(None)
            }
        }
    }

    /// Switches one on that has `programs`, and the module `without` not loaded.
    ///
    /// # Errors
    /// When this machine lacks what it is made from, or it does not come up.
    pub fn start(
        programs: &[(&str, PathBuf)],
        tools: &[(&str, &str)],
        without: Option<&str>,
    ) -> Result<Self> {
        let slot = VmSlots::take(1)?;
        let kernel = Kernel::find(initramfs::APPSERVER)?;
        let mut files = initramfs::files(&kernel, tools)?;
        for (name, path) in programs {
            for library in initramfs::libraries_of(path)? {
                if !files.iter().any(|(there, _)| *there == library) {
                    files.push((library.clone(), library.into()));
                }
            }
            files.push((format!("/sbin/{name}"), path.clone()));
        }
        let dir = tempfile::tempdir()?;
        let initrd = dir.path().join("initrd");
        fs::write(&initrd, initramfs::pack(&files, &[("/init", INIT), ("/sbin/shell-disks", SHELL_DISKS)])?)
            .context(initrd.display())?;
        let mut command = machine(&kernel, &initrd)?;
        let leave_out = without.map_or_else(String::new, |module| format!(" leave_out={module}"));
        command.arg("-append").arg(format!("console=ttyS0 quiet panic=-1{leave_out}"));
        let (child, console) = switch_on(&mut command)?;
        let mut appserver = Self { child, console, _dir: dir, _slot: slot };
        appserver.console.expect("bootd-test: up ", crate::BOOT)?;
        Ok(appserver)
    }

    /// Runs a line of shell, and returns what it printed and how it ended.
    ///
    /// # Errors
    /// When it does not end in that time.
    pub fn run(&mut self, line: &str, within: Duration) -> Result<(String, i32)> {
        ensure!(!line.contains('\n'), "more than one line");
        self.console.type_line(line)?;
        let (text, code) = self.console.expect_after("bootd-test: ended ", within)?;
        Ok((text, code.trim().parse()?))
    }

    /// The same; the line must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn success(&mut self, line: &str, within: Duration) -> Result<String> {
        let (text, code) = self.run(line, within)?;
        if code != 0 {
            fail!("\"{line}\" ended with {code}:\n{text}");
        }
        Ok(text)
    }
}

fn machine(kernel: &Kernel, initrd: &Path) -> Result<Command> {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-name", "appserver", "-m", MEMORY_MIB, "-smp", "2", "-nographic", "-monitor", "none"]);
    command.args(acceleration()?);
    command.args(["-no-user-config", "-no-reboot", "-nic", "none"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initrd);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Ok(command)
}

impl Drop for Appserver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("console of the appserver:\n{}", self.console.tail());
        }
    }
}
