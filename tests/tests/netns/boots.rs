//! Boots that go wrong, and what bootd says of them; what it keeps of boots over a restart; captures.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, sendto, setsockopt, socket, sockopt,
};
use serde_json::Value;
use support::{
    Asks, CLIENT_INTERFACE, Context, Daemon, Initiator, NetClient, OfferedDisk, Result, SERVER, SOON,
    bootd_binary, ensure, wait_for,
};

use crate::{IMAGE, Site};

/// How long it may take for a boot to be called stalled: a minute, on a machine that does other things.
const STALLED: Duration = Duration::from_secs(240);

/// A client that sends DISCOVERs until one is heard, which a network that was made a moment ago may lose.
fn search(daemon: &Daemon, client: &NetClient, mac: &str, secs: u16) -> Result {
    wait_for("a DISCOVER to be heard", SOON, || {
        discover(client, mac, secs)?;
        let boots = daemon.json(&["boots", mac])?;
        Ok(boots.pointer("/boots/0").is_some().then_some(()))
    })
}

/// A DISCOVER of a UEFI machine, whose search began so many seconds ago.
fn discover(client: &NetClient, mac: &str, secs: u16) -> Result {
    let mac: Vec<u8> = mac.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let mut packet = vec![0; 240];
    packet[..8].copy_from_slice(&[1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44]);
    packet[8..10].copy_from_slice(&secs.to_be_bytes());
    packet[10] = 0x80;
    packet[28..34].copy_from_slice(&mac);
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend_from_slice(&[53, 1, 1, 93, 2, 0, 7, 60, 9]);
    packet.extend_from_slice(b"PXEClient\xff");
    packet.resize(300, 0);
    client.namespace().enter(|| {
        let sender = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&sender, sockopt::Broadcast, &true)?;
        setsockopt(&sender, sockopt::BindToDevice, &CLIENT_INTERFACE.into())?;
        let to = SockaddrIn::new(255, 255, 255, 255, 67);
        sendto(sender.as_raw_fd(), &packet, &to, MsgFlags::empty())
    })??;
    Ok(())
}

/// The causes that bootd names for that machine's last boot.
fn causes(daemon: &Daemon, machine: &str) -> Result<Vec<String>> {
    let explained = daemon.json(&["explain", machine])?;
    let findings = explained.pointer("/boot/findings").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(findings.iter().filter_map(|finding| Some(finding.get("cause")?.as_str()?.to_owned())).collect())
}

fn fetch_tftp(client: &NetClient, name: &str, seconds: &str) -> Result {
    let url = format!("tftp://{SERVER}/{name}");
    let words = ["curl", "-sS", "--max-time", seconds, "--tftp-blksize", "1428", "-o", "/dev/null", &url];
    client.namespace().run(&words)?;
    Ok(())
}

#[test]
fn each_failure_is_called_by_its_name() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let client = |name: &str, last: u8| -> Result<(NetClient, String)> {
        let mac = format!("52:54:00:77:05:{last:02x}");
        site.daemon.add_client(name, &mac, IMAGE)?;
        Ok((NetClient::new(&site.lab, &mac)?, mac))
    };
    // All at once, since each takes as long as a boot may be silent.
    let (deaf, deaf_mac) = client("deaf", 1)?;
    search(&site.daemon, &deaf, &deaf_mac, 0)?;

    let (late, late_mac) = client("late", 2)?;
    search(&site.daemon, &late, &late_mac, 31)?;

    let (lost, _) = client("lost", 3)?;
    lost.ask(Asks::UefiPxe, &[])?;
    fetch_tftp(&lost, "snponly.efl", "20")?;

    let (forger, _) = client("forger", 4)?;
    let mut disk = forger.boot()?;
    disk.secret.push('x');
    let address = |client: &NetClient| -> Result<Ipv4Addr> {
        let shown = client.sh(&["ip", "-4", "-o", "addr", "show", CLIENT_INTERFACE])?;
        let word =
            shown.split_whitespace().skip_while(|word| *word != "inet").nth(1).context("no address")?;
        word.split('/').next().and_then(|address| address.parse().ok()).context("no address")
    };
    let log_in = |client: &NetClient, disk: &OfferedDisk| {
        let from = address(client)?;
        client.namespace().enter(|| Initiator::log_in(disk, from, [0x80, 0, 0, 0, 0, 1], SOON))
    };
    ensure!(log_in(&forger, &disk)?.is_err(), "a wrong secret was taken");

    let (half, _) = client("half", 5)?;
    let disk = half.boot()?;
    drop(log_in(&half, &disk)??);

    let (narrow, _) = client("narrow", 6)?;
    narrow.ask(Asks::UefiPxe, &[])?;
    let rules =
        "table ip narrow { chain output { type filter hook output priority 0; udp length > 1000 drop; }; }";
    let file = site.lab.dir().join("narrow.nft");
    fs::write(&file, rules)?;
    site.lab.server().sh(&["nft", "-f", &file.to_string_lossy()])?;
    fetch_tftp(&narrow, "snponly.efi", "4")?;
    fetch_tftp(&narrow, "snponly.efi", "4")?;

    for (name, cause) in [
        ("late", "spanning-tree"),
        ("forger", "chap-refused"),
        ("narrow", "transfer-stalls"),
        ("lost", "file-missing"),
        ("deaf", "offer-not-taken"),
        ("half", "no-second-login"),
    ] {
        let found = wait_for(&format!("{cause} of {name}"), STALLED, || {
            let found = causes(&site.daemon, name)?;
            Ok(found.iter().any(|one| one == cause).then_some(found))
        });
        let told =
            || site.daemon.cli(&["boots", name, "--boot", "1"]).map(|ran| ran.stdout).unwrap_or_default();
        found.context(told())?;
    }
    let text = site.daemon.cli(&["explain", "lost"])?.success()?;
    ensure!(text.contains("There is snponly.efi") && !text.contains('\x1b'), "{text}");
    let all = site.daemon.cli(&["status"])?.success()?;
    ensure!(all.contains("stalled: file-missing") && all.contains("bootd boots"), "{all}");
    Ok(())
}

