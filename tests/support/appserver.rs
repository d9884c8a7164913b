//! An appserver: a virtual machine with Debian's kernel that has device-mapper and LIO, which this machine may lack. What
//! is tested runs inside of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::initramfs::{self, Kernel};
use crate::virtual_client::{SYSTEM, acceleration, switch_on};
use crate::{Console, Context, Lab, Result, VmSlots, check_machine, ensure, fail};

const INIT: &str = include_str!("../fixtures/appserver-init");
/// What scripts do, for comparing.
const SHELL_DISKS: &str = include_str!("../fixtures/shell-disks");
const MEMORY_MIB: &str = "1280";

/// What an appserver is made with.
#[derive(Debug, Default)]
pub struct AppserverOptions<'a> {
    /// Programs of ours: the name there, and where it lies here.
    pub programs: Vec<(&'a str, PathBuf)>,
    /// Programs of this machine, and the package that each is in.
    pub tools: &'a [(&'a str, &'a str)],
    /// The module that is not loaded, as its file is called.
    pub without: Option<&'a str>,
    /// Modules that it has besides.
    pub modules: &'a [&'a str],
    /// The lab in whose switch its network card is.
    pub lab: Option<&'a Lab>,
    /// What its disk `/dev/vda` holds, which it can't write to.
    pub disk: Option<&'a Path>,
    /// Bytes of a disk of its own, empty, for writing.
    pub scratch: Option<u64>,
    /// Whether all files of this machine are there at `/host`, for reading, with the appserver's own `/proc`, `/sys` and
    /// `/dev`, and with `/host/run` and `/host/mnt` empty and writable. For `chroot /host PROGRAM`.
    pub share: bool,
}

/// An appserver that is switched on. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Appserver {
    child: Child,
    console: Console,
    _dir: tempfile::TempDir,
    /// Held by whoever made the lab, where it is in one.
    _slot: Option<VmSlots>,
}

impl Appserver {
    /// Switches one on; `None` where this machine can't, which is said on the terminal. Under `CI=true` that is a
    /// failure.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn for_test(options: &AppserverOptions<'_>) -> Result<Option<Self>> {
        match check_machine() {
            Ok(()) => Self::start(options).map(Some),
            Err(failure) if std::env::var("CI").is_ok_and(|ci| ci == "true") => Err(failure),
            Err(failure) => {
                eprintln!("skipped: {failure}");
                Ok(None)
            }
        }
    }

    fn start(options: &AppserverOptions<'_>) -> Result<Self> {
        let slot = options.lab.is_none().then(|| VmSlots::take(1)).transpose()?;
        let shared: &[&str] = if options.share { initramfs::SHARE } else { &[] };
        let kernel = Kernel::find(&[initramfs::APPSERVER, options.modules, shared].concat())?;
        let mut files = initramfs::files(&kernel, options.tools)?;
        for (name, path) in &options.programs {
            for library in initramfs::libraries_of(path)? {
                if !files.iter().any(|(there, _)| *there == library) {
                    files.push((library.clone(), library.into()));
                }
            }
            files.push((format!("/sbin/{name}"), path.clone()));
        }
        let dir = tempfile::tempdir()?;
        let initrd = dir.path().join("initrd");
        let texts = [("/init", INIT), ("/sbin/shell-disks", SHELL_DISKS)];
        fs::write(&initrd, initramfs::pack(&files, &texts)?).context(initrd.display())?;
        let mut command = machine(&kernel, &initrd, options)?;
        if let Some(size) = options.scratch {
            let path = dir.path().join("scratch");
            fs::File::create(&path).context(path.display())?.set_len(size)?;
            command.args(["-drive", &format!("file={},if=virtio,format=raw,cache=unsafe", path.display())]);
        }
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

fn machine(kernel: &Kernel, initrd: &Path, options: &AppserverOptions<'_>) -> Result<Command> {
    const QEMU: &str = "qemu-system-x86_64";
    let mut command = match options.lab {
        Some(lab) => {
            let mut command = lab.switch().command(QEMU);
            command.args(["-netdev", &format!("tap,id=n0,ifname={},script=no,downscript=no", lab.tap()?)]);
            command.args(["-device", "virtio-net-pci,netdev=n0,mac=52:54:00:77:09:01,romfile="]);
            command
        }
        None => {
            let mut command = Command::new(QEMU);
            command.args(["-nic", "none"]);
            command
        }
    };
    command.args(["-name", "appserver", "-m", MEMORY_MIB, "-smp", "2", "-nographic", "-monitor", "none"]);
    command.args(acceleration()?);
    command.args(["-no-user-config", "-no-reboot"]);
    if let Some(disk) = options.disk {
        let drive = format!("file={},if=virtio,format=raw,readonly=on", disk.display());
        command.args(["-drive", &drive]);
    }
    if options.share {
        command.args(["-fsdev", "local,id=host,path=/,readonly=on,security_model=none,multidevs=remap"]);
        command.args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
    }
    let leave_out = options.without.map_or_else(String::new, |module| format!(" leave_out={module}"));
    command.arg("-append").arg(format!("{SYSTEM}{leave_out}"));
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
