//! A server with a whole Debian: systemd, udev and dpkg, in a virtual machine. Its disk is made of the packages of this
//! machine, once for each set of them, and is as new for each server.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::initramfs::{self, Kernel};
use crate::test_disk::hex;
use crate::virtual_client::{acceleration, switch_on};
use crate::{Console, Context, Lab, Result, cache_dir, ensure, fail, sh, workspace};

const SCRIPT: &str = include_str!("../fixtures/debian-root");
const INIT: &str = include_str!("../fixtures/debian-init");

/// Modules without which there is no disk and no network card. All others are systemd's to load.
const FIRST: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4"];

const MEMORY_MIB: &str = "1280";

/// A server that is switched on, with what its disks have behind `/dev/vdb`. Dropping it pulls the plug.
#[derive(Debug)]
pub struct DebianServer {
    child: Child,
    console: Console,
    tells: bool,
    _dir: tempfile::TempDir,
}

impl DebianServer {
    /// Plugs one into the lab and switches it on. Its card is `eth0` and has no address; the disks are read-only, from
    /// `/dev/vdb` on.
    ///
    /// # Errors
    /// When this machine lacks what it is made of, or it does not come up.
    pub fn start(lab: &Lab, disks: &[&Path]) -> Result<Self> {
        let kernel = Kernel::find(initramfs::APPSERVER)?;
        let root = root(&kernel)?;
        let first = kernel.with(FIRST).context("a kernel without virtio or ext4")?;
        let dir = tempfile::tempdir()?;
        let initrd = dir.path().join("initrd");
        fs::write(&initrd, initramfs::pack(&initramfs::files(&first, &[])?, &[("/init", INIT)])?)?;
        let mut command = lab.switch().command("qemu-system-x86_64");
        command.args(["-name", "debian", "-m", MEMORY_MIB, "-smp", "2", "-nographic", "-monitor", "none"]);
        command.args(acceleration()?);
        command.args(["-no-user-config", "-no-reboot"]);
        command.args(["-netdev", &format!("tap,id=n0,ifname={},script=no,downscript=no", lab.tap()?)]);
        command.args(["-device", "virtio-net-pci,netdev=n0,mac=52:54:00:77:09:01,romfile="]);
        // What it writes is in a file of QEMU's own, and gone with it.
        command.args([
            "-drive",
            &format!("file={},if=virtio,format=raw,snapshot=on,cache=unsafe", root.display()),
        ]);
        for disk in disks {
            command.args(["-drive", &format!("file={},if=virtio,format=raw,readonly=on", disk.display())]);
        }
        command.args(["-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 systemd.show_status=no"]);
        command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&initrd);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let (child, console) = switch_on(&mut command)?;
        let mut server = Self { child, console, tells: lab.tells(), _dir: dir };
        server.console.expect("bootd-test: up ", crate::BOOT)?;
        Ok(server)
    }

    /// Runs a line of shell, and returns what it printed and how it ended.
    ///
    /// # Errors
    /// When it does not end in that time.
    pub fn run(&mut self, line: &str, within: Duration) -> Result<(String, i32)> {
        ensure!(!line.contains('\n'), "more than one line");
        self.console.type_line(line)?;
        let (text, code) = self.console.expect_after("bootd-test: ended ", within)?;
        // Before it stands how the last one ended, behind it the beginning of the line that says so of this one.
        let told = text.split_once('\n').map_or("", |(_, told)| told);
        let told = told.rsplit_once("bootd-test: ended").map_or(told, |(told, _)| told);
        Ok((told.to_owned(), code.trim().parse()?))
    }

    /// The same; the line must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn success(&mut self, line: &str, within: Duration) -> Result<String> {
        match self.run(line, within)? {
            (text, 0) => Ok(text),
            (text, code) => fail!("\"{line}\" ended with {code}:\n{text}"),
        }
    }
}

impl Drop for DebianServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.tells {
            eprintln!("console of the server:\n{}", self.console.tail());
        }
    }
}

/// The disk's file, made now if no test made it before.
fn root(kernel: &Kernel) -> Result<PathBuf> {
    let script = workspace().join("tests/fixtures/debian-root").display().to_string();
    let mut hash = Sha256::new();
    hash.update(SCRIPT);
    hash.update(sh(&[&script, "--packages"])?);
    for path in [&kernel.image].into_iter().chain(kernel.modules()) {
        hash.update(path.to_string_lossy().as_bytes());
        hash.update(fs::read(path).context(path.display())?);
    }
    let dir = cache_dir()?;
    let name: String = hex(&hash.finalize()).chars().take(16).collect();
    let image = dir.join(format!("debian-{name}.img"));
    let lock = File::create(dir.join("debian.lock"))?;
    lock.lock()?;
    if !image.is_file() {
        let unfinished = dir.join("debian.unfinished");
        let mut command = Command::new(&script);
        command.arg(&unfinished).arg(kernel.name()?).args(kernel.modules());
        crate::run(&mut command)?.success().context("can't make a Debian of this machine's packages")?;
        fs::rename(&unfinished, &image)?;
    }
    Ok(image)
}