#[test]
fn boots_of_before_a_restart_are_told_after_it() -> Result {
    let Some(mut site) = Site::new()? else { return Ok(()) };
    const MAC: &str = "52:54:00:77:05:11";
    site.daemon.add_client("pc1", MAC, IMAGE)?;
    let pc1 = NetClient::new(&site.lab, MAC)?;
    pc1.boot()?;
    pc1.boot()?;
    let before = site.daemon.steps("pc1")?;
    site.daemon.stop()?;
    site.daemon.start_again()?;
    let after = site.daemon.steps("pc1")?;
    let told =
        |steps: &[support::Step]| -> Vec<String> { steps.iter().map(|step| step.what.clone()).collect() };
    ensure!(told(&after).starts_with(&told(&before)), "before: {before:#?}\nafter: {after:#?}");
    let boots = site.daemon.json(&["boots", MAC])?;
    let count = boots.pointer("/boots").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(count == 2, "{boots:#}");
    let text = site.daemon.cli(&["boots", "pc1"])?.success()?;
    ensure!(text.lines().count() == 4 && text.contains("ADDRESS"), "{text}");
    let missing = site.daemon.cli(&["boots", "pc1", "--boot", "9"])?;
    ensure!(!missing.ok() && missing.stderr.contains("there are 2"), "{}", missing.stderr);
    Ok(())
}

#[test]
fn a_capture_has_the_packets_of_one_machine_and_no_other() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let (mac, other_mac) = ("52:54:00:77:05:21", "52:54:00:77:05:22");
    site.daemon.add_client("pc1", mac, IMAGE)?;
    let (pc1, other) = (NetClient::new(&site.lab, mac)?, NetClient::new(&site.lab, other_mac)?);
    let file = site.lab.dir().join("pc1.pcap").to_string_lossy().into_owned();
    let data = site.daemon.data().to_string_lossy().into_owned();
    let mut capture = Command::new(bootd_binary()?);
    capture.args(["capture", "pc1", "--seconds", "600", "--out", &file, "--data", &data]);
    let mut running = capture.stdin(Stdio::null()).spawn()?;
    wait_for("the capture to begin", SOON, || Ok(fs::metadata(&file).ok().filter(|file| file.len() > 0)))?;
    let busy = site.daemon.cli(&["capture", mac, "--out", "/dev/null"])?;
    ensure!(!busy.ok() && busy.stderr.contains("one capture at a time"), "{}", busy.stderr);
    other.ask(Asks::UefiPxe, &[])?;
    pc1.ask(Asks::UefiPxe, &[])?;
    fetch_tftp(&pc1, "snponly.efi", "20")?;
    let told = wait_for("the packets", SOON, || {
        let told = site.lab.server().run(&["tcpdump", "-enr", &file])?.stdout;
        Ok((told.contains(".69:") && told.contains("BOOTP/DHCP, Reply")).then_some(told))
    })?;
    ensure!(told.contains(mac) && !told.contains(other_mac), "{told}");
    running.kill()?;
    running.wait()?;
    // It is over with the command that asked for it.
    let again = wait_for("the next capture", SOON, || {
        let out = format!("{file}.2");
        let ran = site.daemon.cli(&["capture", mac, "--seconds", "1", "--out", &out])?;
        Ok(ran.ok().then_some(ran))
    })?;
    ensure!(again.stderr.contains("secrets"), "{}", again.stderr);
    Ok(())
}
