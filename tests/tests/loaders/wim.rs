//! A Windows PE as far as it goes without Microsoft's files: to a program in wimboot's place, which is started by iPXE and
//! tells what it was given.

use std::fs;

use support::{Daemon, Firmware, Lab, Result, VirtualClient, VmSlots, ensure, sh, workspace};

use crate::check_steps;

const MAC: &str = "52:54:00:77:05:04";

/// The files of a Windows PE, with lengths of which none is a multiple of what they are aligned to.
const FILES: &[(&str, usize)] =
    &[("startnet.cmd", 41), ("BCD", 20_481), ("boot.sdi", 317_003), ("boot.wim", 1_500_002)];

/// Makes the stand-in.
fn wimboot(lab: &Lab) -> Result<String> {
    let file = |name: &str| lab.dir().join(name).to_string_lossy().into_owned();
    let (object, program) = (file("wimboot.o"), file("wimboot"));
    let source = workspace().join("tests/fixtures/wimboot.s");
    sh(&["as", "--32", "-o", &object, &source.to_string_lossy()])?;
    sh(&["ld", "-m", "elf_i386", "-Ttext", "0", "--oformat", "binary", "-o", &program, &object])?;
    Ok(program)
}

#[test]
fn wimboot_is_started_with_each_of_its_files_by_name() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let _slots = VmSlots::take(1)?;
    let daemon = Daemon::start(&lab)?;
    let added = daemon.json(&["bootprogram", "add", &wimboot(&lab)?])?;
    ensure!(added["name"] == "wimboot" && added["program"]["kind"] == "kernel", "{added}");
    let folder = daemon.data().join("files/winpe");
    fs::create_dir_all(&folder)?;
    for (name, len) in FILES {
        fs::write(folder.join(name), vec![0x5a; *len])?;
    }
    let files = ["wim=winpe/boot.wim", "wim_files=winpe/startnet.cmd"];
    let pe = ["choice/pe", "kind=wim", "title=Windows PE", "cmdline=gui rawbcd"];
    for words in [
        &[&["site", "create"], &pe[..], &files].concat()[..],
        &["client", "add", "winner", "--mac", MAC],
        &["site", "set", "client/winner", "choices=pe", "menu_timeout=0"],
    ] {
        daemon.cli(words)?.success()?;
    }
    let mut client = VirtualClient::start(&lab, "winner", MAC, Firmware::BiosIpxe)?;
    let told = client.expect("bootd-test: wimboot starts: ")?;
    ensure!(told == "gui rawbcd", "it was told {told:?}");
    for (name, len) in FILES {
        let file = client.expect("bootd-test: wimboot has ")?;
        ensure!(file.eq_ignore_ascii_case(&format!("{name} {len:08x}")), "{file:?} is not {name}");
    }
    client.expect("bootd-test: wimboot has seen all")?;
    check_steps(&daemon, "winner", &["chosen: pe", "HTTP wimboot", "HTTP winpe/boot.wim"])
}
