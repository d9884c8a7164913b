//! Secure Boot, truly on: firmware with Microsoft's keys loads shim from the network, and shim what lies beside it.

use std::fs;

use support::{Daemon, Firmware, Lab, Result, TestDisk, VirtualClient, VmSlots, ensure, wait_for};

const IMAGE: &str = "linux";
const MAC: &str = "52:54:00:77:05:01";
const SHIM: &str = "/usr/lib/shim/shimx64.efi.signed";
const GRUB: &str = "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed";

/// GRUB sets `lockdown` where the firmware says that Secure Boot is on, and nowhere else.
const MENU: &str =
    "echo \"bootd-test: {{ client.name }} runs a signed GRUB, lockdown $lockdown\"\nsleep 600\n";

#[test]
fn signed_programs_boot_side_by_side_and_unsigned_ones_do_not() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let _slots = VmSlots::take(1)?;
    let daemon = Daemon::start(&lab)?;
    daemon.add_image(IMAGE, TestDisk::get()?.path())?;
    let added = daemon.json(&["bootprogram", "add", SHIM, "--arch", "x64"])?;
    ensure!(added["name"] == "efi/x64/shimx64.efi" && added["program"]["signed"] == true, "{added}");
    daemon.cli(&["bootprogram", "add", GRUB, "--name", "grubx64.efi"])?.success()?;
    let menus = daemon.data().join("menus/grub");
    fs::create_dir_all(&menus)?;
    fs::write(menus.join("grub.cfg.tera"), MENU)?;
    daemon.add_client("pc1", MAC, IMAGE)?;
    daemon.cli(&["client", "set", "pc1", "--boot-program", "shimx64.efi"])?.success()?;

    let mut pc1 = VirtualClient::start(&lab, "pc1", MAC, Firmware::UefiSecure)?;
    let lockdown = pc1.expect("bootd-test: pc1 runs a signed GRUB, lockdown ")?;
    ensure!(lockdown == "y", "Secure Boot is not on: lockdown is {lockdown:?}");
    let fetched = |name: &str| {
        Ok::<_, support::Failure>(daemon.steps("pc1")?.iter().any(|step| step.what.contains(name)))
    };
    ensure!(fetched("shimx64.efi")? && fetched("grubx64.efi")?, "{:#?}", daemon.steps("pc1")?);

    // Debian's iPXE is not signed: firmware takes it over the wire, and does not run it.
    daemon.cli(&["client", "set", "pc1", "--boot-program", "snponly.efi"])?.success()?;
    let scripts = daemon.counter("scripts_rendered")?;
    pc1.power_cycle()?;
    wait_for("the unsigned program to be fetched", support::BOOT, || {
        Ok(fetched("snponly.efi")?.then_some(()))
    })?;
    pc1.expect("Access Denied")?;
    ensure!(daemon.counter("scripts_rendered")? == scripts, "an unsigned program ran");
    Ok(())
}
