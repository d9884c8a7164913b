//! A diskless machine: QEMU with a network card, firmware, and nothing else.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Console, Context, FioSystem, Lab, Result, fail};

/// How long a machine may take from one sign of life to the next. Emulated, on two processors that others share, a whole
/// boot takes 20 to 60 s.
pub const BOOT: Duration = Duration::from_secs(240);

/// Firmware as Debian's packages install it. The card's own ROM is not among it: QEMU fits the one that it takes by itself
/// to the card, and one that is named it takes as it is, for another card.
const IPXE_KERNEL: &str = "/usr/lib/ipxe/ipxe.lkrn";
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The same with Secure Boot, and Microsoft's keys enrolled.
const OVMF_CODE_SECURE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const OVMF_VARS_SECURE: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

/// What UEFI tries before HTTP over IPv4 unless it is told not to, a minute each.
const OTHER_WAYS: &[&str] = &["IPv4PXESupport", "IPv6PXESupport", "IPv6Support"];

/// What the card's ROM does in [`Firmware::BiosPxe`]: it denies that it is iPXE, as far as it can.
const PLAIN_PXE: &str = "#!ipxe\nset user-class plainpxe\nautoboot\n";

/// What a system is told that QEMU loads. On a machine that has much else to do, an emulated timer comes too late for the
/// kernel's test of it.
pub(crate) const SYSTEM: &str = "console=ttyS0 no_timer_check quiet panic=-1";

/// How a machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A BIOS whose network card has iPXE in its ROM.
    BiosIpxe,
    /// A BIOS whose network card has plain PXE in its ROM. There is no free PXE ROM but iPXE, so it is one that gives
    /// itself out as another: what it fetches by TFTP, it runs on top of its PXE interface.
    BiosPxe,
    /// UEFI x64 with its own PXE, and no ROM on the card.
    UefiPxe,
    /// The same with its own HTTP boot instead.
    UefiHttp,
    /// UEFI x64 with its own PXE, and Secure Boot switched on.
    UefiSecure,
}

/// A machine that is switched on. Dropping it pulls the plug.
#[derive(Debug)]
pub struct VirtualClient {
    name: String,
    command: Command,
    child: Child,
    console: Console,
    started: Instant,
    tells: bool,
}

impl VirtualClient {
    /// Plugs a machine with that Ethernet address into the lab and switches it on.
    ///
    /// # Errors
    /// When QEMU can't be started.
    pub fn start(lab: &Lab, name: &str, mac: &str, firmware: Firmware) -> Result<Self> {
        Self::start_with(lab, name, mac, firmware, &[])
    }

    /// The same with more words for QEMU.
    ///
    /// # Errors
    /// When QEMU can't be started.
    pub fn start_with(lab: &Lab, name: &str, mac: &str, firmware: Firmware, more: &[&str]) -> Result<Self> {
        Self::start_at(lab, &lab.tap()?, name, mac, firmware, more)
    }

    /// The same on a switch that is behind a router: [`Lab::switch_behind`].
    ///
    /// # Errors
    /// When QEMU can't be started.
    pub fn start_on(lab: &Lab, switch: &str, name: &str, mac: &str, firmware: Firmware) -> Result<Self> {
        Self::start_at(lab, &lab.tap_on(switch)?, name, mac, firmware, &[])
    }

    fn start_at(
        lab: &Lab,
        tap: &str,
        name: &str,
        mac: &str,
        firmware: Firmware,
        more: &[&str],
    ) -> Result<Self> {
        let (mut command, card) = machine(lab, tap, name, mac, 512)?;
        command.args(more);
        match firmware {
            Firmware::BiosIpxe => {
                command.args(["-device", &format!("{card},bootindex=0")]);
            }
            Firmware::BiosPxe => {
                let script = lab.dir().join("plain-pxe.ipxe");
                fs::write(&script, PLAIN_PXE)?;
                command.args(["-device", &format!("{card},romfile="), "-kernel", IPXE_KERNEL]);
                command.arg("-initrd").arg(&script);
            }
            Firmware::UefiPxe | Firmware::UefiHttp | Firmware::UefiSecure => {
                let secure = firmware == Firmware::UefiSecure;
                let (code, initial) =
                    if secure { (OVMF_CODE_SECURE, OVMF_VARS_SECURE) } else { (OVMF_CODE, OVMF_VARS) };
                let variables = lab.dir().join(format!("{name}.vars"));
                fs::copy(initial, &variables).context(initial)?;
                let flash = "if=pflash,format=raw";
                // Secure Boot's variables are written in system management mode only.
                let board = if secure { "q35,smm=on" } else { "q35" };
                command.args(["-machine", board, "-device", &format!("{card},bootindex=0,romfile=")]);
                if secure {
                    command.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
                    command.args(["-global", "ICH9-LPC.disable_s3=1"]);
                }
                command.args(["-drive", &format!("{flash},readonly=on,file={code}")]);
                command.args(["-drive", &format!("{flash},file={}", variables.display())]);
                if firmware == Firmware::UefiHttp {
                    for way in OTHER_WAYS {
                        command.args(["-fw_cfg", &format!("name=opt/org.tianocore/{way},string=n")]);
                    }
                }
            }
        }
        Self::switched_on(lab, name, command)
    }

