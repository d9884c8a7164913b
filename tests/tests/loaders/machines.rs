//! Boot loaders on whole machines.

use std::fs;
use std::thread;
use std::time::Duration;

use support::{
    BOOT, Daemon, Firmware, Lab, Result, Screen, TestDisk, VirtualClient, VmSlots, ensure, put_net_system,
    sh, wait_for,
};

use crate::{check_steps, put_template};

const IMAGE: &str = "linux";

/// What the shipped menu shows to a client, for as long as nobody presses a key: what it does not have, and its disk.
const CHOICES: [&[&str]; 3] = [
    &["choice/own", "kind=local", "title=Its own disk"],
    &["choice/linux", "kind=disk", "title=Linux", "key=x"],
    &["group/lab", "choices=own", "choices=linux", "menu_timeout=0"],
];

/// Of how many colours the shipped menu is at least; one of text has 16 at most.
const COLOURS: usize = 17;

#[test]
fn a_bios_client_chooses_its_disk_in_pxelinux_and_falls_back_into_the_boot_from_it() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let disk = TestDisk::get()?;
    let _slots = VmSlots::take(1)?;
    let daemon = Daemon::start(&lab)?;
    daemon.add_image(IMAGE, disk.path())?;
    daemon.add_client("classic", "52:54:00:77:05:01", IMAGE)?;
    daemon.cli(&["client", "set", "classic", "--menu", "classic.ipxe"])?.success()?;
    for words in CHOICES {
        daemon.cli(&[&["site", "create"], words].concat())?.success()?;
    }
    daemon.cli(&["site", "set", "client/classic", "groups=lab"])?.success()?;
    let screen = Screen::new(&lab);
    let words = screen.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut client =
        VirtualClient::start_with(&lab, "classic", "52:54:00:77:05:01", Firmware::BiosIpxe, &words)?;

    // Nothing of a graphical menu comes over the serial line.
    wait_for("the menu on the screen", BOOT, || {
        client.console().check_hope()?;
        // The machine has better things to do than to paint pictures.
        thread::sleep(Duration::from_secs(1));
        let Some((width, height, colours)) = screen.look()? else { return Ok(None) };
        Ok(((width, height) == (640, 480) && colours >= COLOURS).then_some(()))
    })?;
    // Its key goes to the entry, Enter boots it.
    client.console().type_line("x")?;
    client.expect("bootd: classic boots from its disk")?;
    let initiator = client.expect("bootd-test: ibft initiator ")?;
    ensure!(initiator.ends_with(".classic:system-disk"), "{initiator}");
    ensure!(client.expect("bootd-test: image ")? == TestDisk::label(), "another disk");
    ensure!(client.expect("bootd-test: before ")? == "nothing", "not a fresh disk");
    client.expect("bootd-test: ready")?;
    let steps = [
        "boot script",
        "log-in 1",
        "HTTP pxelinux.0",
        "TFTP pxelinux.cfg/default",
        "TFTP vesamenu.c32",
        "log-in 2",
        "first write",
    ];
    check_steps(&daemon, "classic", &steps)?;
    disk.check_untouched()
}

/// What the client may boot: a Linux without a disk, which GRUB's menu goes on to by itself.
const CHOICE: &str = r#"
[entities.choice.live]
title = "Linux without a disk"
kind = "linux"
kernel = "net/vmlinuz"
initrd = ["net/initrd.gz"]
root = "http://10.77.0.1/files/motd"
cmdline = "console=ttyS0 no_timer_check quiet panic=-1"

[entities.client.grub]
mac = "52:54:00:77:05:02"
boot_program = "grub/x86_64-efi/core.efi"
choices = ["live"]
default_choice = "live"
menu_timeout = "1"
"#;

#[test]
fn a_uefi_client_boots_a_linux_without_a_disk_by_grub_from_the_network() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let _slots = VmSlots::take(1)?;
    // Boot programs are found when the daemon starts.
    let files = lab.dir().join("data/files");
    put_net_system(&files.join("net"))?;
    sh(&[
        "grub-mknetdir",
        &format!("--net-directory={}", files.display()),
        "--subdir=grub",
        "--directory=/usr/lib/grub/x86_64-efi",
        "--modules=http efinet net normal linux echo all_video",
        "--locales=",
        "--fonts=",
        "--themes=",
    ])?;
    let own = files.join("grub/grub.cfg");
    let _ = fs::remove_file(&own);
    let daemon = Daemon::start(&lab)?;
    put_template(&daemon, "motd.tera", "root of {{ client.name }}\n")?;
    let site = lab.dir().join("site.toml");
    fs::write(&site, CHOICE)?;
    daemon.cli(&["site", "apply", &site.to_string_lossy(), "--yes"])?.success()?;
    let mut client = VirtualClient::start(&lab, "grub", "52:54:00:77:05:02", Firmware::UefiPxe)?;

    let started = client.expect("bootd-test: started with ")?;
    let said = "BOOTIF=01-52-54-00-77-05-02 root=live:http://10.77.0.1/files/motd";
    ensure!(started.contains(said), "the kernel was told {started:?}");
    ensure!(client.expect("bootd-test: fetched ")? == "root of grub", "another root");
    client.expect("bootd-test: ready")?;
    check_steps(
        &daemon,
        "grub",
        &[
            "TFTP grub/x86_64-efi/core.efi",
            "TFTP /grub/grub.cfg-01-52-54-00-77-05-02",
            "HTTP net/vmlinuz",
            "HTTP net/initrd.gz",
            "HTTP motd",
        ],
    )?;
    let missed = daemon.steps("grub")?.iter().any(|step| step.what.contains("no such file: grub/grub.cfg"));
    ensure!(!missed, "GRUB had to search for its menu");
    client.console().type_line("poweroff")?;
    client.wait_off()?;
    Ok(())
}
