//! bootd beside another DHCP server, which gives the addresses and knows nothing of booting.

use std::net::Ipv4Addr;

use support::{
    Asks, Context, DaemonOptions, Dnsmasq, Lab, Namespace, NetClient, PxeFirmware, Result, SERVER,
    SERVER_INTERFACE, SOON, ensure, wait_for,
};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:07:01";
const PC2: &str = "52:54:00:77:07:02";
const STRANGER: &str = "52:54:00:77:07:99";

/// Where the lab's DHCP server is, and what it gives.
const OTHER_MAC: &str = "52:54:00:77:07:fe";
const OTHER: &str = "10.77.0.2";
const RANGE: &str = "--dhcp-range=10.77.0.40,10.77.0.60,255.255.255.0,1h";

const BIOS: u16 = 0;
const UEFI: u16 = 7;

fn as_proxy() -> DaemonOptions {
    let config = format!("interface = \"{SERVER_INTERFACE}\"\n[dhcp]\nmode = \"proxy\"\n");
    DaemonOptions { config: Some(config), ..DaemonOptions::default() }
}

/// A daemon as a proxy, and a dnsmasq on another machine.
struct Beside {
    other: Dnsmasq,
    _place: Namespace,
    site: Site,
}

impl Beside {
    fn new(words: &[&str]) -> Result<Option<Self>> {
        let Some(lab) = Lab::for_test()? else { return Ok(None) };
        let place = lab.plug(OTHER_MAC)?;
        place.ip(&["addr", "add", &format!("{OTHER}/24"), "dev", "eth0"])?;
        let other = Dnsmasq::start(&lab, &place, &[&[RANGE], words].concat())?;
        Ok(Some(Self { other, _place: place, site: Site::in_lab(lab, &as_proxy())? }))
    }
}

fn ip(text: &str) -> Result<Ipv4Addr> {
    text.parse().context(text)
}

#[test]
fn bios_and_uefi_get_their_address_there_and_their_program_here() -> Result {
    let Some(Beside { site, other, _place }) = Beside::new(&[])? else { return Ok(()) };
    for (name, mac, arch, file, asks_4011) in
        [("pc1", PC1, BIOS, "undionly.kpxe", false), ("pc2", PC2, UEFI, "snponly.efi", true)]
    {
        site.daemon.add_client(name, mac, IMAGE)?;
        let client = NetClient::new(&site.lab, mac)?;
        let found = PxeFirmware::new(client.namespace(), mac, arch)?.boot()?;
        ensure!(found.leased_by == ip(OTHER)?, "{found:?}");
        ensure!(found.server == ip(SERVER)? && found.file == file, "{found:?}");
        ensure!(found.asked_4011 == asks_4011, "{found:?}");
        ensure!((40..=60).contains(&found.address.octets()[3]), "{found:?}");

        // It fetches it, and bootd remembers in which form it liked it.
        client.sh(&["busybox", "tftp", "-g", "-r", file, "-l", &client.file("program"), SERVER])?;
        let liked = if asks_4011 { "to ask on port 4011" } else { "with the file and option 43" };
        wait_for("bootd to know that the offer was liked", SOON, || {
            let told = site.daemon.cli(&["explain", name])?.success()?;
            Ok(told.contains(&format!("it takes its offer {liked}")).then_some(()))
        })?;

        // Whose address it is is known without a lease: the boot script comes, and the disk with it.
        let disk = client.fetch_script()?;
        client.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
        let at = format!("{}: it ", found.address);
        for words in [["status", name].as_slice(), &["client", "show", name]] {
            let told = site.daemon.cli(words)?.success()?;
            ensure!(told.contains(&at) && told.contains("from the other DHCP server"), "{words:?}: {told}");
        }
        let explained = site.daemon.cli(&["explain", name])?.success()?;
        ensure!(explained.contains(&found.address.to_string()), "{explained}");
        let steps = site.daemon.steps(name)?;
        let has =
            |word: &str| steps.iter().any(|step| step.what.contains(word) || step.detail.contains(word));
        ensure!(has("offered") && has(&format!("TFTP {file}")) && has("boot script"), "{steps:#?}");
    }
    ensure!(other.log().contains("DHCPACK(eth0) 10.77.0."), "{}", other.log());
    Ok(())
}

#[test]
fn a_boot_script_goes_to_its_own_card_whatever_was_said_in_dhcp() -> Result {
    let Some(Beside { site, other: _other, _place }) = Beside::new(&[])? else { return Ok(()) };
    // PC1's entry names an address, which does not let another machine have its script that takes the address.
    let own = ["client", "add", "pc1", "--mac", PC1, "--image", IMAGE, "--address", "10.77.0.77"];
    site.daemon.cli(&own)?.success()?;
    site.daemon.add_client("pc2", PC2, IMAGE)?;
    let thief = NetClient::new(&site.lab, PC2)?;
    thief.namespace().ip(&["addr", "add", "10.77.0.77/24", "dev", "eth0"])?;
    // It even claims in DHCP to be the other.
    let claims = PxeFirmware::new(thief.namespace(), PC1, BIOS)?.offers()?;
    ensure!(claims.iter().any(|offer| offer.from.ip().to_string() == SERVER), "{claims:#?}");
    let url = format!("http://{SERVER}/boot/{}/script.ipxe", PC1.replace(':', "-"));
    let refused = thief.namespace().run(&["curl", "-sS", "--max-time", "20", &url])?;
    ensure!(!refused.stdout.contains("sanboot"), "the script of pc1 went to pc2: {}", refused.stdout);
    ensure!(refused.stdout.contains("goes only to its own address"), "{}", refused.stdout);
    // Its own it may have, and a stranger none.
    thief.fetch_script()?;
    // Who tried that is known without a lease, and stands in that machine's timeline.
    thief.namespace().run(&["curl", "-sS", "--max-time", "20", &url])?;
    let steps = site.daemon.steps("pc2")?;
    ensure!(steps.iter().any(|step| step.detail.contains("goes only to its own address")), "{steps:#?}");
    let stranger = NetClient::new(&site.lab, STRANGER)?;
    stranger.ask(Asks::System, &[])?;
    ensure!(stranger.fetch_script().is_err(), "a stranger was given a script");
    Ok(())
}

