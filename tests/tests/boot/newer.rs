//! iPXE 2.x, where Debian 12's is of 2019: as the program that bootd serves to a BIOS and to UEFI, and in a card's ROM.

use support::{Firmware, NewerIpxe, Result, VirtualClient, ensure};

use crate::{BIOS_STEPS, CHOSEN_AND_SLOW, IMAGE, SLOW, Site};

/// Where the client's iPXE says what it is.
fn check_version(client: &mut VirtualClient, newer: &NewerIpxe) -> Result {
    let banner = format!("iPXE {}", newer.version()?);
    ensure!(client.console().has_shown(&banner), "no {banner} ran:\n{}", client.console().tail());
    Ok(())
}

#[test]
fn ipxe_2_boots_a_bios_and_a_uefi_client_as_the_one_of_2019_does() -> Result {
    let Some(newer) = NewerIpxe::get()? else { return Ok(()) };
    let Some(site) = Site::new(2)? else { return Ok(()) };
    for program in ["undionly.kpxe", "snponly.efi"] {
        site.daemon.cli(&["bootprogram", "add", &newer.program(program)])?.success()?;
    }

    // UEFI's runs what it finds beside itself before anything else, and that leads it to its script.
    let mut uefi = site.switch_on("uefi", "52:54:00:77:01:0b", Firmware::UefiPxe)?;

    // The BIOS's has a menu, and a disk that takes long.
    let (name, mac) = ("bios", "52:54:00:77:01:0a");
    let held = site.add_slow_image()?;
    site.daemon.add_client(name, mac, SLOW)?;
    site.offer_menu(name)?;
    let mut bios = VirtualClient::start(&site.lab, name, mac, Firmware::BiosPxe)?;
    site.wait_step(name, "", "menu bios")?;
    site.choose(&mut bios, b'x', "chosen: linux")?;
    site.wait_step(name, "", "waits for its disk")?;
    drop(held);
    site.expect_pristine(&mut bios)?;
    site.check_steps(name, &[&["TFTP undionly.kpxe"], CHOSEN_AND_SLOW].concat())?;
    check_version(&mut bios, &newer)?;
    drop(bios);

    // What the ROM's says that it can is enough: it is given its script at once.
    let mac = "52:54:00:77:01:0c";
    site.daemon.add_client("rom", mac, IMAGE)?;
    let roms = newer.roms();
    let mut rom = VirtualClient::start_with(&site.lab, "rom", mac, Firmware::BiosIpxe, &["-L", &roms])?;
    site.expect_pristine(&mut rom)?;
    site.check_steps("rom", BIOS_STEPS)?;
    let steps = site.daemon.steps("rom")?;
    ensure!(!steps.iter().any(|step| step.what.contains("TFTP")), "it was given a program: {steps:#?}");
    check_version(&mut rom, &newer)?;
    drop(rom);

    site.expect_pristine(&mut uefi)?;
    site.check_steps("uefi", &["TFTP efi/x64/snponly.efi", "autoexec.ipxe", "boot script", "log-in 1"])?;
    check_version(&mut uefi, &newer)?;
    site.disk.check_untouched()
}
