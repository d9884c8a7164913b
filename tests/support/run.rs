//! Running the machine's tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{Context, Failure, Result, ensure, postgres};

/// What a tool did.
#[derive(Debug)]
pub struct Ran {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Ran {
    /// Whether it said that it succeeded.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// What it printed, if it succeeded.
    ///
    /// # Errors
    /// When it did not; the text has all that it said.
    pub fn success(self) -> Result<String> {
        if self.ok() { Ok(self.stdout) } else { Err(self.failure()) }
    }

    /// That it succeeded where it should not have, or the other way round.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let Self { command, code, stdout, stderr } = self;
        let code = code.map_or("by a signal".to_owned(), |code| format!("with code {code}"));
        Failure::new(format!("{command}\nended {code}\n{stdout}\n{stderr}"))
    }

    /// Both outputs, for searching.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end with nothing on its standard input.
///
/// # Errors
/// When it can't be started. That it failed is for the caller to see in [`Ran`].
pub fn run(command: &mut Command) -> Result<Ran> {
    let shown = show(command);
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().context(format!("can't start {shown}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { command: shown, code: status.code(), stdout: text(stdout), stderr: text(stderr) })
}

/// Runs `words` to success and returns what was printed.
///
/// # Errors
/// When the command can't be started or fails.
pub fn sh(words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("no command")?;
    run(Command::new(program).args(arguments))?.success()
}

/// The program's path, if the machine has it. Looks in `sbin` as well: a root's PATH may lack it.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    path.split(':').chain(more).map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// What a machine needs for these tests and may lack: program or file, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("iscsistart", "open-iscsi"),
    ("fio", "fio"),
    ("iscsi-ls", "libiscsi-bin"),
    ("iscsi-test-cu", "libiscsi-bin"),
    ("qemu-img", "qemu-utils"),
    ("/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so", "qemu-block-extra"),
    ("curl", "curl"),
    ("nft", "nftables"),
    ("tcpdump", "tcpdump"),
    ("atftp", "atftp"),
    ("tftp", "tftp-hpa"),
    ("dhclient", "isc-dhcp-client"),
    ("dnsmasq", "dnsmasq-base"),
    ("/usr/lib/python3/dist-packages/scapy/all.py", "python3-scapy"),
    ("mcopy", "mtools"),
    ("mkfs.vfat", "dosfstools"),
    ("mke2fs", "e2fsprogs"),
    ("syslinux", "syslinux"),
    ("grub-mkstandalone", "grub-common"),
    ("/usr/lib/grub/x86_64-efi/normal.mod", "grub-efi-amd64-bin"),
    ("/usr/lib/syslinux/mbr/mbr.bin", "syslinux-common"),
    ("/usr/lib/ipxe/undionly.kpxe", "ipxe"),
    ("/usr/lib/ipxe/qemu/efi-virtio.rom", "ipxe-qemu"),
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
];

/// Says what this machine lacks to run labs and virtual clients.
///
/// # Errors
/// When it lacks something: the text says what, and which command installs it.
pub fn check_machine() -> Result {
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "this needs root, for network namespaces: run it as root (sudo make test)"
    );
    let mut missing: Vec<_> = NEEDED
        .iter()
        .filter(|(name, _)| match name.strip_prefix('/') {
            Some(_) => fs::metadata(name).is_err(),
            None => find_program(name).is_none(),
        })
        .collect();
    if postgres::programs().is_none() {
        missing.push(&("PostgreSQL's server", "postgresql"));
    }
    let names: Vec<_> = missing.iter().map(|(name, package)| format!("{name} ({package})")).collect();
    ensure!(missing.is_empty(), "this machine lacks {}; \"make deps\" installs it", names.join(", "));
    Ok(())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
