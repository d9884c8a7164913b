//! Boot programs, from the admin's hand to the wire.

use std::fs;

use support::{Asks, Context, Result, SERVER, ensure};

use crate::Site;
use crate::files::{PC1, client, curl};

const INSTALLED: &str = "/usr/lib/ipxe/snponly.efi";

#[test]
fn a_program_that_was_taken_in_is_served_where_boot_loaders_look() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    let got = pc1.file("got");
    let tftp = |name: &str| -> Result<Vec<u8>> {
        let _ = fs::remove_file(&got);
        let asked =
            ["--option", "blksize 1428", "--get", "--local-file", &got, "--remote-file", name, SERVER];
        pc1.sh(&[&["atftp"], &asked[..]].concat())?;
        Ok(fs::read(&got)?)
    };
    let http = |name: &str| -> Result<Vec<u8>> {
        curl(&pc1, &["--fail", "--path-as-is", "-o", &got, &format!("http://{SERVER}/files/{name}")])?
            .success()?;
        Ok(fs::read(&got)?)
    };

    // One of another length than the package's, and still one.
    let mut own = fs::read(INSTALLED).context(INSTALLED)?;
    own.extend_from_slice(&[0; 100]);
    let file = site.lab.dir().join("mine.efi");
    fs::write(&file, &own)?;
    let file = file.to_string_lossy();
    let added = site.daemon.json(&["bootprogram", "add", &file, "--name", "snponly.efi", "--arch", "x64"])?;
    ensure!(added["name"] == "efi/x64/snponly.efi" && added["own"] == true, "{added}");
    ensure!(added["program"]["signed"] == false && added["program"]["firmware"] == "uefi-x64", "{added}");

    let lease = pc1.ask(Asks::UefiPxe, &[])?;
    ensure!(lease.get("boot_file") == "efi/x64/snponly.efi", "it is not offered at once: {lease:?}");
    for name in ["efi/x64/snponly.efi", "efi/x64//snponly.efi", "//efi/x64/SNPONLY.EFI"] {
        ensure!(tftp(name)? == own, "TFTP of {name}");
        ensure!(http(name)? == own, "HTTP of {name}");
    }
    ensure!(tftp("efi\\x64\\snponly.efi")? == own, "TFTP with the other slashes");
    let beside = fs::read("/usr/lib/ipxe/ipxe.efi")?;
    ensure!(
        tftp("efi/x64/ipxe.efi")? == beside && http("efi/x64//ipxe.efi")? == beside,
        "the package's beside it"
    );
    for script in [tftp("efi/x64/autoexec.ipxe")?, http("efi/x64//autoexec.ipxe")?] {
        let script = String::from_utf8(script)?;
        ensure!(script.starts_with("#!ipxe\n") && script.contains(&pc1.script_url()), "{script}");
    }

    let wrong = site.daemon.cli(&["bootprogram", "add", &file, "--arch", "arm64"])?;
    ensure!(
        !wrong.ok() && wrong.stderr.contains("is for UEFI x64, not for UEFI arm64"),
        "{}",
        wrong.failure()
    );
    let page = site.lab.dir().join("page.efi");
    fs::write(&page, "<!DOCTYPE html><title>404</title>".repeat(9))?;
    let wrong = site.daemon.cli(&["bootprogram", "add", &page.to_string_lossy()])?;
    ensure!(!wrong.ok() && wrong.stderr.contains("a web page"), "{}", wrong.failure());

    let listed = site.daemon.cli(&["bootprogram", "list"])?.success()?;
    ensure!(listed.contains("efi/x64/snponly.efi") && listed.contains("undionly.kpxe"), "{listed}");
    site.daemon.cli(&["bootprogram", "remove", "efi/x64/snponly.efi"])?.success()?;
    ensure!(pc1.ask(Asks::UefiPxe, &[])?.get("boot_file") == "snponly.efi", "the package's is the one again");
    ensure!(tftp("efi/x64/snponly.efi")? == fs::read(INSTALLED)?, "by either name");
    Ok(())
}

#[test]
fn an_ipxe_that_lacks_something_is_given_a_whole_one_once() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let pc1 = client(&site, "pc1", PC1)?;
    // An iPXE on a BIOS with iSCSI and menus, but no HTTP.
    let lacking = ["-x", "0x4d:69505845", "-x", "0xaf:110101270101"];
    let first = pc1.ask(Asks::BiosPxe, &lacking)?;
    ensure!(first.get("boot_file") == "undionly.kpxe", "{first:?}");
    let second = pc1.ask(Asks::BiosPxe, &lacking)?;
    ensure!(second.get("boot_file").ends_with("/script.ipxe"), "the same program again: {second:?}");
    Ok(())
}
