//! Addresses: who gets which, what else it is told, and for how long that is remembered.

use std::fs;

use support::{Asks, CLIENT_INTERFACE, Context, NetClient, Result, SERVER, SOON, Step, ensure, wait_for};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:02:01";
const PC2: &str = "52:54:00:77:02:02";
const STRANGER: &str = "52:54:00:77:02:99";

#[test]
fn each_firmware_is_told_what_it_can_run() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    let script = pc1.script_url();
    let http = format!("http://{SERVER}/files/snponly.efi");
    for (asks, boot_file) in [
        (Asks::BiosPxe, "undionly.kpxe"),
        (Asks::UefiPxe, "snponly.efi"),
        (Asks::UefiHttp, http.as_str()),
        (Asks::Ipxe, script.as_str()),
        (Asks::System, ""),
    ] {
        let lease = pc1.ask(asks, &[])?;
        let told = lease.get("boot_file");
        ensure!(told == boot_file, "{asks:?} was told to run {told:?}, not {boot_file:?}: {lease:?}");
        let server = lease.get("serverid");
        ensure!(server == SERVER, "{asks:?} was told that the server is {server:?}");
        let next = lease.get("siaddr");
        let wanted = asks != Asks::System;
        ensure!(!wanted || next == SERVER, "{asks:?} was told to fetch it from {next:?}");
    }
    Ok(())
}

#[test]
fn addresses_are_the_clients_own_or_from_the_pool() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let own = ["client", "add", "pc1", "--mac", PC1, "--image", IMAGE, "--address", "10.77.0.77"];
    site.daemon.cli(&own)?.success()?;
    site.daemon.add_client("pc2", PC2, IMAGE)?;
    let (pc1, pc2) = (NetClient::new(&site.lab, PC1)?, NetClient::new(&site.lab, PC2)?);
    let address = pc1.ask(Asks::BiosPxe, &[])?.address().to_owned();
    ensure!(address == "10.77.0.77", "pc1 has 10.77.0.77 of its own and got {address}");
    let lease = pc2.ask(Asks::BiosPxe, &[])?;
    let last: u8 = lease.address().rsplit('.').next().and_then(|n| n.parse().ok()).context("no address")?;
    ensure!((128..=254).contains(&last), "{} is not from the upper half of the subnet", lease.address());
    let hostname = lease.get("hostname");
    ensure!(hostname == "pc2", "pc2 was told to be called {hostname:?}");

    // The server answers to what it leased.
    pc2.sh(&["busybox", "ping", "-c", "1", "-W", "5", SERVER])?;
    Ok(())
}

#[test]
fn a_stranger_gets_an_address_and_the_operator_the_command() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let stranger = NetClient::new(&site.lab, STRANGER)?;
    for asks in [Asks::BiosPxe, Asks::Ipxe, Asks::UefiHttp] {
        let lease = stranger.ask(asks, &[])?;
        ensure!(lease.get("boot_file").is_empty(), "a stranger was told to run something: {lease:?}");
    }
    let refused = stranger.fetch_script();
    ensure!(refused.is_err(), "a stranger was given a boot script");
    let hint = format!("bootd client add NAME --mac {STRANGER} --image IMAGE");
    let lines = wait_for("the hint in the log", SOON, || {
        let count = site
            .daemon
            .log()
            .lines()
            .filter(|line| line.contains("unknown client") && line.contains(&hint))
            .count();
        Ok((count > 0).then_some(count))
    })?;
    ensure!(lines == 1, "the same hint was logged {lines} times within a minute");

    // What the log said works as it stands.
    site.daemon.cli(&["client", "add", "stranger", "--mac", STRANGER, "--image", IMAGE])?.success()?;
    stranger.boot()?;
    Ok(())
}

#[test]
fn leases_outlive_the_daemon() -> Result {
    let Some(mut site) = Site::new()? else { return Ok(()) };
    let (first, second) = (NetClient::new(&site.lab, PC1)?, NetClient::new(&site.lab, PC2)?);
    let of_first = first.ask(Asks::System, &[])?.address().to_owned();
    let of_second = second.ask(Asks::System, &[])?.address().to_owned();
    ensure!(of_first != of_second, "two machines have {of_first}");

    for cut in [false, true] {
        if cut {
            site.daemon.kill()?;
        } else {
            site.daemon.stop()?;
        }
        site.daemon.start_again()?;
        // A third machine takes none of the addresses that are in use, though their holders have not been heard of.
        let mac = if cut { "52:54:00:77:02:04" } else { "52:54:00:77:02:03" };
        let third = NetClient::new(&site.lab, mac)?;
        let of_third = third.ask(Asks::System, &[])?.address().to_owned();
        ensure!(
            ![&of_first, &of_second].contains(&&of_third),
            "{of_third} was leased twice, after kill: {cut}"
        );
        for (client, had) in [(&first, &of_first), (&second, &of_second)] {
            let has = client.ask(Asks::System, &[])?.address().to_owned();
            ensure!(
                has == *had,
                "a machine had {had} and got {has} from the daemon that came after, kill: {cut}"
            );
        }
    }
    Ok(())
}

#[test]
fn dhclient_leases_renews_and_releases() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let client = NetClient::new(&site.lab, STRANGER)?;
    let (leases, pid, config) = (client.file("leases"), client.file("pid"), client.file("dhclient.conf"));
    fs::write(&config, "request subnet-mask, routers, host-name;\n")?;
    let dhclient = |more: &[&str]| {
        let words = ["dhclient", "-v", "-sf", "/bin/true", "-lf", &leases, "-pf", &pid, "-cf", &config];
        client.namespace().run(&[&words, more, &[CLIENT_INTERFACE]].concat())
    };
    let told = dhclient(&["-1"])?;
    ensure!(told.ok() && told.stderr.contains("bound to 10.77.0."), "{}", told.failure());
    let lease = fs::read_to_string(&leases)?;
    ensure!(lease.contains(&format!("dhcp-server-identifier {SERVER};")), "{lease}");

    // dhclient released its address: it is nobody's, so that its neighbour may not be refused it.
    let released = dhclient(&["-r"])?;
    ensure!(released.ok() && released.stderr.contains("DHCPRELEASE"), "{}", released.failure());
    let again = dhclient(&["-1"])?;
    ensure!(again.ok() && again.stderr.contains("bound to 10.77.0."), "{}", again.failure());
    Ok(())
}

#[test]
fn an_address_of_another_network_is_refused_at_once() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    let client = NetClient::new(&site.lab, STRANGER)?;
    // It comes back from elsewhere and asks for what it had there.
    let lease = client.ask(Asks::System, &["-r", "192.168.1.50"])?;
    ensure!(lease.address().starts_with("10.77.0."), "got {}", lease.address());
    Ok(())
}

#[test]
fn a_boot_without_a_machine_is_told_step_by_step() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    ensure!(site.daemon.steps("pc1")?.is_empty(), "it has not booted");
    let pc1 = NetClient::new(&site.lab, PC1)?;
    pc1.boot()?;
    let steps = site.daemon.steps("pc1")?;
    let has = |word: &str| steps.iter().any(|Step { what, .. }| what.contains(word));
    ensure!(has("offered") && has("address") && has("boot script"), "{steps:#?}");
    Ok(())
}