#[test]
fn a_stranger_is_left_to_the_other_server_and_the_operator_is_told() -> Result {
    let Some(Beside { site, other: _other, _place }) = Beside::new(&[])? else { return Ok(()) };
    let stranger = NetClient::new(&site.lab, STRANGER)?;
    let offers = PxeFirmware::new(stranger.namespace(), STRANGER, BIOS)?.offers()?;
    let from: Vec<_> = offers.iter().map(|offer| offer.from.ip().to_string()).collect();
    ensure!(from == [OTHER], "{from:?}");
    let hint = format!("bootd client add NAME --mac {STRANGER} --image IMAGE");
    wait_for("the hint in the log", SOON, || Ok(site.daemon.log().contains(&hint).then_some(())))
}

#[test]
fn firmware_that_likes_no_offer_is_told_of_with_the_remedy() -> Result {
    let Some(Beside { site, other: _other, _place }) = Beside::new(&[])? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    let told = |site: &Site| site.daemon.cli(&["explain", "pc1"])?.success();
    ensure!(!told(&site)?.contains("second DHCP server"), "nothing has been offered yet");
    PxeFirmware::new(pc1.namespace(), PC1, BIOS)?.offers()?;
    let explained = told(&site)?;
    ensure!(explained.contains("has not fetched it yet"), "{explained}");
    Ok(())
}

#[test]
fn with_dhcp_off_the_other_server_does_it_all_and_scripts_go_to_their_own_card() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let boots = format!("--dhcp-boot=undionly.kpxe,{SERVER},{SERVER}");
    let _other = Dnsmasq::start(&lab, lab.server(), &[RANGE, &boots])?;
    let config = format!("interface = \"{SERVER_INTERFACE}\"\n[dhcp]\nmode = \"off\"\n");
    let site = Site::in_lab(lab, &DaemonOptions { config: Some(config), ..DaemonOptions::default() })?;
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    let found = PxeFirmware::new(pc1.namespace(), PC1, BIOS)?.boot()?;
    ensure!(found.server == ip(SERVER)? && found.file == "undionly.kpxe", "{found:?}");
    pc1.sh(&["busybox", "tftp", "-g", "-r", "undionly.kpxe", "-l", &pc1.file("program"), SERVER])?;
    pc1.fetch_script()?;
    ensure!(site.daemon.counter("dhcp_received")? == 0, "bootd hears DHCP although it is off");
    Ok(())
}

#[test]
fn on_the_other_servers_own_machine_nothing_is_taken_from_it() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    // It has port 67 for itself alone, as dnsmasq has when it isn't told otherwise.
    let other = Dnsmasq::start(&lab, lab.server(), &[RANGE])?;
    let site = Site::in_lab(lab, &as_proxy())?;
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let pc1 = NetClient::new(&site.lab, PC1)?;
    let found = PxeFirmware::new(pc1.namespace(), PC1, UEFI)?.boot()?;
    ensure!(found.leased_by == ip(SERVER)? && found.file == "snponly.efi" && found.asked_4011, "{found:?}");
    // A renewal is sent to the server alone.
    let lease = pc1.ask(Asks::System, &[])?.address().to_owned();
    let renewals = || other.log().matches(&format!("DHCPACK({SERVER_INTERFACE}) {lease}")).count();
    let before = renewals();
    let (leases, pid, config) = (pc1.file("leases"), pc1.file("pid"), pc1.file("dhclient.conf"));
    let text = format!(
        "lease {{ interface \"eth0\"; fixed-address {lease}; option subnet-mask 255.255.255.0; \
         option dhcp-server-identifier {SERVER}; renew 1 2020/01/01 00:00:00; rebind 6 2037/01/01 00:00:00; \
         expire 6 2038/01/01 00:00:00; }}\n"
    );
    std::fs::write(&leases, text)?;
    std::fs::write(&config, "")?;
    let files = ["-lf", &leases, "-pf", &pid, "-cf", &config];
    let words = [&["dhclient", "-1", "-v", "-sf", "/bin/true"][..], &files, &["eth0"]].concat();
    pc1.namespace().run(&words)?;
    wait_for("the renewal at the other server", SOON, || Ok((renewals() > before).then_some(())))?;
    pc1.namespace().run(&[&["dhclient", "-x"][..], &files, &["eth0"]].concat())?;
    Ok(())
}