    /// The same with a kernel and a first root file system that QEMU loads itself: what is tested begins behind the
    /// firmware.
    ///
    /// # Errors
    /// When QEMU can't be started.
    pub fn start_system(lab: &Lab, name: &str, mac: &str, system: &FioSystem) -> Result<Self> {
        let (mut command, card) = machine(lab, &lab.tap()?, name, mac, FioSystem::MEMORY_MIB)?;
        command.args(["-device", &format!("{card},romfile="), "-append", SYSTEM]);
        command.arg("-kernel").arg(system.kernel()).arg("-initrd").arg(system.initrd()).arg("-no-reboot");
        Self::switched_on(lab, name, command)
    }

    fn switched_on(lab: &Lab, name: &str, mut command: Command) -> Result<Self> {
        let (child, console) = switch_on(&mut command)?;
        let (name, tells) = (name.to_owned(), lab.tells());
        Ok(Self { name, command, child, console, started: Instant::now(), tells })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was switched on.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Its serial console.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// Waits until `text` shows on the console, and returns the rest of its line.
    ///
    /// # Errors
    /// When it does not come.
    pub fn expect(&mut self, text: &str) -> Result<String> {
        self.console.expect(text, BOOT).context(format!("client {}", self.name))
    }

    /// Waits until `text` is painted on the console.
    ///
    /// # Errors
    /// When it does not come.
    pub fn expect_painted(&mut self, text: &str) -> Result {
        self.console.expect_painted(text, BOOT).context(format!("client {}", self.name))
    }

    /// Pulls the plug and puts it in again. The console begins anew.
    ///
    /// # Errors
    /// When QEMU can't be started again.
    pub fn power_cycle(&mut self) -> Result {
        self.pull_plug();
        (self.child, self.console) = switch_on(&mut self.command)?;
        self.started = Instant::now();
        Ok(())
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn wait_off(&mut self) -> Result {
        let Self { child, name, .. } = self;
        let status =
            crate::wait_for(&format!("client {name} to switch itself off"), BOOT, || Ok(child.try_wait()?))?;
        if !status.success() {
            fail!("QEMU of client {name} ended with {status}");
        }
        Ok(())
    }

    fn pull_plug(&mut self) {
        // It may be off already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for VirtualClient {
    fn drop(&mut self) {
        self.pull_plug();
        if self.tells {
            eprintln!("console of client {}:\n{}", self.name, self.console.tail());
        }
    }
}

/// QEMU with that much memory on that tap, and the network card that is still to be plugged in.
fn machine(lab: &Lab, tap: &str, name: &str, mac: &str, memory_mib: u32) -> Result<(Command, String)> {
    let memory = memory_mib.to_string();
    let mut command = lab.switch().command("qemu-system-x86_64");
    command.args(["-name", name, "-m", &memory, "-nographic", "-monitor", "none", "-no-user-config"]);
    command.args(acceleration()?);
    command.args(["-netdev", &format!("tap,id=n0,ifname={tap},script=no,downscript=no")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Ok((command, format!("virtio-net-pci,netdev=n0,mac={mac}")))
}

pub(crate) fn switch_on(command: &mut Command) -> Result<(Child, Console)> {
    let mut child = command.spawn().context("can't start qemu-system-x86_64")?;
    let screen = child.stdout.take().context("QEMU without a screen")?;
    let keyboard = child.stdin.take().context("QEMU without a keyboard")?;
    Ok((child, Console::new(screen, keyboard)))
}

/// `BOOTD_ACCEL=kvm` for those who have it; emulation runs anywhere.
pub(crate) fn acceleration() -> Result<[&'static str; 4]> {
    match std::env::var("BOOTD_ACCEL").as_deref().unwrap_or("tcg") {
        "tcg" => Ok(["-accel", "tcg", "-cpu", "max"]),
        // Not `host`: within another virtual machine, parts of the host's model can't be had.
        "kvm" => Ok(["-accel", "kvm", "-cpu", "qemu64"]),
        other => fail!("BOOTD_ACCEL is {other:?}, but can only be \"tcg\" or \"kvm\""),
    }
}
